//! The log that the host writes, checked by three crates that nobody here wrote: `signed_note` reads the signature,
//! `tlog_tiles` the tiles and proofs, `ct-merkle` the tree; and by `aics-tlog`, a Python package that does all of it. They pass the
//! good log and refuse altered ones (hostile 33 and 34). Nothing of Strongroom takes part in the checking.
//!
//! The Python package is looked for behind the `python3` in the path. Where it is not there, its test says so and passes.
#![allow(clippy::disallowed_methods, reason = "a variable says whether the package must be there")]
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod common;

use std::cell::RefCell;
use std::fs;
use std::path::Path;
use std::process::Command;

use common::trees;
use ct_merkle::mem_backed_tree::MemoryBackedTree;
use ct_merkle::{InclusionProof, RootHash};
use sha2::Sha256;
use signed_note::{Note, StandardVerifier, VerifierList};
use strongroom::audit::read::LogReader;
use strongroom::audit::writer::Log;
use strongroom_job::SecretKey;
use strongroom_job::merkle::LeafIndex;
use tlog_tiles::{Checkpoint, tile, tlog};
use zeroize::Zeroizing;

const ENTRIES: u64 = 600;

fn entry(index: u64) -> Vec<u8> {
    format!("{{\"record\":{index}}}").into_bytes()
}

/// A log of 600 entries, published in several steps.
fn log() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let key = SecretKey::from_seed(&Zeroizing::new([9; 32]));
    let mut log = Log::create(dir.path(), "strongroom.example/oracle".parse().unwrap(), key).unwrap();
    for end in [1, 7, 256, 300, ENTRIES] {
        let from = log.size().get();
        log.publish(LeafIndex::new(from), (from..end).map(entry)).unwrap();
    }
    dir
}

/// The signed head, by `signed_note` and `tlog_tiles` alone.
fn signed_head(dir: &Path) -> Result<Checkpoint, String> {
    let vkey = fs::read_to_string(dir.join("log.pub")).map_err(|error| error.to_string())?;
    let key = StandardVerifier::new(vkey.trim_end()).map_err(|error| error.to_string())?;
    let bytes = fs::read(dir.join("checkpoint")).map_err(|error| error.to_string())?;
    let note = Note::from_bytes(&bytes).map_err(|error| error.to_string())?;
    note.verify(&VerifierList::new(vec![Box::new(key)])).map_err(|error| error.to_string())?;
    Checkpoint::from_bytes(note.text()).map_err(|error| error.to_string())
}

/// Reads tiles as the specification names them.
struct Tiles<'a>(&'a Path);

impl tile::TileReader for Tiles<'_> {
    fn height(&self) -> u8 {
        8
    }

    fn read_tiles(&self, tiles: &[tile::Tile]) -> Result<Vec<Vec<u8>>, tlog::Error> {
        let read = |tile: &tile::Tile| {
            let bytes = fs::read(self.0.join(tile.path().replacen("tile/8/", "tile/", 1))).ok()?;
            let expected = usize::try_from(tile.width()).unwrap() * tlog::HASH_SIZE;
            (bytes.len() == expected).then_some(bytes)
        };
        tiles.iter().map(|tile| read(tile).ok_or(tlog::Error::InvalidTile)).collect()
    }

    fn save_tiles(&self, _: &[tile::Tile], _: &[Vec<u8>]) {}
}

/// Every hash of a tree, in `tlog_tiles`' own order.
#[derive(Default)]
struct Stored(RefCell<Vec<tlog::Hash>>);

impl tlog::HashReader for Stored {
    fn read_hashes(&self, indexes: &[u64]) -> Result<Vec<tlog::Hash>, tlog::Error> {
        let stored = self.0.borrow();
        Ok(indexes.iter().map(|index| stored[usize::try_from(*index).unwrap()]).collect())
    }
}

/// The entries of the bundles, cut at their length bytes.
fn entries(dir: &Path, size: u64) -> Option<Vec<Vec<u8>>> {
    let mut entries = Vec::new();
    for number in 0..size.div_ceil(256) {
        let width = (size - number * 256).min(256);
        let suffix = if width == 256 { String::new() } else { format!(".p/{width}") };
        let bytes = fs::read(dir.join(format!("tile/entries/{number:03}{suffix}"))).ok()?;
        let mut rest = &bytes[..];
        while let Some((length, behind)) = rest.split_first_chunk::<2>() {
            let (entry, behind) = behind.split_at_checked(u16::from_be_bytes(*length).into())?;
            entries.push(entry.to_vec());
            rest = behind;
        }
        if !rest.is_empty() {
            return None;
        }
    }
    (entries.len() as u64 == size).then_some(entries)
}

/// Everything at once: signature, tree over the entries, and each entry's inclusion by the tiles.
fn passes(dir: &Path) -> bool {
    let Ok(head) = signed_head(dir) else { return false };
    let Some(entries) = entries(dir, head.size()) else { return false };
    let mut tree = MemoryBackedTree::<Sha256, Vec<u8>>::new();
    for entry in &entries {
        tree.push(entry.clone());
    }
    if tree.root().as_bytes()[..] != head.hash().0 {
        return false;
    }
    // `TileHashReader` leaves some tiles unauthenticated when several peaks of the tree share one, so each tile is
    // also compared with what the crate itself makes of the entries.
    let stored = Stored::default();
    for (index, entry) in (0..).zip(&entries) {
        let hashes = tlog::stored_hashes(index, entry, &stored).unwrap();
        stored.0.borrow_mut().extend(hashes);
    }
    let tiles = Tiles(dir);
    let same = tile::Tile::new_tiles(8, 0, head.size()).into_iter().all(|tile| {
        let found = tile::TileReader::read_tiles(&tiles, &[tile]);
        found.is_ok_and(|found| found[0] == tile.read_data(&stored).unwrap())
    });
    if !same {
        return false;
    }
    let reader = tile::TileHashReader::new(head.size(), *head.hash(), &tiles);
    (0..head.size()).step_by(256).chain([head.size() - 1]).all(|index| {
        let Ok(proof) = tlog::prove_record(head.size(), index, &reader) else { return false };
        let leaf = tlog::record_hash(&entries[usize::try_from(index).unwrap()]);
        tlog::check_record(&proof, head.size(), *head.hash(), index, leaf).is_ok()
    })
}

#[test]
fn the_good_log_passes_the_independent_check() {
    let dir = log();
    let head = signed_head(dir.path()).unwrap();
    assert_eq!((head.origin(), head.size()), ("strongroom.example/oracle", ENTRIES));
    assert_eq!(entries(dir.path(), ENTRIES).unwrap(), (0..ENTRIES).map(entry).collect::<Vec<_>>());
    assert!(passes(dir.path()));
}

#[test]
fn our_proof_files_satisfy_other_verifiers() {
    let dir = log();
    let head = signed_head(dir.path()).unwrap();
    let root = RootHash::<Sha256>::new(head.hash().0.into(), head.size());
    let reader = LogReader::open(dir.path(), None).unwrap();
    for index in [0, 1, 255, 256, 511, 512, 599] {
        let (proof, _) = reader.prove(LeafIndex::new(index)).unwrap();
        let text = proof.to_string();
        // The file is lines: header, index, hashes, an empty one, the checkpoint.
        let (lines, checkpoint) = text.split_once("\n\n").unwrap();
        assert_eq!(checkpoint, fs::read_to_string(dir.path().join("checkpoint")).unwrap());
        let mut lines = lines.lines();
        assert_eq!(lines.next(), Some("c2sp.org/tlog-proof@v1"));
        assert_eq!(lines.next(), Some(format!("index {index}").as_str()));
        let hashes: Vec<_> = lines.map(|line| tlog::Hash::parse_hash(line).unwrap()).collect();
        let leaf = tlog::record_hash(&entry(index));
        tlog::check_record(&hashes, head.size(), *head.hash(), index, leaf).unwrap();
        let other = tlog::record_hash(&entry(index + 1));
        assert!(tlog::check_record(&hashes, head.size(), *head.hash(), index, other).is_err());
        let bytes = hashes.iter().flat_map(|hash| hash.0).collect();
        let proof = InclusionProof::<Sha256>::try_from_bytes(bytes).unwrap();
        root.verify_inclusion(&entry(index), index, &proof).unwrap();
    }
}

/// Alters each file of the log in each way, shows it, and puts it back.
fn each_alteration(dir: &Path, mut show: impl FnMut(&str)) {
    let files = [
        "checkpoint",
        "log.pub",
        "tile/0/000",
        "tile/0/001",
        "tile/0/002.p/88",
        "tile/1/000.p/2",
        "tile/entries/000",
        "tile/entries/001",
        "tile/entries/002.p/88",
    ];
    for file in files {
        let path = dir.join(file);
        let good = fs::read(&path).unwrap();
        for place in [0, 1, good.len() / 3, good.len() / 2, good.len() - 2] {
            let mut bad = good.clone();
            bad[place] ^= 1;
            fs::write(&path, &bad).unwrap();
            show(&format!("{file}, byte {place}"));
        }
        fs::write(&path, &good[..good.len() - 2]).unwrap();
        show(&format!("{file}, cut"));
        fs::remove_file(&path).unwrap();
        show(&format!("{file}, deleted"));
        fs::write(&path, &good).unwrap();
    }
    // Two entries in each other's place: as long as before, and each of them whole.
    let path = dir.join("tile/entries/001");
    let good = fs::read(&path).unwrap();
    let (length, entry) = (good[1] as usize + 2, &good[..]);
    let swapped = [&entry[length..2 * length], &entry[..length], &entry[2 * length..]].concat();
    assert_eq!(good[1], good[length + 1], "the two are as long");
    fs::write(&path, swapped).unwrap();
    show("tile/entries/001, swapped");
    fs::write(&path, &good).unwrap();
}

#[test]
fn altered_logs_fail_the_independent_check_too() {
    let dir = log();
    each_alteration(dir.path(), |what| assert!(!passes(dir.path()), "{what}"));
    assert!(passes(dir.path()));
}

#[test]
fn a_python_package_passes_the_good_log_and_refuses_each_altered_one() {
    let there = Command::new("python3").args(["-c", "import aics_tlog"]).output();
    if !there.is_ok_and(|output| output.status.success()) {
        assert!(std::env::var_os("STRONGROOM_TLOG").is_none(), "installed, and cannot be used");
        println!("skipped: no python3 with aics-tlog");
        return;
    }
    let (dir, logs) = (log(), tempfile::tempdir().unwrap());
    let keep = |name: &str| trees::copy(dir.path(), &logs.path().join(name.replace('/', "-")));
    let mut altered = 0;
    keep("good");
    each_alteration(dir.path(), |what| {
        altered += 1;
        keep(what);
    });
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/audit_interop.py");
    let output = Command::new("python3").arg(script).arg(logs.path()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    let passed: Vec<_> = said.lines().filter(|line| !line.contains(": refused: ")).collect();
    assert_eq!(passed, ["good: passes"], "{said}");
    assert_eq!(said.lines().count(), altered + 1, "{said}");
}
