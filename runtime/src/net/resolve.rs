//! Names: who looks them up, and the answers that stand for a whole attempt.
//!
//! *Owns:* the one lookup per name. *Never:* an answer that was not checked, or a second set of answers for the same name: a
//! resolver that changes its mind changes nothing. *Bound:* [`MAX_ANSWERS`], [`MAX_TRIES`] and [`PATIENCE`].

use std::fmt;
use std::io;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::sync::Mutex;

use super::Refused;
use super::address::canonical;

/// Most addresses that are kept of one name.
pub(crate) const MAX_ANSWERS: usize = 16;
/// How often a name that had no answer is asked for again, in one attempt.
const MAX_TRIES: u32 = 4;
/// How long one lookup may take.
pub(super) const PATIENCE: Duration = Duration::from_secs(5);

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
                Box::pin(async move {
                    let found = tokio::net::lookup_host((name, 0)).await?;
                    Ok(found.map(|address| address.ip()).collect())
                })
            }
        }
    }
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
