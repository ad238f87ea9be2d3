//! The log over HTTP, for reading: the files that C2SP tlog-tiles names, and nothing else.
//!
//! *Owns:* which path has which type and how long it may be kept. *Never:* writes, lists, or opens a file that is not the log's
//! (`audit::served` knows which are). It has no key and no handle of the state.
//! *Spec:* C2SP tlog-tiles; `docs/reference/config.md`.

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use strongroom_job::note::VerifierKey;

use crate::audit::{LogFiles, Shown};
use crate::http::{Answer, Asked, Body, Door, Listening, Method, Reply};

/// A tile is what it is for ever.
const FOR_EVER: &str = "public, max-age=31536000, immutable";
/// A checkpoint may be kept for a moment.
const A_MOMENT: &str = "public, max-age=1";

#[derive(Debug)]
struct LogServer {
    files: Arc<LogFiles>,
}

/// Serves the log in `dir` at `address` to whoever `door` lets in; `witnessed` says whether somebody cosigns it, so that this is what readers see first.
///
/// # Errors
/// When the address is not to be had.
pub(crate) async fn start(
    dir: &Path,
    log: VerifierKey,
    witnessed: bool,
    address: SocketAddr,
    door: Door,
) -> io::Result<Listening> {
    let files = Arc::new(LogFiles::new(dir, log, witnessed));
    Listening::start(address, door, Arc::new(LogServer { files })).await
}

impl Answer for LogServer {
    const MAX_BODY: usize = 0;
    const METHODS: &'static str = "GET, HEAD";

    async fn answer(&self, asked: Asked) -> Reply {
        if asked.method != Method::Get {
            return Reply::words(405, "this is a log: it can be read");
        }
        let files = Arc::clone(&self.files);
        let shown = tokio::task::spawn_blocking(move || files.show(&asked.path)).await;
        match shown {
            Ok(Ok(Some(Shown::Head(bytes)))) => Reply {
                status: 200,
                content_type: "text/plain; charset=utf-8",
                cache: A_MOMENT,
                body: Body::Bytes(bytes),
            },
            Ok(Ok(Some(Shown::Part(file, length)))) => Reply {
                status: 200,
                content_type: "application/octet-stream",
                cache: FOR_EVER,
                body: Body::File(file.into(), length),
            },
            Ok(Ok(None)) => Reply::words(404, "no such file of this log"),
            Ok(Err(error)) => {
                tracing::error!(%error, "a file of the log cannot be shown");
                Reply::words(500, "the file cannot be read")
            }
            Err(_) => Reply::words(503, "the host stops"),
        }
    }
}
