//! How much, how long, and that it ends with the run.

use std::time::Duration;

use strongroom_runtime::{
    ByteSize, CancelToken, HttpRule, LimitKind, Limits, Outcome, Sandbox, Stdio, Usage,
};

use crate::common::bounded;
use crate::guests::{Language, Ran, Trusting, granted, limits, rule};
use crate::server::Server;

const LANGUAGES: [Language; 2] = [Language::Rust, Language::JavaScript];
/// Enough to see that it is enforced on the way: it is less than one of the sockets' buffers.
const ALLOWED: ByteSize = ByteSize::kib(100);
/// What a server can get rid of before it notices that nobody takes it: the buffers of two sockets, generously.
const BUFFERS: u64 = 32 * 1024 * 1024;

// Red without `SoftLimits::http_body` in `Download::take`.
#[test]
fn an_answer_over_the_limit_is_cut_while_it_streams() {
    for language in LANGUAGES {
        let (ran, bytes) = over_the_limit(language, &["/endless"], Stdio::null());
        assert!(ran.stderr.contains("the answer broke off"), "{}", ran.stderr);
        assert!(bytes < BUFFERS, "{bytes} bytes");
    }
}

// Red without `SoftLimits::http_body` in `Upload::poll_frame`.
#[test]
fn a_request_over_the_limit_is_cut_while_it_streams() {
    for language in LANGUAGES {
        let (_, bytes) =
            over_the_limit(language, &["--post", "/swallow"], Stdio::null().stdin(tokio::io::repeat(0)));
        // With what its chunked coding adds.
        assert!(bytes <= ALLOWED.as_u64() + ALLOWED.as_u64() / 10, "{bytes} bytes");
    }
}

fn over_the_limit(language: Language, args: &[&'static str], stdio: Stdio) -> (Ran, u64) {
    let args = args.to_vec();
    bounded(async move {
        let server = Server::start(None).await;
        let args: Vec<_> = args
            .iter()
            .map(|arg| if arg.starts_with('/') { server.url("http", arg) } else { (*arg).to_owned() })
            .collect();
        let args: Vec<_> = args.iter().map(String::as_str).collect();
        let limits = Limits { http_body: ALLOWED, ..limits() };
        let grant = granted([HttpRule { methods: Vec::new(), ..rule(false, server.address) }]);
        let ran = Trusting::shared().run(language, &args, grant, &limits, stdio, &CancelToken::never()).await;
        let Outcome::Exceeded { limit: LimitKind::HttpBody, allowed, used } = ran.report.outcome else {
            panic!("{:?} {}", ran.report, ran.stderr);
        };
        assert_eq!(allowed, ALLOWED.as_u64());
        assert!(used > allowed && ran.report.usage.http_body <= ALLOWED, "{:?}", ran.report);
        server.until_open(0).await;
        (ran, server.bytes())
    })
}

#[test]
fn what_fits_goes_both_ways_and_counts_twice() {
    for language in LANGUAGES {
        bounded(async move {
            let server = Server::start(None).await;
            let url = server.url("http", "/echo");
            let grant =
                granted([HttpRule { methods: vec!["POST".to_owned()], ..rule(false, server.address) }]);
            let body = vec![b'x'; 50 * 1024];
            let stdio = Stdio::null().stdin_bytes(body);
            let limits = Limits { http_body: ALLOWED, ..limits() };
            let never = CancelToken::never();
            let ran =
                Trusting::shared().run(language, &["--post", &url], grant, &limits, stdio, &never).await;
            assert_eq!(ran.report.outcome, Outcome::Exited(0), "{}", ran.stderr);
            assert!(ran.stdout.starts_with("status 200\nbytes 51200\n"), "{}", ran.stdout);
            assert_eq!(ran.report.usage.http_body, ALLOWED);
        });
    }
}

// Red without `max_buf_size`: the guest then sees the headers, or the server sends far more.
#[test]
fn a_head_without_end_is_cut() {
    bounded(async {
        let server = Server::start(None).await;
        let ran = Trusting::shared()
            .fetch(&[&server.url("http", "/head")], granted([rule(false, server.address)]))
            .await;
        ran.assert_failed("HttpResponseHeaderSectionSize");
    });
}

#[test]
fn an_answer_that_breaks_off_is_not_taken_for_whole() {
    for language in LANGUAGES {
        bounded(async move {
            let server = Server::start(None).await;
            let grant = granted([rule(false, server.address)]);
            let (url, never) = (server.url("http", "/cut"), CancelToken::never());
            let ran =
                Trusting::shared().run(language, &[&url], grant, &limits(), Stdio::null(), &never).await;
            ran.assert_failed("the answer broke off");
        });
    }
}

// Red without the place in `Socket::open`.
#[test]
fn a_request_takes_a_socket() {
    bounded(async {
        let server = Server::start(None).await;
        let limits = Limits { sockets: 0, ..limits() };
        let grant = granted([rule(false, server.address)]);
        let (url, never) = (server.url("http", "/hello"), CancelToken::never());
        let ran =
            Trusting::shared().run(Language::Rust, &[&url], grant, &limits, Stdio::null(), &never).await;
        assert!(ran.stderr.contains("ConnectionLimitReached"), "{}", ran.stderr);
        assert_eq!(ran.report.outcome, Outcome::Exceeded { limit: LimitKind::Sockets, allowed: 0, used: 1 });
        assert_eq!(server.connections(), 0);
    });
}

// Those that are never answered are red when `Client::send_request` makes the exchange a task of its own. Once there is an answer
// its body holds the connection, and goes with the run's table: there is no guard to remove.
#[test]
fn a_server_that_never_answers_holds_nothing_past_the_deadline() {
    is_stopped("/silent", Stop::Deadline);
}

#[test]
fn a_server_that_drips_holds_nothing_past_the_deadline() {
    is_stopped("/drip", Stop::Deadline);
}

#[test]
fn a_server_that_never_answers_holds_nothing_past_a_cancel() {
    is_stopped("/silent", Stop::Cancel);
}

#[test]
fn a_server_that_drips_holds_nothing_past_a_cancel() {
    is_stopped("/drip", Stop::Cancel);
}

#[test]
fn a_dropped_run_closes_its_connections() {
    is_stopped("/drip", Stop::Drop);
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stop {
    Deadline,
    Cancel,
    Drop,
}

fn is_stopped(path: &'static str, stop: Stop) {
    for tls in [false, true] {
        bounded(async move {
            let trusting = Trusting::shared();
            let config = tls.then(|| trusting.authority.server("127.0.0.1", 2090));
            let server = Server::start(config).await;
            let module = trusting.module(Language::Rust);
            let wall = if stop == Stop::Deadline { Duration::from_millis(500) } else { limits().wall };
            let limits = Limits { wall, ..limits() };
            let url = server.url(if tls { "https" } else { "http" }, path);
            let grant = granted([rule(tls, server.address)]).args(["fetch", &url]);
            let (cancel, dropped) = (CancelToken::new(), tokio::sync::Notify::new());
            let run = Sandbox::run(&module, &grant, &limits, Stdio::null(), &cancel);
            let stopper = async {
                server.until_asked().await;
                match stop {
                    Stop::Deadline => {}
                    Stop::Cancel => cancel.cancel(),
                    Stop::Drop => dropped.notify_one(),
                }
                std::future::pending::<()>().await;
            };
            let outcome = tokio::select! {
                report = run => Some(report.unwrap().outcome),
                () = stopper => unreachable!("it is pending for ever"),
                () = dropped.notified() => None,
            };
            match (stop, outcome) {
                (Stop::Deadline, Some(Outcome::Exceeded { limit: LimitKind::Wall, .. }))
                | (Stop::Cancel, Some(Outcome::Cancelled))
                | (Stop::Drop, None) => {}
                (_, outcome) => panic!("{outcome:?}"),
            }
            // Hangs, and so fails, while a connection is held.
            server.until_open(0).await;
        });
    }
}

// Red when `Times::of` ignores what the guest asked for: then the deadline comes first.
#[test]
fn a_guest_may_give_up_sooner() {
    for (path, why) in [("/silent", "HttpResponseTimeout"), ("/stall", "the answer broke off")] {
        bounded(async move {
            let server = Server::start(None).await;
            let args = ["--timeout", "1", &server.url("http", path)];
            let ran = Trusting::shared().fetch(&args, granted([rule(false, server.address)])).await;
            ran.assert_failed(why);
            assert_eq!(ran.report.usage.http_body, Usage::default().http_body);
        });
    }
}
