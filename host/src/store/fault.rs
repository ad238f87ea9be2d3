//! The points at which a commit can be cut off, as a hook for the crash tests.

use std::io;

/// A point in a commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Step {
    /// Nothing of the group is written.
    BeforeApply,
    /// The group is in the journal, with the operating system: a crash of the process cannot lose it, a power cut can.
    Flushed,
    /// The group is durable; nobody was told yet.
    Synced,
}

/// Decides at each [`Step`] whether the disk still works.
pub trait Fault: Send + 'static {
    /// Called at `step`.
    ///
    /// # Errors
    /// The I/O error to be had here.
    fn at(&mut self, step: Step) -> io::Result<()>;
}

/// A disk that works.
#[derive(Clone, Copy, Debug)]
pub struct NoFault;

impl Fault for NoFault {
    fn at(&mut self, _: Step) -> io::Result<()> {
        Ok(())
    }
}

impl<F: FnMut(Step) -> io::Result<()> + Send + 'static> Fault for F {
    fn at(&mut self, step: Step) -> io::Result<()> {
        self(step)
    }
}

impl std::fmt::Debug for dyn Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Fault")
    }
}
