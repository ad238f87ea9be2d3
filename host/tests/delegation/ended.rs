//! How grants end, and who ends with them.

use std::time::Duration;

use quinn::ConnectionError;
use strongroom::config::Config;
use strongroom::home::Home;
use strongroom_job::delegation::DelegationBody;
use strongroom_job::{CloseCode, Event, GrantEnd, JobId, JobState, Outcome, RefusalCode, Role};
use strongroom_sdk::{Client, Identity, Job};

use crate::common::live::{Live, SPINS, push_wat};
use crate::common::raw::Peer;
use crate::common::records::records;
use crate::support::{RIGHTS, ann, bob, chain, connect, grant, level, put, refused, reload, site, soon};

/// A job of this client that runs, and would for an hour.
pub(crate) async fn running(client: &Client) -> JobId {
    let module = push_wat(client, SPINS).await;
    let job = Job::new(module).timeout(Duration::from_secs(3600));
    let job = client.submit(&job).await.unwrap().job;
    soon(async {
        while client.show(job).await.unwrap().state != JobState::Running {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    job
}

/// That the host closed this connection, since it no longer knows the key.
pub(crate) async fn thrown_out(connection: &quinn::Connection) {
    match soon(connection.closed()).await {
        ConnectionError::ApplicationClosed(closed) => {
            let code = CloseCode::from_number(closed.error_code.into_inner());
            assert_eq!(code, Some(CloseCode::KeyRevoked));
        }
        other => panic!("{other}"),
    }
}

fn cancelled(live: &std::path::Path) -> Vec<JobId> {
    let ends = records(live).into_iter().filter_map(|record| match record.event {
        Event::Finished { job, outcome: Outcome::Cancelled, .. } => Some(job),
        _ => None,
    });
    ends.collect()
}

// Red without `below` in `end_grant` (those below go on), and without `enforce` there (nobody is thrown out).
#[tokio::test(flavor = "multi_thread")]
async fn who_revokes_a_grant_ends_all_below_it_at_once() {
    let live = site(RIGHTS).await;
    let given = chain(&live, 3).await;
    let (first, second, third) =
        (connect(&live, &level(1)).await.unwrap(), connect(&live, &level(2)).await.unwrap(), {
            connect(&live, &level(3)).await.unwrap()
        });
    let (stays, jobs) = (running(&first).await, [running(&second).await, running(&third).await]);
    let quiet = Peer::known(&Identity::from(level(3))).connect(live.host.local_addr()).await;
    let theirs = connect(&live, &bob()).await.unwrap();
    let unknown = refused(theirs.revoke_grant(given[1].body().id).await);
    assert_eq!(unknown.code, RefusalCode::UnknownGrant, "bob has no say in it");
    let own = refused(third.revoke_grant(given[1].body().id).await);
    assert_eq!(own.code, RefusalCode::UnknownGrant, "nor has who is below");

    // Ann did not give it; who gave it has it from her.
    let ended = connect(&live, &ann()).await.unwrap().revoke_grant(given[1].body().id).await.unwrap();
    let ids: Vec<_> = ended.iter().map(|view| view.grant).collect();
    assert_eq!(ids, [given[1].body().id, given[2].body().id]);
    thrown_out(&quiet).await;
    for number in [2, 3] {
        assert!(connect(&live, &level(number)).await.is_err(), "level {number} is out");
    }
    for job in jobs {
        // It was told to stop before the answer; its end takes a moment.
        let ended = soon(first.wait(job)).await.unwrap();
        assert_eq!(ended.end.outcome, Outcome::Cancelled);
    }
    assert_eq!(first.show(stays).await.unwrap().state, JobState::Running);
    first.cancel(stays).await.unwrap();
    let dir = live.stop().await;
    let told: Vec<_> = records(dir.path())
        .into_iter()
        .filter_map(|record| match record.event {
            Event::GrantsEnded { grants, why, principal, .. } => Some((grants, why, principal)),
            _ => None,
        })
        .collect();
    assert_eq!(told, [(ids, GrantEnd::Revoked, ann().public())]);
}

// Hostile test 11 for a chain. Red without the question for the tenant in `meet`.
#[tokio::test(flavor = "multi_thread")]
async fn whoever_takes_the_root_out_ends_the_whole_chain() {
    let live = site(RIGHTS).await;
    chain(&live, 4).await;
    let client = connect(&live, &level(4)).await.unwrap();
    let job = running(&client).await;
    let quiet = Peer::known(&Identity::from(level(4))).connect(live.host.local_addr()).await;
    put(live.dir.path(), &[("bob", &bob(), "tenant = \"other\"\n")]);
    let reloaded = reload(&live).await.unwrap();
    assert_eq!(reloaded.stopped, 1);
    thrown_out(&quiet).await;
    for number in 1..=4 {
        assert!(connect(&live, &level(number)).await.is_err(), "level {number} is out");
    }
    // The grants are still there, and worth nothing; an operator may end them.
    assert!(live.client().await.revoke_grant(JobId::from_bytes([7; 16])).await.is_err());
    put(live.dir.path(), &[("ann", &ann(), &RIGHTS.replace("web", "moved")), ("bob", &bob(), "")]);
    reload(&live).await.unwrap();
    assert!(connect(&live, &level(1)).await.is_err(), "ann is of another tenant now");
    put(live.dir.path(), &[("ann", &ann(), RIGHTS), ("bob", &bob(), "")]);
    reload(&live).await.unwrap();
    assert!(connect(&live, &level(4)).await.is_ok(), "what ann has, they have");
    let dir = live.stop().await;
    assert_eq!(cancelled(dir.path()), [job]);
}

// Red when `meet` takes the rules of the grant as they are.
#[tokio::test(flavor = "multi_thread")]
async fn whoever_narrows_the_root_narrows_everybody_below() {
    let live = site(RIGHTS).await;
    let host = *live.host.public_key();
    let to: strongroom_job::Destination = "10.0.0.0/8:80".parse().unwrap();
    let mut from = ann();
    for number in 1..=2 {
        let body = DelegationBody {
            further: 2 - u8::try_from(number).unwrap(),
            connect: vec![to.clone()],
            ..grant(&host, number, &from, &level(u8::try_from(number).unwrap()))
        };
        connect(&live, &from).await.unwrap().add_grant(&body.sign(&from).unwrap()).await.unwrap();
        from = level(u8::try_from(number).unwrap());
    }
    let client = connect(&live, &level(2)).await.unwrap();
    let module = push_wat(&client, SPINS).await;
    let held = "held".parse().unwrap();
    live.client().await.set_queue(&held, strongroom_job::QueueMode::Paused).await.unwrap();
    let job = Job::new(module).connect(to.to_string()).queue("held");
    let waits = client.submit(&job).await.unwrap().job;
    let narrower = RIGHTS.replace("10.0.0.0/8:80-90", "10.1.0.0/16:80");
    put(live.dir.path(), &[("ann", &ann(), &narrower), ("bob", &bob(), "tenant = \"other\"\n")]);
    reload(&live).await.unwrap();
    let refusal = refused(client.submit(&job).await);
    assert_eq!((refusal.code, refusal.missing.len()), (RefusalCode::NotGranted, 1));
    let less = Job::new(module).connect("10.1.0.0/16:80").queue("held");
    client.submit(&less).await.unwrap();
    // What waits already gets no grant either.
    live.client().await.set_queue(&held, strongroom_job::QueueMode::Open).await.unwrap();
    let ended = soon(client.wait(waits)).await.unwrap();
    assert!(matches!(ended.end.outcome, Outcome::Faulted { .. }), "{:?}", ended.end.outcome);

    // A role less for the root is a role less for all.
    let quiet = Peer::known(&Identity::from(level(2))).connect(live.host.local_addr()).await;
    let viewer = narrower.replace("\"view\", \"submit\"", "\"view\"");
    put(live.dir.path(), &[("ann", &ann(), &viewer), ("bob", &bob(), "tenant = \"other\"\n")]);
    reload(&live).await.unwrap();
    assert!(matches!(soon(quiet.closed()).await, ConnectionError::ApplicationClosed(_)));
    let client = connect(&live, &level(2)).await.unwrap();
    let refusal = refused(client.submit(&less).await);
    assert_eq!((refusal.code, refusal.missing), (RefusalCode::MissingRole, vec!["submit".to_owned()]));
    for view in client.list(Default::default()).await.unwrap().jobs {
        if view.end.is_none() {
            let _ = connect(&live, &ann()).await.unwrap().cancel(view.job).await;
        }
    }
    let dir = live.dir;
    drop(live.host);
    drop(dir);
}

// Red without `is_good_at` in `InForce::principal`, and without `end_expired`: who only listens stays.
#[tokio::test(flavor = "multi_thread")]
async fn a_grant_ends_when_its_time_is_up_and_begins_not_before() {
    let live = site(RIGHTS).await;
    let host = *live.host.public_key();
    let body = grant(&host, 1, &ann(), &level(1));
    let short = DelegationBody {
        further: 1,
        not_after: body.not_before.saturating_add(Duration::from_secs(4)),
        ..body.clone()
    };
    let owner = connect(&live, &ann()).await.unwrap();
    owner.add_grant(&short.sign(&ann()).unwrap()).await.unwrap();
    let later = DelegationBody {
        not_before: body.not_before.saturating_add(Duration::from_secs(1800)),
        ..grant(&host, 2, &ann(), &level(2))
    };
    let view = owner.add_grant(&later.sign(&ann()).unwrap()).await.unwrap();
    assert!(!view.in_force);
    assert!(connect(&live, &level(2)).await.is_err(), "its time has not come");
    let client = connect(&live, &level(1)).await.unwrap();
    let job = running(&client).await;
    let quiet = Peer::known(&Identity::from(level(1))).connect(live.host.local_addr()).await;
    thrown_out(&quiet).await;
    assert!(connect(&live, &level(1)).await.is_err());
    let ended = soon(owner.wait(job)).await.unwrap();
    assert_eq!(ended.end.outcome, Outcome::Cancelled);
    let left: Vec<_> = owner.grants().await.unwrap().iter().map(|view| view.grant).collect();
    assert_eq!(left, [later.id]);
    assert_eq!(refused(owner.add_grant(&short.sign(&ann()).unwrap()).await).code, RefusalCode::Expired);
    let dir = live.stop().await;
    let told = records(dir.path()).into_iter().any(|record| {
        record.event
            == Event::GrantsEnded {
                tenant: "web".parse().unwrap(),
                grants: vec![short.id],
                why: GrantEnd::Expired,
                principal: host,
            }
    });
    assert!(told);
}

// A grant that hangs below one whose time is up would come back under whoever gives to the same delegate next. Red without `below` in
// `end_expired`: it stays.
#[tokio::test(flavor = "multi_thread")]
async fn what_hangs_below_ends_with_a_grant_whose_time_is_up() {
    let live = site(RIGHTS).await;
    let host = *live.host.public_key();
    let owner = connect(&live, &ann()).await.unwrap();
    let first = DelegationBody { further: 1, ..grant(&host, 1, &ann(), &level(1)) };
    owner.add_grant(&first.sign(&ann()).unwrap()).await.unwrap();
    let below = grant(&host, 2, &level(1), &level(2));
    connect(&live, &level(1)).await.unwrap().add_grant(&below.sign(&level(1)).unwrap()).await.unwrap();
    // In the place of the first, and soon over.
    let again = grant(&host, 3, &ann(), &level(1));
    let again = DelegationBody {
        further: 1,
        not_after: again.not_before.saturating_add(Duration::from_secs(2)),
        ..again
    };
    owner.add_grant(&again.sign(&ann()).unwrap()).await.unwrap();
    soon(async {
        while !owner.grants().await.unwrap().is_empty() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
    .await;
    let dir = live.stop().await;
    let told = records(dir.path()).into_iter().any(|record| {
        record.event
            == Event::GrantsEnded {
                tenant: "web".parse().unwrap(),
                grants: vec![below.id],
                why: GrantEnd::Revoked,
                principal: host,
            }
    });
    assert!(told);
}

// Red without the question for `operates` in `end_grant`.
#[tokio::test(flavor = "multi_thread")]
async fn an_operator_ends_any_grant() {
    let live = site(RIGHTS).await;
    let given = chain(&live, 2).await;
    let config = Config::load(&Home::open(live.dir.path()).unwrap().config()).unwrap();
    assert!(config.principals[0].roles.has(Role::Operate) && config.principals[0].tenant.as_str() != "web");
    let ended = live.client().await.revoke_grant(given[0].body().id).await.unwrap();
    assert_eq!(ended.len(), 2);
    assert!(connect(&live, &level(2)).await.is_err());
    let live: Live = live;
    live.stop().await;
}
