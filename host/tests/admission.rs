//! Admission: who may ask for what, when, and what a refusal says. Pure: no host, no clock, no disk.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failed unwrap is a failed test")]

mod common;

use std::collections::BTreeMap;
use std::time::Duration;

use common::{NOW, admit, body, config, host_key, principal, secret};
use strongroom::config::{Config, Volume};
use strongroom_job::{
    Access, Event, JobBody, Limits, Missed, Mount, MountSource, Refusal, RefusalCode, Repeat, SecretForm,
    SecretUse, Timestamp,
};

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

fn labels(labels: &[(&str, &str)]) -> BTreeMap<String, String> {
    labels.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect()
}

// Red without the comparison of values, and with a missing label let through.
#[test]
fn a_job_runs_only_where_its_labels_are() {
    let (mut body, mut config) = (body(1), config());
    config.labels = labels(&[("environment", "production"), ("zone", "eu-1")]);
    assert!(admit(&body, &config, NOW).is_ok(), "a job that requires nothing runs anywhere");
    body.task.plan.requires = labels(&[("environment", "production")]);
    assert!(admit(&body, &config, NOW).is_ok());

    body.task.plan.requires = labels(&[("environment", "staging"), ("gpu", "a100"), ("zone", "eu-1")]);
    let refusal = admit(&body, &config, NOW).unwrap_err();
    assert_eq!(refusal.code, RefusalCode::LabelMismatch);
    assert_eq!(
        refusal.message,
        "the job requires labels that this host does not have: environment=\"staging\" (here it is \"production\"), \
         gpu=\"a100\" (there is no such label here). Send it to a host that has them, or ask this host's operator to set them; \
         its labels are: environment=\"production\", zone=\"eu-1\""
    );
    // A label without a value is a label all the same.
    body.task.plan.requires = labels(&[("gpu", "")]);
    let refusal = admit(&body, &Config { labels: labels(&[]), ..config }, NOW).unwrap_err();
    assert_eq!(refusal.code, RefusalCode::LabelMismatch);
    assert!(refusal.message.ends_with("; its labels are: none"), "{refusal}");
}

// Red without the comparison of `expires`, and with `<` for `<=`.
#[test]
fn a_job_that_has_expired_already_is_refused() {
    let expires = |by: Timestamp| refused(|body, _| body.task.plan.expires = Some(by));
    let refusal = expires(NOW);
    assert_eq!(refusal.code, RefusalCode::NeverRuns);
    let refusal = expires(earlier(Duration::from_secs(90)));
    assert_eq!(
        refusal.message,
        "the job would never run: plan.expires was 90 s ago; sign it again with a later time, or set the clock that signed it"
    );
    let (mut body, config) = (body(1), config());
    body.task.plan.expires = Some(later(Duration::from_millis(1)));
    assert!(admit(&body, &config, NOW).is_ok());
}

// Red with any first time taken for one before `until`.
#[test]
fn a_series_that_is_never_due_is_refused_in_the_words_of_its_calendar() {
    let repeat = |cron: &str, zone: &str, until: Duration| Repeat {
        cron: cron.into(),
        zone: zone.into(),
        until: later(until),
        missed: Missed::Once,
    };
    let of = |repeat: Repeat| refused(|body, _| body.task.plan.repeat = Some(Box::new(repeat)));
    let day = Duration::from_secs(24 * 3600);
    for (repeat, why) in [
        (
            repeat("0 3 * *", "UTC", day),
            "\"0 3 * *\" is not a cron expression (minute hour day month weekday): ",
        ),
        (repeat("0 0 30 2 *", "UTC", day), "\"0 0 30 2 *\" never fires: there is no such day"),
        (repeat("0 3 * * *", "Mars/Olympus", day), "\"Mars/Olympus\" is not a time zone: "),
        // NOW is 8:00:00 and the first time after it 9:00:00, which is the end.
        (
            repeat("0 * * * *", "UTC", day / 24),
            "\"0 * * * *\" is not due before plan.repeat.until; sign it with a later end",
        ),
    ] {
        let refusal = of(repeat);
        assert_eq!(refusal.code, RefusalCode::NeverRuns, "{refusal}");
        let start = format!("the job would never run: plan.repeat: {why}");
        assert!(refusal.message.starts_with(&start), "{refusal}");
    }
    let mut body = body(1);
    body.task.plan.repeat = Some(Box::new(repeat("0 * * * *", "UTC", day / 24 + Duration::from_millis(1))));
    assert!(admit(&body, &config(), NOW).is_ok());
    body.task.plan.repeat = Some(Box::new(repeat("0 * * * *", "UTC", 366 * day)));
    assert!(admit(&body, &config(), NOW).is_ok());
    let refusal = of(repeat("0 * * * *", "UTC", 366 * day + Duration::from_secs(1)));
    assert_eq!(refusal.code, RefusalCode::LimitTooHigh);
    assert!(
        refusal.message.starts_with(
            "plan.repeat.until is 31622401 s ahead, and this host takes a series for at most 31622400 s: "
        ),
        "{refusal}"
    );
}

// Red without the comparison with `max_schedule_ahead`.
#[test]
fn a_job_may_start_in_the_past_and_not_too_far_ahead() {
    let (mut body, config) = (body(1), config());
    let most = config.bounds.max_schedule_ahead;
    for at in [Timestamp::from_millis(0), NOW, later(most)] {
        body.task.plan.at = Some(at);
        assert!(admit(&body, &config, NOW).is_ok(), "{at}");
    }
    let far = later(most + Duration::from_secs(1));
    let refusal = refused(|body, _| body.task.plan.at = Some(far));
    assert_eq!(refusal.code, RefusalCode::LimitTooHigh);
    assert_eq!(
        refusal.message,
        "plan.at is 31622401 s ahead, and this host takes jobs at most 31622400 s before they start: submit it later, or ask this \
         host's operator for more"
    );
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
    // A job without a bound of its own may use its whole wall time.
    let bounded = |_: &mut JobBody, config: &mut Config| config.bounds.max_limits.cpu_ms = Some(100);
    assert!(refused(bounded).message.starts_with("cpu_ms: "));
}

// Red with the rows of `files`, `sockets`, `http_bytes` and `host_buffer_bytes` taken out of `check_limits`.
#[test]
fn each_of_the_other_limits_has_its_maximum() {
    let max = config().bounds.max_limits;
    type Ask = fn(&mut Limits, &Limits);
    let above: [(&str, Ask); 8] = [
        ("disk_bytes", |asked, max| asked.disk_bytes = max.disk_bytes + 1),
        ("file_bytes", |asked, max| asked.file_bytes = max.file_bytes + 1),
        ("files", |asked, max| asked.files = max.files + 1),
        ("handles", |asked, max| asked.handles = max.handles + 1),
        ("sockets", |asked, max| asked.sockets = max.sockets + 1),
        ("http_bytes", |asked, max| asked.http_bytes = max.http_bytes + 1),
        ("instances", |asked, max| asked.instances = max.instances + 1),
        ("host_buffer_bytes", |asked, max| asked.host_buffer_bytes = max.host_buffer_bytes + 1),
    ];
    for (name, raise) in above {
        let refusal = refused(|body, _| raise(&mut body.task.limits, &max));
        assert_eq!(refusal.code, RefusalCode::LimitTooHigh);
        assert!(refusal.message.starts_with(&format!("{name}: asked for ")), "{refusal}");
    }
    let mut body = body(1);
    body.task.limits = Limits { fuel: None, ..max };
    assert!(admit(&body, &config(), NOW).is_ok(), "the maximum itself is allowed");
}

/// A principal with one of everything, and without the shortcuts of the host's own user.
fn granted(config: &mut Config) {
    let who = &mut config.principals[0];
    (who.any_directory, who.any_network) = (false, false);
    who.connect = vec!["db.example.com:5432".parse().unwrap(), "udp://10.0.0.0/8:53".parse().unwrap()];
    who.listen = vec!["127.0.0.1:8080".parse().unwrap()];
    who.http = vec!["GET,PUT https://example.com/v1".parse().unwrap()];
    who.secrets = ["token".parse().unwrap()].into();
}

fn secret_use(name: &str) -> SecretUse {
    SecretUse { name: name.parse().unwrap(), form: SecretForm::Env(format!("S_{name}")) }
}

// Red with `listen` taken out of `not_granted`, and with `any_network` covering secrets (hostile 10).
#[test]
fn network_and_secrets_are_granted_by_name_or_refused_with_the_exact_list() {
    let refusal = refused(|body, config| {
        granted(config);
        let asked = &mut body.task.capabilities;
        asked.scratch = true;
        asked.connect = vec![
            "db.example.com:5432".parse().unwrap(),
            "db.example.com:5433".parse().unwrap(),
            "udp://10.1.0.0/16:53".parse().unwrap(),
            "tcp://10.1.0.0/16:53".parse().unwrap(),
        ];
        asked.listen = vec!["127.0.0.1:8080".parse().unwrap(), "0.0.0.0:8080".parse().unwrap()];
        asked.http = vec![
            "PUT https://example.com/v1/x".parse().unwrap(),
            "POST https://example.com/v1".parse().unwrap(),
        ];
        asked.secrets = vec![secret_use("token"), secret_use("other")];
    });
    assert_eq!(refusal.code, RefusalCode::NotGranted);
    let rest = |key: &str| format!("(the host's configuration can add it to this key's {key})");
    assert_eq!(
        refusal.missing,
        [
            format!("connect tcp://db.example.com:5433 {}", rest("connect")),
            format!("connect tcp://10.1.0.0/16:53 {}", rest("connect")),
            format!("listen tcp://0.0.0.0:8080 {}", rest("listen")),
            format!("http POST https://example.com:443/v1 {}", rest("http")),
            format!("secret other as variable S_other {}", rest("secrets")),
        ]
    );
}

#[test]
fn what_is_covered_is_granted_and_recorded() {
    let (mut body, mut config) = (body(1), config());
    granted(&mut config);
    let asked = &mut body.task.capabilities;
    asked.scratch = true;
    asked.connect = vec!["udp://10.1.2.3:53".parse().unwrap()];
    asked.listen = vec!["127.0.0.1:8080".parse().unwrap()];
    asked.http = vec!["https://example.com/v1/a".parse().unwrap()];
    // HEAD was not granted; GET alone is.
    asked.http[0].methods.retain(|method| method == "GET");
    asked.secrets = vec![secret_use("token")];
    let expected = asked.clone();
    let job = admit(&body, &config, NOW).unwrap();
    let Event::Admitted { grant, .. } = job.record() else { panic!("an admitted record") };
    assert_eq!(grant.connect, expected.connect);
    assert_eq!((grant.listen, grant.http), (expected.listen, expected.http));
    assert_eq!((grant.secrets, grant.scratch), (expected.secrets, true));
    let host = host_key().public();
    assert!(given(&job, &host, &config).is_ok());
    // Taken away while it waited: it does not run.
    config.principals[0].secrets.clear();
    let refusal = given(&job, &host, &config).unwrap_err();
    assert_eq!(refusal.code, RefusalCode::NotGranted);
}

// Red when `any_network` covers secrets, too.
#[test]
fn the_hosts_own_user_has_the_network_and_no_secret() {
    let (mut body, config) = (body(1), config());
    assert!(config.principals[0].any_network);
    body.task.capabilities.connect = vec!["10.0.0.0/8:*".parse().unwrap()];
    body.task.capabilities.http = vec!["* http://192.0.2.1/".parse().unwrap()];
    body.task.capabilities.listen = vec!["0.0.0.0:80".parse().unwrap()];
    assert!(admit(&body, &config, NOW).is_ok());
    body.task.capabilities.secrets = vec![secret_use("token")];
    let refusal = admit(&body, &config, NOW).unwrap_err();
    assert_eq!(refusal.missing.len(), 1, "{refusal:?}");
}

#[test]
fn a_directory_in_a_volume_needs_the_volume() {
    let below = |volume: &str, access| Mount {
        source: MountSource::VolumePath { volume: volume.parse().unwrap(), path: "a/b".into() },
        path: format!("/{volume}"),
        access,
    };
    let refusal = refused(|body, config| {
        config.principals[0].volumes.insert("docs".parse().unwrap(), Access::Read);
        let docs = Volume { path: "/srv/docs".into(), access: Access::ReadWrite };
        config.volumes.insert("docs".parse().unwrap(), docs);
        body.task.capabilities.mounts = vec![below("docs", Access::ReadWrite), below("absent", Access::Read)];
    });
    assert_eq!(
        refusal.missing,
        [
            "write volume docs, directory \"a/b\", at /docs (the volume is granted read-only)",
            "read volume absent, directory \"a/b\", at /absent (no such volume is granted to this key)",
        ]
    );
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

/// The grant of a job whose signer the configuration names, or does not.
fn given(
    job: &strongroom::admission::AdmittedJob,
    host: &strongroom_job::PublicKey,
    config: &Config,
) -> Result<strongroom_runtime::Grant, Refusal> {
    let who = config.principals.iter().find(|who| who.key == *job.signer());
    job.grant(who, &strongroom::admission::Policy { host, config })
}

// Red when the grant is not resolved anew under the policy of the moment.
#[test]
fn a_key_that_was_taken_out_gets_no_grant_for_what_it_queued() {
    let mut config = config();
    let job = admit(&body(1), &config, NOW).unwrap();
    let host = host_key().public();
    assert!(given(&job, &host, &config).is_ok());
    config.principals.clear();
    let refusal = given(&job, &host, &config).unwrap_err();
    assert_eq!(refusal.code, RefusalCode::Forbidden);
}

// Red without the question for the tenant in `AdmittedJob::grant`.
#[test]
fn a_key_that_belongs_to_another_tenant_now_gets_no_grant_for_what_it_queued() {
    let mut config = config();
    let (job, host) = (common::admitted(&body(1)), host_key().public());
    assert!(given(&job, &host, &config).is_ok());
    config.principals[0].tenant = "other".parse().unwrap();
    let refusal = given(&job, &host, &config).unwrap_err();
    assert_eq!(refusal.code, RefusalCode::Forbidden);
    assert!(refusal.message.contains("tenant other"), "{}", refusal.message);
}

// Red without the row of `any_directory` in `Config::fixed`: what a host's process may open was decided at its start.
#[test]
fn a_reload_brings_no_right_to_any_directory_that_nobody_had() {
    let mut narrow = config();
    narrow.principals[0].any_directory = false;
    assert!(config().fixed(&narrow).is_empty(), "it may be taken away");
    assert_eq!(narrow.fixed(&config()).len(), 1);
}
