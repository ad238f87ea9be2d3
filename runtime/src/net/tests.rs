//! The gate's decisions, with a resolver that plays every trick.

use std::collections::VecDeque;
use std::io;
use std::sync::Mutex;
use std::time::Duration;

use super::resolve::{Lookup, Resolve};
use super::*;
use crate::reach::Reached;

const PUBLIC: &str = "93.184.216.34";

/// Answers from a list, one lookup after the other; then not at all.
#[derive(Debug)]
struct Scripted(Mutex<VecDeque<Vec<&'static str>>>);

impl Resolve for Scripted {
    fn lookup(&self, _: &str) -> Lookup {
        let answers = self.0.lock().unwrap().pop_front();
        Box::pin(std::future::ready(match answers {
            Some(answers) => Ok(answers.iter().map(|text| text.parse().unwrap()).collect()),
            None => Err(io::Error::other("asked once too often")),
        }))
    }
}

fn gate(grant: &Grant, answers: &[&[&'static str]]) -> Gate {
    let script = answers.iter().map(|answer| answer.to_vec()).collect();
    Gate::new(grant, &Ledger::new(grant.observe), &Resolver::new(Scripted(Mutex::new(script))))
}

fn to(hosts: &str, port: u16) -> Destination {
    let net = hosts.parse().or_else(|_| hosts.parse::<IpAddr>().map(Into::into));
    let hosts = net.map_or_else(|_| Hosts::Name(hosts.to_owned()), Hosts::Net);
    Destination { protocol: Protocol::Tcp, hosts, ports: port..=port }
}

fn http(host: HttpHost) -> HttpRule {
    HttpRule { methods: Vec::new(), tls: true, host, port: 443, path: "/".to_owned() }
}

fn at(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

fn ips(texts: &[&str]) -> Vec<IpAddr> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

fn named() -> HttpHost {
    HttpHost::Name("site.test".to_owned())
}

// Red with `permits` true without rules.
#[tokio::test]
async fn nothing_granted_is_nothing_allowed_and_all_of_it_told() {
    let gate = gate(&Grant::none(), &[]);
    assert!(gate.rules.is_none(), "a guest without a network costs something");
    assert!(!gate.allows_connect(Protocol::Tcp, at("10.0.0.5:5432")));
    assert!(!gate.allows_connect(Protocol::Udp, at("[2001:db8::1]:53")));
    assert!(!gate.allows_listen(Protocol::Tcp, at("0.0.0.0:80")));
    assert_eq!(gate.resolve("Site.Test.").await, Err(Refused::NotGranted));
    assert_eq!(gate.addresses_of(&named(), 443).await, Err(Refused::NotGranted));
    let told: Vec<_> = gate.ledger.take().iter().map(|entry| entry.what.to_string()).collect();
    assert_eq!(
        told,
        [
            "connect tcp://10.0.0.5:5432",
            "connect udp://[2001:db8::1]:53",
            "listen tcp://0.0.0.0:80",
            "resolve site.test"
        ]
    );
}

// Red without the comparison of protocols, and of ports.
#[test]
fn protocol_and_port_must_match() {
    let mut rule = to("10.0.0.5", 5432);
    rule.ports = 5432..=5433;
    let gate = gate(&Grant::none().connect(rule), &[]);
    for (protocol, address, allowed) in [
        (Protocol::Tcp, "10.0.0.5:5432", true),
        (Protocol::Tcp, "10.0.0.5:5433", true),
        (Protocol::Tcp, "[::ffff:10.0.0.5]:5432", true),
        (Protocol::Tcp, "10.0.0.5:5431", false),
        (Protocol::Tcp, "10.0.0.5:5434", false),
        (Protocol::Udp, "10.0.0.5:5432", false),
        (Protocol::Tcp, "10.0.0.6:5432", false),
    ] {
        assert_eq!(gate.allows_connect(protocol, at(address)), allowed, "{protocol} {address}");
    }
}

// Red with the second lookup's answers taken, and with `permit` not looking at the pinned ones.
#[tokio::test]
async fn a_name_means_what_it_meant_first() {
    let grant = Grant::none().connect(to("site.test", 443));
    let gate = gate(&grant, &[&[PUBLIC, "::ffff:8.8.8.8", PUBLIC], &["127.0.0.1", "9.9.9.9"]]);
    let address = |ip: &str, port| SocketAddr::new(ip.parse().unwrap(), port);
    assert!(!gate.allows_connect(Protocol::Tcp, address(PUBLIC, 443)), "before any lookup");
    for _ in 0..3 {
        assert_eq!(gate.resolve("SITE.test.").await, Ok(ips(&[PUBLIC, "8.8.8.8"])));
    }
    assert!(gate.allows_connect(Protocol::Tcp, address(PUBLIC, 443)));
    assert!(gate.allows_connect(Protocol::Tcp, address("8.8.8.8", 443)));
    assert!(!gate.allows_connect(Protocol::Tcp, address(PUBLIC, 80)));
    assert!(!gate.allows_connect(Protocol::Udp, address(PUBLIC, 443)));
    assert!(!gate.allows_connect(Protocol::Tcp, address("9.9.9.9", 443)));
    assert!(!gate.allows_connect(Protocol::Tcp, address("127.0.0.1", 443)));
    assert_eq!(gate.resolve("other.test").await, Err(Refused::NotGranted));
}

// Red without `is_special` in `Rules::resolve`; with no answer left not pinned.
#[tokio::test]
async fn a_name_leads_to_no_special_address() {
    for answer in [
        "127.0.0.1",
        "::1",
        "::ffff:127.0.0.1",
        "169.254.169.254",
        "::ffff:169.254.169.254",
        "10.0.0.1",
        "64:ff9b::a00:1",
        "2002:7f00:1::",
        "fe80::1",
        "0.0.0.0",
        "224.0.0.1",
    ] {
        let grant = Grant::none().connect(to("site.test", 443)).connect(to("0.0.0.0/0", 443));
        let gate = gate(&grant, &[&[answer], &[PUBLIC]]);
        assert_eq!(gate.resolve("site.test").await, Err(Refused::Special), "{answer}");
        // It had its chance.
        assert_eq!(gate.resolve("site.test").await, Err(Refused::Special), "{answer}");
        assert!(
            !gate.allows_connect(Protocol::Tcp, SocketAddr::new(answer.parse().unwrap(), 443)),
            "{answer}"
        );
        let told = gate.ledger.take();
        assert_eq!(
            told.first(),
            Some(&Reached {
                what: Reach::Resolve { name: "site.test".to_owned() },
                granted: false,
                count: 2
            })
        );
    }
}

#[tokio::test]
async fn of_mixed_answers_only_the_ordinary_ones_are_left() {
    let grant = Grant::none().connect(to("site.test", 443)).connect(to("10.0.0.1", 80));
    let gate = gate(&grant, &[&["127.0.0.1", PUBLIC, "10.0.0.1", "::1"]]);
    // 10.0.0.1 is named exactly, so its name may be told; reaching it is a matter of the rule that names it.
    assert_eq!(gate.resolve("site.test").await, Ok(ips(&[PUBLIC, "10.0.0.1"])));
    assert!(!gate.allows_connect(Protocol::Tcp, at("10.0.0.1:443")));
    assert!(gate.allows_connect(Protocol::Tcp, at("10.0.0.1:80")));
}

// Red without MAX_ANSWERS and MAX_TRIES.
#[tokio::test]
async fn lookups_are_bounded() {
    let many: Vec<String> = (0..100).map(|n| format!("8.8.8.{n}")).collect();
    let many: Vec<&'static str> = many.into_iter().map(|text| &*text.leak()).collect();
    let grant = Grant::none().connect(to("site.test", 443));
    let full = gate(&grant, &[&many]);
    assert_eq!(full.resolve("site.test").await.unwrap().len(), resolve::MAX_ANSWERS);

    // Empty answers are no answers; after a few the name is given up.
    let empty = gate(&grant, &[&[], &[], &[], &[], &[PUBLIC]]);
    for _ in 0..6 {
        assert_eq!(empty.resolve("site.test").await, Err(Refused::Unknown));
    }
    let late = gate(&grant, &[&[], &[PUBLIC]]);
    assert_eq!(late.resolve("site.test").await, Err(Refused::Unknown));
    assert_eq!(late.resolve("site.test").await, Ok(ips(&[PUBLIC])));
}

/// A resolver that never answers.
#[derive(Debug)]
struct Silent;

impl Resolve for Silent {
    fn lookup(&self, _: &str) -> Lookup {
        Box::pin(std::future::pending())
    }
}

// Red without the timeout: the test hangs.
#[tokio::test]
async fn a_silent_resolver_is_given_up() {
    let grant = Grant::none().connect(to("site.test", 443));
    let mut gate = Gate::new(&grant, &Ledger::new(false), &Resolver::new(Silent));
    gate.rules.as_mut().and_then(Arc::get_mut).unwrap().patience = Duration::from_millis(10);
    assert_eq!(gate.resolve("site.test").await, Err(Refused::Slow));
    assert!(gate.ledger.take().is_empty(), "slow is not denied");
}

// Red without `is_own_service` in `permit`, and in `http_reaches`.
#[tokio::test]
async fn a_wide_net_does_not_open_this_machine() {
    let grant = Grant::none().connect(to("0.0.0.0/0", 443)).connect(to("site.test", 443)).http(http(named()));
    let playing = |grant: &Grant| {
        let mut gate = gate(grant, &[&[PUBLIC]]);
        let rules = gate.rules.as_mut().and_then(Arc::get_mut).unwrap();
        rules.is_own = |ip| ip == IpAddr::from([93, 184, 216, 34]);
        gate
    };
    let own = SocketAddr::new(PUBLIC.parse().unwrap(), 443);
    let gate = playing(&grant);
    assert_eq!(gate.resolve("site.test").await, Ok(ips(&[PUBLIC])));
    assert!(!gate.allows_connect(Protocol::Tcp, own));
    assert!(gate.allows_connect(Protocol::Tcp, at("8.8.8.8:443")));
    assert_eq!(gate.addresses_of(&named(), 443).await, Err(Refused::Special));
    // Unless named exactly.
    let gate = playing(&grant.connect(to(PUBLIC, 443)));
    assert!(gate.allows_connect(Protocol::Tcp, own));
    assert_eq!(gate.addresses_of(&named(), 443).await, Ok(vec![own]));
}

// Red without the look at the rules, and without `http_reaches`.
#[tokio::test]
async fn http_reaches_what_a_rule_names_and_what_is_public() {
    let address = HttpHost::Address("127.0.0.1".parse().unwrap());
    let grant = Grant::none().http(http(named())).http(http(address.clone())).connect(to("127.0.0.1", 8443));
    let first = gate(&grant, &[&[PUBLIC, "127.0.0.1", "10.0.0.1"]]);
    assert_eq!(first.addresses_of(&address, 443).await, Ok(vec![at("127.0.0.1:443")]));
    assert_eq!(first.addresses_of(&address, 80).await, Err(Refused::NotGranted));
    let other = HttpHost::Address("127.0.0.2".parse().unwrap());
    assert_eq!(first.addresses_of(&other, 443).await, Err(Refused::NotGranted));
    // 127.0.0.1 is named exactly, but for another port.
    assert_eq!(
        first.addresses_of(&named(), 443).await,
        Ok(vec![SocketAddr::new(PUBLIC.parse().unwrap(), 443)])
    );
    // An HTTP rule alone opens no socket.
    assert!(!first.allows_connect(Protocol::Tcp, SocketAddr::new(PUBLIC.parse().unwrap(), 443)));

    let exact = gate(&grant.connect(to("127.0.0.1", 443)), &[&["127.0.0.1"]]);
    assert_eq!(exact.addresses_of(&named(), 443).await, Ok(vec![at("127.0.0.1:443")]));
}

// Red with the ports not compared; with port 0 taken for any.
#[test]
fn listening_is_granted_at_one_address() {
    let at_port =
        |port| Listener { protocol: Protocol::Tcp, address: SocketAddr::from(([127, 0, 0, 1], port)) };
    let gate = gate(&Grant::none().listen(at_port(8080)).listen(at_port(0)).observe(), &[]);
    assert!(gate.allows_listen(Protocol::Tcp, at("127.0.0.1:8080")));
    assert!(!gate.allows_listen(Protocol::Tcp, at("127.0.0.1:8081")));
    assert!(!gate.allows_listen(Protocol::Tcp, at("0.0.0.0:8080")));
    assert!(!gate.allows_listen(Protocol::Udp, at("127.0.0.1:8080")));
    assert!(!gate.allows_listen(Protocol::Tcp, at("127.0.0.1:0")));
    // Listening is not connecting.
    assert!(!gate.allows_connect(Protocol::Tcp, at("127.0.0.1:8080")));
    let told = gate.ledger.take();
    let granted: Vec<_> =
        told.iter().filter(|entry| entry.granted).map(|entry| entry.what.to_string()).collect();
    assert_eq!(granted, ["listen tcp://127.0.0.1:8080"]);
}
