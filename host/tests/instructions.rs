//! What is done for every job takes no more instructions than it did.
//!
//! Times on shared machines are noise; instructions are not. Each subject runs twice under callgrind, in a process of its own: some
//! times, and some times more; the difference, divided, is what one takes. It is held against the committed figure, with a tolerance,
//! in both directions: who makes something faster writes the new figure down, so that it stays so.
//!
//! The figures are those of the profile that tests are built with, and of one compiler: with another they say nothing, and are only
//! printed. `STRONGROOM_VALGRIND=required` makes a missing valgrind an error. To write the figures anew:
//! `STRONGROOM_INSTRUCTIONS=write cargo test --workspace --test instructions`.
//!
//! Red with one leaf more made for each record: 19 % more for `record`.
#![allow(clippy::disallowed_methods, clippy::unwrap_used, reason = "a test: variables are its options")]

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::hint::black_box;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use strongroom::admission::{self, Policy};
use strongroom::config::Config;
use strongroom_job::merkle::Hash;
use strongroom_job::{
    Capabilities, Context, Digest, Entry, Envelope, Event, Input, JobBody, JobId, Limits, ModuleRef, Name,
    Plan, Record, Request, SecretKey, SignedEnvelope, Task, Timestamp, frame, sign_job,
};

/// The committed figures.
const FIGURES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/instructions.toml");
/// How far a figure may be from the committed one: what hash seeds and addresses do to it is below 1 %.
const TOLERANCE: f64 = 0.05;
/// Runs of a subject in the shorter process, and in the longer one.
const RUNS: (u64, u64) = (20, 120);

/// Does something so many times.
type Subject = fn(u64);

/// What is counted. Each is on the way of every job, or of every record.
const SUBJECTS: [(&str, Subject); 5] =
    [("sign", sign), ("verify", verify), ("verify and admit", admit), ("frame", frame), ("record", record)];

fn body() -> (JobBody, SecretKey, Config, SecretKey) {
    let (key, host) = (SecretKey::from_seed(&[2; 32].into()), SecretKey::from_seed(&[3; 32].into()));
    let config = Config::parse(Config::example(&key.public(), "example.com/count").as_bytes()).unwrap();
    let now = Timestamp::from_millis(1_800_000_000_000);
    let context = Context {
        audience: host.public(),
        tenant: Name::default_name(),
        issued_at: now,
        not_before: now,
        not_after: now.saturating_add(Duration::from_secs(3600)),
        salt: JobId::from_bytes([5; 16]),
    };
    let task = Task {
        module: ModuleRef { digest: Digest::of(b"module"), length: 6 },
        entry: Entry::Command,
        args: vec!["an".into(), "argument".into()],
        env: [("KEY".to_owned(), "value".to_owned())].into(),
        input: Input::Empty,
        capabilities: Capabilities::default(),
        limits: Limits::default(),
        queue: Name::default_name(),
        priority: 0,
        idempotent: false,
        labels: Default::default(),
        plan: Plan::default(),
    };
    (JobBody::new(JobId::from_bytes([7; 16]), context, task), key, config, host)
}

fn signed() -> (SignedEnvelope, SecretKey) {
    let (body, key, ..) = body();
    (sign_job(&body, &key).unwrap(), key)
}

fn sign(runs: u64) {
    let (body, key, ..) = body();
    for _ in 0..runs {
        black_box(sign_job(black_box(&body), &key).unwrap());
    }
}

fn verify(runs: u64) {
    let (signed, key) = signed();
    let key = key.public();
    for _ in 0..runs {
        black_box(Envelope::parse(black_box(signed.as_bytes())).unwrap().verify(&key).unwrap());
    }
}

fn admit(runs: u64) {
    let (_, _, config, host) = body();
    let host = host.public();
    let policy = Policy { host: &host, config: &config };
    let (signed, key) = signed();
    let key = key.public();
    for _ in 0..runs {
        // Each is used up, so each is verified first.
        let job = Envelope::parse(signed.as_bytes()).unwrap().verify(&key).unwrap().remove(0);
        let now = job.body().context.issued_at;
        black_box(admission::admit(job, &config.principals[0], &policy, now).unwrap());
    }
}

fn frame(runs: u64) {
    let request = Request::Submit { length: 1234 };
    for _ in 0..runs {
        let bytes = frame::encode_header(black_box(&request));
        black_box(frame::parse_header::<Request>(&bytes[frame::PREFIX_BYTES..]).unwrap());
    }
}

fn record(runs: u64) {
    let host = SecretKey::from_seed(&[1; 32].into()).public();
    let event = Event::HostStarted { host, version: "0.1.0".into(), config: Digest::of(b"config") };
    let record = Record::new(Timestamp::from_millis(1_800_000_000_000), event);
    for _ in 0..runs {
        let leaf = black_box(&record).to_leaf();
        black_box(Hash::of_leaf(&leaf));
        black_box(Record::from_leaf(&leaf).unwrap());
    }
}

/// What the processes below run: alone, each subject once.
#[test]
fn subject() {
    let (chosen, runs) = match std::env::var("STRONGROOM_SUBJECT") {
        Ok(asked) => {
            let (name, runs) = asked.split_once(':').unwrap();
            (name.to_owned(), runs.parse().unwrap())
        }
        Err(_) => (String::new(), 1),
    };
    for (name, subject) in SUBJECTS {
        if chosen.is_empty() || chosen == name {
            subject(runs);
        }
    }
}

/// Instructions of one process that runs a subject so many times.
fn counted(subject: &str, runs: u64) -> u64 {
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "subject", "--test-threads=1"])
        .env("STRONGROOM_SUBJECT", format!("{subject}:{runs}"))
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    let count =
        said.lines().find_map(|line| line.split_once("Collected :")).unwrap_or_else(|| panic!("{said}"));
    count.1.trim().parse().unwrap()
}

fn compiler() -> String {
    let rustc = std::env::var("RUSTC").unwrap_or_else(|_| "rustc".into());
    let output = Command::new(rustc).arg("--version").output().unwrap();
    format!("{} {}", String::from_utf8_lossy(&output.stdout).trim(), std::env::consts::ARCH)
}

#[derive(serde::Deserialize, serde::Serialize)]
struct Figures {
    compiler: String,
    instructions: BTreeMap<String, u64>,
}

#[test]
fn what_is_done_for_every_job_takes_no_more_instructions_than_it_did() {
    if Command::new("valgrind").arg("--version").output().is_err() {
        let required = std::env::var("STRONGROOM_VALGRIND").is_ok_and(|word| word == "required");
        assert!(!required, "valgrind is required, and is not installed");
        println!("skipped: no valgrind");
        return;
    }
    let now: BTreeMap<String, u64> = SUBJECTS
        .iter()
        .map(|(name, _)| {
            let more = counted(name, RUNS.1) - counted(name, RUNS.0);
            ((*name).to_owned(), more / (RUNS.1 - RUNS.0))
        })
        .collect();
    println!("{now:#?}");
    if std::env::var("STRONGROOM_INSTRUCTIONS").is_ok_and(|word| word == "write") {
        let figures = Figures { compiler: compiler(), instructions: now };
        let head = "# Instructions of one run of each subject of instructions.rs, in the profile of tests.\n";
        std::fs::write(FIGURES, format!("{head}{}", toml::to_string(&figures).unwrap())).unwrap();
        return;
    }
    let before: Figures = toml::from_str(&std::fs::read_to_string(Path::new(FIGURES)).unwrap()).unwrap();
    if before.compiler != compiler() {
        println!("not compared: the figures are those of {}, and this is {}", before.compiler, compiler());
        return;
    }
    let mut wrong = String::new();
    for (name, count) in &now {
        let Some(was) = before.instructions.get(name) else {
            writeln!(wrong, "{name}: {count}, and no figure is committed").unwrap();
            continue;
        };
        let change = *count as f64 / *was as f64 - 1.0;
        if change.abs() > TOLERANCE {
            writeln!(wrong, "{name}: {count} instead of {was}, {:+.1} %", change * 100.0).unwrap();
        }
    }
    assert!(
        wrong.is_empty(),
        "{wrong}If that is meant, or is better: STRONGROOM_INSTRUCTIONS=write cargo test --workspace --test instructions"
    );
}
