//! Tests of `exclude`.

use std::process::Command;
use std::sync::Arc;

use super::super::pattern_file;
use super::super::stock_restic::StockRestic;
use super::*;
use crate::generated::{Change, Content, GeneratedSource, GeneratedTree, Trouble};
use crate::patterns::Patterns;

fn patterns(texts: &[&str]) -> Vec<Vec<u8>> {
    texts.iter().map(|text| text.as_bytes().to_vec()).collect()
}

fn stock() -> StockRestic {
    let stock = StockRestic::new();
    let base = stock.base();
    for directory in ["src/a/b/c", "src/cache/deep", "src/tagged", "src/Ärger", "src/[x]"] {
        std::fs::create_dir_all(base.join(directory)).unwrap();
    }
    for file in [
        "src/one.o",
        "src/one.c",
        "src/a/two.o",
        "src/a/b/keep.o",
        "src/a/b/c/three.O",
        "src/cache/x",
        "src/cache/deep/y",
        "src/tagged/x",
        "src/Ärger/ö.txt",
        "src/[x]/*",
        "src/$money",
        "src/a b",
    ] {
        std::fs::write(base.join(file), "x").unwrap();
    }
    std::fs::write(base.join("src/large"), vec![0; 1025]).unwrap();
    std::fs::write(base.join("src/cache/CACHEDIR.TAG"), "Signature: 8a477f597d28d172789f06886806bc55\n").unwrap();
    std::fs::write(base.join("src/a/CACHEDIR.TAG"), "Signature: 8a477f597d28d172789f").unwrap();
    std::fs::write(base.join("src/tagged/.nobackup"), "head and more").unwrap();
    std::os::unix::fs::symlink("../tagged/.nobackup", base.join("src/Ärger/.nobackup")).unwrap();
    stock
}

#[test]
fn patterns_as_stock_restic() {
    let stock = stock();
    let cases: &[&[&str]] = &[
        &["*.o", "!**/keep.o"],
        &["src/a/*", "!src/a/b"],
        &["src/**/c", "cache/deep/"],
        &["[a-b]", "[[]x]", "?rger"],
        &["src"],
        &["!src/a", "**/b/**/*.O", "\\$money", "a b"],
    ];
    for case in cases {
        let options: Vec<String> = case.iter().map(|pattern| format!("--exclude={pattern}")).collect();
        let options: Vec<&str> = options.iter().map(String::as_str).collect();
        let rules = ExcludeRules { patterns: patterns(case), ..ExcludeRules::default() };
        stock.compare(".", &["src"], &options, &rules);
    }
    // What was found by expanding `.` is subject to the patterns, what was named is not.
    let rules = ExcludeRules { patterns: patterns(&["a", "one.*"]), ..ExcludeRules::default() };
    stock.compare("src", &["."], &["--exclude=a", "--exclude=one.*"], &rules);
    stock.compare("src", &["a", "one.o", "cache"], &["--exclude=a", "--exclude=one.*"], &rules);
}

#[test]
fn other_options_as_stock_restic() {
    let stock = stock();
    let rules = ExcludeRules { insensitive_patterns: patterns(&["*.O", "ÄRGER/*.TXT"]), ..ExcludeRules::default() };
    stock.compare(".", &["src"], &["--iexclude=*.O", "--iexclude=ÄRGER/*.TXT"], &rules);

    let rules = ExcludeRules { tag_files: vec![TagFile::cache()], ..ExcludeRules::default() };
    stock.compare(".", &["src"], &["--exclude-caches"], &rules);
    stock.compare("src/cache", &["."], &["--exclude-caches"], &rules);
    stock.compare("src/cache", &["deep", "x"], &["--exclude-caches"], &rules);

    let tag_files = vec![TagFile::parse(b".nobackup:head").unwrap(), TagFile::parse(b"CACHEDIR.TAG").unwrap()];
    let rules = ExcludeRules { tag_files, larger_than: Some(parse_size("1k").unwrap()), ..ExcludeRules::default() };
    let options =
        ["--exclude-if-present=.nobackup:head", "--exclude-if-present=CACHEDIR.TAG", "--exclude-larger-than=1k"];
    stock.compare(".", &["src"], &options, &rules);
}

#[test]
fn pattern_files_as_stock_restic() {
    let stock = stock();
    let contents = b"\xef\xbb\xbf# comment\n\n  *.o  \r\n$LONGSHORE_UNSET_VARIABLE\nsrc/a$$b\n\\$$money\n${LONGSHORE_UNSET_VARIABLE}cache\n!one.o";
    std::fs::write(stock.base().join("patterns"), contents).unwrap();
    let rules = ExcludeRules {
        patterns: pattern_file::parse(contents, pattern_file::process_variable),
        insensitive_patterns: pattern_file::parse(b"A B\nLARGE", pattern_file::process_variable),
        ..ExcludeRules::default()
    };
    std::fs::write(stock.base().join("insensitive"), "A B\nLARGE").unwrap();
    stock.compare(".", &["src"], &["--exclude-file=patterns", "--iexclude-file=insensitive"], &rules);
}

#[test]
fn one_file_system_as_stock_restic() {
    let program = std::env::current_exe().unwrap();
    let name = "files::exclude::tests::one_file_system_as_stock_restic_inside";
    let output = Command::new("unshare")
        .args(["--mount", "--"])
        .arg(program)
        .env("SOURCES_TEST_INSIDE", "1")
        .args(["--exact", "--nocapture", name])
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.contains("1 passed"), "{text}{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
// Does its work only when `one_file_system_as_stock_restic` runs it, which gives it a mount namespace of its own.
fn one_file_system_as_stock_restic_inside() {
    if std::env::var_os("SOURCES_TEST_INSIDE").is_none() {
        return;
    }
    let stock = stock();
    let base = stock.base();
    let mount = |arguments: &[&str]| {
        assert!(Command::new("mount").args(arguments).current_dir(&base).status().unwrap().success())
    };
    mount(&["-t", "tmpfs", "none", "src/a/b"]);
    std::fs::create_dir_all(base.join("src/a/b/inner/back")).unwrap();
    std::fs::write(base.join("src/a/b/inner/f"), "x").unwrap();
    std::fs::write(base.join("file"), "x").unwrap();
    std::fs::write(base.join("src/a/b/onto"), "x").unwrap();
    mount(&["--bind", "src/cache", "src/a/b/inner/back"]);
    std::fs::create_dir(base.join("src/a/b/near")).unwrap();
    mount(&["--bind", "src/tagged", "src/a/b/near"]);
    mount(&["--bind", "file", "src/a/b/onto"]);
    let rules = ExcludeRules { one_file_system: true, ..ExcludeRules::default() };
    for arguments in [&["src"][..], &["src/a/b"], &["src", "src/a/b/inner"], &["src/a/b/inner/f", "src/a"]] {
        stock.compare(".", arguments, &["--one-file-system"], &rules);
    }
    stock.compare("src/a", &["."], &["--one-file-system"], &rules);
}

#[test]
fn sizes_as_restic_reads_them() {
    for (argument, expected) in
        [("0", 0), ("123", 123), ("7b", 7), ("2K", 2048), ("3m", 3 << 20), ("1G", 1 << 30), ("1t", 1 << 40), ("+5", 5)]
    {
        assert_eq!(parse_size(argument), Ok(expected));
    }
    for argument in ["", "k", "1kb", "-1", "1.5m", "9999999999t", "99999999999999999999", " 1", "1 k"] {
        assert!(parse_size(argument).is_err(), "{argument}");
    }
}

#[test]
fn usage_errors_name_what_is_wrong() {
    let rules = ExcludeRules { patterns: patterns(&["ok", "[", "a["]), ..ExcludeRules::default() };
    let error = Excludes::compile(&rules, Vec::new()).unwrap_err();
    assert_eq!(error.to_string(), "invalid pattern(s): [, a[");
    assert!(matches!(TagFile::parse(b":header"), Err(ExcludeError::NoTagName { .. })));
    assert!(matches!(TagFile::parse(b""), Err(ExcludeError::NoTagName { .. })));
}

#[test]
fn bad_tag_files_warn_and_exclude_nothing() {
    let tree = Arc::new(GeneratedTree::new());
    for (directory, content) in
        [("/short", "sig"), ("/other", "signature!"), ("/good", "signaturX and more"), ("/denied", "")]
    {
        tree.directory(directory);
        tree.file(&format!("{directory}/tag"), Content::literal(content.as_bytes()));
    }
    tree.directory("/loop");
    tree.symlink("/loop/tag", "tag");
    tree.directory("/nothing");
    tree.apply(Change::Trouble("/denied/tag".into(), Some(Trouble::Denied)));
    let source = GeneratedSource::new(tree);
    let rules = ExcludeRules { tag_files: vec![TagFile::parse(b"tag:signaturX").unwrap()], ..ExcludeRules::default() };
    let excludes = Excludes::compile(&rules, Vec::new()).unwrap();
    for (directory, rejects, warnings) in [
        ("/short", false, 1),
        ("/other", false, 1),
        ("/good", true, 0),
        ("/denied", false, 1),
        ("/loop", false, 1),
        ("/nothing", false, 0),
    ] {
        let tags = excludes.inspect_directory(&source, directory.as_bytes());
        assert_eq!((tags.rejects(b"x"), tags.warnings.len()), (rejects, warnings), "{directory} {:?}", tags.warnings);
        assert!(!tags.rejects(b"tag"));
    }
}

#[test]
fn rules_travel() {
    let rules = ExcludeRules {
        patterns: vec![b"\xff".to_vec(), b"a".to_vec()],
        tag_files: vec![TagFile::cache()],
        larger_than: Some(7),
        one_file_system: true,
        ..ExcludeRules::default()
    };
    let text = serde_json::to_vec(&rules).unwrap();
    assert_eq!(serde_json::from_slice::<ExcludeRules>(&text).unwrap(), rules);
    assert!(Patterns::compile(&rules.patterns, false).is_ok());
}
