//! What befalls a call through a door: it happens or not, and that is reported or not; now, later, or twice.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use proto::handles::RandomExt;

use crate::dice::Dice;

/// How often something goes wrong, in parts of a thousand.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rates {
    /// A storage call fails.
    pub storage: u16,
    /// A publication or an acknowledgement goes wrong.
    pub queue: u16,
    /// A message that was confirmed is dropped.
    pub lost_messages: u16,
    /// A call of the job state fails.
    pub state: u16,
    /// An answer about known blobs is a lie.
    pub lies: u16,
    /// A call takes seconds instead of milliseconds.
    pub slow: u16,
}

/// What befalls one call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Nothing.
    None,
    /// It does not happen, and the caller knows.
    Refused,
    /// It does not happen; the caller does not know.
    LostRequest,
    /// It happens; the caller does not know.
    LostAnswer,
    /// It happens after the caller gave up.
    Late(Duration),
    /// It happens, and then the client's own second try finds the name taken.
    OwnConflict,
    /// It happens twice.
    Twice(Duration),
    /// The caller is told that it happened, and it happens only then.
    Behind(Duration),
    /// The caller is told that it happened, and it never does.
    Dropped,
    /// It happens only after a while, and so does everything that the process sends there until then.
    Blocked(Duration),
}

/// A late effect comes no later than this: requests have a time limit of their own.
const LATE_MAX: Duration = Duration::from_secs(25);

/// A broker that runs short of memory takes no publications for up to so long.
const BLOCKED_MAX: Duration = Duration::from_secs(40);

/// Draws faults.
#[derive(Debug)]
pub struct Faults {
    dice: Arc<Dice>,
    rates: Mutex<Rates>,
}

impl Faults {
    /// Faults at these rates.
    pub fn new(dice: Arc<Dice>, rates: Rates) -> Self {
        Self { dice, rates: Mutex::new(rates) }
    }

    /// The rates of now.
    pub fn rates(&self) -> Rates {
        *self.rates.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Other rates from now on.
    pub fn set(&self, rates: Rates) {
        *self.rates.lock().unwrap_or_else(PoisonError::into_inner) = rates;
    }

    /// The chance behind it.
    pub fn dice(&self) -> &Arc<Dice> {
        &self.dice
    }

    /// How long a call is on its way.
    pub fn latency(&self) -> Duration {
        let slow = self.rates().slow;
        let longest = if self.dice.chance(slow) { 8_000 } else { 20 };
        Duration::from_millis(self.dice.below(longest))
    }

    /// A storage call.
    pub fn storage(&self, is_put: bool) -> Fault {
        if !self.dice.chance(self.rates().storage) {
            return Fault::None;
        }
        match self.dice.below(if is_put { 5 } else { 3 }) {
            0 => Fault::Refused,
            1 => Fault::LostRequest,
            2 => Fault::LostAnswer,
            3 => Fault::OwnConflict,
            _ => Fault::Late(self.dice.time_below(LATE_MAX)),
        }
    }

    /// A publication.
    pub fn publish(&self) -> Fault {
        let rates = self.rates();
        if self.dice.chance(rates.lost_messages) {
            return Fault::Dropped;
        }
        if !self.dice.chance(rates.queue) {
            return Fault::None;
        }
        match self.dice.below(7) {
            0 => Fault::Refused,
            1 => Fault::LostRequest,
            2 => Fault::LostAnswer,
            3 => Fault::Twice(self.dice.time_below(Duration::from_secs(60))),
            4 => Fault::Behind(self.dice.time_below(Duration::from_secs(20))),
            5 => Fault::Late(self.dice.time_below(LATE_MAX)),
            _ => Fault::Blocked(self.dice.time_below(BLOCKED_MAX)),
        }
    }

    /// A consumer that waits.
    pub fn delivery(&self) -> Fault {
        if !self.dice.chance(self.rates().queue) {
            return Fault::None;
        }
        *self.dice.pick(&[Fault::Refused, Fault::LostRequest])
    }

    /// An acknowledgement. The broker confirms none: one that was sent may never arrive.
    pub fn ack(&self) -> Fault {
        if !self.dice.chance(self.rates().queue) {
            return Fault::None;
        }
        *self.dice.pick(&[Fault::Refused, Fault::LostRequest, Fault::LostAnswer, Fault::Dropped])
    }

    /// A call of the job state; `is_append`: it may happen twice, or late.
    pub fn state(&self, is_append: bool) -> Fault {
        if !self.dice.chance(self.rates().state) {
            return Fault::None;
        }
        match self.dice.below(if is_append { 4 } else { 2 }) {
            0 => Fault::LostRequest,
            1 => Fault::LostAnswer,
            2 => Fault::Twice(self.dice.time_below(Duration::from_secs(90))),
            _ => Fault::Late(self.dice.time_below(LATE_MAX)),
        }
    }

    /// Whether an answer about a known blob is turned round.
    pub fn lies(&self) -> bool {
        self.dice.chance(self.rates().lies)
    }
}
