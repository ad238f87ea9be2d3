//! The parts alone: the bare wasmtime crates, bare sled, bare quinn. None of them does the job; each shows what its part of it
//! would cost if nothing else were done.

use std::fs::File;
use std::hint::black_box;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, Sender};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use quinn::rustls::RootCertStore;
use quinn::rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use strongroom_runtime::EngineConfig;
use tempfile::TempDir;
use tokio::runtime::Runtime;
use tokio::task::JoinSet;
use wasmtime_wasi::WasiCtxBuilder;
use wasmtime_wasi::p1::{self, WasiP1Ctx};
use wasmtime_wasi::p2::pipe::{MemoryInputPipe, MemoryOutputPipe};

use super::{Contender, INPUT_BYTES, Load, Measure, Promises, UPPER, histogram, input, note};
use crate::machine;

/// Records that share a flush and a sync in bare sled.
const GROUP: usize = 500;
/// Streams in flight over bare quinn.
const STREAMS: usize = 64;
/// Bytes of an answer over bare quinn.
const ANSWER_BYTES: usize = 32;

const NOTHING: Promises =
    Promises { signed: "no", isolated: "does not run", durable: "nothing is kept", logged: "no" };

/// The real program over the bare crates, with the settings of our engine and nothing else.
pub struct BareWasmtime {
    engine: wasmtime::Engine,
    program: wasmtime::InstancePre<WasiP1Ctx>,
    /// Ends the thread that ticks, when dropped.
    _ticking: Sender<()>,
}

impl std::fmt::Debug for BareWasmtime {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BareWasmtime").finish_non_exhaustive()
    }
}

impl BareWasmtime {
    /// Compiles it.
    ///
    /// # Errors
    /// When the engine does not start.
    pub fn new(pagemap_scan: bool) -> wasmtime::Result<Self> {
        let ours = EngineConfig::default();
        let mut pool = wasmtime::PoolingAllocationConfig::new();
        pool.total_core_instances(ours.max_concurrent)
            .total_memories(ours.max_concurrent)
            .total_tables(ours.max_concurrent)
            .total_stacks(ours.max_concurrent)
            .max_memory_size(ours.max_memory.as_usize())
            .max_unused_warm_slots(ours.warm_slots)
            .linear_memory_keep_resident(ours.keep_resident.as_usize())
            .table_keep_resident(16 << 10)
            .pagemap_scan(if pagemap_scan { wasmtime::Enabled::Yes } else { wasmtime::Enabled::No });
        let mut config = wasmtime::Config::new();
        config
            .epoch_interruption(true)
            .memory_reservation(ours.memory_reservation.as_u64())
            .memory_guard_size(ours.memory_guard.as_u64())
            .allocation_strategy(wasmtime::InstanceAllocationStrategy::Pooling(pool));
        let engine = wasmtime::Engine::new(&config)?;
        let mut linker = wasmtime::Linker::new(&engine);
        p1::add_to_linker_async(&mut linker, |wasi: &mut WasiP1Ctx| wasi)?;
        let program = linker.instantiate_pre(&wasmtime::Module::new(&engine, UPPER)?)?;
        let (ticking, ticks) = std::sync::mpsc::channel();
        let ticked = engine.clone();
        std::thread::spawn(move || {
            while ticks.recv_timeout(ours.tick) == Err(RecvTimeoutError::Timeout) {
                ticked.increment_epoch();
            }
        });
        Ok(Self { engine, program, _ticking: ticking })
    }

    /// Runs it once.
    ///
    /// # Panics
    /// When it does not answer.
    pub async fn job(&self, input: &Bytes) {
        let stdout = MemoryOutputPipe::new(1 << 20);
        let mut wasi = WasiCtxBuilder::new();
        wasi.arg("upper").stdin(MemoryInputPipe::new(input.clone())).stdout(stdout.clone());
        let mut store = wasmtime::Store::new(&self.engine, wasi.build_p1());
        store.set_epoch_deadline(1);
        store.epoch_deadline_async_yield_and_update(1);
        let ran = async {
            let instance = self.program.instantiate_async(&mut store).await?;
            let start = instance.get_typed_func::<(), ()>(&mut store, "_start")?;
            start.call_async(&mut store, ()).await
        };
        tokio::time::timeout(Duration::from_secs(60), ran).await.expect("in time").expect("it ends");
        drop(store);
        assert_eq!(black_box(stdout.contents()).len(), input.len());
    }

    fn until(&self, threads: usize, time: Duration) -> Result<Measure> {
        let begun = Instant::now();
        let work = || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(async {
                let (input, mut micros) = (Bytes::from(input()), histogram()?);
                while begun.elapsed() < time {
                    let at = Instant::now();
                    self.job(&input).await;
                    note(&mut micros, at.elapsed());
                }
                anyhow::Ok(micros)
            })
        };
        let mut micros = histogram()?;
        std::thread::scope(|scope| {
            let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
            for worker in workers {
                micros.add(worker.join().expect("no panic")?)?;
            }
            anyhow::Ok(())
        })?;
        Ok(Measure { jobs: micros.len(), wall: begun.elapsed(), micros })
    }
}

impl Contender for BareWasmtime {
    fn name(&self) -> String {
        format!("bare wasmtime {}", machine::version("wasmtime"))
    }

    fn setting(&self) -> String {
        "pool, copy on write, epochs, a timeout; a thread for each processor".into()
    }

    fn promises(&self) -> Promises {
        Promises { isolated: "sandbox", ..NOTHING }
    }

    fn work(&mut self, load: Load) -> Result<Measure> {
        match load {
            Load::Alone(time) => self.until(1, time),
            Load::Flood(time) => self.until(std::thread::available_parallelism()?.get(), time),
        }
    }
}

/// sled with a record of the size of the input for each job, flushed and synced.
#[derive(Debug)]
pub struct BareSled {
    db: sled::Db,
    sync: File,
    next: u64,
    _dir: TempDir,
}

impl BareSled {
    /// Opens one.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn open() -> Result<Self> {
        let dir = tempfile::tempdir()?;
        let db = sled::Config::new().path(dir.path()).cache_capacity(32 << 20).flush_every_ms(None).open()?;
        let sync = File::open(dir.path().join("db"))?;
        Ok(Self { db, sync, next: 0, _dir: dir })
    }
}

impl Contender for BareSled {
    fn name(&self) -> String {
        format!("bare sled {}", machine::version("sled"))
    }

    fn setting(&self) -> String {
        format!("a record of {INPUT_BYTES} bytes; {GROUP} share `flush` and `fdatasync`")
    }

    fn promises(&self) -> Promises {
        Promises { durable: "`fdatasync`", ..NOTHING }
    }

    fn work(&mut self, load: Load) -> Result<Measure> {
        let (group, time) = match load {
            Load::Alone(time) => (1, time),
            Load::Flood(time) => (GROUP, time),
        };
        let (begun, mut micros, mut jobs) = (Instant::now(), histogram()?, 0);
        while begun.elapsed() < time {
            let at = Instant::now();
            let mut batch = sled::Batch::default();
            for _ in 0..group {
                batch.insert(&self.next.to_be_bytes(), input());
                self.next += 1;
            }
            self.db.apply_batch(batch)?;
            self.db.flush()?;
            self.sync.sync_data()?;
            note(&mut micros, at.elapsed());
            jobs += group as u64;
        }
        Ok(Measure { jobs, wall: begun.elapsed(), micros })
    }
}

/// quinn with a stream for each request, on one connection, both ends in this process.
#[derive(Debug)]
pub struct BareQuinn {
    runtime: Arc<Runtime>,
    connection: quinn::Connection,
    // Both ends live as long as this.
    _client: quinn::Endpoint,
    _server: quinn::Endpoint,
}

impl BareQuinn {
    /// Connects.
    ///
    /// # Errors
    /// When there is no port.
    pub fn start(runtime: &Arc<Runtime>) -> Result<Self> {
        let _inside = runtime.enter();
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()])?;
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()));
        let config = quinn::ServerConfig::with_single_cert(vec![made.cert.der().clone()], key)?;
        let server = quinn::Endpoint::server(config, (Ipv4Addr::LOCALHOST, 0).into())?;
        let mut roots = RootCertStore::empty();
        roots.add(made.cert.der().clone())?;
        let mut client = quinn::Endpoint::client((Ipv4Addr::LOCALHOST, 0).into())?;
        let mut config = quinn::ClientConfig::with_root_certificates(Arc::new(roots))?;
        let mut transport = quinn::TransportConfig::default();
        // Others have their turns in between, for longer than an idle connection lives.
        transport.keep_alive_interval(Some(Duration::from_secs(5)));
        config.transport_config(Arc::new(transport));
        client.set_default_client_config(config);
        runtime.spawn(answer(server.clone()));
        let address = server.local_addr()?;
        let connection =
            runtime.block_on(async { anyhow::Ok(client.connect(address, "localhost")?.await?) })?;
        Ok(Self { runtime: Arc::clone(runtime), connection, _client: client, _server: server })
    }
}

async fn answer(server: quinn::Endpoint) {
    while let Some(incoming) = server.accept().await {
        let Ok(connection) = incoming.await else { continue };
        while let Ok((mut send, mut receive)) = connection.accept_bi().await {
            tokio::spawn(async move {
                let Ok(asked) = receive.read_to_end(1 << 16).await else { return };
                let mut answer = asked;
                answer.truncate(ANSWER_BYTES);
                if send.write_all(&answer).await.is_ok() {
                    let _ = send.finish();
                }
            });
        }
    }
}

impl Contender for BareQuinn {
    fn name(&self) -> String {
        format!("bare quinn {}", machine::version("quinn"))
    }

    fn setting(&self) -> String {
        format!("a stream each: {INPUT_BYTES} bytes in, {ANSWER_BYTES} out; {STREAMS} in flight")
    }

    fn promises(&self) -> Promises {
        Promises { signed: "the connection is", ..NOTHING }
    }

    fn work(&mut self, load: Load) -> Result<Measure> {
        let (streams, time) = match load {
            Load::Alone(time) => (1, time),
            Load::Flood(time) => (STREAMS, time),
        };
        let connection = self.connection.clone();
        self.runtime.block_on(async move {
            let begun = Instant::now();
            let mut workers = JoinSet::new();
            for _ in 0..streams {
                let connection = connection.clone();
                workers.spawn(async move {
                    let (input, mut micros) = (input(), histogram()?);
                    while begun.elapsed() < time {
                        let at = Instant::now();
                        let (mut send, mut receive) = connection.open_bi().await?;
                        send.write_all(&input).await?;
                        send.finish()?;
                        ensure!(
                            receive.read_to_end(1 << 16).await? == input[..ANSWER_BYTES],
                            "a wrong answer"
                        );
                        note(&mut micros, at.elapsed());
                    }
                    anyhow::Ok(micros)
                });
            }
            let mut micros = histogram()?;
            while let Some(done) = workers.join_next().await {
                micros.add(done.context("a panic")??)?;
            }
            Ok(Measure { jobs: micros.len(), wall: begun.elapsed(), micros })
        })
    }
}
