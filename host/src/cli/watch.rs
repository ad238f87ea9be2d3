//! Following one job: what its guest writes, as it comes, and how it ends.

use std::io;
use std::time::Duration;

use serde::Serialize;
use strongroom_job::{Base64Bytes, JobId, JobView, OutputStream};
use strongroom_sdk::{AcceptedJob, Client, Error, Finished};
use tokio::time::sleep;

use crate::clock::Clock;

use super::amount::{show_micros, show_size};
use super::console::{Console, stdout_failed};
use super::escape::{TerminalWriter, line};
use super::exit::{Exit, Failure, MAX_GUEST_CODE};
use super::progress::Standing;
use super::task::TaskArgs;
use super::view::Shown;

/// The pause between two questions how a job stands, while somebody sees the answer.
const LOOK: Duration = Duration::from_millis(400);

/// Why following ended before the job did.
#[derive(Debug)]
pub(super) enum Broken {
    /// The host, or the way to it.
    Host(Error),
    /// Our own standard output or error.
    Output(io::Error),
}

/// Where a job's output goes, and how much of it went there already.
pub(super) struct Watch {
    stdout: Sink,
    stderr: Sink,
    standing: Standing,
}

struct Sink {
    stream: OutputStream,
    position: u64,
    to: To,
}

enum To {
    Stdout,
    Stderr,
    StdoutTerminal(TerminalWriter<io::Stdout>),
    StderrTerminal(TerminalWriter<io::Stderr>),
    Json,
}

/// One line of `--json`.
#[derive(Serialize)]
#[serde(tag = "type", rename_all = "kebab-case")]
enum Line<'a> {
    Accepted(&'a AcceptedJob),
    Output { stream: OutputStream, data: Base64Bytes },
    Finished { exit: u8, job: Shown<'a> },
}

impl Watch {
    pub(super) fn new(console: &Console) -> Self {
        let (stdout, stderr) = if console.json() {
            (To::Json, To::Json)
        } else {
            let stdout = if console.stdout_is_terminal() {
                To::StdoutTerminal(TerminalWriter::new(io::stdout()))
            } else {
                To::Stdout
            };
            let stderr = if console.stderr_is_terminal() {
                To::StderrTerminal(TerminalWriter::new(io::stderr()))
            } else {
                To::Stderr
            };
            (stdout, stderr)
        };
        let sink = |stream, to| Sink { stream, position: 0, to };
        Self {
            stdout: sink(OutputStream::Stdout, stdout),
            stderr: sink(OutputStream::Stderr, stderr),
            standing: Standing::new(console),
        }
    }

    /// Writes the output as it comes, until the job is over. After a break it goes on where it stopped.
    pub(super) async fn follow(&mut self, client: &Client, job: JobId) -> Result<Finished, Broken> {
        let Self { stdout, stderr, standing } = self;
        let copied = async {
            tokio::try_join!(
                stdout.copy(client, job, true, standing),
                stderr.copy(client, job, true, standing)
            )?;
            client.wait(job).await.map_err(Broken::Host)
        };
        let finished = tokio::select! {
            finished = copied => finished,
            error = look(client, job, standing) => Err(Broken::Host(error)),
        };
        standing.make_way(b"");
        finished
    }

    /// Bytes written so far, of both streams.
    pub(super) const fn written(&self) -> u64 {
        self.stdout.position + self.stderr.position
    }

    /// Writes what is there of the chosen streams, and with `follow` what comes.
    pub(super) async fn show(
        &mut self,
        client: &Client,
        job: JobId,
        streams: &[OutputStream],
        follow: bool,
    ) -> Result<(), Broken> {
        let Self { stdout, stderr, standing } = self;
        let wanted = |stream| streams.contains(&stream);
        let out = async {
            if wanted(OutputStream::Stdout) {
                stdout.copy(client, job, follow, standing).await
            } else {
                Ok(())
            }
        };
        let err = async {
            if wanted(OutputStream::Stderr) {
                stderr.copy(client, job, follow, standing).await
            } else {
                Ok(())
            }
        };
        tokio::try_join!(out, err).map(|_| ())
    }
}

impl Sink {
    async fn copy(
        &mut self,
        client: &Client,
        job: JobId,
        follow: bool,
        standing: &Standing,
    ) -> Result<(), Broken> {
        let output = client.output(job, self.stream, self.position, follow).await;
        let mut output = output.map_err(Broken::Host)?;
        while let Some(bytes) = output.next().await.map_err(Broken::Host)? {
            // Whoever reads our output may be slow; the threads that serve the host must not wait with us.
            tokio::task::block_in_place(|| self.write(&bytes, standing)).map_err(Broken::Output)?;
            self.position = output.position();
        }
        self.finish().map_err(Broken::Output)
    }

    fn write(&mut self, bytes: &[u8], standing: &Standing) -> io::Result<()> {
        if bytes.is_empty() {
            return Ok(());
        }
        if matches!(self.to, To::StdoutTerminal(_) | To::StderrTerminal(_)) {
            standing.make_way(bytes);
        }
        match &mut self.to {
            To::Stdout => write_now(io::stdout().lock(), bytes),
            To::Stderr => write_now(io::stderr().lock(), bytes),
            To::StdoutTerminal(writer) => write_now(writer, bytes),
            To::StderrTerminal(writer) => write_now(writer, bytes),
            To::Json => {
                let line = Line::Output { stream: self.stream, data: Base64Bytes(bytes.to_vec()) };
                let mut text = serde_json::to_vec(&line)?;
                text.push(b'\n');
                write_now(io::stdout().lock(), &text)
            }
        }
    }

    fn finish(&mut self) -> io::Result<()> {
        match &mut self.to {
            To::StdoutTerminal(writer) => writer.finish(),
            To::StderrTerminal(writer) => writer.finish(),
            To::Stdout | To::Stderr | To::Json => Ok(()),
        }
    }
}

/// Shows how the job stands for as long as it is asked to; ends only when the host cannot be asked.
async fn look(client: &Client, job: JobId, standing: &Standing) -> Error {
    if !standing.shows() {
        return std::future::pending().await;
    }
    loop {
        // A short job is over before anybody could read how it stands.
        sleep(LOOK).await;
        match client.show(job).await {
            Ok(view) => standing.show(&view),
            Err(error) => return error,
        }
    }
}

fn write_now(mut to: impl io::Write, bytes: &[u8]) -> io::Result<()> {
    to.write_all(bytes)?;
    to.flush()
}

/// Says so when a job's time has passed before it is sent.
pub(super) fn tell_late(task: &TaskArgs, console: &Console) {
    if let Some(remark) = task.plan.remark(Clock::default().now()) {
        console.say(remark);
    }
}

/// Says that the host has taken the job.
pub(super) fn tell_accepted(console: &Console, accepted: &AcceptedJob) -> Result<(), Failure> {
    if console.json() {
        return console.document(&Line::Accepted(accepted));
    }
    match accepted.existing {
        None => {
            console
                .say(format_args!("job {} accepted, audit log entry {}", accepted.job, accepted.log_index));
        }
        Some(existing) => console.say(format_args!(
            "job {existing} has the unique key and is followed in place of this one, audit log entry {}",
            accepted.log_index
        )),
    }
    Ok(())
}

/// Says how the job ended; returns the exit status that says it to scripts.
pub(super) fn tell_end(console: &Console, finished: &Finished) -> Result<Exit, Failure> {
    let Finished { view, end, .. } = finished;
    let exit = Exit::of(&end.outcome);
    if console.json() {
        console.document(&Line::Finished { exit: exit.code(), job: Shown(view) })?;
        return Ok(exit);
    }
    for denial in &end.denied {
        console.say(line(&denial.to_string()));
    }
    console.say(words(view, finished, exit));
    if exit == Exit::Fault {
        // Not the guest's doing, so its own streams cannot have told.
        console.fail(&Failure::fault(format_args!("job {}: {}", view.job, end.outcome)));
    }
    Ok(exit)
}

fn words(view: &JobView, finished: &Finished, exit: Exit) -> String {
    let end = &finished.end;
    let usage = &end.usage;
    let capped = match end.outcome {
        strongroom_job::Outcome::Exited { code } if exit.code() == MAX_GUEST_CODE && code != 119 => {
            format!(" (shown as {MAX_GUEST_CODE})")
        }
        _ => String::new(),
    };
    let dead = end.dead.map_or_else(String::new, |why| format!("; not tried again: {why}"));
    let attempts = if view.attempt > 1 { format!(" in attempt {}", view.attempt) } else { String::new() };
    let fuel = usage.fuel.map_or(String::new(), |fuel| format!(", {fuel} fuel"));
    format!(
        "job {} {}{capped}{attempts}{dead}; {} ({} CPU), {} peak memory{fuel}, {} out, {} err; audit log entry {}",
        view.job,
        end.outcome,
        show_micros(usage.wall_us),
        show_micros(usage.cpu_us),
        show_size(usage.peak_memory_bytes),
        show_size(end.stdout.length),
        show_size(end.stderr.length),
        end.log_index,
    )
}

impl From<Broken> for Failure {
    fn from(broken: Broken) -> Self {
        match broken {
            Broken::Host(error) => error.into(),
            Broken::Output(error) => stdout_failed(&error),
        }
    }
}
