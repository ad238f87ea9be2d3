//! Documents name what exists: links, paths, functions; and every document can be found from the index.

use std::collections::BTreeSet;

use crate::repo::Repo;
use crate::rust;

/// Documents that name functions beside files. In these, a paragraph (an item of a list, a row of a table) with a `.rs` file and
/// a Rust name in backticks says that the one holds the other.
const NAMING: [&str; 5] = [
    "ARCHITECTURE.md",
    "docs/lifecycle.md",
    "docs/sandbox.md",
    "docs/formats/state.md",
    "docs/adr/0005-one-writer-thread.md",
];

/// Links to files and headings that are not there.
pub(crate) fn links(repo: &Repo) -> Vec<String> {
    let mut wrong = Vec::new();
    for (path, line, text) in prose(repo) {
        for target in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            if target.contains("://") {
                continue;
            }
            let (file, heading) = target.split_once('#').unwrap_or((target, ""));
            let place = if file.is_empty() { path.to_owned() } else { joined(path, file) };
            if !repo.has(&place) {
                wrong.push(format!("{path}:{line}: the link to {target} leads nowhere"));
            } else if !heading.is_empty() && !headings(repo, &place).contains(heading) {
                wrong.push(format!("{path}:{line}: {place} has no heading #{heading}"));
            }
        }
    }
    wrong
}

/// Paths in backticks that are not there.
pub(crate) fn paths(repo: &Repo) -> Vec<String> {
    let mut wrong = Vec::new();
    for (path, line, text) in prose(repo) {
        for named in quoted(text).flat_map(spelled_out) {
            if is_path(repo, &named) && !repo.has(&named) {
                wrong.push(format!("{path}:{line}: {named} does not exist"));
            }
        }
    }
    wrong
}

/// Rust names in backticks that are in no file named beside them.
pub(crate) fn names(repo: &Repo) -> Vec<String> {
    let mut wrong = Vec::new();
    for (path, line, text) in paragraphs(prose(repo).filter(|(path, ..)| NAMING.contains(path))) {
        let text = text.as_str();
        let files: Vec<String> = quoted(text)
            .flat_map(spelled_out)
            .filter(|named| named.ends_with(".rs") && is_path(repo, named))
            .collect();
        let sources: Vec<String> = files.iter().filter_map(|file| repo.text(file).map(rust::code)).collect();
        if sources.is_empty() {
            if let Some(call) = quoted(text).find(|named| named.ends_with("()") && rust_name(named).is_some())
            {
                wrong.push(format!("{path}:{line}: {call} is named without its file"));
            }
            continue;
        }
        for named in quoted(text) {
            let Some(parts) = rust_name(named) else { continue };
            let is_in = |source: &String| {
                let function = parts.last().filter(|last| last.starts_with(|c: char| c.is_ascii_lowercase()));
                parts.iter().all(|part| rust::has_word(source, part))
                    && function.is_none_or(|name| rust::has_word(source, &format!("fn {name}")))
            };
            if !sources.iter().any(is_in) {
                wrong.push(format!("{path}:{line}: {named} is not in {}", files.join(", ")));
            }
        }
    }
    wrong
}

/// Documents that the index leads to neither by themselves nor by their directory.
pub(crate) fn index(repo: &Repo) -> Vec<String> {
    let linked: BTreeSet<String> = ["README.md", "docs/README.md", "docs/formats/README.md"]
        .iter()
        .flat_map(|from| {
            let text = repo.text(from).unwrap_or_default();
            text.split("](")
                .skip(1)
                .filter_map(|rest| rest.split([')', '#']).next())
                .map(|to| joined(from, to))
        })
        .collect();
    repo.ending(".md")
        .filter(|(path, _)| path.starts_with("docs/") && *path != "docs/README.md")
        .filter(|(path, _)| {
            !linked.contains(*path)
                && !path.rsplit_once('/').is_some_and(|(directory, _)| linked.contains(directory))
        })
        .map(|(path, _)| format!("{path}: docs/README.md does not lead to it"))
        .collect()
}

/// Programs that the README shows, and that are not what it says.
pub(crate) fn programs(repo: &Repo) -> Vec<String> {
    let readme = repo.text("README.md").unwrap_or_default();
    let mut wrong = Vec::new();
    for block in readme.split("```rust\n").skip(1).filter_map(|rest| rest.split("```").next()) {
        let shown: Vec<&str> = block.trim_end().lines().collect();
        let is_there = repo.ending(".rs").any(|(path, text)| {
            path.starts_with("examples/programs/src/bin/")
                && text.lines().collect::<Vec<_>>().windows(shown.len()).any(|lines| lines == shown)
        });
        if !is_there {
            wrong.push(format!(
                "README.md: shows a program that is not in examples/programs: {:?}",
                shown.first()
            ));
        }
    }
    wrong
}

/// Every line of every document that is not in a block of code.
fn prose(repo: &Repo) -> impl Iterator<Item = (&str, usize, &str)> {
    repo.ending(".md").flat_map(|(path, text)| {
        let mut in_block = false;
        (1..).zip(text.lines()).filter_map(move |(line, content)| {
            let fence = content.trim_start().starts_with("```");
            in_block ^= fence;
            (!fence && !in_block).then_some((path, line, content))
        })
    })
}

/// Joins the lines of a paragraph, an item or a row; the number is that of its first line.
fn paragraphs<'r>(lines: impl Iterator<Item = (&'r str, usize, &'r str)>) -> Vec<(&'r str, usize, String)> {
    let mut joined: Vec<(&str, usize, String)> = Vec::new();
    let mut ended = true;
    for (path, line, text) in lines {
        let item = text.trim_start().split(' ').next().unwrap_or_default();
        let begins = ["|", "-"].contains(&item)
            || item.starts_with('#')
            || item.strip_suffix('.').is_some_and(|number| number.parse::<u32>().is_ok());
        match joined.last_mut() {
            Some((file, _, so_far)) if !ended && !begins && *file == path => {
                so_far.push(' ');
                so_far.push_str(text);
            }
            _ => joined.push((path, line, text.to_owned())),
        }
        ended = text.trim().is_empty();
    }
    joined
}

fn quoted(line: &str) -> impl Iterator<Item = &str> {
    line.split('`').skip(1).step_by(2)
}

/// `a/{b,c}.rs` is `a/b.rs` and `a/c.rs`.
fn spelled_out(text: &str) -> Vec<String> {
    match text.split_once('{').and_then(|(before, rest)| Some((before, rest.split_once('}')?))) {
        Some((before, (choices, after))) => {
            choices.split(',').map(|choice| format!("{before}{}{after}", choice.trim())).collect()
        }
        None => vec![text.to_owned()],
    }
}

/// Whether it looks like a path from the top of the repository.
fn is_path(repo: &Repo, text: &str) -> bool {
    let plain = text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-/".contains(&byte));
    let top = text.split('/').next().unwrap_or_default();
    let file = text.rsplit('/').next().unwrap_or_default();
    plain && text.contains('/') && repo.has_at_top(top) && !text.contains("//") && !file.starts_with("target")
}

/// The parts of `function()`, `Type`, `Type::function` or `CONSTANT`; none for anything else, such as a plain word.
fn rust_name(text: &str) -> Option<Vec<&str>> {
    let name = text.strip_suffix("()").unwrap_or(text);
    let parts: Vec<&str> = name.split("::").collect();
    let is_name = |part: &&str| {
        part.starts_with(|c: char| c.is_ascii_alphabetic())
            && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
    };
    let is_plain_word =
        parts.len() == 1 && name == text && text.starts_with(|c: char| c.is_ascii_lowercase());
    (!is_plain_word && parts.iter().all(is_name)).then_some(parts)
}

/// Where `target` leads, seen from the document at `from`.
fn joined(from: &str, target: &str) -> String {
    let mut parts: Vec<&str> = from.split('/').collect();
    parts.pop();
    for part in target.trim_end_matches('/').split('/') {
        match part {
            "." => {}
            ".." => drop(parts.pop()),
            name => parts.push(name),
        }
    }
    parts.join("/")
}

fn headings(repo: &Repo, path: &str) -> BTreeSet<String> {
    let lines = repo.text(path).unwrap_or_default().lines();
    let titles = lines.filter(|line| line.starts_with('#')).map(|line| line.trim_start_matches('#').trim());
    titles
        .map(|title| {
            let kept = title.chars().filter(|c| c.is_alphanumeric() || "-_ ".contains(*c));
            kept.collect::<String>().to_lowercase().replace(' ', "-")
        })
        .collect()
}
