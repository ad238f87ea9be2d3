//! A series fires once for each of its due times, whatever happens in between, and ends.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failed unwrap is a failed test")]

mod common;

use std::sync::Arc;
use std::time::Duration;

use common::live::{Live, finish, push_wat, says, start};
use common::{admitted, body, client_key, id};
use strongroom::clock::Clock;
use strongroom::config::TenantRules;
use strongroom::lifecycle::{self, Finished, Illegal};
use strongroom::retention::Fate;
use strongroom::schedule::NOT_YET;
use strongroom::store::{CommitError, Committed, Effect, NoFault, Outputs, Simulated, Store, Transition};
use strongroom_job::{
    Digest, Event, JobId, JobState, Missed, Name, Outcome, OutputSummary, Plan, QueueMode, RefusalCode,
    Repeat, RetryOn, RetryPolicy, Timestamp, Usage,
};
use strongroom_sdk::{Job, ListFilter, Repeats};

/// 2027-01-15T08:00:00Z, a due time of each expression here.
const NOW: Timestamp = common::NOW;
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);

fn after(time: Duration) -> Timestamp {
    NOW.saturating_add(time)
}

/// A store with one series, which was admitted at [`NOW`], and what became of it.
struct Series {
    store: Simulated,
    max_active: usize,
    rules: TenantRules,
}

impl Series {
    fn new(cron: &str, until: Duration, missed: Missed) -> Self {
        let repeat = Repeat { cron: cron.into(), zone: "UTC".into(), until: after(until), missed };
        let (on, pause_ms) = (vec![RetryOn::Failed], 0);
        let retry = RetryPolicy { attempts: 2, on, pause_ms, max_pause_ms: 0, max_age_ms: None };
        let mut body = body(1);
        body.task.args = vec!["kept".into()];
        body.task.plan = Plan { repeat: Some(Box::new(repeat)), retry: Some(retry), ..Plan::default() };
        let mut series = Self { store: Simulated::default(), max_active: 100, rules: TenantRules::default() };
        let admit = Transition::Admit {
            jobs: vec![admitted(&body)],
            envelope: Arc::from(*b"x"),
            alone: true,
            max_active: 100,
            rules: Box::default(),
        };
        series.commit(NOW, admit).0.unwrap();
        series.store.sync();
        series
    }

    fn commit(
        &mut self,
        now: Timestamp,
        transition: Transition,
    ) -> (Result<Committed, CommitError>, Vec<Effect>) {
        let (mut answers, effects) = self.store.commit(now, vec![transition]).unwrap();
        (answers.remove(0), effects)
    }

    /// Fires it, and makes that durable.
    fn fire(&mut self, now: Timestamp) -> Result<(), CommitError> {
        let fired = self.fire_only(now).0;
        self.store.sync();
        fired
    }

    fn fire_only(&mut self, now: Timestamp) -> (Result<(), CommitError>, Vec<Effect>) {
        let (max_active, rules) = (self.max_active, Box::new(self.rules.clone()));
        let (answer, effects) = self.commit(now, Transition::Fire { job: id(1), max_active, rules });
        (answer.map(drop), effects)
    }

    /// Minutes after [`NOW`] of which a run was made, in the order of the log. Each has a run, and no run has two.
    fn fired(&self) -> Vec<u64> {
        let mut fired = Vec::new();
        let mut runs = Vec::new();
        for record in self.store.records().unwrap() {
            if let Event::Fired { job, run, due } = record.event {
                assert_eq!(job, id(1));
                let row = self.store.row(&run).unwrap().expect("a run");
                assert_eq!(row.signer, client_key().public());
                assert!(row.life.repeat.is_none() && row.life.retry.is_some());
                runs.push(run);
                fired.push(minutes(due));
            }
        }
        let made = runs.len();
        runs.sort();
        runs.dedup();
        assert_eq!(runs.len(), made);
        fired
    }

    fn missed(&self) -> Vec<(u64, u64)> {
        let records = self.store.records().unwrap();
        let missed = records.iter().filter_map(|record| match record.event {
            Event::Missed { from, until, .. } => Some((minutes(from), minutes(until))),
            _ => None,
        });
        missed.collect()
    }

    fn state(&self) -> JobState {
        self.store.row(&id(1)).unwrap().unwrap().life.state(NOW)
    }

    /// When it is due, in minutes after [`NOW`].
    fn due(&self) -> u64 {
        let active = self.store.active().unwrap();
        let series = active.iter().find(|active| active.entry.job == id(1)).expect("it waits");
        assert_ne!(series.entry.ready_at, NOT_YET);
        minutes(series.entry.ready_at)
    }
}

fn minutes(time: Timestamp) -> u64 {
    assert!(time >= NOW);
    let since = time.since(NOW);
    assert_eq!(since.as_secs() % 60, 0, "a whole minute");
    since.as_secs() / 60
}

#[test]
fn it_fires_for_each_due_time_and_never_starts() {
    let mut series = Series::new("*/10 * * * *", HOUR, Missed::Once);
    assert_eq!((series.state(), series.due()), (JobState::Scheduled, 10));
    let early = series.fire(after(9 * MINUTE)).unwrap_err();
    assert!(matches!(early, CommitError::Illegal(Illegal::TooEarly(_))), "{early}");
    // A little late, each time later: what is due next does not drift.
    for (minute, late) in [(10, 0), (20, 7), (30, 59)] {
        series.fire(after(Duration::from_secs(minute * 60 + late))).unwrap();
        assert_eq!(series.due(), minute + 10);
    }
    assert_eq!((series.fired(), series.missed()), (vec![10, 20, 30], vec![]));
    // Red without the guard of `Event::Start` in `lifecycle::step`.
    let start = Transition::Step { job: id(1), event: lifecycle::Event::Start };
    let refused = series.commit(after(40 * MINUTE), start).0.unwrap_err();
    assert!(matches!(refused, CommitError::Illegal(Illegal::Series)), "{refused}");
}

#[test]
fn a_run_is_what_was_signed_without_the_series() {
    let mut body = body(1);
    let repeat = |cron: &str| Repeat {
        cron: cron.into(),
        zone: "UTC".into(),
        until: after(HOUR),
        missed: Missed::Skip,
    };
    body.task.plan =
        Plan { repeat: Some(Box::new(repeat("*/10 * * * *"))), group: Some("g".into()), ..Plan::default() };
    let (series, due) = (admitted(&body), after(MINUTE));
    let run = series.occurrence(due);
    assert_eq!(run.task().plan, Plan { repeat: None, ..body.task.plan.clone() });
    assert_eq!(
        (run.signer(), run.envelope(), run.context()),
        (series.signer(), series.envelope(), series.context())
    );
    // SHA-256 of the text, sixteen times 0 but for the 1 of `id(1)`, sixteen times 9, and the time: `docs/formats/job.md`.
    let id = id(1);
    let text = [
        b"strongroom occurrence 1".as_slice(),
        id.as_bytes(),
        &[9; 16],
        &1_800_000_060_000_u64.to_be_bytes(),
    ];
    let digest = Digest::of(&text.concat());
    assert_eq!(run.id().as_bytes(), &digest.as_bytes()[..16]);
    assert_ne!(series.occurrence(after(2 * MINUTE)).id(), run.id());
    // Red with the salt left out of the hash: who reads the log could take the id first.
    body.context.salt = JobId::from_bytes([8; 16]);
    assert_ne!(admitted(&body).occurrence(due).id(), run.id());
}

// Red without `write` in `Group::fire`: the runs are made, and the series is due as before.
#[test]
fn a_crash_and_a_clock_that_is_set_back_make_nothing_fire_twice() {
    let mut series = Series::new("* * * * *", HOUR, Missed::All(5));
    series.fire(after(MINUTE)).unwrap();
    // The power goes before the batch is durable: neither the run nor the next due time is there.
    series.fire_only(after(2 * MINUTE)).0.unwrap();
    series.store.crash().unwrap();
    assert_eq!((series.fired(), series.due()), (vec![1], 2));
    series.fire(after(2 * MINUTE)).unwrap();
    series.store.crash().unwrap();
    assert_eq!((series.fired(), series.due()), (vec![1, 2], 3));
    for earlier in [after(MINUTE), after(2 * MINUTE), NOW] {
        let refused = series.fire(earlier).unwrap_err();
        assert!(matches!(refused, CommitError::Illegal(Illegal::TooEarly(_))), "{refused}");
    }
    assert_eq!(series.fired(), [1, 2]);
}

// Red with an `ON_TIME` of a day, and with `due` for `now` where the next due time is looked for.
#[test]
fn what_was_missed_is_made_up_for_as_it_was_signed() {
    // The host was down from NOW on, until 30 minutes after the fifth due time.
    let gone = |missed| {
        let mut series = Series::new("0 * * * *", 24 * HOUR, missed);
        series.fire(after(5 * HOUR + 30 * MINUTE)).unwrap();
        assert_eq!(series.due(), 360);
        (series.fired(), series.missed())
    };
    assert_eq!(gone(Missed::Skip), (vec![], vec![(60, 360)]));
    assert_eq!(gone(Missed::Once), (vec![300], vec![(60, 300)]));
    assert_eq!(gone(Missed::All(2)), (vec![240, 300], vec![(60, 240)]));
    assert_eq!(gone(Missed::All(100)), (vec![60, 120, 180, 240, 300], vec![]));
    // What is on time is not missed, whatever was missed before.
    let mut series = Series::new("0 * * * *", 24 * HOUR, Missed::Skip);
    series.fire(after(2 * HOUR + Duration::from_secs(59))).unwrap();
    assert_eq!((series.fired(), series.missed(), series.due()), (vec![120], vec![(60, 120)], 180));
    series.fire(after(3 * HOUR + MINUTE)).unwrap();
    assert_eq!((series.fired(), series.missed()), (vec![120], vec![(60, 120), (180, 240)]));
}

// Red with all that was due up to `now` made up for, and without the filter of `next`.
#[test]
fn it_ends_when_nothing_is_due_any_more() {
    let mut series = Series::new("*/10 * * * *", 20 * MINUTE, Missed::Once);
    assert_eq!(series.due(), 10);
    series.fire(after(10 * MINUTE)).unwrap();
    // 20 minutes is not before `until`.
    assert_eq!((series.fired(), series.state()), (vec![10], JobState::Succeeded));
    let over = series.fire(after(20 * MINUTE)).unwrap_err();
    assert!(matches!(over, CommitError::Illegal(Illegal::Over(JobState::Succeeded))), "{over}");
    // Its run goes on.
    assert_eq!(series.store.active().unwrap().len(), 1);

    // The host came back after the end: what was due before it counts, and nothing later.
    for (missed, fired, passed) in [
        (Missed::All(1), vec![20], vec![(10, 20)]),
        (Missed::Skip, vec![], vec![(10, 25)]),
        (Missed::All(3), vec![10, 20], vec![]),
    ] {
        let mut series = Series::new("*/10 * * * *", 25 * MINUTE, missed);
        series.fire(after(3 * HOUR)).unwrap();
        assert_eq!((series.fired(), series.missed(), series.state()), (fired, passed, JobState::Succeeded));
    }
}

#[test]
fn a_cancel_ends_the_series_and_leaves_its_runs() {
    let mut series = Series::new("* * * * *", HOUR, Missed::Once);
    series.fire(after(MINUTE)).unwrap();
    let cancel = lifecycle::Event::Cancel { by: client_key().public() };
    series.commit(after(MINUTE), Transition::Step { job: id(1), event: cancel }).0.unwrap();
    series.store.sync();
    assert_eq!(series.state(), JobState::Cancelled);
    let over = series.fire(after(2 * MINUTE)).unwrap_err();
    assert!(matches!(over, CommitError::Illegal(Illegal::Over(JobState::Cancelled))), "{over}");
    assert_eq!((series.fired(), series.store.active().unwrap().len()), (vec![1], 1));
}

// Red without the bound on `room` in `Group::fire`.
#[test]
fn a_full_host_makes_a_series_wait_and_loses_nothing() {
    // Room for the series and two runs, of the host or of the tenant.
    for (max_active, max_queued) in [(3, None), (100, Some(3))] {
        let mut series = Series::new("0 * * * *", 24 * HOUR, Missed::All(9));
        (series.max_active, series.rules.max_queued) = (max_active, max_queued);
        let now = after(4 * HOUR);
        series.fire(now).unwrap();
        // What did not fit is still due.
        assert_eq!((series.fired(), series.due()), (vec![60, 120], 180));
        let (refused, effects) = series.fire_only(now);
        assert!(matches!(refused, Err(CommitError::Full { .. } | CommitError::Denied(_))), "{refused:?}");
        // It is handed out again a second later.
        let waits = effects.iter().find_map(|effect| match effect {
            Effect::Waits(entry) => Some((entry.job, entry.ready_at)),
            _ => None,
        });
        assert_eq!(waits, Some((id(1), now.saturating_add(Duration::from_secs(1)))));
        assert_eq!(series.due(), 180, "on disk it is due as it was");
        (series.max_active, series.rules.max_queued) = (100, None);
        series.fire(now).unwrap();
        assert_eq!((series.fired(), series.missed(), series.due()), (vec![60, 120, 180, 240], vec![], 300));
    }
}

/// An attempt of job 2 that used a second of a processor and left a mebibyte.
fn used_up() -> [Transition; 3] {
    let (jobs, envelope) = (vec![admitted(&body(2))], Arc::from(*b"y"));
    let admit = Transition::Admit { jobs, envelope, alone: false, max_active: 100, rules: Box::default() };
    let usage = Usage { cpu_us: 1_000_000, ..Usage::default() };
    let stdout = OutputSummary { length: 1 << 20, digest: Digest::of(b"") };
    let end = Finished { usage, stdout, ..Finished::without_run(Outcome::Exited { code: 0 }) };
    let event = lifecycle::Event::Finish { fence: 1, end: Box::new(end) };
    let start = Transition::Step { job: id(2), event: lifecycle::Event::Start };
    [admit, start, Transition::Finish { job: id(2), event, outputs: Outputs::default() }]
}

// Red without `check_quota` in `Group::room`: whoever has used up his processor time has a series go on without end.
#[test]
fn a_run_is_held_against_the_quotas_of_its_tenant_like_a_job_that_is_submitted() {
    let cpu = TenantRules { cpu_per_day: Some(Duration::from_secs(1)), ..TenantRules::default() };
    let bytes = TenantRules { max_stored_bytes: Some(1 << 20), ..TenantRules::default() };
    for rules in [cpu, bytes] {
        let mut series = Series::new("* * * * *", HOUR, Missed::Once);
        series.rules = rules;
        for transition in used_up() {
            series.commit(NOW, transition).0.unwrap();
        }
        let refused = series.fire(after(MINUTE)).unwrap_err();
        let CommitError::Denied(refusal) = refused else { panic!("{refused}") };
        assert_eq!(refusal.code, RefusalCode::QuotaReached);
        assert_eq!((series.fired(), series.due()), (vec![], 1));
        // With room again it goes on, and tells what it went past.
        series.rules = TenantRules::default();
        series.fire(after(5 * MINUTE)).unwrap();
        assert_eq!((series.fired(), series.missed(), series.due()), (vec![5], vec![(1, 5)], 6));
    }
}

// Red without `check_open` in `Group::room`.
#[test]
fn no_run_comes_into_a_queue_that_drains() {
    let mut series = Series::new("* * * * *", HOUR, Missed::Skip);
    let set = |mode| Transition::SetQueue { queue: Name::default_name(), mode, by: client_key().public() };
    series.commit(NOW, set(QueueMode::Draining)).0.unwrap();
    let refused = series.fire(after(MINUTE)).unwrap_err();
    let CommitError::Denied(refusal) = refused else { panic!("{refused}") };
    assert_eq!((refusal.code, series.due()), (RefusalCode::QueueClosed, 1));
    series.commit(NOW, set(QueueMode::Open)).0.unwrap();
    series.fire(after(3 * MINUTE)).unwrap();
    assert_eq!((series.fired(), series.missed(), series.due()), (vec![3], vec![(1, 3)], 4));
}

// Red without `hold_envelope` in `Group::fire`: the envelope goes with the first run.
#[tokio::test]
async fn the_envelope_of_a_series_stays_when_a_run_is_forgotten() {
    let dir = tempfile::tempdir().unwrap();
    let repeat =
        Repeat { cron: "* * * * *".into(), zone: "UTC".into(), until: after(HOUR), missed: Missed::Once };
    let mut body = body(1);
    body.task.plan = Plan { repeat: Some(Box::new(repeat)), ..Plan::default() };
    let series = admitted(&body);
    let open = |now| {
        let opened = Store::open(dir.path()).unwrap();
        opened.start(Arc::new(Clock::not_before(now)), Box::new(NoFault)).unwrap()
    };
    let (store, closing) = open(NOW);
    let admit = Transition::Admit {
        jobs: vec![series.clone()],
        envelope: Arc::from(*b"evidence"),
        alone: true,
        max_active: 9,
        rules: Box::default(),
    };
    store.commit(admit).await.unwrap();
    drop(store);
    closing.wait();
    let (store, closing) = open(after(MINUTE));
    store.commit(Transition::Fire { job: id(1), max_active: 9, rules: Box::default() }).await.unwrap();
    let run = series.occurrence(after(MINUTE)).id();
    let event = lifecycle::Event::Cancel { by: client_key().public() };
    store.commit(Transition::Step { job: run, event }).await.unwrap();
    let tenant = series.context().tenant.clone();
    let past = store.past(&tenant, None, 9).unwrap();
    assert_eq!(past.iter().map(|past| past.job).collect::<Vec<_>>(), [run]);
    let jobs = past.into_iter().map(|past| (past, Fate::Forgotten)).collect();
    store.commit(Transition::Forget { tenant, jobs }).await.unwrap();
    assert!(store.row(&run).await.unwrap().is_none());
    assert_eq!(store.envelope(series.envelope()).unwrap(), Some(b"evidence".to_vec()));
    drop(store);
    closing.wait();
}

/// A real host runs what became due while it was away: its clock is moved on by a record, since nobody waits for a minute here.
#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_was_away_runs_what_it_missed_and_not_again_after_a_restart() {
    let live = Live::new().await;
    let client = live.client().await;
    let module = push_wat(&client, &says("again", 0)).await;
    let repeats = Repeats::new("* * * * *", "Europe/Berlin", 24 * HOUR).missed(Missed::All(3));
    let series = client.submit(&Job::new(module).repeat(repeats)).await.unwrap().job;
    let view = client.show(series).await.unwrap();
    assert_eq!((view.state, view.attempt), (JobState::Scheduled, 0));
    assert!(view.ready_at.unwrap() > view.accepted_at);
    client.close().await;
    let dir = live.stop().await;

    let later = Clock::default().now().saturating_add(10 * MINUTE);
    let (store, closing) = Store::open(&dir.path().join("state"))
        .unwrap()
        .start(Arc::new(Clock::not_before(later)), Box::new(NoFault))
        .unwrap();
    store.commit(Transition::Log(Event::HostStopped {})).await.unwrap();
    drop(store);
    closing.wait();

    let live = Live { host: start(dir.path(), |_| {}).await, dir };
    let runs = || async {
        let client = live.client().await;
        let jobs = client.list(ListFilter::default()).await.unwrap().jobs;
        client.close().await;
        jobs.into_iter().map(|view| view.job).filter(|job| *job != series).collect::<Vec<_>>()
    };
    while runs().await.len() < 3 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let made = runs().await;
    let client = live.client().await;
    for run in &made {
        let done = finish(&client, *run).await;
        assert_eq!((done.view.state, done.stdout.as_slice()), (JobState::Succeeded, &b"again"[..]));
        assert_eq!(client.task(*run).await.unwrap().plan, Plan::default());
    }
    let view = client.show(series).await.unwrap();
    assert_eq!(view.state, JobState::Scheduled);
    assert!(view.ready_at.unwrap() > later);
    client.close().await;

    // The clock stands still until the real one has caught up, so nothing more is due.
    let live = live.restart().await;
    let client = live.client().await;
    assert_eq!(client.list(ListFilter::default()).await.unwrap().jobs.len(), 4);
    assert_eq!(client.cancel(series).await.unwrap().state, JobState::Cancelled);
    live.stop().await;
}
