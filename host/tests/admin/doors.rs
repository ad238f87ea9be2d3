//! `allow_from`: whoever is not in the list is not answered, and is counted.

use std::io::ErrorKind;
use std::net::{SocketAddr, UdpSocket};

use crate::cli_support::{Place, wait_for};
use crate::support::{Host, ask, configure, get, get_tcp, socket, value};

fn outside(place: &Place, listener: &str) -> f64 {
    let scrape = get(&socket(place), "/metrics").body;
    value(&scrape, &format!("strongroom_outside_total{{listener=\"{listener}\"}}")).unwrap()
}

/// A QUIC packet of a version that nobody speaks, which is answered with a list of versions before anything else is looked at.
fn unknown_version() -> Vec<u8> {
    let mut packet = vec![0; 1200];
    packet[..6].copy_from_slice(&[0xc0, 0x0a, 0x0a, 0x0a, 0x0a, 8]);
    packet[14] = 8;
    packet
}

// Red without the test of the address in `Gate::poll_recv`.
#[test]
fn who_is_not_in_the_list_gets_no_packet_back() {
    let place = Place::new();
    configure(&place, "allow_from = [\"127.0.0.2\"]", "");
    let host = Host::serve(&place);
    let to = host.address("listening");
    let from = |address: &str| UdpSocket::bind((address, 0)).unwrap();
    let (outsider, insider) = (from("127.0.0.1"), from("127.0.0.2"));
    outsider.send_to(&unknown_version(), to).unwrap();
    // Its packet is behind the other one: once it is answered, that one has been dealt with.
    insider.send_to(&unknown_version(), to).unwrap();
    let mut answer = [0; 1500];
    let (length, by) = insider.recv_from(&mut answer).unwrap();
    assert_eq!((by, &answer[1..5]), (to, [0; 4].as_slice()), "a list of versions");
    assert!(length > 5);
    outsider.set_nonblocking(true).unwrap();
    assert_eq!(outsider.recv_from(&mut answer).unwrap_err().kind(), ErrorKind::WouldBlock);
    assert_eq!(outside(&place, "jobs"), 1.0);
    host.stop();
}

#[test]
fn who_is_in_the_list_is_served() {
    let place = Place::new();
    configure(&place, "allow_from = [\"192.0.2.0/24\", \"127.0.0.0/8\"]", "");
    let host = Host::serve(&place);
    place.module("exit.wasm", &crate::cli_support::exit(7));
    place.run(&["run", "exit.wasm"]).exits(7);
    assert_eq!(outside(&place, "jobs"), 0.0);
    host.stop();
}

// Red without the test of the address in `Ear::accept`.
#[test]
fn a_connection_from_elsewhere_is_closed_before_a_byte_is_read() {
    let place = Place::new();
    configure(
        &place,
        "serve_log = \"127.0.0.1:0\"\nserve_log_allow_from = [\"127.0.0.2\"]",
        "[admin]\nlisten = \"127.0.0.1:0\"\nallow_from = [\"192.0.2.0/24\"]",
    );
    let host = Host::serve(&place);
    for (listener, page) in [("log", "/checkpoint"), ("admin", "/health/live")] {
        assert!(get_tcp(host.address(listener), page).is_none(), "{listener}");
        wait_for("the count", || (outside(&place, listener) == 1.0).then_some(()));
    }
    host.stop();
}

#[test]
fn over_tcp_there_is_less_to_see() {
    let place = Place::new();
    configure(&place, "", "[admin]\nlisten = \"127.0.0.1:0\"\nallow_from = [\"127.0.0.1\"]");
    let host = Host::serve(&place);
    let address: SocketAddr = host.address("admin");
    let status = |page: &str| get_tcp(address, page).unwrap().status;
    assert_eq!(["/metrics", "/health/live", "/health/ready"].map(status), [200; 3]);
    assert_eq!(status("/status"), 404, "who reads it must be on this machine, and be who runs it");
    // It is a line of `Inside` alone.
    let post = |page: &str| ask(std::net::TcpStream::connect(address).unwrap(), "POST", page).unwrap().status;
    assert_eq!(
        (status("/reload"), post("/reload")),
        (404, 405),
        "likewise who has it read its configuration"
    );
    host.stop();
}
