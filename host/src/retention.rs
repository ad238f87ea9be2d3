//! Which jobs that are over go, and how much of each: the host's promise of how long results can be fetched.
//!
//! A [`Sweep`] looks at one tenant's jobs, oldest end first, and stops at the first that stays, so its work is that of what goes.
//! What goes does so in two steps: what a job left (output, artifacts) when the rules say so, the job itself no sooner than
//! nobody can submit it again, nor claim what its unique key still bars.
//!
//! *Owns:* the decision. *Never:* clocks, disks, the store; whoever sweeps removes what is told, a crash between two jobs is
//! nothing, since the next sweep finds the rest.
//!
//! A host whose clock ran ahead forgets early, ids among it: what it forgot could then be replayed once the clock is right again,
//! until its signature expires. Nothing here can tell a wrong clock from a host that stood still for a month.

use std::time::Duration;

use strongroom_job::Timestamp;

use crate::config::Retention;

/// A job that is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Past {
    /// When it ended.
    pub ended_at: Timestamp,
    /// What it left and the host still keeps, bytes: output and artifacts.
    pub bytes: u64,
    /// When its signature expires: until then, and the clocks' skew, its id bars a second run.
    pub not_after: Timestamp,
    /// Until when its unique key stays taken, if it has one with a window.
    pub key_until: Option<Timestamp>,
    /// Whether a job that is not over waits for it or takes its output.
    pub needed: bool,
}

/// What becomes of a job that is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// All of it stays, for another job needs it; younger ones may go.
    Stays,
    /// What it left goes. Its id and its end stay.
    Stripped,
    /// All of it goes.
    Forgotten,
}

/// One look at the jobs of a tenant that are over.
#[derive(Debug)]
pub struct Sweep<'a> {
    rules: &'a Retention,
    /// How far clocks may differ: a signature counts that much longer.
    skew: Duration,
    now: Timestamp,
    /// Jobs that would be kept if no further one went.
    jobs: usize,
    /// What they left.
    bytes: u64,
}

impl<'a> Sweep<'a> {
    /// A look at a tenant with `jobs` that are over, of which the host keeps `bytes`.
    #[must_use]
    pub const fn new(rules: &'a Retention, skew: Duration, now: Timestamp, jobs: usize, bytes: u64) -> Self {
        Self { rules, skew, now, jobs, bytes }
    }

    /// What becomes of the next job, in the order of their ends. None: this one stays as it is, and so do all that ended later.
    #[must_use]
    pub fn judge(&mut self, job: &Past) -> Option<Fate> {
        let old = self.now.since(job.ended_at) > self.rules.keep;
        let many = self.jobs > self.rules.jobs_per_tenant;
        let large = self.rules.bytes_per_tenant.is_some_and(|most| self.bytes > most);
        if !(old || many || large) {
            return None;
        }
        if job.needed {
            return Some(Fate::Stays);
        }
        // Also one that is only stripped: whoever must be remembered for a while is no reason to let younger ones go.
        self.jobs = self.jobs.saturating_sub(1);
        self.bytes = self.bytes.saturating_sub(job.bytes);
        Some(if self.must_be_known(job) { Fate::Stripped } else { Fate::Forgotten })
    }

    /// Whether the host could be asked to run it again, or to run another with its key.
    fn must_be_known(&self, job: &Past) -> bool {
        let replay = job.not_after.saturating_add(self.skew) >= self.now;
        replay || job.key_until.is_some_and(|until| until > self.now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: Duration = Duration::from_secs(86_400);
    const SKEW: Duration = Duration::from_secs(60);
    const NOW: Timestamp = Timestamp::from_millis(1_800_000_000_000);

    fn rules() -> Retention {
        Retention { keep: DAY * 30, jobs_per_tenant: 1000, bytes_per_tenant: None }
    }

    fn ago(time: Duration) -> Timestamp {
        Timestamp::from_millis(NOW.as_millis() - u64::try_from(time.as_millis()).unwrap())
    }

    /// A job of a few bytes whose signature expired when it ended.
    fn past(age: Duration) -> Past {
        Past { ended_at: ago(age), bytes: 10, not_after: ago(age), key_until: None, needed: false }
    }

    fn sweep_with(rules: &Retention, jobs: &[Past], skew: Duration) -> Vec<Fate> {
        let bytes = jobs.iter().map(|job| job.bytes).sum();
        let mut sweep = Sweep::new(rules, skew, NOW, jobs.len(), bytes);
        jobs.iter().map_while(|job| sweep.judge(job)).collect()
    }

    fn sweep(rules: &Retention, jobs: &[Past]) -> Vec<Fate> {
        sweep_with(rules, jobs, SKEW)
    }

    // Red without `old`.
    #[test]
    fn what_is_older_than_the_rules_goes() {
        let second = Duration::from_secs(1);
        let jobs = [past(DAY * 400), past(DAY * 30 + second), past(DAY * 30), past(second)];
        assert_eq!(sweep(&rules(), &jobs), [Fate::Forgotten; 2]);
        assert_eq!(sweep(&rules(), &jobs[2..]), []);
    }

    // Red without `many`.
    #[test]
    fn of_too_many_the_oldest_go() {
        let jobs: Vec<Past> = (0..10).rev().map(|days| past(DAY * days + DAY)).collect();
        let rules = Retention { jobs_per_tenant: 7, ..rules() };
        assert_eq!(sweep(&rules, &jobs), [Fate::Forgotten; 3]);
        assert_eq!(sweep(&rules, &jobs[3..]), []);
    }

    // Red without `large`.
    #[test]
    fn of_too_much_the_oldest_go_until_the_rest_fits() {
        let sized = |bytes, days| Past { bytes, ..past(DAY * days) };
        let jobs = [sized(5, 6), sized(500, 5), sized(0, 4), sized(400, 3), sized(600, 2)];
        let within = |bytes| Retention { bytes_per_tenant: Some(bytes), ..rules() };
        assert_eq!(sweep(&within(1505), &jobs), []);
        assert_eq!(sweep(&within(1504), &jobs), [Fate::Forgotten]);
        assert_eq!(sweep(&within(1000), &jobs), [Fate::Forgotten; 2]);
        assert_eq!(
            sweep(&within(999), &jobs),
            [Fate::Forgotten; 4],
            "a job without bytes goes with its elders"
        );
        assert_eq!(sweep(&within(0), &jobs), [Fate::Forgotten; 5]);
    }

    // Red without `replay`, without the skew, and with `>` for `>=`, which admission takes.
    #[test]
    fn an_id_is_known_until_nobody_can_submit_it_again() {
        let expires = |not_after| Past { not_after, ..past(DAY * 40) };
        let jobs = [expires(NOW), expires(ago(SKEW)), expires(ago(SKEW + Duration::from_millis(1)))];
        assert_eq!(sweep(&rules(), &jobs), [Fate::Stripped, Fate::Stripped, Fate::Forgotten]);
        assert_eq!(sweep_with(&rules(), &jobs[1..2], Duration::ZERO), [Fate::Forgotten]);
        let endless = expires(Timestamp::from_millis(u64::MAX));
        assert_eq!(sweep(&rules(), &[endless]), [Fate::Stripped], "no overflow");
    }

    // Red without `key_until`.
    #[test]
    fn a_unique_key_outlives_its_job() {
        let key = |key_until| Past { key_until: Some(key_until), ..past(DAY * 40) };
        let jobs = [key(NOW.saturating_add(DAY)), key(NOW)];
        assert_eq!(sweep(&rules(), &jobs), [Fate::Stripped, Fate::Forgotten]);
    }

    // Red when a job that must be known stops the sweep, or counts as kept.
    #[test]
    fn what_must_be_known_makes_room_and_is_no_reason_to_let_others_go() {
        let known = Past { not_after: NOW.saturating_add(DAY), bytes: 500, ..past(DAY * 3) };
        let jobs = [known, known, past(DAY * 2), past(DAY)];
        let rules = Retention { jobs_per_tenant: 2, bytes_per_tenant: Some(20), ..rules() };
        assert_eq!(sweep(&rules, &jobs), [Fate::Stripped; 2]);
        // The next look finds them without bytes, and says the same.
        let stripped = Past { bytes: 0, ..known };
        assert_eq!(sweep(&rules, &[stripped, stripped, past(DAY * 2), past(DAY)]), [Fate::Stripped; 2]);
    }

    // Red without the question.
    #[test]
    fn what_another_job_needs_stays_whatever_the_rules_say() {
        let needed = Past { needed: true, ..past(DAY * 400) };
        let rules = Retention { jobs_per_tenant: 2, ..rules() };
        let jobs = [needed, past(DAY * 3), past(DAY * 2), past(DAY)];
        assert_eq!(sweep(&rules, &jobs), [Fate::Stays, Fate::Forgotten, Fate::Forgotten]);
    }

    #[test]
    fn a_clock_that_was_set_back_lets_nothing_go() {
        let ahead = Past { ended_at: NOW.saturating_add(DAY * 400), ..past(DAY) };
        assert_eq!(sweep(&rules(), &[ahead]), []);
    }

    // Red when all jobs are looked at.
    #[test]
    fn a_sweep_ends_at_the_first_that_stays() {
        let rules = rules();
        let mut sweep = Sweep::new(&rules, SKEW, NOW, 1_000_001, 0);
        let mut looked = 0;
        let jobs = std::iter::repeat_n(Past { bytes: 0, ..past(DAY) }, 1_000_001);
        let gone = jobs.inspect(|_| looked += 1).map_while(|job| sweep.judge(&job)).count();
        assert_eq!((gone, looked), (999_001, 999_002));
    }
}
