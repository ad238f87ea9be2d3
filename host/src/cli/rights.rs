//! What a key is given on the command line: by a grant, or by an operator.

use clap::Args;
use strongroom_job::{Access, Destination, HttpRule, Listener, Name, Role};

#[derive(Args, Debug)]
pub(super) struct RightsArgs {
    /// A volume that its jobs may read, or with :write at its end, write; once for each
    #[arg(long = "volume", value_name = "NAME[:write]", value_parser = volume)]
    pub(super) volumes: Vec<(Name, Access)>,
    /// Where its jobs may connect or send to; once for each
    #[arg(long = "connect", value_name = "HOST:PORT")]
    pub(super) connect: Vec<Destination>,
    /// Where its jobs may listen; once for each
    #[arg(long = "listen", value_name = "ADDRESS:PORT")]
    pub(super) listen: Vec<Listener>,
    /// HTTP requests that its jobs may make; once for each
    #[arg(long = "http", value_name = "[METHODS ]URL")]
    pub(super) http: Vec<HttpRule>,
    /// A secret that its jobs may ask for; once for each
    #[arg(long = "secret", value_name = "NAME")]
    pub(super) secrets: Vec<Name>,
}

/// These roles in their order, or those that one gets of whom nothing is said.
pub(super) fn roles(asked: &[Role]) -> Vec<Role> {
    sorted(if asked.is_empty() { &[Role::View, Role::Submit] } else { asked })
}

/// In order, each once.
pub(super) fn sorted<T: Ord + Clone>(all: &[T]) -> Vec<T> {
    let mut all = all.to_vec();
    all.sort_unstable();
    all.dedup();
    all
}

fn volume(text: &str) -> Result<(Name, Access), String> {
    let (name, access) = match text.split_once(':') {
        None | Some((_, "read")) => (text.trim_end_matches(":read"), Access::Read),
        Some((name, "write")) => (name, Access::ReadWrite),
        Some(_) => {
            return Err(format!("{text:?}: expected a volume's name, alone or with :write at its end"));
        }
    };
    Ok((name.parse().map_err(|error| format!("{error}"))?, access))
}
