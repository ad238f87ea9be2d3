//! `strongroom fsck` through the real binary: a directory that is good is called so, and each fault is found, named, and mended as it says.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod cli_support;
#[path = "common/trees.rs"]
mod trees;

use std::fs;
use std::path::Path;

use cli_support::{CAT, Place, exit};
use serde_json::Value;
use trees::{copy, files};

/// A place where jobs ran, one of which left a long output.
fn used() -> Place {
    let place = Place::new();
    place.module("exit.wasm", &exit(3));
    place.module("cat.wasm", CAT);
    place.run(&["run", "exit.wasm"]).exits(3);
    let long = place.file("long.txt", vec![b'x'; 40_000]).display().to_string();
    place.run(&["run", "cat.wasm", "--input", &long]).exits(0);
    place
}

fn findings(report: &Value) -> String {
    let findings = report["findings"].as_array().unwrap().iter();
    findings
        .map(|found| format!("{}: {}\n", found["part"].as_str().unwrap(), found["problem"].as_str().unwrap()))
        .collect()
}

/// The check finds this and nothing else, and changes nothing.
fn finds(place: &Place, says: &[&str]) -> Value {
    let before = files(&place.data());
    let report = place.run(&["fsck", "--json"]).exits(i32::from(!says.is_empty())).json();
    assert!(files(&place.data()) == before, "the check changed something");
    let found = findings(&report);
    for says in says {
        assert!(found.contains(says), "{says}: {report:#}");
    }
    assert_eq!(report["clean"], says.is_empty(), "{report:#}");
    report
}

#[test]
fn a_good_directory_is_called_good_and_says_what_was_looked_at() {
    let place = used();
    let report = finds(&place, &[]);
    assert_eq!(report["start"], "serve");
    let checked = report["checked"].to_string();
    for part in
        ["the log: the signature", "state against log: 2 jobs", "files that the state names", "evidence"]
    {
        assert!(checked.contains(part), "{checked}");
    }
    let said = place.run(&["fsck"]).exits(0);
    assert!(
        said.out().contains("everything is as it must be") && said.out().contains("a start   would serve"),
        "{said:?}"
    );
    // Nothing is made where nothing is.
    let nowhere = place.path().join("nowhere");
    let mut fsck = std::process::Command::new(env!("CARGO_BIN_EXE_strongroom"));
    cli_support::start(fsck.args(["fsck", "--dir"]).arg(&nowhere)).finish().exits(125);
    assert!(!nowhere.exists());
}

// Red when `compare` leaves out `jobs`, and when what `hash` gives is not compared.
#[test]
fn each_fault_is_found_and_named() {
    let place = used();
    let data = place.data();
    let with = |change: &dyn Fn(), says: &[&str]| {
        let aside = tempfile::tempdir().unwrap();
        copy(&data, aside.path());
        change();
        let report = finds(&place, says);
        fs::remove_dir_all(&data).unwrap();
        copy(aside.path(), &data);
        report
    };
    let blob = files(&data.join("blobs")).into_keys().last().unwrap();
    with(&|| fs::remove_file(&blob).unwrap(), &["blobs: sha256:"]);
    with(&|| fs::write(&blob, "other bytes").unwrap(), &["its bytes are those of"]);
    let segment = data.join("evidence").join("0".repeat(20));
    let flip = || {
        let mut bytes = fs::read(&segment).unwrap();
        bytes[200] ^= 1;
        fs::write(&segment, bytes).unwrap();
    };
    with(&flip, &["evidence: ", "in the state only"]);
    let report = with(&|| fs::remove_dir_all(data.join("state")).unwrap(), &["state: lost"]);
    assert!(report["start"].as_str().unwrap().contains("make it anew from the log"), "{report:#}");
    let report = with(&|| fs::remove_dir_all(data.join("audit")).unwrap(), &["log: there is none"]);
    assert!(report["start"].as_str().unwrap().starts_with("not start"), "{report:#}");
    let row = || {
        let db = sled::Config::new().path(data.join("state")).segment_size(8 << 20).open().unwrap();
        let mut rows = db.scan_prefix("h/").map(Result::unwrap);
        let ((one, _), (_, other)) = (rows.next().unwrap(), rows.next().unwrap());
        db.insert(one, other).unwrap();
        db.flush().unwrap();
    };
    let report = with(&row, &["is otherwise in the state than by the log"]);
    assert!(report["mend"].to_string().contains("fsck --rebuild"), "{report:#}");
    finds(&place, &[]);
}

#[test]
fn what_is_wrong_with_the_state_is_mended_as_it_says() {
    let place = used();
    let before = place.run(&["audit", "show", "--json"]).exits(0).lines().len();
    fs::write(place.data().join("state/db"), "nothing that anybody wrote").unwrap();
    finds(&place, &["state: "]);
    let mended = place.run(&["fsck", "--rebuild", "--json"]).exits(0).json();
    assert_eq!((&mended["records"], &mended["jobs"]), (&before.into(), &2.into()));
    assert!(Path::new(mended["quarantine"].as_str().unwrap()).join("db").exists(), "{mended:#}");
    finds(&place, &[]);
    place.run(&["run", "exit.wasm"]).exits(3);
    let shown = place.run(&["audit", "show"]).exits(0);
    assert!(shown.out().contains("state rebuilt, since it was given-up"), "{shown:?}");
    finds(&place, &[]);
}
