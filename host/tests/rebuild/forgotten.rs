//! Logs of which the host has forgotten a part, or the end: what is known still is made anew, and what is not bars what it must.

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
    OutputStream, OutputSummary, Plan, Record, SignedEnvelope, StateFault, Taken, Timestamp, Unique, Usage,
    Variation, sign_batch, sign_job,
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
struct Kept {
    envelopes: HashMap<Digest, Vec<u8>>,
    /// What is found of each job's standard output.
    outputs: HashMap<JobId, Vec<u8>>,
    /// What opens the record of each job's end.
    openings: HashMap<JobId, Vec<u8>>,
}

impl Source for Kept {
    fn envelope(&mut self, _: u64, digest: &Digest) -> io::Result<Option<Vec<u8>>> {
        Ok(self.envelopes.get(digest).cloned())
    }

    fn output(&mut self, _: u64, job: &JobId, stream: OutputStream) -> io::Result<Option<Vec<u8>>> {
        Ok(self.outputs.get(job).filter(|_| stream == OutputStream::Stdout).cloned())
    }

    fn opening(&mut self, _: u64, job: &JobId) -> io::Result<Option<Vec<u8>>> {
        Ok(self.openings.get(job).cloned())
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
    has_blobs: bool,
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
    store
        .commit(Transition::Admit { jobs, envelope, alone: false, max_active: 100, rules: Box::default() })
        .await
}

async fn ends(store: &Store, job: JobId) {
    leaves(store, job, b"").await;
}

/// The job ends, having computed for a second, and leaves this as its output.
async fn leaves(store: &Store, job: JobId, output: &[u8]) {
    store.commit(Transition::Step { job, event: Event::Start }).await.unwrap();
    let usage = Usage { cpu_us: 1_000_000, ..Usage::default() };
    let stdout = OutputSummary { length: output.len() as u64, digest: Digest::of(output) };
    let end = Finished { usage, stdout, ..Finished::without_run(Outcome::Exited { code: 0 }) };
    let event = Event::Finish { fence: 1, end: Box::new(end) };
    let outputs = Outputs { stdout: Some(output.to_vec()), ..Outputs::default() };
    store.commit(Transition::Finish { job, event, outputs }).await.unwrap();
}

async fn forget_all(store: &Store) {
    let_go(store, |_| Fate::Forgotten).await;
}

async fn let_go(store: &Store, fate: fn(JobId) -> Fate) {
    let tenant = Name::default_name();
    let past = store.past(&tenant, None, 100).unwrap();
    let past = past.into_iter().map(|past| (past, fate(past.job))).collect();
    store.commit(Transition::Forget { tenant, jobs: past }).await.unwrap();
}

impl Site {
    /// The log of what was done, and evidence of these envelopes.
    fn after(dir: tempfile::TempDir, kept: &[&Sent]) -> Self {
        let opened = Store::open(&dir.path().join("state")).unwrap();
        let leaves = opened.leaves(0, 10_000).unwrap();
        let kept = kept.iter().map(|sent| (*sent.bytes.digest(), sent.bytes.as_bytes().to_vec())).collect();
        Self { dir, leaves, kept: Kept { envelopes: kept, ..Kept::default() }, has_blobs: true }
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
        let has_blobs = self.has_blobs;
        let terms = Terms {
            now: NOW,
            submittable,
            has_blob: &|_| has_blobs,
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

// The record of what was forgotten lets the first go; where a log of before such records has none, `known` in `Replay::admitted` does:
// the second half is red without it.
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

    let forgotten = |leaf: &Vec<u8>| matches!(Record::from_leaf(leaf).unwrap().event, Said::Forgotten { .. });
    site.leaves.retain(|leaf| !forgotten(leaf));
    let (rebuilt, new) = site.rebuild(Duration::ZERO).unwrap();
    assert_eq!((rebuilt.jobs, rebuilt.forgotten), (1, 1), "as far as it is known from the records");
    let (is, was) = (row(new.path(), id(1)).await.unwrap(), site.was(id(1)).await.unwrap());
    assert_eq!((is.envelope, is.life), (was.envelope, was.life));
}

// Red without `Replay::forgotten`: the first is there again, and the second has what it left.
#[tokio::test]
async fn what_was_let_go_stays_so_as_its_record_says() {
    let dir = tempfile::tempdir().unwrap();
    let (store, closing) = open(dir.path());
    let sent: Vec<Sent> = (1..=3).map(|number| Sent::one(&body(number))).collect();
    for (sent, number) in sent.iter().zip(1..) {
        take(&store, sent).await.unwrap();
        leaves(&store, id(number), b"left").await;
    }
    let_go(&store, |job| match job {
        job if job == id(1) => Fate::Forgotten,
        job if job == id(2) => Fate::Stripped,
        _ => Fate::Stays,
    })
    .await;
    drop(store);
    closing.wait();
    // Its evidence is all there still.
    let mut site = Site::after(dir, &sent.iter().collect::<Vec<_>>());
    site.kept.outputs = (1..=3).map(|number| (id(number), b"left".to_vec())).collect();
    let (rebuilt, new) = site.rebuild(Duration::ZERO).unwrap();
    assert_eq!((rebuilt.jobs, rebuilt.forgotten, rebuilt.stripped), (2, 1, 1));
    let (store, closing) = open(new.path());
    assert_eq!(store.row(&id(1)).await.unwrap(), None);
    for (number, left) in [(2, None), (3, Some(b"left".to_vec()))] {
        assert_eq!(store.output(&id(number), OutputStream::Stdout).unwrap(), left, "job {number}");
    }
    drop(store);
    closing.wait();
}

// Red when `attempt_ends` takes what evidence has as it is.
#[tokio::test]
async fn other_bytes_than_a_record_names_are_not_what_a_job_left() {
    let dir = tempfile::tempdir().unwrap();
    let (store, closing) = open(dir.path());
    let sent = Sent::one(&body(1));
    take(&store, &sent).await.unwrap();
    leaves(&store, id(1), b"left").await;
    drop(store);
    closing.wait();
    let mut site = Site::after(dir, &[&sent]);
    site.has_blobs = false;
    for (found, stripped, left) in [(b"left", 0, Some(b"left".to_vec())), (b"else", 1, None)] {
        site.kept.outputs = HashMap::from([(id(1), found.to_vec())]);
        let (rebuilt, new) = site.rebuild(Duration::ZERO).unwrap();
        assert_eq!(rebuilt.stripped, stripped);
        let (store, closing) = open(new.path());
        assert_eq!(store.output(&id(1), OutputStream::Stdout).unwrap(), left);
        drop(store);
        closing.wait();
    }
}

// Red without `gone_computed`: a tenant would have its day's quota again, and `fsck` would call a good state wrong.
#[tokio::test]
async fn what_a_job_computed_counts_also_when_it_is_gone() {
    let dir = tempfile::tempdir().unwrap();
    let (store, closing) = open(dir.path());
    take(&store, &Sent::one(&body(1))).await.unwrap();
    ends(&store, id(1)).await;
    let used = store.usage(&Name::default_name(), NOW).cpu_today;
    assert_eq!(used, Duration::from_secs(1));
    drop(store);
    closing.wait();
    let (rebuilt, new) = Site::after(dir, &[]).rebuild(Duration::ZERO).unwrap();
    assert_eq!((rebuilt.jobs, rebuilt.forgotten), (0, 1));
    let (store, closing) = open(new.path());
    assert_eq!(store.usage(&Name::default_name(), NOW).cpu_today, used);
    drop(store);
    closing.wait();
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

// A checkpoint may stand between the two records. Red when `Replay::verdicts` does not ask who has the key where the log ends: then both
// would run.
#[tokio::test]
async fn a_log_that_ends_before_it_says_who_was_replaced_is_completed() {
    let dir = tempfile::tempdir().unwrap();
    let (store, closing) = open(dir.path());
    let sent = [1, 2].map(|number| Sent::one(&keyed(number, Taken::Replace, 0)));
    for sent in &sent {
        take(&store, sent).await.unwrap();
    }
    drop(store);
    closing.wait();
    let mut site = Site::after(dir, &[&sent[0], &sent[1]]);
    let replaced = site.leaves.pop().map(|leaf| Record::from_leaf(&leaf).unwrap());
    assert_eq!(replaced.and_then(|record| record.job().copied()), Some(id(1)));
    let (rebuilt, new) = site.rebuild(Duration::ZERO).unwrap();
    assert_eq!((rebuilt.records, rebuilt.jobs), (3, 2));
    for number in [1, 2] {
        assert_eq!(row(new.path(), id(number)).await, site.was(id(number)).await, "job {number}");
    }
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

// Red without `ends_unopened` (the rebuild would have nothing to say of the job), without its `bar_known`, and without the comparison of
// `told` in `attempt_ends`.
#[tokio::test(flavor = "multi_thread")]
async fn a_job_whose_record_nobody_can_open_is_gone_and_does_not_run_again() {
    let dir = tempfile::tempdir().unwrap();
    let (store, closing) = open(dir.path());
    let sent = Sent::one(&body(1));
    take(&store, &sent).await.unwrap();
    store.commit(Transition::Step { job: id(1), event: Event::Start }).await.unwrap();
    let stdout = OutputSummary { length: 3, digest: Digest::of(b"yes") };
    let salt = Some(strongroom_job::OutputSalt::from_bytes([7; 32]));
    let end = Finished { stdout, salt, ..Finished::without_run(Outcome::Exited { code: 0 }) };
    let event = Event::Finish { fence: 1, end: Box::new(end) };
    let outputs = Outputs { stdout: Some(b"yes".to_vec()), ..Outputs::default() };
    store.commit(Transition::Finish { job: id(1), event, outputs }).await.unwrap();
    let opening = store.opening(&id(1)).unwrap().unwrap();
    drop(store);
    closing.wait();
    let mut site = Site::after(dir, &[&sent]);
    let was = site.was(id(1)).await;
    site.kept.outputs.insert(id(1), b"yes".to_vec());
    // What opens another record opens nothing here.
    let mut other = opening.clone();
    other.stdout.digest = Digest::of(b"no");
    for wrong in [None, Some(other)] {
        site.kept.openings =
            wrong.map(|other| (id(1), serde_json::to_vec(&other).unwrap())).into_iter().collect();
        let (rebuilt, new) = site.rebuild(Duration::MAX).unwrap();
        assert_eq!((rebuilt.jobs, rebuilt.forgotten), (0, 1), "{rebuilt:?}");
        let (store, closing) = open(new.path());
        let Committed::Admitted { jobs, .. } = take(&store, &sent).await.unwrap() else {
            panic!("no answer")
        };
        assert_eq!((jobs[0].job, jobs[0].log_index), (id(1), 0));
        assert_eq!(store.active().count(), 0, "it does not run again");
        drop(store);
        closing.wait();
    }
    site.kept.openings.insert(id(1), serde_json::to_vec(&opening).unwrap());
    let (rebuilt, new) = site.rebuild(Duration::MAX).unwrap();
    assert_eq!((rebuilt.jobs, rebuilt.forgotten, rebuilt.stripped), (1, 0, 0));
    assert_eq!(row(new.path(), id(1)).await, was);
}
