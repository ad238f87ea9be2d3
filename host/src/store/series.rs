//! A series fires: its runs, and when it is due next, in one batch.
//!
//! *Crash:* before the batch is durable the series is due as it was; after it, its runs exist and it is due later. A due time is
//! never seen to twice, and none is passed over without a record.
//! *Bound:* runs count among the jobs of host and tenant. Where there is no room for the first one, nothing changes and the series
//! comes back in [`PAUSE`].

use std::time::Duration;

use strongroom_job::{Event, JobId};

use super::active::Active;
use super::group::{Group, Refused};
use super::{CommitError, Committed, Effect, ReadError, read};
use crate::lifecycle;
use crate::lifecycle::series::{self, Firing};

/// How long a series waits that found the host full.
const PAUSE: Duration = Duration::from_secs(1);

impl Group<'_> {
    /// Makes the runs of a series that are due.
    pub(super) fn fire(
        &mut self,
        series: JobId,
        max_active: usize,
        max_of_tenant: usize,
    ) -> Result<Committed, Refused> {
        let mut row = self.row(&series)?.ok_or(CommitError::UnknownJob)?;
        let active = self.counts.active();
        let of_tenant =
            row.slot.as_deref().map_or(0, |slot| self.counts.usage(&slot.tenant, self.now).active);
        let room = max_active.saturating_sub(active).min(max_of_tenant.saturating_sub(of_tenant));
        let Firing { missed, runs, held_back, life, said } = series::fire(series, &row.life, room, self.now)?;
        // The schedule gave it a place, which it did not need.
        self.effects.push(Effect::Ran(series, Duration::ZERO));
        if runs.is_empty() && held_back {
            if let Some(mut waiting) = Active::of(&row) {
                waiting.entry.ready_at = self.now.saturating_add(PAUSE);
                self.effects.push(Effect::Waits(waiting.entry));
            }
            return Err(CommitError::Full { active, max: max_active }.into());
        }
        let spec = read::spec(self.rows, &series)?.ok_or(ReadError::Damaged("a series without a task"))?;
        let base = self.base(spec.envelope())?;
        if let Some((from, until)) = missed {
            row.touched = self.log(Event::Missed { job: series, from, until });
        }
        for due in runs {
            let run = spec.occurrence(due);
            // Only who signed the series could have used its id for another job.
            if self.row(&run.id())?.is_some() || self.merged(&run.id())?.is_some() {
                tracing::warn!(%series, run = %run.id(), "the id of a run was used before for another job");
                continue;
            }
            row.touched = self.log(Event::Fired { job: series, run: run.id(), due });
            // It came in the series' envelope, which stays for as long as one of the two is known.
            self.hold_envelope(run.envelope(), 1)?;
            self.accept(&run, &[], base.as_ref())?;
        }
        let row = self.write(row, life, said)?;
        if let Some(state) = row.life.end().map(lifecycle::End::state) {
            self.tell_followers(series, state)?;
        }
        Ok(Committed::Stepped(Box::new(row)))
    }
}
