//! Any calls in any order, with any rules and a clock that steps: the schedule says what the [`Reference`] says.

use proptest::prelude::*;
use proptest::sample::Index;
use strongroom::config::{QueueRules, Rate, TenantRules};
use strongroom::schedule::{Entry, NOT_YET, Schedule};
use strongroom_job::{Name, QueueMode, Timestamp};

use crate::reference::Reference;
use crate::support::{at, id, ms, name};

/// How far the reference looks ahead: past a token of the slowest rate, and most times to start and to expire.
const HORIZON_MS: u64 = 150;
const QUEUES: [&str; 3] = ["x", "y", "z"];
const TENANTS: [&str; 3] = ["a", "b", "c"];

#[derive(Clone, Debug)]
enum Op {
    Add {
        job: u64,
        tenant: usize,
        queue: usize,
        key: u8,
        priority: i8,
        delay: u64,
        expires: Option<u64>,
    },
    Remove(u64),
    Take,
    /// Until nothing is left to take or to be told of.
    Drain,
    Ended(Index, u64),
    Expired,
    Pause(usize),
    Resume(usize),
    Forward(u64),
    Back(u64),
}

/// Most jobs are in the first, so that they get in each other's way.
fn queue() -> impl Strategy<Value = usize> {
    (0..6_usize).prop_map(|number| number.saturating_sub(3))
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let add = (0..60_u64, 0..3_usize, queue(), 0..3_u8, -1..=1_i8, 0..80_u64, any::<bool>(), 0..90_u64)
        .prop_map(|(job, tenant, queue, key, priority, delay, expires, lifetime)| Op::Add {
            job,
            tenant,
            queue,
            key,
            priority,
            delay: delay.saturating_sub(40),
            expires: expires.then_some(lifetime),
        });
    let op = prop_oneof![
        10 => add,
        1 => (0..60_u64).prop_map(Op::Remove),
        6 => Just(Op::Take),
        2 => Just(Op::Drain),
        5 => (any::<Index>(), 0..4_000_000_u64).prop_map(|(which, ran)| Op::Ended(which, ran)),
        1 => Just(Op::Expired),
        1 => (0..3_usize).prop_map(Op::Pause),
        1 => (0..3_usize).prop_map(Op::Resume),
        4 => (0..40_u64).prop_map(Op::Forward),
        1 => (0..60_u64).prop_map(Op::Back),
    ];
    prop::collection::vec(op, 1..150)
}

fn queue_rules() -> impl Strategy<Value = QueueRules> {
    let max = || prop::option::of(1..4_u32);
    let rate = (1..4_u32, 1..100_u64, 1..4_u32).prop_map(|(starts, per, burst)| Rate {
        starts,
        per: ms(per),
        burst,
    });
    (max(), max(), max(), prop::option::of(rate)).prop_map(
        |(max_running, max_running_per_tenant, max_running_per_group, rate)| QueueRules {
            max_running,
            max_running_per_tenant,
            max_running_per_group,
            rate,
        },
    )
}

fn tenant_rules() -> impl Strategy<Value = TenantRules> {
    (1..=5_u32, prop::option::weighted(0.3, 1..4_u32)).prop_map(|(weight, max_running)| TenantRules {
        weight,
        max_running,
        ..TenantRules::default()
    })
}

/// The two of them, and what has to be known to go on.
struct Pair {
    schedule: Schedule,
    reference: Reference,
    now: u64,
    admitted: u64,
}

impl Pair {
    fn new(queues: [QueueRules; 3], tenants: [TenantRules; 3]) -> Self {
        let queues: Vec<(Name, QueueRules)> = QUEUES.map(name).into_iter().zip(queues).collect();
        let tenants: Vec<(Name, TenantRules)> = TENANTS.map(name).into_iter().zip(tenants).collect();
        let now = 1000;
        let schedule =
            Schedule::new(queues.iter().cloned().collect(), tenants.iter().cloned().collect(), at(now));
        let reference = Reference::new(queues, tenants, at(now));
        Self { schedule, reference, now, admitted: 0 }
    }

    fn apply(&mut self, op: &Op) -> Result<(), TestCaseError> {
        let now = at(self.now);
        match op {
            Op::Add { job, tenant, queue, key, priority, delay, expires } => {
                self.admitted += 1;
                let entry = Entry {
                    job: id(*job),
                    tenant: name(TENANTS[*tenant]),
                    queue: name(QUEUES[*queue]),
                    key: (*key > 0).then(|| format!("key-{key}")),
                    priority: *priority,
                    admitted: self.admitted,
                    // Now and then the time is not known.
                    ready_at: if *delay == 39 { NOT_YET } else { at(self.now + delay) },
                    expires_at: expires.map(|lifetime| self.free_expiry(lifetime)),
                };
                prop_assert_eq!(self.schedule.add(entry.clone()), self.reference.add(entry));
            }
            Op::Remove(job) => {
                prop_assert_eq!(self.schedule.remove(&id(*job)), self.reference.remove(&id(*job)));
            }
            Op::Take => prop_assert_eq!(self.schedule.take(now), self.reference.take(now)),
            Op::Drain => self.drain()?,
            Op::Ended(which, ran) => {
                let running = self.reference.running();
                let job = if running.is_empty() { id(0) } else { *which.get(&running) };
                let ran = ms(*ran);
                prop_assert_eq!(self.schedule.ended(&job, ran), self.reference.ended(&job, ran));
            }
            Op::Expired => prop_assert_eq!(self.schedule.expired(now), self.reference.expired(now)),
            Op::Pause(queue) => {
                self.schedule.set_mode(&name(QUEUES[*queue]), QueueMode::Paused);
                self.reference.queues[*queue].paused = true;
            }
            Op::Resume(queue) => {
                self.schedule.set_mode(&name(QUEUES[*queue]), QueueMode::Open);
                self.reference.queues[*queue].paused = false;
            }
            Op::Forward(millis) => self.now += millis,
            Op::Back(millis) => self.now = self.now.saturating_sub(*millis),
        }
        Ok(())
    }

    /// Never two at one time: the order of equals is nobody's business.
    fn free_expiry(&self, lifetime: u64) -> Timestamp {
        (self.now + lifetime..).map(at).find(|then| !self.reference.expires(*then)).unwrap()
    }

    fn drain(&mut self) -> Result<(), TestCaseError> {
        let now = at(self.now);
        loop {
            let (taken, expired) = (self.schedule.take(now), self.schedule.expired(now));
            prop_assert_eq!((taken, expired), (self.reference.take(now), self.reference.expired(now)));
            if taken.is_none() && expired.is_none() {
                return Ok(());
            }
        }
    }

    fn compare(&mut self) -> Result<(), TestCaseError> {
        let now = at(self.now);
        self.reference.pass_time(now);
        prop_assert_eq!(self.schedule.waiting(), self.reference.waiting());
        prop_assert_eq!(self.schedule.running(), self.reference.running().len());
        for counts in self.schedule.queues(now) {
            let known = self.reference.queues.iter().find(|queue| queue.name == counts.queue).unwrap();
            prop_assert_eq!(counts.mode == QueueMode::Paused, known.paused);
            prop_assert_eq!(counts.jobs, self.reference.tally(|entry| entry.queue == known.name));
            prop_assert_eq!(counts.oldest, self.reference.earliest(|entry| entry.queue == known.name, true));
            prop_assert_eq!(counts.next, self.reference.earliest(|entry| entry.queue == known.name, false));
        }
        for tenant in TENANTS.map(name) {
            for counts in self.schedule.queues_of(&tenant, now) {
                let of = |entry: &Entry| entry.queue == counts.queue && entry.tenant == tenant;
                prop_assert_eq!(counts.jobs, self.reference.tally(of));
                prop_assert_eq!(counts.oldest, self.reference.earliest(of, true));
            }
        }
        for counts in self.schedule.tenants(now) {
            prop_assert_eq!(counts.jobs, self.reference.tally(|entry| entry.tenant == counts.tenant));
        }
        self.compare_next(now)
    }

    /// Nothing happens before `next_change`, and at it something happens, or has become ready.
    fn compare_next(&mut self, now: Timestamp) -> Result<(), TestCaseError> {
        if self.reference.is_busy() {
            return Ok(());
        }
        let said = self.schedule.next_change(now);
        let horizon = said.map_or(ms(0), |said| said.since(now)).max(ms(HORIZON_MS));
        let first = self.reference.first_event(now, horizon.as_millis() as u64);
        if let Some(first) = first {
            prop_assert!(said.is_some_and(|said| said <= first), "said {said:?}, but it is {first:?}");
        }
        if let Some(said) = said {
            prop_assert!(said > now);
            prop_assert!(first == Some(said) || self.reference.becomes_ready(said), "nothing at {said:?}");
        }
        Ok(())
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(400) })]

    #[test]
    fn any_calls_in_any_order_have_the_answers_of_the_reference(
        queues in [queue_rules(), queue_rules(), queue_rules()],
        tenants in [tenant_rules(), tenant_rules(), tenant_rules()],
        ops in ops(),
    ) {
        let mut pair = Pair::new(queues, tenants);
        for op in &ops {
            pair.apply(op)?;
            pair.compare()?;
        }
        // Nothing is lost: without limits of time, everything that waits for a time is taken or told of.
        for job in pair.reference.held() {
            prop_assert!(pair.schedule.remove(&job));
        }
        for queue in QUEUES {
            pair.schedule.set_mode(&name(queue), QueueMode::Open);
        }
        let waiting = pair.schedule.waiting();
        let mut seen = 0;
        for _ in 0..100 {
            pair.now += HORIZON_MS;
            let now = at(pair.now);
            while let Some(job) = pair.schedule.take(now) {
                prop_assert!(pair.schedule.ended(&job, ms(1)));
                seen += 1;
            }
            while pair.schedule.expired(now).is_some() {
                seen += 1;
            }
            for job in pair.reference.running() {
                pair.schedule.ended(&job, ms(1));
            }
        }
        prop_assert_eq!(seen, waiting);
    }
}
