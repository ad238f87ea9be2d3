//! `strongroom fsck` through the real binary: a directory that is good is called so, and each fault is found, named, and mended as it says.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod cli_support;
#[path = "common/trees.rs"]
mod trees;

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

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

type Change<'a> = &'a dyn Fn();

/// What the check finds once `change` was made, which is undone then.
fn with(place: &Place, change: Change<'_>, says: &[&str]) -> Value {
    let data = place.data();
    let aside = tempfile::tempdir().unwrap();
    copy(&data, aside.path());
    change();
    let report = finds(place, says);
    fs::remove_dir_all(&data).unwrap();
    copy(aside.path(), &data);
    report
}

fn flip(path: &Path) {
    let mut bytes = fs::read(path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(path, bytes).unwrap();
}

fn chmod(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

fn one_below(dir: &Path) -> PathBuf {
    files(dir).into_keys().next().unwrap()
}

#[test]
fn a_good_directory_is_called_good_and_says_what_was_looked_at() {
    let place = used();
    place.file("token", "a long and secret value");
    place.run(&["secret", "set", "token", "--from-file", "token"]).exits(0);
    let report = finds(&place, &[]);
    assert_eq!(report["start"], "serve");
    let checked = report["checked"].to_string();
    for part in [
        "the log: the signature",
        "state against log: 2 jobs",
        "files that the state names",
        "evidence",
        "configuration, principals and policy: a host would start with them; against record 1 of the log",
        "keys: 3 of 3 can be read",
        "secrets for jobs: 1 open",
        "the MAC of each compiled module: 2 are this host's\"",
        "known_hosts: every line",
        "files and directories: no links",
    ] {
        assert!(checked.contains(part), "{part}: {checked}");
    }
    // Also that each name in the directory is known to be a host's.
    assert_eq!((&report["notes"], &report["unchecked"]), (&Value::Array(vec![]), &Value::Array(vec![])));
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
    let with = |change: Change<'_>, says: &[&str]| with(&place, change, says);
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

// Red without `verify_slice` in `Cache`; when `Cache::check` passes over what `parse` does not know; and when `look` in `fsck/cache` makes
// findings of it.
#[test]
fn a_compiled_module_that_is_not_this_hosts_is_told_and_no_fault() {
    let place = used();
    let data = place.data();
    let compiled = files(&data.join("cache")).into_keys().collect::<Vec<_>>();
    let told = |change: Change<'_>| {
        let report = with(&place, change, &[]);
        (report["notes"].as_array().unwrap().clone(), report["checked"].to_string())
    };
    let name = |path: &Path| path.file_name().unwrap().to_str().unwrap().to_owned();
    let changes: [Change; 2] =
        [&|| flip(&compiled[0]), &|| fs::copy(&compiled[1], &compiled[0]).map(drop).unwrap()];
    for change in changes {
        let (notes, checked) = told(change);
        let note = notes[0].as_str().unwrap();
        assert!(notes.len() == 1 && note.contains(&name(&compiled[0])), "{notes:?}");
        assert!(note.contains("its MAC is not this host's; harmless"), "{notes:?}");
        assert!(checked.contains("1 are this host's; 1 others are not"), "{checked}");
    }
    let strangers = || {
        for number in 0..20 {
            fs::write(data.join(format!("cache/note-{number}")), "what is this?").unwrap();
        }
    };
    let (notes, checked) = told(&strangers);
    assert_eq!(notes.len(), 11, "bounded: {notes:?}");
    assert!(notes[0].as_str().unwrap().contains("it is no file of a compiled module"), "{notes:?}");
    assert_eq!(notes[10], "and 10 more of these");
    assert!(checked.contains("2 are this host's; 20 others are not"), "{checked}");
    let (notes, _) = told(&|| fs::remove_file(data.join("keys/cache.key")).unwrap());
    assert!(notes[0].as_str().unwrap().contains("no keys/cache.key that vouches"), "{notes:?}");
    // As it says: whoever needs it makes it anew.
    flip(&compiled[0]);
    flip(&compiled[1]);
    let said = place.run(&["run", "exit.wasm"]).exits(3);
    assert!(said.stderr.is_empty() || said.stderr.contains("compiled code is discarded"), "{said:?}");
    let notes = finds(&place, &[])["notes"].as_array().unwrap().len();
    assert_eq!(notes, 1, "the module that nobody needed");
}

// Red when `pair` does not compare the halves, when it takes a key that is not there for good, without `open_to_check`, and when `of_log`
// does not read `log.pub`.
#[test]
fn keys_are_read_and_held_against_their_public_halves() {
    let place = used();
    let keys = place.data().join("keys");
    let swap = || {
        fs::rename(keys.join("host.pub"), keys.join("x")).unwrap();
        fs::rename(keys.join("client.pub"), keys.join("host.pub")).unwrap();
        fs::rename(keys.join("x"), keys.join("client.pub")).unwrap();
    };
    let both = [
        "keys: keys/host.pub is not the other half of keys/host.key",
        "keys: keys/client.pub is not the other half of keys/client.key",
    ];
    let report = with(&place, &swap, &both);
    assert!(report["checked"].to_string().contains("keys: 1 of 3"), "{report:#}");
    let gone = with(&place, &|| fs::remove_file(keys.join("host.pub")).unwrap(), &[]);
    assert_eq!(gone["notes"][0], "keys/host.pub is not there; the next start writes it");
    let none =
        with(&place, &|| fs::remove_file(keys.join("host.key")).unwrap(), &["host.key: it is not there"]);
    assert!(none["mend"].to_string().contains("put them back from a copy"), "{none:#}");

    let secret = fs::read_to_string(keys.join("log.key")).unwrap();
    let secret = secret.trim_end().rsplit(':').next().unwrap();
    let changes: [(Change, &str); 5] = [
        (&|| fs::write(keys.join("log.key"), format!("{secret}\n")).unwrap(), "not a key file"),
        (&|| chmod(&keys.join("log.key"), 0o644), "log.key"),
        (&|| chmod(&keys.join("cache.key"), 0o640), "cache.key: mode 0640 lets other users in"),
        (&|| fs::write(keys.join("cache.key"), "0123").unwrap(), "64 hex digits"),
        (&|| chmod(&keys, 0o755), "permissions: "),
    ];
    for (change, says) in changes {
        let report = with(&place, change, &[says]);
        assert!(report["start"].as_str().unwrap().starts_with("not start: "), "{report:#}");
        assert!(report["checked"].to_string().contains("the log: the signature"), "by log.pub: {report:#}");
        assert!(!report.to_string().contains(secret), "{report:#}");
    }
    let both = || {
        fs::write(keys.join("log.key"), "nothing").unwrap();
        fs::write(keys.join("log.pub"), "nothing").unwrap();
    };
    let report = with(&place, &both, &["log.key"]);
    assert!(report["unchecked"].to_string().contains("the log, and whether the state fits it"), "{report:#}");
    assert!(!report["checked"].to_string().contains("the log: the signature"), "{report:#}");
    finds(&place, &[]);
}

// Red without `OTHERS_WRITE`, without `PRIVATE_DIRECTORY` in `fsck/owner`, and without its questions for links, for what is neither file nor
// directory, and for the owner.
#[test]
fn nobody_else_can_change_or_exchange_what_is_the_hosts() {
    let place = used();
    let data = place.data();
    let segment = one_below(&data.join("evidence"));
    for (path, mode, says) in [
        (data.clone(), 0o777, "mode 0777 lets other users change it"),
        (data.join("strongroom.toml"), 0o620, "lets other users change it. Run: chmod go-w"),
        (one_below(&data.join("blobs")), 0o606, "lets other users change it"),
        (data.join("evidence"), 0o750, "mode 0750 lets other users in"),
        (data.join("state"), 0o705, "mode 0705 lets other users in"),
    ] {
        let report =
            with(&place, &|| chmod(&path, mode), &[&format!("permissions: {}: ", path.display()), says]);
        let starts = report["start"] == "serve";
        assert_eq!(starts, mode != 0o705, "as a start does: {report:#}");
    }
    let away = place.path().join("away");
    let link = |path: &Path| {
        fs::rename(path, &away).unwrap();
        symlink(&away, path).unwrap();
    };
    for path in
        [segment, one_below(&data.join("audit/tile")), data.join("keys/client.key"), data.join("lock")]
    {
        with(&place, &|| link(&path), &[&format!("permissions: {}: a link", path.display())]);
        fs::remove_file(&away).unwrap();
    }
    // On another disk, and where configurations are kept.
    for path in [data.join("blobs"), data.join("strongroom.toml")] {
        let report = with(&place, &|| link(&path), &[]);
        assert!(report["notes"].to_string().contains("a link; what it leads to was looked at"), "{report:#}");
        let open = || {
            chmod(&away, 0o777);
            symlink(&away, &path).unwrap();
        };
        let before =
            || if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) }.unwrap();
        with(&place, &|| (before(), open()).1, &["lets other users"]);
        if away.is_dir() { fs::remove_dir_all(&away) } else { fs::remove_file(&away) }.unwrap();
    }
    let socket = data.join("evidence/socket");
    let listening = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    let found = findings(&place.run(&["fsck", "--json"]).exits(1).json());
    assert_eq!(found.matches('\n').count(), 1, "{found}");
    assert!(found.contains("evidence/socket: neither a file nor a directory"), "{found}");
    drop(listening);
    fs::remove_file(socket).unwrap();
    let report = with(&place, &|| fs::write(data.join("notes.txt"), "mine").unwrap(), &[]);
    assert!(report["notes"][0].as_str().unwrap().ends_with("notes.txt: nothing of this host"), "{report:#}");
    // Only root may give files away.
    let theirs = one_below(&data.join("blobs"));
    if std::os::unix::fs::chown(&theirs, Some(4711), None).is_ok() {
        let says = format!("permissions: {}: it belongs to user 4711", theirs.display());
        finds(&place, &[&says]);
        std::os::unix::fs::chown(&theirs, Some(0), None).unwrap();
    }
    finds(&place, &[]);
}

// Red when `look` in `fsck/governs` compares nothing; when a configuration that cannot be read ends the check; and when the state's word is
// not held against the log's.
#[test]
fn a_configuration_that_is_another_is_told_and_one_that_is_none_is_found() {
    let place = used();
    let file = place.data().join("strongroom.toml");
    let text = fs::read_to_string(&file).unwrap();
    fs::write(&file, format!("{text}\n[labels]\nzone = \"a\"\n")).unwrap();
    let digest = place.run(&["config", "digest", "--json"]).exits(0).json();
    let report = finds(&place, &[]);
    let notes = report["notes"].as_array().unwrap();
    let note = notes[0].as_str().unwrap();
    assert!(
        notes.len() == 1 && note.starts_with("policy: changed since the last start, from sha256:"),
        "{notes:?}"
    );
    let told = format!("by record 1 of the log, to {};", digest["policy"].as_str().unwrap());
    assert!(note.contains(&told), "{note}");
    place.run(&["run", "exit.wasm"]).exits(3);
    let report = finds(&place, &[]);
    assert_eq!(report["notes"], Value::Array(vec![]), "a start has the log say it");
    assert!(!report["checked"].to_string().contains("against record 1 of"), "{report:#}");

    let report = with(&place, &|| fs::write(&file, "listen = 3\n").unwrap(), &["configuration: "]);
    assert!(report["start"].as_str().unwrap().starts_with("not start: "), "{report:#}");
    let (checked, unchecked) = (report["checked"].to_string(), report["unchecked"].to_string());
    assert!(checked.contains("the log: the signature") && checked.contains("every byte"), "{report:#}");
    assert!(unchecked.contains("a replay needs a configuration"), "{report:#}");
    assert!(unchecked.contains("whether the configuration is what the log said last"), "{report:#}");
    let other = || {
        let db = sled::Config::new().path(place.data().join("state")).segment_size(8 << 20).open().unwrap();
        let mut row = db.get("m/governs").unwrap().unwrap().to_vec();
        row[0] ^= 1;
        db.insert("m/governs", row).unwrap();
        db.flush().unwrap();
    };
    with(&place, &other, &["state: what governs the host is otherwise in the state than by record"]);
}

// Red when `Vault::check` does not open what it lists.
#[test]
fn a_secret_that_does_not_open_is_named_and_nothing_of_it_is_told() {
    let place = used();
    place.file("token", "a long and secret value");
    for name in ["one", "two"] {
        place.run(&["secret", "set", name, "--from-file", "token"]).exits(0);
    }
    let data = place.data();
    let one = data.join("secrets/one.sealed");
    let changes: [Change; 2] =
        [&|| flip(&one), &|| fs::copy(data.join("secrets/two.sealed"), &one).map(drop).unwrap()];
    for change in changes {
        let report = with(&place, change, &["secrets: the secret one cannot be decrypted"]);
        assert!(report["checked"].to_string().contains("secrets for jobs: 1 open"), "{report:#}");
        assert!(!report.to_string().contains("secret value"), "{report:#}");
    }
    let key = data.join("keys/secrets.key");
    let hex = fs::read_to_string(&key).unwrap();
    let other = || fs::write(&key, format!("{}\n", "5a".repeat(32))).unwrap();
    let report = with(&place, &other, &["the secret one cannot", "the secret two cannot"]);
    assert!(!report.to_string().contains(hex.trim_end()), "{report:#}");
    let changes: [(Change, &str); 3] = [
        (&|| chmod(&key, 0o644), "secrets.key: mode 0644 lets other users in"),
        (&|| fs::remove_file(&key).unwrap(), "secrets: "),
        (&|| chmod(&data.join("secrets"), 0o755), "mode 0755 lets other users in"),
    ];
    for (change, says) in changes {
        let report = with(&place, change, &[says]);
        assert!(report["unchecked"].to_string().contains("whether any of them opens"), "{report:#}");
    }
    // Red without `PRIVATE_FILE` in `fsck/owner`.
    with(&place, &|| chmod(&one, 0o640), &["permissions: ", "one.sealed: mode 0640 lets other users in"]);
}

// Red without the lines for each of them in `fsck/abroad`.
#[test]
fn whom_it_trusts_and_how_far_the_log_was_sent_is_looked_at() {
    let place = used();
    let data = place.data();
    let known = || fs::write(data.join("known_hosts"), "somewhere:7443 nokey\n").unwrap();
    with(&place, &known, &["known_hosts: ", "line 1"]);
    let out = place.path().join("sent");
    fs::create_dir(&out).unwrap();
    let file = data.join("strongroom.toml");
    let text = fs::read_to_string(&file).unwrap();
    let to = format!("\n[[forward]]\nname = \"a\"\nto = \"file://{}\"\n", out.join("log").display());
    fs::write(&file, text + &to).unwrap();
    place.run(&["run", "exit.wasm"]).exits(3);
    let cursor = data.join("forward/a.cursor");
    assert!(finds(&place, &[])["checked"].to_string().contains("1 destinations of the log"));
    with(&place, &|| fs::write(&cursor, "lost").unwrap(), &["forward: a: ", "damaged"]);
    // What cannot be read was not checked. Red without `unread`, and with `read_all()?`.
    let unread = |file: &Path, says: &str| {
        let before = file.with_extension("aside");
        fs::rename(file, &before).unwrap();
        fs::create_dir(file).unwrap();
        let report = place.run(&["fsck", "--json"]).exits(1).json();
        assert!(report["unchecked"].to_string().contains(says), "{report:#}");
        assert!(report["checked"].to_string().contains("the log: the signature"), "{report:#}");
        fs::remove_dir(file).unwrap();
        fs::rename(before, file).unwrap();
    };
    unread(&cursor, "forward: a: ");
    unread(&one_below(&data.join("evidence")), "the evidence behind the file that cannot be read");
    let text = fs::read_to_string(&cursor).unwrap();
    let (start, root) = text.split_once("root ").unwrap();
    let other = format!("{start}root {}", root.replace(['0', '1'], "2"));
    with(&place, &|| fs::write(&cursor, &other).unwrap(), &["forward: a: the log does not begin with"]);
}
