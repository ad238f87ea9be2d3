//! In a worker a job ends, says and leaves what it does in the host's own process.

use std::path::Path;
use std::time::Duration;

use strongroom::config::Isolation;
use strongroom::home::Home;
use strongroom::secrets::Vault;
use strongroom_job::{JobState, Outcome, OutputStream};
use strongroom_sdk::{Client, Flow, Job};

use super::common::guests::{CAT, EATS, appends_to, floods, leaves, pattern, shows, traps_in, writes_bytes};
use super::common::live::{Done, Live, SPINS, finish, push_wat, run, says};
use super::common::patience::bounded;
use super::site;

/// Says how far it is, leaves a result, and ends with 3.
const TELLS: &str = r#"(module
    (import "strongroom:job/report@0.1.0" "progress" (func $progress (param i32 i32 i32)))
    (import "strongroom:job/report@0.1.0" "set-result" (func $set_result (param i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
    (memory (export "memory") 2)
    (data (i32.const 0) "half\1b[2Jway")
    (func (export "_start")
        (if (call $set_result (i32.const 0) (i32.const 65536)) (then unreachable))
        (call $progress (i32.const 42) (i32.const 0) (i32.const 11))
        (call $exit (i32.const 3))))"#;

/// What is compared of a job: its end, both outputs, its result, its artifacts, what it was denied.
#[derive(Debug, PartialEq, Eq)]
struct Seen {
    outcome: String,
    stdout: Vec<u8>,
    stderr: Vec<u8>,
    result: Vec<u8>,
    artifacts: Vec<(String, u64)>,
    denied: Vec<(String, u64)>,
    /// Fuel burnt; bytes read and grown; files made.
    used: (Option<u64>, u64, u64, u64),
}

async fn seen(client: &Client, job: &Job) -> Seen {
    let Done { view, stdout, stderr } = run(client, job).await;
    let end = view.end.unwrap();
    let mut result = Vec::new();
    client.fetch_output(view.job, OutputStream::Result, &mut result).await.unwrap();
    let outcome = match end.outcome {
        // How long it took is not the same twice.
        Outcome::Exceeded { limit, allowed, used } => {
            format!("past {limit} of {allowed}: {}", used >= allowed)
        }
        other => format!("{other:?}"),
    };
    Seen {
        outcome,
        stdout,
        stderr,
        result,
        artifacts: end.artifacts.iter().map(|artifact| (artifact.name.clone(), artifact.length)).collect(),
        denied: end.denied.iter().map(|denial| (denial.what.clone(), denial.count)).collect(),
        used: (end.usage.fuel, end.usage.stdin_bytes, end.usage.disk_bytes, end.usage.files),
    }
}

async fn everything(live: &Live) -> Vec<(&'static str, Seen)> {
    let client = live.ours().await;
    Vault::of(&Home::open(&live.data()).unwrap()).set(&"token".parse().unwrap(), b"hush").unwrap();
    let large: Vec<u8> = (0..3_000_000_u32).flat_map(u32::to_le_bytes).collect();
    let wat = |wat: String| {
        let client = client.clone();
        async move { push_wat(&client, &wat).await }
    };
    let words = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let words = std::fs::read(words.join("examples/prebuilt/wordcount.wasm")).unwrap();
    let words = client.push_module(words).await.unwrap();
    let cat = wat(CAT.into()).await;
    let jobs = [
        ("says", Job::new(wat(says("hello", 7)).await)),
        ("words of a volume", Job::new(words).read_volume("ours", "/docs").args(["/docs"])),
        ("reads a volume", Job::new(wat(shows("file")).await).read_volume("ours", "/docs")),
        ("writes into a volume to be read", {
            Job::new(wat(leaves("made", "by a guest", 0)).await).read_volume("ours", "/docs")
        }),
        (
            "writes into a volume",
            Job::new(wat(leaves("made", "by a guest", 0)).await).write_volume("ours", "/docs"),
        ),
        ("leaves an artifact", Job::new(wat(leaves("out/report", "done", 0)).await).scratch()),
        ("reads a secret", Job::new(wat(shows("token")).await).secret_file("token")),
        ("tells", Job::new(wat(TELLS.into()).await)),
        ("short input", Job::new(cat).stdin_bytes(b"some input".to_vec())),
        ("long input", Job::new(cat).input(client.push_input(large).await.unwrap())),
        ("long output", Job::new(wat(writes_bytes(1, 1_000_000)).await)),
        ("too much output", Job::new(wat(floods(2)).await).stderr_limit(70_000)),
        ("fuel", Job::new(wat(says("few", 0)).await).fuel(1_000_000)),
        ("no fuel", Job::new(wat(SPINS.into()).await).fuel(100_000)),
        ("no time", Job::new(wat(SPINS.into()).await).timeout(Duration::from_millis(200))),
        ("no processor", Job::new(wat(SPINS.into()).await).cpu(Duration::from_millis(100))),
        ("no memory", Job::new(wat(EATS.into()).await).memory(8 << 20)),
        ("no disk", Job::new(wat(appends_to("grows")).await).write_volume("ours", "/docs").disk(100_000)),
        ("traps", Job::new(wat_bytes(&traps_in(b"a_function", b"last words"), &client).await)),
    ];
    let mut all = Vec::new();
    for (what, job) in jobs {
        all.push((what, seen(&client, &job).await));
    }
    all
}

async fn wat_bytes(wat: &str, client: &Client) -> strongroom_job::ModuleRef {
    push_wat(client, wat).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_ends_says_and_leaves_the_same_in_a_worker() {
    let _alone = super::ALONE.lock().await;
    bounded(Box::pin(async {
        let mut both = Vec::new();
        for isolation in [Isolation::InProcess, Isolation::Process] {
            let secrets = |config: &mut strongroom::config::Config| {
                config.principals[0].secrets.insert("token".parse().unwrap());
            };
            let live = site(isolation, secrets).await;
            let seen = Box::pin(everything(&live)).await;
            assert_eq!(std::fs::read(live.dir.path().join("ours/made")).unwrap(), b"by a guest");
            live.stop().await;
            both.push(seen);
        }
        let [here, there] = both.try_into().unwrap();
        for ((what, here), (_, there)) in here.iter().zip(&there) {
            assert!(here == there, "{what}\nin-process: {}\nin a worker: {}", brief(here), brief(there));
        }
        // They are what they should be, and not alike in failing.
        let find = |name: &str| &there.iter().find(|(what, _)| *what == name).unwrap().1;
        assert_eq!(find("says").outcome, "Exited { code: 7 }");
        let words = String::from_utf8_lossy(&find("words of a volume").stdout).into_owned();
        // Lines, words and bytes of the one file.
        assert_eq!(words.split_whitespace().take(3).collect::<Vec<_>>(), ["0", "1", "4"]);
        assert_eq!(find("reads a volume").stdout, b"ours");
        assert_eq!(find("reads a secret").stdout, b"hush");
        assert_eq!(find("leaves an artifact").artifacts, [("report".to_owned(), 4)]);
        assert_eq!(
            (find("tells").result.len(), find("tells").outcome.as_str()),
            (65_536, "Exited { code: 3 }")
        );
        assert_eq!(find("long input").stdout.len(), 12_000_000);
        assert_eq!(find("long output").stdout, pattern(1_000_000));
        assert_eq!(find("too much output").stderr.len(), 70_000);
        assert!(find("no fuel").outcome.starts_with("past fuel"), "{:?}", find("no fuel").outcome);
        assert!(find("no time").outcome.contains("200: true"), "{:?}", find("no time").outcome);
        assert!(!find("writes into a volume to be read").denied.is_empty());
        assert!(find("traps").outcome.contains("a_function"), "{}", find("traps").outcome);
    }))
    .await;
}

fn brief(seen: &Seen) -> String {
    let length = seen.stdout.len().min(200);
    format!(
        "{} {:?} {:?} {:?} {:?}",
        seen.outcome,
        &seen.stdout[..length],
        seen.artifacts,
        seen.denied,
        seen.used
    )
}

/// Output and progress are there while the job runs.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_guest_says_is_heard_while_it_runs() {
    let tells_and_spins = TELLS.replace("(call $exit (i32.const 3))", "(loop $for_ever (br $for_ever))");
    let says_and_spins =
        says("now", 0).replace("(call $exit (i32.const 0))", "(loop $for_ever (br $for_ever))");
    let _alone = super::ALONE.lock().await;
    bounded(Box::pin(async {
        let live = site(Isolation::Process, |_| {}).await;
        let client = live.ours().await;
        let module = push_wat(&client, &tells_and_spins).await;
        let job = client.submit(&Job::new(module).timeout(Duration::from_secs(60))).await.unwrap().job;
        let told = loop {
            let view = client.show(job).await.unwrap();
            assert!(view.end.is_none(), "{view:?}");
            match view.progress {
                Some(progress) => break progress,
                None => tokio::time::sleep(Duration::from_millis(20)).await,
            }
        };
        assert_eq!((told.percent, told.text.as_str()), (42, "half\u{fffd}[2Jway"));
        client.cancel(job).await.unwrap();
        let end = client.wait(job).await.unwrap().view.end.unwrap();
        assert_eq!(end.outcome, Outcome::Cancelled);
        // Kept however it ended.
        assert_eq!(end.result.unwrap().length, 65_536);

        let module = push_wat(&client, &says_and_spins).await;
        let job = client.submit(&Job::new(module).timeout(Duration::from_secs(60))).await.unwrap().job;
        super::until_running(&client, job).await;
        let mut live_output = client.output(job, OutputStream::Stdout, 0, true).await.unwrap();
        assert_eq!(live_output.next().await.unwrap().unwrap(), b"now".as_slice());
        assert_eq!(client.show(job).await.unwrap().state, JobState::Running);
        client.cancel(job).await.unwrap();
        assert_eq!(super::outcome(&client, job).await, Outcome::Cancelled);
        live.stop().await;
    }))
    .await;
}
/// What other jobs left goes through a pipe, all of it and in order, to a guest that reads it to its end.
// Red with a `Pump` that leaves the pipe open: the guest waits until its time is up.
#[tokio::test(flavor = "multi_thread")]
async fn what_jobs_left_is_the_input_of_the_next() {
    let _alone = super::ALONE.lock().await;
    bounded(Box::pin(async {
        let live = site(Isolation::Process, |_| {}).await;
        let client = live.ours().await;
        let (cat, says) = (push_wat(&client, CAT).await, push_wat(&client, &says("one ", 0)).await);
        let writes = push_wat(&client, &writes_bytes(1, 1_000_000)).await;
        let mut flow = Flow::new();
        let parts: Vec<_> = [says, writes, says].map(|part| flow.add(Job::new(part))).into();
        let joined = flow.add(Job::new(cat).after_all(parts).stdin_from_outputs());
        let accepted = client.submit_flow(&flow).await.unwrap();
        let stdout = finish(&client, accepted[joined.index()].job).await.stdout;
        let expected = [&b"one "[..], &pattern(1_000_000), b"one "].concat();
        assert!(stdout == expected, "{} bytes for {}", stdout.len(), expected.len());
        live.stop().await;
    }))
    .await;
}
