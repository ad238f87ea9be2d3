//! The life of a series: which runs are due, and when it is due next.
//!
//! ```text
//!   Scheduled (the next due time) ──fire──► Scheduled (the one after now), with a run for each due time that is made up for
//!        │                          └────► Over, when none is left before its end
//!        └── Cancel ─────────────────────► Over
//! ```
//!
//! *Owns:* what is late, and what becomes of it. *Never:* makes runs (`store`), says what is due (`schedule`).
//! *Bound:* at most [`MAX_MISSED`](strongroom_job::MAX_MISSED) runs at once; the cost does not grow with the time that passed.
//! *Crash:* the runs and the next due time are one change, so a due time is seen to once, whatever happens in between.

use std::time::Duration;

use strongroom_job::{Event as Said, JobId, Missed, Outcome, Repeat, Timestamp};

use super::{Finished, Illegal, Life, Stage, finish};
use crate::schedule::{Cron, CronError};

/// What is fired later than this was missed. Due times are whole minutes, so at most one of them is on time.
pub const ON_TIME: Duration = Duration::from_secs(60);

/// What becomes of a series whose time has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Firing {
    /// Due times of which no run is made, from the first one up to the second, which is not among them.
    pub missed: Option<(Timestamp, Timestamp)>,
    /// Due times of which a run is made, in their order.
    pub runs: Vec<Timestamp>,
    /// Whether there would be more if there were room: the series is due again at once.
    pub held_back: bool,
    /// How the series stands then.
    pub life: Life,
    /// What is logged when that is its end.
    pub said: Option<Said>,
}

/// When a series that is accepted now is due first. With nothing to come it is due at its end, which then ends it.
pub(super) fn first(repeat: &Repeat, now: Timestamp) -> Timestamp {
    // Admission has read it: what cannot be read now is told by `fire`.
    read(repeat).map_or(now, |cron| next(&cron, repeat, now).unwrap_or(repeat.until))
}

/// Fires a series. `room` bounds the runs; those for which there is none stay due.
///
/// # Errors
/// When it is no series that waits, or it is not its time yet; nothing changes then.
pub fn fire(job: JobId, life: &Life, room: usize, now: Timestamp) -> Result<Firing, Illegal> {
    let (due, repeat) = match (&life.stage, &life.repeat) {
        (Stage::Over(end), _) => return Err(Illegal::Over(end.state())),
        (Stage::Scheduled { ready_at }, Some(_)) if now < *ready_at => {
            return Err(Illegal::TooEarly(*ready_at));
        }
        (Stage::Scheduled { ready_at }, Some(repeat)) => (*ready_at, repeat),
        (_, _) => return Err(Illegal::WrongState(life.state(now))),
    };
    let over = |outcome| finish(job, life, Finished::without_run(outcome), None, now);
    let cron = match read(repeat) {
        Ok(cron) => cron,
        // Another version of this program knew the time zone.
        Err(error) => {
            let (life, said) = over(Outcome::Faulted { reason: error.to_string() });
            return Ok(Firing { missed: None, runs: Vec::new(), held_back: false, life, said: Some(said) });
        }
    };
    let mut runs = made_up_for(&cron, repeat, due, now);
    let left = runs.split_off(room.min(runs.len()));
    let next = left.first().copied().or_else(|| next(&cron, repeat, now));
    let goes_on = runs.first().copied().or(next).unwrap_or(repeat.until);
    let missed = (due < goes_on).then_some((due, goes_on));
    let (life, said) = match next {
        Some(ready_at) => (Life { stage: Stage::Scheduled { ready_at }, ..life.clone() }, None),
        None => {
            let (life, said) = over(Outcome::Exited { code: 0 });
            (life, Some(said))
        }
    };
    Ok(Firing { missed, runs, held_back: !left.is_empty(), life, said })
}

/// The due times from `due` to `now` of which runs are made.
fn made_up_for(cron: &Cron, repeat: &Repeat, due: Timestamp, now: Timestamp) -> Vec<Timestamp> {
    let before = |time: Timestamp| Timestamp::from_millis(time.as_millis().saturating_sub(1));
    // What is due after the end must not take the places of what was due before it.
    let last = now.min(before(repeat.until));
    let policy = match repeat.missed {
        // The last one may be on time.
        Missed::Skip => Missed::Once,
        policy => policy,
    };
    let mut runs = cron.missed(policy, before(due), last);
    if repeat.missed == Missed::Skip {
        runs.retain(|time| now.since(*time) < ON_TIME);
    }
    runs
}

/// The first due time after `now`, if there is one before the end.
fn next(cron: &Cron, repeat: &Repeat, now: Timestamp) -> Option<Timestamp> {
    cron.next(now).filter(|time| *time < repeat.until)
}

fn read(repeat: &Repeat) -> Result<Cron, CronError> {
    Cron::parse(&repeat.cron, &repeat.zone)
}
