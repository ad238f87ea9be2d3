//! `strongroom reload`: has the host of a directory read its configuration again, over its socket, and says what came of it.

use std::path::Path;
use std::time::Duration;

use crate::admin::{Read, SOCKET};
use crate::home::Home;
use crate::http::post_local;

use super::console::Console;
use super::exit::{Exit, Failure};
use super::status::{serves, silent};
use super::{Common, with_runtime};

/// Longest answer that is read, in bytes.
const MAX_ANSWER_BYTES: usize = 1 << 20;
/// How long it may take: jobs of those who are gone are stopped before there is an answer. As long as the host keeps a connection.
const PATIENCE: Duration = Duration::from_secs(300);

pub(super) fn reload(common: &Common, console: &Console) -> Result<Exit, Failure> {
    // Asking makes no directory.
    let home = Home::open(&common.directory()?)?;
    serves(&home)?;
    let read = with_runtime(ask(&home, &home.dir().join(SOCKET)))?;
    if console.json() {
        console.document(&read)?;
    } else {
        let Read { diff, closed, stopped, .. } = read;
        console
            .print(format_args!("in force: {diff}\n{closed} connections closed, {stopped} jobs stopped"))?;
    }
    Ok(Exit::Status(0))
}

async fn ask(home: &Home, socket: &Path) -> Result<Read, Failure> {
    let answered = tokio::time::timeout(PATIENCE, post_local(socket, "/reload", MAX_ANSWER_BYTES)).await;
    let answered = match answered {
        Ok(Ok(answered)) => answered,
        Ok(Err(error)) => return Err(silent(home, socket, &error.to_string())),
        Err(_) => return Err(silent(home, socket, "does not answer in time; its log says what came of it")),
    };
    let body = answered.body.map_err(|error| silent(home, socket, &error.to_string()))?;
    let text = String::from_utf8_lossy(&body);
    match answered.status {
        200 => serde_json::from_slice(&body)
            .map_err(|error| Failure::fault(format_args!("the host answers with something else: {error}"))),
        409 => Err(Failure::no("not-reloaded", format_args!("nothing was changed: {}", text.trim()))),
        _ => Err(silent(home, socket, text.trim())),
    }
}
