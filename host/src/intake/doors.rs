//! Closing connections of keys from outside of intake, because who they are, or what they may do, has changed.

use std::fmt;
use std::sync::Arc;

use strongroom_job::{CloseCode, PublicKey};

use super::keyring::Keyring;

/// A hold of every connection.
#[derive(Clone)]
pub struct Doors(Arc<Keyring>);

impl Doors {
    pub(super) fn of(keyring: &Arc<Keyring>) -> Self {
        Self(Arc::clone(keyring))
    }

    /// Closes every connection of keys that the host no longer knows; gives their number.
    ///
    /// Who comes in at this moment is asked for once more behind the door (`connection.rs`).
    pub fn close_unknown(&self, unknown: impl Fn(&PublicKey) -> bool) -> usize {
        self.0.close(unknown, CloseCode::KeyRevoked, "this key is no longer known")
    }

    /// Closes every connection of keys that may do less than before, so that nothing that began under the old rights goes on; gives their
    /// number. They may connect again.
    pub fn close_narrowed(&self, narrowed: impl Fn(&PublicKey) -> bool) -> usize {
        self.0.close(narrowed, CloseCode::Done, "what this key may do has changed: connect again")
    }
}

impl fmt::Debug for Doors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Doors")
    }
}
