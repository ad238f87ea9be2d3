//! Makes room in sled's file.
//!
//! sled writes a segment of its file again once nothing in it is in force any more. What little is left in an old segment it moves: one page
//! for each page that it rewrites anyway, the first segments of the file first. (Its flusher would move more; it is off, see
//! `settings`.) Under steady load that is not enough. Segments at the end of the file never have their turn, each for a few
//! notes of eleven bytes that some page is gone, and the file grows for ever: by 0.5 to 1 KB for each job, with 10 MB of rows in 1.8 GB after
//! 1.6 million jobs. So whenever the file has grown, pages are rewritten here, of a tree that exists for nothing else.
//!
//! *Owns:* the tree `sweep`. *Never:* touches what anybody reads. *Crash:* the tree is there or not, with any value.

use std::fs::File;
use std::io;

use super::settings::SEGMENT_BYTES;

/// Its one tree, with one row of an empty key and one byte.
const TREE: &str = "sweep";
/// sled rewrites a page at the first change behind ten that it has written as changes (`PAGE_CONSOLIDATION_THRESHOLD`).
const CHANGES: u32 = 11;
/// Pages that are moved for each segment by which the file has grown. Some 26,000 were in force, or noted as gone, in the case above.
/// With 1,024 the file still grew; with so many it comes and goes with what is in it.
const PAGES_FOR_A_SEGMENT: u64 = 32_768;
/// Pages that are moved behind one group: some half a millisecond.
const PAGES_AT_ONCE: u64 = 32;
/// One more for so many rows that the group changed. So what is moved between two syncs stays far below what the group itself wrote.
const ROWS_FOR_A_PAGE: u64 = 8;
/// Pages that are owed at most, however much the file grew at once.
const MAX_OWED: u64 = 2 * PAGES_FOR_A_SEGMENT;

/// How much is to be moved.
#[derive(Debug)]
pub(super) struct Sweep {
    tree: sled::Tree,
    /// Bytes of the file when it was looked at last.
    size: u64,
    /// Pages that are to be moved for what it has grown by.
    owed: u64,
    /// What the row says. A change that is none is none to sled.
    turn: bool,
}

impl Sweep {
    pub(super) fn new(db: &sled::Db, file: &File) -> io::Result<Self> {
        Ok(Self { tree: db.open_tree(TREE)?, size: file.metadata()?.len(), owed: 0, turn: false })
    }

    /// Looks whether the file has grown, and moves some of what is owed, behind a group of so many changed rows. What it writes is durable
    /// with the next group.
    pub(super) fn go(&mut self, file: &File, rows: usize) -> io::Result<()> {
        self.note(file.metadata()?.len(), SEGMENT_BYTES as u64);
        for _ in 0..self.owed.min(PAGES_AT_ONCE + rows as u64 / ROWS_FOR_A_PAGE) {
            self.rewrite()?;
            self.owed -= 1;
        }
        Ok(())
    }

    fn note(&mut self, size: u64, segment: u64) {
        let grown = size.saturating_sub(self.size) / segment;
        self.owed = MAX_OWED.min(self.owed + grown * PAGES_FOR_A_SEGMENT);
        self.size = size;
    }

    /// Has sled rewrite the one page of the tree, and so move another.
    fn rewrite(&mut self) -> io::Result<()> {
        for _ in 0..CHANGES {
            self.turn = !self.turn;
            self.tree.insert([], &[u8::from(self.turn)])?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use super::super::settings;
    use super::*;

    /// A segment that is small, so that little data has many.
    const SMALL: usize = 64 << 10;

    /// Segments that hold anything in force once rows have come and gone.
    fn segments_in_force(sweeping: bool) -> usize {
        let dir = tempfile::tempdir().unwrap();
        let config = sled::Config::new().path(dir.path()).segment_size(SMALL).flush_every_ms(None);
        let db = config.open().unwrap();
        let path = dir.path().join("db");
        let mut sweep = Sweep::new(&db, &File::open(&path).unwrap()).unwrap();
        let key = |row: u64| row.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes();
        (0..20_000).for_each(|row| drop(db.insert(key(row), vec![7; 100]).unwrap()));
        (0..20_000).for_each(|row| drop(db.remove(key(row)).unwrap()));
        if sweeping {
            (0..20_000).for_each(|_| sweep.rewrite().unwrap());
        }
        drop((sweep, db));
        // Whatever holds nothing is filled with one byte when sled opens its file.
        drop(settings::open(&config).unwrap());
        let bytes = std::fs::read(path).unwrap();
        bytes.chunks(SMALL).filter(|segment| segment.iter().any(|byte| *byte != segment[0])).count()
    }

    // Red with one of the `CHANGES`.
    #[test]
    fn what_is_left_in_old_segments_is_moved_together() {
        let (as_it_comes, swept) = (segments_in_force(false), segments_in_force(true));
        assert!(swept * 3 < as_it_comes, "{swept} of {as_it_comes}");
    }

    #[test]
    fn it_owes_by_the_growth_of_the_file_and_no_more_than_its_bound() {
        let dir = tempfile::tempdir().unwrap();
        let db = sled::Config::new().path(dir.path()).flush_every_ms(None).open().unwrap();
        let file = File::open(dir.path().join("db")).unwrap();
        let mut sweep = Sweep::new(&db, &file).unwrap();
        let (start, segment) = (sweep.size, SEGMENT_BYTES as u64);
        let mut owed_at = |size| {
            sweep.note(size, segment);
            sweep.owed
        };
        assert_eq!(owed_at(start), 0, "it has not grown");
        assert_eq!(owed_at(start + segment), PAGES_FOR_A_SEGMENT);
        assert_eq!(owed_at(start), PAGES_FOR_A_SEGMENT, "what shrinks owes nothing");
        assert_eq!(owed_at(start + 1000 * segment), MAX_OWED);
        sweep.go(&file, 80).unwrap();
        assert_eq!(sweep.owed, MAX_OWED - PAGES_AT_ONCE - 10, "only so many at once");
    }
}
