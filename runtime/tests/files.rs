//! What a guest may do to files, and how much of it: quotas, FIFOs and devices, confined directories, what is told.
#![allow(missing_docs, reason = "test names say it")]
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
#![allow(clippy::disallowed_methods, reason = "files are given an age")]
#![cfg(target_os = "linux")]

mod common;

#[path = "files/alike.rs"]
mod alike;
#[path = "files/component.rs"]
mod component;
#[path = "files/confined.rs"]
mod confined;
#[path = "files/quota.rs"]
mod quota;
#[path = "files/told.rs"]
mod told;

use std::path::PathBuf;

use common::syscalls::Script;
use common::{Ran, module, run};
use strongroom_runtime::{Access, ByteSize, Grant, LimitKind, Limits, Outcome};

/// A directory for one test, granted as `/d`.
struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn grant(&self) -> Grant {
        Grant::none().dir(self.0.path(), "/d", Access::ReadWrite)
    }

    fn length(&self, name: &str) -> u64 {
        std::fs::metadata(self.path(name)).unwrap().len()
    }
}

fn disk(bytes: u64) -> Limits {
    Limits { disk: ByteSize::bytes(bytes), ..Limits::default() }
}

/// Runs `script` to its end and returns its answers, which must be many.
fn within(script: &Script, grant: &Grant, limits: &Limits) -> Ran {
    run(&module(&script.wat()), grant, limits)
}

/// The run copes with whatever it was told, and this is what it was told.
fn answers(script: &Script, grant: &Grant, limits: &Limits) -> Vec<u8> {
    let ran = within(script, grant, limits);
    assert_eq!(ran.outcome(), &Outcome::Exited(0));
    ran.stdout
}

fn exceeded(outcome: &Outcome) -> (LimitKind, u64, u64) {
    match outcome {
        Outcome::Exceeded { limit, allowed, used } => (*limit, *allowed, *used),
        other => panic!("not a limit: {other:?}"),
    }
}

/// An answer with the count after it.
fn counted(answer: u8, count: u32) -> Vec<u8> {
    let mut bytes = vec![answer];
    bytes.extend_from_slice(&count.to_le_bytes());
    bytes
}
