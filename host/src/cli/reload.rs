//! `strongroom reload`: has the host of a directory read its configuration again, over its socket, and says what came of it.

use std::time::Duration;

use crate::admin::Read;
use crate::home::Home;

use super::console::Console;
use super::exit::{Exit, Failure};
use super::socket::{served, strange, tell_and_wait};
use super::{Common, with_runtime};

/// How long it may take: jobs of those who are gone are stopped before there is an answer. As long as the host keeps a connection.
const PATIENCE: Duration = Duration::from_secs(300);

pub(super) fn reload(common: &Common, console: &Console) -> Result<Exit, Failure> {
    let home = served(common)?;
    let read = with_runtime(ask(&home))?;
    if console.json() {
        console.document(&read)?;
    } else {
        let Read { diff, closed, stopped, .. } = read;
        console
            .print(format_args!("in force: {diff}\n{closed} connections closed, {stopped} jobs stopped"))?;
    }
    Ok(Exit::Status(0))
}

async fn ask(home: &Home) -> Result<Read, Failure> {
    let (status, body) = tell_and_wait(home, "/reload", Vec::new(), PATIENCE).await?;
    let text = String::from_utf8_lossy(&body);
    match status {
        200 => serde_json::from_slice(&body)
            .map_err(|error| Failure::fault(format_args!("the host answers with something else: {error}"))),
        409 => Err(Failure::no("not-reloaded", format_args!("nothing was changed: {}", text.trim()))),
        _ => Err(strange(home, &text)),
    }
}
