//! The long run: `smith SECONDS [FIRST]` tries one seed after the other, from `FIRST` on, for so many seconds of processor
//! time, and prints how many executions there were, how they ended, and every finding. `smith seed N` tries one.
//! `smith corpus FILE` writes the modules that the stable test tries.
//!
//! A finding's module is left in `findings/`. The seed under way is in `findings/current`, for the case that the process
//! itself falls.

use std::collections::BTreeMap;
use std::io::{Seek as _, Write as _};
use std::panic::catch_unwind;
use std::time::Duration;

use entry::{Random, Seen, check};

mod make;

/// Executions between two lines of progress.
const EVERY: u64 = 20_000;
/// Modules of the corpus, and the size of the largest in bytes: what is larger is left out.
const CORPUS: usize = 120;
const LARGEST: usize = 1_500;

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let number = |at: usize| args.get(at).and_then(|arg| arg.parse::<u64>().ok());
    let findings = match (args.first().map(String::as_str), number(0), number(1)) {
        (Some("corpus"), ..) if args.len() == 2 => corpus(&args[1]),
        (Some("seed"), _, Some(seed)) => usize::from(!tried(seed, &mut BTreeMap::new())),
        (_, Some(seconds), first) => long(Duration::from_secs(seconds), first.unwrap_or(0)),
        _ => {
            eprintln!("usage: smith SECONDS [FIRST] | smith seed N | smith corpus FILE");
            std::process::exit(2);
        }
    };
    std::process::exit(i32::from(findings > 0));
}

fn long(most: Duration, first: u64) -> usize {
    std::fs::create_dir_all("findings").expect("a directory for findings");
    let mut current = std::fs::File::create("findings/current").expect("a file for the seed");
    let (mut seen, mut findings, mut seed) = (BTreeMap::new(), 0, first);
    while processor_time() < most {
        current.rewind().and_then(|()| writeln!(current, "{seed:020}")).expect("a writable file");
        findings += usize::from(!tried(seed, &mut seen));
        seed += 1;
        if (seed - first) % EVERY == 0 {
            tell(seed - first, &seen, findings);
        }
    }
    tell(seed - first, &seen, findings);
    findings
}

fn tell(executions: u64, seen: &BTreeMap<Seen, u64>, findings: usize) {
    let seconds = processor_time().as_secs();
    println!("{executions} executions in {seconds} s of processor time, {findings} findings: {seen:?}");
}

/// False when there was a finding.
fn tried(seed: u64, seen: &mut BTreeMap<Seen, u64>) -> bool {
    let mut random = Random::new(seed);
    // A few seeds give no module.
    let Some(wasm) = make::make(&mut random) else { return true };
    let what = match catch_unwind(|| check(&wasm, random.clone().next())) {
        Ok(Ok(what)) => {
            *seen.entry(what).or_default() += 1;
            return true;
        }
        Ok(Err(what)) => what,
        Err(_) => "a panic, told above".to_owned(),
    };
    println!("FINDING at seed {seed}: {what}");
    let kept = std::fs::create_dir_all("findings")
        .and_then(|()| std::fs::write(format!("findings/{seed}.wasm"), &wasm));
    if let Err(error) = kept {
        println!("its module cannot be kept: {error}");
    }
    false
}

/// Small modules, each behind its length in four bytes.
fn corpus(file: &str) -> usize {
    let modules = (0..).filter_map(|seed| make::make(&mut Random::new(seed)));
    let mut bytes = Vec::new();
    for wasm in modules.filter(|wasm| wasm.len() <= LARGEST).take(CORPUS) {
        bytes.extend((wasm.len() as u32).to_le_bytes());
        bytes.extend(wasm);
    }
    std::fs::write(file, bytes).expect("a writable file");
    0
}

/// Of the whole process, the threads of the compiler included.
fn processor_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}
