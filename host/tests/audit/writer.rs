//! What the writer promises: entries join without a gap, what is published is never rewritten, files are as specified.

use std::fs;

use strongroom::audit::writer::{HistoryError, Log, MAX_ENTRIES_PER_CHECKPOINT, OpenError, PublishError};
use strongroom_job::merkle::{TreeHead, TreeSize};
use strongroom_job::tile::Tile;
use strongroom_job::tile::bundle::MAX_ENTRY_BYTES;

use crate::support::{
    entries, entry, files, head, index, key, name, other_key, published, scratch, size, verifier, verify,
};

#[test]
fn a_new_log_is_empty_and_signed() {
    let dir = scratch();
    let dir = dir.path().join("deep/audit");
    let log = Log::create(&dir, name(), key()).unwrap();
    assert_eq!(log.size(), TreeSize::ZERO);
    assert_eq!(*log.checkpoint().head(), head(0));
    assert_eq!(files(&dir), ["checkpoint", "log.pub"]);
    assert_eq!(fs::read_to_string(dir.join("log.pub")).unwrap(), format!("{}\n", verifier()));
    assert_eq!(verify(&dir).unwrap().size(), TreeSize::ZERO);
    drop(log);
    assert_eq!(
        Log::create(&dir, name(), key()).unwrap().size(),
        TreeSize::ZERO,
        "creating twice is harmless"
    );
}

#[test]
fn a_log_holds_exactly_the_files_of_its_size() {
    for sizes in [&[1][..], &[3, 5], &[256], &[255, 256, 257], &[10, 300, 520], &[700]] {
        let dir = scratch();
        let log = published(dir.path(), sizes);
        let end = *sizes.last().unwrap();
        assert_eq!(*log.checkpoint().head(), head(end), "{sizes:?}");
        // Earlier partial forms of tiles that are still partial stay; all others are gone.
        let mut expected: Vec<_> = Tile::all(size(end)).map(|tile| tile.to_string()).collect();
        for earlier in sizes {
            let outgrown =
                |tile: &Tile| Tile::new(tile.content(), tile.index(), 256).unwrap().is_within(size(end));
            expected.extend(
                Tile::partial(size(*earlier)).filter(|tile| !outgrown(tile)).map(|tile| tile.to_string()),
            );
        }
        expected.extend(["checkpoint".to_owned(), "log.pub".to_owned()]);
        expected.sort();
        expected.dedup();
        assert_eq!(files(dir.path()), expected, "{sizes:?}");
        assert_eq!(verify(dir.path()).unwrap().size(), size(end));
    }
}

#[test]
fn publishing_in_pieces_and_at_once_gives_the_same_log() {
    let (one, two) = (scratch(), scratch());
    published(one.path(), &[600]);
    let mut sizes: Vec<u64> = (1..600).step_by(7).collect();
    sizes.push(600);
    // Opened anew for each piece.
    Log::create(two.path(), name(), key()).unwrap();
    for end in sizes {
        let mut log = Log::open(two.path(), name(), key()).unwrap();
        let from = log.size().get();
        let checkpoint = log.publish(index(from), entries(from..end)).unwrap();
        assert_eq!(*checkpoint.head(), head(end));
    }
    for file in files(one.path()) {
        assert_eq!(
            fs::read(one.path().join(&file)).unwrap(),
            fs::read(two.path().join(&file)).unwrap(),
            "{file}"
        );
    }
    assert_eq!(verify(two.path()).unwrap().size().get(), 600);
}

#[test]
fn publishing_nothing_changes_nothing() {
    let dir = scratch();
    let mut log = published(dir.path(), &[5]);
    let before = fs::read(dir.path().join("checkpoint")).unwrap();
    let checkpoint = log.publish(index(5), entries(0..0)).unwrap();
    assert_eq!(checkpoint.signed().as_str().as_bytes(), before);
    log.publish(index(2), entries(2..5)).unwrap();
    assert_eq!(fs::read(dir.path().join("checkpoint")).unwrap(), before);
}

// Red without the comparison in `Log::compare`.
#[test]
fn entries_handed_in_again_must_be_the_published_ones() {
    let dir = scratch();
    let mut log = published(dir.path(), &[300]);
    for changed in [0, 1, 255, 256, 299] {
        let again = || (0..310).map(|index| if index == changed { b"other".to_vec() } else { entry(index) });
        let refused = log.publish(index(0), again());
        assert!(
            matches!(refused, Err(PublishError::Rewritten { index: at }) if at.get() == changed),
            "{refused:?}"
        );
        let refused = log.verify_overlap(index(0), again());
        assert!(
            matches!(refused, Err(PublishError::Rewritten { index: at }) if at.get() == changed),
            "{refused:?}"
        );
    }
    assert_eq!(*log.checkpoint().head(), head(300), "nothing was published");
    log.verify_overlap(index(250), entries(250..1000)).unwrap();
    log.verify_overlap(index(400), entries(0..10)).unwrap();
    let checkpoint = log.publish(index(0), entries(0..310)).unwrap();
    assert_eq!(*checkpoint.head(), head(310));
    assert_eq!(verify(dir.path()).unwrap().size().get(), 310);
}

// Red without the comparison of `first` with the size in `Log::publish`.
#[test]
fn a_gap_is_refused() {
    let dir = scratch();
    let mut log = published(dir.path(), &[5]);
    let refused = log.publish(index(6), entries(6..7));
    assert!(matches!(refused, Err(PublishError::Gap { first, size }) if first.get() == 6 && size.get() == 5));
    assert_eq!(*log.publish(index(5), entries(5..7)).unwrap().head(), head(7), "the log goes on");
}

// Red without the test for `broken` in `Log::publish`.
#[test]
fn an_entry_that_does_not_fit_stops_the_log_until_it_is_opened_again() {
    let dir = scratch();
    let mut log = published(dir.path(), &[5]);
    let long = vec![0; MAX_ENTRY_BYTES + 1];
    assert!(matches!(log.publish(index(5), [&b"5"[..], &long]), Err(PublishError::TooLong(_))));
    assert!(matches!(log.publish(index(5), entries(5..6)), Err(PublishError::Broken)));
    drop(log);
    let mut log = Log::open(dir.path(), name(), key()).unwrap();
    assert_eq!(*log.publish(index(5), entries(5..6)).unwrap().head(), head(6));
    log.publish(index(6), [&long[1..], b""]).unwrap();
    assert_eq!(verify(dir.path()).unwrap().size().get(), 8, "the longest and the shortest entry fit");
}

#[test]
fn a_long_publication_signs_on_its_way_and_fills_three_levels() {
    let dir = scratch();
    let end = MAX_ENTRIES_PER_CHECKPOINT + 300;
    let mut log = published(dir.path(), &[100]);
    log.publish(index(100), entries(100..end)).unwrap();
    assert_eq!(*log.checkpoint().head(), head(end));
    assert!(dir.path().join("tile/1/000").is_file());
    assert!(dir.path().join("tile/2/000.p/1").is_file());
    assert!(!dir.path().join("tile/1/000.p").exists(), "outgrown");
    assert_eq!(verify(dir.path()).unwrap().size().get(), end);
    drop(log);
    let log = Log::open(dir.path(), name(), key()).unwrap();
    for seen in [0, 1, 255, 256, 65_535, 65_536, end] {
        log.extends(&head(seen)).unwrap();
    }
}

// Red without the comparison of the roots in `Log::extends`.
#[test]
fn a_log_that_was_cut_or_replaced_does_not_extend_what_was_seen() {
    let dir = scratch();
    let log = published(dir.path(), &[100, 300]);
    for seen in (0..=300).step_by(13) {
        log.extends(&head(seen)).unwrap();
        let other = TreeHead { root: head(301).root, ..head(seen) };
        assert!(matches!(log.extends(&other), Err(HistoryError::Rewritten { .. })), "{seen}");
    }
    assert!(matches!(log.extends(&head(301)), Err(HistoryError::Shrank { .. })));
}

// Red without `check_own`, and without the check of the checkpoint's signature.
#[test]
fn another_logs_directory_is_refused() {
    let dir = scratch();
    published(dir.path(), &[5]);
    let other_name = "other.example/log".parse().unwrap();
    let refused = Log::open(dir.path(), name(), other_key());
    assert!(matches!(refused, Err(OpenError::OtherLog { .. })), "{refused:?}");
    let refused = Log::open(dir.path(), other_name, key());
    assert!(matches!(refused, Err(OpenError::OtherLog { .. })), "{refused:?}");
    let refused = Log::create(dir.path(), name(), other_key());
    assert!(matches!(refused, Err(OpenError::OtherLog { .. })), "{refused:?}");

    // A checkpoint of the same name by another key, under the right `log.pub`.
    let other = scratch();
    Log::create(other.path(), name(), other_key()).unwrap().publish(index(0), entries(0..5)).unwrap();
    fs::copy(other.path().join("checkpoint"), dir.path().join("checkpoint")).unwrap();
    let refused = Log::open(dir.path(), name(), key()).unwrap_err();
    assert!(refused.to_string().starts_with("checkpoint: the note is not signed by"), "{refused}");
}

// Red without the tests for the checkpoint in `create_with` and `open_with`.
#[test]
fn a_log_that_lost_its_checkpoint_does_not_begin_anew() {
    let dir = scratch();
    published(dir.path(), &[5]);
    let refused = Log::create(dir.path(), name(), key());
    assert!(matches!(refused, Err(OpenError::HasEntries { size }) if size.get() == 5));
    fs::remove_file(dir.path().join("checkpoint")).unwrap();
    assert!(matches!(Log::create(dir.path(), name(), key()), Err(OpenError::CheckpointLost)));
    assert!(matches!(Log::open(dir.path(), name(), key()), Err(OpenError::CheckpointLost)));
    let empty = scratch();
    assert!(matches!(Log::open(empty.path(), name(), key()), Err(OpenError::File(_))));
}

// Red without the comparison of the roots in `open_with`, and without `last_bundle`'s of the hashes.
#[test]
fn an_altered_right_edge_is_noticed_before_anything_is_appended() {
    for (file, problem) in [
        ("tile/0/001.p/44", "the tiles at the end of the log do not give the root"),
        ("tile/1/000.p/1", "the tiles at the end of the log do not give the root"),
        ("tile/entries/001.p/44", "tile/entries/001.p/44: entry 299 is not the one that was published"),
    ] {
        let dir = scratch();
        published(dir.path(), &[300]);
        let path = dir.path().join(file);
        let mut bytes = fs::read(&path).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        fs::write(&path, &bytes).unwrap();
        let refused = Log::open(dir.path(), name(), key()).unwrap_err().to_string();
        assert!(refused.starts_with(problem), "{refused}");
        bytes.pop();
        fs::write(&path, &bytes).unwrap();
        let refused = Log::open(dir.path(), name(), key()).unwrap_err().to_string();
        assert!(refused.starts_with(&format!("{file}: the ")), "{refused}");
        fs::remove_file(&path).unwrap();
        let refused = Log::open(dir.path(), name(), key()).unwrap_err().to_string();
        assert_eq!(refused, format!("{file}: missing"));
    }
}
