//! A time limit round a call of a service.

use std::future::Future;
use std::time::Duration;

use proto::handles::Clock;

use crate::clock::SystemClock;

/// What `work` gives within `limit`; `None` if it takes longer: then it is dropped, and nobody knows what came of it.
pub(crate) async fn within<T>(limit: Duration, work: impl Future<Output = T>) -> Option<T> {
    let over = SystemClock::new().sleep(limit);
    tokio::select! {
        biased;
        done = work => Some(done),
        () = over => None,
    }
}
