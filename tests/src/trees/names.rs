//! Names that a format must quote: everything but `/` and NUL is allowed in one.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::path::Path;

use super::{Builder, broken};

/// Names of files, and of folders, in their order of awkwardness.
const NAMES: &[&[u8]] = &[
    b"plain",
    b" leading and trailing blank ",
    b"new\nline",
    b"carriage\rreturn and tab\t",
    b"quote\"double",
    b"quote'single",
    b"back\\slash",
    b"\\x41 looks like an escape",
    b"\\u0041",
    b"<tag>&amp;",
    b"-leading-dash",
    b"--exclude=x",
    b"*?[a-z]{b,c}",
    b"$HOME `id` $(id)",
    b"#comment",
    b"~tilde",
    b"...",
    b".hidden",
    b"\x01\x02\x07\x08\x0b\x0c\x0e\x1b\x1f",
    b"\x7f",
    // Latin, Greek, Hebrew, Han, an emoji with joiner, composed and decomposed of one letter.
    "grüße".as_bytes(),
    "u\u{308} decomposed".as_bytes(),
    "\u{fc} composed".as_bytes(),
    "ελληνικά".as_bytes(),
    "עברית".as_bytes(),
    "漢字".as_bytes(),
    "👩\u{200d}🚀".as_bytes(),
    // Not printable: other blanks, separators, soft hyphen, zero width, byte order mark, controls, private use.
    "\u{a0}\u{2003}\u{3000}".as_bytes(),
    "\u{2028}\u{2029}".as_bytes(),
    "\u{ad}\u{61c}\u{200b}\u{202e}\u{feff}".as_bytes(),
    "\u{80}\u{85}\u{9f}".as_bytes(),
    "\u{e000}\u{f8ff}\u{f0000}\u{10fffd}".as_bytes(),
    "\u{fffd} replacement, \u{fffe}\u{ffff} noncharacters".as_bytes(),
    // Unassigned, and assigned in Unicode 14, 15, 15.1, 16 and 17.
    "\u{378}\u{e01f0}".as_bytes(),
    "\u{870}\u{1f6dd}".as_bytes(),
    "\u{1fae8}\u{11f00}".as_bytes(),
    "\u{2ffc}\u{2ebf0}".as_bytes(),
    "\u{1c89}\u{10d40}\u{1ccf0}\u{1fae9}".as_bytes(),
    "\u{a7d2}\u{20c1}\u{323b0}".as_bytes(),
    // Not UTF-8: lone bytes, overlong forms, a surrogate, above the last code point, cut off, mixed with valid text.
    b"\xff",
    b"\xfe\xff",
    b"\x80 continuation",
    b"\xc0\xaf overlong",
    b"\xe0\x80\xaf",
    b"\xed\xa0\x80 surrogate",
    b"\xf4\x90\x80\x80 beyond",
    b"\xe2\x82 cut",
    b"caf\xe9 latin1",
];

pub(super) fn build(builder: &mut Builder) {
    for name in NAMES {
        let name = Path::new(OsStr::from_bytes(name));
        builder.file(Path::new("names/files").join(name), name.as_os_str().as_bytes());
        builder.file(Path::new("names/folders").join(name).join("file"), "");
        let link = builder.folder("names/links").join(name);
        symlink(name, &link).unwrap_or_else(|error| broken(&link, "link", error));
    }
    // The longest name, in bytes and in letters.
    builder.file(Path::new("names/files").join("n".repeat(255)), "longest");
    builder.file(Path::new("names/files").join(format!("{}x", "é".repeat(127))), "longest");
    // Names whose order differs between bytes, letters and paths.
    for name in ["order/a", "order/a.b", "order/a-b", "order/A", "order/ä", "order/a\u{10000}", "order/a\u{ffff}"] {
        builder.file(name, name);
    }
    for name in ["order/ab/c", "order/ab.d/c", "order/ab-d/c"] {
        builder.file(name, name);
    }
}
