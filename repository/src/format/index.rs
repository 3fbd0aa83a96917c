//! Index files: which pack holds which blobs.
//!
//! `{"packs":[{"id":..,"blobs":[{"id","type","offset","length","uncompressed_length"?}]}]}` and a line
//! feed. All blobs of a pack stand in one index file. Unknown keys are skipped.

use std::fmt;
use std::fmt::Write as _;
use std::marker::PhantomData;

use proto::id::Id;
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, de};

use crate::crypto::OVERHEAD;
use crate::format::pack::{BlobType, PackEntry};

/// An index file is closed when it holds this many blobs.
pub const BLOBS_FULL: usize = 50_000;

/// One pack of an index file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IndexedPack {
    /// The pack's id.
    pub id: Id,
    /// All its blobs.
    pub blobs: Vec<PackEntry>,
}

/// What an index file holds beside its packs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct IndexRemarks {
    /// Packs that rustic marked as not needed any more. They do not count as indexed.
    pub packs_to_delete: Vec<Id>,
    /// Index files that this one replaces (restic before 0.17). Readers ignore it.
    pub supersedes: Vec<Id>,
}

/// Why an index file cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum IndexError {
    /// Not JSON of the right shape.
    #[error("the index is not valid")]
    Json(#[source] serde_json::Error),
    /// A bare list, as the first versions of restic wrote it and later ones refuse it.
    #[error("the index has the format of 2014, which is not supported any more")]
    TooOld,
}

/// The bytes of an index file, to be sealed as an unpacked file.
pub fn encode_index<'a>(packs: impl IntoIterator<Item = &'a IndexedPack>) -> Vec<u8> {
    let mut json = String::from(r#"{"packs":["#);
    for (index, pack) in packs.into_iter().enumerate() {
        let comma = if index > 0 { "," } else { "" };
        // Writing to a string cannot fail.
        let _ = write!(json, r#"{comma}{{"id":"{}","blobs":["#, pack.id);
        for (index, blob) in pack.blobs.iter().enumerate() {
            let PackEntry { kind, id, offset, length, uncompressed_length } = blob;
            let comma = if index > 0 { "," } else { "" };
            let _ = write!(json, r#"{comma}{{"id":"{id}","type":"{kind}","offset":{offset},"length":{length}"#);
            if let Some(length) = uncompressed_length {
                let _ = write!(json, r#","uncompressed_length":{length}"#);
            }
            json.push('}');
        }
        json.push_str("]}");
    }
    json.push_str("]}\n");
    json.into_bytes()
}

/// Reads an index file pack by pack, so that only one pack's blobs are held at a time.
///
/// # Errors
/// `Json` for anything that is not an index, also a blob shorter than any sealed one or one that
/// ends beyond 4 GiB; `TooOld`. Packs may have been handed to `each_pack` before.
pub fn decode_index(json: &[u8], each_pack: impl FnMut(IndexedPack)) -> Result<IndexRemarks, IndexError> {
    if json.trim_ascii_start().starts_with(b"[") {
        return Err(IndexError::TooOld);
    }
    let mut deserializer = serde_json::Deserializer::from_slice(json);
    let remarks = deserializer.deserialize_map(FileVisitor(each_pack)).map_err(IndexError::Json)?;
    deserializer.end().map_err(IndexError::Json)?;
    Ok(remarks)
}

struct FileVisitor<F>(F);

impl<'de, F: FnMut(IndexedPack)> Visitor<'de> for FileVisitor<F> {
    type Value = IndexRemarks;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an index")
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<IndexRemarks, A::Error> {
        let mut remarks = IndexRemarks::default();
        let mut has_packs = false;
        while let Some(key) = map.next_key::<FileKey>()? {
            match key {
                FileKey::Packs => {
                    has_packs = true;
                    map.next_value_seed(Packs::<PackJson, _>(|pack: PackJson| (self.0)(pack.into()), PhantomData))?;
                }
                FileKey::PacksToDelete => {
                    let ids = &mut remarks.packs_to_delete;
                    map.next_value_seed(Packs::<MarkedJson, _>(|pack: MarkedJson| ids.push(pack.id), PhantomData))?;
                }
                FileKey::Supersedes => {
                    remarks.supersedes = map.next_value::<Option<Vec<Id>>>()?.unwrap_or_default();
                }
                FileKey::Other => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        if has_packs { Ok(remarks) } else { Err(de::Error::missing_field("packs")) }
    }
}

#[derive(Deserialize)]
#[serde(field_identifier, rename_all = "snake_case")]
enum FileKey {
    Packs,
    PacksToDelete,
    Supersedes,
    #[serde(other)]
    Other,
}

/// A list (or `null`, which Go writes for an empty one) whose elements go to a function one by one.
struct Packs<T, F>(F, PhantomData<T>);

impl<'de, T: Deserialize<'de>, F: FnMut(T)> DeserializeSeed<'de> for Packs<T, F> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de, T: Deserialize<'de>, F: FnMut(T)> Visitor<'de> for Packs<T, F> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of packs")
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut seq: A) -> Result<(), A::Error> {
        while let Some(pack) = seq.next_element()? {
            (self.0)(pack);
        }
        Ok(())
    }
}

#[derive(Deserialize)]
struct PackJson {
    id: Id,
    #[serde(default, deserialize_with = "blobs")]
    blobs: Vec<PackEntry>,
}

#[derive(Deserialize)]
struct MarkedJson {
    id: Id,
}

impl From<PackJson> for IndexedPack {
    fn from(PackJson { id, blobs }: PackJson) -> Self {
        Self { id, blobs }
    }
}

#[derive(Deserialize)]
struct BlobJson {
    id: Id,
    #[serde(rename = "type")]
    kind: BlobType,
    offset: u32,
    length: u32,
    #[serde(default)]
    uncompressed_length: u32,
}

fn blobs<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<PackEntry>, D::Error> {
    let blobs: Option<Vec<Checked>> = Option::deserialize(deserializer)?;
    Ok(blobs.unwrap_or_default().into_iter().map(|Checked(entry)| entry).collect())
}

/// A blob that can exist.
struct Checked(PackEntry);

impl<'de> Deserialize<'de> for Checked {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let BlobJson { id, kind, offset, length, uncompressed_length } = BlobJson::deserialize(deserializer)?;
        if (length as usize) < OVERHEAD || offset.checked_add(length).is_none() {
            let problem = format!("blob {id} cannot have {length} bytes at {offset}");
            return Err(de::Error::custom(problem));
        }
        let uncompressed_length = (uncompressed_length != 0).then_some(uncompressed_length);
        Ok(Self(PackEntry { kind, id, offset, length, uncompressed_length }))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn decode(json: &[u8]) -> Result<(Vec<IndexedPack>, IndexRemarks), IndexError> {
        let mut packs = Vec::new();
        let remarks = decode_index(json, |pack| packs.push(pack))?;
        Ok((packs, remarks))
    }

    fn id(byte: u8) -> Id {
        Id::from_bytes([byte; 32])
    }

    #[test]
    fn bytes_are_those_of_restic() {
        let entry =
            |kind, offset, uncompressed_length| PackEntry { kind, id: id(2), offset, length: 38, uncompressed_length };
        let blobs = vec![entry(BlobType::Data, 0, Some(6)), entry(BlobType::Tree, 38, None)];
        let packs = [IndexedPack { id: id(1), blobs }];
        let (one, two) = (id(1), id(2));
        let expected = format!(
            concat!(
                r#"{{"packs":[{{"id":"{one}","blobs":[{{"id":"{two}","type":"data","offset":0,"length":38,"#,
                r#""uncompressed_length":6}},{{"id":"{two}","type":"tree","offset":38,"length":38}}]}}]}}"#,
                "\n"
            ),
            one = one,
            two = two
        );
        assert_eq!(String::from_utf8(encode_index(&packs)).unwrap(), expected);
        assert_eq!(decode(expected.as_bytes()).unwrap(), (packs.to_vec(), IndexRemarks::default()));
    }

    #[test]
    fn keys_of_other_writers_are_tolerated() {
        let (one, two, three) = (id(1), id(2), id(3));
        let json = format!(
            concat!(
                r#"{{"supersedes":["{}"],"time":"x","packs":[{{"time":1,"blobs":null,"id":"{}","size":5}}],"#,
                r#""packs_to_delete":[{{"id":"{}","time":"2026","blobs":[{{"id":"odd"}}]}}],"more":[[1]]}}"#
            ),
            one, two, three
        );
        let (packs, remarks) = decode(json.as_bytes()).unwrap();
        assert_eq!(packs, [IndexedPack { id: two, blobs: vec![] }]);
        assert_eq!(remarks, IndexRemarks { packs_to_delete: vec![three], supersedes: vec![one] });
        assert!(decode(br#"{"packs":null,"supersedes":null}"#).unwrap().0.is_empty());
    }

    #[test]
    fn what_is_not_an_index_is_refused() {
        assert!(matches!(decode(b" [{}]"), Err(IndexError::TooOld)));
        let one = id(1);
        let blob = |offset: &str, length: &str| {
            format!(
                r#"{{"packs":[{{"id":"{one}","blobs":[{{"id":"{one}","type":"data","offset":{offset},"length":{length}}}]}}]}}"#
            )
        };
        assert!(decode(blob("0", "32").as_bytes()).is_ok());
        for bad in [blob("0", "31"), blob("4294967295", "32"), blob("-1", "32"), blob("4294967296", "32")] {
            assert!(matches!(decode(bad.as_bytes()), Err(IndexError::Json(_))), "{bad}");
        }
        let odd_type = blob("0", "32").replace("data", "blob");
        for bad in ["", "{}", r#"{"packs":{}}"#, r#"{"packs":[]} x"#, &odd_type] {
            assert!(decode(bad.as_bytes()).is_err(), "{bad}");
        }
    }

    fn any_packs() -> impl Strategy<Value = Vec<IndexedPack>> {
        let length = (0..u32::MAX / 2, 32..u32::MAX / 2);
        let blob = (any::<[u8; 32]>(), any::<bool>(), length, prop::option::of(1..=u32::MAX)).prop_map(
            |(id, tree, (offset, length), uncompressed_length)| {
                let kind = if tree { BlobType::Tree } else { BlobType::Data };
                PackEntry { kind, id: Id::from_bytes(id), offset, length, uncompressed_length }
            },
        );
        let pack = (any::<[u8; 32]>(), prop::collection::vec(blob, 0..6))
            .prop_map(|(id, blobs)| IndexedPack { id: Id::from_bytes(id), blobs });
        prop::collection::vec(pack, 0..5)
    }

    proptest! {
        #[test]
        fn indexes_survive(packs in any_packs()) {
            prop_assert_eq!(decode(&encode_index(&packs)).unwrap().0, packs);
        }

        #[test]
        fn cut_and_changed_files_never_panic(
            packs in any_packs(),
            at in any::<prop::sample::Index>(),
            byte in any::<u8>(),
        ) {
            let mut json = encode_index(&packs);
            let at = at.index(json.len() - 1);
            prop_assert!(decode(&json[..at]).is_err());
            json[at] = byte;
            let _ = decode(&json);
        }
    }
}
