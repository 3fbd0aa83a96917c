//! One path component against one glob, with the rules of Go's `filepath.Match`.
//!
//! `*` any bytes, `?` one rune, `[...]` a class with ranges and `^`, `\` takes the next byte literally.
//! An invalid byte of the name counts as the rune U+FFFD.

/// A malformed glob: `[` without end, an empty class, a range without bounds, a trailing `\`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadPattern;

/// A compiled glob.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Glob {
    tokens: Vec<Token>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Token {
    AnyBytes,
    AnyRune,
    Byte(u8),
    Class { is_negated: bool, ranges: Vec<(char, char)> },
}

impl Glob {
    pub(super) fn compile(text: &[u8]) -> Result<Self, BadPattern> {
        let mut tokens = Vec::new();
        let mut rest = text;
        while let Some((&byte, after)) = rest.split_first() {
            rest = after;
            tokens.push(match byte {
                b'*' => Token::AnyBytes,
                b'?' => Token::AnyRune,
                b'[' => class(&mut rest)?,
                b'\\' => {
                    let (&escaped, after) = rest.split_first().ok_or(BadPattern)?;
                    rest = after;
                    Token::Byte(escaped)
                }
                _ => Token::Byte(byte),
            });
        }
        Ok(Self { tokens })
    }

    /// Whether all of `name` matches. Only the last `*` is taken back, byte by byte.
    pub(super) fn matches(&self, name: &[u8]) -> bool {
        let (mut token, mut position) = (0, 0);
        let mut last_star: Option<(usize, usize)> = None;
        loop {
            if self.tokens.get(token) == Some(&Token::AnyBytes) {
                token += 1;
                last_star = Some((token, position));
                continue;
            }
            if token == self.tokens.len() && position == name.len() {
                return true;
            }
            let taken = self.tokens.get(token).and_then(|token| token.take(&name[position..]));
            if let Some(length) = taken {
                token += 1;
                position += length;
                continue;
            }
            match last_star {
                Some((after, start)) if start < name.len() => {
                    last_star = Some((after, start + 1));
                    (token, position) = (after, start + 1);
                }
                _ => return false,
            }
        }
    }
}

impl Token {
    /// How many bytes of `rest` this token takes, none if it does not match.
    fn take(&self, rest: &[u8]) -> Option<usize> {
        let first = *rest.first()?;
        match self {
            Self::AnyBytes => None,
            Self::AnyRune => Some(decode(rest).1),
            Self::Byte(byte) => (first == *byte).then_some(1),
            Self::Class { is_negated, ranges } => {
                let (rune, length) = decode(rest);
                let is_inside = ranges.iter().any(|(low, high)| *low <= rune && rune <= *high);
                (is_inside != *is_negated).then_some(length)
            }
        }
    }
}

/// Reads a class; `rest` stands behind its `[`, and behind its `]` afterwards.
fn class(rest: &mut &[u8]) -> Result<Token, BadPattern> {
    let is_negated = rest.first() == Some(&b'^');
    if is_negated {
        *rest = &rest[1..];
    }
    let mut ranges = Vec::new();
    loop {
        if rest.first() == Some(&b']') && !ranges.is_empty() {
            *rest = &rest[1..];
            return Ok(Token::Class { is_negated, ranges });
        }
        let low = bound(rest)?;
        let mut high = low;
        if rest.first() == Some(&b'-') {
            *rest = &rest[1..];
            high = bound(rest)?;
        }
        ranges.push((low, high));
    }
}

/// Reads one bound of a range. A bound is never the last thing in a pattern.
fn bound(rest: &mut &[u8]) -> Result<char, BadPattern> {
    match rest.first() {
        None | Some(b'-' | b']') => return Err(BadPattern),
        Some(b'\\') => *rest = &rest[1..],
        Some(_) => {}
    }
    if rest.is_empty() {
        return Err(BadPattern);
    }
    let (rune, length) = decode(rest);
    *rest = &rest[length..];
    if (rune == char::REPLACEMENT_CHARACTER && length == 1) || rest.is_empty() {
        return Err(BadPattern);
    }
    Ok(rune)
}

/// The first rune of `bytes` (not empty) and its length; an invalid byte is U+FFFD of length 1.
pub(super) fn decode(bytes: &[u8]) -> (char, usize) {
    let length = match bytes[0] {
        0..=0x7f => return (char::from(bytes[0]), 1),
        0xc2..=0xdf => 2,
        0xe0..=0xef => 3,
        0xf0..=0xf4 => 4,
        _ => return (char::REPLACEMENT_CHARACTER, 1),
    };
    let rune = bytes.get(..length).and_then(|bytes| str::from_utf8(bytes).ok()).and_then(|text| text.chars().next());
    rune.map_or((char::REPLACEMENT_CHARACTER, 1), |rune| (rune, length))
}
