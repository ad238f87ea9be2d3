//! Counting as `wc` counts in a UTF-8 locale.
//!
//! A line is a newline. A word is a run without white space that has something printable in it: bytes that are
//! not UTF-8 and control characters neither make a word nor end one. So does `wc` of GNU coreutils up to 9.4;
//! later ones count a run of only such bytes as a word too. In text there is no difference. A code point that Unicode
//! has not assigned counts as printable here and not there, which shows in binary files only.

use std::fmt;
use std::io::{self, Read};
use std::ops::AddAssign;

/// Bytes read at once.
const CHUNK_BYTES: usize = 64 * 1024;

/// What `wc` prints, in its order and layout.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) lines: u64,
    pub(crate) words: u64,
    pub(crate) bytes: u64,
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:7} {:7} {:7}", self.lines, self.words, self.bytes)
    }
}

impl AddAssign for Counts {
    fn add_assign(&mut self, other: Self) {
        self.lines += other.lines;
        self.words += other.words;
        self.bytes += other.bytes;
    }
}

/// Counts one text that may come from several readers.
pub(crate) struct Counter {
    counts: Counts,
    in_word: bool,
    /// `held` bytes of a character whose end has not been read yet, then room for what is read.
    buffer: Vec<u8>,
    held: usize,
}

impl Counter {
    pub(crate) fn new() -> Self {
        Self { counts: Counts::default(), in_word: false, buffer: vec![0; CHUNK_BYTES], held: 0 }
    }

    /// Adds all of `reader` to the text.
    pub(crate) fn read(&mut self, mut reader: impl Read) -> io::Result<()> {
        loop {
            let got = match reader.read(&mut self.buffer[self.held..]) {
                Ok(0) => return Ok(()),
                Ok(got) => got,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            self.counts.bytes += got as u64;
            let filled = self.held + got;
            let rest = count_text(&self.buffer[..filled], &mut self.counts, &mut self.in_word);
            self.held = filled - rest;
            self.buffer.copy_within(rest..filled, 0);
        }
    }

    /// The counts of the whole text.
    pub(crate) fn finish(self) -> Counts {
        self.counts
    }
}

/// Counts the characters in `bytes`; returns where an unfinished last one begins, else the length.
fn count_text(bytes: &[u8], counts: &mut Counts, in_word: &mut bool) -> usize {
    let mut done = 0;
    loop {
        let rest = &bytes[done..];
        let (valid, bad) = match str::from_utf8(rest) {
            Ok(text) => {
                count_chars(text, counts, in_word);
                return bytes.len();
            }
            Err(error) => (error.valid_up_to(), error.error_len()),
        };
        // Cannot fail: the check above stopped here.
        count_chars(str::from_utf8(&rest[..valid]).unwrap_or_default(), counts, in_word);
        match bad {
            Some(bad) => done += valid + bad,
            None => return done + valid,
        }
    }
}

fn count_chars(text: &str, counts: &mut Counts, in_word: &mut bool) {
    for c in text.chars() {
        counts.lines += u64::from(c == '\n');
        if is_space(c) {
            *in_word = false;
        } else if !*in_word && !is_unprintable(c) {
            *in_word = true;
            counts.words += 1;
        }
    }
}

/// What ends a word for `wc`: white space, and the spaces that forbid a line break.
fn is_space(c: char) -> bool {
    match c {
        ' ' | '\t'..='\r' => true,
        '\0'..'\u{a0}' => false,
        '\u{a0}' | '\u{1680}' | '\u{2000}'..='\u{200a}' => true,
        '\u{202f}' | '\u{205f}' | '\u{2060}' | '\u{3000}' => true,
        _ => false,
    }
}

/// What cannot make a word: control characters, and the two separators that are not white space to `wc`.
fn is_unprintable(c: char) -> bool {
    c.is_control() || matches!(c, '\u{2028}' | '\u{2029}')
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Gives out its bytes one at a time, the worst a reader may do.
    struct OneByOne<'a>(&'a [u8]);

    impl Read for OneByOne<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let take = self.0.len().min(1);
            buffer[..take].copy_from_slice(&self.0[..take]);
            self.0 = &self.0[take..];
            Ok(take)
        }
    }

    fn counts_of(parts: &[&[u8]]) -> (u64, u64, u64) {
        let mut whole = Counter::new();
        let mut dripped = Counter::new();
        for part in parts {
            whole.read(*part).expect("a slice can be read");
            dripped.read(OneByOne(part)).expect("a slice can be read");
        }
        let counts = whole.finish();
        assert_eq!(counts, dripped.finish(), "chunking changes nothing");
        (counts.lines, counts.words, counts.bytes)
    }

    // The numbers are those of `wc` (GNU coreutils 9.1, C.UTF-8).
    #[test]
    fn words_are_those_of_wc() {
        assert_eq!(counts_of(&[b""]), (0, 0, 0));
        assert_eq!(counts_of(&[b"one two\nthree"]), (1, 3, 13));
        assert_eq!(counts_of(&["a — b\n".as_bytes()]), (1, 3, 8));
        assert_eq!(counts_of(&["a\u{a0}b c\u{2003}d e\u{3000}f\n".as_bytes()]), (1, 6, 17));
        assert_eq!(counts_of(&["i\u{200b}j \u{85} k\n".as_bytes()]), (1, 2, 11));
        assert_eq!(counts_of(&[b"g\x01h \x80\xff \x01 i\n"]), (1, 2, 11));
        assert_eq!(counts_of(&[b"\xe2\x28\xa1 \xf0\x9f\n"]), (1, 1, 7));
    }

    // Red without the held bytes: a character cut in two is no character.
    #[test]
    fn a_word_and_a_character_may_span_files() {
        assert_eq!(counts_of(&[b"wo", b"rd"]), (0, 1, 4));
        assert_eq!(counts_of(&[b"\xe2\x80", b"\x94\n"]), (1, 1, 4));
    }

    #[test]
    fn the_layout_is_that_of_wc_on_a_pipe() {
        let counts = Counts { lines: 12, words: 345, bytes: 12_345_678 };
        assert_eq!(counts.to_string(), "     12     345 12345678");
    }
}
