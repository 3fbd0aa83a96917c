//! A process of the site: it can be killed, or stopped for a while, wherever it waits for something outside.

use std::collections::VecDeque;
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use proto::handles::Clock;
use tokio::sync::Notify;

use crate::clock::SimClock;

/// One process: a worker, a coordinator, or somebody who runs restic.
#[derive(Debug)]
pub struct Actor {
    name: String,
    clock: Arc<SimClock>,
    state: Mutex<State>,
    died: Notify,
}

#[derive(Debug, Default)]
struct State {
    points: u64,
    /// Dies at this point.
    fuse: Option<u64>,
    /// Stops at this point, for so long.
    brake: Option<(u64, Duration)>,
    /// Does not go on before this moment.
    stopped_until: Duration,
    /// What befalls it just before a call that begins like the last of these, once it made the others in this order.
    trap: Option<(VecDeque<String>, Trap)>,
    /// Calls that begin like this are denied.
    blind_to: Option<String>,
    dead: bool,
}

/// What befalls a process before a certain call.
#[derive(Clone, Copy, Debug)]
enum Trap {
    Stop(Duration),
    Kill,
}

impl Actor {
    /// A process that lives.
    pub fn new(name: impl Into<String>, clock: Arc<SimClock>) -> Arc<Self> {
        Arc::new(Self { name: name.into(), clock, state: Mutex::default(), died: Notify::new() })
    }

    /// What the trace calls it.
    pub fn name(&self) -> &str {
        &self.name
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// `kill -9`.
    pub fn kill(&self) {
        self.state().dead = true;
        self.died.notify_waiters();
    }

    /// `kill -9` after this many more points.
    pub fn kill_after(&self, points: u64) {
        let mut state = self.state();
        state.fuse = Some(state.points + points);
    }

    /// SIGSTOP, and SIGCONT after a while.
    pub fn stop(&self, duration: Duration) {
        let until = self.clock.monotonic() + duration;
        self.state().stopped_until = until;
    }

    /// SIGSTOP after this many more points.
    pub fn stop_after(&self, points: u64, duration: Duration) {
        let mut state = self.state();
        state.brake = Some((state.points + points, duration));
    }

    /// SIGSTOP just before the first call that begins like this, such as `Put snapshots/`.
    pub fn stop_before(&self, call: impl Into<String>, duration: Duration) {
        self.state().trap = Some((VecDeque::from([call.into()]), Trap::Stop(duration)));
    }

    /// `kill -9` just before the first call that begins like this.
    pub fn kill_before(&self, call: &str) {
        self.kill_in(&[call]);
    }

    /// `kill -9` just before the last of these calls, once it made the others in this order.
    pub fn kill_in(&self, calls: &[&str]) {
        self.state().trap = Some((calls.iter().map(|call| (*call).to_owned()).collect(), Trap::Kill));
    }

    /// Reading calls that begin like this, such as `List longshore/jobs/`, are denied from now on.
    pub fn blind_to(&self, call: &str) {
        self.state().blind_to = Some(call.to_owned());
    }

    /// Whether this call fails.
    pub fn is_blind_to(&self, call: &str) -> bool {
        self.state().blind_to.as_ref().is_some_and(|blind_to| call.starts_with(blind_to.as_str()))
    }

    /// It is about to make this call.
    pub fn is_about_to(&self, call: &str) {
        let mut state = self.state();
        let Some((calls, trap)) = &mut state.trap else { return };
        if calls.front().is_some_and(|next| call.starts_with(next.as_str())) {
            calls.pop_front();
        }
        if !calls.is_empty() {
            return;
        }
        let trap = *trap;
        state.trap = None;
        match trap {
            Trap::Stop(duration) => state.stopped_until = self.clock.monotonic() + duration,
            Trap::Kill => {
                state.dead = true;
                drop(state);
                self.died.notify_waiters();
            }
        }
    }

    /// Whether it is stopped.
    pub fn is_stopped(&self) -> bool {
        self.clock.monotonic() < self.state().stopped_until
    }

    /// Nothing will befall it any more; it goes on if it was stopped.
    pub fn spare(&self) {
        let mut state = self.state();
        (state.fuse, state.brake, state.trap, state.stopped_until) = (None, None, None, Duration::ZERO);
    }

    /// Whether it was killed.
    pub fn is_dead(&self) -> bool {
        self.state().dead
    }

    /// How many points it passed.
    pub fn points(&self) -> u64 {
        self.state().points
    }

    /// Somewhere it may be killed or stopped. Who is dead never comes back from here.
    pub async fn point(&self) {
        if !self.spark() {
            std::future::pending::<()>().await;
        }
        loop {
            let left = self.state().stopped_until.saturating_sub(self.clock.monotonic());
            if left.is_zero() {
                break;
            }
            // Looks once a second whether it was spared meanwhile.
            self.clock.sleep(left.min(Duration::from_secs(1))).await;
        }
        if self.is_dead() {
            std::future::pending::<()>().await;
        }
    }

    /// The same without waiting: whether it lives on.
    pub fn spark(&self) -> bool {
        let mut state = self.state();
        state.points += 1;
        if state.brake.is_some_and(|(at, _)| state.points >= at)
            && let Some((_, duration)) = state.brake.take()
        {
            state.stopped_until = self.clock.monotonic() + duration;
        }
        if state.fuse.is_some_and(|at| state.points >= at) {
            state.dead = true;
            drop(state);
            self.died.notify_waiters();
            return false;
        }
        !state.dead
    }

    async fn died(&self) {
        let told = self.died.notified();
        tokio::pin!(told);
        told.as_mut().enable();
        if !self.is_dead() {
            told.await;
        }
    }

    /// Runs the process to its end, or until it is killed: then everything in it is dropped where it stands.
    pub async fn live<T>(&self, process: impl Future<Output = T>) -> Option<T> {
        tokio::select! {
            biased;
            () = self.died() => None,
            ended = process => Some(ended),
        }
    }
}
