//! `strongroom events`: what happens on a host, as its log says, as it happens.

use clap::Args;
use serde::Serialize;
use strongroom_job::{Event, EventLine, EventQuery, HostEvent, JobId, Name, Record, Timestamp};
use strongroom_sdk::Client;

use super::console::Console;
use super::escape;
use super::exit::{Exit, Failure};
use super::remote::RemoteArgs;
use super::signal::Stop;
use super::{Common, with_runtime};

#[derive(Args, Debug)]
pub(super) struct EventsArgs {
    #[command(flatten)]
    remote: RemoteArgs,
    /// Go on with what comes, until stopped
    #[arg(short, long)]
    follow: bool,
    /// From the record with this index on [default: the first; with -f: what comes from now on]
    #[arg(long, value_name = "INDEX")]
    since: Option<u64>,
    /// Only records of this type, such as `finished`
    #[arg(long, value_name = "KIND", value_parser = clap::builder::PossibleValuesParser::new(Event::KINDS))]
    #[arg(hide_possible_values = true)]
    kind: Option<String>,
    /// Only records about this job
    #[arg(long, value_name = "JOB")]
    job: Option<JobId>,
    /// Only records about jobs in this queue
    #[arg(long, value_name = "QUEUE")]
    queue: Option<Name>,
    /// Records about jobs of every tenant, and about the host itself; for operators
    #[arg(long)]
    all: bool,
}

/// What `--json` says in a line.
#[derive(Serialize)]
#[serde(untagged)]
enum Line<'a> {
    Event {
        index: u64,
        #[serde(skip_serializing_if = "Option::is_none")]
        tenant: Option<&'a Name>,
        record: &'a Record,
    },
    LeftOut {
        left_out: u64,
        next: u64,
    },
}

pub(super) fn events(common: &Common, args: &EventsArgs, console: &Console) -> Result<Exit, Failure> {
    // Never with a host inside: one that only listens to itself would keep others from the directory.
    with_runtime(async {
        let mut stop = Stop::listen()?;
        let client = args.remote.connect(common).await?;
        let told = tell(&client, args, &mut stop, console).await;
        client.close().await;
        told
    })
}

async fn tell(
    client: &Client,
    args: &EventsArgs,
    stop: &mut Stop,
    console: &Console,
) -> Result<Exit, Failure> {
    let query = EventQuery {
        from: args.since.or_else(|| (!args.follow).then_some(0)),
        follow: args.follow,
        kind: args.kind.clone(),
        job: args.job,
        queue: args.queue.clone(),
    };
    let opened = if args.all { client.all_events(query).await } else { client.events(query).await };
    let mut events = opened?;
    loop {
        let line = tokio::select! {
            biased;
            () = stop.asked() => None,
            line = events.next() => line?,
        };
        let Some(line) = line else { break };
        if console.json() {
            console.document(&Line::of(&line))?;
        } else {
            console.print(words(&line))?;
        }
    }
    if args.follow {
        console.say(format_args!("go on later with --since {}", events.position()));
    }
    Ok(Exit::Status(0))
}

impl<'a> Line<'a> {
    fn of(line: &'a EventLine) -> Self {
        match line {
            EventLine::Event(event) => {
                let HostEvent { index, tenant, record } = &**event;
                Self::Event { index: *index, tenant: tenant.as_ref(), record }
            }
            EventLine::LeftOut { records, next } => Self::LeftOut { left_out: *records, next: *next },
            EventLine::Next { next } => Self::LeftOut { left_out: 0, next: *next },
        }
    }
}

fn words(line: &EventLine) -> String {
    match line {
        EventLine::Event(event) => event_words(event),
        other => format!(
            "(records before {} about jobs that the host has let go are left out: whose they were is not known any more)",
            other.next()
        ),
    }
}

fn event_words(HostEvent { index, tenant, record }: &HostEvent) -> String {
    let Record { time, event, .. } = record;
    let mut words = format!("{index:>8}  {}  {:<18}", at(*time), event.kind());
    if let Some(job) = record.job() {
        words += &format!("  {job}");
    }
    if let Some(tenant) = tenant {
        words += &format!("  {tenant}");
    }
    let more = match event {
        Event::Started { attempt, .. } | Event::Requeued { attempt, .. } => format!("attempt {attempt}"),
        Event::Retried { attempt, outcome, .. } => format!("attempt {attempt}: {outcome}"),
        Event::Finished { outcome, .. } => outcome.to_string(),
        Event::Refused { code, .. } => code.to_string(),
        Event::Merged { into, .. } => format!("into {into}"),
        Event::Fired { run, .. } => format!("run {run}"),
        Event::QueueSet { queue, mode, .. } => format!("{queue} is {mode}"),
        Event::Forgotten { jobs, stripped, .. } => format!("{} jobs", jobs.len() + stripped.len()),
        Event::Erased { jobs, .. } => format!("{} jobs", jobs.len()),
        _ => String::new(),
    };
    if !more.is_empty() {
        // Reasons can quote what a guest said.
        words += &format!("  {}", escape::line(&more));
    }
    words.trim_end().to_owned()
}

fn at(time: Timestamp) -> String {
    time.to_rfc3339()
}
