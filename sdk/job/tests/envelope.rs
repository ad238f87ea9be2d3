//! A signature covers every bit, and nothing but the signer's key decides whether it is good.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod fixtures;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use fixtures::{batch, full_task, host, id, job, principal};
use serde_json::{Value, json};
use strongroom_job::{
    Access, BATCH_PAYLOAD_TYPE, Envelope, EnvelopeError, JOB_PAYLOAD_TYPE, JobBody, PublicKey,
    SignedEnvelope, VerifiedJob, sign_batch, sign_job,
};

/// What a host does with the bytes of a submit.
fn admit(bytes: &[u8], key: &PublicKey) -> Result<Vec<VerifiedJob>, EnvelopeError> {
    Envelope::parse(bytes)?.verify(key)
}

fn signed() -> SignedEnvelope {
    sign_job(&job(full_task()), &principal()).unwrap()
}

/// The envelope's parts, to be put together wrongly.
struct Parts {
    payload_type: String,
    payload: Vec<u8>,
    signature: Vec<u8>,
}

impl Parts {
    fn of(envelope: &SignedEnvelope) -> Self {
        let dsse: Value = serde_json::from_slice(envelope.as_bytes()).unwrap();
        let bytes = |value: &Value| STANDARD.decode(value.as_str().unwrap()).unwrap();
        Self {
            payload_type: dsse["payloadType"].as_str().unwrap().into(),
            payload: bytes(&dsse["payload"]),
            signature: bytes(&dsse["signatures"][0]["sig"]),
        }
    }

    fn json(&self) -> Value {
        json!({
            "payloadType": self.payload_type,
            "payload": STANDARD.encode(&self.payload),
            "signatures": [{ "sig": STANDARD.encode(&self.signature) }],
        })
    }

    fn admit(&self) -> Result<Vec<VerifiedJob>, EnvelopeError> {
        admit(self.json().to_string().as_bytes(), &principal().public())
    }
}

fn is_bad_signature(result: &Result<Vec<VerifiedJob>, EnvelopeError>) -> bool {
    *result == Err(EnvelopeError::BadSignature(Box::new(principal().public())))
}

#[test]
fn what_was_signed_is_what_is_verified() {
    let envelope = signed();
    let jobs = admit(envelope.as_bytes(), &principal().public()).unwrap();
    assert_eq!(jobs.len(), 1);
    assert_eq!(jobs[0].body(), &job(full_task()));
    assert_eq!(jobs[0].signer(), &principal().public());
    assert_eq!(jobs[0].envelope(), envelope.digest());
    assert_eq!(
        admit(envelope.as_bytes(), &host().public()),
        Err(EnvelopeError::BadSignature(Box::new(host().public())))
    );
}

// Red without the `verifies` test in `Envelope::verify`: a flip in a free text then passes.
// Red when a batch is taken for one job.
#[test]
fn what_one_job_claims_is_what_was_signed() {
    let one = Envelope::parse(signed().as_bytes()).unwrap();
    assert!(one.is_of_one_job());
    assert_eq!(one.claims().unwrap(), Some((*signed().digest(), job(full_task()))));
    let many = sign_batch(&batch(), &principal()).unwrap();
    let many = Envelope::parse(many.as_bytes()).unwrap();
    assert!(!many.is_of_one_job());
    assert_eq!(many.claims().unwrap(), None);
}

#[test]
fn any_flipped_bit_is_refused() {
    for envelope in [signed(), sign_batch(&batch(), &principal()).unwrap()] {
        let good = Parts::of(&envelope);
        assert!(good.admit().is_ok());
        for bit in 0..good.payload.len() * 8 {
            let mut parts = Parts::of(&envelope);
            parts.payload[bit / 8] ^= 1 << (bit % 8);
            assert!(is_bad_signature(&parts.admit()), "payload bit {bit}");
        }
        for bit in 0..good.signature.len() * 8 {
            let mut parts = Parts::of(&envelope);
            parts.signature[bit / 8] ^= 1 << (bit % 8);
            assert!(is_bad_signature(&parts.admit()), "signature bit {bit}");
        }
        for bit in 0..good.payload_type.len() * 8 {
            let mut bytes = good.payload_type.clone().into_bytes();
            bytes[bit / 8] ^= 1 << (bit % 8);
            // What is no text cannot stand in JSON; `raw_envelopes_with_flipped_bits` has those.
            let Ok(payload_type) = String::from_utf8(bytes) else { continue };
            let result = Parts { payload_type: payload_type.clone(), ..Parts::of(&envelope) }.admit();
            assert_eq!(result, Err(EnvelopeError::PayloadType(payload_type)), "type bit {bit}");
        }
    }
}

/// Flips in the text itself: a bit is refused, or it stands in the `keyid`, which is nobody's business.
#[test]
fn raw_envelopes_with_flipped_bits() {
    let envelope = signed();
    let text = envelope.as_bytes();
    let good = admit(text, &principal().public()).unwrap();
    let keyid = principal().public().to_string();
    let start = text.windows(keyid.len()).position(|window| window == keyid.as_bytes()).unwrap();
    let hint = start..start + keyid.len();
    let mut taken = 0;
    for bit in 0..text.len() * 8 {
        let mut flipped = text.to_vec();
        flipped[bit / 8] ^= 1 << (bit % 8);
        if let Ok(jobs) = admit(&flipped, &principal().public()) {
            assert!(hint.contains(&(bit / 8)), "bit {bit} of the envelope changed nothing");
            assert_eq!(jobs, good);
            taken += 1;
        }
    }
    assert!(taken > 100, "flips in the hint are harmless: {taken}");
}

// Red when `verify` looks the key up by the `keyid` or compares it.
#[test]
fn the_key_id_is_never_read() {
    let good = admit(signed().as_bytes(), &principal().public()).unwrap();
    let mut dsse: Value = serde_json::from_slice(signed().as_bytes()).unwrap();
    let other = host().public().to_string();
    for hint in
        [Value::Null, json!(""), json!(other), json!("../../etc/passwd\u{0}"), json!("x".repeat(100_000))]
    {
        dsse["signatures"][0]["keyid"] = hint.clone();
        assert_eq!(admit(dsse.to_string().as_bytes(), &principal().public()), Ok(good.clone()), "{hint}");
        let stranger = admit(dsse.to_string().as_bytes(), &host().public());
        assert_eq!(stranger, Err(EnvelopeError::BadSignature(Box::new(host().public()))), "{hint}");
    }
    dsse["signatures"][0].as_object_mut().unwrap().remove("keyid");
    assert_eq!(admit(dsse.to_string().as_bytes(), &principal().public()), Ok(good));
}

// Red without the `verifies` test in `Envelope::verify`.
#[test]
fn an_altered_job_is_a_bad_signature() {
    let parts = Parts::of(&signed());
    type Change = (&'static str, fn(&mut JobBody));
    let changes: [Change; 20] = [
        ("id", |body| body.id = id(2)),
        ("audience", |body| body.context.audience = principal().public()),
        ("tenant", |body| body.context.tenant = fixtures::name("other")),
        ("issued_at", |body| body.context.issued_at = Default::default()),
        ("not_before", |body| body.context.not_before = Default::default()),
        ("not_after", |body| body.context.not_after = Default::default()),
        ("salt", |body| body.context.salt = id(0)),
        ("module", |body| body.task.module.length += 1),
        ("argument", |body| body.task.args[1] = "11".into()),
        ("one more argument", |body| body.task.args.push(String::new())),
        ("variable", |body| drop(body.task.env.insert("TZ".into(), "CET".into()))),
        ("input", |body| body.task.input = strongroom_job::Input::Empty),
        ("mount", |body| drop(body.task.capabilities.mounts.pop())),
        ("access", |body| body.task.capabilities.mounts[0].access = Access::ReadWrite),
        ("clock", |body| body.task.capabilities.clock = true),
        ("memory", |body| body.task.limits.memory_bytes += 1),
        ("fuel", |body| body.task.limits.fuel = None),
        ("queue and priority", |body| body.task.priority += 1),
        ("idempotent", |body| body.task.idempotent = false),
        ("label", |body| body.task.labels.clear()),
    ];
    for (what, change) in changes {
        let mut body = job(full_task());
        change(&mut body);
        let payload = serde_json::to_vec(&body).unwrap();
        assert_ne!(payload, parts.payload, "{what}");
        let altered = Parts { payload, ..Parts::of(&signed()) };
        assert!(is_bad_signature(&altered.admit()), "{what}");
    }
}

/// The same job in another spelling is not what was signed: nothing is ever re-encoded.
#[test]
fn an_equal_job_in_another_spelling_is_a_bad_signature() {
    let parts = Parts::of(&signed());
    let pretty = serde_json::to_vec_pretty(&job(full_task())).unwrap();
    assert!(is_bad_signature(&Parts { payload: pretty, ..parts }.admit()));
}

// Red with a `pae` that leaves the type or the lengths out.
#[test]
fn a_signature_for_one_type_is_none_for_another() {
    let parts = Parts { payload_type: BATCH_PAYLOAD_TYPE.into(), ..Parts::of(&signed()) };
    assert!(is_bad_signature(&parts.admit()));
    let batch = sign_batch(&batch(), &principal()).unwrap();
    let parts = Parts { payload_type: JOB_PAYLOAD_TYPE.into(), ..Parts::of(&batch) };
    assert!(is_bad_signature(&parts.admit()));

    let sign_bytes = |message: &[u8], parts: Parts| {
        let signature = principal().sign(message).as_bytes().to_vec();
        Parts { signature, ..parts }.admit()
    };
    let parts = || Parts::of(&signed());
    let good = parts();
    let encoded = |kind: &str| {
        let head = format!("DSSEv1 {} {kind} {} ", kind.len(), good.payload.len());
        [head.as_bytes(), &good.payload].concat()
    };
    assert!(sign_bytes(&encoded(JOB_PAYLOAD_TYPE), parts()).is_ok(), "the encoding of DSSE");
    assert!(is_bad_signature(&sign_bytes(&good.payload, parts())), "the body alone");
    assert!(is_bad_signature(&sign_bytes(&encoded(""), parts())), "no type");
    let unmeasured = [b"DSSEv1 ", JOB_PAYLOAD_TYPE.as_bytes(), b" ", &good.payload].concat();
    assert!(is_bad_signature(&sign_bytes(&unmeasured, parts())), "no lengths");
}

#[test]
fn exactly_one_whole_signature() {
    let good = Parts::of(&signed());
    let with = |signatures: Value| {
        let mut dsse = good.json();
        dsse["signatures"] = signatures;
        admit(dsse.to_string().as_bytes(), &principal().public())
    };
    let sig = |bytes: &[u8]| json!({ "sig": STANDARD.encode(bytes) });
    assert!(with(json!([sig(&good.signature)])).is_ok());
    let wrong = [
        json!([]),
        json!([sig(&good.signature), sig(&good.signature)]),
        json!([sig(&[0; 64]), sig(&good.signature)]),
        json!([sig(&good.signature[..63])]),
        json!([sig(&[good.signature.as_slice(), &[0]].concat())]),
        json!([sig(b"")]),
    ];
    for signatures in wrong {
        assert_eq!(with(signatures.clone()), Err(EnvelopeError::Signature), "{signatures}");
    }
}
