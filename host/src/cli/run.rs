//! `strongroom run`: sign, submit to the directory's host (embedded if need be), stream, wait.
//!
//! *Crash:* the job is signed once. If the host goes away before it has answered, or while the job waits or runs, the
//! same envelope goes to the directory's next host: an id runs once, so nothing runs twice and nothing is lost.

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use strongroom_sdk::{AcceptedJob, Error, Finished, Identity, Signed, runs_as};
use tokio::time::{sleep, timeout};

use crate::config::Config;
use crate::home::Home;

use super::console::{Console, stdout_failed};
use super::directory::config;
use super::exit::{Exit, Failure};
use super::fetch::fetch_all;
use super::learn::Learn;
use super::local::{Local, both, may_pass};
use super::log::{self, Format, Level};
use super::signal::Stop;
use super::task::{BareName, Prepared, TaskArgs};
use super::watch::{Broken, Watch, tell_accepted, tell_end, tell_late};
use super::{Common, with_runtime};

/// Breaks in a row, without any step forward between them, after which a run gives up.
const MAX_BREAKS: u32 = 100;
/// The pause after a break; each further one in a row is twice as long.
const FIRST_PAUSE: Duration = Duration::from_millis(20);
/// No pause is longer.
const MAX_PAUSE: Duration = Duration::from_secs(2);
/// How long a cancelled guest may take to be gone.
const CANCEL: Duration = Duration::from_secs(10);

/// Run a module here and now.
#[derive(Args, Debug)]
pub(super) struct RunArgs {
    /// Find out what the module needs: run it here without a host, denying and telling what it reaches for, and print the smallest
    /// options. On a terminal it asks for each thing, and runs the module again
    #[arg(long)]
    learn: bool,
    /// Save the files that the guest left in /scratch/out in this directory, made if need be; implies --scratch
    #[arg(long, value_name = "DIR", conflicts_with = "learn")]
    out: Option<PathBuf>,
    #[command(flatten)]
    task: TaskArgs,
}

pub(super) fn run(
    common: &Common,
    args: RunArgs,
    typed: &[OsString],
    console: &Console,
) -> Result<Exit, Failure> {
    if console.verbose() > 0 {
        let level = if console.verbose() == 1 { Level::Warn } else { Level::Debug };
        log::start(level, Format::Pretty, console.stderr_is_terminal());
    }
    let home = common.home()?;
    let RunArgs { learn, out, task: mut options } = args;
    options.reach.scratch |= out.is_some();
    tell_late(&options, console);
    let task = options.prepare(BareName::Directory, &home)?;
    if learn {
        return Learn { task: &task, typed, tmp: &home.tmp(), console }.run();
    }
    let config = config(&home)?;
    let identity = Identity::from(home.client_key()?);
    let mut run = Run {
        home,
        config,
        identity,
        task,
        console: *console,
        local: None,
        signed: None,
        accepted: None,
        watch: Watch::new(console),
    };
    with_runtime(async move {
        let mut stop = Stop::listen()?;
        let result = tokio::select! {
            result = run.follow_to_end() => match result {
                Ok(finished) => run.save(&finished, out.as_deref()).await,
                Err(Ended::Failed(failure)) => Err(failure),
                Err(Ended::OutputGone(error)) => run.stop_for_nobody(&error).await,
            },
            () = stop.asked() => run.cancel().await,
        };
        let left = match run.local.take() {
            Some(local) => local.leave(&mut stop, &run.console).await,
            None => Ok(()),
        };
        both(result, left, &run.console)
    })
}

/// A run, and how far it has come.
struct Run {
    home: Home,
    config: Config,
    identity: Identity,
    task: Prepared,
    console: Console,
    local: Option<Local>,
    signed: Option<Signed>,
    accepted: Option<AcceptedJob>,
    watch: Watch,
}

impl Run {
    async fn follow_to_end(&mut self) -> Result<Finished, Ended> {
        let (mut breaks, mut pause) = (0, FIRST_PAUSE);
        loop {
            if self.local.is_none() {
                let Self { home, config, identity, console, .. } = self;
                let reached = Local::reach(home, config, identity, console).await;
                self.local = Some(reached.map_err(Ended::Failed)?);
            }
            let before = self.steps();
            match self.attempt().await {
                Ok(finished) => return Ok(finished),
                Err(Attempt::Over(ended)) => return Err(ended),
                Err(Attempt::Broken(error)) if breaks == MAX_BREAKS => {
                    return Err(Ended::Failed(error.into()));
                }
                Err(Attempt::Broken(error)) => {
                    tracing::debug!(%error, breaks, "trying again");
                    let moved = self.steps() != before;
                    (breaks, pause) = if moved { (0, FIRST_PAUSE) } else { (breaks + 1, pause * 2) };
                    // An embedded host stays what it is; another one may have left.
                    if self.local.as_ref().is_some_and(|local| !local.is_embedded()) {
                        self.local = None;
                    }
                    sleep(pause.min(MAX_PAUSE)).await;
                }
            }
        }
    }

    /// What a break cannot take back.
    fn steps(&self) -> (bool, bool, u64) {
        (self.signed.is_some(), self.accepted.is_some(), self.watch.written())
    }

    async fn attempt(&mut self) -> Result<Finished, Attempt> {
        let Self { local, task, console, signed, accepted, watch, .. } = self;
        let Some(local) = local else { return Err(Failure::fault("not connected").into()) };
        let client = &local.client;
        let work = async {
            let accepted = match accepted {
                Some(accepted) => *accepted,
                None => {
                    let (module, input) = task.push(client, console).await?;
                    let signed = match signed {
                        Some(signed) => signed,
                        None => signed.insert(client.sign(&task.job(module, input)).await?),
                    };
                    let answer = client.submit_signed(signed).await?;
                    let taken = answer.first().ok_or_else(|| Failure::fault("the host accepted no job"))?;
                    tell_accepted(console, taken)?;
                    *accepted.insert(*taken)
                }
            };
            Ok(watch.follow(client, runs_as(&accepted)).await?)
        };
        tokio::select! {
            result = work => result,
            failure = local.failed() => Err(failure.into()),
            () = local.orphaned() => {
                let address = "the directory's host".into();
                Err(Attempt::Broken(Error::Lost { address, reason: "it is gone".into() }))
            }
        }
    }

    /// Says how the job ended, and saves what it left.
    async fn save(&self, finished: &Finished, out: Option<&Path>) -> Result<Exit, Failure> {
        let exit = tell_end(&self.console, finished)?;
        let artifacts = &finished.end.artifacts;
        match (out, &self.local) {
            (Some(out), Some(local)) => {
                fetch_all(&local.client, finished.view.job, artifacts, out, &self.console).await?;
            }
            _ if !artifacts.is_empty() => self.console.say(format_args!(
                "{} artifacts are kept: strongroom job fetch {}",
                artifacts.len(),
                finished.view.job
            )),
            _ => {}
        }
        Ok(exit)
    }

    /// The user no longer wants it: stops the job, whether or not the host had answered.
    async fn cancel(&mut self) -> Result<Exit, Failure> {
        if let Some(existing) = self.accepted.and_then(|accepted| accepted.existing) {
            self.console.say(format_args!("job {existing} was there before and goes on"));
            return Ok(Exit::Cancelled);
        }
        let job = self.signed.as_ref().and_then(|signed| signed.jobs.first().copied());
        if let (Some(local), Some(job)) = (&self.local, job) {
            let client = &local.client;
            let over = timeout(CANCEL, async {
                // A refusal means that the job is over, or never came to be: then there is nothing to wait for.
                client.cancel(job).await?;
                client.wait(job).await
            });
            if let Ok(Ok(finished)) = over.await {
                tell_end(&self.console, &finished)?;
            }
        }
        self.console.say("cancelled");
        Ok(Exit::Cancelled)
    }

    /// Nobody reads the output any more, as behind `| head`, or it cannot be written: the guest would work for nothing.
    async fn stop_for_nobody(&mut self, error: &io::Error) -> Result<Exit, Failure> {
        let cancelled = self.cancel().await;
        if error.kind() == io::ErrorKind::BrokenPipe { cancelled } else { Err(stdout_failed(error)) }
    }
}

/// Why there is no end of the job to tell of.
enum Ended {
    /// Something is wrong that another attempt would not mend.
    Failed(Failure),
    /// Our own standard output or error takes no more.
    OutputGone(io::Error),
}

/// Why an attempt did not reach the job's end.
enum Attempt {
    /// Worth another one.
    Broken(Error),
    /// For good.
    Over(Ended),
}

impl From<Error> for Attempt {
    fn from(error: Error) -> Self {
        if may_pass(&error) { Self::Broken(error) } else { Self::Over(Ended::Failed(error.into())) }
    }
}

impl From<Broken> for Attempt {
    fn from(broken: Broken) -> Self {
        match broken {
            Broken::Host(error) => error.into(),
            Broken::Output(error) => Self::Over(Ended::OutputGone(error)),
        }
    }
}

impl From<Failure> for Attempt {
    fn from(failure: Failure) -> Self {
        Self::Over(Ended::Failed(failure))
    }
}
