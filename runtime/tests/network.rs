//! What a component reaches through `wasi:sockets`: what it was granted, and nothing else. Real servers on loopback.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod common;

use std::io::{BufRead, BufReader, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::OnceLock;
use std::thread::JoinHandle;
use std::time::Duration;

use common::{Ran, bounded, engine, run};
use strongroom_runtime::{
    CancelToken, Destination, Grant, Hosts, LimitKind, Limits, Listener, Module, Outcome, Protocol, Sandbox,
    Stdio,
};

/// How long a server of a test waits for a guest that does not come.
const PATIENCE: Duration = Duration::from_secs(20);

fn netcat() -> Module {
    static NETCAT: OnceLock<Module> = OnceLock::new();
    NETCAT.get_or_init(|| engine().compile(include_bytes!("fixtures/netcat.wasm")).unwrap()).clone()
}

fn to(protocol: Protocol, net: &str, port: u16) -> Destination {
    let net = net.parse().or_else(|_| net.parse::<IpAddr>().map(Into::into)).unwrap();
    Destination { protocol, hosts: Hosts::Net(net), ports: port..=port }
}

fn at(protocol: Protocol, address: SocketAddr) -> Listener {
    Listener { protocol, address }
}

fn does(grant: Grant, steps: &[&str]) -> Ran {
    does_within(grant, &Limits::default(), steps)
}

fn does_within(grant: Grant, limits: &Limits, steps: &[&str]) -> Ran {
    run(&netcat(), &grant.arg("netcat").args(steps.iter().copied()), limits)
}

/// What it was denied, with how often.
fn denied(ran: &Ran) -> Vec<(String, u64)> {
    let denied = ran.report.reached.iter().filter(|entry| !entry.granted);
    denied.map(|entry| (entry.what.to_string(), entry.count)).collect()
}

/// A listener, its address, and its port.
fn listener() -> (TcpListener, String, u16) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address.to_string(), address.port())
}

/// Nobody connected, ever.
fn is_untouched(listener: &TcpListener) {
    listener.set_nonblocking(true).unwrap();
    assert!(listener.accept().is_err(), "a guest reached the host");
}

/// Answers one client that says hello.
fn greet(listener: TcpListener) -> JoinHandle<()> {
    std::thread::spawn(move || {
        let (mut client, _) = listener.accept().unwrap();
        client.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut said = String::new();
        BufReader::new(&client).read_line(&mut said).unwrap();
        assert_eq!(said, "hello\n");
        client.write_all(b"welcome\n").unwrap();
    })
}

fn datagrams() -> (UdpSocket, String, u16) {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let address = socket.local_addr().unwrap();
    (socket, address.to_string(), address.port())
}

#[test]
fn an_address_that_is_named_exactly_is_reached_over_tcp() {
    let (listener, address, port) = listener();
    let server = greet(listener);
    let ran =
        does(Grant::none().connect(to(Protocol::Tcp, "127.0.0.1", port)).observe(), &["connect", &address]);
    assert_eq!(ran.text(), "connect: welcome\n");
    server.join().unwrap();
    let told: Vec<_> =
        ran.report.reached.iter().map(|entry| (entry.what.to_string(), entry.granted)).collect();
    assert!(told.contains(&(format!("connect tcp://{address}"), true)), "{told:?}");
    assert_eq!(denied(&ran), []);
}

// Red with `is_special` false, and with `Watch::allows` true for TcpConnect.
#[test]
fn what_is_not_granted_is_refused_and_told() {
    let (listener, address, port) = listener();
    for (grant, why) in [
        (Grant::none(), "nothing at all"),
        (Grant::none().connect(to(Protocol::Tcp, "0.0.0.0/0", port)), "the internet"),
        (Grant::none().connect(to(Protocol::Tcp, "::/0", port)), "the other internet"),
        (Grant::none().connect(to(Protocol::Tcp, "127.0.0.2", port)), "another address"),
        (Grant::none().connect(to(Protocol::Tcp, "127.0.0.1", port ^ 1)), "another port"),
        (Grant::none().connect(to(Protocol::Udp, "127.0.0.1", port)), "another protocol"),
        (Grant::none().listen(at(Protocol::Tcp, address.parse().unwrap())), "listening only"),
    ] {
        let ran = does(grant, &["connect", &address, "connect", &address, "connect", &address]);
        assert_eq!(ran.text(), "connect: refused: PermissionDenied\n".repeat(3), "{why}");
        assert_eq!(denied(&ran), [(format!("connect tcp://{address}"), 3)], "{why}");
        assert_eq!(ran.outcome(), &Outcome::Exited(0), "{why}");
    }
    is_untouched(&listener);
}

// Red with `is_special` false.
#[test]
fn the_internet_holds_no_private_address() {
    let everywhere =
        || Grant::none().connect(to(Protocol::Tcp, "0.0.0.0/0", 80)).connect(to(Protocol::Tcp, "::/0", 80));
    for address in [
        "10.0.0.5:80",
        "192.168.1.1:80",
        "169.254.169.254:80",
        "100.100.100.200:80",
        "[::1]:80",
        "[fe80::1]:80",
        "[fd00:ec2::254]:80",
        "[64:ff9b::7f00:1]:80",
        "[2002:7f00:1::]:80",
    ] {
        let ran = does(everywhere(), &["connect", address]);
        assert_eq!(ran.text(), "connect: refused: PermissionDenied\n", "{address}");
        assert_eq!(denied(&ran), [(format!("connect tcp://{address}"), 1)]);
    }
}

/// wasmtime takes such an address for invalid before anybody is asked; the gate's own judgement has its tests there.
#[test]
fn a_mapped_form_reaches_nothing() {
    let (listener, _, port) = listener();
    let mapped = format!("[::ffff:127.0.0.1]:{port}");
    for grant in [Grant::none(), Grant::none().connect(to(Protocol::Tcp, "::/0", port))] {
        assert!(does(grant, &["connect", &mapped]).text().starts_with("connect: refused: "));
    }
    is_untouched(&listener);
}

#[test]
fn a_granted_peer_is_asked_over_udp() {
    for (step, here) in [("ask", "0.0.0.0:0"), ("ask-connected", "0.0.0.0:0")] {
        let (server, address, port) = datagrams();
        let answering = std::thread::spawn(move || {
            let mut buffer = [0; 100];
            let (n, from) = server.recv_from(&mut buffer).unwrap();
            assert_eq!(&buffer[..n], b"hello");
            server.send_to(b"welcome", from).unwrap();
        });
        let ran = does(Grant::none().connect(to(Protocol::Udp, "127.0.0.1", port)), &[step, here, &address]);
        assert_eq!(ran.text(), format!("{step}: welcome\n"));
        answering.join().unwrap();
    }
}

// Red with `may_send` true.
#[test]
fn datagrams_go_to_granted_peers_only() {
    let (server, address, port) = datagrams();
    for grant in [
        Grant::none(),
        Grant::none().connect(to(Protocol::Tcp, "127.0.0.1", port)),
        Grant::none().connect(to(Protocol::Udp, "0.0.0.0/0", port)),
    ] {
        for step in ["ask", "ask-connected"] {
            let ran = does(grant.clone(), &[step, "0.0.0.0:0", &address]);
            assert_eq!(ran.text(), format!("{step}: refused: PermissionDenied\n"));
            assert_eq!(denied(&ran), [(format!("connect udp://{address}"), 1)]);
        }
    }
    server.set_nonblocking(true).unwrap();
    assert!(server.recv_from(&mut [0; 10]).is_err(), "a datagram came through");
}

// Red with `may_hear` true: the stranger, who was first, is heard.
#[test]
fn a_stranger_is_not_heard() {
    let (server, address, port) = datagrams();
    let (stranger, ..) = datagrams();
    let answering = std::thread::spawn(move || {
        let (_, guest) = server.recv_from(&mut [0; 100]).unwrap();
        stranger.send_to(b"I am not it", guest).unwrap();
        server.send_to(b"welcome", guest).unwrap();
    });
    // That it may serve strangers elsewhere changes nothing for this socket.
    let (unused, elsewhere, _) = datagrams();
    drop(unused);
    let grant = Grant::none()
        .connect(to(Protocol::Udp, "127.0.0.1", port))
        .listen(at(Protocol::Udp, elsewhere.parse().unwrap()));
    assert_eq!(does(grant, &["ask", "0.0.0.0:0", &address]).text(), "ask: welcome\n");
    answering.join().unwrap();
}

/// An address that was free a moment ago.
fn free(protocol: Protocol) -> SocketAddr {
    match protocol {
        Protocol::Tcp => TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap(),
        Protocol::Udp => UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap(),
    }
}

/// A client of a guest that may not be there yet.
fn dial(address: SocketAddr) -> TcpStream {
    for _ in 0..400 {
        if let Ok(client) = TcpStream::connect(address) {
            client.set_read_timeout(Some(PATIENCE)).unwrap();
            return client;
        }
        std::thread::sleep(Duration::from_millis(25));
    }
    panic!("the guest never listened");
}

#[test]
fn a_guest_serves_where_it_was_granted() {
    let address = free(Protocol::Tcp);
    let client = std::thread::spawn(move || {
        let mut client = dial(address);
        client.write_all(b"anybody\n").unwrap();
        let mut answer = String::new();
        BufReader::new(client).read_line(&mut answer).unwrap();
        answer
    });
    let ran = does(Grant::none().listen(at(Protocol::Tcp, address)), &["serve", &address.to_string(), "1"]);
    assert_eq!((ran.text().as_str(), denied(&ran)), ("serve: anybody\n", vec![]));
    assert_eq!(client.join().unwrap(), "served anybody\n");
}

#[test]
fn a_guest_answers_strangers_where_it_may_listen_for_datagrams() {
    let address = free(Protocol::Udp);
    let client = std::thread::spawn(move || {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
        let mut buffer = [0; 100];
        for _ in 0..200 {
            socket.send_to(b"anybody", address).unwrap();
            // Until the guest is there, the system answers that nobody is.
            if let Ok((n, _)) = socket.recv_from(&mut buffer) {
                return buffer[..n].to_vec();
            }
        }
        panic!("the guest never answered");
    });
    let ran = does(Grant::none().listen(at(Protocol::Udp, address)), &["hear", &address.to_string()]);
    assert_eq!((ran.text().as_str(), denied(&ran)), ("hear: anybody\n", vec![]));
    assert_eq!(client.join().unwrap(), b"heard");
}

// Red with `Gate::listens` true.
#[test]
fn a_guest_listens_nowhere_else() {
    let (granted, other) = (free(Protocol::Tcp), free(Protocol::Tcp));
    let wildcard = SocketAddr::from(([0, 0, 0, 0], granted.port()));
    let grants = [
        Grant::none(),
        Grant::none().listen(at(Protocol::Tcp, granted)),
        Grant::none().listen(at(Protocol::Udp, other)).connect(to(Protocol::Tcp, "0.0.0.0/0", other.port())),
    ];
    for grant in grants {
        for address in [other, wildcard] {
            let ran = does(grant.clone(), &["serve", &address.to_string(), "1"]);
            assert_eq!(ran.text(), "serve: refused: PermissionDenied\n", "{address}");
            assert_eq!(denied(&ran), [(format!("listen tcp://{address}"), 1)]);
        }
        // A port of the system's choice is there to be connected from, not to be listened at.
        let ran = does(grant, &["serve", "0.0.0.0:0", "1", "hear", "127.0.0.1:0"]);
        assert_eq!(ran.text(), "serve: refused: PermissionDenied\nhear: refused: PermissionDenied\n");
        let told = denied(&ran);
        assert!(told[0].0.starts_with("listen tcp://0.0.0.0:"), "{told:?}");
        assert_eq!(told[1].0, "listen udp://127.0.0.1:0");
    }
}

fn sockets(sockets: u32) -> Limits {
    Limits { sockets, ..Limits::default() }
}

// Red without `open_socket`, and without `close_socket` in the drops.
#[test]
fn sockets_are_counted_while_they_are_open() {
    let grant = || Grant::none().connect(to(Protocol::Udp, "127.0.0.1", 9));
    let steps = ["sockets", "5", "sockets", "5", "sockets", "6", "sockets", "5"];
    let ran = does_within(grant(), &sockets(5), &steps);
    assert_eq!(ran.text(), "sockets: 5\nsockets: 5\nsockets: 5\nsockets: 5\n");
    assert_eq!(ran.outcome(), &Outcome::Exited(0));

    // A guest that gives up because of it has the limit as its outcome.
    let ran = does_within(grant(), &sockets(5), &["sockets", "6", "fail", "1"]);
    assert_eq!(ran.outcome(), &Outcome::Exceeded { limit: LimitKind::Sockets, allowed: 5, used: 6 });
    let ran = does_within(grant(), &sockets(5), &["sockets", "5", "fail", "1"]);
    assert_eq!(ran.outcome(), &Outcome::Exited(1));
}

// Red without UNGRANTED.
#[test]
fn a_guest_without_a_grant_takes_hardly_any_sockets() {
    let ran = does(Grant::none(), &["sockets", "50"]);
    assert_eq!(ran.text(), "sockets: 2\n");
}

// Red without the count in `accept`.
#[test]
fn accepted_clients_are_sockets_too() {
    for (clients, limit, ends) in [(2, 3, "serve: last\n"), (2, 2, "serve: refused: ")] {
        let address = free(Protocol::Tcp);
        let grant = Grant::none().listen(at(Protocol::Tcp, address));
        let talking = std::thread::spawn(move || {
            let first = dial(address);
            let mut last = dial(address);
            // One that is turned away may notice while it writes.
            let _ = last.write_all(b"last\n");
            let mut answer = String::new();
            let _ = BufReader::new(last).read_line(&mut answer);
            drop(first);
            answer
        });
        let ran = does_within(grant, &sockets(limit), &["serve", &address.to_string(), &clients.to_string()]);
        assert!(ran.text().starts_with(ends), "{limit}: {}", ran.text());
        let answer = talking.join().unwrap();
        assert_eq!(answer, if limit == 3 { "served last\n" } else { "" });
    }
}

/// Fills the queue of a listener that accepts nobody, until the next one who connects waits.
fn full() -> (TcpListener, Vec<TcpStream>, SocketAddr) {
    let listener = bounded(async {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.bind(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
        socket.listen(1).unwrap().into_std().unwrap()
    });
    let address = listener.local_addr().unwrap();
    let mut waiting = Vec::new();
    for _ in 0..16 {
        match TcpStream::connect_timeout(&address, Duration::from_millis(300)) {
            Ok(client) => waiting.push(client),
            Err(_) => return (listener, waiting, address),
        }
    }
    panic!("the queue never filled");
}

// The deadline and the cancel themselves were seen red in `kill.rs`.
#[test]
fn a_connect_or_a_read_that_is_never_answered_is_stopped() {
    let (_full, _waiting, unanswered) = full();
    let (_silent, accepted, _) = listener();
    let quiet = datagrams().1;
    for (step, address) in [
        ("connect", unanswered.to_string()),
        ("connect", accepted),
        ("ask", quiet),
        ("serve", free(Protocol::Tcp).to_string()),
    ] {
        let address: SocketAddr = address.parse().unwrap();
        let port = address.port();
        let grant = Grant::none()
            .connect(to(Protocol::Tcp, "127.0.0.1", port))
            .connect(to(Protocol::Udp, "127.0.0.1", port))
            .listen(at(Protocol::Tcp, address))
            .arg("netcat")
            .arg(step);
        let grant = if step == "ask" { grant.arg("0.0.0.0:0") } else { grant };
        let grant = grant.arg(address.to_string()).arg("1");

        let soon = Limits { wall: Duration::from_millis(200), ..Limits::default() };
        let ran = run(&netcat(), &grant, &soon);
        assert!(
            matches!(ran.outcome(), Outcome::Exceeded { limit: LimitKind::Wall, .. }),
            "{step} {address}: {:?} {}",
            ran.outcome(),
            ran.text()
        );
        assert_eq!(ran.text(), "", "{step}");

        let outcome = bounded(async move {
            let (cancel, limits) = (CancelToken::new(), Limits { wall: PATIENCE * 10, ..Limits::default() });
            let module = netcat();
            let run = Sandbox::run(&module, &grant, &limits, Stdio::null(), &cancel);
            let (report, ()) = tokio::join!(run, async {
                tokio::time::sleep(Duration::from_millis(100)).await;
                cancel.cancel();
            });
            report.unwrap().outcome
        });
        assert_eq!(outcome, Outcome::Cancelled, "{step}");
    }
}

/// There is no call that makes a socket; those that use one have none to use.
#[test]
fn preview_1_has_no_sockets() {
    let (listener, _, port) = listener();
    let wat = r#"(module
        (import "wasi_snapshot_preview1" "sock_accept" (func $accept (param i32 i32 i32) (result i32)))
        (import "wasi_snapshot_preview1" "sock_send" (func $send (param i32 i32 i32 i32 i32) (result i32)))
        (import "wasi_snapshot_preview1" "sock_recv" (func $recv (param i32 i32 i32 i32 i32 i32) (result i32)))
        (import "wasi_snapshot_preview1" "sock_shutdown" (func $shutdown (param i32 i32) (result i32)))
        (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
        (memory (export "memory") 1)
        (func (export "_start") (local $fd i32) (local $worked i32)
            (loop $next
                (if (i32.eqz (call $accept (local.get $fd) (i32.const 0) (i32.const 64)))
                    (then (local.set $worked (i32.add (local.get $worked) (i32.const 1)))))
                (if (i32.eqz (call $send (local.get $fd) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 64)))
                    (then (local.set $worked (i32.add (local.get $worked) (i32.const 1)))))
                (if (i32.eqz (call $recv (local.get $fd) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 64) (i32.const 68)))
                    (then (local.set $worked (i32.add (local.get $worked) (i32.const 1)))))
                (if (i32.eqz (call $shutdown (local.get $fd) (i32.const 2)))
                    (then (local.set $worked (i32.add (local.get $worked) (i32.const 1)))))
                (local.set $fd (i32.add (local.get $fd) (i32.const 1)))
                (br_if $next (i32.lt_u (local.get $fd) (i32.const 64))))
            (call $exit (local.get $worked))))"#;
    let grant = Grant::none()
        .connect(to(Protocol::Tcp, "127.0.0.1", port))
        .listen(at(Protocol::Tcp, free(Protocol::Tcp)));
    let ran = run(&common::module(wat), &grant, &Limits::default());
    assert_eq!(ran.outcome(), &Outcome::Exited(0), "so many calls worked: {}", ran.text());
    is_untouched(&listener);
}
