//! The options that open something to a guest beside directories: scratch space, the network, secrets.

use clap::Args;
use strongroom_job::{Destination, HttpRule, Listener, SecretForm, SecretUse};
use strongroom_sdk::Job;

/// Shared by `run` and `submit`.
#[derive(Args, Clone, Debug)]
pub(super) struct ReachArgs {
    /// Give the guest a private directory /scratch; files in /scratch/out are kept as artifacts
    #[arg(long)]
    pub(super) scratch: bool,
    /// Let the guest connect to a host name, address or network, with `udp://` in front send to it
    #[arg(long, value_name = "HOST:PORT")]
    connect: Vec<Destination>,
    /// Let the guest wait for connections, with `udp://` in front for datagrams, at one exact address
    #[arg(long, value_name = "ADDRESS:PORT")]
    listen: Vec<Listener>,
    /// Let the guest make HTTP requests to a URL and what is below it: `'GET,PUT https://example.com/v1'` [methods: GET,HEAD]
    #[arg(long, value_name = "[METHODS ]URL")]
    http: Vec<HttpRule>,
    /// Give the guest a secret of the host, as the file /run/secrets/NAME, or another, or as a variable
    #[arg(long, value_name = "NAME[:FILE|=VARIABLE]", value_parser = secret)]
    secret: Vec<SecretUse>,
}

impl ReachArgs {
    /// Adds what was asked for.
    pub(super) fn add_to(&self, mut job: Job) -> Job {
        if self.scratch {
            job = job.scratch();
        }
        for to in &self.connect {
            job = job.connect(to.to_string());
        }
        for at in &self.listen {
            job = job.listen(at.to_string());
        }
        for rule in &self.http {
            job = job.http(rule.to_string());
        }
        for SecretUse { name, form } in &self.secret {
            job = match form {
                SecretForm::Env(variable) => job.secret_env(name.as_str(), variable),
                SecretForm::File(file) => job.secret_file_as(name.as_str(), file.as_str()),
            };
        }
        job
    }
}

/// `token` is the file `token`, `token:api.txt` another file, `token=API_TOKEN` a variable.
fn secret(text: &str) -> Result<SecretUse, String> {
    let wrong = |problem: &dyn std::fmt::Display| {
        format!("{problem}; write NAME, NAME:FILE or NAME=VARIABLE, such as api-token=API_TOKEN")
    };
    let named = |name: &str| name.parse().map_err(|error: strongroom_job::ParseNameError| wrong(&error));
    if let Some((name, variable)) = text.split_once('=') {
        if variable.is_empty() || variable.contains(['=', '\0']) {
            return Err(wrong(&format_args!("{variable:?} cannot name a variable")));
        }
        return Ok(SecretUse { name: named(name)?, form: SecretForm::Env(variable.to_owned()) });
    }
    let (name, file) = text.split_once(':').unwrap_or((text, text));
    Ok(SecretUse { name: named(name)?, form: SecretForm::File(named(file)?) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_a_file_or_a_variable() {
        let shown = |text: &str| secret(text).map(|secret| secret.to_string());
        assert_eq!(shown("token"), Ok("secret token as /run/secrets/token".into()));
        assert_eq!(shown("token:api.txt"), Ok("secret token as /run/secrets/api.txt".into()));
        assert_eq!(shown("token=API_TOKEN"), Ok("secret token as variable API_TOKEN".into()));
        for wrong in ["", "Token", "token:", "token=", "token=A=B", "token:a/b", ":x", "=X"] {
            let text = shown(wrong).unwrap_err();
            assert!(text.contains("write NAME, NAME:FILE or NAME=VARIABLE"), "{wrong}: {text}");
        }
    }
}
