//! Runs a program on a host, with a file as its input:
//! `cargo run -p strongroom-examples --bin submit -- HOST:PORT HOST_KEY KEY_FILE PROGRAM.wasm INPUT`.
use strongroom_sdk::{Client, ConnectOptions, Identity, Job, OutputStream};

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [address, host_key, key_file, program, input] = args.as_slice() else {
        anyhow::bail!("usage: submit HOST:PORT HOST_KEY KEY_FILE PROGRAM.wasm INPUT");
    };
    let identity = Identity::load(key_file)?;
    let client = Client::connect(ConnectOptions::new(address, host_key.parse()?, identity)).await?;

    let module = client.push_module(program.as_str()).await?;
    let upload = client.push_input(input.as_str());
    let input = upload.on_progress(|p| eprint!("\rinput: {} of {} bytes", p.sent, p.total)).await?;

    let accepted = client.submit(&Job::new(module).input(input)).await?;
    client.fetch_output(accepted.job, OutputStream::Stdout, &mut tokio::io::stdout()).await?;
    eprintln!("\n{}", client.wait(accepted.job).await?.end.outcome);
    client.close().await;
    Ok(())
}
