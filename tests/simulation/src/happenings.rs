//! What happens to a run, when its time has come.

use std::sync::Arc;
use std::time::Duration;

use fleet::state::JobState;
use proto::auth::MessageKey;
use proto::envelope::{Envelope, SCHEMA_MINOR};
use proto::handles::Clock;
use proto::id::{Id, JobId, WorkerId};
use proto::report::{DeadReport, PackReport, Report};

use crate::plan::Happening;
use crate::run::Run;
use crate::site::Site;

impl Run {
    /// Lets everything of a round happen.
    pub(crate) async fn let_happen(self: Arc<Self>, round: usize) {
        let start = self.site.clock.monotonic();
        for (at, happening) in self.plan.happenings[round].clone() {
            let wait = (start + at).saturating_sub(self.site.clock.monotonic());
            self.site.clock.sleep(wait).await;
            if self.state().calm {
                break;
            }
            self.site.note(format_args!("{happening:?}"));
            self.happen(happening).await;
        }
    }

    async fn happen(self: &Arc<Self>, happening: Happening) {
        match happening {
            Happening::KillWorker(number, points) => {
                if let Some(worker) = self.state().workers.get(number) {
                    worker.actor.kill_after(points);
                }
            }
            Happening::DrainWorker(number) => {
                if let Some(worker) = self.state().workers.get(number) {
                    worker.drain.begin();
                }
            }
            Happening::StopWorker(number, duration) => {
                if let Some(worker) = self.state().workers.get(number) {
                    worker.actor.stop(duration);
                }
            }
            Happening::KillJob(slot, points) => {
                if let Some((actor, _)) = &self.state().jobs[slot] {
                    actor.kill_after(points);
                }
            }
            Happening::KillJobBefore(slot, call) => {
                if let Some((actor, _)) = &self.state().jobs[slot] {
                    actor.kill_before(call);
                }
            }
            Happening::StopJob(slot, points, duration) => {
                if let Some((actor, _)) = &self.state().jobs[slot] {
                    actor.stop_after(points, duration);
                }
            }
            Happening::Flush => self.site.fleet().state.flush(),
            Happening::Unmount(number, duration) => self.unmount(number, duration),
            Happening::UnlockAllAndPrune(wait) => {
                self.site.unlock_all();
                self.site.clock.sleep(wait).await;
                self.site.prune().await;
            }
            Happening::UnlockAndPrune => {
                self.site.unlock().await;
                self.site.prune().await;
            }
            Happening::JumpWall(seconds) => self.site.clock.jump_wall(seconds),
            Happening::Cancel(slot) => {
                let job = self.state().jobs[slot].as_ref().map(|(_, job)| job.clone());
                if let Some(job) = job {
                    // In memory it does not fail.
                    let _ = self.site.fleet().state.request_cancel(&job).await;
                }
            }
            Happening::Change => {
                self.state().changed = true;
                self.data.tree.apply(self.data.roll_change(&self.dice));
            }
            Happening::ChangeAtRead(read) => {
                if let Some(path) = self.data.large.first() {
                    self.state().changed = true;
                    let change = self.data.roll_change(&self.dice);
                    self.data.tree.apply_at_read(path, read, change);
                }
            }
            Happening::PlantReport(slot) => {
                let job = self.state().jobs[slot].as_ref().map(|(_, job)| job.clone());
                if let Some(job) = job {
                    plant_reports(&self.site, &job).await;
                }
            }
        }
    }

    fn unmount(self: &Arc<Self>, number: usize, duration: Duration) {
        let Some(place) = self.data.mounts.first().cloned() else { return };
        let Some(source) = self.state().workers.get(number).map(|worker| worker.source.clone()) else { return };
        source.unmount(&place);
        let run = self.clone();
        tokio::spawn(async move {
            run.site.clock.sleep(duration).await;
            source.remount(&place);
        });
    }
}

/// Reports of somebody who has no key of the fleet: noise, and a well-formed one that is signed with another key.
pub async fn plant_reports(site: &Site, job: &JobId) {
    let state = site.fleet().state;
    let repository = site.bare_repository().await.id();
    let stranger = MessageKey::derive(b"the key of a stranger", &repository);
    let nothing = Id::of(b"nothing");
    let Ok(worker) = WorkerId::new("stranger") else { return };
    let pack = Report::Pack(PackReport { pack: nothing, size: 99, header_bytes: 40, worker, group_commit: 0 });
    let dead = DeadReport { task: nothing, round: 0, reason: "starts".to_owned(), message: String::new() };
    for body in [pack, Report::Dead(dead)] {
        let expires_at = site.clock.now().plus(Duration::from_secs(3600));
        let envelope = Envelope { minor: SCHEMA_MINOR, repository, job: job.clone(), expires_at, body };
        if let Ok(sealed) = envelope.seal(&stranger) {
            // In memory it does not fail.
            let _ = state.append_report(job, sealed.into()).await;
        }
    }
    let _ = state.append_report(job, vec![0x93; 200].into()).await;
}
