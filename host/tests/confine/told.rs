//! What the service manager is told, by a manager that is this test.

use std::os::unix::net::UnixDatagram;
use std::process::Command;
use std::time::Duration;

use super::cli_support::{Place, Running, start};

/// Far longer than the host is silent, so that a busy machine does not matter.
const PATIENCE: Duration = Duration::from_secs(60);

fn hears(manager: &UnixDatagram) -> String {
    let mut words = [0; 4096];
    let length = loop {
        match manager.recv(&mut words) {
            // A machine that was stopped and goes on wakes whoever waits so.
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            heard => break heard.expect("the host says something"),
        }
    };
    String::from_utf8(words[..length].to_vec()).unwrap()
}

fn serve(place: &Place, variables: &[(&str, &str)]) -> Running {
    let mut command: Command = place.command(&["serve", "--listen", "127.0.0.1:0"]);
    start(command.envs(variables.iter().copied()))
}

// Without `keep_telling` in `until_stopped` it waits for the watchdog's word in vain.
#[test]
fn the_manager_hears_that_the_host_serves_is_well_and_stops() {
    let place = Place::new();
    let path = place.path().join("manager");
    let manager = UnixDatagram::bind(&path).unwrap();
    manager.set_read_timeout(Some(PATIENCE)).unwrap();
    let variables = [("NOTIFY_SOCKET", path.to_str().unwrap()), ("WATCHDOG_USEC", "300000")];
    let running = serve(&place, &variables);
    let first = hears(&manager);
    assert!(first.starts_with("READY=1\nSTATUS=serving, 127.0.0.1:"), "{first}");
    // Not before clients can find it.
    assert!(place.data().join("live.json").exists());
    for _ in 0..3 {
        assert_eq!(hears(&manager), "WATCHDOG=1\n");
    }
    running.signal("TERM");
    // What was under way when it was told to stop comes first.
    let last =
        std::iter::repeat_with(|| hears(&manager)).take(100).find(|words| words != "WATCHDOG=1\n").unwrap();
    // Running jobs may finish for 30 s, and the watchdog waits for a minute more.
    assert!(last.starts_with("STOPPING=1\nWATCHDOG_USEC=90000000\n"), "{last}");
    let said = running.finish().exits(0);
    assert!(!said.stderr.contains("ERROR"), "{said:?}");
    // To be asked whether it is well is no record.
    let records = place.run(&["audit", "show", "--json"]).exits(0).lines();
    let kinds: Vec<_> = records.iter().map(|entry| entry["record"]["type"].as_str().unwrap()).collect();
    assert_eq!(
        kinds.iter().filter(|kind| !kind.starts_with("host-") && **kind != "configuration-changed").count(),
        0,
        "{kinds:?}"
    );
}

#[test]
fn a_watchdog_that_is_meant_for_another_process_is_not_answered() {
    let place = Place::new();
    let path = place.path().join("manager");
    let manager = UnixDatagram::bind(&path).unwrap();
    manager.set_read_timeout(Some(PATIENCE)).unwrap();
    let socket = path.to_str().unwrap();
    let variables = [("NOTIFY_SOCKET", socket), ("WATCHDOG_USEC", "300000"), ("WATCHDOG_PID", "1")];
    let running = serve(&place, &variables);
    assert!(hears(&manager).starts_with("READY=1\n"));
    // A job's time, in which a host that answered would have spoken first.
    std::thread::sleep(Duration::from_secs(1));
    running.signal("TERM");
    assert!(hears(&manager).starts_with("STOPPING=1\n"));
    running.finish().exits(0);
}

/// A manager that is not there, or an address that is none: the host serves, since nobody's security hangs on it.
#[test]
fn a_manager_that_cannot_be_told_keeps_no_host_from_serving() {
    let place = Place::new();
    for address in ["/nowhere/at/all", "relative", "@", ""] {
        let running = serve(&place, &[("NOTIFY_SOCKET", address), ("WATCHDOG_USEC", "nonsense")]);
        super::cli_support::wait_for("it to listen", || {
            place.data().join("live.json").exists().then_some(())
        });
        running.signal("TERM");
        running.finish().exits(0);
    }
}
