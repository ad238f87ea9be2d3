//! What a durable commit costs, alone and shared by a group, against bare sled.
//!
//! `cargo bench -p strongroom-benches --bench store`. Prints a table; each figure is the median of interleaved rounds, so
//! that what else the machine does hits all rows.
//!
//! * `bare sled`: `apply_batch` and `flush`, which on Linux does not survive a power cut;
//! * `bare sled, durable`: the same and `fdatasync`, which does;
//! * `store, note`: a transition that only writes a record of 300 bytes, the nearest to the above;
//! * `store, job`: one job from admission over start to its end, three transitions with their rows and records.

#![allow(clippy::disallowed_methods, reason = "a bench is about the clock")]

use std::fs::File;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use strongroom::clock::Clock;
use strongroom::lifecycle::{self, Finished};
use strongroom::store::{Closing, Outputs, Step, Store, Transition};
use strongroom_benches::jobs::{Admitted, Admitter};
use strongroom_benches::machine;
use strongroom_job::{Digest, Event, Outcome, SecretKey};
use tokio::task::JoinSet;

/// Rounds of each row; the median counts.
const ROUNDS: usize = 5;
/// How long one round takes.
const ROUND: Duration = Duration::from_millis(400);
/// Bytes of a record in bare sled.
const RECORD_BYTES: usize = 300;
/// Records of one batch, or transitions in flight.
const GROUPS: [usize; 4] = [1, 10, 100, 500];

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("threads");
    let dir = tempfile::tempdir().expect("a directory");
    print!("{}", machine::describe());
    println!("fdatasync  {:.0} µs after 4 KiB, median\n", micros(machine::sync_floor(dir.path())));
    let mut bare = Bare::open(&dir.path().join("bare"), false);
    let mut durable = Bare::open(&dir.path().join("durable"), true);
    let (notes, closing_notes, note_commits) = open(&dir.path().join("notes"));
    let (jobs, closing_jobs, job_commits) = open(&dir.path().join("jobs"));
    let mut admitter = Admitter::new().expect("the example");

    println!("µs per record, by records that share a commit (for the store: that are in flight)\n");
    println!(
        "{:>6} {:>12} {:>20} {:>12} {:>8} {:>12} {:>12} {:>12}",
        "",
        "bare sled",
        "bare sled, durable",
        "store, note",
        "ratio",
        "per commit",
        "store, job",
        "per commit"
    );
    for group in GROUPS {
        let mut rows = [const { Vec::new() }; 4];
        let (mut noted, mut lived) = (0, 0);
        let before = (note_commits.load(Ordering::Relaxed), job_commits.load(Ordering::Relaxed));
        for _ in 0..ROUNDS {
            rows[0].push(bare.round(group));
            rows[1].push(durable.round(group));
            let (time, done) = runtime.block_on(notes_round(&notes, group));
            rows[2].push(time);
            noted += done;
            // Signing is not the store's business, so the jobs are made before the clock starts.
            let made = admitter.singles(group * 8).expect("good jobs");
            lived += made.len() * 3;
            rows[3].push(runtime.block_on(jobs_round(&jobs, made, group)));
        }
        let per_note = noted as f64 / (note_commits.load(Ordering::Relaxed) - before.0) as f64;
        let per_job = lived as f64 / (job_commits.load(Ordering::Relaxed) - before.1) as f64;
        let [bare, durable, note, job] = rows.map(|mut times| machine::percentile(&mut times, 50));
        let ratio = note.as_secs_f64() / durable.as_secs_f64();
        let (bare, durable, note, job) = (micros(bare), micros(durable), micros(note), micros(job));
        println!(
            "{group:>6} {bare:>12.1} {durable:>20.1} {note:>12.1} {ratio:>8.2} {per_note:>12.1} {job:>12.1} {per_job:>12.1}"
        );
    }
    println!(
        "\nratio: store, note over bare sled, durable; per commit: transitions that shared one, on average"
    );
    for (store, closing) in [(notes, closing_notes), (jobs, closing_jobs)] {
        drop(store);
        closing.wait();
    }
}

fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}

/// sled as a program would use it that keeps no promises, or the one that matters most.
struct Bare {
    db: sled::Db,
    sync: Option<File>,
    next: u64,
}

impl Bare {
    fn open(dir: &Path, durable: bool) -> Self {
        let db =
            sled::Config::new().path(dir).cache_capacity(32 << 20).flush_every_ms(None).open().expect("sled");
        let sync = durable.then(|| File::open(dir.join("db")).expect("sled's file"));
        Self { db, sync, next: 0 }
    }

    fn round(&mut self, group: usize) -> Duration {
        let begun = Instant::now();
        let mut done = 0;
        while begun.elapsed() < ROUND {
            let mut batch = sled::Batch::default();
            for _ in 0..group {
                batch.insert(&self.next.to_be_bytes(), vec![b'x'; RECORD_BYTES]);
                self.next += 1;
            }
            self.db.apply_batch(batch).expect("applied");
            self.db.flush().expect("flushed");
            if let Some(file) = &self.sync {
                file.sync_data().expect("synced");
            }
            done += group;
        }
        begun.elapsed() / u32::try_from(done).expect("few")
    }
}

/// A store that counts its commits.
fn open(dir: &Path) -> (Store, Closing, Arc<AtomicUsize>) {
    let opened = Store::open(dir).expect("the store opens");
    let commits = Arc::new(AtomicUsize::new(0));
    let count = {
        let commits = Arc::clone(&commits);
        move |step: Step| -> std::io::Result<()> {
            commits.fetch_add(usize::from(step == Step::Synced), Ordering::Relaxed);
            Ok(())
        }
    };
    let (store, closing) =
        opened.start(Arc::new(Clock::default()), Box::new(count)).expect("the writer starts");
    (store, closing, commits)
}

/// A record of about [`RECORD_BYTES`].
fn note() -> Transition {
    let version = "x".repeat(RECORD_BYTES - 220);
    let host = SecretKey::from_seed(&[1; 32].into()).public();
    Transition::Log(Event::HostStarted { host, version, config: Digest::of(b"config") })
}

/// `group` committers, each with one transition at a time.
async fn notes_round(store: &Store, group: usize) -> (Duration, usize) {
    let begun = Instant::now();
    let mut committers = JoinSet::new();
    for _ in 0..group {
        let store = store.clone();
        committers.spawn(async move {
            let mut done = 0;
            while begun.elapsed() < ROUND {
                store.commit(note()).await.expect("committed");
                done += 1;
            }
            done
        });
    }
    let done: u32 = committers.join_all().await.into_iter().sum();
    (begun.elapsed() / done, done as usize)
}

/// Jobs that go through their whole life, `group` at a time; per job.
async fn jobs_round(store: &Store, jobs: Vec<Admitted>, group: usize) -> Duration {
    let count = u32::try_from(jobs.len()).expect("few");
    let jobs = Arc::new(std::sync::Mutex::new(jobs));
    let begun = Instant::now();
    let mut committers = JoinSet::new();
    for _ in 0..group {
        let (store, jobs) = (store.clone(), Arc::clone(&jobs));
        committers.spawn(async move {
            loop {
                let job = jobs.lock().expect("nobody panics").pop();
                let Some(job) = job else { return };
                live(&store, job).await;
            }
        });
    }
    committers.join_all().await;
    begun.elapsed() / count
}

async fn live(store: &Store, (jobs, envelope): Admitted) {
    let job = jobs[0].id();
    let admit =
        Transition::Admit { jobs, envelope, alone: true, max_active: 1_000_000, rules: Box::default() };
    store.commit(admit).await.expect("admitted");
    store.commit(Transition::Step { job, event: lifecycle::Event::Start }).await.expect("started");
    let end = Box::new(Finished::without_run(Outcome::Exited { code: 0 }));
    let event = lifecycle::Event::Finish { fence: 1, end };
    let outputs = Outputs { stdout: Some(vec![b'x'; RECORD_BYTES]), ..Outputs::default() };
    store.commit(Transition::Finish { job, event, outputs }).await.expect("finished");
}
