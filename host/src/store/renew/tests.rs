//! Rows that change while they are copied, and what goes wrong meanwhile.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
use std::collections::BTreeMap;
use std::fs;

use super::super::rows::{Batch, Memory};
use super::super::{Store, journal};
use super::*;

/// A state, and the same rows in a map.
struct Both {
    dir: tempfile::TempDir,
    db: sled::Db,
    sync: File,
    memory: Memory,
    renewer: Renewer,
    journal: SharedJournal,
    group: u64,
    /// Rows behind or before which others could have a turn.
    copied: usize,
    followed: usize,
}

const ROWS: u64 = 4000;

impl Both {
    /// With so many rows, and what the layout has.
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state");
        drop(Store::open(&path).unwrap());
        let db = settings::open(&settings::of(&path)).unwrap();
        let sync = File::open(path.join("db")).unwrap();
        let mut memory = Memory::default();
        let mut batch = Batch::default();
        for row in db.iter() {
            let (key, value) = row.unwrap();
            batch.insert(key.as_ref(), value.as_ref());
        }
        memory.apply(batch);
        let renewer = Renewer::new(&path, &db, 0, 0).unwrap();
        let journal = Journal::open(&journal::of(&path), 0, 16 << 10).unwrap().journal;
        let journal = SharedJournal::new(journal.into());
        let mut both = Self { dir, db, sync, memory, renewer, journal, group: 0, copied: 0, followed: 0 };
        for _ in 0..ROWS / 100 {
            both.commit(100);
        }
        both
    }

    fn path(&self) -> PathBuf {
        self.dir.path().join("state")
    }

    /// A group as the writer commits it: rows that are new, others, and some that go, all over the keys.
    fn commit(&mut self, changes: u64) {
        let groups = [(); 2].map(|()| {
            let mut batch = Batch::default();
            for change in 0..changes {
                let number = self.group * 100 + change;
                let key = number.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes();
                batch.insert([b"t/", key.as_slice()].concat(), vec![number as u8; (number % 300) as usize]);
                let old = number.wrapping_sub(2000).wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes();
                batch.remove([b"t/", old.as_slice()].concat());
            }
            // Behind all that.
            batch.insert(*b"zz", self.group.to_be_bytes());
            batch
        });
        self.group += 1;
        let [batch, same] = groups;
        let piece: Vec<Change> = batch.into_changes().collect();
        let share = self.renewer.share_of(&piece);
        let more = base::put(&self.db, &piece).unwrap();
        self.renewer.follow(share, more, &self.sync, &mut || self.followed += 1);
        self.memory.apply(same);
    }

    fn go_on(&mut self) -> bool {
        self.renewer.begin_if_due(&self.sync, false);
        let Some(Renewed { db, sync }) =
            self.renewer.go_on(&self.db, &self.sync, &self.journal, &mut || self.copied += 1).unwrap()
        else {
            return false;
        };
        let before = std::mem::replace(&mut self.db, db);
        self.sync = sync;
        self.renewer.retire(before);
        true
    }

    fn rows(db: &sled::Db) -> BTreeMap<Vec<u8>, Vec<u8>> {
        let rows = db.iter().map(|row| row.unwrap());
        let rows = rows.map(|(key, value)| (key.to_vec(), value.to_vec()));
        rows.filter(|(key, _)| key != keys::RENEWED && key != keys::BYTES).collect()
    }

    /// The rows are as they should be, also after a new start.
    fn check(mut self) {
        let expected: BTreeMap<_, _> =
            self.memory.all().map(|(key, value)| (key.clone(), value.clone())).collect();
        assert!(Self::rows(&self.db) == expected, "the rows differ");
        self.renewer.stop();
        self.db.flush().unwrap();
        let path = self.path();
        drop((self.db, self.renewer));
        drop(Store::open(&path).unwrap());
        assert!(Self::rows(&settings::open(&settings::of(&path)).unwrap()) == expected, "after a start");
        assert!(!compact::stale(&path).exists() && !fresh::beside(&path).exists());
    }
}

// Red with a `follow` that does nothing, with an `up_to` that gives nothing, or leaves the last key or the removals out.
#[test]
fn what_changes_while_rows_are_copied_is_in_both() {
    let mut both = Both::new();
    let mut slices = 0;
    while !both.go_on() {
        slices += 1;
        both.commit(3);
    }
    assert!(slices > 10, "{slices}");
    // Red without `between` in `slice`, or in `follow`: a slice would be some milliseconds without a turn of others.
    assert!(both.copied >= Both::rows(&both.db).len() / 2, "{}", both.copied);
    assert!(both.followed > 0);
    // The last row of a slice changes right behind it.
    both.commit(30);
    // Its own rows and those of the layout are not counted.
    let bytes: u64 =
        both.db.iter().map(|row| row.unwrap()).map(|(key, value)| (key.len() + value.len()) as u64).sum();
    assert!(both.renewer.proportion.now().abs_diff(bytes) < 200, "{bytes}");
    both.check();
}

#[test]
fn the_last_row_of_a_slice_changes_right_behind_it() {
    let mut both = Both::new();
    loop {
        if both.go_on() {
            break;
        }
        let last = both.renewer.under_way.as_ref().unwrap().upto.to_vec();
        let groups = [(); 2].map(|()| {
            let mut batch = Batch::default();
            batch.insert(last.clone(), *b"changed");
            batch
        });
        if last.starts_with(b"t/") {
            let [batch, same] = groups;
            let piece: Vec<Change> = batch.into_changes().collect();
            let share = both.renewer.share_of(&piece);
            let more = base::put(&both.db, &piece).unwrap();
            both.renewer.follow(share, more, &both.sync, &mut || ());
            both.memory.apply(same);
        }
    }
    both.check();
}

// Red with a `proportion` that stays: the next start would judge otherwise, and the file be written anew for ever.
#[test]
fn a_file_that_was_written_anew_may_grow_to_twice_what_it_was() {
    let mut both = Both::new();
    while !both.go_on() {}
    both.renewer.wait_removed();
    both.renewer.begin_if_due(&both.sync, false);
    assert!(!both.renewer.is_copying(), "it has not grown");
    let base = length(&both.sync);
    let again = Renewer::new(&both.path(), &both.db, 0, 0).unwrap();
    assert_eq!(again.due_above(), both.renewer.due_above(), "the next start knows");
    assert!(again.due_above() >= base);
    while length(&both.sync) <= both.renewer.due_above() {
        both.commit(3000);
    }
    both.renewer.begin_if_due(&both.sync, false);
    assert!(both.renewer.is_copying());
    both.check();
}

// Red without `expected` in `due_above`, and with a `put` that does not count what it removes, or replaces.
#[test]
fn a_file_that_is_long_for_what_is_in_it_is_not_written_anew_before_that_goes() {
    let mut both = Both::new();
    let change = |both: &mut Both, value: Option<&[u8]>| {
        let change =
            |number: u64| ([b"y/", number.to_be_bytes().as_slice()].concat().into(), value.map(IVec::from));
        let piece: Vec<Change> = (0..3000).map(change).collect();
        let (share, more) = (both.renewer.share_of(&piece), base::put(&both.db, &piece).unwrap());
        both.renewer.follow(share, more, &both.sync, &mut || ());
        both.db.flush().unwrap();
    };
    change(&mut both, Some(&[7; 4096]));
    change(&mut both, Some(&[8; 4096]));
    both.renewer.begin_if_due(&both.sync, false);
    assert!(!both.renewer.is_copying(), "a new one would be as long");
    change(&mut both, None);
    both.renewer.begin_if_due(&both.sync, false);
    assert!(both.renewer.is_copying(), "little is left in it");
    both.check();
}

// Red without `is_busy` in `begin_if_due`, and when a busy host never writes its file anew.
#[test]
fn a_busy_host_waits_for_a_quiet_hour_but_not_for_ever() {
    let mut both = Both::new();
    let length = length(&both.sync);
    (both.renewer.proportion, both.renewer.again_above) = (Proportion::anew(0, 0), length - 1);
    both.renewer.begin_if_due(&both.sync, true);
    assert!(!both.renewer.is_copying(), "it has much to do");
    both.renewer.again_above = (length - 1) / BUSY_FACTOR;
    both.renewer.begin_if_due(&both.sync, true);
    assert!(both.renewer.is_copying(), "it has grown for too long");
    both.renewer.stop();
    both.renewer.again_above = length - 1;
    both.renewer.begin_if_due(&both.sync, false);
    assert!(both.renewer.is_copying(), "it is quiet");
    both.check();
}

// Red when rows are owed, and not slices: with these, all of them.
#[test]
fn what_is_owed_behind_a_layer_has_a_bound_in_bytes() {
    let mut both = Both::new();
    let [batch, same] = [(); 2].map(|()| {
        let mut batch = Batch::default();
        for number in 0..200_u64 {
            // In front of all others.
            batch.insert([b"0/", number.to_be_bytes().as_slice()].concat(), vec![7; 48 << 10]);
        }
        batch
    });
    both.db.apply_batch(batch.into()).unwrap();
    both.memory.apply(same);
    both.go_on();
    both.renewer.owe(640);
    let mut slices = 0;
    while both.renewer.owes() {
        assert!(!both.go_on());
        slices += 1;
    }
    assert_eq!(slices, 10);
    both.check();
}

// Red without `give_up` in `replace`.
#[test]
fn a_state_that_cannot_be_made_whole_leaves_the_old_one_in_use() {
    let mut both = Both::new();
    both.go_on();
    while both.renewer.is_copying() {
        // Its name is gone, and with it what would be synced.
        drop(fs::remove_dir_all(fresh::beside(&both.path())));
        assert!(!both.go_on());
        both.commit(3);
    }
    both.renewer.begin_if_due(&both.sync, false);
    assert!(!both.renewer.is_copying(), "it is not tried again at once");
    both.check();
}

// Red without `is_left`: what was erased would stay until the file is long for what is in it.
#[test]
fn an_erasure_whose_copy_failed_is_tried_again_as_the_file_grows() {
    let mut both = Both::new();
    both.go_on();
    change(&mut both, keys::STALE, Some(&[1]), true);
    while both.renewer.is_copying() {
        drop(fs::remove_dir_all(fresh::beside(&both.path())));
        assert!(!both.go_on() || !both.renewer.is_copying());
    }
    // Long for what is in it, it will not be soon.
    both.renewer.proportion = Proportion::anew(u64::MAX / 8, 0);
    both.renewer.begin_if_due(&both.sync, false);
    assert!(!both.renewer.is_copying(), "not at once");
    both.renewer.again_above = length(&both.sync) - 1;
    both.renewer.begin_if_due(&both.sync, false);
    assert!(both.renewer.is_copying());
    finish(&mut both);
    (both.renewer.proportion, both.renewer.again_above) = (Proportion::anew(u64::MAX / 8, 0), 0);
    both.renewer.begin_if_due(&both.sync, false);
    assert!(!both.renewer.is_copying(), "once is enough");
    change(&mut both, keys::STALE, None, false);
    both.check();
}

// Red when `slice` asks for `RESERVE_BYTES` and not for what it was given.
#[test]
fn nothing_is_written_anew_on_what_the_disk_is_to_keep_free() {
    let mut both = Both::new();
    both.renewer.reserve = u64::MAX;
    // Enough for a look at the disk while they are copied.
    let [batch, same] = [(); 2].map(|()| {
        let mut batch = Batch::default();
        for number in 0..1024_u64 {
            batch.insert([b"y/", number.to_be_bytes().as_slice()].concat(), vec![7; 4096]);
        }
        batch
    });
    both.db.apply_batch(batch.into()).unwrap();
    both.memory.apply(same);
    both.go_on();
    assert!(both.renewer.is_copying());
    while both.renewer.is_copying() {
        assert!(!both.go_on());
    }
    assert!(!fresh::beside(&both.path()).exists());
    both.check();
}

// Red without `is_clear` in `begin_if_due`: the old state could not be put aside, and the host would stop.
#[test]
fn a_state_that_waits_to_be_removed_comes_first() {
    let mut both = Both::new();
    let stale = compact::stale(&both.path());
    fs::create_dir(&stale).unwrap();
    fs::write(stale.join("db"), b"").unwrap();
    assert!(!both.go_on() && !both.renewer.is_copying());
    fs::remove_dir_all(stale).unwrap();
    both.go_on();
    assert!(both.renewer.is_copying());
    both.check();
}

/// Whether some bytes are in sled's file.
fn has(both: &Both, bytes: &[u8]) -> bool {
    both.db.flush().unwrap();
    fs::read(both.path().join("db")).unwrap().windows(bytes.len()).any(|piece| piece == bytes)
}

const PRIVATE: &[u8] = b"a value that will be erased";

fn change(both: &mut Both, key: &[u8], value: Option<&[u8]>, is_erasure: bool) {
    let groups = [(); 2].map(|()| {
        let mut batch = Batch::default();
        match value {
            Some(value) => batch.insert(key, value),
            None => batch.remove(key),
        }
        if is_erasure {
            batch.insert(keys::STALE, [1]);
        }
        batch
    });
    let [batch, same] = groups;
    let piece: Vec<Change> = batch.into_changes().collect();
    let share = both.renewer.share_of(&piece);
    let more = base::put(&both.db, &piece).unwrap();
    both.renewer.follow(share, more, &both.sync, &mut || ());
    both.memory.apply(same);
}

fn finish(both: &mut Both) {
    while !both.go_on() {}
    both.renewer.wait_removed();
}

// Red without `is_stale` in `begin_if_due`, and with a mark that stays.
#[test]
fn what_was_erased_is_in_no_file_soon_after() {
    let mut both = Both::new();
    change(&mut both, b"a private row", Some(PRIVATE), false);
    finish(&mut both);
    change(&mut both, b"a private row", None, true);
    assert!(has(&both, PRIVATE), "sled keeps what was removed");
    finish(&mut both);
    assert!(!has(&both, PRIVATE));
    assert!(!both.db.contains_key(keys::STALE).unwrap());
    change(&mut both, keys::STALE, None, false);
    both.go_on();
    assert!(!both.renewer.is_copying(), "once is enough");
    both.check();
}

// Red when the mark goes although something was erased meanwhile, which had been copied.
#[test]
fn what_is_erased_while_rows_are_copied_has_it_done_once_more() {
    let mut both = Both::new();
    change(&mut both, b"a private row", Some(PRIVATE), false);
    both.go_on();
    change(&mut both, b"a private row", None, true);
    finish(&mut both);
    assert!(has(&both, PRIVATE), "it had been copied");
    assert!(both.db.contains_key(keys::STALE).unwrap());
    finish(&mut both);
    assert!(!has(&both, PRIVATE));
    change(&mut both, keys::STALE, None, false);
    both.check();
}

// Red without `discard` in `stop`.
#[test]
fn what_was_begun_goes_when_the_writer_ends() {
    let mut both = Both::new();
    both.go_on();
    assert!(fresh::beside(&both.path()).exists());
    both.renewer.stop();
    assert!(!fresh::beside(&both.path()).exists());
    both.check();
}
