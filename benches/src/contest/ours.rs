//! Strongroom itself: a whole host and its client in this process, over QUIC on loopback, state on the disk of the temporary
//! directory.

use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, ensure};
use hdrhistogram::Histogram;
use strongroom::compile::Compiler;
use strongroom::config::Config;
use strongroom::home::Home;
use strongroom::host::{Host, Stop};
use strongroom_job::{Digest, JobId, JobState, ModuleRef};
use strongroom_sdk::{Batch, BatchJob, Client, ConnectOptions, Finished, Identity, Job};
use tempfile::TempDir;
use tokio::runtime::Runtime;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::{Contender, Load, Measure, Promises, UPPER, histogram, input, note};

/// Jobs of one batch.
pub const BATCH: usize = 500;
/// Batches that are out at once.
const BATCHES_OUT: usize = 2;

/// A host that serves, and a client of it.
#[derive(Debug)]
pub struct Site {
    runtime: Arc<Runtime>,
    host: Option<Host>,
    client: Client,
    module: ModuleRef,
    identity: Identity,
    _dir: TempDir,
}

impl Site {
    /// Starts one in a new directory, and gives it the module.
    ///
    /// # Errors
    /// When the host does not start.
    pub fn start(runtime: &Arc<Runtime>) -> Result<Rc<Self>> {
        let dir = tempfile::tempdir()?;
        let home = Home::create(&dir.path().join("host"))?;
        let identity = Identity::from(home.client_key()?);
        let (host, client, module) = runtime.block_on(async {
            let mut config = Config::load(&home.config())?;
            config.listen = ([127, 0, 0, 1], 0).into();
            // A thousand clients with one key, for the curves.
            config.bounds.max_connections = 2048;
            config.bounds.max_connections_per_key = 2048;
            let host = Host::start(home.lock()?, config, Compiler::InProcess).await?;
            let client = connect(&host, &identity).await?;
            let module = client.push_module(UPPER.to_vec()).await?;
            anyhow::Ok((host, client, module))
        })?;
        Ok(Rc::new(Self {
            runtime: Arc::clone(runtime),
            host: Some(host),
            client,
            module,
            identity,
            _dir: dir,
        }))
    }

    /// Jobs that are signed one by one, `in_flight` at a time, for as long as `time` says.
    ///
    /// # Errors
    /// When one of them does not end well.
    pub fn singles(&self, in_flight: usize, time: Duration) -> Result<Measure> {
        let ones = (0..in_flight).map(|_| self.one()).collect();
        self.runtime.block_on(singly(ones, time))
    }

    /// Jobs of `clients` that each have a connection of their own, and one job in flight.
    ///
    /// # Errors
    /// When one of them cannot connect, or a job does not end well.
    pub fn clients(&self, clients: usize, time: Duration) -> Result<Measure> {
        self.runtime.block_on(async {
            let host = self.host.as_ref().context("a host that serves")?;
            let mut ones = Vec::new();
            for _ in 0..clients {
                ones.push(One { client: connect(host, &self.identity).await?, ..self.one() });
            }
            let clients: Vec<Client> = ones.iter().map(|one| one.client.clone()).collect();
            let measure = singly(ones, time).await?;
            for client in clients {
                client.close().await;
            }
            Ok(measure)
        })
    }

    /// Jobs whose input has so many bytes, each another, and whose output has as many.
    ///
    /// # Errors
    /// When one of them does not end well.
    pub fn payload(&self, bytes: usize, in_flight: usize, time: Duration) -> Result<Measure> {
        self.runtime.block_on(async {
            let begun = Instant::now();
            let number = Arc::new(AtomicU64::new(0));
            let mut workers = JoinSet::new();
            for _ in 0..in_flight {
                let (client, module, number) = (self.client.clone(), self.module, Arc::clone(&number));
                workers.spawn(async move {
                    let mut micros = histogram()?;
                    while begun.elapsed() < time {
                        let text = format!("{:020} of text\n", number.fetch_add(1, Ordering::Relaxed));
                        let input: Vec<u8> = text.bytes().cycle().take(bytes).collect();
                        let output = Digest::of(&input.to_ascii_uppercase());
                        let one =
                            One { client: client.clone(), job: Job::new(module).stdin_bytes(input), output };
                        let at = Instant::now();
                        one.run().await?;
                        note(&mut micros, at.elapsed());
                    }
                    anyhow::Ok(micros)
                });
            }
            gather(workers, begun).await
        })
    }

    /// A module that the host does not know yet: how long it takes to register, again when it is known, its first job, and one after.
    ///
    /// # Errors
    /// When it is refused, or a job does not end well.
    pub fn module(&self, wasm: &[u8]) -> Result<[Duration; 4]> {
        self.runtime.block_on(async {
            let mut times = [Duration::ZERO; 4];
            let mut module = None;
            for time in &mut times[..2] {
                // Whoever registers a module has it: the copy is not what is asked for.
                let wasm = wasm.to_vec();
                let at = Instant::now();
                module = Some(self.client.push_module(wasm).await?);
                *time = at.elapsed();
            }
            let job = Job::new(module.context("pushed")?);
            for time in &mut times[2..] {
                let at = Instant::now();
                let accepted = self.client.submit(&job).await?;
                let finished = self.client.wait(accepted.job).await?;
                ensure!(finished.view.state == JobState::Succeeded, "{finished:?}");
                *time = at.elapsed();
            }
            Ok(times)
        })
    }

    /// How long it takes to register a module again at a host that compiled it before its last restart.
    ///
    /// # Errors
    /// When the host does not start, or refuses it.
    pub fn restarted(&self, wasm: &[u8]) -> Result<Duration> {
        let dir = tempfile::tempdir()?;
        let home = Home::create(&dir.path().join("host"))?;
        let identity = Identity::from(home.client_key()?);
        self.runtime.block_on(async {
            let mut time = Duration::ZERO;
            for _ in 0..2 {
                let mut config = Config::load(&home.config())?;
                config.listen = ([127, 0, 0, 1], 0).into();
                let host = Host::start(home.lock()?, config, Compiler::InProcess).await?;
                let client = connect(&host, &identity).await?;
                // The first stream of a connection is not what is asked for.
                client.queues().await?;
                let wasm = wasm.to_vec();
                let at = Instant::now();
                client.push_module(wasm).await?;
                time = at.elapsed();
                client.close().await;
                host.stop(Stop::Running(Duration::from_secs(60))).await;
            }
            Ok(time)
        })
    }

    /// Jobs that come at a fixed rate, whatever becomes of those before: the time of each counts from the moment at which it was
    /// due, so that a host that stands still is seen by all who would have come meanwhile.
    ///
    /// # Errors
    /// When one of them does not end well.
    pub fn at_rate(&self, rate: f64, time: Duration) -> Result<Measure> {
        self.runtime.block_on(async {
            // The workers are there before the first job is due: what it takes to start a thousand of them is nobody's latency.
            let begun = Instant::now() + Duration::from_millis(200);
            let every = Duration::from_secs_f64(1.0 / rate);
            let count = (time.as_secs_f64() * rate) as u64;
            let due = move |number: u64| begun + every.mul_f64(number as f64);
            // One for each job that is due and not begun.
            let waiting = Arc::new(Semaphore::new(0));
            let begins = Arc::new(AtomicU64::new(0));
            let mut workers = JoinSet::new();
            // Enough of them that none is late because all others wait.
            for _ in 0..1000.min(count) {
                let (one, waiting, begins) = (self.one(), Arc::clone(&waiting), Arc::clone(&begins));
                workers.spawn(async move {
                    let mut took = Vec::new();
                    while let Ok(job) = waiting.acquire().await {
                        job.forget();
                        let number = begins.fetch_add(1, Ordering::Relaxed);
                        if number + 1 == count {
                            waiting.close();
                        }
                        one.run().await?;
                        took.push(due(number).elapsed());
                    }
                    anyhow::Ok(took)
                });
            }
            // The runtime's own timer has steps of a millisecond: jobs would come two at a time, and share syncs.
            let clock = std::thread::Builder::new().name("due".into()).spawn(move || {
                for number in 0..count {
                    std::thread::sleep(due(number).saturating_duration_since(Instant::now()));
                    waiting.add_permits(1);
                }
            })?;
            // The first workers end while the last jobs are on their way: what is done with their figures waits for those.
            let took = all(workers).await?;
            let wall = begun.elapsed();
            clock.join().map_err(|_| anyhow!("the clock of the jobs panicked"))?;
            let mut micros = histogram()?;
            took.into_iter().flatten().for_each(|took| note(&mut micros, took));
            Ok(Measure { jobs: micros.len(), wall, micros })
        })
    }

    /// Jobs of which [`BATCH`] share a signature.
    ///
    /// # Errors
    /// When one of them does not end well.
    pub fn batches(&self, out: usize, time: Duration) -> Result<Measure> {
        self.runtime.block_on(async {
            let begun = Instant::now();
            let mut workers = JoinSet::new();
            for _ in 0..out {
                let one = self.one();
                workers.spawn(async move {
                    let mut micros = histogram()?;
                    while begun.elapsed() < time {
                        one.batch(&mut micros).await?;
                    }
                    anyhow::Ok(micros)
                });
            }
            gather(workers, begun).await
        })
    }

    fn one(&self) -> One {
        One {
            client: self.client.clone(),
            job: Job::new(self.module).stdin_bytes(input()),
            output: Digest::of(&input().to_ascii_uppercase()),
        }
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        self.runtime.block_on(self.client.close());
        if let Some(host) = self.host.take() {
            self.runtime.block_on(host.stop(Stop::Everything(Duration::from_secs(60))));
        }
    }
}

/// What is needed to have one job done.
struct One {
    client: Client,
    job: Job,
    output: Digest,
}

impl One {
    async fn run(&self) -> Result<()> {
        let accepted = self.client.submit(&self.job).await?;
        end(&self.client, accepted.job, self.output).await
    }

    async fn batch(&self, micros: &mut Histogram<u64>) -> Result<()> {
        let at = Instant::now();
        let variations = (0..BATCH).map(|number| BatchJob::new().args([number.to_string()]));
        let accepted = self.client.submit_batch(&Batch::new(self.job.clone()).jobs(variations)).await?;
        let mut ends = self.client.ends(accepted.iter().map(|accepted| accepted.job));
        let mut over = 0;
        while let Some(finished) = ends.next().await? {
            check(&finished, self.output)?;
            note(micros, at.elapsed());
            over += 1;
        }
        ensure!(over == BATCH, "{over} of {BATCH} jobs have ended");
        Ok(())
    }
}

/// A job at a time of each of them, for as long as `time` says.
async fn singly(ones: Vec<One>, time: Duration) -> Result<Measure> {
    let begun = Instant::now();
    let mut workers = JoinSet::new();
    for one in ones {
        workers.spawn(async move {
            let mut micros = histogram()?;
            while begun.elapsed() < time {
                let at = Instant::now();
                one.run().await?;
                note(&mut micros, at.elapsed());
            }
            anyhow::Ok(micros)
        });
    }
    gather(workers, begun).await
}

async fn connect(host: &Host, identity: &Identity) -> Result<Client> {
    let options = ConnectOptions::new(host.local_addr(), *host.public_key(), identity.clone());
    Ok(Client::connect(options.without_receipts()).await?)
}

async fn end(client: &Client, job: JobId, output: Digest) -> Result<()> {
    check(&client.wait(job).await?, output)
}

fn check(finished: &Finished, output: Digest) -> Result<()> {
    ensure!(finished.view.state == JobState::Succeeded, "{finished:?}");
    ensure!(finished.end.stdout.digest == output, "{finished:?}");
    Ok(())
}

async fn gather(workers: JoinSet<Result<Histogram<u64>>>, begun: Instant) -> Result<Measure> {
    let each = all(workers).await?;
    let (wall, mut micros) = (begun.elapsed(), histogram()?);
    each.iter().try_for_each(|one| micros.add(one))?;
    Ok(Measure { jobs: micros.len(), wall, micros })
}

/// What each of them has, once the last has ended.
async fn all<T: 'static>(mut workers: JoinSet<Result<T>>) -> Result<Vec<T>> {
    let mut all = Vec::new();
    while let Some(done) = workers.join_next().await {
        all.push(done.context("a panic")??);
    }
    Ok(all)
}

/// Strongroom with jobs that are signed one by one, or in batches.
#[derive(Debug)]
pub struct Ours {
    site: Rc<Site>,
    /// Jobs in flight, or [`None`] for batches.
    in_flight: Option<usize>,
}

impl Ours {
    /// One signature for each job, so many in flight.
    #[must_use]
    pub fn singles(site: &Rc<Site>, in_flight: usize) -> Self {
        Self { site: Rc::clone(site), in_flight: Some(in_flight) }
    }

    /// One signature for [`BATCH`] jobs.
    #[must_use]
    pub fn batches(site: &Rc<Site>) -> Self {
        Self { site: Rc::clone(site), in_flight: None }
    }
}

impl Contender for Ours {
    fn name(&self) -> String {
        match self.in_flight {
            Some(_) => "Strongroom, each job signed".into(),
            None => "Strongroom, signed batches".into(),
        }
    }

    fn setting(&self) -> String {
        match self.in_flight {
            Some(in_flight) => format!("{in_flight} in flight on one connection"),
            None => format!("{BATCHES_OUT} batches of {BATCH} in flight"),
        }
    }

    fn promises(&self) -> Promises {
        Promises {
            signed: "ed25519",
            isolated: "sandbox, no right by default",
            durable: "`fdatasync` before the answer",
            logged: "Merkle log, signed",
        }
    }

    fn work(&mut self, load: Load) -> Result<Measure> {
        match (load, self.in_flight) {
            (Load::Alone(time), _) => self.site.singles(1, time),
            (Load::Flood(time), Some(in_flight)) => self.site.singles(in_flight, time),
            (Load::Flood(time), None) => self.site.batches(BATCHES_OUT, time),
        }
    }
}
