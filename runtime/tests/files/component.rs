//! The same quotas for a component, whose calls and streams are others.

use std::sync::OnceLock;

use crate::common::{Ran, engine, run};
use crate::{Place, disk, exceeded};
use strongroom_runtime::{ByteSize, Grant, LimitKind, Limits, Module, Outcome, Reached};

/// "Quota exceeded" and "file too large", as a component's C library numbers them.
const DQUOT: u32 = 19;
const FBIG: u32 = 22;
/// No such file or directory.
const NOENT: u32 = 44;
/// What it makes of any failure of a stream; it does not ask for the reason.
const IO: u32 = 29;

/// The component in `fixtures/files.rs`.
fn files() -> Module {
    static FILES: OnceLock<Module> = OnceLock::new();
    FILES.get_or_init(|| engine().compile(include_bytes!("../fixtures/files.wasm")).unwrap()).clone()
}

fn act(place: &Place, limits: &Limits, commands: &[&str]) -> Ran {
    run(&files(), &place.grant().arg("files").args(commands.iter().copied()), limits)
}

/// What the commands printed, and that the program coped.
fn told(place: &Place, limits: &Limits, commands: &[&str]) -> Vec<String> {
    let ran = act(place, limits, commands);
    assert_eq!(ran.outcome(), &Outcome::Exited(0));
    ran.text().lines().map(str::to_owned).collect()
}

// Red without: `charge` in `fs/quota.rs` together with the cut in `fitting`; and without `link_preview2` in `engine.rs`.
#[test]
fn a_component_fills_its_quota_to_the_last_byte_and_no_further() {
    let place = Place::new();
    let ran =
        act(&place, &disk(1_000_001), &["fill:/d/f:4000", "fill:/d/g:1", "append:/d/f:1", "length:/d/f"]);
    assert_eq!(ran.outcome(), &Outcome::Exited(0));
    let lines = [
        // Of the last block one byte fits.
        format!("fill: 1000000, then error {IO}"),
        format!("fill: 0, then error {IO}"),
        format!("append: 0, then error {IO}"),
        "length: 1000001".to_owned(),
    ];
    assert_eq!(ran.text().lines().collect::<Vec<_>>(), lines);
    assert_eq!((place.length("f"), place.length("g")), (1_000_001, 0));
    assert_eq!((ran.report.usage.disk, ran.report.usage.files), (ByteSize::bytes(1_000_001), 2));
}

#[test]
fn a_component_that_dies_of_its_quota_exceeded_it() {
    let place = Place::new();
    let ran = act(&place, &disk(10_000), &["fill:/d/f:4096", "die"]);
    let (limit, allowed, used) = exceeded(ran.outcome());
    assert_eq!((limit, allowed), (LimitKind::Disk, 10_000));
    assert!(used > 10_000, "{used}");
    assert_eq!(place.length("f"), 10_000);
}

#[test]
fn a_component_overwrites_for_nothing_and_pays_for_appending_and_for_holes() {
    let place = Place::new();
    std::fs::write(place.path("f"), [0; 5000]).unwrap();
    let lines = told(
        &place,
        &disk(100),
        &["overwrite:/d/f:5000", "append:/d/f:30", "hole:/d/g:9", "hole:/d/h:0", "overwrite:/d/f:5090"],
    );
    let want = [
        "overwrite: 1".to_owned(),
        format!("append: 90, then error {IO}"),
        format!("hole: 0, then error {IO}"),
        format!("hole: 0, then error {IO}"),
        "overwrite: 1".to_owned(),
    ];
    assert_eq!(lines, want);
    assert_eq!((place.length("f"), place.length("g")), (5100, 0));
}

// Red without: `set_size` in `fs/preview2.rs` (wasmtime-wasi's is called then).
#[test]
fn a_components_huge_set_size_is_refused() {
    let place = Place::new();
    let lines = told(
        &place,
        &disk(100),
        &[
            "resize:/d/f:101",
            "resize:/d/f:1099511627776",
            "resize:/d/f:100",
            "resize:/d/f:0",
            "resize:/d/f:1",
        ],
    );
    let quota = format!("resize: 0, then error {DQUOT}");
    let large = format!("resize: 0, then error {FBIG}");
    assert_eq!(lines, [quota.as_str(), large.as_str(), "resize: 1", "resize: 1", quota.as_str()]);
    assert_eq!(place.length("f"), 0);
}

#[test]
fn one_file_of_a_component_grows_to_its_limit() {
    let place = Place::new();
    let limits = Limits { file_size: ByteSize::bytes(9_999), ..Limits::default() };
    let lines = told(&place, &limits, &["fill:/d/f:4096", "hole:/d/g:9999", "hole:/d/h:9998"]);
    let want =
        [format!("fill: 8192, then error {IO}"), format!("hole: 0, then error {IO}"), "hole: 1".to_owned()];
    assert_eq!(lines, want);
    assert_eq!((place.length("f"), place.length("g"), place.length("h")), (9_999, 0, 9_999));
}

// Red without: `before_opening` in `open_at` of `fs/preview2.rs`, and `before_making` in each of its neighbours.
#[test]
fn what_a_component_creates_is_counted() {
    let place = Place::new();
    std::fs::create_dir(place.path("many")).unwrap();
    let limits = Limits { files: 10, ..Limits::default() };
    let commands = [
        "mkdir:/d/new",
        "create:/d/many:20",
        "mkdir:/d/more",
        "mkdir:/d/new",
        "link:/d/many/0",
        "symlink:/d/s",
        "create:/d/many:9",
    ];
    let lines = told(&place, &limits, &commands);
    let want = [
        "mkdir: 1".to_owned(),
        format!("create: 9, then error {DQUOT}"),
        format!("mkdir: 0, then error {DQUOT}"),
        "mkdir: 0, then error 20".to_owned(),
        format!("link: 0, then error {DQUOT}"),
        format!("symlink: 0, then error {DQUOT}"),
        "create: 9".to_owned(),
    ];
    assert_eq!(lines, want);
    assert_eq!(std::fs::read_dir(place.path("many")).unwrap().count(), 9);
}

// Red without any one of the calls of `after_making` in `fs/preview2.rs`.
#[test]
fn what_a_component_failed_to_create_is_given_back() {
    let place = Place::new();
    let limits = Limits { files: 1, ..Limits::default() };
    let failing = ["mkdir:/d/no/d", "symlink:/d/no/s", "link:/d/nothing", "hole:/d/no/f:1"];
    for command in failing {
        let lines = told(&place, &limits, &[command, command, "mkdir:/d/new"]);
        let what = command.split(':').next().unwrap();
        let failed = format!("{what}: 0, then error {NOENT}");
        assert_eq!(lines, [failed.as_str(), failed.as_str(), "mkdir: 1"]);
        std::fs::remove_dir(place.path("new")).unwrap();
    }
}

/// What the commands were told of as denied or used, in a directory with a file, a link to it and a directory.
fn reached(grant: impl FnOnce(&std::path::Path) -> Grant, commands: &[&str]) -> Vec<String> {
    let place = Place::new();
    std::fs::write(place.path("f"), "f").unwrap();
    std::fs::create_dir(place.path("sub")).unwrap();
    std::os::unix::fs::symlink("f", place.path("s")).unwrap();
    let grant = grant(place.0.path()).arg("files").args(commands.iter().copied());
    let ran = run(&files(), &grant, &Limits::default());
    assert_eq!(ran.outcome(), &Outcome::Exited(0));
    let line = |entry: &Reached| {
        let how = if entry.granted { "granted" } else { "denied" };
        format!("{how} {} x{}", entry.what, entry.count)
    };
    ran.report.reached.iter().map(line).collect()
}

// Red without any one of the calls of `tell` and `tell_both` in `fs/preview2.rs` that a change goes through.
#[test]
fn what_a_component_may_not_change_is_told() {
    let commands = [
        ("mkdir:/in/m", "write /in/m x1"),
        ("symlink:/in/l", "write /in/l x1"),
        ("unlink:/in/f", "write /in/f x1"),
        ("rmdir:/in/sub", "write /in/sub x1"),
        ("shrink:/in/f", "write /in/f x1"),
        ("touch:/in/f", "write /in/f x1"),
        ("touchat:/in/f", "write /in/f x1"),
        ("overwrite:/in/f", "write /in/f x1"),
    ];
    for (command, what) in commands {
        let told = reached(|dir| Grant::none().read_dir(dir, "/in"), &[command]);
        assert_eq!(told, [format!("denied {what}")], "{command}");
    }
    for (command, new) in [("link:/in/f", "/in/f.link"), ("rename:/in/f", "/in/f.new")] {
        let told = reached(|dir| Grant::none().read_dir(dir, "/in"), &[command]);
        assert_eq!(told, ["denied write /in/f x1".to_owned(), format!("denied write {new} x1")], "{command}");
    }
}

// Red without any one of the calls of `tell` in `fs/preview2.rs` that a look goes through.
#[test]
fn what_a_component_looks_at_is_told_when_asked_for() {
    let uses = |command| reached(|dir| Grant::none().read_dir(dir, "/in").observe(), &[command]);
    for (command, times) in [("readlink:/in/s", 1), ("length:/in/f", 2), ("list:/in/sub", 2)] {
        assert_eq!(uses(command), [format!("granted read /in x{times}")], "{command}");
    }
    // One that is refused before it is opened.
    let told = reached(|dir| Grant::none().read_dir(dir, "/in"), &["readlink:/in/../s"]);
    assert_eq!(told, ["denied read /in/../s x1"]);
}

// Red without: `set_max_capacity` in `sandbox.rs`.
#[test]
fn a_component_holds_as_many_files_as_it_has_handles() {
    let place = Place::new();
    std::fs::write(place.path("f"), "").unwrap();
    let holds = |files: u32, handles| {
        let limits = Limits { handles, ..Limits::default() };
        act(&place, &limits, &[&format!("hold:/d/f:{files}")])
    };
    // What it holds besides: streams, directories. Found by trying, and then one more handle is exactly one more file.
    let most = (0..60).take_while(|&files| holds(files, 40).outcome() == &Outcome::Exited(0)).count();
    assert!((20..=40).contains(&most), "{most}");
    let most = u32::try_from(most).unwrap();
    assert_eq!(exceeded(holds(most, 40).outcome()), (LimitKind::Handles, 40, 41));
    assert_eq!(holds(most, 41).outcome(), &Outcome::Exited(0));
}

#[test]
fn a_component_does_everything_else_as_before() {
    let place = Place::new();
    std::fs::write(place.path("f"), "text").unwrap();
    let commands = [
        "times:/d/f",
        "sync:/d/f",
        "rename:/d/f",
        "link:/d/f.new",
        "list:/d",
        "length:/d/f.new",
        "hold:/d/f.new:3",
        "die",
    ];
    let want = ["times: 1", "sync: 1", "rename: 1", "link: 1", "list: 2", "length: 4", "hold: 3"];
    assert_eq!(told(&place, &Limits::default(), &commands), want);
    let age = std::fs::metadata(place.path("f.new")).unwrap().modified().unwrap();
    assert_eq!(age, std::time::UNIX_EPOCH);
}
