//! Other people's code reads what is sent: OpenTelemetry's own classes, strictly.
//!
//! With `STRONGROOM_OTLP=required` they must be installed; else this test says that it was skipped.

use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};

use serde_json::Value;

use crate::cli_support::{Place, exit, wait_for};
use crate::support::{Host, configure, get, socket};

struct Receiver {
    child: Child,
    port: u16,
    said: Arc<Mutex<Vec<Value>>>,
}

impl Drop for Receiver {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Receiver {
    fn start() -> Option<Self> {
        #[expect(clippy::disallowed_methods, reason = "what must be tested is said from outside")]
        let required = std::env::var("STRONGROOM_OTLP").is_ok_and(|word| word == "required");
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/telemetry/receiver.py");
        let spawned =
            Command::new("python3").arg(script).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
        let mut child = match spawned {
            Ok(child) => child,
            Err(error) => {
                assert!(!required, "python3 must be installed: {error}");
                println!("NOT TESTED: no python3");
                return None;
            }
        };
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
        let Some(port) = lines.next() else {
            let said = child.wait_with_output().unwrap();
            assert!(!required, "opentelemetry-proto must be installed: {said:?}");
            println!("NOT TESTED: no opentelemetry-proto for python3");
            return None;
        };
        let said = Arc::new(Mutex::new(Vec::new()));
        let all = Arc::clone(&said);
        std::thread::spawn(move || {
            lines.for_each(|line| all.lock().unwrap().push(serde_json::from_str(&line).unwrap()));
        });
        Some(Self { child, port: port.parse().unwrap(), said })
    }

    fn said(&self) -> Vec<Value> {
        self.said.lock().unwrap().clone()
    }
}

// Red with `bounds` for `explicitBounds`, and with cumulated buckets: the receiver refuses what the protocol does not have.
#[test]
fn classes_of_opentelemetry_read_every_trace_and_every_metric() {
    let Some(receiver) = Receiver::start() else { return };
    let place = Place::new();
    let to =
        format!("[telemetry]\nto = \"otlp+http://127.0.0.1:{}\"\nmetrics_every_ms = 1000", receiver.port);
    configure(&place, "", &to);
    let host = Host::serve(&place);
    place.module("good.wasm", &exit(0));
    place.module("bad.wasm", &exit(3));
    place.run(&["run", "good.wasm"]).exits(0);
    place.run(&["run", "bad.wasm"]).exits(3);
    place.run(&["run", "good.wasm", "--queue", "nowhere"]).exits(120);
    let spans = || -> Vec<Value> {
        receiver.said().iter().filter_map(|said| said["spans"].as_array().cloned()).flatten().collect()
    };
    wait_for("two jobs and the metrics of them", || {
        let refused: Vec<_> =
            receiver.said().into_iter().filter(|said| said.get("refused").is_some()).collect();
        assert!(refused.is_empty(), "{refused:?}");
        let roots = spans().iter().filter(|span| span["name"] == "job").count();
        let told = receiver.said().iter().any(|said| said["metrics"]["strongroom_refusals_total"].is_array());
        (roots == 2 && told).then_some(())
    });
    let (spans, scrape) = (spans(), get(&socket(&place), "/metrics").body);
    let traces: BTreeSet<_> = spans.iter().map(|span| span["trace"].as_str().unwrap()).collect();
    assert_eq!((traces.len(), spans.len()), (2, 20));
    for span in &spans {
        assert_eq!(span["attributes"]["strongroom.job"], span["trace"]);
    }
    let newest = receiver.said().into_iter().rfind(|said| said.get("metrics").is_some()).unwrap();
    let sent: BTreeSet<_> = newest["metrics"].as_object().unwrap().keys().cloned().collect();
    assert!(sent.len() > 30, "{sent:?}");
    for name in sent {
        assert!(scrape.contains(&format!("# TYPE {name} ")), "{name}");
    }
    host.stop();
}
