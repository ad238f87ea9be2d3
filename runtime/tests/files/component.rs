//! The same quotas for a component, whose calls and streams are others.

use std::sync::OnceLock;

use crate::common::{Ran, engine, run};
use crate::{Place, disk, exceeded};
use strongroom_runtime::{ByteSize, LimitKind, Limits, Module, Outcome};

/// "Quota exceeded" and "file too large", as a component's C library numbers them.
const DQUOT: u32 = 19;
const FBIG: u32 = 22;
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

// Red without: `before_opening` in `open_at` of `fs/preview2.rs`, and `before_making` in its neighbours.
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
        "create:/d/many:9",
    ];
    let lines = told(&place, &limits, &commands);
    let want = [
        "mkdir: 1".to_owned(),
        format!("create: 9, then error {DQUOT}"),
        format!("mkdir: 0, then error {DQUOT}"),
        "mkdir: 0, then error 20".to_owned(),
        format!("link: 0, then error {DQUOT}"),
        "create: 9".to_owned(),
    ];
    assert_eq!(lines, want);
    assert_eq!(std::fs::read_dir(place.path("many")).unwrap().count(), 9);
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
