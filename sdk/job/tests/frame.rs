//! Frames: a length is believed only within its bound, a header only in its one shape, and every answer fits.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod fixtures;

use fixtures::{id, messages, name};
use strongroom_job::frame::{
    FrameError, MAX_REQUEST_BYTES, MAX_RESPONSE_BYTES, PREFIX_BYTES, encode_header, header_length,
    parse_header,
};
use strongroom_job::{
    AcceptedJob, JobEnd, JobState, JobView, MAX_BATCH_JOBS, MAX_LIST, MAX_MESSAGE_BYTES, MAX_MISSING,
    Outcome, Progress, Refusal, RefusalCode, Request, Response, Timestamp, Usage,
};

// Red without the comparison in `header_length`.
#[test]
fn a_length_over_the_bound_is_refused_before_anything_is_allocated() {
    let announce = |length: u32| header_length(length.to_be_bytes(), MAX_REQUEST_BYTES);
    assert_eq!(announce(0), Ok(0));
    assert_eq!(announce(16 << 10), Ok(MAX_REQUEST_BYTES));
    for length in [(16 << 10) + 1, 1 << 20, 1 << 30, u32::MAX] {
        assert_eq!(announce(length), Err(FrameError::TooLong { length, max: MAX_REQUEST_BYTES }));
    }
    assert_eq!(header_length([0, 0x20, 0, 0], MAX_RESPONSE_BYTES), Ok(2 << 20));
    assert!(header_length([0, 0x20, 0, 1], MAX_RESPONSE_BYTES).is_err());
    let text = announce(1 << 30).expect_err("1 GiB").to_string();
    assert_eq!(text, "a header of 1073741824 bytes is announced; at most 16384 are allowed");
}

#[test]
fn what_is_encoded_is_announced_and_read_back() {
    for (what, request) in messages::requests() {
        let bytes = encode_header(&request);
        let (prefix, header) = bytes.split_first_chunk::<PREFIX_BYTES>().unwrap();
        assert_eq!(header_length(*prefix, MAX_REQUEST_BYTES), Ok(header.len()));
        assert_eq!(parse_header::<Request>(header), Ok(request), "{what}");
    }
}

fn request_refused(header: &str, words: &str) {
    let error = parse_header::<Request>(header.as_bytes()).expect_err(words).to_string();
    assert!(error.starts_with("the header is malformed: ") && error.contains(words), "{error:?}: {words:?}");
    assert!(error.len() < 1200 && !error.contains(char::is_control), "{error:?}");
}

// Red with `serde_json::from_slice` in place of `strict::parse`, and without `deny_unknown_fields` on `Request`.
#[test]
fn a_malformed_request_is_refused() {
    let job = id(1);
    request_refused("", "not a JSON object");
    request_refused("[]", "not a JSON object");
    request_refused(r#"["submit",5]"#, "not a JSON object");
    request_refused("{}", "missing field `type`");
    request_refused(r#"{"type":"submit"}"#, "missing field `length`");
    request_refused(r#"{"type":"submit","length":1,"length":1}"#, "duplicate key \"length\"");
    request_refused(r#"{"type":"submit","type":"submit","length":1}"#, "duplicate key \"type\"");
    request_refused(r#"{"type":"submit","length":1,"more":0}"#, "unknown field `more`");
    request_refused(r#"{"type":"host","more":0}"#, "unknown field `more`");
    request_refused(r#"{"type":"modules","more":0}"#, "unknown field `more`");
    request_refused(r#"{"type":"submit","length":1.0}"#, "only integers");
    request_refused(r#"{"type":"submit","length":-1}"#, "invalid value");
    request_refused(r#"{"type":"submit","length":1} {}"#, "trailing characters");
    request_refused(r#"{"type":"format-disk"}"#, "unknown variant `format-disk`");
    request_refused(r#"{"type":"\u001b[2J"}"#, "unknown variant `\\u{1b}[2J`");
    request_refused(
        &format!(r#"{{"type":"show","job":"{}"}}"#, job.to_string().to_uppercase()),
        "not a job id",
    );
    request_refused(&format!(r#"{{"type":"show","job":["{job}"]}}"#), "invalid type");
    request_refused(
        &format!(r#"{{"type":"submit","length":{}"#, "[".repeat(16_000)),
        "nested deeper than 16",
    );
}

/// A host may answer with fields that this client does not know; it may not answer ambiguously.
#[test]
fn an_answer_may_grow() {
    let read = |text: &str| parse_header::<Response>(text.as_bytes());
    let stored = Response::Stored { present: true, known: false };
    assert_eq!(read(r#"{"type":"stored","present":true,"known":false,"new":[{"a":1}]}"#), Ok(stored));
    assert!(read(r#"{"type":"stored","present":true,"known":false,"known":true}"#).is_err());
    assert!(read(r#"{"type":"stored","present":true,"known":false,"new":1.5}"#).is_err());
}

fn longest_denials() -> Vec<strongroom_job::Denial> {
    vec![strongroom_job::Denial { what: "\"".repeat(1 << 10), count: u64::MAX }; strongroom_job::MAX_DENIALS]
}

fn longest_artifacts() -> Vec<strongroom_job::Artifact> {
    let (count, bytes) = (strongroom_job::MAX_ARTIFACTS, strongroom_job::MAX_ARTIFACT_NAMES_BYTES);
    let name = "\"".repeat(bytes / count);
    vec![strongroom_job::Artifact { name, length: u64::MAX, digest: strongroom_job::Digest::of(b"") }; count]
}

/// A job view in which everything is as long as it may be.
fn longest_view() -> JobView {
    let usage = Usage {
        wall_us: u64::MAX,
        cpu_us: u64::MAX,
        fuel: Some(u64::MAX),
        peak_memory_bytes: u64::MAX,
        stdin_bytes: u64::MAX,
        disk_bytes: u64::MAX,
        files: u64::MAX,
        http_bytes: u64::MAX,
    };
    let output = strongroom_job::OutputSummary { length: u64::MAX, ..messages::output(b"") };
    let time = Timestamp::from_millis(u64::MAX);
    let end = JobEnd {
        // Each character takes two in JSON.
        outcome: Outcome::Faulted { reason: "\"".repeat(1 << 20) },
        usage,
        stdout: output,
        stderr: output,
        denied: longest_denials(),
        artifacts: longest_artifacts(),
        result: Some(output),
        dead: Some(strongroom_job::DeadReason::Attempts),
        log_index: u64::MAX,
    };
    JobView {
        tenant: name(&"t".repeat(64)),
        queue: name(&"q".repeat(64)),
        module: strongroom_job::ModuleRef { length: u64::MAX, ..fixtures::module() },
        state: JobState::Interrupted,
        attempt: u32::MAX,
        accepted_at: time,
        started_at: Some(time),
        finished_at: Some(time),
        log_index: u64::MAX,
        ready_at: Some(time),
        waits_for: Some(u32::MAX),
        progress: Some(Progress { percent: u8::MAX, text: "\"".repeat(1 << 20) }),
        end: Some(end),
        ..messages::queued()
    }
}

fn fits(response: &Response) {
    let bytes = encode_header(response);
    let (prefix, header) = bytes.split_first_chunk::<PREFIX_BYTES>().unwrap();
    println!("{} of {MAX_RESPONSE_BYTES} bytes", header.len());
    assert_eq!(header_length(*prefix, MAX_RESPONSE_BYTES), Ok(header.len()));
}

// Red with a `MAX_REASON_BYTES` of 600, a `MAX_MISSING` of 200, without `serialize_with` on a reason, and without `brief`.
#[test]
fn the_longest_answers_fit_their_frame() {
    let accepted = AcceptedJob { job: id(1), log_index: u64::MAX, existing: Some(id(2)) };
    let acceptance = Some(fixtures::receipts::acceptance().sign(&fixtures::host()));
    fits(&Response::Accepted { jobs: vec![accepted; MAX_BATCH_JOBS], acceptance });
    fits(&Response::Job(Box::new(longest_view())));
    // A host shortens a page that is still too long; with the longest of everything that is one of more than 480.
    let page = vec![longest_view().brief(); 480];
    assert!(page.len() < MAX_LIST as usize);
    fits(&Response::Jobs { jobs: page, more: true, next: Some(id(2)) });
    let what = "\"".repeat(1 << 16);
    let missing = vec![what.clone(); 10_000];
    fits(&Response::Refused(Refusal { missing, ..Refusal::new(RefusalCode::NotGranted, &what) }));
}

/// What a hostile host says is cut and escaped before anybody sees it.
// Red without `deserialize_with` on the field.
#[test]
fn a_peers_sentences_are_safe_to_show() {
    let evil = format!("\u{1b}[2J\r\nok\u{202e}{}", "x".repeat(4200));
    let json = serde_json::json!({
        "type": "refused", "code": "busy", "message": evil, "missing": vec![evil.clone(); 200],
    });
    let Ok(Response::Refused(refusal)) = parse_header(json.to_string().as_bytes()) else {
        panic!("a refusal")
    };
    assert_eq!(refusal.missing.len(), MAX_MISSING);
    for text in refusal.missing.iter().chain([&refusal.message]) {
        assert!(
            text.starts_with("\\u{1b}[2J\\r\\nok\\u{202e}xxx") && text.len() <= MAX_MESSAGE_BYTES,
            "{text}"
        );
    }
    assert_eq!(refusal.to_string(), refusal.message);
    let own = Refusal::new(RefusalCode::Busy, &evil);
    assert_eq!(own.message, refusal.message);

    for kind in ["trapped", "faulted"] {
        let json = serde_json::json!({ "type": kind, "reason": evil });
        let reason = match serde_json::from_value(json).unwrap() {
            Outcome::Trapped { reason } | Outcome::Faulted { reason } => reason,
            other => panic!("{other}"),
        };
        assert!(
            reason.starts_with("\\u{1b}[2J") && reason.len() <= strongroom_job::MAX_REASON_BYTES,
            "{reason}"
        );
    }
}
