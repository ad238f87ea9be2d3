//! A collector is told the numbers that Prometheus is told.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::cli_support::{Place, exit, wait_for};
use crate::collector::{Collector, attributes};
use crate::support::{Host, get, socket, value};

/// The metrics of the newest request, by name.
fn newest(collector: &Collector) -> Option<BTreeMap<String, Value>> {
    let got = collector.got().into_iter().rfind(|got| got.path == "/v1/metrics")?;
    let metrics = got.body["resourceMetrics"][0]["scopeMetrics"][0]["metrics"].as_array()?.clone();
    Some(metrics.into_iter().map(|metric| (metric["name"].as_str().unwrap().to_owned(), metric)).collect())
}

/// Each series of a scrape: what stands before its value.
fn names(scrape: &str) -> BTreeMap<String, String> {
    let types = scrape.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' '));
    types.map(|(name, kind)| (name.to_owned(), kind.to_owned())).collect()
}

// Red with cumulated buckets.
#[test]
fn every_number_of_the_page_comes_with_its_type_and_its_unit() {
    let collector = Collector::start([]);
    let place = Place::new();
    collector.for_host(&place, "metrics_every_ms = 1000");
    let host = Host::serve(&place);
    place.module("good.wasm", &exit(0));
    place.module("bad.wasm", &exit(3));
    place.run(&["run", "good.wasm"]).exits(0);
    place.run(&["run", "bad.wasm"]).exits(3);
    let attempts = |metrics: &BTreeMap<String, Value>, outcome: &str| {
        let points = metrics["strongroom_attempts_total"]["sum"]["dataPoints"].as_array().unwrap().clone();
        let of =
            |point: &&Value| attributes(&point["attributes"]) == [("outcome".to_owned(), outcome.to_owned())];
        points.iter().find(of).unwrap()["asInt"].as_str().unwrap().to_owned()
    };
    let metrics = wait_for("both attempts", || {
        newest(&collector)
            .filter(|metrics| attempts(metrics, "succeeded") == "1" && attempts(metrics, "failed") == "1")
    });
    let scrape = get(&socket(&place), "/metrics").body;
    for (name, kind) in names(&scrape) {
        // A family without a sample is not sent.
        if value_of(&scrape, &name).is_none() {
            assert!(!metrics.contains_key(&name), "{name}");
            continue;
        }
        let metric = metrics.get(&name).unwrap_or_else(|| panic!("{name} did not come"));
        let data = match kind.as_str() {
            "counter" => &metric["sum"],
            kind => &metric[kind],
        };
        let points = data["dataPoints"].as_array().unwrap_or_else(|| panic!("{name}: {metric}"));
        if kind != "gauge" {
            assert_eq!(data["aggregationTemporality"], 2, "{name}");
            assert!(points[0]["startTimeUnixNano"].is_string(), "{name}");
        }
        if kind == "counter" {
            assert_eq!(data["isMonotonic"], true, "{name}");
        }
        let unit = if name.ends_with("_seconds") {
            "s"
        } else if name.ends_with("_bytes") {
            "By"
        } else {
            "1"
        };
        assert_eq!(metric["unit"], unit, "{name}");
    }
    for (name, metric) in &metrics {
        assert!(scrape.contains(&format!("# TYPE {name} ")), "{name} is on no page");
        let Some(point) = metric["histogram"]["dataPoints"].get(0) else { continue };
        let counts: Vec<u64> = point["bucketCounts"]
            .as_array()
            .unwrap()
            .iter()
            .map(|count| count.as_str().unwrap().parse().unwrap())
            .collect();
        let bounds = point["explicitBounds"].as_array().unwrap();
        assert_eq!(counts.len(), bounds.len() + 1, "{name}");
        assert!(bounds.is_sorted_by(|one, other| one.as_f64() < other.as_f64()), "{name}");
        assert_eq!(counts.iter().sum::<u64>().to_string(), point["count"].as_str().unwrap(), "{name}");
    }
    let took = &metrics["strongroom_attempt_seconds"]["histogram"]["dataPoints"][0];
    assert_eq!(took["count"], "2");
    assert_eq!(value(&scrape, "strongroom_attempt_seconds_count"), Some(2.0));
    assert_eq!(value(&scrape, "strongroom_queue_wait_seconds_count"), Some(2.0));
    let sent = value(&scrape, r#"strongroom_telemetry_spans_total{fate="dropped"}"#);
    assert_eq!(sent, Some(0.0));
    host.stop();
}

/// Any sample of a family.
fn value_of<'s>(scrape: &'s str, name: &str) -> Option<&'s str> {
    let mut lines = scrape.lines().filter(|line| !line.starts_with('#'));
    lines.find(|line| {
        let series = line.split(['{', ' ']).next().unwrap();
        series == name || series.strip_prefix(name) == Some("_count")
    })
}
