//! A batch is exactly its jobs: all of them or none, each as if it had been signed alone, in bounded memory.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod fixtures;

use std::collections::BTreeMap;

use fixtures::{batch, context, flow, full_task, id, module, plan, principal, small_task, wide_task};
use strongroom_job::{
    After, BatchBody, BodyError, Envelope, EnvelopeError, Input, JobBody, MAX_BATCH_JOBS, MAX_EXPANDED_BYTES,
    MAX_JOB_BODY_BYTES, ModuleRef, Plan, Task, Variation, VerifiedJob, sign_batch, sign_job,
};

fn expand(body: &BatchBody) -> Result<Vec<JobBody>, BodyError> {
    let envelope = sign_batch(body, &principal())?;
    let jobs = Envelope::parse(envelope.as_bytes()).unwrap().verify(&principal().public()).unwrap();
    assert!(
        jobs.iter().all(|job| job.envelope() == envelope.digest() && job.signer() == &principal().public())
    );
    Ok(jobs.into_iter().map(VerifiedJob::into_body).collect())
}

fn of(template: Task, jobs: Vec<Variation>) -> BatchBody {
    BatchBody::new(context(), template, jobs)
}

fn many(count: usize) -> Vec<Variation> {
    (0..count).map(|number| Variation::of(id(u16::try_from(number).unwrap()))).collect()
}

#[test]
fn each_job_is_the_template_with_its_own_parts() {
    let jobs = batch().jobs;
    let expected = |number: u16, task: Task| JobBody::new(id(number), context(), task);
    let template = full_task();
    assert_eq!(
        expand(&batch()).unwrap(),
        [
            expected(1, template.clone()),
            expected(2, Task { args: jobs[1].args.clone().unwrap(), ..template.clone() }),
            expected(3, Task { env: BTreeMap::new(), ..template.clone() }),
            expected(4, Task { input: jobs[3].input.clone().unwrap(), ..template }),
        ]
    );
}

#[test]
fn a_flow_gives_each_job_its_own_module_rights_and_plan() {
    let jobs = expand(&flow()).unwrap();
    let wide = wide_task();
    assert_eq!(jobs[0].task, small_task());
    assert_eq!((jobs[1].task.module.length, &jobs[1].task.capabilities), (9, &small_task().capabilities));
    assert_eq!((jobs[2].task.module.length, &jobs[2].task.capabilities), (8, &wide.capabilities));
    assert_eq!(jobs[3].task.limits, wide.limits);
    let after: Vec<Vec<_>> =
        jobs.iter().map(|job| job.task.plan.after.iter().flat_map(After::places).collect()).collect();
    assert_eq!(after, [vec![], vec![0], vec![0], vec![1, 2], vec![3, 0]]);
}

// Red without `flow::check` in `expand`, and without the test of `after` in `JobBody::parse`.
#[test]
fn what_nobody_can_wait_for_is_refused() {
    let waits = |place| Plan { after: vec![After::success_of(place)], ..Plan::default() };
    let on = |plan: Plan| Variation { plan: Some(Box::new(plan)), ..Variation::of(id(9)) };
    let circle = of(small_task(), vec![Variation::of(id(1)), on(waits(1))]);
    assert_eq!(expand(&circle), Err(BodyError::Cycle(1)));
    let alone = JobBody::new(id(1), context(), Task { plan: waits(0), ..small_task() });
    let error = sign_job(&alone, &principal()).expect_err("there is nobody to wait for");
    assert!(error.to_string().ends_with("plan.after: only a job of a batch can wait for others"), "{error}");
    // A template that waits makes each of its jobs wait, also the one that it waits for.
    let template = Task { plan: waits(0), ..small_task() };
    assert_eq!(expand(&of(template.clone(), many(3))), Err(BodyError::Cycle(0)));
    let mut jobs = many(3);
    jobs[0].plan = Some(Box::default());
    assert_eq!(expand(&of(template, jobs)).map(|jobs| jobs.len()), Ok(3));
}

// Red without `check_with` in `expand`: each part is good alone.
#[test]
fn parts_of_a_job_are_held_against_each_other() {
    let outputs = Variation { input: Some(Input::Outputs { artifact: None }), ..Variation::of(id(1)) };
    let error = expand(&of(small_task(), vec![outputs])).expect_err("it waits for nobody");
    assert!(error.to_string().contains("input.outputs: the job waits for no other job"), "{error}");
    let asked = Some(Box::new(wide_task().capabilities));
    let env = Some(BTreeMap::from([("API_TOKEN".to_owned(), String::new())]));
    let both = Variation { capabilities: asked, env, ..Variation::of(id(1)) };
    let error = expand(&of(small_task(), vec![both])).expect_err("a variable that is a secret, too");
    assert!(error.to_string().contains("sets the variable API_TOKEN itself"), "{error}");
}

// Red without the sizes of the parts in `check_sizes`.
#[test]
fn every_part_that_a_job_replaces_counts() {
    let labels = (0..32).map(|number| (format!("{number:0>256}"), "x".repeat(256))).collect();
    let long = Plan { requires: labels, unique: None, ..plan() };
    let many = |count: u16| {
        let one = |number| Variation { plan: Some(Box::new(long.clone())), ..Variation::of(id(number)) };
        of(small_task(), (0..count).map(one).collect())
    };
    assert_eq!(expand(&many(200)).map(|jobs| jobs.len()), Ok(200));
    // As a template the plan stands there once: what is copied is counted all the same.
    let template = Task { plan: long, ..small_task() };
    let Err(BodyError::BatchTooLarge(bytes)) = expand(&of(template, self::many(5_000))) else {
        panic!("gigabytes were taken")
    };
    assert!(bytes > 5_000 * 32 * 512, "{bytes}");
}

// Red without the test of the count in `expand`.
#[test]
fn a_batch_has_1_to_10_000_jobs() {
    assert_eq!(expand(&of(small_task(), Vec::new())), Err(BodyError::BatchSize(0)));
    assert_eq!(expand(&of(small_task(), many(1))).map(|jobs| jobs.len()), Ok(1));
    let jobs = expand(&of(small_task(), many(MAX_BATCH_JOBS))).unwrap();
    assert_eq!(jobs.len(), MAX_BATCH_JOBS);
    assert!(jobs.iter().zip(0..).all(|(job, number)| job.id == id(number) && job.task == small_task()));
    let over = of(small_task(), many(MAX_BATCH_JOBS + 1));
    assert_eq!(expand(&over), Err(BodyError::BatchSize(10_001)));
}

// Red without the `ids` set in `expand`.
#[test]
fn an_id_stands_once() {
    let mut jobs = many(100);
    jobs[99].id = id(40);
    assert_eq!(expand(&of(small_task(), jobs)), Err(BodyError::DuplicateId(id(40))));
}

// Red without `job.check()`, or without `template.check()`, in `expand`.
#[test]
fn one_wrong_job_refuses_the_batch_and_is_named() {
    let nul = || Some(vec!["\0".to_owned()]);
    let mut jobs = many(5);
    jobs[3].args = nul();
    let error = expand(&of(small_task(), jobs)).expect_err("a NUL in an argument");
    assert!(matches!(error, BodyError::BatchTask { index: 3, .. }));
    assert_eq!(
        error.to_string(),
        format!("job 3 of the batch ({}) is wrong: args[0]: holds a NUL byte", id(3))
    );

    let mut jobs = many(2);
    jobs[1].env = Some(BTreeMap::from([("=".to_owned(), String::new())]));
    assert!(matches!(expand(&of(small_task(), jobs)), Err(BodyError::BatchTask { index: 1, .. })));
    let mut jobs = many(2);
    jobs[1].input = Some(Input::Inline(strongroom_job::Base64Bytes(vec![0; 16 * 1024 + 1])));
    assert!(matches!(expand(&of(small_task(), jobs)), Err(BodyError::BatchTask { index: 1, .. })));

    // Also when every job replaces the wrong part.
    let wrong = Task { args: nul().unwrap(), ..small_task() };
    let jobs = vec![Variation { args: Some(Vec::new()), ..Variation::of(id(1)) }];
    assert!(matches!(expand(&of(wrong, jobs)), Err(BodyError::Task(_))));
    let wrong = Task { priority: 101, ..small_task() };
    assert!(matches!(expand(&of(wrong, many(1))), Err(BodyError::Task(_))));
}

/// No batch carries a job that its principal could not have signed alone; the computed length is the real one.
// Red without the test of `size.json` in `check_sizes`.
#[test]
fn a_job_of_a_batch_is_no_longer_than_a_job_alone() {
    let alone = |text: usize, extra: &Variation| {
        let template = Task { args: vec!["\u{1}\"".repeat(text)], ..full_task() };
        let task = Task {
            env: extra.env.clone().unwrap_or_else(|| template.env.clone()),
            input: extra.input.clone().unwrap_or_else(|| template.input.clone()),
            module: extra.module.unwrap_or(template.module),
            capabilities: extra.capabilities.as_deref().unwrap_or(&template.capabilities).clone(),
            limits: extra.limits.as_deref().unwrap_or(&template.limits).clone(),
            plan: extra.plan.as_deref().unwrap_or(&template.plan).clone(),
            ..template.clone()
        };
        let body = JobBody::new(extra.id, context(), task);
        (serde_json::to_vec(&body).unwrap().len(), sign_job(&body, &principal()).is_ok(), template)
    };
    let variations = [
        Variation::of(id(7)),
        Variation { env: Some(BTreeMap::from([("A".into(), "ü\n".into())])), ..Variation::of(id(7)) },
        Variation { input: Some(Input::Empty), ..Variation::of(id(7)) },
        Variation { module: Some(ModuleRef { length: 1 << 20, ..module() }), ..Variation::of(id(7)) },
        Variation { capabilities: Some(Box::new(wide_task().capabilities)), ..Variation::of(id(7)) },
        Variation { limits: Some(Box::new(wide_task().limits)), ..Variation::of(id(7)) },
        Variation { plan: Some(Box::new(plan())), ..Variation::of(id(7)) },
    ];
    for variation in variations {
        // Each "\u0001\"" takes 8 bytes of JSON; the exact border is met from both sides.
        let (base, ..) = alone(0, &variation);
        let most = (MAX_JOB_BODY_BYTES - base) / 8;
        let (length, fits, template) = alone(most, &variation);
        assert!(fits && length <= MAX_JOB_BODY_BYTES && length > MAX_JOB_BODY_BYTES - 8);
        assert!(expand(&of(template, vec![variation.clone()])).is_ok());
        let (length, fits, template) = alone(most + 1, &variation);
        assert!(!fits);
        let error = expand(&of(template, vec![variation.clone()]));
        assert_eq!(error, Err(BodyError::JobTooLong { index: 0, id: id(7), length }));
    }
}

/// 10,000 copies of a template of 60 KB would take 600 MB; nothing is copied before that is known.
// Red without the test of the total in `check_sizes`.
#[test]
fn a_batch_does_not_expand_without_bound() {
    let template = || Task { args: vec!["x".repeat(60_000)], ..small_task() };
    let result = expand(&of(template(), many(MAX_BATCH_JOBS)));
    let Err(BodyError::BatchTooLarge(total)) = result else { panic!("a bomb was taken") };
    assert!(total > 600_000_000, "{total}");
    assert!(expand(&of(template(), many(MAX_EXPANDED_BYTES / 62_000))).is_ok());
    assert!(matches!(
        expand(&of(template(), many(MAX_EXPANDED_BYTES / 60_000))),
        Err(BodyError::BatchTooLarge(_))
    ));
    // Empty arguments take memory too.
    let empty = Task { args: vec![String::new(); 1024], ..small_task() };
    assert!(matches!(expand(&of(empty, many(1100))), Err(BodyError::BatchTooLarge(_))));
    // A template that every job replaces is not copied and does not count.
    let own = |job: Variation| Variation { args: Some(Vec::new()), ..job };
    let jobs = many(MAX_BATCH_JOBS).into_iter().map(own).collect();
    assert_eq!(expand(&of(template(), jobs)).map(|jobs| jobs.len()), Ok(MAX_BATCH_JOBS));
}

#[test]
fn a_batch_has_no_other_parts_than_these() {
    let body = serde_json::to_value(batch()).unwrap();
    for place in ["", "/context", "/template", "/jobs/0", "/jobs/3/input/blob"] {
        let mut body = body.clone();
        body.pointer_mut(place).unwrap()["network"] = serde_json::json!(1);
        let text = match serde_json::from_value::<BatchBody>(body) {
            Err(error) => error.to_string(),
            Ok(_) => panic!("{place} takes an unknown field"),
        };
        assert!(text.contains("unknown field `network`"), "{place}: {text}");
    }
    let old = BatchBody { version: 2, ..batch() };
    assert_eq!(sign_batch(&old, &principal()), Err(BodyError::Version(2)));
    let error = EnvelopeError::from(BodyError::Version(2)).to_string();
    assert_eq!(error, "the signed body has version 2; this host reads version 1");
}
