//! A rotation that was cut off at each point: whoever takes the directory next ends it, forwards or back.

use std::fs;
use std::path::{Path, PathBuf};

use strongroom::home::Home;

use crate::cli_support::Place;
use crate::support::{elsewhere, public, rotate, rotations, used};
use crate::trees::{self, copy};

const KEYS: [&str; 3] = ["keys/log.chain", "keys/log.key", "keys/log.pub"];
const AUDIT: [&str; 3] = ["audit/keys", "audit/checkpoint", "audit/log.pub"];

/// The same directory before and after a rotation of the log's key, and a place for what was in between.
struct Between {
    place: Place,
    before: PathBuf,
    after: PathBuf,
}

impl Between {
    fn new(role: &str) -> Self {
        let place = used();
        let (before, after) = (place.path().join("before"), place.path().join("after"));
        copy(&place.data(), &before);
        rotate(&place, role);
        copy(&place.data(), &after);
        Self { place, before, after }
    }

    /// The directory as it was before, with these files as they were after; `next` with the new secret if it is still there.
    fn cut(&self, done: &[&str], next: Option<&str>) -> PathBuf {
        let data = self.place.data();
        fs::remove_dir_all(&data).unwrap();
        copy(&self.before, &data);
        for file in done {
            fs::copy(self.after.join(file), data.join(file)).unwrap();
        }
        if let Some(role) = next {
            fs::copy(self.after.join(format!("keys/{role}.key")), data.join(format!("keys/{role}.next")))
                .unwrap();
        }
        data
    }

    fn is(&self, like: &Path, files: &[&str]) {
        for file in files {
            let [found, wanted] = [&self.place.data(), like].map(|dir| fs::read(dir.join(file)).ok());
            assert_eq!(found, wanted, "{file}");
        }
    }

    fn goes_on(&self, rotated: usize) {
        for left in ["keys/log.next", "keys/host.next"] {
            assert!(!self.place.data().join(left).exists(), "{left}");
        }
        self.place.run(&["audit", "verify"]).exits(0);
        self.place.run(&["run", "exit.wasm"]).exits(0);
        self.place.run(&["fsck"]).exits(0);
        assert_eq!(rotations(&self.place).len(), rotated);
    }
}

fn lock(dir: &Path) {
    drop(Home::open(dir).unwrap().lock().unwrap());
}

// Red without `settle_keys` in `Home::lock`, without `remove` of what no statement names, and without each step of `settle`.
#[test]
fn the_logs_key_is_the_old_one_or_the_new_one_whatever_was_cut_off() {
    let between = Between::new("log");
    let all: Vec<&str> = [KEYS, AUDIT].concat();
    // Before the statement: undone.
    let data = between.cut(&[], Some("log"));
    lock(&data);
    between.is(&between.before, &all);
    between.goes_on(0);
    // A secret that was only half written is in nobody's way.
    let data = between.cut(&[], None);
    fs::write(data.join("keys/log.next"), "strongroom-secret-key:ed2").unwrap();
    lock(&data);
    between.is(&between.before, &all);
    // After it: each step that may be the last one.
    let steps = ["keys/log.chain", "audit/keys", "audit/checkpoint", "audit/log.pub"];
    for done in 1..=steps.len() {
        let data = between.cut(&steps[..done], Some("log"));
        lock(&data);
        between.is(&between.after, &all);
        between.goes_on(1);
    }
    let data = between.cut(&[&steps[..], &["keys/log.key"]].concat(), None);
    lock(&data);
    between.is(&between.after, &all);
    between.goes_on(1);
    // Who only checks tells of it, and changes nothing. Red with `lock` in `fsck`.
    let cut = between.cut(&steps[..2], Some("log"));
    let before = trees::files(&cut);
    let said = between.place.run(&["fsck"]).exits(1);
    assert!(said.out().contains("a rotation of the log key was cut off"), "{said:?}");
    assert!(trees::files(&cut) == before, "the check changed something");
    // `serve`, `run` and another rotation take the lock themselves.
    for command in [&["run", "exit.wasm"][..], &["key", "rotate", "host"]] {
        between.cut(&steps[..2], Some("log"));
        between.place.run(command).exits(0);
        between.is(&between.after, &KEYS);
    }
    let data = between.cut(&steps[..1], Some("log"));
    // Who reads without the lock meanwhile is told, and sees the log under the key that is in force.
    let shown = between.place.run(&["key", "show"]).exits(0);
    assert!(shown.out().contains("the rotation was cut off"), "{shown:?}");
    between.place.run(&["audit", "verify"]).exits(0);
    lock(&data);
    between.goes_on(1);
}

#[test]
fn the_hosts_key_is_the_old_one_or_the_new_one_whatever_was_cut_off() {
    let between = Between::new("host");
    let all = ["keys/host.chain", "keys/host.key", "keys/host.pub"];
    let data = between.cut(&[], Some("host"));
    lock(&data);
    between.is(&between.before, &all);
    between.goes_on(0);
    for (done, next) in [(1, Some("host")), (2, None), (3, None)] {
        let data = between.cut(&all[..done], next);
        lock(&data);
        between.is(&between.after, &all);
        between.goes_on(1);
    }
}

// Red without the comparison with `to` in `swap`, and with `does_not_fit` left out: the host signed with a key that nobody can follow.
#[test]
fn keys_that_do_not_fit_together_are_refused_with_what_to_do() {
    let between = Between::new("log");
    let wrong = |words: &str| {
        for command in [&["run", "exit.wasm"][..], &["key", "rotate", "log"], &["key", "rotate", "host"]] {
            let said = between.place.run(command).exits(125);
            assert!(said.stderr.contains(words), "{said:?}");
            assert!(
                said.stderr.contains("Put the whole keys directory back from its newest copy"),
                "{said:?}"
            );
        }
    };
    // The statement, and no secret or another one.
    between.cut(&["keys/log.chain"], None);
    wrong("the secret of that one is not here");
    let data = between.cut(&["keys/log.chain"], None);
    fs::copy(data.join("keys/host.key"), data.join("keys/log.next")).unwrap();
    wrong("the secret of that one is not here");
    between.is(&between.before, &["keys/log.key", "audit/checkpoint", "audit/log.pub"]);
    // A key that is neither the old one nor the new one.
    let data = between.cut(&["keys/log.chain"], Some("log"));
    fs::copy(data.join("keys/host.key"), data.join("keys/log.key")).unwrap();
    wrong("the last statement in");
    // Statements that are none.
    let data = between.cut(&KEYS, None);
    let mut forged = fs::read(data.join("keys/log.chain")).unwrap();
    forged[100] ^= 1;
    fs::write(data.join("keys/log.chain"), forged).unwrap();
    wrong("line 1: ");
}

// Red without `check` in `rotate_key`, and without the look at the edge in `succeed`: the new key signed what it had not seen.
#[test]
fn no_key_takes_over_a_log_that_is_not_what_was_signed() {
    let place = used();
    let (data, log) = (place.data(), public(&place, "log"));
    let tile = data.join("audit/tile/0/000.p");
    let widths = fs::read_dir(&tile).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let tile = tile.join(widths.max_by_key(|width| width.parse::<u16>().unwrap()).unwrap());
    let good = fs::read(&tile).unwrap();
    let mut bad = good.clone();
    bad[0] ^= 1;
    fs::write(&tile, &bad).unwrap();
    let said = place.run(&["key", "rotate", "log"]).exits(125);
    assert!(
        said.stderr.contains("cannot be signed with another key") && said.stderr.contains("altered"),
        "{said:?}"
    );
    assert!(!data.join("keys/log.chain").exists() && public(&place, "log") == log);
    // The same when it is damaged after the statement: the rotation waits until the log is back.
    fs::write(&tile, &good).unwrap();
    let between = Between { before: place.path().join("before"), after: place.path().join("after"), place };
    copy(&between.place.data(), &between.before);
    rotate(&between.place, "log");
    copy(&between.place.data(), &between.after);
    between.cut(&["keys/log.chain", "audit/keys"], Some("log"));
    fs::write(&tile, &bad).unwrap();
    let said = between.place.run(&["run", "exit.wasm"]).exits(125);
    assert!(said.stderr.contains("cannot be signed with another key"), "{said:?}");
    between.is(&between.before, &["keys/log.key", "audit/checkpoint"]);
    fs::write(&tile, &good).unwrap();
    lock(&between.place.data());
    between.goes_on(1);
}

/// Whoever sees a log in the middle of it refuses it: the key that signed is not the last one any more.
#[test]
fn a_log_that_its_last_key_has_not_signed_is_not_good_for_any_pin() {
    let between = Between::new("log");
    let data = between.cut(&["audit/keys"], None);
    let audit = data.join("audit").display().to_string();
    let [old, new] = [&between.before, &between.after]
        .map(|dir| fs::read_to_string(dir.join("keys/log.pub")).unwrap().trim_end().to_owned());
    for key in [&old, &new] {
        let said = elsewhere(&between.place, &["audit", "verify", &audit, "--key", key]).exits(1);
        assert!(said.stderr.contains("checkpoint: the note is not signed by"), "{said:?}");
    }
}
