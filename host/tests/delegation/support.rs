//! A host with principals, and grants between keys.

use std::time::Duration;

use strongroom::clock::Clock;
use strongroom::config::Config;
use strongroom::home::Home;
use strongroom::host::{ReloadError, Reloaded};
use strongroom_job::delegation::{DelegationBody, SignedDelegation};
use strongroom_job::{JobId, PublicKey, Refusal, Role, SecretKey};
use strongroom_sdk::{Client, ConnectOptions, Error};

use crate::common::live::{Live, start};
pub(crate) use crate::common::patience::soon;
pub(crate) use crate::common::principals::put;
use crate::common::secret;

/// A principal of the host's configuration, and those below it.
pub(crate) fn ann() -> SecretKey {
    secret(31)
}

/// Somebody of another tenant.
pub(crate) fn bob() -> SecretKey {
    secret(32)
}

/// A delegate, by its level.
pub(crate) fn level(number: u8) -> SecretKey {
    secret(40 + number)
}

/// What ann may do.
pub(crate) const RIGHTS: &str = r#"tenant = "web"
roles = ["view", "submit"]
connect = ["db.example.com:5432", "10.0.0.0/8:80-90"]
secrets = ["token"]
"#;

/// A host that knows ann, with these rights, and bob.
pub(crate) async fn site(rights: &str) -> Live {
    let dir = tempfile::tempdir().unwrap();
    put(dir.path(), &[("ann", &ann(), rights), ("bob", &bob(), "tenant = \"other\"\n")]);
    Live { host: start(dir.path(), |_| {}).await, dir }
}

/// The host reads its file again.
pub(crate) async fn reload(live: &Live) -> Result<Reloaded, ReloadError> {
    let config = Config::load(&Home::open(live.dir.path()).unwrap().config()).unwrap();
    soon(live.host.reload(config)).await
}

pub(crate) async fn connect(live: &Live, key: &SecretKey) -> Result<Client, Error> {
    let mut options = ConnectOptions::new(live.host.local_addr(), *live.host.public_key(), key.clone());
    options.retry = strongroom_sdk::Retry::none();
    soon(Client::connect(options)).await
}

/// Gives two roles in the tenant of ann, for an hour; the higher the number, the sooner it ends.
pub(crate) fn grant(host: &PublicKey, number: u16, from: &SecretKey, to: &SecretKey) -> DelegationBody {
    let now = Clock::default().now();
    let mut id = [7; 16];
    id[14..].copy_from_slice(&number.to_be_bytes());
    DelegationBody::new(
        JobId::from_bytes(id),
        *host,
        (from.public(), to.public()),
        (format!("delegate-{number}").parse().unwrap(), "web".parse().unwrap()),
        (now, now.saturating_add(Duration::from_secs(3600 - u64::from(number)))),
        &[Role::View, Role::Submit],
    )
}

/// Ann gives to level 1, that to level 2, and so on, as deep as it goes.
pub(crate) async fn chain(live: &Live, depth: u8) -> Vec<SignedDelegation> {
    let host = live.host.public_key();
    let mut from = ann();
    let mut given = Vec::new();
    for number in 1..=depth {
        let body =
            DelegationBody { further: 4 - number, ..grant(host, u16::from(number), &from, &level(number)) };
        let signed = body.sign(&from).unwrap();
        let view = connect(live, &from).await.unwrap().add_grant(&signed).await.unwrap();
        assert!(view.in_force, "{view:?}");
        given.push(signed);
        from = level(number);
    }
    given
}

/// What a host refused.
pub(crate) fn refused<T: std::fmt::Debug>(answer: Result<T, Error>) -> Refusal {
    match answer {
        Err(Error::Refused(refusal)) => refusal,
        other => panic!("not refused: {other:?}"),
    }
}
