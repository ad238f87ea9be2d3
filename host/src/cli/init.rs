//! `strongroom init`: keys and configuration. Run again, it changes nothing and prints the same.

use serde::Serialize;
use strongroom_job::PublicKey;
use strongroom_sdk::KnownHosts;

use super::Common;
use super::console::Console;
use super::directory::config;
use super::exit::{Exit, Failure};

#[derive(Serialize)]
struct Made {
    dir: String,
    config: String,
    listen: String,
    host_key: PublicKey,
    client_key: PublicKey,
    log_origin: String,
    log_key: PublicKey,
}

pub(super) fn init(common: &Common, console: &Console) -> Result<Exit, Failure> {
    let home = common.home()?;
    let config = config(&home)?;
    let listen = config.listen.to_string();
    let host_key = home.host_key()?.public();
    KnownHosts::load(home.known_hosts())?.add(&listen, &host_key)?;
    let made = Made {
        dir: home.dir().display().to_string(),
        config: home.config().display().to_string(),
        listen,
        host_key,
        client_key: home.client_key()?.public(),
        log_origin: config.log_origin,
        log_key: home.log_key()?.public(),
    };
    if console.json() {
        console.document(&made)?;
    } else {
        console.print(words(&made, common))?;
    }
    Ok(Exit::Status(0))
}

fn words(made: &Made, common: &Common) -> String {
    let Made { dir, config, listen, host_key, client_key, log_origin, log_key } = made;
    let option = common.dir.as_ref().map_or(String::new(), |_| format!(" --dir {dir}"));
    format!(
        "\
data directory  {dir}
configuration   {config}
host key        {host_key}
your key        {client_key} (the principal \"owner\")
audit log       {log_origin}, key {log_key}

Start the host:          strongroom serve{option}
Submit from here:        strongroom submit{option} MODULE --wait
From another machine:    run `strongroom init` there, add the key that it prints under [[principals]] in
                         {config}, let the host listen on an address that can be reached, then
                         strongroom submit MODULE --host {listen} --host-key {host_key} --wait"
    )
}
