//! The names of traces and spans. All of them follow from the job: a host that was restarted goes on with the same trace.
//!
//! *Spec:* W3C Trace Context (`traceparent`); `docs/formats/telemetry.md`.

use std::collections::BTreeMap;

use strongroom_job::{Digest, JobId};

/// The label of a job in which its client says what the job is a part of.
const LABEL: &str = "traceparent";
/// Separates this use of the digest from any other.
const DOMAIN: &str = "strongroom span 1";
/// Length of a version 00 `traceparent`; later versions may go on behind a dash.
const PARENT_LENGTH: usize = 55;

/// 16 bytes in hex, not all of them 0.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct TraceId(String);

/// 8 bytes in hex, not all of them 0.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct SpanId(String);

/// What a client's trace is called, and the span in it that the job belongs under.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Parent {
    pub(super) trace: TraceId,
    pub(super) span: SpanId,
}

impl TraceId {
    /// The trace of a job that belongs to no other: it is called as the job is.
    pub(super) fn of(job: &JobId) -> Self {
        // No trace may be called 0, and a client may call a job so.
        let bytes = if *job.as_bytes() == [0; 16] { [0xff; 16] } else { *job.as_bytes() };
        Self(hex::encode(bytes))
    }

    pub(super) fn as_str(&self) -> &str {
        &self.0
    }
}

impl SpanId {
    /// The span called `name` of a job, in its attempt `attempt` (0 for what is in none).
    pub(super) fn of(job: &JobId, name: &str, attempt: u32) -> Self {
        let named = format!("{DOMAIN}\n{job}\n{name}\n{attempt}");
        let mut bytes = [0; 8];
        bytes.copy_from_slice(&Digest::of(named.as_bytes()).as_bytes()[..8]);
        // None is called 0.
        bytes[7] |= u8::from(bytes == [0; 8]);
        Self(hex::encode(bytes))
    }

    pub(super) fn as_str(&self) -> &str {
        &self.0
    }
}

impl Parent {
    /// What the labels of a job say, if they say it as the specification has it. Whether the client samples its trace is its own
    /// affair: every job is told of here.
    pub(super) fn of(labels: &BTreeMap<String, String>) -> Option<Self> {
        let text = labels.get(LABEL)?;
        let (parent, rest) = text.split_at_checked(PARENT_LENGTH)?;
        let mut fields = parent.split('-');
        let mut field = |length: usize| {
            let field = fields.next()?;
            let is_hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
            (field.len() == length && field.bytes().all(is_hex)).then_some(field)
        };
        let [version, trace, span, _flags] = [field(2)?, field(32)?, field(16)?, field(2)?];
        let ends = match version {
            "ff" => false,
            "00" => rest.is_empty(),
            _ => rest.is_empty() || rest.starts_with('-'),
        };
        let is_named = |id: &str| id.bytes().any(|byte| byte != b'0');
        (ends && is_named(trace) && is_named(span))
            .then(|| Self { trace: TraceId(trace.to_owned()), span: SpanId(span.to_owned()) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    fn parent(text: &str) -> Option<Parent> {
        Parent::of(&BTreeMap::from([("traceparent".to_owned(), text.to_owned())]))
    }

    #[test]
    fn what_a_client_says_is_taken_when_it_is_what_the_specification_says() {
        let found = parent(GOOD).unwrap();
        assert_eq!(found.trace.as_str(), "4bf92f3577b34da6a3ce929d0e0e4736");
        assert_eq!(found.span.as_str(), "00f067aa0ba902b7");
        assert_eq!(parent(&GOOD.replace("-01", "-00")), Some(found.clone()));
        let later = GOOD.replacen("00", "cc", 1);
        assert_eq!(parent(&later), Some(found.clone()));
        assert_eq!(parent(&format!("{later}-what-comes")), Some(found));
        assert_eq!(Parent::of(&BTreeMap::new()), None);
    }

    #[test]
    fn anything_else_is_as_if_it_were_not_there() {
        for text in [
            String::new(),
            GOOD[..54].to_owned(),
            format!("{GOOD}-x"),
            format!("{GOOD} "),
            GOOD.replacen("00", "ff", 1),
            GOOD.to_uppercase(),
            GOOD.replace('-', "_"),
            GOOD.replace("4bf92f3577b34da6a3ce929d0e0e4736", &"0".repeat(32)),
            GOOD.replace("00f067aa0ba902b7", &"0".repeat(16)),
            format!("{}x", GOOD.replacen("00", "cc", 1)),
            "\u{e9}".repeat(40),
        ] {
            assert_eq!(parent(&text), None, "{text}");
        }
    }

    #[test]
    fn names_follow_from_the_job_alone() {
        let job: JobId = "a0a0a0a0a0a0a0a0a0a0a0a0a0a00001".parse().unwrap();
        assert_eq!(TraceId::of(&job).as_str(), "a0a0a0a0a0a0a0a0a0a0a0a0a0a00001");
        assert_eq!(TraceId::of(&JobId::from_bytes([0; 16])).as_str(), "f".repeat(32));
        let (first, second) = (SpanId::of(&job, "attempt", 1), SpanId::of(&job, "attempt", 2));
        assert_eq!(first, SpanId::of(&job, "attempt", 1));
        assert_ne!(first, second);
        // Frozen, and by sha256sum: the parts of a trace are told by several versions of this program.
        assert_eq!(first.as_str(), "712c1027aedc10f4");
    }
}
