//! Data sets that are made from a seed, so that every machine measures the same.

use std::fs;
use std::io::Write;
use std::path::Path;

/// A generator of bytes that do not compress (xorshift64*).
struct Bytes(u64);

impl Bytes {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn fill(&mut self, buffer: &mut [u8]) {
        for chunk in buffer.chunks_mut(8) {
            let bytes = self.next().to_le_bytes();
            chunk.copy_from_slice(&bytes[..chunk.len()]);
        }
    }
}

/// Files of 1 to 64 KiB, 100 a folder, half of their bytes text.
pub(crate) fn small_files(folder: &Path, count: u64) -> Result<(), String> {
    let mut bytes = Bytes(42);
    let words: Vec<String> = (0..4096).map(|_| format!("{:x} ", bytes.next() >> 40)).collect();
    for number in 0..count {
        let length = 1024 << (bytes.next() % 7);
        let mut content = vec![0; length / 2];
        bytes.fill(&mut content);
        while content.len() < length {
            content.extend_from_slice(words[bytes.next() as usize % words.len()].as_bytes());
        }
        write_numbered(folder, number, &content)?;
    }
    Ok(())
}

/// One file that does not compress.
pub(crate) fn large_file(folder: &Path, mib: u64) -> Result<(), String> {
    let failed = |error: std::io::Error| format!("write below {}: {error}", folder.display());
    fs::create_dir_all(folder).map_err(failed)?;
    let mut file = fs::File::create(folder.join("file")).map_err(failed)?;
    let (mut bytes, mut buffer) = (Bytes(7), vec![0; 1 << 20]);
    for _ in 0..mib {
        bytes.fill(&mut buffer);
        file.write_all(&buffer).map_err(failed)?;
    }
    Ok(())
}

/// Files of one length that do not compress, 100 a folder.
pub(crate) fn equal_files(folder: &Path, count: u64, length: u64) -> Result<(), String> {
    let (mut bytes, mut buffer) = (Bytes(11), vec![0; length as usize]);
    for number in 0..count {
        bytes.fill(&mut buffer);
        write_numbered(folder, number, &buffer)?;
    }
    Ok(())
}

/// The length of all files below `folder` together.
pub(crate) fn bytes_below(folder: &Path) -> Result<u64, String> {
    let failed = |error: std::io::Error| format!("list {}: {error}", folder.display());
    let mut total = 0;
    for entry in fs::read_dir(folder).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let metadata = entry.metadata().map_err(failed)?;
        total += if metadata.is_dir() { bytes_below(&entry.path())? } else { metadata.len() };
    }
    Ok(total)
}

/// A file whose name is a number, 100 a folder.
fn write_numbered(folder: &Path, number: u64, content: &[u8]) -> Result<(), String> {
    let below = folder.join(format!("{}", number / 100));
    if number.is_multiple_of(100) {
        fs::create_dir_all(&below).map_err(|error| format!("make {}: {error}", below.display()))?;
    }
    let path = below.join(format!("{number}"));
    fs::write(&path, content).map_err(|error| format!("write {}: {error}", path.display()))
}
