//! Statements beside a log that do not lead where they should, and a log that is shown over HTTP.

use std::fs;

use strongroom::home::Home;
use strongroom_job::note::KeyName;
use strongroom_job::succession::{KeyRole, Succession};
use strongroom_job::{SecretKey, Timestamp};
use zeroize::Zeroizing;

use crate::support::{elsewhere, rotate, statements, used};
use crate::trees;

fn secret(byte: u8) -> SecretKey {
    SecretKey::from_seed(&Zeroizing::new([byte; 32]))
}

// Red without `follow` in `Files::signer`: with the statements believed as they stand, a stranger's line led to a stranger's key.
#[test]
fn forged_statements_beside_a_log_lead_nowhere() {
    let place = used();
    let old_secret = Home::open(&place.data()).unwrap().log_key().unwrap();
    let (old, new) = rotate(&place, "log");
    let new_secret = Home::open(&place.data()).unwrap().log_key().unwrap();
    let copy = place.path().join("copy");
    place.run(&["audit", "export", copy.to_str().unwrap()]).exits(0);
    let (keys, good) = (copy.join("keys"), statements(&copy.join("keys")));
    let name = good[0].origin().clone();
    let says = |statements: &[Succession], words: &str| {
        fs::write(&keys, Succession::to_file(statements)).unwrap();
        for key in [&old, &new] {
            let said = elsewhere(&place, &["audit", "verify", copy.to_str().unwrap(), "--key", key]).exits(1);
            assert!(said.stderr.contains(words), "{words}: {said:?}");
        }
    };
    let sign = |role, name: &KeyName, old: &SecretKey, new: &SecretKey| {
        Succession::sign(role, name, old, new, Timestamp::default()).unwrap()
    };
    let log = KeyRole::Log;
    let other: KeyName = "example.com/other".parse().unwrap();
    says(
        &[sign(KeyRole::Host, &name, &old_secret, &new_secret)],
        "about the host key, not about the log key",
    );
    says(&[sign(log, &other, &old_secret, &new_secret)], "is of the host whose log is example.com/other");
    says(&[good[0].clone(), sign(log, &name, &old_secret, &secret(9))], "forks the line");
    says(&[good[0].clone(), sign(log, &name, &new_secret, &old_secret)], "leads back to");
    says(&[good[0].clone(), sign(log, &name, &secret(8), &secret(9))], "one is missing between them");
    says(
        &[sign(log, &name, &secret(8), &secret(9))],
        "is not among the keys that the statements lead through",
    );
    // Good, but the log was not signed with what it leads to.
    says(&[good[0].clone(), sign(log, &name, &new_secret, &secret(9))], "the note is not signed by");
    for place_in_file in [5, 200, 700] {
        let mut bytes = Succession::to_file(&good);
        bytes[place_in_file] ^= 1;
        fs::write(&keys, bytes).unwrap();
        let said = elsewhere(&place, &["audit", "verify", copy.to_str().unwrap(), "--key", &old]).exits(1);
        assert!(said.stderr.contains("keys: line 1: "), "{said:?}");
    }
    fs::write(&keys, Succession::to_file(&good)).unwrap();
    elsewhere(&place, &["audit", "verify", copy.to_str().unwrap(), "--key", &old]).exits(0);
}

// Red without `is_called`: the first left a directory that nothing opens, the others threw the log's only key away.
#[test]
fn a_log_that_is_called_otherwise_or_is_elsewhere_keeps_its_key() {
    let place = used();
    let data = place.data();
    let refused = |role: &str, words: &str| {
        let before = trees::files(&data);
        let said = place.run(&["key", "rotate", role]).exits(125);
        assert!(said.stderr.contains(words), "{words}: {said:?}");
        assert!(trees::files(&data) == before, "something was changed");
    };
    let file = data.join("strongroom.toml");
    let good = fs::read_to_string(&file).unwrap();
    fs::write(&file, good.replace("strongroom.invalid/", "strongroom.invalid/other-")).unwrap();
    for role in ["host", "log"] {
        refused(role, "Put log_origin back to the log's own name");
    }
    fs::write(&file, good).unwrap();
    let (audit, away) = (data.join("audit"), place.path().join("away"));
    fs::rename(&audit, &away).unwrap();
    fs::create_dir(&audit).unwrap();
    refused("log", "there is a state, and no log");
    fs::remove_dir(&audit).unwrap();
    fs::rename(&away, &audit).unwrap();
    let public = fs::read(audit.join("log.pub")).unwrap();
    fs::remove_file(audit.join("log.pub")).unwrap();
    refused("log", "log.pub");
    fs::write(audit.join("log.pub"), public).unwrap();
    rotate(&place, "log");
    place.run(&["audit", "verify"]).exits(0);
}
