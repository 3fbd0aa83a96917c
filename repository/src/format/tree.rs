//! Trees: one directory's nodes in the order of their names, written and read as streams.
//!
//! A directory may have millions of entries, so neither side holds more than one node.

use std::io::{self, BufRead, Write};

use proto::id::Id;

use super::json::{Cursor, Malformed};
use super::node::{Kind, Node, read_name};

/// The tree of an empty directory.
pub const EMPTY_TREE: &[u8] = b"{\"nodes\":[]}\n";

/// The id of [`EMPTY_TREE`].
pub const EMPTY_TREE_ID: Id = Id::from_bytes([
    0xac, 0x08, 0xce, 0x34, 0xba, 0x4f, 0x81, 0x23, 0x61, 0x86, 0x61, 0xbe, 0xf2, 0x42, 0x5f, 0x70, 0x28, 0xff, 0xb9,
    0xac, 0x74, 0x05, 0x78, 0xa3, 0xee, 0x88, 0x68, 0x4d, 0x25, 0x23, 0xfe, 0xe8,
]);

/// A node cannot be added to a tree.
#[derive(Debug, thiserror::Error)]
pub enum TreeWriteError {
    /// Names must ascend strictly, byte by byte.
    #[error("{name:?} cannot follow {previous:?} in a tree: names must ascend")]
    NotAscending {
        /// The last name written, as far as it is UTF-8.
        previous: String,
        /// The name refused.
        name: String,
    },
    /// An entry must have a name.
    #[error("an entry without a name cannot be in a tree")]
    EmptyName,
    /// The writer below failed.
    #[error("the tree cannot be written")]
    Write(#[source] io::Error),
}

/// Writes a tree node by node.
#[derive(Debug)]
pub struct TreeWriter<W> {
    writer: W,
    last_name: Vec<u8>,
    nodes: u64,
}

impl<W: Write> TreeWriter<W> {
    /// Starts a tree.
    ///
    /// # Errors
    /// [`TreeWriteError::Write`].
    pub fn new(mut writer: W) -> Result<Self, TreeWriteError> {
        writer.write_all(b"{\"nodes\":[").map_err(TreeWriteError::Write)?;
        Ok(Self { writer, last_name: Vec::new(), nodes: 0 })
    }

    /// Adds a node that was encoded already; `name` is its raw name.
    ///
    /// # Errors
    /// See [`TreeWriteError`]. After a refused name the tree is as before.
    pub fn push(&mut self, name: &[u8], encoded: &[u8]) -> Result<(), TreeWriteError> {
        if name.is_empty() {
            return Err(TreeWriteError::EmptyName);
        }
        if name <= self.last_name.as_slice() {
            let [previous, name] = [&self.last_name, name].map(super::quote::lossy);
            return Err(TreeWriteError::NotAscending { previous, name });
        }
        if self.nodes > 0 {
            self.writer.write_all(b",").map_err(TreeWriteError::Write)?;
        }
        self.writer.write_all(encoded).map_err(TreeWriteError::Write)?;
        self.last_name.clear();
        self.last_name.extend_from_slice(name);
        self.nodes += 1;
        Ok(())
    }

    /// Nodes added so far.
    pub fn nodes(&self) -> u64 {
        self.nodes
    }

    /// Ends the tree and gives the writer back, not flushed.
    ///
    /// # Errors
    /// [`TreeWriteError::Write`].
    pub fn finish(mut self) -> Result<W, TreeWriteError> {
        self.writer.write_all(b"]}\n").map_err(TreeWriteError::Write)?;
        Ok(self.writer)
    }
}

/// A tree cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum TreeReadError {
    /// The bytes are no tree. Reading again gives the same.
    #[error("the tree is damaged near byte {position}")]
    Damaged {
        /// Where the value that cannot be read starts, counted from the start of the tree.
        position: u64,
        /// What is wrong there; its position counts from the start of that value.
        source: Malformed,
    },
    /// The bytes end before the tree does.
    #[error("the tree ends early, after {bytes_read} bytes")]
    Truncated {
        /// The length of what is there.
        bytes_read: u64,
    },
    /// The reader below failed.
    #[error("the tree cannot be read")]
    Read(#[source] io::Error),
}

/// One node of a tree that is being read: its bytes, valid until the next one is asked for.
#[derive(Clone, Copy, Debug)]
pub struct RawNode<'a> {
    json: &'a [u8],
    position: u64,
}

impl<'a> RawNode<'a> {
    /// The JSON as it stands in the tree.
    pub fn json(&self) -> &'a [u8] {
        self.json
    }

    /// The raw name and the kind, without decoding the rest. Cheap where they come first, as restic and
    /// rustic write them. Both are empty if the keys are missing.
    ///
    /// # Errors
    /// [`TreeReadError::Damaged`].
    pub fn name_and_kind(&self) -> Result<(Vec<u8>, Kind), TreeReadError> {
        let (mut name, mut kind) = (None, None);
        let mut cursor = Cursor::new(self.json);
        let mut done = false;
        let read = cursor.object(|cursor, key| {
            match key {
                b"name" => name = Some(read_name(cursor)?),
                b"type" => kind = Some(Kind::from_name(&cursor.string()?)),
                _ => cursor.skip()?,
            }
            done = name.is_some() && kind.is_some();
            // Nothing more is of interest: leave by way of an error that is not one.
            if done { Err(cursor.malformed("nothing more")) } else { Ok(()) }
        });
        match read {
            Err(source) if !done => Err(self.damaged(source)),
            _ => Ok((name.unwrap_or_default(), kind.unwrap_or_default())),
        }
    }

    /// The whole node.
    ///
    /// # Errors
    /// [`TreeReadError::Damaged`].
    pub fn decode(&self) -> Result<Node, TreeReadError> {
        Node::decode(self.json).map_err(|source| self.damaged(source))
    }

    fn damaged(&self, source: Malformed) -> TreeReadError {
        TreeReadError::Damaged { position: self.position, source }
    }
}

/// What the reader expects next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Start,
    NextNode,
    End,
}

/// Reads a tree node by node, in the order in which they stand. White space and unknown keys before and
/// after `nodes` are skipped. Names are not compared: who relies on their order must look.
///
/// As an iterator it gives decoded nodes; after an error it ends.
#[derive(Debug)]
pub struct TreeReader<R> {
    scanner: Scanner<R>,
    place: Place,
    json: Vec<u8>,
}

impl<R: BufRead> TreeReader<R> {
    /// A reader of the tree that `reader` gives.
    pub fn new(reader: R) -> Self {
        Self { scanner: Scanner { reader, position: 0 }, place: Place::Start, json: Vec::new() }
    }

    /// The next node, not decoded; `None` after the last one.
    ///
    /// # Errors
    /// See [`TreeReadError`]. Afterwards there are no more nodes.
    pub fn next_raw(&mut self) -> Result<Option<RawNode<'_>>, TreeReadError> {
        let place = std::mem::replace(&mut self.place, Place::End);
        if place == Place::Start {
            self.scanner.expect(b'{', "an object")?;
            self.find_nodes()?;
        }
        let more = match place {
            Place::End => return Ok(None),
            Place::Start => self.scanner.peek()? != b']',
            Place::NextNode => match self.scanner.peek()? {
                b',' => {
                    self.scanner.expect(b',', "a comma")?;
                    true
                }
                b']' => false,
                _ => return Err(self.scanner.damaged("a comma or the end of the nodes")),
            },
        };
        if !more {
            self.scanner.expect(b']', "the end of the nodes")?;
            self.skip_rest()?;
            return Ok(None);
        }
        self.json.clear();
        self.scanner.peek()?;
        let position = self.scanner.position;
        self.scanner.value(Some(&mut self.json))?;
        self.place = Place::NextNode;
        Ok(Some(RawNode { json: &self.json, position }))
    }

    /// Reads up to the opening bracket of the nodes.
    fn find_nodes(&mut self) -> Result<(), TreeReadError> {
        loop {
            self.json.clear();
            self.scanner.string(&mut self.json)?;
            self.scanner.expect(b':', "a colon")?;
            if self.json == b"\"nodes\"" {
                return self.scanner.expect(b'[', "an array of nodes");
            }
            self.scanner.value(None)?;
            self.scanner.expect(b',', "a comma and the nodes")?;
        }
    }

    /// Reads what follows the nodes, up to the end of the tree's object.
    fn skip_rest(&mut self) -> Result<(), TreeReadError> {
        while self.scanner.peek()? != b'}' {
            self.scanner.expect(b',', "a comma or the end of the tree")?;
            self.json.clear();
            self.scanner.string(&mut self.json)?;
            self.scanner.expect(b':', "a colon")?;
            self.scanner.value(None)?;
        }
        self.scanner.expect(b'}', "the end of the tree")
    }
}

impl<R: BufRead> Iterator for TreeReader<R> {
    type Item = Result<Node, TreeReadError>;

    fn next(&mut self) -> Option<Self::Item> {
        let node = self.next_raw().and_then(|raw| raw.map(|raw| raw.decode()).transpose()).transpose();
        if matches!(node, Some(Err(_))) {
            self.place = Place::End;
        }
        node
    }
}

/// Finds where values end, in a stream and without looking into them.
#[derive(Debug)]
struct Scanner<R> {
    reader: R,
    /// Bytes consumed.
    position: u64,
}

impl<R: BufRead> Scanner<R> {
    fn damaged(&self, expected: &'static str) -> TreeReadError {
        TreeReadError::Damaged { position: self.position, source: Malformed { position: 0, expected } }
    }

    fn consume(&mut self, bytes: usize) {
        self.reader.consume(bytes);
        self.position += bytes as u64;
    }

    fn buffer(&mut self) -> Result<&[u8], TreeReadError> {
        loop {
            match self.reader.fill_buf() {
                Ok([]) => return Err(TreeReadError::Truncated { bytes_read: self.position }),
                Ok(_) => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(TreeReadError::Read(error)),
            }
        }
        // Asked once more only because the borrow of the loop cannot be returned; nothing is read again.
        self.reader.fill_buf().map_err(TreeReadError::Read)
    }

    /// The next byte that is no white space, not consumed.
    fn peek(&mut self) -> Result<u8, TreeReadError> {
        loop {
            let buffer = self.buffer()?;
            let space = buffer.iter().take_while(|byte| matches!(byte, b' ' | b'\t' | b'\n' | b'\r')).count();
            let found = buffer.get(space).copied();
            self.consume(space);
            if let Some(byte) = found {
                return Ok(byte);
            }
        }
    }

    fn expect(&mut self, byte: u8, expected: &'static str) -> Result<(), TreeReadError> {
        if self.peek()? != byte {
            return Err(self.damaged(expected));
        }
        self.consume(1);
        Ok(())
    }

    /// Appends a string with its quotes to `json`.
    fn string(&mut self, json: &mut Vec<u8>) -> Result<(), TreeReadError> {
        if self.peek()? != b'"' {
            return Err(self.damaged("a key"));
        }
        self.value(Some(json))
    }

    /// Consumes one value of any kind and appends its bytes to `json`. Whether it is well formed, its
    /// decoder tells.
    fn value(&mut self, mut json: Option<&mut Vec<u8>>) -> Result<(), TreeReadError> {
        if matches!(self.peek()?, b',' | b':' | b']' | b'}') {
            return Err(self.damaged("a value"));
        }
        let mut extent = Extent::default();
        loop {
            let buffer = self.buffer()?;
            let end = extent.end_in(buffer);
            let used = end.unwrap_or(buffer.len());
            if let Some(json) = &mut json {
                json.extend_from_slice(&buffer[..used]);
            }
            self.consume(used);
            if end.is_some() {
                return Ok(());
            }
        }
    }
}

/// How far a value reaches: brackets and strings are followed, all else is left to its decoder.
#[derive(Default)]
struct Extent {
    depth: usize,
    in_string: bool,
    escaped: bool,
}

impl Extent {
    /// Takes the next bytes; how many of them belong to the value if it ends among them.
    fn end_in(&mut self, bytes: &[u8]) -> Option<usize> {
        let mut at = 0;
        while at < bytes.len() {
            if self.escaped {
                self.escaped = false;
                at += 1;
            } else if self.in_string {
                at += bytes[at..].iter().position(|&byte| byte == b'"' || byte == b'\\')? + 1;
                self.escaped = bytes[at - 1] == b'\\';
                self.in_string = self.escaped;
                if !self.in_string && self.depth == 0 {
                    return Some(at);
                }
            } else {
                match bytes[at] {
                    b'"' => self.in_string = true,
                    b'{' | b'[' => self.depth += 1,
                    b'}' | b']' if self.depth > 1 => self.depth -= 1,
                    b'}' | b']' if self.depth == 1 => return Some(at + 1),
                    b'}' | b']' | b',' | b':' | b' ' | b'\t' | b'\n' | b'\r' if self.depth == 0 => return Some(at),
                    _ => {}
                }
                at += 1;
            }
        }
        None
    }
}

#[cfg(test)]
#[path = "tree_tests.rs"]
mod tests;
