//! The command line through the real binary: what each command prints, and the exit status of each way to end.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod cli_support;

use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;

use cli_support::{CAT, GROW, LOOP, Place, TRAP, exit, print, start};
use serde_json::Value;

#[test]
fn output_is_the_guests_and_nothing_else() {
    let place = Place::new();
    let bytes = b"\x1b]0;owned\x07\x00\xff no newline at the end";
    let escaped: String = bytes.iter().map(|byte| format!("\\{byte:02x}")).collect();
    place.module("out.wasm", &print(1, &escaped, bytes.len()));
    place.module("err.wasm", &print(2, &escaped, bytes.len()));
    let said = place.run(&["run", "out.wasm"]).exits(0);
    assert_eq!((said.stdout.as_slice(), said.stderr.as_str()), (&bytes[..], ""), "byte by byte into a pipe");
    let mut command = place.command(&["run", "err.wasm"]);
    let output = command.output().unwrap();
    assert_eq!((output.stdout.as_slice(), output.stderr.as_slice()), (&b""[..], &bytes[..]));
    // Asked to talk, it talks on standard error.
    let said = place.run(&["run", "-v", "out.wasm"]).exits(0);
    assert_eq!(said.stdout, bytes);
    assert!(
        said.stderr.contains("exited with status 0") && said.stderr.contains("audit log entry"),
        "{said:?}"
    );
}

// Red with `To::Stdout` in place of `To::StdoutTerminal`.
#[test]
fn a_terminal_obeys_no_guest() {
    let place = Place::new();
    let bytes = b"\x1b]0;owned\x07 \x9b2J\tfine\n";
    let escaped: String = bytes.iter().map(|byte| format!("\\{byte:02x}")).collect();
    place.module("out.wasm", &print(1, &escaped, bytes.len()));
    place.run(&["init"]).exits(0);
    let inner = format!("{} run --dir data out.wasm", env!("CARGO_BIN_EXE_strongroom"));
    let mut script = Command::new("script");
    script.args(["-qec", &inner, "/dev/null"]).current_dir(place.path()).env("TERM", "dumb");
    let shown = match script.output() {
        Ok(output) => String::from_utf8_lossy(&output.stdout).into_owned(),
        Err(error) => panic!("this test makes a terminal with `script` of util-linux: {error}"),
    };
    assert!(shown.contains("\\x1b]0;owned\\x07 \\x9b2J\tfine\r\n"), "{shown:?}");
    assert!(!shown.contains("\x1b]0;"), "{shown:?}");
    assert!(shown.contains("exited with status 0"), "on a terminal the outcome is told: {shown:?}");
}

#[test]
fn every_way_to_end_has_its_exit_status() {
    let place = Place::new();
    for (status, shown) in [(0, 0), (1, 1), (7, 7), (119, 119), (120, 119), (125, 119), (255, 119)] {
        place.module("exit.wasm", &exit(status));
        let said = place.run(&["run", "exit.wasm"]).exits(shown);
        assert_eq!((said.out(), said.stderr.as_str()), ("", ""));
    }
    place.module("trap.wasm", TRAP);
    place.module("loop.wasm", LOOP);
    place.module("grow.wasm", GROW);
    place.module("cat.wasm", CAT);
    place.run(&["run", "trap.wasm"]).exits(122);
    place.run(&["run", "loop.wasm", "--timeout", "100ms"]).exits(124);
    place.run(&["run", "loop.wasm", "--fuel", "100000"]).exits(121);
    let said = place.run(&["run", "-v", "grow.wasm", "--memory", "1MiB"]).exits(121);
    assert!(said.stderr.contains("memory limit of 1048576"), "{said:?}");
    let said = place.run_with_input(&["run", "cat.wasm", "--input", "-", "--stdout-limit", "4B"], b"123456");
    let said = said.exits(121);
    assert_eq!(said.out(), "1234", "what was within the limit is kept");
    // The log knows the true status.
    place.module("exit.wasm", &exit(200));
    let lines = place.run(&["run", "--json", "exit.wasm"]).exits(119).lines();
    let end = lines.last().unwrap();
    assert_eq!((&end["exit"], &end["job"]["end"]["outcome"]["code"]), (&119.into(), &200.into()));
}

#[test]
fn input_arguments_variables_and_directories_reach_the_guest() {
    let place = Place::new();
    place.module("cat.wasm", CAT);
    let large: Vec<u8> = (0..3_000_000_u32).map(|number| number.to_le_bytes()[0] ^ 0x5a).collect();
    place.file("large.bin", &large);
    assert_eq!(place.run(&["run", "cat.wasm", "--input", "large.bin"]).exits(0).stdout, large);
    assert_eq!(place.run_with_input(&["run", "cat.wasm", "--input", "-"], &large).exits(0).stdout, large);
    assert_eq!(place.run_with_input(&["run", "cat.wasm"], b"not asked for").exits(0).out(), "");

    let wordcount = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/prebuilt/wordcount.wasm");
    std::fs::create_dir(place.path().join("docs")).unwrap();
    place.file("docs/a.txt", "one two\nthree\n");
    let said = place.run(&["run", wordcount, "--read", "docs:/docs", "--", "/docs"]).exits(0);
    let counts: Vec<&str> = said.out().split_whitespace().take(3).collect();
    assert_eq!(counts, ["2", "3", "14"]);
    let said = place.run(&["run", wordcount, "--", "/docs"]);
    assert_ne!(said.code, 0, "what was not given is not there: {said:?}");
}

#[test]
fn run_speaks_json_lines() {
    let place = Place::new();
    place.module("out.wasm", &print(1, "hello", 5));
    let said = place.run(&["run", "--json", "out.wasm", "--label", "team=red"]).exits(0);
    assert_eq!(said.stderr, "");
    let lines = said.lines();
    let kinds: Vec<&str> = lines.iter().map(|line| line["type"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["accepted", "output", "finished"]);
    assert_eq!((&lines[1]["stream"], &lines[1]["data"]), (&"stdout".into(), &"aGVsbG8=".into()));
    assert_eq!((&lines[2]["exit"], &lines[2]["job"]["state"]), (&0.into(), &"succeeded".into()));
    assert_eq!(lines[0]["job"], lines[2]["job"]["job"]);
}

/// What later work owns is not promised before it is there.
#[test]
fn help_names_what_there_is() {
    let place = Place::new();
    let commands = |arguments: &[&str]| -> Vec<String> {
        let help = place.run(arguments).exits(0);
        let list = help.out().split("Commands:\n").nth(1).unwrap().split("\n\n").next().unwrap().to_owned();
        let first = |line: &str| Some(line.strip_prefix("  ")?.split_once(' ')?.0.to_owned());
        list.lines().filter_map(first).filter(|word| !word.is_empty()).collect()
    };
    let all = [
        "init",
        "serve",
        "status",
        "top",
        "log-level",
        "reload",
        "run",
        "submit",
        "flow",
        "job",
        "events",
        "queue",
        "module",
        "secret",
        "key",
        "config",
        "policy",
        "grant",
        "principal",
        "receipt",
        "audit",
        "trust",
        "witness",
        "fsck",
        "backup",
        "restore",
        "bench",
        "completions",
        "man",
    ];
    assert_eq!(commands(&["--help"]), all);
    assert_eq!(commands(&["grant", "--help"]), ["new", "show", "add", "list", "revoke"]);
    assert_eq!(commands(&["principal", "--help"]), ["add", "revoke", "restore", "rotate", "list"]);
    assert_eq!(commands(&["receipt", "--help"]), ["get", "verify", "replay"]);
    assert_eq!(commands(&["config", "--help"]), ["check", "show", "digest"]);
    assert_eq!(commands(&["policy", "--help"]), ["check", "explain"]);
    assert_eq!(commands(&["trust", "--help"]), ["new", "sign", "show", "verify", "install"]);
    assert_eq!(commands(&["key", "--help"]), ["rotate", "show", "statement", "accept"]);
    assert_eq!(
        commands(&["job", "--help"]),
        ["list", "show", "logs", "result", "fetch", "cancel", "retry", "erase"]
    );
    assert_eq!(commands(&["flow", "--help"]), ["submit"]);
    assert_eq!(commands(&["queue", "--help"]), ["list", "pause", "drain", "resume"]);
    assert_eq!(commands(&["secret", "--help"]), ["set", "list", "remove"]);
    assert_eq!(commands(&["module", "--help"]), ["push", "list", "inspect"]);
    assert_eq!(commands(&["audit", "--help"]), ["verify", "show", "prove", "export", "forwarded"]);
    // A run is over when its command is: what recurs is for a host that stays.
    for (command, absents) in [("run", ["--cron", "--network"].as_slice()), ("submit", &["--network"])] {
        let help = place.run(&[command, "--help"]).exits(0);
        for absent in absents {
            let flags: BTreeSet<&str> = help.out().split_whitespace().collect();
            assert!(!flags.contains(*absent), "{command} {absent}");
            assert!(place.run(&[command, "x.wasm", absent, "1"]).exits(126).stderr.contains(absent));
        }
    }
    assert!(!place.data().exists(), "help makes nothing");
}

#[test]
fn the_reference_names_every_option() {
    let reference = include_str!("../../docs/reference/cli.md");
    let place = Place::new();
    let commands: [&[&str]; 29] = [
        &[],
        &["bench"],
        &["init"],
        &["serve"],
        &["run"],
        &["submit"],
        &["job", "list"],
        &["job", "show"],
        &["job", "logs"],
        &["job", "fetch"],
        &["job", "cancel"],
        &["job", "result"],
        &["job", "retry"],
        &["flow", "submit"],
        &["queue", "list"],
        &["queue", "pause"],
        &["queue", "drain"],
        &["queue", "resume"],
        &["secret", "set"],
        &["secret", "list"],
        &["secret", "remove"],
        &["module", "push"],
        &["module", "list"],
        &["module", "inspect"],
        &["audit", "verify"],
        &["audit", "show"],
        &["audit", "prove"],
        &["audit", "export"],
        &["witness"],
    ];
    for command in commands {
        let mut arguments = command.to_vec();
        arguments.push("--help");
        let help = Command::new(env!("CARGO_BIN_EXE_strongroom")).args(&arguments).output().unwrap();
        let help = String::from_utf8(help.stdout).unwrap();
        let title = format!("strongroom {}", command.join(" "));
        assert!(reference.contains(title.trim()), "{title}");
        for word in help.split(|c: char| !(c.is_ascii_alphanumeric() || c == '-')) {
            if word.starts_with("--") && word.len() > 2 {
                assert!(
                    reference.contains(&format!("`{word}")),
                    "{title} {word} is not in docs/reference/cli.md"
                );
            }
        }
    }
    drop(place);
}

#[test]
fn init_makes_private_keys_once() {
    let place = Place::new();
    let first = place.run(&["init", "--json"]).exits(0).json();
    let config = std::fs::read_to_string(place.data().join("strongroom.toml")).unwrap();
    for name in ["host", "log", "client"] {
        let key = place.data().join(format!("keys/{name}.key"));
        assert_eq!(key.metadata().unwrap().permissions().mode() & 0o777, 0o600, "{name}");
        let public = std::fs::read_to_string(key.with_extension("pub")).unwrap();
        assert_eq!(public.trim(), first[format!("{name}_key")].as_str().unwrap());
    }
    for dir in ["keys", "state", "audit", "blobs", "tmp"] {
        let mode = place.data().join(dir).metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o700, "{dir}");
    }
    let left: Vec<_> = std::fs::read_dir(place.data().join("keys")).unwrap().collect();
    assert_eq!(left.len(), 6, "no temporary file is left: {left:?}");
    let known = std::fs::read_to_string(place.data().join("known_hosts")).unwrap();
    assert_eq!(known, format!("127.0.0.1:7433 {}\n", first["host_key"].as_str().unwrap()));
    assert!(config.contains(first["client_key"].as_str().unwrap()));

    assert_eq!(place.run(&["init", "--json"]).exits(0).json(), first);
    assert_eq!(std::fs::read_to_string(place.data().join("strongroom.toml")).unwrap(), config);
    assert_eq!(std::fs::read_to_string(place.data().join("known_hosts")).unwrap(), known);
    let words = place.run(&["init"]).exits(0);
    assert!(
        words.out().contains(first["host_key"].as_str().unwrap()) && words.out().contains("strongroom serve")
    );
}

// Red with `std::fs::copy` in place of `hard_link` in `link_new`: a later process then replaces an earlier one's key.
#[test]
fn many_first_uses_at_once_agree_on_the_keys() {
    for _ in 0..4 {
        let place = Place::new();
        let running: Vec<_> = (0..8).map(|_| start(&mut place.command(&["init", "--json"]))).collect();
        let said: BTreeSet<String> =
            running.into_iter().map(|one| one.finish().exits(0).out().to_owned()).collect();
        assert_eq!(said.len(), 1, "{said:?}");
        let made: Value = serde_json::from_str(said.first().unwrap()).unwrap();
        for name in ["host", "log", "client"] {
            let public = std::fs::read_to_string(place.data().join(format!("keys/{name}.pub"))).unwrap();
            assert_eq!(public.trim(), made[format!("{name}_key")].as_str().unwrap(), "{name}");
        }
        let config = std::fs::read_to_string(place.data().join("strongroom.toml")).unwrap();
        assert!(config.contains(made["client_key"].as_str().unwrap()), "the owner's key is the one in keys/");
    }
}

#[test]
fn modules_are_pushed_listed_and_looked_into() {
    let place = Place::new();
    place.module("out.wasm", &print(1, "hello", 5));
    let digest = place.run(&["module", "push", "out.wasm"]).exits(0).out().trim().to_owned();
    let pushed = place.run(&["module", "push", "out.wasm", "--json"]).exits(0).json();
    assert_eq!(pushed["digest"], digest.as_str());
    assert!(place.run(&["module", "list"]).exits(0).out().contains(&digest));
    let list = place.run(&["module", "list", "--json"]).exits(0).json();
    assert_eq!(list["modules"][0]["module"]["digest"], digest.as_str());
    assert_eq!(place.run(&["run", &digest]).exits(0).out(), "hello", "a registered module needs no file");

    let report = place.run(&["module", "inspect", "out.wasm", "--json"]).exits(0).json();
    assert_eq!((&report["kind"], &report["digest"]), (&"core module".into(), &digest.as_str().into()));
    assert_eq!(report["imports"]["wasi_snapshot_preview1"], serde_json::json!(["fd_write"]));
    assert_eq!(report["can_use"], serde_json::json!(["streams"]));
    assert_eq!(
        (&report["refusals"], &report["exports"]),
        (&serde_json::json!([]), &serde_json::json!(["_start"]))
    );
    let words = place.run(&["module", "inspect", "out.wasm"]).exits(0);
    for part in ["core module", &digest, "fd_write", "_start", "streams"] {
        assert!(words.out().contains(part), "{part}: {words:?}");
    }
    // A hostile name is shown, not obeyed, and the refusal names the import.
    place.module("bad.wasm", "(module (import \"env\" \"\\1b[2J\" (func)) (memory (export \"memory\") 1) (func (export \"_start\")))");
    let said = place.run(&["module", "inspect", "bad.wasm"]).exits(120);
    assert!(said.out().contains("\\x1b[2J") && said.stderr.contains("`env::\u{fffd}[2J`"), "{said:?}");
    assert!(!said.out().contains('\x1b') && !said.stderr.contains('\x1b'), "{said:?}");
}

#[test]
fn jobs_are_listed_shown_and_read_again() {
    let place = Place::new();
    place.module("out.wasm", &print(1, "hello", 5));
    place.module("err.wasm", &print(2, "sorry", 5));
    place.module("exit.wasm", &exit(3));
    let job = |module: &str| {
        let lines = place.run(&["run", "--json", module]).lines();
        lines[0]["job"].as_str().unwrap().to_owned()
    };
    let (out, err, failed) = (job("out.wasm"), job("err.wasm"), job("exit.wasm"));

    let list = place.run(&["job", "list", "--json"]).exits(0).json();
    let ids: Vec<&str> =
        list["jobs"].as_array().unwrap().iter().map(|job| job["job"].as_str().unwrap()).collect();
    assert_eq!(ids, [&failed, &err, &out], "newest first");
    let one = place.run(&["job", "list", "--json", "--limit", "1", "--before", &failed]).exits(0).json();
    assert_eq!((&one["jobs"][0]["job"], &one["more"]), (&err.as_str().into(), &true.into()));
    let list = place.run(&["job", "list", "--state", "failed"]).exits(0);
    assert!(list.out().contains(&failed) && !list.out().contains(&out), "{list:?}");
    place.run(&["job", "list", "--state", "happy"]).exits(126);

    let shown = place.run(&["job", "show", "--json", &failed]).exits(0).json();
    assert_eq!((&shown["state"], &shown["end"]["outcome"]["code"]), (&"failed".into(), &3.into()));
    assert!(shown["accepted"].as_str().unwrap().ends_with('Z'));
    assert!(place.run(&["job", "show", &failed]).exits(0).out().contains("exited with status 3"));

    let logs = place.run(&["job", "logs", &err]).exits(0);
    assert_eq!((logs.out(), logs.stderr.as_str()), ("", "sorry"));
    assert_eq!(place.run(&["job", "logs", "-f", &out]).exits(0).out(), "hello");
    assert_eq!(place.run(&["job", "logs", "--stream", "stderr", &out]).exits(0).out(), "");
    let lines = place.run(&["job", "logs", "--json", &out]).exits(0).lines();
    assert_eq!((&lines[0]["type"], &lines[0]["data"]), (&"output".into(), &"aGVsbG8=".into()));

    let unknown = "0".repeat(32);
    for command in ["show", "logs", "cancel"] {
        let said = place.run(&["job", command, &unknown]).exits(120);
        assert!(said.stderr.contains("unknown-job"), "{said:?}");
    }
    assert!(place.run(&["job", "cancel", &out]).exits(120).stderr.contains("wrong-state"));
}

/// The budget of a job adds up, whatever the machine gives: each stage is there, and nothing is left behind.
#[test]
fn bench_says_where_the_time_of_a_job_goes() {
    let place = Place::new();
    let on = place.path().join("disk");
    std::fs::create_dir(&on).unwrap();
    let on = on.to_str().unwrap();
    let told =
        place.run(&["bench", "--json", "--seconds", "1", "--in-flight", "4", "--on", on]).exits(0).json();
    assert!(told["machine"]["fdatasync_us"].as_f64().unwrap() > 0.0, "{told}");
    let alone = &told["alone"];
    assert!(alone["jobs"].as_u64().unwrap() > 0, "{told}");
    let stages = alone["stages"].as_array().unwrap();
    // What is awaited on each job's way took some time. Red without the span of each.
    for name in [
        "sign",
        "receive",
        "verify",
        "look up",
        "admit",
        "commit",
        "instantiate",
        "run",
        "collect",
        "commit end",
    ] {
        let stage = stages.iter().find(|stage| stage["name"] == name).unwrap();
        assert!(stage["p50_us"].as_f64().unwrap() > 0.0, "{name}: {told}");
    }
    let share: f64 = stages.iter().map(|stage| stage["share"].as_f64().unwrap()).sum();
    assert!((0.99..1.01).contains(&share), "{share}: {told}");
    for part in ["singles", "batches"] {
        assert!(told[part]["jobs"].as_u64().unwrap() > 0, "{part}: {told}");
    }
    assert_eq!(std::fs::read_dir(on).unwrap().count(), 0, "it leaves nothing");
    assert!(!place.data().exists(), "and makes no data directory");
    let gone = place.run(&["bench", "--seconds", "1", "--on", "nowhere"]).exits(125);
    assert!(gone.stderr.contains("--on"), "{}", gone.stderr);
}
