//! From a flow to a template and what differs from it, as small as the batch's format allows.
//!
//! Two things make it small. The template takes of each part the value that saves most when it is said once. And jobs are put
//! level by level (first those that wait for nobody, then those that wait for these, …), so that jobs that were added in turns
//! but belong together stand together, and who waits for all of them says one range.

use std::collections::HashMap;

use serde_json::to_string as json;
use strongroom_job::{After, BodyError, Input, JobId, On, Task, Variation};

use super::Flow;
use crate::Error;

/// A flow as it is signed.
#[derive(Debug)]
pub(crate) struct Compiled {
    pub(crate) template: Task,
    /// In the order of the batch.
    pub(crate) jobs: Vec<Variation>,
}

/// Makes a batch of `flow`, whose jobs are `tasks` and get `ids`, both in the order in which they were added.
///
/// # Errors
/// Names the job by its place in the flow and the rule that it breaks.
pub(crate) fn compile(flow: &Flow, mut tasks: Vec<Task>, ids: &[JobId]) -> Result<Compiled, Error> {
    let edges = flow.edges()?;
    let order = by_level(&edges);
    let mut places = vec![0; order.len()];
    for (place, job) in (0u32..).zip(&order) {
        places[*job] = place;
    }
    for (task, edges) in tasks.iter_mut().zip(&edges) {
        let edges = edges.iter().map(|(before, on)| (places[*before as usize], *on)).collect();
        task.plan.after = ranges(edges, matches!(task.input, Input::Outputs { .. }));
    }
    for (index, (task, id)) in tasks.iter().zip(ids).enumerate() {
        task.check().map_err(|error| BodyError::BatchTask { index, id: *id, error })?;
    }
    let Some(first) = tasks.first() else { return Err(BodyError::BatchSize(0).into()) };
    for (place, task) in tasks.iter().enumerate() {
        have_in_common(first, task, place)?;
    }
    let template = template(first, &tasks);
    let jobs = order.iter().map(|job| difference(&template, &tasks[*job], ids[*job])).collect();
    Ok(Compiled { template, jobs })
}

/// The jobs in the order of how many others, one after the other, must be over before each.
fn by_level(edges: &[Vec<(u32, On)>]) -> Vec<usize> {
    let mut levels: Vec<usize> = Vec::with_capacity(edges.len());
    for before in edges {
        // Those that it waits for were added, and so counted, before it.
        let below = before.iter().map(|(place, _)| levels[*place as usize] + 1).max();
        levels.push(below.unwrap_or(0));
    }
    let mut order: Vec<usize> = (0..edges.len()).collect();
    order.sort_by_key(|job| levels[*job]);
    order
}

/// Places as ranges. `ordered`: the job reads their outputs in the order in which they were named, so that must stay.
fn ranges(mut edges: Vec<(u32, On)>, ordered: bool) -> Vec<After> {
    if !ordered {
        edges.sort_by_key(|(place, on)| (*on as u8, *place));
    }
    let mut all: Vec<After> = Vec::new();
    for (place, on) in edges {
        match all.last_mut() {
            Some(last) if last.on == on && *last.places().end() + 1 == place => last.last = Some(place),
            _ => all.push(After { first: place, last: None, on }),
        }
    }
    all
}

/// What a batch says once for all of its jobs.
fn have_in_common(first: &Task, task: &Task, place: usize) -> Result<(), Error> {
    let field = if task.queue != first.queue {
        "queue"
    } else if task.priority != first.priority {
        "priority"
    } else if task.labels != first.labels {
        "labels"
    } else if task.idempotent != first.idempotent {
        "idempotent"
    } else {
        return Ok(());
    };
    let problem = format!(
        "job {place} of the flow has another one than job 0, and all jobs of a flow have it in common"
    );
    Err(Error::InvalidField { field, problem })
}

/// Of each part the value that saves most. If those do not go together, such as a variable of one job and a secret of another
/// in the same variable, the first job as it is: a template must be a good task by itself.
fn template(first: &Task, tasks: &[Task]) -> Task {
    let best = Task {
        module: best(tasks, |task| json(&task.module)).module,
        args: best(tasks, |task| json(&task.args)).args.clone(),
        env: best(tasks, |task| json(&task.env)).env.clone(),
        input: best(tasks, |task| json(&task.input)).input.clone(),
        capabilities: best(tasks, |task| json(&task.capabilities)).capabilities.clone(),
        limits: best(tasks, |task| json(&task.limits)).limits.clone(),
        plan: best(tasks, |task| json(&task.plan)).plan.clone(),
        ..first.clone()
    };
    if best.check().is_ok() { best } else { first.clone() }
}

/// The task whose part, said once, saves the most bytes; the first of them if there are several.
fn best(tasks: &[Task], part: impl Fn(&Task) -> serde_json::Result<String>) -> &Task {
    let mut counts: HashMap<String, (usize, usize)> = HashMap::new();
    for (place, task) in tasks.iter().enumerate() {
        // Plain data serializes; if it ever did not, a larger batch would be all that comes of it.
        counts.entry(part(task).unwrap_or_default()).or_insert((0, place)).0 += 1;
    }
    let saved = counts.iter().max_by_key(|(text, (count, place))| (text.len() * count, usize::MAX - place));
    saved.map_or(&tasks[0], |(_, (_, place))| &tasks[*place])
}

fn difference(template: &Task, task: &Task, id: JobId) -> Variation {
    fn differs<T: Clone + PartialEq>(template: &T, own: &T) -> Option<T> {
        (template != own).then(|| own.clone())
    }
    Variation {
        id,
        args: differs(&template.args, &task.args),
        env: differs(&template.env, &task.env),
        input: differs(&template.input, &task.input),
        module: differs(&template.module, &task.module),
        capabilities: differs(&template.capabilities, &task.capabilities).map(Box::new),
        limits: differs(&template.limits, &task.limits).map(Box::new),
        plan: differs(&template.plan, &task.plan).map(Box::new),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

    use strongroom_job::{
        BatchBody, Context, Digest, Envelope, JobBody, ModuleRef, SecretKey, Timestamp, sign_batch,
    };

    use zeroize::Zeroizing;

    use super::*;
    use crate::{FlowJob, Handle, Job};

    fn job(name: &str) -> Job {
        Job::new(ModuleRef { digest: Digest::of(b"module"), length: 6 }).arg(name)
    }

    fn compiled(flow: &Flow) -> Result<(Compiled, Vec<JobId>), Error> {
        let tasks = flow.jobs().iter().map(|job| {
            let input = job.input().cloned().unwrap_or(Input::Empty);
            job.job().task_at(input, Timestamp::from_millis(0))
        });
        let ids: Vec<JobId> = (0..flow.len() as u128).map(|n| JobId::from_bytes(n.to_be_bytes())).collect();
        Ok((compile(flow, tasks.collect::<Result<_, _>>()?, &ids)?, ids))
    }

    /// As a host sees it: signed, verified, expanded. With the envelope's length.
    fn admitted(flow: &Flow) -> (Vec<JobBody>, usize) {
        let (Compiled { template, jobs }, ids) = compiled(flow).unwrap();
        let key = SecretKey::from_seed(&Zeroizing::new([7; 32]));
        let time = Timestamp::from_millis(0);
        let context = Context {
            audience: key.public(),
            tenant: "acme".parse().unwrap(),
            issued_at: time,
            not_before: time,
            not_after: time,
            salt: ids[0],
        };
        let envelope = sign_batch(&BatchBody::new(context, template, jobs), &key).unwrap();
        let verified = Envelope::parse(envelope.as_bytes()).unwrap().verify(&key.public()).unwrap();
        (verified.into_iter().map(|job| job.body().clone()).collect(), envelope.as_bytes().len())
    }

    /// For each job, by its first argument, those that it waits for and how.
    fn waits(flow: &Flow) -> Vec<(String, Vec<(String, On)>)> {
        let (bodies, _) = admitted(flow);
        let name = |place: usize| bodies[place].task.args[0].clone();
        let edges = |body: &JobBody| {
            let after = body.task.plan.after.iter();
            after.flat_map(|after| after.places().map(|place| (name(place as usize), after.on))).collect()
        };
        bodies.iter().map(|body| (body.task.args[0].clone(), edges(body))).collect()
    }

    #[test]
    fn edges_mean_what_was_said() {
        let mut flow = Flow::new();
        let a = flow.add(job("a"));
        let b = flow.add(job("b").after(a));
        let c = flow.add(job("c"));
        flow.add(job("d").after_failure_of(b).after_end_of(c).after(a).after(a));
        let last = flow.chain([job("e"), job("f"), job("g")]).unwrap();
        assert_eq!(last.index(), 6);
        let edge = |name: &str, on| (name.to_owned(), on);
        let mut all = waits(&flow);
        all.sort_by(|one, other| one.0.cmp(&other.0));
        let expected: Vec<(String, Vec<(String, On)>)> = vec![
            ("a".into(), vec![]),
            ("b".into(), vec![edge("a", On::Success)]),
            ("c".into(), vec![]),
            ("d".into(), vec![edge("a", On::Success), edge("b", On::Failure), edge("c", On::End)]),
            ("e".into(), vec![]),
            ("f".into(), vec![edge("e", On::Success)]),
            ("g".into(), vec![edge("f", On::Success)]),
        ];
        assert_eq!(all, expected);
    }

    #[test]
    fn outputs_are_read_in_the_order_in_which_jobs_were_named() {
        let mut flow = Flow::new();
        let [a, b, c] = ["a", "b", "c"].map(|name| flow.add(job(name)));
        flow.add(job("d").after_all([c, a, b]).stdin_from_outputs());
        flow.add(job("e").after_all([c, a, b]).stdin_from_artifacts("part.csv"));
        let (bodies, _) = admitted(&flow);
        let one = |first, last| After { first, last, on: On::Success };
        assert_eq!(bodies[3].task.plan.after, [one(2, None), one(0, Some(1))]);
        assert_eq!(bodies[3].task.input, Input::Outputs { artifact: None });
        assert_eq!(bodies[4].task.input, Input::Outputs { artifact: Some("part.csv".into()) });
        assert_eq!(bodies[0].task.input, Input::Empty);
    }

    // Red without `by_level`: the sum would wait for 4,999 single places, of which 64 are allowed.
    #[test]
    fn ten_thousand_jobs_fit_also_when_they_were_added_in_turns() {
        let mut flow = Flow::new();
        let start = flow.add(job("start").read_volume("docs", "/docs"));
        let parsed: Vec<Handle> = (0..4_999)
            .map(|part| {
                let fetched = flow.add(job(&format!("fetch {part}")).after(start));
                flow.add(job(&format!("parse {part}")).after(fetched).stdin_from_outputs())
            })
            .collect();
        let sum = flow.add(job("sum").after_all(parsed.clone()).stdin_from_outputs());
        assert_eq!((flow.len(), sum.index()), (10_000, 9_999));
        let (bodies, length) = admitted(&flow);
        assert!(length < 2_000_000, "{length}");
        let last = &bodies[9_999].task;
        assert_eq!(last.plan.after, [After { first: 5_000, last: Some(9_998), on: On::Success }]);
        let (parse, fetch) = (&bodies[5_000 + 17].task, &bodies[1 + 17].task);
        assert_eq!((parse.args[0].as_str(), fetch.args[0].as_str()), ("parse 17", "fetch 17"));
        assert_eq!(parse.plan.after, [After::success_of(18)]);
        assert_eq!(bodies[0].task.capabilities.mounts.len(), 1);
        assert!(parse.capabilities.mounts.is_empty());
    }

    #[test]
    fn a_chain_of_ten_thousand_fits() {
        let mut flow = Flow::new();
        flow.chain((0..10_000).map(|_| job("step")));
        let (bodies, length) = admitted(&flow);
        assert_eq!(bodies[9_999].task.plan.after, [After::success_of(9_998)]);
        assert!(length < 1_500_000, "{length}");
    }

    #[test]
    fn what_is_common_is_said_once() {
        let mut flow = Flow::new();
        let first = flow.add(job("a").timeout(std::time::Duration::from_secs(9)));
        for _ in 0..3 {
            flow.add(job("b").memory(1 << 20).env("K", "V").after(first));
        }
        let (Compiled { template, jobs }, _) = compiled(&flow).unwrap();
        assert_eq!((template.args[0].as_str(), template.limits.memory_bytes), ("b", 1 << 20));
        assert_eq!(template.plan.after, [After::success_of(0)]);
        for job in &jobs[1..] {
            assert_eq!(*job, Variation::of(job.id));
        }
        assert!(jobs[0].limits.is_some() && jobs[0].plan.as_ref().unwrap().is_default());
    }

    // Red without the test of the template: two jobs that are good would make a batch that is not.
    #[test]
    fn parts_that_do_not_go_together_are_not_mixed() {
        let mut flow = Flow::new();
        for _ in 0..3 {
            flow.add(job("a").env("TOKEN", "a long value of a variable that two jobs have"));
        }
        for _ in 0..4 {
            flow.add(job("b").secret_env("token", "TOKEN").connect("db.example.com:5432"));
        }
        let (bodies, _) = admitted(&flow);
        assert_eq!(bodies.iter().filter(|body| body.task.capabilities.secrets.is_empty()).count(), 3);
    }

    #[test]
    fn a_mistake_names_the_job_by_its_place_in_the_flow() {
        let problem = |flow: &Flow| compiled(flow).unwrap_err().to_string();
        let mut flow = Flow::new();
        let other = Flow::new().add(job("of another flow"));
        flow.add(job("a"));
        flow.add(job("b").after(other));
        let text = problem(&flow);
        assert!(text.ends_with("after: job 1 of the flow waits for a job of another flow"), "{text}");

        let mut flow = Flow::new();
        let first = flow.add(job("a"));
        flow.add(job("b").after(first).after_failure_of(first));
        let text = problem(&flow);
        assert!(text.ends_with("job 1 of the flow waits for two different ends of job 0"), "{text}");

        let mut flow = Flow::new();
        assert!(problem(&flow).contains("a batch of 0 jobs"));
        flow.add(job("a"));
        flow.add(job("b").queue("night"));
        assert!(problem(&flow).contains("queue: job 1 of the flow has another one than job 0"));

        let mut flow = Flow::new();
        flow.add(job("a"));
        flow.add(job("bad \0"));
        assert!(problem(&flow).contains("job 1 of the batch"), "{}", problem(&flow));
        let mut flow = Flow::new();
        flow.add(FlowJob::from(job("a")).stdin_from_outputs());
        assert!(problem(&flow).contains("input.outputs: the job waits for no other job"));
    }
}
