//! `strongroom serve` as it is run: what it says of itself, what the kernel says of it, and that it does its work all the same.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::process::Command;

use serde_json::{Value, json};

use super::cli_support::{Place, Serving, print, wait_for};
use super::{filters, landlock_version};

const WORDCOUNT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/prebuilt/wordcount.wasm");

/// A place whose principal has a volume, and no right to any directory; its log goes to a file.
pub(super) fn service(more: &str) -> Place {
    let place = Place::new();
    for directory in ["docs", "forwarded"] {
        fs::create_dir(place.path().join(directory)).unwrap();
    }
    place.file("docs/a.txt", "one two\nthree\n");
    let key = place.run(&["init", "--json"]).exits(0).json()["client_key"].as_str().unwrap().to_owned();
    let config = format!(
        "log_origin = \"example.com/log\"\n{more}\n[volumes.docs]\npath = {:?}\n\
         [[principals]]\nname = \"alice\"\nkey = \"{key}\"\nvolumes = {{ docs = \"read\" }}\nconnect = [\"localhost:*\"]\n\
         secrets = [\"word\"]\n\
         [[forward]]\nname = \"copy\"\nto = \"file://{}\"\n",
        place.path().join("docs"),
        place.path().join("forwarded/log.jsonl").display(),
    );
    fs::write(place.data().join("strongroom.toml"), config).unwrap();
    place
}

pub(super) fn counts(place: &Place) -> String {
    let said = place.run(&["submit", "--wait", WORDCOUNT, "--read", "docs:/docs", "--", "/docs"]).exits(0);
    said.out().split_whitespace().take(3).collect::<Vec<_>>().join(" ")
}

/// A line of what the kernel says of a process.
fn status(serving: &Serving, key: &str) -> String {
    let status = fs::read_to_string(format!("/proc/{}/status", serving.pid())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(key)).unwrap();
    line.trim_start_matches(':').trim().to_owned()
}

/// The main job, and what else a host does with the disk, in a host that has given all of it up.
// Red without, in `Plan`, each for itself: the volumes, the destination's directory, `programs` (no module is compiled), `shared` (no secret).
#[test]
fn a_confined_host_does_its_work_also_after_a_restart() {
    let place = service("");
    place.run_with_input(&["secret", "set", "word"], b"hush").exits(0);
    for round in 1..=2 {
        let serving = place.serve();
        assert_eq!(counts(&place), "2 3 14", "round {round}");
        // A module that no host has compiled yet.
        let module = format!("new-{round}.wasm");
        place.module(&module, &print(1, "hello", 5));
        assert_eq!(place.run(&["submit", "--wait", &module, "--secret", "word"]).exits(0).out(), "hello");
        assert_eq!(
            place.run(&["submit", "--wait", &module, "--scratch", "--fuel", "100000"]).exits(0).out(),
            "hello"
        );
        let said = serving.stop().exits(0);
        for word in ["WARN", "ERROR"] {
            assert!(!said.stderr.contains(word), "{}", said.stderr);
        }
        let forwarded = fs::read_to_string(place.path().join("forwarded/log.jsonl")).unwrap();
        assert_eq!(forwarded.matches("host-stopped").count(), round, "{forwarded}");
    }
    place.run(&["audit", "verify"]).exits(0);
}

/// What is erased has the state's file written anew, and moved into the place of the old one, by a host that may not look above its directory.
// Red when `put` syncs the name of the data directory: the host ends with 125.
#[test]
fn a_confined_host_writes_its_state_anew() {
    let place = service("");
    let config = place.data().join("strongroom.toml");
    let text = fs::read_to_string(&config).unwrap();
    fs::write(&config, text.replace("name = \"alice\"\n", "name = \"alice\"\noperator = true\n")).unwrap();
    let serving = place.serve();
    let file = place.data().join("state/db");
    let inode = || fs::metadata(&file).ok().map(|file| file.ino());
    let before = inode();
    place.module("once.wasm", &print(1, "hello", 5));
    let job = place.run(&["submit", "once.wasm"]).exits(0).out().trim().to_owned();
    place.run(&["job", "result", &job]).exits(0);
    place.run(&["job", "erase", &job]).exits(0);
    wait_for("the state's file to be another", || {
        inode().is_some_and(|now| Some(now) != before).then_some(())
    });
    assert_eq!(counts(&place), "2 3 14");
    let said = serving.stop().exits(0);
    for word in ["WARN", "ERROR"] {
        assert!(!said.stderr.contains(word), "{}", said.stderr);
    }
    place.serve().stop().exits(0);
    place.run(&["fsck"]).exits(0);
}

// Red without `give_up` as a whole; without `shrink_bounding_set`, where root runs this; without the limit on cores.
#[test]
fn the_kernel_says_of_a_host_that_it_has_no_privileges() {
    let place = service("");
    let serving = place.serve();
    for set in ["CapInh", "CapPrm", "CapEff", "CapAmb"] {
        assert_eq!(status(&serving, set), "0000000000000000", "{set}");
    }
    if rustix::process::geteuid().is_root() {
        assert_eq!(status(&serving, "CapBnd"), "0000000000000000");
    }
    assert_eq!(status(&serving, "NoNewPrivs"), "1");
    if filters() {
        assert_eq!(status(&serving, "Seccomp"), "2");
    }
    let limits = fs::read_to_string(format!("/proc/{}/limits", serving.pid())).unwrap();
    let core = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
    assert_eq!(core.split_whitespace().skip(4).take(2).collect::<Vec<_>>(), ["0", "0"], "{core}");
    serving.stop().exits(0);
}

/// What `--json` says first.
fn confinement(place: &Place) -> Value {
    let mut command = place.command(&["serve", "--json", "--listen", "127.0.0.1:0"]);
    let running = super::cli_support::start(&mut command);
    wait_for("it to listen", || place.data().join("live.json").exists().then_some(()));
    running.signal("TERM");
    let said = running.finish().exits(0);
    let first: Value = serde_json::from_str(said.out().lines().next().unwrap()).unwrap();
    let mut told = first["confinement"].clone();
    told["warned"] = said.stderr.contains("WARN").into();
    told
}

#[test]
fn a_host_says_how_far_it_is_confined() {
    if landlock_version() < 6 || !filters() {
        println!("NOT TESTED: this kernel cannot confine a host in full");
        return;
    }
    let told = confinement(&service("confine = \"required\""));
    assert_eq!(told, json!({"files": "whole", "calls": "whole", "warned": false}));
    // `owner`, which `init` makes, may name any directory.
    let place = Place::new();
    place.run(&["init"]).exits(0);
    let told = confinement(&place);
    assert_eq!(told, json!({"files": "whole", "calls": "whole", "any_directory": "owner", "warned": true}));
}

// Without the test of `any_directory` in `confine` the host serves, and the test waits for its end in vain.
#[test]
fn who_demands_confinement_is_told_of_the_principal_that_rules_it_out() {
    let place = Place::new();
    place.run(&["init"]).exits(0);
    let path = place.data().join("strongroom.toml");
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, format!("confine = \"required\"\n{text}")).unwrap();
    let said = place.run(&["serve", "--listen", "127.0.0.1:0"]).exits(125);
    assert!(said.stderr.contains("principal owner may name any directory"), "{said:?}");
    assert!(said.stderr.contains("Give it volumes"), "{said:?}");
    assert!(!place.data().join("live.json").exists());
}

/// Keys and configuration that somebody else could have read or written: no start, and the command that mends it; done, it starts.
// Without `check_guarded` in `serve` the host serves, and the test waits for its end in vain.
#[test]
fn a_host_does_not_start_with_keys_or_a_configuration_that_are_open_to_others() {
    let place = service("");
    for (name, wrong, right) in [
        ("", "777", "700"),
        ("strongroom.toml", "644", "600"),
        ("strongroom.toml", "620", "600"),
        ("strongroom.toml", "000", "600"),
        ("keys", "755", "700"),
        ("keys/log.key", "640", "600"),
        ("keys/host.key", "000", "600"),
        ("keys/cache.key", "604", "600"),
    ] {
        let path = place.data().join(name);
        if name == "keys/cache.key" && !path.exists() {
            place.serve().stop().exits(0);
        }
        let chmod =
            |mode: &str| assert!(Command::new("chmod").arg(mode).arg(&path).status().unwrap().success());
        chmod(wrong);
        let said = place.run(&["serve", "--listen", "127.0.0.1:0"]).exits(125);
        let mend = format!("Run: chmod {right} {}", path.display());
        assert!(said.stderr.contains(mend.trim_end_matches('/')), "{name} {wrong}: {said:?}");
        chmod(right);
    }
    place.serve().stop().exits(0);
}
