//! What a scrape holds, and what health says.

use std::collections::BTreeMap;

use crate::cli_support::{GATE, LOOP, Place, exit, start, wait_for};
use crate::support::{Host, ask, get, socket, value};

/// Families of a scrape with their types.
fn families(scrape: &str) -> BTreeMap<String, String> {
    let types = scrape.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' '));
    types.map(|(name, kind)| (name.to_owned(), kind.to_owned())).collect()
}

/// Those of the page: each row of the table that begins with a name.
fn documented() -> BTreeMap<String, String> {
    let page = include_str!("../../../docs/reference/metrics.md");
    let (_, table) = page.split_once("## Every metric").unwrap();
    let rows = table.lines().filter_map(|line| {
        let mut cells = line.strip_prefix("| `")?.split('|').map(str::trim);
        let name = cells.next()?.trim_end_matches('`');
        Some((name.to_owned(), cells.next()?.to_owned()))
    });
    rows.collect()
}

// Red with a family taken out of `metrics::of`.
#[test]
fn the_page_names_every_metric_and_no_other() {
    let place = Place::new();
    let host = Host::serve(&place);
    let scrape = get(&socket(&place), "/metrics");
    assert!(scrape.head.contains("content-type: text/plain; version=0.0.4"), "{}", scrape.head);
    assert_eq!(families(&scrape.body), documented());
    host.stop();
}

#[test]
fn a_scrape_counts_what_happened() {
    let place = Place::new();
    let host = Host::serve(&place);
    place.module("good.wasm", &exit(0));
    place.module("bad.wasm", &exit(3));
    place.module("loop.wasm", LOOP);
    place.run(&["run", "good.wasm"]).exits(0);
    place.run(&["run", "good.wasm"]).exits(0);
    place.run(&["run", "bad.wasm"]).exits(3);
    place.run(&["run", "loop.wasm", "--timeout", "100ms"]).exits(124);
    place.run(&["run", "good.wasm", "--queue", "nowhere"]).exits(120);
    let path = socket(&place);
    // The last of it is published, and its connections are gone.
    let scrape = wait_for("a quiet host", || {
        let scrape = get(&path, "/metrics").body;
        let quiet = value(&scrape, "strongroom_checkpoint_lag_records") == Some(0.0)
            && value(&scrape, "strongroom_connections") == Some(0.0);
        quiet.then_some(scrape)
    });
    let is = |series: &str, expected: f64| assert_eq!(value(&scrape, series), Some(expected), "{series}");
    is(r#"strongroom_attempts_total{outcome="succeeded"}"#, 2.0);
    is(r#"strongroom_attempts_total{outcome="failed"}"#, 1.0);
    is(r#"strongroom_attempts_total{outcome="exceeded"}"#, 1.0);
    is(r#"strongroom_limits_exceeded_total{limit="wall-time"}"#, 1.0);
    is(r#"strongroom_refusals_total{code="unknown-queue"}"#, 1.0);
    is("strongroom_attempts_running", 0.0);
    is("strongroom_checkpoint_lag_seconds", 0.0);
    is("strongroom_ready", 1.0);
    is(r#"strongroom_tenant_modules{tenant="default"}"#, 3.0);
    let at_least = |series: &str, least: f64| {
        let found = value(&scrape, series).unwrap_or_else(|| panic!("{series} in {scrape}"));
        assert!(found >= least, "{series} is {found}");
    };
    // Start, three records for each of four jobs, three modules.
    at_least("strongroom_log_records", 16.0);
    at_least("strongroom_commit_transitions_count", 8.0);
    at_least("strongroom_fsync_seconds_count", 8.0);
    at_least("strongroom_state_bytes", 1.0);
    at_least("strongroom_disk_free_bytes", 1.0);
    at_least("process_resident_memory_bytes", 1e6);
    at_least("process_start_time_seconds", 1.7e9);
    let count = |series| value(&scrape, series).unwrap();
    assert_eq!(count("strongroom_commit_seconds_count"), count("strongroom_fsync_seconds_count"));
    assert!(count("strongroom_commit_seconds_sum") >= count("strongroom_fsync_seconds_sum"));
    assert_eq!(count("strongroom_log_records"), count("strongroom_log_published_records"));
    host.stop();
}

// Red without `stopping` in `Host::stop`.
#[test]
fn a_host_that_stops_is_live_and_not_ready_and_says_why() {
    let place = Place::new();
    let host = Host::serve(&place);
    let path = socket(&place);
    let ready = get(&path, "/health/ready");
    assert_eq!((ready.status, ready.body.as_str()), (200, "ready\n"));
    place.module("gate.wasm", GATE);
    let gate = place.gate("gate");
    let mut running = start(&mut place.command(&["run", "gate.wasm", "--read", "gate:/gate"]));
    let job = r#"strongroom_jobs{queue="default",tenant="default",state="running"}"#;
    wait_for("the job", || (value(&get(&path, "/metrics").body, job) == Some(1.0)).then_some(()));
    host.ask_to_stop();
    let body = wait_for("the stop", || {
        let ready = get(&path, "/health/ready");
        (ready.status == 503).then_some(ready.body)
    });
    assert_eq!(body, "not ready: the host is stopping\n");
    assert_eq!(get(&path, "/health/live").status, 200);
    let status = place.run(&["status", "--json"]).exits(1).json();
    assert_eq!(status["problems"], serde_json::json!(["the host is stopping"]));
    std::fs::write(gate.join("go"), "").unwrap();
    assert!(running.is_running() || running.pid() > 0);
    running.finish();
    host.finish().exits(0);
    assert!(!path.exists(), "the socket goes with its host");
}

#[test]
fn nothing_can_be_changed_here() {
    let place = Place::new();
    let host = Host::serve(&place);
    for method in ["POST", "PUT", "DELETE"] {
        for page in ["/metrics", "/status", "/health/live"] {
            let stream = std::os::unix::net::UnixStream::connect(socket(&place)).unwrap();
            let answer = ask(stream, method, page).unwrap();
            assert_eq!(answer.status, 405, "{method} {page}: {answer:?}");
            assert!(answer.head.contains("allow: get, head"), "{answer:?}");
        }
    }
    assert_eq!(get(&socket(&place), "/strongroom.toml").status, 404);
    host.stop();
}
