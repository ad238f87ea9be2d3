//! `run`, `submit` and `serve` beside each other: one host for a directory at any time, nothing refused, nothing lost.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod cli_support;

use std::fs;
use std::time::Duration;

use cli_support::{CAT, GATE, LOOP, Place, exit, print, start, wait_for};
use serde_json::Value;

fn records(place: &Place) -> Vec<Value> {
    place.run(&["audit", "show", "--json"]).exits(0).lines()
}

fn count(records: &[Value], kind: &str) -> usize {
    records.iter().filter(|entry| entry["record"]["type"] == kind).count()
}

/// The place's jobs in a state.
fn in_state(place: &Place, state: &str) -> Vec<String> {
    let list = place.run(&["job", "list", "--json", "--state", state]).exits(0).json();
    let job = |job: &Value| job["job"].as_str().unwrap().to_owned();
    list["jobs"].as_array().unwrap().iter().map(job).collect()
}

/// Waits until the place has a job in this state.
fn wait_for_job(place: &Place, state: &str) -> String {
    wait_for(state, || in_state(place, state).pop())
}

#[test]
fn a_daemon_takes_jobs_from_a_second_terminal() {
    let place = Place::new();
    place.module("out.wasm", &print(1, "hello", 5));
    let serving = place.serve();
    let said = place.run(&["submit", "--wait", "out.wasm"]).exits(0);
    assert_eq!((said.out(), said.stderr.as_str()), ("hello", ""));
    let pinned =
        ["submit", "--wait", "out.wasm", "--host", &serving.address, "--host-key", &serving.host_key];
    assert_eq!(place.run(&pinned).exits(0).out(), "hello");

    let job = place.run(&["submit", "out.wasm"]).exits(0).out().trim().to_owned();
    assert_eq!(place.run(&["job", "logs", "-f", &job]).exits(0).out(), "hello");
    // A run uses the host that is there.
    assert_eq!(place.run(&["run", "out.wasm"]).exits(0).out(), "hello");
    let said = serving.stop();
    assert_eq!(said.code, 0, "{said:?}");
    assert!(!place.data().join("live.json").exists());
    let records = records(&place);
    assert_eq!((count(&records, "host-started"), count(&records, "finished")), (1, 4));
}

#[test]
fn volumes_are_what_a_daemon_names_and_no_more() {
    let place = Place::new();
    let wordcount = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/prebuilt/wordcount.wasm");
    for volume in ["docs", "other"] {
        fs::create_dir(place.path().join(volume)).unwrap();
    }
    place.file("docs/a.txt", "one two\nthree\n");
    let key = place.run(&["init", "--json"]).json()["client_key"].as_str().unwrap().to_owned();
    let config = format!(
        "log_origin = \"example.com/log\"\n[volumes.docs]\npath = {:?}\n[volumes.other]\npath = {:?}\n\
         [[principals]]\nname = \"alice\"\nkey = \"{key}\"\nvolumes = {{ docs = \"read\" }}\n",
        place.path().join("docs"),
        place.path().join("other"),
    );
    fs::write(place.data().join("strongroom.toml"), config).unwrap();
    let _serving = place.serve();
    let submit = |read: &str| place.run(&["submit", "--wait", wordcount, "--read", read, "--", "/docs"]);
    let counts = submit("docs:/docs").exits(0);
    assert_eq!(counts.out().split_whitespace().take(3).collect::<Vec<_>>(), ["2", "3", "14"]);
    let said = submit("other:/docs").exits(120);
    assert!(said.stderr.contains("not granted: read volume other at /docs"), "{said:?}");
    // Not the host's own user any more, so no directory by its path.
    let said = submit("./docs:/docs").exits(120);
    assert!(said.stderr.contains("not granted: read directory"), "{said:?}");
}

/// Done when 8: runs that start together share whichever of them became the host.
// Red without the loop in `look`: with a single look, some find the directory held and nobody listening.
#[test]
fn runs_that_start_together_share_one_host_at_a_time() {
    let place = Place::new();
    place.module("cat.wasm", CAT);
    let running: Vec<_> = (0..8)
        .map(|number| {
            let input = place.file(&format!("{number}.txt"), format!("run {number}"));
            start(&mut place.command(&["run", "cat.wasm", "--input", input.to_str().unwrap()]))
        })
        .collect();
    for (number, one) in running.into_iter().enumerate() {
        assert_eq!(one.finish().exits(0).out(), format!("run {number}"));
    }
    let records = records(&place);
    assert_eq!((count(&records, "admitted"), count(&records, "finished")), (8, 8));
    assert_eq!(count(&records, "refused"), 0);
    assert_eq!(count(&records, "host-started"), count(&records, "host-stopped"), "each host ended in order");
    place.run(&["audit", "verify"]).exits(0);
}

/// The first run is the host of the second, and stays until the second is over.
// Red without waiting for `idle` in `leave`.
#[test]
fn an_embedded_host_finishes_what_others_gave_it() {
    let place = Place::new();
    place.module("gate.wasm", GATE);
    let (one, two) = (place.gate("one"), place.gate("two"));
    let mut first = start(&mut place.command(&["run", "--json", "gate.wasm", "--read", "one:/gate"]));
    wait_for("the first run to listen", || place.data().join("live.json").exists().then_some(()));
    let second = start(&mut place.command(&["run", "--json", "gate.wasm", "--read", "two:/gate"]));
    wait_for("both to run", || (in_state(&place, "running").len() == 2).then_some(()));
    fs::write(one.join("go"), "").unwrap();
    wait_for("the first job's end", || (in_state(&place, "succeeded").len() == 1).then_some(()));
    // Longer than a host that did not wait would take to stop.
    std::thread::sleep(Duration::from_secs(4));
    assert!(first.is_running(), "it is the second run's host");
    fs::write(two.join("go"), "").unwrap();
    assert_eq!(second.finish().exits(0).lines().last().unwrap()["job"]["state"], "succeeded");
    first.finish().exits(0);
    let records = records(&place);
    let kinds: Vec<&str> = records.iter().map(|entry| entry["record"]["type"].as_str().unwrap()).collect();
    let first_stop = kinds.iter().position(|kind| *kind == "host-stopped").unwrap();
    let before = &records[..first_stop];
    assert_eq!(
        (count(before, "host-started"), count(before, "admitted"), count(before, "finished")),
        (1, 2, 2)
    );
    assert_eq!(count(&records, "requeued"), 0);
}

/// A host that dies under a run: the run becomes the host, and the job ends as it was signed.
// Red with the first break taken as final: exit 125 for the idempotent job too.
#[test]
fn a_run_outlives_the_host_that_it_used() {
    for (option, expected, state) in
        [("--idempotent", 0, "succeeded"), ("--deterministic", 125, "interrupted")]
    {
        let place = Place::new();
        place.module("gate.wasm", GATE);
        let gate = place.gate("gate");
        let serving = place.serve();
        let run = ["run", "--json", "gate.wasm", "--read", "gate:/gate", option];
        let run = start(&mut place.command(&run));
        let job = wait_for_job(&place, "running");
        serving.kill();
        fs::write(gate.join("go"), "").unwrap();
        let lines = run.finish().exits(expected).lines();
        let end = &lines.last().unwrap()["job"];
        assert_eq!((&end["job"], &end["state"]), (&job.as_str().into(), &state.into()), "{option}");
        let records = records(&place);
        assert_eq!((count(&records, "admitted"), count(&records, "finished")), (1, 1), "{option}");
        place.run(&["audit", "verify"]).exits(0);
    }
}

// Red without `Run::cancel` when a signal comes: the run then never ends.
#[test]
fn interrupting_a_run_cancels_its_job() {
    for signal in ["INT", "TERM"] {
        let place = Place::new();
        place.module("loop.wasm", LOOP);
        let run = start(&mut place.command(&["run", "loop.wasm"]));
        wait_for("the run to listen", || place.data().join("live.json").exists().then_some(()));
        wait_for_job(&place, "running");
        run.signal(signal);
        run.finish().exits(123);
        let list = place.run(&["job", "list", "--json"]).exits(0).json();
        assert_eq!(list["jobs"][0]["state"], "cancelled");
    }
}

#[test]
fn a_job_is_cancelled_from_another_terminal() {
    let place = Place::new();
    place.module("loop.wasm", LOOP);
    let _serving = place.serve();
    let waiting = start(&mut place.command(&["submit", "--wait", "loop.wasm"]));
    let job = wait_for_job(&place, "running");
    place.run(&["job", "cancel", &job]).exits(0);
    waiting.finish().exits(123);
}

// Red without `Run::cancel` in `stop_for_nobody`.
#[test]
fn a_reader_that_goes_away_stops_the_guest() {
    let place = Place::new();
    // Writes for ever.
    place.module(
        "yes.wasm",
        r#"(module (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
            (memory (export "memory") 1) (data (i32.const 16) "yes\n")
            (func (export "_start")
                (i32.store (i32.const 0) (i32.const 16)) (i32.store (i32.const 4) (i32.const 4))
                (loop $l (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8))) (br $l))))"#,
    );
    let command = format!(
        "{} run --dir data yes.wasm | head -n 1; exit ${{PIPESTATUS[0]}}",
        env!("CARGO_BIN_EXE_strongroom")
    );
    let mut bash = std::process::Command::new("bash");
    bash.args(["-c", &command]).current_dir(place.path());
    let said = start(&mut bash).finish().exits(123);
    assert_eq!(said.out(), "yes\n");
    let list = place.run(&["job", "list", "--json"]).exits(0).json();
    assert_eq!(list["jobs"][0]["state"], "cancelled");
}

#[test]
fn a_reader_that_goes_away_is_no_error_to_tell() {
    let place = Place::new();
    place.module("exit.wasm", &exit(0));
    place.run(&["run", "exit.wasm"]).exits(0);
    let strongroom = env!("CARGO_BIN_EXE_strongroom");
    let mut bash = std::process::Command::new("bash");
    bash.args(["-c", &format!("{strongroom} audit show --dir data | true; exit ${{PIPESTATUS[0]}}")]);
    let said = start(bash.current_dir(place.path())).finish();
    assert!([0, 125].contains(&said.code) && said.stderr.is_empty(), "{said:?}");
}

#[test]
fn a_stopped_daemon_keeps_what_is_queued_and_finishes_what_runs() {
    let place = Place::new();
    place.module("gate.wasm", GATE);
    place.module("exit.wasm", &exit(5));
    let gate = place.gate("gate");
    place.run(&["init"]).exits(0);
    let file = place.data().join("strongroom.toml");
    let text = fs::read_to_string(&file).unwrap();
    fs::write(&file, text.replace("[bounds]", "[bounds]\nmax_running = 1")).unwrap();
    let serving = place.serve();
    place.run(&["submit", "gate.wasm", "--read", "./gate:/gate"]).exits(0);
    place.run(&["submit", "exit.wasm"]).exits(0);
    wait_for_job(&place, "running");
    serving.ask_to_stop();
    wait_for("the drain", || (!place.data().join("live.json").exists()).then_some(()));
    fs::write(gate.join("go"), "").unwrap();
    assert_eq!(serving.finish().code, 0);
    let before = records(&place);
    assert_eq!((count(&before, "started"), count(&before, "finished")), (1, 1));
    // The next host, whoever it is, works off the rest.
    place.run(&["run", "exit.wasm"]).exits(5);
    let after = records(&place);
    assert_eq!((count(&after, "admitted"), count(&after, "finished")), (3, 3));
    assert_eq!((in_state(&place, "succeeded").len(), in_state(&place, "failed").len()), (1, 2));
}

#[test]
fn a_second_signal_stops_a_daemon_at_once() {
    let place = Place::new();
    place.module("loop.wasm", LOOP);
    let mut serve = place.command(&["serve", "--listen", "127.0.0.1:0"]);
    let mut serve = start(&mut serve);
    wait_for("the daemon to listen", || place.data().join("live.json").exists().then_some(()));
    place.run(&["submit", "loop.wasm"]).exits(0);
    wait_for_job(&place, "running");
    serve.signal("TERM");
    wait_for("the drain", || (!place.data().join("live.json").exists()).then_some(()));
    assert!(serve.is_running(), "it waits for the guest, which never ends");
    serve.signal("TERM");
    let said = serve.finish().exits(125);
    assert!(said.stderr.contains("stopped at once"), "{said:?}");
    let list = place.run(&["job", "list", "--json"]).exits(0).json();
    assert_eq!(list["jobs"][0]["state"], "interrupted", "the next start judges it");
}

// Red with `EnvFilter::from_default_env`.
#[test]
fn the_environment_changes_nothing() {
    let place = Place::new();
    place.module("out.wasm", &print(1, "hello", 5));
    let mut command = place.command(&["run", "out.wasm"]);
    command
        .env("RUST_LOG", "trace")
        .env("STRONGROOM_DIR", "/elsewhere")
        .env("STRONGROOM_LISTEN", "0.0.0.0:1");
    let said = start(&mut command).finish().exits(0);
    assert_eq!((said.out(), said.stderr.as_str()), ("hello", ""));
    let mut serve = place.command(&["serve", "--listen", "127.0.0.1:0", "--log", "off"]);
    let serve = start(serve.env("RUST_LOG", "trace"));
    wait_for("the daemon to listen", || place.data().join("live.json").exists().then_some(()));
    serve.signal("TERM");
    assert_eq!(serve.finish().exits(0).stderr, "");
}

#[test]
fn the_log_of_a_daemon_is_json_when_asked() {
    let place = Place::new();
    let serving = place.serve_with(&["--log-format", "json"]);
    let said = serving.stop();
    let first: Value = serde_json::from_str(said.stderr.lines().next().unwrap()).unwrap();
    assert_eq!((&first["level"], &first["message"]), (&"INFO".into(), &"serving".into()));
}

/// What the system calls the limit of open files: soft and hard.
fn open_files(pid: u32) -> (String, String) {
    let limits = fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files")).unwrap();
    let mut words = line.split_whitespace().map(str::to_owned);
    (words.next().unwrap(), words.next().unwrap())
}

// Red without `open_many_files` in `serve`.
#[test]
fn a_host_may_open_as_many_files_as_the_system_allows() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: Some(512), maximum }).unwrap();
    let place = Place::new();
    let serving = place.serve();
    let (soft, hard) = open_files(serving.pid());
    assert_ne!(hard, "512");
    assert_eq!(soft, hard);
    assert_eq!(serving.stop().code, 0);
}

// Red where `serve` takes no notice of how the host ended.
#[test]
fn a_host_that_cannot_publish_its_last_records_does_not_end_well() {
    let place = Place::new();
    place.module("exit.wasm", &exit(0));
    let serving = place.serve();
    // Who waits for a job has its receipt: all there is so far is published, and what is left is the stop itself.
    place.run(&["run", "exit.wasm"]).exits(0);
    let (audit, away) = (place.data().join("audit"), place.path().join("away"));
    fs::rename(&audit, &away).unwrap();
    fs::write(&audit, "no directory").unwrap();
    let said = serving.stop().exits(125);
    assert!(said.stderr.contains("the host had to stop: the audit log cannot be published"), "{said:?}");
    fs::remove_file(&audit).unwrap();
    fs::rename(&away, &audit).unwrap();
    place.run(&["run", "exit.wasm"]).exits(0);
    place.run(&["audit", "verify"]).exits(0);
}
