//! Names that a component looks up through `wasi:sockets`, with a resolver that means it no good.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod common;

use std::collections::VecDeque;
use std::io;
use std::net::{IpAddr, TcpListener};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use common::{Ran, run, small};
use strongroom_runtime::{
    Destination, Engine, EngineConfig, Grant, Hosts, HttpHost, HttpRule, LimitKind, Limits, Lookup, Module,
    Outcome, Protocol, Resolve, Resolver,
};

const PUBLIC: &str = "93.184.216.34";

/// Gives each lookup the next answers; then the last ones again. Without any it is silent for ever.
#[derive(Clone, Debug, Default)]
struct Hostile(Arc<Script>);

#[derive(Debug, Default)]
struct Script {
    answers: Mutex<VecDeque<Vec<IpAddr>>>,
    asked: AtomicUsize,
    names: Mutex<Vec<String>>,
}

impl Resolve for Hostile {
    fn lookup(&self, name: &str) -> Lookup {
        self.0.asked.fetch_add(1, Ordering::SeqCst);
        self.0.names.lock().unwrap().push(name.to_owned());
        let mut answers = self.0.answers.lock().unwrap();
        let answer = if answers.len() > 1 { answers.pop_front() } else { answers.front().cloned() };
        match answer {
            None => Box::pin(std::future::pending()),
            Some(answer) if answer.is_empty() => {
                Box::pin(std::future::ready(Err(io::Error::other("no such name"))))
            }
            Some(answer) => Box::pin(async move {
                tokio::time::sleep(Duration::from_millis(20)).await;
                Ok(answer)
            }),
        }
    }
}

/// One engine, one compilation; each run puts its own script into the one resolver.
struct Stage {
    module: Module,
    resolver: Hostile,
}

/// The tests share the resolver, so they take turns.
static TURN: Mutex<()> = Mutex::new(());

fn stage() -> &'static Stage {
    static STAGE: OnceLock<Stage> = OnceLock::new();
    STAGE.get_or_init(|| {
        let resolver = Hostile::default();
        let config = EngineConfig { resolver: Resolver::new(resolver.clone()), ..small() };
        let module = Engine::new(config).unwrap().compile(include_bytes!("fixtures/netcat.wasm")).unwrap();
        Stage { module, resolver }
    })
}

/// What came of `steps`, and the names that were looked up.
fn does(grant: Grant, script: &[&[&str]], limits: &Limits, steps: &[&str]) -> (Ran, Vec<String>) {
    let _turn = TURN.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let Stage { module, resolver } = stage();
    let parsed = script.iter().map(|answer| answer.iter().map(|text| text.parse().unwrap()).collect());
    *resolver.0.answers.lock().unwrap() = parsed.collect();
    resolver.0.names.lock().unwrap().clear();
    let ran = run(module, &grant.arg("netcat").args(steps.iter().copied()), limits);
    (ran, resolver.0.names.lock().unwrap().clone())
}

fn to(host: &str, port: u16) -> Destination {
    let net = host.parse::<IpAddr>().map(Into::into);
    let hosts = net.map_or_else(|_| Hosts::Name(host.to_owned()), Hosts::Net);
    Destination { protocol: Protocol::Tcp, hosts, ports: port..=port }
}

fn denied(ran: &Ran) -> Vec<String> {
    ran.report.reached.iter().filter(|entry| !entry.granted).map(|entry| entry.what.to_string()).collect()
}

fn silent_listener() -> (TcpListener, u16) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let port = listener.local_addr().unwrap().port();
    (listener, port)
}

// Red with wasmtime's own lookup left in place, turned on.
#[test]
fn only_granted_names_are_looked_up() {
    let rule = HttpRule {
        methods: Vec::new(),
        tls: true,
        host: HttpHost::Name("http.test".to_owned()),
        port: 443,
        path: "/".to_owned(),
    };
    let grant = Grant::none().connect(to("site.test", 443)).http(rule);
    let names = [
        "site.test",
        "http.test",
        "localhost",
        "other.test",
        "sub.site.test",
        "127.1",
        "0x7f.1",
        "2130706433",
        "",
    ];
    let steps: Vec<&str> = names.iter().flat_map(|name| ["resolve", name]).collect();
    let (ran, asked) = does(grant, &[&[PUBLIC]], &Limits::default(), &steps);
    let lines: Vec<_> = ran.text().lines().map(ToOwned::to_owned).collect();
    assert_eq!(lines[..2], [format!("resolve: {PUBLIC}"), format!("resolve: {PUBLIC}")]);
    assert!(lines[2..].iter().all(|line| line.starts_with("resolve: refused: ")), "{lines:?}");
    assert_eq!(asked, ["site.test", "http.test"]);
    let told = denied(&ran);
    assert!(told.contains(&"resolve localhost".to_owned()), "{told:?}");
    assert!(told.contains(&"resolve other.test".to_owned()), "{told:?}");
    assert!(told.contains(&"resolve sub.site.test".to_owned()), "{told:?}");

    let (ran, asked) = does(Grant::none(), &[&[PUBLIC]], &Limits::default(), &["resolve", "site.test"]);
    assert!(ran.text().starts_with("resolve: refused: "), "{}", ran.text());
    assert_eq!((denied(&ran), asked), (vec!["resolve site.test".to_owned()], vec![]));
}

#[test]
fn an_address_in_text_needs_no_lookup_and_opens_nothing() {
    let (listener, port) = silent_listener();
    let connect = format!("127.0.0.1:{port}");
    let steps = ["resolve", "127.0.0.1", "resolve", "::1", "connect", &connect];
    let (ran, asked) = does(Grant::none(), &[], &Limits::default(), &steps);
    assert_eq!(ran.text(), "resolve: 127.0.0.1\nresolve: ::1\nconnect: refused: PermissionDenied\n");
    assert!(asked.is_empty());
    assert!(listener.accept().is_err(), "a guest reached the host");
}

// Red without `is_special` in `Rules::resolve` and `permit`.
#[test]
fn a_name_that_leads_to_this_machine_leads_nowhere() {
    let (listener, port) = silent_listener();
    for answer in [
        "127.0.0.1",
        "::ffff:127.0.0.1",
        "169.254.169.254",
        "10.0.0.1",
        "64:ff9b::7f00:1",
        "2002:7f00:1::",
        "::1",
    ] {
        let grant = Grant::none().connect(to("site.test", port));
        let (by_name, by_address) = (format!("site.test:{port}"), format!("127.0.0.1:{port}"));
        let steps = ["resolve", "site.test", "connect", &by_name, "connect", &by_address];
        let (ran, asked) = does(grant, &[&[answer]], &Limits::default(), &steps);
        let text = ran.text();
        assert_eq!(text.lines().filter(|line| line.contains(": refused: ")).count(), 3, "{answer}: {text}");
        assert_eq!(denied(&ran), ["resolve site.test".to_owned(), format!("connect tcp://{by_address}")]);
        assert_eq!(asked.len(), 1, "{answer}");
    }
    assert!(listener.accept().is_err(), "a guest reached the host");
}

// Red with the answers not pinned: the second lookup has another answer.
#[test]
fn a_resolver_that_changes_its_mind_changes_nothing() {
    let (listener, port) = silent_listener();
    // 127.0.0.1 is named exactly, so that there is something to connect to.
    let grant = || Grant::none().connect(to("site.test", port)).connect(to("127.0.0.1", port));
    let server = std::thread::spawn(move || {
        listener.set_nonblocking(false).unwrap();
        let (mut client, _) = listener.accept().unwrap();
        io::Write::write_all(&mut client, b"welcome\n").unwrap();
        // Read what it said, so that closing does not reset the connection.
        io::Read::read(&mut client, &mut [0; 100]).unwrap();
    });
    let by_name = format!("site.test:{port}");
    let steps = ["resolve", "site.test", "resolve", "SITE.test.", "connect", &by_name];
    let (ran, asked) = does(grant(), &[&["127.0.0.1"], &[PUBLIC]], &Limits::default(), &steps);
    assert_eq!(ran.text(), "resolve: 127.0.0.1\nresolve: 127.0.0.1\nconnect: welcome\n");
    assert_eq!(asked, ["site.test"]);
    server.join().unwrap();

    // The other way round: first an ordinary answer, then this machine.
    let (listener, port) = silent_listener();
    let by_address = format!("127.0.0.1:{port}");
    let steps = ["resolve", "site.test", "resolve", "site.test", "connect", &by_address];
    let grant = Grant::none().connect(to("site.test", port));
    let (ran, asked) = does(grant, &[&[PUBLIC], &["127.0.0.1"]], &Limits::default(), &steps);
    let expected = format!("resolve: {PUBLIC}\nresolve: {PUBLIC}\nconnect: refused: PermissionDenied\n");
    assert_eq!((ran.text(), asked.len()), (expected, 1));
    assert!(listener.accept().is_err(), "a guest reached the host");
}

// Red with the driver's deadline taken out.
#[test]
fn a_lookup_that_is_never_answered_is_stopped() {
    let grant = Grant::none().connect(to("site.test", 443));
    let limits = Limits { wall: Duration::from_millis(200), ..Limits::default() };
    let (ran, asked) = does(grant, &[], &limits, &["resolve", "site.test"]);
    assert!(matches!(ran.outcome(), Outcome::Exceeded { limit: LimitKind::Wall, .. }), "{:?}", ran.outcome());
    assert_eq!(asked.len(), 1);
}

// Red without MAX_TRIES.
#[test]
fn a_name_that_nobody_knows_is_given_up() {
    let grant = Grant::none().connect(to("site.test", 443));
    let steps: Vec<&str> = (0..20).flat_map(|_| ["resolve", "site.test"]).collect();
    let (ran, asked) = does(grant, &[&[]], &Limits::default(), &steps);
    assert_eq!(ran.text().lines().filter(|line| line.starts_with("resolve: refused: ")).count(), 20);
    assert!(asked.len() <= 4, "asked {} times", asked.len());
    assert!(denied(&ran).is_empty(), "it was granted: {:?}", denied(&ran));
}

// Red with the system's resolver asked whatever the configuration says.
#[test]
fn the_configured_resolver_is_the_one_that_is_asked() {
    let before = stage().resolver.0.asked.load(Ordering::SeqCst);
    let grant = Grant::none().connect(to("name.invalid", 443));
    let (ran, _) = does(grant, &[&[PUBLIC]], &Limits::default(), &["resolve", "name.invalid"]);
    assert_eq!(ran.text(), format!("resolve: {PUBLIC}\n"));
    assert!(stage().resolver.0.asked.load(Ordering::SeqCst) > before);
}
