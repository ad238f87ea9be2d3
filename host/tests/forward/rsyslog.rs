//! A real rsyslog takes every record over TCP, TLS, UDP and a Unix socket, and understands all of it.
//!
//! Each runs as a child with a configuration and directories of its own, on loopback. Where there is no rsyslogd these tests say so and
//! show nothing, unless `STRONGROOM_RSYSLOG=required`, which `.ci/run` sets.

use std::net::{TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use strongroom::config::Forward;
use strongroom_job::Record;

use crate::common::patience::bounded;
use crate::support::{host, log, to, work};
use crate::tls::Pki;

/// Where Debian puts it, which is not on everybody's path; and any other place.
fn daemon() -> Option<PathBuf> {
    let usual = ["/usr/sbin/rsyslogd", "/sbin/rsyslogd", "/usr/local/sbin/rsyslogd", "/usr/bin/rsyslogd"];
    usual.iter().map(PathBuf::from).find(|path| path.exists())
}

/// Whether it can speak TLS: Debian has that in a package of its own.
fn has_gnutls() -> bool {
    let places = std::fs::read_dir("/usr/lib").into_iter().flatten().flatten().map(|entry| entry.path());
    places
        .chain([PathBuf::from("/usr/lib"), PathBuf::from("/usr/lib64")])
        .any(|place| place.join("rsyslog/lmnsd_gtls.so").exists())
}

/// The program, when the tests can be run.
fn rsyslogd(tls: bool) -> Option<PathBuf> {
    #[expect(
        clippy::disallowed_methods,
        reason = "a test that is asked for must not pass without having run"
    )]
    let required = std::env::var_os("STRONGROOM_RSYSLOG").is_some_and(|value| value == "required");
    let found = daemon().filter(|_| !tls || has_gnutls());
    assert!(found.is_some() || !required, "rsyslog is not installed: apt-get install rsyslog rsyslog-gnutls");
    if found.is_none() {
        eprintln!("SKIPPED: rsyslog is not installed, so nothing is shown of it");
    }
    found
}

/// A daemon, ended with this value.
struct Daemon {
    child: Child,
    dir: tempfile::TempDir,
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Daemon {
    /// Starts one with `inputs` in its configuration, after `files` are in its directory.
    fn start(program: &Path, inputs: impl FnOnce(&Path) -> String) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let place = dir.path();
        let properties = "%syslogfacility%|%syslogseverity%|%timestamp:::date-rfc3339%|%hostname%|%app-name%|%procid%|%msgid%|\
                          %structured-data%|%msg%\\n";
        let config = format!(
            "global(workDirectory=\"{place}\" maxMessageSize=\"128k\")\n{inputs}\n\
             template(name=\"all\" type=\"string\" string=\"{properties}\")\n\
             action(type=\"omfile\" file=\"{place}/got\" template=\"all\")\n",
            inputs = inputs(place),
            place = place.display(),
        );
        std::fs::write(place.join("conf"), config).unwrap();
        let said = std::fs::File::create(place.join("said")).unwrap();
        let mut command = Command::new(program);
        command.arg("-n").arg("-f").arg(place.join("conf")).arg("-i").arg(place.join("pid"));
        command.stdin(Stdio::null()).stdout(said.try_clone().unwrap()).stderr(said);
        Self { child: command.spawn().unwrap(), dir }
    }

    fn said(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("said")).unwrap()
    }

    /// The lines that it has written and that are about our records.
    fn got(&self) -> Vec<String> {
        let text = std::fs::read_to_string(self.dir.path().join("got")).unwrap_or_default();
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        whole.lines().filter(|line| line.contains("strongroom@0")).map(ToOwned::to_owned).collect()
    }
}

fn free_tcp() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// Has a host forward to the daemon, and holds what that wrote against the log.
async fn assert_understood(daemon: Daemon, forward: Forward) {
    let live = host(forward).await;
    work(&live.client().await, 3).await;
    // A daemon that starts slowly is one that is down at first; UDP needs more, see below.
    while daemon.got().is_empty() {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let dir = live.stop().await;
    let log = log(dir.path());
    while daemon.got().len() < log.len() {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let got = daemon.got();
    assert_eq!(got.len(), log.len(), "{}\n{}", got.join("\n"), daemon.said());
    for ((index, leaf), line) in (0..).zip(&log).zip(&got) {
        let record = Record::from_leaf(leaf).unwrap();
        let parts: Vec<&str> = line.splitn(9, '|').collect();
        let [facility, severity, time, hostname, app, pid, kind, data, text] = parts.as_slice() else {
            panic!("{line}")
        };
        assert_eq!(
            (*facility, *app, *pid),
            ("13", "strongroom", std::process::id().to_string().as_str()),
            "{line}"
        );
        assert!(["3", "4", "5", "6"].contains(severity), "{line}");
        assert!(time.ends_with('Z') || time.ends_with("+00:00"), "{line}");
        assert!(!hostname.is_empty(), "{line}");
        let read: serde_json::Value = serde_json::from_slice(leaf).unwrap();
        assert_eq!(*kind, read["type"].as_str().unwrap());
        let mut said = format!("[strongroom@0 log=\"{}\" index=\"{index}\"", origin(dir.path()));
        if let Some(job) = record.job() {
            said.push_str(&format!(" job=\"{job}\""));
        }
        assert_eq!(*data, format!("{said}]"));
        assert_eq!(text.as_bytes(), leaf.as_slice(), "record {index}");
    }
}

fn origin(dir: &Path) -> String {
    let text = std::fs::read_to_string(dir.join("audit/checkpoint")).unwrap();
    text.lines().next().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn rsyslog_understands_tcp() {
    let Some(program) = rsyslogd(false) else { return };
    bounded(async {
        let port = free_tcp();
        let daemon = Daemon::start(&program, |_| {
            format!("module(load=\"imtcp\")\ninput(type=\"imtcp\" address=\"127.0.0.1\" port=\"{port}\")")
        });
        assert_understood(daemon, to(&format!("syslog+tcp://127.0.0.1:{port}"))).await;
    })
    .await;
}

fn pem(kind: &str, der: &[u8]) -> String {
    let text = STANDARD.encode(der);
    let lines: Vec<&str> = text.as_bytes().chunks(64).map(|line| str::from_utf8(line).unwrap()).collect();
    format!("-----BEGIN {kind}-----\n{}\n-----END {kind}-----\n", lines.join("\n"))
}

#[tokio::test(flavor = "multi_thread")]
async fn rsyslog_understands_tls() {
    let Some(program) = rsyslogd(true) else { return };
    bounded(async {
        let port = free_tcp();
        let pki = Pki::new("localhost");
        let daemon = Daemon::start(&program, |place| {
            std::fs::write(place.join("ca.pem"), pem("CERTIFICATE", pki.authority.der())).unwrap();
            std::fs::write(place.join("cert.pem"), pem("CERTIFICATE", pki.server.der())).unwrap();
            std::fs::write(place.join("key.pem"), pem("PRIVATE KEY", &pki.key.serialize_der())).unwrap();
            let place = place.display();
            format!(
                "global(defaultNetstreamDriver=\"gtls\" defaultNetstreamDriverCAFile=\"{place}/ca.pem\" \
                 defaultNetstreamDriverCertFile=\"{place}/cert.pem\" defaultNetstreamDriverKeyFile=\"{place}/key.pem\")\n\
                 module(load=\"imtcp\" streamDriver.name=\"gtls\" streamDriver.mode=\"1\" streamDriver.authMode=\"anon\")\n\
                 input(type=\"imtcp\" address=\"127.0.0.1\" port=\"{port}\")"
            )
        });
        let forward = pki.trusted_by(to(&format!("syslog+tls://localhost:{port}")));
        Box::pin(assert_understood(daemon, forward)).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rsyslog_understands_udp() {
    let Some(program) = rsyslogd(false) else { return };
    bounded(async {
        let port = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let daemon = Daemon::start(&program, |_| {
            format!("module(load=\"imudp\")\ninput(type=\"imudp\" address=\"127.0.0.1\" port=\"{port}\")")
        });
        // What is sent before it listens is lost, and nobody is told: that is UDP.
        while UdpSocket::bind(("127.0.0.1", port)).is_ok() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        assert_understood(daemon, to(&format!("syslog+udp://127.0.0.1:{port}"))).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rsyslog_understands_a_unix_socket() {
    let Some(program) = rsyslogd(false) else { return };
    bounded(async {
        let mut socket = PathBuf::new();
        let daemon = Daemon::start(&program, |place| {
            socket = place.join("log");
            // The special parser is for libc's syslog(), which writes no RFC 5424.
            format!(
                "module(load=\"imuxsock\" sysSock.use=\"off\")\n\
                 input(type=\"imuxsock\" socket=\"{}\" useSpecialParser=\"off\" parseHostname=\"on\")",
                socket.display()
            )
        });
        let forward = to(&format!("syslog+unix://{}", socket.display()));
        assert_understood(daemon, forward).await;
    })
    .await;
}
