//! Erasing, forgetting and stripping of one job in one group: each happens once, is told once and counted once.

use strongroom::lifecycle::{self, Finished};
use strongroom::retention::Fate;
use strongroom::store::{CommitError, Committed, Doomed, DoomedJob, Outputs, PastJob, Simulated, Transition};
use strongroom_job::{Digest, Event, JobId, Name, Outcome, OutputSummary, Variation};

use crate::common::{NOW, admitted, admitted_batch, body, client_key, id};

/// Bytes that each job left.
const LEFT: u64 = 3;

/// A store with two jobs that are over.
fn store() -> Simulated {
    let mut store = Simulated::default();
    for job in [1, 2] {
        let admit = Transition::Admit {
            jobs: vec![admitted(&body(job))],
            envelope: b"an envelope".as_slice().into(),
            alone: false,
            max_active: 9,
            rules: Box::default(),
        };
        let start = Transition::Step { job: id(job), event: lifecycle::Event::Start };
        let mut end = Box::new(Finished::without_run(Outcome::Exited { code: 0 }));
        end.stdout = OutputSummary { length: LEFT, digest: Digest::of(b"yes") };
        let outputs = Outputs { stdout: Some(b"yes".to_vec()), ..Outputs::default() };
        let event = lifecycle::Event::Finish { fence: 1, end };
        let finish = Transition::Finish { job: id(job), event, outputs };
        let (answers, _) = store.commit(NOW, vec![admit, start, finish]).unwrap();
        answers.into_iter().for_each(|answer| drop(answer.unwrap()));
    }
    store.sync();
    assert_eq!(left(&store), 2 * LEFT);
    store
}

// Red without the comparison of what the envelope counts with what was found: the other job would be there, and nobody would know what it is.
#[test]
fn an_envelope_does_not_go_while_one_of_its_jobs_was_overlooked() {
    let (mut store, jobs) =
        (Simulated::default(), admitted_batch([1, 2].map(|job| Variation::of(id(job))).into()));
    let envelope = *jobs[0].envelope();
    let admit = Transition::Admit {
        jobs,
        envelope: b"an envelope".as_slice().into(),
        alone: false,
        max_active: 9,
        rules: Box::default(),
    };
    let cancel = |job| {
        let event = lifecycle::Event::Cancel { by: client_key().public() };
        Transition::Step { job: id(job), event }
    };
    store.commit(NOW, vec![admit, cancel(1), cancel(2)]).unwrap();
    store.sync();
    let size = store.log_size();
    let mut erase = |jobs: &[u64]| {
        let jobs = jobs.iter().map(|job| DoomedJob { job: id(*job), unique: None }).collect();
        let (tenant, inputs) = (Name::default_name(), Vec::new());
        let doomed = Doomed { asked: id(1), envelope, tenant, jobs, inputs, in_clear: 0 };
        let by = client_key().public();
        let done =
            store.commit(NOW, vec![Transition::Erase { doomed: Box::new(doomed), by }]).unwrap().0.pop();
        store.sync();
        (done.unwrap(), store.log_size())
    };
    let (refused, now) = erase(&[1]);
    assert!(
        matches!(&refused, Err(CommitError::Denied(why)) if why.message.contains("only 1 were found")),
        "{refused:?}"
    );
    assert_eq!(now, size);
    let (done, now) = erase(&[1, 2]);
    assert!(matches!(done, Ok(Committed::Erased { jobs: 2, .. })), "{done:?}");
    assert_eq!(now, size + 1);
}

fn left(store: &Simulated) -> u64 {
    store.usage(&Name::default_name(), NOW).stored_bytes
}

/// The erasure of the first job.
pub(crate) fn erase() -> Transition {
    let job = admitted(&body(1));
    let doomed = Doomed {
        asked: job.id(),
        envelope: *job.envelope(),
        tenant: Name::default_name(),
        jobs: vec![DoomedJob { job: job.id(), unique: None }],
        inputs: Vec::new(),
        in_clear: 0,
    };
    Transition::Erase { doomed: Box::new(doomed), by: client_key().public() }
}

fn keeper(fate: Fate) -> Transition {
    let not_after = admitted(&body(1)).context().not_after;
    let past = PastJob { job: id(1), ended_at: NOW, bytes: LEFT, not_after, key_until: None };
    Transition::Forget { tenant: Name::default_name(), jobs: vec![(past, fate)] }
}

/// What the last records say was forgotten, stripped and erased, in their order.
fn told(store: &Simulated, from: u64) -> Vec<(&'static str, Vec<JobId>)> {
    let records = store.records().unwrap().into_iter().skip(usize::try_from(from).unwrap());
    let told = records.map(|record| match record.event {
        Event::Forgotten { jobs, stripped, .. } if stripped.is_empty() => ("forgotten", jobs),
        Event::Forgotten { stripped, .. } => ("stripped", stripped),
        Event::Erased { jobs, .. } => ("erased", jobs.into_iter().map(|one| one.job).collect()),
        other => panic!("{other:?}"),
    });
    told.collect()
}

// Red without `pasts`: a job would be forgotten and erased, both would be told, and its bytes would be counted off twice.
#[test]
fn what_befalls_a_job_twice_in_a_group_happens_once() {
    let all = |what| vec![(what, vec![id(1)])];
    for (transitions, expected, second) in [
        ([keeper(Fate::Forgotten), erase()], all("forgotten"), false),
        ([erase(), keeper(Fate::Forgotten)], all("erased"), true),
        ([erase(), keeper(Fate::Stripped)], all("erased"), true),
        ([erase(), erase()], all("erased"), false),
        ([keeper(Fate::Stripped), erase()], [all("stripped"), all("erased")].concat(), true),
    ] {
        let mut store = store();
        let before = store.log_size();
        let what = format!("{transitions:?}");
        let (mut answers, _) = store.commit(NOW, transitions.into()).unwrap();
        match answers.pop().unwrap() {
            Ok(Committed::Done | Committed::Erased { .. }) => assert!(second, "{what}"),
            Err(CommitError::UnknownJob) => assert!(!second, "{what}"),
            other => panic!("{other:?}: {what}"),
        }
        store.sync();
        assert_eq!(told(&store, before), expected, "{what}");
        assert_eq!(left(&store), LEFT, "of the other job: {what}");
        assert!(store.row(&id(1)).unwrap().is_none() && store.row(&id(2)).unwrap().is_some(), "{what}");
        store.crash().unwrap();
        assert_eq!(left(&store), LEFT, "by its rows: {what}");
    }
}
