//! Times as they stand in trees and snapshots: the fields of a local time and its offset.
//!
//! restic prints times in the zone of its process, so the text says more than the instant does, and the
//! tree id depends on it. A [`NodeTime`] keeps the text, not the instant.

use proto::handles::UnixTime;

use super::json::{Cursor, Malformed};
pub use super::zone::{Zone, ZoneError};

const SECONDS_PER_DAY: i64 = 86_400;
const NANOS_PER_SECOND: u32 = 1_000_000_000;

/// How the offset of a time is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Offset {
    /// `Z`: exactly UTC.
    Utc,
    /// `+hh:mm` or `-hh:mm`. An offset below a minute gives `+00:00`, which is not `Z`.
    Minutes(i16),
}

/// A local time of the years 0 to 9999 with its offset from UTC in minutes, as written in the repository.
///
/// Equal means equal text; compare [`NodeTime::instant`] to ask for the same moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct NodeTime {
    /// The fields of the local time, as if they were UTC: seconds since 1970-01-01T00:00:00.
    local_seconds: i64,
    nanos: u32,
    offset: Offset,
}

impl Default for NodeTime {
    /// `0001-01-01T00:00:00Z`, which restic takes where the repository has no time.
    fn default() -> Self {
        Self { local_seconds: days_before(1, 1, 1) * SECONDS_PER_DAY, nanos: 0, offset: Offset::Utc }
    }
}

/// The text is no time.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a time such as 2023-11-14T22:13:20.5+01:00")]
pub struct BadTime {
    text: String,
}

impl NodeTime {
    /// The time that restic writes for `instant` when its process is in `zone`.
    ///
    /// The seconds of an offset are dropped from the offset only, so that [`NodeTime::instant`] is off by
    /// them. A year before 0 becomes 0, one after 9999 becomes 9999, with the other fields kept.
    pub fn from_unix(instant: UnixTime, zone: &Zone) -> Self {
        let offset_seconds = zone.offset_seconds(instant.seconds);
        let wide = i128::from(instant.seconds) + i128::from(offset_seconds);
        let (local_seconds, offset_seconds) = match i64::try_from(wide) {
            Ok(local_seconds) if YEARS.contains(&local_seconds) => (local_seconds, offset_seconds),
            _ => move_to_written_years(wide, zone),
        };
        let offset = match offset_seconds {
            0 => Offset::Utc,
            // Offsets are below a day, but the rules of a zone come from a file.
            _ => Offset::Minutes(i16::try_from(offset_seconds / 60).unwrap_or(0)),
        };
        Self { local_seconds, nanos: instant.nanos.min(NANOS_PER_SECOND - 1), offset }
    }

    /// The instant that restic reads back.
    pub fn instant(&self) -> UnixTime {
        UnixTime { seconds: self.local_seconds - 60 * i64::from(self.offset_minutes()), nanos: self.nanos }
    }

    /// Minutes east of UTC, as written.
    pub fn offset_minutes(&self) -> i16 {
        match self.offset {
            Offset::Utc => 0,
            Offset::Minutes(minutes) => minutes,
        }
    }

    /// Whether the time is what restic would have written in `zone` for the instant it reads back. False
    /// for all times of another zone in which the offset differs, and for historic offsets with seconds.
    pub fn fits(&self, zone: &Zone) -> bool {
        Self::from_unix(self.instant(), zone) == *self
    }

    /// Appends the text: `YYYY-MM-DDThh:mm:ss[.fffffffff]` without trailing zeros, then `Z` or the offset.
    pub fn push_text(&self, out: &mut Vec<u8>) {
        let days = self.local_seconds.div_euclid(SECONDS_PER_DAY);
        let second_of_day = self.local_seconds.rem_euclid(SECONDS_PER_DAY) as u32;
        let (year, month, day) = date_of(days);
        let two = |number: u32| [b'0' + (number / 10) as u8, b'0' + (number % 10) as u8];
        let [year_high, year_low] = [two((year / 100) as u32), two((year % 100) as u32)];
        let [month, day, hour] = [two(month), two(day), two(second_of_day / 3600)];
        let [minute, second] = [two(second_of_day / 60 % 60), two(second_of_day % 60)];
        out.extend_from_slice(&[
            year_high[0],
            year_high[1],
            year_low[0],
            year_low[1],
            b'-',
            month[0],
            month[1],
            b'-',
            day[0],
            day[1],
            b'T',
            hour[0],
            hour[1],
            b':',
            minute[0],
            minute[1],
            b':',
            second[0],
            second[1],
        ]);
        if self.nanos != 0 {
            push_fraction(out, self.nanos);
        }
        match self.offset {
            Offset::Utc => out.push(b'Z'),
            Offset::Minutes(minutes) => {
                let size = u32::from(minutes.unsigned_abs());
                let [hours, rest] = [two(size / 60), two(size % 60)];
                let sign = if minutes < 0 { b'-' } else { b'+' };
                out.extend_from_slice(&[sign, hours[0], hours[1], b':', rest[0], rest[1]]);
            }
        }
    }

    /// Reads the text. Fractions beyond nanoseconds are cut.
    ///
    /// # Errors
    /// The text is not a time as RFC 3339 has it; the error quotes it.
    pub fn parse(text: &[u8]) -> Result<Self, BadTime> {
        parse(text).ok_or_else(|| BadTime { text: super::quote::lossy(&text[..text.len().min(80)]) })
    }

    /// Reads a JSON string; `null` leaves the time as it was.
    pub(super) fn read(&mut self, cursor: &mut Cursor<'_>) -> Result<(), Malformed> {
        if !cursor.null() {
            let malformed = cursor.malformed("a time such as 2023-11-14T22:13:20.5+01:00");
            *self = parse(&cursor.string()?).ok_or(malformed)?;
        }
        Ok(())
    }

    /// Appends the text in quotes.
    pub(super) fn push_json(&self, out: &mut Vec<u8>) {
        out.push(b'"');
        self.push_text(out);
        out.push(b'"');
    }
}

impl std::fmt::Display for NodeTime {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut text = Vec::with_capacity(TEXT_BYTES_MAX);
        self.push_text(&mut text);
        f.write_str(&super::quote::lossy(&text))
    }
}

/// Bytes of `2023-11-14T22:13:20.123456789+01:00`.
const TEXT_BYTES_MAX: usize = 35;

/// Local seconds of the years that can be written: 0000-01-01 up to 10000-01-01.
const YEARS: std::ops::Range<i64> = days_before(0, 1, 1) * SECONDS_PER_DAY..days_before(10_000, 1, 1) * SECONDS_PER_DAY;

/// Sets the year to 0 or 9999; returns the local seconds and the offset of the zone there.
fn move_to_written_years(local_seconds: i128, zone: &Zone) -> (i64, i32) {
    let second_of_day = local_seconds.rem_euclid(SECONDS_PER_DAY.into()) as i64;
    let (_, month, day) = date_of(local_seconds.div_euclid(SECONDS_PER_DAY.into()) as i64);
    let year = if local_seconds < 0 { 0 } else { 9999 };
    // February 29 of a year without one is March 1: the day just counts on.
    let days = days_before(year, month, 1) + i64::from(day) - 1;
    let wanted = days * SECONDS_PER_DAY + second_of_day;
    // The local time is looked up as if it were UTC, then once more with the offset found.
    let guess = wanted - i64::from(zone.offset_seconds(wanted));
    let seconds = wanted - i64::from(zone.offset_seconds(guess));
    let offset_seconds = zone.offset_seconds(seconds);
    (seconds + i64::from(offset_seconds), offset_seconds)
}

fn push_fraction(out: &mut Vec<u8>, nanos: u32) {
    let mut digits = *b".000000000";
    let mut rest = nanos;
    for digit in digits[1..].iter_mut().rev() {
        *digit = b'0' + (rest % 10) as u8;
        rest /= 10;
    }
    let length = digits.iter().rposition(|&digit| digit != b'0').map_or(0, |last| last + 1);
    out.extend_from_slice(&digits[..length]);
}

fn parse(text: &[u8]) -> Option<NodeTime> {
    let number = |range: std::ops::Range<usize>, max: u32| {
        let number = text
            .get(range)?
            .iter()
            .try_fold(0, |number, &digit| Some(number * 10 + u32::from(digit.is_ascii_digit().then(|| digit - b'0')?)));
        number.filter(|&number| number <= max)
    };
    let separators = [(4, b'-'), (7, b'-'), (10, b'T'), (13, b':'), (16, b':')];
    if separators.iter().any(|&(position, byte)| text.get(position) != Some(&byte)) {
        return None;
    }
    let (year, month, day) = (i64::from(number(0..4, 9999)?), number(5..7, 12)?, number(8..10, 31)?);
    let (hour, minute, second) = (number(11..13, 23)?, number(14..16, 59)?, number(17..19, 59)?);
    let days = days_before(year, month, day);
    if date_of(days) != (year, month, day) {
        return None;
    }
    let (nanos, zone) = parse_fraction(&text[19..])?;
    let offset = match *zone {
        [b'Z'] => Offset::Utc,
        [sign @ (b'+' | b'-'), _, _, b':', _, _] => {
            let start = text.len() - zone.len();
            let minutes = number(start + 1..start + 3, 23)? * 60 + number(start + 4..start + 6, 59)?;
            let minutes = i16::try_from(minutes).ok()?;
            Offset::Minutes(if sign == b'-' { -minutes } else { minutes })
        }
        _ => return None,
    };
    let second_of_day = i64::from(hour * 3600 + minute * 60 + second);
    Some(NodeTime { local_seconds: days * SECONDS_PER_DAY + second_of_day, nanos, offset })
}

/// The nanoseconds, and what follows the fraction.
fn parse_fraction(text: &[u8]) -> Option<(u32, &[u8])> {
    let Some(digits) = text.strip_prefix(b".") else { return Some((0, text)) };
    let length = digits.iter().take_while(|digit| digit.is_ascii_digit()).count();
    if length == 0 {
        return None;
    }
    let digit = |position: usize| if position < length { u32::from(digits[position] - b'0') } else { 0 };
    let nanos = (0..9).fold(0, |nanos, position| nanos * 10 + digit(position));
    Some((nanos, &digits[length..]))
}

/// Days from 1970-01-01 to a date of the proleptic Gregorian calendar. The day may be past the month's end.
///
/// The year is counted from March, so that the leap day is its last (Howard Hinnant, "chrono-compatible
/// low-level date algorithms").
const fn days_before(year: i64, month: u32, day: u32) -> i64 {
    let march_year = if month <= 2 { year - 1 } else { year };
    let cycle = march_year.div_euclid(400);
    let year_of_cycle = march_year.rem_euclid(400);
    let day_of_year = (153 * ((month as i64 + 9) % 12) + 2) / 5 + day as i64 - 1;
    let day_of_cycle = year_of_cycle * 365 + year_of_cycle / 4 - year_of_cycle / 100 + day_of_year;
    cycle * 146_097 + day_of_cycle - 719_468
}

/// Year, month and day of a number of days since 1970-01-01.
const fn date_of(days: i64) -> (i64, u32, u32) {
    let days = days + 719_468;
    let cycle = days.div_euclid(146_097);
    let day_of_cycle = days.rem_euclid(146_097);
    let year_of_cycle = (day_of_cycle - day_of_cycle / 1460 + day_of_cycle / 36_524 - day_of_cycle / 146_096) / 365;
    let day_of_year = day_of_cycle - (365 * year_of_cycle + year_of_cycle / 4 - year_of_cycle / 100);
    let march_month = (5 * day_of_year + 2) / 153;
    let day = (day_of_year - (153 * march_month + 2) / 5 + 1) as u32;
    let month = if march_month < 10 { march_month + 3 } else { march_month - 9 } as u32;
    let year = cycle * 400 + year_of_cycle;
    (if month <= 2 { year + 1 } else { year }, month, day)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(seconds: i64, nanos: u32) -> UnixTime {
        UnixTime { seconds, nanos }
    }

    fn utc(seconds: i64, nanos: u32) -> String {
        NodeTime::from_unix(at(seconds, nanos), &Zone::utc()).to_string()
    }

    #[test]
    fn fractions_lose_trailing_zeros() {
        assert_eq!(utc(1_700_000_000, 123_456_789), "2023-11-14T22:13:20.123456789Z");
        assert_eq!(utc(1_700_000_000, 100_000_000), "2023-11-14T22:13:20.1Z");
        assert_eq!(utc(1_700_000_000, 1_000), "2023-11-14T22:13:20.000001Z");
        assert_eq!(utc(1_700_000_000, 0), "2023-11-14T22:13:20Z");
    }

    #[test]
    fn fractions_before_1970_count_forward() {
        assert_eq!(utc(-2, 500_000_000), "1969-12-31T23:59:58.5Z");
    }

    #[test]
    fn years_outside_of_0_to_9999_are_moved_in() {
        assert_eq!(utc(253_402_300_799, 0), "9999-12-31T23:59:59Z");
        assert_eq!(utc(253_402_300_800, 7), "9999-01-01T00:00:00.000000007Z");
        assert_eq!(utc(-62_167_219_200, 0), "0000-01-01T00:00:00Z");
        assert_eq!(utc(-62_167_219_201, 0), "0000-12-31T23:59:59Z");
        // February 29 of the year 12000.
        assert_eq!(utc((days_before(12_000, 2, 29)) * SECONDS_PER_DAY, 0), "9999-03-01T00:00:00Z");
        assert_eq!(utc(i64::MAX, 0), "9999-12-04T15:30:07Z");
    }

    #[test]
    fn parse_is_strict() {
        let parse = |text: &str| NodeTime::parse(text.as_bytes());
        for good in [
            "2023-11-14T22:13:20Z",
            "1966-10-31T13:28:50-00:44",
            "0000-02-29T00:00:00.5+23:59",
            "1900-01-01T00:00:00+00:00",
        ] {
            assert_eq!(parse(good).unwrap().to_string(), good);
        }
        assert_eq!(parse("2023-11-14T22:13:20.1234567899Z").unwrap().to_string(), "2023-11-14T22:13:20.123456789Z");
        for bad in [
            "",
            "2023-11-14",
            "2023-11-14 22:13:20Z",
            "2023-11-14T22:13:20",
            "2023-02-29T00:00:00Z",
            "2023-13-01T00:00:00Z",
            "2023-00-01T00:00:00Z",
            "2023-01-00T00:00:00Z",
            "2023-11-14T24:00:00Z",
            "2023-11-14T22:60:00Z",
            "2023-11-14T22:13:60Z",
            "2023-11-14T22:13:20.Z",
            "2023-11-14T22:13:20,5Z",
            "2023-11-14T22:13:20+24:00",
            "2023-11-14T22:13:20+01:60",
            "2023-11-14T22:13:20+0100",
            "2023-11-14T22:13:20ZZ",
            "+023-11-14T22:13:20Z",
            "12023-11-14T22:13:20Z",
        ] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_instant_misses_the_seconds_of_the_offset() {
        let time = NodeTime::parse(b"1966-10-31T13:28:50-00:44").unwrap();
        // Monrovia was 44 minutes and 30 seconds behind UTC: the file's time is 30 seconds later.
        assert_eq!(time.instant().seconds + 30, -100_000_000);
        assert_eq!(time.offset_minutes(), -44);
        assert!(!time.fits(&Zone::utc()));
        assert!(NodeTime::default().fits(&Zone::utc()));
    }

    #[test]
    fn no_time_is_the_zero_time_of_go() {
        assert_eq!(NodeTime::default().to_string(), "0001-01-01T00:00:00Z");
    }

    proptest! {
        #[test]
        fn text_round_trips(seconds in YEARS, nanos in 0..NANOS_PER_SECOND, minutes in proptest::option::of(-1439_i16..1440)) {
            let offset = minutes.map_or(Offset::Utc, Offset::Minutes);
            let time = NodeTime { local_seconds: seconds, nanos, offset };
            prop_assert_eq!(NodeTime::parse(time.to_string().as_bytes()), Ok(time));
        }

        #[test]
        fn instants_round_trip(seconds in YEARS, nanos in 0..NANOS_PER_SECOND) {
            prop_assert_eq!(NodeTime::from_unix(at(seconds, nanos), &Zone::utc()).instant(), at(seconds, nanos));
        }

        #[test]
        fn dates_agree_with_jiff(days in -4_000_000_i64..2_900_000) {
            let (year, month, day) = date_of(days);
            prop_assert_eq!(days_before(year, month, day), days);
            let date = jiff::civil::date(1970, 1, 1).checked_add(jiff::Span::new().days(days)).unwrap();
            prop_assert_eq!((i64::from(date.year()), date.month() as u32, date.day() as u32), (year, month, day));
        }

        #[test]
        fn every_instant_is_written(seconds: i64, nanos in 0..NANOS_PER_SECOND) {
            let time = NodeTime::from_unix(at(seconds, nanos), &Zone::utc());
            prop_assert_eq!(NodeTime::parse(time.to_string().as_bytes()), Ok(time));
        }

        #[test]
        fn parse_never_panics(text in "[0-9TZ:.+-]{0,40}|[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}.{0,12}") {
            let _ = NodeTime::parse(text.as_bytes());
        }
    }
}
