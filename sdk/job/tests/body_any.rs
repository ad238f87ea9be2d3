//! Any body that keeps the rules signs, parses and verifies to itself; any bytes at all are refused without a panic.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod fixtures;

use std::collections::{BTreeMap, BTreeSet};

use fixtures::{context, host, principal, small_task};
use proptest::collection::{btree_map, vec};
use proptest::prelude::*;
use strongroom_job::{
    Access, Base64Bytes, BatchBody, Capabilities, Context, Digest, Envelope, Input, JobBody, JobId, Limits,
    ModuleRef, Mount, MountSource, Name, Record, Request, Response, SCRATCH_PATH, SECRETS_PATH, SecretForm,
    SecretUse, Task, Timestamp, Variation, VerifiedJob, frame, sign_batch, sign_job,
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
    let below = (name(), path()).prop_filter_map("a path below", |(volume, path)| {
        let path = path.strip_prefix('/').filter(|below| !below.is_empty())?.to_owned();
        Some(MountSource::VolumePath { volume, path })
    });
    let volume = name().prop_map(MountSource::Volume);
    let source = prop_oneof![volume, path().prop_map(MountSource::Directory), below];
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
            ..Limits::default()
        },
    )
}

/// Limits that a body may leave out: at their default as often as not.
#[expect(clippy::needless_pass_by_value, reason = "what a strategy makes is handed on by value")]
fn more_limits(limits: Limits) -> impl Strategy<Value = Limits> {
    let bytes = || prop_oneof![Just(None), any::<u64>().prop_map(Some)];
    let count = || prop_oneof![Just(None), any::<u32>().prop_map(Some)];
    let cpu = proptest::option::of(1..=u64::MAX);
    let parts = (cpu, bytes(), bytes(), bytes(), bytes(), count(), count(), count(), count());
    parts.prop_map(move |(cpu_ms, disk, file, http, buffer, files, handles, sockets, instances)| Limits {
        cpu_ms,
        disk_bytes: disk.unwrap_or(limits.disk_bytes),
        file_bytes: file.unwrap_or(limits.file_bytes),
        http_bytes: http.unwrap_or(limits.http_bytes),
        host_buffer_bytes: buffer.unwrap_or(limits.host_buffer_bytes),
        files: files.unwrap_or(limits.files),
        handles: handles.unwrap_or(limits.handles),
        sockets: sockets.unwrap_or(limits.sockets),
        instances: instances.unwrap_or(limits.instances),
        ..limits
    })
}

fn protocol() -> impl Strategy<Value = &'static str> {
    prop_oneof![Just("tcp"), Just("udp")]
}

/// Texts that any of the three kinds of rule writes back as they are.
fn hosts() -> impl Strategy<Value = String> {
    let v4 = (any::<[u8; 4]>(), 0u8..=32).prop_map(|(address, length)| {
        let net = u32::from_be_bytes(address) & u32::MAX.checked_shl(32 - u32::from(length)).unwrap_or(0);
        let address = std::net::Ipv4Addr::from(net);
        if length == 32 { address.to_string() } else { format!("{address}/{length}") }
    });
    let v6 = any::<u128>().prop_map(|address| format!("[{}]", std::net::Ipv6Addr::from(address)));
    prop_oneof!["[a-z][a-z0-9]{0,9}(\\.[a-z]{2,5}){0,3}", v4, v6]
}

fn rules() -> impl Strategy<Value = Capabilities> {
    let ports = prop_oneof![Just("*".to_owned()), (1..=u16::MAX).prop_map(|port| port.to_string())];
    let connect = (protocol(), hosts(), ports)
        .prop_map(|(protocol, hosts, ports)| format!("{protocol}://{hosts}:{ports}").parse().unwrap());
    let listen = (protocol(), any::<std::net::IpAddr>(), 1..=u16::MAX).prop_map(|(protocol, ip, port)| {
        format!("{protocol}://{}", std::net::SocketAddr::from((ip, port))).parse().unwrap()
    });
    let scheme = prop_oneof![Just("https"), Just("http")];
    let http = ("(GET|PUT|\\*)", scheme, "[a-z]{1,9}\\.[a-z]{2,5}", 1..=u16::MAX, "(/[a-z\"~!]{1,9}){0,3}")
        .prop_map(|(methods, scheme, host, port, path)| {
            format!("{methods} {scheme}://{host}:{port}{path}").parse().unwrap()
        });
    let form = prop_oneof!["[A-Z_\"é]{1,10}".prop_map(SecretForm::Env), name().prop_map(SecretForm::File)];
    let secret = (name(), form).prop_map(|(name, form)| SecretUse { name, form });
    (vec(connect, 0..4), vec(listen, 0..4), vec(http, 0..4), vec(secret, 0..4), any::<bool>()).prop_map(
        |(connect, listen, http, mut secrets, scratch)| {
            let mut forms = BTreeSet::new();
            secrets.retain(|secret| forms.insert(secret.form.clone()));
            Capabilities { connect, listen, http, secrets, scratch, ..Capabilities::default() }
        },
    )
}

/// A job does not set what a secret sets.
fn without_clashes(task: &mut Task) {
    let Task { env, capabilities, .. } = task;
    let clashes =
        |secret: &SecretUse| matches!(&secret.form, SecretForm::Env(name) if env.contains_key(name));
    capabilities.secrets.retain(|secret| !clashes(secret));
    let reserved =
        |mount: &Mount| mount.path.starts_with(SCRATCH_PATH) || mount.path.starts_with(SECRETS_PATH);
    capabilities.mounts.retain(|mount| !reserved(mount));
}

fn task() -> impl Strategy<Value = Task> {
    let labels = btree_map("\\PC{1,20}", "\\PC{0,20}", 0..4);
    let limits = limits().prop_flat_map(more_limits);
    let parts = (vec(text(), 0..8), env(), input(), (mounts(), rules()), limits, labels);
    let rest = (any::<u64>(), any::<(bool, bool, bool)>(), name(), -100i8..=100);
    (parts, rest).prop_map(|(parts, (length, (clock, random, idempotent), queue, priority))| {
        let (args, env, input, (mounts, rules), limits, labels) = parts;
        let mut task = Task {
            module: ModuleRef { length, ..fixtures::module() },
            args,
            env,
            input,
            capabilities: Capabilities { mounts, clock, random, ..rules },
            limits,
            queue,
            priority,
            idempotent,
            labels,
            ..small_task()
        };
        without_clashes(&mut task);
        task
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
        let mut template = template;
        // What a variable of one job clashes with is another test's.
        template.capabilities.secrets.clear();
        let jobs: Vec<Variation> = (0..).zip(changes).map(|(number, (args, env, input))| {
            Variation { args, env, input, ..Variation::of(fixtures::id(number)) }
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
