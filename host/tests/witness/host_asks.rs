//! A real host asks real witnesses, and is not held up by bad ones.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::path::Path;

use strongroom::audit::read::LogReader;
use strongroom::audit::writer::Log;
use strongroom::home::Home;
use strongroom_job::checkpoint::SignedCheckpoint;
use strongroom_job::cosignature::CosignerKey;
use strongroom_job::merkle::{LeafIndex, TreeSize};
use strongroom_job::note::VerifierKey;
use strongroom_job::witness::AddCheckpoint;
use strongroom_job::{Digest, Event, Record, SecretKey, Timestamp};
use zeroize::Zeroizing;

use crate::cli_support::{Place, exit, wait_for};
use crate::support::{Daemon, Witness, get, tell};

/// Adds lines to the place's configuration: `top` above its tables, the witnesses at its end.
fn configure(place: &Place, top: &str, witnesses: &[(CosignerKey, SocketAddr)]) {
    let path = place.data().join("strongroom.toml");
    let mut text = format!("{top}\n{}", std::fs::read_to_string(&path).unwrap());
    for (key, address) in witnesses {
        text.push_str(&format!("\n[[witnesses]]\nkey = \"{key}\"\nurl = \"http://{address}\"\n"));
    }
    std::fs::write(path, text).unwrap();
}

fn serve(place: &Place) -> Daemon {
    let dir = place.data();
    Daemon::start(&["serve", "--json", "--listen", "127.0.0.1:0", "--dir", dir.to_str().unwrap()])
}

/// The verifier key of the place's log, which a first run makes.
fn log_of(place: &Place) -> VerifierKey {
    place.module("exit.wasm", &exit(0));
    place.run(&["run", "exit.wasm"]).exits(0);
    std::fs::read_to_string(place.data().join("audit/log.pub")).unwrap().trim_end().parse().unwrap()
}

fn size_of(path: &Path) -> u64 {
    let Ok(text) = std::fs::read_to_string(path) else { return 0 };
    text.lines().nth(1).unwrap().parse().unwrap()
}

#[test]
fn a_host_has_its_log_cosigned_while_it_serves_and_when_it_stops() {
    let place = Place::new();
    let log = log_of(&place).to_string();
    let witnesses = ["one", "two"].map(|name| Witness::start(&place.path().join(name), &log));
    let keys = witnesses.each_ref().map(Witness::key);
    let top = "witness_quorum = 2\nserve_log = \"127.0.0.1:0\"";
    configure(&place, top, &witnesses.each_ref().map(|one| (one.key(), one.address())));
    let audit = place.data().join("audit");
    let (own, cosigned) = (audit.join("checkpoint"), audit.join("checkpoint.cosigned"));
    let host = serve(&place);
    place.run(&["run", "exit.wasm"]).exits(0);
    wait_for("cosignatures", || (size_of(&cosigned) == size_of(&own)).then_some(()));
    let texts = keys.each_ref().map(ToString::to_string);
    let wanted = ["audit", "verify", "--witness", &texts[0], "--witness", &texts[1]];
    assert!(place.run(&wanted).exits(0).out().contains("cosigned all"), "both cosigned");
    // Readers see first what is cosigned.
    let served = get(host.address("log"), "/checkpoint");
    assert_eq!(served.body, std::fs::read(&cosigned).unwrap());
    // The last records, too, of which nobody is told before the host is about to end.
    place.run(&["run", "exit.wasm"]).exits(0);
    let said = host.stop();
    assert!(!said.contains("ALARM"), "{said}");
    assert_eq!(size_of(&cosigned), size_of(&own));
    assert!(place.run(&wanted).exits(0).out().contains("cosigned all"));
    // What was kept is looked at, too. Red without `cosigned` in `fsck/abroad`.
    assert!(place.run(&["fsck"]).exits(0).out().contains("2 of 2 witnesses signed"));
    let kept = std::fs::read_to_string(&cosigned).unwrap();
    let line = kept.lines().find(|line| line.contains(keys[0].name().as_str())).unwrap();
    let (start, end) = line.split_at(line.len() - 20);
    let other = format!("{start}{}", end.replace(|c: char| c.is_ascii_lowercase(), "A"));
    std::fs::write(&cosigned, kept.replace(line, &other)).unwrap();
    assert!(place.run(&["fsck"]).exits(1).out().contains("wrong     cosigned: "), "{other}");
    std::fs::write(&cosigned, kept).unwrap();
    // A host that is there only for one job has it cosigned as well.
    let before = size_of(&cosigned);
    place.run(&["run", "exit.wasm"]).exits(0);
    assert!(size_of(&cosigned) > before && size_of(&cosigned) == size_of(&own));
    // A proof carries the cosignatures, and a copy has them.
    let proof = place.run(&["audit", "prove", "0"]).exits(0);
    for key in &keys {
        assert!(proof.out().contains(&format!("\u{2014} {} ", key.name())), "{proof:?}");
    }
    let copy = place.path().join("copy").display().to_string();
    place.run(&["audit", "export", &copy]).exits(0);
    assert_eq!(size_of(&Path::new(&copy).join("checkpoint.cosigned")), size_of(&own));
    // Without witnesses nothing stands still at what they signed.
    let config = std::fs::read_to_string(place.data().join("strongroom.toml")).unwrap();
    let alone = config.split("\n[[witnesses]]").next().unwrap().replacen("witness_quorum = 2\n", "", 1);
    std::fs::write(place.data().join("strongroom.toml"), alone).unwrap();
    let host = serve(&place);
    wait_for("publication", || (size_of(&own) > size_of(&cosigned)).then_some(()));
    assert_eq!(get(host.address("log"), "/checkpoint").body, std::fs::read(&own).unwrap());
    host.stop();
    std::fs::write(place.data().join("strongroom.toml"), config).unwrap();
    // The memory of the witness set back: the host says so, and goes on.
    let [one, two] = witnesses;
    let address = one.address();
    one.0.kill();
    drop(two);
    let hash = std::fs::read_dir(place.path().join("one/logs")).unwrap().next().unwrap().unwrap().path();
    std::fs::remove_file(hash).unwrap();
    let again = Daemon::start(&[
        "witness",
        "--json",
        "--dir",
        place.path().join("one").to_str().unwrap(),
        "--listen",
        &address.to_string(),
        "--log",
        &log,
    ]);
    let host = serve(&place);
    place.run(&["run", "exit.wasm"]).exits(0);
    let said = host.stop();
    assert!(said.contains("ALARM") && said.contains("forgot what it cosigned"), "{said}");
    drop(again);
}

// Red when a status 422, or a 409 without a size, is no alarm.
#[test]
fn bad_witnesses_cost_the_host_nothing_but_their_cosignatures() {
    let place = Place::new();
    log_of(&place);
    let size = size_of(&place.data().join("audit/checkpoint"));
    let answers: [(&str, String); 8] = [
        ("refuses (status 422): no", http(422, "no")),
        ("refuses (status 404): who?", http(404, "who?")),
        ("has cosigned 1000000 records", http(409, "1000000\n")),
        ("another size each time", http(409, "1\n")),
        ("not its cosignature", http(200, "\u{2014} witness.example/4 AAAAAAAAAAAAAAAAAAAAAAAA\n")),
        ("speaks no HTTP", "SSH-2.0\r\n\r\n".into()),
        ("sends more than", http(200, &"x".repeat(100_000))),
        ("refuses (status 409): ", http(409, "\u{1b}[2Jmany\n")),
    ];
    let witnesses: Vec<_> = (0..)
        .zip(&answers)
        .map(|(number, (_, answer))| {
            let key = SecretKey::from_seed(&Zeroizing::new([number; 32])).public();
            let key = CosignerKey::new(format!("witness.example/{number}").parse().unwrap(), key);
            (key, always(answer.clone()))
        })
        .collect();
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let key = SecretKey::from_seed(&Zeroizing::new([99; 32])).public();
    let mute = (CosignerKey::new("witness.example/mute".parse().unwrap(), key), silent.local_addr().unwrap());
    configure(&place, "", &[&witnesses[..], &[mute]].concat());
    let host = serve(&place);
    for _ in 0..3 {
        place.run(&["run", "exit.wasm"]).exits(0);
    }
    wait_for("publication", || (size_of(&place.data().join("audit/checkpoint")) >= size + 9).then_some(()));
    // Long enough for a first round with those that answer.
    std::thread::sleep(std::time::Duration::from_secs(2));
    let said = host.stop();
    for (number, (expected, _)) in answers.iter().enumerate() {
        let of = |line: &&str| line.contains(&format!("witness.example/{number}")) && line.contains(expected);
        let line = said.lines().find(of).unwrap_or_else(|| panic!("{expected}: {said}"));
        let alarm = matches!(number, 0 | 2 | 4 | 7);
        assert_eq!(line.contains("ALARM"), alarm, "{line}");
        assert!(!line.contains('\u{1b}'), "{line:?}");
    }
    assert!(!place.data().join("audit/checkpoint.cosigned").exists());
    place.run(&["audit", "verify"]).exits(0);
    // What was asked and answered of the two that say that there is another history, and of nobody else.
    let mut kept: Vec<_> = left(&place).into_iter().collect();
    kept.sort_by_key(|(name, _)| name.rsplit('.').next().map(str::to_owned));
    let (answered, asked) = kept.split_at(2);
    assert!(asked.iter().all(|(name, _)| name.ends_with(".asked")), "{asked:?}");
    assert!(asked.iter().all(|(_, bytes)| AddCheckpoint::parse(bytes).is_ok()), "{asked:?}");
    let mut answered: Vec<_> = answered.iter().map(|(_, bytes)| String::from_utf8_lossy(bytes)).collect();
    answered.sort();
    assert_eq!(answered, ["409\n\u{1b}[2Jmany\n", "422\nno"]);
    let checked = place.run(&["fsck", "--json"]).exits(0).json();
    assert_eq!(checked["notes"].to_string().matches("showed no proof").count(), 2, "{checked:#}");
}

/// What the place's host kept of refusals.
fn left(place: &Place) -> std::collections::BTreeMap<String, Vec<u8>> {
    let Ok(names) = std::fs::read_dir(place.data().join("contradictions")) else { return Default::default() };
    let names = names.map(|entry| entry.unwrap().path());
    names
        .map(|path| (path.file_name().unwrap().to_str().unwrap().to_owned(), std::fs::read(path).unwrap()))
        .collect()
}

// Red without the comparison in `contradicts`, and without `contradicted` in `fsck/abroad`.
#[test]
fn the_proof_that_the_logs_key_signed_another_history_is_kept() {
    let place = Place::new();
    let log = log_of(&place);
    let key = Home::open(&place.data()).unwrap().log_key().unwrap();
    let witness = Witness::start(&place.path().join("w"), &log.to_string());
    // Somebody else has the key.
    let elsewhere = place.path().join("elsewhere");
    let mut other = Log::create(&elsewhere, log.name().clone(), key).unwrap();
    other.publish(LeafIndex::new(0), (0..3).map(story)).unwrap();
    let reader = LogReader::open(&elsewhere, None).unwrap();
    let request = AddCheckpoint::new(TreeSize::ZERO, Vec::new(), reader.checkpoint().signed().clone());
    assert_eq!(witness.add(&request).status, 200);
    configure(&place, "", &[(witness.key(), witness.address())]);
    let host = serve(&place);
    wait_for("the proof", || left(&place).keys().any(|name| name.ends_with(".checkpoint")).then_some(()));
    let kept = left(&place);
    let said = host.stop();
    assert!(said.contains("ALARM: this witness does not cosign: it refuses (status 422)"), "{said}");
    assert!(said.contains("contradicted=1") && said.contains("ALARM: proven: "), "{said}");
    let [answered, asked, proof] = &kept.values().collect::<Vec<_>>()[..] else { panic!("{kept:?}") };
    assert!(asked.starts_with(b"old 3\n") && answered.starts_with(b"422\n"), "{kept:?}");
    let proof = SignedCheckpoint::parse(proof).unwrap().verify(log.name(), log.key()).unwrap();
    assert_eq!(proof.head(), reader.checkpoint().head());
    witness.key().find(&proof).unwrap();
    let checked = place.run(&["fsck"]).exits(1);
    assert!(
        checked.out().contains("wrong     cosigned: the log's key signed another history of 3"),
        "{checked:?}"
    );
    // A log that begins with it is no other.
    let same = place.data().join("contradictions").join(kept.keys().last().unwrap());
    std::fs::write(&same, std::fs::read(place.data().join("audit/checkpoint")).unwrap()).unwrap();
    assert!(place.run(&["fsck"]).exits(0).out().contains("it does not contradict this log"));
}

/// A record of another history.
fn story(index: u64) -> Vec<u8> {
    let (host, config) = (SecretKey::from_seed(&Zeroizing::new([1; 32])).public(), Digest::of(b"other"));
    let event = Event::HostStarted { host, version: "0".into(), config };
    Record { v: 1, time: Timestamp::from_millis(1_800_000_000_000 + index), event }.to_leaf()
}

// Red with `join_all` in `Round::go`: then there is a cosigned checkpoint only once the host has given the mute one up.
#[test]
fn a_mute_witness_holds_nobody_elses_cosignature_back() {
    let place = Place::new();
    let log = log_of(&place).to_string();
    let good = Witness::start(&place.path().join("good"), &log);
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let key = SecretKey::from_seed(&Zeroizing::new([99; 32])).public();
    let mute = (CosignerKey::new("witness.example/mute".parse().unwrap(), key), silent.local_addr().unwrap());
    configure(&place, "", &[mute, (good.key(), good.address())]);
    let host = serve(&place);
    let (mut asked, _) = silent.accept().unwrap();
    let cosigned = place.data().join("audit/checkpoint.cosigned");
    wait_for("the other's cosignature", || cosigned.exists().then_some(()));
    asked.set_nonblocking(true).unwrap();
    let mut piece = [0; 4096];
    let given_up = loop {
        match asked.read(&mut piece) {
            Ok(0) => break true,
            Ok(_) => {}
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => break false,
            Err(_) => break true,
        }
    };
    assert!(!given_up, "it is still asked");
    drop(asked);
    host.stop();
}

// Red with `reader.checkpoint()` in `Receipts::issue`: the proofs lead to what is cosigned, and the log has gone on.
#[test]
fn a_receipt_of_a_job_whose_record_is_cosigned_holds_when_the_log_has_gone_on() {
    let place = Place::new();
    let log = log_of(&place).to_string();
    let witness = Witness::start(&place.path().join("w"), &log);
    configure(&place, "", &[(witness.key(), witness.address())]);
    let audit = place.data().join("audit");
    let (own, cosigned) = (audit.join("checkpoint"), audit.join("checkpoint.cosigned"));
    let host = serve(&place);
    let run =
        || place.run(&["run", "--json", "exit.wasm"]).exits(0).lines()[0]["job"].as_str().unwrap().to_owned();
    let job = run();
    wait_for("cosignatures", || (size_of(&cosigned) == size_of(&own)).then_some(()));
    witness.0.kill();
    run();
    place.run(&["receipt", "get", &job, "-o", "job.receipt"]).exits(0);
    let receipt = std::fs::read_to_string(place.path().join("job.receipt")).unwrap();
    assert!(receipt.contains("strongroom.invalid/witness/"), "with the witness's line: {receipt}");
    host.stop();
}

/// A host whose directory was set back asks a witness that has seen more.
#[test]
fn a_witness_that_has_seen_more_is_an_alarm() {
    let place = Place::new();
    let log = log_of(&place).to_string();
    let witness = Witness::start(&place.path().join("w"), &log);
    configure(&place, "", &[(witness.key(), witness.address())]);
    let backup = place.path().join("backup");
    let copy = |from: &Path, to: &Path| {
        let all = ["-a", from.to_str().unwrap(), to.to_str().unwrap()];
        assert!(std::process::Command::new("cp").args(all).status().unwrap().success());
    };
    copy(&place.data(), &backup);
    for _ in 0..3 {
        place.run(&["run", "exit.wasm"]).exits(0);
    }
    std::fs::remove_dir_all(place.data()).unwrap();
    copy(&backup, &place.data());
    let host = serve(&place);
    std::thread::sleep(std::time::Duration::from_secs(1));
    let said = host.stop();
    assert!(said.contains("ALARM") && said.contains("this directory is an older copy"), "{said}");
}

// Red without the comparison of sizes in `keep_with`.
#[test]
fn a_cosigned_checkpoint_is_never_ahead_of_the_log_or_behind_itself() {
    use strongroom::audit::cosigned::{KeepError, keep};
    let dir = tempfile::tempdir().unwrap();
    let (log, longer) = (dir.path().join("log"), dir.path().join("longer"));
    tell(&log, "a", 4);
    tell(&longer, "a", 9);
    let verifier = crate::support::log_verifier();
    let of = |dir: &Path| LogReader::open(dir, None).unwrap().checkpoint().clone();
    let (short, long) = (of(&log), of(&longer));
    assert!(matches!(keep(&log, &verifier, &long, &[]), Err(KeepError::Size { .. })));
    keep(&log, &verifier, &short, &[]).unwrap();
    tell(&log, "a", 9);
    keep(&log, &verifier, &long, &[]).unwrap();
    assert!(matches!(keep(&log, &verifier, &short, &[]), Err(KeepError::Size { .. })));
    let kept = std::fs::read(log.join("checkpoint.cosigned")).unwrap();
    assert_eq!(SignedCheckpoint::parse(&kept).unwrap(), *long.signed());
}

fn http(status: u16, body: &str) -> String {
    format!("HTTP/1.1 {status} X\r\ncontent-length: {}\r\n\r\n{body}", body.len())
}

/// A server that answers everything with these bytes.
fn always(answer: String) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut request = Vec::new();
            let mut piece = [0; 4096];
            // The request ends with the checkpoint's signature.
            while !request.ends_with(b"=\n") {
                match stream.read(&mut piece) {
                    Ok(read) if read > 0 => request.extend_from_slice(&piece[..read]),
                    _ => break,
                }
            }
            let _ = stream.write_all(answer.as_bytes());
        }
    });
    address
}
