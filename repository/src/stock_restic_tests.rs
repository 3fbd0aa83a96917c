//! Reads repositories that stock restic 0.19.1 wrote (see `testdata/README.md`).

use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};

use proto::id::Id;

use crate::crypto::MasterKey;
use crate::format::config::{Config, RepositoryVersion};
use crate::format::index::{IndexedPack, decode_index};
use crate::format::key::KeyFile;
use crate::format::pack::{BlobType, TRAILER_LENGTH, open_header, sealed_header_length};
use crate::seal::{BlobReader, open_blob, open_file};

const PASSWORD: &[u8] = b"longshore";

struct Fixture {
    folder: PathBuf,
    key: MasterKey,
}

impl Fixture {
    fn open(name: &str) -> Self {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata").join(name);
        let keys = files_of(&folder.join("keys"));
        let key = KeyFile::decode(&keys[0].1).unwrap().open(PASSWORD).unwrap();
        Self { folder, key }
    }

    fn config(&self) -> Config {
        let sealed = std::fs::read(self.folder.join("config")).unwrap();
        let plain = self.key.open(&sealed).unwrap();
        let config = Config::decode(&plain).unwrap();
        assert_eq!(config.encode(), plain);
        config
    }

    fn unpacked(&self, kind: &str) -> Vec<Vec<u8>> {
        let files = files_of(&self.folder.join(kind));
        files.iter().map(|(_, sealed)| open_file(&self.key, sealed).unwrap()).collect()
    }

    fn index(&self) -> BTreeMap<Id, IndexedPack> {
        let mut packs = BTreeMap::new();
        for json in self.unpacked("index") {
            decode_index(&json, |pack| assert!(packs.insert(pack.id, pack).is_none())).unwrap();
        }
        packs
    }
}

/// The files of a folder; each name is the digest of its content.
fn files_of(folder: &Path) -> Vec<(Id, Vec<u8>)> {
    let names = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let read = |path: PathBuf| {
        let id: Id = path.file_name().unwrap().to_str().unwrap().parse().unwrap();
        let bytes = std::fs::read(path).unwrap();
        assert_eq!(Id::of(&bytes), id);
        (id, bytes)
    };
    names.map(read).collect()
}

/// Checks every byte of a fixture and gives the plain blobs by type.
fn read_everything(fixture: &Fixture) -> BTreeMap<(BlobType, Id), Vec<u8>> {
    let mut blobs = BTreeMap::new();
    let mut index = fixture.index();
    for folder in std::fs::read_dir(fixture.folder.join("data")).unwrap() {
        for (pack_id, bytes) in files_of(&folder.unwrap().path()) {
            let pack_length = bytes.len() as u64;
            let header_length = sealed_header_length(&bytes, pack_length).unwrap() as usize;
            let header_end = bytes.len() - TRAILER_LENGTH;
            let header = &bytes[header_end - header_length..header_end];
            let entries = open_header(&fixture.key, header, pack_length).unwrap();
            let mut indexed = index.remove(&pack_id).unwrap().blobs;
            indexed.sort_by_key(|entry| entry.offset);
            assert_eq!(entries, indexed);
            for entry in entries {
                let sealed = &bytes[entry.range().start as usize..entry.range().end as usize];
                let plain = open_blob(&fixture.key, &entry, sealed).unwrap();
                let is_compressed = entry.uncompressed_length.is_some();
                let mut streamed = Vec::new();
                let sealed = sealed.to_vec().into();
                let reader = BlobReader::new(&fixture.key, entry.kind, entry.id, sealed, is_compressed);
                reader.unwrap().read_to_end(&mut streamed).unwrap();
                assert!(streamed == plain);
                blobs.insert((entry.kind, entry.id), plain);
            }
        }
    }
    assert!(index.is_empty(), "packs without a file: {index:?}");
    blobs
}

#[test]
fn repositories_of_both_versions_are_read() {
    for (name, version) in [("restic-0.19.1-v1", RepositoryVersion::V1), ("restic-0.19.1-v2", RepositoryVersion::V2)] {
        let fixture = Fixture::open(name);
        assert_eq!(fixture.config().version, version);
        assert!(fixture.config().obstacles_to_writing().is_empty());
        let blobs = read_everything(&fixture);
        let greeting = blobs.get(&(BlobType::Data, Id::of(b"hello harbour\n"))).unwrap();
        assert_eq!(greeting, b"hello harbour\n");
        let snapshots = fixture.unpacked("snapshots");
        assert_eq!(snapshots.len(), 1);
        let snapshot: serde_json::Value = serde_json::from_slice(&snapshots[0]).unwrap();
        let tree: Id = snapshot["tree"].as_str().unwrap().parse().unwrap();
        let root = blobs.get(&(BlobType::Tree, tree)).unwrap();
        assert!(root.starts_with(br#"{"nodes":[{"name":"src","type":"dir""#));
    }
}
