//! When a recurring job is due: a cron expression in a time zone.
//!
//! The expression has the five usual fields (minute, hour, day of month, month, day of week). Where both days are given, either
//! will do; with `+` before the day of week, both must fit. No seconds, no years.
//!
//! *Summer time.* A time that is fixed (`30 2 * * *`) is due once a day: at its first pass where the clock is set back, and at
//! the end of the gap where the clock is set forward over it. What repeats (`*/10 * * * *`, `0 * * * *`) goes by what the wall clock
//! shows: in the repeated hour it is due again, in the gap it is not.
//!
//! *Owns:* due times, and which of them are made up for after the host was away. *Never:* clocks, the machine's time zone data
//! (ours is in the binary, so that every host says the same), what is run.
//! *Bound:* an expression that never fires is refused by [`Cron::parse`], after a search to the year 5000.

use croner::parser::{CronParser, Seconds, Year};
use jiff::Zoned;
use jiff::tz::{TimeZone, TimeZoneDatabase};
use strongroom_job::{Missed, Timestamp};

/// Longest expression, bytes. Each field with a list of all its values has less.
pub const MAX_CRON_BYTES: usize = 512;

/// From here [`Cron::parse`] looks for a first time: 4600-01-01T00:00:00Z. The calendar repeats every 400 years, and that many are left
/// until the search ends: whoever sends what never fires costs no more of a processor than that.
const SEARCH_FROM: Timestamp = Timestamp::from_millis(82_994_803_200_000);

/// Due times for ever. It is due at least once.
#[derive(Clone, Debug, PartialEq)]
pub struct Cron {
    expression: croner::Cron,
    zone: TimeZone,
}

/// Why something is no schedule.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CronError {
    /// Longer than any expression needs to be.
    #[error("a cron expression of {0} bytes, where {MAX_CRON_BYTES} are allowed")]
    TooLong(usize),
    /// Not a cron expression.
    #[error("{expression:?} is not a cron expression (minute hour day month weekday): {why}")]
    Expression {
        /// As given.
        expression: String,
        /// What is wrong with it.
        why: String,
    },
    /// No time zone of this name.
    #[error("{0:?} is not a time zone: use a name such as \"UTC\" or \"Europe/Vienna\"")]
    Zone(String),
    /// It fits no day that there ever is.
    #[error("{0:?} never fires: there is no such day")]
    NeverFires(String),
}

impl Cron {
    /// Reads an expression that is due by the wall clock of `zone`, a name of the IANA database.
    ///
    /// # Errors
    /// When one of the two is wrong, or when no day fits (`0 0 30 2 *`).
    pub fn parse(expression: &str, zone: &str) -> Result<Self, CronError> {
        if expression.len() > MAX_CRON_BYTES {
            return Err(CronError::TooLong(expression.len()));
        }
        let parser = CronParser::builder().seconds(Seconds::Disallowed).year(Year::Disallowed).build();
        let parsed = parser.parse(expression).map_err(|error| CronError::Expression {
            expression: expression.into(),
            why: error.to_string(),
        })?;
        let shown: String = zone.chars().take(80).collect();
        let zone = TimeZoneDatabase::bundled().get(zone).map_err(|_| CronError::Zone(shown))?;
        let cron = Self { expression: parsed, zone };
        match cron.next(SEARCH_FROM) {
            Some(_) => Ok(cron),
            None => Err(CronError::NeverFires(expression.into())),
        }
    }

    /// The first due time after `after`. None after the year 5000.
    #[must_use]
    pub fn next(&self, after: Timestamp) -> Option<Timestamp> {
        let after = self.on_the_wall(after)?;
        as_timestamp(&self.expression.find_next_occurrence(&after, false).ok()?)
    }

    /// The due times to make up for, in their order, when those up to `last` have been seen to and it is `now`. For a start of
    /// the host, and for a clock that was set; where `now` is before `last`, there are none, so nothing is due twice.
    #[must_use]
    pub fn missed(&self, policy: Missed, last: Timestamp, now: Timestamp) -> Vec<Timestamp> {
        let most = match policy {
            Missed::Skip => 0,
            Missed::Once => 1,
            Missed::All(most) => most,
        };
        // Backwards from now, so that a year of minutes costs no more than `most`.
        let mut due = Vec::new();
        // Due times are whole seconds, and the search steps back by one.
        let mut before = Timestamp::from_millis((now.as_millis() / 1000 + 1).saturating_mul(1000));
        while due.len() < most as usize {
            let Some(time) = self.previous(before).filter(|time| *time > last) else {
                break;
            };
            due.push(time);
            before = time;
        }
        due.reverse();
        due
    }

    /// The last due time before `before`.
    fn previous(&self, before: Timestamp) -> Option<Timestamp> {
        let before = self.on_the_wall(before)?;
        as_timestamp(&self.expression.find_previous_occurrence(&before, false).ok()?)
    }

    fn on_the_wall(&self, time: Timestamp) -> Option<Zoned> {
        let millis = i64::try_from(time.as_millis()).ok()?;
        Some(jiff::Timestamp::from_millisecond(millis).ok()?.to_zoned(self.zone.clone()))
    }
}

fn as_timestamp(time: &Zoned) -> Option<Timestamp> {
    u64::try_from(time.timestamp().as_millisecond()).ok().map(Timestamp::from_millis)
}
