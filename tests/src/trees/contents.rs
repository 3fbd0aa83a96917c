//! Files whose sizes and bytes meet the chunker's limits: its window, its smallest and its largest chunk.

use std::fs::File;
use std::os::unix::fs::FileExt;

use super::{Builder, broken};
use crate::bytes::Bytes;

/// The chunker's window.
const WINDOW: usize = 64;
/// Its smallest chunk.
const CHUNK_MIN: usize = 512 << 10;
/// Its largest chunk.
const CHUNK_MAX: usize = 8 << 20;

pub(super) fn build(builder: &mut Builder, long: bool) {
    let mut bytes = Bytes::part(builder.seed, 1);
    builder.file("contents/empty", "");
    for size in [1, WINDOW, CHUNK_MIN].into_iter().chain(long.then_some(CHUNK_MAX)) {
        for size in [size - 1, size, size + 1] {
            builder.file(format!("contents/random-{size}"), bytes.vec(size));
            builder.file(format!("contents/zeros-{size}"), vec![0; size]);
        }
    }
    builder.file("contents/same-bytes-1", vec![0xa5; CHUNK_MIN * 2]);
    builder.file("contents/same-bytes-2", vec![0xa5; CHUNK_MIN * 2]);
    builder.file("contents/text", bytes.text(300_000));
    // A period that divides nothing, and the window itself as period.
    let runs = if long { CHUNK_MAX * 2 } else { CHUNK_MIN * 3 };
    for period in [1_000, WINDOW] {
        let piece = bytes.vec(period);
        builder.file(format!("contents/periodic-{period}"), piece.repeat(runs / period));
    }
    if long {
        long_runs(builder, &mut bytes);
    }
    sparse(builder, &mut bytes);
}

/// Data, a long run of zeros that starts at an odd place, data again.
fn long_runs(builder: &Builder, bytes: &mut Bytes) {
    for (name, head, zeros) in [("zero-run", 3 * CHUNK_MIN + 12_345, 30 << 20), ("zero-head", 0, 20 << 20)] {
        let mut content = bytes.vec(head);
        content.resize(head + zeros, 0);
        content.extend(bytes.vec(2 << 20));
        builder.file(format!("contents/{name}"), content);
    }
}

/// Holes at the start, between data and at the end.
fn sparse(builder: &Builder, bytes: &mut Bytes) {
    let path = builder.folder("contents").join("sparse");
    let write = |file: &File, bytes: &mut Bytes| {
        file.write_all_at(&bytes.vec(5_000), 5 << 20)?;
        file.write_all_at(&bytes.vec(10), (21 << 20) + 7)?;
        file.set_len(24 << 20)
    };
    let file = File::create(&path).unwrap_or_else(|error| broken(&path, "create", error));
    write(&file, bytes).unwrap_or_else(|error| broken(&path, "write", error));
    let hole = builder.folder("contents").join("hole");
    let file = File::create(&hole).unwrap_or_else(|error| broken(&hole, "create", error));
    file.set_len(3 << 20).unwrap_or_else(|error| broken(&hole, "stretch", error));
}
