//! Quotas under preview 1: bytes, the length of one file, how many files, handles.

use crate::common::syscalls::{
    CREATE, DQUOT, EXIST, FBIG, FIRST, FROM_END, FROM_START, Fd, NOENT, OK, Script, TRUNCATE,
};
use crate::common::{command, module, run};
use crate::{Place, answers, counted, disk, exceeded, within};
use strongroom_runtime::{ByteSize, Grant, LimitKind, Limits, Outcome};

// Red without: `charge` in `fs/quota.rs` together with the cut in `fitting` (all is then written).
#[test]
fn the_last_byte_of_the_quota_fits_and_one_more_does_not() {
    let place = Place::new();
    let mut script = Script::new();
    let file = script.open(FIRST, "f", CREATE, true);
    script.write_bytes(file, 60).count().write_bytes(file, 40).count().write_bytes(file, 1);
    let ran = within(&script, &place.grant(), &disk(100));
    let want = [vec![OK], counted(OK, 60), counted(OK, 40), vec![DQUOT]].concat();
    assert_eq!((ran.outcome(), ran.stdout.clone()), (&Outcome::Exited(0), want));
    assert_eq!(place.length("f"), 100);
    assert_eq!((ran.report.usage.disk, ran.report.usage.files), (ByteSize::bytes(100), 1));
}

#[test]
fn of_a_write_that_does_not_fit_the_first_part_is_written() {
    let place = Place::new();
    let mut script = Script::new();
    let file = script.open(FIRST, "f", CREATE, true);
    script.write_bytes(file, 130).count().tell(file).count().write_bytes(file, 1).pwrite_at(file, 1, 100);
    let want = [vec![OK], counted(OK, 100), counted(OK, 100), vec![DQUOT, DQUOT]].concat();
    assert_eq!(answers(&script, &place.grant(), &disk(100)), want);
    assert_eq!(place.length("f"), 100);
}

#[test]
fn only_growth_counts() {
    // The quota is ten bytes; a file of fifty is overwritten again and again, and then grows by ten.
    let place = Place::new();
    std::fs::write(place.path("f"), [0; 50]).unwrap();
    let mut script = Script::new();
    let file = script.open(FIRST, "f", 0, true);
    for _ in 0..5 {
        script.pwrite_at(file, 50, 0).count();
    }
    script.seek(file, 45, FROM_START).write_bytes(file, 20).count().write_bytes(file, 1);
    let ran = within(&script, &place.grant(), &disk(10));
    let mut want = vec![OK];
    want.extend(counted(OK, 50).repeat(5));
    want.push(OK);
    want.extend(counted(OK, 15));
    want.push(DQUOT);
    assert_eq!((ran.outcome(), ran.stdout.clone()), (&Outcome::Exited(0), want));
    assert_eq!((place.length("f"), ran.report.usage.disk), (60, ByteSize::bytes(10)));
}

#[test]
fn what_is_deleted_or_cut_is_not_given_back() {
    let place = Place::new();
    let mut script = Script::new();
    let file = script.open(FIRST, "f", CREATE, true);
    script.write_bytes(file, 50).set_size(file, 0).close(file).unlink(FIRST, "f");
    let next = script.open(FIRST, "g", CREATE, true);
    script.write_bytes(next, 50).write_bytes(next, 1);
    let cut = script.open(FIRST, "g", TRUNCATE, true);
    script.write_bytes(cut, 1);
    let want = [OK, OK, OK, OK, OK, OK, OK, DQUOT, OK, DQUOT];
    assert_eq!(answers(&script, &place.grant(), &disk(100)), want);
}

// Red without: the `append` of a node in `fs/preview1.rs` (the write then goes to the start, and costs nothing).
#[test]
fn appending_is_charged_wherever_the_position_is() {
    let place = Place::new();
    std::fs::write(place.path("f"), [0; 50]).unwrap();
    let mut script = Script::new();
    let file = script.open(FIRST, "f", 0, true);
    script.set_flags(file, 1).write_bytes(file, 6).tell(file).count();
    script.seek(file, 0, FROM_START).write_bytes(file, 4).count().pwrite_at(file, 1, 0);
    let want = [vec![OK, OK, OK], counted(OK, 56), vec![OK], counted(OK, 4), vec![DQUOT]].concat();
    assert_eq!(answers(&script, &place.grant(), &disk(10)), want);
    assert_eq!(place.length("f"), 60);
}

#[test]
fn a_hole_costs_its_length() {
    let place = Place::new();
    let mut script = Script::new();
    let file = script.open(FIRST, "f", CREATE, true);
    script.pwrite_at(file, 1, 100).pwrite_at(file, 1, 99).seek(file, 1, FROM_END).write_bytes(file, 1);
    assert_eq!(answers(&script, &place.grant(), &disk(100)), [OK, DQUOT, OK, OK, DQUOT]);
    assert_eq!(place.length("f"), 100);
}

// Red without: the charge in `set_length` of `fs/quota.rs`.
#[test]
fn a_huge_set_size_is_refused_whole() {
    let place = Place::new();
    let mut script = Script::new();
    let file = script.open(FIRST, "f", CREATE, true);
    script
        .set_size(file, 101)
        .set_size(file, 1 << 50)
        .set_size(file, u64::MAX)
        .set_size(file, 100)
        .set_size(file, 101);
    let got = answers(&script, &place.grant(), &disk(100));
    assert_eq!(got, [OK, DQUOT, FBIG, FBIG, OK, DQUOT]);
    assert_eq!(place.length("f"), 100);
}

// Red without: the comparison with `largest_file` in `fitting` of `fs/quota.rs`.
#[test]
fn one_file_grows_to_its_limit_and_not_past_it() {
    let place = Place::new();
    std::fs::write(place.path("long"), [0; 100]).unwrap();
    let mut script = Script::new();
    let file = script.open(FIRST, "f", CREATE, true);
    script.write_bytes(file, 70).count().write_bytes(file, 1).set_size(file, 65).pwrite_at(file, 1, 64);
    // What the host made longer can be overwritten, and not made longer still.
    let long = script.open(FIRST, "long", 0, true);
    script.pwrite_at(long, 100, 0).count().pwrite_at(long, 1, 100).set_size(long, 101).set_size(long, 90);
    let limits = Limits { file_size: ByteSize::bytes(64), ..Limits::default() };
    let want =
        [vec![OK], counted(OK, 64), vec![FBIG, FBIG, FBIG, OK], counted(OK, 100), vec![FBIG, FBIG, OK]];
    assert_eq!(answers(&script, &place.grant(), &limits), want.concat());
    assert_eq!((place.length("f"), place.length("long")), (64, 90));
}

#[test]
fn the_quota_is_one_for_all_directories_and_descriptors() {
    let (one, two) = (Place::new(), Place::new());
    let grant = one.grant().write_dir(two.0.path(), "/e");
    let mut script = Script::new();
    let first = script.open(FIRST, "f", CREATE, true);
    let again = script.open(FIRST, "f", 0, true);
    let second = script.open(Fd::Number(4), "f", CREATE, true);
    script
        .write_bytes(first, 40)
        .write_bytes(again, 40)
        .write_bytes(second, 40)
        .pwrite_at(again, 21, 40)
        .count();
    let want = [vec![OK; 6], counted(OK, 20)].concat();
    assert_eq!(answers(&script, &grant, &disk(100)), want);
    assert_eq!((one.length("f"), two.length("f")), (60, 40));
}

// Red without: `nodes` being renumbered in `fs/preview1.rs` (stdout's number then writes uncharged).
#[test]
fn a_file_that_takes_the_number_of_stdout_is_still_charged() {
    let place = Place::new();
    let mut script = Script::new();
    let file = script.open(FIRST, "f", CREATE, true);
    script.renumber(file, Fd::Number(2)).write_bytes(Fd::Number(2), 100).write_bytes(Fd::Number(2), 1);
    script.close(Fd::Number(2));
    let next = script.open(FIRST, "g", CREATE, true);
    script.write_bytes(next, 1);
    assert_eq!(answers(&script, &place.grant(), &disk(100)), [OK, OK, OK, DQUOT, OK, OK, DQUOT]);
    assert_eq!((place.length("f"), place.length("g")), (100, 0));
}

// Red without: `create_file` in `charge_creation` of `fs/creation.rs`, and without the charge of any one of the four calls that create.
#[test]
fn everything_created_counts_and_what_exists_does_not() {
    let place = Place::new();
    std::fs::write(place.path("old"), "").unwrap();
    let mut script = Script::new();
    script.open(FIRST, "a", CREATE, true);
    script.open(FIRST, "a", CREATE, true);
    script.open(FIRST, "old", CREATE, true);
    script.mkdir(FIRST, "b").mkdir(FIRST, "b").symlink("a", FIRST, "c");
    script.open(FIRST, "nowhere/e", CREATE, true);
    script.link(FIRST, "a", FIRST, "d");
    // Four of four are used: three kinds of one more, the one that exists, and opening what is there.
    script.mkdir(FIRST, "e").symlink("a", FIRST, "e").link(FIRST, "a", FIRST, "e").mkdir(FIRST, "b");
    script.open(FIRST, "e", CREATE, true);
    script.open(FIRST, "old", CREATE, true);
    script.unlink(FIRST, "a").rename(FIRST, "old", FIRST, "a").mkdir(FIRST, "f");
    let limits = Limits { files: 4, ..Limits::default() };
    let ran = within(&script, &place.grant(), &limits);
    let want = [OK, OK, OK, OK, EXIST, OK, NOENT, OK, DQUOT, DQUOT, DQUOT, EXIST, DQUOT, OK, OK, OK, DQUOT];
    assert_eq!((ran.outcome(), ran.stdout.clone()), (&Outcome::Exited(0), want.to_vec()));
    assert_eq!(ran.report.usage.files, 4);
}

#[test]
fn a_million_empty_files_stop_at_the_limit() {
    // Names of three letters that count up; the guest goes on until it is told to stop, and then gives up.
    let body = r#"(local $n i32)
        (loop $again
            (i32.store8 (i32.const 4) (i32.add (i32.const 65) (i32.and (local.get $n) (i32.const 15))))
            (i32.store8 (i32.const 5) (i32.add (i32.const 65) (i32.and (i32.shr_u (local.get $n) (i32.const 4)) (i32.const 15))))
            (i32.store8 (i32.const 6) (i32.add (i32.const 65) (i32.and (i32.shr_u (local.get $n) (i32.const 8)) (i32.const 15))))
            (if (call $path_open (i32.const 3) (i32.const 1) (i32.const 4) (i32.const 3) (i32.const 1)
                (i64.const 66) (i64.const 66) (i32.const 0) (i32.const 64)) (then (call $proc_exit (i32.const 1))))
            (drop (call $fd_close (i32.load (i32.const 64))))
            (local.set $n (i32.add (local.get $n) (i32.const 1)))
            (br_if $again (i32.lt_u (local.get $n) (i32.const 4096))))"#;
    let place = Place::new();
    let limits = Limits { files: 300, ..Limits::default() };
    let ran = run(&module(&command(body)), &place.grant(), &limits);
    assert_eq!(exceeded(ran.outcome()), (LimitKind::Files, 300, 301));
    assert_eq!(std::fs::read_dir(place.0.path()).unwrap().count(), 300);
}

#[test]
fn a_guest_that_fills_the_disk_and_dies_exceeded_its_quota() {
    let body = r#"(local $n i32)
        (i32.store8 (i32.const 0) (i32.const 102))
        (drop (call $path_open (i32.const 3) (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 1)
            (i64.const 66) (i64.const 66) (i32.const 0) (i32.const 64)))
        (i32.store (i32.const 8) (i32.const 1024)) (i32.store (i32.const 12) (i32.const 60000))
        (loop $again
            (if (call $fd_write (i32.load (i32.const 64)) (i32.const 8) (i32.const 1) (i32.const 32))
                (then unreachable))
            (local.set $n (i32.add (local.get $n) (i32.const 1)))
            (br_if $again (i32.lt_u (local.get $n) (i32.const 100))))"#;
    let place = Place::new();
    let ran = run(&module(&command(body)), &place.grant(), &disk(1_000_000));
    let (limit, allowed, used) = exceeded(ran.outcome());
    assert_eq!((limit, allowed), (LimitKind::Disk, 1_000_000));
    assert!(used > 1_000_000, "{used}");
    assert_eq!((place.length("f"), ran.report.usage.disk), (1_000_000, ByteSize::bytes(1_000_000)));
}

#[test]
fn a_guest_that_fails_for_another_reason_only_fails() {
    let place = Place::new();
    let mut script = Script::new();
    let file = script.open(FIRST, "f", CREATE, true);
    script.write_bytes(file, 100).exit(3);
    assert_eq!(within(&script, &place.grant(), &disk(100)).outcome(), &Outcome::Exited(3));
    let mut over = Script::new();
    let file = over.open(FIRST, "g", CREATE, true);
    over.write_bytes(file, 101).exit(3);
    assert_eq!(exceeded(within(&over, &place.grant(), &disk(100)).outcome()), (LimitKind::Disk, 100, 101));
}

// Red without: `after_making` in `path_open` of `fs/preview1.rs`, and the refund in `write` of `fs/quota.rs`.
#[test]
fn what_failed_is_given_back() {
    let place = Place::new();
    let mut script = Script::new();
    for _ in 0..3 {
        script.open(FIRST, "nowhere/f", CREATE, true);
        script.mkdir(FIRST, "nowhere/d").link(FIRST, "nothing", FIRST, "l").symlink("f", FIRST, "nowhere/s");
    }
    let file = script.open(FIRST, "f", CREATE, true);
    // The kernel ends a file before the largest position that it knows.
    script.pwrite_at(file, 2, i64::MAX.unsigned_abs() - 1).write_bytes(file, 1);
    let most = ByteSize::bytes(u64::MAX);
    let limits = Limits { files: 1, disk: most, file_size: most, ..Limits::default() };
    let ran = within(&script, &place.grant(), &limits);
    assert_eq!(ran.outcome(), &Outcome::Exited(0));
    let (failed, rest) = ran.stdout.split_at(12);
    assert!(failed.iter().all(|&answer| answer == NOENT), "{failed:?}");
    assert_eq!((rest[0], rest[2]), (OK, OK));
    assert_ne!(rest[1], OK);
    assert_eq!((ran.report.usage.files, ran.report.usage.disk), (1, ByteSize::bytes(1)));
}

// Red without: `set_max_capacity` in `sandbox.rs`.
#[test]
fn exactly_as_many_handles_as_allowed() {
    // Stdin, stdout, stderr and the directory are four of them.
    let place = Place::new();
    std::fs::write(place.path("f"), "").unwrap();
    let opens = |count| {
        let mut script = Script::new();
        for _ in 0..count {
            script.open(FIRST, "f", 0, false);
        }
        let limits = Limits { handles: 12, ..Limits::default() };
        within(&script, &place.grant(), &limits)
    };
    let all = opens(8);
    assert_eq!((all.outcome(), all.stdout.clone()), (&Outcome::Exited(0), vec![OK; 8]));
    assert_eq!(exceeded(opens(9).outcome()), (LimitKind::Handles, 12, 13));
}

#[test]
fn nothing_granted_needs_no_quota() {
    let none =
        Limits { disk: ByteSize::bytes(0), files: 0, file_size: ByteSize::bytes(0), ..Limits::default() };
    let mut script = Script::new();
    script.write(Fd::Number(1), "out").write(Fd::Number(2), "err");
    let ran = within(&script, &Grant::none(), &none);
    assert_eq!((ran.outcome(), ran.stdout.clone()), (&Outcome::Exited(0), b"out\0\0".to_vec()));
}
