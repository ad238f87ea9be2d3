//! Malformed envelopes and bodies: refused with a reason that names the fault, also when the signature is good.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod fixtures;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};
use fixtures::{full_task, job, principal, small_task};
use serde_json::{Value, json};
use strongroom_job::{
    BATCH_PAYLOAD_TYPE, BodyError, Envelope, EnvelopeError, Input, JOB_PAYLOAD_TYPE, MAX_BATCH_BODY_BYTES,
    MAX_ENVELOPE_BYTES, MAX_JOB_BODY_BYTES, VerifiedJob, sign_job,
};

fn admit(bytes: &[u8]) -> Result<Vec<VerifiedJob>, EnvelopeError> {
    Envelope::parse(bytes)?.verify(&principal().public())
}

/// Signs any bytes as they are, which `sign_job` would not: the attacker holds a good key.
fn sign_raw(kind: &str, payload: &[u8]) -> String {
    let head = format!("DSSEv1 {} {kind} {} ", kind.len(), payload.len());
    let signature = principal().sign(&[head.as_bytes(), payload].concat());
    format!(
        r#"{{"payloadType":"{kind}","payload":"{}","signatures":[{{"sig":"{}"}}]}}"#,
        STANDARD.encode(payload),
        STANDARD.encode(signature.as_bytes())
    )
}

fn body_refused(payload: &str, words: &str) {
    let error = admit(sign_raw(JOB_PAYLOAD_TYPE, payload.as_bytes()).as_bytes()).expect_err(words);
    assert!(matches!(error, EnvelopeError::Body(_)), "{error:?}");
    let text = error.to_string();
    assert!(text.contains(words), "{text:?} should say {words:?}");
    assert!(text.len() < 1200 && !text.contains(char::is_control), "{text:?}");
}

fn envelope_refused(text: &str, words: &str) {
    let error = Envelope::parse(text.as_bytes()).expect_err(words).to_string();
    assert!(error.contains(words), "{error:?} should say {words:?}");
    assert!(error.len() < 1200 && !error.contains(char::is_control), "{error:?}");
}

fn small_json() -> Value {
    serde_json::to_value(job(small_task())).unwrap()
}

/// `text` with the first `from` replaced, which must be there.
fn with(text: &str, from: &str, to: &str) -> String {
    assert!(text.contains(from), "{text} holds no {from}");
    text.replacen(from, to, 1)
}

#[test]
fn a_signed_body_of_any_spelling_is_taken() {
    let pretty = serde_json::to_string_pretty(&job(full_task())).unwrap();
    let jobs = admit(sign_raw(JOB_PAYLOAD_TYPE, pretty.as_bytes()).as_bytes()).unwrap();
    assert_eq!(jobs[0].body(), &job(full_task()));
    let jobs = admit(sign_raw(JOB_PAYLOAD_TYPE, small_json().to_string().as_bytes()).as_bytes()).unwrap();
    assert_eq!(jobs[0].body(), &job(small_task()));
}

// Red with `serde_json::from_slice` in place of `strict::parse` in `JobBody::parse`, and without `deny_unknown_fields`.
#[test]
fn ambiguous_bodies_are_refused_although_they_are_signed() {
    let body = serde_json::to_string(&job(full_task())).unwrap();
    body_refused(
        &with(&body, r#""priority":-5"#, r#""priority":-5,"priority":-5"#),
        "duplicate field `priority`",
    );
    body_refused(&with(&body, r#""TZ":"UTC""#, r#""TZ":"UTC","TZ":"CET""#), "duplicate key \"TZ\"");
    body_refused(&with(&body, r#""TZ":"UTC""#, r#""TZ":"UTC","\u0054Z":"CET""#), "duplicate key \"TZ\"");
    body_refused(&with(&body, r#""priority":-5"#, r#""priority":-5.0"#), "only integers");
    body_refused(&with(&body, r#""priority":-5"#, r#""priority":-5e0"#), "only integers");
    body_refused(&with(&body, r#""priority":-5"#, r#""priority":-129"#), "invalid value");
    body_refused(
        &with(&body, r#""priority":-5"#, r#""priority":-101"#),
        "priority: must be from -100 to 100",
    );
    body_refused(&with(&body, r#""priority":-5"#, r#""priority":"-5""#), "invalid type");
    body_refused(&with(&body, "30000", "18446744073709551616"), "only integers");
    body_refused(&with(&body, r#""priority":-5"#, r#""priority":NaN"#), "expected");
    body_refused(&format!("{body} {{}}"), "trailing characters");
    body_refused(&format!("{body}\0"), "trailing characters");
    body_refused(&format!("\u{feff}{body}"), "not a JSON object");
    body_refused("", "not a JSON object");
    body_refused("{", "EOF");
    body_refused("null", "not a JSON object");
    body_refused("[]", "not a JSON object");
    body_refused(&with(&body, "[", &"[".repeat(50_000)), "invalid type: sequence");
    body_refused(&"{\"task\":".repeat(7_000), "unknown field");
}

/// Every object of a body refuses a field that it does not know: what a host does not understand it must not run.
// Red without `deny_unknown_fields` on the struct of that object.
#[test]
fn unknown_fields_are_refused_at_every_level() {
    let full = serde_json::to_value(job(full_task())).unwrap();
    let places = [
        "",
        "/context",
        "/task",
        "/task/module",
        "/task/capabilities",
        "/task/capabilities/mounts/0",
        "/task/capabilities/mounts/0/source",
        "/task/input",
        "/task/limits",
    ];
    for place in places {
        let mut body = full.clone();
        body.pointer_mut(place).unwrap()["network"] = json!(true);
        // The two enums say that only one key may stand there.
        let words = if place.ends_with("source") || place.ends_with("input") {
            ""
        } else {
            "unknown field `network`"
        };
        body_refused(&body.to_string(), words);
    }
    let mut body = full;
    body["task"]["input"] = json!({ "blob": { "digest": Value::Null, "length": 1, "url": "http://x" } });
    body_refused(&body.to_string(), "");
    body["task"]["input"] = json!({ "blob": { "length": 1, "url": "http://x" } });
    body_refused(&body.to_string(), "unknown field `url`");
}

#[test]
fn a_missing_field_is_refused() {
    let full = serde_json::to_value(job(full_task())).unwrap();
    for place in ["", "/context", "/task", "/task/module", "/task/capabilities", "/task/limits"] {
        for field in full.pointer(place).unwrap().as_object().unwrap().keys() {
            // No fuel limit may be said by silence; the signature covers the silence.
            if field == "fuel" {
                continue;
            }
            let mut body = full.clone();
            body.pointer_mut(place).unwrap().as_object_mut().unwrap().remove(field);
            body_refused(&body.to_string(), &format!("missing field `{field}`"));
        }
    }
}

#[test]
fn another_version_is_refused() {
    for version in [json!(0), json!(2), json!(u64::MAX)] {
        let mut body = small_json();
        body["version"] = version.clone();
        body_refused(&body.to_string(), &format!("version {version}; this host reads version 1"));
    }
}

/// A peer's words are quoted in errors, which end up in logs and on terminals.
// Red with serde's own sentence in `strict::parse`.
#[test]
fn errors_hold_no_control_characters_and_stay_short() {
    let body = serde_json::to_string(&job(small_task())).unwrap();
    let evil = format!("\\u001b]0;owned\\u0007{}", "x".repeat(30_000));
    body_refused(
        &with(&body, r#""version":1"#, &format!(r#""version":1,"{evil}":0"#)),
        "unknown field `\\u{1b}]0;",
    );
    body_refused(&with(&body, r#""command""#, &format!(r#""{evil}""#)), "unknown variant `\\u{1b}]0;");
    body_refused(&with(&body, r#""priority":0"#, &format!(r#""priority":"{evil}""#)), "invalid type");
    body_refused(&with(&body, r#""queue":"default""#, &format!(r#""queue":"{evil}""#)), "is not a name");
    body_refused(
        &with(&body, r#""env":{}"#, &format!(r#""env":{{"{evil}=":""}}"#)),
        "cannot name a variable",
    );
    envelope_refused(&format!(r#"{{"{evil}":0}}"#), "unknown field");
    let typed = sign_raw(&"\\u001b".repeat(5000), b"");
    envelope_refused(&typed, "neither a job nor a batch");
}

// Red without the length tests: of the text in `strict::parse`, of the body in `Envelope::parse`.
#[test]
fn what_is_too_long_is_refused_before_it_is_believed() {
    let padded = |length: usize| {
        let body = serde_json::to_string(&job(small_task())).unwrap();
        format!("{body}{}", " ".repeat(length - body.len()))
    };
    let longest = sign_raw(JOB_PAYLOAD_TYPE, padded(MAX_JOB_BODY_BYTES).as_bytes());
    assert!(admit(longest.as_bytes()).is_ok());
    // The signature is not even looked at: it is wrong here.
    let over = sign_raw(JOB_PAYLOAD_TYPE, padded(MAX_JOB_BODY_BYTES + 1).as_bytes());
    envelope_refused(&with(&over, "\"sig\":\"", "\"sig\":\"AAAA"), "65537 bytes where at most 65536");
    let over = sign_raw(BATCH_PAYLOAD_TYPE, padded(MAX_BATCH_BODY_BYTES + 1).as_bytes());
    envelope_refused(&over, "4194305 bytes where at most 4194304");
    let longest = sign_raw(BATCH_PAYLOAD_TYPE, padded(MAX_BATCH_BODY_BYTES).as_bytes());
    assert!(longest.len() < MAX_ENVELOPE_BYTES && Envelope::parse(longest.as_bytes()).is_ok());
    envelope_refused(&" ".repeat(MAX_ENVELOPE_BYTES + 1), "bytes where at most");
}

#[test]
fn who_signs_learns_of_a_broken_rule_before_any_host_does() {
    let mut body = job(small_task());
    body.task.args = vec!["x".repeat(MAX_JOB_BODY_BYTES)];
    assert!(matches!(sign_job(&body, &principal()), Err(BodyError::Malformed(_))));
    body.task = small_task();
    body.task.limits.wall_ms = 0;
    assert!(matches!(sign_job(&body, &principal()), Err(BodyError::Task(_))));
    body.task = small_task();
    body.version = 2;
    assert_eq!(sign_job(&body, &principal()), Err(BodyError::Version(2)));
}

#[test]
fn malformed_envelopes_are_refused() {
    let good = sign_raw(JOB_PAYLOAD_TYPE, serde_json::to_string(&job(full_task())).unwrap().as_bytes());
    assert!(admit(good.as_bytes()).is_ok());
    envelope_refused("", "not a JSON object");
    envelope_refused("null", "not a JSON object");
    envelope_refused("{}", "missing field `payloadType`");
    envelope_refused(&format!("{good}x"), "trailing characters");
    envelope_refused(&good[..good.len() - 1], "EOF");
    envelope_refused(
        &with(&good, "{\"payloadType\"", "{\"extra\":1,\"payloadType\""),
        "unknown field `extra`",
    );
    envelope_refused(&with(&good, "{\"sig\"", "{\"cert\":\"\",\"sig\""), "unknown field `cert`");
    let twice = format!(",\"payloadType\":\"{JOB_PAYLOAD_TYPE}\"}}");
    envelope_refused(&format!("{}{twice}", &good[..good.len() - 1]), "duplicate field `payloadType`");
    envelope_refused(&with(&good, "\"signatures\":[", "\"signatures\":[1,"), "invalid type");
    envelope_refused(&with(&good, "v1+json", "v2+json"), "neither a job nor a batch of version 1");
    envelope_refused(&with(&good, "vnd.", "VND."), "neither a job nor a batch of version 1");
    envelope_refused(&with(&good, "\"sig\":\"", "\"sig\":\"="), "not padded standard base64");
}

/// One value has one base64 text: no other alphabet, no missing padding, no stray bits, no white space.
#[test]
fn base64_has_one_spelling() {
    let good = sign_raw(JOB_PAYLOAD_TYPE, b"{\"?>\":1}>>>???");
    assert!(Envelope::parse(good.as_bytes()).is_ok(), "well-formed outside, whatever is inside");
    let payload = STANDARD.encode(b"{\"?>\":1}>>>???");
    assert!(payload.ends_with("Pz8="), "{payload}");
    let url_safe = URL_SAFE.encode(b"{\"?>\":1}>>>???");
    for wrong in [
        url_safe.as_str(),
        &payload[..payload.len() - 1],
        &payload.replace("Pz8=", "Pz9="),
        &format!(" {payload}"),
        &format!("{payload}\\n"),
        &format!("{payload}===="),
    ] {
        envelope_refused(&with(&good, &payload, wrong), "not padded standard base64");
    }
}

/// The empty input has one spelling, a union has exactly one key.
#[test]
fn unions_hold_one_thing() {
    let mut body = small_json();
    // Red with serde's own reading of enums: it takes `{"empty":null}` for `"empty"`.
    for input in [
        json!({ "empty": null }),
        json!({}),
        json!({"empty": 1}),
        json!({"inline": "", "blob": {}}),
        json!("Empty"),
        json!("blob"),
        json!([]),
    ] {
        body["task"]["input"] = input;
        body_refused(&body.to_string(), "");
    }
    body["task"]["input"] = json!({ "inline": "AA" });
    body_refused(&body.to_string(), "not padded standard base64");
    let mut task = small_task();
    task.input = Input::Inline(strongroom_job::Base64Bytes(vec![7; 16 * 1024]));
    assert!(sign_job(&job(task.clone()), &principal()).is_ok());
    task.input = Input::Inline(strongroom_job::Base64Bytes(vec![7; 16 * 1024 + 1]));
    let error = sign_job(&job(task), &principal()).expect_err("one byte too many").to_string();
    assert!(error.contains("input.inline: 16385 where at most 16384"), "{error}");
}

/// Serde reads an array of a struct's fields as the struct. Another reader of the signed text would see no capability there.
// Red with serde's own `deserialize_struct` in `strict`.
#[test]
fn a_struct_is_an_object_and_a_word_is_a_text() {
    for place in [
        "/task/module",
        "/task/capabilities",
        "/task/capabilities/mounts/0",
        "/task/limits",
        "/context",
        "/task",
    ] {
        let mut body = serde_json::to_value(job(full_task())).unwrap();
        let object = body.pointer_mut(place).unwrap();
        *object = Value::Array(object.as_object().unwrap().values().cloned().collect());
        body_refused(&body.to_string(), "invalid type: sequence");
    }
    for place in ["/task/entry", "/task/capabilities/mounts/0/access"] {
        let mut body = serde_json::to_value(job(full_task())).unwrap();
        let word = body.pointer_mut(place).unwrap();
        *word = json!({ word.as_str().unwrap(): null });
        body_refused(&body.to_string(), "a word is expected");
    }
}
