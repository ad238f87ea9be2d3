//! What a long queue costs, and what one tenant's flood costs another.
//!
//! `cargo bench -p strongroom-benches --bench queue [-- JOBS…]`: queues of 1,000 and of 1,000,000 jobs unless others are said. Prints two parts:
//!
//! * `depth`: the store with its one writer and the schedule, no guests: jobs signed one by one are admitted, and for each the job that is next is started
//!   and ended, all of it durable, while so many others wait, which came in batches. Memory and disk for each job that waits, disk for each that is over, and the time that a new process takes from
//!   opening the state until every job is on the schedule again;
//! * `flood`: a whole host over QUIC on loopback: one tenant's jobs, one after the other, alone and while another tenant has as many
//!   waiting as fit before they run out. From the signature to the known, durable end.

#![allow(clippy::disallowed_methods, reason = "a bench is about the clock")]

use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use strongroom::clock::Clock;
use strongroom::compile::Compiler;
use strongroom::config::{Config, Principal};
use strongroom::home::Home;
use strongroom::host::{Host, Stop};
use strongroom::lifecycle::{Event, Finished};
use strongroom::schedule::Schedule;
use strongroom::store::{Closing, CommitError, Committed, Effect, NoFault, Outputs, Store, Transition};
use strongroom_benches::jobs::{Admitted, Admitter};
use strongroom_benches::machine;
use strongroom_job::{JobId, JobState, ModuleRef, Outcome, SecretKey, Timestamp};
use strongroom_sdk::{Batch, BatchJob, Client, ConnectOptions, Identity, Job};
use tokio::task::JoinSet;

/// Jobs of the queues, unless said otherwise.
const DEPTHS: [usize; 2] = [1_000, 1_000_000];
/// Jobs that live from admission to end at each depth: many layers of rows. A tenth of them are over before sled was given much of a short queue, and
/// while it is still being given what was admitted to a long one.
const LIVES: usize = 200_000;
/// Transitions in flight.
const IN_FLIGHT: usize = 64;
/// Jobs that share a signature.
const BATCH: usize = 10_000;
/// Jobs of the tenant whose latency is measured.
const STEADY: usize = 500;
/// Jobs of the tenant that floods.
const FLOOD: usize = 100_000;

const UPPER: &[u8] = include_bytes!("../../host/assets/upper.wasm");

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if let [word, state] = &args[..]
        && word == "--restart"
    {
        return restart(Path::new(state));
    }
    // `cargo test` builds and starts benches too; they have nothing to prove there.
    if !args.iter().any(|arg| arg == "--bench") {
        return Ok(());
    }
    let depths = machine::numbers(&DEPTHS).context("only numbers are asked for")?;
    print!("{}", machine::describe());
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        println!(
            "\n{:>10} {:>9} {:>14} {:>14} {:>16} {:>12}",
            "waiting", "jobs/s", "bytes in memory", "bytes on disk", "bytes of one over", "restart"
        );
        for depth in depths {
            depth_of(depth).await?;
        }
        flood().await
    })
}

/// The store and the schedule that hears of it.
struct Queue {
    store: Store,
    closing: Closing,
    schedule: Arc<Mutex<Schedule>>,
    clock: Arc<Clock>,
}

impl Queue {
    fn open(state: &Path) -> Result<Self> {
        let mut opened = Store::open(state)?;
        let clock = Arc::new(Clock::not_before(opened.latest()));
        let schedule = Schedule::new(Default::default(), Default::default(), clock.now());
        let schedule = Arc::new(Mutex::new(schedule));
        let heard = Arc::clone(&schedule);
        let listener = move |effects: Vec<Effect>| {
            let Ok(mut schedule) = heard.lock() else { return };
            for effect in effects {
                match effect {
                    Effect::Waits(entry) => drop(schedule.add(entry)),
                    Effect::Ran(job, ran) => drop(schedule.ended(&job, ran)),
                    Effect::Over(_) | Effect::Queue(..) => {}
                }
            }
        };
        let active = opened.take_active();
        let (store, closing) =
            opened.start_telling(Arc::clone(&clock), Box::new(NoFault), Box::new(listener))?;
        for active in active {
            let _ = schedule.lock().map(|mut schedule| schedule.add(active.entry));
        }
        Ok(Self { store, closing, schedule, clock })
    }

    fn close(self) {
        drop(self.store);
        self.closing.wait();
    }

    fn take(&self) -> Option<JobId> {
        self.schedule.lock().ok()?.take(self.clock.now())
    }

    async fn admit(&self, (jobs, envelope): Admitted, alone: bool) -> Result<()> {
        let transition =
            Transition::Admit { jobs, envelope, alone, max_active: usize::MAX, rules: Box::default() };
        self.store.commit(transition).await?;
        Ok(())
    }

    /// One job from admission to the end of whichever is next.
    async fn live(&self, job: Admitted) -> Result<()> {
        self.admit(job, true).await?;
        let job = self.take().context("a job that waits")?;
        let started = self.store.commit(Transition::Step { job, event: Event::Start }).await?;
        let Committed::Stepped(row) = started else { return Err(CommitError::UnknownJob.into()) };
        let end = Box::new(Finished::without_run(Outcome::Exited { code: 0 }));
        let event = Event::Finish { fence: row.life.attempt, end };
        self.store.commit(Transition::Finish { job, event, outputs: Outputs::default() }).await?;
        Ok(())
    }
}

async fn depth_of(depth: usize) -> Result<()> {
    let dir = tempfile::tempdir()?;
    let state = dir.path().join("state");
    let queue = Arc::new(Queue::open(&state)?);
    let mut admitter = Admitter::new()?;
    let (memory, disk) = (machine::resident(std::process::id()), machine::disk_bytes(&state)?);
    let mut left = depth;
    while left > 0 {
        let batch = admitter.batch(left.min(BATCH))?;
        left -= batch.0.len();
        queue.admit(batch, false).await?;
    }
    let each = |after: u64, before: u64, jobs: usize| after.saturating_sub(before) as f64 / jobs as f64;
    let (in_memory, on_disk) = (
        each(machine::resident(std::process::id()), memory, depth),
        each(machine::disk_bytes(&state)?, disk, depth),
    );

    // As a host does it: with the heap of a process that has just begun.
    Arc::into_inner(queue).context("nobody else has it")?.close();
    let restarted = Command::new(std::env::current_exe()?).arg("--restart").arg(&state).output()?;
    ensure!(restarted.status.success(), "{}", String::from_utf8_lossy(&restarted.stderr));
    let said = String::from_utf8(restarted.stdout)?;
    let (waiting, restart) = said.trim().split_once(' ').context("two numbers")?;
    ensure!(waiting.parse() == Ok(depth), "{waiting} of {depth} jobs came back");
    let restart: f64 = restart.parse()?;
    // What it takes to sign them is not the queue's business, and no rest for it either: they are there before it is opened.
    let jobs = Arc::new(Mutex::new(admitter.singles(LIVES)?));
    let queue = Arc::new(Queue::open(&state)?);

    let before = machine::disk_bytes(&state)?;
    let begun = Instant::now();
    let mut workers = JoinSet::new();
    for _ in 0..IN_FLIGHT {
        let (queue, jobs) = (Arc::clone(&queue), Arc::clone(&jobs));
        workers.spawn(async move {
            loop {
                let job = jobs.lock().ok().and_then(|mut jobs| jobs.pop());
                let Some(job) = job else { return anyhow::Ok(()) };
                queue.live(job).await?;
            }
        });
    }
    while let Some(done) = workers.join_next().await {
        done.context("a panic")??;
    }
    let rate = LIVES as f64 / begun.elapsed().as_secs_f64();
    let over = each(machine::disk_bytes(&state)?, before, LIVES);
    Arc::into_inner(queue).context("nobody else has it")?.close();
    println!("{depth:>10} {rate:>9.0} {in_memory:>14.0} {on_disk:>14.0} {over:>16.0} {restart:>10.2} s");
    Ok(())
}

/// Opens a state, and says how many jobs wait and how many seconds it took to have them on the schedule.
fn restart(state: &Path) -> Result<()> {
    let begun = Instant::now();
    let queue = Queue::open(state)?;
    let seconds = begun.elapsed().as_secs_f64();
    let waiting = queue.schedule.lock().map(|schedule| schedule.waiting()).unwrap_or(0);
    println!("{waiting} {seconds}");
    queue.close();
    Ok(())
}

/// One tenant's latency, alone and beside another's flood.
async fn flood() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let home = Home::create(&dir.path().join("host"))?;
    let (steady, flooder) = (home.client_key()?, SecretKey::from_seed(&[9; 32].into()));
    let mut config = Config::load(&home.config())?;
    config.listen = ([127, 0, 0, 1], 0).into();
    let other = Principal {
        name: "flooder".parse()?,
        key: flooder.public(),
        tenant: "flood".parse()?,
        ..config.principals[0].clone()
    };
    config.principals.push(other);
    let host = Box::pin(Host::start(home.lock()?, config, Compiler::InProcess)).await?;
    let connect = |identity: Identity| {
        Client::connect(
            ConnectOptions::new(host.local_addr(), *host.public_key(), identity).without_receipts(),
        )
    };
    let (steady, flooder) = (connect(steady.into()).await?, connect(flooder.into()).await?);
    let module = steady.push_module(UPPER.to_vec()).await?;
    flooder.push_module(UPPER.to_vec()).await?;
    one_by_one(&steady, module, 100).await?;

    println!("\n{:<28} {:>10} {:>10}", "one tenant's jobs", "p50", "p99");
    print_times("alone", one_by_one(&steady, module, STEADY).await?);
    let template = Job::new(module).stdin_bytes(b"flood".to_vec());
    for _ in 0..FLOOD / BATCH {
        let jobs = (0..BATCH).map(|number| BatchJob::new().args([number.to_string()]));
        flooder.submit_batch(&Batch::new(template.clone()).jobs(jobs)).await?;
    }
    print_times(&format!("beside {FLOOD} of another's"), one_by_one(&steady, module, STEADY).await?);
    let left = waiting(&flooder).await?;
    println!("still waiting at the end: {left}");
    ensure!(left > 0, "the flood was over before the measurement");
    steady.close().await;
    flooder.close().await;
    host.stop(Stop::Running(Duration::from_secs(60))).await;
    Ok(())
}

async fn waiting(client: &Client) -> Result<u64> {
    Ok(client.queues().await?.iter().map(|queue| queue.queued).sum())
}

/// Where a job's time went.
struct Times {
    /// From the signature to the known end.
    all: Duration,
    /// In ms: from the signature to the acknowledgement, and from there to the known end; by the host's clock, which counts whole ones, from the acceptance to the start, and to the end.
    parts: [f64; 4],
}

async fn one_by_one(client: &Client, module: ModuleRef, jobs: usize) -> Result<Vec<Times>> {
    let mut times = Vec::with_capacity(jobs);
    for _ in 0..jobs {
        let begun = Instant::now();
        let accepted = client.submit(&Job::new(module).stdin_bytes(b"steady".to_vec())).await?;
        let acknowledged = begun.elapsed();
        let finished = client.wait(accepted.job).await?;
        let all = begun.elapsed();
        ensure!(finished.view.state == JobState::Succeeded, "{finished:?}");
        let view = finished.view;
        let (started, over) = view.started_at.zip(view.finished_at).context("it ran")?;
        let between = |from: Timestamp, to: Timestamp| to.as_millis().saturating_sub(from.as_millis()) as f64;
        let [acknowledged, known] = [acknowledged, all - acknowledged].map(|time| time.as_secs_f64() * 1e3);
        let parts = [acknowledged, known, between(view.accepted_at, started), between(started, over)];
        times.push(Times { all, parts });
    }
    Ok(times)
}

fn print_times(what: &str, mut times: Vec<Times>) {
    times.sort_by_key(|times| times.all);
    let mut all: Vec<_> = times.iter().map(|times| times.all).collect();
    let mut millis = |percent| machine::percentile(&mut all, percent).as_secs_f64() * 1e3;
    let (p50, p99) = (millis(50), millis(99));
    println!("{what:<28} {p50:>7.2} ms {p99:>7.2} ms");
    let slowest = &times[times.len() - times.len().div_ceil(50)..];
    for (which, of) in [("  mean of all", &times[..]), ("  of the slowest fiftieth", slowest)] {
        let mean = |part: usize| of.iter().map(|times| times.parts[part]).sum::<f64>() / of.len() as f64;
        println!(
            "{which:<28} acknowledged after {:.1} ms, known {:.1} ms later; by the host's clock {:.1} ms from acceptance to start, {:.1} ms to the end",
            mean(0),
            mean(1),
            mean(2),
            mean(3)
        );
    }
}
