//! Examples: every prebuilt module runs through QUIC, and its output is the one that another program computed.
//!
//! The table is `examples/prebuilt/MANIFEST.json`; its shape is described in `examples/README.md`.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failed unwrap is a failed test")]

mod common;

use std::path::{Path, PathBuf};

use common::live::{Done, Live, run};
use serde::Deserialize;
use strongroom_job::{Digest, Outcome, OutputStream, OutputSummary};
use strongroom_sdk::{Client, Job};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Manifest {
    version: u32,
    modules: Vec<Module>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Module {
    name: String,
    language: String,
    kind: String,
    file: PathBuf,
    /// None: too large for the repository; the recipe builds it, and the test uses it when it is there.
    sha256: Option<String>,
    source: PathBuf,
    rebuild: String,
    cases: Vec<Case>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    name: String,
    args: Vec<String>,
    stdin: Option<PathBuf>,
    mounts: Vec<Mount>,
    stdout: Option<PathBuf>,
    result: Option<PathBuf>,
    stderr_contains: Option<String>,
    exit: i32,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Mount {
    host: PathBuf,
    guest: String,
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().canonicalize().unwrap()
}

fn manifest() -> Manifest {
    let text = std::fs::read(root().join("examples/prebuilt/MANIFEST.json")).unwrap();
    serde_json::from_slice(&text).unwrap()
}

fn read(path: &Path) -> Vec<u8> {
    std::fs::read(root().join(path)).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

#[test]
fn the_table_is_complete_and_each_committed_module_is_the_one_in_the_table() {
    let manifest = manifest();
    assert_eq!(manifest.version, 1);
    let languages: std::collections::BTreeSet<_> =
        manifest.modules.iter().map(|module| &module.language).collect();
    assert!(languages.len() >= 7, "{languages:?}");
    for module in &manifest.modules {
        assert!(root().join(&module.source).exists(), "{}", module.source.display());
        assert!(module.rebuild.starts_with("examples/build.sh "), "{}", module.rebuild);
        assert!(matches!(module.kind.as_str(), "preview1" | "component"), "{}", module.kind);
        if let Some(sha256) = &module.sha256 {
            assert_eq!(Digest::of(&read(&module.file)).to_hex(), *sha256, "{}", module.name);
        }
    }
    let listed: std::collections::BTreeSet<_> =
        manifest.modules.iter().map(|module| root().join(&module.file)).collect();
    for entry in std::fs::read_dir(root().join("examples/prebuilt")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|ending| ending == "wasm") {
            assert!(listed.contains(&path), "{} is not in the table", path.display());
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_module_gives_the_output_that_another_program_computed() {
    let live = Live::new().await;
    let client = live.client().await;
    let (mut ran, mut absent) = (0, Vec::new());
    for module in manifest().modules {
        if module.sha256.is_none() && !root().join(&module.file).exists() {
            absent.push(module.name);
            continue;
        }
        let pushed = client.push_module(root().join(&module.file)).await.unwrap();
        for case in &module.cases {
            let done = run_case(&client, Job::new(pushed), case).await;
            let name = format!("{} / {}", module.name, case.name);
            check(&name, case, &done);
            check_result(&name, case, &client, &done).await;
            ran += 1;
        }
    }
    live.stop().await;
    println!("{ran} cases ran; not built here: {absent:?}");
    assert!(ran >= 30, "{ran}");
}

async fn run_case(client: &Client, mut job: Job, case: &Case) -> Done {
    for mount in &case.mounts {
        job = job.read_dir(root().join(&mount.host).to_str().unwrap(), &mount.guest);
    }
    if let Some(stdin) = &case.stdin {
        job = job.input(client.push_input(root().join(stdin)).await.unwrap());
    }
    run(client, &job.args(case.args.clone())).await
}

/// The result is another stream of the job's.
async fn check_result(name: &str, case: &Case, client: &Client, done: &Done) {
    let end = done.view.end.as_ref().unwrap();
    let mut fetched = Vec::new();
    client.fetch_output(done.view.job, OutputStream::Result, &mut fetched).await.unwrap();
    let Some(expected) = &case.result else {
        assert_eq!((end.result, fetched.as_slice()), (None, &b""[..]), "{name}");
        return;
    };
    let expected = read(expected).trim_ascii_end().to_owned();
    assert_eq!(String::from_utf8_lossy(&fetched), String::from_utf8_lossy(&expected), "{name}");
    let told = OutputSummary { length: expected.len() as u64, digest: Digest::of(&expected) };
    assert_eq!(end.result, Some(told), "{name}");
}

fn check(name: &str, case: &Case, done: &Done) {
    let stderr = String::from_utf8_lossy(&done.stderr);
    let outcome = &done.view.end.as_ref().unwrap().outcome;
    assert_eq!(*outcome, Outcome::Exited { code: case.exit }, "{name}: {stderr}");
    let stdout = case.stdout.as_deref().map(read).unwrap_or_default();
    assert!(done.stdout == stdout, "{name}: stdout is {:?}", String::from_utf8_lossy(&done.stdout));
    match &case.stderr_contains {
        Some(words) => assert!(stderr.contains(words), "{name}: {stderr}"),
        None => assert_eq!(stderr, "", "{name}"),
    }
}
