//! A host with a past: one of everything that a state can hold.

use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use strongroom::audit::verify::{Options, verify_dir};
use strongroom::config::Config;
use strongroom::home::Home;
use strongroom::host::{Host, StartError, Stop};
use strongroom_job::merkle::TreeHead;
use strongroom_job::{
    Event, JobId, JobState, JobView, Missed, ModuleView, OutputStream, QueueMode, RetryOn, Taken, Task,
};
use strongroom_sdk::{Batch, BatchJob, Client, Flow, Job, ListFilter, Repeats, Retries};

use crate::common::guests::CAT;
use crate::common::live::{Live, compiler, finish, passes, push_wat, run, says};

use crate::common::trees::copy;

pub(crate) use crate::common::records::records as records_of;

/// Jobs that [`ended`] submits, without the series.
const ENDED: usize = 11;
/// Runs of the series that are made up for.
const RUNS: usize = 3;
const HOUR: Duration = Duration::from_secs(3600);

/// A job as a client sees it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct SeenJob {
    pub(crate) view: JobView,
    pub(crate) stdout: Vec<u8>,
    pub(crate) task: Task,
}

/// Everything that a client sees of a host.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Seen {
    pub(crate) jobs: BTreeMap<JobId, SeenJob>,
    pub(crate) modules: Vec<ModuleView>,
    pub(crate) queue: QueueMode,
}

/// A directory, and what was in it.
pub(crate) struct Past {
    dir: tempfile::TempDir,
    /// `state`, some records ago.
    pub(crate) earlier: tempfile::TempDir,
    pub(crate) seen: Seen,
    /// Records of the log.
    pub(crate) size: u64,
    head: TreeHead,
}

impl Past {
    pub(crate) async fn new() -> Self {
        let live = Live::new().await;
        let client = live.client().await;
        ended(&client).await;
        client.close().await;
        let dir = live.stop().await;
        // A series misses some of its times.
        passes(dir.path(), Duration::from_secs(600)).await;
        let earlier = tempfile::tempdir().unwrap();
        copy(&dir.path().join("state"), &earlier.path().join("state"));
        let live = Live { host: crate::common::live::start(dir.path(), |_| {}).await, dir };
        let client = live.client().await;
        fired(&client).await;
        waiting(&client).await;
        let seen = see(&client).await.unwrap();
        client.close().await;
        let dir = live.stop().await;
        let verified = verify_dir(&dir.path().join("audit"), &Options::default(), &mut ()).unwrap();
        let head = *verified.checkpoint.head();
        let past = Self { dir, earlier, seen, size: head.size.get(), head };
        assert_eq!(crate::queue_of(&past.seen), QueueMode::Paused);
        past
    }

    pub(crate) fn copy(&self) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        copy(self.dir.path(), dir.path());
        dir
    }

    /// What is seen now is what was seen before, in every field.
    pub(crate) fn holds(&self, seen: &Seen, what: &str) {
        assert_eq!(seen.jobs.keys().collect::<Vec<_>>(), self.seen.jobs.keys().collect::<Vec<_>>(), "{what}");
        for (job, before) in &self.seen.jobs {
            assert_eq!(&seen.jobs[job], before, "{what}");
        }
        assert_eq!((&seen.modules, seen.queue), (&self.seen.modules, self.seen.queue), "{what}");
    }

    /// The log goes on from where it was, what waits runs to its end, and nothing runs twice.
    pub(crate) async fn goes_on(&self, dir: &Path) {
        let live = try_start(dir).await.unwrap();
        let client = client(dir, &live).await;
        client.set_queue(&"default".parse().unwrap(), QueueMode::Open).await.unwrap();
        for (job, before) in &self.seen.jobs {
            if before.view.state == JobState::Queued {
                assert_eq!(finish(&client, *job).await.view.state, JobState::Succeeded);
            }
        }
        // Who has a key has it still.
        let module = self.seen.modules[0].module;
        let again = Job::new(module).unique("one", HOUR, Taken::Existing);
        let accepted = client.submit(&again).await.unwrap();
        assert!(accepted.existing.is_some(), "the unique key was forgotten");
        client.close().await;
        live.stop(Stop::Running(Duration::from_secs(30))).await;
        let options = Options { known: Some(self.head), ..Options::default() };
        verify_dir(&dir.join("audit"), &options, &mut ()).unwrap();
        let mut begun = HashSet::new();
        for record in records_of(dir) {
            if let Event::Started { job, attempt } = record.event {
                assert!(begun.insert((job, attempt)), "attempt {attempt} of {job} began twice");
            }
        }
    }
}

/// Waits for the runs of the series.
async fn fired(client: &Client) {
    loop {
        let jobs = client.list(ListFilter::default()).await.unwrap().jobs;
        let waiting = jobs.iter().filter(|view| !view.state.is_terminal()).count();
        if jobs.len() == ENDED + 1 + RUNS && waiting == 1 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Jobs that come to an end.
async fn ended(client: &Client) {
    let (good, bad) = (push_wat(client, &says("good", 0)).await, push_wat(client, &says("bad", 3)).await);
    let cat = push_wat(client, CAT).await;
    run(client, &Job::new(good).env("SECRET", "x")).await;
    run(client, &Job::new(bad).retries(Retries::new(1).on([RetryOn::Failed]))).await;
    let long = run(client, &Job::new(cat).stdin_bytes(vec![b'l'; 50_000])).await;
    assert_eq!(long.stdout.len(), 50_000, "a blob, in and out");
    run(client, &Job::new(cat).stdin_bytes(b"short".to_vec())).await;
    run(client, &Job::new(good).unique("one", 24 * HOUR, Taken::Existing)).await;
    let mut flow = Flow::new();
    let parts: Vec<_> = (0..3).map(|_| flow.add(Job::new(good))).collect();
    let joined = flow.add(Job::new(cat).after_all(parts).stdin_from_outputs());
    let accepted = client.submit_flow(&flow).await.unwrap();
    assert_eq!(finish(client, accepted[joined.index()].job).await.stdout, b"goodgoodgood");
    let mut flow = Flow::new();
    let fails = flow.add(Job::new(bad));
    let never = flow.add(Job::new(good).after(fails));
    let accepted = client.submit_flow(&flow).await.unwrap();
    finish(client, accepted[never.index()].job).await;
    let every_minute = Repeats::new("* * * * *", "UTC", 24 * HOUR).missed(Missed::All(RUNS as u32));
    client.submit(&Job::new(good).repeat(every_minute)).await.unwrap();
}

/// Jobs that wait for something.
async fn waiting(client: &Client) {
    let good = push_wat(client, &says("good", 0)).await;
    let cat = push_wat(client, CAT).await;
    // One that has a key, one that stands for it, one that replaces, and one that nobody runs.
    let keyed = |key: &str, taken| Job::new(good).delay(HOUR).unique(key, HOUR, taken);
    let first = client.submit(&keyed("two", Taken::Existing)).await.unwrap();
    let second = client.submit(&keyed("two", Taken::Existing)).await.unwrap();
    assert_eq!(second.existing, Some(first.job));
    client.submit(&keyed("three", Taken::Replace)).await.unwrap();
    client.submit(&keyed("three", Taken::Replace)).await.unwrap();
    let stopped = client.submit(&Job::new(good).delay(HOUR)).await.unwrap();
    client.cancel(stopped.job).await.unwrap();
    let mut flow = Flow::new();
    let later = flow.add(Job::new(good).delay(HOUR));
    flow.add(Job::new(cat).after(later).stdin_from_outputs());
    client.submit_flow(&flow).await.unwrap();
    client
        .submit(
            &Job::new(good)
                .repeat(Repeats::new("0 3 * * *", "Europe/Berlin", 24 * 20 * HOUR).missed(Missed::Once)),
        )
        .await
        .unwrap();
    client.set_queue(&"default".parse().unwrap(), QueueMode::Paused).await.unwrap();
    let batch =
        Batch::new(Job::new(cat)).jobs((0..3).map(|part| BatchJob::new().stdin_bytes(vec![part; 10])));
    client.submit_batch(&batch).await.unwrap();
    client.submit(&Job::new(cat).stdin_bytes(vec![b'q'; 20_000])).await.unwrap();
}

pub(crate) async fn try_start(dir: &Path) -> Result<Host, StartError> {
    let home = Home::create(dir)?.lock()?;
    let mut config = Config::load(&home.config()).unwrap();
    config.listen = ([127, 0, 0, 1], 0).into();
    Box::pin(Host::start(home, config, compiler())).await
}

async fn client(dir: &Path, host: &Host) -> Client {
    let key = Home::open(dir).unwrap().client_key().unwrap();
    let options = strongroom_sdk::ConnectOptions::new(host.local_addr(), *host.public_key(), key);
    Client::connect(options).await.unwrap()
}

/// Starts a host, looks at everything, and stops it.
pub(crate) async fn look(dir: &Path) -> Result<Seen, String> {
    let host = try_start(dir).await.map_err(|error| error.to_string())?;
    let client = client(dir, &host).await;
    let seen = see(&client).await.map_err(|error| error.to_string());
    client.close().await;
    host.stop(Stop::Running(Duration::from_secs(30))).await;
    seen
}

async fn see(client: &Client) -> Result<Seen, strongroom_sdk::Error> {
    let mut jobs = BTreeMap::new();
    for brief in client.list(ListFilter::default()).await?.jobs {
        let view = client.show(brief.job).await?;
        let mut stdout = Vec::new();
        if view.end.is_some() {
            client.fetch_output(view.job, OutputStream::Stdout, &mut stdout).await?;
        }
        let task = client.task(view.job).await?;
        jobs.insert(view.job, SeenJob { view, stdout, task });
    }
    let queue = client.queues().await?.remove(0).mode;
    Ok(Seen { jobs, modules: client.modules().await?, queue })
}

/// The file of the first records.
pub(crate) fn some_bundle(dir: &Path) -> PathBuf {
    let entries = dir.join("audit/tile/entries");
    let partial = entries.join("000.p");
    match fs::read_dir(&partial) {
        Ok(files) => files.map(|file| file.unwrap().path()).max_by_key(|path| width(path)).unwrap(),
        Err(_) => entries.join("000"),
    }
}

fn width(path: &Path) -> u16 {
    path.file_name().unwrap().to_str().unwrap().parse().unwrap()
}
