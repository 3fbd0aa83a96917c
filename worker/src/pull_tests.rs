//! What becomes of deliveries whose copies cannot be published for a while.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};

use async_trait::async_trait;
use fleet::queue::{Consumer, DELIVERIES_MAX, Inbox, LocalQueue, TaskQueue};
use proto::handles::{BoxFuture, UnixTime};

use super::*;
use crate::test_site::Site;
use crate::worker::{Drain, Settings, Worker};

/// Time passes while somebody sleeps, and nobody waits for it.
#[derive(Default)]
struct Quick(Arc<Mutex<Duration>>);

impl proto::handles::Clock for Quick {
    fn now(&self) -> UnixTime {
        UnixTime::from_seconds(1_700_000_000).plus(self.monotonic())
    }

    fn monotonic(&self) -> Duration {
        *self.0.lock().unwrap()
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        let time = self.0.clone();
        Box::pin(async move {
            tokio::task::yield_now().await;
            *time.lock().unwrap() += duration;
        })
    }
}

/// A queue that takes nothing that was given up, so often.
struct Blocked {
    inner: LocalQueue,
    left: AtomicU32,
}

#[async_trait]
impl TaskQueue for Blocked {
    async fn declare(&self, route: &Route) -> Result<(), QueueError> {
        self.inner.declare(route).await
    }

    async fn publish(&self, address: &Address, message: Message) -> Result<(), QueueError> {
        if *address == Address::DeadTasks && self.left.load(Ordering::Relaxed) > 0 {
            self.left.fetch_sub(1, Ordering::Relaxed);
            return Err(QueueError::Unavailable { message: "blocked".to_owned() });
        }
        self.inner.publish(address, message).await
    }

    async fn consume(&self, inbox: &Inbox) -> Result<Box<dyn Consumer>, QueueError> {
        self.inner.consume(inbox).await
    }

    async fn waiting(&self, inbox: &Inbox) -> Result<u64, QueueError> {
        self.inner.waiting(inbox).await
    }
}

#[tokio::test]
async fn a_delivery_is_kept_until_its_copy_is_published() {
    let site = Site::new().await;
    let clock: Arc<dyn proto::handles::Clock> = Arc::new(Quick::default());
    let left = AtomicU32::new(2 * DELIVERIES_MAX);
    let queue = Arc::new(Blocked { inner: LocalQueue::new(clock.clone()), left });
    let route = Route::normal("default");
    queue.declare(&route).await.unwrap();
    let garbage = Message { body: "no envelope".into(), attempt: 1, ..Message::default() };
    queue.publish(&Address::Tasks(route.clone()), garbage).await.unwrap();
    let doors = site.doors(queue.clone(), clock);
    let worker = Worker::new(Settings::default(), doors, Drain::default());
    let mut notices = queue.consume(&Inbox::Notices).await.unwrap();
    let notice = tokio::select! {
        ended = worker.run() => panic!("the worker ended: {ended:?}"),
        notice = notices.next() => notice.unwrap().unwrap(),
    };
    let reason = notice.message.last_error.unwrap();
    assert!(!reason.contains("deliver"), "the queue gave it up: {reason}");
    assert_eq!(queue.left.load(Ordering::Relaxed), 0);
}
