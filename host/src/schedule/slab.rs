//! Values in numbered cells: small names for what many sets point to.
//!
//! *Bound:* grows by an eighth, not by half. A new value takes the lowest free cell, and free cells at the end are given back, so
//! that memory follows the number of values as they come and go.

use std::collections::BTreeSet;
use std::num::NonZeroU32;

/// Cells that are kept though they are free, so that a small slab does not allocate each time.
const KEPT_CELLS: usize = 64;

/// Numbered cells. A number means the same value until that value is removed.
#[derive(Debug)]
pub(super) struct Slab<T> {
    /// The last one is never free.
    cells: Vec<Option<T>>,
    free: BTreeSet<NonZeroU32>,
}

impl<T> Slab<T> {
    pub(super) const fn new() -> Self {
        Self { cells: Vec::new(), free: BTreeSet::new() }
    }

    pub(super) fn len(&self) -> usize {
        self.cells.len() - self.free.len()
    }

    /// # Panics
    /// At 2³² values, for which there is no memory.
    pub(super) fn insert(&mut self, value: T) -> NonZeroU32 {
        if let Some(number) = self.free.pop_first() {
            self.cells[cell(number)] = Some(value);
            return number;
        }
        if self.cells.len() == self.cells.capacity() {
            self.cells.reserve_exact(self.cells.len() / 8 + KEPT_CELLS);
        }
        self.cells.push(Some(value));
        let number = u32::try_from(self.cells.len()).ok().and_then(NonZeroU32::new);
        number.expect("memory ends long before the numbers do")
    }

    pub(super) fn remove(&mut self, number: NonZeroU32) -> Option<T> {
        let value = self.cells.get_mut(cell(number))?.take()?;
        self.free.insert(number);
        while self.free.last().is_some_and(|last| cell(*last) + 1 == self.cells.len()) {
            self.free.pop_last();
            self.cells.pop();
        }
        let used = self.cells.len();
        if self.cells.capacity() > 2 * (used + KEPT_CELLS) {
            self.cells.shrink_to(used + used / 8 + KEPT_CELLS);
        }
        Some(value)
    }

    /// # Panics
    /// When the value was removed, which is a fault of the caller's.
    pub(super) fn at(&self, number: NonZeroU32) -> &T {
        self.cells[cell(number)].as_ref().expect("a number is used as long as its value is there")
    }

    /// # Panics
    /// As [`Slab::at`].
    pub(super) fn at_mut(&mut self, number: NonZeroU32) -> &mut T {
        self.cells[cell(number)].as_mut().expect("a number is used as long as its value is there")
    }
}

fn cell(number: NonZeroU32) -> usize {
    number.get() as usize - 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cell_is_used_again() {
        let mut slab = Slab::new();
        let numbers = ['a', 'b', 'c'].map(|value| slab.insert(value));
        assert_eq!((slab.remove(numbers[0]), slab.remove(numbers[0]), slab.len()), (Some('a'), None, 2));
        assert_eq!((slab.insert('d'), slab.insert('e').get()), (numbers[0], 4));
        assert_eq!(numbers.map(|number| *slab.at(number)), ['d', 'b', 'c']);
        assert_eq!(slab.len(), 4);
    }

    // Red without the loop, and without the shrinking, in `remove`.
    #[test]
    fn memory_follows_the_number_of_values() {
        let mut slab = Slab::new();
        let numbers: Vec<_> = (0..100_000).map(|value| slab.insert(value)).collect();
        assert!(slab.cells.capacity() < 115_000);
        for number in &numbers[10..] {
            assert!(slab.remove(*number).is_some());
        }
        assert!(slab.cells.capacity() < 100 + 2 * KEPT_CELLS && slab.free.is_empty());
        assert_eq!(numbers[..10].iter().map(|number| *slab.at(*number)).sum::<i32>(), 45);
        for number in &numbers[..10] {
            assert!(slab.remove(*number).is_some());
        }
        assert_eq!((slab.len(), slab.cells.len(), slab.free.len()), (0, 0, 0));
    }
}
