//! Rules about single files: length, first line, words that must not stay, names of machines.

use crate::repo::{Repo, root};
use crate::rust;

/// Past this a file has a second idea in it.
const MAX_LINES: usize = 500;

/// Hosts that a text may name in a link. A mirror, or a machine of ours, is none of them.
const HOSTS: [&str; 12] = [
    "github.com",
    "c2sp.org",
    "in-toto.io",
    "slsa.dev",
    "example.org",
    "example.com",
    "www.rfc-editor.org",
    "theupdateframework.github.io",
    "docs.rs",
    "webassembly.org",
    "wasi.dev",
    // The name space of every SVG file.
    "www.w3.org",
];

/// Where every crate of the lock files must come from.
const SOURCE: &str = "source = \"registry+https://github.com/rust-lang/crates.io-index\"";

/// The only files with unsafe code, each a few lines about what others made and nobody can check: code, and descriptors of the service manager.
const UNSAFE: [&str; 4] = [
    "runtime/src/artifact.rs",
    "host/src/compile/vouch.rs",
    "host/src/handed/take.rs",
    "sdk/guest/src/host.rs",
];
/// Roots of the crates with such a file: unsafe code is denied, and allowed again for that file with a reason.
const DENYING: [&str; 3] = ["runtime/src/lib.rs", "host/src/lib.rs", "sdk/guest/src/lib.rs"];

/// Source files: length, module documentation, no `unsafe`, no test that is left out.
pub(crate) fn sources(repo: &Repo) -> Vec<String> {
    let mut wrong = Vec::new();
    for (path, text) in repo.ending(".rs") {
        let is_source = path.split('/').any(|part| part == "src");
        let lines = text.lines().count();
        if is_source && lines > MAX_LINES {
            wrong.push(format!(
                "{path}: {lines} lines, more than {MAX_LINES}: look for the second idea in it"
            ));
        }
        if is_source && !text.starts_with("//!") {
            wrong.push(format!("{path}: says nothing about its purpose in a first line with //!"));
        }
        let code = rust::code(text);
        if is_source && rust::has_word(&code, "unsafe") && !UNSAFE.contains(&path) {
            wrong.push(format!("{path}: unsafe code"));
        }
        let ignored = ["#[ignore", "]"].concat();
        if text.contains(&ignored) || code.contains(ignored.trim_end_matches(']')) {
            wrong.push(format!("{path}: a test that is not run is no test"));
        }
        let is_ours = ["host/", "runtime/", "sdk/"].iter().any(|place| path.starts_with(place));
        let level = if DENYING.contains(&path) { "#![deny(unsafe_code)]" } else { "#![forbid(unsafe_code)]" };
        if is_ours && path.ends_with("src/lib.rs") && !text.contains(level) {
            wrong.push(format!("{path}: does not forbid unsafe code"));
        }
    }
    wrong
}

/// Words that say that something is not finished.
pub(crate) fn words(repo: &Repo) -> Vec<String> {
    let unfinished = [["TO", "DO"].concat(), ["FIX", "ME"].concat()];
    let mut wrong = Vec::new();
    for (path, text) in repo.texts() {
        for (line, content) in (1..).zip(text.lines()) {
            if unfinished.iter().any(|word| rust::has_word(content, word)) {
                wrong.push(format!("{path}:{line}: finish it, or say what is missing in an issue"));
            }
        }
    }
    wrong
}

/// Paths of the machine that a file was written on, and names of registries and mirrors.
pub(crate) fn machines(repo: &Repo) -> Vec<String> {
    let root = root().display().to_string();
    let mut wrong = Vec::new();
    for (path, bytes) in repo.files() {
        // Short roots, such as /app, are ordinary words of other people's binaries.
        if root.len() > 5 && String::from_utf8_lossy(bytes).contains(&root) {
            wrong.push(format!("{path}: holds {root}, a path of this machine"));
        }
        let Ok(text) = str::from_utf8(bytes) else { continue };
        for (line, content) in (1..).zip(text.lines()) {
            for home in [["/ro", "ot/"].concat(), ["/ho", "me/"].concat(), ["/Us", "ers/"].concat()] {
                let begins = |at: usize| {
                    !content[..at].ends_with(|c: char| c.is_alphanumeric() || "._-~}*".contains(c))
                };
                if content.match_indices(&home).any(|(at, _)| begins(at)) {
                    wrong.push(format!("{path}:{line}: a path below {home}"));
                }
            }
            if content.starts_with("source = ") && path.ends_with(".lock") && content != SOURCE {
                wrong.push(format!("{path}:{line}: a crate that does not come from crates.io"));
            }
            if path.ends_with(".lock") || path.starts_with("sdk/job/golden/") {
                continue;
            }
            for host in hosts(content).filter(|host| !HOSTS.contains(host) && !is_nobodys(host)) {
                wrong.push(format!(
                    "{path}:{line}: names {host}, which is not in the list of hosts in tidy/files.rs"
                ));
            }
        }
    }
    wrong
}

/// The hosts of all links in a line. A name without a dot is made up.
fn hosts(line: &str) -> impl Iterator<Item = &str> {
    let after = line.split("://").skip(1);
    after.filter_map(|rest| {
        let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && !".-".contains(c)).unwrap_or(rest.len());
        let host = rest[..end].trim_end_matches('.');
        host.contains('.').then_some(host)
    })
}

/// A name or an address that is set aside for examples, or that means another machine in every network. No top-level domain
/// has one letter.
fn is_nobodys(host: &str) -> bool {
    if let Ok(address) = host.parse::<std::net::Ipv4Addr>() {
        return address.is_private()
            || address.is_loopback()
            || address.is_link_local()
            || address.is_documentation()
            || address.is_unspecified();
    }
    let host = host.to_ascii_lowercase();
    let last = host.rsplit('.').next().unwrap_or(&host);
    let set_aside = ["example", "test", "invalid"].contains(&last);
    set_aside || last.len() == 1 || host == "example.com" || host.ends_with(".example.com")
}

/// A violation of each rule, and what the complaint must say.
pub(crate) const PLANTED_SOURCES: &[(&str, &str, &str)] = &[
    ("host/src/planted.rs", "// no module documentation\n", "purpose"),
    ("host/src/planted.rs", "//! Doc.\nfn f() { unsafe { g() } }\n", "unsafe"),
    ("host/tests/planted.rs", "//! Doc.\n#[ignore = \"slow\"]\n#[test]\nfn f() {}\n", "not run"),
    ("runtime/src/lib.rs", "//! Doc.\n", "forbid"),
    ("sdk/job/src/lib.rs", "//! Doc.\n#![deny(unsafe_code)]\n", "forbid"),
];
