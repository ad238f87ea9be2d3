//! The options that say when a job runs, how often, and what it shares with other jobs.

use std::time::Duration;

use clap::{Args, ValueEnum};
use jiff::Timestamp as Instant;
use strongroom_job::{MAX_ATTEMPTS, RetryOn, Taken, Timestamp};
use strongroom_sdk::{Job, Retries, When};

use super::amount::duration;
use super::exit::Failure;
use super::task::pairs;

/// Shared by `run`, `submit` and the jobs of a flow.
#[derive(Args, Clone, Debug)]
pub(super) struct PlanArgs {
    /// Start no earlier: a time such as 2026-12-01T08:00:00+01:00, or so long from now, such as +10m
    #[arg(long, value_name = "WHEN", value_parser = when)]
    at: Option<When>,
    /// Start no more at this time or later: a job that still waits then ends as expired
    #[arg(long, value_name = "WHEN", value_parser = when)]
    expires: Option<When>,
    /// Try again at most so many times, after ends that --retry-on names
    #[arg(long, value_name = "N", default_value_t = 0)]
    #[arg(value_parser = clap::value_parser!(u32).range(0..i64::from(MAX_ATTEMPTS)))]
    retries: u32,
    /// Ends that are tried again, with commas [default: failed,faulted]
    #[arg(long, value_name = "ENDS", value_enum, value_delimiter = ',', requires = "retries")]
    retry_on: Vec<End>,
    /// Longest pause before the first retry; it doubles with each further one [default: 1s]
    #[arg(long, value_name = "DURATION", value_parser = duration, requires = "retries")]
    retry_pause: Option<Duration>,
    /// No pause is longer [default: 10m]
    #[arg(long, value_name = "DURATION", value_parser = duration, requires = "retries")]
    retry_max_pause: Option<Duration>,
    /// Begin no attempt later than this after the job was accepted [default: no bound]
    #[arg(long, value_name = "DURATION", value_parser = duration, requires = "retries")]
    retry_max_age: Option<Duration>,
    /// At most one job with this key at a time
    #[arg(long, value_name = "KEY")]
    unique: Option<String>,
    /// Keep the key taken so long after the job was accepted, also when it is over [default: until it is over]
    #[arg(long, value_name = "DURATION", value_parser = duration, requires = "unique")]
    unique_for: Option<Duration>,
    /// What to do when the key is taken: refuse this job, answer with the one that has it, or take its place if it has not started
    #[arg(long, value_name = "WHAT", value_enum, default_value_t = IfTaken::Refuse, requires = "unique")]
    if_taken: IfTaken,
    /// Group of the job, such as one customer: a queue may bound how many of one group run at once
    #[arg(long, value_name = "KEY")]
    group: Option<String>,
    /// Label that the host must have
    #[arg(long, value_name = "NAME=VALUE")]
    require: Vec<String>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum End {
    Failed,
    Trapped,
    Exceeded,
    Faulted,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum IfTaken {
    Refuse,
    Existing,
    Replace,
}

impl PlanArgs {
    /// The labels that the host must have.
    pub(super) fn requires(&self) -> Result<Vec<(String, String)>, Failure> {
        pairs("--require", &self.require)
    }

    /// Adds what was said, with what [`requires`](Self::requires) read.
    pub(super) fn add_to(&self, mut job: Job, requires: &[(String, String)]) -> Job {
        if let Some(at) = self.at {
            job = job.at(at);
        }
        if let Some(expires) = self.expires {
            job = job.expires_at(expires);
        }
        job = job.retries(self.retries());
        if let Some(key) = &self.unique {
            job = job.unique(key, self.unique_for.unwrap_or_default(), self.if_taken.into());
        }
        if let Some(key) = &self.group {
            job = job.group(key);
        }
        requires.iter().fold(job, |job, (label, value)| job.require(label, value))
    }

    /// What should be said of a time that has passed.
    pub(super) fn remark(&self, now: Timestamp) -> Option<&'static str> {
        match self.at {
            Some(When::At(at)) if at <= now => Some("the time of --at has passed: the job is ready at once"),
            _ => None,
        }
    }

    fn retries(&self) -> Retries {
        let mut retries = Retries::new(self.retries);
        if !self.retry_on.is_empty() {
            retries = retries.on(self.retry_on.iter().map(|end| RetryOn::from(*end)));
        }
        if let Some(pause) = self.retry_pause {
            retries = retries.pause(pause);
        }
        if let Some(pause) = self.retry_max_pause {
            retries = retries.max_pause(pause);
        }
        if let Some(age) = self.retry_max_age {
            retries = retries.max_age(age);
        }
        retries
    }
}

impl From<End> for RetryOn {
    fn from(end: End) -> Self {
        match end {
            End::Failed => Self::Failed,
            End::Trapped => Self::Trapped,
            End::Exceeded => Self::Exceeded,
            End::Faulted => Self::Faulted,
        }
    }
}

impl From<IfTaken> for Taken {
    fn from(what: IfTaken) -> Self {
        match what {
            IfTaken::Refuse => Self::Refuse,
            IfTaken::Existing => Self::Existing,
            IfTaken::Replace => Self::Replace,
        }
    }
}

/// `+10m`, or RFC 3339 with its offset.
pub(super) fn when(text: &str) -> Result<When, String> {
    if let Some(delay) = text.strip_prefix('+') {
        return duration(delay).map(When::In);
    }
    let wrong = || {
        format!(
            "{text:?} is no time: write one with its offset, such as 2026-12-01T08:00:00+01:00 or \
             2026-12-01T07:00:00Z, or so long from now, such as +10m"
        )
    };
    let instant: Instant = text.parse().map_err(|_| wrong())?;
    let millis = u64::try_from(instant.as_millisecond()).map_err(|_| wrong())?;
    Ok(When::At(Timestamp::from_millis(millis)))
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use strongroom_job::{Digest, Input, ModuleRef, Plan, RetryPolicy, Unique};

    use super::*;

    #[derive(Debug, Parser)]
    struct Options {
        #[command(flatten)]
        plan: PlanArgs,
    }

    fn plan(words: &[&str]) -> Result<Plan, String> {
        let words = std::iter::once("x").chain(words.iter().copied());
        let options = Options::try_parse_from(words).map_err(|error| error.to_string())?;
        let requires = options.plan.requires().map_err(|failure| failure.to_string())?;
        let job = Job::new(ModuleRef { digest: Digest::of(b""), length: 0 });
        Ok(options.plan.add_to(job, &requires).task(Input::Empty).unwrap().plan)
    }

    #[test]
    fn every_option_reaches_the_plan() {
        assert_eq!(plan(&[]).unwrap(), Plan::default());
        let full = plan(&[
            "--at=2026-12-01T08:00:00+01:00",
            "--expires=2026-12-01T07:00:01.5Z",
            "--retries=3",
            "--retry-on=exceeded,failed",
            "--retry-pause=250ms",
            "--retry-max-pause=1h",
            "--retry-max-age=1d",
            "--unique=invoice 7",
            "--unique-for=1h",
            "--if-taken=replace",
            "--group=customer 12",
            "--require=environment=production",
        ]);
        let time = |millis| Some(Timestamp::from_millis(millis));
        let retry = RetryPolicy {
            attempts: 4,
            on: vec![RetryOn::Failed, RetryOn::Exceeded],
            pause_ms: 250,
            max_pause_ms: 3_600_000,
            max_age_ms: Some(86_400_000),
        };
        let unique = Unique { key: "invoice 7".into(), window_ms: 3_600_000, taken: Taken::Replace };
        let expected = Plan {
            at: time(1_796_108_400_000),
            expires: time(1_796_108_401_500),
            retry: Some(retry),
            unique: Some(unique),
            group: Some("customer 12".into()),
            requires: [("environment".to_owned(), "production".to_owned())].into(),
            after: Vec::new(),
            repeat: None,
        };
        assert_eq!(full.unwrap(), expected);
    }

    #[test]
    fn a_time_is_one_point_and_nothing_vague() {
        assert_eq!(when("+10m"), Ok(When::In(Duration::from_secs(600))));
        assert_eq!(when("1970-01-01T00:00:01Z"), Ok(When::At(Timestamp::from_millis(1000))));
        for wrong in ["", "10m", "2026-12-01", "2026-12-01T08:00:00", "08:00", "1969-01-01T00:00:00Z"] {
            assert!(when(wrong).unwrap_err().contains("is no time"), "{wrong}");
        }
        assert!(when("+10").unwrap_err().contains("is not a duration"));
    }

    #[test]
    fn a_time_that_has_passed_is_no_error_but_told() {
        let options = Options::try_parse_from(["x", "--at=1970-01-01T00:00:01Z"]).unwrap();
        let remark = |millis| options.plan.remark(Timestamp::from_millis(millis));
        assert_eq!(remark(999), None);
        assert_eq!(remark(1000), Some("the time of --at has passed: the job is ready at once"));
        let delayed = Options::try_parse_from(["x", "--at=+1s"]).unwrap();
        assert_eq!(delayed.plan.remark(Timestamp::from_millis(u64::MAX)), None);
    }

    #[test]
    fn what_means_nothing_alone_is_an_error_alone() {
        for alone in ["--retry-pause=1s", "--retry-on=failed", "--unique-for=1s", "--if-taken=replace"] {
            assert!(plan(&[alone]).unwrap_err().contains("required"), "{alone}");
        }
        assert!(plan(&["--retries=100"]).unwrap_err().contains("100"));
        assert!(plan(&["--retries=1", "--retry-on=cancelled"]).unwrap_err().contains("cancelled"));
    }
}
