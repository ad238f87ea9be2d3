//! A served directory, and HTTP/1.1 by hand to its other face.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use crate::cli_support::{Place, Running, Said, start, wait_for};

/// An answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: String,
}

/// Asks over any stream, to its end. None when nothing is answered.
pub(crate) fn ask(mut stream: impl Read + Write, method: &str, path: &str) -> Option<Answer> {
    let request = format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    // Who turns us away may have closed before.
    let _ = stream.write_all(request.as_bytes());
    let mut text = Vec::new();
    let _ = stream.read_to_end(&mut text);
    let text = String::from_utf8(text).unwrap();
    if text.is_empty() {
        return None;
    }
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("{text:?}"));
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    Some(Answer { status, head: head.to_lowercase(), body: body.to_owned() })
}

pub(crate) fn socket(place: &Place) -> PathBuf {
    place.data().join("admin.sock")
}

pub(crate) fn get(socket: &Path, path: &str) -> Answer {
    ask(UnixStream::connect(socket).unwrap(), "GET", path).expect("an answer")
}

pub(crate) fn get_tcp(address: SocketAddr, path: &str) -> Option<Answer> {
    ask(TcpStream::connect(address).unwrap(), "GET", path)
}

/// The value of a line of a scrape, by all that stands before it.
pub(crate) fn value(scrape: &str, series: &str) -> Option<f64> {
    let line = scrape.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '))?;
    Some(line.parse().unwrap())
}

/// Puts lines in front of the configuration, and a table behind it.
pub(crate) fn configure(place: &Place, top: &str, table: &str) {
    place.run(&["init"]).exits(0);
    let path = place.data().join("strongroom.toml");
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, format!("{top}\n{text}\n{table}\n")).unwrap();
}

/// A host whose first words are kept.
pub(crate) struct Host {
    running: Running,
    pub(crate) said: serde_json::Value,
}

impl Host {
    /// Serves a place, and waits until its socket is there.
    pub(crate) fn serve(place: &Place) -> Self {
        let words = place.path().join("said");
        let mut command = place.command(&["serve", "--json", "--listen", "127.0.0.1:0"]);
        // What it says goes into a file: the pipe would have to be read meanwhile.
        let shell = format!("exec \"$0\" \"$@\" > {}", words.display());
        let mut wrapped = std::process::Command::new("/bin/sh");
        wrapped.args(["-c", &shell]).arg(command.get_program()).args(command.get_args());
        wrapped.env_clear().current_dir(place.path());
        drop(std::mem::replace(&mut command, wrapped));
        std::fs::write(&words, "").unwrap();
        let mut running = start(&mut command);
        let said = wait_for("the host's first words", || {
            assert!(running.is_running(), "the host ended: {:?}", std::fs::read_to_string(&words));
            serde_json::from_str(std::fs::read_to_string(&words).unwrap().trim()).ok()
        });
        Self { running, said }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.running.pid()
    }

    pub(crate) fn address(&self, key: &str) -> SocketAddr {
        self.said[key].as_str().unwrap().parse().unwrap()
    }

    pub(crate) fn ask_to_stop(&self) {
        self.running.signal("TERM");
    }

    pub(crate) fn finish(self) -> Said {
        self.running.finish()
    }

    pub(crate) fn stop(self) {
        self.ask_to_stop();
        self.finish().exits(0);
    }

    /// As a power cut would.
    pub(crate) fn kill(self) {
        self.running.signal("KILL");
        self.running.finish();
    }
}
