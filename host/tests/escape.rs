//! Escape: a job that came in over the network touches what its mounts give it, and nothing else of the host.
//!
//! The sandbox's own ways out are the runtime's tests. Here it is the whole road: what is signed, granted and mounted.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failed unwrap is a failed test")]

mod common;

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use common::guests::{Call, shows, tries};
use common::live::{Done, Live, assert_succeeded, push_wat, run};
use common::secret;
use strongroom::config::{Principal, Roles, Volume};
use strongroom_job::{Access, Outcome};
use strongroom_sdk::{Client, Error, Identity, Job};

/// A directory to give, and something beside it to steal.
struct Tree(tempfile::TempDir);

impl Tree {
    fn new() -> Self {
        let tree = Self(tempfile::tempdir().unwrap());
        for dir in ["given/sub", "given-too", "kept"] {
            fs::create_dir_all(tree.path(dir)).unwrap();
        }
        fs::write(tree.path("given/file"), "given").unwrap();
        fs::write(tree.path("given/sub/deep"), "deep").unwrap();
        fs::write(tree.path("given-too/file"), "given too").unwrap();
        fs::write(tree.path("kept/secret"), "secret").unwrap();
        tree
    }

    fn path(&self, below: &str) -> PathBuf {
        self.0.path().join(below)
    }

    fn text(&self, below: &str) -> String {
        self.path(below).to_str().unwrap().to_owned()
    }

    /// Every file below with its content, every symlink with its target.
    fn print(&self, below: &str) -> Vec<String> {
        let mut seen = Vec::new();
        print(&self.path(below), &mut seen);
        seen.sort();
        seen
    }
}

fn print(path: &Path, seen: &mut Vec<String>) {
    let meta = fs::symlink_metadata(path).unwrap();
    let content = if meta.is_file() { fs::read(path).unwrap() } else { Vec::new() };
    seen.push(format!("{} {:?} {content:?}", path.display(), meta.file_type()));
    if meta.is_dir() {
        for entry in fs::read_dir(path).unwrap() {
            print(&entry.unwrap().path(), seen);
        }
    }
}

async fn show(client: &Client, path: &str, give: impl FnOnce(Job) -> Job) -> Done {
    let module = push_wat(client, &shows(path)).await;
    run(client, &give(Job::new(module))).await
}

/// The answer to each call, 0 where it worked.
async fn answers(client: &Client, calls: &[Call<'_>], give: impl FnOnce(Job) -> Job) -> Vec<u8> {
    let module = push_wat(client, &tries(calls)).await;
    let done = run(client, &give(Job::new(module))).await;
    assert_succeeded(&done);
    assert_eq!(done.stdout.len(), calls.len());
    done.stdout
}

fn refused(calls: &[Call<'_>], answers: &[u8]) {
    for (call, answer) in calls.iter().zip(answers) {
        assert_ne!(*answer, 0, "{call:?} was allowed");
    }
}

// Red with the host's root mounted in place of the granted directory in `AdmittedJob::grant`.
#[tokio::test(flavor = "multi_thread")]
async fn a_job_reads_what_its_mounts_give_and_nothing_else() {
    let live = Live::new().await;
    let client = live.client().await;
    let tree = Tree::new();
    symlink("../kept/secret", tree.path("given/steal")).unwrap();
    symlink(tree.path("kept"), tree.path("given/away")).unwrap();
    let before = tree.print("kept");

    let given = |job: Job| job.read_dir(tree.text("given"), "/data");
    for (path, text) in [("file", "given"), ("sub/deep", "deep"), ("sub/../file", "given")] {
        let done = show(&client, path, given).await;
        assert_succeeded(&done);
        assert_eq!(done.stdout, text.as_bytes(), "{path}");
    }
    let absolute = tree.text("kept/secret");
    for path in ["../kept/secret", "sub/../../kept/secret", "steal", "away/secret", "/etc/passwd", &absolute]
    {
        let done = show(&client, path, given).await;
        let end = done.view.end.unwrap();
        assert!(matches!(end.outcome, Outcome::Exited { code } if code != 0), "{path}: {end:?}");
        assert_eq!(done.stdout, b"", "{path}");
    }
    // Nothing given: there is no first directory at all.
    let done = show(&client, "file", |job| job).await;
    assert!(matches!(done.view.end.unwrap().outcome, Outcome::Exited { code: 8 }), "bad descriptor");
    assert_eq!(tree.print("kept"), before);
    live.stop().await;
}

// Red with `read_dir` in place of `write_dir`, and the other way round, in `AdmittedJob::grant`.
#[tokio::test(flavor = "multi_thread")]
async fn read_only_stays_so_beside_a_directory_that_may_be_written() {
    let live = Live::new().await;
    let client = live.client().await;
    let tree = Tree::new();
    let give = |job: Job| job.read_dir(tree.text("given"), "/in").write_dir(tree.text("given-too"), "/out");
    let before = (tree.print("given"), tree.print("kept"));

    let allowed = [
        Call::Read(3, "file"),
        Call::Read(4, "file"),
        Call::Create(4, "made"),
        Call::Mkdir(4, "dir"),
        Call::Rename(4, "made", 4, "dir/moved"),
    ];
    assert_eq!(answers(&client, &allowed, give).await, [0; 5]);
    assert!(tree.path("given-too/dir/moved").exists());

    let attempts = [
        Call::Write(3, "file"),
        Call::Create(3, "new"),
        Call::Truncate(3, "file"),
        Call::Mkdir(3, "new"),
        Call::Unlink(3, "file"),
        Call::Rename(3, "file", 3, "other"),
        Call::Rename(3, "file", 4, "taken"),
        Call::Rename(4, "file", 3, "planted"),
        Call::Link(3, "file", 4, "linked"),
        Call::Link(4, "file", 3, "linked"),
        Call::Symlink("file", 3, "link"),
        Call::Create(4, "../kept/planted"),
        Call::Rename(4, "file", 4, "../kept/planted"),
        Call::Unlink(4, "../kept/secret"),
    ];
    refused(&attempts, &answers(&client, &attempts, give).await);
    assert_eq!((tree.print("given"), tree.print("kept")), before);
    assert_eq!(fs::read(tree.path("given-too/file")).unwrap(), b"given too");
    live.stop().await;
}

// Red with `who.any_directory` not asked in `admission::grant`.
#[tokio::test(flavor = "multi_thread")]
async fn a_principal_gets_its_volumes_and_no_path_of_its_own_choice() {
    let tree = Tree::new();
    let path = tree.path("given");
    let live = Live::with(|config| {
        let docs = "docs".parse().unwrap();
        config.volumes.insert(docs, Volume { path, access: Access::Read });
        config.principals.push(Principal {
            name: "visitor".parse().unwrap(),
            key: secret(2).public(),
            tenant: "visitors".parse().unwrap(),
            volumes: [("docs".parse().unwrap(), Access::Read)].into(),
            any_directory: false,
            roles: Roles::USUAL,
            any_network: false,
            connect: Vec::new(),
            listen: Vec::new(),
            http: Vec::new(),
            secrets: std::collections::BTreeSet::new(),
            narrowed: None,
        });
    })
    .await;
    let client = live.client_with(|options| options.identity = Identity::from(secret(2))).await;
    let done = show(&client, "file", |job| job.read_volume("docs", "/docs")).await;
    assert_succeeded(&done);
    assert_eq!(done.stdout, b"given");

    let module = push_wat(&client, &shows("file")).await;
    for job in [
        Job::new(module).read_dir(tree.text("given"), "/docs"),
        Job::new(module).read_dir(tree.text("kept"), "/docs"),
        Job::new(module).write_volume("docs", "/docs"),
        Job::new(module).read_volume("kept", "/docs"),
    ] {
        match client.submit(&job).await {
            Err(Error::Refused(refusal)) => assert_eq!(refusal.missing.len(), 1, "{refusal}"),
            other => panic!("{other:?}"),
        }
    }
    live.stop().await;
}

// Red with a variable added in `AdmittedJob::grant`.
#[tokio::test(flavor = "multi_thread")]
async fn a_job_sees_no_variable_and_no_argument_but_its_own() {
    let live = Live::new().await;
    let client = live.client().await;
    let module = push_wat(&client, SIZES).await;
    let done = run(&client, &Job::new(module)).await;
    assert_succeeded(&done);
    // One argument, "job" and its NUL; no variables at all.
    assert_eq!(numbers(&done.stdout), [1, 4, 0, 0]);
    let done = run(&client, &Job::new(module).arg("xy").env("A", "bc")).await;
    assert_eq!(numbers(&done.stdout), [2, 7, 1, 5]);
    live.stop().await;
}

/// Writes four numbers to stdout: arguments, their bytes, variables, their bytes.
const SIZES: &str = r#"(module
    (import "wasi_snapshot_preview1" "args_sizes_get" (func $args (param i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "environ_sizes_get" (func $env (param i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
    (memory (export "memory") 1)
    (func (export "_start")
        (drop (call $args (i32.const 64) (i32.const 68)))
        (drop (call $env (i32.const 72) (i32.const 76)))
        (i32.store (i32.const 0) (i32.const 64))
        (i32.store (i32.const 4) (i32.const 16))
        (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))))"#;

fn numbers(bytes: &[u8]) -> Vec<u32> {
    bytes.chunks_exact(4).map(|four| u32::from_le_bytes(four.try_into().unwrap())).collect()
}
