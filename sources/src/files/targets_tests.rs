//! Tests of `targets`.

use std::os::unix::fs::symlink;
use std::sync::Arc;

use super::super::exclude::ExcludeRules;
use super::super::stock_restic::StockRestic;
use super::*;
use crate::generated::{Change, Content, GeneratedSource, GeneratedTree, Trouble};
use crate::source::SourceErrorKind;

/// Files, links and names that also exist in the file system's root.
fn stock() -> StockRestic {
    let stock = StockRestic::new();
    let base = stock.base();
    for directory in ["cwd/d/sub", "cwd/tmp", "cwd/tmp-1", "cwd/.hidden", "other/x", "cwd/own"] {
        std::fs::create_dir_all(base.join(directory)).unwrap();
    }
    for file in ["cwd/f", "cwd/d/x", "cwd/d/y", "cwd/d/sub/z", "cwd/tmp/a", "cwd/tmp-1/b", "other/x/p", "other/o"] {
        std::fs::write(base.join(file), "x").unwrap();
    }
    symlink("d", base.join("cwd/lnk")).unwrap();
    symlink(base.join("other"), base.join("cwd/lnkabs")).unwrap();
    symlink("lnk/sub/../../lnkabs/x", base.join("cwd/chain")).unwrap();
    symlink("nowhere", base.join("cwd/broken")).unwrap();
    symlink("cwd", base.join("cwdlink")).unwrap();
    stock
}

fn compare_all(shapes: &[(&str, &[&str])]) {
    let stock = stock();
    for (current_directory, arguments) in shapes {
        stock.compare(current_directory, arguments, &[], &ExcludeRules::default());
    }
}

#[test]
fn relative_targets_as_stock_restic() {
    compare_all(&[
        ("cwd", &["."]),
        ("cwd", &["./d/"]),
        ("cwd/d", &[".."]),
        ("cwd", &["d/..", "f"]),
        ("cwd", &["../other/x"]),
        ("cwd/d/sub", &["../../../other/x", "../x", "z"]),
        ("cwd", &["d/sub/../x"]),
        ("cwd", &[".", "d"]),
        ("cwd", &["d", "."]),
    ]);
}

#[test]
fn nested_and_repeated_targets_as_stock_restic() {
    compare_all(&[
        ("cwd", &["d/sub", "d"]),
        ("cwd", &["d", "d/sub/z"]),
        ("cwd", &["d", "d", "./d", "d/"]),
        ("cwd", &["d/sub/z", "d/x", "f"]),
        ("cwd", &["@/cwd/d", "@//cwd/./d/sub"]),
        ("cwd", &["lnk", "lnk/sub"]),
        ("cwd", &["lnk/sub", "d/x"]),
        ("cwd", &["lnk/sub/z", "lnk"]),
    ]);
}

#[test]
fn links_as_stock_restic() {
    compare_all(&[
        ("cwd", &["lnk"]),
        ("cwd", &["lnk/"]),
        ("cwd", &["lnk/sub"]),
        ("cwd", &["lnkabs/x/p", "lnkabs/o"]),
        ("cwd", &["chain/p"]),
        ("cwd", &["broken"]),
        ("cwdlink", &["d", "../other/o"]),
        ("cwdlink", &["."]),
        ("cwd", &["@/cwdlink/lnk/x"]),
    ]);
}

#[test]
fn missing_and_colliding_targets_as_stock_restic() {
    compare_all(&[
        ("cwd", &["missing", "d"]),
        ("cwd", &["missing"]),
        ("cwd", &["f/", "f/x", "broken/", "", "f"]),
        ("cwd", &["lnkabs/../other/o", "f"]),
        ("cwd", &["tmp", "@/other/o"]),
        ("cwd", &["@/other/o", "tmp"]),
        ("cwd", &["@/cwd/d/x", "tmp/a", "@/other/x"]),
        ("cwd/d", &["../tmp", "@/cwd/f", "x", "../tmp/a", "@/other"]),
    ]);
}

fn source() -> (Arc<GeneratedTree>, GeneratedSource) {
    let tree = Arc::new(GeneratedTree::new());
    for directory in ["/home/x/tmp", "/home/x/tmp-1", "/tmp"] {
        tree.directory(directory);
        tree.file(&format!("{directory}/f"), Content::empty());
    }
    (tree.clone(), GeneratedSource::new(tree))
}

fn arguments(arguments: &[&str]) -> Vec<Vec<u8>> {
    arguments.iter().map(|argument| argument.as_bytes().to_vec()).collect()
}

fn names(nodes: &[TargetNode]) -> Vec<String> {
    nodes.iter().map(|node| String::from_utf8_lossy(&node.name).into_owned()).collect()
}

#[test]
fn no_target_is_lost_to_the_suffix_of_another() {
    let (_, source) = source();
    let targets = resolve(&source, &arguments(&["/tmp", "tmp-1", "tmp"]), b"/home/x").unwrap();
    assert_eq!(names(&targets.tree.entries), ["tmp", "tmp-1", "tmp-2"]);
    let paths: Vec<_> = targets.roots.iter().map(|root| String::from_utf8_lossy(&root.real_path)).collect();
    assert_eq!(paths, ["/tmp", "/home/x/tmp-1", "/home/x/tmp"]);
}

#[test]
fn nothing_there_is_an_error_and_a_loop_ends() {
    let (tree, source) = source();
    tree.symlink("/loop", "loop/x");
    let error = resolve(&source, &arguments(&["/none", "/loop/x"]), b"/").unwrap_err();
    let TargetError::NothingThere { problems } = error else { panic!("{error:?}") };
    assert_eq!(
        problems.iter().map(|problem| problem.kind).collect::<Vec<_>>(),
        [SourceErrorKind::Vanished, SourceErrorKind::Unreadable]
    );
    assert!(matches!(resolve(&source, &[], b"/"), Err(TargetError::NothingThere { .. })));
    assert!(matches!(resolve(&source, &arguments(&["."]), b"/none"), Err(TargetError::CurrentDirectory(_))));
    tree.apply(Change::Trouble("/tmp".into(), Some(Trouble::Denied)));
    assert!(matches!(resolve(&source, &arguments(&["."]), b"/tmp"), Err(TargetError::Expand(_))));
}

#[test]
fn below_a_root_only_its_ancestors_are_looked_at() {
    let tree = Arc::new(GeneratedTree::new());
    tree.directory("/mnt/real/data/d");
    tree.symlink("/mnt/real/data/out", "/etc");
    tree.symlink("/srv", "/mnt/real");
    tree.directory("/etc/x");
    // The ancestor /srv of the root is a link; the root is where the configuration says.
    let source = GeneratedSource::on_host(tree, vec![b"/mnt/real/data".to_vec()], 0);
    let targets =
        resolve(&source, &arguments(&["/mnt/real/data/d", "/mnt/real/data/out/x", "/srv/data"]), b"/").unwrap();
    assert_eq!(targets.snapshot_paths, [b"/mnt/real/data/d"]);
    assert_eq!(
        targets.problems.iter().map(|problem| problem.kind).collect::<Vec<_>>(),
        [SourceErrorKind::NotAllowed, SourceErrorKind::NotAllowed]
    );
}

#[test]
fn the_tree_travels() {
    let (_, source) = source();
    let targets = resolve(&source, &arguments(&["/home/x/tmp/f", "/tmp"]), b"/").unwrap();
    let text = serde_json::to_vec(&targets.tree).unwrap();
    assert_eq!(serde_json::from_slice::<TargetTree>(&text).unwrap(), targets.tree);
}
