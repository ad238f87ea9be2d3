//! The store without its disk and its thread: judges the transitions of one group, in order.
//!
//! The writer makes durable what comes out and then tells everybody; a simulation ([`Simulated`]) keeps it in a map, and may forget
//! it, as a crash would.

use std::collections::BTreeSet;

use strongroom_job::{JobId, Name, Record, Timestamp};

use super::active::Active;
use super::counts::Counts;
use super::group::{Collected, Group, Refused};
use super::recent::News;
use super::rows::{Batch, Memory, Rows};
use super::unpublished::Leaf;
use super::{CommitError, Committed, Effect, JobRow, ReadError, Transition, keys, read};
use crate::admission::quota::TenantUse;

/// What each transition of a group came to, in their order.
pub type Answers = Vec<Result<Committed, CommitError>>;

/// What the transitions of one group come to, before any of it is durable.
pub(super) struct Judged {
    pub(super) answers: Answers,
    /// What is to be written; none when nothing happened.
    pub(super) batch: Option<Batch>,
    pub(super) effects: Vec<Effect>,
    /// For whoever remembers what jobs are.
    pub(super) news: Vec<News>,
    /// The new leaves, in the log's order.
    pub(super) leaves: Vec<Leaf>,
    pub(super) log_size: u64,
    /// The log's size behind each transition, in their order.
    pub(super) sizes: Vec<u64>,
}

/// Judges transitions one after the other, each in the light of those before it; and then those that `then` gives, who is told what the others mean
/// if they mean anything.
///
/// # Errors
/// When the rows cannot be read: then nothing of the group may be written.
pub(super) fn judge(
    rows: &dyn Rows,
    counts: &Counts,
    log_size: u64,
    now: Timestamp,
    transitions: impl IntoIterator<Item = Transition>,
    then: impl FnOnce(&[Effect]) -> Vec<Transition>,
) -> Result<Judged, ReadError> {
    let mut group = Group::new(rows, now, log_size, counts);
    let (mut answers, mut sizes) = (Vec::new(), Vec::new());
    let mut take = |group: &mut Group<'_>, transition| {
        answers.push(match group.take(transition) {
            Ok(done) => Ok(done),
            Err(Refused::Asker(refusal)) => Err(refusal),
            Err(Refused::Store(error)) => return Err(error),
        });
        sizes.push(group.log_size);
        Ok(())
    };
    transitions.into_iter().try_for_each(|transition| take(&mut group, transition))?;
    if !group.effects.is_empty() {
        then(&group.effects).into_iter().try_for_each(|transition| take(&mut group, transition))?;
    }
    let size = group.log_size;
    let Collected { batch, effects, news, leaves } = group.finish();
    if answers.iter().any(Result::is_ok) {
        return Ok(Judged { answers, batch: Some(batch), effects, news, leaves, log_size: size, sizes });
    }
    // Nothing is written, so nothing was logged and nobody came, whatever a transition did before it was refused.
    Ok(Judged { answers, batch: None, effects, news: Vec::new(), leaves: Vec::new(), log_size, sizes })
}

/// A store that never touches a disk, for simulations: what was committed and not synced is gone after a crash.
#[derive(Debug, Default)]
pub struct Simulated {
    rows: Memory,
    log_size: u64,
    counts: Counts,
    /// The group that is not durable yet.
    pending: Option<Batch>,
    /// Sizes of the log at which no transition is half told.
    whole: BTreeSet<u64>,
}

impl Simulated {
    pub(super) const fn rows(&self) -> &Memory {
        &self.rows
    }

    /// The log's size behind the transition in which a log of `size` records ends.
    pub(super) fn whole(&self, size: u64) -> u64 {
        self.whole.range(size..).next().copied().unwrap_or(size)
    }

    /// Commits a group at `now`, and those before it for good.
    ///
    /// # Errors
    /// When a row is not what this version writes, which is a fault of the code.
    pub fn commit(
        &mut self,
        now: Timestamp,
        transitions: Vec<Transition>,
    ) -> Result<(Answers, Vec<Effect>), ReadError> {
        self.sync();
        let judged = judge(&self.rows, &self.counts, self.log_size, now, transitions, |_| Vec::new())?;
        self.whole.insert(self.log_size);
        self.whole.extend(&judged.sizes);
        (self.pending, self.log_size) = (judged.batch, judged.log_size);
        Ok((judged.answers, judged.effects))
    }

    /// Everything so far is durable.
    pub fn sync(&mut self) {
        if let Some(batch) = self.pending.take() {
            self.rows.apply(batch);
        }
    }

    /// The power goes: what was not durable is gone.
    ///
    /// # Errors
    /// As [`Simulated::commit`].
    pub fn crash(&mut self) -> Result<(), ReadError> {
        self.pending = None;
        self.counts = Counts::read(&self.rows, drop)?;
        let damaged = || ReadError::Damaged("the number of records");
        let size =
            self.rows.value(keys::LOG_SIZE)?.map(|bytes| bytes.as_ref().try_into().map(u64::from_be_bytes));
        self.log_size = size.unwrap_or(Ok(0)).map_err(|_| damaged())?;
        self.whole.retain(|size| *size <= self.log_size);
        Ok(())
    }

    /// Leaves so far.
    #[must_use]
    pub const fn log_size(&self) -> u64 {
        self.log_size
    }

    /// What a tenant has now, as quotas count it.
    #[must_use]
    pub fn usage(&self, tenant: &Name, now: Timestamp) -> TenantUse {
        self.counts.usage(tenant, now)
    }

    /// How a job stands.
    ///
    /// # Errors
    /// As [`Simulated::commit`].
    pub fn row(&self, job: &JobId) -> Result<Option<JobRow>, ReadError> {
        read::row(&self.rows, job)
    }

    /// Every job that is not over, in the order of admission.
    ///
    /// # Errors
    /// As [`Simulated::commit`].
    pub fn active(&self) -> Result<Vec<Active>, ReadError> {
        read::active(&self.rows).collect()
    }

    /// Every record.
    ///
    /// # Errors
    /// As [`Simulated::commit`], and when a leaf is no record.
    pub fn records(&self) -> Result<Vec<Record>, ReadError> {
        let leaves = read::leaves(&self.rows, 0, self.log_size, usize::MAX)?;
        let records = leaves.iter().map(|leaf| Record::from_leaf(leaf));
        records.collect::<Result<_, _>>().map_err(|_| ReadError::Damaged("a record"))
    }
}
