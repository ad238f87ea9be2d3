//! `strongroom receipt` through the real binary: fetched from a host, believed without one, run again.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod cli_support;
use std::path::Path;
use std::process::Command;

use cli_support::{CAT, Place, Said, print, start};
use strongroom::home::Home;
use strongroom_job::receipt::{Parts, Proven, Receipt};
use strongroom_job::{Digest, Event, OutputSummary, Record, SecretKey};

/// A place where a deterministic job ran that copied its input, its id and the host's key.
fn used() -> (Place, String, String) {
    let place = Place::new();
    place.module("cat.wasm", CAT);
    place.file("words.txt", "some words\n");
    let arguments =
        ["run", "--json", "--deterministic", "--fuel", "1000000", "--input", "words.txt", "cat.wasm"];
    let lines = place.run(&arguments).exits(0).lines();
    let key = place.run(&["init", "--json"]).json()["host_key"].as_str().unwrap().to_owned();
    let job = lines[0]["job"].as_str().unwrap().to_owned();
    (place, job, key)
}

/// On another machine: no data directory, no home, an empty environment, nothing but the files that are named.
fn elsewhere(place: &Place, arguments: &[&str]) -> Said {
    let mut command = Command::new(env!("CARGO_BIN_EXE_strongroom"));
    command.args(arguments).env_clear().current_dir(place.path());
    start(&mut command).finish()
}

// Red without the comparison of `--job-output`.
#[test]
fn a_receipt_is_believed_where_there_is_no_host() {
    let (place, job, key) = used();
    place.run(&["receipt", "get", &job, "-o", "job.receipt"]).exits(0);
    let printed = place.run(&["receipt", "get", &job]).exits(0);
    place.file("printed.receipt", &printed.stdout);
    std::fs::remove_dir_all(place.data()).unwrap();
    let verify = |more: &[&str]| {
        elsewhere(&place, &[&["receipt", "verify", "job.receipt", "--host-key", &key], more].concat())
    };
    let said = verify(&["--job-output", "stdout=words.txt"]).exits(0);
    assert!(
        said.out().contains("the receipt is good") && said.out().contains("and so is the file"),
        "{said:?}"
    );
    let told = verify(&["--json"]).exits(0).json();
    assert_eq!((told["job"].as_str(), &told["outcome"]["type"]), (Some(job.as_str()), &"exited".into()));
    elsewhere(&place, &["receipt", "verify", "printed.receipt", "--host-key", &key]).exits(0);
    assert!(!place.data().exists(), "verifying makes no data directory");

    let other = place.file("other.txt", "some wards\n").display().to_string();
    let said = verify(&["--job-output", &format!("stdout={other}")]).exits(1);
    assert!(said.stderr.contains("not the stdout of job"), "{said:?}");
    let said = verify(&["--job-output", "result=other.txt"]).exits(126);
    assert!(said.stderr.contains("it has stdout, stderr"), "{said:?}");
    verify(&["--job-output", "stdout"]).exits(126);
    let log = told["log"].as_str().unwrap();
    verify(&["--log", log]).exits(0);
    let other_log = "example.com/audit+47e2ec06+Ae1JKMYo0cLG6ukDOJBZlWEpWSc6XGP5NjbBRhSshzfR";
    let said = verify(&["--log", other_log]).exits(1);
    assert!(said.stderr.contains("of another log"), "{said:?}");

    let stranger = format!("ed25519:{}", "5866666666666666666666666666666666666666666666666666666666666666");
    let said = elsewhere(&place, &["receipt", "verify", "job.receipt", "--host-key", &stranger]).exits(1);
    assert!(said.stderr.contains("of another host"), "{said:?}");
    elsewhere(&place, &["receipt", "verify", "missing", "--host-key", &key]).exits(126);
    elsewhere(&place, &["receipt", "verify", "job.receipt"]).exits(126);
}

#[test]
fn a_changed_receipt_is_refused_with_the_reason() {
    let (place, job, key) = used();
    place.run(&["receipt", "get", &job, "--with-envelope", "-o", "job.receipt"]).exits(0);
    let good = std::fs::read_to_string(place.path().join("job.receipt")).unwrap();
    let says = |text: &str, reason: &str| {
        place.file("bad.receipt", text);
        let said = elsewhere(&place, &["receipt", "verify", "bad.receipt", "--host-key", &key]).exits(1);
        assert!(said.stderr.contains(reason), "{reason}: {said:?}");
        let json = ["receipt", "verify", "bad.receipt", "--json", "--host-key", &key];
        let error: serde_json::Value = serde_json::from_str(&elsewhere(&place, &json).stderr).unwrap();
        assert_eq!(error["error"]["code"], "bad-receipt");
    };
    says("", "malformed");
    says("{}", "malformed");
    says(good.trim_end(), "not written as a host writes it");
    says(&good.replacen("\"index\":", "\"index\": ", 1), "not written as a host writes it");
    says(&good.replacen("\"receipt\":1", "\"receipt\":2", 1), "version 2");
    says(&good.replacen("\"sig\":\"", "\"sig\":\"AAAA", 1), "bad signature");
    let parsed: serde_json::Value = serde_json::from_str(&good).unwrap();
    let index = parsed["finished"]["index"].as_u64().unwrap();
    says(&good.replacen(&format!("\"index\":{index}"), "\"index\":999", 1), "differ in");
    let proof = parsed["finished"]["proof"].as_array().unwrap();
    let (first, second) = (proof[0].as_str().unwrap(), proof[1].as_str().unwrap());
    let finished = good.split_once("\"finished\"").unwrap();
    let swapped =
        finished.1.replacen(first, "FIRST", 1).replacen(second, first, 1).replacen("FIRST", second, 1);
    says(&format!("{}\"finished\"{swapped}", finished.0), "the proof of the finished record");
    let checkpoint = parsed["checkpoint"].as_str().unwrap();
    let line = checkpoint.lines().nth(2).unwrap();
    says(&good.replacen(line, &"A".repeat(43), 1), "differ in byproducts.checkpoint");
}

/// Shows eight random bytes.
const RANDOM: &str = r#"(module
    (import "wasi_snapshot_preview1" "random_get" (func $random (param i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
    (memory (export "memory") 1)
    (func (export "_start")
        (drop (call $random (i32.const 16) (i32.const 8)))
        (i32.store (i32.const 0) (i32.const 16)) (i32.store (i32.const 4) (i32.const 8))
        (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))))"#;

// Red with another seed in `admission::replay`.
#[test]
fn stand_ins_for_randomness_are_the_same_in_a_replay() {
    let place = Place::new();
    place.module("random.wasm", RANDOM);
    let key = place.run(&["init", "--json"]).json()["host_key"].as_str().unwrap().to_owned();
    let said = place.run(&["run", "--json", "--deterministic", "random.wasm"]).exits(0);
    let job = said.lines()[0]["job"].as_str().unwrap().to_owned();
    place.run(&["receipt", "get", &job, "--with-envelope", "-o", "job.receipt"]).exits(0);
    let said = place.run(&["receipt", "replay", "job.receipt", "--host-key", &key]).exits(0);
    assert!(said.out().contains("stdout     the same: 8 bytes"), "{said:?}");
}

#[test]
fn a_deterministic_job_ends_in_the_same_way_elsewhere() {
    let (place, job, key) = used();
    place.run(&["receipt", "get", &job, "--with-envelope", "-o", "job.receipt"]).exits(0);
    place.run(&["receipt", "get", &job, "-o", "plain.receipt"]).exits(0);
    let own = ["receipt", "replay", "job.receipt", "--host-key", &key];
    let said = place.run(&own).exits(0);
    assert!(said.out().contains("the replay agrees") && said.out().contains("fuel"), "{said:?}");
    std::fs::remove_dir_all(place.data()).unwrap();
    let replay = |more: &[&str]| {
        let data = place.path().join("nothing").display().to_string();
        let receipt = ["receipt", "replay", "--dir", &data, "--host-key", &key];
        elsewhere(&place, &[&receipt, more].concat())
    };
    let with = ["--module", "cat.wasm", "--input", "words.txt"];
    let said = replay(&[&["job.receipt", "--json"], &with[..]].concat()).exits(0).json();
    assert_eq!(said["agrees"], true);
    let compared: Vec<&str> =
        said["compared"].as_array().unwrap().iter().map(|one| one["what"].as_str().unwrap()).collect();
    assert_eq!(compared, ["outcome", "fuel", "stdout", "stderr"]);
    assert!(said["compared"][1]["found"].as_str().unwrap().parse::<u64>().unwrap() > 0);

    let said = replay(&["job.receipt"]).exits(126);
    assert!(said.stderr.contains("name a file with --module"), "{said:?}");
    let said = replay(&["job.receipt", "--module", "words.txt"]).exits(126);
    assert!(said.stderr.contains("not the job's module"), "{said:?}");
    let said = replay(&[&["plain.receipt"], &with[..]].concat()).exits(126);
    assert!(said.stderr.contains("--with-envelope"), "{said:?}");
}

#[test]
fn what_cannot_be_repeated_is_not_replayed() {
    let place = Place::new();
    place.module("out.wasm", &print(1, "hello\\n", 6));
    std::fs::create_dir(place.path().join("docs")).unwrap();
    let key = place.run(&["init", "--json"]).json()["host_key"].as_str().unwrap().to_owned();
    for (options, reason) in [
        (&["run", "--json", "out.wasm"][..], "a clock"),
        (&["run", "--json", "--deterministic", "--read", "docs:/docs", "out.wasm"], "directories"),
    ] {
        let job = place.run(options).exits(0).lines()[0]["job"].as_str().unwrap().to_owned();
        place.run(&["receipt", "get", &job, "--with-envelope", "-o", "job.receipt"]).exits(0);
        let said = place.run(&["receipt", "replay", "job.receipt", "--host-key", &key]).exits(126);
        assert!(said.stderr.contains(reason) && said.stderr.contains("--deterministic"), "{said:?}");
    }
}

/// A host that says that a job wrote something else, in a receipt and a log without a flaw: only the replay finds it out.
fn lie(path: &Path, receipt: &Path, key: &SecretKey, change: impl Fn(&mut Event)) {
    let file: serde_json::Value = serde_json::from_slice(&std::fs::read(receipt).unwrap()).unwrap();
    let honest =
        Receipt::parse(&std::fs::read(receipt).unwrap()).unwrap().verify(&key.public(), None).unwrap();
    let truth = honest.finished.stdout;
    let leaf = |which: &str| {
        let bytes = serde_json::from_value(file[which]["leaf"].clone());
        let strongroom_job::Base64Bytes(bytes) = bytes.unwrap();
        bytes
    };
    let leaves = ["admitted", "finished"].map(|which| {
        let mut record = Record::from_leaf(&leaf(which)).unwrap();
        // A lie in clear: what the log hides nobody could compare by eye.
        if let Event::Finished { stdout, .. } = &mut record.event {
            *stdout = truth.into();
        }
        change(&mut record.event);
        record.to_leaf()
    });
    let hashes = leaves.each_ref().map(|leaf| strongroom_job::merkle::Hash::of_leaf(leaf));
    let mut edge = strongroom_job::merkle::RightEdge::new();
    for hash in hashes {
        edge.push(hash, |_, _| ()).unwrap();
    }
    let origin: strongroom_job::note::KeyName = "example.com/lies".parse().unwrap();
    let checkpoint = strongroom_job::checkpoint::SignedCheckpoint::sign(&edge.head(), &origin, key).unwrap();
    let [first, second] = leaves;
    let envelope = serde_json::to_vec(&file["envelope"]).unwrap();
    let parts = Parts {
        version: "0.1.0",
        log: strongroom_job::note::VerifierKey::new(origin, key.public()),
        admitted: Proven { index: 0, leaf: first, hashes: vec![hashes[1]] },
        finished: Proven { index: 1, leaf: second, hashes: vec![hashes[0]] },
        opening: None,
        started_at: None,
        input: None,
        checkpoint,
        envelope: Some(&envelope),
    };
    std::fs::write(path, Receipt::issue(parts, key).unwrap().to_bytes()).unwrap();
}

// Red with `agrees: true` in `compare`, and without `OtherTask` in `body_of`.
#[test]
fn a_host_that_lies_about_a_run_is_found_out_by_the_replay() {
    let (place, job, _) = used();
    place.run(&["receipt", "get", &job, "--with-envelope", "-o", "job.receipt"]).exits(0);
    let key = Home::open(&place.data()).unwrap().host_key().unwrap();
    let host = key.public().to_string();
    let (lies, receipt) = (place.path().join("lies"), place.path().join("job.receipt"));
    let replay = |code: i32| place.run(&["receipt", "replay", "lies", "--host-key", &host]).exits(code);
    lie(&lies, &receipt, &key, |_| ());
    replay(0);
    lie(&lies, &receipt, &key, |event| {
        if let Event::Finished { stdout, .. } = event {
            *stdout = OutputSummary { length: 11, digest: Digest::of(b"other words") }.into();
        }
    });
    elsewhere(&place, &["receipt", "verify", "lies", "--host-key", &host]).exits(0);
    let said = replay(1);
    assert!(
        said.out().contains("the replay differs") && said.out().contains("stdout     11 bytes"),
        "{said:?}"
    );
    lie(&lies, &receipt, &key, |event| {
        if let Event::Finished { usage, .. } = event {
            usage.fuel = usage.fuel.map(|fuel| fuel + 1);
        }
    });
    assert!(replay(1).out().contains("fuel"));
    // It ran another module than was signed, and said so in its log.
    lie(&lies, &receipt, &key, |event| {
        if let Event::Admitted { module, .. } = event {
            module.digest = Digest::of(b"another module");
        }
    });
    let said = elsewhere(&place, &["receipt", "verify", "lies", "--host-key", &host]).exits(1);
    assert!(said.stderr.contains("signs something else than the admitted record says"), "{said:?}");
}

#[test]
fn submit_tells_what_the_host_signed() {
    let place = Place::new();
    place.module("out.wasm", &print(1, "hello\\n", 6));
    let serving = place.serve();
    let said = place.run(&["submit", "--json", "out.wasm"]).exits(0).json();
    let host = serving.host_key.parse().unwrap();
    // The document's fields were sorted by the parser; the file has one order.
    let raw = place.run(&["submit", "--json", "out.wasm"]).exits(0);
    let raw =
        raw.out().trim_end().split_once("\"acceptance\":").unwrap().1.strip_suffix('}').unwrap().to_owned();
    let signed = strongroom_job::SignedAcceptance::from_dsse(raw.as_bytes(), &host).unwrap();
    assert_eq!(signed.acceptance().jobs.len(), 1);
    assert_eq!(said["acceptance"]["payloadType"], "application/vnd.strongroom.acceptance.v1+json");
    serving.stop();
}
