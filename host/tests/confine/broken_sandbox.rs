//! A guest whose sandbox is broken, in a host that is confined: the second wall, seen alone.
//!
//! The break is here and nowhere else: no build of the host has it, so none can have it by mistake. The process confines itself for a
//! configuration in which nobody may name a directory, and then serves, to a real client, over QUIC, with another one in which the principal may
//! name any. So the sandbox opens to the guest whatever it asks for, as one would that fails, and what is still closed is closed by the kernel.

use std::fs;

use strongroom::compile::Compiler;
use strongroom::config::Config;
use strongroom::host::{Host, Stop};
use strongroom_job::{JobState, Outcome};
use strongroom_sdk::{Client, ConnectOptions, Job};

use super::cli_support::guests::shows;
use super::live::{push_wat, run};
use super::{Tree, asked, confined, landlock_version, narrow, tell};

#[test]
fn the_host() {
    let Some((at, is_confined)) = asked() else { return };
    let (home, config) = narrow(&at);
    let kept = is_confined.then(|| confined(&home, &config));
    let mut broken = Config { listen: ([127, 0, 0, 1], 0).into(), ..config };
    broken.principals[0].any_directory = true;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let key = home.client_key().unwrap();
        // This binary is no compiler.
        let host = Host::start(home.lock().unwrap(), broken, Compiler::InProcess);
        let host = Box::pin(host).await.unwrap();
        let options = ConnectOptions::new(host.local_addr(), *host.public_key(), key);
        let client = Client::connect(options).await.unwrap();
        let root = |below: &str| at.join(below).to_str().unwrap().trim_start_matches('/').to_owned();
        for (what, directory, file) in [
            ("outside", at.join("outside"), "file".to_owned()),
            ("outside, from the root", "/".into(), root("outside/file")),
            ("users", "/etc".into(), "passwd".into()),
            ("its own memory", "/proc".into(), "self/mem".into()),
            ("volume", at.join("read"), "file".into()),
        ] {
            let module = push_wat(&client, &shows(&file)).await;
            let job = Job::new(module).read_dir(directory.to_str().unwrap(), "/given");
            let done = run(&client, &job).await;
            tell(&format!("{what}, bytes"), done.stdout.len());
            tell(&format!("{what}, text"), String::from_utf8_lossy(&done.stdout).escape_debug());
            let end = done.view.end.unwrap().outcome;
            tell(
                &format!("{what}, end"),
                match &end {
                    Outcome::Exited { code: 0 } => "read".to_owned(),
                    Outcome::Exited { code } => format!("error {code}"),
                    other => format!("{:?} {other:?}", done.view.state == JobState::Succeeded),
                },
            );
        }
        client.close().await;
        Box::pin(host.stop(Stop::Everything(std::time::Duration::from_secs(60)))).await;
    });
    drop(kept);
}

/// A guest whose sandbox is broken cannot read a file outside the host's directories.
// The unconfined half is the red one: there the guest reads all of them.
#[test]
fn a_guest_whose_sandbox_is_broken_reads_nothing_outside_the_hosts_directories() {
    if landlock_version() < 1 {
        println!("NOT TESTED: this kernel has no Landlock");
        return;
    }
    let users = fs::read("/etc/passwd").unwrap().len().min(4096);
    for is_confined in [false, true] {
        let told = Tree::new().run("broken_sandbox::the_host", is_confined);
        told.is("volume, text", "read");
        told.is("volume, end", "read");
        if is_confined {
            for what in ["outside", "outside, from the root", "users", "its own memory"] {
                told.is(&format!("{what}, bytes"), "0");
                // The sandbox has opened the directory, and the guest asked for the file: EACCES is the kernel's word.
                told.is(&format!("{what}, end"), "error 2");
            }
        } else {
            told.is("outside, text", "outside");
            told.is("outside, from the root, text", "outside");
            told.is("users, bytes", &users.to_string());
        }
    }
}
