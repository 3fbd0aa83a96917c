//! Virtual time: it stands still while anything can run, then jumps to the next awaited instant.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use proto::handles::{BoxFuture, Clock, UnixTime};

const START: UnixTime = UnixTime::from_seconds(1_700_000_000);

/// Rounds in which everything that was woken is polled; longer than any chain of wake-ups here.
const ROUNDS_TO_REST: usize = 40;

#[derive(Default)]
struct State {
    monotonic: Duration,
    /// What the wall clock was set forward and back.
    wall_ahead: Duration,
    wall_behind: Duration,
    sleepers: BTreeMap<(Duration, u64), Waker>,
    sleeps_begun: u64,
}

/// Shared by its clones.
#[derive(Clone, Default)]
pub(super) struct VirtualClock(Arc<Mutex<State>>);

impl VirtualClock {
    /// Sets the wall clock forward, as a suspended machine finds it.
    pub(super) fn set_wall_forward(&self, by: Duration) {
        self.0.lock().unwrap().wall_ahead += by;
    }

    /// Sets the wall clock back by whole seconds.
    pub(super) fn set_wall_back(&self, by: Duration) {
        self.0.lock().unwrap().wall_behind += by;
    }

    /// Lets monotonic (and wall) time pass at once, as a stopped process finds it.
    pub(super) fn stop_process(&self, time: Duration) {
        self.0.lock().unwrap().monotonic += time;
    }

    /// Runs `work`, letting time pass whenever nothing else is left to do.
    pub(super) async fn drive<T>(&self, work: impl Future<Output = T>) -> T {
        tokio::select! {
            biased;
            result = work => result,
            never = self.pass_time() => match never {},
        }
    }

    async fn pass_time(&self) -> std::convert::Infallible {
        loop {
            for _ in 0..ROUNDS_TO_REST {
                tokio::task::yield_now().await;
            }
            assert!(self.pass(), "nothing runs and nobody waits for time to pass");
        }
    }

    /// Moves time to the next sleeper's end; `false` if there is none.
    fn pass(&self) -> bool {
        let mut state = self.0.lock().unwrap();
        let Some((&(end, _), _)) = state.sleepers.first_key_value() else { return false };
        state.monotonic = state.monotonic.max(end);
        let now = state.monotonic;
        let later = state.sleepers.split_off(&(now, u64::MAX));
        let due = std::mem::replace(&mut state.sleepers, later);
        drop(state);
        due.into_values().for_each(Waker::wake);
        true
    }
}

impl Clock for VirtualClock {
    fn now(&self) -> UnixTime {
        let state = self.0.lock().unwrap();
        let ahead = START.plus(state.monotonic + state.wall_ahead);
        UnixTime { seconds: ahead.seconds - state.wall_behind.as_secs() as i64, ..ahead }
    }

    fn monotonic(&self) -> Duration {
        self.0.lock().unwrap().monotonic
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        let mut state = self.0.lock().unwrap();
        state.sleeps_begun += 1;
        let key = (state.monotonic + duration, state.sleeps_begun);
        Box::pin(Sleep { clock: self.clone(), key })
    }
}

struct Sleep {
    clock: VirtualClock,
    key: (Duration, u64),
}

impl Future for Sleep {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let mut state = self.clock.0.lock().unwrap();
        if state.monotonic >= self.key.0 {
            return Poll::Ready(());
        }
        state.sleepers.insert(self.key, context.waker().clone());
        Poll::Pending
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        self.clock.0.lock().unwrap().sleepers.remove(&self.key);
    }
}
