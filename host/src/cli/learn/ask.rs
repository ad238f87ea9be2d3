//! The questions of `run --learn`, and what is made of the answers.
//!
//! *Never:* takes silence, the end of the input, or an answer that makes no sense for a yes.

use std::io::{self, BufRead, Read as _, Write};

use strongroom_job::Capabilities;

use super::wish::Wish;
use crate::cli::escape::line;

/// Longest answer, in bytes; what comes after it belongs to the next one.
const MAX_ANSWER: u64 = 4_096;
/// Answers to one question that make no sense, after which it counts as answered with no.
const MAX_TRIES: u32 = 3;

/// Asks whether `wish` is granted, and adds it to `to`. Answers whether it was.
///
/// # Errors
/// The terminal is gone.
pub(super) fn ask(
    wish: &Wish,
    to: &mut Capabilities,
    answers: &mut impl BufRead,
    questions: &mut impl Write,
) -> io::Result<bool> {
    writeln!(questions, "The module wants to {}.", line(&wish.words()))?;
    for _ in 0..MAX_TRIES {
        write!(questions, "  {} ", line(&question(wish)))?;
        questions.flush()?;
        let mut answer = Vec::new();
        answers.take(MAX_ANSWER).read_until(b'\n', &mut answer)?;
        let Ok(answer) = String::from_utf8(answer) else {
            writeln!(questions, "  That is not UTF-8.")?;
            continue;
        };
        let answer = answer.trim();
        if matches!(answer, "" | "n" | "N" | "no") {
            return Ok(false);
        }
        match wish.give(answer, to) {
            Ok(()) => return Ok(true),
            Err(why) => writeln!(questions, "  {}", line(&why))?,
        }
    }
    Ok(false)
}

fn question(wish: &Wish) -> String {
    let simple = |what: &str| format!("{what} (y = yes, enter = no)");
    match wish {
        Wish::Clock => simple("It got a stand-in. Let it see the real time?"),
        Wish::Randomness => simple("It got a stand-in. Give it real ones?"),
        Wish::Change { mount, .. } => simple(&format!("It may read {mount}. Let it change what is there?")),
        Wish::Scratch => simple("Give it an empty directory of its own there, gone afterwards?"),
        Wish::Connect(_) | Wish::Listen(_) => simple("Let it?"),
        Wish::Lookup { name } => {
            format!("To which port of {name} may it connect? (443, 8000-8999, * = any, enter = no)")
        }
        Wish::Http { .. } => {
            "Let it? (y = whatever the path, /v1 = that path and what is below, enter = no)".to_owned()
        }
        Wish::Directory { at, suggestion, write, .. } => {
            let which = if *write { "see and change" } else { "see" };
            let hint = match suggestion {
                Some(suggestion) => format!("y = {suggestion}, or another path"),
                None => "a path".to_owned(),
            };
            format!("Which directory of yours shall it {which} at {at}? ({hint}, enter = none)")
        }
        // Never asked.
        Wish::Secret { .. } | Wish::Outside { .. } | Wish::Missing { .. } | Wish::Private { .. } => {
            String::new()
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use strongroom_job::{Access, MountSource};

    use super::*;

    fn asked(wish: &Wish, answers: &str) -> (bool, Capabilities, String) {
        let mut to = Capabilities { clock: false, random: false, ..Capabilities::default() };
        let mut said = Vec::new();
        let yes = ask(wish, &mut to, &mut answers.as_bytes(), &mut said).unwrap();
        (yes, to, String::from_utf8(said).unwrap())
    }

    fn directory(suggestion: Option<&str>) -> Wish {
        let suggestion = suggestion.map(str::to_owned);
        Wish::Directory { at: "/docs".into(), suggestion, write: false, paths: vec!["/docs/a".into()] }
    }

    // Red with `yes` always true in `Wish::give`.
    #[test]
    fn silence_and_nonsense_are_no() {
        let wishes = [
            Wish::Clock,
            Wish::Randomness,
            Wish::Scratch,
            directory(Some(".")),
            Wish::Connect("10.0.0.5:5432".parse().unwrap()),
            Wish::Lookup { name: "a.example".into() },
            Wish::Listen("127.0.0.1:80".parse().unwrap()),
            Wish::Http { origin: "https://a.example:443".into(), methods: ["GET".to_owned()].into() },
        ];
        for wish in wishes {
            for answer in ["", "\n", "  \n", "n\n", "no\n", "\u{1b}[A\nwhat?\n:\n:\ny\ny\n"] {
                let (yes, to, said) = asked(&wish, answer);
                let nothing = Capabilities { clock: false, random: false, ..Capabilities::default() };
                assert_eq!((yes, to), (false, nothing), "{wish:?} {answer:?}: {said}");
                assert!(!said.contains('\u{1b}'), "{said:?}");
            }
        }
    }

    #[test]
    fn an_answer_gives_what_the_question_says() {
        let dir = tempfile::tempdir().unwrap();
        let real = dir.path().canonicalize().unwrap().to_str().unwrap().to_owned();
        let (yes, to, said) = asked(&directory(Some(&real)), "y\n");
        assert!(yes && said.contains(&format!("y = {real}, or another path")), "{said}");
        assert_eq!(to.mounts[0].source, MountSource::Directory(real.clone()));
        assert_eq!((to.mounts[0].path.as_str(), to.mounts[0].access), ("/docs", Access::Read));
        // A typed path, after one that is not there.
        let (yes, to, said) = asked(&directory(None), &format!("/no/such/place\ny\n{real}\n"));
        assert!(yes && said.contains("No such file") && said.contains("no such directory here"), "{said}");
        assert_eq!(to.mounts[0].source, MountSource::Directory(real));

        let (yes, to, _) = asked(&Wish::Lookup { name: "a.example".into() }, "y\n443\n");
        assert_eq!((yes, to.connect[0].to_string()), (true, "tcp://a.example:443".into()));
        let http = Wish::Http { origin: "https://a.example:443".into(), methods: ["GET".to_owned()].into() };
        assert_eq!(asked(&http, "y\n").1.http[0].to_string(), "GET https://a.example:443/");
        assert_eq!(asked(&http, "v1\n/v1\n").1.http[0].to_string(), "GET https://a.example:443/v1");
        let to = asked(&Wish::Connect("udp://10.0.0.5:53".parse().unwrap()), "yes\n").1;
        assert_eq!(to.connect[0].to_string(), "udp://10.0.0.5:53");
        assert!(asked(&Wish::Clock, "y\n").1.clock && asked(&Wish::Randomness, "y\n").1.random);
        assert!(asked(&Wish::Scratch, "y\n").1.scratch);
    }

    #[test]
    fn an_endless_answer_costs_little() {
        let mut endless = io::BufReader::new(io::repeat(b'a'));
        let mut to = Capabilities::default();
        let mut said = Vec::new();
        assert!(!ask(&directory(None), &mut to, &mut endless, &mut said).unwrap());
        assert!(said.len() < 4 * MAX_ANSWER as usize);
    }
}
