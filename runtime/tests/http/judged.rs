//! What is granted, and what is not.

use strongroom_runtime::{CancelToken, Grant, HttpRule, Reach, Reached, Stdio};

use crate::common::bounded;
use crate::guests::{Language, NAME, Trusting, exactly, granted, limits, rule, rule_by_name};
use crate::server::Server;

// Red when `Client::judge` takes every target for covered and `wire::connect` does not ask the gate, which says no once more.
#[test]
fn nothing_is_granted_at_first_and_it_is_told() {
    bounded(async {
        let server = Server::start(None).await;
        let (url, never) = (server.url("http", "/hello"), CancelToken::never());
        for language in [Language::Rust, Language::JavaScript] {
            let (grant, stdio) = (Grant::none(), Stdio::null());
            let ran = Trusting::shared().run(language, &[&url], grant, &limits(), stdio, &never).await;
            ran.assert_denied("GET", &server.url("http", ""));
        }
        assert_eq!(server.connections(), 0);
    });
}

// Red when `Client::judge` takes every target for covered, and in part without each comparison in `is_covered_by`.
#[test]
fn a_request_that_differs_in_one_thing_is_denied_before_anything_is_sent() {
    bounded(async {
        let server = Server::start(None).await;
        let rule = HttpRule { path: "/v1".to_owned(), ..rule(false, server.address) };
        let address = server.address.to_string();
        let port = server.address.port();
        for (args, method, origin) in [
            (vec!["--method", "DELETE", "http://{}/v1/a"], "DELETE", format!("http://{address}")),
            (vec!["--method", "GeT", "http://{}/v1/a"], "GeT", format!("http://{address}")),
            (vec!["http://{}/"], "GET", format!("http://{address}")),
            (vec!["http://{}/v10"], "GET", format!("http://{address}")),
            (vec!["http://{}/v1/../admin"], "GET", format!("http://{address}")),
            (vec!["http://{}/v1/%2e%2e/admin"], "GET", format!("http://{address}")),
            (vec!["https://{}/v1"], "GET", format!("https://{address}")),
            (vec!["http://127.0.0.1:1/v1"], "GET", "http://127.0.0.1:1".to_owned()),
            (vec!["http://127.0.0.2/v1"], "GET", "http://127.0.0.2:80".to_owned()),
            (vec!["http://user@{}/v1"], "GET", format!("http://{address}")),
            (vec!["http://localhost:{port}/v1"], "GET", format!("http://localhost:{port}")),
        ] {
            let args: Vec<_> = args
                .iter()
                .map(|arg| arg.replace("{}", &address).replace("{port}", &port.to_string()))
                .collect();
            let args: Vec<_> = args.iter().map(String::as_str).collect();
            let ran = Trusting::shared().fetch(&args, granted([rule.clone()])).await;
            ran.assert_denied(method, &origin);
        }
        assert_eq!(server.connections(), 0);
        let ran = Trusting::shared().fetch(&[&server.url("http", "/v1/a")], granted([rule])).await;
        ran.assert_hello();
    });
}

// Nothing here follows a redirect, so there is no guard to remove: a client that did would reach the second server.
#[test]
fn a_redirect_is_the_guests_to_follow_or_not() {
    bounded(async {
        let (server, other) = (Server::start(None).await, Server::start(None).await);
        let url = server.url("http", &format!("/redirect/{}/hello", other.address));
        let ran = Trusting::shared().fetch(&[&url], granted([rule(false, server.address)])).await;
        let shown = format!("status 302\nlocation http://{}/hello\nbytes 0\n", other.address);
        assert!(ran.stdout.starts_with(&shown), "{}", ran.stdout);
        let followed = other.url("http", "/hello");
        let ran = Trusting::shared().fetch(&[&followed], granted([rule(false, server.address)])).await;
        ran.assert_denied("GET", &other.url("http", ""));
        assert_eq!(other.connections(), 0);
    });
}

// Red when `wire::connect` looks the name up itself instead of asking the gate.
#[test]
fn a_granted_name_does_not_lead_to_loopback() {
    bounded(async {
        let server = Server::start(None).await;
        let url = format!("http://{NAME}:{}/hello", server.address.port());
        let rule = rule_by_name(false, server.address);
        let ran = Trusting::shared().fetch(&[&url], granted([rule.clone()])).await;
        ran.assert_failed("DestinationIpProhibited");
        let origin = format!("http://{NAME}:{}", server.address.port());
        let what = Reach::Http { method: "GET".to_owned(), origin };
        assert!(ran.report.reached.contains(&Reached { what, granted: false, count: 1 }), "{:?}", ran.report);
        assert_eq!(server.connections(), 0);

        let grant = granted([rule]).connect(exactly(server.address));
        Trusting::shared().fetch(&[&url], grant).await.assert_hello();
        assert!(server.heads()[0].contains(&format!("\r\nhost: {NAME}:")), "{:?}", server.heads());
    });
}

// Red without `is_forbidden_header`; `wire` writes the header once more, for which it has a test of its own.
#[test]
fn a_host_header_cannot_be_forged() {
    bounded(async {
        let server = Server::start(None).await;
        let url = server.url("http", "/hello");
        for header in
            ["Host: evil.example", "Connection: upgrade", "X-Original-URL: /admin", "Transfer-Encoding: x"]
        {
            let args = ["--header", header, &url];
            let ran = Trusting::shared().fetch(&args, granted([rule(false, server.address)])).await;
            ran.assert_failed("the host does not let a task set it");
        }
        assert_eq!(server.connections(), 0);
        let args = ["--header", "Accept: text/plain", &url];
        Trusting::shared().fetch(&args, granted([rule(false, server.address)])).await.assert_hello();
        assert!(server.heads()[0].contains("\r\naccept: text/plain\r\n"), "{:?}", server.heads());
    });
}

#[test]
fn what_was_granted_is_told_where_asked_for() {
    bounded(async {
        let server = Server::start(None).await;
        let grant = granted([rule(false, server.address)]).observe();
        let ran = Trusting::shared().fetch(&[&server.url("http", "/hello?secret")], grant).await;
        let what = Reach::Http { method: "GET".to_owned(), origin: server.url("http", "") };
        assert!(ran.report.reached.contains(&Reached { what, granted: true, count: 1 }), "{:?}", ran.report);
    });
}
