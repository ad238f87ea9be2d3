//! How the allocator of a child that has a bound on its memory is told to be lean.
//!
//! The command's allocator keeps address space that it once had, and takes more of it at each step, which a bound on address space or on data counts
//! as used. A child has memory of its own bounds to hand out instead. *Spec:* `docs/adr/0022-an-allocator.md`.

/// A variable for the child, name and value: nothing is kept beyond what is in use, and two arenas serve all threads.
pub(crate) const LEAN: (&str, &str) = ("_RJEM_MALLOC_CONF", "retain:false,narenas:2");
