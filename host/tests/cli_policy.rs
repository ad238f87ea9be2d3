//! `strongroom policy`: what a configuration lets whom do, without a host.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod cli_support;

use std::fmt::Write as _;

use cli_support::{CAT, Place, wait_for};

/// A place whose configuration names a volume, Ann, who may read it, and a dashboard.
fn place() -> Place {
    let place = Place::new();
    place.run(&["init"]).exits(0);
    place.module("cat.wasm", CAT);
    let ann = Place::new();
    ann.run(&["init"]).exits(0);
    let (docs, key) =
        (place.gate("docs"), std::fs::read_to_string(ann.data().join("keys/client.pub")).unwrap());
    let path = place.data().join("strongroom.toml");
    let mut text = std::fs::read_to_string(&path).unwrap();
    write!(text, "[volumes.docs]\npath = {docs:?}\n[labels]\nzone = \"eu\"\n").unwrap();
    write!(text, "[[principals]]\nname = \"ann\"\nkey = \"{}\"\ntenant = \"ann\"\n", key.trim()).unwrap();
    writeln!(text, "volumes = {{ docs = \"read\" }}").unwrap();
    let screen = "ed25519:8a88e3dd7409f195fd52db2d3cba5d72ca6709bf1d94121bf3748801b40f6f5c";
    write!(text, "[[principals]]\nname = \"screen\"\nkey = \"{screen}\"\nroles = [\"view\"]\n").unwrap();
    std::fs::write(path, text).unwrap();
    place
}

// Red without the question for `lets_in`.
#[test]
fn a_configuration_that_locks_people_out_is_refused_and_names_why() {
    let place = place();
    let good = place.run(&["policy", "check"]).exits(0);
    for words in [
        "locks nobody out",
        "owner of tenant default: view, submit, operate",
        "ann of tenant ann: view, submit",
    ] {
        assert!(good.out().contains(words), "{words}: {}", good.out());
    }
    let json = place.run(&["policy", "check", "--json"]).exits(0).json();
    assert_eq!(json[2], serde_json::json!({"name": "screen", "tenant": "default", "roles": "view"}));

    let text = std::fs::read_to_string(place.data().join("strongroom.toml")).unwrap();
    let idle = place.file("idle.toml", text.replace("operator = true", "operator = false"));
    let said = place.run(&["policy", "check", idle.to_str().unwrap()]).exits(1);
    assert!(said.stderr.contains("idle.toml: no principal could operate the host"), "{}", said.stderr);
    let empty = place.file("empty.toml", "log_origin = \"example.com/log\"\n");
    let said = place.run(&["policy", "check", empty.to_str().unwrap()]).exits(1);
    assert!(said.stderr.contains("it names no principal"), "{}", said.stderr);
    let typo = place.file("typo.toml", text.replace("roles = [\"view\"]", "roles = [\"veiw\"]"));
    let said = place.run(&["policy", "check", typo.to_str().unwrap()]).exits(126);
    let line = 1 + text[..text.find("roles = [").unwrap()].matches('\n').count();
    assert!(said.stderr.contains(&format!("typo.toml:{line}: ")), "{line}: {}", said.stderr);
    assert!(said.stderr.contains("view, submit, operate and admin"), "{}", said.stderr);
}

// Red when a step is left out of STEPS in host/src/admission/steps.rs.
#[test]
fn what_is_explained_is_what_a_host_then_says() {
    let place = place();
    let module = place.path().join("cat.wasm").display().to_string();
    let explain = |who: &str, options: &[&str]| {
        place.run(&[&["policy", "explain", who, &module][..], options].concat())
    };
    let said = explain("ann", &["--read", "docs:/docs"]).exits(0);
    assert_eq!(said.out().lines().filter(|line| line.starts_with("yes  ")).count(), 10, "{}", said.out());
    assert!(said.out().contains("allowed: a job of ann"), "{}", said.out());

    let wrong = ["--write", "docs:/docs", "--queue", "nihgt", "--memory", "4GiB", "--require", "zone=us"];
    let said = explain("ann", &wrong).exits(120);
    let nos: Vec<&str> = said.out().lines().filter(|line| line.starts_with("NO   ")).collect();
    for (no, code) in nos.iter().zip(["unknown-queue", "label-mismatch", "limit-too-high", "not-granted"]) {
        assert!(no.contains(&format!(": {code}: ")), "{code}: {no}");
    }
    assert_eq!(nos.len(), 4, "{}", said.out());
    assert!(said.out().contains("     - write"), "{}", said.out());
    let json =
        place.run(&[&["policy", "explain", "screen", &module][..], &["--json"]].concat()).exits(120).json();
    assert_eq!((&json["allowed"], &json["answers"][0]["code"]), (&false.into(), &"missing-role".into()));
    assert_eq!(json["answers"][0]["missing"], serde_json::json!(["submit"]));
    let said = explain("bob", &[]).exits(126);
    assert!(
        said.stderr.contains("no principal is called bob; it names: owner, ann, screen"),
        "{}",
        said.stderr
    );

    // The owner's, of a real host: the first no, in the same words.
    let wrong = ["--queue", "nihgt", "--memory", "4GiB"];
    let told = explain("owner", &wrong).exits(120);
    let first = told.out().lines().find(|line| line.starts_with("NO   ")).unwrap().to_owned();
    let serving = place.serve();
    let remote = ["--host", serving.address.as_str(), "--host-key", serving.host_key.as_str()];
    let refused = wait_for("the host", || {
        let said = place.run(&[&["submit", &module][..], &wrong, &remote].concat());
        (said.code == 120).then_some(said)
    });
    let words = first.split_once("unknown-queue: ").unwrap().1;
    assert!(refused.stderr.contains(words), "{words}: {}", refused.stderr);
    serving.stop().exits(0);
}
