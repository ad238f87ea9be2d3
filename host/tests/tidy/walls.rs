//! The walls of the house: which crate may depend on which, and which module may name what.

use crate::repo::Repo;
use crate::rust;

/// What a member of the workspace may not depend on, tests and build scripts included. A name with `*` stands for all that
/// begin so.
const CRATES: &[(&str, &[&str])] = &[
    (
        "sdk/job/Cargo.toml",
        &["strongroom*", "tokio*", "quinn*", "rustls*", "wasm*", "sled", "getrandom", "futures*"],
    ),
    ("sdk/client/Cargo.toml", &["strongroom", "strongroom-runtime", "wasm*", "sled"]),
    ("runtime/Cargo.toml", &["strongroom*", "quinn*", "sled", "ed25519*"]),
    ("host/Cargo.toml", &["wasmtime*", "wasmparser", "strongroom-examples", "strongroom-benches"]),
    ("examples/programs/Cargo.toml", &["strongroom", "strongroom-benches", "wasm*", "quinn*", "sled"]),
    ("benches/Cargo.toml", &[]),
];

/// A module wall: files below `inside`, but not below `except`, may name none of `banned`.
struct Wall {
    inside: &'static [&'static str],
    except: &'static [&'static str],
    /// A path, with all that is below it; `::name` is any path with that name in it.
    banned: &'static [&'static str],
    why: &'static str,
}

const WALLS: &[Wall] = &[
    Wall {
        inside: &["sdk/job/src"],
        except: &[],
        banned: &[
            "tokio",
            "quinn",
            "rustls",
            "wasmtime",
            "sled",
            "strongroom",
            "strongroom_sdk",
            "strongroom_runtime",
            "std::fs",
            // Addresses are plain values; what opens one is not.
            "std::net::TcpStream",
            "std::net::TcpListener",
            "std::net::UdpSocket",
            "std::net::ToSocketAddrs",
            "std::env",
            "std::thread",
            "std::process",
            "std::time::SystemTime",
            "std::time::Instant",
            "std::time::UNIX_EPOCH",
        ],
        why: "the contract is pure: no I/O, no clock, no other crate of ours",
    },
    Wall {
        inside: &["sdk/client/src"],
        except: &[],
        banned: &["strongroom", "strongroom_runtime", "wasmtime", "sled"],
        why: "a client needs neither host nor sandbox",
    },
    Wall {
        inside: &["runtime/src"],
        except: &[],
        banned: &["strongroom", "strongroom_job", "strongroom_sdk", "quinn", "sled", "ed25519_dalek"],
        why: "the sandbox knows nothing of jobs, keys, QUIC or the store",
    },
    Wall {
        inside: &["runtime/src"],
        except: &["runtime/src/net/http/tls.rs"],
        banned: &["rustls", "tokio_rustls", "webpki_roots"],
        why: "tls.rs alone decides which servers guests may trust",
    },
    Wall {
        inside: &["runtime/src"],
        except: &["runtime/src/standin.rs"],
        banned: &["Instant::now", "std::time::Instant::now", "::SystemTime"],
        why: "standin.rs alone reads clocks, so that a guest sees no other",
    },
    Wall {
        inside: &["host/src/admission", "host/src/lifecycle", "host/src/retention.rs", "host/src/schedule"],
        except: &[],
        banned: &[
            "tokio",
            "tokio_util",
            "futures_util",
            "quinn",
            "rustls",
            "sled",
            "wasmtime",
            "std::fs",
            "std::net",
            "std::env",
            "std::thread",
            "std::process",
            "std::time::SystemTime",
            "std::time::Instant",
            "crate::clock",
            "crate::store",
            "crate::dispatch",
            "crate::intake",
            "crate::blobs",
            "crate::audit",
            "crate::host",
            "crate::home",
            "crate::cli",
        ],
        why: "it is pure: everything that it judges is passed in, `now` too",
    },
    Wall {
        inside: &["host/src"],
        except: &["host/src/intake"],
        banned: &["quinn"],
        why: "only intake speaks QUIC",
    },
    Wall {
        inside: &["host/src"],
        except: &["host/src/http"],
        banned: &["hyper", "http_body_util"],
        why: "only http speaks HTTP",
    },
    Wall {
        inside: &["host/src"],
        // The tests of confine.rs see that a compiler cannot connect.
        except: &["host/src/http", "host/src/forward", "host/src/compile/confine.rs"],
        banned: &[
            "tokio::net::TcpListener",
            "tokio::net::TcpStream",
            "tokio::net::TcpSocket",
            "std::net::TcpListener",
            "std::net::TcpStream",
        ],
        why: "only http and forward have TCP",
    },
    Wall {
        inside: &["host/src/http", "host/src/witness", "host/src/log_server.rs"],
        except: &[],
        banned: &[
            "crate::store",
            "crate::dispatch",
            "crate::intake",
            "crate::blobs",
            "crate::secrets",
            "crate::host",
            "crate::cli",
        ],
        why: "what strangers reach over HTTP knows neither jobs nor the state",
    },
    Wall {
        inside: &["host/src"],
        except: &["host/src/intake", "host/src/forward/tls.rs"],
        banned: &["rustls", "tokio_rustls", "webpki_roots"],
        why: "intake decides whom clients are, forward/tls.rs which receivers of the log are trusted, and nobody else",
    },
    Wall {
        inside: &["host/src/forward"],
        except: &[],
        banned: &[
            "crate::store",
            "crate::dispatch",
            "crate::intake",
            "crate::host",
            "crate::publisher",
            "crate::audit::writer",
        ],
        why: "a forwarder reads the published log, as anybody could",
    },
    Wall {
        inside: &["host/src/telemetry"],
        except: &[],
        banned: &[
            "crate::store",
            "crate::dispatch",
            "crate::intake",
            "crate::blobs",
            "crate::secrets",
            "crate::host",
            "crate::audit",
        ],
        why: "what telemetry tells is handed to it, so that it cannot tell more",
    },
    Wall {
        inside: &["host/src"],
        except: &["host/src/confine", "host/src/compile/confine.rs"],
        banned: &["landlock", "seccompiler", "nix"],
        why: "what a process gives up is decided in confine, and for compilers in compile/confine.rs",
    },
    Wall {
        inside: &["host/src"],
        except: &["host/src/store"],
        banned: &["sled"],
        why: "only the store knows sled",
    },
    Wall {
        inside: &["host/src"],
        except: &["host/src/admission"],
        banned: &["::Grant"],
        why: "only admission makes a grant",
    },
    Wall {
        inside: &["host/src"],
        // A worker is sent the terms that admission made, and makes the grant of them: it trusts its host, not the other way.
        except: &["host/src/admission", "host/src/worker"],
        banned: &["::GrantTerms"],
        why: "only admission says what a job is given; a worker is told",
    },
    Wall {
        inside: &["host/src/worker"],
        except: &[],
        banned: &[
            "crate::store",
            "crate::intake",
            "crate::blobs",
            "crate::audit",
            "crate::evidence",
            "crate::home",
            "crate::host",
            "crate::cli",
        ],
        why: "a worker knows neither keys nor state nor log",
    },
    Wall {
        inside: &["host/src"],
        except: &["host/src/admission", "host/src/store/rebuild"],
        banned: &["::readmit"],
        why: "only a rebuild of the store takes back what was admitted before, and holds it against its record",
    },
    Wall {
        inside: &["host/src"],
        except: &["host/src/admission", "host/src/store/spec.rs"],
        banned: &["::readmit_kept"],
        why: "only the store knows which envelopes it has verified and kept",
    },
    Wall {
        inside: &["host/src"],
        except: &[],
        banned: &["wasmtime", "wasmtime_wasi", "wasmparser"],
        why: "the host runs guests through strongroom-runtime only",
    },
    Wall {
        inside: &["host/src"],
        // hyper's timer is a trait over instants; nobody reads one there.
        except: &["host/src/clock.rs", "host/src/http/stream.rs"],
        banned: &["::SystemTime", "::UNIX_EPOCH", "std::time::Instant"],
        why: "only clock.rs knows what time it is",
    },
    Wall {
        inside: &["host/src"],
        // Deadlines of single reads: timers, not times.
        except: &["host/src/clock.rs", "host/src/intake/body.rs"],
        banned: &["::now"],
        why: "only clock.rs knows what time it is",
    },
    Wall {
        inside: &["host/src"],
        // Where the user's data lies; whether colours are wanted; whom to tell that the host serves; which sockets were handed over; what a
        // service leaves behind.
        except: &[
            "host/src/home.rs",
            "host/src/cli/console.rs",
            "host/src/cli/notify.rs",
            "host/src/cli/environment.rs",
            "host/src/handed/take.rs",
        ],
        banned: &[
            "std::env::var",
            "std::env::var_os",
            "std::env::vars",
            "std::env::vars_os",
            "env::var",
            "env::var_os",
        ],
        why: "the environment decides nothing",
    },
    Wall {
        inside: &["host/src"],
        // Key files have one reader, the SDK's: see docs/adr/0006-home-reads-keys-through-the-sdk.md.
        except: &["host/src/cli", "host/src/home.rs"],
        banned: &["strongroom_sdk"],
        why: "the host is not its own client; only the command line is",
    },
    Wall {
        inside: &["host/src"],
        except: &["host/src/cli"],
        banned: &["clap", "indicatif", "anyhow", "tracing_subscriber", "crate::cli"],
        why: "the library does not know the command line",
    },
    Wall {
        inside: &["host/src"],
        // Syslog writes times for people.
        except: &["host/src/cli", "host/src/schedule/cron.rs", "host/src/forward/syslog.rs"],
        banned: &["jiff", "croner"],
        why: "calendars are for people; only cron.rs, syslog.rs and the command line have one",
    },
    Wall {
        inside: &["host/src"],
        // Rows; live.json; the word for a state; what a host says of itself; what a compiler is asked, and its refusals; a collector's answer. The derive on `AdmittedJob` is of use to whoever can call one of these.
        except: &[
            "host/src/store",
            "host/src/home/lock.rs",
            "host/src/cli/job.rs",
            "host/src/cli/status.rs",
            "host/src/cli/reload.rs",
            "host/src/compile",
            "host/src/forward/collector.rs",
            // What host and worker say to one another. A worker trusts its host; the host has this read nothing but `Ran`.
            "host/src/worker/message.rs",
        ],
        banned: &[
            "serde_json::from_slice",
            "serde_json::from_str",
            "serde_json::from_reader",
            "serde_json::from_value",
            "serde_json::Deserializer",
            "::DeserializeOwned",
        ],
        why: "only the store may bring an AdmittedJob back without admission; envelopes are parsed by strongroom-job",
    },
];

/// Dependencies that lead through a wall between crates.
pub(crate) fn crates(repo: &Repo) -> Vec<String> {
    let mut wrong = Vec::new();
    for (manifest, banned) in CRATES {
        let Some(text) = repo.text(manifest) else {
            wrong.push(format!("{manifest}: is missing"));
            continue;
        };
        for (line, name, value) in dependencies(text) {
            let is = |pattern: &&&str| match pattern.strip_suffix('*') {
                Some(start) => name.starts_with(start),
                None => name == **pattern,
            };
            if banned.iter().any(|pattern| is(&pattern)) {
                wrong.push(format!("{manifest}:{line}: must not depend on {name}"));
            }
            if value != ".workspace=true" && !value.contains("workspace=true") {
                wrong.push(format!("{manifest}:{line}: {name}: versions stand in the root Cargo.toml only"));
            }
        }
        if !text.contains("[lints]\nworkspace = true") {
            wrong.push(format!("{manifest}: the workspace's lints are not switched on"));
        }
    }
    let listed = |manifest: &str| CRATES.iter().any(|(known, _)| *known == manifest);
    let members =
        repo.text("Cargo.toml").unwrap_or_default().lines().find(|line| line.starts_with("members"));
    for member in members.unwrap_or_default().split('"').skip(1).step_by(2) {
        if !listed(&format!("{member}/Cargo.toml")) {
            wrong.push(format!("Cargo.toml: {member} has no wall in host/tests/tidy/walls.rs"));
        }
    }
    wrong
}

/// Line, name and the rest (without blanks) of every dependency.
fn dependencies(manifest: &str) -> Vec<(usize, &str, String)> {
    let mut found = Vec::new();
    let mut inside = false;
    for (number, line) in (1..).zip(manifest.lines()) {
        let line = line.split('#').next().unwrap_or_default().trim();
        if line.starts_with('[') {
            let section = line.trim_matches(['[', ']']);
            inside = section.ends_with("dependencies");
            if let Some((_, name)) = section.split_once("dependencies.") {
                found.push((number, name, "in a table of its own".into()));
            }
        } else if inside && let Some(end) = line.find(['.', '=', ' ']) {
            found.push((number, &line[..end], line[end..].replace(' ', "")));
        }
    }
    found
}

/// Paths in code that lead through a wall between modules.
pub(crate) fn modules(repo: &Repo) -> Vec<String> {
    let below = |path: &str, places: &[&str]| {
        places.iter().any(|place| {
            path.strip_prefix(place).is_some_and(|rest| rest.is_empty() || rest.starts_with(['/', '.']))
        })
    };
    let mut wrong = Vec::new();
    for (path, source) in repo.ending(".rs") {
        let walls: Vec<&Wall> =
            WALLS.iter().filter(|wall| below(path, wall.inside) && !below(path, wall.except)).collect();
        if walls.is_empty() {
            continue;
        }
        for named in rust::paths(&rust::code(source)) {
            let full = resolved(path, &named.path);
            for wall in walls.iter().filter(|wall| wall.banned.iter().any(|banned| leads_to(&full, banned))) {
                wrong.push(format!("{path}:{}: {full}: {}", named.line, wall.why));
            }
        }
    }
    wrong
}

fn leads_to(path: &str, banned: &str) -> bool {
    match banned.strip_prefix("::") {
        Some(name) => path.split("::").any(|part| part == name),
        None => {
            path.strip_prefix(banned).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
                || is_parent(path, banned)
        }
    }
}

/// Whether `path` brings in the module that `banned` is in, by its name or with all that it has: what it names then is named in
/// other words. A type is no such module, nor is a whole crate.
fn is_parent(path: &str, banned: &str) -> bool {
    let path = path.strip_suffix("::*").or_else(|| path.strip_suffix("::self")).unwrap_or(path);
    banned.rsplit_once("::").is_some_and(|(parent, _)| {
        let last = parent.rsplit("::").next().unwrap_or_default();
        path == parent && parent.contains("::") && last.starts_with(|first: char| first.is_ascii_lowercase())
    })
}

/// `named` in the file `file`, without `self` and `super`: those lead from the file's own module. In a module within a file they
/// lead less far than this says; only its tests are one.
fn resolved(file: &str, named: &str) -> String {
    if !named.starts_with("self::") && !named.starts_with("super::") {
        return named.to_owned();
    }
    let inside = file.split_once("/src/").map_or(file, |(_, inside)| inside).trim_end_matches(".rs");
    let mut at: Vec<&str> = std::iter::once("crate").chain(inside.split('/')).collect();
    at.pop_if(|last| ["mod", "lib", "main"].contains(last));
    let mut rest = named;
    loop {
        if let Some(after) = rest.strip_prefix("self::") {
            rest = after;
        } else if let Some(after) = rest.strip_prefix("super::") {
            if at.len() > 1 {
                at.pop();
            }
            rest = after;
        } else {
            return format!("{}::{rest}", at.join("::"));
        }
    }
}

/// Every wall with a file that breaks it: the rule is worth something only when it sees them.
pub(crate) const PLANTED: &[(&str, &str, &str)] = &[
    ("sdk/job/src/planted.rs", "use std::{fmt, fs::File};", "std::fs::File"),
    ("sdk/job/src/planted.rs", "fn f() { let _ = std::time::SystemTime::now(); }", "SystemTime"),
    ("sdk/client/src/planted.rs", "use strongroom_runtime::Engine;", "strongroom_runtime"),
    ("runtime/src/planted.rs", "use strongroom_job::JobId;", "strongroom_job"),
    ("runtime/src/net/planted.rs", "use rustls::ClientConfig;", "tls.rs alone"),
    ("runtime/src/planted.rs", "fn f() { std::time::Instant::now(); }", "clocks"),
    ("host/src/dispatch/planted.rs", "use landlock::Ruleset;", "is decided in confine"),
    ("host/src/admission/planted.rs", "use tokio::sync::mpsc;", "tokio"),
    ("host/src/admission/planted.rs", "use crate::clock::Clock;", "crate::clock"),
    ("host/src/lifecycle.rs", "use sled::Db;", "sled"),
    ("host/src/schedule/planted.rs", "use crate::store::Waiting;", "pure"),
    ("host/src/schedule/planted.rs", "fn f() { std::time::Instant::now(); }", "pure"),
    ("host/src/retention.rs", "use crate::store::Store;", "crate::store"),
    ("host/src/dispatch/planted.rs", "fn f(c: quinn::Connection) {}", "QUIC"),
    ("host/src/witness/planted.rs", "use hyper::Request;", "HTTP"),
    ("host/src/forward/planted.rs", "use hyper::Request;", "HTTP"),
    ("host/src/cosigning/planted.rs", "use tokio::net::TcpStream;", "TCP"),
    ("host/src/cosigning/planted.rs", "use tokio::net;\nfn f(s: net::TcpStream) {}", "TCP"),
    ("host/src/cosigning/planted.rs", "use tokio::net::{self, UdpSocket};", "TCP"),
    ("host/src/cosigning/planted.rs", "use tokio::net::*;", "TCP"),
    ("host/src/cosigning/planted.rs", "use tokio::net::TcpSocket;", "TCP"),
    ("host/src/cosigning/planted.rs", "fn f() { std::net::TcpStream::connect(a); }", "TCP"),
    ("host/src/witness/planted.rs", "use crate::store::Store;", "strangers"),
    ("host/src/witness/planted.rs", "use super::super::store::Store;", "strangers"),
    ("host/src/witness/mod.rs", "use super::store::Store;", "strangers"),
    ("host/src/http/planted.rs", "use super::super::{dispatch::Board};", "strangers"),
    ("host/src/forward/planted.rs", "fn f(s: super::super::store::Store) {}", "as anybody could"),
    ("host/src/retention.rs", "use self::super::store::Store;", "crate::store"),
    ("host/src/http/planted.rs", "use crate::host::Host;", "strangers"),
    ("host/src/forward/planted.rs", "use tokio_rustls::TlsConnector;", "trusted"),
    ("host/src/forward/planted.rs", "use crate::store::Store;", "as anybody could"),
    ("host/src/telemetry/planted.rs", "use crate::store::Store;", "handed to it"),
    ("host/src/audit/planted.rs", "use sled as s;\nuse sled::Db;", "sled"),
    ("host/src/dispatch/planted.rs", "fn f() { sandbox::Grant::none(); }", "grant"),
    ("host/src/cli/planted.rs", "use strongroom_runtime::{Engine, Grant};", "grant"),
    ("host/src/host/planted.rs", "use crate::admission::{admit, readmit};", "rebuild"),
    ("host/src/store/planted.rs", "fn f() { crate::admission::readmit_kept(b, s, e) }", "verified and kept"),
    ("host/src/store/planted.rs", "use crate::admission::GrantTerms;", "a worker is told"),
    ("host/src/worker/planted.rs", "use crate::store::Store;", "neither keys nor state"),
    ("host/src/worker/planted.rs", "use strongroom_runtime::Grant;", "grant"),
    ("host/src/worker/planted.rs", "fn f() { serde_json::from_slice(b).unwrap() }", "AdmittedJob"),
    ("host/src/dispatch/planted.rs", "use wasmtime::Engine;", "strongroom-runtime"),
    ("host/src/store/planted.rs", "use std::time::{Duration, SystemTime};", "clock.rs"),
    ("host/src/cli/planted.rs", "fn f() { jiff::Timestamp::now(); }", "clock.rs"),
    ("host/src/config/planted.rs", "fn f() { std::env::var(NAME); }", "environment"),
    ("host/src/host/planted.rs", "use strongroom_sdk::Client;", "client"),
    ("host/src/config/planted.rs", "use clap::Args;", "command line"),
    ("host/src/schedule/planted.rs", "use jiff::Zoned;", "calendars"),
    ("host/src/host/planted.rs", "fn f() { serde_json::from_slice(b).unwrap() }", "AdmittedJob"),
];
