//! Grants: what was signed counts, as it was signed, by whom it says; nothing that only looks like one is taken.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod fixtures;

use fixtures::delegations::{delegate, full, small};
use fixtures::{name, principal, sealed};
use strongroom_job::delegation::{
    DELEGATION_PAYLOAD_TYPE, DelegationBody, DelegationError, MAX_DELEGATED, MAX_DELEGATION_BYTES,
    MAX_DELEGATION_DEPTH, MAX_DELEGATION_ENVELOPE_BYTES, MAX_DELEGATION_LIFETIME, SignedDelegation,
};
use strongroom_job::strict::StrictError;
use strongroom_job::{Access, Destination, MAX_RECORD_BYTES, Record, Role, Timestamp};

fn forged(payload: &str) -> Result<SignedDelegation, DelegationError> {
    SignedDelegation::parse(&sealed(DELEGATION_PAYLOAD_TYPE, payload.as_bytes(), &principal()))
}

fn json(body: &DelegationBody) -> String {
    serde_json::to_string(body).unwrap()
}

// Red without `verifies` in `Signed::of`.
#[test]
fn no_bit_of_a_grant_is_free() {
    let signed = full().sign(&principal()).unwrap();
    let bytes = signed.to_bytes();
    assert_eq!(SignedDelegation::parse(&bytes), Ok(signed.clone()));
    // The name of the key beside the signature is a hint that nobody signed.
    let (from, to) = {
        let text = String::from_utf8(bytes.clone()).unwrap();
        let from = text.find("\"keyid\"").unwrap();
        (from, text.find(",\"sig\"").unwrap())
    };
    for at in (0..bytes.len()).filter(|at| !(from..to).contains(at)) {
        for bit in [1, 0x20, 0x80] {
            let mut flipped = bytes.clone();
            flipped[at] ^= bit;
            let read = SignedDelegation::parse(&flipped);
            assert!(read.is_err(), "byte {at}, bit {bit}: {:?}", String::from_utf8_lossy(&flipped));
        }
    }
    let parts = SignedDelegation::from_parts(&signed.payload(), &signed.signature());
    assert_eq!(parts, Ok(signed.clone()));
    let mut payload = signed.payload();
    payload.0[40] ^= 1;
    assert!(SignedDelegation::from_parts(&payload, &signed.signature()).is_err());
}

#[test]
fn only_the_delegator_signs() {
    let other = small().sign(&delegate());
    assert_eq!(other, Err(DelegationError::OtherSigner(Box::new(principal().public()))));
    let by_other = sealed(DELEGATION_PAYLOAD_TYPE, json(&small()).as_bytes(), &delegate());
    let bad = DelegationError::BadSignature(Box::new(principal().public()));
    assert_eq!(SignedDelegation::parse(&by_other), Err(bad));
    // What was signed as something else is no grant, and a signature more makes none.
    let job = sealed(strongroom_job::JOB_PAYLOAD_TYPE, json(&small()).as_bytes(), &principal());
    assert_eq!(SignedDelegation::parse(&job), Err(DelegationError::OtherType));
    let good = String::from_utf8(small().sign(&principal()).unwrap().to_bytes()).unwrap();
    let signature = good.split_once("\"signatures\":[").unwrap().1.strip_suffix("]}").unwrap();
    let twice = good.replace(signature, &format!("{signature},{signature}"));
    assert_eq!(SignedDelegation::parse(twice.as_bytes()), Err(DelegationError::Signature));
}

// Red without the line of `check` that each is about.
#[test]
fn what_breaks_a_rule_is_not_taken() {
    let wrong = |change: &dyn Fn(&mut DelegationBody)| {
        let mut body = full();
        change(&mut body);
        let refused = forged(&json(&body)).unwrap_err();
        assert_eq!(body.sign(&principal()).err(), Some(refused.clone()), "nor is it signed");
        refused
    };
    assert_eq!(wrong(&|body| body.delegation = 2), DelegationError::OtherType);
    assert_eq!(wrong(&|body| body.delegate = body.delegator), DelegationError::ToItself);
    assert_eq!(wrong(&|body| body.not_after = body.not_before), DelegationError::Window);
    let late = |body: &mut DelegationBody| {
        let long = Timestamp::from_millis(1).saturating_add(MAX_DELEGATION_LIFETIME);
        body.not_after = Timestamp::from_millis(body.not_before.as_millis() + long.as_millis());
    };
    assert_eq!(wrong(&late), DelegationError::Window);
    assert_eq!(
        wrong(&|body| body.further = MAX_DELEGATION_DEPTH),
        DelegationError::Further(MAX_DELEGATION_DEPTH)
    );
    for roles in [vec![], vec![Role::Admin], vec![Role::Submit, Role::View], vec![Role::View, Role::View]] {
        assert_eq!(wrong(&|body| body.roles = roles.clone()), DelegationError::Roles);
    }
    let twice = |list| DelegationError::List(list);
    assert_eq!(wrong(&|body| body.queues = Some(vec![name("b"), name("a")])), twice("queues"));
    assert_eq!(wrong(&|body| body.secrets.push(name("a"))), twice("secrets"));
    assert_eq!(wrong(&|body| body.connect.push(body.connect[0].clone())), twice("connect"));
    assert_eq!(wrong(&|body| body.listen.push(body.listen[0])), twice("listen"));
    assert_eq!(wrong(&|body| body.http.push(body.http[0].clone())), twice("http"));
    let many = |body: &mut DelegationBody| {
        body.volumes = (0..=MAX_DELEGATED).map(|at| (name(&format!("v{at}")), Access::Read)).collect();
    };
    assert_eq!(wrong(&many), twice("volumes"));
    let control = |body: &mut DelegationBody| drop(body.labels.insert("a".into(), "\u{1b}".into()));
    assert!(matches!(wrong(&control), DelegationError::Labels(_)));
}

// Red with `serde_json::from_slice` in place of `strict::parse`.
#[test]
fn a_body_is_strict() {
    let good = json(&small());
    assert!(forged(&good).is_ok());
    let malformed = |text: String| {
        assert!(matches!(forged(&text), Err(DelegationError::Malformed(_))), "{text}");
    };
    malformed(good.replace(r#""further":0"#, r#""further":0,"further":0"#));
    malformed(good.replace(r#""further":0"#, r#""further":0.0"#));
    malformed(good.replace(r#""further":0"#, r#""further":0,"admin":true"#));
    malformed(good.replace(r#""further":0"#, r#""further":0,"max_limits":{"cores":1}"#));
    let twice = r#""further":0,"volumes":{"a":"read","a":"read-write"}"#;
    malformed(good.replace(r#""further":0"#, twice));
    malformed(format!("{good}x"));
    let rule = format!(r#""further":0,"connect":["{}"]"#, "db.example.com:5432");
    malformed(good.replace(r#""further":0"#, &rule));
    let long = vec![b' '; MAX_DELEGATION_ENVELOPE_BYTES + 1];
    let too_long = SignedDelegation::parse(&long);
    assert!(matches!(too_long, Err(DelegationError::Malformed(StrictError::TooLong { .. }))));
}

// Red with a bound of 15 KiB: nothing shorter is the longest.
#[test]
fn the_longest_grant_fits_a_record() {
    let mut body = full();
    let rule = |at: usize| -> Destination {
        format!("tcp://{}.example.com:{}", "a".repeat(60), at + 1).parse().unwrap()
    };
    body.connect = (0..MAX_DELEGATED).map(rule).collect();
    let text = |at: usize| format!("{at:02}{}", "x".repeat(190));
    body.labels = (0..32).map(|at| (text(at), text(at))).collect();
    assert!(json(&body).len() > 16_000, "{}", json(&body).len());
    while json(&body).len() > MAX_DELEGATION_BYTES {
        body.labels.pop_first();
    }
    let signed = body.sign(&principal()).unwrap();
    assert!(signed.to_bytes().len() <= MAX_DELEGATION_ENVELOPE_BYTES);
    let event = strongroom_job::Event::GrantAdded {
        grant: body.id,
        principal: body.delegator,
        delegator: body.delegator,
        delegate: body.delegate,
        tenant: body.tenant.clone(),
        replaces: Some(body.id),
        payload: signed.payload(),
        signature: signed.signature(),
    };
    let leaf = Record::new(Timestamp::from_millis(u64::MAX), event).to_leaf();
    assert!(leaf.len() <= MAX_RECORD_BYTES && leaf.len() > 20_000, "{}", leaf.len());
    assert!(Record::from_leaf(&leaf).is_ok());
}
