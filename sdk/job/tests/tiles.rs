//! Tiles: the same names and bytes as another implementation's, proofs from tiles alone, nothing but the one form.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::convert::Infallible;

use proptest::prelude::*;
use strongroom_job::merkle::{
    Hash, LeafIndex, Node, TreeHead, TreeSize, prove_consistency, prove_inclusion, verify_consistency,
    verify_inclusion,
};
use strongroom_job::tile::bundle::{self, BundleError, EntryTooLong, MAX_ENTRY_BYTES};
use strongroom_job::tile::{Content, NodeError, Tile, TileEdge, TileNodes, hashes};
use tlog_tiles::{tile as their_tile, tlog};

fn entry(index: u64) -> Vec<u8> {
    format!("entry {index}").into_bytes()
}

fn size(number: u64) -> TreeSize {
    TreeSize::new(number).unwrap()
}

fn hash_tile(level: u8, index: u64, width: u16) -> Tile {
    Tile::new(Content::Hashes { level }, index, width).unwrap()
}

/// The name that the other implementation gives the same tile, without the tile height that its names carry.
fn their_path(tile: Tile) -> String {
    let (level, is_data) = match tile.content() {
        Content::Entries => (0, true),
        Content::Hashes { level } => (level, false),
    };
    let theirs = their_tile::Tile::new(8, level, tile.index(), tile.width().into(), is_data);
    theirs.path().replacen("tile/8/", "tile/", 1).replacen("tile/data/", "tile/entries/", 1)
}

/// Every hash in the storage order of the other implementation.
#[derive(Default)]
struct Stored(RefCell<Vec<tlog::Hash>>);

impl tlog::HashReader for Stored {
    fn read_hashes(&self, indexes: &[u64]) -> Result<Vec<tlog::Hash>, tlog::Error> {
        let stored = self.0.borrow();
        Ok(indexes.iter().map(|index| stored[usize::try_from(*index).unwrap()]).collect())
    }
}

/// A log as files in memory, full tiles only as they fill up, partial ones as asked for.
#[derive(Default)]
struct Files(BTreeMap<String, Vec<u8>>);

impl Files {
    fn grow(&mut self, edge: &mut TileEdge, entry: &[u8]) {
        edge.push(Hash::of_leaf(entry), |tile, full| {
            assert!(tile.is_full());
            assert_eq!(self.0.insert(tile.to_string(), hashes::encode(full)), None, "{tile}");
        })
        .unwrap();
    }

    fn write_partial(&mut self, edge: &TileEdge) {
        for (tile, partial) in edge.partial() {
            assert!(!tile.is_full());
            self.0.insert(tile.to_string(), hashes::encode(partial));
        }
    }

    fn read(&self, tile: Tile) -> Result<Vec<u8>, String> {
        self.0.get(&tile.to_string()).cloned().ok_or_else(|| tile.to_string())
    }
}

#[test]
fn names_are_those_of_the_specification() {
    let named = [
        (hash_tile(0, 1_234_067, 256), "tile/0/x001/x234/067"),
        (hash_tile(4, 999, 8), "tile/4/999.p/8"),
        (hash_tile(0, 1000, 255), "tile/0/x001/000.p/255"),
        (Tile::new(Content::Entries, 0, 256).unwrap(), "tile/entries/000"),
        (Tile::new(Content::Entries, 1_000_000, 1).unwrap(), "tile/entries/x001/x000/000.p/1"),
    ];
    for (tile, name) in named {
        assert_eq!(tile.to_string(), name);
        assert_eq!(name.parse(), Ok(tile));
    }
}

// Red without the comparison with the printed name in `Tile::from_str`.
#[test]
fn a_tile_has_one_name() {
    let wrong = [
        "",
        "tile",
        "tile/0",
        "tile/0/",
        "tile/0/67",
        "tile/0/0067",
        "tile/0/x000/067",
        "tile/0/001/067",
        "tile/0/x001/x067",
        "tile/0/x001//067",
        "tile/0/+67",
        "tile/0/067/",
        "tile/00/067",
        "tile/+0/067",
        "tile/8/067",
        "tile/64/067",
        "tile/-1/067",
        "tile/data/067",
        "tile/Entries/067",
        "tile/0/067.p",
        "tile/0/067.p/",
        "tile/0/067.p/0",
        "tile/0/067.p/05",
        "tile/0/067.p/+5",
        "tile/0/067.p/256",
        "tile/0/067.p/5/",
        "tile/0/067.p/5.p/5",
        "/tile/0/067",
        "tile/0/067 ",
        "tile/0/../067",
        "tile/8/0/067",
        "tile/0/x036/x028/x797/x018/x963/968",
        "tile/7/001",
        "tile/0/x999/x999/x999/x999/x999/x999/x999/x999/x999/x999/x999/999",
    ];
    for name in wrong {
        assert!(name.parse::<Tile>().is_err(), "{name}");
    }
    let last = Tile::new(Content::Entries, (TreeSize::MAX.get() >> 8) - 1, 256).unwrap();
    assert_eq!(last.to_string().parse(), Ok(last));
}

#[test]
fn the_tiles_of_a_log_are_those_of_the_specification_and_of_the_other_implementation() {
    // The example of the specification: 70,000 entries.
    let all: Vec<_> = Tile::all(size(70_000)).collect();
    let count = |level, full| {
        all.iter()
            .filter(|tile| tile.content() == Content::Hashes { level } && tile.is_full() == full)
            .count()
    };
    assert_eq!([count(0, true), count(0, false), count(1, true), count(1, false)], [273, 1, 1, 1]);
    assert_eq!([count(2, true), count(2, false), count(3, true), count(3, false)], [0, 1, 0, 0]);
    assert!(all.contains(&hash_tile(0, 273, 112)));
    assert!(all.contains(&hash_tile(1, 1, 17)));

    for entries in (0..700).chain([65_535, 65_536, 65_537, 70_000, 131_072]) {
        let mut expected: Vec<_> = their_tile::Tile::new_tiles(8, 0, entries)
            .iter()
            .map(|tile| tile.path().replacen("tile/8/", "tile/", 1))
            .collect();
        let mut bundles: Vec<_> = expected
            .iter()
            .filter(|name| name.starts_with("tile/0/"))
            .map(|name| name.replacen("tile/0/", "tile/entries/", 1))
            .collect();
        bundles.append(&mut expected);
        let ours: Vec<_> = Tile::all(size(entries)).map(|tile| tile.to_string()).collect();
        assert_eq!(ours, bundles, "{entries}");
        let partial: Vec<_> = Tile::all(size(entries)).filter(|tile| !tile.is_full()).collect();
        assert_eq!(Tile::partial(size(entries)).collect::<Vec<_>>(), partial, "{entries}");
        assert!(Tile::all(size(entries)).all(|tile| tile.is_within(size(entries))));
    }
}

#[test]
fn tile_bytes_are_those_of_the_other_implementation() {
    let (stored, mut files, mut edge) = (Stored::default(), Files::default(), TileEdge::new());
    for index in 0..700 {
        let new = tlog::stored_hashes(index, &entry(index), &stored).unwrap();
        stored.0.borrow_mut().extend(new);
        files.grow(&mut edge, &entry(index));
        if index % 37 != 0 && index % 256 < 253 {
            continue;
        }
        files.write_partial(&edge);
        for tile in their_tile::Tile::new_tiles(8, 0, index + 1) {
            let name = tile.path().replacen("tile/8/", "tile/", 1);
            assert_eq!(files.0[&name], tile.read_data(&stored).unwrap(), "{name} at {}", index + 1);
        }
        assert_eq!(*edge.head().root.as_bytes(), tlog::tree_hash(index + 1, &stored).unwrap().0);
    }
}

/// Heads at every size up to 700, and the files of the last one with all partial forms.
fn log_of_700() -> (Files, Vec<TreeHead>) {
    let (mut files, mut edge) = (Files::default(), TileEdge::new());
    let mut heads = vec![edge.head()];
    for index in 0..700 {
        files.grow(&mut edge, &entry(index));
        files.write_partial(&edge);
        heads.push(edge.head());
    }
    (files, heads)
}

#[test]
fn an_edge_restored_from_tiles_goes_on_like_the_one_that_wrote_them() {
    let (files, heads) = log_of_700();
    for (stop, head) in heads.iter().enumerate() {
        let read = |tile: Tile| hashes::decode(tile, &files.read(tile)?).map_err(|error| error.to_string());
        let mut edge = TileEdge::restore(head.size, read).unwrap();
        assert_eq!(edge.head(), *head);
        for index in stop..(stop + 260).min(heads.len() - 1) {
            edge.push(Hash::of_leaf(&entry(index as u64)), |tile, full| {
                assert_eq!(files.read(tile), Ok(hashes::encode(full)));
            })
            .unwrap();
            assert_eq!(edge.head(), heads[index + 1]);
        }
    }
}

#[test]
fn proofs_come_from_a_few_tiles() {
    let (files, heads) = log_of_700();
    for tree in [1, 2, 255, 256, 257, 300, 512, 513, 700] {
        let head = &heads[tree];
        for index in (0..tree).step_by(41).chain([tree - 1]) {
            let place = LeafIndex::new(index as u64);
            let mut read = Vec::new();
            let mut nodes = TileNodes::new(head.size, |tile| {
                read.push(tile);
                files.read(tile)
            });
            let proof = prove_inclusion(place, head.size, |node| nodes.hash(node)).unwrap();
            let leaf = Hash::of_leaf(&entry(index as u64));
            assert_eq!(verify_inclusion(&leaf, place, head, &proof), Ok(()), "{index} of {tree}");
            read.sort();
            let reads = read.len();
            read.dedup();
            assert_eq!(read.len(), reads, "no tile is read twice");
            assert!(reads <= 4, "{reads} tiles for two levels");

            let mut nodes = TileNodes::new(head.size, |tile| files.read(tile));
            let proof = prove_consistency(heads[index].size, head.size, |node| nodes.hash(node)).unwrap();
            assert_eq!(verify_consistency(&heads[index], head, &proof), Ok(()), "{index} to {tree}");
        }
    }
}

// Red without the comparison of the length in `hashes::decode`.
#[test]
fn a_cut_or_missing_tile_is_named() {
    let (files, _) = log_of_700();
    let full = files.read(hash_tile(0, 0, 256)).unwrap();
    for wrong in [&full[32..], &[&full[..], &[0; 32]].concat(), &[]] {
        assert!(hashes::decode(hash_tile(0, 0, 256), wrong).is_err(), "{} bytes", wrong.len());
    }
    let mut cut = TileNodes::new(size(700), |tile| files.read(tile).map(|bytes| bytes[1..].to_vec()));
    let leaf = Node { level: 0, index: 3 };
    let error = cut.hash(leaf).unwrap_err();
    assert!(matches!(&error, NodeError::Length { tile, .. } if tile.to_string() == "tile/0/000"));
    assert_eq!(
        error.to_string(),
        "tile/0/000: the tile has 8191 bytes where 8192 are expected: it was cut or extended"
    );
    let mut missing = TileNodes::new(size(700), |_: Tile| Err::<Vec<u8>, _>("gone"));
    assert_eq!(missing.hash(leaf), Err(NodeError::Read("gone")));
    let mut beyond = TileNodes::new(size(700), |tile| files.read(tile));
    for node in [Node { level: 0, index: 700 }, Node { level: 3, index: 87 }, Node { level: 9, index: 1 }] {
        assert_eq!(beyond.hash(node), Err(NodeError::NoSuchNode), "{node:?}");
    }
    assert_eq!(beyond.hash(Node { level: 64, index: 0 }), Err(NodeError::NoSuchNode));
}

fn bundle_tile(width: u16) -> Tile {
    Tile::new(Content::Entries, 0, width).unwrap()
}

#[test]
fn a_bundle_is_lengths_and_entries() {
    let mut bytes = Vec::new();
    for entry in [&b"one"[..], b"", b"three"] {
        bundle::push(&mut bytes, entry).unwrap();
    }
    assert_eq!(bytes, b"\0\x03one\0\0\0\x05three");
    assert_eq!(bundle::decode(bundle_tile(3), &bytes).unwrap(), [&b"one"[..], b"", b"three"]);
    assert_eq!(bundle::prefix(&bytes, 2).unwrap(), b"\0\x03one\0\0");
}

// Red without the test for the rest in `bundle::decode`.
#[test]
fn a_bundle_that_was_cut_or_extended_is_refused() {
    let mut bytes = Vec::new();
    for entry in [&b"one"[..], b"", b"three"] {
        bundle::push(&mut bytes, entry).unwrap();
    }
    for end in 0..bytes.len() {
        let cut = bundle::decode(bundle_tile(3), &bytes[..end]);
        assert!(matches!(cut, Err(BundleError::Cut { width: 3, .. })), "{end}");
    }
    assert_eq!(bundle::decode(bundle_tile(2), &bytes), Err(BundleError::Trailing { extra: 7 }));
    assert_eq!(bundle::decode(bundle_tile(4), &bytes), Err(BundleError::Cut { number: 3, width: 4 }));
    assert_eq!(bundle::prefix(&bytes, 4), Err(BundleError::Cut { number: 3, width: 4 }));
    assert_eq!(bundle::prefix(&bytes[..13], 3), Err(BundleError::Cut { number: 2, width: 3 }));

    let before = bytes.clone();
    let long = vec![0; MAX_ENTRY_BYTES + 1];
    assert_eq!(bundle::push(&mut bytes, &long), Err(EntryTooLong { found: 65_536 }));
    assert_eq!(bytes, before);
    bundle::push(&mut bytes, &long[1..]).unwrap();
    assert_eq!(bundle::decode(bundle_tile(4), &bytes).unwrap()[3].len(), 65_535);
}

#[test]
fn an_entry_is_found_in_its_bundle() {
    assert_eq!(Tile::of_entry(LeafIndex::new(3), size(5)), Some(bundle_tile(5)));
    assert_eq!(Tile::of_entry(LeafIndex::new(255), size(256)), Some(bundle_tile(256)));
    assert_eq!(Tile::of_entry(LeafIndex::new(5), size(5)), None);
    assert_eq!(Tile::of_entry(LeafIndex::new(256), size(256)), None);
    assert_eq!(Tile::of_entry(LeafIndex::new(u64::MAX), TreeSize::MAX), None);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn names_agree_with_the_other_implementation(level in 0u8..8, index in any::<u64>(), width in 1u16..=256) {
        for content in [Content::Entries, Content::Hashes { level }] {
            let level = match content { Content::Entries => 0, Content::Hashes { level } => level };
            // Any index that such a level can have, of any length.
            let index = (index >> (index % 56)) % ((TreeSize::MAX.get() >> (8 * level) >> 8).max(1));
            if let Ok(tile) = Tile::new(content, index, width) {
                prop_assert_eq!(tile.to_string(), their_path(tile));
                prop_assert_eq!(tile.to_string().parse(), Ok(tile));
            }
        }
    }

    #[test]
    fn any_text_is_refused_or_printed_again(text in "tile/(entries|[0-9]{1,2})(/x?[0-9]{1,3}){1,3}(\\.p/[0-9]{1,3})?") {
        if let Ok(tile) = text.parse::<Tile>() {
            prop_assert_eq!(tile.to_string(), text);
        }
    }

    #[test]
    fn bundles_give_back_their_entries(entries in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 1..30)) {
        let mut bytes = Vec::new();
        for entry in &entries {
            bundle::push(&mut bytes, entry).unwrap();
        }
        let width = u16::try_from(entries.len()).unwrap();
        prop_assert_eq!(bundle::decode(bundle_tile(width), &bytes).unwrap(), entries);
        prop_assert_eq!(bundle::prefix(&bytes, width).unwrap(), &bytes[..]);
    }

    #[test]
    fn any_bytes_are_refused_or_a_bundle_of_just_those_bytes(bytes in prop::collection::vec(0u8..4, 0..40), width in 1u16..12) {
        if let Ok(entries) = bundle::decode(bundle_tile(width), &bytes) {
            let mut again = Vec::new();
            for entry in entries {
                bundle::push(&mut again, entry).unwrap();
            }
            prop_assert_eq!(again, bytes);
        }
    }
}

/// The error type of a reader that cannot fail is usable: nothing forces a caller to invent one.
#[test]
fn a_reader_that_cannot_fail_needs_no_error() {
    let mut nodes = TileNodes::new(size(1), |_: Tile| Ok::<_, Infallible>(vec![7; 32]));
    assert_eq!(nodes.hash(Node { level: 0, index: 0 }), Ok(Hash::from_bytes([7; 32])));
}
