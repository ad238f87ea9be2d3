//! Curves instead of points: jobs a second and what each took, against clients, jobs in flight, payload and the size of the module.
//!
//! `cargo bench -p strongroom-benches --bench curves [-- --seconds S] [--rounds N] [--write]`. One host over QUIC on loopback, in this
//! process; the points of a curve in turns, medians of the rounds. With `--write` the tables go into `docs/benchmarks.md` and the plots into
//! `docs/benchmarks/`. What grows otherwise has benches of its own: the queue (`queue`), the log (`proof`), sleepers (`sleepers`).

#![allow(clippy::disallowed_methods, reason = "a bench is about the clock")]

use std::fmt::Write as _;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Result;
use strongroom_benches::contest::ours::Site;
use strongroom_benches::contest::plot::{self, Curve};
use strongroom_benches::contest::{Asked, Measure, spread, table};
use strongroom_benches::machine;
use strongroom_job::Digest;

const DOCS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs");
const CLIENTS: [usize; 7] = [1, 3, 10, 30, 100, 300, 1000];
const IN_FLIGHT: [usize; 7] = [1, 4, 16, 64, 256, 1000, 4000];
const PAYLOAD: [usize; 7] = [0, 300, 4 << 10, 16 << 10, 256 << 10, 2 << 20, 16 << 20];
const MODULE: [usize; 5] = [1 << 10, 10 << 10, 100 << 10, 1 << 20, 10 << 20];
/// Jobs in flight with a payload: of the largest as many as fit into half a GiB with their outputs.
const WITH_PAYLOAD: usize = 16;

fn main() -> Result<()> {
    // `cargo test` builds and starts benches too; they have nothing to prove there.
    if !std::env::args().any(|arg| arg == "--bench") {
        return Ok(());
    }
    let asked = Asked::parse(Duration::from_secs(2))?;
    print!("{}", machine::describe());
    let runtime = Arc::new(tokio::runtime::Builder::new_multi_thread().enable_all().build()?);
    let site = Site::start(&runtime)?;
    site.singles(32, Duration::from_secs(1))?;
    let mut text = String::new();
    for (name, title, points) in [
        ("clients", "clients, each with a connection and one job in flight", &CLIENTS),
        ("in-flight", "jobs in flight on one connection", &IN_FLIGHT),
        ("payload", "bytes of input, and as many of output; 16 in flight", &PAYLOAD),
    ] {
        let curve = sweep(&site, name, points, &asked)?;
        writeln!(text, "{}", rows(title, &curve))?;
        if asked.write {
            draw(name, title, &curve)?;
        }
    }
    writeln!(text, "{}", modules(&site, &asked)?)?;
    println!("{text}");
    if asked.write {
        table::put_between_marks(&Path::new(DOCS).join("benchmarks.md"), "curves", &text)?;
    }
    Ok(())
}

/// A point of a curve: rate, p50 and p99 of each round.
struct Point {
    at: usize,
    rates: Vec<f64>,
    p50: Vec<f64>,
    p99: Vec<f64>,
}

fn sweep(site: &Rc<Site>, name: &str, points: &[usize], asked: &Asked) -> Result<Vec<Point>> {
    let new = |at: &usize| Point { at: *at, rates: Vec::new(), p50: Vec::new(), p99: Vec::new() };
    let mut curve: Vec<Point> = points.iter().map(new).collect();
    for round in 0..asked.rounds {
        for point in &mut curve {
            let measure: Measure = match name {
                "clients" => site.clients(point.at, asked.time)?,
                "in-flight" => site.singles(point.at, asked.time)?,
                _ => site.payload(point.at, WITH_PAYLOAD, asked.time)?,
            };
            eprintln!("{name} {}, round {}: {:.0} jobs/s", point.at, round + 1, measure.rate());
            point.rates.push(measure.rate());
            point.p50.push(measure.micros.value_at_quantile(0.5) as f64);
            point.p99.push(measure.micros.value_at_quantile(0.99) as f64);
        }
    }
    Ok(curve)
}

fn rows(title: &str, curve: &[Point]) -> String {
    let mut text = format!("| {title} | jobs/s (least to most) | p50 | p99 |\n| --- | --- | --- | --- |\n");
    for Point { at, rates, p50, p99 } in curve {
        let (rate, least, most) = spread(rates);
        let [rate, least, most] = [rate, least, most].map(table::thousands);
        let (p50, p99) = (table::time(spread(p50).0), table::time(spread(p99).0));
        text +=
            &format!("| {} | {rate} ({least} to {most}) | {p50} | {p99} |\n", table::thousands(*at as f64));
    }
    text
}

fn draw(name: &str, title: &str, curve: &[Point]) -> Result<()> {
    let dir = Path::new(DOCS).join("benchmarks");
    std::fs::create_dir_all(&dir)?;
    let line = |what: &str, pick: &dyn Fn(&Point) -> f64| Curve {
        name: what.to_owned(),
        // A logarithmic scale has no zero.
        points: curve.iter().map(|point| (point.at.max(1) as f64, pick(point))).collect(),
    };
    let curves = [
        line("jobs/s", &|point| spread(&point.rates).0),
        line("p50, µs", &|point| spread(&point.p50).0),
        line("p99, µs", &|point| spread(&point.p99).0),
    ];
    plot::curves(&dir.join(format!("{name}.svg")), title, name, "", &curves)
}

/// Modules of growing size, each of which is new to the host.
fn modules(site: &Rc<Site>, asked: &Asked) -> Result<String> {
    let mut text = String::from(
        "| bytes of the module | registered, compiled | registered again | of that, its digest | after a restart | first job | a job after it |\n\
         | --- | --- | --- | --- | --- | --- | --- |\n",
    );
    for (at, bytes) in MODULE.iter().enumerate() {
        let mut rounds = [const { Vec::new() }; 6];
        let mut length = 0;
        for round in 0..asked.rounds {
            let wasm = program(*bytes, at * 1000 + round)?;
            length = wasm.len();
            let [compiled, again, first, later] = site.module(&wasm)?;
            let begun = Instant::now();
            std::hint::black_box(Digest::of(&wasm));
            let times = [compiled, again, begun.elapsed(), site.restarted(&wasm)?, first, later];
            for (column, time) in rounds.iter_mut().zip(times) {
                column.push(time.as_secs_f64() * 1e6);
            }
        }
        let times = rounds.map(|column| table::time(spread(&column).0));
        text += &format!("| {} | {} |\n", table::thousands(length as f64), times.join(" | "));
    }
    Ok(text)
}

/// A program of about so many bytes of code, of which little runs. No two with another number are the same.
fn program(bytes: usize, number: usize) -> Result<Vec<u8>> {
    /// Bytes of one function below, and of its entries in the tables.
    const FUNCTION: usize = 62;
    let mut text = format!("(module (memory 1) (func (export \"_start\") (drop (i32.const {number})))");
    for function in 0..bytes / FUNCTION {
        write!(
            text,
            "(func (param i32) (result i32) (local i32) (local.set 1 (i32.mul (local.get 0) (i32.const {})))
             (loop (br_if 0 (i32.load (i32.add (local.get 1) (i32.const {})))) (i32.store (local.get 1) (local.get 0)))
             (i32.xor (local.get 0) (i32.shl (local.get 1) (i32.const {}))))",
            function + 100_000,
            function + 200_000,
            function % 31
        )?;
    }
    text.push(')');
    Ok(wat::parse_str(&text)?)
}
