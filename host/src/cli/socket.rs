//! The socket of the host that serves a directory: who runs it asks there, and nobody else.

use std::path::Path;
use std::time::Duration;

use crate::admin::SOCKET;
use crate::home::Home;
use crate::http::{Answered, PostError, get_local, post_local};

use super::Common;
use super::exit::Failure;

/// Longest answer that is read, in bytes.
const MAX_ANSWER_BYTES: usize = 1 << 20;
/// How long a host may take to answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// The directory, which somebody serves. Asking makes no directory.
pub(super) fn served(common: &Common) -> Result<Home, Failure> {
    let home = Home::open(&common.directory()?)?;
    let dir = home.dir();
    if !Home::is_held(dir) {
        return Err(Failure::fault(format_args!(
            "no host serves {}: start one with `strongroom serve --dir {}`, or name the directory of another with --dir",
            dir.display(),
            dir.display()
        )));
    }
    Ok(home)
}

/// Fetches a page.
pub(super) async fn ask(home: &Home, page: &str) -> Result<Vec<u8>, Failure> {
    let socket = home.dir().join(SOCKET);
    let (status, body) =
        answered(home, &socket, PATIENCE, get_local(&socket, page, MAX_ANSWER_BYTES)).await?;
    if status != 200 {
        return Err(silent(home, &socket, String::from_utf8_lossy(&body).trim()));
    }
    Ok(body)
}

/// Has the host do something, and gives the status of its answer with it.
pub(super) async fn tell(home: &Home, page: &str, body: Vec<u8>) -> Result<(u16, Vec<u8>), Failure> {
    tell_and_wait(home, page, body, PATIENCE).await
}

/// The same, of something that may take so long.
pub(super) async fn tell_and_wait(
    home: &Home,
    page: &str,
    body: Vec<u8>,
    patience: Duration,
) -> Result<(u16, Vec<u8>), Failure> {
    let socket = home.dir().join(SOCKET);
    answered(home, &socket, patience, post_local(&socket, page, body, MAX_ANSWER_BYTES)).await
}

async fn answered(
    home: &Home,
    socket: &Path,
    patience: Duration,
    asking: impl Future<Output = Result<Answered, PostError>>,
) -> Result<(u16, Vec<u8>), Failure> {
    let Answered { status, body } = match tokio::time::timeout(patience, asking).await {
        Ok(Ok(answered)) => answered,
        Ok(Err(error)) => return Err(silent(home, socket, &error.to_string())),
        Err(_) => return Err(silent(home, socket, "does not answer in time; its log may say more")),
    };
    let body = body.map_err(|error| silent(home, socket, &error.to_string()))?;
    Ok((status, body))
}

/// It answers with something that nobody asked for.
pub(super) fn strange(home: &Home, text: &str) -> Failure {
    silent(home, &home.dir().join(SOCKET), text.trim())
}

/// Somebody holds the directory, and is no host that can be asked.
fn silent(home: &Home, socket: &Path, problem: &str) -> Failure {
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
