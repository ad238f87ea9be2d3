//! A host that tells two stories under one key. Nothing in either of them is wrong by itself; a witness is what convicts.

use std::path::Path;
use std::process::Command;

use strongroom::audit::cosigned::keep;
use strongroom::audit::read::LogReader;
use strongroom_job::cosignature::{Cosignature, CosignerKey};

use crate::cli_support::{Said, start};
use crate::support::{Http, Witness, log_key, log_verifier, request, tell};

fn verify(log: &Path, more: &[&str]) -> Said {
    let key = log_key().public().to_string();
    let mut command = Command::new(env!("CARGO_BIN_EXE_strongroom"));
    start(command.args(["audit", "verify", log.to_str().unwrap(), "--key", &key]).args(more)).finish()
}

/// The host keeps what its witness answered, as an honest one does.
fn keep_answers(log: &Path, answers: &[(&CosignerKey, &Http)]) {
    let reader = LogReader::open(log, None).unwrap();
    let cosignatures: Vec<Cosignature> = answers
        .iter()
        .map(|(witness, answer)| {
            assert_eq!(answer.status, 200, "{answer:?}");
            let signed = reader.checkpoint().signed().with_signatures(answer.text()).unwrap();
            let cosigned = signed.verify(log_verifier().name(), log_verifier().key()).unwrap();
            witness.find(&cosigned).unwrap()
        })
        .collect();
    keep(log, &log_verifier(), reader.checkpoint(), &cosignatures).unwrap();
}

// Red without the quorum in `verify`, and without the cosigned head among the known ones in `verify_dir`.
#[test]
fn two_stories_fool_a_reader_and_not_one_who_asks_a_witness() {
    let dir = tempfile::tempdir().unwrap();
    let (alice, bob) = (dir.path().join("for-alice"), dir.path().join("for-bob"));
    tell(&alice, "a", 8);
    tell(&bob, "b", 8);
    // Each is whole and signed: whoever sees one of them sees nothing wrong.
    for story in [&alice, &bob] {
        assert!(verify(story, &[]).exits(0).out().contains("the log is good"));
    }
    let witness = Witness::start(&dir.path().join("w"), &log_verifier().to_string());
    let key = witness.key();
    keep_answers(&alice, &[(&key, &witness.add(&request(&alice, 0)))]);
    assert_eq!(witness.add(&request(&bob, 0)).status, 409);
    // Red when another root of the same size has status 409.
    assert_eq!(witness.add(&request(&bob, 8)).status, 422);

    let wanted = ["--witness", &key.to_string()];
    let said = verify(&alice, &wanted).exits(0);
    assert!(
        said.out().contains("cosigned all 8 records") && said.out().contains(key.name().as_str()),
        "{said:?}"
    );
    let json = verify(&alice, &[&wanted[..], &["--json"]].concat()).exits(0).json();
    assert_eq!(json["cosigned"]["size"], 8);
    assert_eq!(json["cosigned"]["witnesses"][0]["name"], key.name().as_str());
    let said = verify(&bob, &wanted).exits(1);
    assert!(said.stderr.contains("no witness cosigned this log"), "{said:?}");
    assert!(verify(&bob, &[]).exits(0).out().contains("the log is good"), "bob, who asks nobody, is fooled");

    // What was cosigned for alice does not vouch for bob's story.
    std::fs::copy(alice.join("checkpoint.cosigned"), bob.join("checkpoint.cosigned")).unwrap();
    for more in [&wanted[..], &[]] {
        let said = verify(&bob, more).exits(1);
        assert!(said.stderr.contains("checkpoint.cosigned: the first 8 entries are not those"), "{said:?}");
    }
    // Nor does the host's own word for it.
    let own = CosignerKey::new(key.name().clone(), log_key().public());
    let reader = LogReader::open(&bob, None).unwrap();
    let forged = strongroom_job::cosignature::cosign(
        reader.checkpoint(),
        own.name(),
        &log_key(),
        strongroom_job::Timestamp::from_millis(1_800_000_000_000),
    );
    std::fs::remove_file(bob.join("checkpoint.cosigned")).unwrap();
    keep(&bob, &log_verifier(), reader.checkpoint(), &[forged]).unwrap();
    let said = verify(&bob, &wanted).exits(1);
    assert!(said.stderr.contains("cosigned by 0 of the 1 witnesses that are required"), "{said:?}");
}

#[test]
fn k_of_n_must_have_cosigned() {
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("log");
    tell(&log, "a", 4);
    let witnesses: Vec<_> = (0..3)
        .map(|number| Witness::start(&dir.path().join(number.to_string()), &log_verifier().to_string()))
        .collect();
    let keys: Vec<_> = witnesses.iter().map(Witness::key).collect();
    let answers: Vec<_> = witnesses[..2].iter().map(|witness| witness.add(&request(&log, 0))).collect();
    keep_answers(&log, &[(&keys[0], &answers[0]), (&keys[1], &answers[1])]);
    let texts: Vec<_> = keys.iter().map(ToString::to_string).collect();
    let all: Vec<&str> = texts.iter().flat_map(|key| ["--witness", key]).collect();
    verify(&log, &[&all[..], &["--require", "2"]].concat()).exits(0);
    verify(&log, &[&all[..], &["--require", "1"]].concat()).exits(0);
    let said = verify(&log, &all).exits(1);
    let missing = format!("cosigned by 2 of the 3 witnesses that are required; missing: {}", keys[2].name());
    assert!(said.stderr.contains(&missing), "{said:?}");
    // Wrong questions.
    assert!(
        verify(&log, &[&all[..], &["--require", "4"]].concat())
            .exits(126)
            .stderr
            .contains("4 of 3 witnesses")
    );
    verify(&log, &["--require", "1"]).exits(126);
    let twice = ["--witness", &texts[0], "--witness", &texts[0]];
    assert!(verify(&log, &twice).exits(126).stderr.contains("that is one witness"));
    verify(&log, &["--witness", &log_verifier().to_string()]).exits(126);
}

/// A log that was cut back, files and all, to an older state of its own: nothing in it tells, but what was cosigned does.
#[test]
fn a_log_that_was_cut_back_is_seen_by_what_was_cosigned() {
    let dir = tempfile::tempdir().unwrap();
    let (log, old) = (dir.path().join("log"), dir.path().join("old"));
    tell(&log, "a", 4);
    tell(&old, "a", 4);
    tell(&log, "a", 9);
    let witness = Witness::start(&dir.path().join("w"), &log_verifier().to_string());
    let key = witness.key();
    keep_answers(&log, &[(&key, &witness.add(&request(&log, 0)))]);
    verify(&old, &[]).exits(0);
    std::fs::copy(log.join("checkpoint.cosigned"), old.join("checkpoint.cosigned")).unwrap();
    assert!(verify(&old, &[]).exits(1).stderr.contains("the log has 4 entries, but 9 were published"));
    // What came after the cosignature is told apart.
    tell(&log, "a", 11);
    let said = verify(&log, &["--witness", &key.to_string()]).exits(0);
    assert!(said.out().contains("cosigned the first 9 records; the last 2 are not yet"), "{said:?}");
}
