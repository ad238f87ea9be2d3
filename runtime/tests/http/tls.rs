//! Who a server must prove to be.

use strongroom_runtime::{CancelToken, Stdio};

use crate::common::bounded;
use crate::guests::{Language, NAME, Ran, Trusting, exactly, granted, limits, rule, rule_by_name};
use crate::server::{Authority, Server};

/// A year that is over, and one that is not.
const PAST: i32 = 2021;
const FUTURE: i32 = 2090;

#[test]
fn a_granted_request_works_over_tls_in_both_languages() {
    bounded(async {
        let trusting = Trusting::shared();
        let server = Server::start(Some(trusting.authority.server("127.0.0.1", FUTURE))).await;
        for language in [Language::Rust, Language::JavaScript] {
            let url = server.url("https", "/hello?a=b");
            let grant = granted([rule(true, server.address)]);
            let never = CancelToken::never();
            let ran = trusting.run(language, &[&url], grant, &limits(), Stdio::null(), &never).await;
            ran.assert_hello();
            assert_eq!(ran.report.usage.http_body.as_u64(), 5, "{language:?}");
            assert_eq!(ran.report.reached, [], "{language:?}");
        }
        let heads = server.heads();
        assert_eq!(heads.len(), 2);
        for head in heads {
            assert!(head.starts_with("GET /hello?a=b HTTP/1.1\r\n"), "{head}");
            assert!(head.contains(&format!("\r\nhost: {}\r\n", server.address)), "{head}");
        }
    });
}

#[test]
fn a_name_is_verified_too() {
    bounded(async {
        let trusting = Trusting::shared();
        let server = Server::start(Some(trusting.authority.server(NAME, FUTURE))).await;
        let grant = granted([rule_by_name(true, server.address)]).connect(exactly(server.address));
        let url = format!("https://{NAME}:{}/hello", server.address.port());
        trusting.fetch(&[&url], grant).await.assert_hello();
    });
}

// Needs rustls' feature `tls12`; TLS 1.0 and 1.1 it does not know at all.
#[test]
fn a_server_may_be_one_version_behind() {
    bounded(async {
        let trusting = Trusting::shared();
        let config = trusting.authority.server_with("127.0.0.1", FUTURE, &[&rustls::version::TLS12]);
        let server = Server::start(Some(config)).await;
        let url = server.url("https", "/hello");
        trusting.fetch(&[&url], granted([rule(true, server.address)])).await.assert_hello();
    });
}

// All three are red with a verifier that says yes to everything in `tls::client_config`.
#[test]
fn a_server_of_another_authority_is_not_trusted() {
    refused(|_| Authority::new().server("127.0.0.1", FUTURE));
}

#[test]
fn a_certificate_that_is_over_is_not_trusted() {
    refused(|authority| authority.server("127.0.0.1", PAST));
}

#[test]
fn a_certificate_for_another_host_is_not_trusted() {
    refused(|authority| authority.server("other.example", FUTURE));
}

/// Asks a server with that certificate, and sees that no request reached it.
fn refused(config: impl FnOnce(&Authority) -> rustls::ServerConfig + Send + 'static) {
    bounded(async {
        let trusting = Trusting::shared();
        let server = Server::start(Some(config(&trusting.authority))).await;
        let ran: Ran =
            trusting.fetch(&[&server.url("https", "/hello")], granted([rule(true, server.address)])).await;
        ran.assert_failed("has no certificate that the host trusts for it");
        assert_eq!((server.connections(), server.heads()), (1, Vec::new()));
    });
}

#[test]
fn a_server_without_tls_gets_no_request_meant_for_one_with() {
    bounded(async {
        let server = Server::start(None).await;
        let ran = Trusting::shared()
            .fetch(
                &[&server.url("https", "/hello"), "--timeout", "10"],
                granted([rule(true, server.address)]),
            )
            .await;
        assert_eq!(ran.stdout, "");
        assert!(server.heads().iter().all(|head| !head.starts_with("GET")));
    });
}
