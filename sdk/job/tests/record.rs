//! Audit records: one spelling each, always short enough for the log, and silent about private values.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod fixtures;

use fixtures::{full_task, id, principal, records};
use strongroom_job::{
    Access, Artifact, Capabilities, Denial, Digest, Event, GrantRecord, Limits, MAX_ARTIFACT_NAMES_BYTES,
    MAX_ARTIFACTS, MAX_DENIALS, MAX_MOUNTS, MAX_NAME_BYTES, MAX_PATH_BYTES, MAX_PATHS_BYTES,
    MAX_RECORD_BYTES, MAX_RULE_BYTES, MAX_RULES, MAX_RULES_BYTES, Mount, MountSource, Name, Outcome, Record,
    RecordError, SecretForm, SecretUse, Task, Timestamp, sign_job,
};

#[test]
fn a_record_is_about_its_job() {
    for (name, record) in records::records() {
        let expected = match &record.event {
            Event::HostStarted { .. }
            | Event::HostStopped {}
            | Event::ModuleRegistered { .. }
            | Event::QueueSet { .. }
            | Event::Forgotten { .. }
            | Event::ClockStepped { .. }
            | Event::ConfigurationChanged { .. }
            | Event::TrustChanged { .. }
            | Event::KeyRotated { .. }
            | Event::GrantAdded { .. }
            | Event::GrantsEnded { .. }
            | Event::PrincipalChanged { .. }
            | Event::Checked { .. }
            | Event::Erased { .. }
            | Event::StateRebuilt { .. } => None,
            Event::Refused { job, .. } => job.as_ref(),
            Event::Admitted { .. }
            | Event::Started { .. }
            | Event::CancelRequested { .. }
            | Event::Requeued { .. }
            | Event::Released { .. }
            | Event::Retried { .. }
            | Event::Merged { .. }
            | Event::Fired { .. }
            | Event::Missed { .. }
            | Event::Finished { .. } => Some(&id(1)),
        };
        assert_eq!(record.job(), expected, "{name}");
        let named = matches!(record.event, Event::Forgotten { .. });
        let erased = matches!(record.event, Event::Erased { .. });
        assert_eq!(record.concerns(&id(1)), named || erased || expected == Some(&id(1)), "{name}");
        assert_eq!(record.concerns(&id(9)), named, "{name}");
    }
}

// Red with `serde_json::from_slice` alone in `from_leaf`.
#[test]
fn a_leaf_has_one_spelling() {
    let leaf = |json: &str| Record::from_leaf(json.as_bytes());
    let good = r#"{"v":1,"time":5,"type":"started","job":"00000000000000000000000000000001","attempt":1}"#;
    let record = leaf(good).unwrap();
    assert_eq!(record.time, Timestamp::from_millis(5));
    assert_eq!(record.to_leaf(), good.as_bytes());
    let not_as_written = [
        good.replace(":1,\"time\"", ": 1,\"time\""),
        format!("{good}\n"),
        good.replace(r#""attempt":1"#, r#""attempt":1,"by":"somebody""#),
        good.replace(r#""v":1,"time":5,"#, r#""time":5,"v":1,"#),
        good.replace("started", "st\\u0061rted"),
    ];
    for text in not_as_written {
        assert_eq!(leaf(&text), Err(RecordError::NotAsWritten), "{text}");
    }
    let malformed = [
        good.replace(r#""attempt":1"#, r#""attempt":1,"attempt":1"#),
        good.replace(r#""attempt":1"#, r#""attempt":1.0"#),
        good.replace(r#","attempt":1"#, ""),
        good.replace("started", "vanished"),
        format!("{good}{good}"),
        String::new(),
        format!("{good}{}", " ".repeat(MAX_RECORD_BYTES)),
    ];
    for text in malformed {
        assert!(matches!(leaf(&text), Err(RecordError::Malformed(_))), "{text}");
    }
}

// Red without either of the two tests of the version: a record of version 2 is then malformed, or worse, read.
#[test]
fn a_newer_record_is_called_newer() {
    for version in [0, 2, 300, u64::MAX] {
        let leaf = format!(r#"{{"v":{version},"time":5,"type":"teleported","anything":{{"else":[]}}}}"#);
        assert_eq!(Record::from_leaf(leaf.as_bytes()), Err(RecordError::Version(version)));
        let alike = format!(r#"{{"v":{version},"time":5,"type":"host-stopped"}}"#);
        assert_eq!(Record::from_leaf(alike.as_bytes()), Err(RecordError::Version(version)));
    }
    assert!(RecordError::Version(2).to_string().contains("this program reads version 1"));
}

/// The log cannot hold a longer entry: no job and no guest may make one.
// Red with a `MAX_PATHS_BYTES` of 64 KiB, a `MAX_RULES_BYTES` of 24 KiB, a `MAX_ARTIFACT_NAMES_BYTES` of 24 KiB, or without
// `serialize_with` on a reason, a denial or a name.
#[test]
fn the_longest_records_fit_the_log() {
    let capabilities = longest_capabilities();
    let task = Task { capabilities, limits: longest_limits(), ..full_task() };
    assert!(sign_job(&fixtures::job(task.clone()), &principal()).is_ok(), "a job may ask for all this");
    let Event::Admitted { job, principal, envelope, module, .. } = records::admitted() else {
        panic!("admitted")
    };
    let tenant: Name = "t".repeat(64).parse().unwrap();
    let Capabilities { mounts, clock, random, scratch, connect, listen, http, secrets } = task.capabilities;
    let grant = GrantRecord { mounts, clock, random, scratch, connect, listen, http, secrets };
    let limits = task.limits;
    let admitted = Event::Admitted { job, principal, tenant, envelope, module, grant, limits };
    let faulted = records::finished(Outcome::Faulted { reason: "\"".repeat(1 << 20) });
    let trapped = records::finished(Outcome::Trapped { reason: "\u{1b}".repeat(1 << 20) });
    for event in
        [admitted, faulted, trapped].into_iter().flat_map(|event| [longest_end(event.clone()), event])
    {
        let leaf = Record::new(Timestamp::from_millis(u64::MAX), event).to_leaf();
        println!("{} of {MAX_RECORD_BYTES} bytes", leaf.len());
        assert!(leaf.len() <= MAX_RECORD_BYTES, "{} bytes", leaf.len());
        assert_eq!(Record::from_leaf(&leaf).unwrap().to_leaf(), leaf, "read back as it is");
        assert!(
            !String::from_utf8(leaf).unwrap().contains(char::is_control),
            "one line, nothing that moves a cursor"
        );
    }
}

/// Every path and every rule as long as may be, of characters that JSON writes as two.
fn longest_capabilities() -> Capabilities {
    let each = MAX_PATHS_BYTES / MAX_MOUNTS / 2 - 5;
    let volume: Name = "v".repeat(MAX_NAME_BYTES).parse().unwrap();
    let mount = |number: usize| Mount {
        source: MountSource::VolumePath { volume: volume.clone(), path: "\"".repeat(each - MAX_NAME_BYTES) },
        path: format!("/{number:02}{}", "\\".repeat(each - 2)),
        access: Access::ReadWrite,
    };
    // As many of each as there may be, and the room that is left for one that JSON doubles.
    let connect = vec!["a:1".parse().unwrap(); MAX_RULES];
    let listen = vec!["[::]:1".parse().unwrap(); MAX_RULES];
    let secret = |number: usize| SecretUse {
        name: "s".parse().unwrap(),
        form: SecretForm::Env(format!("\"\"{number}")),
    };
    let secrets: Vec<SecretUse> = (0..MAX_RULES).map(secret).collect();
    let used = MAX_RULES * ("tcp://a:1".len() + "tcp://[::]:1".len() + "s\"\"00".len());
    let prefix = "* http://a:1/";
    let length = ((MAX_RULES_BYTES - used) / MAX_RULES - prefix.len()).min(MAX_RULE_BYTES);
    let http = vec![format!("{prefix}{}", "\"".repeat(length)).parse().unwrap(); MAX_RULES];
    let mounts = (0..MAX_MOUNTS).map(mount).collect();
    Capabilities { mounts, clock: false, random: false, scratch: true, connect, listen, http, secrets }
}

fn longest_limits() -> Limits {
    Limits {
        memory_bytes: u64::MAX,
        fuel: Some(u64::MAX),
        wall_ms: u64::MAX,
        stdout_bytes: u64::MAX,
        stderr_bytes: u64::MAX,
        cpu_ms: Some(u64::MAX),
        disk_bytes: u64::MAX,
        file_bytes: u64::MAX,
        files: u32::MAX,
        handles: u32::MAX,
        sockets: u32::MAX,
        http_bytes: u64::MAX,
        instances: u32::MAX,
        host_buffer_bytes: u64::MAX,
    }
}

/// A finished record with the longest denials and artifacts; another one as it is.
fn longest_end(mut event: Event) -> Event {
    if let Event::Finished { denied, artifacts, .. } = &mut event {
        *denied = vec![Denial { what: "\"".repeat(1 << 10), count: u64::MAX }; MAX_DENIALS];
        let name = "\"".repeat(MAX_ARTIFACT_NAMES_BYTES / MAX_ARTIFACTS);
        *artifacts = vec![Artifact { name, length: u64::MAX, digest: Digest::of(b"") }.into(); MAX_ARTIFACTS];
    }
    event
}

/// A path cannot grow past the bound that the record relies on.
// Red without the sum in `Capabilities::check`.
#[test]
fn paths_that_do_not_fit_a_record_are_refused() {
    let mut task = full_task();
    let mount = |number: usize| Mount {
        source: MountSource::Directory("/srv".into()),
        path: format!("/{number:03}{}", "x".repeat(MAX_PATH_BYTES - 4)),
        access: Access::Read,
    };
    task.capabilities.mounts = (0..MAX_PATHS_BYTES / MAX_PATH_BYTES).map(mount).collect();
    let error = sign_job(&fixtures::job(task), &principal()).expect_err("too long").to_string();
    assert!(error.contains("bytes of all paths: 16448 where at most 16384"), "{error}");
}

/// What a job carries does not enter the log; only the digest of the salted body does.
#[test]
fn an_admitted_record_holds_no_private_value() {
    let task = full_task();
    let leaf = String::from_utf8(Record::new(Timestamp::default(), records::admitted()).to_leaf()).unwrap();
    let Task { args, env, labels, .. } = task;
    let private =
        args.iter().chain(env.keys()).chain(env.values()).chain(labels.keys()).chain(labels.values());
    for value in private.filter(|value| value.len() > 2) {
        assert!(!leaf.contains(value.as_str()), "{value} in {leaf}");
    }
    assert!(!leaf.contains(&"5a".repeat(16)), "the salt in {leaf}");
}
