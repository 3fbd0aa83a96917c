//! Every tree is read, each once, and in few requests.

use std::collections::HashSet;

use proptest::prelude::*;
use proto::id::Id;

use super::lab::*;
use super::*;
use crate::format::index::IndexedPack;
use crate::format::pack::BlobType::Tree;

/// Trees that refer to earlier ones, numbered from 0; the last stands for the snapshot's.
fn forest(children: &[Vec<usize>]) -> Vec<Vec<u8>> {
    let mut trees: Vec<Vec<u8>> = Vec::new();
    for (number, children) in children.iter().enumerate() {
        let mut nodes = vec![file(&format!("0-{number}"), &[])];
        let mut children: Vec<usize> = children.iter().copied().filter(|child| *child < number).collect();
        children.sort_unstable();
        children.dedup();
        nodes.extend(children.iter().map(|child| directory(&format!("d{child:06}"), &trees[*child])));
        trees.push(tree(&nodes));
    }
    trees
}

/// Packs of trees, in the order of `places`, some of them twice.
async fn store(lab: &Lab, trees: &[Vec<u8>], places: &[(usize, usize)]) -> Vec<IndexedPack> {
    let mut packs = Vec::new();
    let packs_count = places.iter().map(|(pack, _)| pack + 1).max().unwrap_or(0);
    for number in 0..packs_count {
        let blobs: Vec<_> =
            places.iter().filter(|(pack, _)| *pack == number).map(|(_, tree)| (Tree, &trees[*tree][..])).collect();
        if !blobs.is_empty() {
            packs.push(lab.pack(&blobs).await);
        }
    }
    packs
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]
    #[test]
    fn every_tree_below_a_root_is_read_once(
        children in prop::collection::vec(prop::collection::vec(0..30usize, 0..4), 1..30),
        packs in prop::collection::vec(0..4usize, 30),
        copies in prop::collection::vec((0..4usize, 0..30usize), 0..5),
        roots in prop::collection::vec(0..30usize, 1..4),
        order in any::<bool>(),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let trees = forest(&children);
            let mut places: Vec<(usize, usize)> = (0..trees.len()).map(|tree| (packs[tree], tree)).collect();
            if order {
                places.reverse();
            }
            places.extend(copies.iter().filter(|(_, tree)| *tree < trees.len()));
            let lab = Lab::empty().await;
            let packs = store(&lab, &trees, &places).await;
            lab.index(&packs).await;
            let mut reached: Vec<usize> = Vec::new();
            for root in roots.iter().map(|root| root % trees.len()) {
                lab.snapshot(Id::of(&trees[root])).await;
                reached.push(root);
            }
            let mut expected = HashSet::new();
            while let Some(tree) = reached.pop() {
                if expected.insert(tree) {
                    reached.extend(children[tree].iter().filter(|child| **child < tree));
                }
            }
            let report = check_structure_only(&lab.repository).await;
            assert!(report.is_clean(), "{:?}", report.errors);
            assert_eq!(report.trees, expected.len() as u64);
            assert_eq!(report.hints, []);
        });
    }
}

#[tokio::test]
async fn trees_that_stand_together_are_read_together() {
    let lab = Lab::empty().await;
    // 1,000 directories below each other.
    let children: Vec<Vec<usize>> = (0..1_000usize).map(|number| number.checked_sub(1).into_iter().collect()).collect();
    let trees = forest(&children);
    let places: Vec<_> = (0..trees.len()).map(|tree| (0, tree)).collect();
    let packs = store(&lab, &trees, &places).await;
    lab.index(&packs).await;
    lab.snapshot(Id::of(&trees[999])).await;
    let storage = Tampering::new(lab.memory.clone(), |_, _, bytes| Ok(bytes));
    let report = check_structure_only(&Lab::open_at(storage.clone()).await).await;
    assert_eq!((report.trees, report.nodes), (1_000, 1_999));
    assert!(report.is_clean());
    assert_eq!(storage.gets(), 1);
}

#[tokio::test]
async fn what_no_snapshot_needs_is_not_read() {
    let lab = Lab::empty().await;
    let trees = forest(&[vec![], vec![]]);
    let packs = store(&lab, &trees, &[(0, 0), (1, 1)]).await;
    lab.index(&packs).await;
    lab.snapshot(Id::of(&trees[0])).await;
    let storage = Tampering::new(lab.memory.clone(), |_, _, bytes| Ok(bytes));
    let report = check_structure_only(&Lab::open_at(storage.clone()).await).await;
    assert_eq!((report.trees, storage.gets()), (1, 1));
}

#[tokio::test]
async fn a_tree_too_large_to_hold_is_streamed() {
    let nodes: Vec<_> = (0..40_000).map(|number| file(&format!("{number:08}"), &[])).collect();
    let json = tree(&nodes);
    assert!(json.len() > 5 << 20);
    let lab = Lab::empty().await;
    let pack = lab.root(&json).await;
    let report = check_structure_only(&lab.repository).await;
    assert_eq!((report.trees, report.nodes, report.error_count), (1, 40_000, 0));
    lab.change(&pack, |bytes| bytes[1_000] ^= 1);
    let report = check_structure_only(&lab.repository).await;
    assert_eq!(short(&report.errors), [(FindingKind::TreeUnreadable, &*pack)]);
    // And one that breaks off behind what is held.
    let lab = Lab::empty().await;
    let pack = lab.root(&json[..json.len() - 1_000]).await;
    let report = check_structure_only(&lab.repository).await;
    assert_eq!(short(&report.errors), [(FindingKind::TreeMalformed, &*pack)]);
    assert_eq!(report.trees, 1);
}

#[tokio::test]
async fn a_window_that_is_cut_off_costs_only_what_is_gone() {
    let lab = Lab::empty().await;
    let trees = forest(&[vec![], vec![], vec![0, 1]]);
    let packs = store(&lab, &trees, &[(0, 0), (0, 2), (0, 1)]).await;
    lab.index(&packs).await;
    lab.snapshot(Id::of(&trees[2])).await;
    let name = crate::repository::FileKind::Pack.name(&packs[0].id);
    let cut = packs[0].blobs[2].range().end as usize - 1;
    lab.change(&name, |bytes| bytes.truncate(cut));
    let report = check_structure_only(&lab.repository).await;
    let mut expected = [(FindingKind::PackLength, &*name), (FindingKind::TreeUnreadable, &*name)];
    expected.sort_unstable();
    assert_eq!(short(&report.errors), expected);
    assert_eq!(report.trees, 2);
}
