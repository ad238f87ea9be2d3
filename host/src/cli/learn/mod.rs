//! `strongroom run --learn`: runs a module until it is known what it needs, and prints that.
//!
//! Every round is a run of its own with what was granted so far; what the module reaches for beyond that is denied and written
//! down. On a terminal each such thing is a question, and a yes leads to another round. Nothing is granted without an answer.
//!
//! *Owns:* the rounds. *Never:* a host, a signature, a record: nothing is accepted here, so there is nothing to prove.
//! *Bound:* [`MAX_ROUNDS`].

mod ask;
mod needs;
mod trial;
mod wish;
mod words;

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::io::{self, IsTerminal as _, Write as _};
use std::path::Path;

use serde::Serialize;
use strongroom_job::{Capabilities, Digest, Input, ModuleRef, Outcome, Task};
use strongroom_runtime::CancelToken;

use self::needs::{Needs, needs};
use self::trial::{Head, Trial, Tried};
use self::wish::Kind;
use super::console::Console;
use super::escape::TerminalWriter;
use super::exit::{Exit, Failure};
use super::signal::Stop;
use super::task::Prepared;
use super::with_runtime;

/// Runs of one `--learn`, after which it asks no more.
const MAX_ROUNDS: u32 = 32;

/// What to learn from.
pub(super) struct Learn<'a> {
    /// The options, their files open.
    pub(super) task: &'a Prepared,
    /// What was typed, the program's name included.
    pub(super) typed: &'a [OsString],
    /// Where directories for one run are made.
    pub(super) tmp: &'a Path,
    pub(super) console: &'a Console,
}

/// What was learned, for programs.
#[derive(Serialize)]
#[serde(tag = "type", rename = "learned")]
struct Learned {
    rounds: u32,
    /// What `run` would exit with after the last round.
    exit: u8,
    outcome: Outcome,
    /// Options that ask for what was used and nothing else.
    options: Vec<String>,
    /// A whole command with them.
    command: String,
    /// The same for the configuration of a host.
    policy: String,
    denied: Vec<Denied>,
    /// What was given and not used.
    unused: Vec<String>,
    /// Whether everything that was used is known.
    complete: bool,
}

#[derive(Serialize)]
struct Denied {
    what: String,
    option: Option<String>,
}

impl Learn<'_> {
    pub(super) fn run(&self) -> Result<Exit, Failure> {
        let wasm = self.task.wasm()?;
        let module = ModuleRef { digest: Digest::of(&wasm), length: wasm.len() as u64 };
        let task = self.task.job(module, None).task(Input::Empty)?;
        task.check().map_err(|error| Failure::usage(format_args!("the job was not run: {error}")))?;
        let input = self.task.input()?;
        let asks = !self.console.json() && self.console.stderr_is_terminal() && io::stdin().is_terminal();
        let cancel = CancelToken::new();
        let (last, needs, rounds) = with_runtime(async {
            let mut stop = Stop::listen()?;
            let tried = async {
                let trial = Trial::new(&wasm, &task, input, self.tmp).await?;
                rounds(&trial, task, asks, self.console, &cancel).await
            };
            tokio::select! {
                done = tried => done,
                () = stop.asked() => Err(Failure::cancelled("cancelled")),
            }
        })?;
        self.tell(last, &needs, rounds)
    }

    fn tell(&self, last: Tried, needs: &Needs, rounds: u32) -> Result<Exit, Failure> {
        let outcome = crate::dispatch::translate(last.report.outcome);
        let exit = Exit::of(&outcome);
        let here = Path::new(".").canonicalize();
        let here = here.map_err(|error| Failure::fault(format_args!("no working directory: {error}")))?;
        let options = words::options(&needs.used, &here);
        let typed: Vec<String> = self.typed.iter().map(|word| word.to_string_lossy().into_owned()).collect();
        let command = words::command(&typed, &options);
        if self.console.json() {
            let denied = |wish: &wish::Wish| Denied { what: wish.words(), option: wish.option() };
            self.console.document(&Learned {
                rounds,
                exit: exit.code(),
                outcome,
                options,
                command,
                policy: words::policy(&needs.used),
                denied: needs.wishes.iter().map(denied).collect(),
                unused: needs.unused.iter().map(|it| words::unused(it, &here)).collect(),
                complete: needs.whole,
            })?;
        } else {
            self.show(&last.stdout);
            self.show(&last.stderr);
            self.console.print(words::all(needs, &outcome.to_string(), rounds, &command, &here))?;
        }
        Ok(exit)
    }

    /// The guest's words of the last round, on standard error: standard output is for what was learned.
    fn show(&self, stream: &Head) {
        let (bytes, left_out) = stream.take();
        // Words that cannot be shown are not worth failing for.
        let _ = if self.console.stderr_is_terminal() {
            let mut terminal = TerminalWriter::new(io::stderr());
            terminal.write_all(&bytes).and_then(|()| terminal.finish())
        } else {
            io::stderr().write_all(&bytes)
        };
        if left_out > 0 {
            let _ = writeln!(io::stderr(), "\n[{left_out} more bytes]");
        }
    }
}

/// Runs until nothing new is granted.
async fn rounds(
    trial: &Trial,
    mut task: Task,
    asks: bool,
    console: &Console,
    cancel: &CancelToken,
) -> Result<(Tried, Needs, u32), Failure> {
    let mut refused = BTreeSet::new();
    let mut round = 1;
    loop {
        let tried = trial.run(&task, cancel).await?;
        let needs = needs(&task.capabilities, &tried.report.reached, &look);
        if !asks || round == MAX_ROUNDS {
            return Ok((tried, needs, round));
        }
        let ended = crate::dispatch::translate(tried.report.outcome.clone());
        let (wishes, given, before) = (needs.wishes.clone(), task.capabilities.clone(), refused.clone());
        let open = wishes.iter().any(|wish| wish.can_be_given() && !before.contains(&wish.words()));
        if open {
            console.say(format_args!("round {round}: it {ended}"));
        }
        // A thread of its own waits at the terminal, so that Ctrl-C is heard meanwhile.
        let asked = tokio::task::spawn_blocking(move || questions(&wishes, given, before));
        let asked = asked.await.map_err(|error| Failure::fault(format_args!("asking failed: {error}")))?;
        let (given, no) =
            asked.map_err(|error| Failure::fault(format_args!("the terminal is gone: {error}")))?;
        refused = no;
        if given == task.capabilities {
            return Ok((tried, needs, round));
        }
        task.capabilities = given;
        task.check().map_err(|error| Failure::usage(format_args!("that is too much: {error}")))?;
        round += 1;
    }
}

/// Asks for each thing that was not refused before.
fn questions(
    wishes: &[wish::Wish],
    mut given: Capabilities,
    mut refused: BTreeSet<String>,
) -> io::Result<(Capabilities, BTreeSet<String>)> {
    let (mut answers, mut terminal) = (io::stdin().lock(), io::stderr());
    for wish in wishes.iter().filter(|wish| wish.can_be_given()) {
        let words = wish.words();
        if !refused.contains(&words) && !ask::ask(wish, &mut given, &mut answers, &mut terminal)? {
            refused.insert(words);
        }
    }
    Ok((given, refused))
}

fn look(path: &str) -> Kind {
    match std::fs::metadata(path) {
        Ok(metadata) if metadata.is_dir() => Kind::Directory,
        Ok(_) => Kind::File,
        Err(_) => Kind::Nothing,
    }
}
