//! A receipt proves what it says, and nothing when any of it is changed.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod fixtures;

use fixtures::receipts::{
    ADMITTED, FINISHED, Log, admitted, bare_receipt, envelope, finished, hidden_receipt, origin, receipt,
    usual_log, verifier,
};
use fixtures::{full_task, host, id, log, module, principal, records};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use strongroom_job::merkle::ProofError;
use strongroom_job::note::VerifierKey;
use strongroom_job::receipt::{IssueError, MAX_RECEIPT_BYTES, Parts, Receipt, ReceiptError, Verified};
use strongroom_job::succession::MAX_LINKS;
use strongroom_job::{
    Acceptance, AcceptanceError, Digest, Event, Opening, Outcome, SecretKey, SignedAcceptance, Timestamp,
};

fn check(bytes: &[u8]) -> Result<Verified, ReceiptError> {
    Receipt::parse(bytes)?.verify(&host().public(), Some(&verifier()))
}

#[test]
fn a_receipt_proves_what_the_records_say() {
    let proven = check(&receipt(false).to_bytes()).unwrap();
    assert_eq!((proven.host, &proven.log), (host().public(), &verifier()));
    assert_eq!((proven.admitted.job, proven.admitted.principal), (id(1), principal().public()));
    assert_eq!((proven.admitted.module, &proven.admitted.envelope), (module(), envelope().digest()));
    assert_eq!((proven.admitted_at.0, proven.finished_at.0), (ADMITTED, FINISHED));
    assert_eq!(proven.finished.outcome, Outcome::Exited { code: 3 });
    assert_eq!(proven.checkpoint.size().get(), 12);
    let outputs: Vec<String> = proven.finished.outputs().into_iter().map(|(name, _)| name).collect();
    assert_eq!(outputs, ["stdout", "stderr", "result", "artifacts/report.txt", "artifacts/sub/a \"b\".txt"]);
    assert_eq!(proven.body, None);
}

#[test]
fn the_envelope_is_there_when_it_is_asked_for() {
    let with = receipt(true);
    let proven = check(&with.to_bytes()).unwrap();
    assert_eq!(proven.body.unwrap().task, full_task());
    assert_eq!(with.without_envelope(), receipt(false));
    let batch = check(&bare_receipt().to_bytes()).unwrap();
    assert_eq!(batch.body.unwrap().id, id(1));
    assert_eq!(batch.finished.outcome, Outcome::Expired);
}

// Red without the salt in the statement, and with `Some(opening)` alone in `Finished::of`: then what the host says now is believed.
#[test]
fn a_receipt_opens_what_the_log_hides() {
    let hidden = hidden_receipt().to_bytes();
    let proven = check(&hidden).unwrap();
    assert_eq!(proven.finished.outputs(), outputs_of(&check(&receipt(false).to_bytes()).unwrap()));
    let leaf = Log::with(&admitted(envelope().digest()), &records::finished_hidden());
    let leaf = String::from_utf8(leaf.leaves[FINISHED as usize].clone()).unwrap();
    for (name, left) in proven.finished.outputs().into_iter().filter(|(_, left)| left.length > 0) {
        let file = name.strip_prefix("artifacts/").unwrap_or("report.txt");
        assert!(!leaf.contains(&left.digest.to_string()) && !leaf.contains(file), "{leaf}");
    }

    // A host that says now that the job left something else cannot: its log holds it to what it was.
    let mut other = records::opening();
    other.stdout.digest = Digest::of(b"oot");
    let log = Log::with(&admitted(envelope().digest()), &records::finished_hidden());
    let lie = Receipt::issue(Parts { opening: Some(&other), ..log.parts(None) }, &host());
    assert!(matches!(lie, Err(IssueError::OtherRecord(FINISHED))), "{lie:?}");
    let untold = Receipt::issue(log.parts(None), &host());
    assert!(matches!(untold, Err(IssueError::OtherRecord(FINISHED))), "{untold:?}");
    let told = Log::with(&admitted(envelope().digest()), &told_as(&other));
    let told = Receipt::issue(Parts { opening: Some(&other), ..told.parts(None) }, &host()).unwrap();
    let mixed = problem_of(&hidden, |file| file.statement = self::file(&told).statement);
    assert_eq!(mixed, ReceiptError::Differs("subject"));

    // Nor can it have a name shown that is none: a record that hides it holds no host to that. Red without `is_name`.
    let mut forged = records::opening();
    forged.artifacts[0].name = "report\u{1b}[2J.txt".into();
    let log = Log::with(&admitted(envelope().digest()), &told_as(&forged));
    let forged = Receipt::issue(Parts { opening: Some(&forged), ..log.parts(None) }, &host()).unwrap();
    assert_eq!(check(&forged.to_bytes()).unwrap_err(), ReceiptError::Differs("subject"));
}

fn outputs_of(proven: &Verified) -> Vec<(String, strongroom_job::OutputSummary)> {
    let outputs = proven.finished.outputs();
    // The one receipt's job wrote to stderr, the other's did not.
    let nothing = strongroom_job::OutputSummary::nothing();
    outputs
        .into_iter()
        .map(|(name, left)| if name == "stderr" { (name, nothing) } else { (name, left) })
        .collect()
}

/// The end of a job that left this.
fn told_as(opening: &Opening) -> Event {
    let told = opening.told();
    let mut event = records::finished_hidden();
    if let Event::Finished { stdout, artifacts, .. } = &mut event {
        (*stdout, *artifacts) = (told.stdout, told.artifacts);
    }
    event
}

/// An envelope is believed in any spelling, and stands in a receipt in one.
#[test]
fn an_envelope_in_another_spelling_gives_the_same_receipt() {
    let spelled = String::from_utf8(envelope().as_bytes().to_vec()).unwrap().replace("\":", "\" : ");
    let log = usual_log();
    let issued = Receipt::issue(log.parts(Some(spelled.as_bytes())), &host()).unwrap();
    assert_eq!(issued, receipt(true));
}

// Red without the comparison of `keyid`, without `is_signed_by`, without one of the proofs, and without the envelope's one spelling.
#[test]
fn a_change_of_any_byte_is_noticed() {
    for (receipt, flip) in [(receipt(true), 0x01), (receipt(false), 0x20), (hidden_receipt(), 0x01)] {
        let good = receipt.to_bytes();
        assert!(check(&good).is_ok());
        for place in 0..good.len() {
            let mut bad = good.clone();
            bad[place] ^= flip;
            assert!(check(&bad).is_err(), "byte {place} ^ {flip:#x} of {}", good.len());
        }
    }
}

// Red without the comparison in `Receipt::parse`.
#[test]
fn a_part_or_more_is_no_receipt() {
    let good = receipt(true).to_bytes();
    for length in 0..good.len() {
        assert!(check(&good[..length]).is_err(), "{length} bytes");
    }
    for place in [0, good.len() / 3, good.len() - 1, good.len()] {
        for byte in *b" \n0\"" {
            let mut longer = good.clone();
            longer.insert(place, byte);
            assert!(check(&longer).is_err(), "{byte} at {place}");
        }
    }
    let huge = vec![b' '; MAX_RECEIPT_BYTES + 1];
    assert!(matches!(check(&huge), Err(ReceiptError::Malformed(_))));
}

/// A receipt in pieces, written as we write it.
#[derive(Deserialize, Serialize)]
struct File {
    receipt: u8,
    statement: Dsse,
    admitted: Entry,
    finished: Entry,
    checkpoint: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    envelope: Option<Box<RawValue>>,
}

#[derive(Clone, Deserialize, Serialize)]
#[expect(non_snake_case, reason = "the field names of DSSE")]
struct Dsse {
    payloadType: String,
    payload: String,
    signatures: Vec<Signature>,
}

#[derive(Clone, Deserialize, Serialize)]
struct Signature {
    keyid: String,
    sig: String,
}

#[derive(Clone, Deserialize, Serialize)]
struct Entry {
    index: u64,
    leaf: String,
    proof: Vec<String>,
}

fn file(receipt: &Receipt) -> File {
    serde_json::from_slice(&receipt.to_bytes()).unwrap()
}

fn issued(log: &Log, parts: impl FnOnce(&mut Parts<'_>), key: &SecretKey) -> File {
    let envelope = envelope();
    let mut made = log.parts(Some(envelope.as_bytes()));
    parts(&mut made);
    file(&Receipt::issue(made, key).unwrap())
}

fn problem(change: impl FnOnce(&mut File)) -> ReceiptError {
    problem_of(&receipt(true).to_bytes(), change)
}

fn problem_of(receipt: &[u8], change: impl FnOnce(&mut File)) -> ReceiptError {
    let mut changed: File = serde_json::from_slice(receipt).unwrap();
    change(&mut changed);
    let mut bytes = serde_json::to_vec(&changed).unwrap();
    bytes.push(b'\n');
    check(&bytes).unwrap_err()
}

#[test]
fn pieces_put_together_are_the_receipt() {
    let mut bytes = serde_json::to_vec(&file(&receipt(true))).unwrap();
    bytes.push(b'\n');
    assert_eq!(bytes, receipt(true).to_bytes());
}

// Red without the comparison of `keyid`, without `is_signed_by`, `first_difference`, the order of the records, or one of the proofs.
#[test]
fn the_first_thing_that_is_wrong_is_named() {
    let log_a = usual_log();
    let mut end = finished(1);
    if let Event::Finished { outcome, .. } = &mut end {
        *outcome = Outcome::Exited { code: 0 };
    }
    let other_end = Log::with(&admitted(envelope().digest()), &end);
    let same = |_: &mut Parts<'_>| ();

    assert_eq!(problem(|file| file.receipt = 2), ReceiptError::Version(2));

    // Somebody else signs the same statement: in their own name, or in the host's.
    let forged = issued(&log_a, same, &principal()).statement;
    let other = problem(|file| file.statement = forged.clone());
    assert!(
        matches!(other, ReceiptError::OtherHost { ref found, .. } if *found == principal().public().to_string())
    );
    let unsigned = problem(|file| {
        file.statement = forged;
        file.statement.signatures[0].keyid = host().public().to_string();
    });
    assert_eq!(unsigned, ReceiptError::BadSignature(Box::new(host().public())));
    let twice = problem(|file| file.statement.signatures.push(file.statement.signatures[0].clone()));
    assert_eq!(twice, ReceiptError::NotAsWritten);
    let other_type = problem(|file| file.statement.payloadType = "text/plain".into());
    assert_eq!(other_type, ReceiptError::StatementType("text/plain".into()));

    // Records that the statement is not about.
    let other_entry = issued(&other_end, same, &host()).finished;
    let swapped = problem(|file| file.finished = other_entry);
    assert_eq!(swapped, ReceiptError::Differs("byproducts.finished"));
    let exchanged = problem(|file| std::mem::swap(&mut file.admitted, &mut file.finished));
    assert_eq!(exchanged, ReceiptError::OtherRecord("admitted"));
    let twice = problem(|file| file.finished = file.admitted.clone());
    assert_eq!(twice, ReceiptError::OtherRecord("finished"));
    let moved = problem(|file| file.finished.index += 1);
    assert_eq!(moved, ReceiptError::Differs("byproducts.finished"));
    let backward = problem(|file| file.finished.index = 0);
    assert_eq!(backward, ReceiptError::Order);
    let other_job = issued(&Log::with(&admitted(envelope().digest()), &finished(2)), |_| (), &host());
    let mixed = problem(|file| file.finished = other_job.finished);
    assert_eq!(mixed, ReceiptError::OtherJob);

    // A checkpoint that the statement does not name, the same log's or another's.
    let mut longer = usual_log();
    longer.leaves.push(b"more".to_vec());
    let later = problem(|file| file.checkpoint = longer.checkpoint().to_string());
    assert_eq!(later, ReceiptError::Differs("byproducts.checkpoint"));
    let witnessed = problem(|file| {
        let line = file.checkpoint.lines().last().unwrap().replace("example.com/audit", "witness");
        file.checkpoint = format!("{}{line}\n", file.checkpoint);
    });
    assert_eq!(witnessed, ReceiptError::Differs("byproducts.checkpoint"));

    // Proofs, which nobody signed.
    let short = problem(|file| drop(file.admitted.proof.pop()));
    let length = ProofError::Length { expected: 4, found: 3 };
    assert_eq!(short, ReceiptError::Proof { which: "admitted", error: length });
    let long = problem(|file| file.finished.proof.push(file.finished.proof[0].clone()));
    assert!(matches!(long, ReceiptError::Proof { which: "finished", error: ProofError::Length { .. } }));
    let wrong = problem(|file| file.finished.proof.swap(0, 1));
    assert_eq!(wrong, ReceiptError::Proof { which: "finished", error: ProofError::Root });

    // Another envelope.
    let batch = file(&bare_receipt()).envelope;
    assert_eq!(problem(|file| file.envelope = batch), ReceiptError::OtherEnvelope);
}

// Red without the proofs: a host's own signature does not make a lie true.
#[test]
fn a_host_that_lies_in_its_receipt_is_found_out() {
    let says = |file: &File| {
        let mut bytes = serde_json::to_vec(file).unwrap();
        bytes.push(b'\n');
        check(&bytes)
    };
    // It signs for an end that is not in its log: the record is a good one, and leads nowhere.
    let mut invented = usual_log();
    let mut other = Log::with(&admitted(envelope().digest()), &finished(1));
    other.leaves[usize::try_from(FINISHED).unwrap()] =
        String::from_utf8(other.leaves[usize::try_from(FINISHED).unwrap()].clone())
            .unwrap()
            .replace("\"code\":3", "\"code\":0")
            .into_bytes();
    let lie = issued(&invented, |parts| parts.finished.leaf = other.prove(FINISHED).leaf, &host());
    let error = ReceiptError::Proof { which: "finished", error: ProofError::Root };
    assert_eq!(says(&lie), Err(error));

    // It names a log key of its own making, or another's checkpoint.
    let own = VerifierKey::new(origin(), principal().public());
    let other_log = issued(&invented, |parts| parts.log = own, &host());
    assert!(matches!(says(&other_log), Err(ReceiptError::OtherLog { .. })));
    let bytes = serde_json::to_vec(&other_log).unwrap();
    let unpinned = Receipt::parse(&[&bytes[..], b"\n"].concat()).unwrap().verify(&host().public(), None);
    assert!(matches!(unpinned, Err(ReceiptError::Checkpoint(_))), "{unpinned:?}");

    // Its checkpoint is of a time before the end.
    invented.leaves.truncate(usize::try_from(FINISHED).unwrap());
    let early = issued(&usual_log(), |parts| parts.checkpoint = invented.checkpoint(), &host());
    assert!(matches!(says(&early), Err(ReceiptError::Proof { .. })));

    // It signs a statement in another spelling.
    let mut spaced = file(&receipt(true));
    let text = base64_decode(&spaced.statement.payload);
    let text = String::from_utf8(text).unwrap().replacen("\":", "\": ", 1);
    let message = format!("DSSEv1 28 application/vnd.in-toto+json {} {text}", text.len());
    spaced.statement.payload = base64_encode(text.as_bytes());
    spaced.statement.signatures[0].sig = base64_encode(host().sign(message.as_bytes()).as_bytes());
    assert_eq!(says(&spaced), Err(ReceiptError::StatementNotAsWritten));
}

fn base64_decode(text: &str) -> Vec<u8> {
    let bytes: strongroom_job::Base64Bytes = serde_json::from_value(text.into()).unwrap();
    bytes.0
}

fn base64_encode(bytes: &[u8]) -> String {
    let text = serde_json::to_value(strongroom_job::Base64Bytes(bytes.to_vec())).unwrap();
    text.as_str().unwrap().to_owned()
}

#[test]
fn a_receipt_counts_for_its_own_host_and_log() {
    let receipt = receipt(false);
    let other = receipt.verify(&log().public(), None);
    assert!(matches!(other, Err(ReceiptError::OtherHost { .. })), "{other:?}");
    let log = VerifierKey::new("example.com/other".parse().unwrap(), log().public());
    assert!(matches!(receipt.verify(&host().public(), Some(&log)), Err(ReceiptError::OtherLog { .. })));
    assert!(receipt.verify(&host().public(), None).is_ok());
}

fn acceptance() -> Acceptance {
    fixtures::receipts::acceptance()
}

// Red without the signature's check in `Acceptance::verify`.
#[test]
fn an_acceptance_counts_for_its_own_answer() {
    let signature = acceptance().sign(&host()).signature.0;
    let good = acceptance().verify(&signature).unwrap();
    assert_eq!(acceptance().sign(&host()), acceptance().sign(&host()), "the same answer, the same signature");
    let changes: [fn(&mut Acceptance); 8] = [
        |said| said.host = log().public(),
        |said| said.log = VerifierKey::new(origin(), principal().public()),
        |said| said.envelope = Digest::of(b"other"),
        |said| said.time = Timestamp::from_millis(1),
        |said| said.jobs[0].log_index += 1,
        |said| said.jobs[0].job = id(7),
        |said| said.jobs[1].existing = None,
        |said| said.jobs.truncate(1),
    ];
    for (number, change) in changes.into_iter().enumerate() {
        let mut said = acceptance();
        change(&mut said);
        assert!(matches!(said.verify(&signature), Err(AcceptanceError::BadSignature(_))), "{number}");
    }
    assert!(acceptance().verify(&signature[..63]).is_err());
    let bytes = good.to_dsse();
    assert_eq!(SignedAcceptance::from_dsse(&bytes, &host().public()).unwrap(), good);
    assert!(SignedAcceptance::from_dsse(&bytes, &log().public()).is_err());
    for place in 0..bytes.len() {
        let mut bad = bytes.clone();
        bad[place] ^= 1;
        assert!(SignedAcceptance::from_dsse(&bad, &host().public()).is_err(), "byte {place}");
    }
}

// Red without `few`: all of them are checked first.
#[test]
fn more_statements_than_a_line_may_have_are_not_read() {
    let bytes = fixtures::receipts::receipt_after_rotation().to_bytes();
    let text = String::from_utf8(bytes).unwrap();
    let (head, statement) = text.split_once("\"succession\":[").unwrap();
    let statement = statement.split_inclusive("]}").next().unwrap();
    let with = |count| {
        let all = vec![statement; count].join(",");
        Receipt::parse(format!("{head}\"succession\":[{all}]}}\n").as_bytes()).map(drop)
    };
    assert_eq!(with(1), Ok(()));
    assert_eq!(with(MAX_LINKS), Ok(()), "who verifies it says what is wrong with them");
    let error = with(MAX_LINKS + 1).unwrap_err().to_string();
    assert!(error.contains("invalid length 33, expected at most 32 statements"), "{error}");
}
