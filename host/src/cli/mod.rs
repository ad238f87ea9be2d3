//! The command line: one table of commands, one file per command, one place for exit codes.
//!
//! The road of `strongroom run`: [`main`] parses the table below, `run` makes a job of the options (`task`), `local`
//! finds the directory's host or becomes it, `watch` streams what the guest writes and waits for its end, `exit`
//! turns the outcome into the exit status.
//!
//! *Owns:* words for people, JSON for programs, exit codes. *Never:* rules. What may run is decided by the host, also by
//! the one that is embedded here, which is reached over QUIC like any other.
//! *Spec:* `docs/reference/cli.md`.

mod amount;
mod audit;
mod backup;
mod bench;
mod bounds;
mod config;
mod console;
mod cosigned;
mod directory;
mod environment;
mod erase;
mod escape;
mod events;
mod exit;
mod fetch;
mod flow;
mod forwarded;
mod fsck;
mod grant;
mod init;
mod inspect;
mod job;
mod key;
mod learn;
mod local;
mod log;
mod log_level;
mod manual;
mod module;
mod notify;
mod ordered;
mod plan;
mod policy;
mod principal;
mod progress;
mod queue;
mod reach;
mod receipt;
mod reload;
mod remote;
mod repeat;
mod rights;
mod run;
mod secret;
mod serve;
mod signal;
mod socket;
mod status;
mod submit;
mod task;
mod top;
mod trust;
mod view;
mod watch;
mod witness;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{Args, Parser, Subcommand};

use crate::{compile, worker};

use console::Console;
use exit::{Exit, Failure};

/// Runs other people's WebAssembly without trusting it: signed jobs in, sandboxed runs, a log that proves what happened.
#[derive(Debug, Parser)]
#[command(name = "strongroom", version, after_help = EXIT_CODES)]
#[command(propagate_version = true, infer_long_args = false, disable_help_subcommand = true)]
struct Cli {
    #[command(flatten)]
    common: Common,
    #[command(subcommand)]
    command: Command,
}

const EXIT_CODES: &str = "\
Exit status: the guest's own 0-119 (a higher one shows as 119), 120 refused, 121 limit exceeded, 122 trapped,
123 cancelled, 124 timed out, 125 host or transport fault, 126 usage. `audit verify` and `fsck` exit with 1 when something is wrong,
`receipt` when the receipt is, `trust` when the trust file is, `grant` when the grant is.";

#[derive(Args, Clone, Debug)]
struct Common {
    /// Data directory: keys, configuration, state, audit log [default: the user's data directory]
    #[arg(long, global = true, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// Machine-readable: JSON on standard output, errors as JSON on standard error
    #[arg(long, global = true)]
    json: bool,
    /// Say more on standard error, also when it is not a terminal; twice: much more
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    verbose: u8,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Make keys and configuration; changes nothing that is there
    Init,
    /// Serve jobs until told to stop
    Serve(serve::ServeArgs),
    /// Say how the host of a directory is, where it listens, and who may use it
    Status,
    /// Show the host of a directory at work, frame after frame
    Top(top::TopArgs),
    /// Set how much the host of a directory says in its log, while it runs
    LogLevel(log_level::LogLevelArgs),
    /// Have the host of a directory read its configuration again, and say what changed
    Reload,
    /// Run a module here and now, with no set-up
    Run(Box<run::RunArgs>),
    /// Submit a job to a host that is running
    Submit(Box<submit::SubmitArgs>),
    /// Submit jobs that wait for each other, described in a file
    #[command(subcommand)]
    Flow(flow::FlowCommand),
    /// Look at jobs, their output, stop them, and run them again
    #[command(subcommand)]
    Job(job::JobCommand),
    /// Tell what happens on a host, as its log says, as it happens
    Events(events::EventsArgs),
    /// Look at queues, pause and drain them
    #[command(subcommand)]
    Queue(queue::QueueCommand),
    /// Register, list and look into modules
    #[command(subcommand)]
    Module(module::ModuleCommand),
    /// Store, list and forget secrets that jobs may ask for
    #[command(subcommand)]
    Secret(secret::SecretCommand),
    /// Replace the keys of a host and of its log, show them, follow those of others
    #[command(subcommand)]
    Key(key::KeyCommand),
    /// Check a host's configuration, and show what is in force
    #[command(subcommand)]
    Config(config::ConfigCommand),
    /// Ask a configuration what it lets whom do, without a host
    #[command(subcommand)]
    Policy(policy::PolicyCommand),
    /// Give some of your rights to another key for a while, list what was given, end it
    #[command(subcommand, name = "grant")]
    Grants(grant::GrantCommand),
    /// Add a principal of a running host, take one out, put another key in its place, list them
    #[command(subcommand)]
    Principal(principal::PrincipalCommand),
    /// Fetch receipts of jobs, check them without a host, run their jobs again
    #[command(subcommand)]
    Receipt(receipt::ReceiptCommand),
    /// Verify, read and export the audit log
    #[command(subcommand)]
    Audit(audit::AuditCommand),
    /// Make, sign, check and install the file that says who operates a host
    #[command(subcommand)]
    Trust(trust::TrustCommand),
    /// Cosign the checkpoints of other hosts' logs, so that they cannot show two histories
    Witness(witness::WitnessArgs),
    /// Check everything in a data directory that no host serves, and say how to mend it
    Fsck(fsck::FsckArgs),
    /// Copy all that a host cannot make again, verified, while it serves
    Backup(backup::BackupArgs),
    /// Make a data directory of a backup, verified
    Restore(backup::RestoreArgs),
    /// Measure what this machine gives, and where the time of a job goes
    Bench(bench::BenchArgs),
    /// Print a script with which a shell completes commands and options
    Completions(manual::CompletionsArgs),
    /// Write the manual, a page for each command
    Man(manual::ManArgs),
}

/// Runs the command that the process was started with.
#[must_use]
pub fn main() -> ExitCode {
    let arguments: Vec<OsString> = std::env::args_os().collect();
    // Before anything else has threads or files open: not a command for people, so it stands in no table.
    if arguments.get(1).is_some_and(|argument| argument == compile::COMMAND) {
        return compile::child_main(&arguments[2..]);
    }
    if arguments.get(1).is_some_and(|argument| argument == worker::COMMAND) {
        return worker::child_main();
    }
    let cli = match Cli::try_parse_from(&arguments) {
        Ok(cli) => cli,
        Err(error) => return not_parsed(&error, &arguments).into(),
    };
    let console = Console::new(cli.common.json, cli.common.verbose);
    match dispatch(cli, &arguments, &console) {
        Ok(exit) => exit.into(),
        Err(failure) => {
            console.fail(&failure);
            failure.exit.into()
        }
    }
}

fn dispatch(cli: Cli, arguments: &[OsString], console: &Console) -> Result<Exit, Failure> {
    let Cli { common, command } = cli;
    match command {
        Command::Init => init::init(&common, console),
        Command::Serve(args) => serve::serve(&common, &args, console),
        Command::Status => status::status(&common, console),
        Command::Top(args) => top::top(&common, &args, console),
        Command::LogLevel(args) => log_level::log_level(&common, &args, console),
        Command::Reload => reload::reload(&common, console),
        Command::Run(args) => run::run(&common, *args, arguments, console),
        Command::Submit(args) => submit::submit(&common, *args, console),
        Command::Flow(command) => flow::flow(&common, command, console),
        Command::Job(command) => job::job(&common, command, console),
        Command::Events(args) => events::events(&common, &args, console),
        Command::Queue(command) => queue::queue(&common, command, console),
        Command::Module(command) => module::module(&common, command, console),
        Command::Secret(command) => secret::secret(&common, command, console),
        Command::Key(command) => key::key(&common, command, console),
        Command::Config(command) => config::config(&common, &command, console),
        Command::Policy(command) => policy::policy(&common, command, console),
        Command::Grants(command) => grant::grant(&common, command, console),
        Command::Principal(command) => principal::principal(&common, command, console),
        Command::Receipt(command) => receipt::receipt(&common, command, console),
        Command::Audit(command) => audit::audit(&common, command, console),
        Command::Trust(command) => trust::trust(&common, &command, console),
        Command::Witness(args) => witness::witness(&common, &args, console),
        Command::Fsck(args) => fsck::fsck(&common, &args, console),
        Command::Backup(args) => backup::backup(&common, &args, console),
        Command::Restore(args) => backup::restore(&common, &args, console),
        Command::Bench(args) => bench::bench(&common, &args, console),
        Command::Completions(args) => manual::completions(&mut table(), &args, console),
        Command::Man(args) => manual::man(table(), &args, console),
    }
}

/// The table above, for who describes it.
fn table() -> clap::Command {
    use clap::CommandFactory as _;
    Cli::command()
}

/// Help and version are asked for and go to standard output; everything else is an error of usage.
fn not_parsed(error: &clap::Error, arguments: &[OsString]) -> Exit {
    if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) {
        // Nobody is there to be told when standard output is closed.
        let _ = error.print();
        return Exit::Status(0);
    }
    let ours = arguments.iter().take_while(|argument| *argument != "--");
    if ours.into_iter().any(|argument| argument == "--json") {
        let text = error.render().to_string();
        let text = text.trim().trim_start_matches("error: ");
        Console::new(true, 0).fail(&Failure::usage(text));
    } else {
        let _ = error.print();
    }
    Exit::Usage
}

/// A runtime for commands that talk to a host.
fn with_runtime<T>(future: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    // As many threads as there are processors, whatever a variable says.
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(threads).enable_all().build();
    let runtime = runtime.map_err(|error| Failure::fault(format_args!("cannot start threads: {error}")))?;
    let result = runtime.block_on(future);
    // A thread that still reads standard input would otherwise keep the process alive.
    runtime.shutdown_background();
    result
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}
