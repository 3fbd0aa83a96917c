//! A wrapper that makes a storage fail as networks do, and remembers every call. For tests.
//!
//! A call has four outcomes: it happened or not, and that was reported or not. Beyond these it may
//! be slow, or happen after the caller gave up.

use std::fmt;
use std::future::Future;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use proto::handles::{Clock, Random, RandomExt};

use super::{Body, Failure, Operation, Page, Storage, StorageError, StorageErrorKind};

/// What befalls one call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It happens and that is reported: nothing befalls it.
    None,
    /// It does not happen, and this error is reported.
    Refused(StorageErrorKind),
    /// It happens; the answer is lost (`Unknown` is reported).
    LostAnswer,
    /// It does not happen; nobody is told (`Unknown` is reported).
    LostRequest,
    /// It happens and is reported, but only after this time.
    Slow(Duration),
    /// `Unknown` is reported now, and a put or delete happens after this time, in a task of its
    /// own. Other calls: as [`Fault::LostRequest`].
    Late(Duration),
}

/// One call, as it was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// How many calls were made before.
    pub number: u64,
    /// Which call.
    pub operation: Operation,
    /// The object, or the prefix of a list; empty for create.
    pub name: String,
    /// Length of a put's body or of a get's range (0 for a whole object and everything else).
    pub bytes: u64,
}

/// A call with what became of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// As it was made.
    pub call: Call,
    /// What befell it.
    pub fault: Fault,
    /// What was reported; `None` while it runs, or when it was dropped.
    pub outcome: Option<Result<(), StorageErrorKind>>,
}

/// How often each fault befalls a call, in parts of 1,000; what is left goes well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FaultRates {
    /// [`Fault::Refused`] with `Unavailable`.
    pub refused: u16,
    /// [`Fault::LostAnswer`].
    pub lost_answer: u16,
    /// [`Fault::LostRequest`].
    pub lost_request: u16,
    /// [`Fault::Slow`] by up to `delay_max`.
    pub slow: u16,
    /// [`Fault::Late`] by up to `delay_max`.
    pub late: u16,
    /// The longest delay; each is drawn evenly below it.
    pub delay_max: Duration,
}

impl FaultRates {
    /// Draws what befalls one call.
    fn draw(&self, random: &dyn Random) -> Fault {
        let mut point = random.below(1_000);
        let delay =
            Duration::from_nanos(random.below(u64::try_from(self.delay_max.as_nanos()).unwrap_or(u64::MAX).max(1)));
        for (rate, fault) in [
            (self.refused, Fault::Refused(StorageErrorKind::Unavailable)),
            (self.lost_answer, Fault::LostAnswer),
            (self.lost_request, Fault::LostRequest),
            (self.slow, Fault::Slow(delay)),
            (self.late, Fault::Late(delay)),
        ] {
            match point.checked_sub(u64::from(rate)) {
                None => return fault,
                Some(rest) => point = rest,
            }
        }
        Fault::None
    }
}

type Plan = Box<dyn FnMut(&Call) -> Fault + Send>;

/// A storage that fails by plan.
pub struct Faulty {
    inner: Arc<dyn Storage>,
    clock: Arc<dyn Clock>,
    state: Mutex<State>,
}

struct State {
    plan: Plan,
    records: Vec<Record>,
}

impl Faulty {
    /// Asks `plan` what befalls each call to `inner`.
    pub fn new(
        inner: Arc<dyn Storage>,
        clock: Arc<dyn Clock>,
        plan: impl FnMut(&Call) -> Fault + Send + 'static,
    ) -> Self {
        Self { inner, clock, state: Mutex::new(State { plan: Box::new(plan), records: Vec::new() }) }
    }

    /// The first calls meet these faults in order, whichever calls they are; the others none.
    pub fn scripted(
        inner: Arc<dyn Storage>,
        clock: Arc<dyn Clock>,
        faults: impl IntoIterator<Item = Fault, IntoIter: Send + 'static>,
    ) -> Self {
        let mut faults = faults.into_iter();
        Self::new(inner, clock, move |_| faults.next().unwrap_or(Fault::None))
    }

    /// Faults drawn from `random`.
    pub fn seeded(inner: Arc<dyn Storage>, clock: Arc<dyn Clock>, random: Arc<dyn Random>, rates: FaultRates) -> Self {
        Self::new(inner, clock, move |_| rates.draw(&*random))
    }

    /// Changes the plan for the calls that begin from now on.
    pub fn replace_plan(&self, plan: impl FnMut(&Call) -> Fault + Send + 'static) {
        self.state().plan = Box::new(plan);
    }

    /// Every call so far, in the order in which they began.
    pub fn records(&self) -> Vec<Record> {
        self.state().records.clone()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // A plan may panic to fail its test; the records are whole all the same.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Records the beginning of a call: its number and fault.
    fn begin(&self, operation: Operation, name: &str, bytes: u64) -> (usize, Fault) {
        let mut state = self.state();
        let number = state.records.len();
        let call = Call { number: number as u64, operation, name: name.to_owned(), bytes };
        let fault = (state.plan)(&call);
        state.records.push(Record { call, fault, outcome: None });
        (number, fault)
    }

    /// Lets `work` happen or not, and reports what the fault says.
    async fn carry_out<T>(
        &self,
        (number, fault): (usize, Fault),
        operation: Operation,
        name: &str,
        work: impl Future<Output = Result<T, StorageError>>,
    ) -> Result<T, StorageError> {
        let error = |kind| Err(StorageError::new(operation, name, self.location(), Failure::new(kind, Injected)));
        let result = match fault {
            Fault::None => work.await,
            Fault::Refused(kind) => error(kind),
            Fault::LostRequest | Fault::Late(_) => error(StorageErrorKind::Unknown),
            Fault::LostAnswer => {
                // The answer would have been lost whatever it was.
                let _ = work.await;
                error(StorageErrorKind::Unknown)
            }
            Fault::Slow(delay) => {
                self.clock.sleep(delay).await;
                work.await
            }
        };
        self.state().records[number].outcome = Some(result.as_ref().map(|_| ()).map_err(|error| error.kind));
        result
    }

    /// Lets a call happen after `delay`, without anybody who waits for it.
    fn happen_late<F>(&self, delay: Duration, work: impl FnOnce(Arc<dyn Storage>) -> F)
    where
        F: Future<Output = Result<(), StorageError>> + Send + 'static,
    {
        let sleep = self.clock.sleep(delay);
        let work = work(self.inner.clone());
        tokio::spawn(async move {
            sleep.await;
            // Nobody is left to be told.
            let _ = work.await;
        });
    }
}

/// The cause of every error that [`Faulty`] makes up.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("a fault that the test asked for")]
struct Injected;

impl fmt::Debug for Faulty {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_tuple("Faulty").field(&self.inner).finish()
    }
}

#[async_trait]
impl Storage for Faulty {
    fn location(&self) -> String {
        self.inner.location()
    }

    async fn put(&self, name: &str, body: Body) -> Result<(), StorageError> {
        let begun = self.begin(Operation::Put, name, body.len());
        if let Fault::Late(delay) = begun.1 {
            let (name, body) = (name.to_owned(), body.clone());
            self.happen_late(delay, |inner| async move { inner.put(&name, body).await });
        }
        self.carry_out(begun, Operation::Put, name, self.inner.put(name, body)).await
    }

    async fn get(&self, name: &str, range: Option<Range<u64>>) -> Result<Bytes, StorageError> {
        let bytes = range.as_ref().map_or(0, |range| range.end.saturating_sub(range.start));
        let begun = self.begin(Operation::Get, name, bytes);
        self.carry_out(begun, Operation::Get, name, self.inner.get(name, range)).await
    }

    async fn size(&self, name: &str) -> Result<u64, StorageError> {
        let begun = self.begin(Operation::Size, name, 0);
        self.carry_out(begun, Operation::Size, name, self.inner.size(name)).await
    }

    async fn list(&self, prefix: &str, from: Option<&str>) -> Result<Page, StorageError> {
        let begun = self.begin(Operation::List, prefix, 0);
        self.carry_out(begun, Operation::List, prefix, self.inner.list(prefix, from)).await
    }

    async fn delete(&self, name: &str) -> Result<(), StorageError> {
        let begun = self.begin(Operation::Delete, name, 0);
        if let Fault::Late(delay) = begun.1 {
            let name = name.to_owned();
            self.happen_late(delay, |inner| async move { inner.delete(&name).await });
        }
        self.carry_out(begun, Operation::Delete, name, self.inner.delete(name)).await
    }

    async fn create(&self) -> Result<(), StorageError> {
        let begun = self.begin(Operation::Create, "", 0);
        self.carry_out(begun, Operation::Create, "", self.inner.create()).await
    }

    fn clock_offset_seconds(&self) -> Option<i64> {
        self.inner.clock_offset_seconds()
    }
}

#[cfg(test)]
#[path = "faulty_tests.rs"]
mod tests;
