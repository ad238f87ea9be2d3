//! Without the clock and randomness, a run depends on nothing but its module, its input and its seed.
#![allow(missing_docs, reason = "test names say it")]
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
#![allow(
    clippy::disallowed_methods,
    reason = "what a guest sees is compared with the host's own clock and environment"
)]

mod common;

use std::time::SystemTime;

use common::{command, module, probe, run};
use strongroom_runtime::{Grant, Limits, Outcome};

/// Reads the wall clock (0), then the monotonic one (1), then the wall clock again, and prints the three, each in 8 bytes.
const CLOCKS: &str = "
    (drop (call $clock_time_get (i32.const 0) (i64.const 0) (i32.const 64)))
    (drop (call $clock_time_get (i32.const 1) (i64.const 0) (i32.const 72)))
    (drop (call $clock_time_get (i32.const 0) (i64.const 0) (i32.const 80)))
    (i32.store (i32.const 0) (i32.const 64)) (i32.store (i32.const 4) (i32.const 24))
    (drop (call $fd_write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))";

const RANDOM: &str = "
    (drop (call $random_get (i32.const 64) (i32.const 32)))
    (i32.store (i32.const 0) (i32.const 64)) (i32.store (i32.const 4) (i32.const 32))
    (drop (call $fd_write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))";

fn output(body: &str, grant: &Grant) -> Vec<u8> {
    let ran = run(&module(&command(body)), grant, &Limits::default());
    assert_eq!(ran.outcome(), &Outcome::Exited(0));
    ran.stdout
}

fn clocks(grant: &Grant) -> Vec<u64> {
    output(CLOCKS, grant).chunks(8).map(|bytes| u64::from_le_bytes(bytes.try_into().unwrap())).collect()
}

// Red without: the stand-in clocks in `standin.rs`.
#[test]
fn a_clock_that_was_not_granted_only_counts() {
    const START: u64 = 946_684_800_000_000_000;
    const STEP: u64 = 1_000_000;
    assert_eq!(clocks(&Grant::none()), [START + STEP, 2 * STEP, START + 3 * STEP]);
}

#[test]
fn a_granted_clock_is_the_hosts_to_the_millisecond() {
    let nanos = || {
        u64::try_from(SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_nanos()).unwrap()
    };
    let before = nanos();
    let told = clocks(&Grant::none().clock());
    assert!(told[0] >= before - before % 1_000_000 && told[2] <= nanos(), "{told:?}");
    assert!(told.iter().all(|time| time % 1_000_000 == 0), "{told:?}");
}

// Red without: the seeded generators in `standin.rs`. Each byte is the first of a word of ChaCha20 under a key of zeros
// (RFC 8439, appendix A.1, test vector 1). They are part of the interface: a run is repeated from its seed years later.
#[test]
fn randomness_that_was_not_granted_follows_from_the_seed() {
    let first_words =
        [0x76, 0xa0, 0x40, 0x53, 0xbd, 0xa0, 0xa8, 0x8b, 0xda, 0x51, 0x77, 0xb8, 0x6a, 0x15, 0xc3, 0xb2];
    let zeros = output(RANDOM, &Grant::none());
    assert_eq!(zeros.len(), 32);
    assert_eq!(zeros[..first_words.len()], first_words);
    assert_eq!(zeros, output(RANDOM, &Grant::none()));
    let other = output(RANDOM, &Grant::none().seed([7; 32]));
    assert_ne!(zeros, other);
    assert_eq!(other, output(RANDOM, &Grant::none().seed([7; 32])));
}

#[test]
fn granted_randomness_differs_each_time() {
    let grant = Grant::none().randomness();
    let (one, two) = (output(RANDOM, &grant), output(RANDOM, &grant));
    assert_ne!(one, two);
    assert_ne!(one, output(RANDOM, &Grant::none()));
}

#[test]
fn a_component_repeats_exactly() {
    for what in ["clock", "instant", "random"] {
        let grant = Grant::none().args(["probe", what]);
        let first = run(&probe(), &grant, &Limits::default());
        let second = run(&probe(), &grant, &Limits::default());
        assert_eq!(first.outcome(), &Outcome::Exited(0));
        assert_eq!(first.text(), second.text(), "{what}");
        assert!(!first.text().is_empty());
    }
    let random = |seed| {
        run(&probe(), &Grant::none().args(["probe", "random"]).seed([seed; 32]), &Limits::default()).text()
    };
    assert_ne!(random(1), random(2));
}

// Red without: `cranelift_nan_canonicalization` in `config.rs`.
#[test]
fn a_nan_is_always_the_same_nan() {
    let body = "
        (f32.store (i32.const 64) (f32.add (f32.load (i32.const 128)) (f32.const 1)))
        (i32.store (i32.const 0) (i32.const 64)) (i32.store (i32.const 4) (i32.const 4))
        (drop (call $fd_write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))";
    let payload = format!("(i32.store (i32.const 128) (i32.const 0xffc12345)) {body}");
    assert_eq!(output(&payload, &Grant::none()), 0x7fc0_0000_u32.to_le_bytes());
}

#[test]
fn nothing_of_the_host_leaks_into_arguments_or_environment() {
    let count = |name: &str| {
        format!(
            "(drop (call ${name} (i32.const 64) (i32.const 68)))
             (i32.store (i32.const 0) (i32.const 64)) (i32.store (i32.const 4) (i32.const 8))
             (drop (call $fd_write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))"
        )
    };
    assert!(std::env::vars().count() > 0, "the test needs an environment that could leak");
    assert_eq!(output(&count("environ_sizes_get"), &Grant::none()), [0; 8]);
    assert_eq!(output(&count("args_sizes_get"), &Grant::none()), [0; 8]);
    let grant = Grant::none().args(["probe", "env"]).env("ONLY", "this");
    assert_eq!(run(&probe(), &grant, &Limits::default()).text(), "[(\"ONLY\", \"this\")]\n");
}
