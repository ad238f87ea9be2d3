//! The page of metrics as one request of OTLP. Pure.
//!
//! *Spec:* the JSON encoding of `opentelemetry.proto.collector.metrics.v1.ExportMetricsServiceRequest`; `docs/formats/telemetry.md`.

use serde::Serialize;
use strongroom_job::Timestamp;

use crate::forward::{Attribute, Resource};
use crate::meters::page::{Family, Kind, Page, Sample, Value};

/// Sums since the host started, not since the last request.
const CUMULATIVE: u8 = 2;

#[derive(Serialize)]
pub(super) struct About<'a> {
    attributes: Vec<Attribute<'a>>,
}

impl<'a> About<'a> {
    pub(super) fn of(resource: &'a Resource) -> Self {
        Self { attributes: resource.attributes() }
    }
}

#[derive(Serialize)]
pub(super) struct Scope {
    name: &'static str,
    version: &'static str,
}

impl Scope {
    pub(super) const fn of(name: &'static str) -> Self {
        Self { name, version: env!("CARGO_PKG_VERSION") }
    }
}

#[expect(
    clippy::expect_used,
    reason = "string keys and plain values always serialize; a Vec takes every write"
)]
pub(super) fn written(request: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(request).expect("plain data serializes")
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Request<'a> {
    resource_metrics: [ResourceMetrics<'a>; 1],
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ResourceMetrics<'a> {
    resource: About<'a>,
    scope_metrics: [ScopeMetrics<'a>; 1],
}

#[derive(Serialize)]
struct ScopeMetrics<'a> {
    scope: Scope,
    metrics: Vec<Metric<'a>>,
}

#[derive(Serialize)]
struct Metric<'a> {
    name: &'static str,
    description: &'static str,
    unit: &'static str,
    #[serde(flatten)]
    data: Data<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
enum Data<'a> {
    #[serde(rename_all = "camelCase")]
    Gauge { data_points: Vec<Point<'a>> },
    #[serde(rename_all = "camelCase")]
    Sum { data_points: Vec<Point<'a>>, aggregation_temporality: u8, is_monotonic: bool },
    #[serde(rename_all = "camelCase")]
    Histogram { data_points: Vec<Point<'a>>, aggregation_temporality: u8 },
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Point<'a> {
    attributes: Vec<Attribute<'a>>,
    /// A gauge has no beginning.
    #[serde(skip_serializing_if = "Option::is_none")]
    start_time_unix_nano: Option<String>,
    time_unix_nano: String,
    #[serde(flatten)]
    value: Number,
}

/// 64-bit whole numbers are texts in protobuf's JSON.
#[derive(Serialize)]
#[serde(untagged)]
enum Number {
    #[serde(rename_all = "camelCase")]
    Whole { as_int: String },
    #[serde(rename_all = "camelCase")]
    Decimal { as_double: f64 },
    #[serde(rename_all = "camelCase")]
    Histogram { count: String, sum: f64, bucket_counts: Vec<String>, explicit_bounds: Vec<f64> },
}

/// The body of one request: the page as it stands at `now`, whose counters began at `started`.
pub(super) fn request(resource: &Resource, page: &Page, started: Timestamp, now: Timestamp) -> Vec<u8> {
    let times = (nanos(started), nanos(now));
    // One without a sample says nothing, and some collectors do not take it.
    let families = page.families().iter().filter(|family| !family.samples.is_empty());
    let metrics = families.map(|family| metric(family, &times)).collect();
    let scope_metrics = [ScopeMetrics { scope: Scope::of("strongroom.host"), metrics }];
    written(&Request { resource_metrics: [ResourceMetrics { resource: About::of(resource), scope_metrics }] })
}

fn metric<'a>(family: &'a Family, (started, now): &(String, String)) -> Metric<'a> {
    let Family { name, kind, help, samples } = family;
    let start = (*kind != Kind::Gauge).then(|| started.clone());
    let is_decimal = name.ends_with("_seconds");
    let data_points =
        samples.iter().map(|sample| point(sample, is_decimal, start.clone(), now.clone())).collect();
    let data = match kind {
        Kind::Gauge => Data::Gauge { data_points },
        Kind::Counter => Data::Sum { data_points, aggregation_temporality: CUMULATIVE, is_monotonic: true },
        Kind::Histogram => Data::Histogram { data_points, aggregation_temporality: CUMULATIVE },
    };
    let unit = if is_decimal {
        "s"
    } else if name.ends_with("_bytes") {
        "By"
    } else {
        "1"
    };
    Metric { name, description: help, unit, data }
}

fn point(sample: &Sample, is_decimal: bool, start: Option<String>, now: String) -> Point<'_> {
    let attributes = sample.labels.iter().map(|(label, text)| Attribute::text(label, text)).collect();
    let value = match &sample.value {
        // Of one metric all points are of one type.
        Value::Number(number) if is_decimal => {
            Number::Decimal { as_double: number.parse().unwrap_or_default() }
        }
        Value::Number(number) => Number::Whole { as_int: number.clone() },
        Value::Histogram { reading, per } => {
            let scaled = |value: u64| value as f64 / f64::from(*per);
            let mut before = 0;
            let mut bucket_counts = Vec::with_capacity(reading.buckets.len() + 1);
            for (_, cumulated) in &reading.buckets {
                bucket_counts.push((cumulated - before).to_string());
                before = *cumulated;
            }
            bucket_counts.push((reading.count - before).to_string());
            let explicit_bounds = reading.buckets.iter().map(|(bound, _)| scaled(*bound)).collect();
            let (count, sum) = (reading.count.to_string(), scaled(reading.sum));
            Number::Histogram { count, sum, bucket_counts, explicit_bounds }
        }
    };
    Point { attributes, start_time_unix_nano: start, time_unix_nano: now, value }
}

fn nanos(time: Timestamp) -> String {
    (u128::from(time.as_millis()) * 1_000_000).to_string()
}
