//! What the report tells of files: denied always, granted when it is asked for.

use crate::common::syscalls::{CREATE, DIRECTORY, FIRST, SECOND, Script, TRUNCATE};
use crate::common::{probe, run};
use crate::{Place, within};
use strongroom_runtime::{Access, Grant, Limits, MAX_KINDS, Reached};

fn told(reached: &[Reached]) -> Vec<String> {
    let line = |entry: &Reached| {
        let how = if entry.granted { "granted" } else { "denied" };
        format!("{how} {} x{}", entry.what, entry.count)
    };
    reached.iter().map(line).collect()
}

// Red without: the case of `Answer::Refused` in `fs/tell.rs`. Of the calls in `fs/preview1.rs` that tell, each was taken out, and one of
// the tests here, or of those in `confined.rs`, was red.
#[test]
fn a_change_in_a_read_only_directory_is_told_as_denied() {
    let place = Place::new();
    std::fs::create_dir(place.path("sub")).unwrap();
    std::fs::write(place.path("f"), "f").unwrap();
    let grant = Grant::none().read_dir(place.0.path(), "/in");
    let mut script = Script::new();
    let file = script.open(FIRST, "f", 0, false);
    let sub = script.open(FIRST, "./sub/", DIRECTORY, false);
    script.open(FIRST, "f", TRUNCATE, true);
    script.open(FIRST, "f", 0, true);
    script.open(sub, "new", CREATE, true);
    script.mkdir(FIRST, "m").symlink("f", FIRST, "s").unlink(FIRST, "u").rmdir(FIRST, "r");
    script.set_times(FIRST, "t").set_size(file, 0).set_times_of(sub);
    script.link(FIRST, "f", FIRST, "l").rename(FIRST, "f", FIRST, "n");
    let want = [
        "denied write /in/f x5",
        "denied write /in/sub/new x1",
        "denied write /in/m x1",
        "denied write /in/s x1",
        "denied write /in/u x1",
        "denied write /in/r x1",
        "denied write /in/t x1",
        "denied write /in/sub x1",
        "denied write /in/l x1",
        "denied write /in/n x1",
    ];
    assert_eq!(told(&within(&script, &grant, &Limits::default()).report.reached), want);
}

#[test]
fn a_path_that_leads_out_is_told_as_denied() {
    let place = Place::new();
    std::os::unix::fs::symlink("/etc", place.path("etc")).unwrap();
    let mut script = Script::new();
    script.open(FIRST, "../secret", 0, false);
    script.open(FIRST, "etc/passwd", 0, false);
    script.open(FIRST, "/etc/shadow", CREATE, true);
    script.stat(FIRST, "../secret").readlink(FIRST, "../link").mkdir(FIRST, "../made");
    // What is only missing, or there already, is no business of the grant's.
    script.open(FIRST, "missing", 0, false);
    script.mkdir(FIRST, "etc");
    let want = [
        "denied read /d/../secret x2",
        "denied read /d/etc/passwd x1",
        "denied write /d/etc/shadow x1",
        "denied read /d/../link x1",
        "denied write /d/../made x1",
    ];
    assert_eq!(told(&within(&script, &place.grant(), &Limits::default()).report.reached), want);
}

#[test]
fn what_was_used_is_told_only_when_asked_for_and_by_its_directory() {
    let (read, written, unused) = (Place::new(), Place::new(), Place::new());
    std::fs::write(read.path("f"), "f").unwrap();
    let grant = Grant::none()
        .dir(read.0.path(), "/r", Access::ReadWrite)
        .write_dir(written.0.path(), "/w")
        .write_dir(unused.0.path(), "/u");
    let mut script = Script::new();
    for _ in 0..3 {
        script.open(FIRST, "f", 0, false);
    }
    script.stat(FIRST, "f").readdir(FIRST);
    let file = script.open(SECOND, "f", CREATE, true);
    script.write_bytes(file, 10).unlink(SECOND, "f");
    let quiet = within(&script, &grant, &Limits::default());
    assert_eq!(told(&quiet.report.reached), [""; 0]);
    let observed = within(&script, &grant.observe(), &Limits::default());
    assert_eq!(told(&observed.report.reached), ["granted read /r x5", "granted write /w x2"]);
}

// Red without: the case of `Answer::Missing` in `fs/tell.rs`.
#[test]
fn an_empty_root_learns_what_a_guest_looks_for() {
    let place = Place::new();
    let grant = Grant::none().read_dir(place.0.path(), "/").observe();
    let mut script = Script::new();
    script.open(FIRST, "data/in.txt", 0, false);
    script.open(FIRST, "data/out.txt", CREATE | TRUNCATE, true);
    script.stat(FIRST, "etc/hosts").mkdir(FIRST, "cache").readlink(FIRST, "l").stat(FIRST, ".");
    let want = [
        "denied read /data/in.txt x1",
        "denied write /data/out.txt x1",
        "denied read /etc/hosts x1",
        "denied write /cache x1",
        "denied read /l x1",
        "granted read / x1",
    ];
    assert_eq!(told(&within(&script, &grant, &Limits::default()).report.reached), want);
    // Under another name, what is missing is missing.
    let elsewhere = Grant::none().read_dir(place.0.path(), "/d").observe();
    let mut script = Script::new();
    script.open(FIRST, "data/in.txt", 0, false);
    assert_eq!(told(&within(&script, &elsewhere, &Limits::default()).report.reached), [""; 0]);
}

#[test]
fn a_component_is_told_of_alike() {
    let place = Place::new();
    std::fs::write(place.path("f"), "f").unwrap();
    let tried = |grant: Grant, what: &str, path: &str| {
        let ran = run(&probe(), &grant.args(["probe", what, path]), &Limits::default());
        told(&ran.report.reached)
    };
    let read_only = || Grant::none().read_dir(place.0.path(), "/in");
    assert_eq!(tried(read_only(), "write", "/in/f"), ["denied write /in/f x1"]);
    assert_eq!(tried(read_only(), "read", "/in/f"), [""; 0]);
    assert_eq!(tried(read_only().observe(), "read", "/in/f"), ["granted read /in x1"]);
    assert_eq!(tried(place.grant().observe(), "write", "/d/g"), ["granted write /d x1"]);
    let empty = tempfile::tempdir().unwrap();
    let learning = || Grant::none().read_dir(empty.path(), "/").observe();
    assert_eq!(tried(learning(), "read", "/data/in"), ["denied read /data/in x1"]);
    assert_eq!(tried(learning(), "write", "/data/out"), ["denied write /data/out x1"]);
}

#[test]
fn a_guest_that_tries_everything_is_told_of_briefly() {
    let place = Place::new();
    let grant = Grant::none().read_dir(place.0.path(), "/in");
    let mut script = Script::new();
    for n in 0..2 * MAX_KINDS {
        script.mkdir(FIRST, &format!("{n}"));
    }
    assert_eq!(within(&script, &grant, &Limits::default()).report.reached.len(), MAX_KINDS);
}
