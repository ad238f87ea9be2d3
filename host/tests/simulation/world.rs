//! Clients, host, disk and clock of one history.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use strongroom::config::{QueueRules, TenantRules};
use strongroom::lifecycle::{Event, Finished, Stage};
use strongroom::schedule::Schedule;
use strongroom::store::{CommitError, Committed, Effect, Outputs, Simulated, Transition};
use strongroom_job::{AcceptedJob, JobId, Name, Outcome, QueueMode, Record, Timestamp};

use crate::common::random::Random;
use crate::common::{NOW, client_key};
use crate::jobs::{ENVELOPES, QUEUES, pool};
use crate::judge::{NARROW, PER_GROUP, judge};

/// Things that happen in one history, before everything is let run to its end.
const EVENTS: u64 = 160;
/// Guests at once.
const SLOTS: usize = 3;
/// Rounds in which everything must have come to its end: each brings at least one job further.
const ROUNDS: usize = 5_000;

/// One history.
pub(crate) struct World {
    random: Random,
    now: u64,
    store: Simulated,
    schedule: Schedule,
    /// Attempts that run, by job.
    running: BTreeMap<JobId, u32>,
    paused: BTreeSet<Name>,
    /// What clients were told, by job.
    told: BTreeMap<JobId, AcceptedJob>,
    cancelled: BTreeSet<JobId>,
}

fn schedule(now: Timestamp) -> Schedule {
    let narrow = QueueRules {
        max_running: Some(NARROW),
        max_running_per_group: Some(PER_GROUP),
        ..QueueRules::default()
    };
    let queues = BTreeMap::from([("narrow".parse().unwrap(), narrow)]);
    Schedule::new(queues, BTreeMap::from([(Name::default_name(), TenantRules::default())]), now)
}

impl World {
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            random: Random::new(seed),
            now: NOW.as_millis(),
            store: Simulated::default(),
            schedule: schedule(NOW),
            running: BTreeMap::new(),
            paused: BTreeSet::new(),
            told: BTreeMap::new(),
            cancelled: BTreeSet::new(),
        }
    }

    /// Lives, judges, and returns every record.
    pub(crate) fn live(mut self) -> Vec<Record> {
        for _ in 0..EVENTS {
            match self.random.below(20) {
                0..=6 => self.submit(),
                7 | 8 => self.cancel(),
                9..=12 => self.end_one(),
                13 => self.crash(),
                14 => self.set_queue(),
                _ => self.now += self.random.below(1_500),
            }
            self.start_and_expire();
        }
        self.run_to_the_end();
        let records = self.store.records().unwrap();
        judge(&records, &self.told, &self.store, self.time());
        self.store.check_replay(self.store.log_size()).unwrap();
        // Also of a log that ends anywhere: what its end cuts in two is completed as it was.
        let cut = self.random.below(self.store.log_size() + 1);
        self.store.check_replay(cut).unwrap();
        records
    }

    fn time(&self) -> Timestamp {
        Timestamp::from_millis(self.now)
    }

    /// Commits a group. Now and then the power goes before it is durable, and then nobody hears of it.
    fn commit(&mut self, transitions: Vec<Transition>) -> Option<Vec<Result<Committed, CommitError>>> {
        let now = self.time();
        let (answers, effects) = self.store.commit(now, transitions).expect("rows are what the code writes");
        if self.random.one_in(60) {
            self.restart();
            return None;
        }
        self.store.sync();
        for effect in effects {
            self.hear(effect);
        }
        Some(answers)
    }

    /// As the board of a host.
    fn hear(&mut self, effect: Effect) {
        match effect {
            Effect::Ran(job, ran) => drop(self.schedule.ended(&job, ran)),
            Effect::Waits(entry) => {
                let _ = self.schedule.remove(&entry.job) || self.schedule.ended(&entry.job, Duration::ZERO);
                assert!(self.schedule.add(entry));
            }
            Effect::Over(job) => {
                let _ = self.schedule.remove(&job) || self.schedule.ended(&job, Duration::ZERO);
                self.running.remove(&job);
            }
            Effect::Queue(queue, mode) => self.schedule.set_mode(&queue, mode),
        }
    }

    /// One to three envelopes in one group, of which some were sent before.
    fn submit(&mut self) {
        let picks: Vec<usize> =
            (0..1 + self.random.below(3)).map(|_| self.random.below(ENVELOPES) as usize).collect();
        let admit = |pick: &usize| Transition::Admit {
            jobs: pool()[*pick].jobs.clone(),
            envelope: Arc::clone(&pool()[*pick].bytes),
            alone: pool()[*pick].alone,
            max_active: 60,
            rules: Box::default(),
        };
        let Some(answers) = self.commit(picks.iter().map(admit).collect()) else { return };
        for (pick, answer) in picks.into_iter().zip(answers) {
            match answer {
                Ok(Committed::Admitted { jobs, .. }) => {
                    // Now and then the answer is lost, and the client knows nothing.
                    if self.random.one_in(6) {
                        continue;
                    }
                    for accepted in jobs {
                        let before = self.told.insert(accepted.job, accepted);
                        assert!(
                            before.is_none_or(|before| before == accepted),
                            "another answer: {accepted:?}"
                        );
                    }
                }
                Err(CommitError::Full { .. } | CommitError::NotUnique { .. }) => {
                    let known =
                        pool()[pick].jobs.iter().filter(|job| self.told.contains_key(&job.id())).count();
                    assert_eq!(known, 0, "an envelope that was taken is refused");
                }
                other => panic!("{other:?}"),
            }
        }
    }

    fn cancel(&mut self) {
        let Some(job) = self.some_job() else { return };
        let event = Event::Cancel { by: client_key().public() };
        let Some(mut answers) = self.commit(vec![Transition::Step { job, event }]) else { return };
        match answers.remove(0) {
            Ok(_) => drop(self.cancelled.insert(job)),
            Err(CommitError::Illegal(_) | CommitError::UnknownJob) => {}
            other => panic!("{other:?}"),
        }
    }

    fn some_job(&mut self) -> Option<JobId> {
        let active = self.store.active().unwrap();
        let pick = self.random.below(active.len() as u64 + 1) as usize;
        active.get(pick).map(|active| active.entry.job)
    }

    /// An attempt ends in one way or another.
    fn end_one(&mut self) {
        let pick = self.random.below(SLOTS as u64) as usize;
        let Some((job, fence)) = self.running.iter().nth(pick).map(|(job, fence)| (*job, *fence)) else {
            return;
        };
        let outcome = match self.random.below(6) {
            _ if self.cancelled.contains(&job) => Outcome::Cancelled,
            0 | 1 => Outcome::Exited { code: 3 },
            2 => Outcome::Trapped { reason: "unreachable".into() },
            _ => Outcome::Exited { code: 0 },
        };
        self.finish(job, fence, outcome);
    }

    fn finish(&mut self, job: JobId, fence: u32, outcome: Outcome) {
        let mut transitions = Vec::new();
        let finish = |fence, outcome| {
            let end = Box::new(Finished::without_run(outcome));
            Transition::Finish { job, event: Event::Finish { fence, end }, outputs: Outputs::default() }
        };
        // An attempt that was thought lost reports, too.
        if self.random.one_in(8) {
            transitions.push(finish(fence + 1, Outcome::Exited { code: 9 }));
            transitions.push(finish(fence.wrapping_sub(1), Outcome::Exited { code: 9 }));
        }
        transitions.push(finish(fence, outcome));
        let Some(answers) = self.commit(transitions) else { return };
        assert!(answers.last().unwrap().is_ok(), "{answers:?}");
        assert!(answers.iter().rev().skip(1).all(Result::is_err), "a result under another fence counted");
        self.running.remove(&job);
    }

    fn start_and_expire(&mut self) {
        while let Some(job) = self.schedule.expired(self.time()) {
            let Some(answers) = self.commit(vec![Transition::Step { job, event: Event::Expire }]) else {
                return;
            };
            assert!(answers[0].is_ok(), "{answers:?}");
        }
        while self.running.len() < SLOTS {
            let Some(job) = self.schedule.take(self.time()) else { return };
            let Some(mut answers) = self.commit(vec![Transition::Step { job, event: Event::Start }]) else {
                return;
            };
            match answers.remove(0) {
                Ok(Committed::Stepped(row)) => match row.life.stage {
                    Stage::Running { .. } => drop(self.running.insert(job, row.life.attempt)),
                    ref other => panic!("taken, and then {other:?}"),
                },
                other => panic!("{other:?}"),
            }
        }
    }

    fn set_queue(&mut self) {
        let queue: Name = QUEUES[self.random.below(2) as usize].parse().unwrap();
        let mode = if self.paused.contains(&queue) { QueueMode::Open } else { QueueMode::Paused };
        let by = client_key().public();
        if self.commit(vec![Transition::SetQueue { queue: queue.clone(), mode, by }]).is_some() {
            match mode {
                QueueMode::Paused => drop(self.paused.insert(queue)),
                _ => drop(self.paused.remove(&queue)),
            }
        }
    }

    fn crash(&mut self) {
        self.restart();
        // The clock that the next start sees may be a little, or a lot, later. It is never earlier: the host's clock sees to that.
        self.now += if self.random.one_in(4) { 30_000 } else { self.random.below(500) };
    }

    /// The host goes down and comes up again: what was not durable is gone, what ran is judged.
    fn restart(&mut self) {
        self.store.crash().unwrap();
        self.running.clear();
        self.cancelled.clear();
        self.schedule = schedule(self.time());
        for queue in self.paused.clone() {
            self.hear(Effect::Queue(queue, QueueMode::Paused));
        }
        let mut cut_off = Vec::new();
        for active in self.store.active().unwrap() {
            match active.running {
                true => cut_off.push(Transition::Step { job: active.entry.job, event: Event::Recover }),
                false => self.hear(Effect::Waits(active.entry)),
            }
        }
        let (answers, effects) = self.store.commit(self.time(), cut_off).unwrap();
        assert!(answers.iter().all(Result::is_ok), "{answers:?}");
        self.store.sync();
        for effect in effects {
            self.hear(effect);
        }
    }

    /// Nobody asks for anything any more, every queue is open, and time passes: everything must come to its end.
    fn run_to_the_end(&mut self) {
        for queue in std::mem::take(&mut self.paused) {
            self.hear(Effect::Queue(queue, QueueMode::Open));
        }
        for _ in 0..ROUNDS {
            self.start_and_expire();
            if let Some((job, fence)) = self.running.first_key_value().map(|(job, fence)| (*job, *fence)) {
                let code = i32::from(self.random.one_in(4));
                self.finish(job, fence, Outcome::Exited { code });
                continue;
            }
            match self.schedule.next_change(self.time()) {
                Some(at) => self.now = at.as_millis(),
                // A crash may have come between: then somebody can start in the next round.
                None if self.schedule.waiting() > 0 => {}
                None => break,
            }
        }
        let left = self.store.active().unwrap();
        assert!(left.is_empty(), "{} never come to an end, such as {:?}", left.len(), left[0]);
        assert_eq!(
            (self.schedule.waiting(), self.schedule.running()),
            (0, 0),
            "the schedule keeps what is over"
        );
    }
}
