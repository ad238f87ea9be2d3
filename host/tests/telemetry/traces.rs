//! One trace for the whole way of each job.

use std::collections::{BTreeMap, BTreeSet};

use crate::cli_support::{LOOP, Place, exit};
use crate::collector::{Collector, Span};
use crate::support::Host;

/// All that may be told of a job.
const TOLD: [&str; 7] = [
    "strongroom.job",
    "strongroom.tenant",
    "strongroom.queue",
    "strongroom.attempt",
    "strongroom.attempts",
    "strongroom.outcome",
    "strongroom.limit",
];

fn named<'s>(spans: &'s [Span], name: &str) -> &'s Span {
    let mut found = spans.iter().filter(|span| span.name == name);
    let span = found.next().unwrap_or_else(|| panic!("no {name} in {spans:?}"));
    assert!(found.next().is_none(), "{name} twice in {spans:?}");
    span
}

/// Runs a job with these options, and gives its id.
fn job(place: &Place, arguments: &[&str], code: i32) -> String {
    let said = place.run(&[&["run", "--json"], arguments].concat());
    assert_eq!(said.code, code, "{said:?}");
    let text = String::from_utf8(said.stdout).unwrap();
    let line = text.lines().find(|line| line.contains("\"job\"")).unwrap_or_else(|| panic!("{text}"));
    let line: serde_json::Value = serde_json::from_str(line).unwrap();
    line["job"].as_str().unwrap().to_owned()
}

// Red without `over` in `Board::hear` (no root), and without `steps.was` (no run).
#[test]
fn a_trace_is_the_whole_way_of_a_job() {
    let collector = Collector::start([]);
    let place = Place::new();
    collector.for_host(&place, "");
    let host = Host::serve(&place);
    place.module("good.wasm", &exit(0));
    let id = job(&place, &["good.wasm"], 0);
    let spans = collector.trace(&id);
    let names: BTreeSet<_> = spans.iter().map(|span| span.name.as_str()).collect();
    let parts = ["load module", "prepare", "instantiate", "run", "keep output", "commit"];
    assert_eq!(names, ["job", "accept", "queue", "attempt"].into_iter().chain(parts).collect());
    let root = named(&spans, "job");
    assert_eq!(root.parent, "", "{root:?}");
    for name in ["accept", "queue", "attempt"] {
        assert_eq!(named(&spans, name).parent, root.id);
    }
    let attempt = named(&spans, "attempt");
    for name in parts {
        let part = named(&spans, name);
        assert_eq!(part.parent, attempt.id);
        assert!(attempt.from <= part.from && part.to <= attempt.to, "{part:?} in {attempt:?}");
    }
    for pair in parts.windows(2) {
        assert!(named(&spans, pair[0]).to <= named(&spans, pair[1]).from, "{pair:?} in {spans:?}");
    }
    let ids: BTreeSet<_> = spans.iter().map(|span| span.id.as_str()).collect();
    assert_eq!(ids.len(), spans.len(), "each has its own name");
    for span in &spans {
        assert_eq!((span.id.len(), span.trace.as_str()), (16, id.as_str()));
        assert!(span.from <= span.to && span.from > 1_700_000_000_000_000_000, "{span:?}");
        assert_eq!(span.attribute("strongroom.job"), Some(id.as_str()));
        assert_eq!(span.attribute("strongroom.tenant"), Some("default"));
        assert_eq!(span.attribute("strongroom.queue"), Some("default"));
        assert_eq!(span.status, 0);
    }
    assert_eq!(attempt.attribute("strongroom.outcome"), Some("succeeded"));
    assert_eq!(
        (attempt.attribute("strongroom.attempt"), root.attribute("strongroom.attempts")),
        (Some("1"), Some("1"))
    );
    host.stop();
}

// Red with `false` in place of `is_error`.
#[test]
fn how_a_job_ended_is_told_and_each_attempt_of_it() {
    let collector = Collector::start([]);
    let place = Place::new();
    collector.for_host(&place, "");
    let host = Host::serve(&place);
    place.module("bad.wasm", &exit(3));
    place.module("loop.wasm", LOOP);
    let failed = job(&place, &["bad.wasm", "--retries", "1"], 3);
    let slow = job(&place, &["loop.wasm", "--timeout", "100ms"], 124);
    let spans = collector.trace(&failed);
    let attempts: BTreeMap<_, _> = spans
        .iter()
        .filter(|span| span.name == "attempt")
        .map(|span| (span.attribute("strongroom.attempt").unwrap(), span))
        .collect();
    assert_eq!(attempts.keys().copied().collect::<Vec<_>>(), ["1", "2"]);
    assert!(
        attempts
            .values()
            .all(|span| span.status == 2 && span.attribute("strongroom.outcome") == Some("failed"))
    );
    assert!(attempts["1"].to <= attempts["2"].from, "{attempts:?}");
    let root = named(&spans, "job");
    assert_eq!((root.status, root.attribute("strongroom.attempts")), (2, Some("2")));
    let spans = collector.trace(&slow);
    let attempt = named(&spans, "attempt");
    assert_eq!(attempt.attribute("strongroom.outcome"), Some("exceeded"));
    assert_eq!(attempt.attribute("strongroom.limit"), Some("wall-time"));
    let run = named(&spans, "run");
    assert!(run.to - run.from >= 90_000_000, "the guest had its 100 ms: {run:?}");
    host.stop();
}

#[test]
fn a_trace_goes_on_over_a_restart_and_ends_however_the_job_does() {
    let collector = Collector::start([]);
    let place = Place::new();
    collector.for_host(&place, "metrics = false");
    let host = Host::serve(&place);
    place.module("good.wasm", &exit(0));
    place.run(&["queue", "pause", "default"]).exits(0);
    let ids = [(); 2].map(|()| place.run(&["submit", "good.wasm"]).exits(0).out().trim().to_owned());
    host.stop();
    let accepted: Vec<_> = collector.spans();
    assert_eq!(accepted.iter().map(|span| span.name.as_str()).collect::<Vec<_>>(), ["accept", "accept"]);
    let host = Host::serve(&place);
    place.run(&["job", "cancel", &ids[1]]).exits(0);
    place.run(&["queue", "resume", "default"]).exits(0);
    let spans = collector.trace(&ids[0]);
    assert_eq!(named(&spans, "accept").parent, named(&spans, "job").id);
    assert_eq!(named(&spans, "attempt").attribute("strongroom.outcome"), Some("succeeded"));
    let spans = collector.trace(&ids[1]);
    let names: BTreeSet<_> = spans.iter().map(|span| span.name.as_str()).collect();
    assert_eq!(names, BTreeSet::from(["accept", "job"]), "it was never tried");
    let root = named(&spans, "job");
    assert_eq!((root.attribute("strongroom.outcome"), root.status), (Some("cancelled"), 0));
    host.stop();
    assert!(collector.got().iter().all(|got| got.path == "/v1/traces"), "metrics are off");
}

// Red without the labels in `Subject::of`.
#[test]
fn a_job_belongs_under_the_span_that_its_client_names() {
    let collector = Collector::start([]);
    let place = Place::new();
    collector.for_host(&place, "");
    let host = Host::serve(&place);
    place.module("good.wasm", &exit(0));
    let label = "traceparent=00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00";
    let id = job(&place, &["good.wasm", "--label", label], 0);
    let spans = collector.trace("4bf92f3577b34da6a3ce929d0e0e4736");
    let root = named(&spans, "job");
    assert_eq!(
        (root.parent.as_str(), root.attribute("strongroom.job")),
        ("00f067aa0ba902b7", Some(id.as_str()))
    );
    assert_eq!(named(&spans, "attempt").parent, root.id);
    let broken = job(&place, &["good.wasm", "--label", "traceparent=whatever I like"], 0);
    assert_eq!(named(&collector.trace(&broken), "job").parent, "");
    host.stop();
}

// Red with another attribute on an attempt.
#[test]
fn nothing_that_a_client_or_a_guest_says_is_told() {
    let collector = Collector::start([]);
    let place = Place::new();
    collector.for_host(&place, "");
    let host = Host::serve(&place);
    let text = "(module (func $private-name unreachable) (func (export \"_start\") call $private-name) (memory (export \"memory\") 1))";
    place.module("trap.wasm", text);
    place.file("private-input", "private-input");
    let options = [
        "trap.wasm",
        "--input",
        "private-input",
        "--label",
        "ticket=private-label",
        "--env",
        "KEY=private-env",
    ];
    let id = job(&place, &[&options[..], &["--", "private-argument"]].concat(), 122);
    let spans = collector.trace(&id);
    let told: BTreeSet<_> =
        spans.iter().flat_map(|span| &span.attributes).map(|(key, _)| key.as_str()).collect();
    assert!(told.iter().all(|key| TOLD.contains(key)), "{told:?}");
    assert_eq!(named(&spans, "attempt").attribute("strongroom.outcome"), Some("trapped"));
    host.stop();
    for got in collector.got() {
        assert!(!got.text.contains("private"), "{}", got.text);
        let resource = [&got.body["resourceSpans"], &got.body["resourceMetrics"]];
        let resource = resource.into_iter().find(|list| list.is_array()).unwrap();
        let about = crate::collector::attributes(&resource[0]["resource"]["attributes"]);
        assert!(about.contains(&("service.name".to_owned(), "strongroom".to_owned())), "{about:?}");
    }
}
