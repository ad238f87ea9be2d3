//! What the ledger is told of files.
//!
//! * What the grant forbids, always: changes in a read-only directory, paths that lead out, FIFOs and devices; with the path.
//! * With [`Grant::observe`](crate::Grant::observe), what was used: the granted directory, not each file in it.
//! * With it, and for a directory that is granted as `/`, what is missing, as denied and with the path. A run that learns what a
//!   guest needs grants an empty directory there: whatever the guest looks for is then told.

use crate::reach::Reach;

use super::Files;
use super::nodes::Place;

/// How a call about a path ended, as far as the ledger cares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    Done,
    /// "Not permitted": wasmtime-wasi's word for what a grant does not cover.
    Refused,
    Missing,
    /// Some other failure, which the grant has no part in.
    Failed,
}

impl Files {
    /// Whether [`Files::tell`] would do anything.
    pub(super) fn worth_telling(&self, answer: Answer) -> bool {
        match answer {
            Answer::Refused => true,
            Answer::Done | Answer::Missing => self.ledger.tells_all(),
            Answer::Failed => false,
        }
    }

    /// Tells of a call about `path` below `place`; `write` if it wanted to change something.
    pub(super) fn tell(&self, place: &Place, path: &str, write: bool, answer: Answer) {
        if !self.worth_telling(answer) {
            return;
        }
        match answer {
            Answer::Done => self.ledger.granted(Reach::Path { path: place.root.as_ref().to_owned(), write }),
            Answer::Missing if place.root.as_ref() != "/" => {}
            Answer::Refused | Answer::Missing => {
                let path = place.below(path).path.as_ref().to_owned();
                self.ledger.denied(Reach::Path { path, write });
            }
            Answer::Failed => {}
        }
    }
    /// [`Files::tell`] for a call that changes at two places.
    pub(super) fn tell_both(&self, old: (&Place, &str), new: (&Place, &str), answer: Answer) {
        self.tell(old.0, old.1, true, answer);
        self.tell(new.0, new.1, true, answer);
    }
}
