//! How many reports are asked for at once: as many as the line carries in time.

use std::sync::atomic::{AtomicUsize, Ordering};

/// Fewer after a read that did not come, a little more after each that came in full. One number for all jobs: they share
/// the line.
#[derive(Debug)]
pub(super) struct AtOnce(AtomicUsize);

impl Default for AtOnce {
    fn default() -> Self {
        Self(AtomicUsize::new(usize::MAX))
    }
}

impl AtOnce {
    /// So many of the `wanted` ones.
    pub(super) fn of(&self, wanted: usize) -> usize {
        wanted.min(self.0.load(Ordering::Relaxed))
    }

    /// A read of `asked` reports gave so many.
    pub(super) fn came(&self, asked: usize, reports: usize) {
        // A short answer says nothing about the line.
        if reports > 0 && reports >= asked {
            self.0.fetch_max(asked.saturating_add(asked / 8 + 1), Ordering::Relaxed);
        }
    }

    /// A read of `asked` reports failed, or took too long.
    pub(super) fn did_not_come(&self, asked: usize) {
        self.0.fetch_min((asked / 2).max(1), Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_come_is_asked_for_in_smaller_parts() {
        let at_once = AtOnce::default();
        assert_eq!(at_once.of(256), 256);
        let mut asked = Vec::new();
        for _ in 0..10 {
            at_once.did_not_come(at_once.of(256));
            asked.push(at_once.of(256));
        }
        assert_eq!(asked, [128, 64, 32, 16, 8, 4, 2, 1, 1, 1]);
        at_once.came(1, 0);
        assert_eq!(at_once.of(256), 1, "nothing came");
        at_once.came(1, 1);
        assert_eq!(at_once.of(256), 2);
        for _ in 0..60 {
            at_once.came(at_once.of(256), at_once.of(256));
        }
        assert_eq!(at_once.of(256), 256, "slowly up again");
        at_once.did_not_come(256);
        at_once.came(128, 5);
        assert_eq!(at_once.of(256), 128, "a few reports say nothing");
    }
}
