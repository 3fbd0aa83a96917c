//! Panics of this thread: whoever waits for a task that panicked may take that for a crash, and for some nobody waits.

use std::cell::RefCell;
use std::sync::Once;

thread_local! {
    static SEEN: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
}

/// Sees every panic of this thread from now on, in whichever task it is, and whatever becomes of it.
#[derive(Debug)]
pub struct Panics {
    /// So many there were before.
    before: usize,
}

impl Panics {
    /// Begins to look. Panics are printed as before.
    pub fn watch() -> Self {
        static HOOK: Once = Once::new();
        HOOK.call_once(|| {
            let print = std::panic::take_hook();
            std::panic::set_hook(Box::new(move |panic| {
                SEEN.with_borrow_mut(|seen| seen.push(panic.to_string()));
                print(panic);
            }));
        });
        Self { before: SEEN.with_borrow(Vec::len) }
    }

    /// The first one: where and why.
    pub fn first(&self) -> Option<String> {
        SEEN.with_borrow(|seen| seen.get(self.before).cloned())
    }

    /// A run in which anything panicked has failed, however it ended.
    ///
    /// # Errors
    /// The first panic, or why the run failed.
    pub fn judge<T>(&self, ended: Result<T, String>) -> Result<T, String> {
        match self.first() {
            Some(panic) => Err(panic),
            None => ended,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As the task of a worker that fails an assertion: it looks like one that was killed.
    #[tokio::test]
    async fn a_task_that_panics_unheard_is_seen() {
        let panics = Panics::watch();
        assert_eq!(panics.judge(Ok(7)), Ok(7));
        drop(tokio::spawn(async { panic!("an assertion of a worker") }).await);
        let seen = panics.judge(Ok(7)).unwrap_err();
        assert!(seen.contains("an assertion of a worker") && seen.contains(file!()), "{seen}");
        assert_eq!(Panics::watch().first(), None, "whoever looks from now on sees what comes");
    }
}
