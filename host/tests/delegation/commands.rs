//! What commands of operators come to beside everything else that says who may come in: grants, the trust file, each other, a long list.

use std::time::Duration;

use strongroom::clock::Clock;
use strongroom::config::Config;
use strongroom::home::Home;
use strongroom_job::principal::CommandBody;
use strongroom_job::trust::{TrustBody, TrustDraft};
use strongroom_job::{Event, GrantEnd, PublicKey, RefusalCode, SecretKey, Timestamp};
use strongroom_sdk::Client;

use crate::common::live::{Live, passes, start};
use crate::common::records::records;
use crate::common::secret;
use crate::principal::{ada, add, entry, of, order, restore, revoke, site, works};
use crate::support::{RIGHTS, ann, bob, chain, connect, grant, level, put, refused};

/// Another who may change principals.
fn eve() -> SecretKey {
    secret(34)
}

const ADMIN: &str = "roles = [\"admin\"]\n";

// Red without `end_of_the_revoked` in `take_command`, or with one that looks at who gave alone: grants come back with their key, or stay.
#[tokio::test(flavor = "multi_thread")]
async fn grants_of_a_key_that_is_out_end_for_good() {
    let live = site().await;
    let host = *live.host.public_key();
    let given = chain(&live, 3).await;
    let operator = connect(&live, &ada()).await.unwrap();

    // A delegate in the middle: it and all below it, and nobody above.
    operator.change_principal(&revoke(&host, 1, &level(2))).await.unwrap();
    assert!(connect(&live, &level(1)).await.is_ok());
    for number in [2, 3] {
        assert!(connect(&live, &level(number)).await.is_err(), "level {number}");
    }
    let anew = async |giver: &SecretKey, number: u16, to: &SecretKey| {
        let signed = grant(&host, number, giver, to).sign(giver).unwrap();
        connect(&live, giver).await.unwrap().add_grant(&signed).await
    };
    let out = refused(anew(&ann(), 10, &level(2)).await);
    assert!(out.code == RefusalCode::Conflict && out.message.contains("restore"), "{out:?}");
    operator.change_principal(&restore(&host, 2, &level(2))).await.unwrap();
    assert!(connect(&live, &level(2)).await.is_err(), "a key that nothing names is nobody");
    anew(&ann(), 11, &level(2)).await.unwrap();
    works(&connect(&live, &level(2)).await.unwrap()).await;

    // The root: back, it has given nothing.
    operator.change_principal(&revoke(&host, 3, &ann())).await.unwrap();
    operator.change_principal(&restore(&host, 4, &ann())).await.unwrap();
    let root = connect(&live, &ann()).await.unwrap();
    for number in 1..=3 {
        assert!(connect(&live, &level(number)).await.is_err(), "level {number}");
    }
    assert_eq!(root.grants().await.unwrap(), []);
    let again = refused(root.add_grant(&given[0]).await);
    assert_eq!(again.code, RefusalCode::Conflict, "an id that has ended");

    let dir = live.stop().await;
    let ended: Vec<_> = records(dir.path())
        .into_iter()
        .filter_map(|record| match record.event {
            Event::GrantsEnded { mut grants, why, principal, .. } => {
                grants.sort_unstable();
                Some((grants, why, principal))
            }
            _ => None,
        })
        .collect();
    let (id, by) = (|at: usize| given[at].body().id, ada().public());
    let mut last = vec![id(0), grant(&host, 11, &ann(), &level(2)).id];
    last.sort_unstable();
    let revoked = |grants| (grants, GrantEnd::Revoked, by);
    assert_eq!(ended, [revoked(vec![id(1), id(2)]), revoked(last)]);
}

// Red without `is_later` in `judge`.
#[tokio::test(flavor = "multi_thread")]
async fn what_lets_in_is_never_older_than_what_took_out() {
    let live = site().await;
    let host = *live.host.public_key();
    let operator = connect(&live, &ada()).await.unwrap();
    let before = |body: CommandBody| {
        let not_before = Timestamp::from_millis(body.not_before.as_millis() - 60_000);
        CommandBody { not_before, ..body }.sign(&ada()).unwrap()
    };
    // Signed a minute earlier, and only handed in now: she did not know of what follows.
    let back = before(CommandBody { restore: Some(ann().public()), ..order(&host, 1) });
    let new = before(CommandBody { add: Some(Box::new(entry("ci", &level(1)))), ..order(&host, 2) });
    let out = before(CommandBody { revoke: Some(bob().public()), ..order(&host, 3) });
    operator.change_principal(&add(&host, 4, entry("ci", &level(1)))).await.unwrap();
    for (number, key) in [(5, ann()), (6, level(1))] {
        operator.change_principal(&revoke(&host, number, &key)).await.unwrap();
    }
    for older in [&back, &new] {
        let refusal = refused(operator.change_principal(older).await);
        assert!(refusal.code == RefusalCode::Conflict && refusal.message.contains("older"), "{refusal:?}");
    }
    for key in [ann(), level(1)] {
        assert!(connect(&live, &key).await.is_err());
    }
    // What takes a key out may be as old as its time allows.
    operator.change_principal(&out).await.unwrap();
    assert!(connect(&live, &bob()).await.is_err());
    operator.change_principal(&restore(&host, 7, &ann())).await.unwrap();
    assert!(connect(&live, &ann()).await.is_ok());
    live.stop().await;
}

// Red without the look at who asks in `take_command`: then both are out.
#[tokio::test(flavor = "multi_thread")]
async fn of_two_operators_who_take_each_other_out_one_is_left() {
    let dir = tempfile::tempdir().unwrap();
    put(dir.path(), &[("ada", &ada(), ADMIN), ("eve", &eve(), ADMIN)]);
    let live = Live { host: start(dir.path(), |_| {}).await, dir };
    let host = *live.host.public_key();
    let (one, other) = (connect(&live, &ada()).await.unwrap(), connect(&live, &eve()).await.unwrap());
    let by_ada = revoke(&host, 1, &eve());
    let by_eve = CommandBody { operator: eve().public(), revoke: Some(ada().public()), ..order(&host, 2) };
    let by_eve = by_eve.sign(&eve()).unwrap();
    let (ada_won, eve_won) = tokio::join!(one.change_principal(&by_ada), other.change_principal(&by_eve));
    assert!(ada_won.is_ok() != eve_won.is_ok(), "{ada_won:?}, {eve_won:?}");
    let left = [connect(&live, &ada()).await.is_ok(), connect(&live, &eve()).await.is_ok()];
    assert_eq!(left, [ada_won.is_ok(), eve_won.is_ok()]);
    live.stop().await;
}

// Red without the question for `is_operator` in `take_command`.
#[tokio::test(flavor = "multi_thread")]
async fn whom_the_trust_file_does_not_name_or_not_any_more_changes_no_principal() {
    let dir = tempfile::tempdir().unwrap();
    put(dir.path(), &[("ada", &ada(), ADMIN), ("eve", &eve(), ADMIN), ("ann", &ann(), RIGHTS)]);
    let home = Home::open(dir.path()).unwrap();
    let log = Config::load(&home.config()).unwrap().log_origin.parse().unwrap();
    let expires = Clock::default().now().saturating_add(Duration::from_secs(3600));
    let mut draft =
        TrustDraft::first(TrustBody::new(log, 1, expires, 1, &[ada().public()]).unwrap()).unwrap();
    draft.sign(&ada()).unwrap();
    std::fs::write(dir.path().join("trust"), draft.finish().unwrap().to_bytes()).unwrap();
    let live = Live { host: start(dir.path(), |_| {}).await, dir };
    let host = *live.host.public_key();

    let by_eve = CommandBody { operator: eve().public(), revoke: Some(ann().public()), ..order(&host, 1) };
    let by_eve = by_eve.sign(&eve()).unwrap();
    let unnamed = refused(connect(&live, &eve()).await.unwrap().change_principal(&by_eve).await);
    assert!(unnamed.code == RefusalCode::Forbidden && unnamed.message.contains("trust file"), "{unnamed:?}");
    let operator = connect(&live, &ada()).await.unwrap();
    // Whom a command makes an operator of is none by that alone, either.
    let made = strongroom_job::principal::Entry {
        roles: vec![strongroom_job::Role::Admin],
        ..entry("new", &level(1))
    };
    operator.change_principal(&add(&host, 2, made)).await.unwrap();
    let new = connect(&live, &level(1)).await.unwrap();
    let by_new = CommandBody { operator: level(1).public(), revoke: Some(ann().public()), ..order(&host, 3) };
    let unnamed = refused(new.change_principal(&by_new.sign(&level(1)).unwrap()).await);
    assert_eq!(unnamed.code, RefusalCode::Forbidden);
    operator.change_principal(&revoke(&host, 4, &level(1))).await.unwrap();

    let dir = live.stop().await;
    passes(dir.path(), Duration::from_secs(3600)).await;
    let live = Live { host: start(dir.path(), |_| {}).await, dir };
    let operator = connect(&live, &ada()).await.unwrap();
    let window = (expires, expires.saturating_add(Duration::from_secs(600)));
    let late = CommandBody {
        revoke: Some(ann().public()),
        not_before: window.0,
        not_after: window.1,
        ..order(&host, 5)
    };
    let expired = refused(operator.change_principal(&late.sign(&ada()).unwrap()).await);
    assert!(expired.code == RefusalCode::Forbidden && expired.message.contains("expired"), "{expired:?}");
    assert!(connect(&live, &ann()).await.is_ok());
    live.stop().await;
}

// Red without `after` in `show_principals` (the list never ends: the client says so), and without `more`.
#[tokio::test(flavor = "multi_thread")]
async fn a_list_of_several_pages_has_everybody_once() {
    let dir = tempfile::tempdir().unwrap();
    let keys: Vec<SecretKey> = (100..230).map(secret).collect();
    let names: Vec<String> = (0..keys.len()).map(|number| format!("p{number}")).collect();
    let mut principals: Vec<(&str, &SecretKey, &str)> =
        names.iter().zip(&keys).map(|(name, key)| (name.as_str(), key, RIGHTS)).collect();
    let ada = ada();
    principals.push(("ada", &ada, ADMIN));
    put(dir.path(), &principals);
    let live = Live { host: start(dir.path(), |_| {}).await, dir };
    let host = *live.host.public_key();
    let operator: Client = connect(&live, &ada).await.unwrap();
    operator.change_principal(&revoke(&host, 1, &keys[7])).await.unwrap();
    operator.change_principal(&add(&host, 2, entry("ci", &level(1)))).await.unwrap();
    let all = operator.principals().await.unwrap();
    let owner = Home::open(live.dir.path()).unwrap().client_key().unwrap();
    let mut expected: Vec<PublicKey> = keys.iter().map(SecretKey::public).collect();
    expected.extend([ada.public(), owner.public(), level(1).public()]);
    expected.sort_unstable_by_key(|key| *key.as_bytes());
    assert_eq!(all.iter().map(|view| view.key).collect::<Vec<_>>(), expected);
    assert_eq!(
        all.iter().filter(|view| view.revoked).map(|view| view.key).collect::<Vec<_>>(),
        [keys[7].public()]
    );
    assert!(of(&all, &keys[7]).log_index.is_some() && of(&all, &keys[8]).log_index.is_none());
    live.stop().await;
}
