//! Makes `repository/src/format/printable.rs` again: which code points restic writes literally.
//!
//! The table is not computed from Unicode data but asked from stock restic, because it depends on the
//! Unicode version of the Go that built it. Files are created whose names hold every code point once,
//! `restic backup` reads them, and `restic cat tree` shows which code points came out escaped.

use std::fmt::Write as _;
use std::fs;
use std::io;
use std::path::Path;
use std::process::{Command, Stdio};

/// Code points a file name may hold: all but NUL, `/` and the surrogates (which are no UTF-8).
fn code_points() -> impl Iterator<Item = char> {
    ('\u{1}'..=char::MAX).filter(|&point| point != '/')
}

/// A file name holds at most 255 bytes: 63 code points of 4 bytes.
const POINTS_PER_NAME: usize = 63;

/// Files per directory, so that no tree becomes large.
const NAMES_PER_DIRECTORY: usize = 1000;

/// Asks the restic at `restic` about every code point and returns the Rust source of the table.
///
/// Takes half a minute and 20,000 empty files in the temporary directory, which are removed again.
///
/// # Errors
/// The temporary directory cannot be written, restic fails, or its answer is not understood.
pub(crate) fn generate(restic: &Path) -> io::Result<String> {
    let scratch = std::env::temp_dir().join(format!("longshore-printable-{}", std::process::id()));
    fs::create_dir_all(&scratch)?;
    let answer = ask(&restic.canonicalize()?, &scratch);
    fs::remove_dir_all(&scratch)?;
    let (version, printable) = answer?;
    source(&version, &printable)
}

/// The version line of restic, and per code point in order whether its name came out literally.
fn ask(restic: &Path, scratch: &Path) -> io::Result<(String, Vec<(char, bool)>)> {
    let run = |arguments: &[&str]| {
        let output = Command::new(restic)
            .args(arguments)
            .current_dir(scratch)
            .env("RESTIC_REPOSITORY", scratch.join("repository"))
            .env("RESTIC_PASSWORD", "printable")
            .env("RESTIC_CACHE_DIR", scratch.join("cache"))
            .stdin(Stdio::null())
            .stderr(Stdio::inherit())
            .output()?;
        if !output.status.success() {
            return Err(io::Error::other(format!("restic {arguments:?}: {}", output.status)));
        }
        Ok(output.stdout)
    };
    let directories = write_names(&scratch.join("names"))?;
    run(&["init", "--quiet"])?;
    run(&["backup", "--quiet", "names"])?;
    let snapshots: serde_json::Value = serde_json::from_slice(&run(&["snapshots", "--json"])?)?;
    let snapshot = snapshots[0]["id"].as_str().ok_or_else(|| io::Error::other("restic lists no snapshot"))?;
    let mut printable = Vec::new();
    for directory in 0..directories {
        let tree = run(&["cat", "--quiet", "tree", &format!("{snapshot}:names/{directory:04}")])?;
        read_names(&tree, &mut printable)?;
    }
    printable.sort_unstable();
    if !printable.iter().map(|&(point, _)| point).eq(code_points()) {
        return Err(io::Error::other("restic's trees do not hold every code point once"));
    }
    let version = String::from_utf8_lossy(&run(&["version"])?).trim().to_owned();
    Ok((version, printable))
}

/// Creates the files under `root/0000`, `root/0001`..; returns the number of directories.
fn write_names(root: &Path) -> io::Result<usize> {
    let points: Vec<char> = code_points().collect();
    let directories = points.chunks(POINTS_PER_NAME * NAMES_PER_DIRECTORY);
    let count = directories.len();
    for (number, directory) in directories.enumerate() {
        let path = root.join(format!("{number:04}"));
        fs::create_dir_all(&path)?;
        for name in directory.chunks(POINTS_PER_NAME) {
            fs::write(path.join(name.iter().collect::<String>()), "")?;
        }
    }
    Ok(count)
}

/// Appends what the names of one tree tell.
fn read_names(tree: &[u8], printable: &mut Vec<(char, bool)>) -> io::Result<()> {
    let bad = |what: &str| io::Error::other(format!("a tree of restic is not understood: {what}"));
    let tree: serde_json::Value = serde_json::from_slice(tree)?;
    for node in tree["nodes"].as_array().ok_or_else(|| bad("no nodes"))? {
        let mut rest = node["name"].as_str().ok_or_else(|| bad("a node without a name"))?;
        while let Some(first) = rest.chars().next() {
            let (point, literal, length) = match first {
                '\\' => {
                    let (point, length) = escape(rest).ok_or_else(|| bad(rest))?;
                    (point, false, length)
                }
                _ => (first, true, first.len_utf8()),
            };
            printable.push((point, literal));
            rest = &rest[length..];
        }
    }
    Ok(())
}

/// The code point that the escape at the start of `text` stands for, and the escape's length.
fn escape(text: &str) -> Option<(char, usize)> {
    let digits = match text.chars().nth(1)? {
        'x' => 2,
        'u' => 4,
        'U' => 8,
        letter => {
            let short =
                [('a', 7), ('b', 8), ('f', 12), ('n', 10), ('r', 13), ('t', 9), ('v', 11), ('\\', 92), ('"', 34)];
            let (_, code) = short.into_iter().find(|&(known, _)| known == letter)?;
            return Some((char::from(code), 2));
        }
    };
    let code = u32::from_str_radix(text.get(2..2 + digits)?, 16).ok()?;
    Some((char::from_u32(code)?, 2 + digits))
}

/// The generated file, as `cargo fmt` leaves it.
fn source(version: &str, printable: &[(char, bool)]) -> io::Result<String> {
    let mut edges = Vec::new();
    let mut inside = false;
    let mut push = |point: u32, literal: bool| {
        if literal != inside {
            edges.push(point);
            inside = literal;
        }
    };
    let mut next = 0;
    for &(point, literal) in printable {
        // A gap (NUL, surrogates) is not printable, but `/` is: it merely cannot stand in a file name.
        if next == u32::from('/') {
            push(next, true);
        } else if next != u32::from(point) {
            push(next, false);
        }
        // The two that are quoted for another reason than being unprintable.
        push(u32::from(point), literal || point == '"' || point == '\\');
        next = u32::from(point) + 1;
    }
    push(next, false);

    let mut text = format!(
        "//! Which code points restic writes literally in names. Generated by `cargo xtask printable` from the\n\
         //! answers of {version}; not written by hand.\n\n\
         /// Code points at which printable and unprintable ones take turns: those from an even entry up to\n\
         /// the next entry are printable.\n\
         pub(super) const EDGES: [u32; {}] = [",
        edges.len()
    );
    let mut column = usize::MAX;
    for edge in edges {
        let item = format!("{edge:#x},");
        if column.saturating_add(item.len() + 1) > 119 {
            text.push_str("\n    ");
            column = 4;
        } else {
            text.push(' ');
            column += 1;
        }
        column += item.len();
        write!(text, "{item}").map_err(io::Error::other)?;
    }
    text.push_str("\n];\n");
    Ok(text)
}
