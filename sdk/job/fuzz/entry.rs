//! What is fuzzed: one function for each thing that a stranger can hand in. A panic is the finding.
//!
//! The fuzz targets and the stable test `tests/fuzz_smoke.rs` call the same functions, so that what the one found the other
//! keeps. Each asserts more than survival: what is taken means one thing, and an answer that is refused is short and safe to
//! show.

use std::fmt::Display;

use strongroom_job::checkpoint::SignedCheckpoint;
use strongroom_job::frame::{self, MAX_REQUEST_BYTES, MAX_RESPONSE_BYTES, PREFIX_BYTES};
use strongroom_job::note::VerifierKey;
use strongroom_job::succession::Succession;
use strongroom_job::tlog_proof::TlogProof;
use strongroom_job::{
    BATCH_PAYLOAD_TYPE, Base64Bytes, Envelope, Input, JOB_PAYLOAD_TYPE, PublicKey, Record, Request, Response,
    SecretKey, sign_job,
};
use zeroize::Zeroizing;

/// The key that signed the golden envelopes.
fn principal() -> SecretKey {
    SecretKey::from_seed(&Zeroizing::new([1; 32]))
}

/// Errors quote what was handed in.
fn is_safe_to_show(error: &impl Display) {
    let text = error.to_string();
    assert!(text.len() < 10_000 && !text.contains(char::is_control), "{text:?}");
}

/// Bytes of a submit. A mutant that verifies says what the golden one says: nobody else has the key.
pub fn envelope(bytes: &[u8]) {
    let key: PublicKey =
        include_str!("../golden/envelope/principal.pub").trim().parse().expect("the golden key");
    let envelope = match Envelope::parse(bytes) {
        Ok(envelope) => envelope,
        Err(error) => return is_safe_to_show(&error),
    };
    match envelope.verify(&key) {
        Err(error) => is_safe_to_show(&error),
        Ok(jobs) => {
            let golden: [&[u8]; 2] = [
                include_bytes!("../golden/envelope/job.json"),
                include_bytes!("../golden/envelope/batch.json"),
            ];
            let known = golden.iter().any(|golden| {
                Envelope::parse(golden).and_then(|envelope| envelope.verify(&key)).as_ref() == Ok(&jobs)
            });
            assert!(known, "a forged envelope: {jobs:?}");
        }
    }
}

/// A body with a good signature: the attacker is a principal. The last byte chooses job or batch.
pub fn body(bytes: &[u8]) {
    let Some((kind, payload)) = bytes.split_last() else { return };
    let kind = if kind % 2 == 0 { JOB_PAYLOAD_TYPE } else { BATCH_PAYLOAD_TYPE };
    let head = format!("DSSEv1 {} {kind} {} ", kind.len(), payload.len());
    let signature = principal().sign(&[head.as_bytes(), payload].concat());
    let [payload, sig] = [payload.to_vec(), signature.as_bytes().to_vec()].map(Base64Bytes);
    let json = serde_json::json!({ "payloadType": kind, "payload": payload, "signatures": [{ "sig": sig }] });
    let verify = |bytes: &[u8]| Envelope::parse(bytes)?.verify(&principal().public());
    match verify(json.to_string().as_bytes()) {
        Err(error) => is_safe_to_show(&error),
        Ok(jobs) => {
            for job in jobs {
                let mut body = job.body().clone();
                // Only a job of a batch can wait for others and read what they left.
                body.task.plan.after.clear();
                if matches!(body.task.input, Input::Outputs { .. }) {
                    body.task.input = Input::Empty;
                }
                let alone =
                    sign_job(&body, &principal()).expect("each job is one that could be signed alone");
                let again = verify(alone.as_bytes()).expect("what is signed verifies");
                assert_eq!(again.len(), 1);
                assert_eq!(again[0].body(), &body);
            }
        }
    }
}

/// The beginning of a stream, as a host and as a client read it.
pub fn frame(bytes: &[u8]) {
    header::<Request>(bytes, MAX_REQUEST_BYTES);
    header::<Response>(bytes, MAX_RESPONSE_BYTES);
}

fn header<T>(bytes: &[u8], max: usize)
where
    T: serde::de::DeserializeOwned + serde::Serialize + PartialEq + std::fmt::Debug,
{
    let Some((prefix, rest)) = bytes.split_first_chunk::<PREFIX_BYTES>() else { return };
    let length = match frame::header_length(*prefix, max) {
        Ok(length) => length,
        Err(error) => return is_safe_to_show(&error),
    };
    // A fuzzer seldom gets the length right: the header is what is there, at most.
    match frame::parse_header::<T>(&rest[..length.min(rest.len())]) {
        Err(error) => is_safe_to_show(&error),
        Ok(header) => {
            let again = frame::encode_header(&header);
            assert_eq!(frame::parse_header::<T>(&again[PREFIX_BYTES..]), Ok(header), "read back");
        }
    }
}

/// A leaf of the audit log.
pub fn record(bytes: &[u8]) {
    match Record::from_leaf(bytes) {
        Err(error) => is_safe_to_show(&error),
        Ok(record) => assert_eq!(record.to_leaf(), bytes, "one spelling"),
    }
}

fn log() -> VerifierKey {
    include_str!("../golden/audit/log.pub").trim().parse().expect("the golden log's key")
}

/// A checkpoint. One that verifies is the golden one.
pub fn checkpoint(bytes: &[u8]) {
    let golden: &str = include_str!("../golden/audit/checkpoint");
    let signed = match SignedCheckpoint::parse(bytes) {
        Ok(signed) => signed,
        Err(error) => return is_safe_to_show(&error),
    };
    assert_eq!(signed.as_str().as_bytes(), bytes, "kept as it was read");
    let log = log();
    match signed.verify(log.name(), log.key()) {
        Err(error) => is_safe_to_show(&error),
        Ok(checkpoint) => {
            let good = SignedCheckpoint::parse(golden.as_bytes()).expect("the golden checkpoint");
            let good = good.verify(log.name(), log.key()).expect("the golden checkpoint");
            assert_eq!(checkpoint.head(), good.head(), "a forged checkpoint");
        }
    }
}

/// A proof. One that verifies proves what the golden one proves.
pub fn proof(bytes: &[u8]) {
    let proof = match TlogProof::parse(bytes) {
        Ok(proof) => proof,
        Err(error) => return is_safe_to_show(&error),
    };
    assert_eq!(proof.to_string().as_bytes(), bytes, "a proof has one text");
    let log = log();
    let index = proof.index();
    match proof.verify(br#"{"golden":3}"#, log.name(), log.key()) {
        Err(error) => is_safe_to_show(&error),
        Ok(_) => assert_eq!(index.to_string(), "3", "the entry has one place"),
    }
}

/// A file of statements about keys. Those that verify are the golden ones: nobody else has the keys.
pub fn succession(bytes: &[u8]) {
    let statements = match Succession::parse_file(bytes) {
        Ok(statements) => statements,
        Err(error) => return is_safe_to_show(&error),
    };
    assert_eq!(Succession::to_file(&statements), bytes, "a statement has one text");
    let golden: [&[u8]; 2] =
        [include_bytes!("../golden/succession/host.keys"), include_bytes!("../golden/succession/log.keys")];
    let golden = golden.map(|file| Succession::parse_file(file).expect("the golden statements")).concat();
    assert!(statements.iter().all(|one| golden.contains(one)), "a forged statement: {statements:?}");
}
