//! Keys that take each other's place: a line is followed from any of its keys, and everything else is refused.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod fixtures;

use fixtures::receipts::{self, origin, receipt, receipt_after_rotation, verifier};
use fixtures::successions::{keys, line, link};
use fixtures::{host, id, log, principal};
use serde_json::Value;
use strongroom_job::checkpoint::CheckpointError;
use strongroom_job::cosignature::{CosignerKey, attach, cosign};
use strongroom_job::note::{KeyName, VerifierKey};
use strongroom_job::receipt::{Receipt, ReceiptError};
use strongroom_job::succession::{
    ChainError, KeyChain, KeyRole, MAX_LINKS, MAX_SUCCESSIONS, MAX_SUCCESSIONS_BYTES, StatementsError,
    Succession, SuccessionError,
};
use strongroom_job::{Base64Bytes, PublicKey, SecretKey, SignedAcceptance, Timestamp};
use zeroize::Zeroizing;

const TYPE: &str = "application/vnd.strongroom.succession.v1+json";

fn secret(byte: u8) -> SecretKey {
    SecretKey::from_seed(&Zeroizing::new([byte; 32]))
}

fn hosts(key: &PublicKey) -> KeyChain {
    KeyChain::pinned(KeyRole::Host, *key)
}

/// A statement with this payload, signed with these keys, whoever they are.
fn signed(payload: &str, by: &[&SecretKey]) -> Vec<u8> {
    let message =
        [format!("DSSEv1 {} {TYPE} {} ", TYPE.len(), payload.len()).as_bytes(), payload.as_bytes()].concat();
    let signature = |key: &&SecretKey| {
        let sig = Base64Bytes(key.sign(&message).as_bytes().to_vec());
        format!(r#"{{"keyid":"{}","sig":{}}}"#, key.public(), serde_json::to_string(&sig).unwrap())
    };
    let signatures: Vec<String> = by.iter().map(signature).collect();
    let payload = serde_json::to_string(&Base64Bytes(payload.as_bytes().to_vec())).unwrap();
    format!(r#"{{"payloadType":"{TYPE}","payload":{payload},"signatures":[{}]}}"#, signatures.join(","))
        .into_bytes()
}

fn payload(old: &SecretKey, new: &SecretKey) -> String {
    let (old, new) = (old.public(), new.public());
    format!(
        r#"{{"version":1,"role":"host","origin":"example.com/audit","old":"{old}","new":"{new}","time":7}}"#
    )
}

#[test]
fn a_line_is_followed_from_any_of_its_keys() {
    for role in [KeyRole::Host, KeyRole::Log] {
        let (line, keys) = (line(role), keys(role).map(|key| key.public()));
        for pinned in keys {
            let chain = KeyChain::pinned(role, pinned).follow(&line).unwrap();
            assert_eq!((chain.current(), chain.pin()), (&keys[2], &pinned));
            assert_eq!((chain.keys(), chain.origin()), (&keys[..], Some(&origin())));
            assert!(keys.iter().all(|key| chain.contains(key)));
        }
        // Without statements a key is followed nowhere; with a part of them, as far as they lead.
        let alone = KeyChain::pinned(role, keys[0]).follow(&[]).unwrap();
        assert_eq!((alone.current(), alone.contains(&keys[1])), (&keys[0], false));
        assert_eq!(KeyChain::pinned(role, keys[1]).follow(&line[..1]).unwrap().current(), &keys[1]);
        assert_eq!(line[0].digest(), strongroom_job::Digest::of(&line[0].to_bytes()));
    }
}

// Red without the check of either signature: what only one of the two signed was believed.
#[test]
fn both_keys_must_have_signed() {
    let (old, new, other) = (secret(7), secret(8), secret(9));
    let said = payload(&old, &new);
    assert!(Succession::parse(&signed(&said, &[&old, &new])).is_ok());
    let by = |keys: &[&SecretKey]| Succession::parse(&signed(&said, keys)).unwrap_err();
    assert_eq!(by(&[&old, &old]), SuccessionError::NotByNew(Box::new(new.public())));
    assert_eq!(by(&[&old, &other]), SuccessionError::NotByNew(Box::new(new.public())));
    assert_eq!(by(&[&new, &new]), SuccessionError::NotByOld(Box::new(old.public())));
    assert_eq!(by(&[&other, &new]), SuccessionError::NotByOld(Box::new(old.public())));
    assert_eq!(by(&[&new, &old]), SuccessionError::NotByOld(Box::new(old.public())), "in the other order");
    for wrong in [&[&old][..], &[&new], &[], &[&old, &new, &new], &[&old, &new, &other]] {
        assert_eq!(by(wrong), SuccessionError::NotAsWritten);
    }
    assert_eq!(
        Succession::parse(&signed(&payload(&old, &old), &[&old, &old])).unwrap_err(),
        SuccessionError::SameKey(Box::new(old.public()))
    );
    let version = said.replace("\"version\":1", "\"version\":2");
    assert_eq!(Succession::parse(&signed(&version, &[&old, &new])).unwrap_err(), SuccessionError::Version(2));
}

// Red without the comparison of the envelope in `check` (keyid, order of fields) and of the bytes in `parse` (white space).
#[test]
fn a_change_of_any_byte_is_noticed() {
    for role in [KeyRole::Host, KeyRole::Log] {
        let good = line(role)[0].to_bytes();
        for place in 0..good.len() {
            for flip in [0x01, 0x20] {
                let mut bad = good.clone();
                bad[place] ^= flip;
                assert!(Succession::parse(&bad).is_err(), "byte {place} ^ {flip:#x}");
            }
        }
    }
    let (old, new) = (secret(7), secret(8));
    let good = signed(&payload(&old, &new), &[&old, &new]);
    let spaced = String::from_utf8(good.clone()).unwrap().replace("\":", "\": ");
    assert_eq!(Succession::parse(spaced.as_bytes()).unwrap_err(), SuccessionError::NotAsWritten);
    let hint = String::from_utf8(good).unwrap().replacen(&old.public().to_string(), "somebody", 1);
    assert_eq!(Succession::parse(hint.as_bytes()).unwrap_err(), SuccessionError::NotAsWritten);
    let said = payload(&old, &new);
    for inner in [said.replace("\":", "\": "), said.replace("\"time\":7}", "\"time\":7,\"more\":1}")] {
        assert!(Succession::parse(&signed(&inner, &[&old, &new])).is_err(), "{inner}");
    }
    let (role, time) = ("\"role\":\"host\",", "\"version\":1,");
    let order = said.replace(role, "").replace(time, &format!("{role}{time}"));
    assert_eq!(Succession::parse(&signed(&order, &[&old, &new])).unwrap_err(), SuccessionError::NotAsWritten);
}

// Each was seen followed without its line in `follow`.
#[test]
fn what_is_no_line_is_refused_with_its_first_wrong_statement() {
    let [k0, k1, k2, k3] = [10, 11, 12, 13].map(secret);
    let host = KeyRole::Host;
    let (first, second) = (link(host, &k0, &k1, 0), link(host, &k1, &k2, 1));
    let wrong = |statements: &[Succession]| hosts(&k0.public()).follow(statements).unwrap_err();
    let key = |key: &SecretKey| Box::new(key.public());

    let other = link(KeyRole::Log, &k1, &k2, 1);
    let error = ChainError::OtherRole { at: 2, expected: host, found: KeyRole::Log };
    assert_eq!(wrong(&[first.clone(), other]), error);
    let elsewhere: KeyName = "example.com/other".parse().unwrap();
    let other = Succession::sign(host, &elsewhere, &k1, &k2, Timestamp::default()).unwrap();
    let (expected, found) = (Box::new(origin()), Box::new(elsewhere.clone()));
    assert_eq!(wrong(&[first.clone(), other.clone()]), ChainError::OtherOrigin { at: 2, expected, found });
    let logs = KeyChain::of_log(&verifier());
    let named = Succession::sign(KeyRole::Log, &elsewhere, &log(), &k1, Timestamp::default()).unwrap();
    assert!(matches!(logs.follow(&[named]), Err(ChainError::OtherOrigin { at: 1, .. })));

    let fork = link(host, &k0, &k3, 1);
    assert_eq!(wrong(&[first.clone(), fork]), ChainError::Fork { at: 2, key: key(&k0) });
    let twice = hosts(&k0.public()).follow(&[first.clone(), first.clone(), second.clone(), first.clone()]);
    assert_eq!(twice.unwrap().current(), &k2.public(), "what is said again is no fork");
    let (expected, found) = (key(&k1), key(&k2));
    assert_eq!(wrong(&[first.clone(), link(host, &k2, &k3, 2)]), ChainError::Gap { at: 2, expected, found });
    let (expected, found) = (key(&k2), key(&k0));
    assert_eq!(wrong(&[second.clone(), first.clone()]), ChainError::Gap { at: 2, expected, found }, "order");
    let back = [first.clone(), second.clone(), link(host, &k2, &k0, 2)];
    assert_eq!(wrong(&back), ChainError::Cycle { at: 3, key: key(&k0) });
    assert_eq!(hosts(&k3.public()).follow(&[first, second]).unwrap_err(), ChainError::Unknown(key(&k3)));

    let many: Vec<Succession> = (0..=MAX_LINKS as u8)
        .map(|number| link(host, &secret(100 + number), &secret(101 + number), u64::from(number)))
        .collect();
    assert_eq!(hosts(&secret(100).public()).follow(&many).unwrap_err(), ChainError::TooMany(MAX_LINKS + 1));
    assert!(hosts(&secret(100).public()).follow(&many[..MAX_LINKS]).is_ok());
}

// Red without the bounds and without the line feed at the end.
#[test]
fn a_file_is_one_statement_in_each_line_and_bounded() {
    let both = [line(KeyRole::Log), line(KeyRole::Host)].concat();
    let file = Succession::to_file(&both);
    assert_eq!(Succession::parse_file(&file).unwrap(), both);
    // Of a file for both keys, each chain takes its own.
    assert_eq!(hosts(&host().public()).follow_own(&both).unwrap().keys().len(), 3);
    assert_eq!(KeyChain::of_log(&verifier()).follow_own(&both).unwrap().keys().len(), 3);

    let parse = |bytes: &[u8]| Succession::parse_file(bytes).unwrap_err();
    assert_eq!(parse(b""), StatementsError::CutOff(1));
    assert_eq!(parse(&file[..file.len() - 1]), StatementsError::CutOff(4));
    assert!(matches!(parse(b"\n"), StatementsError::Statement { line: 1, .. }));
    let blank = [&file[..], b"\n"].concat();
    assert!(matches!(parse(&blank), StatementsError::Statement { line: 5, .. }));
    let mut forged = file.clone();
    let middle = file.iter().position(|byte| *byte == b'\n').unwrap() + 200;
    forged[middle] ^= 1;
    assert!(matches!(parse(&forged), StatementsError::Statement { line: 2, .. }));
    let long = vec![b'x'; MAX_SUCCESSIONS_BYTES + 1];
    assert_eq!(parse(&long), StatementsError::TooLong { found: long.len() });
    let one = [line(KeyRole::Log)[0].to_bytes(), vec![b'\n']].concat();
    assert_eq!(parse(&one.repeat(MAX_SUCCESSIONS + 1)), StatementsError::TooMany);
    let error = parse(
        br#"{"payloadType":"\u001b[2J","payload":"","signatures":[]}
"#,
    );
    assert!(!error.to_string().contains(char::is_control), "{error}");
}

#[test]
fn a_kept_checkpoint_is_by_any_key_of_the_line_and_a_new_one_by_the_last() {
    let [_, second, third] = keys(KeyRole::Log);
    let logs = KeyChain::of_log(&verifier()).follow(&line(KeyRole::Log)).unwrap();
    let old = receipts::usual_log().checkpoint();
    assert_eq!(old.clone().verify_kept(&origin(), &logs).unwrap().signed(), &old);
    let refused = old.clone().verify(&origin(), logs.current());
    assert!(matches!(refused, Err(CheckpointError::Note(_))), "{refused:?}");
    let alone = KeyChain::of_log(&VerifierKey::new(origin(), second.public()));
    assert!(old.clone().verify_kept(&origin(), &alone).is_err());

    // Signed anew: what witnesses said of it stays, the old log key's line goes.
    let witness = CosignerKey::new("witness.example/1".parse().unwrap(), secret(77).public());
    let old = old.verify(&origin(), &log().public()).unwrap();
    let said = cosign(&old, witness.name(), &secret(77), Timestamp::from_millis(1_700_000_000_000));
    let cosigned =
        attach(&old, std::slice::from_ref(&said)).unwrap().verify(&origin(), &log().public()).unwrap();
    let anew = cosigned.signed_anew(&verifier(), &third).unwrap();
    assert!(anew.clone().verify(&origin(), &log().public()).is_err());
    let anew = anew.verify(&origin(), &third.public()).unwrap();
    assert_eq!((anew.head(), witness.find(&anew).unwrap()), (old.head(), said));
}

// Red without `hosts.contains` in the place of the comparison with one key.
#[test]
fn receipts_and_acceptances_of_before_and_after_verify_with_any_pin_and_the_line() {
    let line = line(KeyRole::Host);
    let [k0, k1, k2] = keys(KeyRole::Host).map(|key| key.public());
    let old = receipt(true);
    for pinned in [k0, k1, k2] {
        let chain = hosts(&pinned).follow(&line).unwrap();
        assert_eq!(old.verify_by(&chain, None).unwrap().host, k0, "who signed is told");
    }
    for pinned in [k1, k2] {
        let refused = old.verify(&pinned, None).unwrap_err();
        assert!(matches!(refused, ReceiptError::OtherHost { .. }), "{refused}");
    }
    // The log's key was replaced, too.
    let logs = KeyChain::of_log(&VerifierKey::new(origin(), keys(KeyRole::Log)[2].public()));
    let all = logs.clone().follow(&fixtures::successions::line(KeyRole::Log)).unwrap();
    assert!(old.verify_by(&hosts(&k0), Some(&all)).is_ok());
    assert!(matches!(old.verify_by(&hosts(&k0), Some(&logs)), Err(ReceiptError::OtherLog { .. })));

    let said = receipts::acceptance();
    let kept = said.clone().verify(&said.sign(&host()).signature.0).unwrap().to_dsse();
    assert!(SignedAcceptance::from_dsse(&kept, &k2).is_err());
    assert!(SignedAcceptance::from_dsse_by(&kept, &hosts(&k2).follow(&line).unwrap()).is_ok());
    let other =
        hosts(&secret(10).public()).follow(&[link(KeyRole::Host, &secret(10), &secret(11), 0)]).unwrap();
    assert!(SignedAcceptance::from_dsse_by(&kept, &other).is_err());
}

// Red without `Audiences::hold`: any envelope of the principal's passed; red without each part of the comparison in it: with
// statements that lead elsewhere, or that nothing needs.
#[test]
fn an_envelope_for_an_earlier_key_needs_the_line_to_the_signer() {
    let all = line(KeyRole::Host);
    let [k0, k1, k2] = keys(KeyRole::Host);
    let good = receipt_after_rotation();
    let proven = good.verify(&k2.public(), Some(&verifier())).unwrap();
    assert_eq!((proven.host, proven.body.unwrap().id), (k2.public(), id(1)));
    let chain = hosts(&k0.public()).follow(&all).unwrap();
    assert!(good.verify_by(&chain, None).is_ok(), "with the line from elsewhere, too");
    let without = good.clone().without_envelope();
    assert!(without.verify(&k2.public(), None).is_ok());

    let changed = |change: &dyn Fn(&mut Value)| {
        let mut file: Value = serde_json::from_slice(&good.to_bytes()).unwrap();
        change(&mut file);
        // The order of fields is kept by nobody but the receipt itself.
        let receipt: Receipt = serde_json::from_value(file).unwrap();
        receipt.verify(&k2.public(), None).unwrap_err()
    };
    let statements = |list: &[Succession]| serde_json::to_value(list).unwrap();
    let set = |list: &[Succession]| changed(&|file| file["succession"] = statements(list));
    let untold = set(&[]);
    assert_eq!(untold, ReceiptError::OtherTask);
    assert_eq!(set(&all[1..]), ReceiptError::NotAsWritten, "not from the audience");
    assert_eq!(set(&all[..1]), ReceiptError::Keys(ChainError::Unknown(Box::new(k2.public()))));
    let more = link(KeyRole::Host, &k2, &secret(99), 3);
    assert_eq!(set(&[all.clone(), vec![more]].concat()), ReceiptError::NotAsWritten, "beyond the signer");
    let before = link(KeyRole::Host, &secret(98), &k0, 0);
    assert_eq!(set(&[vec![before], all.clone()].concat()), ReceiptError::NotAsWritten, "before the audience");
    let gone = changed(&|file| drop(file.as_object_mut().unwrap().remove("envelope")));
    assert_eq!(gone, ReceiptError::NotAsWritten);
    // One that an earlier key signed cannot be for a later one.
    let early =
        Receipt::issue(receipts::usual_log().parts(Some(receipts::envelope().as_bytes())), &secret(98))
            .unwrap();
    let chain = hosts(&k0.public()).follow(&[link(KeyRole::Host, &k0, &secret(98), 0)]).unwrap();
    assert!(early.verify_by(&chain, None).is_ok());
    let chain = hosts(&k0.public()).follow(&[link(KeyRole::Host, &secret(98), &k0, 0)]).unwrap();
    assert_eq!(early.verify_by(&chain, None).unwrap_err(), ReceiptError::OtherTask);
    let _ = (k1, principal());

    for place in 0..good.to_bytes().len() {
        let mut bad = good.to_bytes();
        bad[place] ^= 0x01;
        let read = Receipt::parse(&bad).and_then(|bad| bad.verify(&k2.public(), Some(&verifier())));
        assert!(read.is_err(), "byte {place}");
    }
}
