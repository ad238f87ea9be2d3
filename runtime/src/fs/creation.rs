//! The quota on what a guest creates: files, directories and links.

use std::io;

use super::Files;
use super::look::{Found, look};
use super::nodes::Node;

/// A creation that was charged, or one that needs no charge.
#[must_use = "a creation that fails is given back"]
#[derive(Clone, Copy, Debug)]
pub(super) struct Creation {
    charged: bool,
}

impl Files {
    /// Before a directory or link is made at `path` below `dir`.
    ///
    /// # Errors
    ///
    /// `EDQUOT` when no more may be created; `EEXIST` when that would have been the answer anyway.
    pub(super) async fn before_making(&self, dir: &Node, path: &str) -> io::Result<Creation> {
        if self.soft.files_left() == 0
            && !dir.read_only
            && look(&dir.handle, path, false).await.is_ok_and(|found| found == Found::Ordinary)
        {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        self.charge_creation(!dir.read_only)
    }

    /// Before `path` below `dir`, where `found` is, is opened; `create` says whether it is created if it is missing.
    pub(super) fn before_opening(&self, dir: &Node, found: Found, create: bool) -> io::Result<Creation> {
        self.charge_creation(create && !dir.read_only && found != Found::Ordinary)
    }

    fn charge_creation(&self, charged: bool) -> io::Result<Creation> {
        if charged && self.soft.create_file().is_err() {
            return Err(io::ErrorKind::QuotaExceeded.into());
        }
        Ok(Creation { charged })
    }

    /// After the attempt: one that failed is given back.
    pub(super) fn after_making(&self, creation: Creation, made: bool) {
        let Creation { charged } = creation;
        if charged && !made {
            self.soft.uncreate_file();
        }
    }
}
