//! A series fires: its runs, and when it is due next, in one batch.
//!
//! *Crash:* before the batch is durable the series is due as it was; after it, its runs exist and it is due later. A due time is
//! never seen to twice, and none is passed over without a record.
//! *Bound:* a run is held against the quotas of its tenant like a job that is submitted, and counts among the jobs of the host. Where
//! there is no room for the first one, nothing changes and the series comes back in [`PAUSE`].

use std::time::Duration;

use strongroom_job::{Event, JobId};

use super::active::Active;
use super::group::{Group, Refused};
use super::row::Slot;
use super::{CommitError, Committed, Effect, ReadError, read};
use crate::admission::quota::Asked;
use crate::config::TenantRules;
use crate::lifecycle;
use crate::lifecycle::series::{self, Firing};

/// How long a series waits that found no room.
const PAUSE: Duration = Duration::from_secs(1);

impl Group<'_> {
    /// Makes the runs of a series that are due.
    pub(super) fn fire(
        &mut self,
        series: JobId,
        max_active: usize,
        rules: &TenantRules,
    ) -> Result<Committed, Refused> {
        let mut row = self.row(&series)?.ok_or(CommitError::UnknownJob)?;
        let (room, full) = match row.slot.as_deref().map(|slot| self.room(slot, max_active, rules)) {
            Some(Ok(room)) => (room, None),
            Some(Err(Refused::Asker(full))) => (0, Some(full)),
            Some(Err(store)) => return Err(store),
            // It is over.
            None => (0, None),
        };
        let Firing { missed, runs, held_back, life, said } = series::fire(series, &row.life, room, self.now)?;
        // The schedule gave it a place, which it did not need.
        self.effects.push(Effect::Ran(series, Duration::ZERO));
        if runs.is_empty() && held_back {
            if let Some(mut waiting) = Active::of(&row) {
                waiting.entry.ready_at = self.now.saturating_add(PAUSE);
                self.effects.push(Effect::Waits(waiting.entry));
            }
            return Err(full.unwrap_or(self.full(max_active)).into());
        }
        let spec = read::spec(self.rows, &series)?.ok_or(ReadError::Damaged("a series without a task"))?;
        let base = match self.came_in(spec.envelope())? {
            Some(came) => self.base(came)?,
            None => None,
        };
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

    /// For how many runs there is room: as for jobs that are submitted now.
    fn room(&self, slot: &Slot, max_active: usize, rules: &TenantRules) -> Result<usize, Refused> {
        self.check_open(&slot.queue)?;
        self.check_quota(&slot.tenant, rules, Asked { jobs: 1, ..Asked::default() })?;
        let of_tenant = self.counts.usage(&slot.tenant, self.now).active;
        let left = rules.max_queued.map_or(usize::MAX, |max| max.saturating_sub(of_tenant));
        Ok(left.min(max_active.saturating_sub(self.counts.active())))
    }
}
