//! Messages and reports that come twice, are lost, or come from strangers.

use fleet::queue::{Address, Route, TaskQueue};
use fleet::state::JobState;
use proto::auth::MessageKey;
use proto::envelope::{Envelope, SCHEMA_MINOR};
use proto::id::{Id, JobId, WorkerId};
use proto::report::{PackReport, Report};
use repository::repository::FileKind;
use sources::generated::GeneratedSource;

use super::*;
use crate::happenings::plant_reports;
use crate::site::POOL;

/// Every task is published once more as soon as it is in the queue.
pub(super) async fn publish_again(site: &Site, from: &mut usize) {
    let messages = site.messages();
    for message in &messages[*from..] {
        site.fleet().queue.publish(&Address::Tasks(Route::normal(POOL)), message.clone()).await.unwrap();
    }
    *from = messages.len();
}

/// Two workers do each task at the same time, and do not see the same: the first report counts.
#[tokio::test(start_paused = true)]
async fn every_task_comes_twice_and_a_file_is_added() {
    let stage = Stage::set(Rates::default(), crumbs()).await;
    let _other = stage.hire("other").await;
    let started = stage.submit().await;
    let mut published = 0;
    for number in 0..200 {
        stage.site.clock.sleep(Duration::from_millis(50)).await;
        publish_again(&stage.site, &mut published).await;
        if number % 10 == 3 && number < 60 {
            let path = format!("{ROOT}/dir{}/added{number}", number % 4);
            stage.site.tree.file(&path, Content::seeded(number, 700));
        }
    }
    let first = done(stage.end(started).await);
    assert_has_small_files(&stage, &first).await;
    let second = stage.back_up().await;
    assert_ne!(second.snapshot, first.snapshot);
    stage.assert_as_without_faults(&second).await;
}

/// What was there all the time is in the snapshot, with its content; of what was added meanwhile, whole files.
async fn assert_has_small_files(stage: &Stage, done: &BackupDone) {
    let mut audit = stage.assert_undamaged().await;
    let flat = audit.flatten(&done.snapshot).await.unwrap();
    for (path, content) in small_files() {
        let node = flat.nodes.get(path.as_bytes()).unwrap_or_else(|| panic!("{path} is missing"));
        assert!(audit.content(node).await.unwrap() == bytes(&content), "{path} has another content");
    }
    let source = GeneratedSource::new(stage.site.tree.clone());
    audit.compare_with_source(&flat, &source).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn reports_of_strangers_count_for_nothing() {
    let stage = Stage::set(Rates::default(), crumbs()).await;
    let started = stage.submit().await;
    for packs in 0..6 {
        stage.until_packs(packs).await;
        plant_reports(&stage.site, &started.job).await;
    }
    let done = done(stage.end(started).await);
    stage.assert_as_without_faults(&done).await;
    stage.assert_undamaged().await;
}

/// Signed as a worker signs it.
async fn report_pack(site: &Site, job: &JobId, pack: Id, size: u64) {
    let repository = site.bare_repository().await;
    let id = repository.id();
    let key = MessageKey::derive(&*repository.master_key().material(), &id);
    let body = Report::Pack(PackReport {
        pack,
        size,
        header_bytes: 69,
        worker: WorkerId::new("liar").unwrap(),
        group_commit: 0,
    });
    let expires_at = site.clock.now().plus(Duration::from_secs(3600));
    let envelope = Envelope { minor: SCHEMA_MINOR, repository: id, job: job.clone(), expires_at, body };
    site.fleet().state.append_report(job, envelope.seal(&key).unwrap().into()).await.unwrap();
}

/// One that is not there, and one that is no pack of this repository: no index names them.
#[tokio::test(start_paused = true)]
async fn a_pack_that_is_not_what_is_reported_counts_for_nothing() {
    let stage = Stage::set(Rates::default(), crumbs()).await;
    let noise = vec![0x5a; 500];
    let planted = Id::of(&noise);
    stage.site.memory.tamper(&FileKind::Pack.name(&planted), Some(noise.into()));
    let started = stage.submit().await;
    stage.until_packs(3).await;
    report_pack(&stage.site, &started.job, planted, 500).await;
    report_pack(&stage.site, &started.job, Id::of(b"nothing"), 500).await;
    let done = done(stage.end(started).await);
    stage.assert_as_without_faults(&done).await;
    stage.assert_undamaged().await;
    let repository = stage.site.bare_repository().await;
    let index = crate::janitor::ids(&repository, FileKind::Index).await;
    assert!(!crate::janitor::indexed(&repository, &index).await.contains_key(&planted));
}

#[tokio::test(start_paused = true)]
async fn a_message_that_is_dropped_is_missed() {
    for dropped in 1..4 {
        let stage = Stage::set(Rates::default(), crumbs()).await;
        let started = stage.submit().await;
        stage.until("some tasks are published", || stage.site.messages().len() + 1 >= dropped).await;
        stage.site.faults.set(Rates { lost_messages: 1000, ..Rates::default() });
        let published = stage.site.messages().len();
        stage.until("a task is lost", || stage.site.messages().len() > published).await;
        stage.site.faults.set(Rates::default());
        let done = done(stage.end(started).await);
        stage.assert_as_without_faults(&done).await;
        stage.assert_undamaged().await;
    }
}

#[tokio::test(start_paused = true)]
async fn the_job_state_is_lost_in_mid_job() {
    let stage = Stage::set(Rates::default(), crumbs()).await;
    let started = stage.submit().await;
    for packs in [1, 4, 7] {
        stage.until_packs(packs).await;
        stage.site.fleet().state.flush();
    }
    let done = done(stage.end(started).await);
    stage.assert_as_without_faults(&done).await;
    stage.assert_undamaged().await;
}
