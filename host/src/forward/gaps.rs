//! What a collector has refused for good: a small file, replaced whole.
//!
//! OTLP forbids to send rejected records again and does not say which they are, so the place moves on. That the destination
//! lacks some is kept, since whoever relies on the copy must be able to learn it.
//!
//! *Owns:* `forward/NAME.gaps`. *Bound:* sums, not a list. *Crash:* the batch is sent again, and what is rejected of it then counts
//! twice. *Spec:* `docs/formats/forwarding.md`.

use std::path::{Path, PathBuf};

use serde::Serialize;
use strongroom_job::Name;

use super::{Trouble, kept};
use crate::home::place;

const FIRST_LINE: &str = "strongroom gaps v1";

/// Records that a destination may lack for good.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Rejected {
    /// So many the collector said it rejected.
    pub records: u64,
    /// So many were in requests whose answer could not be read: it may have rejected any of them.
    pub maybe: u64,
    /// The first record of the first such request.
    pub first: u64,
    /// The last record of the last one.
    pub last: u64,
    /// What was said last; without control characters.
    pub why: String,
}

impl Rejected {
    pub(super) fn path(home: &Path, name: &Name) -> PathBuf {
        kept::path(home, name, "gaps")
    }

    /// What was kept at `path`; none when nothing was ever rejected.
    pub(super) fn load(path: &Path) -> Result<Option<Self>, Trouble> {
        let Some(text) = kept::read(path)? else { return Ok(None) };
        match Self::parse(&text) {
            Some(found) => Ok(Some(found)),
            None => Err(Trouble::Stuck(format!(
                "{}: damaged. Move it away, and the count of rejected records begins anew",
                path.display()
            ))),
        }
    }

    /// Adds a request with the records from `first` to `last`, and makes it durable.
    pub(super) fn add(&mut self, path: &Path, first: u64, last: u64, told: Told) -> Result<(), Trouble> {
        let mut sum = self.clone();
        if sum.records == 0 && sum.maybe == 0 {
            sum.first = first;
        }
        sum.last = sum.last.max(last);
        let count = match told {
            Told::Rejected(count, _) => (&mut sum.records, count),
            Told::Unread(_) => (&mut sum.maybe, last - first + 1),
        };
        *count.0 = count.0.saturating_add(count.1);
        let (Told::Rejected(_, why) | Told::Unread(why)) = told;
        sum.why = why;
        place::replace(path, sum.written().as_bytes()).map_err(Trouble::later)?;
        *self = sum;
        Ok(())
    }

    fn parse(text: &str) -> Option<Self> {
        let mut lines = text.lines();
        if lines.next()? != FIRST_LINE {
            return None;
        }
        let mut value = |key: &str| lines.next()?.strip_prefix(key)?.strip_prefix(' ');
        let (records, maybe) = (value("rejected")?.parse().ok()?, value("unread")?.parse().ok()?);
        let (first, last) = (value("first")?.parse().ok()?, value("last")?.parse().ok()?);
        let why = value("why")?.to_owned();
        (lines.next().is_none() && first <= last).then_some(Self { records, maybe, first, last, why })
    }

    fn written(&self) -> String {
        let Self { records, maybe, first, last, why } = self;
        format!("{FIRST_LINE}\nrejected {records}\nunread {maybe}\nfirst {first}\nlast {last}\nwhy {why}\n")
    }
}

/// What an answer to one request means for its records, and the words for it: one line of at most some hundred characters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Told {
    /// So many are rejected.
    Rejected(u64, String),
    /// Any of them may be.
    Unread(String),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_added_up_is_what_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.gaps");
        assert_eq!(Rejected::load(&path).unwrap(), None);
        let mut sum = Rejected::default();
        sum.add(&path, 5, 9, Told::Rejected(2, "too old".into())).unwrap();
        sum.add(&path, 20, 29, Told::Unread("cut off".into())).unwrap();
        sum.add(&path, 30, 30, Told::Rejected(1, String::new())).unwrap();
        let expected = Rejected { records: 3, maybe: 10, first: 5, last: 30, why: String::new() };
        assert_eq!((&sum, Rejected::load(&path).unwrap()), (&expected, Some(expected.clone())));
        let good = expected.written();
        for bad in [
            String::new(),
            good.replace("v1", "v2"),
            good.replace("first 5", "first 31"),
            format!("{good}x\n"),
        ] {
            std::fs::write(&path, bad).unwrap();
            assert!(matches!(Rejected::load(&path), Err(Trouble::Stuck(_))));
        }
    }
}
