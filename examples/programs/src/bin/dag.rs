//! Runs one program on each of many files, all at once, and another on all that these wrote:
//! `cargo run -p strongroom-examples --bin dag -- HOST:PORT HOST_KEY KEY_FILE EACH.wasm ALL.wasm FILE…`.
//! It is one signed batch. Once the host has it, this program could as well go away.
use strongroom_sdk::{Client, ConnectOptions, Flow, Identity, Job, OutputStream};

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [address, host_key, key_file, each, all, files @ ..] = args.as_slice() else {
        anyhow::bail!("usage: dag HOST:PORT HOST_KEY KEY_FILE EACH.wasm ALL.wasm FILE…");
    };
    let identity = Identity::load(key_file)?;
    let client = Client::connect(ConnectOptions::new(address, host_key.parse()?, identity)).await?;
    let each = client.push_module(each.as_str()).await?;
    let all = client.push_module(all.as_str()).await?;

    let mut flow = Flow::new();
    let parts = flow.group(files.iter().map(|file| Job::new(each).stdin_file(file)));
    let whole = flow.add(Job::new(all).after_all(parts.clone()).stdin_from_outputs());
    let accepted = client.submit_flow(&flow).await?;

    let whole = accepted[whole.index()].job;
    client.fetch_output(whole, OutputStream::Stdout, &mut tokio::io::stdout()).await?;
    for (file, part) in files.iter().zip(parts) {
        eprintln!("{file}: {}", client.wait(accepted[part.index()].job).await?.end.outcome);
    }
    eprintln!("all of them: {}", client.wait(whole).await?.end.outcome);
    client.close().await;
    Ok(())
}
