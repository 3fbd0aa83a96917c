//! Tests of `seal`.

use std::io::{BufRead, Write};

use proptest::prelude::*;
use zstd::zstd_safe::get_frame_content_size;

use super::*;
use crate::test_random::SeededRandom;

fn sealer(version: RepositoryVersion, compression: Compression) -> Sealer {
    let random = Arc::new(SeededRandom::new(1));
    let key = Arc::new(MasterKey::generate(&*random).unwrap());
    Sealer::new(key, version, compression, random)
}

fn auto() -> Sealer {
    sealer(RepositoryVersion::V2, Compression::Auto)
}

fn entry_of(blob: &SealedBlob) -> PackEntry {
    PackEntry {
        kind: blob.kind,
        id: blob.id,
        offset: 0,
        length: blob.bytes.len() as u32,
        uncompressed_length: blob.is_compressed.then_some(blob.plain_length),
    }
}

fn read_all(reader: Result<BlobReader, DamagedBlob>) -> io::Result<Vec<u8>> {
    let mut plain = Vec::new();
    reader.map_err(io::Error::other)?.read_to_end(&mut plain)?;
    Ok(plain)
}

#[test]
fn what_is_compressed_follows_from_version_type_and_setting() {
    use BlobType::{Data, Tree};
    use Compression::{Auto, Max, Off};
    use RepositoryVersion::{V1, V2};
    let compressed =
        |version, compression, kind| sealer(version, compression).seal_blob(kind, &[7; 1000]).unwrap().is_compressed;
    assert!(!compressed(V1, Max, Data) && !compressed(V1, Max, Tree));
    assert!(compressed(V2, Auto, Data) && compressed(V2, Max, Tree));
    assert!(!compressed(V2, Off, Data) && compressed(V2, Off, Tree));
    assert!(!auto().seal_blob(Data, b"").unwrap().is_compressed);

    let first_byte = |version, compression| {
        let sealer = sealer(version, compression);
        sealer.key().open(&sealer.seal_file(b"{}").unwrap()).unwrap()[0]
    };
    assert_eq!(first_byte(V1, Max), b'{');
    assert_eq!(first_byte(V2, Off), 2);
    assert_eq!(first_byte(V2, Auto), 2);
}

#[test]
fn frames_tell_their_size_and_have_no_checksum() {
    let sealer = auto();
    let blob = sealer.seal_blob(BlobType::Data, &[7; 1000]).unwrap();
    let frame = sealer.key().open(&blob.bytes).unwrap();
    assert_eq!(get_frame_content_size(&frame).ok().flatten(), Some(1000));
    assert_eq!(frame[4] & 4, 0, "checksum flag of the frame header");
    assert!(blob.bytes.len() < 100);
}

#[test]
fn names_of_compressions_survive() {
    for (name, compression) in Compression::NAMES {
        assert_eq!(name.parse::<Compression>().unwrap(), compression);
        assert_eq!(compression.to_string(), name);
        assert_eq!(serde_json::to_string(&compression).unwrap(), format!("\"{name}\""));
    }
    assert!("zstd".parse::<Compression>().is_err());
}

#[test]
fn a_blob_must_be_what_its_entry_says() {
    let sealer = auto();
    let blob = sealer.seal_blob(BlobType::Tree, &[5; 300]).unwrap();
    let entry = entry_of(&blob);
    let damage = |entry: PackEntry| open_blob(sealer.key(), &entry, &blob.bytes).unwrap_err().damage;
    assert!(matches!(damage(PackEntry { length: 99, ..entry }), Damage::WrongLength { expected: 99, .. }));
    assert!(matches!(damage(PackEntry { id: Id::default(), ..entry }), Damage::WrongContent { .. }));
    let longer = PackEntry { uncompressed_length: Some(301), ..entry };
    assert!(matches!(damage(longer), Damage::WrongLength { expected: 301, actual: 300 }));
    let shorter = PackEntry { uncompressed_length: Some(299), ..entry };
    assert!(matches!(damage(shorter), Damage::Compressed(_)));
    assert!(matches!(damage(PackEntry { uncompressed_length: None, ..entry }), Damage::WrongContent { .. }));
    let message = open_blob(sealer.key(), &PackEntry { length: 99, ..entry }, &blob.bytes).unwrap_err().to_string();
    assert_eq!(message, format!("tree blob {} is damaged", blob.id));
}

#[test]
fn a_streamed_blob_is_checked_at_its_end() {
    let sealer = auto();
    let plain = vec![5; 300_000];
    let blob = sealer.seal_blob(BlobType::Tree, &plain).unwrap();
    let reader = |id| BlobReader::new(sealer.key(), BlobType::Tree, id, blob.bytes.clone(), true);
    assert_eq!(read_all(reader(blob.id)).unwrap(), plain);
    let error = read_all(reader(Id::of(b"other"))).unwrap_err();
    let damaged: &DamagedBlob = error.get_ref().unwrap().downcast_ref().unwrap();
    assert!(matches!(damaged.damage, Damage::WrongContent { actual } if actual == blob.id));
    let mut again = reader(blob.id).unwrap();
    io::copy(&mut again, &mut io::sink()).unwrap();
    assert!(again.fill_buf().unwrap().is_empty(), "the end stays the end");
    let cut = sealer.key().open(&blob.bytes).unwrap();
    let cut = sealer.key().seal(&cut[..cut.len() - 1], sealer.random()).unwrap();
    assert!(read_all(BlobReader::new(sealer.key(), BlobType::Tree, blob.id, cut.into(), true)).is_err());
}

#[test]
fn frames_of_other_encoders_are_read() {
    let sealer = auto();
    let plain: Vec<u8> = (0..100_000u32).flat_map(|number| (number / 7).to_le_bytes()).collect();
    for (level, checksum, size) in [(1, true, true), (19, false, false), (-5, true, false)] {
        let mut encoder = zstd::Encoder::new(Vec::new(), level).unwrap();
        encoder.include_checksum(checksum).unwrap();
        encoder.include_contentsize(size).unwrap();
        encoder.write_all(&plain).unwrap();
        let frame = encoder.finish().unwrap();
        let sealed = sealer.key().seal(&frame, sealer.random()).unwrap();
        let (length, uncompressed_length) = (sealed.len() as u32, Some(plain.len() as u32));
        let entry = PackEntry { kind: BlobType::Data, id: Id::of(&plain), offset: 0, length, uncompressed_length };
        assert!(open_blob(sealer.key(), &entry, &sealed).unwrap() == plain);
        let file = sealer.key().seal(&[&[2], &frame[..]].concat(), sealer.random()).unwrap();
        assert!(open_file(sealer.key(), &file).unwrap() == plain);
    }
}

#[test]
fn unpacked_files_tell_their_form() {
    let sealer = auto();
    let open = |plain: &[u8]| open_file(sealer.key(), &sealer.key().seal(plain, sealer.random()).unwrap());
    assert_eq!(open(b"").unwrap(), b"");
    assert_eq!(open(b"[1]").unwrap(), b"[1]");
    assert!(matches!(open(b"\x01{}"), Err(Damage::UnknownFile { byte: 1 })));
    assert!(matches!(open(b"\x02{}"), Err(Damage::Compressed(_))));
    assert!(matches!(open_file(sealer.key(), b""), Err(Damage::Sealed(_))));
}

#[test]
fn spooled_blobs_are_the_same_blobs() {
    let folder = tempfile::tempdir().unwrap();
    for compression in [Compression::Off, Compression::Auto] {
        let sealer = sealer(RepositoryVersion::V2, compression);
        let plain: Vec<u8> = (0..500_000u32).flat_map(u32::to_le_bytes).collect();
        let mut spool = BlobSpool::new(&sealer, BlobType::Data, folder.path()).unwrap();
        for piece in plain.chunks(70_001) {
            spool.write_all(piece).unwrap();
        }
        let spooled = spool.finish().unwrap();
        assert_eq!(spooled.id, Id::of(&plain));
        let blob = spooled.read_back().unwrap();
        assert_eq!(blob.is_compressed, compression == Compression::Auto);
        assert!(open_blob(sealer.key(), &entry_of(&blob), &blob.bytes).unwrap() == plain);
    }
    let empty = BlobSpool::new(&auto(), BlobType::Data, folder.path()).unwrap();
    assert!(matches!(empty.finish(), Err(SealError::Empty)));
    let missing = BlobSpool::new(&auto(), BlobType::Data, &folder.path().join("gone"));
    assert!(matches!(missing, Err(SealError::Spool { action: "create", .. })));
}

fn any_plain() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        prop::collection::vec(any::<u8>(), 0..2000),
        (0..40_000usize, any::<u8>()).prop_map(|(length, byte)| vec![byte; length]),
    ]
}

fn any_compression() -> impl Strategy<Value = Compression> {
    prop::sample::select(Compression::NAMES.map(|(_, compression)| compression).to_vec())
}

proptest! {
    #[test]
    fn blobs_and_files_survive(plain in any_plain(), compression in any_compression(), v1 in any::<bool>()) {
        let version = if v1 { RepositoryVersion::V1 } else { RepositoryVersion::V2 };
        let sealer = sealer(version, compression);
        let blob = sealer.seal_blob(BlobType::Data, &plain).unwrap();
        prop_assert!(open_blob(sealer.key(), &entry_of(&blob), &blob.bytes).unwrap() == plain);
        let reader = BlobReader::new(sealer.key(), blob.kind, blob.id, blob.bytes.clone(), blob.is_compressed);
        prop_assert!(read_all(reader).unwrap() == plain);
        let json = [b"{", &plain[..]].concat();
        prop_assert!(open_file(sealer.key(), &sealer.seal_file(&json).unwrap()).unwrap() == json);
    }

    #[test]
    fn damaged_blobs_are_errors(plain in any_plain(), at in any::<prop::sample::Index>(), bit in 0..8u8) {
        let sealer = auto();
        let blob = sealer.seal_blob(BlobType::Data, &plain).unwrap();
        let entry = entry_of(&blob);
        let mut bytes = blob.bytes.to_vec();
        let at = at.index(bytes.len());
        bytes[at] ^= 1 << bit;
        prop_assert!(open_blob(sealer.key(), &entry, &bytes).is_err());
        prop_assert!(open_blob(sealer.key(), &entry, &bytes[..at]).is_err());
        prop_assert!(open_file(sealer.key(), &bytes).is_err());
        let reader = BlobReader::new(sealer.key(), blob.kind, blob.id, bytes.into(), blob.is_compressed);
        prop_assert!(read_all(reader).is_err());
    }

    #[test]
    fn sealed_garbage_never_panics(garbage in prop::collection::vec(any::<u8>(), 0..200), length in 1..5000u32) {
        let sealer = auto();
        let frame = [&[0x28, 0xb5, 0x2f, 0xfd], &garbage[..]].concat();
        let sealed = sealer.key().seal(&frame, sealer.random()).unwrap();
        let entry = PackEntry {
            kind: BlobType::Data,
            id: Id::default(),
            offset: 0,
            length: sealed.len() as u32,
            uncompressed_length: Some(length),
        };
        prop_assert!(open_blob(sealer.key(), &entry, &sealed).is_err());
        prop_assert!(read_all(BlobReader::new(sealer.key(), entry.kind, entry.id, sealed.into(), true)).is_err());
    }
}
