//! What happened, as one request of OTLP. Pure.
//!
//! *Spec:* the JSON encoding of `opentelemetry.proto.collector.trace.v1.ExportTraceServiceRequest`; `docs/formats/telemetry.md`.

use std::time::Duration;

use serde::Serialize;
use strongroom_job::{JobState, Timestamp};

use super::Ended;
use super::ids::{SpanId, TraceId};
use super::tracer::{Attempt, Subject};
use crate::forward::{Attribute, Resource};

/// Kinds and status codes as OTLP numbers them.
const INTERNAL: u8 = 1;
const SERVER: u8 = 2;
const CONSUMER: u8 = 5;
const ERROR: u8 = 2;

/// The span that all others of a job belong under.
const ROOT: &str = "job";
const ATTEMPT: &str = "attempt";

/// A span.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Span {
    trace_id: String,
    span_id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    parent_span_id: Option<String>,
    name: &'static str,
    kind: u8,
    /// 64-bit numbers are texts in protobuf's JSON.
    start_time_unix_nano: String,
    end_time_unix_nano: String,
    attributes: Vec<Attribute<'static>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<Status>,
}

#[derive(Debug, Serialize)]
struct Status {
    code: u8,
}

/// The body of one request.
pub(super) fn request(resource: &Resource, spans: &[Span]) -> Vec<u8> {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Request<'a> {
        resource_spans: [ResourceSpans<'a>; 1],
    }
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct ResourceSpans<'a> {
        resource: super::numbers::About<'a>,
        scope_spans: [ScopeSpans<'a>; 1],
    }
    #[derive(Serialize)]
    struct ScopeSpans<'a> {
        scope: super::numbers::Scope,
        spans: &'a [Span],
    }
    let scope = super::numbers::Scope::of("strongroom.jobs");
    let scope_spans = [ScopeSpans { scope, spans }];
    let request = Request {
        resource_spans: [ResourceSpans { resource: super::numbers::About::of(resource), scope_spans }],
    };
    super::numbers::written(&request)
}

/// From the first byte of an envelope that is understood to the durable record of the job.
pub(super) fn accepted(subject: &Subject, from: Timestamp, took: Duration) -> Span {
    let from = nanos(from);
    span(subject, Id::of("accept", 0), SERVER, (from, from + took.as_nanos()))
}

/// The wait before an attempt, the attempt, and its parts.
pub(super) fn attempt(told: &Attempt) -> Vec<Span> {
    let Attempt { subject, attempt, ready, began, took, state, limit, parts } = told;
    let (ready, began) = (nanos(*ready), nanos(*began));
    let mut spans = Vec::with_capacity(2 + parts.len());
    spans.push(span(subject, Id::of("queue", *attempt), INTERNAL, (ready, began)));
    let id = Id::of(ATTEMPT, *attempt);
    let mut whole = span(subject, id, INTERNAL, (began, began + took.as_nanos()));
    whole.attributes.push(Attribute::number("strongroom.attempt", (*attempt).into()));
    whole.outcome(*state);
    if let Some(limit) = limit {
        whole.attributes.push(Attribute::owned("strongroom.limit", limit.to_string()));
    }
    spans.push(whole);
    for (part, from, to) in parts {
        let time = (began + from.as_nanos(), began + to.as_nanos());
        let mut span = span(subject, Id::of(part.name(), *attempt), INTERNAL, time);
        span.parent_span_id = Some(SpanId::of(&subject.job, ATTEMPT, *attempt).as_str().to_owned());
        spans.push(span);
    }
    spans
}

/// From the durable record of the job to that of its end.
pub(super) fn over(ended: &Ended) -> Span {
    let time = (nanos(ended.admitted_at), nanos(ended.ended_at));
    let mut span = span(&ended.subject, Id::of(ROOT, 0), CONSUMER, time);
    span.parent_span_id = ended.subject.parent.as_ref().map(|parent| parent.span.as_str().to_owned());
    span.attributes.push(Attribute::number("strongroom.attempts", ended.attempts.into()));
    span.outcome(ended.state);
    span
}

#[derive(Clone, Copy)]
struct Id {
    name: &'static str,
    attempt: u32,
}

impl Id {
    const fn of(name: &'static str, attempt: u32) -> Self {
        Self { name, attempt }
    }
}

/// One directly under the job's own.
fn span(subject: &Subject, Id { name, attempt }: Id, kind: u8, (from, to): (u128, u128)) -> Span {
    let Subject { job, tenant, queue, parent } = subject;
    let trace = parent.as_ref().map_or_else(|| TraceId::of(job), |parent| parent.trace.clone());
    Span {
        trace_id: trace.as_str().to_owned(),
        span_id: SpanId::of(job, name, attempt).as_str().to_owned(),
        parent_span_id: Some(SpanId::of(job, ROOT, 0).as_str().to_owned()),
        name,
        kind,
        start_time_unix_nano: from.to_string(),
        end_time_unix_nano: to.max(from).to_string(),
        attributes: vec![
            Attribute::owned("strongroom.job", job.to_string()),
            Attribute::owned("strongroom.tenant", tenant.to_string()),
            Attribute::owned("strongroom.queue", queue.to_string()),
        ],
        status: None,
    }
}

impl Span {
    fn outcome(&mut self, state: JobState) {
        self.attributes.push(Attribute::owned("strongroom.outcome", state.to_string()));
        // That somebody stopped it is no error.
        let is_error = !matches!(state, JobState::Succeeded | JobState::Cancelled);
        self.status = is_error.then_some(Status { code: ERROR });
    }
}

fn nanos(time: Timestamp) -> u128 {
    u128::from(time.as_millis()) * 1_000_000
}
