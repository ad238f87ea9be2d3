//! Jobs for benches of the store: small, signed, verified and admitted.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use strongroom::admission::{self, AdmittedJob, Policy};
use strongroom::clock::Clock;
use strongroom::config::Config;
use strongroom_job::{
    BatchBody, Capabilities, Context, Digest, Entry, Envelope, Input, JobBody, JobId, Limits, ModuleRef,
    Name, Plan, SecretKey, SignedEnvelope, Task, Timestamp, Variation, sign_batch, sign_job,
};

/// Jobs that were admitted, and the signed envelope that they came in.
pub type Admitted = (Vec<AdmittedJob>, Arc<[u8]>);

/// Makes admitted jobs, each with an id of its own.
#[derive(Debug)]
pub struct Admitter {
    key: SecretKey,
    host: SecretKey,
    config: Config,
    next: u64,
}

impl Admitter {
    /// One for a host that is not there.
    ///
    /// # Errors
    /// When the example of a configuration is not good.
    pub fn new() -> Result<Self> {
        let key = SecretKey::from_seed(&[2; 32].into());
        let config = Config::parse(Config::example(&key.public(), "example.com/bench").as_bytes())?;
        Ok(Self { key, host: SecretKey::from_seed(&[3; 32].into()), config, next: 0 })
    }

    /// So many jobs under one signature, at most 10,000.
    ///
    /// # Errors
    /// When one of them is not admitted.
    pub fn batch(&mut self, count: usize) -> Result<Admitted> {
        let now = Clock::default().now();
        let context = self.context(now);
        let variations = (0..count).map(|_| Variation::of(self.id())).collect();
        let signed = sign_batch(&BatchBody::new(context, task(), variations), &self.key)?;
        self.admit(&signed, now)
    }

    /// So many jobs, each in an envelope of its own.
    ///
    /// # Errors
    /// When one of them is not admitted.
    pub fn singles(&mut self, count: usize) -> Result<Vec<Admitted>> {
        let now = Clock::default().now();
        (0..count)
            .map(|_| {
                let body = JobBody::new(self.id(), self.context(now), task());
                self.admit(&sign_job(&body, &self.key)?, now)
            })
            .collect()
    }

    fn admit(&self, signed: &SignedEnvelope, now: Timestamp) -> Result<Admitted> {
        let verified = Envelope::parse(signed.as_bytes())?.verify(&self.key.public())?;
        let policy = Policy { host: &self.host.public(), config: &self.config };
        let principal = &self.config.principals[0];
        let admitted = verified.into_iter().map(|job| admission::admit(job, principal, &policy, now));
        Ok((admitted.collect::<Result<_, _>>()?, Arc::from(signed.as_bytes())))
    }

    fn context(&mut self, now: Timestamp) -> Context {
        Context {
            audience: self.host.public(),
            tenant: Name::default_name(),
            issued_at: now,
            not_before: now,
            not_after: now.saturating_add(Duration::from_secs(3600)),
            salt: self.id(),
        }
    }

    fn id(&mut self) -> JobId {
        self.next += 1;
        // Ids are random in life: so are the places of their rows.
        let bytes = *Digest::of(&self.next.to_be_bytes()).as_bytes();
        JobId::from_bytes(bytes.first_chunk().copied().unwrap_or_default())
    }
}

fn task() -> Task {
    Task {
        module: ModuleRef { digest: Digest::of(b"module"), length: 6 },
        entry: Entry::Command,
        args: vec!["argument".into()],
        env: Default::default(),
        input: Input::Empty,
        capabilities: Capabilities::default(),
        limits: Limits::default(),
        queue: Name::default_name(),
        priority: 0,
        idempotent: false,
        labels: Default::default(),
        plan: Plan::default(),
    }
}
