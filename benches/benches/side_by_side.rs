//! The whole contest: Strongroom, what people pick instead, and its own parts alone, in turns, five rounds in one run.
//!
//! `cargo bench -p strongroom-benches --bench side_by_side [-- --rounds N] [--seconds S] [--write]`. Redis, bubblewrap and a
//! `python3` with `venv` must be installed (`apt install redis-server bubblewrap python3-venv`), and `chroot` takes root; who is
//! missing is named, and left out. Celery and Dramatiq are taken from PyPI, in the versions of `peers/requirements.txt`. With
//! `--write` the table and the plot go into `docs/benchmarks.md` and `docs/benchmarks/`.

#![allow(clippy::disallowed_methods, reason = "a bench is about the clock")]

use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail};
use strongroom_benches::contest::bare::{BareQuinn, BareSled, BareWasmtime};
use strongroom_benches::contest::ours::{Ours, Site};
use strongroom_benches::contest::process::{How, Process};
use strongroom_benches::contest::python::{self, Aof, Python, Queue};
use strongroom_benches::contest::{Asked, Contender, plot, rounds, spread, table};
use strongroom_benches::machine;
use strongroom_runtime::{Engine, EngineConfig};

const DOCS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs");
/// Jobs in flight that are signed one by one.
const IN_FLIGHT: usize = 256;

fn main() -> Result<()> {
    // `cargo test` builds and starts benches too; they have nothing to prove there.
    if !std::env::args().any(|arg| arg == "--bench") {
        return Ok(());
    }
    let asked = Asked::parse(Duration::from_secs(4))?;
    let runtime = Arc::new(tokio::runtime::Builder::new_multi_thread().enable_all().build()?);
    let dir = tempfile::tempdir()?;
    let machine = machine::describe();
    let floor = machine::sync_floor(dir.path());
    let floor = format!("fdatasync  {:.0} µs after 4 KiB, median", floor.as_secs_f64() * 1e6);
    println!("{machine}{floor}\n");
    let site = Site::start(&runtime)?;
    let mut contenders = contenders(&runtime, &site)?;
    let entries = rounds(&mut contenders, asked.rounds, asked.time, |line| eprintln!("{line}"))?;
    drop(contenders);

    // At half of what it took at most: what a host that is not full makes people wait.
    let rate = entries.first().map_or(0.0, |entry| spread(&entry.rates).0) / 2.0;
    let mut waits = Vec::new();
    for _ in 0..asked.rounds {
        let measure = site.at_rate(rate, asked.time)?;
        waits.push([0.5, 0.99, 0.999].map(|part| measure.micros.value_at_quantile(part) as f64));
    }
    let at = |part: usize| table::time(spread(&waits.iter().map(|wait| wait[part]).collect::<Vec<_>>()).0);
    let text = format!(
        "{}\nJobs that come at a fixed rate of {} a second, half of the first row, each timed from when it was due: p50 {}, p99 {}, \
         p99.9 {} (medians of {} rounds).\n\n```text\n{machine}{floor}\n```\n",
        table::markdown(&entries),
        table::thousands(rate),
        at(0),
        at(1),
        at(2),
        asked.rounds,
    );
    println!("{text}");
    if asked.write {
        let docs = Path::new(DOCS);
        table::put_between_marks(&docs.join("benchmarks.md"), "side by side", &text)?;
        std::fs::create_dir_all(docs.join("benchmarks"))?;
        let title = "Small jobs a second, two processors (logarithmic; medians of one run)";
        plot::bars(&docs.join("benchmarks/side-by-side.svg"), title, &entries)?;
    }
    Ok(())
}

/// All who can work on this machine; the others are named.
fn contenders(runtime: &Arc<tokio::runtime::Runtime>, site: &Rc<Site>) -> Result<Vec<Box<dyn Contender>>> {
    let mut all: Vec<Box<dyn Contender>> =
        vec![Box::new(Ours::singles(site, IN_FLIGHT)), Box::new(Ours::batches(site))];
    let target = std::env::current_exe()?;
    let target = target.ancestors().nth(3).context("a target directory")?;
    let environment = python::environment(&target.join("peers"));
    let python = |queue, aof| match &environment {
        Ok(environment) => Python::start(queue, aof, environment),
        Err(error) => bail!("{error:#}"),
    };
    for (queue, aof) in
        [(Queue::Celery, Aof::EverySecond), (Queue::Celery, Aof::Always), (Queue::Dramatiq, Aof::EverySecond)]
    {
        add(&mut all, python(queue, aof));
    }
    for how in [How::Spawn, How::Chroot, How::Bubblewrap] {
        add(&mut all, Process::new(how));
    }
    let engine = Engine::new(EngineConfig::default())?;
    let bare = BareWasmtime::new(engine.resets_by_pagemap_scan());
    add(&mut all, bare.map_err(|error| anyhow!("{error:#}")));
    add(&mut all, BareSled::open());
    add(&mut all, BareQuinn::start(runtime));
    Ok(all)
}

fn add<C: Contender + 'static>(all: &mut Vec<Box<dyn Contender>>, contender: Result<C>) {
    match contender {
        Ok(contender) => all.push(Box::new(contender)),
        Err(error) => eprintln!("LEFT OUT: {error:#}"),
    }
}
