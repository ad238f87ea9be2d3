//! `strongroom top`: the host of a directory, frame after frame, from its socket. It asks for what `status` and `/metrics` tell, and for
//! nothing else.

mod frame;
mod scrape;

use std::io::{self, Write as _};
use std::time::Duration;

use clap::Args;
use tokio::time::{MissedTickBehavior, interval};

use crate::clock::Stopwatch;
use crate::home::Home;

use super::console::{Console, stdout_failed};
use super::exit::{Exit, Failure};
use super::signal::Stop;
use super::socket::{ask, served};
use super::status;
use super::{Common, with_runtime};

use frame::{Frame, Look};
use scrape::Scrape;

/// Another screen without a cursor, and the first one again.
const OPEN: &str = "\x1b[?1049h\x1b[?25l";
const CLOSE: &str = "\x1b[?25h\x1b[?1049l";
/// To the top; and away with what is behind a line, and below the last one.
const HOME: &str = "\x1b[H";
const REST_OF_LINE: &str = "\x1b[K";
const REST_OF_SCREEN: &str = "\x1b[J";
/// Of a terminal that does not say how large it is.
const USUAL: (usize, usize) = (80, 24);

#[derive(Args, Debug)]
pub(super) struct TopArgs {
    /// Print one frame and end, as without a terminal and with --json
    #[arg(long)]
    once: bool,
    /// Seconds between two frames
    #[arg(long, value_name = "SECONDS", default_value_t = 2)]
    #[arg(value_parser = clap::value_parser!(u64).range(1..=3600))]
    every: u64,
}

pub(super) fn top(common: &Common, args: &TopArgs, console: &Console) -> Result<Exit, Failure> {
    let home = served(common)?;
    if args.once || console.json() || !console.stdout_is_terminal() {
        return with_runtime(async {
            let frame = look(&home, Stopwatch::start(), &mut None).await?;
            if console.json() {
                console.document(&frame)?;
            } else {
                console.print(frame.lines().join("\n"))?;
            }
            Ok(Exit::Status(0))
        });
    }
    with_runtime(async {
        let screen = Screen::open()?;
        let shown = until_stopped(&home, Duration::from_secs(args.every), &screen).await;
        drop(screen);
        shown
    })
}

async fn until_stopped(home: &Home, every: Duration, screen: &Screen) -> Result<Exit, Failure> {
    let mut stop = Stop::listen()?;
    let mut ticks = interval(every);
    // A host that answers slowly is asked less often.
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (watch, mut before) = (Stopwatch::start(), None);
    loop {
        tokio::select! {
            biased;
            () = stop.asked() => return Ok(Exit::Status(0)),
            _ = ticks.tick() => {}
        }
        let frame = tokio::select! {
            biased;
            () = stop.asked() => return Ok(Exit::Status(0)),
            frame = look(home, watch, &mut before) => frame?,
        };
        screen.show(&frame.lines())?;
    }
}

/// Looks at the host, and keeps the look for the next frame.
async fn look(home: &Home, watch: Stopwatch, before: &mut Option<Look>) -> Result<Frame, Failure> {
    let (status, page) = tokio::try_join!(status::of(home), ask(home, "/metrics"))?;
    let now = Look { scrape: Scrape::read(&String::from_utf8_lossy(&page)), at: watch.passed() };
    let frame = Frame::of(&status, &now, before.as_ref());
    *before = Some(now);
    Ok(frame)
}

/// A screen of our own, as long as this lives.
struct Screen;

impl Screen {
    fn open() -> Result<Self, Failure> {
        write(OPEN)?;
        Ok(Self)
    }

    /// Puts a frame in place of the one before, cut to what there is room for: lines that wrap would push the first ones out.
    #[expect(clippy::unused_self, reason = "there is a screen to show it on")]
    fn show(&self, lines: &[String]) -> Result<(), Failure> {
        let (columns, rows) = room();
        let mut text = String::from(HOME);
        for (index, line) in lines.iter().take(rows).enumerate() {
            if index > 0 {
                text.push('\n');
            }
            text.extend(line.chars().take(columns));
            text.push_str(REST_OF_LINE);
        }
        text.push_str(REST_OF_SCREEN);
        write(&text)
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        // A terminal that is gone needs no screen.
        let _ = write(CLOSE);
    }
}

fn room() -> (usize, usize) {
    match rustix::termios::tcgetwinsize(io::stdout()) {
        Ok(size) if size.ws_col > 0 && size.ws_row > 0 => (size.ws_col.into(), size.ws_row.into()),
        Ok(_) | Err(_) => USUAL,
    }
}

fn write(text: &str) -> Result<(), Failure> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()).map_err(|error| stdout_failed(&error))
}
