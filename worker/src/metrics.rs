//! What a worker counts: each delivery and how it ended, and the bytes that passed.

use std::time::Duration;

use fleet::metrics::AttemptEnd;
use fleet::metrics::table::{
    COMPRESSED_BYTES, DEDUPLICATED_BYTES, DUPLICATE_DELIVERIES, NOT_MY_VIEW, RESTORED_BYTES, SOURCE_READ_BYTES,
    TASK_ATTEMPTS, TASK_DURATION, TASK_QUEUE_WAIT, UPLOADED_BYTES, VERIFIED_BYTES, WORKER_SLOTS,
};
use fleet::queue::{Delivery, Route};
use proto::handles::UnixTime;

use crate::meter::Meter;

/// Counts a delivery, and how long it waited if it is the first one of its message.
pub(crate) fn count_delivery(route: &Route, delivery: &Delivery, now: UnixTime) {
    if delivery.delivered_before > 0 {
        DUPLICATE_DELIVERIES.add(&[&route.pool], 1);
    } else if let Some(published_at) = delivery.published_at {
        TASK_QUEUE_WAIT.observe(&[&route.pool, &route.class], now.since(published_at));
    }
}

/// Counts the time at work on a task.
pub(crate) fn count_work(route: &Route, took: Duration) {
    TASK_DURATION.observe(&[&route.pool, &route.class], took);
}

/// Counts how a delivery ended.
pub(crate) fn count_end(route: &Route, end: AttemptEnd<'_>) {
    let (outcome, reason) = end.labels();
    TASK_ATTEMPTS.add(&[&route.pool, &route.class, outcome, reason], 1);
    if end == AttemptEnd::NotMyView {
        NOT_MY_VIEW.add(&[&route.pool], 1);
    }
}

/// Shows the bytes that passed.
pub(crate) fn show_meter(pool: &str, meter: &Meter) {
    for (metric, total) in [
        (SOURCE_READ_BYTES, &meter.bytes_cut),
        (DEDUPLICATED_BYTES, &meter.bytes_deduplicated),
        (COMPRESSED_BYTES, &meter.bytes_sealed),
        (UPLOADED_BYTES, &meter.bytes_stored),
        (RESTORED_BYTES, &meter.bytes_restored),
        (VERIFIED_BYTES, &meter.bytes_verified),
    ] {
        metric.set_total(&[pool], Meter::total(total));
    }
}

/// Shows how many slots are at work.
pub(crate) fn show_slots(slots: u32, busy: u32, draining: bool) {
    let busy = busy.min(slots);
    let (busy, idle, draining) = if draining { (0, 0, busy) } else { (busy, slots - busy, 0) };
    for (state, number) in [("busy", busy), ("idle", idle), ("draining", draining)] {
        WORKER_SLOTS.set(&[state], f64::from(number));
    }
}
