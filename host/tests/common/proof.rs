//! Proofs that come in two lengths, and their seeds.
//!
//! `cargo test` runs the short version. With `STRONGROOM_LONG=1` in the environment it runs the long one; with
//! `STRONGROOM_SEED=n`, any of them from that seed (`docs/crash-safety.md`).

/// Whether the long version is wanted.
pub fn is_long() -> bool {
    variable("STRONGROOM_LONG").is_some_and(|value| value != "0")
}

/// The seed that is wanted, or else this one. Said, so that a run can be had again.
pub fn seed(proof: &str, usual: u64) -> u64 {
    let seed = variable("STRONGROOM_SEED").map(|value| value.parse().expect("a seed is a number"));
    let seed = seed.unwrap_or(usual);
    let length = if is_long() { "long" } else { "short" };
    println!("{proof}: {length}, STRONGROOM_SEED={seed}");
    seed
}

#[expect(clippy::disallowed_methods, reason = "what a test run is to do, not what a host does")]
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}
