//! Names: who looks them up, and the answers that stand for a whole attempt.
//!
//! *Owns:* the one lookup per name. *Never:* an answer that was not checked, or a second set of answers for the same name: a
//! resolver that changes its mind changes nothing. *Bound:* [`MAX_ANSWERS`], [`MAX_TRIES`], [`PATIENCE`] and [`SYSTEM_LOOKUPS`].

use std::fmt;
use std::io;
use std::net::{IpAddr, ToSocketAddrs};
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::sync::{Mutex, Semaphore};

use super::Refused;
use super::address::canonical;

/// Most addresses that are kept of one name.
pub(crate) const MAX_ANSWERS: usize = 16;
/// How often a name that had no answer is asked for again, in one attempt.
const MAX_TRIES: u32 = 4;
/// How long one lookup may take.
pub(super) const PATIENCE: Duration = Duration::from_secs(5);

/// Lookups that the system's resolver works on at once, for all guests together. Each holds a thread, which cannot be stopped, from
/// the pool that also reads files.
static SYSTEM_LOOKUPS: Semaphore = Semaphore::const_new(32);

/// What [`Resolve::lookup`] gives.
pub type Lookup = Pin<Box<dyn Future<Output = io::Result<Vec<IpAddr>>> + Send>>;

/// Looks names up for guests. What it answers is not trusted: every address is held against the guest's grant.
pub trait Resolve: fmt::Debug + Send + Sync + 'static {
    /// The addresses of `name`: lower case, no final dot, never an address in text. Dropped after a few seconds.
    ///
    /// # Errors
    ///
    /// Whatever kept it from an answer.
    fn lookup(&self, name: &str) -> Lookup;
}

/// Who looks names up: the system, or somebody of the caller's.
#[derive(Clone, Debug, Default)]
pub struct Resolver(Option<Arc<dyn Resolve>>);

impl Resolver {
    /// The system's resolver, with its hosts file. The default.
    pub const fn system() -> Self {
        Self(None)
    }

    /// Asks `resolve` instead.
    pub fn new(resolve: impl Resolve) -> Self {
        Self(Some(Arc::new(resolve)))
    }

    fn lookup(&self, name: &str) -> Lookup {
        match &self.0 {
            Some(resolve) => resolve.lookup(name),
            None => {
                let name = name.to_owned();
                Box::pin(blocking(&SYSTEM_LOOKUPS, move || {
                    let found = (name, 0).to_socket_addrs()?;
                    Ok(found.map(|address| address.ip()).collect())
                }))
            }
        }
    }
}

/// Does `work` on a thread where it may block. A caller that goes away leaves it running, and counted.
async fn blocking<T: Send + 'static>(
    at_once: &'static Semaphore,
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    let turn = at_once.acquire().await.map_err(io::Error::other)?;
    let worked = tokio::task::spawn_blocking(move || {
        let done = work();
        drop(turn);
        done
    });
    worked.await.map_err(io::Error::other)?
}

impl PartialEq for Resolver {
    /// Whether both are the system's, or the very same one.
    fn eq(&self, other: &Self) -> bool {
        match (&self.0, &other.0) {
            (None, None) => true,
            (Some(one), Some(two)) => Arc::ptr_eq(one, two),
            _ => false,
        }
    }
}

impl Eq for Resolver {}

/// A granted name and, once it was looked up, what it means.
#[derive(Debug)]
pub(super) struct Pinned {
    name: String,
    answers: OnceLock<Vec<IpAddr>>,
    /// How often it was looked up; held while it is, so that a guest that asks a hundred times causes one lookup.
    tries: Mutex<u32>,
}

impl Pinned {
    pub(super) fn new(name: String) -> Self {
        Self { name, answers: OnceLock::new(), tries: Mutex::new(0) }
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// The checked answers; none before [`Pinned::resolve`] found some.
    pub(super) fn answers(&self) -> &[IpAddr] {
        self.answers.get().map_or(&[], Vec::as_slice)
    }

    /// The pinned answers, or else those that `allowed` leaves of a lookup, which then are pinned: also when none is left.
    pub(super) async fn resolve(
        &self,
        resolver: &Resolver,
        patience: Duration,
        allowed: impl Fn(IpAddr) -> bool,
    ) -> Result<Vec<IpAddr>, Refused> {
        if let Some(answers) = self.answers.get() {
            return told(answers);
        }
        let mut tries = self.tries.lock().await;
        if let Some(answers) = self.answers.get() {
            return told(answers);
        }
        if *tries >= MAX_TRIES {
            return Err(Refused::Unknown);
        }
        // Counted first: a guest that gives up a lookup and begins another cannot have more of them, either.
        *tries += 1;
        let found = match tokio::time::timeout(patience, resolver.lookup(&self.name)).await {
            Ok(Ok(found)) if !found.is_empty() => found,
            Ok(_) => return Err(Refused::Unknown),
            Err(_) => return Err(Refused::Slow),
        };
        let mut answers = Vec::new();
        for ip in found.into_iter().map(canonical) {
            if answers.len() < MAX_ANSWERS && !answers.contains(&ip) && allowed(ip) {
                answers.push(ip);
            }
        }
        told(self.answers.get_or_init(|| answers))
    }
}

fn told(answers: &[IpAddr]) -> Result<Vec<IpAddr>, Refused> {
    if answers.is_empty() { Err(Refused::Special) } else { Ok(answers.to_vec()) }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    // Red with the turn given back by the caller instead of the thread.
    #[tokio::test]
    async fn a_lookup_that_was_given_up_still_takes_its_place() {
        static ONE: Semaphore = Semaphore::const_new(1);
        const MOMENT: Duration = Duration::from_millis(50);
        let (release, held) = mpsc::channel();
        let stuck = blocking(&ONE, move || held.recv().map_err(io::Error::other));
        assert!(tokio::time::timeout(MOMENT, stuck).await.is_err());
        assert!(
            tokio::time::timeout(MOMENT, blocking(&ONE, || Ok(()))).await.is_err(),
            "a second thread was taken"
        );
        release.send(()).unwrap();
        blocking(&ONE, || Ok(())).await.unwrap();
    }

    #[tokio::test]
    async fn the_system_knows_itself() {
        let found = Resolver::system().lookup("localhost").await.unwrap();
        assert!(found.iter().any(IpAddr::is_loopback), "{found:?}");
    }
}
