//! The tables were written from stock restic's behaviour; where restic answers for itself, see
//! `files::exclude` tests.

use proptest::prelude::*;

use super::*;

fn one(pattern: &str, path: &str) -> bool {
    Patterns::compile(&[pattern], false).unwrap().matches(path.as_bytes())
}

#[test]
fn one_pattern_against_one_path() {
    for (pattern, path, expected) in [
        ("*.go", "/foo/bar/test.go", true),
        ("*.c", "/foo/bar/test.go", false),
        ("*", "/foo", true),
        ("**", "/foo/bar/test.go", true),
        ("/", "/foo", true),
        ("/**", "/foo", true),
        ("foo*", "/foo/bar/test.go", true),
        ("/bar*", "/foo/bar/test.go", false),
        ("bar/*", "/foo/bar/test.go", true),
        ("baz/*", "/foo/bar/test.go", false),
        ("bar/test.go", "/foo/bar/test.go", true),
        ("tesT.*", "/foo/bar/test.go", false),
        ("/foo/bar/", "/foo/bar", true),
        ("/foo///bar", "/foo/bar", true),
        ("/foo/../bar", "/bar", true),
        ("/foo", "/foo/baz", true),
        ("/foo/*", "/foo", false),
        ("/foo/**", "/foo", true),
        ("/foo/*test.*", "/foo/bar/test.go", false),
        ("/foo/*/test.*", "/foo/bar/test.go", true),
        ("/*/*/bar/test.*", "/foo/bar/test.go", false),
        ("/*/*/baz/test.*", "/foo/bar/baz/test.go", true),
        ("sdk", "/foo/bar/sdk/test/sdk_foo.go", true),
        ("sdk/*/cpp/*/*vars*.html", "/usr/share/doc/libreoffice/sdk/docs/cpp/ref/a00517.html", false),
        ("foo/**/bar/*.go", "/data/user/foo/pier/special/project/bar/test.go", true),
        ("foo/**/bar/*.go", "/data/user/foo/bar/test.go", true),
        ("foo/**/bar/*.go", "/foo/bar/baz/bar/test.go", true),
        ("foo/**/bar/*.go", "/data/user/foo/test.c", false),
        ("foo/**/bar/*.go", "/bar/foo/main.go", false),
        ("foo/**/bar/**/x", "/data/user/foo/blaaa/blaz/bar/shared/pier/x", true),
        ("user/**/important*", "/data/user/pier/x/y/hidden/x", false),
        ("user/**/hidden*/**/c", "/data/user/pier/x/y/hidden/z/a/b/c", true),
        (".", "/a", false),
        ("a\\*b", "/a*b", true),
        ("a\\*b", "/axb", false),
        ("[a-c]x", "/bx", true),
        ("[^a-c]x", "/bx", false),
        ("[^a-c]x", "/éx", true),
        ("[é-ü]", "/ö", true),
        ("?", "/ö", true),
        ("??", "/ö", false),
        ("*?", "/ö", true),
        ("[\\]]", "/]", true),
        ("[\\-x]", "/-", true),
        ("a]b", "/a]b", true),
        ("a*b*c", "/axxbxxbc", true),
        ("a*b*c", "/axxbxxbd", false),
    ] {
        assert_eq!(one(pattern, path), expected, "{pattern} {path}");
    }
}

#[test]
fn an_invalid_byte_is_one_rune() {
    let name = b"/\xff";
    assert!(Patterns::compile(&["?"], false).unwrap().matches(name));
    assert!(Patterns::compile(&["[\u{fffd}]"], false).unwrap().matches(name));
    assert!(Patterns::compile(&[b"\xff"], false).unwrap().matches(name));
    assert!(!Patterns::compile(&["??"], false).unwrap().matches(name));
}

#[test]
fn malformed_patterns_are_all_named() {
    let bad = ["[", "a/[/b", "x\\", "[]", "[]a]", "[-a]", "[a-]", "[a", "[^", "[^]]", "**/["];
    let good = ["a]", "[a]", "[^a]", "", "!x"];
    let error = Patterns::compile(&[&bad[..], &good[..]].concat(), false).unwrap_err();
    assert_eq!(error.patterns, bad);
    assert!(Patterns::compile(&[b"[\xff]"], false).is_err());
}

#[test]
fn case_is_ignored_rune_by_rune() {
    let patterns = Patterns::compile(&["/SRV/[A-C]*.JPG", "ÄÖ", "\u{130}x"], true).unwrap();
    assert!(patterns.matches(b"/srv/Bild.jpg"));
    assert!(!patterns.matches(b"/srv/dild.jpg"));
    assert!(patterns.matches("/äö".as_bytes()));
    assert!(patterns.matches(b"/IX"));
}

#[test]
fn later_negated_patterns_take_back() {
    for (patterns, path, is_matched, may_match_below) in [
        (&["*.go"][..], "/foo/bar/test.go", true, true),
        (&["*.go"], "/foo/bar", false, true),
        (&["/*/*/bar/test.*"], "/foo/bar/test.go", false, false),
        (&["/*/*/bar/test.*"], "/foo/bar/bar", false, true),
        (&["!**", "*.go"], "/foo/bar/test.go", true, true),
        (&["!**", "*.c"], "/foo/bar/test.go", false, true),
        (&["/foo/*/test.*", "!*.c"], "/foo/bar/test.c", false, false),
        (&["/foo/*/test.*", "!*.c"], "/foo/bar/test.go", true, true),
        (&["/foo/*/*", "!test.*", "*.c"], "/foo/bar/test.go", false, true),
        (&["/foo/*/*", "!test.*", "*.c"], "/foo/bar/file.go", true, true),
        (&["/**/*", "!/foo", "/foo/*", "!/foo/bar"], "/foo/other/test.go", true, true),
        (&["/**/*", "!/foo", "/foo/*", "!/foo/bar"], "/foo/bar", false, false),
        (&["/**/*", "!/foo", "/foo/*", "!/foo/bar", "/foo/bar/test*"], "/foo/bar/test.go/child", true, true),
        (&["/foo/bar/*", "!/foo/bar/[a-m]*"], "/foo", false, true),
        (&["/foo/**/test.c"], "/foo/bar/foo/bar/test.c", true, true),
        (&["/foo/**/baz"], "/foo/bar/baz/blah", true, true),
        (&["/foo/*/qux"], "/foo/bar/boo", false, false),
        (&["/bar/*"], "/foo", false, false),
        (&["/**/bar"], "/foo", false, true),
        (&["/foo/bar/baz"], "/foo/baz", false, false),
        (&[], "/foo", false, false),
    ] {
        let answer = Patterns::compile(patterns, false).unwrap().look_up(path.as_bytes());
        assert_eq!(answer, PatternMatch { is_matched, may_match_below }, "{patterns:?} {path}");
    }
}

/// The definition that restic's algorithm implements, without its shortcuts: every way to replace `**`
/// by some `*`, every place to start.
fn matches_by_definition(pattern: &Pattern, path: &[&[u8]]) -> bool {
    fn expand(components: &[Component], room: usize) -> Vec<Vec<Component>> {
        let Some((first, rest)) = components.split_first() else { return vec![Vec::new()] };
        let heads: Vec<Vec<Component>> = match first {
            Component::AnyDepth => (0..=room).map(|n| vec![Component::AnyDepth; n]).collect(),
            other => vec![vec![other.clone()]],
        };
        let tails = expand(rest, room);
        heads.iter().flat_map(|head| tails.iter().map(move |tail| [&head[..], &tail[..]].concat())).collect()
    }
    let last_start = if pattern.is_absolute { 0 } else { path.len() };
    expand(&pattern.components, path.len()).iter().any(|components| {
        (0..=last_start).any(|start| {
            let window = path.get(start..start + components.len());
            window.is_some_and(|window| components.iter().zip(window).all(|(component, name)| component.matches(name)))
                && (!components.is_empty() || pattern.is_absolute)
        })
    })
}

proptest! {
    #[test]
    fn matching_follows_the_definition(pattern in "/?([ab*]|\\*\\*)(/([ab*]|\\*\\*)){0,4}", path in "(/[abc]){1,5}") {
        let compiled = Pattern::compile(pattern.as_bytes()).unwrap();
        let components: Vec<&[u8]> = path.as_bytes()[1..].split(|byte| *byte == b'/').collect();
        prop_assert_eq!(compiled.matches(&components), matches_by_definition(&compiled, &components), "{} {}", pattern, path);
    }

    #[test]
    fn any_bytes_compile_or_are_refused(pattern in proptest::collection::vec(any::<u8>(), 0..12), path in proptest::collection::vec(any::<u8>(), 0..12)) {
        if let Ok(patterns) = Patterns::compile(&[&pattern], true) {
            patterns.matches(&[b"/", &path[..]].concat());
        }
    }

    #[test]
    fn a_glob_without_special_bytes_matches_only_itself(name in "[a-zé ]{1,8}", other in "[a-zé ]{1,8}") {
        prop_assert!(Glob::compile(name.as_bytes()).unwrap().matches(name.as_bytes()));
        prop_assert_eq!(Glob::compile(name.as_bytes()).unwrap().matches(other.as_bytes()), name == other);
    }
}
