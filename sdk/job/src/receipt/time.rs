//! Times as in-toto writes them.
//!
//! *Spec:* RFC 3339, in UTC, with milliseconds: one text for one time.

use std::fmt;
use std::str::FromStr;

use crate::Timestamp;

const DAY_MS: u64 = 86_400_000;
/// The last time that four digits of a year can say: 9999-12-31T23:59:59.999Z. A later one is written as this.
const LAST_MS: u64 = 253_402_300_799_999;

/// A time as a text of that form.
pub(crate) fn rfc3339(time: Timestamp) -> String {
    Utc::of(time).to_string()
}

/// A time in UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Utc(Timestamp);

impl Utc {
    pub(super) fn of(time: Timestamp) -> Self {
        Self(Timestamp::from_millis(time.as_millis().min(LAST_MS)))
    }

    pub(super) const fn time(self) -> Timestamp {
        self.0
    }
}

impl fmt::Display for Utc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let millis = self.0.as_millis();
        let (year, month, day) = date(millis / DAY_MS);
        let rest = millis % DAY_MS;
        let (hour, minute) = (rest / 3_600_000, rest / 60_000 % 60);
        let (second, milli) = (rest / 1000 % 60, rest % 1000);
        write!(f, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{milli:03}Z")
    }
}

/// A text that is no time in the one form in which we write it.
#[derive(Debug, thiserror::Error)]
#[error("not a time such as 2026-01-31T12:00:00.000Z")]
pub(super) struct NoTime;

impl FromStr for Utc {
    type Err = NoTime;

    fn from_str(text: &str) -> Result<Self, NoTime> {
        let number = |range: std::ops::Range<usize>| {
            let digits = text.get(range).filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()));
            digits.and_then(|digits| digits.parse::<u64>().ok()).ok_or(NoTime)
        };
        let (year, month, day) = (number(0..4)?, number(5..7)?, number(8..10)?);
        let clock = number(11..13)? * 3_600_000 + number(14..16)? * 60_000 + number(17..19)? * 1000;
        let millis = days(year, month, day).ok_or(NoTime)? * DAY_MS + clock + number(20..23)?;
        let time = Self(Timestamp::from_millis(millis));
        // Writing it again refuses what has another spelling, such as a 31st of April.
        if time.to_string() == text { Ok(time) } else { Err(NoTime) }
    }
}

const fn is_leap(year: u64) -> bool {
    year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
}

const fn month_days(year: u64, month: u64) -> u64 {
    match month {
        2 if is_leap(year) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Days from the first of January 1970 to the first of January of a year from 1970 on.
const fn days_before(year: u64) -> u64 {
    // Leap years before `year`, less those before 1970.
    let last = year - 1;
    (year - 1970) * 365 + (last / 4 - last / 100 + last / 400) - (1969 / 4 - 1969 / 100 + 1969 / 400)
}

fn days(year: u64, month: u64, day: u64) -> Option<u64> {
    if year < 1970 || !(1..=12).contains(&month) || day == 0 {
        return None;
    }
    let months: u64 = (1..month).map(|month| month_days(year, month)).sum();
    Some(days_before(year) + months + day - 1)
}

/// Year, month and day of a number of days since 1970.
fn date(days: u64) -> (u64, u64, u64) {
    // At most one year too late: a year never has more than 366 days.
    let mut year = 1970 + days / 365;
    while days_before(year) > days {
        year -= 1;
    }
    let mut left = days - days_before(year);
    let mut month = 1;
    while left >= month_days(year, month) {
        left -= month_days(year, month);
        month += 1;
    }
    (year, month, left + 1)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use super::*;

    fn utc(millis: u64) -> String {
        Utc::of(Timestamp::from_millis(millis)).to_string()
    }

    #[test]
    fn times_are_those_of_the_calendar() {
        assert_eq!(utc(0), "1970-01-01T00:00:00.000Z");
        assert_eq!(utc(951_782_399_999), "2000-02-28T23:59:59.999Z");
        assert_eq!(utc(951_782_400_000), "2000-02-29T00:00:00.000Z");
        assert_eq!(utc(1_700_000_000_123), "2023-11-14T22:13:20.123Z");
        assert_eq!(utc(4_107_542_399_000), "2100-02-28T23:59:59.000Z");
        assert_eq!(utc(4_107_542_400_000), "2100-03-01T00:00:00.000Z");
        assert_eq!(utc(u64::MAX), "9999-12-31T23:59:59.999Z");
    }

    #[test]
    fn one_time_has_one_text() {
        for day in (0..2_932_896).step_by(97) {
            let text = utc(day * DAY_MS + day);
            assert_eq!(text.parse::<Utc>().unwrap().to_string(), text);
        }
        for wrong in [
            "2023-11-14T22:13:20Z",
            "2023-11-14t22:13:20.123Z",
            "2023-11-14T22:13:20.123+00:00",
            "2023-04-31T00:00:00.000Z",
            "2023-01-01T24:00:00.000Z",
            "1969-12-31T23:59:59.999Z",
            "+023-11-14T22:13:20.123Z",
            "é023-11-14T22:13:20.123Z",
            "",
        ] {
            assert!(wrong.parse::<Utc>().is_err(), "{wrong}");
        }
    }
}
