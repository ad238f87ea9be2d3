//! What `audit verify` passes, and what only a remembered key or head can tell.

use std::fs;

use strongroom::audit::verify::{Observer, Options, verify_dir};
use strongroom::audit::writer::Log;
use strongroom_job::merkle::{LeafIndex, TreeHead, TreeSize};

use crate::support::{
    entries, entry, head, index, key, known_key, lines, name, other_key, published, scratch, size, verify,
};

#[test]
fn good_logs_of_many_sizes_pass() {
    for end in [0, 1, 2, 255, 256, 257, 511, 512, 513, 1000] {
        let dir = scratch();
        published(dir.path(), &[end]);
        let verified = verify(dir.path()).unwrap();
        assert_eq!(*verified.checkpoint.head(), head(end));
        assert_eq!(verified.unpublished, 0);
        let tiles = strongroom_job::tile::Tile::all(size(end)).count() as u64;
        assert_eq!(verified.files, tiles + 2, "every file of {end} entries");
    }
}

#[derive(Default)]
struct Recorder {
    size: Option<TreeSize>,
    entries: Vec<Vec<u8>>,
}

impl Observer for Recorder {
    fn started(&mut self, size: TreeSize) {
        assert_eq!(self.size.replace(size), None);
    }

    fn entry(&mut self, index: LeafIndex, entry: &[u8]) -> Result<(), String> {
        assert_eq!(index.get(), self.entries.len() as u64);
        self.entries.push(entry.to_vec());
        if index.get() == 299 { Err("not a record".to_owned()) } else { Ok(()) }
    }
}

#[test]
fn an_observer_sees_every_entry_and_may_object() {
    let dir = scratch();
    let mut log = published(dir.path(), &[10, 299]);
    let mut recorder = Recorder::default();
    verify_dir(dir.path(), &known_key(), &mut recorder).unwrap();
    assert_eq!(recorder.size, Some(size(299)));
    assert_eq!(recorder.entries, entries(0..299).collect::<Vec<_>>());
    log.publish(index(299), [entry(299)]).unwrap();
    let error = verify_dir(dir.path(), &known_key(), &mut Recorder::default()).unwrap_err();
    assert_eq!(lines(&error), ["tile/entries/001.p/44: entry 299: not a record"]);
}

// Red without `check_key` in `verify_dir`.
#[test]
fn a_log_that_was_forged_whole_is_told_by_the_key() {
    let dir = scratch();
    Log::create(dir.path(), name(), other_key()).unwrap().publish(index(0), entries(0..5)).unwrap();
    verify_dir(dir.path(), &Options::default(), &mut ()).unwrap();
    let error = verify(dir.path()).unwrap_err();
    let expected = format!(
        "log.pub: the log is signed by {}, not by {}: this is another log, or a forged one; or its key was replaced, and the file \
         `keys`, which leads from the one to the other, is missing here",
        other_key().public(),
        key().public()
    );
    assert_eq!(lines(&error), [expected]);
}

// Red without the test for the known size in `verify_dir`, and without `check_known`.
#[test]
fn a_log_that_was_cut_back_or_rewritten_is_told_by_a_remembered_head() {
    let dir = scratch();
    published(dir.path(), &[300]);
    let with =
        |known: TreeHead| verify_dir(dir.path(), &Options { known: Some(known), ..known_key() }, &mut ());
    for seen in [0, 1, 255, 256, 299, 300] {
        with(head(seen)).unwrap();
        let error = with(TreeHead { root: head(301).root, ..head(seen) }).unwrap_err();
        let expected = format!(
            "checkpoint: the first {seen} entries are not those that were published: the log was rewritten"
        );
        assert_eq!(lines(&error), [expected]);
    }
    let error = with(head(301)).unwrap_err();
    assert_eq!(
        lines(&error),
        ["checkpoint: the log has 300 entries, but 301 were published: it was cut off or rolled back"]
    );
}

// Red with `Kind::Beyond` treated as a part of the log.
#[test]
fn an_older_checkpoint_over_a_longer_log_is_refused_unless_a_host_is_writing() {
    let dir = scratch();
    let mut log = published(dir.path(), &[10]);
    let older = fs::read(dir.path().join("checkpoint")).unwrap();
    log.publish(index(10), entries(10..300)).unwrap();
    fs::write(dir.path().join("checkpoint"), older).unwrap();

    // Live: as a reader that read the checkpoint just before the host published. The partial tiles are gone already.
    let live = Options { live: true, ..known_key() };
    let verified = verify_dir(dir.path(), &live, &mut ()).unwrap();
    assert_eq!((verified.size().get(), verified.unpublished), (10, 5));

    let error = verify(dir.path()).unwrap_err();
    let mut found = lines(&error);
    found.sort();
    let beyond = "beyond the checkpoint: the host stopped while publishing (its next start mends that), or the \
                  checkpoint was replaced by an older one";
    let missing = "missing: it was deleted or renamed";
    assert_eq!(
        found,
        [
            format!("tile/0/000.p/10: {missing}"),
            format!("tile/0/000: {beyond}"),
            format!("tile/0/001.p/44: {beyond}"),
            format!("tile/1/000.p/1: {beyond}"),
            format!("tile/entries/000.p/10: {missing}"),
            format!("tile/entries/000: {beyond}"),
            format!("tile/entries/001.p/44: {beyond}"),
        ]
    );
}

#[test]
fn a_live_log_verifies_while_it_is_written() {
    let dir = scratch();
    let mut log = published(dir.path(), &[1]);
    let writer = std::thread::spawn(move || {
        for end in (1..1500).step_by(11) {
            let from = log.size().get();
            log.publish(index(from), entries(from..end)).unwrap();
        }
    });
    let live = Options { live: true, ..known_key() };
    let mut verified = 0;
    while !writer.is_finished() && verified < 10_000 {
        let passed = verify_dir(dir.path(), &live, &mut ()).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(*passed.checkpoint.head(), head(passed.size().get()));
        verified += 1;
    }
    writer.join().unwrap();
    assert!(verified > 0);
    assert_eq!(verify(dir.path()).unwrap().size().get(), 1497);
}
