//! The repository's configuration: version, id, chunker polynomial.
//!
//! Stored sealed and never compressed. Keys that restic does not know are kept apart: rustic puts
//! settings there that restic ignores, and some of them change what a writer must do.

use std::collections::BTreeMap;

use proto::handles::{Random, RandomExt};
use proto::id::Id;
use serde::{Deserialize, Serialize};

use crate::chunker::{Polynomial, PolynomialError};

/// Version of the repository format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RepositoryVersion {
    /// Nothing is compressed.
    V1,
    /// Blobs and unpacked files may be compressed.
    V2,
}

impl RepositoryVersion {
    /// 1 or 2.
    pub fn number(self) -> u32 {
        match self {
            Self::V1 => 1,
            Self::V2 => 2,
        }
    }
}

/// The configuration of a repository.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// Version of the format.
    pub version: RepositoryVersion,
    /// Random name of the repository; not a digest of anything.
    pub id: Id,
    /// Cuts of files depend on it.
    pub chunker_polynomial: Polynomial,
    /// Keys that restic does not know, in alphabetical order. They are not written back.
    pub foreign: BTreeMap<String, serde_json::Value>,
}

/// Why a configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// Not JSON of the right shape.
    #[error("the configuration is not valid")]
    Json(#[source] serde_json::Error),
    /// Made by a later format.
    #[error("repository version {version} is not supported, only 1 and 2 are")]
    UnknownVersion {
        /// What the configuration says.
        version: u32,
    },
    /// Not a polynomial that files could be cut by.
    #[error("the configuration cannot be used")]
    BadPolynomial(#[from] PolynomialError),
}

#[derive(Serialize, Deserialize)]
struct ConfigJson {
    version: u32,
    id: Id,
    chunker_polynomial: String,
    #[serde(flatten, skip_serializing)]
    foreign: BTreeMap<String, serde_json::Value>,
}

impl Config {
    /// The configuration of a new repository of version 2, with a random id.
    pub fn new(chunker_polynomial: Polynomial, random: &dyn Random) -> Self {
        let id = Id::from_bytes(random.bytes());
        Self { version: RepositoryVersion::V2, id, chunker_polynomial, foreign: BTreeMap::new() }
    }

    /// Reads the opened bytes of the `config` file.
    ///
    /// # Errors
    /// Each of [`ConfigError`].
    pub fn decode(json: &[u8]) -> Result<Self, ConfigError> {
        let ConfigJson { version, id, chunker_polynomial, foreign } =
            serde_json::from_slice(json).map_err(ConfigError::Json)?;
        let version = match version {
            1 => RepositoryVersion::V1,
            2 => RepositoryVersion::V2,
            _ => return Err(ConfigError::UnknownVersion { version }),
        };
        Ok(Self { version, id, chunker_polynomial: chunker_polynomial.parse()?, foreign })
    }

    /// The bytes to seal; foreign keys are left out, as restic does.
    pub fn encode(&self) -> Vec<u8> {
        // Three values without characters that JSON escapes.
        format!(
            r#"{{"version":{},"id":"{}","chunker_polynomial":"{}"}}"#,
            self.version.number(),
            self.id,
            self.chunker_polynomial
        )
        .into_bytes()
    }

    /// The settings of another program that a writer of ours would act against: other chunk sizes
    /// or another chunker (nothing would be deduplicated), the hot half of a hot and cold pair, and
    /// a promise to append only. Reading is safe with all of them.
    pub fn obstacles_to_writing(&self) -> Vec<&str> {
        let is_obstacle = |(key, value): &(&String, &serde_json::Value)| match key.as_str() {
            "chunker" => !value.is_null() && *value != "rabin",
            "chunk_size" => differs(value, 1 << 20),
            "chunk_min_size" => differs(value, 512 << 10),
            "chunk_max_size" => differs(value, 8 << 20),
            "is_hot" | "append_only" => *value == true,
            _ => false,
        };
        self.foreign.iter().filter(is_obstacle).map(|(key, _)| key.as_str()).collect()
    }
}

fn differs(value: &serde_json::Value, usual: u64) -> bool {
    !value.is_null() && *value != usual
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_random::SeededRandom;

    const ID: &str = "ac08ce34ba4f8123618661bef2425f7028ffb9ac740578a3ee88684d2523fee8";

    fn with(extra: &str) -> String {
        format!(r#"{{"version":2,"id":"{ID}","chunker_polynomial":"3da3358b4dc173"{extra}}}"#)
    }

    #[test]
    fn bytes_are_those_of_restic() {
        let config = Config::decode(with("").as_bytes()).unwrap();
        assert_eq!(config.version, RepositoryVersion::V2);
        assert_eq!(String::from_utf8(config.encode()).unwrap(), with(""));
        let polynomial = "3da3358b4dc173".parse().unwrap();
        let new = Config::new(polynomial, &SeededRandom::new(1));
        assert_eq!(Config::decode(&new.encode()).unwrap(), new);
    }

    #[test]
    fn what_is_not_a_configuration_is_refused() {
        assert!(matches!(Config::decode(b"{}"), Err(ConfigError::Json(_))));
        let version_3 = with("").replace("\"version\":2", "\"version\":3");
        assert!(matches!(Config::decode(version_3.as_bytes()), Err(ConfigError::UnknownVersion { version: 3 })));
        for bad in ["", "0x3d", "3d", "3da3358b4dc172", "3da3358b4dc1733da"] {
            let json = with("").replace("3da3358b4dc173", bad);
            assert!(matches!(Config::decode(json.as_bytes()), Err(ConfigError::BadPolynomial { .. })), "{bad}");
        }
    }

    #[test]
    fn foreign_settings_that_matter_are_found() {
        let obstacles = |extra: &str| {
            let config = Config::decode(with(extra).as_bytes()).unwrap();
            config.obstacles_to_writing().join(" ")
        };
        assert_eq!(obstacles(r#","treepack_size":4194304,"chunker":"rabin","chunk_size":1048576"#), "");
        assert_eq!(obstacles(r#","is_hot":false,"append_only":null"#), "");
        assert_eq!(obstacles(r#","chunker":"fixed_size","chunk_size":4096"#), "chunk_size chunker");
        assert_eq!(obstacles(r#","chunk_min_size":1,"is_hot":true"#), "chunk_min_size is_hot");
    }
}
