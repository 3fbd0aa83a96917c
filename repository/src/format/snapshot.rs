//! Snapshots: the JSON that names a root tree and says when, where and of what it was made.

use proto::id::Id;

use super::json::{Cursor, Malformed, push_id, push_number};
use super::node_time::NodeTime;
use super::quote::push_json_string;

/// One snapshot.
///
/// Text is UTF-8: a byte of a path or name that is none becomes U+FFFD (see `quote::lossy`), which is what
/// restic reads back too.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// Start of the backup, in the zone of the data set.
    pub time: NodeTime,
    /// The snapshot that served to tell unchanged files.
    pub parent: Option<Id>,
    /// The root tree.
    pub tree: Id,
    /// The targets as absolute cleaned paths, in the order given.
    pub paths: Vec<String>,
    /// Name of the host whose data it is; may be empty.
    pub hostname: String,
    /// Name of the user who made it; may be empty.
    pub username: String,
    /// Number of that user.
    pub uid: u32,
    /// Number of that user's group.
    pub gid: u32,
    /// Patterns that were left out, as given.
    pub excludes: Vec<String>,
    /// Tags in the order given.
    pub tags: Vec<String>,
    /// The first form of a snapshot that was rewritten.
    pub original: Option<Id>,
    /// Program and version that made it; may be empty.
    pub program_version: String,
    /// What the backup did. Absent before restic 0.17.
    pub summary: Option<Summary>,
}

/// What a backup did. The root is not counted as a directory; symlinks and special files not as files.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Summary {
    /// Start of the backup.
    pub backup_start: NodeTime,
    /// End of the backup.
    pub backup_end: NodeTime,
    /// Files that the parent does not have.
    pub files_new: u64,
    /// Files that differ from the parent's.
    pub files_changed: u64,
    /// Files as in the parent.
    pub files_unmodified: u64,
    /// Directories that the parent does not have.
    pub dirs_new: u64,
    /// Directories that differ from the parent's.
    pub dirs_changed: u64,
    /// Directories as in the parent.
    pub dirs_unmodified: u64,
    /// Data blobs that were new to the repository.
    pub data_blobs: u64,
    /// Tree blobs that were new to the repository.
    pub tree_blobs: u64,
    /// Plain bytes of the new blobs.
    pub data_added: u64,
    /// Bytes of the new blobs as stored.
    pub data_added_packed: u64,
    /// All files.
    pub total_files_processed: u64,
    /// Bytes of all files.
    pub total_bytes_processed: u64,
}

impl Snapshot {
    /// The JSON as restic writes it: compact, keys in order, no line break at the end.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(1024);
        out.extend_from_slice(b"{\"time\":");
        self.time.push_json(&mut out);
        push_optional_id(&mut out, b",\"parent\":", self.parent.as_ref());
        push_optional_id(&mut out, b",\"tree\":", Some(&self.tree));
        push_list(&mut out, b",\"paths\":", &self.paths);
        push_nonempty(&mut out, b",\"hostname\":", &self.hostname);
        push_nonempty(&mut out, b",\"username\":", &self.username);
        for (key, number) in [(b",\"uid\":", self.uid), (b",\"gid\":", self.gid)] {
            if number != 0 {
                out.extend_from_slice(key);
                push_number(&mut out, u64::from(number));
            }
        }
        for (key, list) in [(&b",\"excludes\":"[..], &self.excludes), (b",\"tags\":", &self.tags)] {
            if !list.is_empty() {
                push_list(&mut out, key, list);
            }
        }
        push_optional_id(&mut out, b",\"original\":", self.original.as_ref());
        push_nonempty(&mut out, b",\"program_version\":", &self.program_version);
        if let Some(summary) = &self.summary {
            out.extend_from_slice(b",\"summary\":");
            summary.encode(&mut out);
        }
        out.push(b'}');
        out
    }

    /// Reads the JSON: keys in any order, unknown keys dropped, missing ones empty but for `tree`.
    ///
    /// # Errors
    /// The bytes are not JSON, a known key has a value of the wrong kind, or there is no tree.
    pub fn decode(json: &[u8]) -> Result<Self, Malformed> {
        let mut cursor = Cursor::new(json);
        let mut tree = None;
        let mut snapshot = Self {
            time: NodeTime::default(),
            parent: None,
            tree: Id::default(),
            paths: Vec::new(),
            hostname: String::new(),
            username: String::new(),
            uid: 0,
            gid: 0,
            excludes: Vec::new(),
            tags: Vec::new(),
            original: None,
            program_version: String::new(),
            summary: None,
        };
        cursor.object(|cursor, key| match key {
            b"tree" if !cursor.null() => {
                tree = Some(cursor.id()?);
                Ok(())
            }
            b"tree" => Ok(()),
            _ => snapshot.read(cursor, key),
        })?;
        cursor.end()?;
        snapshot.tree = tree.ok_or_else(|| cursor.malformed("the key `tree`"))?;
        Ok(snapshot)
    }

    fn read(&mut self, cursor: &mut Cursor<'_>, key: &[u8]) -> Result<(), Malformed> {
        if cursor.null() {
            return Ok(());
        }
        match key {
            b"time" => self.time.read(cursor)?,
            b"parent" => self.parent = Some(cursor.id()?),
            b"paths" => self.paths = read_list(cursor)?,
            b"hostname" => self.hostname = cursor.text()?,
            b"username" => self.username = cursor.text()?,
            b"uid" => self.uid = cursor.number_u32()?,
            b"gid" => self.gid = cursor.number_u32()?,
            b"excludes" => self.excludes = read_list(cursor)?,
            b"tags" => self.tags = read_list(cursor)?,
            b"original" => self.original = Some(cursor.id()?),
            b"program_version" => self.program_version = cursor.text()?,
            b"summary" => self.summary = Some(Summary::read(cursor)?),
            _ => cursor.skip()?,
        }
        Ok(())
    }
}

impl Summary {
    /// The counters with their keys, in order.
    fn counters(&mut self) -> [(&'static str, &mut u64); 12] {
        [
            ("files_new", &mut self.files_new),
            ("files_changed", &mut self.files_changed),
            ("files_unmodified", &mut self.files_unmodified),
            ("dirs_new", &mut self.dirs_new),
            ("dirs_changed", &mut self.dirs_changed),
            ("dirs_unmodified", &mut self.dirs_unmodified),
            ("data_blobs", &mut self.data_blobs),
            ("tree_blobs", &mut self.tree_blobs),
            ("data_added", &mut self.data_added),
            ("data_added_packed", &mut self.data_added_packed),
            ("total_files_processed", &mut self.total_files_processed),
            ("total_bytes_processed", &mut self.total_bytes_processed),
        ]
    }

    fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"{\"backup_start\":");
        self.backup_start.push_json(out);
        out.extend_from_slice(b",\"backup_end\":");
        self.backup_end.push_json(out);
        for (key, number) in self.clone().counters() {
            out.extend_from_slice(b",\"");
            out.extend_from_slice(key.as_bytes());
            out.extend_from_slice(b"\":");
            push_number(out, *number);
        }
        out.push(b'}');
    }

    fn read(cursor: &mut Cursor<'_>) -> Result<Self, Malformed> {
        let mut summary = Self::default();
        cursor.object(|cursor, key| {
            if cursor.null() {
                return Ok(());
            }
            match key {
                b"backup_start" => return summary.backup_start.read(cursor),
                b"backup_end" => return summary.backup_end.read(cursor),
                _ => {}
            }
            match summary.counters().into_iter().find(|(name, _)| name.as_bytes() == key) {
                Some((_, counter)) => *counter = cursor.number()?,
                None => cursor.skip()?,
            }
            Ok(())
        })?;
        Ok(summary)
    }
}

fn push_optional_id(out: &mut Vec<u8>, key: &[u8], id: Option<&Id>) {
    if let Some(id) = id {
        out.extend_from_slice(key);
        push_id(out, id);
    }
}

fn push_nonempty(out: &mut Vec<u8>, key: &[u8], text: &str) {
    if !text.is_empty() {
        out.extend_from_slice(key);
        push_json_string(out, text.as_bytes());
    }
}

fn push_list(out: &mut Vec<u8>, key: &[u8], list: &[String]) {
    out.extend_from_slice(key);
    out.push(b'[');
    for (index, text) in list.iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        push_json_string(out, text.as_bytes());
    }
    out.push(b']');
}

fn read_list(cursor: &mut Cursor<'_>) -> Result<Vec<String>, Malformed> {
    let mut list = Vec::new();
    cursor.array(|cursor| {
        list.push(cursor.text()?);
        Ok(())
    })?;
    Ok(list)
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    const MINIMAL: &str = r#"{"time":"2023-11-14T22:13:20.123456789+01:00","tree":"ac08ce34ba4f8123618661bef2425f7028ffb9ac740578a3ee88684d2523fee8","paths":["/a"]}"#;

    const FULL: &str = r#"{"time":"2026-11-24T09:14:11.123456789+01:00","parent":"1111111111111111111111111111111111111111111111111111111111111111","tree":"ac08ce34ba4f8123618661bef2425f7028ffb9ac740578a3ee88684d2523fee8","paths":["/b","/a\u003cb\u003e"],"hostname":"h","username":"u","uid":1000,"gid":100,"excludes":["*.o"],"tags":["b","a"],"original":"2222222222222222222222222222222222222222222222222222222222222222","program_version":"restic 0.19.1","summary":{"backup_start":"2026-11-24T09:14:11.123456789+01:00","backup_end":"2026-11-24T09:14:12+01:00","files_new":1,"files_changed":2,"files_unmodified":3,"dirs_new":4,"dirs_changed":5,"dirs_unmodified":6,"data_blobs":7,"tree_blobs":8,"data_added":9,"data_added_packed":10,"total_files_processed":11,"total_bytes_processed":12}}"#;

    #[test]
    fn snapshots_come_back_byte_for_byte() {
        for text in [MINIMAL, FULL] {
            let snapshot = Snapshot::decode(text.as_bytes()).unwrap();
            assert_eq!(String::from_utf8(snapshot.encode()).unwrap(), text);
        }
        let summary = Snapshot::decode(FULL.as_bytes()).unwrap().summary.unwrap();
        assert_eq!((summary.dirs_unmodified, summary.total_bytes_processed), (6, 12));
    }

    #[test]
    fn what_others_write_is_read() {
        let text = FULL.replacen('{', r#"{ "label":"x", "parents":[{"a":[]}], "delete":"NotSet", "#, 1);
        let text = text.replace("\"backup_start\"", "\"command\":\"rustic backup\",\"backup_start\"");
        assert_eq!(Snapshot::decode(text.as_bytes()), Snapshot::decode(FULL.as_bytes()));
        let nulls = MINIMAL.replace("[\"/a\"]", "null,\"parent\":null,\"tags\":null,\"summary\":null");
        assert!(Snapshot::decode(nulls.as_bytes()).unwrap().paths.is_empty());
    }

    #[test]
    fn damaged_snapshots_are_refused() {
        assert!(Snapshot::decode(b"").is_err());
        assert!(Snapshot::decode(b"[]").is_err());
        assert_eq!(Snapshot::decode(b"{}").unwrap_err().expected, "the key `tree`");
        assert!(Snapshot::decode(MINIMAL.replace("[\"/a\"]", "[1]").as_bytes()).is_err());
        assert!(Snapshot::decode(MINIMAL.replace("2023", "x").as_bytes()).is_err());
        for length in 0..FULL.len() {
            assert!(Snapshot::decode(&FULL.as_bytes()[..length]).is_err(), "{length}");
        }
    }

    proptest! {
        #[test]
        fn any_snapshot_round_trips(
            ids: [[u8; 32]; 3], flags: [bool; 3], texts: [String; 3], lists in [vec(any::<String>(), 0..4), vec(any::<String>(), 0..4), vec(any::<String>(), 0..4)],
            uid: u32, gid: u32, counts: [u64; 12],
        ) {
            let ids = ids.map(Id::from_bytes);
            let [hostname, username, program_version] = texts;
            let [paths, excludes, tags] = lists;
            let mut summary = Summary::default();
            summary.counters().into_iter().zip(counts).for_each(|((_, counter), count)| *counter = count);
            let snapshot = Snapshot {
                time: NodeTime::default(), parent: flags[0].then_some(ids[0]), tree: ids[1], paths, hostname, username, uid, gid,
                excludes, tags, original: flags[1].then_some(ids[2]), program_version, summary: flags[2].then_some(summary),
            };
            let json = snapshot.encode();
            prop_assert!(serde_json::from_slice::<serde_json::Value>(&json).is_ok());
            prop_assert_eq!(Snapshot::decode(&json).unwrap(), snapshot);
        }
    }
}
