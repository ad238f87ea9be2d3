//! `strongroom audit` through the real binary: on a log that a real host wrote, whole and damaged.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod cli_support;

use std::path::{Path, PathBuf};

use cli_support::{Place, exit};
use strongroom_job::Record;
use strongroom_job::note::KeyName;
use strongroom_job::tlog_proof::TlogProof;

/// A place where three jobs ran, and the id of the first.
fn used() -> (Place, String) {
    let place = Place::new();
    let mut first = None;
    for status in [0, 1, 2] {
        place.module("exit.wasm", &exit(status));
        let lines = place.run(&["run", "--json", "exit.wasm"]).exits(status).lines();
        first.get_or_insert_with(|| lines[0]["job"].as_str().unwrap().to_owned());
    }
    (place, first.unwrap())
}

fn files(dir: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}

#[test]
fn a_good_log_verifies_and_says_what_was_checked() {
    let (place, _) = used();
    let checked = place.run(&["audit", "verify", "--json"]).exits(0).json();
    let init = place.run(&["init", "--json"]).json();
    assert_eq!((&checked["log"], &checked["key"]), (&init["log_origin"], &init["log_key"]));
    let shown = place.run(&["audit", "show", "--json"]).exits(0).lines();
    assert_eq!(checked["size"], shown.len());
    let words = place.run(&["audit", "verify"]).exits(0);
    assert!(words.out().contains("the log is good") && words.out().contains("(pinned)"), "{words:?}");
    // The same for a copy, which does not carry the data directory's keys.
    let copy = place.path().join("copy").display().to_string();
    place.run(&["audit", "export", &copy]).exits(0);
    place.run(&["audit", "export", &copy]).exits(1);
    let mut verify = std::process::Command::new(env!("CARGO_BIN_EXE_strongroom"));
    let said = cli_support::start(verify.args(["audit", "verify", &copy])).finish().exits(0);
    assert!(said.out().contains("pin it with --key"), "{said:?}");
    let mut verify = std::process::Command::new(env!("CARGO_BIN_EXE_strongroom"));
    let other = init["host_key"].as_str().unwrap();
    cli_support::start(verify.args(["audit", "verify", &copy, "--key", other])).finish().exits(1);
}

// Red when `verify` does not look at the file that was changed.
#[test]
fn any_changed_byte_is_found_and_its_file_named() {
    let (place, _) = used();
    let audit = place.data().join("audit");
    for file in files(&audit) {
        let good = std::fs::read(&file).unwrap();
        for position in [0, good.len() / 2, good.len() - 1] {
            let mut bad = good.clone();
            bad[position] ^= 1;
            std::fs::write(&file, &bad).unwrap();
            let said = place.run(&["audit", "verify"]).exits(1);
            let name = file.strip_prefix(&audit).unwrap().display().to_string();
            // A damaged key or checkpoint is seen by the other's not fitting it.
            let named = said.stderr.contains(&name)
                || (["log.pub", "checkpoint"].contains(&name.as_str()) && said.stderr.contains("checkpoint"))
                || (name == "log.pub" && said.stderr.contains("key"));
            assert!(named, "{name} byte {position}: {said:?}");
        }
        std::fs::write(&file, &good).unwrap();
    }
    place.run(&["audit", "verify"]).exits(0);
    let json = place.run(&["audit", "verify", "--json"]);
    assert_eq!(json.exits(0).stderr, "");
}

#[test]
fn a_proof_convinces_whoever_has_the_logs_key() {
    let (place, job) = used();
    let init = place.run(&["init", "--json"]).json();
    let origin: KeyName = init["log_origin"].as_str().unwrap().parse().unwrap();
    let key = init["log_key"].as_str().unwrap().parse().unwrap();
    let text = place.run(&["audit", "prove", &job]).exits(0);
    let proof = TlogProof::parse(&text.stdout).unwrap();
    let entry = proof.extra().unwrap().to_vec();
    let index = proof.index();
    proof.verify(&entry, &origin, &key).unwrap();
    let record = Record::from_leaf(&entry).unwrap();
    assert_eq!(record.job().unwrap().to_string(), job);
    assert!(String::from_utf8(entry).unwrap().contains("finished"), "the record that says how it ended");
    // The same by its index.
    let by_index = place.run(&["audit", "prove", "--json", &index.to_string()]).exits(0).json();
    assert_eq!(by_index["record"]["job"], job.as_str());
    place.run(&["audit", "prove", "999999"]).exits(1);
    place.run(&["audit", "prove", "nonsense"]).exits(126);
    assert!(place.run(&["audit", "prove", &"0".repeat(32)]).exits(1).stderr.contains("no record is about"));
}

#[test]
fn records_are_shown_in_order_and_by_job() {
    let (place, job) = used();
    let all = place.run(&["audit", "show"]).exits(0);
    assert!(all.out().lines().next().unwrap().contains("host started"), "{all:?}");
    let of_job = place.run(&["audit", "show", "--job", &job, "--json"]).exits(0).lines();
    let types: Vec<&str> = of_job.iter().map(|line| line["record"]["type"].as_str().unwrap()).collect();
    assert_eq!(types, ["admitted", "started", "finished"]);
    let two = place.run(&["audit", "show", "--from", "1", "--limit", "2", "--json"]).exits(0).lines();
    let indexes: Vec<u64> = two.iter().map(|line| line["index"].as_u64().unwrap()).collect();
    assert_eq!(indexes, [1, 2]);
}

#[test]
fn a_log_can_be_read_and_verified_beside_its_host() {
    let (place, job) = used();
    let serving = place.serve();
    place.run(&["audit", "verify"]).exits(0);
    place.run(&["audit", "prove", &job]).exits(0);
    place.run(&["run", "exit.wasm"]).exits(2);
    place.run(&["audit", "verify"]).exits(0);
    assert_eq!(serving.stop().code, 0);
    place.run(&["audit", "verify"]).exits(0);
}
