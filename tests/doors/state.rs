//! The job state on the server of this machine.

use std::cell::Cell;

use bytes::Bytes;
use fleet::state::{JobState, Position, contract};
use proto::id::{Id, JobId};
use tests::services::redis::Prefix;

use crate::state_at;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keeps_the_contract() {
    let prefix = Prefix::new("state-contract");
    let used = Cell::new(0);
    let make = async || state_at(&prefix.url(), &format!("{}-{}", prefix.as_str(), used.replace(used.get() + 1))).await;
    contract::run(make).await;
    let keys = prefix.keys();
    assert!(keys.len() > 2_000, "the suite leaves keys of every kind: {}", keys.len());
    let forever: Vec<_> = keys.into_iter().filter(|(_, seconds)| *seconds < 0).collect();
    assert!(forever.is_empty(), "keys without a time to live: {forever:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn known_blobs_are_bounded() {
    let prefix = Prefix::new("state-blobs");
    let state = state_at(&prefix.url(), prefix.as_str()).await;
    let repository = Id::of(b"repository");
    // All of one set: it is begun anew each time that it is full.
    let blobs: Vec<u64> = (0..2_000).map(|number| number * 16_384).collect();
    state.add_known_blobs(&repository, &blobs).await.expect("add");
    let known = state.known_blobs(&repository, &blobs).await.expect("known");
    let count = known.iter().filter(|known| **known).count();
    assert!(count <= 512, "{count} blobs in one set");
    assert!(known[1_999], "what was added last is there");
    assert_eq!(prefix.keys().len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_others_write_into_a_stream_is_passed_over() {
    let prefix = Prefix::new("state-foreign");
    let state = state_at(&prefix.url(), prefix.as_str()).await;
    let job = JobId::new("j").expect("a job id");
    state.append_report(&job, Bytes::from_static(b"ours")).await.expect("append");
    let key = prefix.keys().remove(0).0;
    prefix.cli(&["XADD", &key, "*", "other", "field"]);
    state.append_report(&job, Bytes::from_static(b"ours too")).await.expect("append");
    let wait = std::time::Duration::ZERO;
    let reports = state.read_reports(&job, &Position::default(), 10, wait).await.expect("read");
    let bodies: Vec<&[u8]> = reports.iter().map(|(_, report)| &report[..]).collect();
    assert_eq!(bodies, [&b"ours"[..], b"", b"ours too"], "an entry that is no report is an empty one");
}
