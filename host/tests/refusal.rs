//! Refusal: every sentence with which a host says no, as a client gets to see it, provoked for real.
//!
//! `golden/refusals.txt` holds them all; the test never writes it. A sentence is good when it says who is at fault, what was
//! refused and what would make it pass. To change one, change it there as well, and read it once more.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failed unwrap is a failed test")]

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use common::dsse::{envelope, with_signatures};
use common::guests::writes_bytes;
use common::live::{Live, SPINS, compiler, push_wat, run, says, start};
use common::patience::soon;
use common::raw::{Peer, answer, ask, open_with};
use common::{secret, task};
use quinn::Connection;
use strongroom::admission::quota::{self, Asked, TenantUse};
use strongroom::clock::Clock;
use strongroom::config::{Config, Principal, Roles, TenantRules, Volume};
use strongroom::home::Home;
use strongroom::host::{Host, Stop};
use strongroom::store::Step;
use strongroom_job::frame::encode_header;
use strongroom_job::trust::{TrustBody, TrustDraft};
use strongroom_job::{
    Access, After, BATCH_PAYLOAD_TYPE, Base64Bytes, BatchBody, BlobKind, Context, Digest, Input,
    JOB_PAYLOAD_TYPE, JobBody, JobId, JobState, MAX_ENVELOPE_BYTES, Mount, MountSource, Name, Outcome,
    OutputStream, Plan, QueueMode, Refusal, RefusalCode, Request, Response, RetryOn, RetryPolicy, Role,
    SecretForm, SecretKey, SecretUse, Signature, Taken, Timestamp, Unique, Variation,
};
use strongroom_sdk::{Client, Error, Identity, Job};

const GOLDEN: &str = include_str!("golden/refusals.txt");

/// The code after this one. A new code does not compile until it stands here, and fails below until it is provoked.
const fn next(code: RefusalCode) -> Option<RefusalCode> {
    use RefusalCode as C;
    Some(match code {
        C::BadRequest => C::BadEnvelope,
        C::BadEnvelope => C::BadSignature,
        C::BadSignature => C::WrongAudience,
        C::WrongAudience => C::WrongTenant,
        C::WrongTenant => C::Expired,
        C::Expired => C::NotYetValid,
        C::NotYetValid => C::TooLongLived,
        C::TooLongLived => C::Conflict,
        C::Conflict => C::NotGranted,
        C::NotGranted => C::LimitTooHigh,
        C::LimitTooHigh => C::UnknownQueue,
        C::UnknownQueue => C::QueueFull,
        C::QueueFull => C::QueueClosed,
        C::QueueClosed => C::NotUnique,
        C::NotUnique => C::QuotaReached,
        C::QuotaReached => C::LabelMismatch,
        C::LabelMismatch => C::NeverRuns,
        C::NeverRuns => C::UnknownModule,
        C::UnknownModule => C::UnknownInput,
        C::UnknownInput => C::UnknownArtifact,
        C::UnknownArtifact => C::DigestMismatch,
        C::DigestMismatch => C::BadModule,
        C::BadModule => C::TooLarge,
        C::TooLarge => C::UnknownJob,
        C::UnknownJob => C::UnknownGrant,
        C::UnknownGrant => C::WrongState,
        C::WrongState => C::MissingRole,
        C::MissingRole => C::Forbidden,
        C::Forbidden => C::Busy,
        C::Busy => C::ShuttingDown,
        C::ShuttingDown => C::HostFault,
        C::HostFault => return None,
    })
}

/// One sentence.
struct Said {
    code: RefusalCode,
    case: &'static str,
    message: String,
    missing: Vec<String>,
}

/// What was said so far.
#[derive(Default)]
struct Book {
    said: Vec<Said>,
    /// Keys and ids that differ from run to run, and what stands for them.
    names: Vec<(String, &'static str)>,
}

impl Book {
    fn note(&mut self, code: RefusalCode, case: &'static str, refusal: Refusal) {
        assert_eq!(refusal.code, code, "{case}: {refusal}");
        self.said.push(Said { code, case, message: refusal.message, missing: refusal.missing });
    }

    /// All sentences in the order of their codes.
    fn text(&self) -> String {
        let mut text = String::new();
        let mut code = Some(RefusalCode::BadRequest);
        while let Some(this) = code {
            let mut said = self.said.iter().filter(|said| said.code == this).peekable();
            assert!(said.peek().is_some(), "nothing here is refused as {this}");
            for Said { case, message, missing, .. } in said {
                text += &format!("[{this}] {case}\n    {}\n", self.plain(message));
                for what in missing {
                    text += &format!("    - {}\n", self.plain(what));
                }
            }
            code = next(this);
        }
        text
    }

    /// Without what differs from run to run: keys, ids, and numbers of seconds.
    fn plain(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for (value, name) in &self.names {
            text = text.replace(value, name);
        }
        let words: Vec<&str> = text.split(' ').collect();
        let is_seconds = |at: usize| {
            words[at].bytes().all(|byte| byte.is_ascii_digit())
                && words.get(at + 1).is_some_and(|next| next.starts_with('s') && next.len() <= 2)
        };
        let plain = (0..words.len()).map(|at| if is_seconds(at) { "N" } else { words[at] });
        plain.collect::<Vec<_>>().join(" ")
    }
}

/// A known key without the SDK.
struct Bare {
    connection: Connection,
    key: SecretKey,
    context: Context,
}

impl Bare {
    async fn new(host: &Host, key: SecretKey, tenant: &str) -> Self {
        let connection = Peer::known(&Identity::from(key.clone())).connect(host.local_addr()).await;
        let now = Clock::default().now();
        let context = Context {
            audience: *host.public_key(),
            tenant: tenant.parse().unwrap(),
            issued_at: now,
            not_before: now,
            not_after: now.saturating_add(Duration::from_secs(3600)),
            salt: JobId::from_bytes([9; 16]),
        };
        Self { connection, key, context }
    }

    /// Sends bytes as one request, and gives the refusal that must come.
    async fn refused(&self, bytes: &[u8]) -> Refusal {
        let (mut send, mut recv) = open_with(&self.connection, bytes).await;
        // Fails when the host has heard enough.
        let _ = send.finish();
        match soon(answer(&mut recv)).await {
            Ok(Response::Refused(refusal)) => refusal,
            other => panic!("not refused: {other:?}"),
        }
    }

    async fn refused_request(&self, request: &Request) -> Refusal {
        self.refused(&encode_header(request)).await
    }

    async fn refused_envelope(&self, envelope: &[u8]) -> Refusal {
        let header = encode_header(&Request::Submit { length: envelope.len() as u64 });
        self.refused(&[header.as_slice(), envelope].concat()).await
    }

    /// A body that would be accepted if its module were there.
    fn body(&self) -> JobBody {
        JobBody::new(JobId::from_bytes([1; 16]), self.context.clone(), task())
    }

    fn signed(&self, body: &JobBody) -> Vec<u8> {
        envelope(JOB_PAYLOAD_TYPE, &serde_json::to_vec(body).unwrap(), &self.key)
    }

    async fn refused_job(&self, change: impl FnOnce(&mut JobBody)) -> Refusal {
        let mut body = self.body();
        change(&mut body);
        self.refused_envelope(&self.signed(&body)).await
    }
}

fn refusal<T: std::fmt::Debug>(result: Result<T, Error>) -> Refusal {
    match result {
        Err(Error::Refused(refusal)) => refusal,
        other => panic!("not refused: {other:?}"),
    }
}

fn guest() -> Principal {
    Principal {
        name: "visitor".parse().unwrap(),
        key: secret(2).public(),
        tenant: "visitors".parse().unwrap(),
        volumes: [("docs".parse().unwrap(), Access::Read)].into(),
        any_directory: false,
        any_network: false,
        roles: Roles::USUAL,
        connect: Vec::new(),
        listen: Vec::new(),
        http: Vec::new(),
        secrets: std::collections::BTreeSet::new(),
        narrowed: None,
    }
}

fn two_tenants(config: &mut Config) {
    let docs = Volume { path: "/srv/docs".into(), access: Access::ReadWrite };
    config.volumes.insert("docs".parse().unwrap(), docs);
    config.principals.push(guest());
    config.bounds.max_module_bytes = 1 << 20;
    config.bounds.max_input_bytes = 1 << 20;
    config.bounds.max_queued = 1;
    config.bounds.max_running = 1;
}

// Red when a sentence changes; when a code is added; when a case is answered with another code.
#[tokio::test(flavor = "multi_thread")]
async fn every_refusal_says_what_it_said() {
    let mut book = Book::default();
    let live = Live::with(two_tenants).await;
    let owner = Home::open(live.dir.path()).unwrap().client_key().unwrap();
    book.names.push((live.host.public_key().to_string(), "<host key>"));
    book.names.push((owner.public().to_string(), "<owner's key>"));
    let visitor = Bare::new(&live.host, secret(2), "visitors").await;

    requests(&mut book, &visitor).await;
    envelopes(&mut book, &visitor).await;
    contexts(&mut book, &visitor).await;
    tasks(&mut book, &visitor).await;
    modules(&mut book, &live.client().await, &visitor).await;
    jobs(&mut book, &live, &visitor, &owner).await;
    plans(&mut book).await;
    quotas(&mut book);
    busy(&mut book).await;
    forbidden(&mut book).await;
    operators(&mut book).await;
    broken(&mut book).await;

    let text = book.text();
    if text != GOLDEN {
        let lines = |text: &str| text.lines().map(str::to_owned).collect::<Vec<_>>();
        let (now, golden) = (lines(&text), lines(GOLDEN));
        for line in now.iter().filter(|line| !golden.contains(line)) {
            println!("+ {line}");
        }
        for line in golden.iter().filter(|line| !now.contains(line)) {
            println!("- {line}");
        }
        println!("\n{text}");
        panic!(
            "what is refused, or how, is not what golden/refusals.txt says; all of it as it is now stands above"
        );
    }
}

async fn requests(book: &mut Book, who: &Bare) {
    let code = RefusalCode::BadRequest;
    let mut note = |case, refusal| book.note(code, case, refusal);
    note("a header that is no JSON", who.refused(b"\0\0\0\x05hello").await);
    note("a header of 1 GiB", who.refused(&[0x40, 0, 0, 0]).await);
    note("an unknown request", who.refused(b"\0\0\0\x0f{\"type\":\"root\"}").await);
    note("a request that is cut short", who.refused(b"\0\0\0\x40{").await);
    let trailing = [encode_header(&Request::Host {}), b"more".to_vec()].concat();
    note("more bytes than announced", who.refused(&trailing).await);
    let list = Request::List { before: None, state: None, limit: 501 };
    note("a list that is too long", who.refused_request(&list).await);
    note("the ends of too many jobs", who.refused_request(&Request::Ends { count: 10_001 }).await);
    let twice = [encode_header(&Request::Ends { count: 2 }), vec![7; 32]].concat();
    note("the end of one job twice", who.refused(&twice).await);
}

async fn envelopes(book: &mut Book, who: &Bare) {
    let code = RefusalCode::BadEnvelope;
    let mut note = |case, refusal| book.note(code, case, refusal);
    let job = |payload: &str| envelope(JOB_PAYLOAD_TYPE, payload.as_bytes(), &who.key);
    let body = serde_json::to_string(&who.body()).unwrap();
    note("no envelope at all", who.refused_envelope(b"please run this").await);
    note("another payload type", who.refused_envelope(&envelope("text/plain", b"hi", &who.key)).await);
    let none = with_signatures(JOB_PAYLOAD_TYPE, body.as_bytes(), &[]);
    note("no signature", who.refused_envelope(&none).await);
    note("a body that is no JSON", who.refused_envelope(&job("run")).await);
    let unknown = body.replacen('{', "{\"root\":true,", 1);
    note("an unknown field", who.refused_envelope(&job(&unknown)).await);
    let twice = body.replacen('{', "{\"version\":1,", 1);
    note("a field twice", who.refused_envelope(&job(&twice)).await);
    note("bytes after the body", who.refused_envelope(&job(&format!("{body} {{}}"))).await);
    note("a newer version", who.refused_job(|body| body.version = 2).await);
    note(
        "a body of more than 64 KiB",
        who.refused_job(|body| body.task.args = vec!["x".repeat(70_000)]).await,
    );
    note("an argument with a NUL", who.refused_job(|body| body.task.args = vec!["a\0b".into()]).await);
    note(
        "a variable without a name",
        who.refused_job(|body| drop(body.task.env.insert(String::new(), "x".into()))).await,
    );
    note(
        "a path that climbs",
        who.refused_job(|body| body.task.capabilities.mounts = vec![volume("docs", "/a/../b", Access::Read)])
            .await,
    );
    note(
        "two mounts in one place",
        who.refused_job(|body| body.task.capabilities.mounts = vec![volume("docs", "/a", Access::Read); 2])
            .await,
    );
    note("a priority out of range", who.refused_job(|body| body.task.priority = 101).await);
    note(
        "a variable that a secret sets, too",
        who.refused_job(|body| {
            body.task.env.insert("TOKEN".into(), "x".into());
            let form = SecretForm::Env("TOKEN".into());
            body.task.capabilities.secrets = vec![SecretUse { name: "a".parse().unwrap(), form }];
        })
        .await,
    );
    let respelled = body.replace("\"random\":true", "\"random\":true,\"connect\":[\"a.example:1\"]");
    note("a destination in another spelling", who.refused_envelope(&job(&respelled)).await);
    note("no time to run in", who.refused_job(|body| body.task.limits.wall_ms = 0).await);
    note(
        "a long inline input",
        who.refused_job(|body| body.task.input = Input::Inline(Base64Bytes(vec![0; 16_385]))).await,
    );

    let batch = |ids: &[u8]| {
        let jobs = ids.iter().map(|id| Variation::of(JobId::from_bytes([*id; 16]))).collect();
        let body = BatchBody::new(who.context.clone(), task(), jobs);
        envelope(BATCH_PAYLOAD_TYPE, &serde_json::to_vec(&body).unwrap(), &who.key)
    };
    note("an empty batch", who.refused_envelope(&batch(&[])).await);
    note("one id twice in a batch", who.refused_envelope(&batch(&[1, 2, 1])).await);

    let now = who.context.issued_at;
    let past = |body: &mut JobBody| (body.task.plan.at, body.task.plan.expires) = (Some(now), Some(now));
    note("a start at its own end", who.refused_job(past).await);
    let retry = RetryPolicy {
        attempts: 1,
        on: vec![RetryOn::Failed],
        pause_ms: 0,
        max_pause_ms: 0,
        max_age_ms: None,
    };
    note("a retry that is none", who.refused_job(|body| body.task.plan.retry = Some(retry)).await);
    let unnamed = Unique { key: String::new(), window_ms: 0, taken: Taken::Refuse };
    note(
        "a unique key without a letter",
        who.refused_job(|body| body.task.plan.unique = Some(unnamed)).await,
    );
    let alone = who.refused_job(|body| body.task.plan.after = vec![After::success_of(0)]);
    note("a job alone that waits for others", alone.await);
    let flow = |after: &[u32]| {
        let job = |(id, place): (u8, &u32)| Variation {
            plan: Some(Box::new(Plan { after: vec![After::success_of(*place)], ..Plan::default() })),
            ..Variation::of(JobId::from_bytes([id; 16]))
        };
        let body = BatchBody::new(who.context.clone(), task(), (1..).zip(after).map(job).collect());
        envelope(BATCH_PAYLOAD_TYPE, &serde_json::to_vec(&body).unwrap(), &who.key)
    };
    note("two jobs that wait for each other", who.refused_envelope(&flow(&[1, 0])).await);
    note("a job that waits for one too many", who.refused_envelope(&flow(&[2, 0])).await);

    let code = RefusalCode::BadSignature;
    let payload = body.as_bytes();
    let forged = with_signatures(JOB_PAYLOAD_TYPE, payload, &[Signature::from_bytes([7; 64])]);
    book.note(code, "a made-up signature", who.refused_envelope(&forged).await);
    let stranger = envelope(JOB_PAYLOAD_TYPE, payload, &secret(3));
    book.note(code, "somebody else's signature", who.refused_envelope(&stranger).await);
}

async fn contexts(book: &mut Book, who: &Bare) {
    let hours = |count: u64| Duration::from_secs(3600 * count);
    let now = who.context.issued_at;
    let before =
        |by: Duration| Timestamp::from_millis(now.as_millis() - u64::try_from(by.as_millis()).unwrap());
    let other = who.refused_job(|body| body.context.audience = secret(4).public()).await;
    book.note(RefusalCode::WrongAudience, "a job for another host", other);
    let other = who.refused_job(|body| body.context.tenant = "default".parse().unwrap()).await;
    book.note(RefusalCode::WrongTenant, "a job in another tenant's name", other);
    let late = who.refused_job(|body| {
        (body.context.issued_at, body.context.not_before) = (before(hours(3)), before(hours(3)));
        body.context.not_after = before(hours(2));
    });
    book.note(RefusalCode::Expired, "a job of this morning", late.await);
    let early = who.refused_job(|body| {
        (body.context.issued_at, body.context.not_before) = (now, now.saturating_add(hours(2)));
        body.context.not_after = now.saturating_add(hours(3));
    });
    book.note(RefusalCode::NotYetValid, "a job of this evening", early.await);
    let long = who.refused_job(|body| body.context.not_after = now.saturating_add(hours(24 * 365)));
    book.note(RefusalCode::TooLongLived, "a job for a year", long.await);
}

fn volume(name: &str, path: &str, access: Access) -> Mount {
    Mount { source: MountSource::Volume(name.parse().unwrap()), path: path.into(), access }
}

async fn tasks(book: &mut Book, who: &Bare) {
    let more = who.refused_job(|body| {
        let etc = MountSource::Directory("/etc".into());
        body.task.capabilities.mounts = vec![
            volume("docs", "/docs", Access::Read),
            volume("docs", "/mine", Access::ReadWrite),
            volume("payroll", "/payroll", Access::Read),
            Mount { source: etc, path: "/etc".into(), access: Access::Read },
        ];
    });
    book.note(RefusalCode::NotGranted, "more directories than granted", more.await);
    let reaching = who.refused_job(|body| {
        let asked = &mut body.task.capabilities;
        asked.connect = vec!["db.example.com:5432".parse().unwrap(), "udp://10.0.0.0/8:53".parse().unwrap()];
        asked.listen = vec!["127.0.0.1:8080".parse().unwrap()];
        asked.http = vec!["https://example.com/v1".parse().unwrap()];
        let form = SecretForm::Env("TOKEN".into());
        asked.secrets = vec![SecretUse { name: "api-token".parse().unwrap(), form }];
    });
    book.note(RefusalCode::NotGranted, "network and secrets that nobody granted", reaching.await);
    let greedy = who.refused_job(|body| {
        body.task.limits.memory_bytes = 1 << 40;
        body.task.limits.wall_ms = 7_200_000;
    });
    book.note(RefusalCode::LimitTooHigh, "a terabyte for two hours", greedy.await);
    let queue = who.refused_job(|body| body.task.queue = "defualt".parse().unwrap());
    book.note(RefusalCode::UnknownQueue, "a queue with a typo", queue.await);
    book.note(RefusalCode::UnknownModule, "a module that was never pushed", who.refused_job(|_| {}).await);
}

async fn modules(book: &mut Book, client: &Client, visitor: &Bare) {
    let small = wat::parse_str(r#"(module (memory (export "memory") 1) (func (export "_start")))"#).unwrap();
    let wat = |text: &str| wat::parse_str(text).unwrap();
    let shared = r#"(module (memory 1 1 shared) (func (export "_start")))"#;
    let alien = r#"(module (import "env" "system" (func)) (func (export "_start")))"#;
    let library = r#"(module (func (export "helper")))"#;
    let mut native = b"\x7fELF".to_vec();
    native.resize(64, 0);
    let bad: [(&'static str, Vec<u8>); 9] = [
        ("no bytes", Vec::new()),
        ("a script", b"#!/bin/sh\nrm -rf /\n".to_vec()),
        ("WebAssembly text", b"(module (func (export \"_start\")))".to_vec()),
        ("native code", native),
        ("half a module", small[..small.len() - 3].to_vec()),
        ("a broken module", [&small[..8], &[1, 2, 1, 9]].concat()),
        ("an unknown import", wat(alien)),
        ("a feature that is off", wat(shared)),
        ("a library", wat(library)),
    ];
    for (case, bytes) in bad {
        book.note(RefusalCode::BadModule, case, refusal(client.push_module(bytes).await));
    }
    let large = refusal(client.push_module(vec![0; (1 << 20) + 1]).await);
    book.note(RefusalCode::TooLarge, "a large module", large);
    let large = refusal(client.push_input(vec![0; (1 << 20) + 1]).await);
    book.note(RefusalCode::TooLarge, "a large input", large);
    let endless = Request::Submit { length: MAX_ENVELOPE_BYTES as u64 + 1 };
    book.note(RefusalCode::TooLarge, "a large envelope", visitor.refused_request(&endless).await);
    let push = Request::Push { kind: BlobKind::Module, digest: Digest::of(b"this"), length: 4 };
    let other = [encode_header(&push), b"that".to_vec()].concat();
    book.note(RefusalCode::DigestMismatch, "other bytes than announced", visitor.refused(&other).await);
}

async fn jobs(book: &mut Book, live: &Live, visitor: &Bare, owner: &SecretKey) {
    let client = live.client().await;
    let bare = Bare::new(&live.host, owner.clone(), "default").await;
    let module = push_wat(&client, &says("x", 0)).await;
    let spins = push_wat(&client, SPINS).await;

    let absent = Input::Blob { digest: Digest::of(b"absent"), length: 6 };
    let without = bare.refused_job(|body| (body.task.module, body.task.input) = (module, absent)).await;
    book.note(RefusalCode::UnknownInput, "an input that was never pushed", without);
    let theirs = visitor.refused_job(|body| body.task.module = module).await;
    book.names.push((module.digest.to_string(), "<digest>"));
    book.note(RefusalCode::UnknownModule, "another tenant's module", theirs);

    let done = client.submit(&Job::new(module)).await.unwrap().job;
    client.wait(done).await.unwrap();
    book.names.push((done.to_string(), "<job>"));
    book.note(RefusalCode::WrongState, "to cancel what is over", refusal(client.cancel(done).await));
    let nobody = JobId::from_bytes([0xee; 16]);
    book.note(RefusalCode::UnknownJob, "a job that does not exist", refusal(client.show(nobody).await));
    // Word for word the same, but for the id: that a job exists is nobody else's business.
    for request in [
        Request::Artifact { job: done, name: "x".into(), offset: 0 },
        Request::Show { job: done },
        Request::Wait { job: done },
        Request::Cancel { job: done },
        Request::Output { job: done, stream: OutputStream::Stdout, offset: 0, follow: false },
        Request::List { before: Some(done), state: None, limit: 1 },
    ] {
        let theirs = visitor.refused_request(&request).await;
        book.note(RefusalCode::UnknownJob, "another tenant's job", theirs);
    }
    let first = &book.said[book.said.len() - 6];
    let same = book.said.iter().rev().take(6).all(|said| said.message == first.message);
    assert!(same, "another tenant's job is told from none by the request");
    book.said.truncate(book.said.len() - 5);

    let absent = client.artifact(done, "report.txt", 0).await.map(drop);
    book.note(RefusalCode::UnknownArtifact, "an artifact of a job that left none", refusal(absent));

    let reused = bare.refused_job(|body| {
        body.id = done;
        body.task.module = module;
    });
    book.note(RefusalCode::Conflict, "an id that was used before", reused.await);
    let spinning = client.submit(&Job::new(spins)).await.unwrap().job;
    let early = client.artifact(spinning, "report.txt", 0).await.map(drop);
    book.names.push((spinning.to_string(), "<job>"));
    book.note(RefusalCode::WrongState, "an artifact of a job that is not over", refusal(early));
    book.note(
        RefusalCode::QueueFull,
        "one job too many",
        bare.refused_job(|body| body.task.module = module).await,
    );
    let erase = |job, batch| Request::Erase { job, batch };
    let theirs = visitor.refused_request(&erase(done, false)).await;
    book.note(RefusalCode::MissingRole, "to erase a job without being an operator", theirs);
    let early = client.erase(spinning, false).await.map(drop);
    book.note(RefusalCode::WrongState, "to erase a job that is running", refusal(early));
    client.cancel(spinning).await.unwrap();
    client.wait(spinning).await.unwrap();
    let nowhere = client.erase(nobody, false).await.map(drop);
    book.note(RefusalCode::UnknownJob, "to erase a job that does not exist", refusal(nowhere));
    let erased = client.erase(done, false).await.unwrap().log_index;
    let gone = refusal(client.show(done).await);
    // Where its records are depends on what else this host did.
    assert!(gone.message.contains(&format!("as record {erased} of the log says")), "{gone:?}");
}

/// A queue that takes nothing, a key that is taken, labels that are not there, times that do not fit.
async fn plans(book: &mut Book) {
    let live = Live::with(|config| {
        config.principals.push(guest());
        config.queues.insert("reports".parse().unwrap());
        config.labels = [("environment", "staging"), ("zone", "eu-1")]
            .map(|(name, value)| (name.into(), value.into()))
            .into();
    })
    .await;
    let client = live.client().await;
    let owner = Home::open(live.dir.path()).unwrap().client_key().unwrap();
    let bare = Bare::new(&live.host, owner, "default").await;
    let spins = push_wat(&client, SPINS).await;
    let now = bare.context.issued_at;

    let labels = [("environment", "production"), ("gpu", "a100"), ("zone", "eu-1")];
    let requires = labels.map(|(name, value)| (name.into(), value.into())).into();
    let elsewhere = bare.refused_job(|body| body.task.plan.requires = requires).await;
    book.note(RefusalCode::LabelMismatch, "a job for production", elsewhere);
    let late = bare.refused_job(|body| {
        body.task.plan.expires = Some(Timestamp::from_millis(now.as_millis() - 3_600_000));
    });
    book.note(RefusalCode::NeverRuns, "a job that expired before it came", late.await);
    let far = now.saturating_add(Duration::from_secs(2 * 365 * 86_400));
    let far = bare.refused_job(|body| body.task.plan.at = Some(far)).await;
    book.note(RefusalCode::LimitTooHigh, "a job for the year after next", far);

    let unique = |body: &mut JobBody| {
        body.task.module = spins;
        body.task.plan.unique = Some(Unique { key: "acme/daily".into(), window_ms: 0, taken: Taken::Refuse });
    };
    let mut first = bare.body();
    first.id = JobId::from_bytes([5; 16]);
    unique(&mut first);
    let envelope = bare.signed(&first);
    let header = encode_header(&Request::Submit { length: envelope.len() as u64 });
    let (mut send, mut recv) = open_with(&bare.connection, &[header, envelope].concat()).await;
    send.finish().unwrap();
    assert!(matches!(soon(answer(&mut recv)).await, Ok(Response::Accepted { .. })));
    let second = bare.refused_job(|body| {
        unique(body);
        body.id = JobId::from_bytes([2; 16]);
    });
    book.names.push((first.id.to_string(), "<job>"));
    book.note(RefusalCode::NotUnique, "a report that is being made", second.await);
    client.cancel(first.id).await.unwrap();

    let reports: Name = "reports".parse().unwrap();
    let drain = |queue: &Name| Request::SetQueue { queue: queue.clone(), mode: QueueMode::Draining };
    let typo = bare.refused_request(&drain(&"repotrs".parse().unwrap())).await;
    book.note(RefusalCode::UnknownQueue, "to drain a queue with a typo", typo);
    let visitor = Bare::new(&live.host, secret(2), "visitors").await;
    let theirs = visitor.refused_request(&drain(&reports)).await;
    book.note(RefusalCode::MissingRole, "to drain a queue without being an operator", theirs);
    assert!(matches!(ask(&bare.connection, &drain(&reports)).await, Ok(Response::Queues { .. })));
    let closed = bare.refused_job(|body| {
        body.task.module = spins;
        body.task.queue = reports;
        body.id = JobId::from_bytes([3; 16]);
    });
    book.note(RefusalCode::QueueClosed, "a job for a queue that drains", closed.await);
    drop((bare, visitor));
    live.stop().await;
}

/// What a tenant may have. The figures are those that a store would count; here they are given.
fn quotas(book: &mut Book) {
    let tenant: Name = "visitors".parse().unwrap();
    let rules = TenantRules {
        max_queued: Some(100),
        max_stored_bytes: Some(1 << 30),
        max_modules: Some(10),
        cpu_per_day: Some(Duration::from_secs(3600)),
        ..TenantRules::default()
    };
    let refused = |used: TenantUse, asked: Asked| quota::check(&tenant, &rules, &used, &asked).unwrap_err();
    let (used, asked) = (TenantUse::default(), Asked::default());
    let many = refused(TenantUse { active: 98, ..used }, Asked { jobs: 5, ..asked });
    book.note(RefusalCode::QueueFull, "five jobs where a tenant may have two more", many);
    let code = RefusalCode::QuotaReached;
    let huge = refused(used, Asked { jobs: 101, ..asked });
    book.note(code, "a batch of more jobs than a tenant may have", huge);
    let modules = refused(TenantUse { modules: 10, ..used }, Asked { modules: 1, ..asked });
    book.note(code, "an eleventh module", modules);
    let bytes = refused(TenantUse { stored_bytes: 1 << 30, ..used }, Asked { bytes: 7, ..asked });
    book.note(code, "seven bytes too many", bytes);
    let cpu = TenantUse { cpu_today: Duration::from_secs(3601), ..used };
    book.note(code, "a job after an hour of computing", refused(cpu, Asked { jobs: 1, ..asked }));
}

/// Four of the largest envelopes at a time, each on its slow way, is all that a key may have.
async fn busy(book: &mut Book) {
    let live = Live::with(|config| {
        config.principals.push(guest());
        config.bounds.request_timeout = Duration::from_secs(2);
    })
    .await;
    let visitor = Bare::new(&live.host, secret(2), "visitors").await;
    let header = encode_header(&Request::Submit { length: MAX_ENVELOPE_BYTES as u64 });
    let mut slow = Vec::new();
    for _ in 0..4 {
        slow.push(open_with(&visitor.connection, &header).await);
    }
    let full = Arc::new(AtomicBool::new(false));
    let feeding = tokio::spawn({
        let full = Arc::clone(&full);
        async move {
            // Just fast enough not to be given up.
            while !full.load(Ordering::Relaxed) {
                for (send, _) in &mut slow {
                    let _ = send.write_all(&[b' '; 64 << 10]).await;
                }
                tokio::time::sleep(Duration::from_millis(300)).await;
            }
        }
    });
    tokio::time::sleep(Duration::from_millis(300)).await;
    book.note(
        RefusalCode::Busy,
        "a fifth large envelope on its way",
        visitor.refused_request_open(&header).await,
    );
    full.store(true, Ordering::Relaxed);
    feeding.await.unwrap();
    drop(visitor);
    live.stop().await;
}

impl Bare {
    /// Sends bytes, leaves the request open, and gives the refusal that must come.
    async fn refused_request_open(&self, bytes: &[u8]) -> Refusal {
        let (_send, mut recv) = open_with(&self.connection, bytes).await;
        match soon(answer(&mut recv)).await {
            Ok(Response::Refused(refusal)) => refusal,
            other => panic!("not refused: {other:?}"),
        }
    }
}

/// A job whose key is taken out of the configuration before it starts; and a request while the host stops.
/// A host whose trust file names its owner alone, and has expired.
async fn operators(book: &mut Book) {
    let dir = tempfile::tempdir().unwrap();
    let home = Home::create(dir.path()).unwrap();
    let owner = home.client_key().unwrap();
    let log = Config::load(&home.config()).unwrap().log_origin.parse().unwrap();
    let expires = Timestamp::from_millis(1_767_225_600_000);
    let body = TrustBody::new(log, 1, expires, 1, &[owner.public()]).unwrap();
    let mut file = TrustDraft::first(body).unwrap();
    file.sign(&owner).unwrap();
    std::fs::write(home.trust(), file.to_bytes()).unwrap();
    let colleague = |config: &mut Config| {
        let tenant = "default".parse().unwrap();
        config.principals.push(Principal { tenant, roles: Roles::USUAL.and(Role::Operate), ..guest() });
    };
    let live = Live { host: start(dir.path(), colleague).await, dir };
    let theirs = live.client_with(|options| options.identity = Identity::from(secret(2))).await;
    let queue: Name = "default".parse().unwrap();
    let absent = refusal(theirs.set_queue(&queue, QueueMode::Paused).await);
    book.note(RefusalCode::Forbidden, "to pause a queue without being in the trust file", absent);
    let late = refusal(live.client().await.erase(JobId::from_bytes([7; 16]), false).await.map(drop));
    book.note(RefusalCode::Forbidden, "to erase a job with a trust file that has expired", late);
    live.stop().await;
}

async fn forbidden(book: &mut Book) {
    let colleague = |config: &mut Config| {
        let tenant = "default".parse().unwrap();
        config.principals.push(Principal { tenant, ..guest() });
        config.bounds.max_running = 1;
    };
    let live = Live::with(colleague).await;
    let client = live.client().await;
    let spins = push_wat(&client, SPINS).await;
    let spinning = client.submit(&Job::new(spins).timeout(Duration::from_secs(600))).await.unwrap().job;
    let theirs = live.client_with(|options| options.identity = Identity::from(secret(2))).await;
    let absent = refusal(theirs.revoke_grant(JobId::from_bytes([7; 16])).await.map(drop));
    book.note(RefusalCode::UnknownGrant, "to end a grant that nobody gave", absent);
    let queued = theirs.submit(&Job::new(spins)).await.unwrap().job;
    while client.show(spinning).await.unwrap().state != JobState::Running {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let Live { host, dir } = live;
    host.stop(Stop::Running(Duration::ZERO)).await;

    let host = start(dir.path(), |_| {}).await;
    let live = Live { host, dir };
    let client = live.client().await;
    let end = client.wait(queued).await.unwrap().end;
    let Outcome::Faulted { reason } = end.outcome else { panic!("{end:?}") };
    let refusal = Refusal::new(RefusalCode::Forbidden, reason);
    book.note(RefusalCode::Forbidden, "a key taken out before its job began (the job's outcome)", refusal);

    let visitor = Home::open(live.dir.path()).unwrap().client_key().unwrap();
    let bare = Bare::new(&live.host, visitor, "default").await;
    let spinning = client.submit(&Job::new(spins)).await.unwrap().job;
    // Somebody waits for an answer, so the host keeps its connections until it is given.
    let (mut waiting, _answer) =
        open_with(&bare.connection, &encode_header(&Request::Wait { job: spinning })).await;
    waiting.finish().unwrap();
    // Streams are taken in their order: once a later request is answered, the host knows that somebody waits.
    assert!(matches!(ask(&bare.connection, &Request::Host {}).await, Ok(Response::Host(_))));
    let Live { host, dir } = live;
    let stopping = tokio::spawn(host.stop(Stop::Everything(Duration::from_secs(3))));
    let refusal = loop {
        match soon(ask(&bare.connection, &Request::Host {})).await {
            Ok(Response::Refused(refusal)) => break refusal,
            Ok(_) => tokio::time::sleep(Duration::from_millis(5)).await,
            Err(_) => panic!("the host left without a word"),
        }
    };
    book.note(RefusalCode::ShuttingDown, "a request to a host that stops", refusal);
    stopping.await.unwrap();
    drop(dir);
}

/// A disk that fails, and one that forgets.
async fn broken(book: &mut Book) {
    let dir = tempfile::tempdir().unwrap();
    let home = Home::create(dir.path()).unwrap().lock().unwrap();
    let mut config = Config::load(&home.config()).unwrap();
    config.listen = ([127, 0, 0, 1], 0).into();
    let gone = Arc::new(AtomicBool::new(false));
    let fault = {
        let gone = Arc::clone(&gone);
        move |step: Step| {
            let fails = step == Step::Flushed && gone.load(Ordering::Relaxed);
            if fails { Err(std::io::Error::other("the disk is gone")) } else { Ok(()) }
        }
    };
    let host = Host::start_with(home, config, compiler(), Box::new(fault)).await.unwrap();
    let live = Live { host, dir };
    let client = live.client().await;
    let module = push_wat(&client, &writes_bytes(1, 100_000)).await;
    let done = run(&client, &Job::new(module)).await;
    let job = done.view.job;
    let end = done.view.end.unwrap();
    let hex = end.stdout.digest.to_hex();
    std::fs::remove_file(live.dir.path().join("blobs").join(&hex[..2]).join(&hex)).unwrap();
    book.names.push((job.to_string(), "<job>"));
    let lost = refusal(client.output(job, OutputStream::Stdout, 0, false).await.map(drop));
    book.note(RefusalCode::HostFault, "an output that the disk lost", lost);

    gone.store(true, Ordering::Relaxed);
    let lost = refusal(client.submit(&Job::new(module)).await);
    book.note(RefusalCode::HostFault, "a commit that the disk does not take", lost);
    assert!(live.host.failed().await.contains("the disk is gone"), "the host does not go on");
    live.host.stop(Stop::Running(Duration::ZERO)).await;
}
