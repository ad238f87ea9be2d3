//! Whether the host can do its work.
//!
//! The socket opens only after the log was held against the state and the state was read: a host that answers at all has verified both at
//! its start. What may be wrong since then is asked here, and what the latest check of the running host found (`checkup`), also of one that
//! an earlier process made: a restart mends nothing.

use std::path::Path;
use std::sync::atomic::Ordering;

use super::Shared;
use crate::disk;
use crate::store::Checked;

/// With less room than this on the disk of its directory the host is not ready, whatever its reserve is: a few commits of the largest
/// envelopes, and the tiles and checkpoints that follow from them.
const MIN_FREE_BYTES: u64 = 64 << 20;

/// Why the host is not ready; nothing when it is.
pub(super) fn problems(shared: &Shared) -> Vec<String> {
    let mut problems = Vec::new();
    if shared.stopping.load(Ordering::Acquire) {
        problems.push("the host is stopping".to_owned());
    }
    problems.extend(failure(shared));
    match free_bytes(shared) {
        Ok(free) => {
            // Below its reserve it takes nothing new.
            let reserve = shared.in_force().config.bounds.disk_reserve_bytes;
            problems.extend(no_room(free, reserve.max(MIN_FREE_BYTES), &shared.watched.dir));
        }
        Err(error) => {
            problems.push(format!("the disk of {} cannot be asked: {error}", shared.watched.dir.display()));
        }
    }
    if let Some(checked) = checked(shared).filter(|checked| !checked.log_verifies) {
        problems.push(found(&checked, "the audit log, which does not verify"));
    }
    problems
}

/// What does not keep the host from its work, and wants somebody all the same: files that are damaged are missed by whoever needs them.
pub(super) fn warnings(shared: &Shared) -> Vec<String> {
    let damaged = checked(shared).filter(|checked| checked.log_verifies && checked.problems > 0);
    damaged.map(|checked| found(&checked, "files of the host")).into_iter().collect()
}

fn checked(shared: &Shared) -> Option<Checked> {
    // A store that cannot be read ends the host by another way.
    shared.watched.store.checked().ok().flatten()
}

fn found(checked: &Checked, part: &str) -> String {
    format!(
        "the latest check found {} problems in {part}: the host's own log names them; stop the host and run `strongroom fsck`",
        checked.problems
    )
}

/// Why the host is about to end, if it is.
pub(super) fn failure(shared: &Shared) -> Option<String> {
    let watched = &shared.watched;
    watched.store.failure().or_else(|| watched.publishing_failed.borrow().clone())
}

/// Bytes that this user may still write on the disk of the directory, or of the files of jobs, whichever is fuller.
pub(super) fn free_bytes(shared: &Shared) -> std::io::Result<u64> {
    let dir = &shared.watched.dir;
    // Files of jobs may lie on another disk.
    Ok(disk::free_bytes(dir)?.min(disk::free_bytes(&dir.join("blobs"))?))
}

fn no_room(free: u64, least: u64, dir: &Path) -> Option<String> {
    let dir = dir.display();
    (free < least)
        .then(|| format!("the disk of {dir} has {free} bytes left where {least} are needed: free some space"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_that_is_nearly_full_is_a_problem_and_the_problem_says_where() {
        assert_eq!(no_room(MIN_FREE_BYTES, MIN_FREE_BYTES, Path::new("/srv/room")), None);
        let problem = no_room(MIN_FREE_BYTES - 1, MIN_FREE_BYTES, Path::new("/srv/room")).unwrap();
        assert!(problem.starts_with("the disk of /srv/room has 67108863 bytes left"), "{problem}");
    }
}
