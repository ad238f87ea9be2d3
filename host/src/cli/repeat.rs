//! The options that make a job a series: only `submit` has them, since a series is nothing to wait for.

use clap::Args;
use strongroom_job::{MAX_MISSED, Missed};
use strongroom_sdk::{Job, Repeats, When};

use super::plan::when;

/// When a run is due, until when, and what is made up for.
#[derive(Args, Clone, Debug)]
pub(super) struct RepeatArgs {
    /// Run again and again: a cron expression of five fields, such as "0 3 * * 1-5". Prints the id of the series; its runs are jobs
    /// of their own
    #[arg(long, value_name = "EXPRESSION", requires = "until")]
    #[arg(conflicts_with_all = ["at", "expires", "unique", "wait"])]
    cron: Option<String>,
    /// Time zone of --cron, such as Europe/Berlin
    #[arg(long, value_name = "ZONE", default_value = "UTC", requires = "cron")]
    zone: String,
    /// End of the series: nothing is due then or later
    #[arg(long, value_name = "WHEN", value_parser = when, requires = "cron")]
    until: Option<When>,
    /// What to make up for when the host was down: skip, once (for the last one), or all:N (the last N at most)
    #[arg(long, value_name = "WHAT", value_parser = missed, default_value = "once", requires = "cron")]
    missed: Missed,
}

impl RepeatArgs {
    /// Adds what was said.
    pub(super) fn add_to(&self, job: Job) -> Job {
        match (&self.cron, self.until) {
            (Some(cron), Some(until)) => {
                job.repeat(Repeats::new(cron, &self.zone, until).missed(self.missed))
            }
            _ => job,
        }
    }
}

fn missed(text: &str) -> Result<Missed, String> {
    let most = text.strip_prefix("all:").and_then(|most| most.parse().ok());
    match (text, most) {
        ("skip", _) => Ok(Missed::Skip),
        ("once", _) => Ok(Missed::Once),
        (_, Some(most)) if (1..=MAX_MISSED).contains(&most) => Ok(Missed::All(most)),
        _ => Err(format!("{text:?} is not skip, once, or all:N with N from 1 to {MAX_MISSED}")),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

    use clap::Parser;
    use strongroom_job::{Digest, Input, ModuleRef, Plan, Repeat, Timestamp};

    use super::super::plan::PlanArgs;
    use super::*;

    #[derive(Debug, Parser)]
    struct Options {
        #[arg(long)]
        wait: bool,
        #[command(flatten)]
        plan: PlanArgs,
        #[command(flatten)]
        repeat: RepeatArgs,
    }

    fn plan(words: &[&str]) -> Result<Plan, String> {
        let words = std::iter::once("x").chain(words.iter().copied());
        let options = Options::try_parse_from(words).map_err(|error| error.to_string())?;
        let job = Job::new(ModuleRef { digest: Digest::of(b""), length: 0 });
        Ok(options.repeat.add_to(job).task(Input::Empty).unwrap().plan)
    }

    #[test]
    fn every_option_reaches_the_plan() {
        assert_eq!(plan(&[]).unwrap(), Plan::default());
        let until = "--until=1970-01-02T00:00:00Z";
        let repeat = Repeat {
            cron: "0 3 * * 1-5".into(),
            zone: "UTC".into(),
            until: Timestamp::from_millis(86_400_000),
            missed: Missed::Once,
        };
        let short = plan(&["--cron=0 3 * * 1-5", until]).unwrap();
        assert_eq!(short, Plan { repeat: Some(Box::new(repeat.clone())), ..Plan::default() });
        let full = plan(&["--cron=0 3 * * 1-5", until, "--zone=Europe/Berlin", "--missed=all:100"]);
        let repeat = Repeat { zone: "Europe/Berlin".into(), missed: Missed::All(100), ..repeat };
        assert_eq!(full.unwrap().repeat, Some(Box::new(repeat)));
    }

    #[test]
    fn what_means_nothing_alone_or_together_is_an_error() {
        for alone in ["--until=+1d", "--zone=UTC", "--missed=skip", "--cron=* * * * *"] {
            assert!(plan(&[alone]).unwrap_err().contains("required"), "{alone}");
        }
        for other in ["--wait", "--at=+1s", "--expires=+1s", "--unique=k"] {
            let error = plan(&["--cron=* * * * *", "--until=+1d", other]).unwrap_err();
            assert!(error.contains("cannot be used with"), "{error}");
        }
        for wrong in ["all", "all:0", "all:101", "all:-1", "none"] {
            let error = plan(&["--cron=* * * * *", "--until=+1d", "--missed", wrong]).unwrap_err();
            assert!(error.contains("is not skip, once, or all:N"), "{error}");
        }
    }
}
