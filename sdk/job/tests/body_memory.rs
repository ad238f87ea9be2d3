//! The worst that 5.6 MB from a signed-in principal can make this crate allocate.
//!
//! One test only: it measures the whole process.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod fixtures;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use fixtures::{context, principal, small_task};
use strongroom_job::{
    BATCH_PAYLOAD_TYPE, Capabilities, Envelope, MAX_BATCH_BODY_BYTES, MAX_ENVELOPE_BYTES, MAX_RULES,
};

/// Three times the bound on expanded jobs: they, what they were parsed from, and the allocator's slack.
const MOST_MEMORY: usize = 96 << 20;

/// The process's highest resident memory so far, in bytes.
fn peak() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap() * 1024
}

fn sign(payload: &str) -> String {
    let head = format!("DSSEv1 {} {BATCH_PAYLOAD_TYPE} {} ", BATCH_PAYLOAD_TYPE.len(), payload.len());
    let signature = principal().sign(&[head.as_bytes(), payload.as_bytes()].concat());
    format!(
        r#"{{"payloadType":"{BATCH_PAYLOAD_TYPE}","payload":"{}","signatures":[{{"sig":"{}"}}]}}"#,
        STANDARD.encode(payload),
        STANDARD.encode(signature.as_bytes())
    )
}

/// A batch whose jobs are made by `job` from their number, as many as fit.
fn batch_of(template: &strongroom_job::Task, job: impl Fn(usize) -> String) -> String {
    let (context, template) =
        (serde_json::to_string(&context()).unwrap(), serde_json::to_string(template).unwrap());
    let mut text = format!(r#"{{"version":1,"context":{context},"template":{template},"jobs":["#);
    for number in 0.. {
        let next = job(number);
        if number == 9_999 || text.len() + 2 * next.len() + 8 > MAX_BATCH_BODY_BYTES {
            text += &next;
            break;
        }
        text += &next;
        text.push(',');
    }
    text + "]}"
}

/// As many rules as there may be, each as short as it can be.
fn many_rules() -> Capabilities {
    Capabilities {
        connect: vec!["a:1".parse().unwrap(); MAX_RULES],
        http: vec!["A,B,C,D,E,F http://a/".parse().unwrap(); MAX_RULES],
        ..Capabilities::default()
    }
}

// Red without `check_sizes` (the copies bombs), without `rules_memory` (the copies of rules), and without the bound on fields in `strict` (the key bomb).
#[test]
fn hostile_batches_take_bounded_memory() {
    let id = |number: usize| format!(r#""id":"{number:032x}""#);
    let long = strongroom_job::Task { args: vec!["x".repeat(60_000)], ..small_task() };
    let empty = strongroom_job::Task { args: vec![String::new(); 1024], ..small_task() };
    let ruled = strongroom_job::Task { capabilities: many_rules(), ..small_task() };
    let fields = (0..400_000).map(|key| format!("\"{key:x}\":0")).collect::<Vec<_>>().join(",");
    let arguments = vec!["\"\""; 1024].join(",");
    let variables = (0..1024).map(|key| format!("\"{key:x}\":\"\"")).collect::<Vec<_>>().join(",");
    let bombs = [
        ("copies of a long template", sign(&batch_of(&long, |number| format!("{{{}}}", id(number))))),
        ("copies of many arguments", sign(&batch_of(&empty, |number| format!("{{{}}}", id(number))))),
        ("copies of many rules", sign(&batch_of(&ruled, |number| format!("{{{}}}", id(number))))),
        (
            "many arguments",
            sign(&batch_of(&small_task(), |number| format!("{{{},\"args\":[{arguments}]}}", id(number)))),
        ),
        (
            "many variables",
            sign(&batch_of(&small_task(), |number| format!("{{{},\"env\":{{{variables}}}}}", id(number)))),
        ),
        ("one array", sign(&format!("[{}]", vec!["0"; MAX_BATCH_BODY_BYTES / 2 - 1].join(",")))),
        ("one object", sign(&format!("{{{fields}}}"))),
        ("signatures", format!("{{\"signatures\":[{}", "{\"sig\":\"\"},".repeat(MAX_ENVELOPE_BYTES / 12))),
        ("nesting", "[".repeat(MAX_ENVELOPE_BYTES)),
    ];
    // Forgets the peak of making the bombs; where that is not allowed, the test sees less and still passes.
    drop(std::fs::write("/proc/self/clear_refs", "5"));
    let before = peak();
    for (what, bomb) in &bombs {
        assert!(bomb.len() <= MAX_ENVELOPE_BYTES, "{what}");
        let result =
            Envelope::parse(bomb.as_bytes()).and_then(|envelope| envelope.verify(&principal().public()));
        let jobs = result.as_ref().map_or(0, Vec::len);
        drop(result);
        let grown = peak().saturating_sub(before);
        println!("{what}: {jobs} jobs taken, peak +{} MiB", grown >> 20);
        assert!(grown <= MOST_MEMORY, "{what}: {grown} bytes");
    }
}
