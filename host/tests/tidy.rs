//! The house rules, kept by a test and not by memory: the walls of ARCHITECTURE.md, the shape of files, and that documents
//! name only what exists.
//!
//! Each rule is a function from the repository to a list of complaints. It is asked twice: about the repository as it is, where
//! it must find nothing, and about one with a violation in it, where it must find that.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failed unwrap is a failed test")]

#[path = "tidy/answers.rs"]
mod answers;
#[path = "tidy/docs.rs"]
mod docs;
#[path = "tidy/files.rs"]
mod files;
#[path = "tidy/repo.rs"]
mod repo;
#[path = "tidy/rust.rs"]
mod rust;
#[path = "tidy/walls.rs"]
mod walls;

use repo::Repo;

type Rule = fn(&Repo) -> Vec<String>;

fn must_hold(rule: Rule) {
    let complaints = rule(&Repo::load());
    assert!(complaints.is_empty(), "\n{}\n", complaints.join("\n"));
}

/// The rule must complain about `path` in the words of `says`.
fn must_see(rule: Rule, repo: &Repo, path: &str, says: &str) {
    let complaints = rule(repo);
    assert!(
        complaints.iter().any(|complaint| complaint.starts_with(path) && complaint.contains(says)),
        "a violation in {path} ({says}) was not seen; only:\n{}",
        complaints.join("\n")
    );
}

#[test]
fn no_crate_reaches_through_a_wall() {
    must_hold(walls::crates);
}

#[test]
fn no_module_reaches_through_a_wall() {
    must_hold(walls::modules);
}

#[test]
fn each_wall_between_crates_stands() {
    let repo = Repo::load();
    for (manifest, dependency, says) in [
        ("sdk/job/Cargo.toml", "tokio.workspace = true", "must not depend on tokio"),
        (
            "sdk/client/Cargo.toml",
            "strongroom-runtime.workspace = true",
            "must not depend on strongroom-runtime",
        ),
        ("runtime/Cargo.toml", "strongroom-job = { workspace = true }", "must not depend on strongroom-job"),
        ("host/Cargo.toml", "wasmtime.workspace = true", "must not depend on wasmtime"),
        ("examples/programs/Cargo.toml", "strongroom.workspace = true", "must not depend on strongroom"),
        ("benches/Cargo.toml", "rand = \"0.9\"", "root Cargo.toml only"),
        ("host/Cargo.toml", "[dependencies.rand]\nversion = \"1\"", "root Cargo.toml only"),
    ] {
        let planted = format!("[dev-dependencies]\n{dependency}");
        must_see(walls::crates, &repo.appended(manifest, &planted), manifest, says);
    }
    let stranger = repo.with("Cargo.toml", "members = [\"host\", \"plugins\"]");
    must_see(walls::crates, &stranger, "Cargo.toml", "plugins has no wall");
}

#[test]
fn each_wall_between_modules_stands() {
    let repo = Repo::load();
    for (path, code, says) in walls::PLANTED {
        let planted = repo.with(path, &format!("//! Planted.\n{code}\n"));
        must_see(walls::modules, &planted, path, says);
    }
}

#[test]
fn source_files_are_short_documented_and_safe() {
    must_hold(files::sources);
    let repo = Repo::load();
    for (path, text, says) in files::PLANTED_SOURCES {
        must_see(files::sources, &repo.with(path, text), path, says);
    }
    let long = format!("//! Doc.\n{}", "fn f() {}\n".repeat(500));
    must_see(files::sources, &repo.with("host/src/planted.rs", &long), "host/src/planted.rs", "501 lines");
}

#[test]
fn nothing_is_left_unfinished() {
    must_hold(files::words);
    let left = format!("// {}{}: later\n", "TO", "DO");
    must_see(
        files::words,
        &Repo::load().with("host/src/planted.rs", &left),
        "host/src/planted.rs:1",
        "finish it",
    );
}

#[test]
fn no_file_names_a_machine_or_a_mirror() {
    must_hold(files::machines);
    let repo = Repo::load();
    let root = repo::root().display().to_string();
    must_see(
        files::machines,
        &repo.with("docs/planted.md", &format!("cd {root}")),
        "docs/planted.md",
        "this machine",
    );
    let mirror = ["mirror", "example", "net"].join(".");
    let lock = format!("source = \"registry+https://{mirror}/index\"");
    must_see(files::machines, &repo.with("Cargo.lock", &lock), "Cargo.lock:1", "crates.io");
    let home = format!("see {}{}ann/notes", "/ho", "me/");
    must_see(files::machines, &repo.with("docs/planted.md", &home), "docs/planted.md:1", "a path below");
    let link = format!("get it from https://{mirror}/x");
    must_see(files::machines, &repo.with("docs/planted.md", &link), "docs/planted.md:1", &mirror);
}

#[test]
fn documents_name_only_what_exists() {
    for rule in [docs::links, docs::paths, docs::names, docs::index, docs::programs] {
        must_hold(rule);
    }
}

#[test]
fn a_document_that_names_something_else_is_seen() {
    let repo = Repo::load();
    for (rule, path, line, says) in [
        (docs::links as Rule, "docs/planted.md", "[here](nowhere.md)", "leads nowhere"),
        (docs::links, "docs/planted.md", "[here](../README.md#no-such-heading)", "no heading"),
        (
            docs::paths,
            "docs/planted.md",
            "`host/src/store/{mod,gone}.rs`",
            "host/src/store/gone.rs does not exist",
        ),
        (docs::names, "ARCHITECTURE.md", "`gone()` in `host/src/lib.rs`", "gone() is not in"),
        (
            docs::names,
            "ARCHITECTURE.md",
            "`Writer::gone` in `host/src/store/writer.rs`",
            "Writer::gone is not in",
        ),
        (docs::names, "ARCHITECTURE.md", "`commit()` is somewhere", "without its file"),
        (docs::index, "docs/planted.md", "Nobody links here.", "does not lead to it"),
        (docs::programs, "README.md", "```rust\nfn main() { gone(); }\n```", "not in examples/programs"),
    ] {
        must_see(rule, &repo.with(path, &format!("# Planted\n\n{line}\n")), path, says);
    }
}

#[test]
fn each_answer_to_a_security_chapter_names_a_test_that_exists() {
    must_hold(answers::proofs);
    let repo = Repo::load();
    for (row, says) in [
        (
            "| a | b | [c](threat-model.md) | `host/tests/cli.rs`: `gone()` |",
            "gone is no test of host/tests/cli.rs",
        ),
        ("| a | b | [c](threat-model.md) | `host/tests/readme.rs`: `run()` |", "run is no test"),
        ("| a | b | [c](threat-model.md) | `run()` |", "run is no test of no file"),
        ("| a | b | [c](threat-model.md) | not here |", "no test is named"),
        ("| a | b | c | `host/tests/cli.rs`: `init_makes_private_keys_once()` |", "nothing to read"),
        ("| a | b |", "four cells"),
    ] {
        must_see(answers::proofs, &repo.appended("docs/answers.md", row), "docs/answers.md", says);
    }
}
