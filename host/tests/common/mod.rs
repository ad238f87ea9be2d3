//! What several tests need: keys, a configuration, jobs that were signed, verified and admitted.
#![allow(dead_code, reason = "each test file uses its part")]
#![allow(unreachable_pub, reason = "a module of several test crates")]

pub mod bomb;
pub mod dsse;
pub mod guests;
pub mod heap;
pub mod live;
pub mod patience;
pub mod principals;
pub mod process;
pub mod proof;
pub mod random;
pub mod raw;
pub mod records;
pub mod trees;

use std::collections::BTreeMap;
use std::sync::Arc;

use strongroom::admission::{self, AdmittedJob, Policy};
use strongroom::config::{Config, Principal};
use strongroom_job::{
    BatchBody, Capabilities, Context, Digest, Entry, Envelope, Input, JobBody, JobId, Limits, ModuleRef,
    Name, Plan, Refusal, SecretKey, Task, Timestamp, Variation, VerifiedJob, sign_batch, sign_job,
};

/// A fixed point in time, in the window of every job made here.
pub const NOW: Timestamp = Timestamp::from_millis(1_800_000_000_000);

/// A key from one byte.
pub fn secret(byte: u8) -> SecretKey {
    SecretKey::from_seed(&[byte; 32].into())
}

/// The key of the host in these tests.
pub fn host_key() -> SecretKey {
    secret(0xaa)
}

/// The key of the one principal in these tests.
pub fn client_key() -> SecretKey {
    secret(0xbb)
}

/// The configuration that `init` writes for [`client_key`].
pub fn config() -> Config {
    let text = Config::example(&client_key().public(), "example.com/test");
    Config::parse(text.as_bytes()).expect("the example is good")
}

/// The one principal.
pub fn principal(config: &Config) -> &Principal {
    &config.principals[0]
}

/// A module that nobody has.
pub fn module() -> ModuleRef {
    ModuleRef { digest: Digest::of(b"module"), length: 6 }
}

/// A small task.
pub fn task() -> Task {
    Task {
        module: module(),
        entry: Entry::Command,
        args: Vec::new(),
        env: BTreeMap::new(),
        input: Input::Empty,
        capabilities: Capabilities::default(),
        limits: Limits::default(),
        queue: Name::default_name(),
        priority: 0,
        idempotent: false,
        labels: BTreeMap::new(),
        plan: Plan::default(),
    }
}

/// A window of one hour around [`NOW`].
pub fn context() -> Context {
    Context {
        audience: host_key().public(),
        tenant: Name::default_name(),
        issued_at: NOW,
        not_before: NOW,
        not_after: Timestamp::from_millis(NOW.as_millis() + 3_600_000),
        salt: JobId::from_bytes([9; 16]),
    }
}

/// An id from a number.
pub fn id(number: u64) -> JobId {
    let mut bytes = [0; 16];
    bytes[8..].copy_from_slice(&number.to_be_bytes());
    JobId::from_bytes(bytes)
}

/// A body of the small task.
pub fn body(number: u64) -> JobBody {
    JobBody::new(id(number), context(), task())
}

/// The body, signed and verified.
pub fn verified(body: &JobBody) -> VerifiedJob {
    let envelope = sign_job(body, &client_key()).expect("a good body");
    let mut jobs = Envelope::parse(envelope.as_bytes())
        .and_then(|envelope| envelope.verify(&client_key().public()))
        .expect("our own envelope");
    jobs.remove(0)
}

/// The envelope of the body, as its principal sends it.
pub fn envelope(body: &JobBody) -> Arc<[u8]> {
    sign_job(body, &client_key()).expect("a good body").as_bytes().into()
}

/// What admission says of the body.
pub fn admit(body: &JobBody, config: &Config, now: Timestamp) -> Result<AdmittedJob, Refusal> {
    let policy = Policy { host: &host_key().public(), config };
    admission::admit(verified(body), principal(config), &policy, now)
}

/// The body, admitted.
pub fn admitted(body: &JobBody) -> AdmittedJob {
    admit(body, &config(), NOW).expect("a good job")
}

/// Jobs of the small task under one signature, signed, verified and admitted.
pub fn admitted_batch(jobs: Vec<Variation>) -> Vec<AdmittedJob> {
    let signed = sign_batch(&BatchBody::new(context(), task(), jobs), &client_key()).expect("a good body");
    let jobs = Envelope::parse(signed.as_bytes())
        .and_then(|envelope| envelope.verify(&client_key().public()))
        .expect("our own envelope");
    let (config, host) = (config(), host_key().public());
    let policy = Policy { host: &host, config: &config };
    let admit = |job| admission::admit(job, principal(&config), &policy, NOW).expect("a good job");
    jobs.into_iter().map(admit).collect()
}
