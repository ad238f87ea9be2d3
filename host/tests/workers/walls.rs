//! What a worker may touch: seen from inside, with a sandbox that fails, and from outside.
//!
//! The break is here and nowhere else: no build of the host has one. When a volume was opened for a worker, its directory is put away and a
//! link takes its name. The sandbox, which trusts the names of the configuration, opens what the link leads to, as one would that fails; what
//! is still closed then is closed by the kernel.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use strongroom::config::Isolation;
use strongroom_job::Outcome;
use strongroom_sdk::Job;

use super::common::guests::{leaves, shows};
use super::common::live::{assert_succeeded, push_wat, run};
use super::common::patience::bounded;
use super::{site, status, workers};

/// What the guest gets to see of `target/file`, and whether it can make a file there.
async fn seen_behind(isolation: Isolation, below: &str, file: &str) -> (Vec<u8>, String, bool) {
    let live = site(isolation, |_| {}).await;
    let client = live.ours().await;
    let reads = Job::new(push_wat(&client, &shows("file")).await).read_volume("ours", "/v");
    let done = run(&client, &reads).await;
    assert_succeeded(&done);
    assert_eq!(done.stdout, b"ours");
    let (volume, target) = (live.dir.path().join("ours"), live.dir.path().join(below));
    fs::rename(&volume, live.dir.path().join("put away")).unwrap();
    symlink(&target, &volume).unwrap();
    let reads = Job::new(push_wat(&client, &shows(file)).await).read_volume("ours", "/v");
    let done = run(&client, &reads).await;
    let end = format!("{:?}", done.view.end.unwrap().outcome);
    let writes = Job::new(push_wat(&client, &leaves("made", "x", 0)).await).write_volume("ours", "/v");
    run(&client, &writes).await;
    let made = target.join("made").exists();
    live.stop().await;
    (done.stdout, end, made)
}

/// A guest whose sandbox is broken reads neither the host's keys nor another tenant's files, and writes to neither.
// The in-process half is the red one: there the guest reads and writes all of it.
#[tokio::test(flavor = "multi_thread")]
async fn a_guest_whose_sandbox_is_broken_is_in_its_own_tenants_cell() {
    let _alone = super::ALONE.lock().await;
    bounded(Box::pin(async {
        if !has_landlock() {
            println!("NOT TESTED: this kernel has no Landlock");
            return;
        }
        for (below, file) in [("theirs", "file"), ("data/keys", "host.key"), ("data/audit", "checkpoint")] {
            let (stdout, end, made) = seen_behind(Isolation::InProcess, below, file).await;
            assert!(!stdout.is_empty() && made, "in-process, {below}: {end} {made}");
            let (stdout, end, made) = seen_behind(Isolation::Process, below, file).await;
            assert!(stdout.is_empty() && !made, "in a worker, {below}: {end} {made}");
            // The sandbox has opened the directory, and the guest asked for the file: EACCES is the kernel's word.
            assert_eq!(end, format!("{:?}", Outcome::Exited { code: 2 }), "{below}");
        }
    }))
    .await;
}

/// From outside: no privileges, no environment, no file of the host's, filtered system calls.
#[tokio::test(flavor = "multi_thread")]
async fn a_worker_has_nothing_of_the_hosts() {
    let _alone = super::ALONE.lock().await;
    bounded(Box::pin(async {
        let live = site(Isolation::Process, |_| {}).await;
        let client = live.ours().await;
        let reads = Job::new(push_wat(&client, &shows("file")).await).read_volume("ours", "/v");
        assert_succeeded(&run(&client, &reads).await);
        let worker = *workers().first().unwrap();
        let status = status(worker);
        for (what, value) in [
            ("CapPrm", "0000000000000000"),
            ("CapEff", "0000000000000000"),
            ("NoNewPrivs", "1"),
            ("Seccomp", "2"),
        ] {
            assert_eq!(status[what], value, "{what}");
        }
        let process = Path::new("/proc").join(worker.to_string());
        if let Ok(environment) = fs::read(process.join("environ")) {
            // Not the host's: how its allocator keeps within its bound.
            assert_eq!(String::from_utf8_lossy(&environment), "_RJEM_MALLOC_CONF=retain:false,narenas:2\0");
        }
        // Only root may look, as the worker lets nobody else.
        if let Ok(files) = fs::read_dir(process.join("fd")) {
            let open: Vec<_> =
                files.map(|file| fs::read_link(file.unwrap().path()).unwrap_or_default()).collect();
            assert!(open.len() > 3);
            let ours = |path: &&std::path::PathBuf| path.starts_with(live.dir.path());
            assert_eq!(open.iter().find(ours), None, "{open:?}");
            let limits = fs::read_to_string(process.join("limits")).unwrap();
            let cores = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
            assert_eq!(cores.split_whitespace().nth(4), Some("0"), "{cores}");
        }
        live.stop().await;
    }))
    .await;
}

fn has_landlock() -> bool {
    const ASK_FOR_VERSION: u32 = 1;
    let nothing = std::ptr::null::<u8>();
    // SAFETY: with this flag there is nothing to read at the pointer, and nothing is made.
    unsafe { libc::syscall(libc::SYS_landlock_create_ruleset, nothing, 0_usize, ASK_FOR_VERSION) >= 1 }
}
