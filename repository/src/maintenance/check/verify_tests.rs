//! The content of packs: damage in any place, and reads that fail or lie.

use bytes::Bytes;
use proto::id::Id;

use super::lab::*;
use super::*;
use crate::format::index::IndexedPack;
use crate::format::pack::BlobType::{Data, Tree};
use crate::repository::FileKind;
use crate::storage::StorageErrorKind;
use crate::test_random::SeededRandom;
use proto::handles::Random;

/// Bytes that do not compress.
fn noise(length: usize, seed: u64) -> Vec<u8> {
    let mut bytes = vec![0; length];
    SeededRandom::new(seed).fill(&mut bytes);
    bytes
}

/// A pack that is read in three pieces, one of them of one large blob.
async fn large_pack(lab: &Lab) -> IndexedPack {
    let blobs: Vec<Vec<u8>> =
        [5 << 20, 4 << 20, 12 << 20, 100, 3 << 20].iter().zip(0..).map(|(length, seed)| noise(*length, seed)).collect();
    let blobs: Vec<_> = blobs.iter().map(|blob| (Data, &blob[..])).collect();
    let pack = lab.pack(&blobs).await;
    lab.index(std::slice::from_ref(&pack)).await;
    pack
}

#[tokio::test]
async fn a_pack_in_pieces_is_read_once_and_all_of_it() {
    let lab = Lab::empty().await;
    let pack = large_pack(&lab).await;
    let storage = Tampering::new(lab.memory.clone(), |_, _, bytes| Ok(bytes));
    let repository = Lab::open_at(storage.clone()).await;
    let report = check_all(&repository).await;
    assert!(report.is_clean());
    assert_eq!(report.bytes_read, lab.memory.content()[&FileKind::Pack.name(&pack.id)].len() as u64);
    assert_eq!(storage.bytes_read.load(std::sync::atomic::Ordering::Relaxed), report.bytes_read);
    assert_eq!(storage.gets(), 3);
}

#[tokio::test]
async fn damage_in_any_piece_is_found() {
    let lab = Lab::empty().await;
    let pack = large_pack(&lab).await;
    let name = FileKind::Pack.name(&pack.id);
    let length = lab.memory.content()[&name].len();
    let places = pack.blobs.iter().map(|blob| blob.range().end as usize - 1);
    for place in places.chain([length - 50]) {
        let damaged = lab.copy().await;
        damaged.change(&name, |bytes| bytes[place] ^= 1);
        let findings = verify_pack(&damaged.repository, &threads(), &pack.id, &pack.blobs).await.unwrap();
        let kind = if place == length - 50 { FindingKind::PackHeader } else { FindingKind::BlobDamaged };
        let mut expected = [(FindingKind::PackDigest, &*name), (kind, &*name)];
        expected.sort_unstable();
        assert_eq!(short(&findings), expected);
        assert_eq!(findings.len(), 2);
    }
}

#[tokio::test]
async fn a_cut_or_missing_pack_is_unreadable() {
    let lab = Lab::empty().await;
    let pack = large_pack(&lab).await;
    let name = FileKind::Pack.name(&pack.id);
    let length = lab.memory.content()[&name].len();
    for length in [length - 1, length / 2, 10, 0] {
        lab.change(&name, |bytes| bytes.resize(length, 0));
        let findings = verify_pack(&lab.repository, &inline(), &pack.id, &pack.blobs).await.unwrap();
        assert_eq!(short(&findings), [(FindingKind::PackUnreadable, &*name)]);
    }
    lab.memory.tamper(&name, None);
    let findings = verify_pack(&lab.repository, &inline(), &pack.id, &pack.blobs).await.unwrap();
    assert_eq!(short(&findings), [(FindingKind::PackUnreadable, &*name)]);
}

#[tokio::test]
async fn a_pack_under_another_name_has_the_wrong_digest() {
    let lab = Lab::empty().await;
    let pack = large_pack(&lab).await;
    let content = lab.memory.content()[&FileKind::Pack.name(&pack.id)].clone();
    let other = Id::of(b"another");
    let name = FileKind::Pack.name(&other);
    lab.memory.tamper(&name, Some(content));
    let findings = verify_pack(&lab.repository, &inline(), &other, &pack.blobs).await.unwrap();
    assert_eq!(short(&findings), [(FindingKind::PackDigest, &*name)]);
}

#[tokio::test]
async fn an_index_with_gaps_over_a_damaged_header_is_an_end() {
    let lab = Lab::empty().await;
    let pack = large_pack(&lab).await;
    let name = FileKind::Pack.name(&pack.id);
    lab.change(&name, |bytes| {
        let place = bytes.len() - 50;
        bytes[place] ^= 1;
    });
    let findings = verify_pack(&lab.repository, &inline(), &pack.id, &pack.blobs[1..]).await.unwrap();
    let mut expected = [(FindingKind::PackGaps, &*name), (FindingKind::PackHeader, &*name)];
    expected.sort_unstable();
    assert_eq!(short(&findings), expected);
}

#[tokio::test]
async fn blobs_that_are_too_large_to_hold_are_streamed() {
    let lab = Lab::empty().await;
    let zeros = vec![0; 17 << 20];
    let pack = lab.pack(&[(Data, &zeros), (Tree, b"{\"nodes\":[]}\n")]).await;
    let name = FileKind::Pack.name(&pack.id);
    let verify = |blobs| {
        let (lab, pack) = (&lab, &pack);
        async move { verify_pack(&lab.repository, &inline(), &pack.id, blobs).await.unwrap() }
    };
    assert_eq!(verify(&pack.blobs).await, []);
    let mut wrong_length = pack.blobs.clone();
    wrong_length[0].uncompressed_length = Some(18 << 20);
    let findings = verify(&wrong_length).await;
    assert!(findings.iter().any(|finding| finding.detail.contains("17825792 bytes instead of 18874368")));
    let mut wrong_id = pack.blobs.clone();
    wrong_id[0].id = Id::of(b"other");
    let findings = verify(&wrong_id).await;
    let mut expected = [(FindingKind::BlobDamaged, &*name), (FindingKind::PackHeaderDiffers, &*name)];
    expected.sort_unstable();
    assert_eq!(short(&findings), expected);
    assert!(findings.iter().any(|finding| finding.detail.contains("the content has the id")));
}

fn flipped(bytes: &Bytes) -> Bytes {
    let mut flipped = bytes.to_vec();
    flipped[0] ^= 1;
    flipped.into()
}

#[tokio::test]
async fn damage_that_goes_away_is_told_of() {
    let lab = Lab::empty().await;
    let pack = lab.pack(&[(Data, b"x")]).await;
    let storage =
        Tampering::new(lab.memory.clone(), |number, _, bytes| Ok(if number == 0 { flipped(&bytes) } else { bytes }));
    let repository = Lab::open_at(storage).await;
    let findings = verify_pack(&repository, &inline(), &pack.id, &pack.blobs).await.unwrap();
    assert_eq!(short(&findings), [(FindingKind::ReadUnstable, &*FileKind::Pack.name(&pack.id))]);
    assert_eq!(findings[0].severity(), Severity::Error);
    // And a tree that can be read at the second try is read.
    let tree_lab = Lab::empty().await;
    tree_lab.root(b"{\"nodes\":[]}\n").await;
    let storage = Tampering::new(tree_lab.memory.clone(), |number, _, bytes| {
        Ok(if number == 0 { flipped(&bytes) } else { bytes })
    });
    let report = check_structure_only(&Lab::open_at(storage).await).await;
    assert_eq!((report.trees, report.error_count, report.hint_count), (1, 0, 0));
}

#[tokio::test]
async fn a_storage_that_is_away_is_no_damage() {
    for kind in [StorageErrorKind::Unavailable, StorageErrorKind::Unknown] {
        let lab = Lab::empty().await;
        lab.root(b"{\"nodes\":[]}\n").await;
        let storage = Tampering::new(lab.memory.clone(), move |_, _, _| Err(kind));
        let repository = Lab::open_at(storage).await;
        let error = check(&repository, &CheckOptions::default(), &inline(), None).await.unwrap_err();
        assert!(error.is_transient());
        let pack = lab.pack(&[(Data, b"x")]).await;
        let error = verify_pack(&repository, &inline(), &pack.id, &pack.blobs).await.unwrap_err();
        assert!(error.is_transient());
    }
}

#[tokio::test]
async fn a_file_that_cannot_be_read_is_named_and_the_others_are_read() {
    let lab = Lab::empty().await;
    let bad = lab.root(b"{\"nodes\":[]}\n").await;
    lab.root(b"{\"nodes\":[] }\n").await;
    let refused = bad.clone();
    let storage =
        Tampering::new(
            lab.memory.clone(),
            move |_, name, bytes| {
                if name == refused { Err(StorageErrorKind::Permanent) } else { Ok(bytes) }
            },
        );
    let report = check_all(&Lab::open_at(storage).await).await;
    let mut expected = [(FindingKind::TreeUnreadable, &*bad), (FindingKind::PackUnreadable, &*bad)];
    expected.sort_unstable();
    assert_eq!(short(&report.errors), expected);
    assert_eq!((report.trees, report.packs_read), (1, 2));
}

#[tokio::test]
async fn a_check_can_be_spawned() {
    let lab = Lab::empty().await;
    lab.root(b"{\"nodes\":[]}\n").await;
    let (repository, resources) = (lab.repository.clone(), threads());
    let options = CheckOptions { read_data: ReadData::All, ..CheckOptions::default() };
    let checking = tokio::spawn(async move { check(&repository, &options, &resources, None).await });
    assert!(checking.await.unwrap().unwrap().is_clean());
}
