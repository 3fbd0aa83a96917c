//! The task queue inside one process.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use proto::envelope::MESSAGE_BYTES_MAX;
use proto::handles::Clock;
use tokio::sync::Notify;

use super::{
    Address, Consumer, DELIVERIES_MAX, Delivery, Inbox, Message, NOTICES_AHEAD, QueueError, Receipt, Route, TaskQueue,
};

/// Queues in memory. Clones share them.
#[derive(Clone)]
pub struct LocalQueue {
    shared: Arc<Shared>,
}

struct Shared {
    clock: Arc<dyn Clock>,
    queues: Mutex<Queues>,
    /// Told whenever a message came in.
    arrived: Notify,
}

#[derive(Default)]
struct Queues {
    waiting: BTreeMap<Inbox, VecDeque<Waiting>>,
    /// Due at the given monotonic time.
    delayed: Vec<(Duration, Route, Message)>,
    dead: Vec<(Address, Message)>,
}

struct Waiting {
    message: Message,
    delivered_before: u32,
}

impl LocalQueue {
    /// Empty queues; nothing is declared but jobs and notices.
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        let mut queues = Queues::default();
        queues.waiting.insert(Inbox::Jobs, VecDeque::new());
        queues.waiting.insert(Inbox::Notices, VecDeque::new());
        Self { shared: Arc::new(Shared { clock, queues: Mutex::new(queues), arrived: Notify::new() }) }
    }

    /// What was dead-lettered, in order.
    pub fn dead(&self) -> Vec<(Address, Message)> {
        self.shared.lock().dead.clone()
    }

    /// Puts a message of another program into the jobs queue: what this product's publishers refuse may come in by others.
    pub fn put_foreign(&self, message: Message) {
        self.shared.lock().waiting.entry(Inbox::Jobs).or_default().push_back(Waiting { message, delivered_before: 0 });
        self.shared.arrived.notify_waiters();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Queues> {
        // Nothing panics while it is held; a poisoned lock holds whole queues.
        self.queues.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Moves what is due, takes the next message of `inbox`, or says how long nothing becomes due.
    fn take(&self, inbox: &Inbox) -> Result<Option<Waiting>, QueueError> {
        let now = self.clock.monotonic();
        let mut queues = self.lock();
        queues.move_due(now);
        match queues.waiting.get_mut(inbox) {
            Some(waiting) => Ok(waiting.pop_front()),
            None => Err(QueueError::Unroutable { address: inbox.address() }),
        }
    }

    fn next_due(&self) -> Option<Duration> {
        let now = self.clock.monotonic();
        self.lock().delayed.iter().map(|(due, ..)| due.saturating_sub(now)).min()
    }

    fn give_back(&self, inbox: &Inbox, message: Message, delivered: u32) {
        let mut queues = self.lock();
        if delivered >= DELIVERIES_MAX {
            let message = Message { last_error: Some("delivery_limit".to_owned()), ..message };
            let address = if *inbox == Inbox::Jobs { Address::DeadJobs } else { Address::DeadTasks };
            queues.bury(address, message);
        } else if let Some(waiting) = queues.waiting.get_mut(inbox) {
            waiting.push_front(Waiting { message, delivered_before: delivered });
        }
        drop(queues);
        self.arrived.notify_waiters();
    }
}

impl Queues {
    fn move_due(&mut self, now: Duration) {
        let (due, later): (Vec<_>, Vec<_>) = std::mem::take(&mut self.delayed).into_iter().partition(|d| d.0 <= now);
        self.delayed = later;
        for (_, route, message) in due {
            if let Some(waiting) = self.waiting.get_mut(&Inbox::Tasks(route)) {
                waiting.push_back(Waiting { message, delivered_before: 0 });
            }
        }
    }

    fn bury(&mut self, address: Address, message: Message) {
        if address == Address::DeadTasks
            && let Some(notices) = self.waiting.get_mut(&Inbox::Notices)
        {
            notices.push_back(Waiting { message: message.clone(), delivered_before: 0 });
        }
        self.dead.push((address, message));
    }
}

#[async_trait]
impl TaskQueue for LocalQueue {
    async fn declare(&self, route: &Route) -> Result<(), QueueError> {
        self.shared.lock().waiting.entry(Inbox::Tasks(route.clone())).or_default();
        Ok(())
    }

    async fn publish(&self, address: &Address, message: Message) -> Result<(), QueueError> {
        if message.body.len() > MESSAGE_BYTES_MAX {
            return Err(QueueError::TooLong { bytes: message.body.len() });
        }
        let unroutable = || QueueError::Unroutable { address: address.clone() };
        let mut queues = self.shared.lock();
        let inbox = match address {
            Address::Tasks(route) => Inbox::Tasks(route.clone()),
            Address::Jobs => Inbox::Jobs,
            Address::Later(route, delay) => {
                if !queues.waiting.contains_key(&Inbox::Tasks(route.clone())) {
                    return Err(unroutable());
                }
                let due = self.shared.clock.monotonic() + delay.duration();
                queues.delayed.push((due, route.clone(), message));
                drop(queues);
                self.shared.arrived.notify_waiters();
                return Ok(());
            }
            Address::DeadTasks | Address::DeadJobs => {
                queues.bury(address.clone(), message);
                drop(queues);
                self.shared.arrived.notify_waiters();
                return Ok(());
            }
        };
        let waiting = queues.waiting.get_mut(&inbox).ok_or_else(unroutable)?;
        waiting.push_back(Waiting { message, delivered_before: 0 });
        drop(queues);
        self.shared.arrived.notify_waiters();
        Ok(())
    }

    async fn consume(&self, inbox: &Inbox) -> Result<Box<dyn Consumer>, QueueError> {
        if !self.shared.lock().waiting.contains_key(inbox) {
            return Err(QueueError::Unroutable { address: inbox.address() });
        }
        Ok(Box::new(LocalConsumer { shared: self.shared.clone(), inbox: inbox.clone(), held: Vec::new() }))
    }

    async fn waiting(&self, inbox: &Inbox) -> Result<u64, QueueError> {
        let mut queues = self.shared.lock();
        queues.move_due(self.shared.clock.monotonic());
        match queues.waiting.get(inbox) {
            Some(waiting) => Ok(waiting.len() as u64),
            None => Err(QueueError::Unroutable { address: inbox.address() }),
        }
    }
}

/// One delivery until it is settled: by its receipt, or by the end of its consumer.
struct Held {
    shared: Arc<Shared>,
    inbox: Inbox,
    unsettled: Mutex<Option<(Message, u32)>>,
}

impl Held {
    fn take(&self) -> Option<(Message, u32)> {
        self.unsettled.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn is_settled(&self) -> bool {
        self.unsettled.lock().unwrap_or_else(PoisonError::into_inner).is_none()
    }

    fn give_back(&self) {
        if let Some((message, delivered)) = self.take() {
            self.shared.give_back(&self.inbox, message, delivered);
        }
    }
}

struct LocalConsumer {
    shared: Arc<Shared>,
    inbox: Inbox,
    /// What it delivered and nobody settled.
    held: Vec<Arc<Held>>,
}

impl LocalConsumer {
    /// One at a time, or a few notices.
    fn may_take(&mut self) -> bool {
        self.held.retain(|held| !held.is_settled());
        let ahead = if self.inbox == Inbox::Notices { usize::from(NOTICES_AHEAD) } else { 1 };
        self.held.len() < ahead
    }

    fn take(&mut self) -> Result<Option<Delivery>, QueueError> {
        let Some(Waiting { message, delivered_before }) = self.shared.take(&self.inbox)? else { return Ok(None) };
        let held = Arc::new(Held {
            shared: self.shared.clone(),
            inbox: self.inbox.clone(),
            unsettled: Mutex::new(Some((message.clone(), delivered_before + 1))),
        });
        self.held.push(held.clone());
        Ok(Some(Delivery { message, delivered_before, published_at: None, receipt: Box::new(LocalReceipt(held)) }))
    }
}

impl Drop for LocalConsumer {
    fn drop(&mut self) {
        self.held.iter().for_each(|held| held.give_back());
    }
}

#[async_trait]
impl Consumer for LocalConsumer {
    async fn next(&mut self) -> Result<Option<Delivery>, QueueError> {
        loop {
            let shared = self.shared.clone();
            // Listen before looking, so that nothing arrives unseen in between.
            let arrived = shared.arrived.notified();
            tokio::pin!(arrived);
            arrived.as_mut().enable();
            if !self.may_take() {
                arrived.await;
                continue;
            }
            if let Some(delivery) = self.take()? {
                return Ok(Some(delivery));
            }
            match self.shared.next_due() {
                None => arrived.await,
                Some(due) => {
                    let due = self.shared.clock.sleep(due);
                    tokio::select! { biased; () = arrived => {}, () = due => {} }
                }
            }
        }
    }
}

struct LocalReceipt(Arc<Held>);

impl std::fmt::Debug for LocalReceipt {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "LocalReceipt({:?})", self.0.inbox)
    }
}

#[async_trait]
impl Receipt for LocalReceipt {
    fn is_held(&self) -> bool {
        !self.0.is_settled()
    }

    async fn ack(self: Box<Self>) -> Result<bool, QueueError> {
        let was_ours = self.0.take().is_some();
        // Its consumer may have the next one.
        self.0.shared.arrived.notify_waiters();
        Ok(was_ours)
    }
}

impl Drop for LocalReceipt {
    fn drop(&mut self) {
        self.0.give_back();
    }
}

#[cfg(test)]
mod tests {
    use proto::handles::{BoxFuture, UnixTime};

    use super::*;

    /// A clock that goes as far as anybody sleeps.
    #[derive(Default)]
    struct SleepClock(Mutex<Duration>);

    impl Clock for SleepClock {
        fn now(&self) -> UnixTime {
            UnixTime::default().plus(self.monotonic())
        }

        fn monotonic(&self) -> Duration {
            *self.0.lock().unwrap()
        }

        fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
            *self.0.lock().unwrap() += duration;
            Box::pin(std::future::ready(()))
        }
    }

    #[tokio::test]
    async fn keeps_the_contract() {
        super::super::contract::run(async || LocalQueue::new(Arc::new(SleepClock::default()))).await;
    }
}
