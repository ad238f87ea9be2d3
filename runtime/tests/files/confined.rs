//! What must not be opened, and how a directory below another is found.

use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustix::fs::{CWD, FileType, Mode, RenameFlags, mknodat, renameat_with};

use crate::common::syscalls::{CREATE, FIRST, OK, PERM, SECOND, Script, TRUNCATE};
use crate::common::{probe, run, run_with};
use crate::{Place, answers, within};
use strongroom_runtime::{Access, Grant, HostFault, Limits, Outcome, Reach, Stdio};

fn fifo(place: &Place, name: &str) {
    mknodat(CWD, place.path(name), FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
}

/// A hang is then an outcome of its own.
fn short() -> Limits {
    Limits { wall: Duration::from_secs(20), ..Limits::default() }
}

// Red without: the refusal of `Found::Special` in `fs/look.rs` (each open then waits for the other end until the deadline).
#[test]
fn a_fifo_is_refused_before_it_can_hang() {
    let place = Place::new();
    fifo(&place, "fifo");
    symlink("fifo", place.path("link")).unwrap();
    let mut script = Script::new();
    script.open(FIRST, "fifo", 0, false);
    script.open(FIRST, "fifo", 0, true);
    script.open(FIRST, "fifo", CREATE, true);
    script.open(FIRST, "fifo", TRUNCATE, true);
    script.open(FIRST, "link", 0, false);
    script.set_times(FIRST, "fifo").set_times(FIRST, "link");
    let ran = within(&script, &place.grant(), &short());
    assert_eq!((ran.outcome(), ran.stdout.clone()), (&Outcome::Exited(0), vec![PERM; 7]));
    let told: Vec<_> = ran.report.reached.iter().map(|entry| (entry.what.to_string(), entry.count)).collect();
    let told: Vec<_> = told.iter().map(|(what, count)| (what.as_str(), *count)).collect();
    assert_eq!(told, [("read /d/fifo", 1), ("write /d/fifo", 4), ("read /d/link", 1), ("write /d/link", 1)]);
}

#[test]
fn a_fifo_can_be_named_and_removed() {
    let place = Place::new();
    fifo(&place, "fifo");
    let mut script = Script::new();
    script.stat(FIRST, "fifo").rename(FIRST, "fifo", FIRST, "other").readdir(FIRST).unlink(FIRST, "other");
    assert_eq!(answers(&script, &place.grant(), &short()), [OK; 4]);
    assert!(!place.path("other").exists());
}

// Red without: the `tell` of a failed look in `open_at` of `fs/preview2.rs`.
#[test]
fn a_component_is_refused_a_fifo_too() {
    let place = Place::new();
    fifo(&place, "fifo");
    for what in ["read", "write"] {
        let ran = run(&probe(), &place.grant().args(["probe", what, "/d/fifo"]), &short());
        let text = ran.text();
        assert_eq!((ran.outcome(), text.as_str()), (&Outcome::Exited(0), "refused: PermissionDenied\n"));
        let told: Vec<String> = ran.report.reached.iter().map(|entry| entry.what.to_string()).collect();
        assert_eq!(told, [format!("{what} /d/fifo")]);
    }
}

// Red without: the same refusal.
#[test]
fn devices_and_sockets_are_refused() {
    let place = Place::new();
    let _listener = UnixListener::bind(place.path("socket")).unwrap();
    let grant = place.grant().write_dir("/dev", "/dev");
    let mut script = Script::new();
    script.open(FIRST, "socket", 0, false);
    for name in ["null", "zero", "full", "random", "tty"] {
        script.open(SECOND, name, 0, false);
        script.open(SECOND, name, TRUNCATE, true);
    }
    script.stat(FIRST, "socket").readdir(FIRST).readdir(SECOND);
    assert_eq!(answers(&script, &grant, &short()), [[PERM; 11].as_slice(), &[OK; 3]].concat());
}

// Red without: `is_file` in `fs/nodes.rs` (the look before the open is then outrun).
#[test]
fn a_fifo_that_is_swapped_in_after_the_look_is_not_given_out() {
    const REGULAR: u8 = 4;
    let place = Place::new();
    fifo(&place, "fifo");
    // Both ends are held, so that an open that outruns the look does not hang either.
    let _held = std::fs::File::options().read(true).write(true).open(place.path("fifo")).unwrap();
    std::fs::write(place.path("f"), "").unwrap();
    let stop = Arc::new(AtomicBool::new(false));
    let (file, other) = (place.path("f"), place.path("fifo"));
    let swapper = std::thread::spawn({
        let stop = Arc::clone(&stop);
        move || {
            while !stop.load(Ordering::Relaxed) {
                renameat_with(CWD, &file, CWD, &other, RenameFlags::EXCHANGE).unwrap();
            }
        }
    });
    let mut script = Script::new();
    for _ in 0..200 {
        let file = script.open(FIRST, "f", 0, false);
        script.stat_of(file).kind().close(file);
    }
    let mut given = 0;
    for _ in 0..5 {
        for steps in answers(&script, &place.grant(), &short()).chunks(4) {
            if steps[0] == OK {
                given += 1;
                assert_eq!(steps, [OK, OK, REGULAR, OK]);
            }
        }
    }
    stop.store(true, Ordering::Relaxed);
    swapper.join().unwrap();
    assert!(given > 0, "the swaps kept every open from the file");
}

#[test]
fn a_hard_link_that_the_host_made_is_just_a_file() {
    let (place, outside) = (Place::new(), tempfile::tempdir().unwrap());
    std::fs::write(outside.path().join("f"), "before").unwrap();
    std::fs::hard_link(outside.path().join("f"), place.path("linked")).unwrap();
    let mut script = Script::new();
    let file = script.open(FIRST, "linked", TRUNCATE, true);
    script.write(file, "after");
    assert_eq!(answers(&script, &place.grant(), &short()), [OK; 2]);
    assert_eq!(std::fs::read_to_string(outside.path().join("f")).unwrap(), "after");
}

fn opens(grant: &Grant) -> Result<Vec<u8>, HostFault> {
    let mut script = Script::new();
    script.open(FIRST, "mine", 0, false);
    let module = crate::common::module(&script.wat());
    run_with(&module, grant, &short(), Stdio::null()).map(|ran| ran.stdout)
}

// Red without: `NO_SYMLINKS` in `fs/granted.rs`.
#[test]
fn the_way_to_a_directory_below_another_follows_no_link() {
    let place = Place::new();
    std::fs::create_dir_all(place.path("a/b")).unwrap();
    std::fs::create_dir(place.path("elsewhere")).unwrap();
    std::fs::write(place.path("a/b/mine"), "").unwrap();
    std::fs::write(place.path("elsewhere/mine"), "").unwrap();
    symlink("../elsewhere", place.path("a/link")).unwrap();
    symlink("a", place.path("way")).unwrap();
    let below = |below: &str| Grant::none().dir_below(place.0.path(), below, "/d", Access::Read);
    assert_eq!(opens(&below("a/b")).unwrap(), [OK]);
    for (path, says) in [
        ("a/link", "symbolic link"),
        ("way/b", "symbolic link"),
        ("../x", "leads out"),
        ("/etc", "leads out"),
        ("a/none", "No such file"),
        ("a/b/mine", "Not a directory"),
    ] {
        let fault = opens(&below(path)).unwrap_err();
        assert!(matches!(&fault, HostFault::Preopen { .. }), "{path}: {fault:?}");
        assert!(fault.to_string().contains(says), "{path}: {fault}");
    }
}

// Red without: the path through the descriptor in `fs/granted.rs` (`host.join(below)` then, which is followed anew).
#[test]
fn a_link_swapped_in_on_the_way_never_leads_elsewhere() {
    let place = Place::new();
    std::fs::create_dir_all(place.path("v/sub")).unwrap();
    std::fs::write(place.path("v/sub/mine"), "").unwrap();
    std::fs::create_dir(place.path("elsewhere")).unwrap();
    symlink("../elsewhere", place.path("v/link")).unwrap();
    let stop = Arc::new(AtomicBool::new(false));
    let (dir, parked, link) = (place.path("v/sub"), place.path("v/parked"), place.path("v/link"));
    let swapper = std::thread::spawn({
        let stop = Arc::clone(&stop);
        move || {
            while !stop.load(Ordering::Relaxed) {
                let _ = std::fs::rename(&dir, &parked);
                let _ = std::fs::rename(&link, &dir);
                let _ = std::fs::rename(&dir, &link);
                let _ = std::fs::rename(&parked, &dir);
            }
        }
    });
    let grant = Grant::none().dir_below(place.path("v"), "sub", "/d", Access::Read);
    for _ in 0..100 {
        // Either it is found, and then it is the right one, or the run does not begin.
        match opens(&grant) {
            Ok(answers) => assert_eq!(answers, [OK]),
            Err(fault) => assert!(matches!(fault, HostFault::Preopen { .. }), "{fault:?}"),
        }
    }
    stop.store(true, Ordering::Relaxed);
    swapper.join().unwrap();
}

#[test]
fn a_refused_open_is_no_use_of_the_grant() {
    let place = Place::new();
    fifo(&place, "fifo");
    let mut script = Script::new();
    script.open(FIRST, "fifo", 0, false);
    let ran = within(&script, &place.grant().observe(), &short());
    let told: Vec<_> = ran.report.reached.iter().map(|entry| (entry.what.clone(), entry.granted)).collect();
    assert_eq!(told, [(Reach::Path { path: "/d/fifo".to_owned(), write: false }, false)]);
}
