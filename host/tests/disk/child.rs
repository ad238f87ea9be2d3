//! What the recorded process does: real work, by the real library, in a directory that is recorded. Each promise that it was
//! given is told in one line, at once.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::ops::Range;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use strongroom::clock::Clock;
use strongroom::compile::Compiler;
use strongroom::home::Home;
use strongroom::host::{Ended, Stop};
use strongroom::lifecycle::{Event, Finished};
use strongroom::store::{CommitError, NoFault, Opened, Outputs, Store, Transition};
use strongroom_job::{JobState, ModuleRef, Outcome, Timestamp};
use strongroom_sdk::{Client, ConnectOptions, Job, Retry};

use crate::calls::watch_me;
use crate::common::live::{push_wat, start_with};
use crate::common::{admitted, body, envelope, id};
use crate::tracer::{DATA, SCENARIO, TOLD};

/// A process that hangs has not stopped loudly. Far longer than it takes.
const PATIENCE: Duration = Duration::from_secs(60);
/// The status of a process that hung.
pub const HUNG: i32 = 99;
/// Where things are in the recorded directory.
pub const STATE: &str = "state";
pub const HOME: &str = "home";
/// Jobs that are under way at once.
const WORKERS: u64 = 3;
/// After so long, the log has been published: what comes later comes after a failure of the log, if there was one.
const PUBLISHED: Duration = Duration::from_millis(300);
/// Length of a file of the journal: so short that sled is given rows again and again.
const JOURNAL: u64 = 8 << 10;
/// Longest output that is kept in the store.
const LONG: usize = 16 << 10;

/// To whom promises are told.
#[derive(Clone)]
struct Told(Arc<File>);

impl Told {
    fn say(&self, line: &str) {
        (&*self.0).write_all(format!("{line}\n").as_bytes()).unwrap();
    }
}

/// Does what the file in this directory says. Without one it does nothing.
pub fn run_if_asked() {
    let Ok(scenario) = std::fs::read_to_string(SCENARIO) else { return };
    std::io::stdin().read_exact(&mut [0]).unwrap();
    watch_me();
    std::thread::spawn(|| {
        std::thread::sleep(PATIENCE);
        std::process::exit(HUNG);
    });
    let told = Told(Arc::new(File::options().append(true).open(TOLD).unwrap()));
    let data = Path::new(DATA);
    let (name, count) = scenario.split_once(' ').unwrap();
    let count = count.parse().unwrap();
    match name {
        "sled" => sled_alone(data, &told, count, false),
        "synced-sled" => sled_alone(data, &told, count, true),
        "store" => store(data, &told, 0..count, |opened| opened, |_| false),
        "renewed" => renewed(data, &told, count),
        "marked" => marked(data, &told, count),
        "opened" => drop(Store::open(&data.join(STATE)).unwrap()),
        "init" => told.say(&keys(&data.join(HOME))),
        "host" => host(&data.join(HOME), &told, count),
        _ => panic!("{name}?"),
    }
}

/// sled with the settings of the store, and `flush`, which says that it is durable. With `sync`: and `fdatasync`.
fn sled_alone(data: &Path, told: &Told, keys: u64, sync: bool) {
    let path = data.join(STATE);
    let config = sled::Config::new().path(&path).segment_size(8 << 20).flush_every_ms(None);
    let db = config.open().unwrap();
    let file = File::open(path.join("db")).unwrap();
    if sync {
        for made in [path.join("conf"), path, data.into()] {
            File::open(made).unwrap().sync_all().unwrap();
        }
    }
    for key in 0..keys {
        db.insert(key.to_be_bytes(), vec![7; 300]).unwrap();
        db.flush().unwrap();
        if sync {
            file.sync_data().unwrap();
        }
        told.say(&format!("key {key}"));
    }
}

/// Jobs of the process before one of `renewed`: so many that the state is copied in several slices.
pub const EARLIER: u64 = 24;
/// Jobs of one of `renewed` beyond those that it was told of, at most.
const PATIENT_JOBS: u64 = 300;

/// More jobs, until the state was written anew: the thread that copies it takes its turns when it gets them. Where a call failed for it,
/// it may never be: so many jobs more are enough.
fn renewed(data: &Path, told: &Told, count: u64) {
    let state = data.join(STATE);
    let inode = move || std::fs::metadata(&state).map(|state| state.ino()).ok();
    let before = inode();
    let is_enough = move |job| job >= count && inode() != before;
    store(data, told, EARLIER..count + PATIENT_JOBS, |opened| opened.renewed_above(0), is_enough);
}

/// The store, with several jobs under way, so that groups are shared. Does whatever an earlier process left undone. No job is begun
/// whose number is enough.
fn store(
    data: &Path,
    told: &Told,
    jobs: Range<u64>,
    set: fn(Opened) -> Opened,
    is_enough: impl Fn(u64) -> bool + Clone + Send + 'static,
) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().unwrap();
    let opened = set(Store::open(&data.join(STATE)).unwrap().journal_files(JOURNAL));
    let clock = Arc::new(Clock::not_before(opened.latest()));
    let (store, closing) = opened.start(clock, Box::new(NoFault)).unwrap();
    let failed = runtime.block_on(async {
        let mut workers = tokio::task::JoinSet::new();
        for worker in 0..WORKERS {
            let (store, told, jobs, is_enough) =
                (store.clone(), told.clone(), jobs.clone(), is_enough.clone());
            workers.spawn(async move {
                let mut failed = None;
                // A worker whose commit failed tries the others all the same: a store that failed must refuse them.
                for job in (jobs.start + worker..jobs.end).step_by(WORKERS as usize) {
                    if is_enough(job) {
                        break;
                    }
                    failed = live(&store, &told, job).await.err().or(failed);
                }
                failed
            });
        }
        workers.join_all().await.into_iter().flatten().next()
    });
    drop(store);
    let failed = failed.map(|error| error.to_string()).or(closing.wait());
    if let Some(error) = failed {
        panic!("the store failed: {error}");
    }
}

/// A store whose files the next opening writes anew, as after an erasure.
fn marked(data: &Path, told: &Told, jobs: u64) {
    store(data, told, 0..jobs, |opened| opened, |_| false);
    let path = data.join(STATE);
    let config = sled::Config::new().path(&path).segment_size(8 << 20).flush_every_ms(None);
    // sled's threads may hold its lock for a moment after the last handle is gone. The process ends if that goes on.
    let db = loop {
        match config.open() {
            Err(sled::Error::Io(error)) if error.to_string().contains("acquire lock") => {
                std::thread::sleep(Duration::from_millis(5));
            }
            opened => break opened.unwrap(),
        }
    };
    db.insert("m/stale", &[1]).unwrap();
    db.flush().unwrap();
    drop(db);
    File::open(path.join("db")).unwrap().sync_all().unwrap();
}

/// Brings one job from wherever it is to its end, and tells each state that the store says it has.
async fn live(store: &Store, told: &Told, job: u64) -> Result<(), CommitError> {
    loop {
        let row = store.row(&id(job)).await.map_err(|error| CommitError::Failed(error.to_string()))?;
        let state = row.map(|row| row.life.state(Timestamp::default()));
        if let Some(state) = state {
            told.say(&format!("job {job} {state}"));
        }
        match state {
            None => drop(store.commit(admit(job)).await?),
            Some(JobState::Queued) => drop(store.commit(begin(job)).await?),
            Some(JobState::Running) => drop(store.commit(finish(job)).await?),
            Some(_) => return Ok(()),
        }
    }
}

/// The transitions of a job, with rows of many sizes: every second one as it came alone, the others in an envelope of which nobody reads anything.
pub fn admit(job: u64) -> Transition {
    let (body, alone) = (body(job), job % 2 == 1);
    let filler = || Arc::from(vec![job.to_le_bytes()[0]; 200 + (job as usize * 977) % 5000]);
    Transition::Admit {
        jobs: vec![admitted(&body)],
        envelope: if alone { envelope(&body) } else { filler() },
        alone,
        max_active: 1000,
        rules: Box::default(),
    }
}

fn begin(job: u64) -> Transition {
    Transition::Step { job: id(job), event: Event::Start }
}

fn finish(job: u64) -> Transition {
    let stdout = Some(vec![b'o'; 1 + (job as usize * 3571) % LONG]);
    let end = Box::new(Finished::without_run(Outcome::Exited { code: 0 }));
    let event = Event::Finish { fence: 1, end };
    Transition::Finish { job: id(job), event, outputs: Outputs { stdout, ..Outputs::default() } }
}

/// Makes a data directory, and says which keys it has.
pub fn keys(dir: &Path) -> String {
    let home = Home::create(dir).unwrap();
    let keys = [home.host_key(), home.log_key(), home.client_key()].map(|key| key.unwrap().public());
    format!("keys {} {} {}", keys[0], keys[1], keys[2])
}

/// The whole host, and a client that submits jobs with inputs and outputs of both kinds.
fn host(dir: &Path, told: &Told, jobs: u64) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let host = start_with(dir, Compiler::InProcess, |_| {}).await;
        let key = Home::open(dir).unwrap().client_key().unwrap();
        let mut options = ConnectOptions::new(host.local_addr(), *host.public_key(), key);
        options.retry = Retry::none();
        let work = async {
            let client = Client::connect(options).await?;
            let module = push_wat(&client, &echo()).await;
            told.say(&format!("blob {}", module.digest));
            let mut workers = tokio::task::JoinSet::new();
            for worker in 0..WORKERS {
                let (client, told) = (client.clone(), told.clone());
                let numbers = (worker..jobs).step_by(WORKERS as usize);
                workers.spawn(async move {
                    for number in numbers {
                        submit(&client, &told, module, number).await?;
                        if number + WORKERS < jobs {
                            tokio::time::sleep(PUBLISHED).await;
                        }
                    }
                    Ok::<_, strongroom_sdk::Error>(())
                });
            }
            workers.join_all().await.into_iter().collect::<Result<(), _>>()
        };
        let done = tokio::select! {
            done = work => done.map_err(|error| error.to_string()),
            reason = host.failed() => Err(reason),
        };
        // With a disk that failed, what is queued stays so.
        let patience = Duration::from_secs(if done.is_ok() { 10 } else { 1 });
        let ended = host.stop(Stop::Everything(patience)).await;
        if let Err(error) = done {
            panic!("the host failed: {error}");
        }
        // What fails behind the last promise fails the stop.
        assert_eq!(ended, Ended::InOrder);
    });
}

async fn submit(
    client: &Client,
    told: &Told,
    module: ModuleRef,
    number: u64,
) -> Result<(), strongroom_sdk::Error> {
    // Every other input, and so output, is too long for a row.
    let input = vec![b'a' + number as u8 % 26; if number.is_multiple_of(2) { 100 } else { LONG + 5000 }];
    let accepted = client.submit(&Job::new(module).stdin_bytes(input).idempotent()).await?;
    told.say(&format!("job {} queued {}", accepted.job, accepted.log_index));
    let end = client.wait(accepted.job).await?;
    told.say(&format!("job {} {} {}", accepted.job, end.view.state, accepted.log_index));
    if end.end.stdout.length > LONG as u64 {
        told.say(&format!("blob {}", end.end.stdout.digest));
    }
    Ok(())
}

/// A guest that gives back what it was given.
fn echo() -> String {
    r#"(module
        (import "wasi_snapshot_preview1" "fd_read" (func $read (param i32 i32 i32 i32) (result i32)))
        (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
        (memory (export "memory") 1)
        (func (export "_start")
            (block $end (loop $more
                (i32.store (i32.const 0) (i32.const 1024))
                (i32.store (i32.const 4) (i32.const 32768))
                (drop (call $read (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 8)))
                (br_if $end (i32.eqz (i32.load (i32.const 8))))
                (i32.store (i32.const 4) (i32.load (i32.const 8)))
                (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 12)))
                (br $more)))))"#
        .into()
}
