//! Secrets, through the whole host: a job sees those that it was granted, and nobody else sees anything of them.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failed unwrap is a failed test")]

mod common;

use std::path::Path;

use common::guests::shows;
use common::live::{Live, assert_succeeded, push_wat, run, says};
use strongroom::home::Home;
use strongroom::secrets::Vault;
use strongroom_job::{Name, Outcome};
use strongroom_sdk::Job;

const VALUE: &[u8] = b"correct horse battery staple";

/// Writes its whole environment to standard output.
const SHOWS_ENVIRONMENT: &str = r#"(module
    (import "wasi_snapshot_preview1" "environ_sizes_get" (func $sizes (param i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "environ_get" (func $get (param i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
    (memory (export "memory") 1)
    (func (export "_start")
        (drop (call $sizes (i32.const 32) (i32.const 4)))
        (drop (call $get (i32.const 64) (i32.const 1024)))
        (i32.store (i32.const 0) (i32.const 1024))
        (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 16)))))"#;

fn name(text: &str) -> Name {
    text.parse().unwrap()
}

async fn live() -> Live {
    Live::with(|config| config.principals[0].secrets = [name("token"), name("absent")].into()).await
}

impl Live {
    fn vault(&self) -> Vault {
        Vault::of(&Home::open(self.dir.path()).unwrap())
    }
}

/// Files below `dir` that hold `bytes`.
fn holding(dir: &Path, bytes: &[u8]) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(holding(&path, bytes));
        } else if std::fs::read(&path).unwrap().windows(bytes.len()).any(|window| window == bytes) {
            found.push(path.display().to_string());
        }
    }
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_is_seen_by_its_job_alone() {
    let live = live().await;
    let client = live.client().await;
    live.vault().set(&name("token"), VALUE).unwrap();
    let quiet = push_wat(&client, &says("x", 0)).await;
    let job = Job::new(quiet).secret_file("token").secret_env("token", "TOKEN");
    assert_succeeded(&run(&client, &job).await);
    let Live { host, dir } = live;
    host.stop(strongroom::host::Stop::Everything(std::time::Duration::from_secs(60))).await;
    assert_eq!(holding(dir.path(), VALUE), Vec::<String>::new(), "in no log, row, record or leftover");
    // In more than one file, when a partial bundle was published and then a longer one.
    assert!(!holding(&dir.path().join("audit"), b"TOKEN").is_empty(), "its name is in the record of the job");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_comes_as_a_file_or_a_variable_and_anew_for_each_attempt() {
    let live = live().await;
    let client = live.client().await;
    let file = push_wat(&client, &shows("cert.pem")).await;
    for value in [VALUE, b"another one"] {
        live.vault().set(&name("token"), value).unwrap();
        let done = run(&client, &Job::new(file).secret_file_as("token", "cert.pem")).await;
        assert_succeeded(&done);
        assert_eq!(done.stdout, value);
    }
    let env = push_wat(&client, SHOWS_ENVIRONMENT).await;
    let done = run(&client, &Job::new(env).secret_env("token", "TOKEN").env("A", "b")).await;
    assert_eq!(done.stdout, b"A=b\0TOKEN=another one\0");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_that_cannot_be_had_is_named_and_the_job_does_not_run() {
    let live = live().await;
    let client = live.client().await;
    let module = push_wat(&client, &says("ran", 0)).await;
    let reason = async |job: Job| {
        let done = run(&client, &job).await;
        assert!(done.stdout.is_empty(), "it must not run");
        match done.view.end.unwrap().outcome {
            Outcome::Faulted { reason } => reason,
            other => panic!("{other}"),
        }
    };
    let text = reason(Job::new(module).secret_file("absent")).await;
    assert_eq!(text, "the secret absent is not there: store it with `strongroom secret set absent`");
    live.vault().set(&name("token"), VALUE).unwrap();
    live.vault().set(&name("absent"), b"\xff").unwrap();
    let text = reason(Job::new(module).secret_env("absent", "A")).await;
    assert!(text.starts_with("the secret absent cannot be a variable"), "{text}");
    let sealed = |name: &str| live.dir.path().join(format!("secrets/{name}.sealed"));
    std::fs::copy(sealed("token"), sealed("absent")).unwrap();
    let text = reason(Job::new(module).secret_file("absent")).await;
    assert!(text.starts_with("the secret absent cannot be decrypted"), "{text}");
}
