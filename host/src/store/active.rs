//! What the index of active jobs says of each: all that it takes to schedule a job, so that a start reads nothing else.
//!
//! *Spec:* `docs/formats/state.md`, "Active jobs".

use strongroom_job::{JobId, Name, Timestamp};

use super::keys;
use super::row::{JobRow, Slot};
use crate::lifecycle::Stage;
use crate::schedule::{Entry, NOT_YET};

/// The `expires` of a job that does not.
const NEVER: u64 = u64::MAX;
/// Flag of a job that runs.
const RUNNING: u8 = 1;

/// A job that is not over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Active {
    /// As the schedule takes it.
    pub entry: Entry,
    /// Whether an attempt runs, or ran when the host went down.
    pub running: bool,
}

impl Active {
    /// None for a job that is over.
    pub(super) fn of(row: &JobRow) -> Option<Self> {
        let Slot { tenant, queue, group, priority, .. } = row.slot.as_deref()?;
        let ready_at = match row.life.stage {
            Stage::Accepted { .. } => NOT_YET,
            Stage::Scheduled { ready_at } => ready_at,
            Stage::Queued | Stage::Running { .. } => row.admitted_at,
            Stage::Over(_) => return None,
        };
        let entry = Entry {
            job: row.job,
            tenant: tenant.clone(),
            queue: queue.clone(),
            key: group.clone(),
            priority: *priority,
            admitted: row.admitted,
            ready_at,
            expires_at: row.life.expires_at(),
        };
        Some(Self { entry, running: matches!(row.life.stage, Stage::Running { .. }) })
    }

    pub(super) fn key(&self) -> Vec<u8> {
        keys::active(self.entry.admitted, &self.entry.job)
    }

    pub(super) fn value(&self) -> Vec<u8> {
        let Entry { tenant, queue, key, priority, ready_at, expires_at, .. } = &self.entry;
        let mut value = vec![u8::from(self.running) * RUNNING];
        value.extend_from_slice(&priority.to_be_bytes());
        value.extend_from_slice(&ready_at.as_millis().to_be_bytes());
        value.extend_from_slice(&expires_at.map_or(NEVER, Timestamp::as_millis).to_be_bytes());
        for name in [tenant, queue] {
            // A name has at most 64 bytes.
            value.push(u8::try_from(name.as_str().len()).unwrap_or(u8::MAX));
            value.extend_from_slice(name.as_str().as_bytes());
        }
        // A group is never empty.
        value.extend_from_slice(key.as_deref().unwrap_or_default().as_bytes());
        value
    }

    /// The opposite of [`Active::key`] without its prefix, and [`Active::value`].
    pub(super) fn parse(key: &[u8], value: &[u8]) -> Option<Self> {
        let (admitted, job) = key.split_first_chunk::<8>()?;
        let job = JobId::from_bytes(job.try_into().ok()?);
        let ([flags, priority], rest) = value.split_first_chunk::<2>()?;
        let (ready_at, rest) = rest.split_first_chunk::<8>()?;
        let (expires, rest) = rest.split_first_chunk::<8>()?;
        let (tenant, rest) = name(rest)?;
        let (queue, group) = name(rest)?;
        let group = std::str::from_utf8(group).ok()?;
        let expires = u64::from_be_bytes(*expires);
        let entry = Entry {
            job,
            tenant,
            queue,
            key: (!group.is_empty()).then(|| group.to_owned()),
            priority: i8::from_be_bytes([*priority]),
            admitted: u64::from_be_bytes(*admitted),
            ready_at: Timestamp::from_millis(u64::from_be_bytes(*ready_at)),
            expires_at: (expires != NEVER).then(|| Timestamp::from_millis(expires)),
        };
        Some(Self { entry, running: flags & RUNNING != 0 })
    }
}

fn name(bytes: &[u8]) -> Option<(Name, &[u8])> {
    let (length, rest) = bytes.split_first()?;
    let (name, rest) = rest.split_at_checked(usize::from(*length))?;
    Some((std::str::from_utf8(name).ok()?.parse().ok()?, rest))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use super::*;

    #[test]
    fn what_is_written_is_read_back() {
        for (key, expires_at, running) in
            [(None, None, false), (Some("customer ü".to_owned()), Some(Timestamp::from_millis(7)), true)]
        {
            let entry = Entry {
                job: JobId::from_bytes([9; 16]),
                tenant: "acme".parse().unwrap(),
                queue: "q".repeat(64).parse().unwrap(),
                key,
                priority: -7,
                admitted: 1 << 40,
                ready_at: NOT_YET,
                expires_at,
            };
            let active = Active { entry, running };
            let (key, value) = (active.key(), active.value());
            assert_eq!(Active::parse(&key[keys::ACTIVE.len()..], &value), Some(active));
            // Cut short anywhere before the group it is damage, never another job.
            for length in 0..88 {
                let cut = Active::parse(&key[keys::ACTIVE.len()..], &value[..length]);
                assert!(cut.is_none(), "{length}: {cut:?}");
            }
        }
    }
}
