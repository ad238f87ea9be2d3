//! Which grants a host takes, and from whom.

use std::time::Duration;

use strongroom::admission::delegation::{Asking, Grants, Taken};
use strongroom::config::Config;
use strongroom::home::Home;
use strongroom_job::delegation::{Ceilings, DelegationBody};
use strongroom_job::frame::encode_header;
use strongroom_job::{Access, RefusalCode, Request, Response, Role, Timestamp};
use strongroom_sdk::{Identity, Job};

use crate::common::live::{assert_succeeded, push_wat, run, says};
use crate::common::raw::{Peer, answer, open_with};
use crate::support::{RIGHTS, ann, bob, chain, connect, grant, level, refused, site, soon};

// Red without the questions for the depth in `wider`.
#[tokio::test(flavor = "multi_thread")]
async fn a_chain_of_four_works_and_a_fifth_link_is_refused() {
    let live = site(RIGHTS).await;
    assert!(connect(&live, &level(1)).await.is_err(), "nobody knows it yet");
    let given = chain(&live, 4).await;
    for number in 1..=4 {
        let client = connect(&live, &level(number)).await.unwrap();
        let module = push_wat(&client, &says("hello", 0)).await;
        let done = run(&client, &Job::new(module)).await;
        assert_succeeded(&done);
        assert_eq!((done.view.principal, done.view.tenant.as_str()), (level(number).public(), "web"));
    }
    let owner = connect(&live, &ann()).await.unwrap();
    let jobs = owner.list(Default::default()).await.unwrap().jobs;
    assert_eq!(jobs.len(), 4, "they are jobs of ann's tenant");

    // Whatever the fifth says of itself, the fourth has nothing to give.
    let fifth = grant(live.host.public_key(), 5, &level(4), &level(5)).sign(&level(4)).unwrap();
    let refusal = refused(connect(&live, &level(4)).await.unwrap().add_grant(&fifth).await);
    assert_eq!(refusal.code, RefusalCode::NotGranted);
    assert!(refusal.missing[0].contains("a further grant"), "{refusal:?}");
    // Nor may the third let more hang below than is left to it.
    let deep = DelegationBody { further: 1, ..grant(live.host.public_key(), 6, &level(3), &level(6)) };
    let refusal =
        refused(connect(&live, &level(3)).await.unwrap().add_grant(&deep.sign(&level(3)).unwrap()).await);
    assert_eq!(refusal.missing, ["1 further grants below it (at most 0)"]);
    assert_eq!(owner.grants().await.unwrap().len(), given.len());
    live.stop().await;
}

// Red without the question for the tenant in `judge`.
#[tokio::test(flavor = "multi_thread")]
async fn a_grant_that_gives_what_it_must_not_is_refused() {
    let live = site(RIGHTS).await;
    let host = *live.host.public_key();
    let client = connect(&live, &ann()).await.unwrap();
    let good = grant(&host, 1, &ann(), &level(1));
    let no = async |body: DelegationBody| refused(client.add_grant(&body.sign(&ann()).unwrap()).await);

    let elsewhere = DelegationBody { audience: bob().public(), ..good.clone() };
    assert_eq!(no(elsewhere).await.code, RefusalCode::WrongAudience);
    let tenant = DelegationBody { tenant: "other".parse().unwrap(), ..good.clone() };
    assert_eq!(no(tenant).await.code, RefusalCode::WrongTenant);
    let past = DelegationBody {
        not_before: Timestamp::from_millis(1),
        not_after: Timestamp::from_millis(2),
        ..good.clone()
    };
    assert_eq!(no(past).await.code, RefusalCode::Expired);
    let principal = DelegationBody { delegate: bob().public(), ..good.clone() };
    assert_eq!(no(principal).await.code, RefusalCode::Conflict);
    let name = DelegationBody { name: "bob".parse().unwrap(), ..good.clone() };
    assert_eq!(no(name).await.code, RefusalCode::Conflict);

    let wide = DelegationBody {
        roles: vec![Role::View, Role::Operate],
        volumes: [("data".parse().unwrap(), Access::Read)].into(),
        connect: vec![
            "db.example.com:5432".parse().unwrap(),
            "10.0.0.0/8:80-91".parse().unwrap(),
            "10.1.0.0/16:80-81".parse().unwrap(),
        ],
        listen: vec!["127.0.0.1:8080".parse().unwrap()],
        http: vec!["https://example.com/".parse().unwrap()],
        secrets: vec!["other".parse().unwrap(), "token".parse().unwrap()],
        ..good.clone()
    };
    let refusal = no(wide).await;
    assert_eq!(refusal.code, RefusalCode::NotGranted);
    let missing = [
        "role operate",
        "volume data read",
        "connect tcp://10.0.0.0/8:80-91",
        "listen tcp://127.0.0.1:8080",
        "http GET,HEAD https://example.com:443/",
        "secret other",
    ];
    assert_eq!(refusal.missing, missing, "the list, and nothing that it has");

    // By somebody else than its giver, it is not even looked at.
    let theirs = connect(&live, &bob()).await.unwrap();
    assert_eq!(refused(theirs.add_grant(&good.sign(&ann()).unwrap()).await).code, RefusalCode::Forbidden);
    // A stranger gives nothing, whoever hands it in.
    let stranger = grant(&host, 9, &level(9), &level(1)).sign(&level(9)).unwrap();
    let owner = live.client().await;
    assert_eq!(refused(owner.add_grant(&stranger).await).code, RefusalCode::Forbidden);
    assert!(client.grants().await.unwrap().is_empty(), "nothing of it");
    // But an operator hands in what ann signed.
    owner.add_grant(&good.sign(&ann()).unwrap()).await.unwrap();
    assert!(connect(&live, &level(1)).await.is_ok());
    live.stop().await;
}

// Red without the questions for the depth in `wider`.
#[tokio::test(flavor = "multi_thread")]
async fn a_delegate_gives_no_more_than_its_own_grant() {
    let live = site(RIGHTS).await;
    let host = *live.host.public_key();
    let first = DelegationBody {
        further: 2,
        queues: Some(vec!["default".parse().unwrap()]),
        max_limits: Ceilings { wall_ms: Some(1000), ..Ceilings::default() },
        labels: [("team".to_owned(), "ci".to_owned())].into(),
        roles: vec![Role::Submit],
        ..grant(&host, 1, &ann(), &level(1))
    };
    connect(&live, &ann()).await.unwrap().add_grant(&first.sign(&ann()).unwrap()).await.unwrap();
    let second = DelegationBody {
        further: 2,
        queues: Some(vec!["default".parse().unwrap(), "held".parse().unwrap()]),
        max_limits: Ceilings { wall_ms: Some(1001), memory_bytes: Some(1), ..Ceilings::default() },
        labels: [("team".to_owned(), "web".to_owned())].into(),
        not_after: first.not_after.saturating_add(Duration::from_millis(1)),
        secrets: vec!["token".parse().unwrap()],
        ..grant(&host, 2, &level(1), &level(2))
    };
    let client = connect(&live, &level(1)).await.unwrap();
    let refusal = refused(client.add_grant(&second.sign(&level(1)).unwrap()).await);
    let until = first.not_after.to_rfc3339();
    let asked = second.not_after.to_rfc3339();
    let missing = [
        "2 further grants below it (at most 1)".to_owned(),
        format!("time until {asked} (at most {until})"),
        "role view".into(),
        "queue held".into(),
        "secret token".into(),
        "a higher limit wall_ms".into(),
        "another value of the label \"team\"".into(),
    ];
    assert_eq!(refusal.missing, missing);
    live.stop().await;
}

// Red without the questions of `narrow::check`.
#[tokio::test(flavor = "multi_thread")]
async fn a_delegates_jobs_stay_within_its_grant() {
    let live = site(RIGHTS).await;
    let host = *live.host.public_key();
    let body = DelegationBody {
        queues: Some(vec!["default".parse().unwrap()]),
        max_limits: Ceilings { wall_ms: Some(60_000), fuel: Some(1 << 40), ..Ceilings::default() },
        labels: [("team".to_owned(), "ci".to_owned())].into(),
        connect: vec!["10.0.0.0/8:80".parse().unwrap()],
        ..grant(&host, 1, &ann(), &level(1))
    };
    connect(&live, &ann()).await.unwrap().add_grant(&body.sign(&ann()).unwrap()).await.unwrap();
    let client = connect(&live, &level(1)).await.unwrap();
    let module = push_wat(&client, &says("hello", 0)).await;
    let good = || Job::new(module).timeout(Duration::from_secs(60)).fuel(1 << 40).label("team", "ci");
    assert_succeeded(&run(&client, &good().connect("10.1.2.3:80")).await);
    let missing = async |job: Job| {
        let refusal = refused(client.submit(&job).await);
        (refusal.code, refusal.missing)
    };
    let (code, what) = missing(good().queue("held")).await;
    assert_eq!((code, what), (RefusalCode::NotGranted, vec!["queue held".to_owned()]));
    let (code, what) = missing(good().label("team", "web")).await;
    assert_eq!((code, what.len()), (RefusalCode::NotGranted, 1));
    assert_eq!(missing(good().timeout(Duration::from_millis(60_001))).await.0, RefusalCode::LimitTooHigh);
    let no_fuel = Job::new(module).timeout(Duration::from_secs(60)).label("team", "ci");
    assert_eq!(missing(no_fuel).await.0, RefusalCode::LimitTooHigh, "no bound is more than any bound");
    // Its giver has these; it has not.
    for more in ["db.example.com:5432", "10.0.0.0/8:81"] {
        let (code, what) = missing(good().connect(more)).await;
        assert_eq!((code, what.len()), (RefusalCode::NotGranted, 1), "{more}");
    }
    live.stop().await;
}

// Red without the mark of `end_grants` in the store.
#[tokio::test(flavor = "multi_thread")]
async fn a_grant_is_taken_once() {
    let live = site(RIGHTS).await;
    let host = *live.host.public_key();
    let client = connect(&live, &ann()).await.unwrap();
    let body = grant(&host, 1, &ann(), &level(1));
    let signed = body.sign(&ann()).unwrap();
    let first = client.add_grant(&signed).await.unwrap();
    assert_eq!(client.add_grant(&signed).await.unwrap(), first, "the first answer again");
    let other = DelegationBody { name: "other".parse().unwrap(), ..body.clone() }.sign(&ann()).unwrap();
    assert_eq!(refused(client.add_grant(&other).await).code, RefusalCode::Conflict);
    client.revoke_grant(body.id).await.unwrap();
    assert_eq!(refused(client.add_grant(&signed).await).code, RefusalCode::Conflict, "it was revoked");
    let live = live.restart().await;
    let client = connect(&live, &ann()).await.unwrap();
    assert_eq!(refused(client.add_grant(&signed).await).code, RefusalCode::Conflict, "also after a restart");
    assert!(connect(&live, &level(1)).await.is_err());
    // A new one may come, and a next one take its place; the one before does not come back.
    let again = grant(&host, 2, &ann(), &level(1)).sign(&ann()).unwrap();
    client.add_grant(&again).await.unwrap();
    let next = DelegationBody { roles: vec![Role::View], ..grant(&host, 3, &ann(), &level(1)) };
    client.add_grant(&next.sign(&ann()).unwrap()).await.unwrap();
    assert_eq!(refused(client.add_grant(&again).await).code, RefusalCode::Conflict);
    let standing: Vec<_> = client.grants().await.unwrap().iter().map(|view| view.grant).collect();
    assert_eq!(standing, [next.id]);
    live.stop().await;
}

// Red without the bound of `InRequest::envelope`.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_altered_or_is_too_long_is_not_taken() {
    let live = site(RIGHTS).await;
    let good = grant(live.host.public_key(), 1, &ann(), &level(1)).sign(&ann()).unwrap().to_bytes();
    let connection = Peer::known(&Identity::from(ann())).connect(live.host.local_addr()).await;
    let ask = async |bytes: &[u8], length: u64| {
        let request = [encode_header(&Request::AddGrant { length }), bytes.to_vec()].concat();
        let (mut send, mut recv) = open_with(&connection, &request).await;
        let _ = send.finish();
        soon(answer(&mut recv)).await.expect("an answer")
    };
    // Every bit of payload and signature counts; here some of each, over the wire.
    let hint = 1 + String::from_utf8_lossy(&good).find("\"keyid\"").unwrap();
    let after = String::from_utf8_lossy(&good).find("\"sig\"").unwrap();
    for at in (0..good.len()).step_by(13).filter(|at| !(hint..after).contains(at)) {
        let mut flipped = good.clone();
        flipped[at] ^= 1;
        let Response::Refused(refusal) = ask(&flipped, flipped.len() as u64).await else {
            panic!("byte {at}")
        };
        assert!(
            matches!(refusal.code, RefusalCode::BadEnvelope | RefusalCode::BadSignature),
            "byte {at}: {refusal:?}"
        );
    }
    for length in [22_873, 1 << 30, u64::MAX] {
        let Response::Refused(refusal) = ask(&[], length).await else { panic!("{length}") };
        assert_eq!(refusal.code, RefusalCode::TooLarge);
    }
    assert!(matches!(ask(&good, good.len() as u64).await, Response::Grants { .. }), "unaltered it is taken");
    live.stop().await;
}

// Red without `not_locked` in `judge`.
#[tokio::test(flavor = "multi_thread")]
async fn a_locked_configuration_lets_rights_end_and_not_begin() {
    let live = site(RIGHTS).await;
    chain(&live, 1).await;
    let client = connect(&live, &ann()).await.unwrap();
    std::fs::write(Home::open(live.dir.path()).unwrap().config_lock(), "").unwrap();
    let more = grant(live.host.public_key(), 2, &ann(), &level(2)).sign(&ann()).unwrap();
    let refusal = refused(client.add_grant(&more).await);
    assert!(refusal.code == RefusalCode::Forbidden && refusal.message.contains("config.lock"), "{refusal:?}");
    let grants = client.grants().await.unwrap();
    client.revoke_grant(grants[0].grant).await.unwrap();
    assert!(connect(&live, &level(1)).await.is_err());
    live.stop().await;
}

// Red without the bounds of `Grants::room`.
#[tokio::test(flavor = "multi_thread")]
async fn a_delegator_has_so_many_grants_and_no_more() {
    let live = site(RIGHTS).await;
    let client = connect(&live, &ann()).await.unwrap();
    let host = *live.host.public_key();
    let key = |number: u16| {
        let mut seed = [9; 32];
        seed[..2].copy_from_slice(&number.to_be_bytes());
        strongroom_job::SecretKey::from_seed(&seed.into())
    };
    let give = async |number: u16| {
        client.add_grant(&grant(&host, number, &ann(), &key(number)).sign(&ann()).unwrap()).await
    };
    for number in 0..64 {
        give(number).await.unwrap();
    }
    assert_eq!(refused(give(64).await).code, RefusalCode::QuotaReached);
    // Its id must not come back, so it still counts.
    let grants = client.grants().await.unwrap();
    assert_eq!(grants.len(), 64);
    client.revoke_grant(grants[0].grant).await.unwrap();
    assert_eq!(refused(give(64).await).code, RefusalCode::QuotaReached);
    live.stop().await;
}

// Each is a record for ever. Red without `lately` in `Grants::room`.
#[test]
fn grants_that_are_soon_over_are_no_way_to_fill_the_log() {
    let host = bob().public();
    let config = Config::parse(Config::example(&ann().public(), "example.com/grants").as_bytes()).unwrap();
    let giver = &config.principals[0];
    let body = |number: u16| {
        let body = grant(&host, number, &ann(), &level(1));
        let queues = None;
        DelegationBody {
            tenant: giver.tenant.clone(),
            queues,
            volumes: Default::default(),
            roles: [Role::View].into(),
            ..body
        }
    };
    let now = body(0).not_before;
    let asking = |now| Asking {
        host: &host,
        config: &config,
        speaks: true,
        locked: false,
        delegator: Some(giver),
        now,
    };
    let mut grants = Grants::default();
    for number in 0..64 {
        let body = body(number);
        let (signed, id) = (body.sign(&ann()).unwrap(), body.id);
        assert!(matches!(grants.judge(&signed, &asking(now)), Ok(Taken::New(None))));
        // And over.
        grants = grants.with(signed, u64::from(number), None, now).without(&[id]);
    }
    let more = body(64).sign(&ann()).unwrap();
    assert_eq!(grants.judge(&more, &asking(now)).unwrap_err().code, RefusalCode::QuotaReached);
    let later = now.saturating_add(Duration::from_secs(600));
    assert!(matches!(grants.judge(&more, &asking(later)), Ok(Taken::New(None))));
}
