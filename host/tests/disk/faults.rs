//! Every call that touches the disk fails once, in each way that it can.
//!
//! Whatever fails: what was acknowledged is there afterwards, also when the power goes too; and a call without which nothing can
//! be promised stops the process, which says so.

use nix::errno::Errno::{self, EIO, ENOSPC};

use crate::check::{self, Verdict};
use crate::child::HUNG;
use crate::common::proof::{is_long, seed};
use crate::common::random::Random;
use crate::model::{Disk, Fate};
use crate::trace::{Change, Trace};
use crate::tracer::{End, Fault, How, Recorder, Run, directory, kind};

/// The seed of everything here.
const SEED: u64 = 11;
/// Promises that may have been on their way when a call failed: each worker of the scenario waits for one.
const ON_THEIR_WAY: usize = 3;

/// Runs of one fault, at most: a run that has more commits in one group than the one that was planned for has fewer calls of a kind.
const TRIES: usize = 6;

/// A scenario, and how its disk is judged.
struct Case {
    /// What is done before it, and does not fail.
    before: Option<&'static str>,
    scenario: &'static str,
    /// Calls whose failing must not end it.
    harmless: fn(&str) -> bool,
    /// Calls whose failing must end it, and nothing is promised after them: all of promise 1 rests on them.
    vital: fn(&str) -> bool,
    /// Calls whose failing must end it; what is promised until that is seen does not rest on them.
    loud: fn(&str) -> bool,
    check: fn(&std::path::Path, &Trace) -> Verdict,
}

/// In which ways a call can fail.
fn ways(call: &str) -> Vec<How> {
    let failing = |error: Errno| [How::Refused(error), How::DoneAndRefused(error)];
    match call.split(' ').next().unwrap() {
        "write" => {
            let torn = [How::Torn(EIO), How::Torn(ENOSPC), How::Short];
            failing(EIO).into_iter().chain(failing(ENOSPC)).chain(torn).collect()
        }
        "sync" | "sync-range" | "open" | "remove" => failing(EIO).to_vec(),
        _ => failing(EIO).into_iter().chain(failing(ENOSPC)).collect(),
    }
}

impl Case {
    fn recorder(&self) -> Recorder {
        let mut recorder = Recorder::new();
        if let Some(before) = self.before {
            let run = recorder.run(before, None);
            assert_eq!(run.end, End::Exited(0), "{}", run.words);
        }
        recorder
    }

    /// Runs it with one call failing, and judges what is left. False: the call was not made.
    fn fail(&self, fault: Fault<'_>, chance: u64) -> bool {
        let mut recorder = self.recorder();
        let run = recorder.run(self.scenario, Some(fault));
        let Some((nth, struck)) = run.struck else { return false };
        let call = &run.calls[nth];
        if let Err(why) = self.judge(&recorder.trace, &run, call, fault.how, struck, chance) {
            let how = fault.how;
            panic!("{why}\n  {} with call {nth}, {call}, {how:?}\n  {}", self.scenario, run.words);
        }
        true
    }

    fn judge(&self, trace: &Trace, run: &Run, call: &str, how: How, struck: usize, chance: u64) -> Verdict {
        if run.end == End::Exited(HUNG) {
            return Err("it hangs".into());
        }
        if (self.harmless)(call) && run.end != End::Exited(0) {
            return Err("it ended, and had no need to".into());
        }
        let (vital, loud) = ((self.vital)(call), (self.loud)(call));
        if how != How::Short && (vital || loud) {
            let after = trace.changes[struck..].iter().filter(|change| matches!(change, Change::Told(_)));
            let after = after.count();
            // What fails when everything is told, at the very end, breaks no promise.
            if after > 0 && run.end == End::Exited(0) {
                return Err("it went on as if nothing had happened".into());
            }
            if vital && after > ON_THEIR_WAY {
                return Err(format!("it went on to promise: {after} times"));
            }
        }
        let mut model = Disk::new();
        trace.changes.iter().for_each(|change| model.apply(change));
        for fate in [Fate::Kept, Fate::Lost, Fate::Chance(chance)] {
            let disk = directory();
            model.cut(fate, disk.path());
            (self.check)(disk.path(), trace).map_err(|why| {
                let kept = directory().keep();
                model.cut(fate, &kept);
                format!("{why}; with what was not synced {fate:?}: {}", kept.display())
            })?;
        }
        Ok(())
    }

    /// Makes the call fail, or one of its kind that comes earlier where two runs have not so many. Says which one was struck.
    fn strike(&self, mut fault: Fault<'_>, chance: u64) -> Option<usize> {
        (0..TRIES).find_map(|tries| {
            if tries > 1 {
                fault.nth /= 2;
            }
            self.fail(fault, chance).then_some(fault.nth)
        })
    }

    /// Every call in every way; or so many of those of this kind, and so many others, by chance.
    fn each(&self, proof: &str, (is_kind, of_kind, others): (fn(&str) -> bool, usize, usize)) {
        let mut random = Random::new(seed(proof, SEED));
        let whole = self.recorder().run(self.scenario, None);
        assert_eq!(whole.end, End::Exited(0), "{}", whole.words);
        let kinds: Vec<String> = whole.calls.iter().map(|call| kind(call)).collect();
        let faults = whole.calls.iter().enumerate().flat_map(|(at, call)| {
            let of = kinds[at].as_str();
            let nth = kinds[..at].iter().filter(|kind| *kind == of).count();
            let fault = move |how| (call, Fault { of: Some(of), nth, how });
            ways(call).into_iter().map(fault)
        });
        let (mut faults, mut rest): (Vec<_>, Vec<_>) = faults.partition(|(call, _)| is_kind(call));
        let all = faults.len() + rest.len();
        for (faults, most) in [(&mut faults, of_kind), (&mut rest, others)] {
            while faults.len() > most {
                faults.swap_remove(random.below(faults.len() as u64) as usize);
            }
        }
        faults.append(&mut rest);
        let tried = faults.len();
        let places: Vec<_> =
            faults.iter().map(|(_, fault)| (fault.nth, self.strike(*fault, random.next()))).collect();
        let struck = places.iter().filter(|(_, place)| place.is_some()).count();
        let as_planned = places.iter().filter(|(planned, place)| *place == Some(*planned)).count();
        let calls = whole.calls.len();
        println!("{calls} calls; {tried} of {all} faults tried, {struck} struck, {as_planned} where planned");
        assert!(
            struck * 10 >= tried * 9 && as_planned * 10 >= tried * 7,
            "the run differs too much from the one that was planned for"
        );
    }
}

/// What the journal must do before anybody is told.
fn is_journal(call: &str) -> bool {
    let (what, path) = call.split_once(' ').unwrap();
    path.starts_with("state/journal") && ["write", "sync", "create", "rename"].contains(&what)
}

/// What sled does with its file.
fn is_sled(call: &str) -> bool {
    call.ends_with("state/db") && !call.starts_with("open") && !call.starts_with("set-length")
}

/// What was told in a trace.
fn told(trace: &Trace) -> Vec<&str> {
    trace.told(trace.changes.len()).collect()
}

// Red with the answers of `Writer::commit` sent when `make_durable` failed; and, for one failing `sync_file_range` in twenty,
// without `Nudge::during`: it hangs.
#[test]
fn whatever_fails_under_the_store_nothing_acknowledged_is_lost() {
    let case = Case {
        before: None,
        harmless: |_| false,
        scenario: "store 5",
        vital: is_journal,
        loud: is_sled,
        check: |disk, trace| check::store(disk, &told(trace), &[]),
    };
    let most = if is_long() { (usize::MAX, usize::MAX) } else { (16, 30) };
    // sled loses its word when this one fails, now and then.
    case.each("faults, store", (|call| call.starts_with("sync-range"), most.0, most.1));
}

// Red when `Renewer::go_on` or `Renewer::begin_if_due` ends the writer instead of giving up, or when it goes on after an error of `fresh::put`.
#[test]
fn whatever_fails_while_the_state_is_written_anew_nothing_acknowledged_is_lost() {
    let case = Case {
        before: Some("store 24"),
        // What is made beside the state may fail in any way, until it has the name, and so may the removal of what was replaced.
        harmless: |call| {
            let (what, path) = call.split_once(' ').unwrap();
            path.starts_with("state.making") && what != "rename"
                || path.starts_with("state.stale") && what == "remove"
        },
        scenario: "renewed 28",
        vital: is_journal,
        loud: is_sled,
        check: |disk, trace| check::store(disk, &told(trace), &[]),
    };
    let most = if is_long() { (usize::MAX, usize::MAX) } else { (30, 10) };
    case.each("faults, renewed", (|call| call.contains("state.making"), most.0, most.1));
}

// Red when an error of `make` or `put` ends `compact::open`: a full disk would keep a host from its start that only wanted to write its
// state's file anew. And red when it goes on after the last sync of `put` has failed, and removes the old state.
#[test]
fn whatever_fails_while_a_state_is_written_anew_it_opens_and_has_everything() {
    let case = Case {
        before: Some("marked 5"),
        // The old state is opened before, and one of the two behind: what fails then is no matter of this.
        harmless: |call| {
            let mut names = call.split([' ', '/']);
            // Who cannot look what a crash left cannot know which state is in force.
            call != "open state.stale" && names.any(|name| name == "state.making" || name == "state.stale")
        },
        scenario: "opened 5",
        vital: |_| false,
        loud: |_| false,
        check: |disk, trace| check::store(disk, &told(trace), &[]),
    };
    let most = if is_long() { (usize::MAX, usize::MAX) } else { (12, 24) };
    case.each("faults, anew", (|call| call.starts_with("rename") || call == "sync ", most.0, most.1));
}

// Red with the publisher going on after an error.
#[test]
fn whatever_fails_under_the_host_nothing_acknowledged_is_lost() {
    let case = Case {
        before: None,
        harmless: |_| false,
        scenario: "host 4",
        vital: |call| {
            let (what, path) = call.split_once(' ').unwrap();
            let path = path.strip_prefix("home/").unwrap_or(path);
            let writes = ["write", "sync", "rename", "create"].contains(&what);
            writes && ["audit/", "evidence/", "state/journal"].iter().any(|part| path.starts_with(part))
        },
        loud: |call| {
            call.ends_with("home/state/db") && (call.starts_with("write") || call.starts_with("sync"))
        },
        check: |disk, trace| check::host(disk, &told(trace), &[]),
    };
    let most = if is_long() { (usize::MAX, usize::MAX) } else { (8, 6) };
    case.each("faults, host", (|call| call.starts_with("sync home/audit"), most.0, most.1));
}
