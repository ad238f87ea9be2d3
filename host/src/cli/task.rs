//! The options that say what to run, and how they become a job.

use std::collections::HashMap;
use std::fmt;
use std::fs::File;
use std::io::{self, Read as _, Seek as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;
use strongroom_job::{Access, Digest, Digester, Input, ModuleRef};
use strongroom_runtime::MAX_MODULE_SIZE;
use strongroom_sdk::{Client, Error, Job, Name, Refusal, RefusalCode, Source};

use crate::home::Home;

use super::bounds::BoundArgs;
use super::console::Console;
use super::exit::Failure;
use super::plan::PlanArgs;
use super::progress;
use super::reach::ReachArgs;

/// What to run: shared by `run`, `submit` and the jobs of a flow.
#[derive(Args, Clone, Debug)]
pub(super) struct TaskArgs {
    /// WebAssembly file, or `sha256:…` of a module that the host has
    #[arg(value_name = "MODULE")]
    module: String,
    /// Standard input: a file, or `-` for this command's own [default: none]
    #[arg(long, value_name = "FILE")]
    input: Option<PathBuf>,
    /// Let the guest read a directory of the host, or a volume, at an absolute path of its own
    #[arg(long, value_name = "SOURCE:GUESTDIR")]
    read: Vec<String>,
    /// Let the guest read and change it
    #[arg(long, value_name = "SOURCE:GUESTDIR")]
    write: Vec<String>,
    /// Set a variable of the guest, which sees no other
    #[arg(long, value_name = "NAME=VALUE")]
    env: Vec<String>,
    #[command(flatten)]
    pub(super) reach: ReachArgs,
    #[command(flatten)]
    bounds: BoundArgs,
    /// Queue to wait in [default: default]
    #[arg(long, value_name = "QUEUE")]
    queue: Option<Name>,
    /// Higher starts earlier within the queue, -100 to 100
    #[arg(long, value_name = "N", allow_negative_numbers = true, default_value_t = 0)]
    #[arg(value_parser = clap::value_parser!(i8).range(-100..=100))]
    priority: i8,
    /// The job may run again when the host goes down while it runs
    #[arg(long)]
    idempotent: bool,
    #[command(flatten)]
    pub(super) plan: PlanArgs,
    /// No clock and no randomness: stand-ins that depend on the signed job alone
    #[arg(long)]
    deterministic: bool,
    /// Note for whoever looks at the job later
    #[arg(long, value_name = "NAME=VALUE")]
    label: Vec<String>,
    /// Arguments of the guest
    #[arg(last = true, value_name = "ARGS")]
    args: Vec<String>,
}

/// Options whose files are open and whose directories were found: what is left to do needs a host.
#[derive(Debug)]
pub(super) struct Prepared {
    module: Module,
    input: Option<Arc<File>>,
    mounts: Vec<(Place, String, Access)>,
    env: Vec<(String, String)>,
    labels: Vec<(String, String)>,
    requires: Vec<(String, String)>,
    args: TaskArgs,
}

/// Files that are open already, by the name that they were called: many jobs of a flow run one module.
#[derive(Debug, Default)]
pub(super) struct Opened(HashMap<PathBuf, Arc<File>>);

#[derive(Debug)]
enum Module {
    File(Arc<File>),
    Registered(Digest),
}

/// Where a `--read` or `--write` points.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Place {
    /// The name of a volume, or a path that begins with one.
    Volume(String),
    Directory(String),
}

/// What a source without a leading `/` or `.` means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BareName {
    /// A directory below the working directory, as for every other command of this machine.
    Directory,
    /// A volume of the host's configuration: the host's directories are not this machine's.
    Volume,
}

impl TaskArgs {
    /// Opens every file and finds every directory that the options name, so that a mistake is told before anything starts.
    pub(super) fn prepare(self, bare: BareName, home: &Home) -> Result<Prepared, Failure> {
        self.prepare_among(&mut Opened::default(), bare, home)
    }

    /// [`prepare`](Self::prepare) for one of many: what is in `opened` is not opened again.
    pub(super) fn prepare_among(
        self,
        opened: &mut Opened,
        bare: BareName,
        home: &Home,
    ) -> Result<Prepared, Failure> {
        let module = match self.module.parse() {
            Ok(digest) => Module::Registered(digest),
            Err(_) => Module::File(opened.file(Path::new(&self.module), |path| open("module", path))?),
        };
        let input = match &self.input {
            Some(path) => Some(opened.file(path, |path| input(path, home))?),
            None => None,
        };
        let mut mounts = Vec::new();
        for (option, sources, access) in
            [("--read", &self.read, Access::Read), ("--write", &self.write, Access::ReadWrite)]
        {
            for source in sources {
                let (place, path) = mount(option, source, bare)?;
                mounts.push((place, path, access));
            }
        }
        let env = pairs("--env", &self.env)?;
        let labels = pairs("--label", &self.label)?;
        let requires = self.plan.requires()?;
        Ok(Prepared { module, input, mounts, env, labels, requires, args: self })
    }
}

impl Opened {
    fn file(
        &mut self,
        path: &Path,
        open: impl FnOnce(&Path) -> Result<File, Failure>,
    ) -> Result<Arc<File>, Failure> {
        if let Some(file) = self.0.get(path) {
            return Ok(Arc::clone(file));
        }
        let file = Arc::new(open(path)?);
        self.0.insert(path.to_owned(), Arc::clone(&file));
        Ok(file)
    }
}

impl Prepared {
    /// Gives the host what it has not got: the module and the input. Sends nothing twice.
    pub(super) async fn push(
        &self,
        client: &Client,
        console: &Console,
    ) -> Result<(ModuleRef, Option<Input>), Error> {
        Ok((self.push_module(client, console).await?, self.push_input(client, console).await?))
    }

    /// What the module is called on the command line.
    pub(super) fn module(&self) -> &str {
        &self.args.module
    }

    pub(super) async fn push_module(&self, client: &Client, console: &Console) -> Result<ModuleRef, Error> {
        match &self.module {
            Module::File(file) => {
                let bar = progress::upload(console, "module", "compiling");
                let pushed = client.push_module(again(file)?).on_progress(|at| bar.show(at)).await;
                pushed.map_err(|error| about_module(&self.args.module, error))
            }
            Module::Registered(digest) => registered(client, digest).await,
        }
    }

    pub(super) async fn push_input(
        &self,
        client: &Client,
        console: &Console,
    ) -> Result<Option<Input>, Error> {
        let Some(file) = &self.input else { return Ok(None) };
        let bar = progress::upload(console, "input", "storing");
        Ok(Some(client.push_input(again(file)?).on_progress(|at| bar.show(at)).await?))
    }

    /// What the module and the input would be called in a signed job, though no host has been given them. A module that is named by its
    /// digest has no length here.
    pub(super) fn described(&self) -> Result<(ModuleRef, Input), Failure> {
        let wrong = |what: &str, error: io::Error| Failure::usage(format_args!("{what}: {error}"));
        let module = match &self.module {
            Module::Registered(digest) => ModuleRef { digest: *digest, length: 1 },
            Module::File(file) => {
                let (digest, length) = digest_of(file).map_err(|error| wrong(&self.args.module, error))?;
                ModuleRef { digest, length }
            }
        };
        let Some(file) = &self.input else { return Ok((module, Input::Empty)) };
        let (digest, length) = digest_of(file).map_err(|error| wrong("the input", error))?;
        Ok((module, Input::Blob { digest, length }))
    }

    /// The module's bytes, at most one more than any module may have.
    pub(super) fn wasm(&self) -> Result<Vec<u8>, Failure> {
        let Module::File(file) = &self.module else {
            return Err(Failure::usage("--learn runs without a host, so it needs the module's file"));
        };
        let wrong = |error: io::Error| Failure::usage(format_args!("module {}: {error}", self.args.module));
        let mut bytes = Vec::new();
        let file = file.try_clone().map_err(wrong)?;
        file.take(MAX_MODULE_SIZE.as_u64() + 1).read_to_end(&mut bytes).map_err(wrong)?;
        Ok(bytes)
    }

    /// The input, if there is one.
    pub(super) fn input(&self) -> Result<Option<File>, Failure> {
        let again = self.input.as_ref().map(|file| file.try_clone()).transpose();
        again.map_err(|error| Failure::fault(format_args!("the input cannot be read: {error}")))
    }

    /// The job, ready to be signed.
    pub(super) fn job(&self, module: ModuleRef, input: Option<Input>) -> Job {
        let options = &self.args;
        let mut job = Job::new(module).args(&options.args).priority(options.priority);
        job = options.bounds.add_to(options.reach.add_to(job));
        job = options.plan.add_to(job, &self.requires);
        if let Some(input) = input {
            job = job.input(input);
        }
        for (name, value) in &self.env {
            job = job.env(name, value);
        }
        for (name, value) in &self.labels {
            job = job.label(name, value);
        }
        for (place, path, access) in &self.mounts {
            job = match (place, access) {
                (Place::Volume(volume), Access::Read) => job.read_volume(volume, path),
                (Place::Volume(volume), Access::ReadWrite) => job.write_volume(volume, path),
                (Place::Directory(directory), Access::Read) => job.read_dir(directory, path),
                (Place::Directory(directory), Access::ReadWrite) => job.write_dir(directory, path),
            };
        }
        if let Some(queue) = &options.queue {
            job = job.queue(queue.as_str());
        }
        if options.idempotent {
            job = job.idempotent();
        }
        if options.deterministic {
            job = job.deterministic();
        }
        job
    }
}

/// The same open file, so that what is sent after a second connect is what was found at the start.
fn again(file: &File) -> Result<Source, Error> {
    let file = file.try_clone();
    file.map(Source::file).map_err(|source| Error::Io { path: "(open file)".into(), source })
}

/// Of a file from its beginning, which is where it stands again.
fn digest_of(file: &File) -> io::Result<(Digest, u64)> {
    let mut file = file.try_clone()?;
    file.rewind()?;
    let (mut digester, mut length, mut buffer) = (Digester::new(), 0, vec![0; 64 << 10]);
    loop {
        let read = file.read(&mut buffer)?;
        if read == 0 {
            break;
        }
        digester.update(&buffer[..read]);
        length += read as u64;
    }
    file.rewind()?;
    Ok((digester.finish(), length))
}

/// The host does not know what the file is called here.
pub(super) fn about_module(file: impl fmt::Display, error: Error) -> Error {
    match error {
        Error::Refused(mut refusal) if !refusal.code.is_temporary() => {
            refusal.message = format!("{file}: {}", refusal.message);
            Error::Refused(refusal)
        }
        error => error,
    }
}

async fn registered(client: &Client, digest: &Digest) -> Result<ModuleRef, Error> {
    let modules = client.modules().await?;
    let found = modules.into_iter().map(|view| view.module).find(|module| module.digest == *digest);
    found.ok_or_else(|| {
        let code = RefusalCode::UnknownModule;
        let text = format!("the host has no module {digest}; push its file with `strongroom module push`");
        Error::Refused(Refusal::new(code, text))
    })
}

fn open(what: &str, path: &Path) -> Result<File, Failure> {
    let wrong = |error: io::Error| Failure::usage(format_args!("{what} {}: {error}", path.display()));
    let file = File::open(path).map_err(wrong)?;
    if file.metadata().map_err(wrong)?.is_dir() {
        return Err(Failure::usage(format_args!("{what} {} is a directory, not a file", path.display())));
    }
    Ok(file)
}

/// An input that can be read twice: once for its digest, once to send it. A pipe is copied to a temporary file first.
fn input(path: &Path, home: &Home) -> Result<File, Failure> {
    if path == Path::new("-") {
        return spool(&mut io::stdin().lock(), home);
    }
    let mut file = open("input", path)?;
    if file.metadata().is_ok_and(|metadata| metadata.is_file()) { Ok(file) } else { spool(&mut file, home) }
}

fn spool(from: &mut impl io::Read, home: &Home) -> Result<File, Failure> {
    let copied = tempfile::tempfile_in(home.tmp()).and_then(|mut file| {
        io::copy(from, &mut file)?;
        file.rewind()?;
        Ok(file)
    });
    copied.map_err(|error| {
        Failure::fault(format_args!("cannot keep the input in {}: {error}", home.tmp().display()))
    })
}

/// Splits at the last colon: a directory of the host may have one in its name, a guest's path need not.
fn mount(option: &str, text: &str, bare: BareName) -> Result<(Place, String), Failure> {
    let wrong = |problem: String| Failure::usage(format_args!("{option} {text}: {problem}"));
    let (source, path) =
        text.rsplit_once(':').ok_or_else(|| wrong("write SOURCE:GUESTDIR, such as docs:/docs".into()))?;
    if !path.starts_with('/') {
        return Err(wrong(format!("the guest's directory {path:?} must be an absolute path, such as /docs")));
    }
    // A trailing slash says the same place to a person; to a signature it would be another one.
    let path = if path.len() > 1 { path.trim_end_matches('/') } else { path };
    let is_path = source.starts_with(['/', '.']);
    if bare == BareName::Volume && !is_path {
        let source = source.trim_end_matches('/');
        let (volume, below) = source.split_once('/').unwrap_or((source, "."));
        let named = volume.parse::<Name>().map(drop);
        named.map_err(|error| wrong(format!("{error}; a directory begins with / or .")))?;
        if below != "." && below.split('/').any(|part| matches!(part, "" | "." | "..")) {
            return Err(wrong(format!(
                "{below:?} must be a plain path in the volume, such as data/june:/in"
            )));
        }
        return Ok((Place::Volume(source.to_owned()), path.to_owned()));
    }
    Ok((Place::Directory(directory(source).map_err(wrong)?), path.to_owned()))
}

/// The real path of a directory of this machine, or a sentence that says why it is none.
pub(super) fn directory(source: &str) -> Result<String, String> {
    let real = Path::new(source).canonicalize().map_err(|error| format!("{source}: {error}"))?;
    if !real.is_dir() {
        return Err(format!("{source} is not a directory"));
    }
    real.into_os_string().into_string().map_err(|_| "the directory's real path is not UTF-8".into())
}

/// `NAME=VALUE`, each name once.
pub(super) fn pairs(option: &str, texts: &[String]) -> Result<Vec<(String, String)>, Failure> {
    let mut pairs: Vec<(String, String)> = Vec::new();
    for text in texts {
        let (name, value) = text
            .split_once('=')
            .filter(|(name, _)| !name.is_empty())
            .ok_or_else(|| Failure::usage(format_args!("{option} {text}: write NAME=VALUE")))?;
        if pairs.iter().any(|(earlier, _)| earlier == name) {
            return Err(Failure::usage(format_args!("{option} {text}: {name} is given twice")));
        }
        pairs.push((name.to_owned(), value.to_owned()));
    }
    Ok(pairs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bare_name_is_a_directory_here_and_a_volume_there() {
        let dir = tempfile::tempdir().unwrap();
        let real = dir.path().canonicalize().unwrap().display().to_string();
        let read = |text: &str, bare| mount("--read", text, bare).map_err(|error| error.to_string());
        let there = (Place::Directory(real.clone()), "/docs".to_owned());
        assert_eq!(read(&format!("{real}:/docs"), BareName::Directory), Ok(there.clone()));
        assert_eq!(read(&format!("{real}/:/docs/"), BareName::Volume), Ok(there));
        let volume = |source: &str, at: &str| Ok((Place::Volume(source.to_owned()), at.to_owned()));
        assert_eq!(read("docs:/", BareName::Volume), volume("docs", "/"));
        assert_eq!(read("docs/a/b/:/in", BareName::Volume), volume("docs/a/b", "/in"));
        for wrong in ["docs/../x:/in", "docs//x:/in", "docs/./x:/in"] {
            assert!(
                read(wrong, BareName::Volume).unwrap_err().contains("must be a plain path in the volume")
            );
        }
        let missing = read("no-such-dir:/docs", BareName::Directory).unwrap_err();
        assert_eq!(missing, "--read no-such-dir:/docs: no-such-dir: No such file or directory (os error 2)");
        assert!(read("/docs", BareName::Directory).unwrap_err().contains("SOURCE:GUESTDIR"));
        assert!(read(&format!("{real}:docs"), BareName::Directory).unwrap_err().contains("absolute"));
        assert!(read("No Volume:/x", BareName::Volume).unwrap_err().contains("begins with / or ."));
    }

    #[test]
    fn pairs_have_a_name_and_stand_once() {
        let pairs = |texts: &[&str]| {
            let texts: Vec<String> = texts.iter().map(|&text| text.to_owned()).collect();
            pairs("--env", &texts).map_err(|error| error.to_string())
        };
        assert_eq!(pairs(&["A=b=c"]), Ok(vec![("A".into(), "b=c".into())]));
        assert_eq!(pairs(&["A"]), Err("--env A: write NAME=VALUE".into()));
        assert_eq!(pairs(&["=b"]), Err("--env =b: write NAME=VALUE".into()));
        assert_eq!(pairs(&["A=1", "A=2"]), Err("--env A=2: A is given twice".into()));
    }
}
