//! The guests, and what they are run with.
#![allow(unreachable_pub, reason = "the other files of this test use it")]

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::OnceLock;
use std::time::Duration;

use strongroom_runtime::{
    CancelToken, Collect, Destination, Engine, EngineConfig, Grant, Hosts, HttpHost, HttpRule, Limits,
    Lookup, Module, Outcome, Protocol, Reach, Reached, Report, Resolve, Resolver, Sandbox, Stdio, TlsRoots,
};

use crate::common::small;
use crate::server::Authority;

/// A name that leads to loopback, as anybody's name server may say.
pub const NAME: &str = "service.example";

/// Far more than a test needs; each that waits for a limit sets its own.
const WALL: Duration = Duration::from_secs(50);

/// What a run left behind.
pub struct Ran {
    pub report: Report,
    pub stdout: String,
    pub stderr: String,
}

impl Ran {
    /// The guest's answer to `hello`.
    pub fn assert_hello(&self) {
        let hello =
            "status 200\nbytes 5\nsha256 2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824\n";
        assert_eq!(self.stdout, hello, "{} {:?}", self.stderr, self.report);
        assert_eq!(self.report.outcome, Outcome::Exited(0));
    }

    /// That the guest was told `why`, and gave up.
    pub fn assert_failed(&self, why: &str) {
        assert_eq!(self.report.outcome, Outcome::Exited(1), "{} {}", self.stdout, self.stderr);
        assert!(self.stderr.contains(why), "{}", self.stderr);
    }

    /// That the guest was told that it may not, and that this was written down.
    pub fn assert_denied(&self, method: &str, origin: &str) {
        self.assert_failed("is not granted; grant it with --http");
        let what = Reach::Http { method: method.to_owned(), origin: origin.to_owned() };
        assert_eq!(self.report.reached, [Reached { what, granted: false, count: 1 }]);
    }
}

/// Which source the guest was made from.
#[derive(Clone, Copy, Debug)]
pub enum Language {
    Rust,
    JavaScript,
}

/// An engine that trusts one authority of the tests.
pub struct Trusting {
    pub authority: Authority,
    engine: Engine,
    rust: OnceLock<Module>,
    javascript: OnceLock<Module>,
}

impl Trusting {
    pub fn new() -> Self {
        let authority = Authority::new();
        let config = EngineConfig {
            tls_roots: TlsRoots::Only(vec![authority.der()]),
            resolver: Resolver::new(Loopback),
            ..small()
        };
        let engine = Engine::new(config).unwrap();
        Self { authority, engine, rust: OnceLock::new(), javascript: OnceLock::new() }
    }

    /// The one that all tests share.
    pub fn shared() -> &'static Self {
        static SHARED: OnceLock<Trusting> = OnceLock::new();
        SHARED.get_or_init(Self::new)
    }

    pub fn module(&self, language: Language) -> Module {
        let (cell, wasm): (_, &[u8]) = match language {
            Language::Rust => (&self.rust, include_bytes!("../../../examples/prebuilt/fetch.wasm")),
            Language::JavaScript => {
                (&self.javascript, include_bytes!("../../../examples/prebuilt/fetch-js.wasm"))
            }
        };
        cell.get_or_init(|| self.engine.compile(wasm).unwrap()).clone()
    }

    /// Runs the guest in Rust with `args`, and `grant` for the rest.
    pub async fn fetch(&self, args: &[&str], grant: Grant) -> Ran {
        self.run(Language::Rust, args, grant, &limits(), Stdio::null(), &CancelToken::never()).await
    }

    pub async fn run(
        &self,
        language: Language,
        args: &[&str],
        grant: Grant,
        limits: &Limits,
        stdio: Stdio,
        cancel: &CancelToken,
    ) -> Ran {
        let (stdout, out) = Collect::new();
        let (stderr, err) = Collect::new();
        let grant = grant.arg("fetch").args(args.iter().copied());
        let module = self.module(language);
        let stdio = stdio.stdout(stdout).stderr(stderr);
        let report = Sandbox::run(&module, &grant, limits, stdio, cancel).await.unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        Ran { report, stdout: text(out.take()), stderr: text(err.take()) }
    }
}

pub fn limits() -> Limits {
    Limits { wall: WALL, ..Limits::default() }
}

/// GETs of everything on a server, by address.
pub fn rule(tls: bool, address: SocketAddr) -> HttpRule {
    HttpRule {
        methods: vec!["GET".to_owned()],
        tls,
        host: HttpHost::Address(address.ip()),
        port: address.port(),
        path: "/".to_owned(),
    }
}

/// The same by the name that leads there.
pub fn rule_by_name(tls: bool, address: SocketAddr) -> HttpRule {
    HttpRule { host: HttpHost::Name(NAME.to_owned()), ..rule(tls, address) }
}

/// What names a private address exactly, so that a granted name may lead to it.
pub fn exactly(address: SocketAddr) -> Destination {
    Destination {
        protocol: Protocol::Tcp,
        hosts: Hosts::Net(address.ip().into()),
        ports: address.port()..=address.port(),
    }
}

/// A grant of what these rules cover.
pub fn granted(rules: impl IntoIterator<Item = HttpRule>) -> Grant {
    rules.into_iter().fold(Grant::none(), Grant::http)
}

/// Says that the name leads to loopback.
#[derive(Debug)]
struct Loopback;

impl Resolve for Loopback {
    fn lookup(&self, name: &str) -> Lookup {
        let answer = if name == NAME {
            Ok(vec![IpAddr::from([127, 0, 0, 1])])
        } else {
            Err(io::Error::from(io::ErrorKind::NotFound))
        };
        Box::pin(async move { answer })
    }
}
