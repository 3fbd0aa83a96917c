//! Judges a repository after a run: what must hold whatever happened.

use std::collections::{BTreeMap, BTreeSet};

use proto::id::Id;
use repository::blob_index::BlobIndex;
use repository::format::node::{Kind, Node};
use repository::format::pack::{BlobType, pack_length};
use repository::format::snapshot::Snapshot;
use repository::format::tree::TreeReader;
use repository::repository::{FileKind, Repository};
use sources::source::{Source, SourceErrorKind};

use crate::janitor::{ids, indexed};
use crate::site::{PASSWORD, Site};

/// Stands in files and nowhere else: what is stored must not show it.
pub const PLAIN_MARK: &[u8] = b"this text must never be stored as it is";

/// What is said of a pack that an index names.
pub const PACK_GONE: &str = "which is not there";
/// What the repository says of a blob that no index names.
pub const BLOB_GONE: &str = "is in no pack that the index knows";

/// A snapshot as a plain list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flat {
    /// By path; device numbers in the order of their first appearance, without the ids of trees.
    pub nodes: BTreeMap<Vec<u8>, Node>,
}

/// A repository as it was found.
pub struct Audit {
    repository: Repository,
    index: BlobIndex,
    /// Every snapshot, by id.
    pub snapshots: BTreeMap<Id, Snapshot>,
    sizes: BTreeMap<Id, u64>,
}

impl Audit {
    /// Looks at everything: files, index, packs.
    ///
    /// # Errors
    /// The first thing that must not be.
    pub async fn of(site: &Site) -> Result<Self, String> {
        let repository = site.bare_repository().await;
        let index_files = ids(&repository, FileKind::Index).await;
        check_packs(site, &repository, &index_files).await?;
        check_secrets(site, &repository)?;
        Self::begin(repository).await
    }

    /// Looks at index and snapshots only.
    ///
    /// # Errors
    /// What cannot be read.
    pub async fn begin(repository: Repository) -> Result<Self, String> {
        let index_files = ids(&repository, FileKind::Index).await;
        let index = BlobIndex::load(&repository, &index_files, None).await.map_err(|error| error.to_string())?;
        let mut snapshots = BTreeMap::new();
        for id in ids(&repository, FileKind::Snapshot).await {
            let json = repository.load_file(FileKind::Snapshot, &id).await.map_err(|error| error.to_string())?;
            let snapshot = Snapshot::decode(&json).map_err(|error| format!("snapshot {id}: {error}"))?;
            snapshots.insert(id, snapshot);
        }
        Ok(Self { repository, index, snapshots, sizes: BTreeMap::new() })
    }

    /// Reads every blob of a snapshot.
    ///
    /// # Errors
    /// What cannot be read, or contradicts itself.
    pub async fn flatten(&mut self, snapshot: &Id) -> Result<Flat, String> {
        let tree = self.snapshots.get(snapshot).ok_or(format!("snapshot {snapshot} is not there"))?.tree;
        let mut nodes = BTreeMap::new();
        let mut devices: BTreeMap<u64, u64> = BTreeMap::new();
        let mut open = vec![(Vec::new(), tree)];
        while let Some((path, tree)) = open.pop() {
            let plain = self.repository.read_blob(&self.index, BlobType::Tree, &tree).await;
            let plain = plain.map_err(|error| format!("snapshot {snapshot}, {}: {error}", shown(&path)))?;
            let mut below = Vec::new();
            for node in TreeReader::new(&plain[..]) {
                let mut node = node.map_err(|error| format!("snapshot {snapshot}, {}: {error}", shown(&path)))?;
                let path = [&path[..], b"/", &node.name[..]].concat();
                self.check_content(&path, &node).await?;
                let next = devices.len() as u64 + 1;
                node.device_id = *devices.entry(node.device_id).or_insert(next);
                below.extend(node.subtree.take().map(|subtree| (path.clone(), subtree)));
                nodes.insert(path, node);
            }
            // Depth first, in the order of names.
            open.extend(below.into_iter().rev());
        }
        Ok(Flat { nodes })
    }

    async fn check_content(&mut self, path: &[u8], node: &Node) -> Result<(), String> {
        let Some(content) = &node.content else {
            let is_right = node.kind != Kind::File && (node.kind == Kind::Dir) == node.subtree.is_some();
            return if is_right { Ok(()) } else { Err(format!("{} has neither content nor tree", shown(path))) };
        };
        let mut bytes = 0;
        for id in content {
            bytes += match self.sizes.get(id) {
                Some(size) => *size,
                None => {
                    let plain = self.repository.read_blob(&self.index, BlobType::Data, id).await;
                    let size = plain.map_err(|error| format!("{}: {error}", shown(path)))?.len() as u64;
                    self.sizes.insert(*id, size);
                    size
                }
            };
        }
        if bytes != node.size {
            return Err(format!("{} has size {} and {bytes} bytes of content", shown(path), node.size));
        }
        Ok(())
    }

    /// All content of a file.
    ///
    /// # Errors
    /// What cannot be read.
    pub async fn content(&self, node: &Node) -> Result<Vec<u8>, String> {
        let mut content = Vec::new();
        for id in node.content.iter().flatten() {
            let plain = self.repository.read_blob(&self.index, BlobType::Data, id).await;
            content.extend_from_slice(&plain.map_err(|error| error.to_string())?);
        }
        Ok(content)
    }

    /// Compares every file with what the source says now.
    ///
    /// # Errors
    /// The first one that differs.
    pub async fn compare_with_source(&self, flat: &Flat, source: &dyn Source) -> Result<(), String> {
        for (path, node) in flat.nodes.iter().filter(|(_, node)| node.kind == Kind::File) {
            let metadata = source.metadata(path).map_err(|error| error.to_string())?;
            let mut file = match source.open(path, &metadata) {
                Ok(file) => file,
                Err(error) if error.kind == SourceErrorKind::Denied => continue,
                Err(error) => return Err(error.to_string()),
            };
            let mut expected = vec![0; metadata.size as usize];
            let read = file.read_at(0, &mut expected).map_err(|error| error.to_string())?;
            if read as u64 != metadata.size || self.content(node).await? != expected {
                return Err(format!("{} is not what the source has", shown(path)));
            }
        }
        Ok(())
    }

    /// Names of lock files.
    pub async fn locks(&self) -> Vec<Id> {
        ids(&self.repository, FileKind::Lock).await
    }
}

/// Says where two snapshots differ.
pub fn difference(found: &Flat, expected: &Flat) -> Option<String> {
    let names: BTreeSet<&Vec<u8>> = found.nodes.keys().chain(expected.nodes.keys()).collect();
    names.into_iter().find_map(|path| match (found.nodes.get(path), expected.nodes.get(path)) {
        (Some(found), Some(expected)) if found == expected => None,
        (Some(found), Some(expected)) => {
            Some(format!("{} differs:\n  found    {found:?}\n  expected {expected:?}", shown(path)))
        }
        (Some(_), None) => Some(format!("{} should not be there", shown(path))),
        (None, _) => Some(format!("{} is missing", shown(path))),
    })
}

/// A path for people.
pub fn shown(path: &[u8]) -> String {
    String::from_utf8_lossy(path).into_owned()
}

/// Every pack that an index names is there, and holds what the index says.
async fn check_packs(site: &Site, repository: &Repository, index_files: &[Id]) -> Result<(), String> {
    let stored = site.memory.content();
    for (id, pack) in indexed(repository, index_files).await {
        let Some(bytes) = stored.get(&FileKind::Pack.name(&id)) else {
            return Err(format!("the index names pack {id}, {PACK_GONE}"));
        };
        let length = pack_length(&pack.blobs);
        if length != bytes.len() as u64 || Id::of(bytes) != id {
            return Err(format!("pack {id} has {} bytes, the index says {length}", bytes.len()));
        }
    }
    Ok(())
}

/// Nothing that is stored or was published shows a password, a key, or plain content.
fn check_secrets(site: &Site, repository: &Repository) -> Result<(), String> {
    let material = repository.master_key().material();
    let secrets: [&[u8]; 4] = [PASSWORD.as_bytes(), &material[..32], &material[32..64], PLAIN_MARK];
    let shows = |bytes: &[u8]| secrets.iter().any(|secret| memchr::memmem::find(bytes, secret).is_some());
    if let Some((name, _)) = site.memory.content().iter().find(|(_, bytes)| shows(bytes)) {
        return Err(format!("{name} shows a secret"));
    }
    if let Some(message) = site.messages().iter().find(|message| shows(&message.body)) {
        return Err(format!("message {} shows a secret", message.subject));
    }
    Ok(())
}
