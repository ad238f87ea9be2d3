//! The unit for systemd, judged by systemd.

use std::process::Command;

use super::cli_support::Place;

const UNIT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/packaging/strongroom.service");

/// systemd's own judge; none where it is not installed, which is a failure where it was asked for.
fn analyze(arguments: &[&str]) -> Option<(bool, String)> {
    let output =
        Command::new("systemd-analyze").args(arguments).arg(UNIT).env_remove("STRONGROOM_SYSTEMD").output();
    match output {
        Ok(output) => {
            let said = [output.stdout, output.stderr].concat();
            Some((output.status.success(), String::from_utf8_lossy(&said).into_owned()))
        }
        Err(error) => {
            #[allow(clippy::disallowed_methods, reason = "whether a skipped test is a failure")]
            let required = std::env::var_os("STRONGROOM_SYSTEMD").is_some();
            assert!(!required, "systemd-analyze: {error}");
            println!("NOT TESTED: systemd-analyze is not installed ({error})");
            None
        }
    }
}

/// 2.0 of 10, where 10 is a service without any bounds.
#[test]
fn the_unit_is_as_closed_as_systemd_knows_how() {
    let Some((success, said)) = analyze(&["security", "--offline=true", "--no-pager", "--threshold=20"])
    else {
        return;
    };
    assert!(success, "{said}");
    // A word that this systemd does not know would be a bound that is not there.
    assert!(!said.contains("ignoring"), "{said}");
    println!("{}", said.lines().find(|line| line.contains("Overall exposure")).unwrap_or_default());
}

/// What the unit runs is a command that this program has.
#[test]
fn the_unit_starts_a_command_that_exists() {
    let unit = std::fs::read_to_string(UNIT).unwrap();
    let start = unit.lines().find_map(|line| line.strip_prefix("ExecStart=/usr/bin/strongroom ")).unwrap();
    let options: Vec<&str> = start.split(' ').filter(|word| word.starts_with("--")).collect();
    assert_eq!(options, ["--dir", "--log-format"]);
    let help = Place::new().run(&["serve", "--help"]).exits(0);
    for option in options {
        assert!(help.out().contains(option), "{option}");
    }
    // The page that tells people of it says the same.
    let page = include_str!("../../../docs/how-to/run-a-service.md");
    assert!(page.contains("host/packaging/strongroom.service"));
}
