//! Frees what sled has replaced.
//!
//! sled leaves every page that it replaces to an epoch collector, and the collector frees a little of it at every 128th call into
//! sled. A row by itself frees some 4 objects so and may leave 8, and a batch, at a start, is one call: what waits to be freed would grow for ever.
//! So whoever gives sled many rows asks the collector for as much as they may have left.
//!
//! *Owns:* nothing. *Never:* decides what is garbage; a page that somebody reads stays.

/// Objects that the collector frees at most when it is asked once.
const FREED_AT_ONCE: usize = 512;
/// Objects that a changed row leaves at most: its page as it was, the note of where that was on disk, now and then a page that was
/// pushed out of the cache.
const LEFT_BY_A_ROW: usize = 8;
/// Two steps of the epoch pass before anything is free, and one may have to wait for a reader.
const STEPS: usize = 4;

/// Frees what a batch of so many changed rows has left.
pub(super) fn free(rows: usize) {
    for _ in 0..STEPS + (rows * LEFT_BY_A_ROW).div_ceil(FREED_AT_ONCE) {
        crossbeam_epoch::pin().flush();
    }
}
