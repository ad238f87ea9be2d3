//! `strongroom flow`: a file of jobs that wait for each other, with and without a host that serves.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod cli_support;

use cli_support::{CAT, Place, exit, print};
use serde_json::Value;

const FLOW: &str = r#"
timeout = "1m"

[jobs.sum]
module = "cat.wasm"
after = ["second", "first"]
stdin-from = "outputs"

[jobs.first]
module = "first.wasm"

[jobs.second]
module = "second.wasm"
"#;

fn place() -> Place {
    let place = Place::new();
    place.module("cat.wasm", CAT);
    place.module("first.wasm", &print(1, "one ", 4));
    place.module("second.wasm", &print(1, "two ", 4));
    place.module("bad.wasm", &exit(3));
    place.module("good.wasm", &exit(0));
    place
}

/// Each name's job, from the lines of one type.
fn named<'a>(lines: &'a [Value], kind: &str) -> Vec<(&'a str, &'a Value)> {
    let lines = lines.iter().filter(|line| line["type"] == kind);
    lines.map(|line| (line["name"].as_str().unwrap(), line)).collect()
}

#[test]
fn a_flow_runs_in_its_order_with_no_set_up_and_hands_on_outputs() {
    let place = place();
    place.file("flow.toml", FLOW);
    let lines = place.run(&["flow", "submit", "flow.toml", "--wait", "--json"]).exits(0).lines();
    let accepted: Vec<&str> = named(&lines, "accepted").iter().map(|(name, _)| *name).collect();
    assert_eq!(accepted, ["first", "second", "sum"], "each after those that it waits for");
    let ends = named(&lines, "finished");
    assert!(
        ends.iter().all(|(_, line)| line["exit"] == 0 && line["job"]["state"] == "succeeded"),
        "{lines:?}"
    );
    let sum = ends[2].1["job"]["job"].as_str().unwrap();
    assert_eq!(place.run(&["job", "logs", sum]).exits(0).out(), "two one ");
}

#[test]
fn without_wait_it_prints_the_ids_and_the_jobs_run_all_the_same() {
    let place = place();
    place.file("flow.toml", FLOW);
    let host = place.serve();
    let said = place.run(&["flow", "submit", "flow.toml"]).exits(0);
    let lines: Vec<(&str, &str)> = said.out().lines().map(|line| line.split_once(' ').unwrap()).collect();
    assert_eq!(lines.iter().map(|(_, name)| *name).collect::<Vec<_>>(), ["first", "second", "sum"]);
    let said = place.run(&["job", "logs", "--follow", lines[2].0]).exits(0);
    assert_eq!(said.out(), "two one ");
    host.stop();
}

#[test]
fn the_exit_status_is_that_of_the_first_job_that_went_wrong_by_itself() {
    let place = place();
    let text = r#"
        module = "good.wasm"
        [jobs.bad]
        module = "bad.wasm"
        [jobs.never]
        after = "bad"
        [jobs.alarm]
        after-failure-of = "bad"
        [jobs.clean]
        after-end-of = "bad"
    "#;
    place.file("flow.toml", text);
    let said = place.run(&["flow", "submit", "flow.toml", "--wait"]).exits(3);
    let rows: Vec<Vec<&str>> =
        said.out().lines().skip(1).map(|line| line.split_whitespace().collect()).collect();
    let states: Vec<(&str, &str)> = rows.iter().map(|row| (row[0], row[2])).collect();
    let expected =
        [("bad", "failed"), ("never", "cancelled"), ("alarm", "succeeded"), ("clean", "succeeded")];
    assert_eq!(states, expected);
    // A branch that was not taken is no failure.
    place.file("flow.toml", text.replace("bad.wasm", "good.wasm"));
    place.run(&["flow", "submit", "flow.toml", "--wait"]).exits(0);
}

#[test]
fn a_wrong_file_is_refused_whole_with_line_and_name() {
    let place = place();
    let told = |text: &str, code: i32| {
        place.file("flow.toml", text);
        place.run(&["flow", "submit", "flow.toml"]).exits(code).stderr
    };
    let text = told("[jobs.a]\nmodule = \"good.wasm\"\nretires = 3\n", 126);
    assert_eq!(text, "error: flow.toml:3: unknown key jobs.a.retires: did you mean \"retries\"?\n");
    let text = told("[jobs.a]\nmodule = \"no.wasm\"\n", 126);
    assert!(text.starts_with("error: flow.toml: jobs.a: module no.wasm: No such file"), "{text}");
    let text = told("module = \"good.wasm\"\n[jobs.a]\nafter = \"b\"\n[jobs.b]\nafter = \"a\"\n", 126);
    assert_eq!(text, "error: flow.toml:2: jobs wait for each other in a circle: a waits for b waits for a\n");
    let text = told("module = \"good.wasm\"\n[jobs.a]\n[jobs.b]\nstdin-from = \"outputs\"\n", 126);
    assert!(text.contains("jobs.b: input.outputs: the job waits for no other job"), "{text}");
    let text = told("module = \"good.wasm\"\nqueue = \"nights\"\n[jobs.a]\n", 120);
    assert!(text.contains("refused (unknown-queue)"), "{text}");
    place.run(&["flow", "submit", "no.toml"]).exits(126);
    let list = place.run(&["job", "list", "--json"]).exits(0).json();
    assert_eq!(list["jobs"], serde_json::json!([]), "nothing of a refused flow is there");
}
