//! What a host found when it checked itself is part of its health, and a restart mends nothing.

use std::path::PathBuf;

use crate::cli_support::{Place, exit, wait_for};
use crate::support::{Host, configure, get, socket, value};

/// Sets how often the host checks itself.
fn check_every(place: &Place, millis: u64) {
    let path = place.data().join("strongroom.toml");
    let text = std::fs::read_to_string(&path).unwrap();
    let head = text.split("\n[check]\n").next().unwrap();
    let (_, rest) = text.split_once("\n[check]\n").unwrap();
    let rest: String =
        rest.lines().filter(|line| !line.starts_with("every_ms")).map(|line| format!("{line}\n")).collect();
    std::fs::write(&path, format!("{head}\n[check]\nevery_ms = {millis}\n{rest}")).unwrap();
}

fn flip(file: &PathBuf) {
    let mut bytes = std::fs::read(file).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(file, bytes).unwrap();
}

/// The only file of a module in the data directory.
fn blob(place: &Place) -> PathBuf {
    let mut found = Vec::new();
    let mut left = vec![place.data().join("blobs")];
    while let Some(dir) = left.pop() {
        for entry in std::fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() { left.push(path) } else { found.push(path) }
        }
    }
    assert_eq!(found.len(), 1, "{found:?}");
    found.remove(0)
}

// Red without the row `m/found`, and without `warnings` in the answer.
#[test]
fn damaged_files_are_a_warning_that_a_restart_does_not_take_away() {
    let place = Place::new();
    configure(&place, "", "");
    check_every(&place, 1000);
    let host = Host::serve(&place);
    let path = socket(&place);
    place.module("good.wasm", &exit(0));
    place.run(&["run", "good.wasm"]).exits(0);
    let problems = || value(&get(&path, "/metrics").body, "strongroom_check_problems");
    wait_for("a check", || (problems() == Some(0.0)).then_some(()));
    assert_eq!(get(&path, "/health/ready").body, "ready\n");
    let file = blob(&place);
    flip(&file);
    wait_for("the damage", || (problems() == Some(1.0)).then_some(()));
    let warning = "the latest check found 1 problems in files of the host: the host's own log names them; stop the host and run \
                   `strongroom fsck`";
    let warned = |path| {
        let ready = get(path, "/health/ready");
        assert_eq!((ready.status, ready.body), (200, format!("ready, with a warning: {warning}\n")));
    };
    warned(&path);
    let status = place.run(&["status", "--json"]).exits(0).json();
    assert_eq!((&status["ready"], &status["warnings"]), (&true.into(), &serde_json::json!([warning])));
    let words = place.run(&["status"]).exits(0);
    assert!(words.out().contains(&format!("warning   {warning}")), "{words:?}");
    host.stop();
    check_every(&place, 0);
    let host = Host::serve(&place);
    warned(&path);
    assert!(value(&get(&path, "/metrics").body, "strongroom_check_time_seconds").unwrap() > 1.7e9);
    host.stop();
    // Mended, and found so by a later check.
    flip(&file);
    check_every(&place, 1000);
    let host = Host::serve(&place);
    wait_for("a good check", || (get(&path, "/health/ready").body == "ready\n").then_some(()));
    host.stop();
}

// Red without `log_verifies` in `problems`.
#[test]
fn a_host_whose_log_does_not_verify_is_not_ready() {
    let place = Place::new();
    configure(&place, "", "");
    check_every(&place, 1000);
    let host = Host::serve(&place);
    let path = socket(&place);
    place.module("bad.wasm", &exit(3));
    // A full bundle, since those that are not give way to longer ones.
    let bundle = place.data().join("audit/tile/entries/000");
    while !bundle.exists() {
        place
            .run(&["run", "bad.wasm", "--retries", "99", "--retry-pause", "1ms", "--retry-max-pause", "1ms"])
            .exits(3);
    }
    flip(&bundle);
    let said = wait_for("the damage", || {
        let ready = get(&path, "/health/ready");
        (ready.status == 503).then_some(ready.body)
    });
    assert!(said.starts_with("not ready: the latest check found "), "{said}");
    assert!(said.contains(" problems in the audit log, which does not verify: "), "{said}");
    assert_eq!(value(&get(&path, "/metrics").body, "strongroom_ready"), Some(0.0));
    assert_eq!(get(&path, "/health/live").status, 200);
    place.run(&["status"]).exits(1);
    flip(&bundle);
    wait_for("a good check", || (get(&path, "/health/ready").status == 200).then_some(()));
    host.stop();
}
