//! A place with jobs, and what its log says of keys.

use std::path::Path;
use std::process::Command;

use serde_json::Value;
use strongroom_job::succession::Succession;

use crate::cli_support::{Place, Said, exit, start};

/// A place where a job ran.
pub(crate) fn used() -> Place {
    let place = Place::new();
    place.module("exit.wasm", &exit(0));
    place.run(&["run", "exit.wasm"]).exits(0);
    place
}

pub(crate) fn public(place: &Place, name: &str) -> String {
    let text = std::fs::read_to_string(place.data().join(format!("keys/{name}.pub"))).unwrap();
    text.trim_end().to_owned()
}

/// Replaces a key; the old one and the new one.
pub(crate) fn rotate(place: &Place, role: &str) -> (String, String) {
    let old = public(place, role);
    let told = place.run(&["key", "rotate", role, "--json"]).exits(0).json();
    let new = told["new"].as_str().unwrap().to_owned();
    assert_eq!((told["key"].as_str(), told["old"].as_str()), (Some(role), Some(old.as_str())));
    assert_eq!(public(place, role), new);
    (old, new)
}

/// The `key-rotated` records of the place's log.
pub(crate) fn rotations(place: &Place) -> Vec<Value> {
    let all = place.run(&["audit", "show", "--json"]).exits(0).lines();
    all.into_iter()
        .map(|line| line["record"].clone())
        .filter(|record| record["type"] == "key-rotated")
        .collect()
}

/// The statements in a file, checked.
pub(crate) fn statements(file: &Path) -> Vec<Succession> {
    Succession::parse_file(&std::fs::read(file).unwrap()).unwrap()
}

/// Without a data directory and an environment: nothing but what is named.
pub(crate) fn elsewhere(place: &Place, arguments: &[&str]) -> Said {
    let mut command = Command::new(env!("CARGO_BIN_EXE_strongroom"));
    command.args(arguments).env_clear().current_dir(place.path());
    start(&mut command).finish()
}
