//! Time zones: which offset a zone has at an instant, by the rules that restic's Go follows.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::Timestamp;
use jiff::tz::TimeZone;

/// Where Go looks for the file of a named zone, in this order.
const ZONE_FOLDERS: [&str; 4] =
    ["/usr/share/zoneinfo", "/usr/share/lib/zoneinfo", "/usr/lib/locale/TZ", "/etc/zoneinfo"];

/// The zone of the machine where `TZ` is not set.
const LOCAL_ZONE_FILE: &str = "/etc/localtime";

/// The Gregorian calendar repeats after 400 years, which are a whole number of weeks.
const CALENDAR_CYCLE_SECONDS: i64 = 146_097 * 86_400;

/// 2200-01-01T00:00:00Z. From here on only a zone's yearly rule counts, which repeats with the calendar.
const RULES_ONLY_SECONDS: i64 = 7_258_118_400;

/// A time zone: a name, and the offset from UTC at every instant. Cheap to clone and to ask.
#[derive(Clone, Debug)]
pub struct Zone(Arc<Rules>);

#[derive(Debug)]
struct Rules {
    name: String,
    tzif: Vec<u8>,
    /// The offset in seconds before the first change.
    first_offset: i32,
    /// (instant, offset in seconds from then on), ascending, up to one calendar cycle after 2200.
    changes: Vec<(i64, i32)>,
}

/// The zone cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum ZoneError {
    /// The text is no name of a zone: empty, absolute, or with `..`.
    #[error("{name:?} is not the name of a time zone")]
    BadName {
        /// The text.
        name: String,
    },
    /// This machine has no such zone; perhaps it has no time zone data at all.
    #[error("time zone {name:?} is not in the time zone data of this machine (looked in {ZONE_FOLDERS:?})")]
    Unknown {
        /// The name of the zone.
        name: String,
    },
    /// The file of the zone cannot be read.
    #[error("time zone file {} cannot be read", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The rules of the zone are not TZif.
    #[error("the rules of time zone {name:?} are not TZif")]
    BadRules {
        /// The name of the zone.
        name: String,
        /// What is wrong.
        source: jiff::Error,
    },
}

impl Zone {
    /// Coordinated universal time; its offset is written as `Z`.
    pub fn utc() -> Self {
        Self(Arc::new(Rules { name: "UTC".to_owned(), tzif: Vec::new(), first_offset: 0, changes: Vec::new() }))
    }

    /// The zone of this name (`Europe/Berlin`) in the time zone data of this machine. `UTC` needs none.
    ///
    /// # Errors
    /// See [`ZoneError`].
    pub fn named(name: &str) -> Result<Self, ZoneError> {
        if name == "UTC" {
            return Ok(Self::utc());
        }
        if name.is_empty() || name.starts_with(['/', '\\']) || name.split('/').any(|part| part == "..") {
            return Err(ZoneError::BadName { name: name.to_owned() });
        }
        Self::find(name)?.ok_or_else(|| ZoneError::Unknown { name: name.to_owned() })
    }

    /// Looks for a file of the time zone data.
    fn find(name: &str) -> Result<Option<Self>, ZoneError> {
        for folder in ZONE_FOLDERS {
            let zone = Self::from_file(name, &Path::new(folder).join(name))?;
            if zone.is_some() {
                return Ok(zone);
            }
        }
        Ok(None)
    }

    /// A zone from rules that were taken elsewhere with [`Zone::tzif`], so that two machines with
    /// different time zone data agree. No bytes mean UTC.
    ///
    /// # Errors
    /// The rules are not TZif.
    pub fn from_tzif(name: &str, tzif: &[u8]) -> Result<Self, ZoneError> {
        if tzif.is_empty() {
            return Ok(Self::utc());
        }
        let zone =
            TimeZone::tzif(name, tzif).map_err(|source| ZoneError::BadRules { name: name.to_owned(), source })?;
        let end = RULES_ONLY_SECONDS + CALENDAR_CYCLE_SECONDS;
        let first_offset = zone.to_offset(Timestamp::MIN).seconds();
        let mut changes: Vec<(i64, i32)> = Vec::new();
        let mut last = Timestamp::MIN.as_second();
        for transition in zone.following(Timestamp::MIN) {
            let (at, offset) = (transition.timestamp().as_second(), transition.offset().seconds());
            // Where no yearly rule follows the last change, jiff repeats that change for ever.
            if at <= last || at >= end {
                break;
            }
            last = at;
            if changes.last().map_or(first_offset, |&(_, before)| before) != offset {
                changes.push((at, offset));
            }
        }
        Ok(Self(Arc::new(Rules { name: name.to_owned(), tzif: tzif.to_vec(), first_offset, changes })))
    }

    /// The zone in which restic would write times if it were started here: what the environment variable
    /// `TZ` says, else `/etc/localtime`; UTC where that cannot be read.
    pub fn local() -> Self {
        Self::local_for(std::env::var_os("TZ").as_deref())
    }

    /// Like [`Zone::local`], for a given value of `TZ` (`None`: not set).
    ///
    /// Go's rules: empty is UTC; one colon in front is dropped; an absolute path names a file, all else a
    /// zone. A POSIX rule (`CET-1CEST`) is not understood, and what is not found is UTC.
    pub fn local_for(tz: Option<&OsStr>) -> Self {
        let Some(tz) = tz else {
            let path = Path::new(LOCAL_ZONE_FILE);
            return Self::from_file(&zone_name(path), path).ok().flatten().unwrap_or_else(Self::utc);
        };
        let tz = tz.as_bytes();
        let tz = OsStr::from_bytes(tz.strip_prefix(b":").unwrap_or(tz));
        let path = Path::new(tz);
        let zone = match tz.to_str() {
            _ if path.is_absolute() => Self::from_file(&zone_name(path), path),
            None | Some("" | "UTC") => Ok(None),
            Some(name) => Self::find(name),
        };
        let zone = zone.ok().flatten();
        zone.unwrap_or_else(Self::utc)
    }

    fn from_file(name: &str, path: &Path) -> Result<Option<Self>, ZoneError> {
        use std::io::ErrorKind::{IsADirectory, NotADirectory, NotFound};
        match std::fs::read(path) {
            Ok(tzif) if tzif.is_empty() => Ok(None),
            Ok(tzif) => Self::from_tzif(name, &tzif).map(Some),
            Err(error) if matches!(error.kind(), NotFound | NotADirectory | IsADirectory) => Ok(None),
            Err(source) => Err(ZoneError::Unreadable { path: path.to_owned(), source }),
        }
    }

    /// The name, as given. A zone out of a file outside the time zone data is called `Local`.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// The rules as the bytes of a TZif file; empty for UTC.
    pub fn tzif(&self) -> &[u8] {
        &self.0.tzif
    }

    /// Seconds east of UTC at `seconds` after 1970-01-01T00:00:00Z.
    pub fn offset_seconds(&self, seconds: i64) -> i32 {
        let rules = &*self.0;
        let seconds = if seconds < RULES_ONLY_SECONDS {
            seconds
        } else {
            RULES_ONLY_SECONDS + (seconds - RULES_ONLY_SECONDS) % CALENDAR_CYCLE_SECONDS
        };
        let changes_before = rules.changes.partition_point(|&(at, _)| at <= seconds);
        match changes_before.checked_sub(1) {
            Some(index) => rules.changes[index].1,
            None => rules.first_offset,
        }
    }
}

/// The name of the zone whose file `path` (or what it links to) is.
fn zone_name(path: &Path) -> String {
    let real = path.canonicalize();
    let real = real.as_deref().unwrap_or(path);
    let inside = |file: &Path| {
        let name = ZONE_FOLDERS.iter().find_map(|folder| file.strip_prefix(folder).ok())?.to_str()?;
        Some(name.to_owned())
    };
    // A link says `Europe/Berlin` where its end may be another file of the data with the same rules.
    let link = std::fs::read_link(path).ok().and_then(|link| inside(&link));
    link.or_else(|| inside(path)).or_else(|| inside(real)).unwrap_or_else(|| "Local".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// TZif, version 2: one offset for ever. The footer is the rule in POSIX form.
    fn fixed_zone_file(offset_seconds: i32, footer: &str) -> Vec<u8> {
        let mut block = b"TZif2".to_vec();
        block.extend([0; 15]);
        for count in [0_u32, 0, 0, 0, 1, 4] {
            block.extend(count.to_be_bytes());
        }
        block.extend(offset_seconds.to_be_bytes());
        block.extend([0, 0]);
        block.extend(b"XXX\0");
        let mut file = block.repeat(2);
        file.extend(format!("\n{footer}\n").bytes());
        file
    }

    #[test]
    fn names_that_leave_the_time_zone_data_are_refused() {
        for name in ["", "/etc/localtime", "../zoneinfo/UTC", "a/../b", "\\x"] {
            assert!(matches!(Zone::named(name), Err(ZoneError::BadName { .. })), "{name}");
        }
        assert!(matches!(Zone::named("Nowhere/Land"), Err(ZoneError::Unknown { .. })));
        assert!(Zone::from_tzif("x", b"not TZif").is_err());
    }

    #[test]
    fn the_variable_follows_the_rules_of_go() {
        let local = |tz: &str| Zone::local_for(Some(OsStr::new(tz)));
        assert_eq!(local("").name(), "UTC");
        assert_eq!(local(":").name(), "UTC");
        assert_eq!(local("CET-1CEST,M3.5.0,M10.5.0/3").offset_seconds(0), 0);
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("zone");
        std::fs::write(&file, fixed_zone_file(3600, "XXX-1")).unwrap();
        let path = file.to_str().unwrap();
        assert_eq!(local(path).offset_seconds(0), 3600);
        assert_eq!(local(path).name(), "Local");
        assert_eq!(local(&format!(":{path}")).offset_seconds(0), 3600);
        assert_eq!(local(&format!("{path}x")).name(), "UTC");
    }

    #[test]
    fn rules_travel_as_bytes() {
        let file = fixed_zone_file(-2670, "");
        let zone = Zone::from_tzif("Made/Up", &file).unwrap();
        assert_eq!(zone.offset_seconds(i64::MIN), -2670);
        assert_eq!(zone.offset_seconds(0), -2670);
        let again = Zone::from_tzif(zone.name(), zone.tzif()).unwrap();
        assert_eq!(again.offset_seconds(0), -2670);
        assert_eq!(Zone::from_tzif("any", Zone::utc().tzif()).unwrap().name(), "UTC");
    }

    #[test]
    fn a_yearly_rule_holds_for_ever() {
        let zone = Zone::from_tzif("Europe/Berlin", &fixed_zone_file(3600, "CET-1CEST,M3.5.0,M10.5.0/3")).unwrap();
        // 2023-07-14 and 2023-11-14, then the same days 400 and 40,000 years later.
        for cycles in [0, 1, 100] {
            let shift = cycles * CALENDAR_CYCLE_SECONDS;
            assert_eq!(zone.offset_seconds(1_689_336_000 + shift), 7200);
            assert_eq!(zone.offset_seconds(1_700_000_000 + shift), 3600);
            // The change on 2023-10-29T01:00:00Z, to the second.
            assert_eq!(zone.offset_seconds(1_698_541_199 + shift), 7200);
            assert_eq!(zone.offset_seconds(1_698_541_200 + shift), 3600);
        }
    }
}
