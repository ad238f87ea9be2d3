//! The frozen log in `golden/audit`: every byte that the formats give is compared with what is committed, and
//! other implementations read the committed files. Nothing here writes them: a difference is a changed format.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::path::{Path, PathBuf};

use signed_note::{Note, StandardVerifier, VerifierList};
use strongroom_job::checkpoint::{Checkpoint, SignedCheckpoint};
use strongroom_job::cosignature::{CosignerKey, attach, cosign};
use strongroom_job::merkle::{Hash, LeafIndex, TreeSize, prove_consistency, prove_inclusion};
use strongroom_job::note::{KeyName, VerifierKey};
use strongroom_job::tile::{Tile, TileEdge, TileNodes, bundle, hashes};
use strongroom_job::tlog_proof::TlogProof;
use strongroom_job::witness::AddCheckpoint;
use strongroom_job::{SecretKey, Timestamp};
use tlog_tiles::{tile as their_tile, tlog};
use zeroize::Zeroizing;

const ENTRIES: u64 = 260;
const PROVEN: u64 = 3;
const SEED: [u8; 32] = [0x5a; 32];

fn entry(index: u64) -> Vec<u8> {
    format!("{{\"golden\":{index}}}").into_bytes()
}

fn name() -> KeyName {
    "strongroom.example/golden".parse().unwrap()
}

/// All files of the log, as the library makes them now.
fn made() -> BTreeMap<String, Vec<u8>> {
    let key = SecretKey::from_seed(&Zeroizing::new(SEED));
    let mut files = BTreeMap::new();
    let (mut edge, mut bytes) = (TileEdge::new(), Vec::new());
    for index in 0..ENTRIES {
        bundle::push(&mut bytes, &entry(index)).unwrap();
        edge.push(Hash::of_leaf(&entry(index)), |tile, full| {
            files.insert(tile.to_string(), hashes::encode(full));
        })
        .unwrap();
        if index == 255 {
            files.insert("tile/entries/000".to_owned(), std::mem::take(&mut bytes));
        }
    }
    files.insert("tile/entries/001.p/4".to_owned(), bytes);
    for (tile, partial) in edge.partial() {
        files.insert(tile.to_string(), hashes::encode(partial));
    }
    let checkpoint = SignedCheckpoint::sign(&edge.head(), &name(), &key).unwrap();
    let mut nodes =
        TileNodes::new(edge.size(), |tile: Tile| Ok::<_, Infallible>(files[&tile.to_string()].clone()));
    let proof = prove_inclusion(LeafIndex::new(PROVEN), edge.size(), |node| nodes.hash(node)).unwrap();
    let proof = TlogProof::new(LeafIndex::new(PROVEN), proof, checkpoint.clone()).unwrap();
    files.insert("checkpoint".to_owned(), checkpoint.to_string().into_bytes());
    files.insert("log.pub".to_owned(), format!("{}\n", VerifierKey::new(name(), key.public())).into_bytes());
    files.insert("entry-3.tlog-proof".to_owned(), proof.to_string().into_bytes());
    witnessed(&mut files, &checkpoint.verify(&name(), &key.public()).unwrap());
    files
}

/// What two witnesses make of the checkpoint, and what the second one was asked.
fn witnessed(files: &mut BTreeMap<String, Vec<u8>>, checkpoint: &Checkpoint) {
    let (mut cosignatures, mut keys) = (Vec::new(), String::new());
    for (seed, seconds) in [(0x77, 1_679_315_147), (0x78, 1_679_315_148)] {
        let name: KeyName = format!("witness.example/w{}", seed - 0x76).parse().unwrap();
        let key = SecretKey::from_seed(&Zeroizing::new([seed; 32]));
        cosignatures.push(cosign(checkpoint, &name, &key, Timestamp::from_millis(seconds * 1000)));
        keys.push_str(&format!("{}\n", CosignerKey::new(name, key.public())));
    }
    let old = TreeSize::new(PROVEN).unwrap();
    let read = |tile: Tile| Ok::<_, Infallible>(files[&tile.to_string()].clone());
    let mut nodes = TileNodes::new(checkpoint.size(), read);
    let proof = prove_consistency(old, checkpoint.size(), |node| nodes.hash(node)).unwrap();
    let request = AddCheckpoint::new(old, proof, checkpoint.signed().clone());
    let cosigned = attach(checkpoint, &cosignatures).unwrap();
    files.insert("checkpoint.cosigned".to_owned(), cosigned.to_string().into_bytes());
    files.insert("witnesses.pub".to_owned(), keys.into_bytes());
    files.insert("from-3.add-checkpoint".to_owned(), request.to_string().into_bytes());
}

fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("golden/audit")
}

fn read(file: &str) -> Vec<u8> {
    std::fs::read(golden().join(file)).unwrap()
}

/// The names of all files under a directory, relative to `golden/audit`.
fn committed(dir: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.append(&mut committed(&path));
        } else {
            found.push(path.strip_prefix(golden()).unwrap().to_str().unwrap().to_owned());
        }
    }
    found.sort();
    found
}

#[test]
fn the_formats_are_frozen() {
    let made = made();
    assert_eq!(committed(&golden()), made.keys().cloned().collect::<Vec<_>>());
    for (file, bytes) in made {
        assert!(read(&file) == bytes, "{file} differs from the committed one: the format changed");
    }
}

#[test]
fn the_frozen_proof_verifies() {
    let key: VerifierKey = str::from_utf8(&read("log.pub")).unwrap().trim_end().parse().unwrap();
    let proof = TlogProof::parse(&read("entry-3.tlog-proof")).unwrap();
    let checkpoint = proof.verify(&entry(PROVEN), key.name(), key.key()).unwrap();
    assert_eq!(checkpoint.size().get(), ENTRIES);
    assert_eq!(checkpoint.signed().as_str().as_bytes(), read("checkpoint"));
}

/// Reads the committed tiles for the other implementation.
struct Committed;

impl their_tile::TileReader for Committed {
    fn height(&self) -> u8 {
        8
    }

    fn read_tiles(&self, tiles: &[their_tile::Tile]) -> Result<Vec<Vec<u8>>, tlog::Error> {
        Ok(tiles.iter().map(|tile| read(&tile.path().replacen("tile/8/", "tile/", 1))).collect())
    }

    fn save_tiles(&self, _: &[their_tile::Tile], _: &[Vec<u8>]) {}
}

#[test]
fn the_frozen_log_is_read_by_other_implementations() {
    let note = Note::from_bytes(&read("checkpoint")).unwrap();
    let key = StandardVerifier::new(str::from_utf8(&read("log.pub")).unwrap().trim_end()).unwrap();
    note.verify(&VerifierList::new(vec![Box::new(key)])).unwrap();
    let head = tlog_tiles::Checkpoint::from_bytes(note.text()).unwrap();
    assert_eq!(head.size(), ENTRIES);
    let reader = their_tile::TileHashReader::new(head.size(), *head.hash(), &Committed);
    for index in 0..ENTRIES {
        let proof = tlog::prove_record(ENTRIES, index, &reader).unwrap();
        tlog::check_record(&proof, ENTRIES, *head.hash(), index, tlog::record_hash(&entry(index))).unwrap();
    }
}
