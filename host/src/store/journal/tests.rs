//! What comes back of a journal, whatever was let go of, and however it ended.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
use super::*;

/// So that a test needs little: 15 entries of [`LONG`] in a file.
const LENGTH: u64 = 16 << 10;
const LONG: usize = 1 << 10;

fn batch(number: u64, length: usize) -> Batch {
    let mut batch = Batch::default();
    batch.insert(number.to_be_bytes(), vec![number as u8; length]);
    batch
}

fn open(dir: &Path, from: u64) -> (Journal, Vec<u64>) {
    let Recovered { journal, groups } = Journal::open(dir, from, LENGTH).unwrap();
    let number = |group: Vec<Change>| u64::from_be_bytes(group[0].0.as_ref().try_into().unwrap());
    (journal, groups.into_iter().map(number).collect())
}

fn write(journal: &mut Journal, numbers: std::ops::Range<u64>, length: usize) {
    for number in numbers {
        assert_eq!(journal.next(), number);
        journal.append(&batch(number, length)).unwrap();
    }
    journal.sync().unwrap();
}

fn files(dir: &Path) -> usize {
    fs::read_dir(dir).unwrap().count()
}

#[test]
fn groups_come_back_from_several_files() {
    let dir = tempfile::tempdir().unwrap();
    let (mut journal, none) = open(dir.path(), 0);
    assert!(none.is_empty());
    write(&mut journal, 0..40, LONG);
    assert_eq!(files(dir.path()), 3);
    assert_eq!(open(dir.path(), 0).1, (0..40).collect::<Vec<_>>());
    assert_eq!(open(dir.path(), 17).1, (17..40).collect::<Vec<_>>());
    let (mut journal, groups) = open(dir.path(), 40);
    assert!(groups.is_empty());
    write(&mut journal, 40..42, 10);
    assert_eq!(open(dir.path(), 40).1, [40, 41]);
}

// Red when `forget_below` takes a file that has a later entry, and when it takes none.
#[test]
fn files_are_used_again_once_nobody_needs_them() {
    let dir = tempfile::tempdir().unwrap();
    let (mut journal, _) = open(dir.path(), 0);
    for round in 0..20 {
        write(&mut journal, round * 10..(round + 1) * 10, LONG);
        journal.roll();
        journal.forget_below(round * 10 + 5, false).unwrap();
        assert_eq!(
            open(dir.path(), round * 10 + 5).1,
            (round * 10 + 5..(round + 1) * 10).collect::<Vec<_>>()
        );
    }
    assert!(files(dir.path()) <= MAX_SPARE + 2, "{}", files(dir.path()));
}

// Red when an erased entry's file is kept for another use.
#[test]
fn files_with_what_was_erased_go() {
    let dir = tempfile::tempdir().unwrap();
    let (mut journal, _) = open(dir.path(), 0);
    write(&mut journal, 0..5, 100);
    journal.roll();
    write(&mut journal, 5..6, 100);
    journal.roll();
    journal.forget_below(6, true).unwrap();
    assert_eq!(files(dir.path()), 0);
    write(&mut journal, 6..8, 100);
    assert_eq!(open(dir.path(), 6).1, [6, 7]);
}

#[test]
fn an_entry_that_is_longer_than_a_file_has_one_of_its_own() {
    let dir = tempfile::tempdir().unwrap();
    let (mut journal, _) = open(dir.path(), 0);
    write(&mut journal, 0..2, 100);
    write(&mut journal, 2..3, 40 << 10);
    write(&mut journal, 3..5, 100);
    assert_eq!(open(dir.path(), 0).1, [0, 1, 2, 3, 4]);
}

// Red when `open` does not ask where a file begins.
#[test]
fn a_file_that_is_missing_is_noticed() {
    let dir = tempfile::tempdir().unwrap();
    let (mut journal, _) = open(dir.path(), 0);
    write(&mut journal, 0..40, LONG);
    drop(journal);
    let names: Vec<_> = names(dir.path()).unwrap().into_values().collect();
    fs::remove_file(&names[1]).unwrap();
    assert!(matches!(Journal::open(dir.path(), 0, LENGTH), Err(JournalError::Damaged { .. })));
}

// Red when a file that was begun, and has nothing in it, says nothing of the entries before it.
#[test]
fn an_acknowledged_entry_that_is_damaged_is_noticed_when_the_next_file_was_begun() {
    let dir = tempfile::tempdir().unwrap();
    let (mut journal, _) = open(dir.path(), 0);
    write(&mut journal, 0..3, LONG);
    journal.roll();
    journal.begin(LENGTH).unwrap();
    drop(journal);
    assert_eq!(open(dir.path(), 0).1, [0, 1, 2]);
    let first = &names(dir.path()).unwrap()[&0];
    let mut bytes = fs::read(first).unwrap();
    let last = bytes.iter().rposition(|byte| *byte != 0).unwrap();
    bytes[last] ^= 1;
    fs::write(first, bytes).unwrap();
    assert!(matches!(Journal::open(dir.path(), 0, LENGTH), Err(JournalError::Damaged { .. })));
    assert!(Journal::open(dir.path(), 3, LENGTH).is_ok(), "sled has it");
}

// Red when a start begins a file: a thousand short runs would leave a thousand of them.
#[test]
fn a_start_goes_on_where_the_last_one_ended() {
    let dir = tempfile::tempdir().unwrap();
    for round in 0..30 {
        let (mut journal, groups) = open(dir.path(), 0);
        assert_eq!(groups, (0..round).collect::<Vec<_>>());
        write(&mut journal, round..round + 1, 100);
    }
    assert_eq!(files(dir.path()), 1);
}

#[test]
fn a_file_that_was_being_made_is_nobodys() {
    let dir = tempfile::tempdir().unwrap();
    let (mut journal, _) = open(dir.path(), 0);
    write(&mut journal, 0..3, 100);
    fs::write(dir.path().join(MAKING), b"half of it").unwrap();
    let (mut journal, groups) = open(dir.path(), 0);
    assert_eq!((groups, files(dir.path())), (vec![0, 1, 2], 1));
    write(&mut journal, 3..5, 100);
    assert_eq!(open(dir.path(), 0).1, [0, 1, 2, 3, 4]);
}
