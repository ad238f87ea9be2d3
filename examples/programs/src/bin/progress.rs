//! Runs a program, shows how far it says it is, and prints what it gives as its result:
//! `cargo run -p strongroom-examples --bin progress -- HOST:PORT HOST_KEY KEY_FILE PROGRAM.wasm [ARGS…]`.
use std::io::Write as _;
use std::time::Duration;

use strongroom_sdk::{Client, ConnectOptions, Identity, Job};

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [address, host_key, key_file, program, rest @ ..] = args.as_slice() else {
        anyhow::bail!("usage: progress HOST:PORT HOST_KEY KEY_FILE PROGRAM.wasm [ARGS…]");
    };
    let identity = Identity::load(key_file)?;
    let client = Client::connect(ConnectOptions::new(address, host_key.parse()?, identity)).await?;

    let job = Job::new(client.push_module(program.as_str()).await?).args(rest);
    let accepted = client.submit(&job).await?;
    let finished = client
        .watch(accepted.job, Duration::from_millis(200), |view| match &view.progress {
            Some(progress) => eprintln!("{:>3} % {}", progress.percent, progress.text),
            None => eprintln!("{}", view.state),
        })
        .await?;
    eprintln!("{}", finished.end.outcome);
    match client.result(accepted.job).await? {
        Some(result) => std::io::stdout().write_all(&result)?,
        None => eprintln!("it gave no result"),
    }
    client.close().await;
    Ok(())
}
