//! What a job asks for beside directories: scratch space, the network, secrets. As texts, until the job is signed.

use strongroom_job::{Capabilities, SecretForm, SecretUse};

use super::{Job, field, name};
use crate::Error;

/// Texts as they were given; each is read when the job becomes a task, so that a mistake is told with its field.
#[derive(Clone, Debug, Default)]
pub(super) struct Asks {
    scratch: bool,
    connect: Vec<String>,
    listen: Vec<String>,
    http: Vec<String>,
    secrets: Vec<(String, Form)>,
}

#[derive(Clone, Debug)]
enum Form {
    Env(String),
    File(String),
}

impl Job {
    /// A private empty directory at `/scratch`. It is gone after the attempt, but for the regular files under `/scratch/out`:
    /// those are kept as artifacts, for [`Client::artifact`](crate::Client::artifact).
    ///
    /// ```
    /// # use strongroom_sdk::{Digest, Job, ModuleRef};
    /// # let module = ModuleRef { digest: Digest::of(b""), length: 0 };
    /// let job = Job::new(module).arg("--output=/scratch/out/report.pdf").scratch();
    /// ```
    pub const fn scratch(mut self) -> Self {
        self.asks.scratch = true;
        self
    }

    /// Lets the guest connect or send to `HOST:PORT`, `tcp://…` unless `udp://` is said: a DNS name, an address or a network;
    /// a port, a range or `*`.
    ///
    /// ```
    /// # use strongroom_sdk::{Digest, Job, ModuleRef};
    /// # let module = ModuleRef { digest: Digest::of(b""), length: 0 };
    /// let job = Job::new(module).connect("db.example.com:5432").connect("udp://192.0.2.0/24:53");
    /// ```
    pub fn connect(mut self, to: impl Into<String>) -> Self {
        self.asks.connect.push(to.into());
        self
    }

    /// Lets the guest wait for connections (or with `udp://` for datagrams) at one exact address, such as `127.0.0.1:8080`.
    pub fn listen(mut self, at: impl Into<String>) -> Self {
        self.asks.listen.push(at.into());
        self
    }

    /// Lets the guest make HTTP requests: methods (GET and HEAD when none are said, `*` for any), then a URL, whose path covers
    /// what is below it.
    ///
    /// ```
    /// # use strongroom_sdk::{Digest, Job, ModuleRef};
    /// # let module = ModuleRef { digest: Digest::of(b""), length: 0 };
    /// let job = Job::new(module).http("https://example.com/data").http("PUT,POST https://api.example.com/v1");
    /// ```
    pub fn http(mut self, rule: impl Into<String>) -> Self {
        self.asks.http.push(rule.into());
        self
    }

    /// Gives the guest a secret that the host keeps, as the file `/run/secrets/NAME`.
    pub fn secret_file(self, secret: impl Into<String>) -> Self {
        let secret = secret.into();
        self.secret_file_as(secret.clone(), secret)
    }

    /// Gives the guest a secret as the file `/run/secrets/FILE`.
    pub fn secret_file_as(mut self, secret: impl Into<String>, file: impl Into<String>) -> Self {
        self.asks.secrets.push((secret.into(), Form::File(file.into())));
        self
    }

    /// Gives the guest a secret as an environment variable. A file is the better place: programs print their variables.
    ///
    /// ```
    /// # use strongroom_sdk::{Digest, Job, ModuleRef};
    /// # let module = ModuleRef { digest: Digest::of(b""), length: 0 };
    /// let job = Job::new(module).secret_file("tls-key").secret_env("api-token", "API_TOKEN");
    /// ```
    pub fn secret_env(mut self, secret: impl Into<String>, variable: impl Into<String>) -> Self {
        self.asks.secrets.push((secret.into(), Form::Env(variable.into())));
        self
    }
}

impl Asks {
    /// Adds everything to `capabilities`.
    pub(super) fn add_to(&self, capabilities: Capabilities) -> Result<Capabilities, Error> {
        fn each<T>(what: &'static str, texts: &[String]) -> Result<Vec<T>, Error>
        where
            T: std::str::FromStr<Err: std::fmt::Display>,
        {
            texts.iter().map(|text| text.parse().map_err(|problem| field(what, problem))).collect()
        }
        let secret = |(secret, form): &(String, Form)| {
            let secret = name("secret", secret)?;
            let form = match form {
                Form::Env(variable) => SecretForm::Env(variable.clone()),
                Form::File(file) => SecretForm::File(name("secret file", file)?),
            };
            Ok(SecretUse { name: secret, form })
        };
        Ok(Capabilities {
            scratch: self.scratch,
            connect: each("connect", &self.connect)?,
            listen: each("listen", &self.listen)?,
            http: each("http", &self.http)?,
            secrets: self.secrets.iter().map(secret).collect::<Result<_, Error>>()?,
            ..capabilities
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

    use strongroom_job::{Digest, Input, ModuleRef};

    use super::*;

    fn job() -> Job {
        Job::new(ModuleRef { digest: Digest::of(b"module"), length: 6 })
    }

    #[test]
    fn every_wish_reaches_the_task() {
        let job = job()
            .scratch()
            .connect("db.example.com:5432")
            .connect("udp://10.0.0.0/8:*")
            .listen("[::1]:80")
            .http("https://a.example/v1/")
            .secret_file("cert")
            .secret_file_as("cert", "client.pem")
            .secret_env("token", "TOKEN");
        let asked = job.task(Input::Empty).unwrap().capabilities;
        let texts =
            |rules: &[&dyn std::fmt::Display]| rules.iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(
            texts(&[&asked.connect[0], &asked.connect[1], &asked.listen[0], &asked.http[0]]),
            [
                "tcp://db.example.com:5432",
                "udp://10.0.0.0/8:*",
                "tcp://[::1]:80",
                "GET,HEAD https://a.example:443/v1"
            ]
        );
        assert!(asked.scratch);
        assert_eq!(
            asked.secrets.iter().map(ToString::to_string).collect::<Vec<_>>(),
            [
                "secret cert as /run/secrets/cert",
                "secret cert as /run/secrets/client.pem",
                "secret token as variable TOKEN"
            ]
        );
    }

    #[test]
    fn a_mistake_is_told_with_its_field() {
        let problem = |job: Job| job.task(Input::Empty).unwrap_err().to_string();
        let text = problem(job().connect("db.example.com"));
        assert!(text.starts_with("the job was not sent: connect: \"db.example.com\" needs a port"), "{text}");
        assert!(
            problem(job().listen("localhost:80"))
                .contains("listen: \"localhost:80\" is not an exact address")
        );
        assert!(problem(job().http("a.example")).contains("http: \"a.example\" must be a URL"));
        assert!(problem(job().secret_file("No Secret")).contains("secret: \"No Secret\" is not a name"));
        assert!(problem(job().secret_file_as("cert", "a/b")).contains("secret file: \"a/b\" is not a name"));
    }
}
