//! What the crate promises to the author of a task.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::io::{self, Read};

use strongroom_guest::{Args, Failure, read_all};

#[test]
fn options_are_taken_by_name_in_both_spellings() {
    let mut args = Args::new(["a", "--max", "128", "--name=x=y", "--all", "-"]);
    assert_eq!(args.parsed::<u32>("--max").unwrap(), Some(128));
    assert_eq!(args.value("--name").unwrap().as_deref(), Some("x=y"));
    assert_eq!(args.value("--absent").unwrap(), None);
    assert!(args.flag("--all"));
    assert!(!args.flag("--all"));
    assert_eq!(args.rest().unwrap(), ["a", "-"]);
}

// Red without the check in `rest`: the mistyped option would be taken for a file name.
#[test]
fn an_option_nobody_took_is_an_error() {
    let failure = Args::new(["--fiels", "docs"]).rest().unwrap_err();
    assert_eq!(failure.code(), Failure::USAGE);
    assert_eq!(failure.to_string(), "the option \"--fiels\" is unknown here, or given twice");
    let mut twice = Args::new(["--max", "1", "--max", "2"]);
    assert_eq!(twice.required("--max").unwrap(), "1");
    assert_eq!(twice.rest().unwrap_err().code(), Failure::USAGE);
}

#[test]
fn after_two_dashes_nothing_is_an_option() {
    let mut args = Args::new(["--all", "--", "--all", "--", "-x"]);
    assert!(args.flag("--all"));
    assert!(!args.flag("--all"));
    assert_eq!(args.rest().unwrap(), ["--all", "--", "-x"]);
}

#[test]
fn a_value_that_is_missing_or_wrong_names_its_option() {
    let missing = Args::new(["--max"]).value("--max").unwrap_err();
    assert_eq!(missing.to_string(), "--max wants a value");
    let eaten = Args::new(["--group", "--value", "x"]).value("--group").unwrap_err();
    assert_eq!(eaten.to_string(), "--group wants a value");
    let absent = Args::new(["x"]).required("--max").unwrap_err();
    assert_eq!(absent.to_string(), "--max is missing");
    let wrong = Args::new(["--max=many"]).parsed::<u32>("--max").unwrap_err();
    assert_eq!(wrong.to_string(), "--max \"many\": invalid digit found in string");
    assert_eq!(wrong.code(), Failure::USAGE);
}

#[test]
fn nothing_left_means_nothing_left() {
    assert!(Args::new([""; 0]).none_left().is_ok());
    assert_eq!(Args::new(["x"]).none_left().unwrap_err().to_string(), "the argument \"x\" is one too many");
}

// Red without the bound (more is read) and without the check (the input is cut in silence).
#[test]
fn an_input_is_read_to_its_limit_and_not_further() {
    assert_eq!(read_all(&b"abcd"[..], 4).unwrap(), b"abcd");
    assert_eq!(read_all(&b""[..], 0).unwrap(), b"");
    let mut long = io::repeat(b'x').take(1000);
    let failure = read_all(&mut long, 4).unwrap_err();
    assert_eq!(long.limit(), 1000 - 4 - 1);
    assert_eq!(failure.code(), Failure::BAD_INPUT);
    assert!(failure.to_string().contains("the 4 bytes"), "{failure}");
}

// Red without the range check: code 0 would report a failure as a success.
#[test]
fn a_failure_never_looks_like_success_or_like_the_host() {
    for code in [0, 120, 125, 255] {
        assert_eq!(Failure::with_code(code, "x").code(), Failure::FAILED);
    }
    for code in [1, 2, 64, 119] {
        assert_eq!(Failure::with_code(code, "x").code(), code);
    }
}

#[test]
fn a_missing_file_is_named() {
    let missing = io::Error::from(io::ErrorKind::NotFound);
    assert_eq!(Failure::at("/in/a.csv", &missing).to_string(), "/in/a.csv: no such file or directory");
}
