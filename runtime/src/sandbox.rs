//! One run, from grant to report.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use tracing::Instrument as _;
use wasmtime::{Extern, Store};
use wasmtime_wasi::p1::WasiP1Ctx;
use wasmtime_wasi::{WasiCtxBuilder, WasiCtxView, WasiView};
use wasmtime_wasi_http::{WasiHttpCtxView, WasiHttpView};

use crate::cancel::CancelToken;
use crate::direct::Direct;
use crate::drive::{Cpu, Ended, drive, panic_text};
use crate::fs::{Files, granted};
use crate::grant::Grant;
use crate::limits::{LimitKind, Limits};
use crate::meter::Meter;
use crate::module::{Entry, Metering, Module, START};
use crate::net::http::Http;
use crate::net::{Gate, Sockets};
use crate::outcome::{HostFault, Outcome, Report, Usage};
use crate::pipes::Pipes;
use crate::progress::Said;
use crate::quantity::{ByteSize, Fuel};
use crate::reach::Ledger;
use crate::soft::SoftLimits;
use crate::standin::{self, now};
use crate::stdin::StdinHandle;
use crate::stdio::Stdio;
use crate::stdout::{StdoutHandle, Which};
use crate::verdict::judge;

/// What the sinks of a stopped run get to store what they were given.
const GRACE: Duration = Duration::from_millis(50);
/// What the disk gets for a write that it has begun when the guest ends, so that nothing is written after the end is told.
const DISK: Duration = Duration::from_secs(5);
/// A deadline for a wall limit beyond what the clock can count to.
const FOR_EVER: Duration = Duration::from_secs(100 * 365 * 24 * 3600);

/// Where modules run.
#[derive(Debug)]
pub struct Sandbox(());

impl Sandbox {
    /// Runs `module` once.
    ///
    /// Needs a tokio runtime with its timer on. Dropping the future stops the guest, too. No byte is written to a file after
    /// the report, unless the disk takes seconds for a single write. A name that the system is making, moving or removing at
    /// that moment is not waited for, nor is anything when the future is dropped.
    ///
    /// # Errors
    ///
    /// Only this side's own faults; whatever the guest does is in the report.
    pub async fn run(
        module: &Module,
        grant: &Grant,
        limits: &Limits,
        mut stdio: Stdio,
        cancel: &CancelToken,
    ) -> Result<Report, HostFault> {
        let start = now();
        let mut cpu = Cpu::since(start, limits.cpu);
        let inner = &*module.inner;
        if let Some(what) = inner.engine.refuses(limits.memory) {
            return Ok(Report {
                outcome: Outcome::Denied { what },
                usage: Usage::default(),
                reached: Vec::new(),
                began_after: None,
                result: None,
            });
        }
        if limits.fuel.is_some() && inner.metering == Metering::None {
            return Err(HostFault::Unmetered);
        }
        let deadline = start.checked_add(limits.wall).unwrap_or_else(|| start + FOR_EVER);
        let said = Said::new(stdio.progress.take(), inner.entry.memory());
        let pipes = Arc::new(Pipes::new(stdio, limits));
        let ledger = Ledger::new(grant.observe);
        let soft = SoftLimits::new(limits);
        let mut store = stage!("instantiate")
            .in_scope(|| furnish(module, grant, limits, (&pipes, said), (&ledger, &soft), start))?;
        let _running = inner.engine.ticker.enter();

        let mut began = None;
        let guest = start_guest(&mut store, &inner.entry, &mut began);
        let ended = drive(guest, |cx| pipes.poll_pump(cx), deadline, cancel, Some(&mut cpu)).await;

        let mut usage = Usage { cpu: cpu.spent, ..measure(&store, limits, inner.metering) };
        let stopped = matches!(ended, Ended::Deadline | Ended::Spent | Ended::Cancelled);
        let outcome = conclude(ended, &store, limits, start, &cpu).map(|outcome| soft.explain(outcome));
        soft.measure(&mut usage);
        let written = store.data().files.close(DISK);
        let result = store.data_mut().said.take_result();
        // The slot goes back before the sinks are waited for, which can take long.
        if let Err(payload) = catch_unwind(AssertUnwindSafe(|| drop(store))) {
            return Err(HostFault::Panic { message: panic_text(payload.as_ref()) });
        }
        written.await;
        let mut outcome = outcome?;

        let late = if stopped {
            // The outcome stands already: the sinks get a moment, and no say.
            drive(pipes.finish(), alone, now() + GRACE, &CancelToken::never(), None).await
        } else {
            drive(pipes.finish(), alone, deadline, cancel, None).await
        };
        match late {
            Ended::Panicked(message) => return Err(HostFault::Panic { message }),
            Ended::Deadline if !stopped => outcome = timed_out(limits, start),
            Ended::Cancelled => outcome = Outcome::Cancelled,
            Ended::Deadline | Ended::Spent | Ended::Abandoned | Ended::Done(()) => {}
        }
        if let Some(exceeded) = pipes.settle(&mut usage)? {
            outcome = exceeded;
        }
        usage.wall = start.elapsed();
        let began_after = began.map(|began: Instant| began.duration_since(start));
        Ok(Report { outcome, usage, reached: ledger.take(), began_after, result })
    }
}

/// The state behind one guest's host calls.
pub(crate) struct Guest {
    wasi: WasiP1Ctx,
    direct: Direct,
    said: Said,
    files: Files,
    meter: Meter,
    net: Sockets,
    http: Http,
}

impl Guest {
    pub(crate) fn wasi(&mut self) -> &mut WasiP1Ctx {
        &mut self.wasi
    }

    pub(crate) fn direct(&mut self) -> &mut Direct {
        &mut self.direct
    }

    pub(crate) fn said(&self) -> &Said {
        &self.said
    }

    pub(crate) fn said_mut(&mut self) -> &mut Said {
        &mut self.said
    }

    pub(crate) fn net(&self) -> &Sockets {
        &self.net
    }

    pub(crate) fn net_mut(&mut self) -> &mut Sockets {
        &mut self.net
    }

    pub(crate) fn files(&mut self) -> (&mut WasiP1Ctx, &mut Files) {
        (&mut self.wasi, &mut self.files)
    }
}

impl WasiView for Guest {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        self.wasi.ctx()
    }
}

impl WasiHttpView for Guest {
    fn http(&mut self) -> WasiHttpCtxView<'_> {
        self.http.view(self.wasi.ctx().table)
    }
}

/// Builds the guest's world: what it was granted, and nothing else.
fn furnish(
    module: &Module,
    grant: &Grant,
    limits: &Limits,
    (pipes, said): (&Arc<Pipes>, Said),
    (ledger, soft): (&Ledger, &SoftLimits),
    start: Instant,
) -> Result<Store<Guest>, HostFault> {
    let mut wasi = WasiCtxBuilder::new();
    wasi.args(&grant.args)
        .envs(&grant.env)
        .stdin(StdinHandle(Arc::clone(pipes)))
        .stdout(StdoutHandle(Arc::clone(pipes), Which::Stdout))
        .stderr(StdoutHandle(Arc::clone(pipes), Which::Stderr))
        .max_random_size(limits.random.as_u64())
        // The defaults, said aloud: no thread that a guest may put to sleep, and no network. What of it is granted is given by
        // `net`, which makes each socket with a check of its own.
        .allow_tcp(false)
        .allow_udp(false)
        .allow_ip_name_lookup(false)
        .allow_blocking_current_thread(false);
    standin::install(&mut wasi, grant, start, ledger)?;
    granted::open(&mut wasi, &grant.dirs)?;
    let mut wasi = wasi.build_p1();
    let mut files = Files::new(soft, ledger);
    let inner = &*module.inner;
    if matches!(inner.entry, Entry::Core { .. }) && !grant.dirs.is_empty() {
        files.know(&mut wasi).map_err(|error| HostFault::Engine { message: error.to_string() })?;
    }
    wasi.ctx().table.set_max_capacity(usize::try_from(limits.handles).unwrap_or(usize::MAX));

    let gate = Gate::new(grant, ledger, &inner.engine.config.resolver);
    let guest = Guest {
        wasi,
        direct: Direct::new(pipes, inner.entry.memory(), limits.host_buffer),
        said,
        files,
        meter: Meter::new(limits),
        http: Http::new(gate.clone(), soft.clone(), &inner.engine.tls),
        net: Sockets::new(gate, soft.clone()),
    };
    let mut store = Store::new(&inner.wasm, guest);
    store.limiter(|guest| &mut guest.meter);
    store.set_hostcall_fuel(limits.host_buffer.as_usize());
    // Yields at every tick, for ever: ending it is the driver's business.
    store.set_epoch_deadline(1);
    store.epoch_deadline_async_yield_and_update(1);
    if inner.metering == Metering::Fuel {
        store.set_fuel(budget(limits)).map_err(|error| HostFault::Engine { message: error.to_string() })?;
    }
    Ok(store)
}

/// Instantiates the program and calls its entry point.
async fn start_guest(
    store: &mut Store<Guest>,
    entry: &Entry,
    began: &mut Option<Instant>,
) -> wasmtime::Result<i32> {
    match entry {
        Entry::Core { program, start, .. } => {
            let instance = program.instantiate_async(&mut *store).instrument(stage!("instantiate")).await?;
            let start = instance.get_module_export(&mut *store, start).and_then(Extern::into_func);
            let start = start.ok_or_else(|| wasmtime::format_err!("the program has no {START}"))?;
            let start = start.typed::<(), ()>(&mut *store)?;
            *began = Some(now());
            start.call_async(&mut *store, ()).instrument(stage!("run")).await?;
            Ok(0)
        }
        Entry::Component(program) => {
            let command = program.instantiate_async(&mut *store).instrument(stage!("instantiate")).await?;
            *began = Some(now());
            let ran = command.wasi_cli_run().call_run(&mut *store).instrument(stage!("run")).await?;
            Ok(i32::from(ran.is_err()))
        }
    }
}

fn conclude(
    ended: Ended<wasmtime::Result<i32>>,
    store: &Store<Guest>,
    limits: &Limits,
    start: Instant,
    cpu: &Cpu,
) -> Result<Outcome, HostFault> {
    match ended {
        Ended::Done(Ok(status)) => Ok(Outcome::Exited(status)),
        Ended::Done(Err(error)) => judge(&error, limits, &store.data().meter),
        Ended::Deadline => Ok(timed_out(limits, start)),
        Ended::Spent => Ok(spent(limits, cpu)),
        // A sink broke: the fault is told by the pipe that has it, and hides this outcome.
        Ended::Abandoned | Ended::Cancelled => Ok(Outcome::Cancelled),
        Ended::Panicked(message) => Err(HostFault::Panic { message }),
    }
}

/// Nothing goes on beside.
fn alone(_: &mut Context<'_>) -> Poll<()> {
    Poll::Pending
}

/// Rounded up: what was used is more than what was allowed, also when told in whole milliseconds.
fn spent(limits: &Limits, cpu: &Cpu) -> Outcome {
    let used = cpu.spent.as_nanos().div_ceil(1_000_000);
    let used = u64::try_from(used).unwrap_or(u64::MAX);
    Outcome::Exceeded { limit: LimitKind::Cpu, allowed: millis(limits.cpu.unwrap_or_default()), used }
}

fn timed_out(limits: &Limits, start: Instant) -> Outcome {
    Outcome::Exceeded { limit: LimitKind::Wall, allowed: millis(limits.wall), used: millis(start.elapsed()) }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

fn budget(limits: &Limits) -> u64 {
    limits.fuel.map_or(u64::MAX, |fuel| fuel.0)
}

fn measure(store: &Store<Guest>, limits: &Limits, metering: Metering) -> Usage {
    let fuel = match metering {
        Metering::Fuel => store.get_fuel().ok().map(|left| Fuel(budget(limits).saturating_sub(left))),
        Metering::None => None,
    };
    Usage { fuel, peak_memory: ByteSize::bytes(store.data().meter.peak), ..Usage::default() }
}
