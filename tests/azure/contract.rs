//! The storage door's contract suite, and what only this storage does, in this process.

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use fleet::clock::SystemClock;
use fleet::rand::SystemRandom;
use repository::storage::azure::{AccountKey, AzureCredential, AzureSettings, PackTier, Sas};
use repository::storage::{Azure, Body, Options, Storage, StorageErrorKind, contract, open};
use tests::azurite::{ACCOUNT, ALL_RIGHTS, Azurite, key_text, signature};
use tests::proxy::{Fault, Kind, Proxy};

fn settings(endpoint: &str) -> AzureSettings {
    let key = AccountKey::parse(&key_text()).expect("base64");
    AzureSettings::new(ACCOUNT, endpoint, AzureCredential::SharedKey(key))
}

fn azure(settings: &AzureSettings, container: &str, prefix: &str) -> Azure {
    Azure::new(settings, container, prefix, Arc::new(SystemClock::new()), Arc::new(SystemRandom)).expect("configured")
}

/// A container of its own for each call.
fn fresh(settings: AzureSettings, prefix: &'static str) -> impl Fn() -> Azure {
    let number = AtomicUsize::new(0);
    move || azure(&settings, &format!("box-{}", number.fetch_add(1, Ordering::Relaxed)), prefix)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_contract_is_kept_below_a_prefix() {
    let azurite = Azurite::start();
    let make = fresh(settings(&azurite.endpoint()), "team/one");
    contract::run(|| Arc::new(make())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_contract_is_kept_with_a_signature_by_the_whole_stack() {
    let azurite = Azurite::start();
    let sas = AzureCredential::Sas(Sas::parse(&signature(ALL_RIGHTS)).expect("signed"));
    let settings = AzureSettings { credential: sas, ..settings(&azurite.endpoint()) };
    let number = AtomicUsize::new(0);
    contract::run_with_few_objects(|| {
        let mut options = Options::new(Arc::new(SystemClock::new()), Arc::new(SystemRandom));
        options.azure = Some(settings.clone());
        let location = format!("azure:box-{}:/", number.fetch_add(1, Ordering::Relaxed));
        open(&location.parse().expect("a location"), options).expect("configured")
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_contract_is_kept_in_small_blocks_and_pages() {
    let azurite = Azurite::start();
    let make = fresh(settings(&azurite.endpoint()), "");
    contract::run_with_few_objects(|| Arc::new(make().with_block_bytes(100, 300_000).with_page_entries(7))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_body_comes_in_blocks_and_is_created_once() {
    let azurite = Azurite::start();
    let proxy = Proxy::before(azurite.port());
    let endpoint = format!("http://127.0.0.1:{}/{ACCOUNT}", proxy.port());
    let storage = azure(&AzureSettings { pack_tier: Some(PackTier::Cool), ..settings(&endpoint) }, "box", "");
    storage.create().await.expect("created");
    let content: Vec<u8> = (0..40_000_003_u32).map(|number| (number.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    let mut file = tempfile::tempfile().expect("a file");
    file.write_all(&content).expect("written");
    let spooled = Body::Spooled { file: Arc::new(file), len: content.len() as u64 };
    storage.put("data/aa/spooled", spooled.clone()).await.expect("put");
    storage.put("keys/memory", content.clone().into()).await.expect("put");
    assert_eq!((proxy.count(Kind::PutBlock), proxy.count(Kind::PutBlockList), proxy.count(Kind::PutBlob)), (10, 2, 0));
    for name in ["data/aa/spooled", "keys/memory"] {
        assert!(storage.get(name, None).await.expect("got") == content, "{name}");
        let again = storage.put(name, spooled.clone()).await.expect_err("it is there");
        assert_eq!(again.kind, StorageErrorKind::AlreadyThere);
    }
    let short = storage.put("data/aa/short", vec![1; 1_000].into()).await;
    short.expect("put");
    let tiers = |name: &str| {
        let puts = proxy.seen().into_iter().filter(|seen| seen.target.contains(name) && seen.kind != Kind::PutBlock);
        let tier = |headers: Vec<(String, String)>| headers.into_iter().find(|(name, _)| name == "x-ms-access-tier");
        puts.filter_map(|seen| tier(seen.headers)).map(|(_, tier)| tier).collect::<Vec<_>>()
    };
    assert_eq!(
        (tiers("spooled"), tiers("short")),
        (vec!["Cool".into(); 2], vec!["Cool".into()]),
        "packs have the tier"
    );
    assert_eq!(tiers("memory"), Vec::<String>::new(), "other files have the account's");
    for seen in
        proxy.seen().iter().filter(|seen| matches!(seen.kind, Kind::PutBlob | Kind::PutBlock | Kind::PutBlockList))
    {
        assert!(seen.headers.iter().any(|(name, _)| name == "content-md5"), "a body without checksum: {seen:?}");
    }
}

/// Writers of one long object do not mix their blocks, and one of them wins.
#[tokio::test(flavor = "multi_thread")]
async fn writers_of_one_name_do_not_mix_their_blocks() {
    let azurite = Azurite::start();
    let storage = azure(&settings(&azurite.endpoint()), "box", "").with_block_bytes(0, 65_536);
    storage.create().await.expect("created");
    for round in 0..10 {
        let name = format!("data/aa/{round}");
        let bodies: Vec<Vec<u8>> = (0..4_u8).map(|writer| vec![writer; 400_000 + usize::from(writer)]).collect();
        let puts = bodies.iter().map(|body| storage.put(&name, body.clone().into()));
        let results = futures::future::join_all(puts).await;
        let winners: Vec<usize> = (0..4).filter(|writer| results[*writer].is_ok()).collect();
        let stored = storage.get(&name, None).await.expect("got");
        assert!(bodies.iter().any(|body| stored == *body), "{name}: {} bytes of several writers", stored.len());
        assert_eq!(winners.len(), 1, "{results:?}");
        assert!(stored == bodies[winners[0]]);
        for error in results.into_iter().filter_map(Result::err) {
            // Blocks that went away with somebody else's creation may be seen before that is.
            let expected = [StorageErrorKind::AlreadyThere, StorageErrorKind::Unavailable];
            assert!(expected.contains(&error.kind), "{error:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_answer_is_refused() {
    let azurite = Azurite::start();
    let proxy = Proxy::before(azurite.port());
    let storage = azure(&settings(&format!("http://127.0.0.1:{}/{ACCOUNT}", proxy.port())), "box", "");
    storage.create().await.expect("created");
    storage.put("data/aa/object", vec![7; 100_000].into()).await.expect("put");
    for range in [None, Some(10..90_000)] {
        proxy.plan(Kind::Get, "object", Fault::DamageAnswer, 1);
        let got = storage.get("data/aa/object", range.clone()).await;
        match (&range, got) {
            // Compared with what it was put with, and read again by itself.
            (None, got) => assert!(got.expect("whole again") == vec![7; 100_000]),
            (Some(_), got) => {
                let error = got.expect_err("damaged");
                assert_eq!(error.kind, StorageErrorKind::Unavailable, "{error:?}");
            }
        }
        storage.get("data/aa/object", range).await.expect("whole again");
    }
    assert_eq!(proxy.count_faults(Fault::DamageAnswer), 2);
}

/// Whoever put an object may have said a wrong checksum: the bytes are what is stored.
#[tokio::test(flavor = "multi_thread")]
async fn a_stored_checksum_that_is_wrong_keeps_no_bytes_back() {
    let azurite = Azurite::start();
    let proxy = Proxy::before(azurite.port());
    let storage = azure(&settings(&format!("http://127.0.0.1:{}/{ACCOUNT}", proxy.port())), "box", "");
    storage.create().await.expect("created");
    storage.put("data/aa/object", vec![7; 100_000].into()).await.expect("put");
    proxy.plan(Kind::Get, "object", Fault::WrongChecksum, 2);
    assert!(storage.get("data/aa/object", None).await.expect("the bytes") == vec![7; 100_000]);
    assert_eq!(proxy.count_faults(Fault::WrongChecksum), 2);
}

/// An account that is busy from the start is there.
#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_is_busy_says_so_itself() {
    let azurite = Azurite::start();
    let proxy = Proxy::before(azurite.port());
    let storage = azure(&settings(&format!("http://127.0.0.1:{}/{ACCOUNT}", proxy.port())), "box", "");
    proxy.plan(Kind::Head, "config", Fault::Busy, 1);
    let error = storage.size("config").await.expect_err("busy");
    assert!(error.is_transient() && error.is_answer, "{error:?}");
    drop(azurite);
    let error = storage.size("config").await.expect_err("nobody there");
    assert!(error.is_transient() && !error.is_answer, "{error:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_clock_of_the_service_is_known_after_an_answer() {
    let azurite = Azurite::start();
    let proxy = Proxy::before(azurite.port());
    let storage = azure(&settings(&format!("http://127.0.0.1:{}/{ACCOUNT}", proxy.port())), "box", "");
    assert_eq!(storage.clock_offset_seconds(), None);
    storage.create().await.expect("created");
    let offset = storage.clock_offset_seconds().expect("an answer had a date");
    assert!(offset.abs() <= 2, "{offset}");
    proxy.plan(Kind::Head, "config", Fault::OldDate, 1);
    storage.size("config").await.expect_err("nothing there");
    assert!(storage.clock_offset_seconds().expect("a date") < -1_000_000);
}
