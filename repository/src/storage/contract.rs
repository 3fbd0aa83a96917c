//! What every storage must do, as a suite. For tests: panics at the first promise that is broken.
//!
//! An implementation's test is one line: `contract::run(|| Arc::new(..)).await`.

use std::collections::BTreeMap;
use std::io::Write;
use std::sync::Arc;

use bytes::Bytes;
use futures::future::join_all;

use super::{Body, Entry, Storage, StorageErrorKind};

/// More than one write call, page or block of a small implementation.
const BIG_BYTES: usize = 9 * 1024 * 1024 + 17;
/// More objects than any page holds.
const OBJECTS: usize = 5_300;
/// More than small pages hold.
const FEW_OBJECTS: usize = 300;

/// Runs the whole suite. Each call of `make` gives a place without objects, which `create` has not
/// been called on.
pub async fn run<S: Storage + ?Sized>(make: impl Fn() -> Arc<S>) {
    same_bytes(&*fresh(&make).await).await;
    cases(OBJECTS, make).await;
}

/// The suite for a storage with small pages, or one whose full pages are tried elsewhere.
pub async fn run_with_few_objects<S: Storage + ?Sized>(make: impl Fn() -> Arc<S>) {
    same_bytes(&*fresh(&make).await).await;
    cases(FEW_OBJECTS, make).await;
}

/// The suite for a storage that loses answers and recovers from that by comparing bytes: it cannot
/// tell its own write from an equal one. Everything else must hold.
pub async fn run_with_lost_answers<S: Storage + ?Sized>(make: impl Fn() -> Arc<S>) {
    cases(OBJECTS, make).await;
}

async fn cases<S: Storage + ?Sized>(objects: usize, make: impl Fn() -> Arc<S>) {
    round_trip(&*fresh(&make).await).await;
    create_only(&*fresh(&make).await).await;
    racers(&fresh(&make).await).await;
    racers_with_deletes(&*fresh(&make).await).await;
    ranges(&*fresh(&make).await).await;
    missing(&*fresh(&make).await).await;
    names(&*fresh(&make).await).await;
    listings(&*fresh(&make).await).await;
    paging(objects, &*fresh(&make).await).await;
    pages_under_change(&*fresh(&make).await).await;
    big_bodies(&*fresh(&make).await).await;
    spooled_bodies(&*fresh(&make).await).await;
    errors_name_the_object(&*fresh(&make).await).await;
    model(&*fresh(&make).await).await;
}

async fn fresh<S: Storage + ?Sized>(make: &impl Fn() -> Arc<S>) -> Arc<S> {
    let storage = make();
    storage.create().await.unwrap();
    storage.create().await.expect("creating what is there is success");
    assert_eq!(all(&*storage, "").await, [], "a new place is empty");
    storage
}

/// Every object below `prefix`, sorted by name, over all pages.
pub async fn all<S: Storage + ?Sized>(storage: &S, prefix: &str) -> Vec<Entry> {
    let mut entries = Vec::new();
    let mut from = None;
    loop {
        let page = storage.list(prefix, from.as_deref()).await.unwrap();
        entries.extend(page.entries);
        match page.next {
            Some(next) => {
                assert_ne!(Some(&next), from.as_ref(), "a page after {next:?} begins there again");
                from = Some(next);
            }
            None => break,
        }
    }
    entries.sort_by(|a, b| a.name.cmp(&b.name));
    entries
}

async fn names_below<S: Storage + ?Sized>(storage: &S, prefix: &str) -> Vec<String> {
    all(storage, prefix).await.into_iter().map(|entry| entry.name).collect()
}

/// `len` bytes that repeat late and differ by `seed`.
fn pattern(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(2) + 1;
    let mut byte = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    };
    (0..len).map(|_| byte()).collect()
}

fn id(number: usize) -> String {
    format!("{:064x}", (number as u128 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835))
}

async fn round_trip<S: Storage + ?Sized>(storage: &S) {
    let content = b"some bytes".to_vec();
    storage.put("config", content.clone().into()).await.unwrap();
    assert_eq!(storage.get("config", None).await.unwrap(), content);
    assert_eq!(storage.size("config").await.unwrap(), content.len() as u64);
    assert_eq!(all(storage, "").await, [Entry { name: "config".into(), size: content.len() as u64 }]);
    storage.delete("config").await.unwrap();
    assert_eq!(storage.get("config", None).await.unwrap_err().kind, StorageErrorKind::NotFound);
    assert_eq!(all(storage, "").await, []);
    storage.put("config", b"again".to_vec().into()).await.expect("a deleted name is free");
    assert_eq!(storage.get("config", None).await.unwrap(), "again");

    storage.put("empty", Body::Memory(Vec::new())).await.unwrap();
    assert_eq!((storage.size("empty").await.unwrap(), storage.get("empty", None).await.unwrap()), (0, Bytes::new()));
    let pieces = ["", "one", "", "two", ""].map(|piece| Bytes::from_static(piece.as_bytes()));
    storage.put("pieces", Body::Memory(pieces.to_vec())).await.unwrap();
    assert_eq!(storage.get("pieces", None).await.unwrap(), "onetwo");
}

async fn create_only<S: Storage + ?Sized>(storage: &S) {
    storage.put("keys/a", b"first".to_vec().into()).await.unwrap();
    for second in [&b"other"[..], b"", b"a longer one"] {
        let error = storage.put("keys/a", second.to_vec().into()).await.unwrap_err();
        assert_eq!(error.kind, StorageErrorKind::AlreadyThere);
        assert_eq!(storage.get("keys/a", None).await.unwrap(), "first", "an object never changes");
    }
    assert_eq!(names_below(storage, "").await, ["keys/a"], "a refused put leaves nothing");
}

async fn same_bytes<S: Storage + ?Sized>(storage: &S) {
    for bytes in [&b"bytes"[..], b""] {
        let name = format!("keys/{}", bytes.len());
        storage.put(&name, bytes.to_vec().into()).await.unwrap();
        let error = storage.put(&name, bytes.to_vec().into()).await.unwrap_err();
        assert_eq!(error.kind, StorageErrorKind::AlreadyThere, "equal bytes make no second creation");
    }
}

/// Of many writers of one name exactly one is told that it won, and its bytes are there.
async fn racers<S: Storage + ?Sized>(storage: &Arc<S>) {
    for round in 0..20 {
        let name = format!("longshore/jobs/{round}/commit");
        let bodies: Vec<Vec<u8>> = (0..8).map(|racer| pattern(racer, 1_000 + racer as usize)).collect();
        let puts = bodies.iter().map(|body| storage.put(&name, body.clone().into()));
        let results = join_all(puts).await;
        let winners: Vec<usize> = (0..8).filter(|&racer| results[racer].is_ok()).collect();
        assert_eq!(winners.len(), 1, "winners of {name}: {results:?}");
        for error in results.into_iter().filter_map(Result::err) {
            assert_eq!(error.kind, StorageErrorKind::AlreadyThere);
        }
        assert_eq!(storage.get(&name, None).await.unwrap(), bodies[winners[0]]);
    }
    assert_eq!(names_below(&**storage, "longshore/").await.len(), 20);
}

/// Puts and deletes of neighbours do not disturb each other.
async fn racers_with_deletes<S: Storage + ?Sized>(storage: &S) {
    let name = |number| format!("longshore/jobs/one/{number}");
    join_all((0..16).map(|number| async move {
        for _ in 0..10 {
            storage.put(&name(number), vec![number].into()).await.unwrap();
            storage.delete(&name(number)).await.unwrap();
        }
        storage.put(&name(number), vec![number].into()).await.unwrap();
    }))
    .await;
    for number in 0..16 {
        assert_eq!(storage.get(&name(number), None).await.unwrap(), vec![number]);
    }
}

async fn ranges<S: Storage + ?Sized>(storage: &S) {
    let content = pattern(1, 1_000);
    storage.put("data/ab/object", content.clone().into()).await.unwrap();
    for range in [0..1_000, 0..1, 999..1_000, 17..400, 0..0, 500..500, 1_000..1_000] {
        let bytes = storage.get("data/ab/object", Some(range.clone())).await.unwrap();
        assert_eq!(bytes, content[range.start as usize..range.end as usize], "{range:?}");
    }
    for range in [0..1_001, 999..1_001, 1_000..1_001, 5_000..6_000, 0..u64::MAX, 1_001..1_001] {
        let error = storage.get("data/ab/object", Some(range.clone())).await.unwrap_err();
        assert_eq!(error.kind, StorageErrorKind::OutOfRange, "{range:?}");
    }
}

async fn missing<S: Storage + ?Sized>(storage: &S) {
    storage.put("keys/there", vec![1].into()).await.unwrap();
    for name in ["config", "keys/absent", "keys/there2", "keys/ther", "no/such/place", "keys", "data"] {
        assert_eq!(storage.get(name, None).await.unwrap_err().kind, StorageErrorKind::NotFound, "{name}");
        assert_eq!(storage.get(name, Some(0..1)).await.unwrap_err().kind, StorageErrorKind::NotFound, "{name}");
        assert_eq!(storage.size(name).await.unwrap_err().kind, StorageErrorKind::NotFound, "{name}");
        storage.delete(name).await.unwrap_or_else(|error| panic!("deleting the missing {name}: {error:?}"));
    }
    for prefix in ["locks/", "no/such/place/", "keys/there/"] {
        let page = storage.list(prefix, None).await.unwrap();
        assert_eq!((page.entries, page.next), (Vec::new(), None), "{prefix}");
    }
    assert_eq!(names_below(storage, "").await, ["keys/there"]);
}

async fn names<S: Storage + ?Sized>(storage: &S) {
    let long = "x".repeat(200);
    let good =
        ["a", "A", "keys/0", "data/ab/c", "longshore/a/b/c/d/e/f/g", "x/.hidden", "x/a-b_c.d", &format!("y/{long}")];
    for name in good {
        storage.put(name, name.as_bytes().to_vec().into()).await.unwrap();
    }
    for name in good {
        assert_eq!(storage.get(name, None).await.unwrap(), name.as_bytes());
    }
    for name in ["", "/a", "a/", "keys//0", "../a", "keys/../a", "./a", "a b", "a\0", "ä", "a~b"] {
        let permanent = |kind| assert_eq!(kind, StorageErrorKind::Permanent, "{name:?}");
        permanent(storage.put(name, vec![].into()).await.unwrap_err().kind);
        permanent(storage.get(name, None).await.unwrap_err().kind);
        permanent(storage.size(name).await.unwrap_err().kind);
        permanent(storage.delete(name).await.unwrap_err().kind);
    }
    for prefix in ["/", "keys", "keys//", "../", "a b/"] {
        assert_eq!(storage.list(prefix, None).await.unwrap_err().kind, StorageErrorKind::Permanent, "{prefix:?}");
    }
}

async fn listings<S: Storage + ?Sized>(storage: &S) {
    // What sorts between and beside `/` must not fall out or in.
    let names = ["config", "data/00/a", "data/ff/b", "data-x/a", "data.x", "data0/a", "longshore/jobs/1/epoch-1", "z"];
    for (size, name) in names.iter().enumerate() {
        storage.put(name, vec![0; size].into()).await.unwrap();
    }
    let mut expected: Vec<Entry> =
        names.iter().enumerate().map(|(size, name)| Entry { name: (*name).to_owned(), size: size as u64 }).collect();
    expected.sort_by(|a, b| a.name.cmp(&b.name));
    assert_eq!(all(storage, "").await, expected);
    for prefix in ["data/", "data/00/", "data-x/", "longshore/", "longshore/jobs/1/"] {
        let below: Vec<&Entry> = expected.iter().filter(|entry| entry.name.starts_with(prefix)).collect();
        assert_eq!(all(storage, prefix).await.iter().collect::<Vec<_>>(), below, "{prefix}");
    }
}

/// More objects than a page holds: each is listed exactly once.
async fn paging<S: Storage + ?Sized>(objects: usize, storage: &S) {
    let mut expected = Vec::new();
    for chunk in (0..objects).collect::<Vec<_>>().chunks(50) {
        let put = |number: usize| async move {
            let id = id(number);
            let name = format!("data/{}/{id}", &id[62..]);
            storage.put(&name, vec![0; number % 3].into()).await.unwrap();
            Entry { name, size: (number % 3) as u64 }
        };
        expected.extend(join_all(chunk.iter().map(|&number| put(number))).await);
    }
    expected.sort_by(|a, b| a.name.cmp(&b.name));
    assert_eq!(all(storage, "data/").await, expected);
    assert_eq!(all(storage, "").await, expected);
}

/// Objects that stay during a listing are listed once, whatever comes and goes beside them.
async fn pages_under_change<S: Storage + ?Sized>(storage: &S) {
    for number in 0..20 {
        storage.put(&format!("index/{number:02}"), vec![].into()).await.unwrap();
    }
    let mut found = Vec::new();
    let mut from: Option<String> = None;
    for turn in 0.. {
        let page = storage.list("index/", from.as_deref()).await.unwrap();
        found.extend(page.entries.into_iter().map(|entry| entry.name));
        // The object that the next page starts from goes away, others come.
        if let Some(last) = found.last() {
            storage.delete(last).await.unwrap();
        }
        if turn < 5 {
            storage.put(&format!("index/00-{turn}"), vec![].into()).await.unwrap();
        }
        from = page.next;
        if from.is_none() {
            break;
        }
    }
    found.retain(|name| name.len() == "index/00".len());
    found.sort();
    assert_eq!(found, (0..20).map(|number| format!("index/{number:02}")).collect::<Vec<_>>());
}

async fn big_bodies<S: Storage + ?Sized>(storage: &S) {
    let content = Bytes::from(pattern(3, BIG_BYTES));
    let pieces: Vec<Bytes> =
        (0..BIG_BYTES).step_by(4_099).map(|at| content.slice(at..BIG_BYTES.min(at + 4_099))).collect();
    assert!(pieces.len() > 2_048, "more than two full vectored writes");
    storage.put("data/aa/big", Body::Memory(pieces)).await.unwrap();
    assert_eq!(storage.size("data/aa/big").await.unwrap(), BIG_BYTES as u64);
    assert!(storage.get("data/aa/big", None).await.unwrap() == content);
    let tail = storage.get("data/aa/big", Some(BIG_BYTES as u64 - 651..BIG_BYTES as u64)).await.unwrap();
    assert_eq!(tail, content[BIG_BYTES - 651..]);
}

async fn spooled_bodies<S: Storage + ?Sized>(storage: &S) {
    let content = pattern(4, BIG_BYTES);
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(&content).unwrap();
    let file = Arc::new(file);
    for (name, len) in [("data/aa/whole", BIG_BYTES), ("data/aa/start", 100_000), ("data/aa/nothing", 0)] {
        // The file's own position is at its end and must not matter.
        storage.put(name, Body::Spooled { file: file.clone(), len: len as u64 }).await.unwrap();
        assert!(storage.get(name, None).await.unwrap() == content[..len], "{name}");
    }
    let short = Body::Spooled { file, len: BIG_BYTES as u64 + 1 };
    storage.put("data/aa/short", short).await.expect_err("the file ends before the object does");
    let left = storage.get("data/aa/short", None).await.expect_err("no part of it is seen");
    assert_eq!(left.kind, StorageErrorKind::NotFound);
    assert_eq!(names_below(storage, "").await.len(), 3);
}

async fn errors_name_the_object<S: Storage + ?Sized>(storage: &S) {
    let error = storage.get("keys/absent", None).await.unwrap_err();
    assert_eq!((error.name.as_str(), error.action), ("keys/absent", "read"));
    assert_eq!(error.location, storage.location());
    let shown = error.to_string();
    assert!(shown.contains("keys/absent") && shown.contains(&storage.location()), "{shown}");
    assert!(!shown.contains(&error.source.to_string()), "the cause is told by source(): {shown}");
}

/// A long random sequence of calls against a map.
async fn model<S: Storage + ?Sized>(storage: &S) {
    let steps = pattern(5, 1_200);
    let mut expected: BTreeMap<String, Vec<u8>> = BTreeMap::new();
    for (step, choice) in steps.chunks_exact(4).enumerate() {
        let name = format!("{}/{}", ["keys", "data/00", "longshore/a/b"][choice[0] as usize % 3], choice[1] % 5);
        match choice[2] % 5 {
            0 | 1 => {
                // No two puts have the same bytes.
                let body = [step.to_le_bytes().to_vec(), pattern(step as u64, choice[3] as usize)].concat();
                let result = storage.put(&name, body.clone().into()).await;
                assert_eq!(result.is_ok(), !expected.contains_key(&name), "step {step}: put {name}");
                expected.entry(name).or_insert(body);
            }
            2 => {
                storage.delete(&name).await.unwrap();
                expected.remove(&name);
            }
            3 => {
                let found = storage.get(&name, None).await.ok();
                assert_eq!(found.as_deref(), expected.get(&name).map(Vec::as_slice), "step {step}: get {name}");
            }
            _ => {
                let entry = |(name, bytes): (&String, &Vec<u8>)| Entry { name: name.clone(), size: bytes.len() as u64 };
                assert_eq!(all(storage, "").await, expected.iter().map(entry).collect::<Vec<_>>(), "step {step}");
            }
        }
    }
}
