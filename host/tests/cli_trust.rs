//! `strongroom trust` through the real binary: operators make a file, sign it, and put it in force; what does not go on from it is refused.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod cli_support;

use std::fs;
use std::process::Command;

use cli_support::{Place, Said, exit, start};

/// A place with a data directory, and the key of its owner.
fn place() -> (Place, String) {
    let place = Place::new();
    let key = key(&place, "data");
    (place, key)
}

/// The client key of a directory of this place, which is made if need be.
fn key(place: &Place, name: &str) -> String {
    let mut init = Command::new(env!("CARGO_BIN_EXE_strongroom"));
    init.args(["init", "--json", "--dir"]).arg(place.path().join(name)).env_clear();
    let made = start(&mut init).finish().exits(0).json();
    made["client_key"].as_str().unwrap().to_owned()
}

/// `strongroom trust` with the data directory of this place.
fn trust(place: &Place, arguments: &[&str]) -> Said {
    place.run(&[&["trust"], arguments].concat())
}

fn made(place: &Place, file: &str, operators: &[&str], threshold: &str) {
    let keys = operators.iter().flat_map(|key| ["--operator", key]);
    let arguments: Vec<&str> =
        ["new", file, "--threshold", threshold, "--expires", "+30d"].into_iter().chain(keys).collect();
    trust(place, &arguments).exits(0);
}

/// The command answers no, in these words.
fn says_no(said: Said, words: &[&str]) {
    let said = said.exits(1);
    for words in words {
        assert!(said.stderr.contains(words), "{words}: {said:?}");
    }
}

fn identity(place: &Place, name: &str) -> String {
    place.path().join(name).join("keys/client.key").display().to_string()
}

// Red without `goes_on_from` in `install`.
#[test]
fn operators_make_sign_and_install_a_file_and_rotate_a_key() {
    let (place, ann) = place();
    let other = Place::new();
    let bob = key(&other, "bob");
    let bob_key = identity(&other, "bob");
    made(&place, "one", &[&ann, &bob], "2");
    let shown = trust(&place, &["show", "one", "--json"]).exits(0).json();
    assert_eq!((&shown["complete"], &shown["expired"]), (&false.into(), &false.into()), "{shown}");
    assert_eq!(shown["missing"], serde_json::json!({ "own": { "signed": 0, "threshold": 2 } }));
    let init = place.run(&["init", "--json"]).json();
    assert_eq!(shown["log"], init["log_origin"]);

    trust(&place, &["sign", "one"]).exits(0);
    trust(&place, &["sign", "one"]).exits(0);
    says_no(
        trust(&place, &["install", "one"]),
        &["1 of its own operators signed, 2 must", "Nothing was changed"],
    );
    says_no(trust(&place, &["verify", "one"]), &["1 of its own operators signed, 2 must"]);
    assert!(!place.data().join("trust").exists());
    let said = trust(&place, &["sign", "one", "--identity", &bob_key]).exits(0);
    assert!(said.out().contains("complete"), "{said:?}");
    let installed = trust(&place, &["install", "one", "--json"]).exits(0).json();
    let first = shown["versions"][0]["digest"].as_str().unwrap().to_owned();
    assert_eq!((&installed["version"], installed["digest"].as_str()), (&1.into(), Some(first.as_str())));
    assert!(installed.get("before").is_none(), "{installed}");
    // The same once more is no fault.
    trust(&place, &["install", "one"]).exits(0);

    // A next version has what the one before has, unless it is said otherwise.
    let new = key(&other, "new");
    let new_key = identity(&other, "new");
    trust(&place, &["new", "two", "--operator", &new, "--operator", &bob, "--expires", "+90d"]).exits(0);
    trust(&place, &["sign", "two"]).exits(0);
    trust(&place, &["sign", "two", "--identity", &bob_key]).exits(0);
    says_no(trust(&place, &["install", "two"]), &["version 2", "1 of its own operators signed, 2 must"]);
    let said = trust(&place, &["sign", "two", "--identity", &new_key]).exits(0);
    assert!(said.out().contains(&format!("leaves    {ann}  signed")), "{said:?}");
    let installed = trust(&place, &["install", "two", "--json"]).exits(0).json();
    assert_eq!((&installed["version"], &installed["before"]["version"]), (&2.into(), &1.into()));

    let origin = init["log_origin"].as_str().unwrap();
    let said = trust(&place, &["verify", "two", "--log", origin, "--pinned", &first]).exits(0);
    assert!(said.out().contains("checked ") && said.out().contains("the host that you named"), "{said:?}");
    let said = trust(&place, &["verify", "two"]).exits(0);
    assert!(said.out().contains("believed ") && said.out().contains("--pinned"), "{said:?}");
    let zeros = format!("sha256:{}", "0".repeat(64));
    says_no(trust(&place, &["verify", "two", "--pinned", &zeros]), &["which you pinned"]);
    says_no(trust(&place, &["verify", "two", "--log", "example.com/x"]), &["and not for example.com/x"]);

    // Before any start, the file that is there is what is in force.
    says_no(
        trust(&place, &["install", "one"]),
        &["an older one", "version 2 was in force", "Nothing was changed"],
    );
    trust(&place, &["new", "second", "--after", "one", "--expires", "+1d"]).exits(0);
    trust(&place, &["sign", "second"]).exits(0);
    trust(&place, &["sign", "second", "--identity", &bob_key]).exits(0);
    says_no(trust(&place, &["install", "second"]), &["tells two histories"]);
    assert_eq!(fs::read(place.data().join("trust")).unwrap(), fs::read(place.path().join("two")).unwrap());
}

// Red without `recorded` in `install`, and when `news` tells of the last version alone.
#[test]
fn a_file_that_is_lost_is_replaced_by_no_older_one() {
    let (place, ann) = place();
    made(&place, "one", &[&ann], "1");
    trust(&place, &["sign", "one"]).exits(0);
    trust(&place, &["new", "two", "--after", "one", "--expires", "+90d"]).exits(0);
    trust(&place, &["sign", "two"]).exits(0);
    trust(&place, &["install", "two"]).exits(0);
    place.module("exit.wasm", &exit(0));
    place.run(&["run", "exit.wasm"]).exits(0);
    let shown = place.run(&["audit", "show"]).exits(0);
    assert_eq!(shown.out().matches("trust file: version").count(), 2, "{shown:?}");

    fs::remove_file(place.data().join("trust")).unwrap();
    let said = place.run(&["run", "exit.wasm"]).exits(125);
    assert!(said.stderr.contains("is gone, and version 2"), "{said:?}");
    says_no(trust(&place, &["install", "one"]), &["an older one"]);
    // What is there cannot be read, or is another history; a good file mends it, since it is known what it should be.
    trust(&place, &["new", "other", "--after", "one", "--expires", "+80d"]).exits(0);
    trust(&place, &["sign", "other"]).exits(0);
    let other = fs::read(place.path().join("other")).unwrap();
    for wrong in [b"nothing".as_slice(), &other] {
        fs::write(place.data().join("trust"), wrong).unwrap();
        place.run(&["run", "exit.wasm"]).exits(125);
        trust(&place, &["install", "two"]).exits(0);
        place.run(&["run", "exit.wasm"]).exits(0);
    }
}

// Red without `trust::look` in `fsck`, and when `recorded` is not given to it.
#[test]
fn a_check_holds_the_trust_file_against_what_was_in_force() {
    let (place, ann) = place();
    let fsck = |status| {
        let report = place.run(&["fsck", "--json"]).exits(status).json();
        ["checked", "notes", "findings"].map(|part| report[part].to_string())
    };
    place.module("exit.wasm", &exit(0));
    place.run(&["run", "exit.wasm"]).exits(0);
    assert!(fsck(0)[0].contains("the trust file: there is none, and never was one"));
    made(&place, "one", &[&ann], "1");
    trust(&place, &["sign", "one"]).exits(0);
    trust(&place, &["install", "one"]).exits(0);
    let [_, notes, _] = fsck(0);
    assert!(notes.contains("a version that was not in force yet, 1"), "{notes}");
    trust(&place, &["new", "two", "--after", "one", "--expires", "+90d"]).exits(0);
    trust(&place, &["sign", "two"]).exits(0);
    trust(&place, &["install", "two"]).exits(0);
    place.run(&["run", "exit.wasm"]).exits(0);
    let [checked, notes, _] = fsck(0);
    assert!(checked.contains("every signature up to version 2, against the version in force"), "{checked}");
    assert_eq!(notes, "[]");
    let file = place.data().join("trust");
    fs::copy(place.path().join("one"), &file).unwrap();
    let [_, _, findings] = fsck(1);
    assert!(findings.contains("it ends with version 1, and version 2 was in force already"), "{findings}");
    fs::remove_file(&file).unwrap();
    let [_, _, findings] = fsck(1);
    assert!(findings.contains("is gone, and version 2 of the trust file"), "{findings}");
}

#[test]
fn nothing_is_installed_under_a_host_that_serves() {
    let (place, ann) = place();
    made(&place, "one", &[&ann], "1");
    trust(&place, &["sign", "one"]).exits(0);
    let serving = place.serve();
    let said = trust(&place, &["install", "one"]).exits(125);
    assert!(said.stderr.contains("is served by another host already"), "{said:?}");
    serving.stop().exits(0);
    trust(&place, &["install", "one"]).exits(0);
}

// Red when `install` does not ask for whose log the file is.
#[test]
fn bad_files_and_wrong_options_get_a_clear_error() {
    let (place, ann) = place();
    let stranger = key(&place, "stranger");
    made(&place, "one", &[&ann], "1");
    let usage = |arguments: &[&str], says: &str| {
        let said = trust(&place, arguments).exits(126);
        assert!(said.stderr.contains(says), "{says}: {said:?}");
    };
    usage(&["new", "one", "--operator", &ann, "--threshold", "1", "--expires", "+1d"], "one exists");
    usage(&["new", "x", "--threshold", "1", "--expires", "+1d"], "--operator KEY");
    usage(&["new", "x", "--operator", &ann, "--expires", "+1d"], "--threshold");
    usage(&["new", "x", "--operator", &ann, "--threshold", "2", "--expires", "+1d"], "its threshold is 2");
    usage(
        &["new", "x", "--operator", &ann, "--threshold", "1", "--expires", "2020-01-01T00:00:00Z"],
        "has passed",
    );
    usage(&["new", "x", "--operator", &ann, "--threshold", "1", "--expires", "soon"], "is no time");
    usage(
        &["new", "x", "--operator", "ed25519:00", "--threshold", "1", "--expires", "+1d"],
        "not a public key",
    );
    usage(&["sign", "one", "--identity", &identity(&place, "stranger")], &format!("have {stranger} named"));
    usage(&["show", "nothing"], "nothing");
    assert!(!place.path().join("x").exists());

    trust(&place, &["sign", "one"]).exits(0);
    let good = fs::read(place.path().join("one")).unwrap();
    let mut bad = good.clone();
    bad[good.len() / 2] ^= 1;
    place.file("bad", &bad);
    place.file("empty", "");
    place.file("long", vec![b'x'; 22 << 20]);
    for command in ["show", "sign", "verify", "install"] {
        says_no(trust(&place, &[command, "bad"]), &["bad: version 1 of the trust file is wrong"]);
        says_no(trust(&place, &[command, "empty"]), &["is empty or cut off"]);
        says_no(trust(&place, &[command, "long"]), &["bytes; at most"]);
    }
    // Another host's.
    let elsewhere = Place::new();
    key(&elsewhere, "data");
    let one = place.path().join("one").display().to_string();
    says_no(trust(&elsewhere, &["install", &one]), &["is for the host whose log is"]);
    assert!(!elsewhere.data().join("trust").exists());
}

// Red without the question for expiry in `install`, and in `verify`.
#[test]
fn a_file_that_has_expired_is_not_installed() {
    let (place, ann) = place();
    let arguments = ["new", "short", "--operator", &ann, "--threshold", "1", "--expires", "+1ms"];
    trust(&place, &arguments).exits(0);
    trust(&place, &["sign", "short"]).exits(0);
    says_no(
        trust(&place, &["install", "short"]),
        &["version 1 of the trust file expired at", "newer version"],
    );
    says_no(trust(&place, &["verify", "short"]), &["expired at"]);
    let shown = trust(&place, &["show", "short"]).exits(0);
    assert!(shown.out().contains("expired   its operators may do nothing"), "{shown:?}");
    // It can still be followed by one that has not, signed by the same operators.
    trust(&place, &["new", "next", "--after", "short", "--expires", "+1d"]).exits(0);
    trust(&place, &["sign", "next"]).exits(0);
    trust(&place, &["install", "next"]).exits(0);
}
