//! A worker that lies: whatever it says, the host loses nothing but that tenant's running jobs.
//!
//! The liar is this test binary, started by a script in place of the host's program; the script hands compilations to the real one.

use std::fs;
use std::io::{IoSliceMut, Read as _, Write as _};
use std::mem::MaybeUninit;
use std::os::fd::AsFd as _;
use std::os::unix::net::UnixStream;
use std::process::Command;
use std::time::Duration;

use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use strongroom::compile::Compiler;
use strongroom::config::Isolation;
use strongroom_sdk::Job;

use super::common::live::{push_wat, says};
use super::common::patience::bounded;
use super::{fault, site_with};

/// Lies in the directory of a liar, and says which lie is to be told. Without it, the test that lies does nothing.
const LIE: &str = "the-lie";

/// Everything that a lie may do once the job is there.
fn tell(lie: &str, job: &mut UnixStream) {
    let frame = |kind: u8, body: &[u8]| {
        [&[kind][..], &u32::try_from(body.len()).unwrap().to_le_bytes(), body].concat()
    };
    let ran = |outcome: &str, usage: &str| {
        let ran = format!("{{\"outcome\":{outcome},\"usage\":{{{usage}}},\"denied\":[]}}");
        frame(b'd', ran.as_bytes())
    };
    let usage = r#""wall_us":1,"cpu_us":1,"fuel":null,"peak_memory_bytes":0,"stdin_bytes":0"#;
    let well = r#"{"type":"exited","code":0}"#;
    let bytes = match lie {
        "no kind" => frame(b'?', b"x"),
        "endless" => [&[b'o'][..], &u32::MAX.to_le_bytes()].concat(),
        "noise" => (0..100_000_u32).map(|at| (at.wrapping_mul(2_654_435_761) >> 13) as u8).collect(),
        "output" => frame(b'o', &[7; 60_000]).repeat(2),
        "results" => frame(b'r', b"one").repeat(2),
        "progress" => frame(b'p', b"\x05five").repeat(4_000),
        "no account" => frame(b'd', b"{}"),
        "time" => ran(well, &usage.replacen("\"wall_us\":1", "\"wall_us\":999999999999", 1)),
        "memory" => ran(well, &usage.replace("\"peak_memory_bytes\":0", "\"peak_memory_bytes\":99999999999")),
        "fuel" => ran(well, &usage.replace("null", "5")),
        "cancelled" => ran(r#"{"type":"cancelled"}"#, usage),
        "expired" => ran(r#"{"type":"expired"}"#, usage),
        "honest" => [frame(b'o', b"fine"), ran(well, usage)].concat(),
        "gone" => std::process::exit(7),
        other => panic!("what lie is {other}?"),
    };
    // The host may have had enough before the end.
    let _ = job.write_all(&bytes);
    let _ = job.read(&mut [0; 1]);
}

#[test]
fn the_liar() {
    let Ok(lie) = fs::read_to_string(LIE) else { return };
    let mut control = UnixStream::from(std::io::stdin().as_fd().try_clone_to_owned().unwrap());
    let mut length = [0; 4];
    control.read_exact(&mut length).unwrap();
    let mut hello = vec![0; u32::from_le_bytes(length) as usize];
    control.read_exact(&mut hello).unwrap();
    if lie == "never ready" {
        control.write_all(b"no worker").unwrap();
        return;
    }
    control.write_all(b"R\x02\x02").unwrap();
    loop {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(3))];
        let mut files = RecvAncillaryBuffer::new(&mut space);
        let mut mark = [0];
        let got =
            recvmsg(&control, &mut [IoSliceMut::new(&mut mark)], &mut files, RecvFlags::empty()).unwrap();
        if got.bytes == 0 {
            return;
        }
        let mut files = files.drain().flat_map(|message| match message {
            RecvAncillaryMessage::ScmRights(files) => files.collect::<Vec<_>>(),
            _ => Vec::new(),
        });
        tell(&lie, &mut UnixStream::from(files.next().unwrap()));
    }
}

// Red, each for its own lie, without `checked_sub` for output and for progress, without the guard against a second result, without what
// `Listener::check` looks at, and without the guard against a cancel that nobody asked for.
#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_lies_is_killed_and_nothing_of_it_is_believed() {
    let _alone = super::ALONE.lock().await;
    bounded(Box::pin(async {
        let lies = [
            ("no kind", "a message of no known kind"),
            ("endless", "a message of an impossible length"),
            ("noise", "broke a rule"),
            ("output", "more output than the job may have"),
            ("results", "two results"),
            ("progress", "too much of progress"),
            ("no account", "an account of a run that is none"),
            ("time", "took longer than it can have"),
            ("memory", "more memory than it may"),
            ("fuel", "something else of fuel"),
            ("cancelled", "was cancelled which was not"),
            ("expired", "ended as no run does"),
            ("gone", "ended while it ran the job"),
            ("never ready", "no worker process can be started"),
        ];
        for (lie, reason) in lies {
            let dir = tempfile::tempdir().unwrap();
            let live = site_with(liar(dir.path(), lie), Isolation::Process, |_| {}).await;
            let client = live.ours().await;
            let module = push_wat(&client, &says("x", 0)).await;
            let job = Job::new(module).stdout_limit(100_000).timeout(Duration::from_secs(60));
            let told = fault(&client, client.submit(&job).await.unwrap().job).await;
            assert!(told.contains(reason), "{lie}: {told}");
            // The host is well, and tries another.
            let told = fault(&client, client.submit(&job).await.unwrap().job).await;
            assert!(told.contains(reason), "{lie}: {told}");
            live.stop().await;
        }
        // What is no lie is believed: the liar does speak the host's language.
        let dir = tempfile::tempdir().unwrap();
        let live = site_with(liar(dir.path(), "honest"), Isolation::Process, |_| {}).await;
        let client = live.ours().await;
        let module = push_wat(&client, &says("x", 0)).await;
        let done = super::common::live::run(&client, &Job::new(module)).await;
        assert_eq!(done.stdout, b"fine");
        live.stop().await;
    }))
    .await;
}

/// A program that is the real one, but as a worker.
fn liar(dir: &std::path::Path, lie: &str) -> Compiler {
    let (real, here) = (env!("CARGO_BIN_EXE_strongroom"), std::env::current_exe().unwrap());
    let script = format!(
        "#!/bin/sh\nif [ \"$1\" = {command} ]; then\n  cd '{dir}' && exec '{here}' liar::the_liar --exact --nocapture --test-threads 1\nfi\nexec '{real}' \"$@\"\n",
        command = strongroom::worker::COMMAND,
        here = here.display(),
        dir = dir.display(),
    );
    let (draft, path) = (dir.join("draft"), dir.join("strongroom"));
    fs::write(&draft, script).unwrap();
    fs::write(dir.join(LIE), lie).unwrap();
    // Another process writes it: a child of another test that is just being started would have the open file, too, and it could not be run.
    assert!(Command::new("install").args(["-m", "755"]).arg(&draft).arg(&path).status().unwrap().success());
    Compiler::Child(path)
}
