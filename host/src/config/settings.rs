//! The configuration as it is in force: every value, and where it came from.
//!
//! It is told in TOML that means the same as the file that it was read from; a test holds the one against the other, so a
//! key or a default that is missing here cannot stay so.

use super::Config;
use super::example::LISTEN;
use super::forward::ROTATE_BYTES;
use super::knobs::{KNOBS, Knob, QUEUE_BURST, RULES};
use super::raw::{Fault, Section, Source, written_text};
use super::telemetry::METRICS_EVERY_MS;

/// The lists of tables.
const LISTS: [&str; 3] = ["principals", "witnesses", "forward"];

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

/// The settings of a file that was checked already: `config` is what it means.
pub(super) fn of(text: &[u8], config: &Config) -> Result<Vec<Setting>, Fault> {
    let mut top = Source::of(text)?.parse()?;
    let mut settings = Vec::new();
    say(&mut settings, &mut top, "listen", Some(written_text(&LISTEN.to_string())));
    say(&mut settings, &mut top, "allow_from", None);
    say(&mut settings, &mut top, "log_origin", None);
    say(&mut settings, &mut top, "queues", Some(r#"["default"]"#.into()));
    say(&mut settings, &mut top, "serve_log", None);
    say(&mut settings, &mut top, "serve_log_allow_from", None);
    let quorum = (!config.witnesses.is_empty()).then(|| config.witness_quorum.to_string());
    say(&mut settings, &mut top, "witness_quorum", quorum);
    say(&mut settings, &mut top, "confine", Some(written_text("try")));
    say(&mut settings, &mut top, "run_as", None);
    say(&mut settings, &mut top, "isolation", Some(written_text("in-process")));
    for table in ["bounds", "max_limits", "retention", "check"] {
        numbers(&mut settings, &mut top.section(table)?, KNOBS, table);
    }
    shares(&mut settings, &mut top, config)?;
    say(&mut settings, &mut top.section("http")?, "ca_file", None);
    let mut admin = top.section("admin")?;
    say(&mut settings, &mut admin, "listen", None);
    say(&mut settings, &mut admin, "allow_from", None);
    telemetry(&mut settings, &mut top, config)?;
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
        roles(&mut settings, &mut principal);
        say(&mut settings, &mut principal, "volumes", Some("{}".into()));
        for list in ["connect", "listen", "http", "secrets"] {
            say(&mut settings, &mut principal, list, Some("[]".into()));
        }
    }
    for witness in top.take("witnesses").map_or_else(|| Ok(Vec::new()), super::raw::Value::list)? {
        let mut witness = witness.section()?;
        say(&mut settings, &mut witness, "key", None);
        say(&mut settings, &mut witness, "url", None);
    }
    forwards(&mut settings, &mut top)?;
    Ok(settings)
}

/// Each of `roles` and `operator` where the file has it: the other then goes without saying, and would be refused beside it.
fn roles(settings: &mut Vec<Setting>, principal: &mut Section<'_>) {
    let operator = settings.len();
    say(settings, principal, "operator", Some("false".into()));
    let roles = settings.len();
    say(settings, principal, "roles", None);
    let of_none = if settings[roles].line.is_some() { operator } else { roles };
    settings.remove(of_none);
}

/// Where the audit log goes. What is for files only is told of files only: elsewhere, these keys are refused.
fn forwards(settings: &mut Vec<Setting>, top: &mut Section<'_>) -> Result<(), Fault> {
    for forward in top.take("forward").map_or_else(|| Ok(Vec::new()), super::raw::Value::list)? {
        let mut forward = forward.section()?;
        say(settings, &mut forward, "name", None);
        let to = settings.len();
        say(settings, &mut forward, "to", None);
        let is_file = settings[to].value.as_deref().is_some_and(|to| to.starts_with("\"file:"));
        say(settings, &mut forward, "from", Some(written_text("start")));
        say(settings, &mut forward, "ca_file", None);
        say(settings, &mut forward, "rotate_bytes", is_file.then(|| ROTATE_BYTES.to_string()));
        say(settings, &mut forward, "keep", None);
    }
    Ok(())
}

/// Defaults are in force where there is a collector only.
fn telemetry(settings: &mut Vec<Setting>, top: &mut Section<'_>, config: &Config) -> Result<(), Fault> {
    let mut telemetry = top.section("telemetry")?;
    let (is_there, of) = (config.telemetry.is_some(), config.telemetry.as_ref());
    let every = of.and_then(|telemetry| telemetry.metrics_every);
    say(settings, &mut telemetry, "to", None);
    say(settings, &mut telemetry, "traces", is_there.then(|| "true".into()));
    say(settings, &mut telemetry, "metrics", is_there.then(|| "true".into()));
    say(settings, &mut telemetry, "metrics_every_ms", every.map(|_| METRICS_EVERY_MS.to_string()));
    say(settings, &mut telemetry, "ca_file", None);
    Ok(())
}

/// What queues and tenants share by, and the labels.
fn shares(settings: &mut Vec<Setting>, top: &mut Section<'_>, config: &Config) -> Result<(), Fault> {
    for (key, queue) in top.section("queue_rules")?.entries() {
        let (name, line) = (queue.name().to_owned(), queue.line());
        let mut queue = queue.section()?;
        if queue.is_empty() {
            // It makes the queue exist all the same.
            settings.push(Setting { key: name, value: Some("{}".into()), line: Some(line) });
        }
        let rate = config
            .queue_rules
            .iter()
            .find(|(name, _)| name.as_str() == key)
            .and_then(|(_, rules)| rules.rate);
        say(settings, &mut queue, "rate", None);
        say(settings, &mut queue, QUEUE_BURST.key, rate.map(|rate| rate.burst.to_string()));
        numbers(settings, &mut queue, RULES, QUEUE_BURST.section);
    }
    for (_, tenant) in top.section("tenants")?.entries() {
        numbers(settings, &mut tenant.section()?, RULES, "tenants");
    }
    for (_, label) in top.section("labels")?.entries() {
        settings.push(Setting {
            key: label.name().to_owned(),
            value: Some(label.written()),
            line: Some(label.line()),
        });
    }
    Ok(())
}

/// The numbers of one table.
fn numbers(settings: &mut Vec<Setting>, section: &mut Section<'_>, knobs: &[Knob], table: &str) {
    for knob in knobs.iter().filter(|knob| knob.section == table && knob.key != QUEUE_BURST.key) {
        say(settings, section, knob.key, knob.default.map(|number| number.to_string()));
    }
}

fn say(settings: &mut Vec<Setting>, section: &mut Section<'_>, key: &'static str, default: Option<String>) {
    let name = section.dotted(key);
    settings.push(match section.take(key) {
        Some(value) => Setting { key: name, value: Some(value.written()), line: Some(value.line()) },
        None => Setting { key: name, value: default, line: None },
    });
}

/// The list that `list[0` is an item of.
fn list_of(item: &str) -> Option<&str> {
    item.split_once('[').map(|(list, _)| list).filter(|list| LISTS.contains(list))
}

/// A file of these settings, each line with where its value came from.
pub(super) fn file(settings: &[Setting]) -> String {
    let mut text = String::new();
    let mut block = "";
    for Setting { key, value, line } in settings {
        let (of, key) = match key.split_once("].").filter(|(of, _)| list_of(of).is_some()) {
            Some((of, rest)) => (of, rest),
            None => ("", key.as_str()),
        };
        if of != block {
            block = of;
            text.push_str(&format!("\n[[{}]]\n", list_of(of).unwrap_or_default()));
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
