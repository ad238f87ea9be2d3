//! SIGHUP: `strongroom serve` reads its configuration again, and says what came of it.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod cli_support;

use std::fs::File;
use std::process::{Child, Command, Stdio};

use cli_support::{LOOP, Place, wait_for};

/// A host whose own log is a file that can be read while it runs. Killed when the test is over.
struct House {
    place: Place,
    host: Child,
}

impl House {
    fn new() -> Self {
        let place = Place::new();
        place.run(&["init"]).exits(0);
        let mut serve = place.command(&["serve", "--listen", "127.0.0.1:0", "--log", "info"]);
        let log = File::create(place.path().join("log")).unwrap();
        let host = serve.stdout(Stdio::null()).stderr(log).spawn().unwrap();
        Self { place, host }
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.place.path().join("log")).unwrap()
    }

    fn tells(&self, words: &str) {
        wait_for(words, || self.log().contains(words).then_some(()));
    }

    fn signal(&self, name: &str) {
        let pid = self.host.id().to_string();
        assert!(Command::new("kill").args(["-s", name, &pid]).status().unwrap().success());
    }

    /// Writes the file and has it read.
    fn reload(&self, config: &str) {
        std::fs::write(self.place.data().join("strongroom.toml"), config).unwrap();
        self.signal("HUP");
    }
}

impl Drop for House {
    fn drop(&mut self) {
        let _ = self.host.kill();
        let _ = self.host.wait();
    }
}

// Red without `reload_when_asked` in host/src/cli/serve.rs: SIGHUP then ends the process.
#[test]
fn a_hangup_lets_a_new_key_in_and_an_old_one_out_and_a_bad_file_changes_nothing() {
    let (mut house, ann) = (House::new(), Place::new());
    ann.run(&["init"]).exits(0);
    house.tells("serving");
    let before = std::fs::read_to_string(house.place.data().join("strongroom.toml")).unwrap();
    let live: serde_json::Value =
        serde_json::from_slice(&std::fs::read(house.place.data().join("live.json")).unwrap()).unwrap();
    let (address, host) = (live["address"].as_str().unwrap(), live["host"].as_str().unwrap());
    let key = std::fs::read_to_string(ann.data().join("keys/client.pub")).unwrap();
    let with_ann =
        format!("{before}\n[[principals]]\nname = \"ann\"\nkey = \"{}\"\ntenant = \"ann\"\n", key.trim());
    let remote = ["--host", address, "--host-key", host];
    let list = [&["job", "list"][..], &remote].concat();
    assert_ne!(ann.run(&list).code, 0);

    // `unlocked` refuses it.
    let lock = house.place.data().join("config.lock");
    std::fs::write(&lock, "").unwrap();
    house.reload(&with_ann);
    house.tells("config.lock lies there");
    assert_ne!(ann.run(&list).code, 0);
    std::fs::remove_file(lock).unwrap();
    house.reload(&with_ann);
    house.tells("added: ann");
    ann.run(&list).exits(0);

    house.reload(&format!("{before}\n[bonds]\nmax_running = 3\n"));
    house.tells("bonds");
    house.reload(&before.replace("[bounds]\n", "[bounds]\nmax_running = 3\n"));
    house.tells("[bounds] cannot change while the host runs");
    assert_eq!(house.log().matches("nothing was changed").count(), 3, "{}", house.log());
    ann.run(&list).exits(0);

    let module = ann.module("loop.wasm", LOOP);
    let submit = [&["submit", module.to_str().unwrap()][..], &remote].concat();
    let job = ann.run(&submit).exits(0).out().trim().to_owned();
    let show = [&["job", "show", &job][..], &remote].concat();
    wait_for("the job to run", || ann.run(&show).out().contains("running").then_some(()));
    house.reload(&before);
    house.tells("removed: ann");
    assert_ne!(ann.run(&list).code, 0);
    house.signal("TERM");
    assert!(house.host.wait().unwrap().success(), "{}", house.log());
    let log = house.place.run(&["audit", "show"]).exits(0);
    for words in ["configuration changed: principals", &format!("cancel requested: job {job}"), "cancelled"] {
        assert!(log.out().contains(words), "{words}: {}", log.out());
    }
}

// Red without `"/reload"` in host/src/admin/mod.rs.
#[test]
fn a_reload_over_the_socket_says_what_changed_or_why_nothing_did() {
    let (house, ann) = (House::new(), Place::new());
    ann.run(&["init"]).exits(0);
    let before = std::fs::read_to_string(house.place.data().join("strongroom.toml")).unwrap();
    let nobody = ann.run(&["reload"]).exits(125);
    assert!(nobody.stderr.contains("no host serves "), "{nobody:?}");
    house.tells("serving");
    let write = |text: &str| std::fs::write(house.place.data().join("strongroom.toml"), text).unwrap();
    let said = house.place.run(&["reload"]).exits(0);
    assert_eq!(said.out(), "in force: no principal differs\n0 connections closed, 0 jobs stopped\n");

    let key = std::fs::read_to_string(ann.data().join("keys/client.pub")).unwrap();
    let with_ann =
        format!("{before}\n[[principals]]\nname = \"ann\"\nkey = \"{}\"\ntenant = \"ann\"\n", key.trim());
    let lock = house.place.data().join("config.lock");
    std::fs::write(&lock, "").unwrap();
    write(&with_ann);
    let refused = |words: &str| {
        let said = house.place.run(&["reload"]).exits(1);
        assert!(said.out().is_empty() && said.stderr.contains("nothing was changed: "), "{said:?}");
        assert!(said.stderr.contains(words), "{words}: {said:?}");
        let said = house.place.run(&["reload", "--json"]).exits(1);
        let error: serde_json::Value = serde_json::from_str(&said.stderr).unwrap();
        assert_eq!(error["error"]["code"], "not-reloaded", "{error}");
    };
    refused("config.lock lies there");
    std::fs::remove_file(lock).unwrap();
    assert!(house.place.run(&["reload"]).exits(0).out().starts_with("in force: added: ann\n"));
    write(&format!("{with_ann}\n[bonds]\nmax_running = 3\n"));
    refused("bonds");
    write(&with_ann.replace("[bounds]\n", "[bounds]\nmax_running = 3\n"));
    refused("[bounds] cannot change while the host runs");
    write(&before);
    let read = house.place.run(&["reload", "--json"]).exits(0).json();
    assert_eq!(read["removed"], serde_json::json!(["ann"]));
    assert_eq!([&read["added"], &read["changed"]], [&serde_json::json!([]); 2]);
    assert_eq!([&read["closed"], &read["stopped"]], [0, 0]);
    // Each is in the audit log once, as after a signal.
    let changes = || {
        house
            .place
            .run(&["audit", "show"])
            .exits(0)
            .out()
            .matches("configuration changed: principals")
            .count()
    };
    wait_for("both records", || (changes() >= 2).then_some(()));
    assert_eq!(changes(), 2);
}
