//! The sieve of Eratosthenes, a segment at a time.

/// Numbers in a segment: they fit a processor's cache.
const SEGMENT: u64 = 1 << 18;

/// Yields the primes from 2 up to a bound, by segments.
pub(crate) struct Sieve {
    up_to: u64,
    /// The first number that was not looked at.
    next: u64,
    /// The primes up to the square root of the bound.
    base: Vec<u64>,
    /// Whether the number at this distance from the segment's first has a divisor.
    composite: Vec<bool>,
}

/// What one segment held.
pub(crate) struct Segment {
    /// Its last number.
    pub(crate) end: u64,
    /// How many primes are in it.
    pub(crate) primes: u64,
    /// The last of them.
    pub(crate) largest: Option<u64>,
}

impl Sieve {
    pub(crate) fn new(up_to: u64) -> Self {
        Self { up_to, next: 2, base: base_primes(up_to.isqrt()), composite: Vec::new() }
    }

    /// The next segment; none behind the bound.
    pub(crate) fn next_segment(&mut self) -> Option<Segment> {
        let start = self.next;
        if start > self.up_to {
            return None;
        }
        let end = self.up_to.min(start + SEGMENT - 1);
        self.composite.clear();
        self.composite.resize((end - start + 1) as usize, false);
        for prime in self.base.iter().take_while(|prime| *prime * *prime <= end) {
            let first = (prime * prime).max(start.next_multiple_of(*prime));
            for at in (first..=end).step_by(*prime as usize) {
                self.composite[(at - start) as usize] = true;
            }
        }
        self.next = end + 1;
        let primes = self.composite.iter().filter(|composite| !**composite).count() as u64;
        let largest = self.composite.iter().rposition(|composite| !composite).map(|at| start + at as u64);
        Some(Segment { end, primes, largest })
    }
}

/// The primes up to `most`, in order.
fn base_primes(most: u64) -> Vec<u64> {
    let mut primes: Vec<u64> = Vec::new();
    for number in 2..=most {
        if primes
            .iter()
            .take_while(|prime| *prime * *prime <= number)
            .all(|prime| !number.is_multiple_of(*prime))
        {
            primes.push(number);
        }
    }
    primes
}
