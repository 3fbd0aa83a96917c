//! Damage as a matrix: every kind of file, every kind of damage; and what only looks odd.

use bytes::Bytes;
use proto::id::Id;

use super::lab::*;
use super::*;
use crate::format::index::{IndexedPack, encode_index};
use crate::format::pack::BlobType::{Data, Tree};
use crate::repository::FileKind;
use crate::storage::Storage;
use FindingKind::*;

const A: &[u8] = b"the first piece of a file";
const B: &[u8] = b"the second piece";

/// Two files in two directories, their three packs, one index, one snapshot, one lock.
struct Whole {
    lab: Lab,
    data: IndexedPack,
    inner: IndexedPack,
    outer: IndexedPack,
    index: String,
    snapshot: String,
}

impl Whole {
    async fn new() -> Self {
        let lab = Lab::empty().await;
        let inner_tree = tree(&[file("a", &[A, B]), file("empty", &[])]);
        let outer_tree = tree(&[directory("sub", &inner_tree), file("top", &[B])]);
        let data = lab.pack(&[(Data, A), (Data, B)]).await;
        let inner = lab.pack(&[(Tree, &inner_tree)]).await;
        let outer = lab.pack(&[(Tree, &outer_tree)]).await;
        let index = lab.index(&[data.clone(), inner.clone(), outer.clone()]).await;
        let snapshot = lab.snapshot(Id::of(&outer_tree)).await;
        lab.repository.save_file(FileKind::Lock, b"{}").await.unwrap();
        Self { lab, data, inner, outer, index, snapshot }
    }

    /// With other index files.
    async fn with_indexes(indexes: impl Fn(&Self) -> Vec<Vec<IndexedPack>>) -> Self {
        let mut whole = Self::new().await;
        whole.lab.memory.tamper(&whole.index, None);
        for packs in indexes(&whole) {
            whole.index = whole.lab.index(&packs).await;
        }
        whole
    }
}

fn name(pack: &IndexedPack) -> String {
    FileKind::Pack.name(&pack.id)
}

/// Checks and compares the findings, each once.
async fn expect(lab: &Lab, errors: &[(FindingKind, &str)], hints: &[(FindingKind, &str)]) {
    let report = check_all(&lab.repository).await;
    let sorted = |expected: &[(FindingKind, &str)]| {
        let mut expected: Vec<(FindingKind, String)> =
            expected.iter().map(|(kind, file)| (*kind, (*file).to_owned())).collect();
        expected.sort_unstable();
        expected
    };
    let found =
        |findings: &[Finding]| short(findings).into_iter().map(|(kind, file)| (kind, file.to_owned())).collect();
    let (actual_errors, actual_hints): (Vec<_>, Vec<_>) = (found(&report.errors), found(&report.hints));
    assert_eq!(actual_errors, sorted(errors), "{:#?}", report.errors);
    assert_eq!(actual_hints, sorted(hints), "{:#?}", report.hints);
    assert_eq!(report.is_clean(), errors.is_empty());
}

#[tokio::test]
async fn a_whole_repository_is_clean_and_counted() {
    let whole = Whole::new().await;
    expect(&whole.lab, &[], &[]).await;
    let report = check_all(&whole.lab.repository).await;
    let content = whole.lab.memory.content();
    let bytes_read = whole.lab.names("data/").iter().map(|name| content[name].len() as u64).sum();
    let expected = CheckReport {
        snapshots: 1,
        index_files: 1,
        packs: 3,
        blobs: 4,
        trees: 2,
        nodes: 4,
        packs_read: 3,
        bytes_read,
        ..CheckReport::default()
    };
    assert_eq!(report, expected);
}

#[tokio::test]
async fn what_restic_wrote_is_clean() {
    for (name, trees) in [("restic-0.19.1-v1", 2), ("restic-0.19.1-v2", 2)] {
        let lab = Lab::of_testdata(name).await;
        expect(&lab, &[], &[]).await;
        assert!(check_all(&lab.repository).await.trees >= trees);
    }
}

#[tokio::test]
async fn a_flipped_bit_anywhere_names_its_file() {
    for fixture in ["restic-0.19.1-v1", "restic-0.19.1-v2"] {
        let whole = Lab::of_testdata(fixture).await;
        whole.repository.save_file(FileKind::Lock, b"{}").await.unwrap();
        for (name, bytes) in whole.memory.content() {
            let from_end = [bytes.len() / 2, 40, 4, 1].map(|length| bytes.len().saturating_sub(length));
            let places = [0, 1, bytes.len().min(40)].into_iter().chain(from_end).filter(|place| *place < bytes.len());
            // Without its configuration a repository does not open.
            for place in places.filter(|_| name != "config") {
                let lab = whole.copy().await;
                lab.change(&name, |bytes| bytes[place] ^= 0x10);
                let report = check_all(&lab.repository).await;
                let findings = if name.starts_with("locks/") { &report.hints } else { &report.errors };
                assert!(!findings.is_empty(), "{name} {place}");
                for finding in findings {
                    assert_eq!(finding.file, name, "{place} {finding:?}");
                }
            }
        }
    }
}

#[tokio::test]
async fn a_cut_file_names_itself() {
    let whole = Whole::new().await;
    for (name, bytes) in whole.lab.memory.content() {
        for length in [0, 1, 31, 40, bytes.len() / 2, bytes.len() - 1] {
            if name == "config" || name.starts_with("keys/") || (name.starts_with("locks/") && length == 0) {
                continue;
            }
            let lab = whole.lab.copy().await;
            lab.change(&name, |bytes| bytes.truncate(length));
            let report = check_all(&lab.repository).await;
            let findings = if name.starts_with("locks/") { &report.hints } else { &report.errors };
            assert!(findings.iter().any(|finding| finding.file == name), "{name} {length} {findings:?}");
        }
    }
}

#[tokio::test]
async fn damaged_small_files_are_named() {
    let whole = Whole::new().await;
    let key = format!("keys/{}", Id::of(b"{}"));
    whole.lab.memory.tamper(&key, Some(Bytes::from_static(b"{}")));
    let foreign = br#"{"kdf":"argon2","N":16,"r":1,"p":1,"salt":"","data":""}"#;
    let foreign_key = format!("keys/{}", Id::of(foreign));
    whole.lab.memory.tamper(&foreign_key, Some(Bytes::from_static(foreign)));
    whole.lab.change(&whole.lab.names("locks/")[0], |bytes| bytes[20] ^= 1);
    let lock = whole.lab.names("locks/").remove(0);
    whole.lab.memory.tamper(&format!("locks/{}", Id::of(b"")), Some(Bytes::new()));
    // One with another name, one that does not open, one that is too short for that.
    let [renamed, garbage, short] =
        [Id::of(b"x"), Id::of(&[7; 100]), Id::of(b"short")].map(|id| FileKind::Snapshot.name(&id));
    whole.lab.memory.tamper(&renamed, Some(whole.lab.memory.content()[&whole.snapshot].clone()));
    whole.lab.memory.tamper(&garbage, Some(vec![7; 100].into()));
    whole.lab.memory.tamper(&short, Some(Bytes::from_static(b"short")));
    let id = whole.lab.repository.save_file(FileKind::Snapshot, br#"{"time":"2026-01-01T00:00:00Z"}"#).await.unwrap();
    let treeless = FileKind::Snapshot.name(&id);
    let snapshots = [&renamed, &garbage, &short, &treeless].map(|name| (SnapshotUnreadable, &**name));
    let errors = [&snapshots[..], &[(KeyUnreadable, &key), (KeyUnreadable, &foreign_key)]].concat();
    expect(&whole.lab, &errors, &[(LockUnreadable, &lock)]).await;
}

#[tokio::test]
async fn a_damaged_index_is_named_and_does_not_make_noise() {
    let whole = Whole::new().await;
    let id = whole.lab.repository.save_file(FileKind::Index, b"[]").await.unwrap();
    let too_old = FileKind::Index.name(&id);
    whole.lab.change(&whole.index, |bytes| bytes[50] ^= 1);
    let index = &whole.index;
    expect(&whole.lab, &[(IndexUnreadable, index), (IndexUnreadable, &too_old)], &[]).await;
    assert!(check_all(&whole.lab.repository).await.trees_skipped);
}

#[tokio::test]
async fn an_index_that_is_gone_is_missed_by_the_snapshot() {
    let whole = Whole::new().await;
    whole.lab.memory.tamper(&whole.index, None);
    let packs = [&whole.data, &whole.inner, &whole.outer].map(name);
    let hints: Vec<_> = packs.iter().map(|pack| (PackNotIndexed, &**pack)).collect();
    expect(&whole.lab, &[(TreeMissing, &whole.snapshot)], &hints).await;
}

#[tokio::test]
async fn packs_that_are_gone_are_named() {
    let whole = Whole::new().await;
    whole.lab.memory.tamper(&name(&whole.data), None);
    whole.lab.memory.tamper(&name(&whole.inner), None);
    let [data, inner] = [&whole.data, &whole.inner].map(name);
    expect(&whole.lab, &[(PackMissing, &data), (PackMissing, &inner), (TreeUnreadable, &inner)], &[]).await;
}

#[tokio::test]
async fn a_pack_with_something_behind_it_has_the_wrong_length() {
    let whole = Whole::new().await;
    let data = name(&whole.data);
    whole.lab.change(&data, |bytes| bytes.push(0));
    let report = check_structure_only(&whole.lab.repository).await;
    assert_eq!(short(&report.errors), [(PackLength, &*data)]);
    expect(&whole.lab, &[(PackLength, &data)], &[]).await;
}

#[tokio::test]
async fn packs_that_nobody_names_are_hints() {
    let whole = Whole::new().await;
    let extra = name(&whole.lab.pack(&[(Data, b"not in any index")]).await);
    let garbage = format!("data/ff/ff{}", "0".repeat(62));
    whole.lab.memory.tamper(&garbage, Some(Bytes::from_static(b"garbage")));
    let misplaced = format!("data/some/where/ab{}", "0".repeat(62));
    whole.lab.memory.tamper(&misplaced, Some(Bytes::from_static(b"garbage")));
    let hints = [(PackNotIndexed, &*extra), (PackNotIndexed, &garbage), (PackMisplaced, &misplaced)];
    expect(&whole.lab, &[], &hints).await;
}

#[tokio::test]
async fn foreign_files_are_nobodys_business() {
    let whole = Whole::new().await;
    let id = "0".repeat(64);
    for name in [
        "longshore/jobs/x/submitted",
        "README",
        "data/ab/notes",
        "data/README",
        "index/x",
        "snapshots/y.json",
        "keys/z",
        "locks/tmp",
        "snapshots/sub/x",
        &format!("index/{id}-tmp-1"),
        &format!("foreign/{id}"),
    ] {
        whole.lab.memory.put(name, vec![1].into()).await.unwrap();
    }
    expect(&whole.lab, &[], &[]).await;
}

#[tokio::test]
async fn statements_of_several_indexes_are_compared() {
    let all = |whole: &Whole| vec![whole.data.clone(), whole.inner.clone(), whole.outer.clone()];
    let twice = Whole::with_indexes(|whole| vec![all(whole), vec![whole.data.clone()]]).await;
    let data = name(&twice.data);
    expect(&twice.lab, &[], &[(PackInSeveralIndexes, &data)]).await;

    let split = Whole::with_indexes(|whole| {
        let half =
            |range: std::ops::Range<usize>| IndexedPack { blobs: whole.data.blobs[range].to_vec(), ..whole.data };
        vec![vec![half(0..1), whole.inner.clone(), whole.outer.clone()], vec![half(1..2)]]
    });
    let split = split.await;
    expect(&split.lab, &[(PackSplit, &name(&split.data))], &[]).await;
}

#[tokio::test]
async fn an_index_that_leaves_a_blob_out_is_noticed() {
    let whole = Whole::with_indexes(|whole| {
        let data = IndexedPack { id: whole.data.id, blobs: whole.data.blobs[..1].to_vec() };
        vec![vec![data, whole.inner.clone(), whole.outer.clone()]]
    });
    let whole = whole.await;
    let [data, inner, outer] = [&whole.data, &whole.inner, &whole.outer].map(name);
    let errors = [(PackLength, &*data), (DataMissing, &inner), (DataMissing, &outer)];
    let report = check_structure_only(&whole.lab.repository).await;
    let mut expected = errors.to_vec();
    expected.sort_unstable();
    assert_eq!(short(&report.errors), expected);
    let errors = [&errors[..], &[(PackDigest, &data), (PackHeader, &data)]].concat();
    expect(&whole.lab, &errors, &[]).await;
}

#[tokio::test]
async fn an_index_that_lies_is_noticed_when_the_pack_is_read() {
    type Lie = fn(&mut IndexedPack);
    let lies: [(Lie, &[FindingKind]); 4] = [
        (|pack| pack.blobs[0].uncompressed_length = Some(7), &[BlobDamaged, PackHeaderDiffers]),
        (|pack| pack.blobs[0].uncompressed_length = Some(3 << 30), &[BlobDamaged, PackHeaderDiffers]),
        (
            |pack| {
                pack.blobs[0].length += 1;
                pack.blobs[1].offset += 1;
                pack.blobs[1].length -= 1;
            },
            &[PackHeaderDiffers, BlobDamaged],
        ),
        (|pack| pack.blobs[1].offset += 1, &[PackGaps, PackHeaderDiffers]),
    ];
    for (lie, kinds) in lies {
        let whole = Whole::with_indexes(|whole| {
            let mut data = whole.data.clone();
            lie(&mut data);
            vec![vec![data, whole.inner.clone(), whole.outer.clone()]]
        });
        let whole = whole.await;
        let data = name(&whole.data);
        let errors: Vec<_> = kinds.iter().map(|kind| (*kind, &*data)).collect();
        let report = check_all(&whole.lab.repository).await;
        let mut expected = errors.clone();
        expected.sort_unstable();
        assert_eq!(short(&report.errors), expected, "{:#?}", report.errors);
    }
}

#[tokio::test]
async fn odd_packs_are_hints() {
    let lab = Lab::empty().await;
    let root = tree(&[file("a", &[A])]);
    let mixed = lab.pack(&[(Data, A), (Tree, &root), (Data, B)]).await;
    let name = name(&mixed);
    // The second copy of a blob, in a pack of its own, is nothing to tell of.
    let again = lab.pack(&[(Data, A)]).await;
    lab.index(&[mixed, again]).await;
    lab.snapshot(Id::of(&root)).await;
    expect(&lab, &[], &[(PackMixed, &name)]).await;
}

#[tokio::test]
async fn nodes_must_be_well_formed() {
    let times = r#""mtime":"2026-01-01T00:00:00Z","atime":"2026-01-01T00:00:00Z","ctime":"2026-01-01T00:00:00Z""#;
    let node = |rest: &str| format!("{{{rest},{times},\"uid\":0,\"gid\":0}}");
    let zeros = "0".repeat(64);
    let cases = [
        (node(r#""name":"a","type":"file","content":null"#), Some(NodeContent), None),
        (node(r#""name":"a","type":"file""#), Some(NodeContent), None),
        (node(&format!(r#""name":"a","type":"file","content":["{zeros}"]"#)), Some(DataMissing), None),
        (node(r#""name":"a","type":"dir""#), Some(NodeSubtree), None),
        (node(&format!(r#""name":"a","type":"dir","subtree":"{zeros}""#)), Some(TreeMissing), None),
        (node(r#""name":"a","type":"irregular""#), Some(NodeType), None),
        (node(r#""name":"a","type":"door""#), Some(NodeType), None),
        (node(r#""name":"a""#), Some(NodeType), None),
        (node(r#""name":"","type":"fifo""#), Some(NodeNameEmpty), None),
        (node(r#""name":"a","type":"file","content":["abc"]"#), Some(TreeMalformed), None),
        (node(r#""name":7,"type":"fifo""#), Some(TreeMalformed), None),
        (node(r#""name":"../x","type":"fifo""#), None, Some(NodeNameUnsafe)),
        (node(r#""name":"..","type":"fifo""#), None, Some(NodeNameUnsafe)),
        (node(r#""name":"a","type":"file","size":7,"content":[]"#), None, Some(NodeSize)),
        ([node(r#""name":"b","type":"fifo""#), node(r#""name":"a","type":"fifo""#)].join(","), None, Some(NodeOrder)),
        ([node(r#""name":"b","type":"fifo""#), node(r#""name":"b","type":"fifo""#)].join(","), None, Some(NodeOrder)),
        (node(r#""name":"a","type":"socket","content":null"#), None, None),
        (node(r#""name":"a","type":"chardev","new":[{"x":1}]"#), None, None),
    ];
    for (nodes, error, hint) in cases {
        let lab = Lab::empty().await;
        let pack = lab.root(&raw_tree(&nodes)).await;
        let [errors, hints] = [error, hint].map(|kind| kind.map(|kind| (kind, &*pack)));
        expect(&lab, errors.as_slice(), hints.as_slice()).await;
    }
}

#[tokio::test]
async fn what_is_no_tree_is_malformed() {
    for json in [&b"{}"[..], b"[]", b"{\"nodes\":[]", b"{\"nodes\":[{", b"\xff"] {
        let lab = Lab::empty().await;
        let pack = lab.root(json).await;
        expect(&lab, &[(TreeMalformed, &pack)], &[]).await;
    }
    let lab = Lab::empty().await;
    lab.root(b" { \"x\" : [ ] , \"nodes\" : [ ] , \"y\" : 1 } ").await;
    expect(&lab, &[], &[]).await;
}

#[tokio::test]
async fn a_good_copy_saves_a_tree() {
    let whole = Whole::new().await;
    let json = tree(&[file("a", &[A, B]), file("empty", &[])]);
    assert_eq!(whole.inner.blobs[0].id, Id::of(&json));
    let copy = whole.lab.pack(&[(Tree, &json)]).await;
    whole.lab.index(std::slice::from_ref(&copy)).await;
    for (damaged, good) in [(&whole.inner, &copy), (&copy, &whole.inner)] {
        let lab = whole.lab.copy().await;
        let damaged = name(damaged);
        lab.change(&damaged, |bytes| bytes[20] ^= 1);
        let report = check_structure_only(&lab.repository).await;
        assert!(report.is_clean());
        assert_eq!(report.trees, 2);
        let hints = short(&report.hints);
        assert!(hints.is_empty() || hints == [(TreeCopyUnreadable, &*damaged)], "{hints:?}");
        assert!(report.hints.iter().all(|hint| hint.detail.contains(&name(good))));
        let report = check_all(&lab.repository).await;
        assert_eq!(short(&report.errors), [(PackDigest, &*damaged), (BlobDamaged, &*damaged)]);
        lab.memory.tamper(&damaged, None);
        let report = check_structure_only(&lab.repository).await;
        assert_eq!(short(&report.errors), [(PackMissing, &*damaged)]);
        assert_eq!(report.trees, 2);
    }
}

#[tokio::test]
async fn supersedes_and_marked_packs_are_ignored() {
    let whole = Whole::new().await;
    whole.lab.memory.tamper(&whole.index, None);
    let packs = [whole.data.clone(), whole.inner.clone(), whole.outer.clone()];
    let marked = whole.lab.pack(&[(Data, b"marked")]).await;
    let json = String::from_utf8(encode_index(&packs)).unwrap();
    let zeros = "0".repeat(64);
    let extra = format!(r#"{{"supersedes":["{zeros}"],"packs_to_delete":[{{"id":"{}","blobs":[]}}],"#, marked.id);
    let json = json.replacen('{', &extra, 1);
    whole.lab.repository.save_file(FileKind::Index, json.as_bytes()).await.unwrap();
    expect(&whole.lab, &[], &[(PackNotIndexed, &name(&marked))]).await;
}

#[tokio::test]
async fn a_check_tells_what_it_does() {
    let whole = Whole::new().await;
    let extra = name(&whole.lab.pack(&[(Data, b"extra")]).await);
    let (sender, mut receiver) = tokio::sync::mpsc::channel(100);
    let options = CheckOptions { read_data: ReadData::All, reads_at_once: 1 };
    let report = check(&whole.lab.repository, &options, &threads(), Some(sender)).await.unwrap();
    let mut stages = Vec::new();
    let mut found = Vec::new();
    let mut done = 0;
    while let Some(event) = receiver.recv().await {
        match event {
            CheckEvent::Began { stage, total } => stages.push((stage, total)),
            CheckEvent::Advanced { stage: Stage::Data, done: bytes } => done += bytes,
            CheckEvent::Advanced { .. } => {}
            CheckEvent::Found(finding) => found.push(finding),
        }
    }
    let bytes = report.bytes_read;
    let expected = [
        (Stage::Files, Some(3)),
        (Stage::Index, Some(1)),
        (Stage::Packs, Some(3)),
        (Stage::Trees, None),
        (Stage::Data, Some(bytes)),
    ];
    assert_eq!(stages, expected);
    assert_eq!(done, bytes);
    assert_eq!(short(&found), [(PackNotIndexed, &*extra)]);
    assert_eq!(found, report.hints);
}
