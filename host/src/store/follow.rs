//! Jobs that wait for others: what an end means for whoever waits for it.
//!
//! *Bound:* one end touches each job that waits for it once, in the same batch: at most the edges of its envelope (100,000).
//! *Spec:* `docs/formats/state.md`, "Jobs that wait for others".

use std::collections::{HashMap, HashSet};

use strongroom_job::{Input, JobId, JobState, On};

use super::group::{Group, Refused};
use super::rows::Rows;
use super::{CommitError, ReadError, keys};
use crate::admission::AdmittedJob;
use crate::lifecycle::{Event, Illegal};

/// Job ids in one value of the list of sources: 32 KiB.
const SOURCES_PER_PIECE: usize = 2048;

/// Who waits for whom within one group, before the disk knows.
#[derive(Default)]
pub(super) struct Edges {
    /// Of the transition that is being judged, in the order of its jobs.
    new: HashMap<JobId, Vec<(JobId, On)>>,
    /// Of earlier transitions.
    earlier: HashMap<JobId, Vec<(JobId, On)>>,
    /// Jobs whose durable followers were told of its end in this group.
    told: HashSet<JobId>,
    /// How many pieces the list of sources of a new job has.
    pieces: HashMap<JobId, u32>,
    /// Jobs that are in such a list.
    sources: HashSet<JobId>,
}

impl Edges {
    /// The next transition begins: from now on the edges so far are as if the disk had them, so that the order in which an end is told
    /// does not depend on who else was in the group. A rebuild, which knows no groups, must come to the same.
    pub(super) fn next_transition(&mut self) {
        for (before, followers) in self.new.drain() {
            self.earlier.entry(before).or_default().extend(followers);
        }
    }

    /// Whether a job that this group has taken takes the output of this one.
    pub(super) fn names(&self, job: &JobId) -> bool {
        self.sources.contains(job)
    }
}

impl Group<'_> {
    /// Writes down for whom a new job waits, and says for how many. `ids` are the jobs of its envelope.
    pub(super) fn wait_for(&mut self, job: &AdmittedJob, ids: &[JobId]) -> u32 {
        let plan = &job.task().plan;
        let mut edges: Vec<(JobId, On)> = Vec::new();
        for after in &plan.after {
            // The contract has checked that the places exist.
            let before = after.places().filter_map(|place| ids.get(place as usize));
            edges.extend(before.map(|before| (*before, after.on)));
        }
        if matches!(job.task().input, Input::Outputs { .. }) {
            for (piece, ids) in (0u32..).zip(edges.chunks(SOURCES_PER_PIECE)) {
                let ids: Vec<u8> = ids.iter().flat_map(|(id, _)| *id.as_bytes()).collect();
                self.batch.insert(keys::source(&job.id(), piece), ids);
                self.edges.pieces.insert(job.id(), piece + 1);
            }
            self.edges.sources.extend(edges.iter().map(|(id, _)| *id));
        }
        for (before, on) in &edges {
            self.batch.insert(keys::follower(before, &job.id()), [code(*on)]);
            self.edges.new.entry(*before).or_default().push((job.id(), *on));
        }
        // At most `MAX_EDGES`.
        u32::try_from(edges.len()).unwrap_or(u32::MAX)
    }

    /// A job has ended: tells everybody who waits for it, and whoever waits for those that this ends, in turn.
    pub(super) fn tell_followers(&mut self, job: JobId, state: JobState) -> Result<(), Refused> {
        let mut over = vec![(job, state)];
        while let Some((before, state)) = over.pop() {
            for (follower, on) in self.followers(&before)? {
                self.batch.remove(keys::follower(&before, &follower));
                let event = if on.is_met_by(state) { Event::Met } else { Event::Unmet { job: before } };
                match self.change(follower, event) {
                    Ok(row) => over.extend(row.life.end().map(|end| (follower, end.state()))),
                    // Cancelled, expired or already unmet; and forgotten since, as may be what was over long before whom it waited for.
                    Err(Refused::Asker(CommitError::Illegal(Illegal::Over(_)) | CommitError::UnknownJob)) => {
                    }
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(())
    }

    /// A job is over: it takes no output of others any more.
    pub(super) fn drop_sources(&mut self, job: &JobId) -> Result<(), ReadError> {
        for piece in 0..self.edges.pieces.remove(job).unwrap_or(0) {
            self.batch.remove(keys::source(job, piece));
        }
        for piece in self.rows.under(&keys::sources(job)) {
            self.batch.remove(piece?.0.to_vec());
        }
        Ok(())
    }

    fn followers(&mut self, of: &JobId) -> Result<Vec<(JobId, On)>, ReadError> {
        let mut followers = self.edges.new.remove(of).unwrap_or_default();
        let mut earlier = self.edges.earlier.remove(of).unwrap_or_default();
        // The rows still have edges that this group has removed: whom it told before it must not tell again.
        if self.edges.told.insert(*of) {
            self.durable_followers(of, &mut earlier)?;
        }
        earlier.sort_unstable_by_key(|(job, _)| *job);
        followers.extend(earlier);
        Ok(followers)
    }

    fn durable_followers(&self, of: &JobId, followers: &mut Vec<(JobId, On)>) -> Result<(), ReadError> {
        let prefix = keys::followers(of);
        for item in self.rows.under(&prefix) {
            let (key, value) = item?;
            let damaged = || ReadError::Damaged("a job that waits for another");
            let job = key[prefix.len()..].try_into().map_err(|_| damaged())?;
            let [code] = value.as_ref() else { return Err(damaged()) };
            followers.push((JobId::from_bytes(job), on(*code).ok_or_else(damaged)?));
        }
        Ok(())
    }
}

/// The jobs whose outputs are this one's input, in order.
pub(super) fn sources(rows: &dyn Rows, job: &JobId) -> Result<Vec<JobId>, ReadError> {
    sources_under(rows, &keys::sources(job))
}

/// The jobs whose outputs are the input of any job that is not over.
pub(super) fn all_sources(rows: &dyn Rows) -> Result<HashSet<JobId>, ReadError> {
    // A set from the start: ten thousand jobs may name the same ten thousand sources each.
    sources_under(rows, keys::SOURCES)
}

fn sources_under<C: Default + Extend<JobId>>(rows: &dyn Rows, prefix: &[u8]) -> Result<C, ReadError> {
    let mut ids = C::default();
    for piece in rows.under(prefix) {
        let (pieces, rest) = {
            let (_, piece) = piece?;
            let (ids, rest) = piece.as_chunks::<16>();
            (ids.to_vec(), rest.len())
        };
        if rest != 0 {
            return Err(ReadError::Damaged("the sources of a job's input"));
        }
        ids.extend(pieces.into_iter().map(JobId::from_bytes));
    }
    Ok(ids)
}

const fn code(on: On) -> u8 {
    match on {
        On::Success => 1,
        On::Failure => 2,
        On::End => 3,
    }
}

const fn on(code: u8) -> Option<On> {
    match code {
        1 => Some(On::Success),
        2 => Some(On::Failure),
        3 => Some(On::End),
        _ => None,
    }
}
