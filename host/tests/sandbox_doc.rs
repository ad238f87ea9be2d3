//! `docs/sandbox.md` is a reference: its tables are held against the code, so that a limit or a capability that is added is in it.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod cli_support;

use std::collections::{BTreeMap, BTreeSet};

use cli_support::Place;
use strongroom::config::KNOBS;
use strongroom_job::{Capabilities, Limit, Limits, SecretForm, SecretUse};

const PAGE: &str = include_str!("../../docs/sandbox.md");

/// The rows of the table under a header that begins with `first`, as cells.
fn table(first: &str) -> Vec<Vec<&'static str>> {
    let rows = PAGE.lines().skip_while(|line| !line.starts_with(first)).skip(2);
    let cells = |line: &'static str| line.trim_matches('|').split('|').map(str::trim).collect();
    let rows: Vec<_> = rows.take_while(|line| line.starts_with('|')).map(cells).collect();
    assert!(!rows.is_empty(), "no table begins with {first}");
    rows
}

fn bare(cell: &str) -> String {
    cell.replace('`', "")
}

/// Every limit. The match fails to compile when one is added, so that it is added here, too.
fn limits() -> [Limit; 17] {
    let all = [
        Limit::Memory,
        Limit::Fuel,
        Limit::WallTime,
        Limit::Stdout,
        Limit::Stderr,
        Limit::Instances,
        Limit::Tables,
        Limit::Memories,
        Limit::Handles,
        Limit::HostBuffers,
        Limit::CpuTime,
        Limit::Disk,
        Limit::FileSize,
        Limit::Files,
        Limit::Sockets,
        Limit::HttpBodies,
        Limit::Artifacts,
    ];
    for limit in all {
        match limit {
            Limit::Memory | Limit::Fuel | Limit::WallTime | Limit::Stdout | Limit::Stderr => {}
            Limit::Instances | Limit::Tables | Limit::Memories | Limit::Handles | Limit::HostBuffers => {}
            Limit::CpuTime | Limit::Disk | Limit::FileSize | Limit::Files | Limit::Sockets => {}
            Limit::HttpBodies | Limit::Artifacts => {}
        }
    }
    all
}

// Red with any row of either table taken out.
#[test]
fn every_limit_has_a_row() {
    let mut named: BTreeSet<String> = table("| name | field |").iter().map(|row| bare(row[0])).collect();
    named.extend(table("| name | value |").iter().map(|row| bare(row[0])));
    for limit in limits() {
        assert!(named.contains(&limit.to_string()), "{limit} has no row");
    }
}

/// Every field of the limits, none of them at its default, so that none is left out.
fn all_limits() -> BTreeMap<String, serde_json::Value> {
    let limits = Limits {
        memory_bytes: 1,
        fuel: Some(1),
        wall_ms: 1,
        stdout_bytes: 1,
        stderr_bytes: 1,
        cpu_ms: Some(1),
        disk_bytes: 1,
        file_bytes: 1,
        files: 1,
        handles: 1,
        sockets: 1,
        http_bytes: 1,
        instances: 1,
        host_buffer_bytes: 1,
    };
    let json = serde_json::to_value(limits).unwrap();
    json.as_object().unwrap().clone().into_iter().collect()
}

// Red with a default changed in the page, or in `Limits::default`.
#[test]
fn every_field_of_the_limits_has_its_default_its_most_and_its_option() {
    let rows = table("| name | field |");
    let defaults = defaults();
    for field in all_limits().keys() {
        let row =
            rows.iter().find(|row| bare(row[1]) == *field).unwrap_or_else(|| panic!("{field} has no row"));
        let default = defaults[field.as_str()].map_or("none".to_owned(), |value| amount(field, value));
        assert!(row[3].split(':').next() == Some(&default), "{field}: {default} is not {}", row[3]);
        let knob = KNOBS.iter().find(|knob| knob.section == "max_limits" && knob.key == field).unwrap();
        let most = knob.default.map_or("none".to_owned(), |value| amount(field, value));
        assert_eq!(row[6], most, "{field}: the most that a host allows");
    }
    assert_eq!(rows.len(), all_limits().len(), "a row for a limit that does not exist");
}

fn defaults() -> BTreeMap<&'static str, Option<u64>> {
    let Limits {
        memory_bytes,
        fuel,
        wall_ms,
        stdout_bytes,
        stderr_bytes,
        cpu_ms,
        disk_bytes,
        file_bytes,
        files,
        handles,
        sockets,
        http_bytes,
        instances,
        host_buffer_bytes,
    } = Limits::default();
    BTreeMap::from([
        ("memory_bytes", Some(memory_bytes)),
        ("fuel", fuel),
        ("wall_ms", Some(wall_ms)),
        ("stdout_bytes", Some(stdout_bytes)),
        ("stderr_bytes", Some(stderr_bytes)),
        ("cpu_ms", cpu_ms),
        ("disk_bytes", Some(disk_bytes)),
        ("file_bytes", Some(file_bytes)),
        ("files", Some(files.into())),
        ("handles", Some(handles.into())),
        ("sockets", Some(sockets.into())),
        ("http_bytes", Some(http_bytes)),
        ("instances", Some(instances.into())),
        ("host_buffer_bytes", Some(host_buffer_bytes)),
    ])
}

/// As the page writes it.
fn amount(field: &str, value: u64) -> String {
    const MINUTE_MS: u64 = 60_000;
    if field.ends_with("_bytes") {
        let gib = value.is_multiple_of(1 << 30);
        return if gib { format!("{} GiB", value >> 30) } else { format!("{} MiB", value >> 20) };
    }
    if field.ends_with("_ms") {
        return match value / MINUTE_MS {
            60 => "1 hour".to_owned(),
            minutes => format!("{minutes} minutes"),
        };
    }
    let digits = value.to_string();
    let groups: Vec<&str> =
        digits.as_bytes().rchunks(3).rev().map(|group| str::from_utf8(group).unwrap()).collect();
    groups.join(",")
}

// Red with any row of the table of capabilities taken out.
#[test]
fn every_capability_has_a_row() {
    let secret = SecretUse { name: "a".parse().unwrap(), form: SecretForm::Env("A".into()) };
    let asked = Capabilities {
        mounts: Vec::new(),
        clock: true,
        random: true,
        scratch: true,
        connect: vec!["a.example:1".parse().unwrap()],
        listen: vec!["127.0.0.1:1".parse().unwrap()],
        http: vec!["https://a.example".parse().unwrap()],
        secrets: vec![secret],
    };
    let rows = table("| capability | field |");
    let json = serde_json::to_value(asked).unwrap();
    for field in json.as_object().unwrap().keys() {
        let named = |row: &Vec<&str>| row[1].starts_with(&format!("`{field}`"));
        assert!(rows.iter().any(named), "{field} has no row");
    }
}

// Red with an option in the page that does not exist.
#[test]
fn every_option_that_the_page_names_exists() {
    let place = Place::new();
    let mut known = String::new();
    for command in ["run", "submit"] {
        known.push_str(place.run(&[command, "--help"]).exits(0).out());
    }
    let word = |rest: &'static str| {
        rest.split(|char: char| !char.is_ascii_lowercase() && char != '-').next().unwrap_or_default()
    };
    let options: BTreeSet<&str> = PAGE.split("--").skip(1).map(word).filter(|word| word.len() > 1).collect();
    for option in options {
        let there = known.split_whitespace().any(|word| word.trim_end_matches(',') == format!("--{option}"));
        assert!(there, "--{option} does not exist");
    }
}
