//! `strongroom status`: what the host of a directory says of itself, over its socket.

use serde_json::Value;

use crate::home::Home;

use super::console::Console;
use super::exit::{Exit, Failure};
use super::socket::{ask, served};
use super::{Common, with_runtime};

pub(super) fn status(common: &Common, console: &Console) -> Result<Exit, Failure> {
    let home = served(common)?;
    let status = with_runtime(of(&home))?;
    if console.json() {
        console.document(&status)?;
    } else {
        console.print(words(&status))?;
    }
    Ok(if status["ready"] == true { Exit::Status(0) } else { Exit::No })
}

/// What the host says of itself.
pub(super) async fn of(home: &Home) -> Result<Value, Failure> {
    let text = ask(home, "/status").await?;
    serde_json::from_slice(&text)
        .map_err(|error| Failure::fault(format_args!("the host answers with something else: {error}")))
}

fn words(status: &Value) -> String {
    let text = |value: &Value| match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let number = |value: &Value| value.as_u64().unwrap_or_default();
    let mut lines = vec![
        format!("host      {}", text(&status["host_key"])),
        format!(
            "version   {}, process {}, {}",
            text(&status["version"]),
            status["pid"],
            text(&status["dir"])
        ),
        format!("up for    {} s", number(&status["uptime_ms"]) / 1000),
    ];
    for listener in status["listeners"].as_array().into_iter().flatten() {
        let [purpose, protocol, address, who] =
            ["purpose", "protocol", "address", "who"].map(|key| text(&listener[key]));
        lines.push(format!("{purpose:<9} {protocol} at {address}: {who}"));
    }
    let (log, jobs) = (&status["log"], &status["jobs"]);
    let cosigned = match &log["cosigned"] {
        Value::Null => String::new(),
        size => format!(", {size} cosigned"),
    };
    lines.push(format!("audit log {} records, {} published{cosigned}", log["records"], log["published"]));
    lines.push(format!(
        "work      {} running, {} queued, {} scheduled, {} waiting for others; {} connections",
        jobs["running"], jobs["queued"], jobs["scheduled"], jobs["accepted"], status["connections"]
    ));
    let problems: Vec<_> = status["problems"].as_array().into_iter().flatten().map(text).collect();
    lines.push(match problems.as_slice() {
        [] => "health    ready".to_owned(),
        problems => format!("health    not ready: {}", problems.join("; ")),
    });
    let warnings = status["warnings"].as_array().into_iter().flatten().map(text);
    lines.extend(warnings.map(|warning| format!("warning   {warning}")));
    lines.join("\n")
}
