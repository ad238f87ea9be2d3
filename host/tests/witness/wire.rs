//! `strongroom witness` says what C2SP tlog-witness says that a witness says.

use std::os::unix::fs::PermissionsExt as _;

use sha2::{Digest as _, Sha256};
use strongroom_job::cosignature::CosignerKey;
use strongroom_job::witness::MAX_REQUEST_BYTES;

use crate::support::{Witness, ask, exchange, get, log_key, log_verifier, origin, post, request, tell};

// Red with another content type of 409.
#[test]
fn every_answer_has_its_status() {
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("log");
    let witness = Witness::start(&dir.path().join("w"), &log_verifier().to_string());
    tell(&log, "a", 3);
    // Nothing yet.
    let hash = hex::encode(Sha256::digest(origin().as_str()));
    let monitor = format!("/{hash}/checkpoint");
    assert_eq!(get(witness.address(), &monitor).status, 404);
    // A first one.
    let said = witness.add(&request(&log, 0));
    assert_eq!(said.status, 200, "{said:?}");
    assert!(said.has("content-type: text/plain; charset=utf-8"), "{said:?}");
    let checkpoint = std::fs::read_to_string(log.join("checkpoint")).unwrap();
    let cosigned = format!("{checkpoint}{}", said.text());
    let verified = strongroom_job::checkpoint::SignedCheckpoint::parse(cosigned.as_bytes()).unwrap();
    let verified = verified.verify(&origin(), &log_key().public()).unwrap();
    let cosignature = witness.key().find(&verified).unwrap();
    assert!(cosignature.time().as_millis() > 1_700_000_000_000);
    assert_eq!(get(witness.address(), &monitor).text(), cosigned);
    assert_eq!(ask(witness.address(), "HEAD", &monitor).body, b"");
    // An extension, and the same again, which is as good.
    tell(&log, "a", 9);
    for old in [3, 9] {
        assert_eq!(witness.add(&request(&log, old)).status, 200);
    }
    // From another size than the last one.
    for old in [0, 3] {
        let said = witness.add(&request(&log, old));
        assert_eq!((said.status, said.text()), (409, "9\n"), "{said:?}");
        assert!(said.has("content-type: text/x.tlog.size"), "{said:?}");
    }
    // Another story.
    let other = dir.path().join("other");
    tell(&other, "b", 20);
    assert_eq!(witness.add(&request(&other, 9)).status, 422);
    let same = dir.path().join("same");
    tell(&same, "b", 9);
    assert_eq!(witness.add(&request(&same, 9)).status, 422);
    // Not the log's.
    let good = request(&log, 9).to_string();
    let (text, signature) = good.rsplit_once(' ').unwrap();
    let other = if &signature[20..21] == "A" { "B" } else { "A" };
    let bad = format!("{text} {}{other}{}", &signature[..20], &signature[21..]);
    let unsigned = good.replacen("\u{2014} strongroom", "\u{2014} somebody", 1);
    for wrong in [bad, unsigned] {
        assert_eq!(post(witness.address(), "/add-checkpoint", wrong.as_bytes()).status, 403, "{wrong}");
    }
    // Of a log that nobody named.
    let unknown = good.replace("two-stories", "another");
    assert_eq!(post(witness.address(), "/add-checkpoint", unknown.as_bytes()).status, 404);
    // Backwards, and in no form at all.
    let backwards = good.replacen("old 9", "old 10", 1);
    for wrong in
        [backwards.as_str(), "", "old 9\n", &good.replacen("old 9", "old 09", 1), &good.replace('\n', "\r\n")]
    {
        assert_eq!(post(witness.address(), "/add-checkpoint", wrong.as_bytes()).status, 400, "{wrong}");
    }
    assert_eq!(post(witness.address(), "/add-checkpoint", &vec![b'x'; MAX_REQUEST_BYTES + 1]).status, 413);
    assert_eq!(post(witness.address(), "/sign-subtree", b"").status, 404);
    assert_eq!(get(witness.address(), "/add-checkpoint").status, 404);
    let said = ask(witness.address(), "DELETE", "/add-checkpoint");
    assert!(said.status == 405 && said.has("allow: get, head, post"), "{said:?}");
    for path in [
        "/",
        "/checkpoint",
        "/../witness.key",
        "/logs/x/checkpoint",
        &monitor.to_uppercase(),
        &format!("/{monitor}"),
    ] {
        assert_eq!(get(witness.address(), path).status, 404, "{path}");
    }
    // None of that changed what it knows.
    assert_eq!(witness.add(&request(&log, 9)).status, 200);
    let said = witness.0.stop();
    // The one that convicts, and none of what anybody could ask.
    let alarms: Vec<_> = said.lines().filter(|line| line.contains("ALARM")).collect();
    assert!(matches!(alarms[..], [alarm] if alarm.contains("two checkpoints of one size")), "{said}");
}

// Red without `is_remembered`.
#[test]
fn a_witness_that_lost_its_memory_does_not_begin_anew() {
    let dir = tempfile::tempdir().unwrap();
    let (home, log) = (dir.path().join("w"), log_verifier().to_string());
    Witness::start(&home, &log).0.stop();
    std::fs::rename(home.join("logs"), dir.path().join("logs")).unwrap();
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_strongroom"));
    command.args(["witness", "--dir", home.to_str().unwrap(), "--listen", "127.0.0.1:0", "--log", &log]);
    let said = crate::cli_support::start(&mut command).finish().exits(125);
    assert!(said.stderr.contains("what this witness cosigned"), "{said:?}");
    std::fs::rename(dir.path().join("logs"), home.join("logs")).unwrap();
    Witness::start(&home, &log).0.stop();
}

#[test]
fn requests_are_bounded_before_they_are_read() {
    let dir = tempfile::tempdir().unwrap();
    let witness = Witness::start(&dir.path().join("w"), &log_verifier().to_string());
    let long = format!("GET /{} HTTP/1.1\r\nhost: x\r\n\r\n", "a".repeat(64 * 1024));
    assert!(matches!(exchange(witness.address(), long.as_bytes()).status, 414 | 431));
    let many: String = (0..200).map(|number| format!("x{number}: y\r\n")).collect();
    let many = format!("GET / HTTP/1.1\r\nhost: x\r\n{many}\r\n");
    assert_eq!(exchange(witness.address(), many.as_bytes()).status, 431);
    // Announced, and never sent: refused or cut off, but not stored up.
    let huge = "POST /add-checkpoint HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: 99999999999\r\n\r\n";
    let huge = [huge.as_bytes(), &vec![b'x'; MAX_REQUEST_BYTES + 1]].concat();
    assert_eq!(exchange(witness.address(), &huge).status, 413);
}

// Red without MAX_OF_ONE.
#[test]
fn one_address_gets_its_share_of_connections_and_no_more() {
    let dir = tempfile::tempdir().unwrap();
    let witness = Witness::start(&dir.path().join("w"), &log_verifier().to_string());
    let connect = || std::net::TcpStream::connect(witness.address()).unwrap();
    let mut held: Vec<_> = (0..32).map(|_| connect()).collect();
    // Closed without a word.
    assert_eq!(get(witness.address(), "/").status, 0);
    held.truncate(31);
    crate::cli_support::wait_for("a place", || (get(witness.address(), "/").status == 404).then_some(()));
}

#[test]
fn a_witness_keeps_its_name_and_its_key() {
    let dir = tempfile::tempdir().unwrap();
    let (home, log) = (dir.path().join("w"), log_verifier().to_string());
    let first = Witness::start(&home, &log);
    let key = first.key();
    assert!(key.name().as_str().starts_with("strongroom.invalid/witness/"));
    let mode = home.join("witness.key").metadata().unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let public = std::fs::read_to_string(home.join("witness.pub")).unwrap();
    assert_eq!(public.trim_end().parse::<CosignerKey>().unwrap(), key);
    // While it runs nobody else does, and its name stays.
    let run = |more: &[&str]| {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_strongroom"));
        let all = ["witness", "--dir", home.to_str().unwrap(), "--listen", "127.0.0.1:0", "--log", &log];
        crate::cli_support::start(command.args(all).args(more)).finish()
    };
    assert!(run(&[]).exits(125).stderr.contains("another witness runs there"));
    first.0.stop();
    assert!(
        run(&["--name", "another.example/w"])
            .exits(126)
            .stderr
            .contains("is called strongroom.invalid/witness/")
    );
    assert_eq!(Witness::start(&home, &log).key(), key);
    // A file of keys does as well as a key.
    let file = dir.path().join("log.pub");
    std::fs::write(&file, format!("# ours\n\n{log}\n")).unwrap();
    assert_eq!(Witness::start(&home, file.to_str().unwrap()).0.said["logs"], 1);
}

#[test]
fn what_is_no_witness_is_refused_with_a_reason() {
    let dir = tempfile::tempdir().unwrap();
    let log = log_verifier().to_string();
    let run = |arguments: &[&str]| {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_strongroom"));
        crate::cli_support::start(command.arg("witness").args(arguments).current_dir(dir.path())).finish()
    };
    assert!(run(&["--log", &log]).exits(126).stderr.contains("with --dir"));
    assert!(run(&["--dir", "w"]).exits(126).stderr.contains("--log"));
    assert!(run(&["--dir", "w", "--log", "nonsense"]).exits(126).stderr.contains("neither a verifier key"));
    std::fs::write(dir.path().join("keys"), "# a comment\nnonsense\n").unwrap();
    assert!(run(&["--dir", "w", "--log", "keys"]).exits(126).stderr.contains("line 2: not a verifier key"));
    assert!(!dir.path().join("w").exists(), "nothing is made for a command that is wrong");
    std::fs::create_dir(dir.path().join("host")).unwrap();
    std::fs::write(dir.path().join("host/strongroom.toml"), "").unwrap();
    assert!(run(&["--dir", "host", "--log", &log]).exits(126).stderr.contains("a host's data directory"));
}
