//! Values in numbered cells: small names for what many sets point to.
//!
//! *Bound:* grows by an eighth, not by half; a cell that is given back is used again. All memory is given back when the last
//! value goes; until then it is that of the most values that there were at once.

use std::num::NonZeroU32;

/// Cells kept when the last value goes, so that a slab that is empty now and then does not allocate each time.
const KEPT_CELLS: usize = 1024;

/// Numbered cells. A number means the same value until that value is removed.
#[derive(Debug)]
pub(super) struct Slab<T> {
    cells: Vec<Option<T>>,
    free: Vec<NonZeroU32>,
}

impl<T> Slab<T> {
    pub(super) const fn new() -> Self {
        Self { cells: Vec::new(), free: Vec::new() }
    }

    pub(super) fn len(&self) -> usize {
        self.cells.len() - self.free.len()
    }

    /// # Panics
    /// At 2³² values, for which there is no memory.
    pub(super) fn insert(&mut self, value: T) -> NonZeroU32 {
        if let Some(number) = self.free.pop() {
            self.cells[cell(number)] = Some(value);
            return number;
        }
        if self.cells.len() == self.cells.capacity() {
            self.cells.reserve_exact(self.cells.len() / 8 + 64);
        }
        self.cells.push(Some(value));
        let number = u32::try_from(self.cells.len()).ok().and_then(NonZeroU32::new);
        number.expect("memory ends long before the numbers do")
    }

    pub(super) fn remove(&mut self, number: NonZeroU32) -> Option<T> {
        let value = self.cells.get_mut(cell(number))?.take()?;
        self.free.push(number);
        if self.free.len() == self.cells.len() && self.cells.capacity() > KEPT_CELLS {
            *self = Self::new();
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
    fn a_cell_is_used_again_and_all_of_them_are_given_back() {
        let mut slab = Slab::new();
        let first = slab.insert('a');
        let second = slab.insert('b');
        assert_eq!((slab.remove(first), slab.remove(first), slab.len()), (Some('a'), None, 1));
        assert_eq!(slab.insert('c'), first);
        assert_eq!((*slab.at(first), *slab.at(second)), ('c', 'b'));
        let numbers: Vec<_> = (0..2000).map(|_| slab.insert('x')).collect();
        for number in numbers.into_iter().chain([first, second]) {
            assert!(slab.remove(number).is_some());
        }
        // Red without the reset in `remove`.
        assert_eq!((slab.len(), slab.cells.capacity(), slab.free.capacity()), (0, 0, 0));
    }
}
