//! Workers of a host that is confined itself: they do their work within both walls.

use std::fs;

use super::cli_support::print;
use super::serve::{counts, service};

/// The main job, with a volume, fuel, a secret and scratch space, in a worker of `strongroom serve`.
#[test]
fn a_confined_host_has_its_workers_do_its_work() {
    let place = service("isolation = \"process\"");
    place.run_with_input(&["secret", "set", "word"], b"hush").exits(0);
    for round in 1..=2 {
        let serving = place.serve();
        assert_eq!(counts(&place), "2 3 14", "round {round}");
        place.module("says.wasm", &print(1, "hello", 5));
        let secret = ["submit", "--wait", "says.wasm", "--secret", "word", "--fuel", "100000"];
        assert_eq!(place.run(&secret).exits(0).out(), "hello");
        assert_eq!(place.run(&["submit", "--wait", "says.wasm", "--scratch"]).exits(0).out(), "hello");
        let children: Vec<_> = workers_of(serving.pid()).collect();
        let [worker] = &children[..] else { panic!("{children:?}") };
        for set in ["CapInh", "CapPrm", "CapEff", "CapAmb"] {
            assert!(worker.contains(&format!("{set}:\t0000000000000000")), "{worker}");
        }
        assert!(worker.contains("NoNewPrivs:\t1"), "{worker}");
        let said = serving.stop().exits(0);
        for word in ["WARN", "ERROR"] {
            assert!(!said.stderr.contains(word), "{}", said.stderr);
        }
    }
    place.run(&["audit", "verify"]).exits(0);
}

/// What the kernel says of each worker of the host `pid`.
fn workers_of(pid: u32) -> impl Iterator<Item = String> {
    let statuses = fs::read_dir("/proc").unwrap().flatten().filter_map(move |entry| {
        let command = fs::read(entry.path().join("cmdline")).ok()?;
        let is_worker =
            command.split(|byte| *byte == 0).nth(1) == Some(strongroom::worker::COMMAND.as_bytes());
        fs::read_to_string(entry.path().join("status")).ok().filter(|_| is_worker)
    });
    statuses.filter(move |status| status.contains(&format!("PPid:\t{pid}\n")))
}
