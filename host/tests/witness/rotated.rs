//! The log's key is replaced: its witness follows the statement, and cosigns for nobody else.

use std::fs;
use std::path::Path;

use crate::cli_support::{Place, exit, wait_for};
use crate::support::{Daemon, Witness, get};

fn size_of(path: &Path) -> u64 {
    let Ok(text) = fs::read_to_string(path) else { return 0 };
    text.lines().nth(1).unwrap().parse().unwrap()
}

fn witness(dir: &Path, listen: &str, logs: &[&str]) -> Witness {
    let mut all = vec!["witness", "--json", "--dir", dir.to_str().unwrap(), "--listen", listen];
    logs.iter().for_each(|log| all.extend(["--log", log]));
    Witness(Daemon::start(&all))
}

// Red without `verify_kept` in the witness's `read` (what it cosigned before is called damaged), without `signed_anew` for
// `checkpoint.cosigned` (the log is no longer good), without `KEYS` in `LogFiles::show`.
#[test]
fn a_witness_follows_the_statement_of_its_log() {
    let place = Place::new();
    place.module("exit.wasm", &exit(0));
    place.run(&["run", "exit.wasm"]).exits(0);
    let audit = place.data().join("audit");
    let old = fs::read_to_string(audit.join("log.pub")).unwrap().trim_end().to_owned();
    let dir = place.path().join("w");
    let first = Witness::start(&dir, &old);
    let (key, address) = (first.key().to_string(), first.address().to_string());
    let config = place.data().join("strongroom.toml");
    let text = format!("serve_log = \"127.0.0.1:0\"\n{}", fs::read_to_string(&config).unwrap());
    fs::write(&config, format!("{text}\n[[witnesses]]\nkey = \"{key}\"\nurl = \"http://{address}\"\n"))
        .unwrap();
    let (own, cosigned) = (audit.join("checkpoint"), audit.join("checkpoint.cosigned"));
    let all_cosigned = || (size_of(&cosigned) == size_of(&own)).then_some(());
    place.run(&["run", "exit.wasm"]).exits(0);
    all_cosigned().expect("cosigned when it stops");
    let before = size_of(&own);

    place.run(&["key", "rotate", "log"]).exits(0);
    assert_eq!((size_of(&own), size_of(&cosigned)), (before, before));
    // What the witness said of the text holds under the new key of the log, too.
    let wanted = ["audit", "verify", "--witness", &key];
    assert!(place.run(&wanted).exits(0).out().contains("cosigned all"));

    // The witness that knows nothing of it refuses, loudly, and readers go on seeing what it cosigned.
    let serve = ["serve", "--json", "--listen", "127.0.0.1:0", "--dir", place.data().to_str().unwrap()]
        .map(str::to_owned);
    let serve: Vec<&str> = serve.iter().map(String::as_str).collect();
    let host = Daemon::start(&serve);
    wait_for("publication", || (size_of(&own) > before).then_some(()));
    let shown = get(host.address("log"), "/keys");
    assert_eq!((shown.status, shown.body), (200, fs::read(audit.join("keys")).unwrap()));
    let said = host.stop();
    assert!(said.contains("not signed by") && size_of(&cosigned) == before, "{said}");
    first.0.kill();

    // With the statements of the log, as it shows them, it goes on where it was; with another log's it does not start.
    let keys = audit.join("keys").display().to_string();
    let again = witness(&dir, &address, &[&old, &keys]);
    let host = Daemon::start(&serve);
    place.run(&["run", "exit.wasm"]).exits(0);
    wait_for("cosignatures", all_cosigned);
    let said = host.stop();
    assert!(!said.contains("ALARM"), "{said}");
    assert!(size_of(&cosigned) > before && place.run(&wanted).exits(0).out().contains("cosigned all"));
    again.0.kill();
    // The new key alone is enough, once it was cosigned under that.
    let new = fs::read_to_string(audit.join("log.pub")).unwrap().trim_end().to_owned();
    witness(&dir, &address, &[&new]).0.stop();
    let refused = |logs: &[&str], words: &str| {
        let mut all = vec!["witness", "--json", "--listen", "127.0.0.1:0"];
        logs.iter().for_each(|log| all.extend(["--log", log]));
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_strongroom"));
        let said = crate::cli_support::start(command.args(all).arg("--dir").arg(&dir).env_clear()).finish();
        assert!(said.code > 1 && said.stderr.contains(words), "{words}: {said:?}");
    };
    // Nothing is wrong with the file, and an older one would let it sign a second history.
    refused(
        &[&old],
        "name the log by its statements (`strongroom key statement log`); do not put an older copy back",
    );
    refused(&[&keys], "no verifier key of that log is named");
    let other = "example.com/audit+47e2ec06+Ae1JKMYo0cLG6ukDOJBZlWEpWSc6XGP5NjbBRhSshzfR";
    refused(&[other, &keys], "no verifier key of that log is named");
}
