//! What a guest reached for: what it was denied, and, when the grant says so, also what it used.
//!
//! *Bound:* [`MAX_KINDS`] different things that were denied and [`MAX_OBSERVED`] that were used, each told once with a count;
//! what comes after is not told.

use std::fmt;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use crate::rules::Protocol;

/// Different things that are told of one run as denied.
pub const MAX_KINDS: usize = 64;
/// Different things that are told of one observed run as used. Their number leaves the room of what is denied alone.
pub const MAX_OBSERVED: usize = 1_024;
/// Most bytes of a name or path that a guest chose.
const MAX_NAME: usize = 256;

/// One thing that a guest reached for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Reach {
    /// The wall clock or the monotonic clock.
    Clock,
    /// Random bytes.
    Randomness,
    /// A file or directory under a path that the guest sees.
    Path {
        /// Absolute, as the guest sees it.
        path: String,
        /// Whether it wanted to change something.
        write: bool,
    },
    /// A connection, or a datagram, to an address.
    Connect {
        /// TCP or UDP.
        protocol: Protocol,
        /// Where to.
        address: SocketAddr,
    },
    /// Waiting for connections or datagrams at an address.
    Listen {
        /// TCP or UDP.
        protocol: Protocol,
        /// Where.
        address: SocketAddr,
    },
    /// The addresses of a name.
    Resolve {
        /// The name.
        name: String,
    },
    /// An HTTP request.
    Http {
        /// GET and so on.
        method: String,
        /// Scheme, host and port: `https://example.com:443`. The path may be private, so it is not told.
        origin: String,
    },
}

impl fmt::Display for Reach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Clock => f.write_str("clock"),
            Self::Randomness => f.write_str("randomness"),
            Self::Path { path, write: false } => write!(f, "read {path}"),
            Self::Path { path, write: true } => write!(f, "write {path}"),
            Self::Connect { protocol, address } => write!(f, "connect {protocol}://{address}"),
            Self::Listen { protocol, address } => write!(f, "listen {protocol}://{address}"),
            Self::Resolve { name } => write!(f, "resolve {name}"),
            Self::Http { method, origin } => write!(f, "http {method} {origin}"),
        }
    }
}

/// One thing with how often, and whether it was granted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reached {
    /// What.
    pub what: Reach,
    /// Whether the grant covered it. If not, the guest got an error.
    pub granted: bool,
    /// How often.
    pub count: u64,
}

/// Where a run's host calls write down what the guest reached for. Clones share one list.
#[derive(Clone, Debug)]
pub(crate) struct Ledger {
    /// Whether what is granted is told, too.
    all: bool,
    entries: Arc<Mutex<Vec<Reached>>>,
}

impl Ledger {
    pub(crate) fn new(all: bool) -> Self {
        Self { all, entries: Arc::default() }
    }

    /// Whether [`Ledger::granted`] does anything: ask before building a [`Reach`] on a fast path.
    pub(crate) fn tells_all(&self) -> bool {
        self.all
    }

    pub(crate) fn granted(&self, what: Reach) {
        if self.all {
            self.note(what, true);
        }
    }

    pub(crate) fn denied(&self, what: Reach) {
        self.note(what, false);
    }

    fn note(&self, what: Reach, granted: bool) {
        let what = what.bounded();
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        let mut alike = 0;
        for entry in entries.iter_mut().filter(|entry| entry.granted == granted) {
            if entry.what == what {
                entry.count = entry.count.saturating_add(1);
                return;
            }
            alike += 1;
        }
        // Past that, a guest that tries everything is not worth more memory.
        if alike < if granted { MAX_OBSERVED } else { MAX_KINDS } {
            entries.push(Reached { what, granted, count: 1 });
        }
    }

    pub(crate) fn take(&self) -> Vec<Reached> {
        std::mem::take(&mut *self.entries.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Reach {
    /// Names that a guest chose, cut to what is worth keeping.
    fn bounded(mut self) -> Self {
        let cut = |text: &mut String| {
            if text.len() > MAX_NAME {
                let end = (0..=MAX_NAME).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
                text.truncate(end);
            }
        };
        match &mut self {
            Self::Path { path: text, .. } | Self::Resolve { name: text } => cut(text),
            Self::Http { method, origin } => {
                cut(method);
                cut(origin);
            }
            Self::Clock | Self::Randomness | Self::Connect { .. } | Self::Listen { .. } => {}
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolve(name: &str) -> Reach {
        Reach::Resolve { name: name.to_owned() }
    }

    #[test]
    fn a_thing_is_told_once_with_its_count() {
        let ledger = Ledger::new(false);
        ledger.denied(resolve("a"));
        ledger.denied(resolve("a"));
        ledger.granted(resolve("b"));
        assert_eq!(ledger.take(), [Reached { what: resolve("a"), granted: false, count: 2 }]);
    }

    // Red without the bound in `note`, and without `bounded`.
    #[test]
    fn a_guest_that_tries_everything_costs_little() {
        let ledger = Ledger::new(true);
        for n in 0..3_000 {
            ledger.granted(resolve(&format!("{n}{}", "é".repeat(1_000))));
            ledger.denied(resolve(&format!("{n}{}", "é".repeat(1_000))));
        }
        let told = ledger.take();
        let granted = told.iter().filter(|entry| entry.granted).count();
        assert_eq!((granted, told.len() - granted), (MAX_OBSERVED, MAX_KINDS));
        assert!(told.iter().all(|entry| entry.what.to_string().len() <= "resolve ".len() + MAX_NAME));
    }
}
