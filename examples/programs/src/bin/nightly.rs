//! Runs a program on a host each night for thirty days, by the clock in Berlin:
//! `cargo run -p strongroom-examples --bin nightly -- HOST:PORT HOST_KEY KEY_FILE PROGRAM.wasm`.
use std::time::Duration;

use strongroom_sdk::{Client, ConnectOptions, Identity, Job, Missed, Repeats};

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [address, host_key, key_file, program] = args.as_slice() else {
        anyhow::bail!("usage: nightly HOST:PORT HOST_KEY KEY_FILE PROGRAM.wasm");
    };
    let identity = Identity::load(key_file)?;
    let client = Client::connect(ConnectOptions::new(address, host_key.parse()?, identity)).await?;

    // The signature covers the times and the end: the host can make no other run.
    let thirty_days = Duration::from_secs(30 * 24 * 3600);
    let nightly = Repeats::new("0 3 * * *", "Europe/Berlin", thirty_days).missed(Missed::Once);
    let module = client.push_module(program.as_str()).await?;
    let series = client.submit(&Job::new(module).retries(3).repeat(nightly)).await?.job;

    let view = client.show(series).await?;
    let next = view.ready_at.unwrap_or(view.accepted_at).since(view.accepted_at);
    println!("series {series}: due in {} min; `strongroom job cancel` ends it", next.as_secs() / 60);
    client.close().await;
    Ok(())
}
