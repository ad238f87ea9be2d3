//! What `fuzz/` does at length, for a moment: arbitrary programs, and damaged copies of them, under small limits. They are the
//! same in every run. `fuzz/README.md` says how they were made.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
#![allow(
    unreachable_pub,
    dead_code,
    reason = "the fuzz target uses the same functions from a crate of its own"
)]
#![allow(missing_docs, reason = "test names say it")]

#[path = "../fuzz/entry.rs"]
mod entry;

use std::collections::BTreeMap;

use entry::{Random, Seen};

/// Modules made by `wasm-smith`, each behind its length in four bytes.
const MODULES: &[u8] = include_bytes!("fixtures/smith.bin");
/// Damaged copies of each.
const COPIES: u64 = 2;

fn modules() -> Vec<Vec<u8>> {
    let (mut modules, mut rest) = (Vec::new(), MODULES);
    while let Some((length, after)) = rest.split_first_chunk::<4>() {
        let (wasm, after) = after.split_at(u32::from_le_bytes(*length) as usize);
        modules.push(wasm.to_vec());
        rest = after;
    }
    modules
}

// Red with the names in a refusal shown as they are (`plain` taken off `ModuleError`).
#[test]
fn arbitrary_programs_do_no_harm() {
    let mut seen = BTreeMap::<Seen, usize>::new();
    let mut random = Random::new(18);
    let modules = modules();
    for (at, wasm) in modules.iter().enumerate() {
        for copy in 0..=COPIES {
            let mut wasm = wasm.clone();
            if copy > 0 {
                random.damage(&mut wasm);
            }
            match entry::check(&wasm, random.next()) {
                Ok(what) => *seen.entry(what).or_default() += 1,
                Err(finding) => panic!("module {at}, copy {copy}: {finding}"),
            }
        }
    }
    // A corpus in which nothing ran, or nothing was refused, would show little.
    for what in [Seen::Refused, Seen::Exited, Seen::Trapped, Seen::Exceeded] {
        assert!(seen.get(&what).is_some_and(|count| *count >= 5), "{what:?} in {seen:?}");
    }
}
