//! Logs of which the host has forgotten a part: what is known still is made anew, and what is not bars what it must.

use std::collections::HashMap;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use strongroom::admission::{AdmittedJob, Policy, admit};
use strongroom::clock::Clock;
use strongroom::lifecycle::{Event, Finished};
use strongroom::retention::Fate;
use strongroom::store::rebuild::{History, RebuildError, Rebuilt, Terms, rebuild};
use strongroom::store::{
    CommitError, Committed, JobRow, NoFault, Outputs, PublishedHead, Source, Store, Transition,
};
use strongroom_job::{
    After, BatchBody, Digest, Envelope, Event as Said, JobBody, JobId, JobState, Name, On, Outcome,
    OutputStream, Plan, Record, SignedEnvelope, StateFault, Taken, Timestamp, Unique, Variation, sign_batch,
    sign_job,
};

use crate::common::{NOW, body, client_key, config, context, host_key, id, principal, task};

/// An envelope and its jobs.
#[derive(Clone)]
struct Sent {
    bytes: SignedEnvelope,
    jobs: Vec<AdmittedJob>,
}

impl Sent {
    fn of(bytes: SignedEnvelope) -> Self {
        let verified = Envelope::parse(bytes.as_bytes()).unwrap().verify(&client_key().public()).unwrap();
        let config = config();
        let policy = Policy { host: &host_key().public(), config: &config };
        let admitted = |job| admit(job, principal(&config), &policy, NOW).unwrap();
        Self { jobs: verified.into_iter().map(admitted).collect(), bytes }
    }

    fn one(body: &JobBody) -> Self {
        Self::of(sign_job(body, &client_key()).unwrap())
    }
}

/// Evidence that is in memory.
#[derive(Default)]
struct Kept(HashMap<Digest, Vec<u8>>);

impl Source for Kept {
    fn envelope(&mut self, _: u64, digest: &Digest) -> io::Result<Option<Vec<u8>>> {
        Ok(self.0.get(digest).cloned())
    }

    fn output(&mut self, _: u64, _: &JobId, _: OutputStream) -> io::Result<Option<Vec<u8>>> {
        Ok(None)
    }

    fn tenants(&mut self, _: u64) -> io::Result<Vec<Name>> {
        Ok(Vec::new())
    }
}

/// A store with a log that nobody publishes.
struct Site {
    dir: tempfile::TempDir,
    leaves: Vec<Vec<u8>>,
    kept: Kept,
}

fn open(dir: &Path) -> (Store, strongroom::store::Closing) {
    Store::open(&dir.join("state"))
        .unwrap()
        .start(Arc::new(Clock::not_before(NOW)), Box::new(NoFault))
        .unwrap()
}

async fn take(store: &Store, sent: &Sent) -> Result<Committed, CommitError> {
    let jobs = sent.jobs.clone();
    let envelope = Arc::from(sent.bytes.as_bytes());
    store.commit(Transition::Admit { jobs, envelope, max_active: 100, rules: Box::default() }).await
}

async fn ends(store: &Store, job: JobId) {
    store.commit(Transition::Step { job, event: Event::Start }).await.unwrap();
    let end = Box::new(Finished::without_run(Outcome::Exited { code: 0 }));
    let event = Event::Finish { fence: 1, end };
    store.commit(Transition::Finish { job, event, outputs: Outputs::default() }).await.unwrap();
}

async fn forget_all(store: &Store) {
    let tenant = Name::default_name();
    let past =
        store.past(&tenant, None, 100).unwrap().into_iter().map(|past| (past, Fate::Forgotten)).collect();
    store.commit(Transition::Forget { tenant, jobs: past }).await.unwrap();
}

impl Site {
    /// The log of what was done, and evidence of these envelopes.
    fn after(dir: tempfile::TempDir, kept: &[&Sent]) -> Self {
        let opened = Store::open(&dir.path().join("state")).unwrap();
        let leaves = opened.leaves(0, 10_000).unwrap();
        let kept = kept.iter().map(|sent| (*sent.bytes.digest(), sent.bytes.as_bytes().to_vec())).collect();
        Self { dir, leaves, kept: Kept(kept) }
    }

    fn rebuild(&mut self, submittable: Duration) -> Result<(Rebuilt, tempfile::TempDir), RebuildError> {
        let new = tempfile::tempdir().unwrap();
        let all = self.leaves.clone();
        let ended = move |job: &JobId, before: u64| {
            let records = all.iter().take(before as usize).map(|leaf| Record::from_leaf(leaf).unwrap().event);
            let mut ends = records.filter_map(|event| match event {
                Said::Finished { job, outcome, .. } => Some((job, outcome.state())),
                _ => None,
            });
            Ok(ends.find(|(over, _)| over == job).map(|(_, state)| state))
        };
        let history = History {
            head: PublishedHead { size: self.leaves.len() as u64, root: [1; 32] },
            leaves: Box::new(self.leaves.iter().cloned().map(Ok)),
            ended: Box::new(ended),
        };
        let terms = Terms {
            now: NOW,
            submittable,
            has_blob: &|_| true,
            found: StateFault::Lost,
            problem: "the test took it".into(),
        };
        let made = rebuild(&new.path().join("state"), history, &mut self.kept, &terms)?;
        let rebuilt = made.put(&new.path().join("aside")).unwrap();
        Ok((rebuilt, new))
    }

    /// How a job stands in the state that there was.
    async fn was(&self, job: JobId) -> Option<JobRow> {
        row(self.dir.path(), job).await
    }
}

async fn row(dir: &Path, job: JobId) -> Option<JobRow> {
    let (store, closing) = open(dir);
    let row = store.row(&job).await.unwrap();
    drop(store);
    closing.wait();
    row
}

fn keyed(number: u64, taken: Taken, window_ms: u64) -> JobBody {
    let mut body = body(number);
    body.task.plan.unique = Some(Unique { key: "k".into(), window_ms, taken });
    body
}

// The record of what was forgotten lets the first go; where an older log has none, `known` in `Replay::admitted` does.
#[tokio::test]
async fn an_id_that_was_forgotten_and_used_again_is_the_second_job() {
    let dir = tempfile::tempdir().unwrap();
    let (store, closing) = open(dir.path());
    let first = Sent::one(&body(1));
    let mut other = body(1);
    other.task.args = vec!["other".into()];
    // What was signed for no longer than the forgotten one is refused.
    let until = other.context.not_after;
    other.context.not_after = until.saturating_add(Duration::from_millis(1));
    let second = Sent::one(&other);
    take(&store, &first).await.unwrap();
    ends(&store, id(1)).await;
    forget_all(&store).await;
    take(&store, &second).await.unwrap();
    drop(store);
    closing.wait();
    let mut site = Site::after(dir, &[&first, &second]);
    let (rebuilt, new) = site.rebuild(Duration::ZERO).unwrap();
    assert_eq!((rebuilt.jobs, rebuilt.forgotten), (1, 1));
    assert_eq!(row(new.path(), id(1)).await, site.was(id(1)).await);
}

// Red without `tell_followers` in `gone_ends`, and without `ended` in `take_in`.
#[tokio::test]
async fn who_waits_for_a_job_that_is_gone_hears_of_its_end() {
    for over_before in [false, true] {
        let dir = tempfile::tempdir().unwrap();
        let (store, closing) = open(dir.path());
        let holder = Sent::one(&keyed(1, Taken::Existing, 60_000));
        take(&store, &holder).await.unwrap();
        if over_before {
            ends(&store, id(1)).await;
        }
        // Of two jobs that wait for it, one waits for another one, too: of that there is no record.
        let unique = Unique { key: "k".into(), window_ms: 60_000, taken: Taken::Existing };
        let stands_for = Plan { unique: Some(unique), ..Plan::default() };
        let after = |places: &[u32]| Plan {
            after: places.iter().map(|place| After { first: *place, last: None, on: On::Success }).collect(),
            ..Plan::default()
        };
        let vary = |number, plan| Variation { plan: Some(Box::new(plan)), ..Variation::of(id(number)) };
        let jobs = vec![
            vary(2, stands_for),
            vary(3, after(&[0])),
            vary(4, Plan::default()),
            vary(5, after(&[0, 2])),
        ];
        let batch = Sent::of(sign_batch(&BatchBody::new(context(), task(), jobs), &client_key()).unwrap());
        take(&store, &batch).await.unwrap();
        if !over_before {
            ends(&store, id(1)).await;
        }
        drop(store);
        closing.wait();
        let mut site = Site::after(dir, &[&batch]);
        let (rebuilt, new) = site.rebuild(Duration::ZERO).unwrap();
        assert_eq!((rebuilt.jobs, rebuilt.forgotten), (3, 1), "over before: {over_before}");
        for number in 3..=5 {
            let row = row(new.path(), id(number)).await;
            assert_eq!(row, site.was(id(number)).await, "job {number}, over before: {over_before}");
        }
        assert_eq!(row(new.path(), id(3)).await.unwrap().life.state(NOW), JobState::Queued);
    }
}

// Red without `bar` in `gone_ends`.
#[tokio::test]
async fn the_id_of_a_job_that_is_gone_is_barred_as_long_as_it_could_be_submitted() {
    let dir = tempfile::tempdir().unwrap();
    let (store, closing) = open(dir.path());
    let sent = Sent::one(&body(1));
    let first = take(&store, &sent).await.unwrap();
    ends(&store, id(1)).await;
    drop(store);
    closing.wait();
    let mut site = Site::after(dir, &[]);
    let (_, new) = site.rebuild(Duration::from_secs(3600)).unwrap();
    let (store, closing) = open(new.path());
    let (Committed::Admitted { jobs: now, .. }, Committed::Admitted { jobs: then, .. }) =
        (take(&store, &sent).await.unwrap(), first)
    else {
        panic!("admitted")
    };
    assert_eq!(now, then, "the first answer again");
    let mut other = body(1);
    other.task.args = vec!["other".into()];
    let conflict = take(&store, &Sent::one(&other)).await;
    assert!(matches!(conflict, Err(CommitError::Conflict(_))), "{conflict:?}");
    let last = Timestamp::from_millis(NOW.as_millis() + 3_600_000);
    assert!(store.merged_before(last, 9).unwrap().is_empty(), "not before its time");
    let next = Timestamp::from_millis(last.as_millis() + 1);
    assert_eq!(store.merged_before(next, 9).unwrap(), [(last, id(1))], "and then it goes");
    drop(store);
    closing.wait();
    let (_, new) = site.rebuild(Duration::ZERO).unwrap();
    let (store, closing) = open(new.path());
    assert!(store.merged_before(Timestamp::from_millis(u64::MAX), 9).unwrap().len() <= 1);
    drop(store);
    closing.wait();
}

// Red when `Records::take` does not compare.
#[tokio::test]
async fn a_record_that_does_not_follow_stops_the_rebuild_and_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let (store, closing) = open(dir.path());
    let sent = Sent::one(&body(1));
    take(&store, &sent).await.unwrap();
    ends(&store, id(1)).await;
    drop(store);
    closing.wait();
    let mut site = Site::after(dir, &[&sent]);
    let good = site.leaves.clone();
    let record = |event| Record::new(NOW, event).to_leaf();
    for (index, leaf) in [
        (1, record(Said::Started { job: id(1), attempt: 2 })),
        (1, record(Said::Started { job: id(2), attempt: 1 })),
        (1, record(Said::Released { job: id(1) })),
        (2, record(Said::Started { job: id(1), attempt: 1 })),
        (0, record(Said::Started { job: id(1), attempt: 1 })),
    ] {
        site.leaves.clone_from(&good);
        site.leaves[index] = leaf;
        let error = site.rebuild(Duration::ZERO).expect_err("no state");
        let place = format!("record {index} cannot follow");
        assert!(error.to_string().starts_with(&place), "{error}");
    }
    // Signed by somebody else than the log says.
    site.leaves.clone_from(&good);
    let mut record = Record::from_leaf(&good[0]).unwrap();
    if let Said::Admitted { principal, .. } = &mut record.event {
        *principal = host_key().public();
    }
    site.leaves[0] = record.to_leaf();
    let error = site.rebuild(Duration::ZERO).expect_err("no state");
    assert!(error.to_string().contains("bad signature"), "{error}");
}
