//! What `cargo fuzz` does at length, for a moment and without a nightly compiler: mutants of the golden files go through the
//! entry functions of the fuzz targets. The mutants are the same in every run.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
#![allow(unreachable_pub, reason = "the fuzz targets use the same functions from a crate of their own")]

#[path = "../fuzz/entry.rs"]
mod entry;

use std::path::Path;

/// Mutants for each target.
const CASES: u64 = 20_000;
/// Most changes in one mutant.
const MOST_CHANGES: u64 = 8;

/// Marsaglia's xorshift64*: small, and the same everywhere.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 16
    }

    fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next()).unwrap() % bound.max(1)
    }
}

/// Pieces that parsers stumble over.
const PIECES: [&[u8]; 24] = [
    b"{",
    b"}",
    b"[",
    b"]",
    b",",
    b":",
    b"\"",
    b"\\",
    b"\\u0000",
    b"\\ud800",
    b"null",
    b"1e9",
    b"-0",
    b".5",
    b"18446744073709551616",
    b"\xff",
    b"\xe2\x80\xae",
    b"\0",
    b"\n",
    b"\n\n",
    b" ",
    b"=",
    b"{\"type\":\"submit\",\"length\":1}",
    b"[[[[[[[[[[[[[[[[[[[[",
];

fn mutate(random: &mut Random, seeds: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = seeds[random.below(seeds.len())].clone();
    for _ in 0..=random.next() % MOST_CHANGES {
        let at = random.below(bytes.len() + 1);
        let end = (at + random.below(16)).min(bytes.len());
        match random.below(7) {
            0 if at < bytes.len() => bytes[at] ^= 1 << random.below(8),
            1 if at < bytes.len() => bytes[at] = random.next().to_le_bytes()[0],
            2 => drop(bytes.drain(at..end)),
            3 => bytes.truncate(at),
            4 => drop(bytes.splice(at..end, PIECES[random.below(PIECES.len())].iter().copied())),
            5 => {
                let copy = bytes[at..end].to_vec();
                let to = random.below(bytes.len() + 1);
                drop(bytes.splice(to..to, copy));
            }
            _ => {
                let other = &seeds[random.below(seeds.len())];
                let from = random.below(other.len() + 1);
                let piece = other[from..(from + random.below(64)).min(other.len())].to_vec();
                drop(bytes.splice(at..end, piece));
            }
        }
    }
    bytes
}

fn goldens(directories: &[&str]) -> Vec<Vec<u8>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("golden");
    let mut paths: Vec<_> = directories
        .iter()
        .flat_map(|directory| std::fs::read_dir(root.join(directory)).unwrap())
        .map(|file| file.unwrap().path())
        .filter(|path| path.is_file())
        .collect();
    paths.sort();
    assert!(!paths.is_empty());
    paths.into_iter().map(|path| std::fs::read(path).unwrap()).collect()
}

fn smoke(seeds: &[Vec<u8>], target: impl Fn(&[u8])) {
    seeds.iter().for_each(|seed| target(seed));
    let mut random = Random(0x5712_0a96_0042_0007);
    for _ in 0..CASES {
        target(&mutate(&mut random, seeds));
    }
}

// Red without the signature test in `Envelope::verify`: a forged envelope is found within the first mutants.
#[test]
fn envelopes() {
    smoke(&goldens(&["envelope"]), entry::envelope);
}

#[test]
fn bodies() {
    let jobs = goldens(&["job"]).into_iter().map(|seed| [seed, vec![0]].concat());
    let batches = goldens(&["batch"]).into_iter().map(|seed| [seed, vec![1]].concat());
    smoke(&jobs.chain(batches).collect::<Vec<_>>(), entry::body);
}

#[test]
fn frames() {
    smoke(&goldens(&["frame"]), entry::frame);
}

#[test]
fn records() {
    smoke(&goldens(&["record"]), entry::record);
}

#[test]
fn checkpoints() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("golden/audit/checkpoint");
    smoke(&[std::fs::read(root).unwrap()], entry::checkpoint);
}

#[test]
fn proofs() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("golden/audit/entry-3.tlog-proof");
    smoke(&[std::fs::read(root).unwrap()], entry::proof);
}

// Red without the checks of the signatures in `Succession::check`.
#[test]
fn successions() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("golden/succession");
    smoke(&["host.keys", "log.keys"].map(|file| std::fs::read(root.join(file)).unwrap()), entry::succession);
}
