//! Every task of a restore comes twice: a later stage is not undone by an earlier one.

use std::path::Path;
use std::time::UNIX_EPOCH;

use fleet::metrics::{Exporter, Role};
use fleet::queue::Message;
use proto::auth::MessageKey;
use proto::envelope::Envelope;
use proto::restore::{STAGE_CLOSE, STAGE_CONTENT, STAGE_DIRECTORIES, STAGE_LINKS};
use proto::task::Task;
use sources::source::{FileKind, Source};

use super::restores::{request, with_snapshot_of};
use super::*;
use crate::scenarios::figures::value;
use crate::scenarios::messages::publish_again;

const LARGE: &str = "/data/dir1/large";

/// The small files, one that is restored in ranges, and one with names in two directories.
fn tree() -> Arc<GeneratedTree> {
    let tree = small_tree();
    tree.file(LARGE, Content::seeded(5, 5 << 20));
    tree.hard_link(&format!("{ROOT}/dir0/file2"), &format!("{ROOT}/dir3/link"));
    tree
}

/// Reads the stages of tasks.
struct Stages {
    key: MessageKey,
    repository: Id,
}

impl Stages {
    async fn of(stage: &Stage) -> Self {
        let repository = stage.site.bare_repository().await;
        let (material, repository) = (repository.master_key().material(), repository.id());
        Self { key: MessageKey::derive(&*material, &repository), repository }
    }

    fn stage(&self, stage: &Stage, message: &Message) -> u32 {
        let now = stage.site.clock.now();
        Envelope::<Task>::open(&message.body, &self.key, &self.repository, now).unwrap().body.stage
    }
}

/// Every file below `path` has the content of the source, and everything its time.
fn assert_as_in_source(source: &dyn Source, path: &[u8], folder: &Path) {
    let restored = folder.join(std::str::from_utf8(&path[1..]).unwrap());
    let (wanted, found) = (source.metadata(path).unwrap(), std::fs::metadata(&restored).unwrap());
    let since = found.modified().unwrap().duration_since(UNIX_EPOCH).unwrap();
    let modified = (wanted.modified.seconds as u64, wanted.modified.nanos);
    assert_eq!((since.as_secs(), since.subsec_nanos()), modified, "{}", restored.display());
    match wanted.kind {
        FileKind::Directory => {
            let names = source.list(path).unwrap();
            let below = names.iter().map(|name| [path, b"/", name].concat());
            below.for_each(|path| assert_as_in_source(source, &path, folder));
            assert_eq!(std::fs::read_dir(&restored).unwrap().count(), names.iter().count(), "{}", restored.display());
        }
        _ => {
            let mut content = vec![0; wanted.size as usize];
            source.open(path, &wanted).unwrap().read_at(0, &mut content).unwrap();
            assert!(std::fs::read(&restored).unwrap() == content, "{} has another content", restored.display());
        }
    }
}

fn assert_restored(stage: &Stage, folder: &Path) {
    let source = sources::generated::GeneratedSource::new(stage.site.tree.clone());
    assert_as_in_source(&source, ROOT.as_bytes(), folder);
    let names: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names, ["data"], "nothing of the job is left");
}

/// Among them the task that prepares the large file, after its ranges were written.
#[tokio::test(start_paused = true)]
async fn tasks_of_a_stage_that_is_over_change_nothing() {
    let (_counting, exporter) = Exporter::of_this_thread(Role::Worker, &[POOL.to_owned()]).unwrap();
    let refused = || value(&exporter.render(), "longshore_not_my_view_total{pool=\"default\"}");
    for begun in [STAGE_CONTENT, STAGE_LINKS, STAGE_DIRECTORIES, STAGE_CLOSE] {
        let folder = tempfile::tempdir().unwrap();
        let (stage, _coordinator) = with_snapshot_of(tree(), folder.path()).await;
        let (stages, backed_up) = (Stages::of(&stage).await, stage.site.messages().len());
        let refused_before = refused();
        let budget = Budget { range_bytes: 1 << 20, range_threshold_bytes: 1 << 20, ..crumbs() };
        let submission = stage.publish(request("/restored/here", budget)).await;
        stage
            .until("the next stage has begun", || {
                stage.site.messages()[backed_up..].iter().any(|message| stages.stage(&stage, message) >= begun)
            })
            .await;
        // At once, and when the first task of the stage has left its mark.
        for _ in 0..3 {
            publish_again(&stage.site, &mut { backed_up }).await;
            stage.site.clock.sleep(Duration::from_millis(5)).await;
        }
        let document = stage.followed(&submission.job).await;
        assert_eq!(document.state, JobPhase::Done, "{:?}", document.failure);
        let messages = stage.site.messages();
        let ranges = messages.iter().filter(|message| stages.stage(&stage, message) == STAGE_CONTENT).count();
        assert!(ranges > 2, "the large file is not restored in ranges");
        assert_eq!(document.result.unwrap()["errors"].as_u64(), Some(0));
        assert!(refused() > refused_before, "stage {begun}: no worker was asked for what is over");
        assert_restored(&stage, &folder.path().join("here"));
        // Once more when the job is over: what its first task would make anew is not made.
        publish_again(&stage.site, &mut { backed_up }).await;
        stage.sleep(120).await;
        assert_restored(&stage, &folder.path().join("here"));
    }
}
