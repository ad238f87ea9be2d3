//! The dashboard and the alerts of `docs/monitoring` ask for what there is: each name is on the page of a running host, Prometheus takes
//! each query, and each alert says what it should and nothing without a reason.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::cli_support::{Place, exit};
use crate::prometheus::{Server, installed};
use crate::support::{Host, configure, get, get_tcp, socket};

const RULES: &str = include_str!("../../../docs/monitoring/alerts.yml");
const DASHBOARD: &str = include_str!("../../../docs/monitoring/grafana.json");

fn monitoring() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/monitoring")
}

/// Title and text of each query of the dashboard; every panel but a heading has one.
fn queries() -> Vec<(String, String)> {
    let dashboard: Value = serde_json::from_str(DASHBOARD).unwrap();
    let mut found = Vec::new();
    for panel in dashboard["panels"].as_array().unwrap() {
        let title = panel["title"].as_str().unwrap();
        if panel["type"] == "row" {
            continue;
        }
        let targets = panel["targets"].as_array().unwrap();
        assert!(!targets.is_empty() && panel["description"].is_string(), "{title}");
        found.extend(
            targets.iter().map(|target| (title.to_owned(), target["expr"].as_str().unwrap().to_owned())),
        );
    }
    assert!(found.len() > 30, "{}", found.len());
    found
}

/// Name and expression of each alert.
fn alerts() -> Vec<(String, String)> {
    let names = RULES.lines().filter_map(|line| line.trim().strip_prefix("- alert: "));
    let rules = RULES.lines().filter_map(|line| line.trim().strip_prefix("expr: "));
    let found: Vec<_> = names.map(ToOwned::to_owned).zip(rules.map(ToOwned::to_owned)).collect();
    assert!(found.len() > 15 && RULES.matches("expr:").count() == found.len());
    found
}

/// Metrics that a query names.
fn named(query: &str) -> BTreeSet<&str> {
    let words = query.split(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_');
    words.filter(|word| word.starts_with("strongroom_") || word.starts_with("process_")).collect()
}

/// What a scrape of that page can be asked for.
fn series(page: &str) -> BTreeSet<String> {
    let types = page.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' '));
    let series = |(name, kind): (&str, &str)| match kind {
        "histogram" => ["_bucket", "_sum", "_count"].map(|suffix| format!("{name}{suffix}")).to_vec(),
        _ => vec![name.to_owned()],
    };
    types.flat_map(series).collect()
}

// Red with a letter of a name changed.
#[test]
fn every_query_asks_for_what_a_host_tells() {
    let place = Place::new();
    let host = Host::serve(&place);
    let there = series(&get(&socket(&place), "/metrics").body);
    host.stop();
    let mut asked = BTreeSet::new();
    for (what, query) in queries().into_iter().chain(alerts()) {
        let names = named(&query);
        assert!(!names.is_empty() || query == r#"up{job="strongroom"} == 0"#, "{what}: {query}");
        for name in names {
            assert!(there.contains(name), "{what}: no host tells {name}");
            asked.insert(name.to_owned());
        }
    }
    // What the dashboard leaves out, it leaves out by decision.
    let left: Vec<_> = there
        .iter()
        .filter(|name| !asked.contains(*name) && !name.ends_with("_sum") && !name.ends_with("_count"))
        .collect();
    assert_eq!(left, ["strongroom_commit_transitions_bucket"]);
}

// Red with an alert taken out of the page.
#[test]
fn each_alert_is_explained_with_what_to_do() {
    let page = include_str!("../../../docs/how-to/monitor.md");
    let explained: BTreeSet<_> = page
        .lines()
        .filter_map(|line| line.strip_prefix("| `Strongroom")?.split_once('`'))
        .map(|(name, rest)| {
            assert!(
                rest.split('|').filter(|cell| cell.trim().len() > 20).count() >= 2,
                "Strongroom{name}: too little is said"
            );
            format!("Strongroom{name}")
        })
        .collect();
    let there: BTreeSet<_> = alerts().into_iter().map(|(name, _)| name).collect();
    assert_eq!(explained, there);
}

/// Each alert has a case in which it is silent and one in which it speaks (`docs/monitoring/alerts.test.yml`).
// Red with a threshold changed.
#[test]
fn the_checker_of_prometheus_tries_each_alert() {
    let Some(program) = installed("promtool") else { return };
    let cases = include_str!("../../../docs/monitoring/alerts.test.yml");
    for (name, _) in alerts() {
        let tried = |line: &&str| line.contains(&format!("alertname: {name}"));
        assert!(cases.lines().filter(tried).count() == 2, "{name} must be tried twice");
    }
    for arguments in [["check", "rules", "alerts.yml"], ["test", "rules", "alerts.test.yml"]] {
        let said = Command::new(&program).args(arguments).current_dir(monitoring()).output().unwrap();
        assert!(said.status.success(), "{arguments:?}: {said:?}");
    }
}

// Red with a letter of a name changed: nothing is found.
#[test]
fn a_real_prometheus_answers_every_query_of_the_dashboard() {
    let Some(program) = installed("prometheus") else { return };
    let place = Place::new();
    let table = "[admin]\nlisten = \"127.0.0.1:0\"\nallow_from = [\"127.0.0.1\"]\n[tenants.default]\nmax_queued = 10\n\
                 max_stored_bytes = 1073741824\nmax_modules = 10\ncpu_seconds_per_day = 100\n\
                 [check]\nevery_ms = 1000\n[queue_rules.later]\nmax_running = 1\n[[forward]]\nname = \"copy\"\nto = \"file://FILE\"";
    let file = place.path().join("copy.jsonl");
    configure(&place, "", "");
    let config = place.data().join("strongroom.toml");
    let text = std::fs::read_to_string(&config).unwrap().replacen("\n[check]\n", "\n", 1);
    std::fs::write(&config, format!("{text}\n{}", table.replace("FILE", file.to_str().unwrap()))).unwrap();
    let host = Host::serve(&place);
    place.module("good.wasm", &exit(0));
    place.module("loop.wasm", crate::cli_support::LOOP);
    // One job is queued all the time: a scrape need not come while one of those below is not over.
    place.run(&["queue", "pause", "later"]).exits(0);
    place.run(&["submit", "good.wasm", "--queue", "later"]).exits(0);
    // What happened only once was never less: a rate wants to see it grow.
    let work = || {
        place.run(&["run", "good.wasm"]).exits(0);
        place.run(&["run", "loop.wasm", "--timeout", "50ms"]).exits(124);
        place.run(&["run", "good.wasm", "--queue", "nowhere"]).exits(120);
    };
    work();
    let config = format!(
        "global: {{scrape_interval: 1s}}\nscrape_configs:\n- job_name: strongroom\n  static_configs: [{{targets: ['{}']}}]\n",
        host.address("admin")
    );
    let config = place.file("prometheus.yml", config);
    let server = Server::start(&program, &config, &place.path().join("tsdb"));
    let ask = |query: &str| {
        let query = query.replace("$__rate_interval", "1m").replace("$job", ".*").replace("$instance", ".*");
        let encoded: String = query.bytes().map(|byte| format!("%{byte:02X}")).collect();
        let answer = get_tcp(server.address, &format!("/api/v1/query?query={encoded}")).expect("an answer");
        let answer: Value = serde_json::from_str(&answer.body).unwrap();
        assert_eq!(answer["status"], "success", "{query}: {answer}");
        answer["data"]["result"].as_array().unwrap().len()
    };
    // Witnesses, and guests that are denied something, are not here.
    let is_here = |query: &str| !query.contains("cosigned") && !query.contains("denials");
    let mut empty: Vec<_> = queries().into_iter().filter(|(_, query)| is_here(query)).collect();
    // A round takes about a second.
    for _ in 0..60 {
        work();
        empty.retain(|(_, query)| ask(query) == 0);
        if empty.is_empty() {
            break;
        }
    }
    assert!(empty.is_empty(), "nothing for {empty:?}");
    for (_, query) in queries().into_iter().chain(alerts()) {
        ask(&query);
    }
    drop(server);
    host.stop();
}
