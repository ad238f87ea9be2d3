//! The formats are frozen: what this code writes is, byte for byte, what the committed files hold, and it reads them back.
//!
//! The test never writes a file. For each one that is missing or differs it prints a line `golden PATH HEX`; who changes a
//! format on purpose makes the files from those lines (`docs/formats/README.md` has the command) and reads the diff.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod fixtures;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use fixtures::{
    batch, commands, context, delegations, flow, full_task, host, id, job, messages, mounts, plan, principal,
    receipts, records, repeating, small_task, successions, trust, unique, wide_task,
};
use serde::Serialize;
use strongroom_job::delegation::SignedDelegation;
use strongroom_job::principal::SignedCommand;
use strongroom_job::receipt::Receipt;
use strongroom_job::succession::{KeyRole, Succession};
use strongroom_job::trust::{TrustDraft, TrustFile};
use strongroom_job::{
    Access, BatchBody, Entry, Envelope, EventLine, Input, JobBody, Missed, MountSource, On, Plan, Record,
    Refusal, Request, Response, RetryOn, Role, SecretForm, SignedAcceptance, Taken, Task, frame, sign_batch,
    sign_job,
};

/// What one directory of golden files should hold.
struct Golden {
    directory: &'static str,
    wrong: Vec<String>,
    seen: BTreeSet<PathBuf>,
}

impl Golden {
    fn new(directory: &'static str) -> Self {
        Self { directory, wrong: Vec::new(), seen: BTreeSet::new() }
    }

    fn root(&self) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("golden").join(self.directory)
    }

    /// Compares, and gives the committed bytes for reading back.
    fn holds(&mut self, file: &str, bytes: &[u8]) -> Vec<u8> {
        let path = self.root().join(file);
        let committed = std::fs::read(&path).unwrap_or_default();
        if committed != bytes {
            println!("\ngolden sdk/job/golden/{}/{file} {}", self.directory, hex::encode(bytes));
            self.wrong.push(file.to_owned());
        }
        self.seen.insert(path);
        if committed.is_empty() { bytes.to_vec() } else { committed }
    }

    fn json<T: Serialize>(&mut self, file: &str, value: &T) -> Vec<u8> {
        self.holds(file, &serde_json::to_vec(value).unwrap())
    }

    /// Also fails for files that nothing makes any more.
    fn done(self) {
        let files = std::fs::read_dir(self.root()).into_iter().flatten();
        let stray: Vec<PathBuf> =
            files.map(|file| file.unwrap().path()).filter(|path| !self.seen.contains(path)).collect();
        assert!(self.wrong.is_empty(), "{}: these files differ: {:?}", self.directory, self.wrong);
        assert!(stray.is_empty(), "{}: nothing makes these files: {stray:?}", self.directory);
    }
}

#[test]
fn job_bodies() {
    let outputs = flow().jobs[3].input.clone().unwrap();
    let inputs = covers!(vec![Input::Empty, full_task().input, batch().jobs[3].input.clone().unwrap(), outputs];
        Input::Empty, Input::Inline(_), Input::Blob { .. }, Input::Outputs { .. });
    covers!(plan().retry.unwrap().on; RetryOn::Failed, RetryOn::Trapped, RetryOn::Exceeded, RetryOn::Faulted);
    let wide = wide_task().capabilities;
    let sources = mounts().into_iter().chain(wide.mounts).map(|mount| mount.source).collect::<Vec<_>>();
    covers!(sources; MountSource::Volume(_), MountSource::VolumePath { .. }, MountSource::Directory(_));
    let forms = wide.secrets.into_iter().map(|secret| secret.form).collect::<Vec<_>>();
    covers!(forms; SecretForm::Env(_), SecretForm::File(_));
    covers!(vec![Entry::Command]; Entry::Command);
    covers!(mounts().into_iter().map(|mount| mount.access).collect::<Vec<_>>(); Access::Read, Access::ReadWrite);

    let mut golden = Golden::new("job");
    let mut bodies = vec![
        ("small.json", job(small_task())),
        ("full.json", job(full_task())),
        ("wide.json", job(wide_task())),
    ];
    for (file, input) in ["input-empty.json", "input-inline.json", "input-blob.json"].into_iter().zip(inputs)
    {
        bodies.push((file, job(Task { input, ..small_task() })));
    }
    let planned = |plan| job(Task { plan, ..small_task() });
    bodies.push(("planned.json", planned(plan())));
    let takens = covers!(vec![Taken::Refuse, Taken::Existing, Taken::Replace];
        Taken::Refuse, Taken::Existing, Taken::Replace);
    for (file, taken) in
        ["unique-refuse.json", "unique-existing.json", "unique-replace.json"].into_iter().zip(takens)
    {
        bodies.push((file, planned(Plan { unique: Some(unique(taken)), ..Plan::default() })));
    }
    let missed = covers!(vec![Missed::Once, Missed::Skip, Missed::All(7)];
        Missed::Once, Missed::Skip, Missed::All(_));
    let files = ["repeating.json", "repeating-skip.json", "repeating-all.json"];
    for (file, missed) in files.into_iter().zip(missed) {
        bodies.push((file, planned(repeating(missed))));
    }
    for (file, body) in bodies {
        let bytes = golden.json(file, &body);
        assert_eq!(serde_json::from_slice::<JobBody>(&bytes).unwrap(), body, "{file}");
    }
    golden.done();
}

#[test]
fn batch_bodies() {
    let mut golden = Golden::new("batch");
    let same = BatchBody::new(context(), small_task(), vec![strongroom_job::Variation::of(id(1))]);
    let edges = flow().jobs.into_iter().filter_map(|job| job.plan).flat_map(|plan| plan.after);
    covers!(edges.map(|after| after.on).collect::<Vec<_>>(); On::Success, On::Failure, On::End);
    for (file, body) in [("one.json", same), ("varied.json", batch()), ("flow.json", flow())] {
        let bytes = golden.json(file, &body);
        assert_eq!(serde_json::from_slice::<BatchBody>(&bytes).unwrap(), body, "{file}");
    }
    golden.done();
}

#[test]
fn envelopes() {
    let key = principal();
    let mut golden = Golden::new("envelope");
    let signed = sign_job(&job(full_task()), &key).unwrap();
    let bytes = golden.holds("job.json", signed.as_bytes());
    let jobs = Envelope::parse(&bytes).unwrap().verify(&key.public()).unwrap();
    assert_eq!(jobs.iter().map(|job| job.body().clone()).collect::<Vec<_>>(), [job(full_task())]);
    assert_eq!(jobs[0].envelope(), signed.digest());

    let signed = sign_batch(&batch(), &key).unwrap();
    let bytes = golden.holds("batch.json", signed.as_bytes());
    let jobs = Envelope::parse(&bytes).unwrap().verify(&key.public()).unwrap();
    assert_eq!(jobs.iter().map(|job| job.body().id).collect::<Vec<_>>(), [id(1), id(2), id(3), id(4)]);

    // For tools of others: the key that both verify with.
    golden.holds("principal.pub", format!("{}\n", key.public()).as_bytes());
    golden.done();
}

#[test]
fn receipts_and_acceptances() {
    let mut golden = Golden::new("receipt");
    let (host, log) = (host().public(), receipts::verifier());
    let issued = [
        ("receipt.json", receipts::receipt(false)),
        ("with-envelope.json", receipts::receipt(true)),
        ("never-ran.json", receipts::bare_receipt()),
        ("hidden.json", receipts::hidden_receipt()),
    ];
    // Signed with the key that came after the one that the job's envelope is for.
    let bytes = golden.holds("earlier-audience.json", &receipts::receipt_after_rotation().to_bytes());
    let later = successions::keys(KeyRole::Host)[2].public();
    assert_eq!(Receipt::parse(&bytes).unwrap().verify(&later, Some(&log)).unwrap().host, later);
    for (file, receipt) in issued {
        let bytes = golden.holds(file, &receipt.to_bytes());
        let read = Receipt::parse(&bytes).unwrap();
        assert_eq!(read, receipt, "{file}");
        assert_eq!(read.verify(&host, Some(&log)).unwrap().admitted.job, id(1), "{file}");
    }
    // For tools of others: the statement alone, and the key that they verify it with.
    golden.holds("attestation.json", &receipts::receipt(false).attestation());
    golden.holds("host.pub", format!("{host}\n").as_bytes());
    let acceptance = receipts::acceptance();
    let signed = acceptance.clone().verify(&acceptance.sign(&fixtures::host()).signature.0).unwrap();
    let bytes = golden.holds("acceptance.json", &signed.to_dsse());
    assert_eq!(SignedAcceptance::from_dsse(&bytes, &host).unwrap(), signed);
    golden.done();
}

#[test]
fn successions_of_keys() {
    let mut golden = Golden::new("succession");
    let roles = covers!(vec![KeyRole::Host, KeyRole::Log]; KeyRole::Host, KeyRole::Log);
    for role in roles {
        let line = successions::line(role);
        let bytes = golden.holds(&format!("{role}.json"), &line[0].to_bytes());
        assert_eq!(Succession::parse(&bytes).unwrap(), line[0], "{role}");
        let bytes = golden.holds(&format!("{role}.keys"), &Succession::to_file(&line));
        assert_eq!(Succession::parse_file(&bytes).unwrap(), line, "{role}");
        // For tools of others: the key that somebody pinned.
        golden.holds(&format!("{role}.pub"), format!("{}\n", successions::keys(role)[0].public()).as_bytes());
    }
    golden.done();
}

#[test]
fn frames() {
    let mut golden = Golden::new("frame");
    for (name, request) in messages::requests() {
        let bytes = golden.holds(&format!("request-{name}.frame"), &frame::encode_header(&request));
        assert_eq!(read_frame::<Request>(&bytes, frame::MAX_REQUEST_BYTES), request, "{name}");
    }
    for (name, response) in messages::responses() {
        let bytes = golden.holds(&format!("response-{name}.frame"), &frame::encode_header(&response));
        assert_eq!(read_frame::<Response>(&bytes, frame::MAX_RESPONSE_BYTES), response, "{name}");
    }
    for (name, line) in messages::event_lines() {
        let bytes = golden.holds(&format!("event-{name}.json"), &line.to_bytes());
        assert_eq!(EventLine::parse(bytes.strip_suffix(b"\n").unwrap()), Ok(line), "{name}");
    }
    let (streams, states) = (messages::output_streams(), messages::job_states());
    let (first_streams, more_streams) = streams.split_at(messages::FIRST_STREAMS);
    let (first_states, more_states) = states.split_at(messages::FIRST_STATES);
    golden.json("words.json", &(messages::blob_kinds(), first_streams, first_states));
    golden.json(
        "words-more.json",
        &(more_streams, more_states, messages::queue_modes(), messages::dead_reasons()),
    );
    golden.done();
}

fn read_frame<T: serde::de::DeserializeOwned>(bytes: &[u8], max: usize) -> T {
    let (prefix, header) = bytes.split_first_chunk().unwrap();
    assert_eq!(frame::header_length(*prefix, max), Ok(header.len()));
    frame::parse_header(header).unwrap()
}

#[test]
fn audit_records() {
    let mut golden = Golden::new("record");
    let mut kinds = BTreeSet::new();
    for (name, record) in records::records() {
        let bytes = golden.holds(&format!("{name}.json"), &record.to_leaf());
        assert_eq!(Record::from_leaf(&bytes).unwrap(), record, "{name}");
        let written: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
        assert_eq!(written["type"], record.event.kind(), "{name}");
        kinds.insert(record.event.kind());
    }
    assert_eq!(kinds, BTreeSet::from(strongroom_job::Event::KINDS));
    let limits = records::limits();
    let (first, more) = limits.split_at(records::FIRST_LIMITS);
    golden.json("limits.json", &first);
    golden.json("limits-more.json", &more);
    golden.done();
}

#[test]
fn trust_files() {
    let mut golden = Golden::new("trust");
    let files = [("first.trust", trust::first()), ("rotated.trust", trust::file())];
    for (name, file) in files {
        let bytes = golden.holds(name, &file.to_bytes());
        assert_eq!(TrustFile::parse(&bytes, Some(&trust::log_name())).unwrap(), file, "{name}");
    }
    let bytes = golden.holds("draft.trust", &trust::draft().to_bytes());
    assert_eq!(TrustDraft::parse(&bytes, None).unwrap(), trust::draft());
    golden.done();
}

#[test]
fn delegations_of_rights() {
    let mut golden = Golden::new("delegation");
    for (file, body) in [("small.json", delegations::small()), ("full.json", delegations::full())] {
        let signed = body.sign(&principal()).unwrap();
        let bytes = golden.holds(file, &signed.to_bytes());
        let read = SignedDelegation::parse(&bytes).unwrap();
        assert_eq!((&read, read.body()), (&signed, &body), "{file}");
    }
    // For tools of others: the key that both verify with.
    golden.holds("delegator.pub", format!("{}\n", principal().public()).as_bytes());
    golden.done();
}

#[test]
fn commands_of_operators() {
    let mut golden = Golden::new("principal");
    let all = [
        ("add.json", commands::added()),
        ("rotate.json", commands::rotated()),
        ("revoke.json", commands::revoked()),
        ("restore.json", commands::restored()),
    ];
    for (file, body) in all {
        let signed = body.sign(&principal()).unwrap();
        let bytes = golden.holds(file, &signed.to_bytes());
        let read = SignedCommand::parse(&bytes).unwrap();
        assert_eq!((&read, read.body()), (&signed, &body), "{file}");
    }
    // For tools of others: the key that all verify with.
    golden.holds("operator.pub", format!("{}\n", principal().public()).as_bytes());
    golden.done();
}

#[test]
fn refusals() {
    let mut golden = Golden::new("refusal");
    let codes = messages::refusal_codes();
    let table: Vec<_> = codes
        .iter()
        .map(|code| (code, code.is_temporary(), code.is_host_fault(), code.to_string()))
        .collect();
    let (first, more) = table.split_at(messages::FIRST_CODES);
    let (second, more) = more.split_at(messages::SECOND_CODES);
    let (queues, more) = more.split_at(messages::QUEUE_CODES);
    let (roles, grants) = more.split_at(messages::ROLE_CODES);
    golden.json("codes.json", &first);
    golden.json("codes-more.json", &second);
    golden.json("codes-queues.json", &queues);
    golden.json("codes-roles.json", &roles);
    golden.json("codes-grants.json", &grants);
    let names = covers!(vec![Role::View, Role::Submit, Role::Operate, Role::Admin];
        Role::View, Role::Submit, Role::Operate, Role::Admin);
    let bytes = golden.json("roles.json", &names);
    assert_eq!(serde_json::from_slice::<Vec<Role>>(&bytes).unwrap(), names);
    assert_eq!(names, Role::ALL);
    for role in names {
        assert_eq!(role.to_string().parse(), Ok(role));
    }
    let short = Refusal::new(
        strongroom_job::RefusalCode::QueueFull,
        "the queue \"reports\" is full; try again later",
    );
    for (file, refusal) in [("missing.json", messages::refusal()), ("plain.json", short)] {
        let bytes = golden.json(file, &refusal);
        assert_eq!(serde_json::from_slice::<Refusal>(&bytes).unwrap(), refusal, "{file}");
    }
    golden.done();
}
