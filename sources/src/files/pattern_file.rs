//! Files with patterns, one a line: `--exclude-file` and its like.
//!
//! As restic reads them: a byte order mark is taken off (UTF-16 is converted), white space around a line
//! is dropped, so are empty lines and those that begin with `#`; environment variables are expanded as
//! Go's `os.Expand` does, `$$` is a dollar sign.

/// The patterns in `contents`. `variable` gives the value of an environment variable.
pub fn parse(contents: &[u8], variable: impl Fn(&[u8]) -> Option<Vec<u8>>) -> Vec<Vec<u8>> {
    decode(contents)
        .split(|byte| *byte == b'\n')
        .map(trim_space)
        .filter(|line| !line.is_empty() && line[0] != b'#')
        .map(|line| expand(line, &variable))
        .collect()
}

/// The value of a variable in the environment of this process, as [`parse`] wants it.
pub fn process_variable(name: &[u8]) -> Option<Vec<u8>> {
    use std::os::unix::ffi::{OsStrExt, OsStringExt};
    if name.contains(&b'=') || name.contains(&0) {
        return None;
    }
    std::env::var_os(std::ffi::OsStr::from_bytes(name)).map(OsStringExt::into_vec)
}

fn decode(contents: &[u8]) -> Vec<u8> {
    let utf16 = |units: &[u8], unit: fn([u8; 2]) -> u16| {
        let pairs = units.chunks_exact(2);
        let rest_is_invalid = !pairs.remainder().is_empty();
        let characters = char::decode_utf16(pairs.map(|pair| unit([pair[0], pair[1]])));
        let mut text: String = characters.map(|character| character.unwrap_or(char::REPLACEMENT_CHARACTER)).collect();
        text.extend(rest_is_invalid.then_some(char::REPLACEMENT_CHARACTER));
        text.into_bytes()
    };
    match contents {
        [0xef, 0xbb, 0xbf, rest @ ..] => rest.to_vec(),
        [0xfe, 0xff, rest @ ..] => utf16(rest, u16::from_be_bytes),
        [0xff, 0xfe, rest @ ..] => utf16(rest, u16::from_le_bytes),
        _ => contents.to_vec(),
    }
}

/// Takes Unicode white space off both ends; bytes that are not UTF-8 are no white space.
fn trim_space(line: &[u8]) -> &[u8] {
    let mut line = line;
    while let Some(first) = line.utf8_chunks().next().and_then(|chunk| chunk.valid().chars().next())
        && first.is_whitespace()
    {
        line = &line[first.len_utf8()..];
    }
    loop {
        let start = (1..=4.min(line.len())).map(|length| line.len() - length);
        let last = start.filter_map(|start| str::from_utf8(&line[start..]).ok()).find_map(|text| text.chars().next());
        match last {
            Some(last) if last.is_whitespace() => line = &line[..line.len() - last.len_utf8()],
            _ => return line,
        }
    }
}

fn expand(line: &[u8], variable: &impl Fn(&[u8]) -> Option<Vec<u8>>) -> Vec<u8> {
    let mut expanded = Vec::with_capacity(line.len());
    let mut rest = line;
    while let Some(dollar) = rest.iter().position(|byte| *byte == b'$').filter(|dollar| dollar + 1 < rest.len()) {
        expanded.extend_from_slice(&rest[..dollar]);
        let (name, length) = variable_name(&rest[dollar + 1..]);
        match name {
            // `$` before something that cannot be a name stays; `${}` and `${` vanish.
            b"" if length == 0 => expanded.push(b'$'),
            b"" => {}
            b"$" => expanded.push(b'$'),
            name => expanded.extend(variable(name).unwrap_or_default()),
        }
        rest = &rest[dollar + 1 + length..];
    }
    expanded.extend_from_slice(rest);
    expanded
}

/// The name at the beginning of `text` (not empty, stands behind a `$`) and how many bytes it takes with
/// its braces.
fn variable_name(text: &[u8]) -> (&[u8], usize) {
    let is_special = |byte: u8| b"*#$@!?-0123456789".contains(&byte);
    if text[0] == b'{' {
        return match text.iter().position(|byte| *byte == b'}') {
            Some(1) => (b"", 2),
            Some(end) => (&text[1..end], end + 1),
            None => (b"", 1),
        };
    }
    if is_special(text[0]) {
        return (&text[..1], 1);
    }
    let length = text.iter().take_while(|byte| byte.is_ascii_alphanumeric() || **byte == b'_').count();
    (&text[..length], length)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn lines(contents: &[u8]) -> Vec<String> {
        let variable = |name: &[u8]| (name == b"HOME" || name == b"a b").then(|| b"/home/x".to_vec());
        parse(contents, variable).into_iter().map(|line| String::from_utf8(line).unwrap()).collect()
    }

    #[test]
    fn comments_and_blanks_are_dropped() {
        assert_eq!(lines(b"# x\n\n  \t\r\n a b \r\n#\n \xc2\xa0!c\xe3\x80\x80\nd"), ["a b", "!c", "d"]);
    }

    #[test]
    fn variables_are_expanded_as_in_go() {
        for (line, expected) in [
            ("$HOME/x", "/home/x/x"),
            ("${HOME}y", "/home/xy"),
            ("$HOMEy", ""),
            ("a$$b", "a$b"),
            ("a${$}b", "a$b"),
            ("$", "$"),
            ("a$", "a$"),
            ("a$/b", "a$/b"),
            ("a${}b", "ab"),
            ("a${b", "ab"),
            ("${a b}", "/home/x"),
            ("a$*b", "ab"),
            ("$1x", "x"),
        ] {
            assert_eq!(lines(line.as_bytes()), [expected], "{line}");
        }
    }

    #[test]
    fn byte_order_marks_tell_the_encoding() {
        assert_eq!(lines(b"\xef\xbb\xbfa\n"), ["a"]);
        assert_eq!(lines(b"\xff\xfea\0\n\0\xe4\0"), ["a", "ä"]);
        assert_eq!(lines(b"\xfe\xff\0a\0\n\0\xe4\xd8"), ["a", "ä\u{fffd}"]);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read(contents in proptest::collection::vec(any::<u8>(), 0..60)) {
            parse(&contents, |_| None);
        }
    }
}
