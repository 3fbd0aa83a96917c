//! Lock files: who works on the repository, and whether others may.
//!
//! The JSON of restic, with one key more, `longshore_job`, which restic ignores.

use std::time::Duration;

use proto::handles::UnixTime;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// A lock that was not refreshed for this long is stale.
pub const STALE_AFTER: Duration = Duration::from_secs(30 * 60);
/// How often a holder writes its lock anew.
pub const REFRESH_EVERY: Duration = Duration::from_secs(5 * 60);
/// A holder that could not refresh for this long no longer holds anything: 30 min less 1.5 refreshes,
/// so that it stops before others may take the lock for stale.
pub const LOST_AFTER: Duration = Duration::from_secs(22 * 60 + 30);
/// How long to wait between writing a lock and looking for others once more.
pub const SETTLE_TIME: Duration = Duration::from_millis(200);

/// A lock.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lock {
    /// When it was taken or last refreshed.
    #[serde(with = "time_text")]
    pub time: UnixTime,
    /// Exclusive locks suffer no other one, shared locks no exclusive one.
    #[serde(default)]
    pub exclusive: bool,
    /// The holder's host. A fleet puts a name here that no host has.
    #[serde(default)]
    pub hostname: String,
    /// The holder's login name.
    #[serde(default)]
    pub username: String,
    /// The holder's process.
    #[serde(default)]
    pub pid: i64,
    /// The holder's user id.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub uid: u32,
    /// The holder's group id.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub gid: u32,
    /// The job that holds it, if it is one of ours.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub longshore_job: Option<String>,
}

fn is_zero(number: &u32) -> bool {
    *number == 0
}

/// Why a lock file cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("the lock is not valid")]
pub struct LockFileError(#[source] serde_json::Error);

impl Lock {
    /// Reads the opened bytes of a lock file.
    ///
    /// # Errors
    /// If it is not JSON of the right shape.
    pub fn decode(json: &[u8]) -> Result<Self, LockFileError> {
        serde_json::from_slice(json).map_err(LockFileError)
    }

    /// The bytes to seal as an unpacked file. Times are written in UTC.
    ///
    /// # Errors
    /// If `time` is outside the years that RFC 3339 can write.
    pub fn encode(&self) -> Result<Vec<u8>, LockFileError> {
        serde_json::to_vec(self).map_err(LockFileError)
    }

    /// Whether this lock and one that is exclusive or not can be held at the same time.
    pub fn conflicts_with(&self, exclusive: bool) -> bool {
        self.exclusive || exclusive
    }

    /// Whether nobody can hold it any more: not refreshed for [`STALE_AFTER`], or its process on
    /// this host has ended. Stale locks still block until somebody removes them.
    ///
    /// `is_alive` is asked for processes of `hostname` only.
    pub fn is_stale(&self, now: UnixTime, hostname: &str, is_alive: impl FnOnce(i64) -> bool) -> bool {
        now.since(self.time) > STALE_AFTER || (self.hostname == hostname && !is_alive(self.pid))
    }
}

/// RFC 3339 with any offset in, UTC out.
mod time_text {
    use super::*;

    pub(super) fn serialize<S: Serializer>(time: &UnixTime, serializer: S) -> Result<S::Ok, S::Error> {
        let timestamp = jiff::Timestamp::new(time.seconds, time.nanos as i32).map_err(serde::ser::Error::custom)?;
        serializer.collect_str(&timestamp)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<UnixTime, D::Error> {
        let text = String::deserialize(deserializer)?;
        let timestamp: jiff::Timestamp = text.parse().map_err(de::Error::custom)?;
        let nanos = timestamp.as_nanosecond();
        let seconds = nanos.div_euclid(1_000_000_000) as i64;
        Ok(UnixTime { seconds, nanos: nanos.rem_euclid(1_000_000_000) as u32 })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn lock() -> Lock {
        Lock {
            time: UnixTime { seconds: 1_795_541_822, nanos: 412_801_701 },
            exclusive: false,
            hostname: "harbour".to_owned(),
            username: "root".to_owned(),
            pid: 4711,
            uid: 0,
            gid: 0,
            longshore_job: None,
        }
    }

    #[test]
    fn bytes_are_those_of_restic() {
        let json = concat!(
            r#"{"time":"2026-11-24T17:37:02.412801701Z","exclusive":false,"hostname":"harbour","#,
            r#""username":"root","pid":4711}"#
        );
        assert_eq!(String::from_utf8(lock().encode().unwrap()).unwrap(), json);
        assert_eq!(Lock::decode(json.as_bytes()).unwrap(), lock());
        let shifted = json.replace("17:37:02.412801701Z", "18:37:02.412801701+01:00");
        assert_eq!(Lock::decode(shifted.as_bytes()).unwrap(), lock());
        let ours = Lock { uid: 5, gid: 6, longshore_job: Some("0190-a".to_owned()), ..lock() };
        let text = String::from_utf8(ours.encode().unwrap()).unwrap();
        assert!(text.ends_with(r#""pid":4711,"uid":5,"gid":6,"longshore_job":"0190-a"}"#), "{text}");
        assert_eq!(Lock::decode(text.as_bytes()).unwrap(), ours);
    }

    #[test]
    fn shared_locks_suffer_each_other_only() {
        let exclusive = Lock { exclusive: true, ..lock() };
        assert!(!lock().conflicts_with(false));
        assert!(lock().conflicts_with(true));
        assert!(exclusive.conflicts_with(false));
        assert!(exclusive.conflicts_with(true));
    }

    #[test]
    fn stale_is_old_or_dead_here() {
        let lock = lock();
        let dead = |_| false;
        let unasked = |pid| panic!("asked for process {pid} of another host");
        let at = |minutes: u64| lock.time.plus(Duration::from_secs(minutes * 60));
        assert!(!lock.is_stale(at(30), "elsewhere", unasked));
        assert!(lock.is_stale(at(31), "elsewhere", unasked));
        assert!(lock.is_stale(at(0), "harbour", dead));
        assert!(!lock.is_stale(at(0), "harbour", |pid| pid == 4711));
        assert!(!lock.is_stale(UnixTime::from_seconds(0), "elsewhere", unasked));
    }

    #[test]
    fn what_is_not_a_lock_is_refused() {
        for bad in ["", "{}", "[]", r#"{"time":"yesterday"}"#] {
            assert!(Lock::decode(bad.as_bytes()).is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn times_survive(seconds in -62_135_596_800..253_402_207_200i64, nanos in 0..1_000_000_000u32) {
            let lock = Lock { time: UnixTime { seconds, nanos }, ..lock() };
            prop_assert_eq!(Lock::decode(&lock.encode().unwrap()).unwrap(), lock);
        }
    }
}
