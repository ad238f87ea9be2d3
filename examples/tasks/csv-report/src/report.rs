//! The groups and their printed form.

use std::collections::BTreeMap;
use std::fmt;

/// Most groups in one report: a column of unique values is a mistake, and must not eat the memory.
const MAX_GROUPS: usize = 100_000;

/// What is known of one group.
#[derive(Debug, Clone, Copy)]
struct Summary {
    count: u64,
    sum: f64,
    min: f64,
    max: f64,
}

/// Summaries by group, with the name of the grouping column.
pub(crate) struct Report {
    title: String,
    groups: BTreeMap<String, Summary>,
}

impl Report {
    pub(crate) fn new(title: &str) -> Self {
        Self { title: title.to_owned(), groups: BTreeMap::new() }
    }

    /// Adds one row's value to its group.
    pub(crate) fn add(&mut self, group: &str, value: f64) -> Result<(), String> {
        if let Some(summary) = self.groups.get_mut(group) {
            summary.count += 1;
            summary.sum += value;
            summary.min = summary.min.min(value);
            summary.max = summary.max.max(value);
            return Ok(());
        }
        if self.groups.len() == MAX_GROUPS {
            return Err(format!("column {:?} has more than {MAX_GROUPS} different values", self.title));
        }
        let first = Summary { count: 1, sum: value, min: value, max: value };
        self.groups.insert(group.to_owned(), first);
        Ok(())
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rows = vec![[self.title.as_str(), "count", "sum", "mean", "min", "max"].map(str::to_owned)];
        for (group, summary) in &self.groups {
            let mean = summary.sum / summary.count as f64;
            rows.push([
                printable(group),
                summary.count.to_string(),
                format!("{:.2}", summary.sum),
                format!("{mean:.2}"),
                format!("{:.2}", summary.min),
                format!("{:.2}", summary.max),
            ]);
        }
        let mut widths = [0; 6];
        for row in &rows {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = (*width).max(cell.chars().count());
            }
        }
        for row in &rows {
            write!(f, "{:<1$}", row[0], widths[0])?;
            for (cell, width) in row.iter().zip(widths).skip(1) {
                write!(f, "  {cell:>width$}")?;
            }
            writeln!(f)?;
        }
        Ok(())
    }
}

/// A group's name on one line: a quoted field may hold newlines.
fn printable(name: &str) -> String {
    let mut text = String::with_capacity(name.len());
    for c in name.chars() {
        if c.is_control() {
            text.extend(c.escape_default());
        } else {
            text.push(c);
        }
    }
    text
}
