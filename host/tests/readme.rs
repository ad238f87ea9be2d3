//! Every command that the README, the tutorial and the how-tos show to a reader's shell is run, in their order.
//!
//! Three things are replaced: `cargo run --release --` by the binary under test, `cargo build` and `cargo test` by nothing
//! (they are how this test came to run), and each port by a free one, because tests run beside each other.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod cli_support;

use std::collections::BTreeMap;
use std::net::UdpSocket;
use std::path::{Path, PathBuf};
use std::process::Command;

use cli_support::{Said, start};

const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");

/// What a reader's shell has, before the first command of a document.
const SHELL: &str = r#"
set -euo pipefail
trap 'kill $(jobs -p) 2>/dev/null || true; wait' EXIT
# A host in the background must be the job itself, or `kill` would reach only the shell around it.
# One that root starts has to be told that it may be root.
strongroom() {
    if [ "$1" = serve ] && [ "$(id -u)" = 0 ]; then set -- "$@" --as-root; fi
    if [ "$1" = serve ] || [ "$1" = witness ]; then exec "$STRONGROOM" "$@"; fi
    "$STRONGROOM" "$@"
}
cargo() {
    case "$*" in
        "run --release -- "*) shift 3; strongroom "$@" ;;
        "run -p strongroom-examples --bin "*) program=$5; shift 6; "$PROGRAMS/$program" "$@" ;;
        "test --workspace" | "build --release") ;;
        *) echo "a command that this test does not know: cargo $*" >&2; exit 97 ;;
    esac
}
# A reader takes longer to type the next command than a host to start.
await_port() { for _ in $(seq 1000); do (exec 3<>"/dev/tcp/${1/://}") 2>/dev/null && return; sleep 0.02; done; echo "nobody at $1" >&2; exit 98; }
await_host() { for _ in $(seq 1000); do [ -e "$1/live.json" ] && return; sleep 0.02; done; echo "no host in $1" >&2; exit 98; }
"#;

#[test]
fn the_readme_does_what_it_says() {
    let said = run("README.md").exits(0);
    let first: Vec<&str> = said.out().lines().next().unwrap().split_whitespace().collect();
    assert_eq!(first, wc("docs"), "the main job counts as wc does");
    assert_eq!(said.out().matches("the log is good").count(), 2, "{}", said.out());
    assert!(said.stderr.contains("exited with status 0"), "the program of the README: {}", said.stderr);
}

#[test]
fn the_tutorial_does_what_it_says() {
    let said = run("docs/tutorial/first-hour.md").exits(0);
    assert_eq!(statuses(&said), ["1", "121", "121", "120", "1"], "{said:?}");
    assert_eq!(said.out().matches("the log is good").count(), 2, "{}", said.out());
}

#[test]
fn letting_somebody_submit_works_as_described() {
    let said = run("docs/how-to/let-somebody-submit.md").exits(0);
    assert_eq!(statuses(&said), ["120", "120", "120", "125"], "{said:?}");
}

#[test]
fn receipts_work_as_described() {
    let said = run("docs/how-to/receipts.md").exits(0);
    assert_eq!(statuses(&said), ["1"], "{said:?}");
    assert!(
        said.out().contains("the receipt is good") && said.out().contains("the replay agrees"),
        "{said:?}"
    );
    assert!(said.stderr.contains("not written as a host writes it"), "{said:?}");
}

#[test]
fn watching_a_host_works_as_described() {
    let said = run("docs/how-to/watch-a-host.md").exits(0);
    assert_eq!(statuses(&said), [""; 0], "{said:?}");
    for told in [
        "  admitted  ",
        r#""type":"finished""#,
        "SINCE START",
        r#""ready":true"#,
        "\ninfo,strongroom::dispatch=debug",
    ] {
        assert!(said.out().contains(told), "{told}: {said:?}");
    }
}

#[test]
fn the_other_how_tos_work_as_described() {
    let said = run("docs/how-to/learn-what-a-module-needs.md").exits(0);
    assert_eq!(statuses(&said), ["1"], "{said:?}");
    for shown in [
        "# denied: read /docs (--read ./docs:/docs)",
        "# not used: --write docs:/docs (it only read)",
        "strongroom run examples/prebuilt/wordcount.wasm --read docs:/docs --deterministic -- /docs",
    ] {
        assert!(said.out().lines().any(|line| line == shown), "{shown}: {said:?}");
    }
    let said = run("docs/how-to/retry-and-dead-letters.md").exits(0);
    assert_eq!(statuses(&said), ["1"], "{said:?}");
    assert!(said.out().lines().any(|line| line == "dead       it had all its attempts"), "{said:?}");
    for told in ["scheduled after ", "dead after 4 attempts"] {
        assert!(said.out().contains(told), "{told}: {said:?}");
    }
    let said = run("docs/how-to/workflows.md").exits(0);
    let row = |name: &str| said.out().lines().find(|line| line.starts_with(name)).unwrap().to_owned();
    assert!(row("histogram").contains("exited with status 0"), "{said:?}");
    assert!(row("alarm").contains("cancelled"), "{said:?}");
    assert!(said.stderr.contains("README.md: exited with status 0"), "{said:?}");
    assert!(said.stderr.contains("all of them: exited with status 0"), "{said:?}");
    let said = run("docs/how-to/queues-and-fairness.md").exits(0);
    assert_eq!(statuses(&said), ["120", "120", "120"], "{said:?}");
    assert!(said.out().contains("\nreports  paused  0              0          1      0"), "{said:?}");
    let said = run("docs/how-to/write-a-task.md").exits(0);
    for told in
        [r#"{"up_to":1000000,"primes":78498,"largest":999983}"#, r#"{"up_to":2000000,"primes":148933,"#]
    {
        assert!(said.out().contains(told), "{told}: {said:?}");
    }
    let said = run("docs/how-to/run-every-night.md").exits(0);
    for (state, count) in [("scheduled", 2), ("cancelled", 1)] {
        assert!(said.out().matches(state).count() >= count, "{state}: {said:?}");
    }
    assert!(said.out().contains(": due in "), "{said:?}");
    let said = run("docs/how-to/witness.md").exits(0);
    assert!(
        said.out().contains("cosigned all ") && said.out().contains("strongroom.invalid/witness/"),
        "{said:?}"
    );
    let said = run("docs/how-to/operators-and-the-trust-file.md").exits(0);
    assert_eq!(statuses(&said), ["1", "1", "1"], "{said:?}");
    assert_eq!(said.out().matches("trust file: version").count(), 2, "{said:?}");
    let said = run("docs/how-to/a-stolen-key.md").exits(0);
    assert_eq!(statuses(&said), ["120"], "{said:?}");
    for told in ["cancel requested: job ", "it locks nobody out", "the log is good", "cancelled"] {
        assert!(said.out().contains(told), "{told}: {said:?}");
    }
    let said = run("docs/how-to/delegate.md").exits(0);
    assert_eq!(statuses(&said), ["120", "120", "120", "120"], "{said:?}");
    for told in
        ["allowed: a job of build under", "grants ended, revoked by ", "the log is good", "ended: grant "]
    {
        assert!(said.out().contains(told), "{told}: {said:?}");
    }
    let said = run("docs/how-to/change-principals.md").exits(0);
    assert_eq!(statuses(&said), ["120"; 2], "Ann's key, twice: {said:?}");
    for told in
        [" build ", "principals: revoked ", "build of tenant web: view, submit", "allowed: a job of build"]
    {
        assert!(said.out().contains(told), "{told}: {said:?}");
    }
    let said = run("docs/how-to/forward-the-log.md").exits(0);
    assert!(said.out().contains(r#"{"index":0,"record":{"v":1,"#), "{said:?}");
    assert!(said.out().contains(", 0 behind"), "{said:?}");
    let said = run("docs/how-to/after-a-damaged-disk.md").exits(0);
    assert_eq!(statuses(&said), ["1"], "{said:?}");
    assert_eq!(
        said.out().matches("everything is as it must be").count(),
        3,
        "twice, and once that not: {said:?}"
    );
    assert!(said.out().contains("state rebuilt, since it was lost"), "{said:?}");
    let said = run("docs/how-to/erase-a-value.md").exits(0);
    assert_eq!(statuses(&said), ["120"], "{said:?}");
    for told in [
        ": erased, record ",
        "erased: what was private of 1 jobs",
        "everything is as it must be",
        "the receipt is good",
    ] {
        assert!(said.out().contains(told), "{told}: {said:?}");
    }
    let said = run("docs/how-to/rotate-keys.md").exits(0);
    assert_eq!(statuses(&said), ["1"], "{said:?}");
    for told in ["the host key was replaced", "the log key was replaced", "which came after the pinned"] {
        assert!(said.out().contains(told), "{told}: {said:?}");
    }
    assert_eq!(said.out().matches("the receipt is good").count(), 2, "{said:?}");
    assert_eq!(said.out().matches(" key rotated: from ").count(), 2, "{said:?}");
    let said = run("docs/how-to/back-up-and-restore.md").exits(0);
    assert_eq!(statuses(&said), ["1"], "{said:?}");
    assert!(said.out().contains("everything is as it must be"), "{said:?}");
    let roots: Vec<_> =
        said.out().lines().filter_map(|line| line.strip_prefix("root ")?.split_whitespace().last()).collect();
    assert_eq!(roots.len(), 4, "two backups, a restore, the restored log: {said:?}");
    assert!(roots[1] == roots[2] && roots[2] == roots[3], "{roots:?}");
    let said = run("docs/how-to/monitor.md").exits(0);
    assert!(said.out().contains("telemetry.metrics_every_ms = 15000"), "{said:?}");
    let others = ["check-the-log", "run-a-service"];
    for name in others {
        let said = run(&format!("docs/how-to/{name}.md")).exits(0);
        assert_eq!(statuses(&said), [""; 0], "{said:?}");
    }
    // A how-to that nobody runs is one that nobody knows to be true.
    let mut found: Vec<String> = std::fs::read_dir(Path::new(ROOT).join("docs/how-to"))
        .unwrap()
        .map(|entry| entry.unwrap().path().file_stem().unwrap().to_str().unwrap().to_owned())
        .collect();
    found.sort();
    let run = [
        "a-stolen-key",
        "after-a-damaged-disk",
        "back-up-and-restore",
        "change-principals",
        "check-the-log",
        "delegate",
        "erase-a-value",
        "forward-the-log",
        "learn-what-a-module-needs",
        "let-somebody-submit",
        "monitor",
        "operators-and-the-trust-file",
        "queues-and-fairness",
        "receipts",
        "retry-and-dead-letters",
        "rotate-keys",
        "run-a-service",
        "run-every-night",
        "watch-a-host",
        "witness",
        "workflows",
        "write-a-task",
    ];
    assert_eq!(found, run);
}

/// What `echo "exit status $?"` said, in order.
fn statuses(said: &Said) -> Vec<&str> {
    said.out().lines().filter_map(|line| line.strip_prefix("exit status ")).collect()
}

fn run(document: &str) -> Said {
    let text = std::fs::read_to_string(Path::new(ROOT).join(document)).unwrap();
    let home = tempfile::tempdir().unwrap();
    let ports = free_ports(&text);
    let mut script = String::from(SHELL);
    for command in
        text.split("```sh\n").skip(1).filter_map(|rest| rest.split("```").next()).flat_map(str::lines)
    {
        let mut command = command.to_owned();
        for (shown, free) in &ports {
            command = command.replace(shown, free);
        }
        script.push_str(&command);
        script.push('\n');
        if let Some(dir) = command.strip_prefix("strongroom init --dir ") {
            // The configuration that `init` writes names the default port.
            let mut edit =
                format!("sed -i 's/{DEFAULT}/{}/' {dir}/strongroom.toml {dir}/known_hosts\n", ports[DEFAULT]);
            edit.retain(|char| char != '"');
            script.push_str(&edit);
        }
        if command.starts_with("strongroom serve") && command.ends_with('&') {
            let dir = command.split("--dir ").nth(1).unwrap().split(' ').next().unwrap();
            script.push_str(&format!("await_host {dir}\n"));
        }
        if command.starts_with("strongroom witness") && command.ends_with('&') {
            let address = command.split("--listen ").nth(1).unwrap().split(' ').next().unwrap();
            script.push_str(&format!("await_port {address}\n"));
        }
    }
    assert!(script.len() > SHELL.len(), "{document} shows no command");
    let mut bash = Command::new("bash");
    bash.args(["-c", &script]).current_dir(ROOT).env("HOME", home.path()).env_remove("XDG_DATA_HOME");
    bash.env("STRONGROOM", env!("CARGO_BIN_EXE_strongroom")).env("PROGRAMS", programs());
    start(&mut bash).finish()
}

/// The address that a host listens at unless it is told otherwise.
const DEFAULT: &str = "127.0.0.1:7433";

/// A free address for each one that the document shows, and for the default.
fn free_ports(text: &str) -> BTreeMap<String, String> {
    let digits = |rest: &str| rest.chars().take_while(char::is_ascii_digit).collect::<String>();
    let shown = text.split("127.0.0.1:").skip(1).map(|rest| format!("127.0.0.1:{}", digits(rest)));
    let mut sockets = Vec::new();
    let mut ports = BTreeMap::new();
    for address in shown.chain([DEFAULT.to_owned()]) {
        ports.entry(address).or_insert_with(|| {
            let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
            let free = socket.local_addr().unwrap().to_string();
            // Kept until all are chosen, so that no two are the same.
            sockets.push(socket);
            free
        });
    }
    ports
}

/// Where the programs that the documents show are. `cargo test --workspace` has built them beside the binary; a test of this package
/// alone builds them now, as the documents do.
fn programs() -> PathBuf {
    static BUILT: std::sync::Once = std::sync::Once::new();
    let dir = Path::new(env!("CARGO_BIN_EXE_strongroom")).parent().unwrap();
    BUILT.call_once(|| {
        if ["submit", "retry", "dag", "progress"].iter().any(|program| !dir.join(program).exists()) {
            let mut build = Command::new(env!("CARGO"));
            build.args(["build", "-p", "strongroom-examples", "--bins"]).current_dir(ROOT);
            assert!(build.status().unwrap().success());
        }
    });
    dir.to_owned()
}

fn wc(dir: &str) -> Vec<String> {
    let mut count = Command::new("sh");
    count.args(["-c", &format!("find {dir} -type f -exec cat {{}} + | wc")]).env("LC_ALL", "C.UTF-8");
    let output = count.current_dir(ROOT).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    text.split_whitespace().map(ToOwned::to_owned).collect()
}
