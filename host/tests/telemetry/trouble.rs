//! A collector in trouble costs nothing but a count.

use std::net::TcpListener;

use crate::cli_support::{Place, exit, wait_for};
use crate::collector::{Collector, Says};
use crate::support::{Host, get, socket, value};

fn count(place: &Place, series: &str) -> f64 {
    value(&get(&socket(place), "/metrics").body, series).unwrap()
}

const SENT: &str = r#"strongroom_telemetry_spans_total{fate="sent"}"#;
const DROPPED: &str = r#"strongroom_telemetry_spans_total{fate="dropped"}"#;
const REJECTED: &str = r#"strongroom_telemetry_spans_total{fate="rejected"}"#;
const FAILED: &str = r#"strongroom_telemetry_failures_total{signal="traces"}"#;
const UNREAD: &str = r#"strongroom_telemetry_failures_total{signal="metrics"}"#;

// Red when a request is given up at once.
#[test]
fn what_could_not_be_sent_comes_when_the_collector_is_back_and_once() {
    // Somewhere to be down: bound, so that nobody else gets it, and not listening.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let place = Place::new();
    crate::support::configure(
        &place,
        "",
        &format!("[telemetry]\nto = \"otlp+http://{address}\"\nmetrics_every_ms = 1000"),
    );
    let host = Host::serve(&place);
    place.module("good.wasm", &exit(0));
    for _ in 0..3 {
        place.run(&["run", "good.wasm"]).exits(0);
    }
    wait_for("two failures", || (count(&place, FAILED) >= 2.0 && count(&place, UNREAD) >= 2.0).then_some(()));
    assert_eq!((count(&place, SENT), count(&place, DROPPED)), (0.0, 0.0));
    let busy = [Says::Answer("503 Service Unavailable", ""), Says::Answer("429 Too Many Requests", "")];
    let collector = Collector::at(TcpListener::bind(address).unwrap(), busy);
    let roots = || collector.spans().into_iter().filter(|span| span.name == "job").count();
    wait_for("three traces", || (roots() >= 3).then_some(()));
    wait_for("the count", || (count(&place, SENT) >= 30.0).then_some(()));
    host.stop();
    let spans = collector.spans();
    let ids: std::collections::BTreeSet<_> = spans.iter().map(|span| span.id.as_str()).collect();
    assert_eq!((ids.len(), spans.len()), (30, 30), "all of them, each once");
}

// Red when every answer but 200 is tried again.
#[test]
fn a_request_that_the_collector_finds_wrong_is_not_sent_again() {
    let wrong = Says::Answer("400 Bad Request", "");
    let collector = Collector::start([wrong]);
    let place = Place::new();
    collector.for_host(&place, "metrics = false");
    let host = Host::serve(&place);
    place.module("good.wasm", &exit(0));
    place.run(&["run", "good.wasm"]).exits(0);
    wait_for("the refusal", || (count(&place, DROPPED) > 0.0).then_some(()));
    assert_eq!(count(&place, FAILED), 1.0);
    let before = collector.got().len();
    place.run(&["run", "good.wasm"]).exits(0);
    wait_for("the next", || collector.got().get(before).map(|_| ()));
    let got = collector.got();
    assert!(got[before..].iter().all(|later| later.text != got[0].text), "{got:?}");
    host.stop();
}

// Red when `rejected` gives 0.
#[test]
fn what_the_collector_rejects_is_counted() {
    let partial = Says::Answer("200 OK", r#"{"partialSuccess":{"rejectedSpans":"2","errorMessage":"no"}}"#);
    let collector = Collector::start([partial]);
    let place = Place::new();
    collector.for_host(&place, "metrics = false");
    let host = Host::serve(&place);
    place.module("good.wasm", &exit(0));
    place.run(&["run", "good.wasm"]).exits(0);
    wait_for("the count", || (count(&place, REJECTED) == 2.0).then_some(()));
    host.stop();
}

// Red without the select around an exchange in `Exporter::run`.
#[test]
fn a_collector_that_never_answers_keeps_neither_jobs_nor_the_stop_waiting() {
    let collector = Collector::start([Says::Nothing; 64]);
    let place = Place::new();
    collector.for_host(&place, "metrics_every_ms = 1000");
    let host = Host::serve(&place);
    place.module("good.wasm", &exit(0));
    wait_for("a request", || collector.got().first().map(|_| ()));
    for _ in 0..3 {
        place.run(&["run", "good.wasm"]).exits(0);
    }
    host.ask_to_stop();
    let said = host.finish();
    assert!(!said.stderr.contains("left behind"), "{said:?}");
    said.exits(0);
    assert!(collector.got().iter().all(|got| !got.taken));
}
