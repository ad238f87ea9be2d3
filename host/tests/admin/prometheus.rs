//! Other people's code reads the metrics: Prometheus itself, and its own checker.
//!
//! With `STRONGROOM_PROMETHEUS=required` they must be installed; else these tests say that they were skipped.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::cli_support::{Place, exit, wait_for};
use crate::support::{Host, configure, get, get_tcp, socket};

pub(crate) fn installed(program: &str) -> Option<PathBuf> {
    let found = ["/usr/bin", "/usr/local/bin"].map(|dir| Path::new(dir).join(program));
    if let Some(path) = found.into_iter().find(|path| path.exists()) {
        return Some(path);
    }
    #[expect(clippy::disallowed_methods, reason = "what must be tested is said from outside")]
    let required = std::env::var("STRONGROOM_PROMETHEUS").is_ok_and(|word| word == "required");
    assert!(!required, "{program} must be installed");
    println!("NOT TESTED: {program} is not installed");
    None
}

pub(crate) struct Server {
    child: Child,
    pub(crate) address: SocketAddr,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Server {
    pub(crate) fn start(program: &Path, config: &Path, data: &Path) -> Self {
        let mut command = Command::new(program);
        command.arg(format!("--config.file={}", config.display()));
        command.arg(format!("--storage.tsdb.path={}", data.display()));
        command.arg("--web.listen-address=127.0.0.1:0").stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines().map(Result::unwrap);
        let address = lines.find_map(|line| {
            let (_, rest) = line.split_once("msg=\"Listening on\" address=")?;
            rest.split(' ').next()?.parse().ok()
        });
        // What it says later has somewhere to go.
        std::thread::spawn(move || lines.for_each(drop));
        Self { child, address: address.expect("where it listens") }
    }
}

#[test]
fn a_real_prometheus_scrapes_the_host() {
    let Some(program) = installed("prometheus") else { return };
    let place = Place::new();
    configure(&place, "", "[admin]\nlisten = \"127.0.0.1:0\"\nallow_from = [\"127.0.0.1\"]");
    let host = Host::serve(&place);
    place.module("exit.wasm", &exit(0));
    place.run(&["run", "exit.wasm"]).exits(0);
    let config = format!(
        "global: {{scrape_interval: 1s}}\nscrape_configs:\n- job_name: strongroom\n  static_configs: [{{targets: ['{}']}}]\n",
        host.address("admin")
    );
    let config = place.file("prometheus.yml", config);
    let server = Server::start(&program, &config, &place.path().join("tsdb"));
    let ask = |query: &str| {
        let answer = get_tcp(server.address, &format!("/api/v1/query?query={query}"))?;
        let answer: serde_json::Value = serde_json::from_str(&answer.body).ok()?;
        Some(answer["data"]["result"][0]["value"][1].as_str()?.to_owned())
    };
    let scraped = wait_for("a scrape", || ask("strongroom_attempts_total%7Boutcome=%22succeeded%22%7D"));
    assert_eq!(scraped, "1");
    assert_eq!(ask("up").unwrap(), "1");
    assert_eq!(ask("strongroom_fsync_seconds_bucket%7Ble=%22%2BInf%22%7D%3E0").map(|_| ()), Some(()));
    drop(server);
    host.stop();
}

#[test]
fn the_checker_of_prometheus_finds_no_fault() {
    let Some(program) = installed("promtool") else { return };
    let place = Place::new();
    let host = Host::serve(&place);
    place.module("exit.wasm", &exit(0));
    place.run(&["run", "exit.wasm"]).exits(0);
    let scrape = get(&socket(&place), "/metrics").body;
    let mut command = Command::new(program);
    command.args(["check", "metrics"]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut checker = command.spawn().unwrap();
    checker.stdin.take().unwrap().write_all(scrape.as_bytes()).unwrap();
    let said = checker.wait_with_output().unwrap();
    assert!(said.status.success() && said.stderr.is_empty(), "{said:?}");
    host.stop();
}
