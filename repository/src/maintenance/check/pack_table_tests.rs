//! Tests of `pack_table`.

use proptest::prelude::*;

use super::*;

fn id(number: u64) -> Id {
    Id::of(&number.to_le_bytes())
}

/// A pack of blobs that lie one behind the other.
fn pack(number: u64, blobs: &[(BlobType, u64)]) -> IndexedPack {
    let blob = |(place, &(kind, blob)): (usize, &(BlobType, u64))| PackEntry {
        kind,
        id: id(blob),
        offset: place as u32 * 100,
        length: 100,
        uncompressed_length: Some(7),
    };
    IndexedPack { id: id(number), blobs: blobs.iter().enumerate().map(blob).collect() }
}

fn table(files: &[&[IndexedPack]]) -> (PackTable, Vec<(FindingKind, String)>) {
    let mut builder = PackTableBuilder::default();
    for (number, packs) in files.iter().enumerate() {
        builder.add(id(1_000 + number as u64), packs.to_vec());
    }
    let (table, findings) = builder.finish();
    (table, findings.into_iter().map(|finding| (finding.kind, finding.file)).collect())
}

use BlobType::{Data, Tree};

#[test]
fn one_statement_is_the_truth() {
    let (table, findings) = table(&[&[pack(1, &[(Data, 10), (Data, 11)])], &[pack(2, &[(Tree, 10)]), pack(3, &[])]]);
    assert_eq!(findings, []);
    assert_eq!(table.packs().len(), 2);
    assert_eq!(table.blob_count(), 3);
    assert_eq!(table.entries_of(&id(1)), pack(1, &[(Data, 10), (Data, 11)]).blobs);
    assert_eq!(table.entries_of(&id(3)), []);
    assert_eq!(table.packs().iter().find(|row| row.id == id(1)).unwrap().length, 2 * (100 + 41) + 36);
    let found: Vec<u32> = table.find(Tree, &id(10)).collect();
    assert_eq!(found.len(), 1);
    assert_eq!(table.pack_at(found[0]).id, id(2));
    assert_eq!(table.find(Tree, &id(11)).count(), 0);
}

#[test]
fn the_same_said_twice_is_a_hint() {
    let one = pack(1, &[(Data, 10), (Data, 11)]);
    let mut shuffled = one.clone();
    shuffled.blobs.reverse();
    let (table, findings) = table(&[std::slice::from_ref(&one), &[shuffled]]);
    assert_eq!(findings, [(FindingKind::PackInSeveralIndexes, FileKind::Pack.name(&id(1)))]);
    assert_eq!(table.entries_of(&id(1)), one.blobs);
    assert_eq!(table.find(Data, &id(10)).count(), 1);
}

#[test]
fn twice_in_one_file_is_nothing() {
    let one = pack(1, &[(Data, 10), (Data, 11)]);
    let [mut first, mut second] = [one.clone(), one.clone()];
    first.blobs.truncate(1);
    second.blobs.remove(0);
    let (table, findings) = table(&[&[first, pack(2, &[(Data, 12)]), second]]);
    assert_eq!(findings, []);
    assert_eq!(table.entries_of(&id(1)), one.blobs);
    assert_eq!(table.blob_count(), 3);
}

#[test]
fn halves_in_two_files_are_an_error_and_make_a_whole() {
    let one = pack(1, &[(Data, 10), (Tree, 11)]);
    let [mut first, mut second] = [one.clone(), one.clone()];
    first.blobs.truncate(1);
    second.blobs.remove(0);
    let (table, findings) = table(&[&[first], &[second]]);
    let name = FileKind::Pack.name(&id(1));
    assert_eq!(findings, [(FindingKind::PackSplit, name.clone()), (FindingKind::PackMixed, name)]);
    assert_eq!(table.entries_of(&id(1)), one.blobs);
    assert_eq!(table.pack_at(table.find(Tree, &id(11)).next().unwrap()).id, id(1));
}

proptest! {
    #[test]
    fn every_copy_is_found(
        packs in prop::collection::vec(prop::collection::vec((any::<bool>(), 0..20u64), 0..6), 0..30),
    ) {
        let packs: Vec<IndexedPack> = packs.iter().enumerate().map(|(number, blobs)| {
            let blobs: Vec<_> = blobs.iter().map(|&(tree, blob)| (if tree { Tree } else { Data }, blob)).collect();
            pack(number as u64, &blobs)
        }).collect();
        let (table, _) = table(&[&packs]);
        for kind in [Data, Tree] {
            for blob in 0..21 {
                let mut found: Vec<(Id, PackEntry)> = table
                    .find(kind, &id(blob))
                    .map(|position| (table.pack_at(position).id, *table.entry(position)))
                    .collect();
                found.sort_by_key(|(pack, entry)| (*pack, entry.offset));
                let of_pack = |pack: &IndexedPack| {
                    let id = pack.id;
                    pack.blobs.clone().into_iter().map(move |entry| (id, entry))
                };
                let mut expected: Vec<(Id, PackEntry)> =
                    packs.iter().flat_map(of_pack).filter(|(_, entry)| entry.kind == kind && entry.id == id(blob)).collect();
                expected.sort_by_key(|(pack, entry)| (*pack, entry.offset));
                prop_assert_eq!(found, expected);
            }
        }
    }
}
