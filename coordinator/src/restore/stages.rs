//! When a stage begins, and how a job ends.

use std::time::Duration;

use proto::restore::{RestoreWork, STAGE_CLOSE, STAGE_CONTENT, STAGE_DIRECTORIES, STAGE_LINKS};

use super::effect::Effect;
use super::state::{Ending, State};

/// A job that failed waits so long for its marker to be removed.
const CLOSED_WITHIN: Duration = Duration::from_secs(30);

impl State {
    /// Begins the next stage that has tasks, if the one before is over.
    pub(super) fn advance(&mut self) {
        if self.ending.as_ref().is_some_and(|ending| self.now.saturating_sub(ending.since) >= CLOSED_WITHIN) {
            return self.finish();
        }
        while self.stage > 0 && !self.has_ended && !self.is_busy() && (self.is_quiet || self.settings.embedded) {
            if self.stage >= STAGE_CLOSE {
                return self.finish();
            }
            self.stage += 1;
            for work in self.work_of_stage() {
                self.open_task(work, self.stage);
            }
        }
    }

    fn work_of_stage(&self) -> Vec<RestoreWork> {
        match self.stage {
            STAGE_CONTENT => self.lists.content_work(),
            STAGE_LINKS => self.lists.link_work(),
            STAGE_DIRECTORIES => self.lists.directory_work(),
            STAGE_CLOSE if !self.settings.dry_run => vec![RestoreWork::Close],
            _ => Vec::new(),
        }
    }

    /// Ends the job early: nothing more is published but the removal of the marker. The first reason counts.
    pub(super) fn end(&mut self, reason: Option<String>) {
        if self.ending.is_some() {
            // Even that cannot be done.
            if self.stage >= STAGE_CLOSE {
                self.finish();
            }
            return;
        }
        self.ending = Some(Ending { reason, since: self.now });
        self.drop_tasks();
        self.stage = STAGE_CLOSE;
        if self.settings.dry_run {
            return self.finish();
        }
        self.open_task(RestoreWork::Close, STAGE_CLOSE);
    }

    fn finish(&mut self) {
        self.has_ended = true;
        let (written, unchanged) = self.lists.large_counts();
        self.counts.files_restored += written;
        self.counts.files_unchanged += unchanged;
        self.effects = vec![match self.ending.take() {
            None => Effect::Finish,
            Some(Ending { reason: Some(reason), .. }) => Effect::Fail { reason },
            Some(Ending { reason: None, .. }) => Effect::Cancel,
        }];
    }
}
