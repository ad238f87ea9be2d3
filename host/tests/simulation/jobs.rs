//! The envelopes that simulated clients send, signed and admitted once for all histories.

use std::collections::BTreeSet;
use std::sync::{Arc, OnceLock};

use strongroom::admission::{self, AdmittedJob, Policy};
use strongroom_job::{
    After, BatchBody, Envelope, Input, JobId, On, Plan, RetryOn, RetryPolicy, Taken, Task, Timestamp, Unique,
    Variation, sign_batch, sign_job,
};

use crate::common::random::Random;
use crate::common::{self, NOW, client_key, context, host_key, id, principal, task};

/// Envelopes in the pool.
pub(crate) const ENVELOPES: u64 = 160;
/// Queues of the simulated host.
pub(crate) const QUEUES: [&str; 2] = ["default", "narrow"];
/// Keys are few, so that they meet.
const KEYS: u64 = 3;

/// One envelope: its jobs in order.
#[derive(Debug)]
pub(crate) struct Sent {
    pub(crate) jobs: Vec<AdmittedJob>,
    /// As it was signed.
    pub(crate) bytes: Arc<[u8]>,
    /// Whether it is one job, and no batch.
    pub(crate) alone: bool,
}

/// All envelopes, always the same.
pub(crate) fn pool() -> &'static [Sent] {
    static POOL: OnceLock<Vec<Sent>> = OnceLock::new();
    POOL.get_or_init(|| {
        let mut random = Random::new(7);
        (0..ENVELOPES).map(|number| envelope(number * 100, &mut random)).collect()
    })
}

fn envelope(first: u64, random: &mut Random) -> Sent {
    let key = client_key();
    let bytes = if random.one_in(3) {
        let jobs = flow(first, random);
        let template = Task { idempotent: random.one_in(2), ..task() };
        sign_batch(&BatchBody::new(context(), template, jobs), &key).unwrap()
    } else {
        let task = Task {
            plan: plan(random),
            idempotent: random.one_in(2),
            priority: i8::try_from(random.below(3)).unwrap(),
            queue: QUEUES[usize::from(random.one_in(3))].parse().unwrap(),
            ..task()
        };
        sign_job(&strongroom_job::JobBody::new(id(first), context(), task), &key).unwrap()
    };
    let parsed = Envelope::parse(bytes.as_bytes()).unwrap();
    let alone = parsed.is_of_one_job();
    let verified = parsed.verify(&key.public()).unwrap();
    let mut config = common::config();
    config.queues.insert("narrow".parse().unwrap());
    let policy = Policy { host: &host_key().public(), config: &config };
    let admit = |job| admission::admit(job, principal(&config), &policy, NOW).unwrap();
    Sent { jobs: verified.into_iter().map(admit).collect(), bytes: bytes.as_bytes().into(), alone }
}

fn later(random: &mut Random, within: u64) -> Timestamp {
    Timestamp::from_millis(NOW.as_millis() + random.below(within))
}

fn plan(random: &mut Random) -> Plan {
    let retry = random.one_in(3).then(|| {
        let on =
            if random.one_in(2) { vec![RetryOn::Failed] } else { vec![RetryOn::Failed, RetryOn::Trapped] };
        let attempts = 2 + u32::try_from(random.below(3)).unwrap();
        let max_age_ms = random.one_in(3).then(|| random.below(20_000));
        RetryPolicy { attempts, on, pause_ms: random.below(2_000), max_pause_ms: 4_000, max_age_ms }
    });
    let unique = random.one_in(3).then(|| {
        let taken = [Taken::Refuse, Taken::Existing, Taken::Replace][random.below(3) as usize];
        let window_ms = if random.one_in(2) { random.below(10_000) } else { 0 };
        Unique { key: format!("key {}", random.below(KEYS)), window_ms, taken }
    });
    let at = random.one_in(4).then(|| later(random, 20_000));
    let expires =
        random.one_in(4).then(|| Timestamp::from_millis(later(random, 30_000).as_millis() + 20_000));
    let group = random.one_in(3).then(|| format!("group {}", random.below(2)));
    Plan { at, expires, retry, unique, group, ..Plan::default() }
}

/// Two to nine jobs, each of which waits for some of those before it.
fn flow(first: u64, random: &mut Random) -> Vec<Variation> {
    let count = 2 + random.below(8);
    let job = |place: u64, random: &mut Random| {
        let mut plan = plan(random);
        plan.unique = plan.unique.filter(|_| random.one_in(2));
        let mut from = 0;
        while from < place && plan.after.len() < 3 {
            let begin = from + random.below(place - from);
            let end = begin + random.below(place - begin);
            let last = (end > begin).then(|| u32::try_from(end).unwrap());
            let on = [On::Success, On::Success, On::End, On::Failure][random.below(4) as usize];
            plan.after.push(After { first: u32::try_from(begin).unwrap(), last, on });
            from = end + 1;
            if random.one_in(2) {
                break;
            }
        }
        let input = (!plan.after.is_empty() && random.one_in(3)).then_some(Input::Outputs { artifact: None });
        Variation { plan: Some(Box::new(plan)), input, ..Variation::of(id(first + place)) }
    };
    let mut jobs: Vec<Variation> = (0..count).map(|place| job(place, random)).collect();
    // A key stands once in a batch.
    let mut keys = BTreeSet::new();
    for plan in jobs.iter_mut().filter_map(|job| job.plan.as_mut()) {
        plan.unique = plan.unique.take().filter(|unique| keys.insert(unique.key.clone()));
    }
    jobs
}

/// The jobs that `job`, of this envelope, waits for.
pub(crate) fn waits_for(sent: &Sent, job: &AdmittedJob) -> Vec<(JobId, On)> {
    let after = job.task().plan.after.iter();
    after.flat_map(|after| after.places().map(|place| (sent.jobs[place as usize].id(), after.on))).collect()
}
