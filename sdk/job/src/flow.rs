//! Which jobs of a batch wait for which: every place exists, no circle, and the whole is of bounded size.
//!
//! *Spec:* `docs/formats/job.md`, "Jobs that wait for others".

use std::collections::HashSet;

use crate::body::{BodyError, MAX_EDGES, Variation};
use crate::{After, Plan, Task};

/// Checks what the jobs of a batch wait for. Each plan was checked alone before.
///
/// # Errors
/// A place that the batch does not have, the same place twice, more than [`MAX_EDGES`] edges, or a circle. Takes time linear in jobs and edges.
pub(crate) fn check(template: &Task, jobs: &[Variation]) -> Result<(), BodyError> {
    let plans: Vec<&Plan> = jobs.iter().map(|job| job.plan.as_deref().unwrap_or(&template.plan)).collect();
    let mut keys = HashSet::new();
    let keyed = plans
        .iter()
        .enumerate()
        .filter_map(|(index, plan)| Some((index, plan.unique.as_ref()?.key.as_str())));
    for (index, key) in keyed {
        if !keys.insert(key) {
            return Err(BodyError::KeyTwice { index });
        }
    }
    let count = jobs.len();
    let mut edges: usize = 0;
    for (index, plan) in plans.iter().enumerate() {
        for after in &plan.after {
            let place = *after.places().end();
            if place as usize >= count {
                return Err(BodyError::UnknownDependency { index, place, count });
            }
            edges = edges.saturating_add(after.places().count());
        }
    }
    if edges > MAX_EDGES {
        return Err(BodyError::TooManyDependencies(edges));
    }
    for (index, plan) in plans.iter().enumerate() {
        let mut seen = HashSet::new();
        if let Some(place) = plan.after.iter().flat_map(After::places).find(|place| !seen.insert(*place)) {
            return Err(BodyError::DependencyTwice { index, place });
        }
    }
    find_circle(&plans).map_or(Ok(()), |index| Err(BodyError::Cycle(index)))
}

/// Takes away jobs that wait for nobody until none are left; who is left then is part of a circle or waits for one.
fn find_circle(plans: &[&Plan]) -> Option<usize> {
    let waits_for = |index: usize| plans[index].after.iter().flat_map(|after| after.places());
    let mut followers: Vec<Vec<u32>> = vec![Vec::new(); plans.len()];
    let mut open = vec![0u32; plans.len()];
    for (index, place) in (0u32..).zip(0..plans.len()) {
        for before in waits_for(place) {
            followers[before as usize].push(index);
            open[place] += 1;
        }
    }
    let mut free: Vec<u32> =
        (0u32..).zip(&open).filter(|(_, open)| **open == 0).map(|(index, _)| index).collect();
    while let Some(done) = free.pop() {
        for follower in std::mem::take(&mut followers[done as usize]) {
            let open = &mut open[follower as usize];
            *open -= 1;
            if *open == 0 {
                free.push(follower);
            }
        }
    }
    // From who is left, going back from one to another that is left must meet somebody twice: that one is in a circle.
    let mut at = open.iter().position(|open| *open > 0)?;
    let mut seen = vec![false; plans.len()];
    while !std::mem::replace(&mut seen[at], true) {
        at = waits_for(at).map(|place| place as usize).find(|place| open[*place] > 0)?;
    }
    Some(at)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

    use std::collections::BTreeMap;

    use super::*;
    use crate::{Capabilities, Digest, Entry, Input, JobId, Limits, ModuleRef, Name, On, Taken, Unique};

    fn template() -> Task {
        Task {
            module: ModuleRef { digest: Digest::of(b"module"), length: 6 },
            entry: Entry::Command,
            args: Vec::new(),
            env: BTreeMap::new(),
            input: Input::Empty,
            capabilities: Capabilities::default(),
            limits: Limits::default(),
            queue: Name::default_name(),
            priority: 0,
            idempotent: false,
            labels: BTreeMap::new(),
            plan: Plan::default(),
        }
    }

    fn range(first: u32, last: u32) -> After {
        After { first, last: Some(last), on: On::End }
    }

    fn flow(after: &[Vec<After>]) -> Result<(), BodyError> {
        let plan = |after: &Vec<After>| Plan { after: after.clone(), ..Plan::default() };
        let job = |after| Variation {
            plan: Some(Box::new(plan(after))),
            ..Variation::of(JobId::from_bytes([0; 16]))
        };
        check(&template(), &after.iter().map(job).collect::<Vec<_>>())
    }

    #[test]
    fn any_graph_without_a_circle_passes() {
        let one = After::success_of;
        assert_eq!(flow(&[vec![], vec![one(0)], vec![one(1)], vec![one(0), one(2)]]), Ok(()));
        // Also when a job waits for one further down.
        assert_eq!(flow(&[vec![one(2)], vec![], vec![one(1)]]), Ok(()));
        let mut fan: Vec<Vec<After>> = vec![vec![]];
        fan.extend((1..9_999).map(|_| vec![one(0)]));
        fan.push(vec![range(1, 9_998)]);
        assert_eq!(flow(&fan), Ok(()));
        let chain: Vec<_> =
            (0..10_000u32).map(|at| at.checked_sub(1).map(one).into_iter().collect()).collect();
        assert_eq!(flow(&chain), Ok(()));
    }

    // Red without `find_circle`.
    #[test]
    fn a_circle_is_refused_and_one_of_it_named() {
        let one = After::success_of;
        assert_eq!(flow(&[vec![one(0)]]), Err(BodyError::Cycle(0)));
        let circle = [vec![], vec![one(0), one(3)], vec![one(1)], vec![one(2)], vec![one(3)]];
        let Err(BodyError::Cycle(at)) = flow(&circle) else { panic!("a circle was taken") };
        assert!((1..=3).contains(&at), "job {at} only waits for the circle");
        assert_eq!(flow(&[vec![range(0, 1)], vec![]]), Err(BodyError::Cycle(0)));
    }

    // Red without the test of the place.
    #[test]
    fn a_place_that_the_batch_does_not_have_is_refused() {
        let unknown = flow(&[vec![], vec![range(0, 2)]]);
        assert_eq!(unknown, Err(BodyError::UnknownDependency { index: 1, place: 2, count: 2 }));
        let far = flow(&[vec![], vec![After::success_of(u32::MAX)]]);
        assert_eq!(far, Err(BodyError::UnknownDependency { index: 1, place: u32::MAX, count: 2 }));
    }

    // Red without the set of keys: a job could wait for one in whose place it stands itself.
    #[test]
    fn a_unique_key_stands_once_in_a_batch() {
        let keyed = |key: &str| {
            let unique = Unique { key: key.into(), window_ms: 0, taken: Taken::Existing };
            let plan = Plan { unique: Some(unique), ..Plan::default() };
            Variation { plan: Some(Box::new(plan)), ..Variation::of(JobId::from_bytes([0; 16])) }
        };
        assert_eq!(check(&template(), &[keyed("a"), keyed("b")]), Ok(()));
        let twice = [keyed("a"), keyed("b"), keyed("a")];
        assert_eq!(check(&template(), &twice), Err(BodyError::KeyTwice { index: 2 }));
    }

    // Red without the set of places that were seen: which of the two counts?
    #[test]
    fn nobody_waits_twice_for_the_same_job() {
        let both = [vec![], vec![], vec![range(0, 1), After { on: On::Failure, ..After::success_of(1) }]];
        assert_eq!(flow(&both), Err(BodyError::DependencyTwice { index: 2, place: 1 }));
    }

    // Red without the bound: 25 million edges.
    #[test]
    fn the_whole_has_a_bounded_size() {
        let mut wide: Vec<Vec<After>> = vec![vec![]; 5_000];
        wide.extend((0..5_000).map(|_| vec![range(0, 4_999)]));
        assert_eq!(flow(&wide), Err(BodyError::TooManyDependencies(25_000_000)));
    }
}
