//! What a log says, and whether it can be true.

use std::collections::BTreeMap;
use std::path::Path;

use strongroom::audit::read::LogReader;
use strongroom_job::merkle::LeafIndex;
use strongroom_job::{Event, JobId, JobState, Record};

/// Every published record of the host in `dir`.
pub fn records(dir: &Path) -> Vec<Record> {
    leaves(dir).iter().map(|leaf| Record::from_leaf(leaf).expect("a record")).collect()
}

/// What stands in the place of each record of the log in this directory, whatever was done to it.
pub fn leaves(dir: &Path) -> Vec<Vec<u8>> {
    let reader = LogReader::open(&dir.join("audit"), None).expect("a log");
    let end = reader.checkpoint().size().next_index();
    let entries = reader.entries(LeafIndex::new(0), end);
    entries.map(|entry| entry.expect("readable").1).collect()
}

/// What the records alone say of each job: its state, the attempts that began, and the place of its admission.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Told {
    pub state: JobState,
    pub attempts: u32,
    pub admitted: u64,
}

/// Retells every job's story; panics when a story cannot have come from the lifecycle: a job that begins twice, ends
/// twice, runs without having been admitted, or goes on after its end.
pub fn retell(records: &[Record]) -> BTreeMap<JobId, Told> {
    let mut jobs: BTreeMap<JobId, Told> = BTreeMap::new();
    let mut latest = None;
    for (index, record) in (0u64..).zip(records) {
        assert!(Some(record.time) >= latest, "record {index} is older than the one before it: {record:?}");
        latest = Some(record.time);
        let Some(job) = record.job() else { continue };
        let before = jobs.get(job).copied();
        let story = (before.map(|told| told.state), &record.event);
        let after = match story {
            (None, Event::Admitted { .. }) => Told { state: JobState::Queued, attempts: 0, admitted: index },
            (Some(JobState::Queued), Event::Started { attempt, .. }) => {
                let told = before.expect("queued");
                assert_eq!(*attempt, told.attempts + 1, "record {index}: {record:?}");
                Told { state: JobState::Running, attempts: *attempt, ..told }
            }
            (Some(JobState::Running), Event::CancelRequested { .. }) => continue,
            (Some(JobState::Running), Event::Requeued { attempt, .. }) => {
                let told = before.expect("running");
                assert_eq!(*attempt, told.attempts, "record {index}: {record:?}");
                Told { state: JobState::Queued, ..told }
            }
            (Some(JobState::Queued | JobState::Running), Event::Finished { attempt, outcome, .. }) => {
                let told = before.expect("not over");
                assert_eq!(*attempt, told.attempts, "record {index}: {record:?}");
                Told { state: outcome.state(), ..told }
            }
            (_, Event::Refused { .. }) => continue,
            (state, event) => panic!("record {index} of a job that is {state:?}: {event:?}"),
        };
        jobs.insert(*job, after);
    }
    jobs
}
