//! The power is cut after every so many changes, right after every promise, and around every checkpoint.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use crate::check::{self, Verdict};
use crate::child::EARLIER;
use crate::common::proof::{is_long, seed};
use crate::common::random::Random;
use crate::model::{Disk, Fate};
use crate::trace::{Change, Trace};
use crate::tracer::{End, Fault, How, Recorder, directory};

/// The seed of everything here.
const SEED: u64 = 4;

/// All of what was not synced is lost, or all of it is kept.
const BOTH: [Fate; 2] = [Fate::Lost, Fate::Kept];

/// So many changes from a checkpoint on, all are looked at: a checkpoint is a promise, too.
const NEAR: usize = 6;

/// Where the power is cut, and how often.
#[derive(Clone, Copy)]
struct Cuts {
    /// The first cut.
    from: usize,
    /// After each so many changes, besides after every promise and around every checkpoint.
    every: usize,
    /// What becomes of what was not synced, at each cut.
    extremes: &'static [Fate],
    /// And so many times by chance.
    chances: u64,
    seed: u64,
}

/// What a check needs to know of a cut.
struct Cut<'t> {
    disk: &'t Path,
    told: Vec<&'t str>,
    /// Every checkpoint that anybody could have read by then.
    published: &'t [Vec<u8>],
}

/// Cuts the power and checks what is left; a disk that does not pass is kept. Returns how many were checked.
fn cut(trace: &Trace, cuts: Cuts, check: impl Fn(&Cut<'_>) -> Verdict) -> usize {
    let (mut model, mut published, mut checked, mut near) = (Disk::new(), Vec::new(), 0, 0);
    for (after, change) in (1..).zip(&trace.changes) {
        model.apply(change);
        if let Change::Rename { to, .. } = change
            && to.name == "checkpoint"
        {
            published.push(model.read(to));
            near = after + NEAR;
        }
        let promise = matches!(change, Change::Told(_));
        if after < cuts.from || !(promise || after < near || after % cuts.every == 0) {
            continue;
        }
        let chances = (0..cuts.chances).map(|chance| Fate::Chance(cuts.seed ^ (after as u64) << 16 ^ chance));
        for fate in cuts.extremes.iter().copied().chain(chances) {
            let disk = directory();
            model.cut(fate, disk.path());
            let told = trace.told(after).collect();
            checked += 1;
            if let Err(why) = check(&Cut { disk: disk.path(), told, published: &published }) {
                let kept = directory().keep();
                model.cut(fate, &kept);
                let of = trace.changes.len();
                let last = format!("{change:?}").chars().take(200).collect::<String>();
                panic!("{why}\n  cut after change {after} of {of}, {last}\n  {fate:?}: {}", kept.display());
            }
        }
    }
    checked
}

/// Runs a scenario to its good end.
fn record(recorder: &mut Recorder, scenario: &str) {
    let run = recorder.run(scenario, None);
    assert_eq!(run.end, End::Exited(0), "{}", run.words);
}

/// Runs a scenario that is killed before one of its calls.
fn record_killed(recorder: &mut Recorder, scenario: &str, nth: usize) {
    let run = recorder.run(scenario, Some(Fault { of: None, nth, how: How::Kill }));
    assert!(run.struck.is_none() || run.end == End::Killed, "{:?} {}", run.end, run.words);
}

/// What the last process left, as its readers saw it.
fn left(trace: &Trace) -> tempfile::TempDir {
    let (mut model, disk) = (Disk::new(), directory());
    trace.changes.iter().for_each(|change| model.apply(change));
    model.cut(Fate::Kept, disk.path());
    disk
}

/// Every file below a directory, with its bytes.
fn files(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut dirs = vec![dir.to_owned()];
    while let Some(next) = dirs.pop() {
        for entry in fs::read_dir(&next).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                found.insert(path.strip_prefix(dir).unwrap().to_owned(), Vec::new());
                dirs.push(path);
            } else {
                found.insert(path.strip_prefix(dir).unwrap().to_owned(), fs::read(&path).unwrap());
            }
        }
    }
    found
}

// The recorder and the model against the real file system: what was missed or misunderstood would be missing here.
#[test]
fn the_model_holds_what_the_real_directory_holds() {
    for scenario in ["sled 20", "store 6", "host 4"] {
        let mut recorder = Recorder::new();
        record(&mut recorder, scenario);
        let (real, model) = (files(recorder.data()), left(&recorder.trace));
        let model = files(model.path());
        assert_eq!(real.keys().collect::<Vec<_>>(), model.keys().collect::<Vec<_>>(), "{scenario}");
        for (path, bytes) in real {
            assert!(model[&path] == bytes, "{scenario}: {} differs", path.display());
        }
    }
}

// The model can convict: what sled alone calls durable is lost, and the same with `fdatasync` is not.
#[test]
fn bare_sled_and_flush_lose_what_they_acknowledged() {
    let keys = 20;
    for (scenario, survives) in [("sled", false), ("synced-sled", true)] {
        let mut recorder = Recorder::new();
        record(&mut recorder, &format!("{scenario} {keys}"));
        let (mut model, mut lost, mut cuts) = (Disk::new(), 0, 0);
        for (after, change) in (1..).zip(&recorder.trace.changes) {
            model.apply(change);
            if matches!(change, Change::Told(_)) {
                let told: Vec<&str> = recorder.trace.told(after).collect();
                let gone = |fate| {
                    let disk = directory();
                    model.cut(fate, disk.path());
                    check::lost_keys(disk.path(), &told).unwrap()
                };
                assert_eq!(gone(Fate::Kept), 0, "a crash of the process loses nothing");
                lost += usize::from(gone(Fate::Lost) > 0);
                cuts += 1;
            }
        }
        println!("{scenario}: {lost} of {cuts} power cuts right after an acknowledgement lost keys");
        assert_eq!(cuts, keys);
        assert_eq!(lost, if survives { 0 } else { cuts });
    }
}

// Red without `sync` in `make_durable`, without `sync_data` in `give`, without the sync of the name above the state in `Opened::start`, and without
// `sync_all` or with no state made aside in `fresh::make` (the last in its long version: a kill between two writes of sled).
#[test]
fn a_power_cut_takes_nothing_from_the_store_that_was_acknowledged() {
    let seed = seed("power cuts, store", SEED);
    let (jobs, every, chances) = if is_long() { (40, 1, 8) } else { (6, 3, 1) };
    let mut recorder = Recorder::new();
    record(&mut recorder, &format!("store {jobs}"));
    let trace = &recorder.trace;
    let leaves = check::leaves(left(trace).path());
    let cuts = Cuts { from: 0, every, extremes: &BOTH, chances, seed };
    let checked = cut(trace, cuts, |cut| check::store(cut.disk, &cut.told, &leaves));
    println!("{}; {checked} disks", trace.summary());
}

// Red without the syncs in `Copying::make_whole`. Without those of names in `fresh::put` it is not: whoever removes the old state syncs them
// a moment later.
#[test]
fn a_power_cut_while_the_state_is_written_anew_takes_nothing_that_was_acknowledged() {
    let seed = seed("power cuts, renewed", SEED);
    let (runs, every, chances) = if is_long() { (6, 1, 4) } else { (1, 6, 1) };
    let mut checked = 0;
    for run in 0..runs {
        let mut recorder = Recorder::new();
        record(&mut recorder, &format!("store {EARLIER}"));
        let from = recorder.trace.changes.len();
        record(&mut recorder, &format!("renewed {}", EARLIER + 6));
        let trace = &recorder.trace;
        let replaced =
            |change: &Change| matches!(change, Change::Rename { to, .. } if to.name == "state.stale");
        assert!(trace.changes[from..].iter().any(replaced), "it was not written anew");
        let leaves = check::leaves(left(trace).path());
        let cuts = Cuts { from, every, extremes: &BOTH, chances, seed: seed ^ run };
        checked += cut(trace, cuts, |cut| check::store(cut.disk, &cut.told, &leaves));
    }
    println!("{checked} disks");
}

// Red without the sync of the name above the state in `Opened::start`.
#[test]
fn a_power_cut_after_a_kill_takes_nothing_either() {
    let seed = seed("power cuts after kills, store", SEED);
    let (runs, jobs, every, chances) = if is_long() { (30, 6, 3, 3) } else { (2, 4, 6, 1) };
    let mut random = Random::new(seed);
    let mut checked = 0;
    for _ in 0..runs {
        let mut recorder = Recorder::new();
        record_killed(&mut recorder, &format!("store {jobs}"), random.below(60) as usize);
        let from = recorder.trace.changes.len();
        record(&mut recorder, &format!("store {}", jobs + 3));
        let trace = &recorder.trace;
        let leaves = check::leaves(left(trace).path());
        let cuts = Cuts { from, every, extremes: &BOTH, chances, seed: random.next() };
        checked += cut(trace, cuts, |cut| check::store(cut.disk, &cut.told, &leaves));
    }
    println!("{runs} kills, {checked} disks");
}

// Of a write whose sync failed the system says to the next process that it is there, and it may never reach the disk. Red when `Open::go_on`
// does not write the last entry once more.
#[test]
fn a_power_cut_after_a_sync_that_failed_takes_nothing_either() {
    let seed = seed("power cuts after failed syncs, store", SEED);
    let (runs, chances) = if is_long() { (20, 3) } else { (3, 1) };
    let scenario = "store 4";
    let calls = Recorder::new().run(scenario, None).calls;
    let is_sync = |call: &String| call.starts_with("sync state/journal/0");
    let syncs: Vec<usize> = (0..).zip(&calls).filter(|(_, call)| is_sync(call)).map(|(nth, _)| nth).collect();
    let mut random = Random::new(seed);
    let (mut struck, mut checked) = (0, 0);
    for run in 0..runs {
        // Not the last ones: another run may have fewer.
        let nth = syncs[1 + run * (syncs.len() / 2) / runs];
        let mut recorder = Recorder::new();
        // Threads take turns as they like: the call with this number may be another one.
        for _ in 0..20 {
            recorder = Recorder::new();
            let fault = Fault { of: None, nth, how: How::Refused(nix::errno::Errno::EIO) };
            let failed = recorder.run(scenario, Some(fault));
            if failed.struck.is_some_and(|_| is_sync(&failed.calls[nth])) {
                struck += 1;
                break;
            }
        }
        let from = recorder.trace.changes.len();
        record(&mut recorder, "store 6");
        let trace = &recorder.trace;
        let leaves = check::leaves(left(trace).path());
        let cuts = Cuts { from, every: 40, extremes: &BOTH, chances, seed: random.next() };
        checked += cut(trace, cuts, |cut| check::store(cut.disk, &cut.told, &leaves));
    }
    println!("{struck} of {runs} syncs failed, {checked} disks");
    assert!(struck > 0);
}

// Red without `sync_parent` in `directory`.
#[test]
fn a_power_cut_takes_no_key_that_was_shown() {
    let seed = seed("power cuts, init", SEED);
    let chances = if is_long() { 20 } else { 2 };
    let mut recorder = Recorder::new();
    record(&mut recorder, "init 1");
    let cuts = Cuts { from: 0, every: 1, extremes: &BOTH, chances, seed };
    let checked = cut(&recorder.trace, cuts, |cut| check::init(cut.disk, &cut.told));
    println!("{}; {checked} disks", recorder.trace.summary());
}

// Red without any one of: `sync` in `make_durable`; the syncs of the file, of its directory and of that directory's name in
// `Draft::keep` and `Root::prepare`; the sync of the file in `DurableDir::write`; the first `sync_names` in `Log::commit`.
// Red with the evidence written after the checkpoint, in `publish`.
#[test]
fn a_power_cut_takes_nothing_from_the_host_that_was_acknowledged() {
    let seed = seed("power cuts, host", SEED);
    let (jobs, every, chances) = if is_long() { (30, 10, 2) } else { (4, 40, 1) };
    let mut recorder = Recorder::new();
    record(&mut recorder, &format!("host {jobs}"));
    let cuts = Cuts { from: 0, every, extremes: &BOTH, chances, seed };
    let checked = cut(&recorder.trace, cuts, |cut| check::host(cut.disk, &cut.told, cut.published));
    println!("{}; {checked} disks", recorder.trace.summary());
}

// What a killed host made and did not sync looks to the next one like any other directory. Red without `sync_name` in
// `Home::lock`, with `Root::prepare` content when the directory is there, and with `DurableDir::make_dirs` content with that.
#[test]
fn a_directory_that_a_killed_host_left_takes_nothing_along() {
    let scenario = "host 2";
    let calls = Recorder::new().run(scenario, None).calls;
    let (mut killed, mut checked) = (0, 0);
    for (nth, call) in (0..).zip(&calls) {
        let Some(path) = call.strip_prefix("make-dir ") else { continue };
        // The temporary ones are in no promise.
        let lasting =
            path == "home" || ["home/blobs/", "home/audit/tile"].iter().any(|place| path.starts_with(place));
        if !lasting && !is_long() {
            continue;
        }
        let mut recorder = Recorder::new();
        record_killed(&mut recorder, scenario, nth + 1);
        let from = recorder.trace.changes.len();
        record(&mut recorder, scenario);
        let cuts = Cuts { from, every: usize::MAX, extremes: &[Fate::Lost], chances: 0, seed: SEED };
        checked += cut(&recorder.trace, cuts, |cut| check::host(cut.disk, &cut.told, cut.published));
        killed += 1;
    }
    println!("{killed} kills behind a new directory, {checked} disks");
    assert!(killed > 3);
}
