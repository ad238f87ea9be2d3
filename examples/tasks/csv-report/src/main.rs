//! Summarises a CSV per group: `csv-report --group COLUMN --value COLUMN < data.csv`.
//!
//! The first row names the columns. The report has a line per group, in the order of the groups' bytes: how many
//! rows, and sum, mean, smallest and largest value, with two decimals. Rows are read one by one, so the memory used
//! grows with the number of groups, not of rows.
//!
//! *Never*: skips a row that it does not understand.

mod report;

use std::io::{self, Read, Write};
use std::process::ExitCode;

use csv::StringRecord;
use strongroom_guest::{Args, Failure, run};

use crate::report::Report;

fn main() -> ExitCode {
    run("csv-report", csv_report)
}

fn csv_report(mut args: Args, out: &mut dyn Write) -> Result<(), Failure> {
    let group = args.required("--group")?;
    let value = args.required("--value")?;
    args.none_left()?;
    let report = read_report(io::stdin().lock(), &group, &value)?;
    write!(out, "{report}")?;
    Ok(())
}

/// Reads all rows, adding column `value` up per value of column `group`.
fn read_report(input: impl Read, group: &str, value: &str) -> Result<Report, Failure> {
    let mut reader = csv::Reader::from_reader(input);
    let header = reader.headers().map_err(|error| bad_csv(&error))?.clone();
    if header.is_empty() {
        return Err(Failure::input("line 1: the input is empty; its first row must name the columns"));
    }
    let group_at = column(&header, group)?;
    let value_at = column(&header, value)?;
    let mut report = Report::new(group);
    let mut row = StringRecord::new();
    while reader.read_record(&mut row).map_err(|error| bad_csv(&error))? {
        let line = row.position().map_or(0, csv::Position::line);
        let text = row[value_at].trim();
        let number = text.parse::<f64>().ok().filter(|number| number.is_finite()).ok_or_else(|| {
            Failure::input(format!("line {line}: column {value:?} holds {text:?}, which is not a number"))
        })?;
        report
            .add(&row[group_at], number)
            .map_err(|error| Failure::input(format!("line {line}: {error}")))?;
    }
    Ok(report)
}

fn column(header: &StringRecord, name: &str) -> Result<usize, Failure> {
    let mut found = header.iter().enumerate().filter(|(_, one)| *one == name);
    let Some((at, _)) = found.next() else {
        let known: Vec<&str> = header.iter().collect();
        return Err(Failure::input(format!(
            "line 1: there is no column {name:?}; the columns are {}",
            known.join(", ")
        )));
    };
    if found.next().is_some() {
        return Err(Failure::input(format!("line 1: more than one column is named {name:?}")));
    }
    Ok(at)
}

/// The crate's errors name a line in several ways: here always first.
fn bad_csv(error: &csv::Error) -> Failure {
    let line = |at: &Option<csv::Position>| at.as_ref().map_or(0, csv::Position::line);
    match error.kind() {
        csv::ErrorKind::UnequalLengths { pos, expected_len, len } => {
            Failure::input(format!("line {}: {len} fields where the header has {expected_len}", line(pos)))
        }
        csv::ErrorKind::Utf8 { pos, err } => {
            Failure::input(format!("line {}: field {} is not UTF-8", line(pos), err.field() + 1))
        }
        csv::ErrorKind::Io(error) => Failure::failed(format!("stdin: {error}")),
        _ => Failure::input(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<String, String> {
        read_report(text.as_bytes(), "g", "v").map(|report| report.to_string()).map_err(|failure| {
            assert_eq!(failure.code(), Failure::BAD_INPUT);
            failure.to_string()
        })
    }

    #[test]
    fn rows_are_summed_per_group_in_order() {
        let text = read("v,g\n1,b\n2.5,a\n\"3\",b\n-4,a\n").expect("the rows are good");
        let lines: Vec<Vec<&str>> = text.lines().map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(
            lines,
            [
                ["g", "count", "sum", "mean", "min", "max"],
                ["a", "2", "-1.50", "-0.75", "-4.00", "2.50"],
                ["b", "2", "4.00", "2.00", "1.00", "3.00"],
            ]
        );
    }

    // Red without the check of each kind: the row would be skipped or counted wrongly.
    #[test]
    fn a_bad_row_is_named_by_its_line() {
        let cases = [
            ("g,v\na,1\nb\n", "line 3: 1 fields where the header has 2"),
            ("g,v\n\"a\nb\",1\nc,x\n", "line 4: column \"v\" holds \"x\", which is not a number"),
            ("g,v\na,inf\n", "line 2: column \"v\" holds \"inf\", which is not a number"),
            ("g,w\na,1\n", "line 1: there is no column \"v\"; the columns are g, w"),
            ("g,v,v\n", "line 1: more than one column is named \"v\""),
            ("", "line 1: the input is empty; its first row must name the columns"),
        ];
        for (text, message) in cases {
            assert_eq!(read(text), Err(message.to_owned()), "{text:?}");
        }
    }

    #[test]
    fn bytes_that_are_not_text_are_named_by_line_and_field() {
        let failure = read_report(&b"g,v\na,1\n\xff,2\n"[..], "g", "v").err();
        assert_eq!(
            failure.map(|failure| failure.to_string()).as_deref(),
            Some("line 3: field 1 is not UTF-8")
        );
    }
}
