//! `/log-level`: how much the host says of itself. `GET` tells it, `POST` with other directives puts those in force.
//!
//! *Never:* while `config.lock` lies in the directory.

use super::{Asked, Method, Reply, Shared};
use crate::log_level::{self, Directives};

pub(super) fn answer(shared: &Shared, asked: &Asked) -> Reply {
    match asked.method {
        Method::Get => match log_level::in_force() {
            Some(directives) => Reply::words(200, directives),
            None => Reply::words(409, log_level::SetError::NoLog),
        },
        Method::Post => set(shared, &asked.body),
        Method::Other => Reply::words(405, "the level is told and set"),
    }
}

fn set(shared: &Shared, body: &[u8]) -> Reply {
    let Ok(text) = str::from_utf8(body) else { return Reply::words(400, "the level is text") };
    let directives: Directives = match text.trim().parse() {
        Ok(directives) => directives,
        Err(error) => return Reply::words(400, error),
    };
    let lock = shared.watched.dir.join("config.lock");
    // Whatever lies there, and whatever keeps it from being looked at.
    if !matches!(lock.symlink_metadata(), Err(error) if error.kind() == std::io::ErrorKind::NotFound) {
        let lock = lock.display();
        return Reply::words(
            409,
            format_args!("{lock} lies there, so nothing is changed: remove it on this machine first"),
        );
    }
    // Before, so that a log says from where on it says less.
    tracing::warn!(to = %directives, "the level of this log is set");
    match log_level::set(&directives) {
        Ok(()) => Reply::words(200, directives),
        Err(error) => Reply::words(409, error),
    }
}
