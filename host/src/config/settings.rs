//! The configuration as it is in force: every value, and where it came from.
//!
//! It is told in TOML that means the same as the file that it was read from; a test holds the one against the other, so a
//! key or a default that is missing here cannot stay so.

use super::example::LISTEN;
use super::knobs::KNOBS;
use super::raw::{Fault, Section, Source, written_text};

/// One value in force.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    /// Dotted: `bounds.max_running`, `principals[0].name`.
    pub key: String,
    /// In TOML; none where nothing bounds it, or nothing was named.
    pub value: Option<String>,
    /// The line of the file that says so; none for a default.
    pub line: Option<usize>,
}

/// The settings of a file that was checked already.
pub(super) fn of(text: &[u8]) -> Result<Vec<Setting>, Fault> {
    let mut top = Source::of(text)?.parse()?;
    let mut settings = Vec::new();
    say(&mut settings, &mut top, "listen", Some(written_text(&LISTEN.to_string())));
    say(&mut settings, &mut top, "log_origin", None);
    say(&mut settings, &mut top, "queues", Some(r#"["default"]"#.into()));
    let mut section = top.section("bounds")?;
    for knob in KNOBS.iter().filter(|knob| knob.section == "bounds") {
        say(&mut settings, &mut section, knob.key, knob.default.map(|number| number.to_string()));
    }
    let mut section = top.section("max_limits")?;
    for knob in KNOBS.iter().filter(|knob| knob.section == "max_limits") {
        say(&mut settings, &mut section, knob.key, knob.default.map(|number| number.to_string()));
    }
    say(&mut settings, &mut top.section("http")?, "ca_file", None);
    for (_, volume) in top.section("volumes")?.entries() {
        let mut volume = volume.section()?;
        say(&mut settings, &mut volume, "path", None);
        say(&mut settings, &mut volume, "access", Some(written_text("read")));
    }
    for principal in top.take("principals").map_or_else(|| Ok(Vec::new()), super::raw::Value::list)? {
        let mut principal = principal.section()?;
        say(&mut settings, &mut principal, "name", None);
        say(&mut settings, &mut principal, "key", None);
        say(&mut settings, &mut principal, "tenant", Some(written_text("default")));
        for switch in ["any_directory", "any_network"] {
            say(&mut settings, &mut principal, switch, Some("false".into()));
        }
        say(&mut settings, &mut principal, "volumes", Some("{}".into()));
        for list in ["connect", "listen", "http", "secrets"] {
            say(&mut settings, &mut principal, list, Some("[]".into()));
        }
    }
    Ok(settings)
}

fn say(settings: &mut Vec<Setting>, section: &mut Section<'_>, key: &'static str, default: Option<String>) {
    let name = section.dotted(key);
    settings.push(match section.take(key) {
        Some(value) => Setting { key: name, value: Some(value.written()), line: Some(value.line()) },
        None => Setting { key: name, value: default, line: None },
    });
}

/// A file of these settings, each line with where its value came from.
pub(super) fn file(settings: &[Setting]) -> String {
    let mut text = String::new();
    let mut block = "";
    for Setting { key, value, line } in settings {
        // The only lists of tables are principals: `principals[0].name`.
        let (of, key) = match key.split_once("].") {
            Some((of, rest)) => (of, rest),
            None => ("", key.as_str()),
        };
        if of != block {
            block = of;
            text.push_str("\n[[principals]]\n");
        }
        let told = match value {
            Some(value) => format!("{key} = {value}"),
            None => format!("# {key}: none"),
        };
        let origin = line.map_or_else(|| "default".to_owned(), |line| format!("line {line}"));
        text.push_str(&format!("{told:<60} # {origin}\n"));
    }
    text
}
