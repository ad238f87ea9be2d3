//! Who operates a host is said by its trust file, and no earlier version of it comes back.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failed unwrap is a failed test")]

mod common;

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use common::live::{assert_succeeded, compiler, push_wat, run, says};
use common::records::records;
use common::secret;
use strongroom::clock::{Clock, Hands};
use strongroom::config::{Config, Principal, Roles};
use strongroom::home::Home;
use strongroom::host::{Host, StartError, Stop};
use strongroom::store::NoFault;
use strongroom_job::note::KeyName;
use strongroom_job::trust::{TrustBody, TrustFile};
use strongroom_job::{
    Event, JobId, QueueMode, Record, RefusalCode, Role, SecretKey, Timestamp, TrustVersion,
};
use strongroom_sdk::{Client, ConnectOptions, Error, Job};
use tempfile::TempDir;

const DAY: u64 = 86_400_000;

/// Hands that show what a test says.
#[derive(Debug)]
struct Shows {
    from: u64,
    later: AtomicU64,
}

impl Shows {
    fn now() -> Arc<Self> {
        Arc::new(Self { from: now().as_millis(), later: 0.into() })
    }

    fn go(&self, later: u64) {
        self.later.store(later, Ordering::SeqCst);
    }
}

impl Hands for Shows {
    fn wall_ms(&self) -> u64 {
        self.from + self.later.load(Ordering::SeqCst)
    }

    fn passed(&self) -> Duration {
        Duration::from_millis(self.later.load(Ordering::SeqCst))
    }
}

fn now() -> Timestamp {
    Clock::default().now()
}

/// A directory whose configuration names three principals: the owner and `second`, both operators there, and `third`, who is none.
struct Site {
    dir: TempDir,
}

impl Site {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        Home::create(dir.path()).unwrap();
        Self { dir }
    }

    fn path(&self) -> &Path {
        self.dir.path()
    }

    fn home(&self) -> Home {
        Home::open(self.path()).unwrap()
    }

    fn owner(&self) -> SecretKey {
        self.home().client_key().unwrap()
    }

    fn log(&self) -> KeyName {
        Config::load(&self.home().config()).unwrap().log_origin.parse().unwrap()
    }

    fn body(&self, version: u64, expires: Timestamp, operators: &[&SecretKey]) -> TrustBody {
        let keys: Vec<_> = operators.iter().map(|key| key.public()).collect();
        TrustBody::new(self.log(), version, expires, 1, &keys).unwrap()
    }

    /// A file that goes on from `before`, or is a first one, for so long from now on.
    fn file(&self, before: Option<TrustFile>, operators: &[&SecretKey], by: &[&SecretKey]) -> TrustFile {
        self.file_until(before, now().saturating_add(Duration::from_millis(DAY)), operators, by)
    }

    fn file_until(
        &self,
        before: Option<TrustFile>,
        expires: Timestamp,
        operators: &[&SecretKey],
        by: &[&SecretKey],
    ) -> TrustFile {
        let version = before.as_ref().map_or(1, |before| before.in_force().version() + 1);
        let body = self.body(version, expires, operators);
        let mut draft = match before {
            Some(before) => before.then(body).unwrap(),
            None => strongroom_job::trust::TrustDraft::first(body).unwrap(),
        };
        for key in by {
            draft.sign(key).unwrap();
        }
        draft.finish().unwrap()
    }

    fn put(&self, bytes: impl AsRef<[u8]>) {
        fs::write(self.path().join("trust"), bytes).unwrap();
    }

    async fn try_start(&self, hands: Option<Arc<dyn Hands>>) -> Result<Host, StartError> {
        let home = self.home().lock().unwrap();
        let mut config = Config::load(&home.config()).unwrap();
        config.listen = ([127, 0, 0, 1], 0).into();
        let operates = Roles::USUAL.and(Role::Operate);
        for (name, byte, roles) in [("second", 2, operates), ("third", 3, Roles::USUAL)] {
            let owner = config.principals[0].clone();
            let key = secret(byte).public();
            config.principals.push(Principal { name: name.parse().unwrap(), key, roles, ..owner });
        }
        Box::pin(Host::start_at(home, config, compiler(), Box::new(NoFault), hands)).await
    }

    async fn start(&self) -> Host {
        self.try_start(None).await.unwrap()
    }

    /// Serves once and says which records that made.
    async fn serve(&self) -> Vec<Record> {
        let before = if self.path().join("audit/checkpoint").exists() { self.records().len() } else { 0 };
        stop(self.start().await).await;
        self.records().split_off(before)
    }

    fn records(&self) -> Vec<Record> {
        records(self.path())
    }

    /// A start is refused, in these words, and leaves no record.
    async fn refuses(&self, says: &[&str]) {
        let before = self.records().len();
        let error = match self.try_start(None).await {
            Err(error @ StartError::Trust(_)) => error.to_string(),
            Err(error) => panic!("{error}"),
            Ok(_) => panic!("it starts, and should have said {says:?}"),
        };
        for says in says {
            assert!(error.contains(says), "{says}: {error}");
        }
        assert!(error.contains(&self.path().join("trust").display().to_string()), "{error}");
        assert_eq!(self.records().len(), before);
    }
}

async fn stop(host: Host) {
    Box::pin(host.stop(Stop::Everything(Duration::from_secs(60)))).await;
}

async fn client(host: &Host, key: &SecretKey) -> Client {
    let options = ConnectOptions::new(host.local_addr(), *host.public_key(), key.clone());
    Client::connect(options).await.unwrap()
}

/// Asks for what only an operator may.
async fn operates(client: &Client) -> Result<(), String> {
    match client.set_queue(&"default".parse().unwrap(), QueueMode::Open).await {
        Ok(_) => Ok(()),
        Err(Error::Refused(refusal)) => {
            assert!(matches!(refusal.code, RefusalCode::Forbidden | RefusalCode::MissingRole), "{refusal}");
            Err(refusal.message)
        }
        Err(error) => panic!("{error}"),
    }
}

/// The versions that the log tells of.
fn told(records: &[Record]) -> Vec<(TrustVersion, Option<TrustVersion>)> {
    let told = records.iter().filter_map(|record| match &record.event {
        Event::TrustChanged { version, digest, old, .. } => {
            Some((TrustVersion { version: *version, digest: *digest }, *old))
        }
        _ => None,
    });
    told.collect()
}

// Red without `trusting` in the start, with either of the two questions left out of `problem` in `operators`, and without `said::row`.
#[tokio::test(flavor = "multi_thread")]
async fn an_operator_is_whom_both_the_configuration_and_the_trust_file_name() {
    let site = Site::new();
    let (owner, second, third) = (site.owner(), secret(2), secret(3));
    let host = site.start().await;
    assert_eq!(operates(&client(&host, &owner).await).await, Ok(()));
    assert_eq!(operates(&client(&host, &second).await).await, Ok(()), "the configuration is enough as yet");
    stop(host).await;

    let file = site.file(None, &[&owner, &third], &[&owner]);
    site.put(file.to_bytes());
    let before = site.records().len();
    let host = site.start().await;
    assert_eq!(operates(&client(&host, &owner).await).await, Ok(()));
    let said = operates(&client(&host, &second).await).await.unwrap_err();
    assert!(said.contains("second is not in version 1 of this host's trust file"), "{said}");
    assert!(said.contains(&second.public().to_string()), "{said}");
    let said = operates(&client(&host, &third).await).await.unwrap_err();
    assert!(said.contains("third does not have the role operate on this host"), "{said}");
    let job = JobId::from_bytes([7; 16]);
    let erase = client(&host, &second).await.erase(job, false).await.unwrap_err();
    assert!(erase.to_string().contains("not in version 1"), "{erase}");
    stop(host).await;

    let records = site.records().split_off(before);
    assert!(matches!(records[0].event, Event::HostStarted { .. }), "{records:?}");
    assert_eq!(told(&records[1..2]), [(file.in_force().id(), None)], "before anything else");
    let Event::TrustChanged { expires, threshold, operators, .. } = &records[1].event else { unreachable!() };
    let body = file.in_force();
    assert_eq!((*expires, *threshold, operators.as_slice()), (body.expires(), 1, body.operators()));
    let refused: Vec<_> = records
        .iter()
        .filter_map(|record| match &record.event {
            Event::Refused { principal, job, code: RefusalCode::Forbidden, role: None, .. } => {
                Some((*principal, *job))
            }
            Event::Refused {
                principal,
                job,
                code: RefusalCode::MissingRole,
                role: Some(Role::Operate),
                ..
            } => Some((*principal, *job)),
            _ => None,
        })
        .collect();
    let (second, third) = (second.public(), third.public());
    assert_eq!(refused, [(second, None), (third, None), (second, Some(job))], "as other refusals");
    assert_eq!(told(&site.serve().await), [], "it is told once");
}

// Red without the question for expiry in `problem`.
#[tokio::test(flavor = "multi_thread")]
async fn a_version_is_over_at_its_time_and_jobs_go_on() {
    let site = Site::new();
    let owner = site.owner();
    let hands = Shows::now();
    let expires = Timestamp::from_millis(hands.from + 60_000);
    let first = site.file_until(None, expires, &[&owner], &[&owner]);
    site.put(first.to_bytes());
    let host = site.try_start(Some(hands.clone())).await.unwrap();
    let connected = client(&host, &owner).await;
    hands.go(59_999);
    assert_eq!(operates(&connected).await, Ok(()));
    hands.go(60_000);
    let said = operates(&connected).await.unwrap_err();
    assert!(said.contains("version 1 of this host's trust file expired at"), "{said}");
    assert!(said.contains(&expires.to_rfc3339()) && said.contains("strongroom trust new"), "{said}");
    let module = push_wat(&connected, &says("on", 0)).await;
    assert_succeeded(&run(&connected, &Job::new(module)).await);
    stop(host).await;

    // Over at the start already; and a clock that was set back brings nothing back.
    hands.go(0);
    let host = site.try_start(Some(hands.clone())).await.unwrap();
    let connected = client(&host, &owner).await;
    assert!(operates(&connected).await.unwrap_err().contains("expired at"));
    assert_succeeded(&run(&connected, &Job::new(module)).await);
    stop(host).await;

    site.put(site.file(Some(first), &[&owner], &[&owner]).to_bytes());
    let host = site.try_start(Some(hands)).await.unwrap();
    assert_eq!(operates(&client(&host, &owner).await).await, Ok(()));
    stop(host).await;
}

// Red without the question for the file in `problem`, and when `news` tells of the last version alone.
#[tokio::test(flavor = "multi_thread")]
async fn an_operators_key_is_rotated_by_the_old_and_the_new() {
    let site = Site::new();
    let (owner, second) = (site.owner(), secret(2));
    let first = site.file(None, &[&owner], &[&owner]);
    let one = first.in_force().id();
    site.put(first.to_bytes());
    assert_eq!(told(&site.serve().await), [(one, None)]);

    let rotated = site.file(Some(first), &[&second], &[&owner, &second]);
    let two = rotated.in_force().id();
    site.put(rotated.to_bytes());
    let before = site.records().len();
    let host = site.start().await;
    let said = operates(&client(&host, &owner).await).await.unwrap_err();
    assert!(said.contains("not in version 2"), "{said}");
    assert_eq!(operates(&client(&host, &second).await).await, Ok(()));
    stop(host).await;
    assert_eq!(told(&site.records().split_off(before)), [(two, Some(one))]);

    // Two at once are two records, so the log has every version.
    let third = site.file(Some(rotated), &[&second, &owner], &[&second]);
    let three = third.in_force().id();
    let fourth = site.file(Some(third), &[&owner], &[&owner]);
    let four = fourth.in_force().id();
    site.put(fourth.to_bytes());
    assert_eq!(told(&site.serve().await), [(three, Some(two)), (four, Some(three))]);

    // The old key alone makes no next version.
    let alone = site.body(5, now().saturating_add(Duration::from_millis(DAY)), &[&second]);
    let mut draft = fourth.clone().then(alone).unwrap();
    draft.sign(&second).unwrap();
    assert!(draft.clone().finish().is_err());
    site.put(draft.to_bytes());
    site.refuses(&["version 5", "0 of the operators of the version before signed, 1 must"]).await;
}

// Red without `goes_on_from` in `check`, and without `Gone`.
#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_go_on_from_the_version_in_force_stops_the_start() {
    let site = Site::new();
    let (owner, second) = (site.owner(), secret(2));
    let first = site.file(None, &[&owner], &[&owner]);
    let rotated = site.file(Some(first.clone()), &[&owner, &second], &[&owner]);
    site.put(rotated.to_bytes());
    site.serve().await;

    site.put(first.to_bytes());
    site.refuses(&["an older one: it ends with version 1, and version 2 was in force", "ask an operator"])
        .await;
    // Signed by the right key, and yet another version 2 than the one in the log.
    let other = site.file(Some(first.clone()), &[&owner], &[&owner]);
    site.put(other.to_bytes());
    let found = other.in_force().digest().to_string();
    site.refuses(&["tells two histories", "version 2", &found]).await;
    // Also when a later one follows it.
    site.put(site.file(Some(other), &[&owner], &[&owner]).to_bytes());
    site.refuses(&["tells two histories"]).await;
    fs::remove_file(site.path().join("trust")).unwrap();
    site.refuses(&["is gone, and version 2", "put it back from a copy"]).await;
    let good = rotated.to_bytes();
    let mut bad = good.clone();
    bad[good.len() / 2] ^= 1;
    site.put(&bad);
    site.refuses(&["of the trust file is wrong"]).await;
    site.put(&good[..good.len() - 1]);
    site.refuses(&["cut off"]).await;
    site.put("");
    site.refuses(&["empty"]).await;
    let elsewhere = Site::new();
    site.put(elsewhere.file(None, &[&owner], &[&owner]).to_bytes());
    site.refuses(&["is for the host whose log is", elsewhere.log().as_str()]).await;
    fs::remove_file(site.path().join("trust")).unwrap();
    fs::create_dir(site.path().join("trust")).unwrap();
    site.refuses(&["must be readable by the host's own user"]).await;
    fs::remove_dir(site.path().join("trust")).unwrap();

    site.put(&good);
    assert_eq!(told(&site.serve().await), []);
}

// Red without `said::row` for it, without `goes_on_from` in `check`, and without `Gone`.
#[tokio::test(flavor = "multi_thread")]
async fn a_state_that_is_made_anew_refuses_an_older_file() {
    let site = Site::new();
    let owner = site.owner();
    let first = site.file(None, &[&owner], &[&owner]);
    let second = site.file(Some(first.clone()), &[&owner], &[&owner]);
    site.put(second.to_bytes());
    site.serve().await;
    fs::remove_dir_all(site.path().join("state")).unwrap();
    site.put(first.to_bytes());
    site.refuses(&["an older one"]).await;
    fs::remove_dir_all(site.path().join("state")).unwrap();
    fs::remove_file(site.path().join("trust")).unwrap();
    site.refuses(&["is gone, and version 2"]).await;
    fs::remove_dir_all(site.path().join("state")).unwrap();
    site.put(second.to_bytes());
    let records = site.serve().await;
    assert!(records.iter().any(|record| matches!(record.event, Event::StateRebuilt { .. })), "{records:?}");
    assert_eq!(told(&records), []);
}
