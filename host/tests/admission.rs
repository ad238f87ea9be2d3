//! Admission: who may ask for what, when, and what a refusal says. Pure: no host, no clock, no disk.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failed unwrap is a failed test")]

mod common;

use std::time::Duration;

use common::{NOW, admit, body, config, host_key, principal, secret};
use strongroom::config::{Config, Volume};
use strongroom_job::{Access, JobBody, Mount, MountSource, Refusal, RefusalCode, Timestamp};

fn refused(change: impl FnOnce(&mut JobBody, &mut Config)) -> Refusal {
    refused_at(NOW, change)
}

fn refused_at(now: Timestamp, change: impl FnOnce(&mut JobBody, &mut Config)) -> Refusal {
    let (mut body, mut config) = (body(1), config());
    change(&mut body, &mut config);
    admit(&body, &config, now).expect_err("must be refused")
}

fn later(by: Duration) -> Timestamp {
    NOW.saturating_add(by)
}

fn earlier(by: Duration) -> Timestamp {
    Timestamp::from_millis(NOW.as_millis() - u64::try_from(by.as_millis()).unwrap())
}

fn volume(name: &str, path: &str, access: Access) -> Mount {
    Mount { source: MountSource::Volume(name.parse().unwrap()), path: path.into(), access }
}

#[test]
fn an_ordinary_job_is_admitted_as_it_was_signed() {
    let job = admit(&body(1), &config(), NOW).unwrap();
    assert_eq!((job.id(), job.task()), (body(1).id, &body(1).task));
    assert_eq!(job.signer(), &principal(&config()).key);
}

// Red without the comparison of the audience (hostile 4).
#[test]
fn a_job_for_another_host_is_refused() {
    let refusal = refused(|body, _| body.context.audience = secret(7).public());
    assert_eq!(refusal.code, RefusalCode::WrongAudience);
    assert!(refusal.message.contains(&host_key().public().to_string()), "{refusal}");
}

// Red without the comparison of the tenant.
#[test]
fn a_job_in_another_tenants_name_is_refused() {
    let refusal = refused(|body, _| body.context.tenant = "other".parse().unwrap());
    assert_eq!(refusal.code, RefusalCode::WrongTenant);
}

// Each line was seen red without its test in `window` (hostile 7).
#[test]
fn a_job_counts_inside_its_window_only() {
    let (config, minute) = (config(), Duration::from_secs(60));
    assert_eq!(config.bounds.clock_skew, minute);
    let hour = minute * 60;
    assert!(admit(&body(1), &config, later(hour + minute)).is_ok());
    let refusal = refused_at(later(hour + minute + Duration::from_secs(1)), |_, _| {});
    assert_eq!(refusal.code, RefusalCode::Expired);
    assert_eq!(refusal.message, "the job expired 61 s ago: sign it again, or set the clock that signed it");

    assert!(admit(&body(1), &config, earlier(minute)).is_ok());
    let refusal = refused_at(earlier(minute + Duration::from_secs(1)), |_, _| {});
    assert_eq!(refusal.code, RefusalCode::NotYetValid);

    let refusal = refused(|body, _| body.context.not_after = later(hour * 24 + Duration::from_secs(1)));
    assert_eq!(refusal.code, RefusalCode::TooLongLived);
    // An issue date in the future would make a long window look short.
    let refusal = refused(|body, _| {
        body.context.issued_at = later(hour * 48);
        body.context.not_after = later(hour * 49);
    });
    assert_eq!(refusal.code, RefusalCode::NotYetValid);
}

#[test]
fn an_unknown_queue_is_refused_and_the_known_ones_are_named() {
    let refusal = refused(|body, _| body.task.queue = "defualt".parse().unwrap());
    assert_eq!(refusal.code, RefusalCode::UnknownQueue);
    assert_eq!(refusal.message, "this host has no queue defualt; it has: default");
}

// Red for each limit whose row is taken out of the table in `check_limits`.
#[test]
fn a_limit_above_the_hosts_maximum_is_refused_by_name() {
    let max = config().bounds.max_limits;
    let refusal = refused(|body, _| {
        let limits = &mut body.task.limits;
        limits.memory_bytes = max.memory_bytes + 1;
        limits.wall_ms = max.wall_ms + 1;
        limits.stdout_bytes = max.stdout_bytes + 1;
        limits.stderr_bytes = max.stderr_bytes + 1;
    });
    assert_eq!(refusal.code, RefusalCode::LimitTooHigh);
    for limit in ["memory_bytes", "wall_ms", "stdout_bytes", "stderr_bytes"] {
        assert!(refusal.message.contains(&format!("{limit}: asked for ")), "{refusal}");
    }
    let bounded = |_: &mut JobBody, config: &mut Config| config.bounds.max_limits.fuel = Some(100);
    assert!(refused(bounded).message.starts_with("fuel: "));
}

// Red with `missing` ignored in `resolve` (hostile 10).
#[test]
fn more_than_granted_is_refused_with_the_exact_list() {
    let refusal = refused(|body, config| {
        config.principals[0].any_directory = false;
        config.principals[0].volumes.insert("docs".parse().unwrap(), Access::Read);
        let docs = Volume { path: "/srv/docs".into(), access: Access::ReadWrite };
        config.volumes.insert("docs".parse().unwrap(), docs.clone());
        config.volumes.insert("theirs".parse().unwrap(), docs);
        body.task.capabilities.mounts = vec![
            volume("docs", "/ok", Access::Read),
            volume("docs", "/docs", Access::ReadWrite),
            volume("theirs", "/theirs", Access::Read),
            volume("absent", "/absent", Access::Read),
            Mount {
                source: MountSource::Directory("/etc".into()),
                path: "/etc".into(),
                access: Access::Read,
            },
        ];
    });
    assert_eq!(refusal.code, RefusalCode::NotGranted);
    assert_eq!(
        refusal.missing,
        [
            "write volume docs at /docs (the volume is granted read-only)",
            "read volume theirs at /theirs (no such volume is granted to this key)",
            "read volume absent at /absent (no such volume is granted to this key)",
            "read directory \"/etc\" at /etc (this key may only name volumes; the host's configuration can add one)",
        ]
    );
}

// Red with `volume.access` left out of the comparison.
#[test]
fn a_volume_that_is_read_only_for_all_is_so_for_each() {
    let refusal = refused(|body, config| {
        config.principals[0].volumes.insert("docs".parse().unwrap(), Access::ReadWrite);
        config.volumes.insert("docs".parse().unwrap(), Volume { path: "/srv".into(), access: Access::Read });
        body.task.capabilities.mounts = vec![volume("docs", "/docs", Access::ReadWrite)];
    });
    assert_eq!(refusal.missing, ["write volume docs at /docs (the volume is granted read-only)"]);
}

// Red when the grant is not resolved anew under the policy of the moment.
#[test]
fn a_key_that_was_taken_out_gets_no_grant_for_what_it_queued() {
    let mut config = config();
    let job = admit(&body(1), &config, NOW).unwrap();
    let host = host_key().public();
    assert!(job.grant(&strongroom::admission::Policy { host: &host, config: &config }).is_ok());
    config.principals.clear();
    let refusal = job.grant(&strongroom::admission::Policy { host: &host, config: &config }).unwrap_err();
    assert_eq!(refusal.code, RefusalCode::Forbidden);
}
