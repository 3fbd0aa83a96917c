//! What becomes of the ranges of a large file when they are put together (DESIGN 3.4).

use proto::report::{Fragment, RangeResult};
use serde::{Deserialize, Serialize};

/// One range with its result.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RangePart {
    /// First byte.
    pub start: u64,
    /// Behind the last byte.
    pub end: u64,
    /// Its chain began at a proven cut.
    pub exact: bool,
    /// What its worker reported.
    pub result: RangeResult,
}

/// What came of a file's ranges.
#[derive(Clone, Debug)]
pub enum Stitched {
    /// The file is whole.
    Node {
        /// Its node.
        node: Fragment,
        /// Seams at which the chains of cuts met.
        matched: u64,
        /// Chunks that were stored before a shared cut and are not in the file.
        dropped: u64,
    },
    /// The range that begins at `start` must be done again, from the proven cut `from`.
    Again {
        /// Its start.
        start: u64,
        /// The proven cut.
        from: u64,
    },
    /// The chunks do not tile the file: all of it must be read again.
    Untiled,
}
