//! Lexical rules for paths as bytes, those of Go's `path/filepath` on Unix, because restic's tree and
//! its exclude patterns follow from them.

/// Whether `path` starts at the root.
pub fn is_absolute(path: &[u8]) -> bool {
    path.first() == Some(&b'/')
}

/// The shortest path that is lexically the same: no empty or `.` components, `..` taken back where
/// something stands before it; the empty path becomes `.`.
pub fn clean(path: &[u8]) -> Vec<u8> {
    let absolute = is_absolute(path);
    let mut kept: Vec<&[u8]> = Vec::new();
    for component in path.split(|byte| *byte == b'/') {
        match component {
            b"" | b"." => {}
            b".." => match kept.last() {
                Some(last) if *last != b".." => {
                    kept.pop();
                }
                _ if absolute => {}
                _ => kept.push(component),
            },
            _ => kept.push(component),
        }
    }
    let mut cleaned = if absolute { b"/".to_vec() } else { Vec::new() };
    cleaned.extend_from_slice(&kept.join(&b'/'));
    if cleaned.is_empty() { b".".to_vec() } else { cleaned }
}

/// `directory` and `rest` joined and cleaned; an empty one is ignored.
pub fn join(directory: &[u8], rest: &[u8]) -> Vec<u8> {
    match (directory.is_empty(), rest.is_empty()) {
        (true, _) => clean(rest),
        (_, true) => clean(directory),
        _ => clean(&[directory, b"/", rest].concat()),
    }
}

/// `path` made absolute from `current_directory`, and cleaned.
pub fn absolute(current_directory: &[u8], path: &[u8]) -> Vec<u8> {
    if is_absolute(path) { clean(path) } else { join(current_directory, path) }
}

/// The path of the entry `name` in `directory`. Nothing is cleaned.
pub fn child(directory: &[u8], name: &[u8]) -> Vec<u8> {
    let mut path = Vec::with_capacity(directory.len() + 1 + name.len());
    path.extend_from_slice(directory);
    if path.last() != Some(&b'/') {
        path.push(b'/');
    }
    path.extend_from_slice(name);
    path
}

/// A cleaned path taken apart at its last component; none for `/` and for a single relative component.
pub fn split_last(path: &[u8]) -> Option<(&[u8], &[u8])> {
    let slash = path.iter().rposition(|byte| *byte == b'/')?;
    let name = &path[slash + 1..];
    if name.is_empty() {
        return None;
    }
    Some((if slash == 0 { b"/" } else { &path[..slash] }, name))
}

/// What follows `ancestor` in `path` (both absolute and cleaned), without a leading slash: empty when
/// they are equal, none when `path` is not at or below `ancestor`.
pub fn below<'a>(ancestor: &[u8], path: &'a [u8]) -> Option<&'a [u8]> {
    if ancestor == b"/" {
        return path.strip_prefix(b"/");
    }
    let rest = path.strip_prefix(ancestor)?;
    if rest.is_empty() { Some(rest) } else { rest.strip_prefix(b"/") }
}

/// Whether `name` can name a directory entry: not empty, `.` or `..`, no slash, no NUL.
pub fn is_entry_name(name: &[u8]) -> bool {
    !matches!(name, b"" | b"." | b"..") && !name.contains(&b'/') && !name.contains(&0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn clean_follows_go() {
        for (path, expected) in [
            ("", "."),
            (".", "."),
            ("./", "."),
            ("/", "/"),
            ("//", "/"),
            ("/..", "/"),
            ("/../a", "/a"),
            ("a/", "a"),
            ("a//b/./c", "a/b/c"),
            ("a/../b", "b"),
            ("a/..", "."),
            ("../../a", "../../a"),
            ("a/../../b", "../b"),
            ("/a/b/..", "/a"),
            ("../a/../..", "../.."),
            ("...", "..."),
        ] {
            assert_eq!(clean(path.as_bytes()), expected.as_bytes(), "{path}");
        }
    }

    #[test]
    fn join_and_absolute() {
        assert_eq!(join(b".", b".."), b"..");
        assert_eq!(join(b"/", b"a"), b"/a");
        assert_eq!(join(b"", b""), b".");
        assert_eq!(absolute(b"/home/x", b"../y/"), b"/home/y");
        assert_eq!(absolute(b"/home/x", b"/z//"), b"/z");
        assert_eq!(child(b"/", b"a"), b"/a");
        assert_eq!(child(b"/a", b"b"), b"/a/b");
    }

    #[test]
    fn below_knows_whole_components() {
        assert_eq!(below(b"/srv", b"/srv"), Some(&b""[..]));
        assert_eq!(below(b"/srv", b"/srv/a/b"), Some(&b"a/b"[..]));
        assert_eq!(below(b"/srv", b"/srvx"), None);
        assert_eq!(below(b"/", b"/srv"), Some(&b"srv"[..]));
        assert_eq!(below(b"/", b"/"), Some(&b""[..]));
        assert_eq!(split_last(b"/a/b"), Some((&b"/a"[..], &b"b"[..])));
        assert_eq!(split_last(b"/a"), Some((&b"/"[..], &b"a"[..])));
        assert_eq!(split_last(b"/"), None);
        assert_eq!(split_last(b"a"), None);
    }

    proptest! {
        #[test]
        fn cleaning_twice_changes_nothing(path in "[a./]{0,12}") {
            let once = clean(path.as_bytes());
            prop_assert_eq!(clean(&once), once.clone());
            prop_assert_eq!(is_absolute(&once), is_absolute(path.as_bytes()));
        }
    }
}
