//! Plans on the command line: retries and the dead letter, times, unique keys, queues.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod cli_support;

use std::process::Command;

use cli_support::{GATE, Place, exit, print, start, wait_for};

/// The id of the one job in this state.
fn the_one(place: &Place, state: &str) -> String {
    let list = place.run(&["job", "list", "--json", "--state", state]).exits(0).json();
    let jobs = list["jobs"].as_array().unwrap();
    assert_eq!(jobs.len(), 1, "{state}: {list}");
    jobs[0]["job"].as_str().unwrap().to_owned()
}

#[test]
fn a_job_that_never_succeeds_ends_dead_with_its_last_status_and_runs_again() {
    let place = Place::new();
    place.module("exit.wasm", &exit(7));
    let said = place.run(&["run", "-v", "exit.wasm", "--retries", "2", "--retry-pause", "1ms"]).exits(7);
    assert!(
        said.stderr.contains("exited with status 7 in attempt 3; not tried again: it had all its attempts"),
        "{said:?}"
    );
    let dead = the_one(&place, "dead");
    let shown = place.run(&["job", "show", &dead]).exits(0);
    assert!(shown.out().contains("\ndead       it had all its attempts\n"), "{shown:?}");
    let new = place.run(&["job", "retry", &dead]).exits(0).out().trim().to_owned();
    assert_ne!(new, dead);
    let again = wait_for("the new job's end", || {
        let shown = place.run(&["job", "show", "--json", &new]).exits(0).json();
        shown["end"].is_object().then_some(shown)
    });
    assert_eq!((&again["state"], &again["attempt"]), (&"dead".into(), &3.into()));
    assert_eq!(place.run(&["job", "show", "--json", &dead]).exits(0).json()["attempt"], 3);
    // What it does not try again ends as ever.
    place.run(&["run", "exit.wasm", "--retries", "2", "--retry-on", "trapped,exceeded"]).exits(7);
    the_one(&place, "failed");
}

#[test]
fn times_are_kept_and_a_job_that_comes_too_late_expires() {
    let place = Place::new();
    place.module("out.wasm", &print(1, "hello", 5));
    let lines = place.run(&["run", "--json", "out.wasm", "--at", "+300ms"]).exits(0).lines();
    let job = &lines.last().unwrap()["job"];
    let since = |key: &str| job[key].as_u64().unwrap();
    assert!(since("started_at") - since("accepted_at") >= 290, "{job}");
    let said = place.run(&["run", "-v", "out.wasm", "--at", "2020-01-01T00:00:00Z"]).exits(0);
    assert!(said.stderr.contains("the time of --at has passed: the job is ready at once"), "{said:?}");
    place.run(&["queue", "pause", "default"]).exits(0);
    let said = place.run(&["run", "-v", "out.wasm", "--expires", "+200ms"]).exits(124);
    assert!(said.stderr.contains("expired: it still waited when its time was up"), "{said:?}");
    the_one(&place, "expired");
    let said = place.run(&["run", "out.wasm", "--at", "+2h", "--expires", "+1h"]).exits(126);
    assert!(said.stderr.contains("plan.expires: is not later than plan.at"), "{said:?}");
    assert!(place.run(&["run", "out.wasm", "--at", "tomorrow"]).exits(126).stderr.contains("is no time"));
}

#[test]
fn a_unique_key_means_what_if_taken_says() {
    let place = Place::new();
    place.module("gate.wasm", GATE);
    let gate = place.gate("gate");
    let gate_option = format!("{}:/gate", gate.display());
    let host = place.serve();
    let submit = |more: &[&str]| {
        let mut arguments = vec!["submit", "gate.wasm", "--read", &gate_option, "--unique", "report"];
        arguments.extend(more);
        place.run(&arguments)
    };
    let first = submit(&[]).exits(0).out().trim().to_owned();
    assert!(submit(&[]).exits(120).stderr.contains("refused (not-unique)"));
    assert_eq!(
        submit(&["--if-taken", "existing"]).exits(0).out().trim(),
        first,
        "the id that can be waited for"
    );
    let document = submit(&["--if-taken", "existing", "--json"]).exits(0).json();
    assert_eq!(document["existing"], first.as_str());
    assert_ne!(document["job"], first.as_str());

    let mut arguments = vec!["submit", "gate.wasm", "--read", &gate_option, "--unique", "report"];
    arguments.extend(["--if-taken", "existing", "--wait", "-v"]);
    let follower = start(&mut place.command(&arguments));
    wait_for("the third that is merged", || {
        let log = place.run(&["audit", "show"]).exits(0);
        (log.out().matches("merged: job").count() == 3).then_some(())
    });
    std::fs::write(gate.join("go"), "").unwrap();
    let said = follower.finish().exits(0);
    assert!(said.stderr.contains(&format!("job {first} has the unique key and is followed")), "{said:?}");
    assert!(said.stderr.contains(&format!("job {first} exited with status 0")), "{said:?}");
    host.stop();
}

#[test]
fn queues_are_listed_paused_drained_and_resumed() {
    let place = Place::new();
    place.module("out.wasm", &print(1, "hello", 5));
    let host = place.serve();
    assert_eq!(place.run(&["queue", "pause", "default"]).exits(0).out(), "default is paused\n");
    let job = place.run(&["submit", "out.wasm"]).exits(0).out().trim().to_owned();
    let list = place.run(&["queue", "list"]).exits(0);
    let line: Vec<&str> = list.out().lines().nth(1).unwrap().split_whitespace().collect();
    assert_eq!(line[..6], ["default", "paused", "0", "0", "1", "0"]);
    assert_eq!(place.run(&["queue", "drain", "default", "--json"]).exits(0).json()["mode"], "draining");
    let said = place.run(&["submit", "out.wasm"]).exits(120);
    assert!(said.stderr.contains("refused (queue-closed)"), "{said:?}");
    wait_for("what was there to run", || {
        (place.run(&["job", "show", "--json", &job]).exits(0).json()["state"] == "succeeded").then_some(())
    });
    assert_eq!(place.run(&["queue", "resume", "default"]).exits(0).out(), "default is open\n");
    place.run(&["submit", "out.wasm", "--wait"]).exits(0);
    assert!(place.run(&["queue", "pause", "nights"]).exits(120).stderr.contains("refused (unknown-queue)"));
    host.stop();
}

/// Says that it has come to 42 %, leaves a result with a control character in it, and runs on.
const TELLS_AND_SPINS: &str = r#"(module
    (import "strongroom:job/report@0.1.0" "progress" (func $progress (param i32 i32 i32)))
    (import "strongroom:job/report@0.1.0" "set-result" (func $set_result (param i32 i32) (result i32)))
    (memory (export "memory") 1)
    (data (i32.const 0) "half\1b[2Jway")
    (func (export "_start")
        (if (call $set_result (i32.const 0) (i32.const 11)) (then unreachable))
        (call $progress (i32.const 42) (i32.const 0) (i32.const 4))
        (loop $for_ever (br $for_ever))))"#;

#[test]
fn what_a_job_gave_as_its_result_is_printed_as_it_is() {
    let place = Place::new();
    place.module("tells.wasm", TELLS_AND_SPINS);
    let lines = place.run(&["run", "--json", "tells.wasm", "--timeout", "200ms"]).exits(124).lines();
    let job = lines[0]["job"].as_str().unwrap();
    assert_eq!(place.run(&["job", "result", job]).exits(0).stdout, b"half\x1b[2Jway");
    let document = place.run(&["job", "result", "--json", job]).exits(0).json();
    assert_eq!(document["result"], "aGFsZhtbMkp3YXk=");

    place.module("out.wasm", &print(1, "hello", 5));
    let job =
        place.run(&["run", "--json", "out.wasm"]).exits(0).lines()[0]["job"].as_str().unwrap().to_owned();
    let said = place.run(&["job", "result", &job]).exits(0);
    assert_eq!((said.out(), said.stderr.as_str()), ("", ""), "it gave none");
    let document = place.run(&["job", "result", "--json", &job]).exits(0).json();
    assert_eq!(document, serde_json::json!({ "job": job, "result": null }));
}

/// What a terminal shows of a command.
fn on_a_terminal(place: &Place, arguments: &str) -> String {
    let inner = format!("{} run --dir data {arguments}", env!("CARGO_BIN_EXE_strongroom"));
    let mut script = Command::new("script");
    script.args(["-qec", &inner, "/dev/null"]).current_dir(place.path()).env("TERM", "xterm");
    match script.output() {
        Ok(output) => String::from_utf8_lossy(&output.stdout).into_owned(),
        Err(error) => panic!("this test makes a terminal with `script` of util-linux: {error}"),
    }
}

// Red without `look`: nothing would be told of a job that waits, or of how far it is.
#[test]
fn a_terminal_shows_what_a_job_waits_for_and_how_far_it_is_and_a_pipe_nothing() {
    let place = Place::new();
    place.module("out.wasm", &print(1, "hello\\n", 6));
    place.module("tells.wasm", TELLS_AND_SPINS);
    place.run(&["init"]).exits(0);
    let shown = on_a_terminal(&place, "out.wasm --at +1500ms");
    assert!(shown.contains("scheduled at 20"), "{shown:?}");
    assert!(shown.contains("hello\r\n"), "{shown:?}");
    let shown = on_a_terminal(&place, "tells.wasm --timeout 2s");
    assert!(shown.contains("running 42 % half") && shown.contains('█'), "{shown:?}");
    let said = place.run(&["run", "out.wasm", "--at", "+600ms"]).exits(0);
    assert_eq!((said.out(), said.stderr.as_str()), ("hello\n", ""));
    assert_eq!(place.run(&["run", "tells.wasm", "--timeout", "600ms"]).exits(124).stderr, "");
}

#[test]
fn a_series_is_nothing_to_wait_for() {
    let place = Place::new();
    place.module("out.wasm", &print(1, "hello", 5));
    let cron = ["--cron", "0 3 * * *", "--until", "+1d"];
    let said = place.run(&[&["run", "out.wasm"], &cron[..]].concat()).exits(126);
    assert!(said.stderr.contains("unexpected argument '--cron'"), "{said:?}");
    let said = place.run(&[&["submit", "out.wasm", "--wait"], &cron[..]].concat()).exits(126);
    assert!(said.stderr.contains("cannot be used with"), "{said:?}");
}
