//! Runs a program that may fail, up to four times, and tells of each attempt:
//! `cargo run -p strongroom-examples --bin retry -- HOST:PORT HOST_KEY KEY_FILE PROGRAM.wasm [ARGS…]`.
//! A job that is still not done then is a dead letter. Once its cause is mended, `strongroom job retry` runs it again.
use std::time::Duration;

use strongroom_sdk::{Client, ConnectOptions, Identity, Job, Retries, RetryOn};

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [address, host_key, key_file, program, rest @ ..] = args.as_slice() else {
        anyhow::bail!("usage: retry HOST:PORT HOST_KEY KEY_FILE PROGRAM.wasm [ARGS…]");
    };
    let identity = Identity::load(key_file)?;
    let client = Client::connect(ConnectOptions::new(address, host_key.parse()?, identity)).await?;

    let retries = Retries::new(3)
        .on([RetryOn::Failed, RetryOn::Faulted])
        .pause(Duration::from_millis(200))
        .max_age(Duration::from_secs(3600));
    let job = Job::new(client.push_module(program.as_str()).await?).args(rest).retries(retries);
    let accepted = client.submit(&job).await?;
    let finished = client
        .watch(accepted.job, Duration::from_millis(100), |view| {
            println!("{} after {} attempts", view.state, view.attempt);
        })
        .await?;
    let (job, attempts, outcome) = (finished.view.job, finished.view.attempt, finished.end.outcome);
    println!("{job} is {} after {attempts} attempts: {outcome}", finished.view.state);
    if let Some(why) = finished.end.dead {
        println!("{why}");
    }
    client.close().await;
    Ok(())
}
