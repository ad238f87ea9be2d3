//! `strongroom principal` through the real binary: an operator's commands are done at once and stay done; nobody else's are done at all.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod cli_support;

use std::fs;

use cli_support::{CAT, LOOP, Place, Said, Serving, wait_for};
use strongroom_job::SecretKey;

/// A house whose file names ada, an operator, and ann; ada's and ann's own places; a key that nobody knows.
struct Town {
    house: Place,
    ada: Place,
    ann: Place,
    new: Place,
}

fn key(place: &Place) -> String {
    fs::read_to_string(place.data().join("keys/client.pub")).unwrap().trim().to_owned()
}

impl Town {
    fn new() -> Self {
        let [house, ada, ann, new] = [(); 4].map(|()| Place::new());
        for place in [&house, &ada, &ann, &new] {
            place.run(&["init"]).exits(0);
        }
        let town = Self { house, ada, ann, new };
        town.write(&format!(
            "{}\n[[principals]]\nname = \"ada\"\nkey = \"{}\"\nroles = [\"admin\"]\n[[principals]]\nname = \"ann\"\nkey = \"{}\"\ntenant = \"ann\"\n",
            town.file(),
            key(&town.ada),
            key(&town.ann),
        ));
        town
    }

    fn file(&self) -> String {
        fs::read_to_string(self.house.data().join("strongroom.toml")).unwrap()
    }

    fn write(&self, text: &str) {
        fs::write(self.house.data().join("strongroom.toml"), text).unwrap();
    }
}

/// A command for the host that serves, as whoever's place it is.
fn at(serving: &Serving, place: &Place, arguments: &[&str]) -> Said {
    let remote = ["--host", serving.address.as_str(), "--host-key", serving.host_key.as_str()];
    place.run(&[arguments, &remote].concat())
}

fn refused(said: Said, words: &[&str]) {
    let said = said.exits(120);
    for words in words {
        assert!(said.stderr.contains(words), "{words}: {said:?}");
    }
}

// Red when `needed` asks no role of `Request::ChangePrincipal` (ann is obeyed), and without `enforce` (the job goes on).
#[test]
fn an_operator_lets_keys_in_and_out_and_puts_one_in_anothers_place() {
    let town = Town::new();
    let Town { house, ada, ann, new } = &town;
    let module = ann.module("loop.wasm", LOOP).display().to_string();
    let serving = house.serve();
    let (ann_key, new_key) = (key(ann), key(new));

    // Whoever has no such role changes nothing and sees nothing.
    let add = ["principal", "add", &new_key, "--name", "ci", "--tenant", "ann"];
    refused(at(&serving, ann, &add), &["admin"]);
    refused(at(&serving, ann, &["principal", "list"]), &["admin"]);
    assert_ne!(at(&serving, new, &["job", "list"]).code, 0);

    let added = at(
        &serving,
        ada,
        &[&add[..], &["--role", "view", "--connect", "db.example.com:5432", "--json"]].concat(),
    );
    let added = added.exits(0).json();
    let view = &added["principals"][0];
    assert_eq!(
        (&view["key"], &view["source"], &view["revoked"]),
        (&new_key.as_str().into(), &"command".into(), &false.into())
    );
    assert_eq!(
        (&view["roles"], &view["entry"]["connect"]),
        (&serde_json::json!(["view"]), &serde_json::json!(["tcp://db.example.com:5432"]))
    );
    at(&serving, new, &["job", "list"]).exits(0);
    refused(at(&serving, ada, &add), &["conflict", "is a principal already"]);
    let listed = at(&serving, ada, &["principal", "list"]).exits(0);
    let of = |key: &str| {
        let line = listed.out().lines().find(|line| line.contains(key)).unwrap().to_owned();
        line.split_whitespace().skip(1).map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(of("KEY"), ["NAME", "TENANT", "ROLES", "BY", "IN"]);
    assert_eq!(of(&new_key), ["ci", "ann", "view", "command", "yes"]);
    assert_eq!(of(&ann_key), ["ann", "ann", "view,submit", "file", "yes"]);

    // Ann's job runs, and ends with her key.
    at(&serving, ann, &["module", "push", &module]).exits(0);
    let submitted = at(&serving, ann, &["submit", &module, "--timeout", "1h", "--json"]).exits(0).json();
    let job = submitted["job"].as_str().unwrap().to_owned();
    wait_for("the job to run", || {
        let shown = at(&serving, ann, &["job", "show", &job, "--json"]).exits(0).json();
        (shown["state"] == "running").then_some(())
    });
    at(&serving, ada, &["principal", "revoke", &ann_key]).exits(0);
    assert_ne!(at(&serving, ann, &["job", "list"]).code, 0);
    let ended = at(&serving, new, &["job", "show", &job, "--json"]).exits(0).json();
    assert_eq!(ended["state"], "cancelled", "{ended}");
    refused(at(&serving, ada, &["principal", "revoke", &ann_key]), &["is out already"]);
    refused(at(&serving, ada, &["principal", "revoke", &key(ada)]), &["an operator is always left"]);
    let reloaded = house.run(&["reload"]).exits(0);
    assert!(reloaded.out().contains("no principal differs"), "{reloaded:?}");
    assert_ne!(
        at(&serving, ann, &["job", "list"]).code,
        0,
        "the file still names her, and that is not enough"
    );
    at(&serving, ada, &["principal", "restore", &ann_key]).exits(0);
    at(&serving, ann, &["job", "list"]).exits(0);

    // Another key in her place.
    let next = SecretKey::from_seed(&[77; 32].into()).public().to_string();
    at(&serving, ada, &["principal", "rotate", &ann_key, &next]).exits(0);
    assert_ne!(at(&serving, ann, &["job", "list"]).code, 0);
    let all = at(&serving, ada, &["principal", "list", "--json"]).exits(0).json();
    let view = all["principals"]
        .as_array()
        .unwrap()
        .iter()
        .find(|view| view["key"] == next.as_str())
        .unwrap()
        .clone();
    assert_eq!([&view["name"], &view["tenant"], &view["source"]], ["ann", "ann", "command"]);
    serving.stop().exits(0);

    // All of it is in the log, and goes on after a restart.
    let log = house.run(&["audit", "show"]).exits(0);
    let told: Vec<&str> = log.out().lines().filter(|line| line.contains("principals: ")).collect();
    assert_eq!(told.len(), 4, "{told:#?}");
    for (line, words) in told.iter().zip(["added", "revoked", "restored", "revoked"]) {
        assert!(line.contains(&format!("principals: {words} ")), "{words}: {line}");
    }
    house.run(&["audit", "verify"]).exits(0);
    house.run(&["fsck"]).exits(0);
    let serving = house.serve();
    at(&serving, new, &["job", "list"]).exits(0);
    assert_ne!(at(&serving, ann, &["job", "list"]).code, 0);
    serving.stop().exits(0);
}

// Red without `is_operator` in `take_command`, and without `not_locked` in `judge`.
#[test]
fn neither_a_locked_host_nor_one_whose_trust_file_says_otherwise_takes_commands() {
    let town = Town::new();
    let Town { house, ada, ann, new } = &town;
    let revoke = ["principal", "revoke", &key(ann)];
    let serving = house.serve();
    let lock = house.data().join("config.lock");
    fs::write(&lock, "").unwrap();
    refused(at(&serving, ada, &revoke), &["forbidden", "config.lock"]);
    fs::remove_file(lock).unwrap();
    serving.stop().exits(0);

    // The owner's key alone, of another place, is in the trust file.
    let owner = key(house);
    house
        .run(&["trust", "new", "one", "--threshold", "1", "--expires", "+30d", "--operator", &owner])
        .exits(0);
    house.run(&["trust", "sign", "one"]).exits(0);
    house.run(&["trust", "install", "one"]).exits(0);
    let serving = house.serve();
    refused(at(&serving, ada, &revoke), &["forbidden", "trust file"]);
    at(&serving, ann, &["job", "list"]).exits(0);
    let refusals = wait_for("the record", || {
        let log = house.run(&["audit", "show", "--json"]).exits(0);
        let refusals = log.lines().into_iter().filter(|line| line["record"]["type"] == "refused").count();
        (refusals > 0).then_some(refusals)
    });
    assert!(refusals >= 1);
    serving.stop().exits(0);
    // What no host could take is not even sent.
    for wrong in [
        &["principal", "add", "ed25519:00", "--name", "ci"][..],
        &["principal", "add", &key(new), "--name", "a b"],
        &["principal", "add", &key(new), "--name", "ci", "--role", "root"],
        &["principal", "add", &key(new)],
    ] {
        house.run(wrong).exits(126);
    }
}

// Red without `tell_of_no_operator`, and without `ordered` in `policy check`, which finds nothing wrong then.
#[test]
fn who_asks_the_file_is_told_what_commands_make_of_it() {
    let town = Town::new();
    let Town { house, ada, ann, new } = &town;
    let module = house.module("cat.wasm", CAT).display().to_string();
    let (ada_key, new_key, owner) = (key(ada), key(new), key(house));
    let explain = |who: &str| house.run(&["policy", "explain", who, &module]);
    explain("ann").exits(0);
    explain("ci").exits(126);
    let serving = house.serve();
    at(&serving, ada, &["principal", "add", &new_key, "--name", "ci", "--role", "admin"]).exits(0);
    at(&serving, ada, &["principal", "revoke", &key(ann)]).exits(0);
    // Whoever came by a command takes out everybody whom the file lets operate: an operator is left all the same.
    at(&serving, new, &["principal", "revoke", &owner]).exits(0);
    at(&serving, new, &["principal", "revoke", &ada_key]).exits(0);
    serving.stop().exits(0);

    let out = explain("ann").exits(1);
    assert!(out.stderr.contains("took its key"), "{out:?}");
    explain("ci").exits(0);
    let checked = house.run(&["policy", "check"]).exits(0);
    assert!(checked.out().contains("ci of tenant default: admin"), "{checked:?}");
    assert!(!checked.out().contains("ada of tenant"), "{checked:?}");

    // The file takes ci's rights: with it, nobody operates the host, who did by the file alone.
    town.write(&format!("{}\n[[principals]]\nname = \"ci\"\nkey = \"{new_key}\"\n", town.file()));
    let checked = house.run(&["policy", "check"]).exits(1);
    assert!(checked.stderr.contains("no principal could operate the host"), "{checked:?}");
    let serving = house.serve();
    at(&serving, new, &["job", "list"]).exits(0);
    let said = serving.stop().exits(0);
    for words in
        ["commands of operators took out", "Give another key the role admin", "strongroom principal list"]
    {
        assert!(said.stderr.contains(words), "{words}: {said:?}");
    }
    // As it says.
    town.write(
        &town.file().replace(
            &format!("key = \"{new_key}\"\n"),
            &format!("key = \"{new_key}\"\nroles = [\"admin\"]\n"),
        ),
    );
    let serving = house.serve();
    at(&serving, new, &["principal", "restore", &ada_key]).exits(0);
    at(&serving, ada, &["principal", "list"]).exits(0);
    assert!(!serving.stop().exits(0).stderr.contains("commands of operators"));
}
