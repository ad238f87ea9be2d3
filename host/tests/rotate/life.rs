//! A whole life: jobs, both keys replaced, jobs again; then everything that was signed before and after is asked for.

use std::fs;

use serde_json::Value;

use crate::cli_support::{Place, exit, wait_for};
use crate::support::{elsewhere, public, rotate, rotations, used};

/// Submits and gives the id.
fn submit(place: &Place) -> String {
    place.run(&["submit", "exit.wasm", "--json"]).exits(0).lines()[0]["job"].as_str().unwrap().to_owned()
}

/// Fetches a job's receipt, once it is over.
fn receipt(place: &Place, job: &str, more: &[&str], file: &str) {
    let arguments = [&["receipt", "get", job, "-o", file], more].concat();
    let mut said = None;
    wait_for("a job's end", || {
        let got = said.insert(place.run(&arguments));
        (got.code == 0 || !got.stderr.contains("is not over yet")).then_some(())
    });
    said.unwrap().exits(0);
}

/// Every index that was forwarded to the file, in order.
fn forwarded(place: &Place) -> Vec<u64> {
    let text = fs::read_to_string(place.path().join("copy.jsonl")).unwrap();
    let index = |line: &str| serde_json::from_str::<Value>(line).unwrap()["index"].as_u64().unwrap();
    text.lines().map(index).collect()
}

// Red without `rotated` in `Host::start_at` (no records), without its look at what was told before (told again at each start), without
// `for_audience` in `Receipts::issue` (the job of before has no receipt with its envelope), without `follow` in `Files::signer` (the old pin
// is another log's), without `is_of` in `Cursor::fits` (the forwarder stops at the first rotation).
#[test]
fn both_keys_are_replaced_and_everything_goes_on() {
    let place = used();
    let config = place.data().join("strongroom.toml");
    let forward =
        format!("\n[[forward]]\nname = \"copy\"\nto = \"file://{}/copy.jsonl\"\n", place.path().display());
    fs::write(&config, fs::read_to_string(&config).unwrap() + &forward).unwrap();

    // One that is over before, and one that waits over both rotations.
    let serving = place.serve();
    let over = submit(&place);
    receipt(&place, &over, &[], "old.receipt");
    place.run(&["queue", "pause", "default"]).exits(0);
    let waits = submit(&place);
    let busy = place.run(&["key", "rotate", "log"]).exits(125);
    assert!(busy.stderr.contains("a host serves it") && busy.stderr.contains("Stop it, rotate"), "{busy:?}");
    serving.stop().exits(0);

    let (old_host, new_host) = rotate(&place, "host");
    let (old_log, middle_log) = rotate(&place, "log");
    let (_, new_log) = rotate(&place, "log");
    assert_eq!(rotations(&place).len(), 0, "told at the next start");
    place.run(&["audit", "verify"]).exits(0);

    let serving = place.serve();
    assert_eq!(serving.host_key, new_host);
    place.run(&["queue", "resume", "default"]).exits(0);
    let later = submit(&place);
    for job in [&waits, &later] {
        receipt(&place, job, &["--with-envelope"], &format!("{job}.receipt"));
    }
    serving.stop().exits(0);

    let told = rotations(&place);
    let keys = |record: &Value| ["key", "old", "new"].map(|field| record[field].as_str().unwrap().to_owned());
    let expected =
        [["host", &old_host, &new_host], ["log", &old_log, &middle_log], ["log", &middle_log, &new_log]];
    assert_eq!(told.iter().map(keys).collect::<Vec<_>>(), expected.map(|one| one.map(str::to_owned)));
    let shown = place.run(&["audit", "show"]).exits(0);
    assert!(shown.out().contains(&format!("host key rotated: from {old_host} to {new_host}")), "{shown:?}");

    // Every pin of the line is good for the log, its copy too; a stranger's is not.
    let copy = place.path().join("copy").display().to_string();
    place.run(&["audit", "export", &copy]).exits(0);
    for key in [&old_log, &middle_log, &new_log] {
        let checked = elsewhere(&place, &["audit", "verify", &copy, "--key", key, "--json"]).exits(0).json();
        assert_eq!(
            (checked["key"].as_str(), checked["earlier_keys"].as_array().unwrap().len()),
            (Some(new_log.as_str()), 2)
        );
    }
    let words = elsewhere(&place, &["audit", "verify", &copy, "--key", &old_log]).exits(0);
    assert!(words.out().contains("which came after the pinned"), "{words:?}");
    elsewhere(&place, &["audit", "verify", &copy, "--key", &new_host]).exits(1);
    fs::remove_file(format!("{copy}/keys")).unwrap();
    elsewhere(&place, &["audit", "verify", &copy, "--key", &new_log]).exits(0);
    let lost = elsewhere(&place, &["audit", "verify", &copy, "--key", &old_log]).exits(1);
    assert!(
        lost.stderr.contains("the file `keys`, which leads from the one to the other, is missing"),
        "{lost:?}"
    );

    // Receipts: each with each pin, by the statements; without them only with the key that signed.
    let chain = place.run(&["key", "statement", "host"]).exits(0);
    place.file("host.keys", &chain.stdout);
    let log_chain = place.run(&["key", "statement", "log"]).exits(0);
    place.file("both.keys", [&chain.stdout[..], &log_chain.stdout].concat());
    let receipts = [
        ("old.receipt", &old_host),
        (&format!("{waits}.receipt"), &new_host),
        (&format!("{later}.receipt"), &new_host),
    ];
    for (file, signer) in receipts {
        for key in [&old_host, &new_host] {
            for keys in ["host.keys", "both.keys"] {
                let said = elsewhere(&place, &["receipt", "verify", file, "--host-key", key, "--keys", keys])
                    .exits(0);
                // Who signed it could have signed it yesterday. Red without `host_now`.
                let replaced = format!("replaced   the host's key is {new_host} now");
                assert_eq!(said.out().contains(&replaced), signer == &old_host, "{said:?}");
            }
            let alone = elsewhere(&place, &["receipt", "verify", file, "--host-key", key]);
            if key == signer {
                alone.exits(0);
            } else {
                assert!(alone.exits(1).stderr.contains("of another host"));
            }
        }
    }
    let said = elsewhere(
        &place,
        &["receipt", "verify", "old.receipt", "--host-key", &old_log, "--keys", "host.keys"],
    );
    assert!(said.exits(1).stderr.contains("not among the keys"));

    // Everything forwarded once, over all starts; everything in order; nothing told twice.
    let size = place.run(&["audit", "verify", "--json"]).exits(0).json()["size"].as_u64().unwrap();
    assert_eq!(forwarded(&place), (0..size).collect::<Vec<_>>());
    place.run(&["fsck"]).exits(0);
    place.run(&["run", "exit.wasm"]).exits(0);
    assert_eq!(rotations(&place).len(), 3);

    // The state made anew from a log with three keys, with envelopes for a key that is gone.
    place.run(&["fsck", "--rebuild"]).exits(0);
    place.run(&["fsck"]).exits(0);
    place.run(&["run", "exit.wasm"]).exits(0);
    place.run(&["receipt", "get", &waits, "--with-envelope", "-o", "again.receipt"]).exits(0);
    elsewhere(&place, &["receipt", "verify", "again.receipt", "--host-key", &new_host]).exits(0);
    assert_eq!(rotations(&place).len(), 3, "what was told is known after a rebuild, too");

    let shown = place.run(&["key", "show", "--json"]).exits(0).json();
    assert_eq!(
        (shown["host"]["key"].as_str(), shown["log"]["key"].as_str()),
        (Some(&*new_host), Some(&*new_log))
    );
    assert_eq!(shown["log"]["replaced"].as_array().unwrap().len(), 2);
    let words = place.run(&["key", "show"]).exits(0);
    assert!(words.out().contains(&format!("{old_host} until ")), "{words:?}");
}

/// A key may be replaced before there is a log, a state or a job.
#[test]
fn a_directory_that_was_never_served_can_have_its_keys_replaced() {
    let place = Place::new();
    place.run(&["init"]).exits(0);
    assert!(place.run(&["key", "statement", "host"]).exits(1).stderr.contains("was never replaced"));
    let (_, host) = rotate(&place, "host");
    let (_, log) = rotate(&place, "log");
    let init = place.run(&["init", "--json"]).exits(0).json();
    assert_eq!((init["host_key"].as_str(), init["log_key"].as_str()), (Some(&*host), Some(&*log)));
    place.module("exit.wasm", &exit(0));
    place.run(&["run", "exit.wasm"]).exits(0);
    place.run(&["audit", "verify"]).exits(0);
    assert_eq!(rotations(&place).len(), 2);
    assert_eq!(public(&place, "log"), log);
    // Nowhere else are keys made by the way.
    let nowhere = place.path().join("nowhere").display().to_string();
    elsewhere(&place, &["key", "rotate", "host", "--dir", &nowhere]).exits(125);
    assert!(!place.path().join("nowhere").exists());
}
