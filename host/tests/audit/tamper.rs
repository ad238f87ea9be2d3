//! Hostile 33: whatever is edited, deleted, swapped, cut or added under the audit directory, `audit verify` fails and
//! names the place.

use std::fs;
use std::path::Path;

use strongroom_job::tile::{Content, Tile};

use crate::support::{files, lines, published, scratch, verify};

/// 300 entries, with earlier partial forms of the last tiles, so that every kind of file is there.
fn log() -> tempfile::TempDir {
    let dir = scratch();
    published(dir.path(), &[200, 260, 300]);
    let expected = [
        "checkpoint",
        "log.pub",
        "tile/0/000",
        "tile/0/001.p/4",
        "tile/0/001.p/44",
        "tile/1/000.p/1",
        "tile/entries/000",
        "tile/entries/001.p/4",
        "tile/entries/001.p/44",
    ];
    assert_eq!(files(dir.path()), expected);
    dir
}

/// The findings after a change; the log must verify before it.
fn found(change: impl FnOnce(&Path)) -> Vec<String> {
    let dir = log();
    verify(dir.path()).unwrap();
    change(dir.path());
    lines(&verify(dir.path()).expect_err("the change must be found"))
}

const EDITED: &str = "edited: it is not what the signed root calls for";
const MISSING: &str = "missing: it was deleted or renamed";

// Red without the comparison in `compare` (tiles), in `earlier_partials` (narrower forms), and of the root in `blame`.
#[test]
fn every_flipped_bit_position_of_every_byte_is_found_and_its_file_named() {
    let dir = log();
    let mut flipped = 0u32;
    for file in files(dir.path()) {
        let path = dir.path().join(&file);
        let good = fs::read(&path).unwrap();
        for place in 0..good.len() {
            let mut bad = good.clone();
            // Another bit for each byte: all eight are tried in every file.
            bad[place] ^= 1 << (place % 8);
            fs::write(&path, &bad).unwrap();
            let error = verify(dir.path()).expect_err(&format!("{file}, byte {place}"));
            assert_eq!(error.findings()[0].file, file, "byte {place}: {error}");
            assert_eq!(error.findings().len(), 1, "byte {place}: {error}");
            flipped += 1;
        }
        fs::write(&path, &good).unwrap();
    }
    assert!(flipped > 10_000, "{flipped}");
    verify(dir.path()).unwrap();
}

#[test]
fn the_edited_entry_or_hash_is_named() {
    let edit = |file: &'static str, place: usize| {
        found(move |dir| {
            let mut bytes = fs::read(dir.join(file)).unwrap();
            bytes[place] ^= 1;
            fs::write(dir.join(file), bytes).unwrap();
        })
    };
    // Entries 0 to 9 have three bytes each with their length, the following ones four.
    assert_eq!(edit("tile/entries/000", 3 * 7 + 2), [format!("tile/entries/000: entry 7: {EDITED}")]);
    assert_eq!(edit("tile/entries/000", 30 + 4 * 5 + 3), [format!("tile/entries/000: entry 15: {EDITED}")]);
    assert_eq!(
        edit("tile/entries/001.p/44", 5 * 3 + 2),
        [format!("tile/entries/001.p/44: entry 259: {EDITED}")]
    );
    assert_eq!(
        edit("tile/entries/001.p/4", 5 * 3 + 2),
        [format!("tile/entries/001.p/4: entry 259: {EDITED}")]
    );
    assert_eq!(edit("tile/0/000", 32 * 17), [format!("tile/0/000: entry 17: {EDITED}")]);
    assert_eq!(edit("tile/0/001.p/44", 32 * 43 + 31), [format!("tile/0/001.p/44: entry 299: {EDITED}")]);
    assert_eq!(edit("tile/0/001.p/4", 0), [format!("tile/0/001.p/4: entry 256: {EDITED}")]);
    assert_eq!(edit("tile/1/000.p/1", 0), [format!("tile/1/000.p/1: {EDITED}")]);
    let bad_length = edit("tile/entries/000", 1);
    assert_eq!(bad_length.len(), 1);
    assert!(bad_length[0].starts_with("tile/entries/000: "), "{bad_length:?}");
    let signature = edit("checkpoint", 25);
    assert_eq!(signature.len(), 1);
    assert!(signature[0].starts_with("checkpoint: "), "{signature:?}");
}

#[test]
fn every_deleted_file_is_named() {
    for file in files(log().path()) {
        if is_earlier_form(&file) {
            continue;
        }
        let found = found(|dir| fs::remove_file(dir.join(&file)).unwrap());
        assert_eq!(found, [format!("{file}: {MISSING}")]);
    }
}

/// Needed for an earlier checkpoint only; nothing in the directory says that it was ever there.
fn is_earlier_form(file: &str) -> bool {
    file.ends_with(".p/4")
}

#[test]
fn an_earlier_form_may_be_missing() {
    let dir = log();
    for file in files(dir.path()).into_iter().filter(|file| is_earlier_form(file)) {
        fs::remove_file(dir.path().join(file)).unwrap();
        verify(dir.path()).unwrap();
    }
}

#[test]
fn every_cut_or_extended_file_is_named() {
    for file in files(log().path()) {
        for length in [-1i64, 1] {
            let found = found(|dir| {
                let mut bytes = fs::read(dir.join(&file)).unwrap();
                if length < 0 {
                    bytes.truncate(bytes.len() - 1)
                } else {
                    bytes.push(b'\n')
                }
                fs::write(dir.join(&file), bytes).unwrap();
            });
            assert_eq!(found.len(), 1, "{found:?}");
            assert!(found[0].starts_with(&format!("{file}: ")), "{found:?}");
        }
        let emptied = found(|dir| fs::write(dir.join(&file), b"").unwrap());
        assert!(emptied[0].starts_with(&format!("{file}: ")), "{emptied:?}");
    }
}

#[test]
fn swapped_files_are_named() {
    let dir = scratch();
    published(dir.path(), &[768]);
    verify(dir.path()).unwrap();
    for (one, two) in [("tile/0/000", "tile/0/001"), ("tile/entries/001", "tile/entries/002")] {
        let swap = || {
            let aside = dir.path().join("aside");
            fs::rename(dir.path().join(one), &aside).unwrap();
            fs::rename(dir.path().join(two), dir.path().join(one)).unwrap();
            fs::rename(&aside, dir.path().join(two)).unwrap();
        };
        swap();
        let error = verify(dir.path()).unwrap_err();
        assert!(error.findings().iter().all(|it| it.file == one || it.file == two), "{error}");
        assert_eq!(error.findings()[0].file, one);
        assert!(error.more(), "256 hashes of each differ");
        swap();
    }
    verify(dir.path()).unwrap();
}

#[test]
fn swapped_entries_are_named() {
    let swapped = found(|dir| {
        let path = dir.join("tile/entries/000");
        let mut bytes = fs::read(&path).unwrap();
        // Entries 3 and 5 have one byte each behind their length.
        bytes.swap(3 * 3 + 2, 3 * 5 + 2);
        fs::write(path, bytes).unwrap();
    });
    assert_eq!(
        swapped,
        [format!("tile/entries/000: entry 3: {EDITED}"), format!("tile/entries/000: entry 5: {EDITED}")]
    );
}

// Red without `walk`.
#[test]
fn whatever_was_added_is_named() {
    let extra = "not a part of the log: it was added";
    let names = [
        "note.txt",
        "tile/note.txt",
        "tile/0/note.txt",
        "tile/0/0000",
        "tile/0/000.p/x",
        "tile/0/000.bak",
        "tile/entries/x000",
        "tile/entries/001.p/044",
        // No log of 2^63 - 1 entries fills a tile of the highest level.
        "tile/7/000",
    ];
    for name in names {
        let found = found(|dir| {
            fs::create_dir_all(dir.join(name).parent().unwrap()).unwrap();
            fs::write(dir.join(name), b"").unwrap();
        });
        assert_eq!(found, [format!("{name}: {extra}")]);
    }
    for name in ["more", "tile/9", "tile/0/x000", "tile/0/.p", "tile/data"] {
        let found = found(|dir| fs::create_dir(dir.join(name)).unwrap());
        assert_eq!(found, [format!("{name}: {extra}")]);
    }
    for name in ["tile/0/002", "tile/6/000", "tile/7/000.p/1", "tile/entries/x001/000.p/3", ".pending"] {
        let found = found(|dir| {
            fs::create_dir_all(dir.join(name).parent().unwrap()).unwrap();
            fs::write(dir.join(name), b"").unwrap();
        });
        assert!(
            found.len() == 1 && found[0].starts_with(&format!("{name}: beyond the checkpoint")),
            "{found:?}"
        );
    }
}

#[test]
fn a_forged_earlier_form_is_named() {
    let found = found(|dir| {
        fs::create_dir(dir.join("tile/0/000.p")).unwrap();
        fs::write(dir.join("tile/0/000.p/2"), [0; 64]).unwrap();
    });
    assert_eq!(found, [format!("tile/0/000.p/2: entry 0: {EDITED}")]);
}

// Red without `Files::read`'s test for a regular file.
#[cfg(unix)]
#[test]
fn a_link_in_the_place_of_a_file_is_named() {
    for file in files(log().path()) {
        let found = found(|dir| {
            let outside = dir.join("tile/outside");
            fs::rename(dir.join(&file), &outside).unwrap();
            std::os::unix::fs::symlink(&outside, dir.join(&file)).unwrap();
        });
        assert!(found.contains(&format!("{file}: not a regular file")), "{found:?}");
    }
    let found = found(|dir| {
        fs::rename(dir.join("tile"), dir.join("tiles")).unwrap();
        std::os::unix::fs::symlink("tiles", dir.join("tile")).unwrap();
    });
    assert_eq!(found.iter().filter(|line| line.ends_with("it was added")).count(), 2, "{found:?}");
}

/// An entry, its hash and everything above it changed together, all but the signature.
#[test]
fn a_log_rewritten_under_its_checkpoint_is_found() {
    let dir = log();
    let other = scratch();
    let mut forged = strongroom::audit::writer::Log::create(
        other.path(),
        crate::support::name(),
        crate::support::other_key(),
    )
    .unwrap();
    for (from, to) in [(0, 200), (200, 260), (260, 300)] {
        let entries =
            (from..to).map(|index| if index == 7 { b"x".to_vec() } else { crate::support::entry(index) });
        forged.publish(crate::support::index(from), entries).unwrap();
    }
    let mut changed = Vec::new();
    for tile in Tile::all(crate::support::size(300)) {
        let (ours, theirs) = (dir.path().join(tile.to_string()), other.path().join(tile.to_string()));
        if fs::read(&ours).unwrap() == fs::read(&theirs).unwrap() {
            continue;
        }
        fs::copy(&theirs, &ours).unwrap();
        changed.push(tile);
        let found = lines(&verify(dir.path()).unwrap_err());
        let expected = match changed.len() {
            1 => format!("tile/entries/000: entry 7: {EDITED}"),
            2 => "tile/1/000.p/1: hash 0 is not that of the tile under it: this tile was edited, or tile/0/000 and \
                  its entries together"
                .to_owned(),
            _ => "checkpoint: entries and tiles agree with each other, but not with the signed root: the log was \
                  rewritten"
                .to_owned(),
        };
        assert_eq!(found, [expected]);
    }
    let contents: Vec<_> = changed.iter().map(|tile| tile.content()).collect();
    assert_eq!(contents, [Content::Entries, Content::Hashes { level: 0 }, Content::Hashes { level: 1 }]);
}

#[test]
fn a_lost_bundle_does_not_hide_what_else_is_wrong() {
    let found = found(|dir| {
        fs::remove_file(dir.join("tile/entries/000")).unwrap();
        let mut bytes = fs::read(dir.join("tile/0/001.p/44")).unwrap();
        bytes[0] ^= 1;
        fs::write(dir.join("tile/0/001.p/44"), bytes).unwrap();
    });
    assert_eq!(
        found,
        [format!("tile/entries/000: {MISSING}"), format!("tile/0/001.p/44: entry 256: {EDITED}")]
    );
    let both = self::found(|dir| {
        fs::remove_file(dir.join("tile/entries/000")).unwrap();
        fs::remove_file(dir.join("tile/0/000")).unwrap();
    });
    assert_eq!(both[0], format!("tile/entries/000: {MISSING}"));
}
