//! Watching a host from the command line: its events, `top`, its log and how much that says.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod cli_support;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{File, OpenOptions};
use std::process::{Child, Command, Stdio};

use cli_support::{GATE, Place, TRAP, exit, start, wait_for};
use serde_json::Value;

/// A host whose own log is a file. Killed when the test is over.
struct House {
    place: Place,
    host: Child,
}

impl House {
    fn new(more: &[&str], variables: &[(&str, &str)]) -> Self {
        let place = Place::new();
        place.run(&["init"]).exits(0);
        let mut serve = place.command(&[&["serve", "--listen", "127.0.0.1:0"], more].concat());
        // As a shell's `2>>` does.
        let log = OpenOptions::new().create(true).append(true).open(place.path().join("log")).unwrap();
        serve.envs(variables.iter().copied());
        let host = serve.stdout(Stdio::null()).stderr(log).spawn().unwrap();
        let house = Self { place, host };
        house.tells("serving");
        // The socket is opened before that.
        house
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.place.path().join("log")).unwrap()
    }

    fn tells(&self, words: &str) {
        wait_for(words, || self.log().contains(words).then_some(()));
    }

    /// The lines of a log in JSON, as far as they are whole.
    fn lines(&self) -> Vec<Value> {
        let log = self.log();
        let whole = log.rsplit_once('\n').map_or("", |(whole, _)| whole);
        whole.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// Submits a job and waits for its end, whatever that is; gives its id.
    fn runs(&self, module: &str, more: &[&str]) -> String {
        let arguments = [&["submit", module, "--json", "--wait"], more].concat();
        let said = start(&mut self.place.command(&arguments)).finish();
        said.lines()[0]["job"].as_str().unwrap_or_else(|| panic!("{said:?}")).to_owned()
    }
}

impl Drop for House {
    fn drop(&mut self) {
        let _ = self.host.kill();
        let _ = self.host.wait();
    }
}

#[test]
fn events_are_one_document_a_line_and_go_on_where_the_reader_says() {
    let house = House::new(&[], &[]);
    let place = &house.place;
    place.module("good.wasm", &exit(0));
    place.module("trap.wasm", TRAP);
    let (good, bad) = (house.runs("good.wasm", &[]), house.runs("trap.wasm", &[]));
    let all = place.run(&["events", "--json", "--all"]).exits(0).lines();
    let indices: Vec<u64> = all.iter().map(|line| line["index"].as_u64().unwrap()).collect();
    assert_eq!(indices, (0..all.len() as u64).collect::<Vec<_>>());
    assert_eq!(all[0]["record"]["type"], "host-started");
    let ends = place.run(&["events", "--json", "--kind", "finished"]).exits(0).lines();
    let ended: Vec<_> = ends.iter().map(|line| line["record"]["job"].as_str().unwrap()).collect();
    assert_eq!(ended, [&good, &bad]);
    assert_eq!(ends[0]["tenant"], "default");
    let since = ends[0]["index"].as_u64().unwrap() + 1;
    let rest = place.run(&["events", "--json", "--since", &since.to_string(), "--job", &bad]).exits(0);
    let kinds: Vec<_> = rest.lines().iter().map(|line| line["record"]["type"].clone()).collect();
    assert_eq!(kinds, ["admitted", "started", "finished"]);
    let words = place.run(&["events", "--job", &bad]).exits(0);
    assert_eq!(words.out().lines().count(), 3, "{words:?}");
    assert!(words.out().contains("finished") && words.out().contains(&bad), "{words:?}");

    place.run(&["events", "--kind", "finnished"]).exits(126);
    let future = place.run(&["events", "--since", "100000"]).exits(120);
    assert!(future.stderr.contains("there is nothing to go on with at 100000"), "{future:?}");
    let unknown = place.run(&["events", "--job", &"0".repeat(32)]).exits(120);
    assert!(unknown.stderr.contains("unknown-job"), "{unknown:?}");
}

// Red where `with_client` takes the signal first: the exit status is then 123.
#[test]
fn a_followed_event_is_printed_when_it_happens_and_an_interrupt_ends_it_well() {
    let house = House::new(&[], &[]);
    let place = &house.place;
    place.module("good.wasm", &exit(0));
    let heard = place.path().join("heard");
    let mut follow = place.command(&["events", "-f", "--since", "0", "--json", "--kind", "finished"]);
    let mut following = follow.stdout(File::create(&heard).unwrap()).spawn().unwrap();
    let job = house.runs("good.wasm", &[]);
    wait_for("the event", || std::fs::read_to_string(&heard).unwrap().contains(&job).then_some(()));
    Command::new("kill").args(["-s", "INT", &following.id().to_string()]).status().unwrap();
    assert!(following.wait().unwrap().success());
}

#[test]
fn a_frame_of_top_says_what_the_host_does() {
    let house = House::new(&[], &[]);
    let place = &house.place;
    place.module("good.wasm", &exit(0));
    place.module("trap.wasm", TRAP);
    place.module("gate.wasm", GATE);
    house.runs("good.wasm", &[]);
    house.runs("trap.wasm", &[]);
    let gate = place.gate("gate");
    let read = format!("{}:/gate", gate.display());
    let submitted = place.run(&["submit", "gate.wasm", "--json", "--read", &read]).exits(0);
    let job = submitted.lines()[0]["job"].as_str().unwrap().to_owned();
    wait_for("the job to run", || {
        (place.run(&["job", "show", &job, "--json"]).exits(0).json()["state"] == "running").then_some(())
    });
    let frame = place.run(&["top", "--json"]).exits(0).json();
    let number = |value: &Value| value.as_f64().unwrap_or_else(|| panic!("{frame}"));
    assert_eq!(frame["ready"], true);
    assert_eq!(number(&frame["running"]), 1.0);
    assert_eq!(number(&frame["outcomes"]["succeeded"]["total"]), 1.0);
    assert_eq!(number(&frame["outcomes"]["trapped"]["total"]), 1.0);
    assert!(frame["outcomes"]["trapped"].get("per_second").is_none(), "{frame}");
    let queue = &frame["queues"][0];
    assert_eq!((queue["queue"].as_str(), number(&queue["running"])), (Some("default"), 1.0));
    for family in ["memory_bytes", "disk_free_bytes", "state_bytes", "log_records", "slots"] {
        assert!(number(&frame[family]) > 0.0, "{family}: {frame}");
    }
    for latency in ["commit", "fsync"] {
        assert!(frame[latency].get("half_within_seconds").is_some(), "{frame}");
    }
    // Without a terminal it is one frame without a single control character.
    let words = place.run(&["top"]).exits(0);
    assert!(words.out().contains("running 1/") && words.out().contains("QUEUE"), "{words:?}");
    assert!(!words.out().chars().any(|char| char.is_control() && char != '\n'), "{words:?}");
    std::fs::write(gate.join("go"), "").unwrap();

    let nobody = Place::new();
    nobody.run(&["init"]).exits(0);
    assert!(nobody.run(&["top", "--once"]).exits(125).stderr.contains("no host serves"));
    nobody.run(&["top", "--every", "0"]).exits(126);
}

// Red without `Screen`'s `drop`. `script` gives a terminal of its own.
#[test]
fn on_a_terminal_top_goes_on_until_it_is_stopped_and_leaves_the_screen_as_it_was() {
    let house = House::new(&[], &[]);
    let place = &house.place;
    let top = place.command(&["top", "--every", "1"]);
    let command: Vec<_> = std::iter::once(top.get_program()).chain(top.get_args()).collect();
    let command: Vec<_> = command.iter().map(|part| part.to_str().unwrap()).collect();
    let shown = place.path().join("shown");
    // The process that `script` starts is the one to stop.
    let inner = format!("stty cols 40 rows 10; echo $$ > pid; exec {}", command.join(" "));
    let mut script = Command::new("script");
    script.args(["-qfec", &inner]).arg(&shown).current_dir(place.path());
    let mut script =
        script.env("SHELL", "/bin/sh").stdin(Stdio::null()).stdout(Stdio::null()).spawn().unwrap();
    let text = || std::fs::read(&shown).map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    wait_for("three frames", || (text().ok()?.matches("\u{1b}[H").count() >= 3).then_some(()));
    let pid = std::fs::read_to_string(place.path().join("pid")).unwrap();
    Command::new("kill").args(["-s", "INT", pid.trim()]).status().unwrap();
    assert!(script.wait().unwrap().success());
    let text = text().unwrap();
    let opened = text.find("\u{1b}[?1049h").unwrap();
    let closed = text.find("\u{1b}[?1049l").unwrap_or_else(|| panic!("{text:?}"));
    let frames: Vec<_> = text[opened..closed].split("\u{1b}[H").skip(1).collect();
    for frame in frames {
        let lines: Vec<_> = frame.split("\r\n").collect();
        assert!(lines.len() <= 10, "{frame:?}");
        for line in lines {
            let line = line.replace("\u{1b}[K", "").replace("\u{1b}[J", "").replace("\u{1b}[?25h", "");
            assert!(line.chars().count() <= 40 && !line.contains('\u{1b}'), "{line:?}");
        }
    }
}

// Red without `is_of` in `run_started` of host/src/dispatch/mod.rs, and where nothing is said inside `finish`.
#[test]
fn every_span_about_a_job_says_which_job_and_whose() {
    let house = House::new(&["--log", "trace", "--log-format", "json"], &[]);
    house.place.module("good.wasm", &exit(0));
    let job = house.runs("good.wasm", &[]);
    let of_job = |lines: &[Value]| {
        let mut spans: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for line in lines {
            let Some(open) = line["spans"].as_array() else { continue };
            for span in open {
                if span["job"] == job.as_str() {
                    let message = line["message"].as_str().unwrap_or_default().to_owned();
                    spans.entry(span["name"].as_str().unwrap().to_owned()).or_default().insert(message);
                }
            }
        }
        spans
    };
    let expected = ["accept", "attempt", "finish", "receipt"];
    wait_for("a line in each span", || {
        let spans = of_job(&house.lines());
        expected.iter().all(|name| spans.contains_key(*name)).then_some(())
    });
    for line in house.lines() {
        for span in line["spans"].as_array().into_iter().flatten() {
            if expected.contains(&span["name"].as_str().unwrap()) {
                assert_eq!(span["job"], job.as_str(), "{line}");
                assert_eq!(span["tenant"], "default", "{line}");
            }
        }
    }
    let spans = of_job(&house.lines());
    assert!(spans["accept"].contains("accepted"), "{spans:?}");
    assert!(spans["attempt"].contains("started"), "{spans:?}");
    assert!(spans["receipt"].contains("a receipt was made"), "{spans:?}");
}

// Red without the look at config.lock in host/src/admin/log_level.rs.
#[test]
fn the_log_says_more_or_less_while_the_host_runs_and_no_variable_decides() {
    let variables = [("RUST_LOG", "trace"), ("STRONGROOM_LOG", "trace")];
    let house = House::new(&["--log-format", "json"], &variables);
    let place = &house.place;
    place.module("good.wasm", &exit(0));
    house.runs("good.wasm", &[]);
    let loud = |house: &House| {
        house.lines().iter().filter(|line| matches!(line["level"].as_str(), Some("DEBUG" | "TRACE"))).count()
    };
    assert_eq!(loud(&house), 0, "{}", house.log());
    assert_eq!(place.run(&["log-level"]).exits(0).out().trim(), "info");

    let set = place.run(&["log-level", "info,strongroom::host=debug", "--json"]).exits(0);
    assert_eq!(set.json()["log_level"], "info,strongroom::host=debug");
    let job = house.runs("good.wasm", &[]);
    wait_for("what was not said before", || {
        let lines = house.lines();
        let line = lines.iter().find(|line| line["message"] == "accepted")?;
        assert_eq!((&line["level"], &line["span"]["job"]), (&"DEBUG".into(), &job.as_str().into()));
        Some(())
    });
    assert!(!house.log().contains("\"started\""), "another part of the host: {}", house.log());
    assert_eq!(place.run(&["log-level"]).exits(0).out().trim(), "info,strongroom::host=debug");
    place.run(&["log-level", "off"]).exits(0);
    let before = house.log();
    house.runs("good.wasm", &[]);
    assert_eq!(house.log(), before);

    for wrong in ["loud", "quinn=trace", "info,rustls=debug", ""] {
        let said = place.run(&["log-level", wrong]).exits(126);
        assert!(said.stderr.contains("is no "), "{said:?}");
    }
    place.file("data/config.lock", "");
    let locked = place.run(&["log-level", "trace"]).exits(1);
    assert!(locked.stderr.contains("config.lock lies there"), "{locked:?}");
    assert_eq!(place.run(&["log-level"]).exits(0).out().trim(), "off");
}

// What docs/how-to/watch-a-host.md says of logrotate's `copytruncate`. Cannot be red by a change of this project alone: it would take a host that
// remembers where it wrote.
#[test]
fn a_log_that_is_cut_goes_on_at_its_new_end() {
    let house = House::new(&["--log-format", "json"], &[]);
    assert!(!house.lines().is_empty());
    File::options().write(true).open(house.place.path().join("log")).unwrap().set_len(0).unwrap();
    house.place.run(&["log-level", "debug"]).exits(0);
    house.tells("the level of this log is set");
    let log = house.log();
    assert!(log.starts_with('{') && !log.contains("serving"), "{log:?}");
}
