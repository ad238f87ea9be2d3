//! Secrets that were dropped are in no buffer of ours any more: this process's own memory is read, and searched for them.
//!
//! What is looked through is every mapping that can be written but stacks: there, copies of what a function returned stay until others are
//! written over them, which no program can help without taking its compiler's place. The values are random and searched for in a disguise, so that
//! the search does not find itself.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::fs::{self, File};
use std::io::Read as _;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use strongroom::home::Home;
use strongroom::secrets::Vault;
use strongroom_job::Name;
use strongroom_sdk::Identity;
use zeroize::Zeroizing;

/// What turns a secret into its disguise.
const DISGUISE: u8 = 0x5a;
/// Memory is looked at in pieces of this size.
const PIECE: usize = 1 << 20;

/// One search at a time: what one reads, another would find.
static ALONE: Mutex<()> = Mutex::new(());

/// Bytes that are to be found nowhere, disguised.
struct Needle(Vec<u8>);

impl Needle {
    fn random(length: usize) -> Self {
        let mut bytes = vec![0; length];
        getrandom::fill(&mut bytes).unwrap();
        Self(bytes)
    }

    /// Reads a file byte by byte, from `skip` on.
    fn of_file(path: &Path, skip: usize, length: usize) -> Self {
        let mut bytes = Vec::with_capacity(length);
        let mut file = File::open(path).unwrap();
        for at in 0..skip + length {
            let mut byte = [0];
            file.read_exact(&mut byte).unwrap();
            if at >= skip {
                bytes.push(byte[0] ^ DISGUISE);
            }
        }
        Self(bytes)
    }

    fn plain(&self) -> Zeroizing<Vec<u8>> {
        let mut plain = Zeroizing::new(Vec::with_capacity(self.0.len()));
        plain.extend(self.0.iter().map(|byte| byte ^ DISGUISE));
        plain
    }

    /// From the hex digits of this one, what they stand for.
    fn unhexed(&self) -> Self {
        let digit = |byte: &u8| char::from(byte ^ DISGUISE).to_digit(16).unwrap() as u8;
        Self(self.0.chunks(2).map(|pair| (digit(&pair[0]) << 4 | digit(&pair[1])) ^ DISGUISE).collect())
    }

    /// How often its second half is in this process's memory. The first bytes of what was given back are the allocator's.
    fn found(&self) -> usize {
        let memory = File::open("/proc/self/mem").unwrap();
        let maps = fs::read_to_string("/proc/self/maps").unwrap();
        let here = std::ptr::from_ref(&memory) as u64;
        let whole = self.plain();
        let plain = &whole[whole.len() / 2..];
        let mut piece = vec![0_u8; PIECE + plain.len()];
        let range = |bytes: &[u8]| bytes.as_ptr() as u64..bytes.as_ptr() as u64 + bytes.len() as u64;
        // What is searched for, and what is searched, is here, too.
        let own = [range(&whole), range(&piece)];
        let mut found = 0;
        for line in maps.lines() {
            let (addresses, rest) = line.split_once(' ').unwrap();
            let (from, to) = addresses.split_once('-').unwrap();
            let (mut at, to) = (u64::from_str_radix(from, 16).unwrap(), u64::from_str_radix(to, 16).unwrap());
            let is_stack = rest.contains("[stack]") || (at..to).contains(&here);
            if !rest.starts_with("rw") || rest.contains("[v") || is_stack {
                continue;
            }
            while at < to {
                let length = usize::try_from(to - at).unwrap().min(piece.len());
                // What is unmapped meanwhile.
                let Ok(read) = memory.read_at(&mut piece[..length], at) else { break };
                let places = places(&piece[..read], plain).into_iter().map(|offset| at + offset as u64);
                found += places.filter(|place| !own.iter().any(|own| own.contains(place))).count();
                at += PIECE as u64;
            }
        }
        // A piece that holds it would be found by the next search.
        piece.fill(0);
        found
    }
}

/// Where `needle` is in `all`.
fn places(all: &[u8], needle: &[u8]) -> Vec<usize> {
    let mut found = Vec::new();
    let mut from = 0;
    while all.len() - from >= needle.len() {
        let rest = &all[from..];
        // SAFETY: both pointers are of slices of these lengths, and nothing is written.
        let place =
            unsafe { libc::memmem(rest.as_ptr().cast(), rest.len(), needle.as_ptr().cast(), needle.len()) };
        if place.is_null() {
            break;
        }
        let offset = place as usize - all.as_ptr() as usize;
        found.push(offset);
        from = offset + 1;
    }
    found
}

fn alone() -> MutexGuard<'static, ()> {
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn name(text: &str) -> Name {
    text.parse().unwrap()
}

// The control is in the middle: while the value is held, the same search finds it.
#[test]
fn a_secret_of_a_job_is_in_memory_as_long_as_it_is_held() {
    let _alone = alone();
    let dir = tempfile::tempdir().unwrap();
    let home = Home::create(&dir.path().join("data")).unwrap();
    let vault = Vault::of(&home);
    let needle = Needle::random(48);
    vault.set(&name("word"), &needle.plain()).unwrap();
    assert_eq!(needle.found(), 0, "after it was stored");
    let value = vault.get(&name("word")).unwrap();
    assert_eq!(needle.found(), 1, "while it is held: the search finds it");
    assert_eq!(*value, *needle.plain());
    drop(value);
    assert_eq!(needle.found(), 0, "after it was dropped");
    let key = Needle::of_file(&home.dir().join("keys/secrets.key"), 0, 64);
    assert_eq!((key.found(), key.unhexed().found()), (0, 0), "the key that opens all of them");
}

// The control is in the middle, as above.
#[test]
fn a_secret_key_is_in_memory_as_long_as_it_is_held() {
    let _alone = alone();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("client.key");
    Identity::generate().unwrap().save(&path).unwrap();
    let text = Needle::of_file(&path, "strongroom-secret-key:ed25519:".len(), 64);
    let seed = text.unhexed();
    assert_eq!((text.found(), seed.found()), (0, 0), "after it was saved");
    // On the heap, where it can be looked for.
    let identity = Box::new(Identity::load(&path).unwrap());
    let pkcs8 = identity.secret().to_pkcs8();
    assert!(seed.found() >= 2, "while it is held: the search finds it");
    assert_eq!(text.found(), 0, "its file is not kept");
    drop((identity, pkcs8));
    assert_eq!((text.found(), seed.found()), (0, 0), "after it was dropped");
}

// Red without `Zeroizing` around the text that is read.
#[test]
fn the_key_of_the_compile_cache_is_wiped() {
    let _alone = alone();
    let dir = tempfile::tempdir().unwrap();
    let home = Home::create(&dir.path().join("data")).unwrap();
    drop(Box::new(home.cache_key().unwrap()));
    drop(Box::new(home.cache_key().unwrap()));
    let text = Needle::of_file(&home.dir().join("keys/cache.key"), 0, 64);
    assert_eq!((text.found(), text.unhexed().found()), (0, 0));
}
