//! Whether the host can do its work.
//!
//! The socket opens only after the log was held against the state and the state was read: a host that answers at all has verified both at
//! its start. What may be wrong since then is asked here.

use std::path::Path;
use std::sync::atomic::Ordering;

use super::Shared;

/// With less room than this on the disk of its directory the host is not ready: a few commits of the largest envelopes, and the tiles and
/// checkpoints that follow from them.
pub(super) const MIN_FREE_BYTES: u64 = 64 << 20;

/// Why the host is not ready; nothing when it is.
pub(super) fn problems(shared: &Shared) -> Vec<String> {
    let mut problems = Vec::new();
    if shared.stopping.load(Ordering::Acquire) {
        problems.push("the host is stopping".to_owned());
    }
    problems.extend(failure(shared));
    match free_bytes(shared) {
        Ok(free) => problems.extend(no_room(free, &shared.watched.dir)),
        Err(error) => {
            problems.push(format!("the disk of {} cannot be asked: {error}", shared.watched.dir.display()));
        }
    }
    problems
}

/// Why the host is about to end, if it is.
pub(super) fn failure(shared: &Shared) -> Option<String> {
    let watched = &shared.watched;
    watched.store.failure().or_else(|| watched.publishing_failed.borrow().clone())
}

/// Bytes that this user may still write on the disk of the directory.
pub(super) fn free_bytes(shared: &Shared) -> std::io::Result<u64> {
    let disk = rustix::fs::statvfs(&shared.watched.dir)?;
    Ok(disk.f_bavail.saturating_mul(disk.f_frsize))
}

fn no_room(free: u64, dir: &Path) -> Option<String> {
    let dir = dir.display();
    (free < MIN_FREE_BYTES).then(|| {
        format!("the disk of {dir} has {free} bytes left where {MIN_FREE_BYTES} are needed: free some space")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_that_is_nearly_full_is_a_problem_and_the_problem_says_where() {
        assert_eq!(no_room(MIN_FREE_BYTES, Path::new("/srv/room")), None);
        let problem = no_room(MIN_FREE_BYTES - 1, Path::new("/srv/room")).unwrap();
        assert!(problem.starts_with("the disk of /srv/room has 67108863 bytes left"), "{problem}");
    }
}
