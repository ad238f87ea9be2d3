//! What a guest may touch.

use std::path::{Path, PathBuf};

use crate::rules::{Destination, HttpRule, Listener};

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
    pub(crate) connect: Vec<Destination>,
    pub(crate) listen: Vec<Listener>,
    pub(crate) http: Vec<HttpRule>,
    pub(crate) observe: bool,
}

/// A host directory under the name that the guest sees.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Preopen {
    pub(crate) host: PathBuf,
    /// A path below `host`, reached without following any link.
    pub(crate) below: Option<String>,
    pub(crate) guest: String,
    pub(crate) access: Access,
}

impl Grant {
    /// Nothing at all. This denies:
    ///
    /// * files: no directory is open, so no path can be named;
    /// * the network: no TCP, no UDP, no name lookup, no HTTP;
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
            connect: Vec::new(),
            listen: Vec::new(),
            http: Vec::new(),
            observe: false,
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
        self.dirs.push(Preopen { host: host.as_ref().to_owned(), below: None, guest: guest.into(), access });
        self
    }

    /// [`Grant::dir`] for a directory below `host`. The way from `host` to it may hold no symbolic link, so that whoever may
    /// write there cannot lead it elsewhere.
    #[must_use]
    pub fn dir_below(
        mut self,
        host: impl AsRef<Path>,
        below: impl Into<String>,
        guest: impl Into<String>,
        access: Access,
    ) -> Self {
        let (host, below) = (host.as_ref().to_owned(), Some(below.into()));
        self.dirs.push(Preopen { host, below, guest: guest.into(), access });
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

    /// Lets the guest connect or send to `destination`, and look up the name in it.
    #[must_use]
    pub fn connect(mut self, destination: Destination) -> Self {
        self.connect.push(destination);
        self
    }

    /// Lets the guest wait for connections or datagrams at exactly this address.
    #[must_use]
    pub fn listen(mut self, listener: Listener) -> Self {
        self.listen.push(listener);
        self
    }

    /// Lets the guest make the HTTP requests that `rule` covers.
    #[must_use]
    pub fn http(mut self, rule: HttpRule) -> Self {
        self.http.push(rule);
        self
    }

    /// Tells in [`Report::reached`](crate::Report::reached) also what the guest used of what it was granted, and of clocks and
    /// randomness also that it read a stand-in. Of files it tells the granted directory; but where an (empty) directory is
    /// granted as `/`, each path that is missing there is told as denied, so that a run shows what a guest looks for.
    #[must_use]
    pub const fn observe(mut self) -> Self {
        self.observe = true;
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
