//! Roles: every request, with a key for every role, about things of the own and of another tenant, through every listener, is
//! answered as the table of `docs/reference/roles.md` says.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failed unwrap is a failed test")]

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use common::guests::leaves;
use common::live::{Live, SPINS, finish, push_wat, start};
use common::patience::soon;
use common::raw::{Peer, answer, open_with};
use common::records::records;
use common::{secret, task};
use quinn::Connection;
use strongroom::clock::Clock;
use strongroom::home::Home;
use strongroom_job::delegation::{DelegationBody, SignedDelegation};
use strongroom_job::frame::encode_header;
use strongroom_job::principal::{CommandBody, Entry, SignedCommand};
use strongroom_job::{
    BlobKind, Context, Digest, Event, EventQuery, Input, JobBody, JobId, ModuleRef, OutputStream, PublicKey,
    QueueMode, RefusalCode, Request, Response, Role, SecretKey, sign_job,
};
use strongroom_sdk::{Client, ConnectOptions, Identity, Job};

const PAGE: &str = include_str!("../../docs/reference/roles.md");
/// The queue in which jobs wait for ever.
const HELD: &str = "held";
/// As [`HELD`], for jobs that are only counted: one of the own tenant, two of the other.
const SHELF: &str = "shelf";

/// What the last column of the table says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Foreign {
    Allowed,
    NotShown,
    Code(RefusalCode),
    /// Refused so, but for operators.
    OrOperator(RefusalCode),
}

/// One line of the table.
#[derive(Debug)]
struct Row {
    /// In the order of [`Role::ALL`].
    may: [bool; 4],
    foreign: Foreign,
}

/// The table of the page, by the type of the request.
fn table() -> BTreeMap<String, Row> {
    let plain = |cell: &str| cell.trim().trim_matches('`').to_owned();
    let rows = PAGE.lines().skip_while(|line| !line.starts_with("| request |"));
    let head: Vec<String> = rows.clone().next().expect("a table").split('|').map(plain).collect();
    assert_eq!(head[2..6], Role::ALL.map(|role| role.to_string()), "the columns");
    let rows = rows.skip(2).take_while(|line| line.starts_with('|')).map(|line| {
        let cells: Vec<String> = line.split('|').map(plain).collect();
        let may = [2, 3, 4, 5].map(|cell| match cells[cell].as_str() {
            "yes" => true,
            "no" => false,
            other => panic!("{other}: {line}"),
        });
        let foreign = match cells[6].as_str() {
            "allowed" => Foreign::Allowed,
            "not shown" => Foreign::NotShown,
            "unknown-grant`; allowed with `operate" => Foreign::OrOperator(RefusalCode::UnknownGrant),
            code => Foreign::Code(serde_json::from_value(code.into()).expect("a code")),
        };
        (cells[1].clone(), Row { may, foreign })
    });
    rows.collect()
}

/// The keys of one host: one for each role, and whoever prepares what they ask about.
struct Keys {
    roles: [SecretKey; 4],
    /// Of the tenant of `roles`, with all of them.
    own: SecretKey,
    /// Of another tenant.
    other: SecretKey,
}

impl Keys {
    fn new() -> Self {
        Self { roles: [11, 12, 13, 14].map(secret), own: secret(15), other: secret(16) }
    }

    /// A data directory whose configuration names them.
    fn put(&self, dir: &Path) {
        let home = Home::create(dir).unwrap();
        let mut text = std::fs::read_to_string(home.config()).unwrap();
        write!(text, "\n[queue_rules.{HELD}]\n[queue_rules.{SHELF}]\n").unwrap();
        let mut add = |name: &str, key: &SecretKey, tenant: &str, roles: &str| {
            let key = key.public();
            write!(text, "[[principals]]\nname = \"{name}\"\nkey = \"{key}\"\ntenant = \"{tenant}\"\nroles = [{roles}]\n")
                .unwrap();
        };
        for (role, key) in Role::ALL.into_iter().zip(&self.roles) {
            add(role.as_str(), key, "own", &format!("\"{role}\""));
        }
        add("own", &self.own, "own", r#""view", "submit", "operate""#);
        add("other", &self.other, "other", r#""submit", "view""#);
        std::fs::write(home.config(), text).unwrap();
    }
}

/// A host that is asked, wherever it runs.
#[derive(Clone, Copy)]
struct Asked {
    address: SocketAddr,
    key: PublicKey,
}

impl Asked {
    async fn client(&self, key: &SecretKey) -> Client {
        Client::connect(ConnectOptions::new(self.address, self.key, key.clone())).await.unwrap()
    }
}

/// What one tenant has on the host, and a client that gives it more.
struct Tenant {
    name: &'static str,
    client: Client,
    /// The client's key.
    giver: SecretKey,
    module: ModuleRef,
    /// Over, with output and an artifact.
    done: JobId,
    made: u64,
}

impl Tenant {
    async fn new(name: &'static str, (client, giver): (Client, &SecretKey), shelved: usize) -> Self {
        let module = push_wat(&client, &leaves("out/x", name, 0)).await;
        let done = Self::run(&client, module).await;
        for _ in 0..shelved {
            client.submit(&Job::new(module).scratch().queue(SHELF)).await.unwrap();
        }
        Self { name, client, giver: giver.clone(), module, done, made: 0 }
    }

    async fn run(client: &Client, module: ModuleRef) -> JobId {
        let job = client.submit(&Job::new(module).scratch()).await.unwrap().job;
        let done = finish(client, job).await;
        assert_eq!(done.view.end.unwrap().artifacts.len(), 1);
        job
    }

    /// A job that waits for ever.
    async fn waiting(&self) -> JobId {
        self.client.submit(&Job::new(self.module).scratch().queue(HELD)).await.unwrap().job
    }

    /// A grant of `giver` in the name of this tenant.
    fn grant(&mut self, giver: &SecretKey, role: Role, host: &PublicKey) -> SignedDelegation {
        self.made += 1;
        let number = u8::try_from(self.made).unwrap();
        let name = format!("{}-{number}-{}", self.name, giver.public().short());
        let mut id = *giver.public().as_bytes();
        id[0] = number;
        id[1] = u8::from(self.name == "own");
        let now = Clock::default().now();
        let delegate = SecretKey::from_seed(&Digest::of(name.as_bytes()).as_bytes().to_owned().into());
        let body = DelegationBody::new(
            JobId::from_bytes(id[..16].try_into().unwrap()),
            *host,
            (giver.public(), delegate.public()),
            (name.replace([':', '…'], "-").parse().unwrap(), self.name.parse().unwrap()),
            (now, now.saturating_add(Duration::from_secs(600))),
            &[role],
        );
        body.sign(giver).unwrap()
    }

    /// A command that makes a principal of this tenant.
    fn command(&mut self, operator: &SecretKey, host: &PublicKey) -> SignedCommand {
        // The names and keys of grants that nobody takes.
        let body = self.grant(operator, Role::View, host).body().clone();
        let add = Entry {
            key: body.delegate,
            name: body.name,
            tenant: body.tenant,
            roles: body.roles,
            volumes: body.volumes,
            connect: Vec::new(),
            listen: Vec::new(),
            http: Vec::new(),
            secrets: Vec::new(),
        };
        let window = (body.not_before, body.not_after);
        let command = CommandBody::new(body.id, *host, operator.public(), window);
        CommandBody { add: Some(Box::new(add)), ..command }.sign(operator).unwrap()
    }

    /// A grant that somebody of this tenant has given.
    async fn given(&mut self, host: &PublicKey) -> JobId {
        let giver = self.giver.clone();
        let given = self.grant(&giver, Role::View, host);
        self.client.add_grant(&given).await.unwrap().grant
    }

    /// Bytes that nobody else has given to the host.
    async fn input(&mut self) -> Vec<u8> {
        self.made += 1;
        let bytes = format!("{} {}", self.name, self.made).into_bytes();
        let given = self.client.push_input(bytes.clone()).await.unwrap();
        assert!(matches!(given, Input::Blob { .. }), "{given:?}");
        bytes
    }
}

/// What came of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Got {
    Allowed,
    NotShown,
    Refused(RefusalCode, Vec<String>),
}

/// One request of each kind about something of `tenant`. A kind that is not here does not compile in [`kind`].
async fn requests(
    tenant: &mut Tenant,
    (role, signer): (Role, &SecretKey),
    host: &PublicKey,
) -> Vec<(Request, Vec<u8>)> {
    let (job, erased) = (tenant.done, Tenant::run(&tenant.client, tenant.module).await);
    let bytes = tenant.input().await;
    let (pushed, digest) = (tenant.input().await, Digest::of(&bytes));
    let plain = [
        Request::Host {},
        Request::Has { kind: BlobKind::Input, digest },
        Request::Show { job },
        Request::Wait { job },
        Request::Cancel { job: tenant.waiting().await },
        Request::List { before: None, state: None, limit: 500 },
        Request::Output { job, stream: OutputStream::Stdout, offset: 0, follow: false },
        Request::Modules {},
        Request::Artifact { job, name: "x".into(), offset: 0 },
        Request::Task { job },
        Request::Receipt { job, envelope: false },
        Request::Erase { job: erased, batch: false },
        Request::Queues {},
        Request::SetQueue { queue: "default".parse().unwrap(), mode: QueueMode::Open },
        Request::Events(EventQuery { job: Some(job), ..EventQuery::default() }),
        Request::AllEvents(EventQuery { job: Some(job), ..EventQuery::default() }),
    ];
    let mut requests: Vec<_> = plain.into_iter().map(|request| (request, Vec::new())).collect();
    let (kind, digest) = (BlobKind::Input, Digest::of(&pushed));
    requests.push((Request::Push { kind, digest, length: pushed.len() as u64 }, pushed));
    requests.push((Request::Ends { count: 1 }, job.as_bytes().to_vec()));
    let envelope = signed(tenant, signer, host);
    requests.push((Request::Submit { length: envelope.len() as u64 }, envelope));
    // What it has, it may give on: to a key of which nobody has heard.
    let role = if role == Role::Admin { Role::View } else { role };
    let given = tenant.grant(signer, role, host);
    let (grant, bytes) = (given.body().id, given.to_bytes());
    requests.push((Request::AddGrant { length: bytes.len() as u64 }, bytes));
    requests.push((Request::Grants { after: None }, Vec::new()));
    let revoked = if tenant.name == "own" { grant } else { tenant.given(host).await };
    requests.push((Request::RevokeGrant { grant: revoked }, Vec::new()));
    let command = tenant.command(signer, host).to_bytes();
    requests.push((Request::ChangePrincipal { length: command.len() as u64 }, command));
    requests.push((Request::Principals { after: None }, Vec::new()));
    requests
}

/// A job for this tenant, of somebody who may belong to another.
fn signed(tenant: &Tenant, signer: &SecretKey, host: &PublicKey) -> Vec<u8> {
    let now = Clock::default().now();
    let context = Context {
        audience: *host,
        tenant: tenant.name.parse().unwrap(),
        issued_at: now,
        not_before: now,
        not_after: now.saturating_add(Duration::from_secs(600)),
        salt: JobId::from_bytes([9; 16]),
    };
    let id = JobId::from_bytes(signer.public().as_bytes()[..16].try_into().unwrap());
    let task = strongroom_job::Task { module: tenant.module, queue: HELD.parse().unwrap(), ..task() };
    sign_job(&JobBody::new(id, context, task), signer).unwrap().as_bytes().to_vec()
}

/// The word of a request in the table: `type` as it is sent.
fn kind(request: &Request) -> String {
    let value = serde_json::to_value(request).unwrap();
    match request {
        Request::Host {} | Request::Submit { .. } | Request::Has { .. } | Request::Push { .. } => {}
        Request::Show { .. } | Request::Wait { .. } | Request::Cancel { .. } | Request::List { .. } => {}
        Request::Ends { .. } => {}
        Request::Output { .. } | Request::Modules {} | Request::Artifact { .. } | Request::Task { .. } => {}
        Request::Receipt { .. } | Request::Erase { .. } | Request::Queues {} | Request::SetQueue { .. } => {}
        Request::Events(_) | Request::AllEvents(_) => {}
        Request::AddGrant { .. } | Request::Grants { .. } | Request::RevokeGrant { .. } => {}
        Request::ChangePrincipal { .. } | Request::Principals { .. } => {}
    }
    value["type"].as_str().unwrap().to_owned()
}

async fn ask(connection: &Connection, request: &Request, body: &[u8], of: &Tenant) -> Got {
    let bytes = [encode_header(request), body.to_vec()].concat();
    let (mut send, mut recv) = open_with(connection, &bytes).await;
    // Fails when the host has heard enough.
    let _ = send.finish();
    let seen = |yes| if yes { Got::Allowed } else { Got::NotShown };
    match soon(answer(&mut recv)).await.expect("an answer") {
        Response::Refused(refusal) => Got::Refused(refusal.code, refusal.missing),
        Response::Host(view) => seen(view.tenant.as_str() == of.name),
        Response::Stored { present, known } => seen(match request {
            Request::Push { .. } => known,
            _ => present,
        }),
        Response::Jobs { jobs, .. } => {
            assert!(!jobs.is_empty(), "those of the own tenant");
            seen(jobs.iter().any(|view| view.job == of.done))
        }
        Response::Modules { modules } => seen(modules.iter().any(|view| view.module == of.module)),
        Response::Queues { queues } if matches!(request, Request::Queues {}) => {
            let shelf = queues.iter().find(|view| view.queue.as_str() == SHELF).expect("the queue");
            seen((shelf.queued, of.name) == (1, "own"))
        }
        Response::Grants { grants, .. } if matches!(request, Request::Grants { .. }) => {
            assert!(!grants.is_empty(), "those of the own tenant");
            seen(grants.iter().any(|view| view.tenant.as_str() == of.name))
        }
        Response::Job(view) => {
            let ends = matches!(request, Request::Ends { .. }).then_some(of.done);
            assert_eq!(Some(view.job), strongroom::admission::role::names(request).or(ends));
            Got::Allowed
        }
        Response::Output { .. }
        | Response::Accepted { .. }
        | Response::Erased(_)
        | Response::Events { .. }
        | Response::Grants { .. }
        | Response::Queues { .. } => Got::Allowed,
        Response::Principals { principals, .. } => seen(
            principals.iter().any(|view| view.tenant.as_ref().is_some_and(|own| own.as_str() == of.name)),
        ),
    }
}

/// Asks everything, and gives what is not as the table says.
async fn wrong(host: Asked, keys: &Keys) -> Vec<String> {
    let table = table();
    let owner = host.client(&keys.own).await;
    for queue in [HELD, SHELF] {
        owner.set_queue(&queue.parse().unwrap(), QueueMode::Paused).await.unwrap();
    }
    let other = host.client(&keys.other).await;
    let mut tenants = [
        Tenant::new("own", (owner, &keys.own), 1).await,
        Tenant::new("other", (other, &keys.other), 2).await,
    ];
    for tenant in &mut tenants {
        tenant.given(&host.key).await;
    }
    let (mut wrong, mut asked) = (Vec::new(), BTreeSet::new());
    for (at, (role, key)) in Role::ALL.into_iter().zip(&keys.roles).enumerate() {
        let connection = Peer::known(&Identity::from(key.clone())).connect(host.address).await;
        for tenant in &mut tenants {
            for (request, body) in requests(tenant, (role, key), &host.key).await {
                let word = kind(&request);
                let row = table.get(&word).unwrap_or_else(|| panic!("{word} is not in the table"));
                let expected = if !row.may[at] {
                    // The one role besides admin that has it.
                    let role = Role::ALL.into_iter().zip(row.may).find(|(_, may)| *may).unwrap().0;
                    Got::Refused(RefusalCode::MissingRole, vec![role.to_string()])
                } else if tenant.name == "own" {
                    Got::Allowed
                } else {
                    match row.foreign {
                        Foreign::Allowed => Got::Allowed,
                        Foreign::NotShown => Got::NotShown,
                        Foreign::OrOperator(_) if matches!(role, Role::Operate | Role::Admin) => Got::Allowed,
                        Foreign::Code(code) | Foreign::OrOperator(code) => Got::Refused(code, Vec::new()),
                    }
                };
                let got = ask(&connection, &request, &body, tenant).await;
                if got != expected {
                    wrong.push(format!(
                        "{word} by {role} of tenant {}: {got:?}, not {expected:?}",
                        tenant.name
                    ));
                }
                asked.insert(word);
            }
        }
    }
    assert_eq!(asked, table.into_keys().collect(), "every line of the table is asked for");
    wrong
}

// Red with a line of `needed` in host/src/admission/role.rs changed, and without `may` in host/src/intake/stream.rs.
#[tokio::test(flavor = "multi_thread")]
async fn a_host_answers_each_role_as_the_table_says() {
    let (keys, dir) = (Keys::new(), tempfile::tempdir().unwrap());
    keys.put(dir.path());
    let live = Live { host: start(dir.path(), |_| {}).await, dir };
    let host = Asked { address: live.host.local_addr(), key: *live.host.public_key() };
    assert_eq!(wrong(host, &keys).await, Vec::<String>::new());

    // One more flood of what is refused already, and all of it is one record for each principal and role.
    let viewer = host.client(&keys.roles[0]).await;
    for _ in 0..50 {
        viewer.set_queue(&"default".parse().unwrap(), QueueMode::Open).await.unwrap_err();
    }
    let dir = live.stop().await;
    let mut told = BTreeSet::new();
    for record in records(dir.path()) {
        if let Event::Refused { principal, code: RefusalCode::MissingRole, role, suppressed, .. } =
            record.event
        {
            assert!(told.insert((principal, role.unwrap())), "twice within an hour: {principal} {role:?}");
            assert_eq!(suppressed, 0, "the first record");
        }
    }
    let lack = |at: usize, role| (keys.roles[at].public(), role);
    let expected = BTreeSet::from([
        lack(0, Role::Submit),
        lack(0, Role::Operate),
        lack(0, Role::Admin),
        lack(1, Role::View),
        lack(1, Role::Operate),
        lack(1, Role::Admin),
        lack(2, Role::View),
        lack(2, Role::Submit),
        lack(2, Role::Admin),
    ]);
    assert_eq!(told, expected);
}

/// A process that is killed when the test is over.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

// Red as the other.
#[tokio::test(flavor = "multi_thread")]
async fn the_host_inside_run_answers_by_the_same_table() {
    let (keys, dir) = (Keys::new(), tempfile::tempdir().unwrap());
    keys.put(dir.path());
    let module = dir.path().join("spins.wasm");
    std::fs::write(&module, wat::parse_str(SPINS).unwrap()).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_strongroom"));
    command.arg("run").arg(&module).arg("--dir").arg(dir.path());
    let _running = Killed(command.stdin(Stdio::null()).spawn().unwrap());
    let home = Home::open(dir.path()).unwrap();
    let live = soon(async {
        loop {
            match home.live() {
                Ok(Some(live)) => return live,
                _ => tokio::time::sleep(Duration::from_millis(5)).await,
            }
        }
    })
    .await;
    let host = Asked { address: live.address, key: live.host };
    assert_eq!(wrong(host, &keys).await, Vec::<String>::new());
}
