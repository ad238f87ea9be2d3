//! Commands of operators: a key in, a key out, another in its place; nobody else says so, and it stays so.

use std::time::Duration;

use strongroom::admission::command::{Asking, Commands, Judged, Kept, MAX_ADDING, MAX_COMMANDS};
use strongroom::admission::delegation::Grants;
use strongroom::clock::Clock;
use strongroom::config::Config;
use strongroom::home::Home;
use strongroom_job::frame::encode_header;
use strongroom_job::principal::{CommandBody, CommandId, Entry, MAX_COMMAND_LIFETIME, SignedCommand};
use strongroom_job::{
    Access, Event, JobId, JobState, PrincipalSource, PrincipalView, PublicKey, RefusalCode, Request,
    Response, Role, SecretKey, Timestamp,
};
use strongroom_sdk::{Client, Error, Identity, Job};

use crate::common::live::{Live, assert_succeeded, push_wat, run, says, start};
use crate::common::raw::{Peer, answer, open_with};
use crate::common::records::records;
use crate::common::secret;
use crate::ended::{running, thrown_out};
use crate::support::{RIGHTS, ann, bob, chain, connect, level, put, refused, reload, soon};

/// Who may change principals.
pub(crate) fn ada() -> SecretKey {
    secret(33)
}

/// A host that knows ann and bob, and ada, who may do everything.
pub(crate) async fn site() -> Live {
    let dir = tempfile::tempdir().unwrap();
    let ada = ada();
    let principals = [
        ("ada", &ada, "roles = [\"admin\"]\n"),
        ("ann", &ann(), RIGHTS),
        ("bob", &bob(), "tenant = \"other\"\n"),
    ];
    put(dir.path(), &principals);
    Live { host: start(dir.path(), |_| {}).await, dir }
}

/// A command of ada's that orders nothing yet.
pub(crate) fn order(host: &PublicKey, number: u16) -> CommandBody {
    let now = Clock::default().now();
    let mut id = [8; 16];
    id[14..].copy_from_slice(&number.to_be_bytes());
    let window = (now, now.saturating_add(Duration::from_secs(600)));
    CommandBody::new(CommandId::from_bytes(id), *host, ada().public(), window)
}

pub(crate) fn revoke(host: &PublicKey, number: u16, key: &SecretKey) -> SignedCommand {
    CommandBody { revoke: Some(key.public()), ..order(host, number) }.sign(&ada()).unwrap()
}

pub(crate) fn restore(host: &PublicKey, number: u16, key: &SecretKey) -> SignedCommand {
    CommandBody { restore: Some(key.public()), ..order(host, number) }.sign(&ada()).unwrap()
}

pub(crate) fn add(host: &PublicKey, number: u16, entry: Entry) -> SignedCommand {
    CommandBody { add: Some(Box::new(entry)), ..order(host, number) }.sign(&ada()).unwrap()
}

/// Somebody of ann's tenant who may see and submit, and reach one place.
pub(crate) fn entry(name: &str, key: &SecretKey) -> Entry {
    Entry {
        key: key.public(),
        name: name.parse().unwrap(),
        tenant: "web".parse().unwrap(),
        roles: vec![Role::View, Role::Submit],
        volumes: std::collections::BTreeMap::new(),
        connect: vec!["db.example.com:5432".parse().unwrap()],
        listen: Vec::new(),
        http: Vec::new(),
        secrets: vec!["token".parse().unwrap()],
    }
}

pub(crate) fn of<'a>(views: &'a [PrincipalView], key: &SecretKey) -> &'a PrincipalView {
    views.iter().find(|view| view.key == key.public()).expect("the key is listed")
}

/// The state is lost, and made anew from the log.
async fn rebuilt(live: Live) -> Live {
    let dir = live.stop().await;
    std::fs::remove_dir_all(dir.path().join("state")).unwrap();
    Live { host: start(dir.path(), |_| {}).await, dir }
}

pub(crate) async fn works(client: &Client) {
    let module = push_wat(client, &says("hello", 0)).await;
    assert_succeeded(&run(client, &Job::new(module)).await);
}

// Red when `Commands::over` leaves out `made` (nobody comes in), and when a principal that a command made gets `any_network`.
#[tokio::test(flavor = "multi_thread")]
async fn who_is_added_may_do_what_was_said_and_no_more() {
    let live = site().await;
    let host = *live.host.public_key();
    assert!(connect(&live, &level(1)).await.is_err(), "nobody knows it yet");
    let operator = connect(&live, &ada()).await.unwrap();
    let views = operator.change_principal(&add(&host, 1, entry("ci", &level(1)))).await.unwrap();
    let view = of(&views, &level(1));
    assert_eq!((view.source, view.revoked), (Some(PrincipalSource::Command), false));
    assert_eq!(view.entry.as_deref(), Some(&entry("ci", &level(1))));

    let client = connect(&live, &level(1)).await.unwrap();
    works(&client).await;
    let module = push_wat(&client, &says("hello", 0)).await;
    let reach = async |to: &str| client.submit(&Job::new(module).connect(to)).await;
    reach("db.example.com:5432").await.unwrap();
    assert_eq!(refused(reach("10.0.0.1:80").await).code, RefusalCode::NotGranted);
    let role = refused(client.set_queue(&"default".parse().unwrap(), strongroom_job::QueueMode::Open).await);
    assert_eq!(role.missing, ["operate"]);
    let other = refused(client.change_principal(&revoke(&host, 2, &ann())).await);
    assert_eq!((other.code, other.missing), (RefusalCode::MissingRole, vec!["admin".to_owned()]));
    assert_eq!(refused(client.principals().await).code, RefusalCode::MissingRole);

    // It goes on over a restart and the loss of the state, and ends with its revocation.
    let live = rebuilt(live.restart().await).await;
    let operator = connect(&live, &ada()).await.unwrap();
    assert_eq!(of(&operator.principals().await.unwrap(), &level(1)), view);
    works(&connect(&live, &level(1)).await.unwrap()).await;
    operator.change_principal(&revoke(&host, 3, &level(1))).await.unwrap();
    assert!(connect(&live, &level(1)).await.is_err());
    // A replay brings nothing back: it is done once.
    let again = operator.change_principal(&add(&host, 1, entry("ci", &level(1)))).await;
    assert!(matches!(again, Err(Error::Refused(_))), "another window is another command: {again:?}");
    let dir = live.stop().await;
    let told: Vec<_> = records(dir.path()).into_iter().filter_map(|record| changed(record.event)).collect();
    assert_eq!(told, [(None, Some(level(1).public())), (Some(level(1).public()), None)]);
    let missing = records(dir.path()).into_iter().any(|record| {
        matches!(record.event, Event::Refused { principal, role: Some(Role::Admin), .. } if principal == level(1).public())
    });
    assert!(missing, "whoever is no operator is in the log, with the role");
}

/// What a record says of keys, after its signature was checked.
fn changed(event: Event) -> Option<(Option<PublicKey>, Option<PublicKey>)> {
    let Event::PrincipalChanged { principal, revoked, added, payload, signature, .. } = event else {
        return None;
    };
    let signed = SignedCommand::from_parts(&payload, &signature).unwrap();
    assert_eq!((principal, signed.body().operator), (ada().public(), ada().public()));
    Some((revoked, added))
}

// Hostile test 11. Red without `retain` in `Commands::over` (ann stays), and without `enforce` in `take_command` (nobody is thrown out).
#[tokio::test(flavor = "multi_thread")]
async fn a_key_of_the_file_is_out_at_once_and_stays_out() {
    let live = site().await;
    let host = *live.host.public_key();
    let client = connect(&live, &ann()).await.unwrap();
    let job = running(&client).await;
    chain(&live, 2).await;
    let quiet = [ann(), level(2)].map(Identity::from);
    let mut connections = Vec::new();
    for identity in &quiet {
        connections.push(Peer::known(identity).connect(live.host.local_addr()).await);
    }
    let operator = connect(&live, &ada()).await.unwrap();
    let command = revoke(&host, 1, &ann());
    let views = operator.change_principal(&command).await.unwrap();
    let view = of(&views, &ann()).clone();
    assert_eq!((view.source, view.revoked), (Some(PrincipalSource::File), true));
    for connection in &connections {
        thrown_out(connection).await;
    }
    for key in [ann(), level(1), level(2)] {
        assert!(connect(&live, &key).await.is_err(), "ann and all below her are out");
    }
    assert_eq!(operator.change_principal(&command).await.unwrap(), views, "the first answer again");
    let twice = refused(operator.change_principal(&revoke(&host, 2, &ann())).await);
    assert_eq!(twice.code, RefusalCode::Conflict);

    // The same file again brings nobody back; nor does a start, or a state that is made anew.
    reload(&live).await.unwrap();
    assert!(connect(&live, &ann()).await.is_err());
    let live = rebuilt(live.restart().await).await;
    assert!(connect(&live, &ann()).await.is_err());
    let operator = connect(&live, &ada()).await.unwrap();
    assert_eq!(of(&operator.principals().await.unwrap(), &ann()), &view);
    let named = refused(operator.change_principal(&add(&host, 3, entry("other", &ann()))).await);
    assert!(named.code == RefusalCode::Conflict && named.message.contains("restore"), "{named:?}");
    operator.change_principal(&restore(&host, 4, &ann())).await.unwrap();
    let client = connect(&live, &ann()).await.unwrap();
    assert_eq!(client.show(job).await.unwrap().state, JobState::Cancelled, "what was stopped stays so");
    works(&client).await;
    live.stop().await;
}

// Red without the comparison at the end of `can_go`.
#[tokio::test(flavor = "multi_thread")]
async fn another_key_takes_the_place_with_the_same_rights() {
    let live = site().await;
    let host = *live.host.public_key();
    let operator = connect(&live, &ada()).await.unwrap();
    let before = of(&operator.principals().await.unwrap(), &ann()).entry.clone().unwrap();
    let rotate = |number, entry: Entry| {
        let body =
            CommandBody { revoke: Some(ann().public()), add: Some(Box::new(entry)), ..order(&host, number) };
        body.sign(&ada()).unwrap()
    };
    let new = Entry { key: level(1).public(), ..*before.clone() };
    let more = Entry { roles: vec![Role::Admin], ..new.clone() };
    assert_eq!(refused(operator.change_principal(&rotate(1, more)).await).code, RefusalCode::Conflict);
    let quiet = Peer::known(&Identity::from(ann())).connect(live.host.local_addr()).await;
    let views = operator.change_principal(&rotate(2, new.clone())).await.unwrap();
    assert_eq!((of(&views, &ann()).revoked, of(&views, &level(1)).entry.as_deref()), (true, Some(&new)));
    thrown_out(&quiet).await;
    assert!(connect(&live, &ann()).await.is_err());
    works(&connect(&live, &level(1)).await.unwrap()).await;
    // The old one cannot come back beside it: both have one name.
    let back = refused(operator.change_principal(&restore(&host, 3, &ann())).await);
    assert_eq!(back.code, RefusalCode::Conflict);
    // The next one, of a principal that a command made.
    let next = Entry { key: level(2).public(), ..new };
    let body = CommandBody { revoke: Some(level(1).public()), add: Some(Box::new(next)), ..order(&host, 4) };
    operator.change_principal(&body.sign(&ada()).unwrap()).await.unwrap();
    let live = rebuilt(live.restart().await).await;
    assert!(connect(&live, &ann()).await.is_err() && connect(&live, &level(1)).await.is_err());
    works(&connect(&live, &level(2)).await.unwrap()).await;
    // The file wins over it, once it calls somebody else so.
    let (ada, carol) = (ada(), level(4));
    put(live.dir.path(), &[("ada", &ada, "roles = [\"admin\"]\n"), ("ann", &carol, RIGHTS)]);
    reload(&live).await.unwrap();
    assert!(connect(&live, &level(2)).await.is_err());
    works(&connect(&live, &carol).await.unwrap()).await;
    live.stop().await;
}

// Red without the line of `judge`, or of what it calls, that each is about.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_an_operators_own_good_command_is_not_taken() {
    let live = site().await;
    let host = *live.host.public_key();
    let operator = connect(&live, &ada()).await.unwrap();
    let no = async |command: SignedCommand| refused(operator.change_principal(&command).await);
    let signed = |body: CommandBody| body.sign(&ada()).unwrap();
    let out = |number| CommandBody { revoke: Some(bob().public()), ..order(&host, number) };
    let now = Clock::default().now();
    let (hour, past) = (Duration::from_secs(3600), Timestamp::from_millis(now.as_millis() - 3_600_000));

    let elsewhere = CommandBody { audience: ann().public(), ..out(1) };
    assert_eq!(no(signed(elsewhere)).await.code, RefusalCode::WrongAudience);
    let late = CommandBody { not_before: past, not_after: now, ..out(1) };
    assert_eq!(no(signed(late)).await.code, RefusalCode::Expired);
    let later = now.saturating_add(hour);
    let early = CommandBody { not_before: later, not_after: later.saturating_add(hour), ..out(1) };
    assert_eq!(no(signed(early)).await.code, RefusalCode::NotYetValid);
    let others = CommandBody { operator: ann().public(), ..out(1) }.sign(&ann()).unwrap();
    assert_eq!(no(others).await.code, RefusalCode::Forbidden, "ann is no operator, whoever hands it in");
    let own = no(revoke(&host, 1, &ada())).await;
    assert!(
        own.code == RefusalCode::Forbidden && own.message.contains("an operator is always left"),
        "{own:?}"
    );
    assert_eq!(no(revoke(&host, 1, &level(1))).await.code, RefusalCode::Conflict, "nobody's key");
    assert_eq!(no(restore(&host, 1, &ann())).await.code, RefusalCode::Conflict, "ann is in");
    for taken in [entry("new", &ann()), entry("ann", &level(1))] {
        assert_eq!(no(add(&host, 1, taken)).await.code, RefusalCode::Conflict);
    }
    let mut volume = entry("new", &level(1));
    volume.volumes.insert("nowhere".parse().unwrap(), Access::Read);
    let volume = no(add(&host, 1, volume)).await;
    assert_eq!((volume.code, volume.missing.len()), (RefusalCode::NotGranted, 1));
    chain(&live, 1).await;
    assert_eq!(no(add(&host, 1, entry("new", &level(1)))).await.code, RefusalCode::Conflict, "a delegate");
    assert_eq!(no(add(&host, 1, entry("delegate-1", &level(2)))).await.code, RefusalCode::Conflict);

    let lock = Home::open(live.dir.path()).unwrap().config_lock();
    std::fs::write(&lock, "").unwrap();
    let locked = no(signed(out(1))).await;
    assert!(locked.code == RefusalCode::Forbidden && locked.message.contains("config.lock"), "{locked:?}");
    std::fs::remove_file(&lock).unwrap();

    // Of each bit, over the wire.
    let good = signed(out(1));
    let bytes = good.to_bytes();
    let connection = Peer::known(&Identity::from(ada())).connect(live.host.local_addr()).await;
    let ask = async |bytes: &[u8], length: u64| {
        let request = [encode_header(&Request::ChangePrincipal { length }), bytes.to_vec()].concat();
        let (mut send, mut recv) = open_with(&connection, &request).await;
        let _ = send.finish();
        soon(answer(&mut recv)).await.expect("an answer")
    };
    let hint = 1 + String::from_utf8_lossy(&bytes).find("\"keyid\"").unwrap();
    let after = String::from_utf8_lossy(&bytes).find("\"sig\"").unwrap();
    for at in (0..bytes.len()).step_by(7).filter(|at| !(hint..after).contains(at)) {
        let mut flipped = bytes.clone();
        flipped[at] ^= 1;
        let Response::Refused(refusal) = ask(&flipped, flipped.len() as u64).await else {
            panic!("byte {at}")
        };
        let codes = [RefusalCode::BadEnvelope, RefusalCode::BadSignature];
        assert!(codes.contains(&refusal.code), "byte {at}: {refusal:?}");
    }
    let Response::Refused(long) = ask(&[], 22_873).await else { panic!("taken") };
    assert_eq!(long.code, RefusalCode::TooLarge);
    assert!(connect(&live, &bob()).await.is_ok(), "nothing was changed so far");
    operator.change_principal(&good).await.unwrap();
    let reused = CommandBody { revoke: Some(ann().public()), ..good.body().clone() };
    assert_eq!(no(signed(reused)).await.code, RefusalCode::Conflict, "the id is another command's");
    // What was done is not done again, whatever came after it.
    operator.change_principal(&restore(&host, 2, &bob())).await.unwrap();
    operator.change_principal(&good).await.unwrap();
    let live = live.restart().await;
    connect(&live, &ada()).await.unwrap().change_principal(&good).await.unwrap();
    assert!(connect(&live, &bob()).await.is_ok());
    live.stop().await;
}

// Red when `reload` asks the file alone.
#[tokio::test(flavor = "multi_thread")]
async fn a_file_whose_operators_are_all_out_is_refused() {
    let live = site().await;
    let host = *live.host.public_key();
    let operator = connect(&live, &ada()).await.unwrap();
    let owner = Home::open(live.dir.path()).unwrap().client_key().unwrap();
    operator.change_principal(&revoke(&host, 1, &owner)).await.unwrap();
    // Without ada, whose key is left out, the file's owner would be the one operator.
    put(live.dir.path(), &[("ann", &ann(), RIGHTS)]);
    assert!(matches!(reload(&live).await, Err(strongroom::host::ReloadError::LockedOut(_))));
    assert!(connect(&live, &ada()).await.is_ok());
    live.stop().await;
}

// Red without the bounds of `judge`, and when a rotation has that of a `revoke`; without `stays` in `spent`, the last part is.
#[test]
fn commands_are_bounded_and_let_go_in_an_order_that_keeps_their_meaning() {
    let host = secret(1).public();
    let who = ada().public();
    let file = Config::parse(Config::example(&who, "example.com/commands").as_bytes()).unwrap();
    let grants = Grants::default();
    let now = Clock::default().now();
    let command = |number: u16, key: &SecretKey| add(&host, number, entry(&format!("n{number}"), key));
    let asking = |now| Asking {
        host: &host,
        who: &who,
        file: &file,
        config: &file,
        grants: &grants,
        locked: false,
        now,
    };
    let key = |number: u16| {
        let mut seed = [9; 32];
        seed[..2].copy_from_slice(&number.to_be_bytes());
        SecretKey::from_seed(&seed.into())
    };
    let most = u16::try_from(MAX_ADDING).unwrap();
    let kept =
        (0..most).map(|number| Kept { signed: command(number, &key(number)), log_index: number.into() });
    let full = Commands::of(kept);
    let more = command(most, &key(most));
    let soon = now.saturating_add(Duration::from_secs(60));
    assert_eq!(full.judge(&more, &asking(soon)).unwrap_err().code, RefusalCode::QuotaReached);
    // A key can still be taken out.
    let out = revoke(&host, most, &key(0));
    assert_eq!(full.judge(&out, &asking(soon)), Ok(Judged::New(Vec::new())));
    // Not by another one in its place, which holds a place for good.
    let rotated = CommandBody {
        revoke: Some(key(0).public()),
        add: Some(Box::new(entry("n0", &key(most)))),
        ..order(&host, most)
    };
    let over = full.over(&file);
    let asking_all = Asking { config: &over, ..asking(soon) };
    let refused = full.judge(&rotated.sign(&ada()).unwrap(), &asking_all).unwrap_err();
    assert_eq!(refused.code, RefusalCode::QuotaReached, "{refused:?}");
    let outs = (most..u16::try_from(MAX_COMMANDS).unwrap())
        .map(|number| Kept { signed: revoke(&host, number, &key(number - most)), log_index: number.into() });
    let all =
        (0..most).map(|number| Kept { signed: command(number, &key(number)), log_index: number.into() });
    let full = Commands::of(all.chain(outs));
    let out = revoke(&host, 5000, &key(700));
    assert_eq!(full.judge(&out, &asking(soon)).unwrap_err().code, RefusalCode::QuotaReached);
    // Those that are worth nothing any more go when their time is up, in steps.
    let later = now.saturating_add(Duration::from_secs(3600));
    assert_eq!(full.spent(later).len(), 256);

    // Bob is out for a long time by a command with a long time, and back by one with a short time: that one stays until the first goes.
    let long = CommandBody {
        not_after: now.saturating_add(MAX_COMMAND_LIFETIME - Duration::from_secs(1)),
        revoke: Some(bob().public()),
        ..order(&host, 1)
    };
    let kept = [long.sign(&ada()).unwrap(), restore(&host, 2, &bob())];
    let commands = Commands::of((0..).zip(kept).map(|(log_index, signed)| Kept { signed, log_index }));
    assert!(commands.spent(later).is_empty() && !commands.is_revoked(&bob().public()));
    let end = now.saturating_add(MAX_COMMAND_LIFETIME);
    assert_eq!(commands.spent(end), [1, 2].map(|number| order(&host, number).id));
    let more = revoke(&host, 3, &ann());
    let next = commands.with(more, 2, &commands.spent(end));
    assert!(!next.is_revoked(&bob().public()) && next.is_revoked(&ann().public()));
    assert_eq!(next.get(&JobId::from_bytes(*order(&host, 1).id.as_bytes())), None);
}
