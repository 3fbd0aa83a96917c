//! One entry of a tree: what restic knows about a file, directory or other item, and its JSON.

use proto::id::Id;

use super::json::{Cursor, Malformed, push_base64, push_id, push_number};
pub use super::node_time::{NodeTime, Zone};
use super::quote::{push_json_string, push_name, unquote_name};

/// What an entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub enum Kind {
    /// A regular file.
    File,
    /// A directory.
    Dir,
    /// A symbolic link.
    Symlink,
    /// A block device.
    Device,
    /// A character device.
    CharDevice,
    /// A named pipe.
    Fifo,
    /// A socket. restic's archiver leaves these out.
    Socket,
    /// Something the system calls irregular. Old versions of restic wrote it, check complains of it.
    Irregular,
    /// Anything else a reader meets. Written as the empty kind; restic's check complains of it.
    #[default]
    Unknown,
}

impl Kind {
    /// The value of the key `type`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::File => "file",
            Self::Dir => "dir",
            Self::Symlink => "symlink",
            Self::Device => "dev",
            Self::CharDevice => "chardev",
            Self::Fifo => "fifo",
            Self::Socket => "socket",
            Self::Irregular => "irregular",
            Self::Unknown => "",
        }
    }

    /// The kind of a value of the key `type`.
    pub fn from_name(name: &[u8]) -> Self {
        match name {
            b"file" => Self::File,
            b"dir" => Self::Dir,
            b"symlink" => Self::Symlink,
            b"dev" => Self::Device,
            b"chardev" => Self::CharDevice,
            b"fifo" => Self::Fifo,
            b"socket" => Self::Socket,
            b"irregular" => Self::Irregular,
            _ => Self::Unknown,
        }
    }

    /// The kind of an `st_mode` of Linux.
    pub const fn from_stat(st_mode: u32) -> Self {
        match st_mode & stat::FORMAT {
            stat::REGULAR => Self::File,
            stat::DIRECTORY => Self::Dir,
            stat::SYMLINK => Self::Symlink,
            stat::BLOCK_DEVICE => Self::Device,
            stat::CHAR_DEVICE => Self::CharDevice,
            stat::FIFO => Self::Fifo,
            stat::SOCKET => Self::Socket,
            _ => Self::Unknown,
        }
    }
}

/// Bits of `st_mode`, the same on every Linux.
mod stat {
    pub(super) const FORMAT: u32 = 0o170_000;
    pub(super) const SOCKET: u32 = 0o140_000;
    pub(super) const SYMLINK: u32 = 0o120_000;
    pub(super) const REGULAR: u32 = 0o100_000;
    pub(super) const BLOCK_DEVICE: u32 = 0o060_000;
    pub(super) const DIRECTORY: u32 = 0o040_000;
    pub(super) const CHAR_DEVICE: u32 = 0o020_000;
    pub(super) const FIFO: u32 = 0o010_000;
    pub(super) const SET_USER: u32 = 0o4000;
    pub(super) const SET_GROUP: u32 = 0o2000;
    pub(super) const STICKY: u32 = 0o1000;
    pub(super) const PERMISSIONS: u32 = 0o777;
}

/// Bits of Go's `FileMode`, in which trees hold the mode.
pub mod go_mode {
    /// A directory.
    pub const DIR: u32 = 1 << 31;
    /// A symbolic link.
    pub const SYMLINK: u32 = 1 << 27;
    /// A device; a block device unless [`CHAR_DEVICE`] is set too.
    pub const DEVICE: u32 = 1 << 26;
    /// A named pipe.
    pub const NAMED_PIPE: u32 = 1 << 25;
    /// A socket.
    pub const SOCKET: u32 = 1 << 24;
    /// Set user id on execution.
    pub const SET_USER: u32 = 1 << 23;
    /// Set group id on execution.
    pub const SET_GROUP: u32 = 1 << 22;
    /// A character device, beside [`DEVICE`].
    pub const CHAR_DEVICE: u32 = 1 << 21;
    /// Only the owner may remove entries.
    pub const STICKY: u32 = 1 << 20;
    /// Something the system calls irregular.
    pub const IRREGULAR: u32 = 1 << 19;
}

/// The bits other than the permissions: of Go, of `st_mode`.
const SPECIAL_BITS: [(u32, u32); 3] =
    [(go_mode::SET_USER, stat::SET_USER), (go_mode::SET_GROUP, stat::SET_GROUP), (go_mode::STICKY, stat::STICKY)];

/// The mode of a node from an `st_mode` of Linux.
pub fn mode_from_stat(st_mode: u32) -> u32 {
    let kind = match Kind::from_stat(st_mode) {
        Kind::Dir => go_mode::DIR,
        Kind::Symlink => go_mode::SYMLINK,
        Kind::Device => go_mode::DEVICE,
        Kind::CharDevice => go_mode::DEVICE | go_mode::CHAR_DEVICE,
        Kind::Fifo => go_mode::NAMED_PIPE,
        Kind::Socket => go_mode::SOCKET,
        Kind::File | Kind::Irregular | Kind::Unknown => 0,
    };
    let special = SPECIAL_BITS.iter().filter(|&&(_, stat)| st_mode & stat != 0).map(|&(go, _)| go);
    special.fold(kind | st_mode & stat::PERMISSIONS, |mode, bit| mode | bit)
}

/// The bits that `chmod` sets (07777) from the mode of a node.
pub fn permissions(mode: u32) -> u32 {
    let special = SPECIAL_BITS.iter().filter(|&&(go, _)| mode & go != 0).map(|&(_, stat)| stat);
    special.fold(mode & stat::PERMISSIONS, |bits, bit| bits | bit)
}

/// The whole `st_mode` from the mode of a node: kind and permissions. Without a kind bit: a regular file.
pub fn stat_mode(mode: u32) -> u32 {
    let kind = if mode & go_mode::DIR != 0 {
        stat::DIRECTORY
    } else if mode & go_mode::SYMLINK != 0 {
        stat::SYMLINK
    } else if mode & go_mode::DEVICE != 0 {
        if mode & go_mode::CHAR_DEVICE != 0 { stat::CHAR_DEVICE } else { stat::BLOCK_DEVICE }
    } else if mode & go_mode::NAMED_PIPE != 0 {
        stat::FIFO
    } else if mode & go_mode::SOCKET != 0 {
        stat::SOCKET
    } else {
        stat::REGULAR
    };
    kind | permissions(mode)
}

/// One extended attribute.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Default)]
pub struct ExtendedAttribute {
    /// Raw bytes of the name. A byte that is no UTF-8 is lost in the repository and read back as FF.
    pub name: Vec<u8>,
    /// Raw bytes of the value.
    pub value: Vec<u8>,
}

/// One entry of a tree.
///
/// Text that comes from the system is kept as raw bytes, which need not be UTF-8. [`Node::encode`] writes
/// what restic 0.19.1 writes, and gives back the same bytes for a node that restic wrote.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Node {
    /// Raw bytes of the file name, without any folder.
    pub name: Vec<u8>,
    /// What it is.
    pub kind: Kind,
    /// Bits of [`go_mode`] and the permissions 0777.
    pub mode: u32,
    /// Last change of the content.
    pub mtime: NodeTime,
    /// Last access. restic writes the mtime here unless it is told otherwise.
    pub atime: NodeTime,
    /// Last change of the inode.
    pub ctime: NodeTime,
    /// Number of the owner.
    pub uid: u32,
    /// Number of the group.
    pub gid: u32,
    /// Name of the owner in the user database of the host; empty if it has none. An invalid byte is lost
    /// in the repository and read back as FF.
    pub user: Vec<u8>,
    /// Name of the group; as `user`.
    pub group: Vec<u8>,
    /// `st_ino`.
    pub inode: u64,
    /// `st_dev`.
    pub device_id: u64,
    /// Bytes that were read; files only.
    pub size: u64,
    /// `st_nlink` of files, symlinks and devices; 0 for all others.
    pub links: u64,
    /// Raw bytes that a symlink points to.
    pub link_target: Vec<u8>,
    /// In the order in which the kernel lists them.
    pub extended_attributes: Vec<ExtendedAttribute>,
    /// What restic for Windows knows: an object of JSON, kept byte for byte.
    pub generic_attributes: Option<Box<str>>,
    /// `st_rdev` of devices.
    pub device: u64,
    /// Data blobs of a file, in order. `None` for anything but a file.
    pub content: Option<Vec<Id>>,
    /// Tree of a directory.
    pub subtree: Option<Id>,
    /// What went wrong when the node was made. Not written by current versions of restic.
    pub error: Vec<u8>,
}

impl Node {
    /// The bits that `chmod` sets (07777).
    pub fn permissions(&self) -> u32 {
        permissions(self.mode)
    }

    /// Appends the JSON of the node: compact, keys in restic's order.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"{\"name\":");
        push_name(out, &self.name);
        out.extend_from_slice(b",\"type\":\"");
        out.extend_from_slice(self.kind.as_str().as_bytes());
        out.push(b'"');
        push_nonzero(out, b",\"mode\":", u64::from(self.mode));
        for (key, time) in [(b",\"mtime\":", &self.mtime), (b",\"atime\":", &self.atime), (b",\"ctime\":", &self.ctime)]
        {
            out.extend_from_slice(key);
            time.push_json(out);
        }
        out.extend_from_slice(b",\"uid\":");
        push_number(out, u64::from(self.uid));
        out.extend_from_slice(b",\"gid\":");
        push_number(out, u64::from(self.gid));
        push_nonempty(out, b",\"user\":", &self.user);
        push_nonempty(out, b",\"group\":", &self.group);
        push_nonzero(out, b",\"inode\":", self.inode);
        push_nonzero(out, b",\"device_id\":", self.device_id);
        push_nonzero(out, b",\"size\":", self.size);
        push_nonzero(out, b",\"links\":", self.links);
        self.encode_link_target(out);
        self.encode_attributes(out);
        push_nonzero(out, b",\"device\":", self.device);
        self.encode_content(out);
        push_nonempty(out, b",\"error\":", &self.error);
        out.push(b'}');
    }

    fn encode_link_target(&self, out: &mut Vec<u8>) {
        push_nonempty(out, b",\"linktarget\":", &self.link_target);
        if std::str::from_utf8(&self.link_target).is_err() {
            out.extend_from_slice(b",\"linktarget_raw\":");
            push_base64(out, &self.link_target);
        }
    }

    fn encode_attributes(&self, out: &mut Vec<u8>) {
        for (index, attribute) in self.extended_attributes.iter().enumerate() {
            out.extend_from_slice(if index == 0 { b",\"extended_attributes\":[" } else { b"," });
            out.extend_from_slice(b"{\"name\":");
            push_json_string(out, &attribute.name);
            out.extend_from_slice(b",\"value\":");
            push_base64(out, &attribute.value);
            out.push(b'}');
        }
        if !self.extended_attributes.is_empty() {
            out.push(b']');
        }
        if let Some(generic) = &self.generic_attributes {
            out.extend_from_slice(b",\"generic_attributes\":");
            out.extend_from_slice(generic.as_bytes());
        }
    }

    fn encode_content(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b",\"content\":");
        match &self.content {
            None => out.extend_from_slice(b"null"),
            Some(ids) => {
                out.reserve(68 * ids.len() + 2);
                out.push(b'[');
                for (index, id) in ids.iter().enumerate() {
                    if index > 0 {
                        out.push(b',');
                    }
                    push_id(out, id);
                }
                out.push(b']');
            }
        }
        if let Some(subtree) = &self.subtree {
            out.extend_from_slice(b",\"subtree\":");
            push_id(out, subtree);
        }
    }

    /// Reads the JSON of one node: keys in any order, unknown keys left out, missing ones as zero.
    ///
    /// # Errors
    /// The bytes are not JSON, or a known key has a value of the wrong kind.
    pub fn decode(json: &[u8]) -> Result<Self, Malformed> {
        let mut cursor = Cursor::new(json);
        let mut node = Self::default();
        let mut raw_target = None;
        cursor.object(|cursor, key| node.read(cursor, key, &mut raw_target))?;
        cursor.end()?;
        if let Some(target) = raw_target {
            node.link_target = target;
        }
        Ok(node)
    }

    /// Reads the value of `key`.
    fn read(&mut self, cursor: &mut Cursor<'_>, key: &[u8], raw_target: &mut Option<Vec<u8>>) -> Result<(), Malformed> {
        if key == b"content" {
            return self.read_content(cursor);
        }
        if cursor.null() {
            return Ok(());
        }
        match key {
            b"name" => self.name = read_name(cursor)?,
            b"type" => self.kind = Kind::from_name(&cursor.string()?),
            b"mode" => self.mode = cursor.number_u32()?,
            b"mtime" => self.mtime.read(cursor)?,
            b"atime" => self.atime.read(cursor)?,
            b"ctime" => self.ctime.read(cursor)?,
            b"uid" => self.uid = cursor.number_u32()?,
            b"gid" => self.gid = cursor.number_u32()?,
            b"user" => self.user = cursor.raw_string()?.into_owned(),
            b"group" => self.group = cursor.raw_string()?.into_owned(),
            b"inode" => self.inode = cursor.number()?,
            b"device_id" => self.device_id = cursor.number()?,
            b"size" => self.size = cursor.number()?,
            b"links" => self.links = cursor.number()?,
            b"linktarget" => self.link_target = cursor.string()?.into_owned(),
            b"linktarget_raw" => *raw_target = Some(cursor.base64()?),
            b"extended_attributes" => self.extended_attributes = read_attributes(cursor)?,
            b"generic_attributes" => self.generic_attributes = read_generic(cursor)?,
            b"device" => self.device = cursor.number()?,
            b"subtree" => self.subtree = Some(cursor.id()?),
            b"error" => self.error = cursor.raw_string()?.into_owned(),
            _ => cursor.skip()?,
        }
        Ok(())
    }

    fn read_content(&mut self, cursor: &mut Cursor<'_>) -> Result<(), Malformed> {
        if cursor.null() {
            self.content = None;
            return Ok(());
        }
        let mut ids = Vec::new();
        cursor.array(|cursor| {
            ids.push(cursor.id()?);
            Ok(())
        })?;
        self.content = Some(ids);
        Ok(())
    }
}

/// Reads a quoted name.
pub(super) fn read_name(cursor: &mut Cursor<'_>) -> Result<Vec<u8>, Malformed> {
    let malformed = cursor.malformed("a name quoted as restic quotes names");
    unquote_name(&cursor.string()?).map_err(|_| malformed)
}

fn read_attributes(cursor: &mut Cursor<'_>) -> Result<Vec<ExtendedAttribute>, Malformed> {
    let mut attributes = Vec::new();
    cursor.array(|cursor| {
        let mut attribute = ExtendedAttribute::default();
        cursor.object(|cursor, key| {
            match key {
                b"name" => attribute.name = cursor.raw_string()?.into_owned(),
                b"value" => attribute.value = cursor.base64()?,
                _ => cursor.skip()?,
            }
            Ok(())
        })?;
        attributes.push(attribute);
        Ok(())
    })?;
    Ok(attributes)
}

fn read_generic(cursor: &mut Cursor<'_>) -> Result<Option<Box<str>>, Malformed> {
    let malformed = cursor.malformed("an object of UTF-8");
    let raw = cursor.raw()?;
    let text = std::str::from_utf8(raw).ok().filter(|text| text.starts_with('{'));
    let text = text.ok_or(malformed)?;
    // restic leaves the key out when it holds nothing.
    let empty = text[1..].trim_start().starts_with('}');
    Ok((!empty).then(|| text.into()))
}

fn push_nonzero(out: &mut Vec<u8>, key: &[u8], number: u64) {
    if number != 0 {
        out.extend_from_slice(key);
        push_number(out, number);
    }
}

fn push_nonempty(out: &mut Vec<u8>, key: &[u8], text: &[u8]) {
    if !text.is_empty() {
        out.extend_from_slice(key);
        push_json_string(out, text);
    }
}

#[cfg(test)]
#[path = "node_tests.rs"]
mod tests;
