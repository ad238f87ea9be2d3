//! Trust files: a version counts when enough operators signed it, old and new, and nothing else that looks like one does.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod fixtures;

use fixtures::trust::{body, draft, file, first, keys, log_name, operator, signed, unsigned};
use strongroom_job::strict::StrictError;
use strongroom_job::trust::{
    MAX_OPERATORS, MAX_TRUST_VERSION_BYTES, MAX_TRUST_VERSIONS, Missing, TRUST_PAYLOAD_TYPE, TrustBody,
    TrustDraft, TrustError, TrustFile, TrustFileError,
};
use strongroom_job::{Digest, SecretKey, Timestamp, TrustVersion};

fn parse(bytes: &[u8]) -> Result<TrustFile, TrustFileError> {
    TrustFile::parse(bytes, Some(&log_name()))
}

fn wrong(bytes: &[u8]) -> (u64, TrustError) {
    match parse(bytes).unwrap_err() {
        TrustFileError::Version { version, error } => (version, error),
        other => panic!("{other}"),
    }
}

/// A line that nobody of ours would write: any payload, signed by anybody.
fn forged(payload: &str, by: &[u8]) -> Vec<u8> {
    let mut keys: Vec<SecretKey> = by.iter().map(|number| operator(*number)).collect();
    keys.sort_by_key(SecretKey::public);
    let message = [
        format!("DSSEv1 {} {TRUST_PAYLOAD_TYPE} {} ", TRUST_PAYLOAD_TYPE.len(), payload.len()),
        payload.into(),
    ]
    .concat();
    let signature = |key: &SecretKey| {
        let sig = base64(key.sign(message.as_bytes()).as_bytes());
        format!(r#"{{"keyid":"{}","sig":"{sig}"}}"#, key.public())
    };
    let signatures: Vec<_> = keys.iter().map(signature).collect();
    line(TRUST_PAYLOAD_TYPE, payload, &signatures.join(","))
}

fn line(payload_type: &str, payload: &str, signatures: &str) -> Vec<u8> {
    let payload = base64(payload.as_bytes());
    format!(
        "{{\"payloadType\":\"{payload_type}\",\"payload\":\"{payload}\",\"signatures\":[{signatures}]}}\n"
    )
    .into_bytes()
}

fn base64(bytes: &[u8]) -> String {
    serde_json::to_value(strongroom_job::Base64Bytes(bytes.to_vec())).unwrap().as_str().unwrap().to_owned()
}

fn payload(version: u64, threshold: u64, operators: &[u8]) -> String {
    let mut operators = keys(operators);
    operators.sort_unstable();
    payload_of(version, threshold, &operators)
}

fn payload_of(version: u64, threshold: u64, operators: &[strongroom_job::PublicKey]) -> String {
    let operators: Vec<_> = operators.iter().map(|key| format!("\"{key}\"")).collect();
    let expires = 1_800_000_000_000 + version;
    format!(
        r#"{{"trust":1,"log":"{}","version":{version},"expires":{expires},"threshold":{threshold},"operators":[{}]}}"#,
        log_name(),
        operators.join(",")
    )
}

fn after_first(next: &[u8]) -> Vec<u8> {
    [first().to_bytes(), next.to_vec()].concat()
}

#[test]
fn a_file_is_read_as_it_was_written_and_leads_from_any_version_to_the_last() {
    let (one, two) = (first(), file());
    assert_eq!(parse(&one.to_bytes()).unwrap(), one);
    let read = parse(&two.to_bytes()).unwrap();
    assert_eq!(read, two);
    assert_eq!(read.in_force().version(), 2);
    assert_eq!(read.in_force().operators().len(), 3);
    let named: Vec<bool> = keys(&[1, 2, 3, 4]).iter().map(|key| read.in_force().names(key)).collect();
    assert_eq!(named, [false, true, true, true]);
    for pinned in [one.in_force().id(), two.in_force().id()] {
        assert_eq!(read.goes_on_from(&pinned), Ok(()));
    }
    // This test's own writer writes what ours does, so what it forges below is refused for what it says.
    assert_eq!(forged(&payload(1, 2, &[1, 2, 3]), &[1, 2]), one.to_bytes());
}

#[test]
fn an_expiry_is_the_first_moment_that_is_too_late() {
    let body = body(1, 1, &[1]);
    let at = body.expires().as_millis();
    assert!(!body.has_expired(Timestamp::from_millis(at - 1)));
    assert!(body.has_expired(Timestamp::from_millis(at)));
}

// Red without the check of signatures in `SignedTrust::check`, and without the end of the last line.
#[test]
fn each_changed_byte_and_each_cut_is_found() {
    let good = file().to_bytes();
    for place in 0..good.len() {
        for flip in [0x01, 0x20, 0x80] {
            let mut bad = good.clone();
            bad[place] ^= flip;
            assert!(parse(&bad).is_err(), "byte {place} ^ {flip:#x}");
        }
    }
    let first = first().to_bytes().len();
    for cut in 0..good.len() {
        // Where the first version ends, the file is an older one, and good as such.
        assert_eq!(parse(&good[..cut]).is_ok(), cut == first, "{cut}");
    }
    for more in ["\n", " ", "{}", "x\n"] {
        assert!(parse(&[&good, more.as_bytes()].concat()).is_err(), "{more:?}");
    }
}

// Red without the comparison with what is written in `SignedTrust::parse`.
#[test]
fn one_content_has_one_spelling() {
    let body = payload(1, 1, &[1]);
    assert!(parse(&forged(&body, &[1])).is_ok());
    let (trust, log) = (r#""trust":1"#, format!(r#""log":"{}""#, log_name()));
    for other in [
        body.replace(",\"version\"", ", \"version\""),
        body.replace("\"log\"", "\"l\\u006fg\""),
        body.replace(&format!("{trust},{log}"), &format!("{log},{trust}")),
        format!("{body} "),
    ] {
        assert_ne!(other, body);
        assert_eq!(wrong(&forged(&other, &[1])), (1, TrustError::NotAsWritten), "{other}");
    }
    let line = String::from_utf8(forged(&body, &[1])).unwrap();
    for other in [
        line.replace(",\"payload\"", ", \"payload\""),
        line.replace("\"keyid\"", "\"key\\u0069d\""),
        line.replace('\n', " \n"),
        format!(" {line}"),
        line.replace('\n', "\r\n"),
    ] {
        assert_ne!(other, line);
        assert_eq!(wrong(other.as_bytes()), (1, TrustError::NotAsWritten), "{other}");
    }
}

// Red without `is_nothing` in `finish`, and with `>` in place of `>=` in it.
#[test]
fn as_many_must_sign_as_the_threshold_says() {
    let fresh = || TrustDraft::first(body(1, 2, &[1, 2, 3])).unwrap();
    for (by, have) in [(&[][..], 0), (&[3], 1)] {
        let missing = Missing { own: (have, 2), before: None };
        let error = TrustFileError::Version { version: 1, error: TrustError::Missing(missing) };
        assert_eq!(signed(fresh(), by).finish(), Err(error));
    }
    for by in [&[1, 2][..], &[1, 3], &[2, 3], &[1, 2, 3]] {
        assert!(signed(fresh(), by).finish().is_ok(), "{by:?}");
    }
}

// Red when only the old, and when only the new operators are asked.
#[test]
fn a_next_version_is_signed_by_old_and_new_operators() {
    // 1, 2, 3 become 2, 3, 4; two of each.
    for (by, own, before) in
        [(&[1, 2][..], 1, 2), (&[2, 4], 2, 1), (&[1, 4], 1, 1), (&[4], 1, 0), (&[1], 0, 1), (&[], 0, 0)]
    {
        let missing = Missing { own: (own, 2), before: Some((before, 2)) };
        let draft = signed(unsigned(), by);
        let error = TrustFileError::Version { version: 2, error: TrustError::Missing(missing) };
        assert_eq!(draft.clone().finish(), Err(error.clone()), "{by:?}");
        assert_eq!(parse(&draft.to_bytes()), Err(error), "{by:?}");
    }
    for by in [&[2, 3][..], &[1, 2, 4], &[1, 2, 3], &[1, 2, 3, 4]] {
        assert!(signed(unsigned(), by).finish().is_ok(), "{by:?}");
    }
}

// Red without the check of the last version when another one follows.
#[test]
fn no_version_follows_from_one_that_is_not_whole() {
    let third = forged(&payload(3, 1, &[2, 3]), &[2, 3]);
    let bytes = [draft().to_bytes(), third].concat();
    assert!(matches!(wrong(&bytes), (2, TrustError::Missing(_))), "{:?}", wrong(&bytes));
    // A draft says no word of it either.
    assert!(TrustDraft::parse(&bytes, None).is_err());
}

// Red without the order of signatures in `SignedTrust::parse`: the same signature twice then meets a threshold of two.
#[test]
fn a_key_counts_once_however_often_it_signs() {
    let text = String::from_utf8(forged(&payload(1, 2, &[1, 2, 3]), &[1])).unwrap();
    let start = text.find(r#"{"keyid""#).unwrap();
    let one = text[start..].trim_end().trim_end_matches("]}").to_owned();
    let twice = text.replace(&one, &format!("{one},{one}"));
    assert_eq!(wrong(twice.as_bytes()), (1, TrustError::SignatureOrder));
    let mut draft = TrustDraft::first(body(1, 2, &[1, 2, 3])).unwrap();
    assert_eq!((draft.sign(&operator(1)), draft.sign(&operator(1))), (Ok(true), Ok(false)));
    assert!(draft.finish().is_err());
}

// Red without `may_sign` in `check`, and in `sign`.
#[test]
fn a_stranger_or_an_operator_who_was_removed_counts_for_nothing() {
    let stranger = |number| TrustError::Stranger(Box::new(operator(number).public()));
    assert_eq!(wrong(&forged(&payload(1, 1, &[2]), &[1])), (1, stranger(1)));
    assert_eq!(wrong(&forged(&payload(1, 1, &[2]), &[1, 2])), (1, stranger(1)));
    // Operator 1 left with version 2: the third is not his to sign.
    let third = forged(&payload(3, 2, &[2, 3, 4]), &[1, 2, 3]);
    assert_eq!(wrong(&[file().to_bytes(), third].concat()), (3, stranger(1)));
    let mut draft = file().then(body(3, 2, &[2, 3, 4])).unwrap();
    let error = TrustFileError::Version { version: 3, error: stranger(1) };
    assert_eq!(draft.sign(&operator(1)), Err(error));
    // Nor can he take it over alone with a version of his own.
    let mine = forged(&payload(3, 1, &[1]), &[1]);
    assert!(matches!(wrong(&[file().to_bytes(), mine].concat()), (3, TrustError::Missing(_))));
}

// Red without `check` in `TrustBody::parse`, each line without its part of it.
#[test]
fn thresholds_and_operators_that_would_let_anybody_in_are_refused() {
    let threshold = |threshold, operators| TrustError::Threshold { threshold, operators };
    assert_eq!(wrong(&forged(&payload(1, 0, &[1]), &[])), (1, threshold(0, 1)));
    assert_eq!(wrong(&forged(&payload(1, 2, &[1]), &[1])), (1, threshold(2, 1)));
    assert_eq!(wrong(&forged(&payload(1, 1, &[]), &[])), (1, TrustError::Operators(0)));
    let many: Vec<u8> = (0..=MAX_OPERATORS).map(|number| u8::try_from(number).unwrap()).collect();
    assert_eq!(wrong(&forged(&payload(1, 1, &many), &[1])), (1, TrustError::Operators(MAX_OPERATORS + 1)));
    // One key in two places is no second operator.
    let twice = keys(&[1, 1]);
    assert_eq!(wrong(&forged(&payload_of(1, 2, &twice), &[1])), (1, TrustError::NotSorted));
    let mut reversed = keys(&[1, 2]);
    reversed.sort_unstable_by(|one, next| next.cmp(one));
    assert_eq!(wrong(&forged(&payload_of(1, 1, &reversed), &[1])), (1, TrustError::NotSorted));
    // What makes a body is held to the same.
    let made = |threshold, operators: &[u8]| {
        TrustBody::new(log_name(), 1, Timestamp::from_millis(1), threshold, &keys(operators))
    };
    assert_eq!(made(2, &[1, 1]), Err(threshold(2, 1)));
    assert_eq!(made(1, &many), Err(TrustError::Operators(MAX_OPERATORS + 1)));
    // A lower threshold is signed by as many as the old one says.
    let lower = after_first(&forged(&payload(2, 1, &[1, 2, 3]), &[1]));
    let missing = Missing { own: (1, 1), before: Some((1, 2)) };
    assert_eq!(wrong(&lower), (2, TrustError::Missing(missing)));
}

// Red without the comparison of version numbers, and of logs, in `check`.
#[test]
fn versions_have_no_gap_and_are_for_one_host() {
    let gap = after_first(&forged(&payload(3, 2, &[1, 2, 3]), &[1, 2]));
    assert_eq!(wrong(&gap), (2, TrustError::WrongVersion { found: 3, expected: 2 }));
    let again = after_first(&first().to_bytes());
    assert_eq!(wrong(&again), (2, TrustError::WrongVersion { found: 1, expected: 2 }));
    let late = forged(&payload(2, 1, &[1]), &[1]);
    assert_eq!(wrong(&late), (1, TrustError::WrongVersion { found: 2, expected: 1 }));
    assert_eq!(wrong(&forged(&payload(0, 1, &[1]), &[1])).0, 1);

    let elsewhere = "other.example/audit";
    let theirs = |version| payload(version, 1, &[1]).replace(log_name().as_str(), elsewhere);
    let other = TrustError::OtherLog { found: elsewhere.parse().unwrap(), expected: log_name() };
    assert_eq!(wrong(&forged(&theirs(1), &[1])), (1, other.clone()));
    assert!(TrustFile::parse(&forged(&theirs(1), &[1]), None).is_ok(), "good, for that host");
    let mixed = [forged(&payload(1, 1, &[1]), &[1]), forged(&theirs(2), &[1])].concat();
    assert_eq!(wrong(&mixed), (2, other));
}

// Red without the two comparisons in `goes_on_from`.
#[test]
fn an_older_file_and_a_second_history_are_told_apart() {
    let (one, two) = (first(), file());
    let kept = two.in_force().id();
    assert_eq!(one.goes_on_from(&kept), Err(TrustFileError::Older { found: 1, kept: 2 }));
    let second = signed(first().then(body(2, 2, &[1, 2, 3])).unwrap(), &[1, 2]).finish().unwrap();
    let found = second.in_force().digest();
    let error = TrustFileError::OtherHistory { version: 2, found, kept: kept.digest };
    assert_eq!(second.goes_on_from(&kept), Err(error));
    let none = TrustVersion { version: 0, digest: Digest::of(b"") };
    assert!(two.goes_on_from(&none).is_err());
}

// Red without each of the bounds.
#[test]
fn files_are_bounded() {
    assert_eq!(TrustFile::parse(b"", None), Err(TrustFileError::CutOff));
    let long = vec![b' '; strongroom_job::trust::MAX_TRUST_FILE_BYTES + 1];
    assert!(matches!(TrustFile::parse(&long, None), Err(TrustFileError::TooLong { .. })));
    let wide = [b"{", vec![b' '; MAX_TRUST_VERSION_BYTES].as_slice(), b"}\n"].concat();
    assert!(matches!(wrong(&wide), (1, TrustError::Malformed(StrictError::TooLong { .. }))));
    let signature = format!(r#"{{"keyid":"{}","sig":""}}"#, operator(1).public());
    let many = vec![signature.clone(); 2 * MAX_OPERATORS + 1].join(",");
    let body = payload(1, 1, &[1]);
    assert_eq!(wrong(&line(TRUST_PAYLOAD_TYPE, &body, &many)), (1, TrustError::Signatures(65)));
    assert_eq!(wrong(&line(TRUST_PAYLOAD_TYPE, &body, &signature)), (1, TrustError::SignatureForm));
    assert_eq!(wrong(&line("application/json", &body, "")), (1, TrustError::OtherType));
    let newer = body.replace("\"trust\":1", "\"trust\":2");
    assert_eq!(wrong(&forged(&newer, &[1])), (1, TrustError::OtherType));

    let mut full = signed(TrustDraft::first(body_of(1)).unwrap(), &[1]).finish().unwrap();
    for version in 2..=MAX_TRUST_VERSIONS as u64 {
        full = signed(full.then(body_of(version)).unwrap(), &[1]).finish().unwrap();
    }
    assert_eq!(parse(&full.to_bytes()).unwrap(), full);
    let next = forged(&payload(MAX_TRUST_VERSIONS as u64 + 1, 1, &[1]), &[1]);
    assert_eq!(parse(&[full.to_bytes(), next].concat()), Err(TrustFileError::TooMany));
    assert_eq!(full.then(body_of(MAX_TRUST_VERSIONS as u64 + 1)), Err(TrustFileError::TooMany));
}

fn body_of(version: u64) -> TrustBody {
    body(version, 1, &[1])
}

#[test]
fn the_longest_version_fits() {
    let many: Vec<u8> = (0..MAX_OPERATORS).map(|number| u8::try_from(number).unwrap()).collect();
    let others: Vec<u8> = many.iter().map(|number| number + 100).collect();
    let log =
        "\"".repeat(strongroom_job::note::MAX_NAME_BYTES).parse::<strongroom_job::note::KeyName>().unwrap();
    let expires = Timestamp::from_millis(u64::MAX);
    let of = |version, operators: &[u8]| {
        TrustBody::new(log.clone(), version, expires, 32, &keys(operators)).unwrap()
    };
    let one = signed(TrustDraft::first(of(1, &many)).unwrap(), &many).finish().unwrap();
    let both: Vec<u8> = many.iter().chain(&others).copied().collect();
    let two = signed(one.then(of(2, &others)).unwrap(), &both).finish().unwrap();
    assert_eq!(TrustFile::parse(&two.to_bytes(), Some(&log)).unwrap(), two);
}
