//! Everything that is told of a host in numbers, as families of samples: what a page for Prometheus and a request for a collector
//! are both written from, so that neither can tell what the other does not.
//!
//! *Never:* a format. `admin/text.rs` writes the one, `telemetry/numbers.rs` the other.

use std::fmt::Display;

use super::{Histogram, Reading};

/// What a family is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Counter,
    Gauge,
    Histogram,
}

/// Families in the order in which they are told, each whole before the next.
#[derive(Debug, Default)]
pub(crate) struct Page(Vec<Family>);

/// One metric.
#[derive(Debug)]
pub(crate) struct Family {
    pub(crate) name: &'static str,
    pub(crate) kind: Kind,
    pub(crate) help: &'static str,
    pub(crate) samples: Vec<Sample>,
}

/// One series of it.
#[derive(Debug)]
pub(crate) struct Sample {
    pub(crate) labels: Vec<(&'static str, String)>,
    pub(crate) value: Value,
}

#[derive(Debug)]
pub(crate) enum Value {
    /// A whole number, or a decimal one.
    Number(String),
    /// Each recorded unit is `1 / per` of the family's.
    Histogram { reading: Reading, per: u32 },
}

impl Page {
    /// Begins a family.
    pub(crate) fn family(&mut self, name: &'static str, kind: Kind, help: &'static str) -> &mut Family {
        self.0.push(Family { name, kind, help, samples: Vec::new() });
        let last = self.0.len() - 1;
        &mut self.0[last]
    }

    /// A family of one number without labels.
    pub(crate) fn one(&mut self, name: &'static str, kind: Kind, help: &'static str, value: impl Display) {
        self.family(name, kind, help).sample(&[], value);
    }

    pub(crate) fn families(&self) -> &[Family] {
        &self.0
    }
}

impl Family {
    /// One number with its labels.
    pub(crate) fn sample(&mut self, labels: &[(&'static str, &str)], value: impl Display) {
        let labels = labels.iter().map(|(label, text)| (*label, (*text).to_owned())).collect();
        self.samples.push(Sample { labels, value: Value::Number(value.to_string()) });
    }

    /// A whole histogram.
    pub(crate) fn histogram(&mut self, histogram: &Histogram, per: u32) {
        let value = Value::Histogram { reading: histogram.read(), per };
        self.samples.push(Sample { labels: Vec::new(), value });
    }
}

/// `value / per`, exactly: `per` is a power of ten.
pub(crate) fn decimal(value: u64, per: u32) -> String {
    let digits = per.ilog10() as usize;
    let (whole, part) = (value / u64::from(per), value % u64::from(per));
    let text = if digits == 0 { whole.to_string() } else { format!("{whole}.{part:0digits$}") };
    if digits == 0 { text } else { text.trim_end_matches('0').trim_end_matches('.').to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_of_a_unit_is_written_exactly() {
        for (value, per, text) in [
            (0, 1_000_000, "0"),
            (100, 1_000_000, "0.0001"),
            (2_500_000, 1_000_000, "2.5"),
            (20_000_000, 1_000_000, "20"),
            (70, 1, "70"),
            (1_500, 1_000, "1.5"),
        ] {
            assert_eq!(decimal(value, per), text);
        }
    }
}
