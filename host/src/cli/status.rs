//! `strongroom status`: what the host of a directory says of itself, over its socket.

use std::path::Path;
use std::time::Duration;

use serde_json::Value;

use crate::admin::SOCKET;
use crate::home::Home;
use crate::http::get_local;

use super::console::Console;
use super::exit::{Exit, Failure};
use super::{Common, with_runtime};

/// Longest status that is read, in bytes.
const MAX_STATUS_BYTES: usize = 1 << 20;
/// How long a host may take to answer.
const PATIENCE: Duration = Duration::from_secs(10);

pub(super) fn status(common: &Common, console: &Console) -> Result<Exit, Failure> {
    let dir = common.directory()?;
    // Asking makes no directory.
    let home = Home::open(&dir)?;
    serves(&home)?;
    let text = with_runtime(ask(&home))?;
    let status: Value = serde_json::from_slice(&text)
        .map_err(|error| Failure::fault(format_args!("the host answers with something else: {error}")))?;
    if console.json() {
        console.document(&status)?;
    } else {
        console.print(words(&status))?;
    }
    Ok(if status["ready"] == true { Exit::Status(0) } else { Exit::No })
}

/// Whether there is a host to ask.
pub(super) fn serves(home: &Home) -> Result<(), Failure> {
    let dir = home.dir();
    if Home::is_held(dir) {
        return Ok(());
    }
    Err(Failure::fault(format_args!(
        "no host serves {}: start one with `strongroom serve --dir {}`, or name the directory of another with --dir",
        dir.display(),
        dir.display()
    )))
}

async fn ask(home: &Home) -> Result<Vec<u8>, Failure> {
    let socket = home.dir().join(SOCKET);
    let answered = tokio::time::timeout(PATIENCE, get_local(&socket, "/status", MAX_STATUS_BYTES)).await;
    let answered = match answered {
        Ok(Ok(answered)) => answered,
        Ok(Err(error)) => return Err(silent(home, &socket, &error.to_string())),
        Err(_) => return Err(silent(home, &socket, "does not answer in time")),
    };
    let body = answered.body.map_err(|error| silent(home, &socket, &error.to_string()))?;
    if answered.status != 200 {
        return Err(silent(home, &socket, String::from_utf8_lossy(&body).trim()));
    }
    Ok(body)
}

/// Somebody holds the directory, and is no host that can be asked.
pub(super) fn silent(home: &Home, socket: &Path, problem: &str) -> Failure {
    let holder = match home.live() {
        Ok(Some(live)) => format!("process {} serves", live.pid),
        Ok(None) | Err(_) => "a process holds".to_owned(),
    };
    Failure::fault(format_args!(
        "{holder} {}, but {}: {problem}. A host that starts or stops, and `strongroom run`, cannot be asked; try again, or look at it \
         as the user that runs it",
        home.dir().display(),
        socket.display()
    ))
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
    lines.join("\n")
}
