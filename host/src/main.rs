//! The `strongroom` command. All of it is `strongroom::cli`.
#![forbid(unsafe_code)]

/// The C library's own takes 14 to 20 % of a busy host's processor time, looking for room in a heap full of holes; see ADR 22. A program that has a host inside chooses its own.
#[cfg(target_os = "linux")]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> std::process::ExitCode {
    strongroom::cli::main()
}
