//! JSON as Go's `encoding/json` reads and writes it: strings are bytes, an odd string is never an error.

use std::borrow::Cow;

use data_encoding::{BASE64, HEXLOWER, HEXLOWER_PERMISSIVE};
use proto::id::Id;

/// The bytes are not what restic writes or reads.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{expected} is expected at byte {position}")]
pub struct Malformed {
    /// Where, counted from the start of the bytes that were to be decoded.
    pub position: usize,
    /// What should stand there.
    pub expected: &'static str,
}

/// How deep arrays and objects of unknown keys may nest. restic itself needs 4.
const DEPTH_MAX: usize = 128;

/// What the escape `\ufffd` (and everything else that is no character) stands for in a string.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Lost {
    /// The character U+FFFD.
    Replacement,
    /// The byte FF, which is written as `\ufffd` again.
    InvalidByte,
}

impl Lost {
    fn bytes(self) -> &'static [u8] {
        match self {
            Self::Replacement => "\u{fffd}".as_bytes(),
            Self::InvalidByte => b"\xff",
        }
    }
}

/// Reads JSON values one after another from bytes. White space before a value is skipped.
pub(super) struct Cursor<'a> {
    bytes: &'a [u8],
    position: usize,
}

impl<'a> Cursor<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, position: 0 }
    }

    /// The error that says that something else was expected here.
    pub(super) fn malformed(&self, expected: &'static str) -> Malformed {
        Malformed { position: self.position, expected }
    }

    /// The first byte of the next value, not consumed.
    fn peek(&mut self) -> Option<u8> {
        while let Some(&byte) = self.bytes.get(self.position) {
            if !matches!(byte, b' ' | b'\t' | b'\n' | b'\r') {
                return Some(byte);
            }
            self.position += 1;
        }
        None
    }

    fn take(&mut self, byte: u8) -> bool {
        let found = self.peek() == Some(byte);
        self.position += usize::from(found);
        found
    }

    fn literal(&mut self, text: &'static str) -> bool {
        self.peek();
        let found = self.bytes[self.position..].starts_with(text.as_bytes());
        self.position += if found { text.len() } else { 0 };
        found
    }

    /// Consumes `null` if it stands here. For Go, `null` leaves a value of any type as it was.
    pub(super) fn null(&mut self) -> bool {
        self.peek() == Some(b'n') && self.literal("null")
    }

    /// Nothing but white space may be left.
    pub(super) fn end(&mut self) -> Result<(), Malformed> {
        if self.peek().is_some() { Err(self.malformed("the end")) } else { Ok(()) }
    }

    /// Reads an object; `field` is called with each key and must consume its value.
    pub(super) fn object(
        &mut self,
        mut field: impl FnMut(&mut Self, &[u8]) -> Result<(), Malformed>,
    ) -> Result<(), Malformed> {
        if !self.take(b'{') {
            return Err(self.malformed("an object"));
        }
        if self.take(b'}') {
            return Ok(());
        }
        loop {
            let key = self.string()?;
            if !self.take(b':') {
                return Err(self.malformed("a colon"));
            }
            field(self, &key)?;
            if self.take(b'}') {
                return Ok(());
            }
            if !self.take(b',') {
                return Err(self.malformed("a comma or the end of the object"));
            }
        }
    }

    /// Reads an array; `element` is called at each element and must consume it.
    pub(super) fn array(
        &mut self,
        mut element: impl FnMut(&mut Self) -> Result<(), Malformed>,
    ) -> Result<(), Malformed> {
        if !self.take(b'[') {
            return Err(self.malformed("an array"));
        }
        if self.take(b']') {
            return Ok(());
        }
        loop {
            element(self)?;
            if self.take(b']') {
                return Ok(());
            }
            if !self.take(b',') {
                return Err(self.malformed("a comma or the end of the array"));
            }
        }
    }

    /// Reads a number that is not negative and has neither fraction nor exponent.
    pub(super) fn number(&mut self) -> Result<u64, Malformed> {
        const EXPECTED: &str = "a whole number below 2^64";
        self.peek();
        let digits = self.bytes[self.position..].iter().take_while(|byte| byte.is_ascii_digit()).count();
        let text = &self.bytes[self.position..self.position + digits];
        let follows = self.bytes.get(self.position + digits);
        if digits == 0 || (text[0] == b'0' && digits > 1) || matches!(follows, Some(b'.' | b'e' | b'E')) {
            return Err(self.malformed(EXPECTED));
        }
        let number =
            text.iter().try_fold(0_u64, |number, digit| number.checked_mul(10)?.checked_add(u64::from(digit - b'0')));
        let number = number.ok_or_else(|| self.malformed(EXPECTED))?;
        self.position += digits;
        Ok(number)
    }

    /// Reads a number below 2^32.
    pub(super) fn number_u32(&mut self) -> Result<u32, Malformed> {
        self.peek();
        let start = self.position;
        u32::try_from(self.number()?).map_err(|_| Malformed { position: start, expected: "a whole number below 2^32" })
    }

    /// Reads a string as Go does: always UTF-8, whatever is no character becomes U+FFFD.
    pub(super) fn string(&mut self) -> Result<Cow<'a, [u8]>, Malformed> {
        self.string_with(Lost::Replacement)
    }

    /// Reads a string whose writer had bytes that need not be UTF-8. The escape `\ufffd`, which is all
    /// that is left of an invalid byte, becomes the byte FF, so that it is written as it was read.
    pub(super) fn raw_string(&mut self) -> Result<Cow<'a, [u8]>, Malformed> {
        self.string_with(Lost::InvalidByte)
    }

    /// Reads a string as text.
    pub(super) fn text(&mut self) -> Result<String, Malformed> {
        let start = self.position;
        String::from_utf8(self.string()?.into_owned())
            .map_err(|_| Malformed { position: start, expected: "a string of UTF-8" })
    }

    /// Reads an id: a string of 64 hex digits.
    pub(super) fn id(&mut self) -> Result<Id, Malformed> {
        self.peek();
        let start = self.position;
        let malformed = || Malformed { position: start, expected: "an id of 64 hex digits" };
        let text = self.string()?;
        let mut bytes = [0; 32];
        if text.len() != 2 * bytes.len() {
            return Err(malformed());
        }
        HEXLOWER_PERMISSIVE.decode_mut(&text, &mut bytes).map_err(|_| malformed())?;
        Ok(Id::from_bytes(bytes))
    }

    /// Reads bytes: a string of base64 (standard alphabet, padded), or `null` for none.
    pub(super) fn base64(&mut self) -> Result<Vec<u8>, Malformed> {
        if self.null() {
            return Ok(Vec::new());
        }
        let start = self.position;
        BASE64.decode(&self.string()?).map_err(|_| Malformed { position: start, expected: "base64" })
    }

    /// Reads any value and gives its bytes as they stand.
    pub(super) fn raw(&mut self) -> Result<&'a [u8], Malformed> {
        self.peek();
        let start = self.position;
        self.skip()?;
        Ok(&self.bytes[start..self.position])
    }

    /// Reads any value and forgets it.
    pub(super) fn skip(&mut self) -> Result<(), Malformed> {
        self.skip_nested(0)
    }

    fn skip_nested(&mut self, depth: usize) -> Result<(), Malformed> {
        if depth > DEPTH_MAX {
            return Err(self.malformed("less nesting"));
        }
        match self.peek() {
            Some(b'{') => self.object(|cursor, _| cursor.skip_nested(depth + 1)),
            Some(b'[') => self.array(|cursor| cursor.skip_nested(depth + 1)),
            Some(b'"') => self.string().map(drop),
            Some(b'-' | b'0'..=b'9') => self.skip_number(),
            _ if self.literal("null") || self.literal("true") || self.literal("false") => Ok(()),
            _ => Err(self.malformed("a value")),
        }
    }

    fn skip_digits(&mut self) -> Result<usize, Malformed> {
        let count = self.bytes[self.position..].iter().take_while(|byte| byte.is_ascii_digit()).count();
        self.position += count;
        if count == 0 { Err(self.malformed("a digit")) } else { Ok(count) }
    }

    fn skip_byte(&mut self, accepted: &[u8]) -> bool {
        let found = self.bytes.get(self.position).is_some_and(|byte| accepted.contains(byte));
        self.position += usize::from(found);
        found
    }

    fn skip_number(&mut self) -> Result<(), Malformed> {
        self.skip_byte(b"-");
        let leading_zero = self.bytes.get(self.position) == Some(&b'0');
        if self.skip_digits()? > 1 && leading_zero {
            return Err(self.malformed("a number without leading zeros"));
        }
        if self.skip_byte(b".") {
            self.skip_digits()?;
        }
        if self.skip_byte(b"eE") {
            self.skip_byte(b"+-");
            self.skip_digits()?;
        }
        Ok(())
    }

    fn string_with(&mut self, lost: Lost) -> Result<Cow<'a, [u8]>, Malformed> {
        if !self.take(b'"') {
            return Err(self.malformed("a string"));
        }
        let plain = self.plain_run();
        if self.skip_byte(b"\"") {
            return Ok(well_formed(plain, lost));
        }
        let mut decoded = well_formed(plain, lost).into_owned();
        loop {
            if self.skip_byte(b"\"") {
                return Ok(Cow::Owned(decoded));
            }
            if !self.skip_byte(b"\\") {
                return Err(self.malformed("the end of the string"));
            }
            self.escape(lost, &mut decoded)?;
            let plain = self.plain_run();
            decoded.extend_from_slice(&well_formed(plain, lost));
        }
    }

    /// The bytes up to the next quote, backslash or control character.
    fn plain_run(&mut self) -> &'a [u8] {
        let rest = &self.bytes[self.position..];
        let length = rest.iter().position(|&byte| byte == b'"' || byte == b'\\' || byte < 0x20);
        let plain = &rest[..length.unwrap_or(rest.len())];
        self.position += plain.len();
        plain
    }

    fn escape(&mut self, lost: Lost, decoded: &mut Vec<u8>) -> Result<(), Malformed> {
        let Some(&letter) = self.bytes.get(self.position) else {
            return Err(self.malformed("an escape"));
        };
        let byte = match letter {
            b'"' | b'\\' | b'/' => letter,
            b'b' => 0x08,
            b'f' => 0x0c,
            b'n' => b'\n',
            b'r' => b'\r',
            b't' => b'\t',
            b'u' => return self.escaped_character(lost, decoded),
            _ => return Err(self.malformed("an escape")),
        };
        self.position += 1;
        decoded.push(byte);
        Ok(())
    }

    /// The escape `uXXXX` after its backslash, or two of them that are a surrogate pair.
    fn escaped_character(&mut self, lost: Lost, decoded: &mut Vec<u8>) -> Result<(), Malformed> {
        let first = self.hex_at(self.position).ok_or_else(|| self.malformed("four hex digits"))?;
        self.position += 5;
        let mut point = first;
        if (0xd800..0xdc00).contains(&first)
            && self.bytes.get(self.position) == Some(&b'\\')
            && let Some(second @ 0xdc00..0xe000) = self.hex_at(self.position + 1)
        {
            point = 0x1_0000 + ((first - 0xd800) << 10) + (second - 0xdc00);
            self.position += 6;
        }
        match char::from_u32(point) {
            Some(character) if character != char::REPLACEMENT_CHARACTER => {
                decoded.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
            }
            _ => decoded.extend_from_slice(lost.bytes()),
        }
        Ok(())
    }

    /// The number in `uXXXX` at `position`.
    fn hex_at(&self, position: usize) -> Option<u32> {
        let (b'u', digits) = self.bytes.get(position..position + 5)?.split_first()? else { return None };
        digits.iter().try_fold(0, |number, &digit| Some(number << 4 | char::from(digit).to_digit(16)?))
    }
}

/// Invalid UTF-8 in a string of JSON is replaced, byte by byte.
fn well_formed(plain: &[u8], lost: Lost) -> Cow<'_, [u8]> {
    if std::str::from_utf8(plain).is_ok() {
        return Cow::Borrowed(plain);
    }
    let mut replaced = Vec::with_capacity(plain.len());
    for chunk in plain.utf8_chunks() {
        replaced.extend_from_slice(chunk.valid().as_bytes());
        chunk.invalid().iter().for_each(|_| replaced.extend_from_slice(lost.bytes()));
    }
    Cow::Owned(replaced)
}

/// Appends a number in decimal.
pub(super) fn push_number(out: &mut Vec<u8>, number: u64) {
    /// Digits of `u64::MAX`.
    const DIGITS_MAX: usize = 20;
    let mut digits = [0; DIGITS_MAX];
    let mut start = DIGITS_MAX;
    let mut rest = number;
    loop {
        start -= 1;
        digits[start] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[start..]);
}

/// Appends an id in its quotes.
pub(super) fn push_id(out: &mut Vec<u8>, id: &Id) {
    let mut text = [b'"'; 66];
    HEXLOWER.encode_mut(id.as_bytes(), &mut text[1..65]);
    out.extend_from_slice(&text);
}

/// Appends bytes as base64 in quotes.
pub(super) fn push_base64(out: &mut Vec<u8>, bytes: &[u8]) {
    out.push(b'"');
    let start = out.len();
    out.resize(start + BASE64.encode_len(bytes.len()), 0);
    BASE64.encode_mut(bytes, &mut out[start..]);
    out.push(b'"');
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn odd_strings_are_read_as_go_reads_them() {
        let read = |text: &[u8]| Cursor::new(text).string().map(Cow::into_owned);
        assert_eq!(
            read(br#" "a\"\\\/\b\f\n\r\t\u0041\u00e9\ud83d\ude00" "#).unwrap(),
            "a\"\\/\u{8}\u{c}\n\r\tAé😀".as_bytes()
        );
        assert_eq!(read(br#""\ud800""#).unwrap(), "\u{fffd}".as_bytes());
        assert_eq!(read(br#""\ud800\u0041\udc00x""#).unwrap(), "\u{fffd}A\u{fffd}x".as_bytes());
        assert_eq!(read(b"\"\xe2\x82A\xff\"").unwrap(), "\u{fffd}\u{fffd}A\u{fffd}".as_bytes());
        for bad in [&b"\"a"[..], b"\"\n\"", br#""\'""#, br#""\u12""#, br#""\x41""#, b"\"\\", b"x", b""] {
            assert!(read(bad).is_err(), "{}", bad.escape_ascii());
        }
    }

    #[test]
    fn a_lost_byte_is_told_from_a_replacement_character() {
        let text = "\"\\ufffd\u{fffd}\"";
        assert_eq!(Cursor::new(text.as_bytes()).raw_string().unwrap().as_ref(), b"\xff\xef\xbf\xbd");
        assert_eq!(Cursor::new(text.as_bytes()).string().unwrap().as_ref(), "\u{fffd}\u{fffd}".as_bytes());
    }

    #[test]
    fn numbers_are_whole_and_fit() {
        assert_eq!(Cursor::new(b" 18446744073709551615").number(), Ok(u64::MAX));
        assert_eq!(Cursor::new(b"4294967295,").number_u32(), Ok(u32::MAX));
        for bad in ["18446744073709551616", "-1", "01", "1.0", "1e3", "", "x", "\"1\""] {
            assert!(Cursor::new(bad.as_bytes()).number().is_err(), "{bad}");
        }
        assert!(Cursor::new(b"4294967296").number_u32().is_err());
    }

    #[test]
    fn nesting_ends_somewhere() {
        let deep = |levels: usize| "[".repeat(levels) + &"]".repeat(levels);
        assert!(Cursor::new(deep(DEPTH_MAX).as_bytes()).skip().is_ok());
        assert!(Cursor::new(deep(1_000_000).as_bytes()).skip().is_err());
    }

    fn json() -> impl Strategy<Value = serde_json::Value> {
        let leaf = prop_oneof![
            Just(serde_json::Value::Null),
            any::<bool>().prop_map(Into::into),
            any::<u64>().prop_map(Into::into),
            any::<i64>().prop_map(Into::into),
            any::<f64>().prop_map(Into::into),
            any::<String>().prop_map(Into::into),
        ];
        leaf.prop_recursive(4, 40, 5, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..5).prop_map(Into::into),
                proptest::collection::btree_map(any::<String>(), inner, 0..5)
                    .prop_map(|map| serde_json::Value::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn any_value_is_skipped_exactly(value in json(), pretty: bool) {
            let text = if pretty { serde_json::to_string_pretty(&value) } else { serde_json::to_string(&value) };
            let padded = format!(" {} ,", text.unwrap());
            let mut cursor = Cursor::new(padded.as_bytes());
            prop_assert_eq!(cursor.raw().unwrap(), &padded.as_bytes()[1..padded.len() - 2]);
        }

        #[test]
        fn skip_accepts_what_serde_accepts(text in "[\\[\\]{}:,\"\\\\u0-9a-f.eE+ -]{0,12}|(true|false|null|\"a\"|[\\[\\]{},:]){0,6}") {
            let mut cursor = Cursor::new(text.as_bytes());
            let ours = cursor.skip().and_then(|()| cursor.end());
            // Lone surrogates and numbers beyond f64 are errors for serde only.
            if serde_json::from_str::<serde::de::IgnoredAny>(&text).is_ok() {
                prop_assert_eq!(ours, Ok(()));
            } else if !text.contains("\\u") && !text.contains(['e', 'E']) {
                prop_assert!(ours.is_err());
            }
        }

        #[test]
        fn numbers_round_trip(number: u64) {
            let mut text = Vec::new();
            push_number(&mut text, number);
            prop_assert_eq!(std::str::from_utf8(&text).unwrap(), number.to_string());
            prop_assert_eq!(Cursor::new(&text).number(), Ok(number));
        }
    }
}
