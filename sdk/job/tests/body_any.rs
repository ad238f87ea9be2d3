//! Any body that keeps the rules signs, parses and verifies to itself; any bytes at all are refused without a panic.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod fixtures;

use std::collections::{BTreeMap, BTreeSet};

use fixtures::{context, host, principal, small_task};
use proptest::collection::{btree_map, vec};
use proptest::prelude::*;
use strongroom_job::{
    Access, Base64Bytes, BatchBody, Capabilities, Context, Digest, Envelope, Input, JobBody, JobId, Limits,
    ModuleRef, Mount, MountSource, Name, Record, Request, Response, Task, Timestamp, Variation, VerifiedJob,
    frame, sign_batch, sign_job,
};

fn text() -> impl Strategy<Value = String> {
    // Everything but NUL, the control characters with preference.
    prop_oneof!["[\u{1}-\u{7f}]{0,40}", "\\PC{0,40}"]
}

fn env() -> impl Strategy<Value = BTreeMap<String, String>> {
    btree_map("[A-Z_\u{1}é]{1,10}", text(), 0..6)
}

fn input() -> impl Strategy<Value = Input> {
    prop_oneof![
        Just(Input::Empty),
        vec(any::<u8>(), 0..200).prop_map(|bytes| Input::Inline(Base64Bytes(bytes))),
        (any::<[u8; 32]>(), any::<u64>())
            .prop_map(|(digest, length)| Input::Blob { digest: Digest::from_bytes(digest), length }),
    ]
}

fn name() -> impl Strategy<Value = Name> {
    "[a-z0-9][a-z0-9._-]{0,63}".prop_map(|text| text.parse().unwrap())
}

fn path() -> impl Strategy<Value = String> {
    vec("[a-zA-Z0-9 \"\\\\é…]{1,12}", 0..4).prop_map(|parts| format!("/{}", parts.join("/")))
}

fn mounts() -> impl Strategy<Value = Vec<Mount>> {
    let source = prop_oneof![name().prop_map(MountSource::Volume), path().prop_map(MountSource::Directory)];
    let mount = (source, path(), any::<bool>()).prop_map(|(source, path, write)| {
        let access = if write { Access::ReadWrite } else { Access::Read };
        Mount { source, path, access }
    });
    vec(mount, 0..6).prop_map(|mut mounts| {
        let mut paths = BTreeSet::new();
        mounts.retain(|mount| paths.insert(mount.path.clone()));
        mounts
    })
}

fn limits() -> impl Strategy<Value = Limits> {
    let bound = || 1..=u64::MAX;
    (bound(), proptest::option::of(bound()), bound(), any::<u64>(), any::<u64>()).prop_map(
        |(memory_bytes, fuel, wall_ms, stdout_bytes, stderr_bytes)| Limits {
            memory_bytes,
            fuel,
            wall_ms,
            stdout_bytes,
            stderr_bytes,
        },
    )
}

fn task() -> impl Strategy<Value = Task> {
    let labels = btree_map("\\PC{1,20}", "\\PC{0,20}", 0..4);
    let parts = (vec(text(), 0..8), env(), input(), mounts(), limits(), labels);
    let rest = (any::<u64>(), any::<(bool, bool, bool)>(), name(), -100i8..=100);
    (parts, rest).prop_map(|(parts, (length, (clock, random, idempotent), queue, priority))| {
        let (args, env, input, mounts, limits, labels) = parts;
        Task {
            module: ModuleRef { length, ..fixtures::module() },
            args,
            env,
            input,
            capabilities: Capabilities { mounts, clock, random },
            limits,
            queue,
            priority,
            idempotent,
            labels,
            ..small_task()
        }
    })
}

fn body() -> impl Strategy<Value = JobBody> {
    (any::<([u8; 16], [u8; 16])>(), any::<[u64; 3]>(), name(), task()).prop_map(
        |((id, salt), [issued_at, not_before, not_after], tenant, task)| {
            let context = Context {
                tenant,
                issued_at: Timestamp::from_millis(issued_at),
                not_before: Timestamp::from_millis(not_before),
                not_after: Timestamp::from_millis(not_after),
                salt: JobId::from_bytes(salt),
                ..context()
            };
            JobBody::new(JobId::from_bytes(id), context, task)
        },
    )
}

fn verify(bytes: &[u8]) -> Vec<JobBody> {
    let jobs = Envelope::parse(bytes).unwrap().verify(&principal().public()).unwrap();
    jobs.into_iter().map(VerifiedJob::into_body).collect()
}

proptest! {
    #[test]
    fn any_valid_job_verifies_to_itself(body in body()) {
        let envelope = sign_job(&body, &principal()).unwrap();
        prop_assert_eq!(verify(envelope.as_bytes()), [body]);
        prop_assert!(Envelope::parse(envelope.as_bytes()).unwrap().verify(&host().public()).is_err());
    }

    #[test]
    fn any_valid_batch_is_its_jobs_each_as_if_signed_alone(
        template in task(),
        changes in vec((proptest::option::of(vec(text(), 0..4)), proptest::option::of(env()), proptest::option::of(input())), 1..8),
    ) {
        let jobs: Vec<Variation> = (0..).zip(changes).map(|(number, (args, env, input))| {
            Variation { id: fixtures::id(number), args, env, input }
        }).collect();
        let expected: Vec<JobBody> = jobs.iter().map(|job| {
            let mut task = template.clone();
            if let Some(args) = &job.args { task.args.clone_from(args); }
            if let Some(env) = &job.env { task.env.clone_from(env); }
            if let Some(input) = &job.input { task.input = input.clone(); }
            JobBody::new(job.id, context(), task)
        }).collect();
        let envelope = sign_batch(&BatchBody::new(context(), template, jobs), &principal()).unwrap();
        prop_assert_eq!(verify(envelope.as_bytes()), &*expected);
        for body in expected {
            let alone = sign_job(&body, &principal()).unwrap();
            prop_assert_eq!(verify(alone.as_bytes()), [body]);
        }
    }

    #[test]
    fn random_bytes_are_refused(bytes in vec(any::<u8>(), 0..500)) {
        prop_assert!(Envelope::parse(&bytes).is_err());
        prop_assert!(Record::from_leaf(&bytes).is_err());
        prop_assert!(frame::parse_header::<Request>(&bytes).is_err());
        prop_assert!(frame::parse_header::<Response>(&bytes).is_err());
    }

    /// Text that looks like JSON gets further in; a signature over it gets it to the body's parser.
    #[test]
    fn signed_nonsense_is_refused(text in "[\\[\\]{}\",:0-9a-z.\\\\ -]{0,300}", batch: bool) {
        let kind = if batch { strongroom_job::BATCH_PAYLOAD_TYPE } else { strongroom_job::JOB_PAYLOAD_TYPE };
        let head = format!("DSSEv1 {} {kind} {} ", kind.len(), text.len());
        let sig = Base64Bytes(principal().sign(format!("{head}{text}").as_bytes()).as_bytes().to_vec());
        let payload = Base64Bytes(text.into_bytes());
        let json = serde_json::json!({ "payloadType": kind, "payload": payload, "signatures": [{ "sig": sig }] });
        let envelope = Envelope::parse(json.to_string().as_bytes()).unwrap();
        let error = envelope.verify(&principal().public()).expect_err("no body");
        prop_assert!(matches!(error, strongroom_job::EnvelopeError::Body(_)), "{error:?}");
    }
}
