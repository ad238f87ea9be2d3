//! The text format of Prometheus, as much of it as is written here.
//!
//! *Spec:* Prometheus text exposition format 0.0.4. A library for it would also keep the counters; ours are kept without one.

use std::fmt::{Display, Write as _};

use crate::meters::Histogram;

pub(super) const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// What a family is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Counter,
    Gauge,
    Histogram,
}

/// A page of families, each written whole before the next.
#[derive(Debug, Default)]
pub(super) struct Page(String);

impl Page {
    /// Begins a family.
    pub(super) fn family(&mut self, name: &'static str, kind: Kind, help: &str) -> Family<'_> {
        let word = match kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        };
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {word}");
        Family { page: self, name }
    }

    /// A family of one number without labels.
    pub(super) fn one(&mut self, name: &'static str, kind: Kind, help: &str, value: impl Display) {
        self.family(name, kind, help).sample(&[], value);
    }

    pub(super) fn finish(self) -> String {
        self.0
    }
}

/// A family that is being written.
#[derive(Debug)]
pub(super) struct Family<'p> {
    page: &'p mut Page,
    name: &'static str,
}

impl Family<'_> {
    /// One number with its labels.
    pub(super) fn sample(&mut self, labels: &[(&str, &str)], value: impl Display) {
        self.line("", labels, value);
    }

    /// A whole histogram, each recorded unit of which is `1 / per` of the family's.
    pub(super) fn histogram(&mut self, histogram: &Histogram, per: u32) {
        let reading = histogram.read();
        let scaled = |value: u64| decimal(value, per);
        for (bound, count) in reading.buckets {
            self.line("_bucket", &[("le", &scaled(bound))], count);
        }
        self.line("_bucket", &[("le", "+Inf")], reading.count);
        self.line("_sum", &[], scaled(reading.sum));
        self.line("_count", &[], reading.count);
    }

    fn line(&mut self, suffix: &str, labels: &[(&str, &str)], value: impl Display) {
        let out = &mut self.page.0;
        let _ = write!(out, "{}{suffix}", self.name);
        for (index, (label, text)) in labels.iter().enumerate() {
            let _ = write!(out, "{}{label}=\"{}\"", if index == 0 { "{" } else { "," }, escaped(text));
        }
        let _ = writeln!(out, "{} {value}", if labels.is_empty() { "" } else { "}" });
    }
}

fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

/// `value / per`, exactly: `per` is a power of ten.
pub(super) fn decimal(value: u64, per: u32) -> String {
    let digits = per.ilog10() as usize;
    let (whole, part) = (value / u64::from(per), value % u64::from(per));
    let text = if digits == 0 { whole.to_string() } else { format!("{whole}.{part:0digits$}") };
    if digits == 0 { text } else { text.trim_end_matches('0').trim_end_matches('.').to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_family_is_written_as_the_format_says() {
        let mut page = Page::default();
        page.family("a_total", Kind::Counter, "Things.").sample(&[("x", "a\"}\n b\\"), ("y", "")], 3);
        page.one("b", Kind::Gauge, "One.", "0.5");
        let expected = "# HELP a_total Things.\n# TYPE a_total counter\na_total{x=\"a\\\"}\\n b\\\\\",y=\"\"} 3\n\
                        # HELP b One.\n# TYPE b gauge\nb 0.5\n";
        assert_eq!(page.finish(), expected);
    }

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
