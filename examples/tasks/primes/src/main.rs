//! Counts the primes up to a number: `primes [N]` (10,000,000).
//!
//! Says after each percent of the work how far it has come, prints one line, and leaves the same as JSON as its result:
//! `{"up_to":10,"primes":4,"largest":7}`, where `largest` is null if there is none.
//!
//! *Never*: holds more than one segment of numbers, so the memory used grows with the square root of `N`.

mod sieve;

use std::io::Write;
use std::process::ExitCode;

use strongroom_guest::{Args, Failure, progress, run, set_result};

use crate::sieve::Sieve;

/// Where the counting ends if nothing is said.
const DEFAULT_UP_TO: u64 = 10_000_000;
/// Minutes of work, and base primes of 400 KB.
const MAX_UP_TO: u64 = 10_000_000_000;

fn main() -> ExitCode {
    run("primes", primes)
}

fn primes(args: Args, out: &mut dyn Write) -> Result<(), Failure> {
    let up_to = up_to(args)?;
    let found = count(up_to, progress);
    match found.largest {
        Some(largest) => writeln!(out, "{} primes up to {up_to}, the largest is {largest}", found.primes)?,
        None => writeln!(out, "no primes up to {up_to}")?,
    }
    let largest = found.largest.map_or("null".to_owned(), |largest| largest.to_string());
    let result = format!(r#"{{"up_to":{up_to},"primes":{},"largest":{largest}}}"#, found.primes);
    set_result(result.as_bytes())
}

fn up_to(args: Args) -> Result<u64, Failure> {
    let mut numbers = args.rest()?.into_iter();
    let (number, None) = (numbers.next(), numbers.next()) else {
        return Err(Failure::usage("usage: primes [N]"));
    };
    let Some(number) = number else { return Ok(DEFAULT_UP_TO) };
    match number.parse() {
        Ok(number) if number <= MAX_UP_TO => Ok(number),
        _ => Err(Failure::usage(format!("{number:?}: must be a whole number, {MAX_UP_TO} at most"))),
    }
}

/// What was found.
#[derive(Debug, PartialEq, Eq)]
struct Found {
    primes: u64,
    largest: Option<u64>,
}

/// Counts, and tells each new percent.
fn count(up_to: u64, mut tell: impl FnMut(u32, &str)) -> Found {
    let mut found = Found { primes: 0, largest: None };
    let mut sieve = Sieve::new(up_to);
    let mut told = None;
    while let Some(segment) = sieve.next_segment() {
        found.primes += segment.primes;
        found.largest = segment.largest.or(found.largest);
        let percent = u32::try_from(segment.end * 100 / up_to).unwrap_or(100);
        if told.replace(percent) != Some(percent) {
            tell(percent, &format!("{} of {up_to} numbers, {} primes", segment.end, found.primes));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_primes_are_counted_as_the_tables_have_it() {
        let tables = [
            (0, 0, None),
            (1, 0, None),
            (2, 1, Some(2)),
            (10, 4, Some(7)),
            (100, 25, Some(97)),
            (1_000_000, 78_498, Some(999_983)),
        ];
        for (up_to, primes, largest) in tables {
            assert_eq!(count(up_to, |_, _| {}), Found { primes, largest }, "{up_to}");
        }
    }

    // Red without the comparison with the percent before.
    #[test]
    fn each_percent_is_told_once_and_the_last_is_all() {
        let mut told = Vec::new();
        count(30_000_000, |percent, _| told.push(percent));
        assert!(told.is_sorted_by(|one, next| one < next), "{told:?}");
        assert_eq!(told.last(), Some(&100));
        let mut last = String::new();
        count(100, |_, text| last = text.to_owned());
        assert_eq!(last, "100 of 100 numbers, 25 primes");
    }
}
