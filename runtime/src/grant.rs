//! What a guest may touch.

use std::path::{Path, PathBuf};

/// What a guest may do inside a directory it was given.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Access {
    /// List and read. Nothing below it can be created, changed, renamed, linked, removed or re-dated.
    Read,
    /// Everything that [`Access::Read`] allows, and changes too.
    ReadWrite,
}

/// The capabilities of one run. It starts from [`Grant::none`], and each method adds one thing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    pub(crate) args: Vec<String>,
    pub(crate) env: Vec<(String, String)>,
    pub(crate) dirs: Vec<Preopen>,
    pub(crate) clock: bool,
    pub(crate) randomness: bool,
    pub(crate) seed: [u8; 32],
}

/// A host directory under the name that the guest sees.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Preopen {
    pub(crate) host: PathBuf,
    pub(crate) guest: String,
    pub(crate) access: Access,
}

impl Grant {
    /// Nothing at all. This denies:
    ///
    /// * files: no directory is open, so no path can be named;
    /// * the network: no TCP, no UDP, no name lookup. Nothing in this crate can grant it;
    /// * arguments and environment: both are empty, the host's own are never inherited;
    /// * the clock: reads start at 2000-01-01 and advance by one millisecond each, so they tell nothing;
    /// * randomness: the bytes come from a generator seeded by [`Grant::seed`], so two runs get the same.
    ///
    /// What remains is to compute, to read stdin, to write stdout and stderr, to sleep and to exit.
    pub const fn none() -> Self {
        Self {
            args: Vec::new(),
            env: Vec::new(),
            dirs: Vec::new(),
            clock: false,
            randomness: false,
            seed: [0; 32],
        }
    }

    /// Adds one argument. The first is the program's own name (`argv[0]`) by custom.
    #[must_use]
    pub fn arg(mut self, arg: impl Into<String>) -> Self {
        self.args.push(arg.into());
        self
    }

    /// Adds arguments in order.
    #[must_use]
    pub fn args(mut self, args: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.args.extend(args.into_iter().map(Into::into));
        self
    }

    /// Adds one environment variable.
    #[must_use]
    pub fn env(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.env.push((key.into(), value.into()));
        self
    }

    /// Opens the host directory `host` to the guest as `guest`. The directory is opened when the run starts; nothing
    /// in the guest can lead out of it.
    #[must_use]
    pub fn dir(mut self, host: impl AsRef<Path>, guest: impl Into<String>, access: Access) -> Self {
        self.dirs.push(Preopen { host: host.as_ref().to_owned(), guest: guest.into(), access });
        self
    }

    /// [`Grant::dir`] with [`Access::Read`].
    #[must_use]
    pub fn read_dir(self, host: impl AsRef<Path>, guest: impl Into<String>) -> Self {
        self.dir(host, guest, Access::Read)
    }

    /// [`Grant::dir`] with [`Access::ReadWrite`].
    #[must_use]
    pub fn write_dir(self, host: impl AsRef<Path>, guest: impl Into<String>) -> Self {
        self.dir(host, guest, Access::ReadWrite)
    }

    /// Lets the guest read the host's clocks, to the millisecond.
    #[must_use]
    pub const fn clock(mut self) -> Self {
        self.clock = true;
        self
    }

    /// Gives the guest unpredictable random bytes.
    #[must_use]
    pub const fn randomness(mut self) -> Self {
        self.randomness = true;
        self
    }

    /// Seeds the stand-in that a guest without [`Grant::randomness`] gets. Default all zero.
    #[must_use]
    pub const fn seed(mut self, seed: [u8; 32]) -> Self {
        self.seed = seed;
        self
    }
}

impl Default for Grant {
    /// [`Grant::none`].
    fn default() -> Self {
        Self::none()
    }
}
