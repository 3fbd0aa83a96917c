//! How restic writes text: names quoted as Go's `strconv.Quote`, and every string as Go's JSON string.
//!
//! A name goes through both, first quoted (without the outer quotes), then as a JSON string. Both rules
//! work on bytes that need not be UTF-8. `docs/format.md` lists them.

use super::printable::EDGES;

/// The text is no quoted name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the name is not quoted as restic quotes names: bad escape at byte {position}")]
pub struct BadQuote {
    /// Where the bad escape, quote or line break stands in the quoted name.
    pub position: usize,
}

/// Whether restic writes the character literally in a name: letters, marks, numbers, punctuation and
/// symbols of the Unicode version of the Go that built it, and the ASCII space. The quote and the
/// backslash count as printable, though they are escaped for another reason.
pub fn is_printable(character: char) -> bool {
    if character.is_ascii() {
        return matches!(character, ' '..='~');
    }
    let point = u32::from(character);
    EDGES.partition_point(|&edge| edge <= point) % 2 == 1
}

/// Per byte: may it be copied to a JSON string as it is? (Only within UTF-8 above 7f.)
const fn plain_bytes() -> [bool; 256] {
    let mut plain = [true; 256];
    let mut byte = 0;
    while byte < 256 {
        if byte < 0x20 || byte >= 0x7f || matches!(byte as u8, b'"' | b'\\' | b'<' | b'>' | b'&') {
            plain[byte] = false;
        }
        byte += 1;
    }
    plain
}

/// Bytes that neither of the two rules changes: printable ASCII without `"` `\` `<` `>` `&`.
static PLAIN: [bool; 256] = plain_bytes();

const HEX_DIGITS: &[u8; 16] = b"0123456789abcdef";

/// Appends the value of `name` of a node, with its JSON quotes, from the raw bytes of a file name.
pub fn push_name(out: &mut Vec<u8>, name: &[u8]) {
    out.push(b'"');
    push_runs(out, name, push_quoted, b"\\\\x");
    out.push(b'"');
}

/// Appends a JSON string with its quotes, from bytes that should be UTF-8. Each invalid byte becomes
/// the six characters `\ufffd`.
pub fn push_json_string(out: &mut Vec<u8>, text: &[u8]) {
    out.push(b'"');
    push_runs(out, text, push_json, b"");
    out.push(b'"');
}

/// Copies runs of plain bytes, gives every other character to `special`, and writes each invalid byte
/// as `invalid_prefix` and its hex digits, or as the replacement if there is no prefix.
fn push_runs(out: &mut Vec<u8>, bytes: &[u8], special: fn(&mut Vec<u8>, char), invalid_prefix: &[u8]) {
    let plain = bytes.iter().position(|&byte| !PLAIN[usize::from(byte)]).unwrap_or(bytes.len());
    out.extend_from_slice(&bytes[..plain]);
    for chunk in bytes[plain..].utf8_chunks() {
        let mut rest = chunk.valid();
        while let Some(character) = rest.chars().next() {
            let run = rest.bytes().position(|byte| !PLAIN[usize::from(byte)]).unwrap_or(rest.len());
            if run == 0 {
                special(out, character);
                rest = &rest[character.len_utf8()..];
            } else {
                out.extend_from_slice(&rest.as_bytes()[..run]);
                rest = &rest[run..];
            }
        }
        for &byte in chunk.invalid() {
            if invalid_prefix.is_empty() {
                out.extend_from_slice(b"\\ufffd");
            } else {
                out.extend_from_slice(invalid_prefix);
                push_hex(out, u32::from(byte), 2);
            }
        }
    }
}

/// The last `digits` hex digits of `number`.
fn push_hex(out: &mut Vec<u8>, number: u32, digits: u32) {
    for digit in (0..digits).rev() {
        out.push(HEX_DIGITS[(number >> (4 * digit) & 0xf) as usize]);
    }
}

/// One character of a name: quoted, then escaped for JSON.
fn push_quoted(out: &mut Vec<u8>, character: char) {
    let short = match character {
        '"' => br#"\\\""#,
        '\\' => br"\\\\",
        '\u{7}' => br"\\a".as_slice(),
        '\u{8}' => br"\\b",
        '\u{c}' => br"\\f",
        '\n' => br"\\n",
        '\r' => br"\\r",
        '\t' => br"\\t",
        '\u{b}' => br"\\v",
        _ if is_printable(character) => return push_json(out, character),
        _ => {
            let point = u32::from(character);
            let (letter, digits) = match point {
                0..0x20 | 0x7f => (b'x', 2),
                0..=0xffff => (b'u', 4),
                _ => (b'U', 8),
            };
            out.extend_from_slice(b"\\\\");
            out.push(letter);
            return push_hex(out, point, digits);
        }
    };
    out.extend_from_slice(short);
}

/// One character of a JSON string.
fn push_json(out: &mut Vec<u8>, character: char) {
    match character {
        '"' => out.extend_from_slice(br#"\""#),
        '\\' => out.extend_from_slice(br"\\"),
        '\u{8}' => out.extend_from_slice(br"\b"),
        '\u{c}' => out.extend_from_slice(br"\f"),
        '\n' => out.extend_from_slice(br"\n"),
        '\r' => out.extend_from_slice(br"\r"),
        '\t' => out.extend_from_slice(br"\t"),
        '\0'..' ' | '<' | '>' | '&' | '\u{2028}' | '\u{2029}' => {
            out.extend_from_slice(br"\u");
            push_hex(out, u32::from(character), 4);
        }
        _ => out.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes()),
    }
}

/// The raw bytes of a name from its quoted form, which was read from a JSON string already. Also takes
/// what restic does not write but reads: octal escapes and needless ones.
///
/// # Errors
/// An escape that Go's `strconv.Unquote` refuses, a bare quote or line break.
pub fn unquote_name(quoted: &[u8]) -> Result<Vec<u8>, BadQuote> {
    let special = |byte: &u8| matches!(byte, b'\\' | b'"' | b'\n');
    let mut name = Vec::with_capacity(quoted.len());
    let mut position = 0;
    while let Some(run) = quoted[position..].iter().position(special) {
        name.extend_from_slice(&quoted[position..position + run]);
        position += run;
        let escape = unescape(&quoted[position..], &mut name);
        position += escape.ok_or(BadQuote { position })?;
    }
    name.extend_from_slice(&quoted[position..]);
    Ok(name)
}

/// Appends what the escape at the start of `text` stands for; returns the escape's length.
fn unescape(text: &[u8], name: &mut Vec<u8>) -> Option<usize> {
    let (b'\\', &letter) = (text.first()?, text.get(1)?) else { return None };
    let number = |digits: std::ops::Range<usize>, radix: u32| {
        text.get(digits)?.iter().try_fold(0_u32, |number, &digit| {
            number.checked_mul(radix)?.checked_add(char::from(digit).to_digit(radix)?)
        })
    };
    let (byte, length) = match letter {
        b'a' => (0x07, 2),
        b'b' => (0x08, 2),
        b'f' => (0x0c, 2),
        b'n' => (b'\n', 2),
        b'r' => (b'\r', 2),
        b't' => (b'\t', 2),
        b'v' => (0x0b, 2),
        b'\\' | b'"' => (letter, 2),
        b'x' => (u8::try_from(number(2..4, 16)?).ok()?, 4),
        b'0'..=b'7' => (u8::try_from(number(1..4, 8)?).ok()?, 4),
        b'u' | b'U' => {
            let end = if letter == b'u' { 6 } else { 10 };
            let character = char::from_u32(number(2..end, 16)?)?;
            name.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
            return Some(end);
        }
        _ => return None,
    };
    name.push(byte);
    Some(length)
}

/// Text as Go's JSON leaves it: each byte that is no UTF-8 becomes U+FFFD.
pub fn lossy(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        text.push_str(chunk.valid());
        text.extend(chunk.invalid().iter().map(|_| char::REPLACEMENT_CHARACTER));
    }
    text
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::json::Cursor;
    use super::*;

    fn name(bytes: &[u8]) -> String {
        let mut out = Vec::new();
        push_name(&mut out, bytes);
        String::from_utf8(out).unwrap()
    }

    fn json(bytes: &[u8]) -> String {
        let mut out = Vec::new();
        push_json_string(&mut out, bytes);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn names_are_quoted_twice() {
        assert_eq!(name(b"plain name~"), r#""plain name~""#);
        assert_eq!(name(br#"q"b\"#), r#""q\\\"b\\\\""#);
        assert_eq!(name(b"\x07\x08\x0c\n\r\t\x0b"), r#""\\a\\b\\f\\n\\r\\t\\v""#);
        assert_eq!(name(b"\x01\x1f\x7f"), r#""\\x01\\x1f\\x7f""#);
        assert_eq!(name(b"\xff\xe2\x82A\xed\xa0\x80"), r#""\\xff\\xe2\\x82A\\xed\\xa0\\x80""#);
        assert_eq!(name("<a>&'/é".as_bytes()), r#""\u003ca\u003e\u0026'/é""#);
        assert_eq!(
            name("\u{a0}\u{2028}\u{3000}\u{e000}\u{f0000}".as_bytes()),
            r#""\\u00a0\\u2028\\u3000\\ue000\\U000f0000""#
        );
    }

    #[test]
    fn json_strings_are_escaped_as_go_does() {
        assert_eq!(json(b"a\"\\/'\x7f"), "\"a\\\"\\\\/'\x7f\"");
        assert_eq!(json(b"<>&\n\r\t\x08\x0c\x00\x1f"), r#""\u003c\u003e\u0026\n\r\t\b\f\u0000\u001f""#);
        assert_eq!(json("\u{2028}\u{2029}\u{fffd}\u{a0}".as_bytes()), "\"\\u2028\\u2029\u{fffd}\u{a0}\"");
        assert_eq!(json(b"\xff\xe2\x82A"), r#""\ufffd\ufffd\ufffdA""#);
    }

    #[test]
    fn printable_is_what_restic_0_19_1_says() {
        let literal = "\u{870}\u{1c80}\u{9fff}\u{fffc}\u{fffd}é漢😀";
        assert!(literal.chars().all(is_printable));
        let escaped =
            "\u{1c89}\u{2ffc}\u{20c1}\u{a7cb}\u{1fae9}\u{323b0}\u{ad}\u{200b}\u{feff}\u{61c}\u{a0}\u{2028}\u{3000}";
        assert!(!escaped.chars().any(is_printable));
        for point in ['\0', '\u{1f}', '\u{7f}', '\u{80}', '\u{9f}', '\u{e000}', '\u{ffff}', '\u{10ffff}'] {
            assert!(!is_printable(point), "{point:?}");
        }
        assert!((' '..='~').all(is_printable));
        assert!(EDGES.is_sorted_by(|one, next| one < next) && EDGES.len().is_multiple_of(2));
    }

    #[test]
    fn unquote_takes_more_than_quote_writes() {
        assert_eq!(unquote_name(br"\101\x42\u0043\U0001F600\377\a\v").unwrap(), b"ABC\xf0\x9f\x98\x80\xff\x07\x0b");
        let bad = [
            &br"\"[..],
            br"\'",
            br"\400",
            br"\08",
            br"\x4",
            br"\ud800",
            br"\U00110000",
            br"\z",
            br#"""#,
            b"a\nb",
            br"\777",
        ];
        for text in bad {
            assert!(unquote_name(text).is_err(), "{}", text.escape_ascii());
        }
        assert_eq!(unquote_name(br"ab\z"), Err(BadQuote { position: 2 }));
    }

    #[test]
    fn lossy_replaces_byte_by_byte() {
        assert_eq!(lossy(b"a\xe2\x82\xffb"), "a\u{fffd}\u{fffd}\u{fffd}b");
    }

    proptest! {
        #[test]
        fn any_name_round_trips(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let text = name(&bytes);
            let quoted = Cursor::new(text.as_bytes()).string().unwrap();
            prop_assert_eq!(unquote_name(&quoted).unwrap(), bytes);
        }

        #[test]
        fn any_text_round_trips(text: String) {
            let both: String = serde_json::from_str(&name(text.as_bytes())).unwrap();
            prop_assert_eq!(unquote_name(both.as_bytes()).unwrap(), text.as_bytes());
            prop_assert_eq!(serde_json::from_str::<String>(&json(text.as_bytes())).unwrap(), text);
        }

        #[test]
        fn json_strings_read_back_as_the_lossy_text(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let text = json(&bytes);
            prop_assert_eq!(serde_json::from_str::<String>(&text).unwrap(), lossy(&bytes));
            let raw = Cursor::new(text.as_bytes()).raw_string().unwrap();
            prop_assert_eq!(json(&raw), text);
        }

        #[test]
        fn unquote_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..40), quoted in "[\\\\xuU\"'0-9a-f]{0,20}") {
            let _ = unquote_name(&bytes);
            let _ = unquote_name(quoted.as_bytes());
        }
    }
}
