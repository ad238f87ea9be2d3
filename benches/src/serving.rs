//! A host in a process of its own.

use std::process::Child;

/// Killed when it is dropped: it has nothing to finish.
#[derive(Debug)]
pub struct Serving(pub Child);

impl Drop for Serving {
    fn drop(&mut self) {
        // One that has ended already is as good.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
