//! A module is compiled by a process that may take so much and no more, and what it was compiled to is believed only under the
//! host's own key.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use common::bomb::bomb;
use common::live::{Live, assert_succeeded, push_wat, run, says, start_with};
use common::patience::bounded;
use rustix::process::{Pid, Signal, kill_process};
use strongroom::compile::Compiler;
use strongroom::config::Config;
use strongroom::host::Stop;
use strongroom_job::{ModuleRef, Outcome, RefusalCode};
use strongroom_sdk::{Client, Error, Job, Retry};

/// The host's refusal, in its words.
async fn refused(client: &Client, wasm: Vec<u8>) -> (RefusalCode, String) {
    match client.push_module(wasm).await.unwrap_err() {
        Error::Refused(refusal) => (refusal.code, refusal.to_string()),
        other => panic!("{other:?}"),
    }
}

/// The host is as it was: another module is compiled, and runs.
async fn still_works(client: &Client) {
    let module = push_wat(client, &says("still here", 0)).await;
    let done = run(client, &Job::new(module)).await;
    assert_succeeded(&done);
    assert_eq!(done.stdout, b"still here");
}

/// A compiler that no machine has: with it, a module runs only if nothing is compiled.
fn none() -> Compiler {
    Compiler::Child("/nobody/is/here".into())
}

/// The files of the cache.
fn cached(dir: &Path) -> Vec<PathBuf> {
    let mut files: Vec<_> =
        fs::read_dir(dir.join("cache")).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

/// The file of one module's unmetered code.
fn cached_of(dir: &Path, module: &ModuleRef) -> PathBuf {
    let of =
        |path: &PathBuf| path.file_name().unwrap().to_str().unwrap().starts_with(&module.digest.to_hex());
    cached(dir).into_iter().find(of).unwrap()
}

// Red without the `timeout` in `parent::compile`: processor time then ends it, later, and in those words.
#[tokio::test(flavor = "multi_thread")]
async fn a_compile_bomb_is_stopped_in_time() {
    bounded(async {
        let live = Live::with(|config| config.bounds.compile_time = Duration::from_secs(3)).await;
        let client = live.client().await;
        let (code, words) = refused(&client, bomb(1000, 8000)).await;
        assert_eq!(code, RefusalCode::BadModule);
        assert!(words.contains("more than 3s") && words.contains("compile_ms"), "{words}");
        assert_eq!(cached(live.dir.path()), Vec::<PathBuf>::new());
        still_works(&client).await;
    })
    .await;
}

// Red without the limit on `Resource::As` (seen with a `compile_time` of 3 s, which then ends it; more would take the machine).
#[tokio::test(flavor = "multi_thread")]
async fn a_compile_bomb_gets_no_more_memory() {
    bounded(async {
        let live = Live::with(|config| config.bounds.compile_memory_bytes = 512 << 20).await;
        let client = live.client().await;
        let (code, words) = refused(&client, bomb(1000, 8000)).await;
        assert_eq!(code, RefusalCode::BadModule);
        assert!(words.contains("more than 512 MiB") && words.contains("compile_memory_bytes"), "{words}");
        still_works(&client).await;
    })
    .await;
}

/// The children of this process that compile with `memory` bytes, which tells those of one test from those of another.
fn compilers(memory: u64) -> Vec<Pid> {
    let us = format!("PPid:\t{}\n", std::process::id());
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").unwrap() {
        let path = entry.unwrap().path();
        let arguments = fs::read(path.join("cmdline")).unwrap_or_default();
        let ours = fs::read_to_string(path.join("status")).is_ok_and(|status| status.contains(&us));
        if ours
            && arguments.split(|byte| *byte == 0).any(|argument| argument == memory.to_string().as_bytes())
        {
            found.extend(path.file_name().and_then(|pid| Pid::from_raw(pid.to_str()?.parse().ok()?)));
        }
    }
    found
}

/// Kills every compiler that comes, until `work` is done; says how many there were.
async fn killing<T>(memory: u64, work: impl Future<Output = T>) -> (T, usize) {
    let mut work = std::pin::pin!(work);
    let mut killed = std::collections::HashSet::new();
    loop {
        tokio::select! {
            done = &mut work => return (done, killed.len()),
            () = tokio::time::sleep(Duration::from_millis(20)) => {
                for pid in compilers(memory) {
                    // One that has just gone needs no signal.
                    if kill_process(pid, Signal::KILL).is_ok() {
                        killed.insert(pid);
                    }
                }
            }
        }
    }
}

// Red with `RETRIES` of 0, which gives up after the first.
#[tokio::test(flavor = "multi_thread")]
async fn a_killed_compiler_is_no_fault_of_the_module_and_harms_nobody() {
    const MEMORY: u64 = (2 << 30) + 4096;
    bounded(async {
        let live = Live::with(|config| config.bounds.compile_memory_bytes = MEMORY).await;
        let client = live.client_with(|options| options.retry = Retry::none()).await;
        let ((code, words), killed) = killing(MEMORY, refused(&client, bomb(1000, 8000))).await;
        assert_eq!((code, killed), (RefusalCode::HostFault, 2), "{words}");
        assert!(words.contains("killed by signal 9"), "{words}");
        still_works(&client).await;
    })
    .await;
}

/// A compiler that says where it is, and then does nothing for ten minutes: the end of its pipes does not end it.
fn sleeper(dir: &Path) -> (Compiler, PathBuf) {
    let (program, says) = (dir.join("sleeper"), dir.join("sleeper.pid"));
    // Written by another process: what this one has open for writing, it may not be able to start.
    let script = r##"printf '#!/bin/sh\necho $$ > %s.new; mv %s.new %s; exec sleep 590\n' "$2" "$2" "$2" > "$1"; chmod +x "$1""##;
    let made = Command::new("sh").args(["-c", script, "sh"]).args([&program, &says]).status().unwrap();
    assert!(made.success());
    (Compiler::Child(program), says)
}

// Red without the `kill` in `Process::drop`, and without `give_up_registering` in `Host::stop`, which then waits.
#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_stops_leaves_no_compiler_behind() {
    bounded(async {
        let dir = tempfile::tempdir().unwrap();
        let (compiler, says) = sleeper(dir.path());
        let slow = |config: &mut Config| config.bounds.compile_time = Duration::from_secs(600);
        let host = start_with(dir.path(), compiler, slow).await;
        let live = Live { host, dir };
        let client = live.client_with(|options| options.retry = Retry::none()).await;
        let wasm = wat::parse_str(self::says("x", 0)).unwrap();
        let pushing = tokio::spawn(async move { client.push_module(wasm).await });
        // A zombie has no command line, and is as good as gone.
        let sleeps = || {
            let Ok(pid) = fs::read_to_string(&says) else { return false };
            fs::read(format!("/proc/{}/cmdline", pid.trim())).is_ok_and(|line| line.starts_with(b"sleep"))
        };
        while !sleeps() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let stop = live.host.stop(Stop::Running(Duration::from_secs(1)));
        tokio::time::timeout(Duration::from_secs(60), stop).await.expect("it waits for the compiler");
        assert!(pushing.await.unwrap().is_err());
        for _ in 0..1000 {
            if !sleeps() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("the compiler is still there");
    })
    .await;
}

// Red, now and then, when the child is killed before it is looked at in `Process::end`: `cat` closes its pipes before it ends.
#[tokio::test(flavor = "multi_thread")]
async fn a_program_that_is_no_compiler_is_the_hosts_fault() {
    bounded(async {
        for (program, says) in [
            ("/bin/true", "ended without an answer"),
            ("/bin/cat", "ended without an answer"),
            ("/nobody/is/here", "cannot start the compiler /nobody/is/here"),
        ] {
            let dir = tempfile::tempdir().unwrap();
            let host = start_with(dir.path(), Compiler::Child(program.into()), |_| {}).await;
            let live = Live { host, dir };
            let client = live.client_with(|options| options.retry = Retry::none()).await;
            let (code, words) = refused(&client, wat::parse_str(self::says("x", 0)).unwrap()).await;
            assert_eq!(code, RefusalCode::HostFault);
            assert!(words.contains(says), "{program}: {words}");
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_hosts_own_process_compiles_when_it_is_told_to() {
    bounded(async {
        let dir = tempfile::tempdir().unwrap();
        let host = start_with(dir.path(), Compiler::InProcess, |_| {}).await;
        let live = Live { host, dir };
        still_works(&live.client().await).await;
        assert_eq!(cached(live.dir.path()).len(), 1);
    })
    .await;
}

/// Two modules that a first host compiled, told apart by what they say.
struct Two {
    dir: tempfile::TempDir,
    modules: [ModuleRef; 2],
}

const SAID: [&[u8]; 2] = [b"one", b"two"];

impl Two {
    async fn compiled() -> Self {
        let live = Live::new().await;
        let client = live.client().await;
        let modules = [push_wat(&client, &says("one", 0)).await, push_wat(&client, &says("two", 0)).await];
        client.close().await;
        Self { dir: live.stop().await, modules }
    }

    fn files(&self) -> [PathBuf; 2] {
        self.modules.each_ref().map(|module| cached_of(self.dir.path(), module))
    }

    /// Starts a host with this compiler, runs the first module, stops the host.
    async fn run_first(self, compiler: Compiler) -> (Self, Result<Vec<u8>, String>) {
        let Self { dir, modules } = self;
        let live = Live { host: start_with(dir.path(), compiler, |_: &mut Config| {}).await, dir };
        let client = live.client().await;
        let done = run(&client, &Job::new(modules[0])).await;
        client.close().await;
        let Live { host, dir } = live;
        host.stop(Stop::Running(Duration::from_secs(60))).await;
        let said = match done.view.end.map(|end| end.outcome) {
            Some(Outcome::Exited { code: 0 }) => Ok(done.stdout),
            Some(Outcome::Faulted { reason }) => Err(reason),
            other => panic!("{other:?}"),
        };
        (Self { dir, modules }, said)
    }
}

// Red without the `cache.keep` in `Loader::loaded`, and without the look into the cache in `Loader::load`.
#[tokio::test(flavor = "multi_thread")]
async fn a_known_module_is_not_compiled_again_after_a_restart() {
    bounded(Box::pin(async {
        let two = Two::compiled().await;
        let before = two.files().map(|file| fs::read(file).unwrap());
        let (two, said) = two.run_first(none()).await;
        assert_eq!(said.unwrap(), SAID[0]);
        assert_eq!(two.files().map(|file| fs::read(file).unwrap()), before);
    }))
    .await;
}

/// Changes the first of two cached files.
type Tamper = fn(&[PathBuf; 2]);

/// What a stranger who can write to the cache may do to the first module's file. Each ends in the second module's code, or in
/// none, if it is believed.
fn tampered() -> [(&'static str, Tamper); 7] {
    fn rewrite(path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
        let mut bytes = fs::read(path).unwrap();
        change(&mut bytes);
        fs::write(path, bytes).unwrap();
    }
    [
        ("the other module's file", |files| {
            fs::copy(&files[1], &files[0]).unwrap();
        }),
        ("its own MAC, the other's code", |files| {
            let other = fs::read(&files[1]).unwrap();
            rewrite(&files[0], |bytes| bytes.splice(32.., other[32..].iter().copied()).for_each(drop));
        }),
        ("a MAC of zeros, the other's code", |files| {
            let other = fs::read(&files[1]).unwrap();
            fs::write(&files[0], [&[0; 32], &other[32..]].concat()).unwrap();
        }),
        ("one bit of the MAC", |files| rewrite(&files[0], |bytes| bytes[0] ^= 1)),
        ("one bit of the code", |files| {
            rewrite(&files[0], |bytes| {
                let last = bytes.len() - 1;
                bytes[last] ^= 1;
            });
        }),
        ("half of it", |files| rewrite(&files[0], |bytes| bytes.truncate(bytes.len() / 2))),
        ("nothing of it", |files| rewrite(&files[0], Vec::clear)),
    ]
}

// Red without `verify_slice` in `cache`: the first module then says "two", and the fourth case is taken as it is.
#[tokio::test(flavor = "multi_thread")]
async fn a_tampered_cache_is_never_loaded_and_is_made_again() {
    bounded(Box::pin(async {
        let mut two = Two::compiled().await;
        let good = fs::read(&two.files()[0]).unwrap();
        for (what, tamper) in tampered() {
            let files = two.files();
            tamper(&files);
            assert_ne!(fs::read(&files[0]).unwrap(), good, "{what}");
            let said;
            (two, said) = two.run_first(none()).await;
            assert!(
                said.as_ref().is_err_and(|reason| reason.contains("cannot start the compiler")),
                "{what}: {said:?}"
            );
            assert!(!files[0].exists(), "{what}: it is discarded");

            fs::write(&files[0], &good).unwrap();
            tamper(&files);
            let said;
            (two, said) = two.run_first(common::live::compiler()).await;
            assert_eq!(said.as_deref(), Ok(SAID[0]), "{what}");
            assert_eq!(fs::read(&files[0]).unwrap(), good, "{what}: it is made again");
        }
    }))
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cache_of_another_hosts_key_is_not_believed() {
    bounded(Box::pin(async {
        let (mine, theirs) = (Two::compiled().await, Two::compiled().await);
        fs::copy(&theirs.files()[0], &mine.files()[0]).unwrap();
        let (mine, said) = mine.run_first(none()).await;
        assert!(said.is_err(), "{said:?}");
        // A key that is lost costs a compilation, nothing else.
        fs::remove_file(mine.dir.path().join("keys/cache.key")).unwrap();
        let (_, said) = mine.run_first(common::live::compiler()).await;
        assert_eq!(said.unwrap(), SAID[0]);
    }))
    .await;
}

// Red without `sniff` in the runtime's `refusal.rs`.
#[tokio::test(flavor = "multi_thread")]
async fn compiled_code_is_never_taken_from_a_client() {
    bounded(async {
        let live = Live::new().await;
        let client = live.client().await;
        let module = push_wat(&client, &says("x", 0)).await;
        let file = fs::read(cached_of(live.dir.path(), &module)).unwrap();
        let elf = file.windows(4).position(|window| window == b"\x7fELF").unwrap();
        for code in [&file[..], &file[32..], &file[elf..]] {
            let (refusal, words) = refused(&client, code.to_vec()).await;
            assert_eq!(refusal, RefusalCode::BadModule, "{words}");
        }
        assert_eq!(cached(live.dir.path()).len(), 1);
    })
    .await;
}
