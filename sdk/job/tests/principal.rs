//! Commands of operators: what was signed counts, as it was signed, by whom it says; nothing that only looks like one is taken.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod fixtures;

use fixtures::commands::{added, changed, entry, restored, revoked, rotated};
use fixtures::delegations::delegate;
use fixtures::{host, id, name, principal, sealed};
use strongroom_job::delegation::MAX_DELEGATED;
use strongroom_job::principal::{
    COMMAND_PAYLOAD_TYPE, CommandBody, CommandError, Entry, MAX_COMMAND_BYTES, MAX_COMMAND_ENVELOPE_BYTES,
    MAX_COMMAND_LIFETIME, SignedCommand,
};
use strongroom_job::strict::StrictError;
use strongroom_job::{
    Access, Base64Bytes, Destination, Event, MAX_FORGOTTEN, MAX_RECORD_BYTES, Record, Role, Timestamp,
};

fn forged(payload: &str) -> Result<SignedCommand, CommandError> {
    SignedCommand::parse(&sealed(COMMAND_PAYLOAD_TYPE, payload.as_bytes(), &principal()))
}

fn json(body: &CommandBody) -> String {
    serde_json::to_string(body).unwrap()
}

// Red without `verifies` in `Signed::of`.
#[test]
fn no_bit_of_a_command_is_free() {
    let signed = rotated().sign(&principal()).unwrap();
    let bytes = signed.to_bytes();
    assert_eq!(SignedCommand::parse(&bytes), Ok(signed.clone()));
    // The name of the key beside the signature is a hint that nobody signed.
    let text = String::from_utf8(bytes.clone()).unwrap();
    let hint = text.find("\"keyid\"").unwrap()..text.find(",\"sig\"").unwrap();
    for at in (0..bytes.len()).filter(|at| !hint.contains(at)) {
        for bit in [1, 0x20, 0x80] {
            let mut flipped = bytes.clone();
            flipped[at] ^= bit;
            let read = SignedCommand::parse(&flipped);
            assert!(read.is_err(), "byte {at}, bit {bit}: {:?}", String::from_utf8_lossy(&flipped));
        }
    }
    let parts = SignedCommand::from_parts(&signed.payload(), &signed.signature());
    assert_eq!(parts, Ok(signed.clone()));
    let mut payload = signed.payload();
    payload.0[40] ^= 1;
    assert!(SignedCommand::from_parts(&payload, &signed.signature()).is_err());
    let short = Base64Bytes(signed.signature().0[..63].to_vec());
    assert_eq!(SignedCommand::from_parts(&signed.payload(), &short), Err(CommandError::Signature));
}

#[test]
fn only_the_operator_signs() {
    let other = revoked().sign(&delegate());
    assert_eq!(other, Err(CommandError::OtherSigner(Box::new(principal().public()))));
    let by_other = sealed(COMMAND_PAYLOAD_TYPE, json(&revoked()).as_bytes(), &delegate());
    let bad = CommandError::BadSignature(Box::new(principal().public()));
    assert_eq!(SignedCommand::parse(&by_other), Err(bad));
    // What was signed as something else is no command, and a signature more makes none.
    let job = sealed(strongroom_job::JOB_PAYLOAD_TYPE, json(&revoked()).as_bytes(), &principal());
    assert_eq!(SignedCommand::parse(&job), Err(CommandError::OtherType));
    let good = String::from_utf8(revoked().sign(&principal()).unwrap().to_bytes()).unwrap();
    let signature = good.split_once("\"signatures\":[").unwrap().1.strip_suffix("]}").unwrap();
    let twice = good.replace(signature, &format!("{signature},{signature}"));
    assert_eq!(SignedCommand::parse(twice.as_bytes()), Err(CommandError::Signature));
}

// Red without the part of `CommandBody::read` or `Entry::check` that each is about.
#[test]
fn what_breaks_a_rule_is_not_taken() {
    let wrong = |change: &dyn Fn(&mut CommandBody)| {
        let mut body = added();
        change(&mut body);
        let refused = forged(&json(&body)).unwrap_err();
        assert_eq!(body.sign(&principal()).err(), Some(refused.clone()), "nor is it signed");
        refused
    };
    assert_eq!(wrong(&|body| body.command = 2), CommandError::OtherType);
    assert_eq!(wrong(&|body| body.not_after = body.not_before), CommandError::Window);
    let late = |body: &mut CommandBody| {
        let long = Timestamp::from_millis(1).saturating_add(MAX_COMMAND_LIFETIME);
        body.not_after = Timestamp::from_millis(body.not_before.as_millis() + long.as_millis());
    };
    assert_eq!(wrong(&late), CommandError::Window);

    // One thing, no more and no less.
    assert_eq!(wrong(&|body| body.add = None), CommandError::OneThing);
    assert_eq!(wrong(&|body| body.restore = Some(host().public())), CommandError::OneThing);
    assert_eq!(wrong(&|body| body.revoke = Some(entry().key)), CommandError::OneThing, "for itself");
    let out_and_in = |body: &mut CommandBody| {
        *body = CommandBody { restore: Some(delegate().public()), ..revoked() };
    };
    assert_eq!(wrong(&out_and_in), CommandError::OneThing);
    let all =
        |body: &mut CommandBody| *body = CommandBody { restore: Some(principal().public()), ..rotated() };
    assert_eq!(wrong(&all), CommandError::OneThing);

    let of = |change: &dyn Fn(&mut Entry)| wrong(&|body| change(body.add.as_mut().unwrap()));
    for roles in [vec![], vec![Role::Submit, Role::View], vec![Role::View, Role::View]] {
        assert_eq!(of(&|entry| entry.roles = roles.clone()), CommandError::Roles);
    }
    let twice = |list| CommandError::List(list);
    assert_eq!(of(&|entry| entry.secrets.push(name("a"))), twice("secrets"));
    let secrets = |entry: &mut Entry| {
        entry.secrets = (0..=MAX_DELEGATED).map(|at| name(&format!("s{at:03}"))).collect();
    };
    assert_eq!(of(&secrets), twice("secrets"));
    assert_eq!(of(&|entry| entry.connect.push(entry.connect[0].clone())), twice("connect"));
    assert_eq!(of(&|entry| entry.listen.push(entry.listen[0])), twice("listen"));
    assert_eq!(of(&|entry| entry.http.push(entry.http[0].clone())), twice("http"));
    let volumes = |entry: &mut Entry| {
        entry.volumes = (0..=MAX_DELEGATED).map(|at| (name(&format!("v{at}")), Access::Read)).collect();
    };
    assert_eq!(of(&volumes), twice("volumes"));
}

// Red with `serde_json::from_slice` in place of `strict::parse`.
#[test]
fn a_body_is_strict() {
    for body in [added(), rotated(), revoked(), restored()] {
        assert!(forged(&json(&body)).is_ok(), "{body:?}");
    }
    let good = json(&added());
    let malformed = |text: String| {
        assert_ne!(text, good);
        assert!(matches!(forged(&text), Err(CommandError::Malformed(_))), "{text}");
    };
    let one = r#""command":1"#;
    malformed(good.replace(one, r#""command":1,"command":1"#));
    malformed(good.replace(one, r#""command":1.0"#));
    malformed(good.replace(one, r#""command":1,"force":true"#));
    let key = r#""name":"ci""#;
    malformed(good.replace(key, r#""name":"ci","any_network":true"#));
    malformed(good.replace(key, r#""name":"ci","name":"cd""#));
    malformed(good.replace(r#""out":"read-write""#, r#""data":"read-write""#));
    malformed(good.replace("tcp://db.example.com:5432", "db.example.com:5432"));
    malformed(good.replace(r#""roles":["view""#, r#""roles":["root""#));
    malformed(format!("{good}x"));
    malformed(good.replace(one, &format!("{one}{}", " ".repeat(MAX_COMMAND_BYTES))));
    let long = vec![b' '; MAX_COMMAND_ENVELOPE_BYTES + 1];
    let too_long = SignedCommand::parse(&long);
    assert!(matches!(too_long, Err(CommandError::Malformed(StrictError::TooLong { .. }))));
}

// Red with a `MAX_COMMAND_BYTES` of 48 KiB: `MAX_RECORD_BYTES` is too little then.
#[test]
fn the_longest_command_fits_a_record() {
    let mut body = rotated();
    let rule = |at: usize| -> Destination {
        format!("tcp://{}.example.com:{}", "a".repeat(60), at + 1).parse().unwrap()
    };
    let entry = body.add.as_mut().unwrap();
    entry.connect = (0..MAX_DELEGATED).map(rule).collect();
    let long = |letter: &str, at: usize| name(&format!("{letter}{at:03}{}", "x".repeat(60)));
    entry.secrets = (0..MAX_DELEGATED).map(|at| long("s", at)).collect();
    entry.volumes = (0..MAX_DELEGATED).map(|at| (long("v", at), Access::Read)).collect();
    let size = json(&body).len();
    assert!((14_000..=MAX_COMMAND_BYTES).contains(&size), "{size}");
    // Spaces are as good as anything else that makes it as long as it may be.
    let longest = json(&body)
        .replace(r#""command":1"#, &format!(r#""command":1{}"#, " ".repeat(MAX_COMMAND_BYTES - size)));
    let signed = forged(&longest).unwrap();
    assert_eq!(signed.payload().0.len(), MAX_COMMAND_BYTES);
    assert!(signed.to_bytes().len() <= MAX_COMMAND_ENVELOPE_BYTES);
    let forgets = vec![id(7); MAX_FORGOTTEN];
    let Event::PrincipalChanged { command, principal, revoked, restored, added, forgets, .. } =
        changed(&body, forgets)
    else {
        panic!("another record")
    };
    let (payload, signature) = (signed.payload(), signed.signature());
    let event =
        Event::PrincipalChanged { command, principal, revoked, restored, added, forgets, payload, signature };
    let leaf = Record::new(Timestamp::from_millis(u64::MAX), event).to_leaf();
    assert!(leaf.len() <= MAX_RECORD_BYTES && leaf.len() > 30_000, "{}", leaf.len());
    assert!(Record::from_leaf(&leaf).is_ok());
}
