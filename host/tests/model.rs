//! Model: after any events in any order, with the host and its disk failing in between, the store says of every job what a
//! list of a few lines says, and its records are exactly those that the list expects.
//!
//! The list is written from the promises (design, chapter 7, and the picture in `lifecycle`), not from their code.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failed unwrap is a failed test")]

mod common;

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};

use common::random::Random;
use common::{NOW, admitted, body, client_key, envelope, id};
use futures_util::future::join_all;
use strongroom::admission::AdmittedJob;
use strongroom::clock::Clock;
use strongroom::lifecycle::{self, Finished, Illegal};
use strongroom::store::{
    Active, Closing, CommitError, Committed, Effect, Outputs, PublishedHead, Step, Store, Transition,
};
use strongroom_job::{Event, JobId, JobState, Outcome, Record};

/// Seeds, each a history of its own. To repeat one: set `FIRST_SEED` to it and `SEEDS` to 1.
const SEEDS: u64 = 300;
const FIRST_SEED: u64 = 1;
/// Groups of events in one history, of 1 to `GROUP` events each: about 60 events.
const GROUPS: u64 = 24;
const GROUP: u64 = 4;
/// Job ids in one history: few, so that they meet again in every state.
const JOBS: u64 = 7;
/// Jobs that may be active at once: few, so that the queue is full now and then.
const MAX_ACTIVE: usize = 5;
/// Attempts after which nothing is run again.
const ATTEMPTS: u32 = 3;
/// Histories at a time: they wait for the disk most of the time.
const THREADS: u64 = 6;

/// One event, as small as it can be said.
#[derive(Clone, Copy, Debug)]
enum Op {
    /// One to three jobs in one envelope, from this id on; the flag says that the envelope is another than usual.
    Admit {
        first: u64,
        count: u64,
        other: bool,
    },
    Start(u64),
    /// Reported under the running attempt's number plus this.
    Finish {
        job: u64,
        off: u32,
        code: i32,
    },
    Cancel(u64),
    Recover(u64),
    /// A record of no job.
    Note,
    /// The publisher has everything that is durable.
    Published,
}

/// A job in the model.
#[derive(Clone, Debug)]
struct Job {
    admitted: u64,
    other: bool,
    attempt: u32,
    at: Place,
    /// What is kept of its output.
    said: Option<Vec<u8>>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Place {
    Waits,
    Runs { stop: bool },
    Over(JobState),
}

/// One expected record.
#[derive(Clone, Debug, PartialEq)]
struct Line {
    word: &'static str,
    job: Option<u64>,
    attempt: u32,
    end: Option<JobState>,
}

/// The answer to one event, in the model's words.
#[derive(Clone, Debug, PartialEq)]
enum Answer {
    /// Places in the log.
    Admitted(Vec<u64>),
    Is(JobState, u32),
    Done,
    Over(JobState),
    Wrong(JobState),
    Fenced(u32, u32),
    Unknown,
    Conflict(u64),
    Full,
}

#[derive(Clone, Debug, Default)]
struct Model {
    jobs: BTreeMap<u64, Job>,
    log: Vec<Line>,
    /// What a schedule has to hear, in order.
    heard: Vec<Heard>,
}

/// What a schedule hears of a job.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Heard {
    Waits(u64),
    Ran(u64),
    Over(u64),
}

impl Model {
    fn state(job: &Job) -> JobState {
        match job.at {
            Place::Waits => JobState::Queued,
            Place::Runs { .. } => JobState::Running,
            Place::Over(state) => state,
        }
    }

    fn active(&self) -> Vec<u64> {
        let mut active: Vec<_> =
            self.jobs.iter().filter(|(_, job)| !matches!(job.at, Place::Over(_))).collect();
        active.sort_by_key(|(_, job)| job.admitted);
        active.into_iter().map(|(number, _)| *number).collect()
    }

    fn say(&mut self, word: &'static str, job: Option<u64>, attempt: u32, end: Option<JobState>) {
        self.log.push(Line { word, job, attempt, end });
    }

    fn apply(&mut self, op: Op) -> Answer {
        match op {
            Op::Admit { first, count, other } => self.admit(first, count, other),
            Op::Note => {
                self.say("note", None, 0, None);
                Answer::Done
            }
            Op::Published => Answer::Done,
            Op::Start(number) | Op::Cancel(number) | Op::Recover(number) | Op::Finish { job: number, .. } => {
                match self.jobs.get(&number).cloned() {
                    None => Answer::Unknown,
                    Some(Job { at: Place::Over(state), .. }) => Answer::Over(state),
                    Some(job) => self.happen(number, job, op),
                }
            }
        }
    }

    fn admit(&mut self, first: u64, count: u64, other: bool) -> Answer {
        let numbers: Vec<u64> = (first..first + count).collect();
        let conflict =
            numbers.iter().find(|number| self.jobs.get(number).is_some_and(|job| job.other != other));
        if let Some(number) = conflict {
            return Answer::Conflict(*number);
        }
        let fresh: Vec<u64> =
            numbers.iter().copied().filter(|number| !self.jobs.contains_key(number)).collect();
        if self.active().len() + fresh.len() > MAX_ACTIVE {
            return Answer::Full;
        }
        for number in &fresh {
            let admitted = self.log.len() as u64;
            self.jobs.insert(*number, Job { admitted, other, attempt: 0, at: Place::Waits, said: None });
            self.say("admitted", Some(*number), 0, None);
            self.heard.push(Heard::Waits(*number));
        }
        Answer::Admitted(numbers.iter().map(|number| self.jobs[number].admitted).collect())
    }

    /// An event of a job that is not over.
    fn happen(&mut self, number: u64, mut job: Job, op: Op) -> Answer {
        let waits = job.at == Place::Waits;
        let (word, at) = match (op, job.at) {
            (Op::Start(_), Place::Waits) => {
                job.attempt += 1;
                ("started", Place::Runs { stop: false })
            }
            (Op::Finish { off, code, .. }, Place::Runs { .. }) => {
                if off != 0 {
                    return Answer::Fenced(job.attempt + off, job.attempt);
                }
                job.said = Some(output(number, job.attempt));
                let state = if code == 0 { JobState::Succeeded } else { JobState::Failed };
                ("finished", Place::Over(state))
            }
            (Op::Cancel(_), Place::Waits) | (Op::Recover(_), Place::Runs { stop: true }) => {
                ("finished", Place::Over(JobState::Cancelled))
            }
            (Op::Cancel(_), Place::Runs { stop: false }) => ("stop", Place::Runs { stop: true }),
            (Op::Recover(_), Place::Runs { stop: false }) => {
                if idempotent(number) && job.attempt < ATTEMPTS {
                    ("again", Place::Waits)
                } else {
                    ("finished", Place::Over(JobState::Interrupted))
                }
            }
            _ => return Answer::Wrong(if waits { JobState::Queued } else { JobState::Running }),
        };
        job.at = at;
        if matches!(op, Op::Finish { .. }) {
            self.heard.push(Heard::Ran(number));
        }
        match at {
            Place::Waits => self.heard.push(Heard::Waits(number)),
            Place::Over(_) => self.heard.push(Heard::Over(number)),
            Place::Runs { .. } => {}
        }
        let end = if let Place::Over(state) = at { Some(state) } else { None };
        let attempt = if word == "stop" { 0 } else { job.attempt };
        self.say(word, Some(number), attempt, end);
        let answer = Answer::Is(Self::state(&job), job.attempt);
        self.jobs.insert(number, job);
        answer
    }
}

const fn idempotent(number: u64) -> bool {
    number.is_multiple_of(2)
}

fn output(number: u64, attempt: u32) -> Vec<u8> {
    format!("job {number}, attempt {attempt}").into_bytes()
}

/// A job that was admitted, and its envelope.
type Signed = (AdmittedJob, Arc<[u8]>);

/// Every job that a history may admit, signed and admitted once for all histories.
fn job(number: u64, other: bool) -> Signed {
    static JOBS_ADMITTED: OnceLock<BTreeMap<(u64, bool), Signed>> = OnceLock::new();
    let make = |(number, other): (u64, bool)| {
        let mut body = body(number);
        body.task.idempotent = idempotent(number);
        if other {
            body.task.args.push("other".into());
        }
        ((number, other), (admitted(&body), envelope(&body)))
    };
    let all = || (0..=JOBS + 2).flat_map(|number| [(number, false), (number, true)]).map(make).collect();
    JOBS_ADMITTED.get_or_init(all)[&(number, other)].clone()
}

/// A job's number from its id.
fn number(job: &JobId) -> u64 {
    u64::from_be_bytes(job.as_bytes()[8..].try_into().unwrap())
}

/// The event as the store takes it.
fn transition(op: Op, model: &Model) -> Transition {
    let step = |job, event| Transition::Step { job: id(job), event };
    match op {
        Op::Admit { first, count, other } => {
            let (jobs, mut envelopes): (Vec<_>, Vec<_>) =
                (first..first + count).map(|number| job(number, other)).unzip();
            // Of several nobody reads it.
            let envelope = envelopes.swap_remove(0);
            let alone = count == 1;
            Transition::Admit { jobs, envelope, alone, max_active: MAX_ACTIVE, rules: Box::default() }
        }
        Op::Start(job) => step(job, lifecycle::Event::Start),
        Op::Cancel(job) => step(job, lifecycle::Event::Cancel { by: client_key().public() }),
        Op::Recover(job) => step(job, lifecycle::Event::Recover),
        Op::Finish { job, off, code } => {
            let fence = model.jobs.get(&job).map_or(0, |job| job.attempt) + off;
            let end = Box::new(Finished::without_run(Outcome::Exited { code }));
            let outputs = Outputs { stdout: Some(output(job, fence)), ..Outputs::default() };
            Transition::Finish { job: id(job), event: lifecycle::Event::Finish { fence, end }, outputs }
        }
        Op::Note => Transition::Log(Event::HostStopped {}),
        Op::Published => Transition::Published {
            head: PublishedHead { size: model.log.len() as u64, root: [7; 32] },
            forget_below: 0,
        },
    }
}

/// The store's answer in the model's words.
fn answer(result: Result<Committed, CommitError>) -> Answer {
    match result {
        Ok(Committed::Admitted { jobs, .. }) => {
            Answer::Admitted(jobs.iter().map(|job| job.log_index).collect())
        }
        Ok(Committed::Stepped(row)) => Answer::Is(row.life.state(NOW), row.life.attempt),
        Ok(Committed::Done | Committed::Erased { .. } | Committed::Granted { .. }) => Answer::Done,
        Err(CommitError::Illegal(Illegal::Over(state))) => Answer::Over(state),
        Err(CommitError::Illegal(Illegal::WrongState(state))) => Answer::Wrong(state),
        Err(CommitError::Illegal(Illegal::Fenced { fence, attempt })) => Answer::Fenced(fence, attempt),
        Err(CommitError::UnknownJob) => Answer::Unknown,
        Err(CommitError::Conflict(job)) => Answer::Conflict(number(&job)),
        Err(CommitError::Full { .. }) => Answer::Full,
        Err(CommitError::Illegal(error @ (Illegal::TooEarly(_) | Illegal::NotExpired | Illegal::Series))) => {
            panic!("{error}")
        }
        Err(error @ (CommitError::NotUnique { .. } | CommitError::Denied(_))) => panic!("{error}"),
        Err(CommitError::Failed(reason)) => panic!("the store failed by itself: {reason}"),
    }
}

/// A record in the model's words.
fn line(record: &Record) -> Line {
    let (word, attempt, end) = match &record.event {
        Event::Admitted { .. } => ("admitted", 0, None),
        Event::Started { attempt, .. } => ("started", *attempt, None),
        Event::CancelRequested { .. } => ("stop", 0, None),
        Event::Requeued { attempt, .. } => ("again", *attempt, None),
        Event::Finished { attempt, outcome, .. } => ("finished", *attempt, Some(outcome.state())),
        Event::HostStopped {} => ("note", 0, None),
        other => panic!("nobody logged this: {other:?}"),
    };
    Line { word, job: record.job().map(number), attempt, end }
}

fn draw(random: &mut Random) -> Op {
    let job = random.below(JOBS);
    match random.below(24) {
        0..=6 => Op::Admit { first: job, count: 1 + random.below(3), other: random.one_in(8) },
        7..=12 => Op::Start(job),
        13..=17 => {
            Op::Finish { job, off: u32::from(random.one_in(4)), code: if random.one_in(3) { 3 } else { 0 } }
        }
        18 | 19 => Op::Cancel(job),
        20 | 21 => Op::Recover(job),
        22 => Op::Note,
        _ => Op::Published,
    }
}

/// Where the disk fails next: at this step of the next commit that writes.
type Failing = Arc<AtomicU64>;
const WORKS: u64 = 0;

/// What the store told the schedule since somebody last looked.
type Told = Arc<Mutex<Vec<Heard>>>;

fn open(path: &Path, failing: &Failing, told: &Told) -> (Store, Closing) {
    let opened = Store::open(path).unwrap();
    let clock = Arc::new(Clock::not_before(opened.latest()));
    let failing = Arc::clone(failing);
    let fault = move |step: Step| -> io::Result<()> {
        if failing.load(Ordering::Relaxed) == step as u64 + 1 {
            return Err(io::Error::other("the disk is gone"));
        }
        Ok(())
    };
    let told = Arc::clone(told);
    let listener = move |effects: Vec<Effect>| {
        let heard = effects.into_iter().map(|effect| match effect {
            Effect::Waits(entry) => Heard::Waits(number(&entry.job)),
            Effect::Ran(job, _) => Heard::Ran(number(&job)),
            Effect::Over(job) => Heard::Over(number(&job)),
            Effect::Queue(..) => panic!("nobody set a queue"),
        });
        told.lock().unwrap().extend(heard);
    };
    opened.start_telling(clock, Box::new(fault), Box::new(listener)).unwrap()
}

fn close((store, closing): (Store, Closing)) {
    drop(store);
    closing.wait();
}

/// One history.
struct History {
    random: Random,
    model: Model,
    runtime: tokio::runtime::Runtime,
    dir: tempfile::TempDir,
    failing: Failing,
    told: Told,
    /// None only while it is being reopened.
    store: Option<(Store, Closing)>,
    /// Records seen so far, from the first on.
    seen: Vec<Record>,
}

impl History {
    fn new(seed: u64) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (failing, told) = (Failing::default(), Told::default());
        let store = Some(open(dir.path(), &failing, &told));
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let (random, model, seen) = (Random::new(seed), Model::default(), Vec::new());
        Self { random, model, runtime, dir, failing, told, store, seen }
    }

    fn store(&self) -> &Store {
        &self.store.as_ref().unwrap().0
    }

    fn live(&mut self) {
        for _ in 0..GROUPS {
            let ops: Vec<Op> = (0..1 + self.random.below(GROUP)).map(|_| draw(&mut self.random)).collect();
            match self.random.below(12) {
                0 => self.fail(ops[0]),
                1 => self.restart(),
                _ => self.commit(&ops),
            }
            self.compare();
        }
    }

    /// Hands all events in at once, so that they may share a group.
    fn commit(&mut self, ops: &[Op]) {
        let mut expected = Vec::new();
        let mut transitions = Vec::new();
        for op in ops {
            transitions.push(transition(*op, &self.model));
            expected.push(self.model.apply(*op));
        }
        let store = self.store();
        let work = join_all(transitions.into_iter().map(|transition| store.commit(transition)));
        let answers: Vec<Answer> = self.runtime.block_on(work).into_iter().map(answer).collect();
        assert_eq!(answers, expected, "{ops:?}");
        let heard = std::mem::take(&mut self.model.heard);
        assert_eq!(std::mem::take(&mut *self.told.lock().unwrap()), heard, "{ops:?}");
    }

    /// The disk fails under an event: nobody is told anything, and after a restart it happened whole or not at all.
    fn fail(&mut self, op: Op) {
        let step = 1 + self.random.below(3);
        let mut after = self.model.clone();
        let transition = transition(op, &after);
        let writes = matches!(after.apply(op), Answer::Admitted(..) | Answer::Is(..) | Answer::Done);
        self.failing.store(step, Ordering::Relaxed);
        let store = self.store();
        let told = self.runtime.block_on(store.commit(transition));
        if writes {
            assert!(matches!(told, Err(CommitError::Failed(_))), "{op:?}: {told:?}");
            assert_eq!(store.failure().as_deref(), Some("the disk is gone"));
            let late = self.runtime.block_on(store.commit(Transition::Log(Event::HostStopped {})));
            assert!(matches!(late, Err(CommitError::Failed(_))), "a store that failed took more: {late:?}");
        }
        self.failing.store(WORKS, Ordering::Relaxed);
        // Whoever is told nothing hears nothing.
        assert!(!writes || self.told.lock().unwrap().is_empty());
        self.model.heard.clear();
        after.heard.clear();
        self.told.lock().unwrap().clear();
        // Up to the first step nothing was written; past it, the group is in the journal.
        if writes && step > 1 {
            self.model = after;
        }
        self.restart();
    }

    /// Closes, opens, and judges what was running, as a host does at its start.
    fn restart(&mut self) {
        close(self.store.take().unwrap());
        self.store = Some(open(self.dir.path(), &self.failing, &self.told));
        let running: Vec<u64> = self.model.active().into_iter().filter(|n| self.runs(*n)).collect();
        let recover: Vec<Op> = running.into_iter().map(Op::Recover).collect();
        self.commit(&recover);
    }

    fn runs(&self, number: u64) -> bool {
        matches!(self.model.jobs[&number].at, Place::Runs { .. })
    }

    /// Holds everything that the store shows against the model.
    fn compare(&mut self) {
        let store = self.store().clone();
        let size = store.log_size();
        assert_eq!(size, self.model.log.len() as u64, "the log's size");
        let more = store.leaves(self.seen.len() as u64, 1000).unwrap();
        for leaf in more {
            let record = Record::from_leaf(&leaf).unwrap();
            assert!(
                self.seen.last().is_none_or(|last| last.time <= record.time),
                "time went back: {record:?}"
            );
            self.seen.push(record);
        }
        let lines: Vec<Line> = self.seen.iter().map(line).collect();
        assert_eq!(lines, self.model.log);
        let active: Vec<Active> = store.active().collect::<Result<_, _>>().unwrap();
        assert_eq!(
            active.iter().map(|active| number(&active.entry.job)).collect::<Vec<_>>(),
            self.model.active()
        );
        for Active { entry, running } in active {
            assert_eq!(running, self.runs(number(&entry.job)), "{entry:?}");
        }
        for number in 0..JOBS + 3 {
            let row = self.runtime.block_on(store.row(&id(number))).unwrap();
            let shown = row.as_ref().map(|row| (row.life.state(NOW), row.life.attempt, row.admitted));
            let job = self.model.jobs.get(&number);
            assert_eq!(shown, job.map(|job| (Model::state(job), job.attempt, job.admitted)), "job {number}");
            let spec = store.spec(&id(number)).unwrap().map(|spec| (spec.id(), *spec.signer()));
            assert_eq!(spec, job.map(|_| (id(number), client_key().public())), "job {number}");
            let said = store.output(&id(number), strongroom_job::OutputStream::Stdout).unwrap();
            assert_eq!(said, job.and_then(|job| job.said.clone()), "job {number}");
        }
    }
}

// Red with any one of: the fence not compared in `lifecycle::step`; a cancelled job requeued by `recover`; `changed` not
// looked at in `Group::row`; `active` not lowered in `Group::step`, or not compared in `Group::admit`; `LOG_SIZE` left out of
// the batch; the output of a refused `Finish` kept; the answers sent although `make_durable` failed.
#[test]
fn after_any_events_the_store_says_what_the_model_says() {
    let next = AtomicU64::new(FIRST_SEED);
    let failed: Vec<String> = std::thread::scope(|scope| {
        let worker = || {
            let mut failed = Vec::new();
            loop {
                let seed = next.fetch_add(1, Ordering::Relaxed);
                if seed >= FIRST_SEED + SEEDS {
                    return failed;
                }
                let lived = std::panic::catch_unwind(|| {
                    let mut history = History::new(seed);
                    history.live();
                    close(history.store.take().unwrap());
                });
                if lived.is_err() {
                    failed.push(format!("seed {seed}"));
                }
            }
        };
        let workers: Vec<_> = (0..THREADS).map(|_| scope.spawn(worker)).collect();
        workers.into_iter().flat_map(|worker| worker.join().unwrap()).collect()
    });
    assert!(failed.is_empty(), "{} of {SEEDS} histories: {}", failed.len(), failed.join(", "));
}
