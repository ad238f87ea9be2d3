//! Shells and `man` are told of every command, and take what they are told.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod cli_support;

use std::collections::BTreeSet;
use std::io::Write as _;
use std::process::{Command, Stdio};

use cli_support::Place;

/// The commands below one, as its help lists them.
fn below(place: &Place, path: &[&str]) -> Vec<String> {
    let arguments: Vec<&str> = path.iter().copied().chain(["--help"]).collect();
    let help = place.run(&arguments).exits(0);
    let Some(list) = help.out().split("Commands:\n").nth(1) else { return Vec::new() };
    let list = list.split("\n\n").next().unwrap().lines();
    list.filter_map(|line| Some(line.strip_prefix("  ")?.split_once(' ')?.0.to_owned()))
        .filter(|word| !word.is_empty())
        .collect()
}

#[test]
fn each_command_has_a_page_and_each_page_a_command() {
    let place = Place::new();
    let mut wanted = BTreeSet::from(["strongroom.1".to_owned()]);
    let commands = below(&place, &[]);
    assert!(commands.len() > 15, "{commands:?}");
    for command in commands {
        wanted.insert(format!("strongroom-{command}.1"));
        for sub in below(&place, &[&command]) {
            wanted.insert(format!("strongroom-{command}-{sub}.1"));
        }
    }
    let told = place.run(&["man", "pages", "--json"]).exits(0).json();
    let pages = place.path().join("pages");
    let found: BTreeSet<_> = std::fs::read_dir(&pages)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    assert_eq!((found, told["pages"].as_u64().unwrap()), (wanted.clone(), wanted.len() as u64));
    let page = std::fs::read_to_string(pages.join("strongroom-job-show.1")).unwrap();
    for part in
        [".TH STRONGROOM-JOB-SHOW 1", "strongroom job show", "Show everything about one job", "\\-\\-dir"]
    {
        assert!(page.contains(part), "{part}: {page}");
    }
}

#[test]
fn shells_take_their_scripts() {
    let place = Place::new();
    for shell in ["bash", "zsh", "fish"] {
        let script = place.run(&["completions", shell]).exits(0);
        for command in ["serve", "backup", "--with-keys"] {
            assert!(script.out().contains(command.trim_start_matches('-')), "{shell}: {command}");
        }
        let mut check = Command::new(shell);
        check.arg(if shell == "fish" { "--no-execute" } else { "-n" }).stdin(Stdio::piped());
        let mut child = match check.spawn() {
            Ok(child) => child,
            Err(error) if shell != "bash" && error.kind() == std::io::ErrorKind::NotFound => {
                println!("skipped: there is no {shell} here to check its script");
                continue;
            }
            Err(error) => panic!("{shell}: {error}"),
        };
        child.stdin.take().unwrap().write_all(&script.stdout).unwrap();
        assert!(child.wait().unwrap().success(), "{shell} does not take its script");
    }
    // What bash would offer behind `strongroom back`.
    let script = place.run(&["completions", "bash"]).exits(0);
    let ask = "\nCOMP_WORDS=(strongroom back) COMP_CWORD=1; _strongroom strongroom back strongroom; echo \"${COMPREPLY[*]}\"";
    let asked = Command::new("bash").args(["-c", &format!("{}{ask}", script.out())]).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&asked.stdout).trim(), "backup", "{asked:?}");
    place.run(&["completions", "tcsh"]).exits(126);
}
