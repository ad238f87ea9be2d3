//! What the benches share.

pub mod contest;
pub mod jobs;
pub mod machine;
pub mod serving;

/// As the command has it, so that a bench shows what a host does.
#[cfg(target_os = "linux")]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;
