//! Clients that pinned a host's key follow its statements, and nobody else's.

use std::fs;

use crate::cli_support::{Place, exit};
use crate::support::{rotate, used};

// Red without the check in `KnownHosts::follow`, and with a pin that is changed before everything was checked.
#[test]
fn a_client_follows_the_statement_and_nothing_else() {
    let place = used();
    let client = Place::new();
    client.run(&["init"]).exits(0);
    let key = fs::read_to_string(client.data().join("keys/client.pub")).unwrap();
    let config = place.data().join("strongroom.toml");
    let principal =
        format!("\n[[principals]]\nname = \"other\"\nkey = \"{}\"\ntenant = \"other\"\n", key.trim_end());
    fs::write(&config, fs::read_to_string(&config).unwrap() + &principal).unwrap();
    place.run(&["config", "check"]).exits(0);
    client.module("exit.wasm", &exit(0));

    let (old, new) = rotate(&place, "host");
    let serving = place.serve();
    let known = client.data().join("known_hosts");
    let text = format!("# mine\n{} {old}\n", serving.address);
    fs::write(&known, &text).unwrap();
    let submit = ["submit", "exit.wasm", "--wait", "--host", &serving.address];
    let said = client.run(&submit).exits(125);
    assert!(said.stderr.contains(&old) && said.stderr.contains(&new), "{said:?}");
    assert!(said.stderr.contains("strongroom key accept"), "{said:?}");

    let good = place.run(&["key", "statement", "host"]).exits(0).stdout;
    let refused = |bytes: &[u8], code: i32, words: &str| {
        let file = client.file("statement", bytes).display().to_string();
        let said = client.run(&["key", "accept", &file]).exits(code);
        assert!(said.stderr.contains(words), "{words}: {said:?}");
        assert_eq!(fs::read_to_string(&known).unwrap(), text, "known_hosts is as it was");
    };
    let stranger = used();
    rotate(&stranger, "host");
    let theirs = stranger.run(&["key", "statement", "host"]).exits(0).stdout;
    refused(&theirs, 1, "not pinned here");
    refused(&[&good[..], &theirs].concat(), 1, "statement 2 ");
    rotate(&stranger, "log");
    refused(
        &stranger.run(&["key", "statement", "log"]).exits(0).stdout,
        1,
        "none of the statements is about the key of a host",
    );
    let mut changed = good.clone();
    changed[150] ^= 1;
    refused(&changed, 126, "line 1: ");
    refused(&good[..good.len() - 1], 126, "cut off");
    refused(b"", 126, "cut off");
    client.run(&submit).exits(125);

    let accepted = client.run_with_input(&["key", "accept", "-", "--json"], &good).exits(0).json();
    let one = &accepted["accepted"][0];
    assert_eq!((one["host"].as_str(), one["new"].as_str()), (Some(&*serving.address), Some(&*new)));
    assert_eq!(fs::read_to_string(&known).unwrap(), text.replace(&old, &new));
    client.run(&submit).exits(0);
    let again = client.run_with_input(&["key", "accept", "-"], &good).exits(0);
    assert!(again.out().contains("pinned already"), "{again:?}");
    serving.stop().exits(0);
}

/// The directory's own clients need not be told.
#[test]
fn the_directorys_own_pins_follow_by_themselves() {
    let place = Place::new();
    let listen = place.run(&["init", "--json"]).exits(0).json()["listen"].as_str().unwrap().to_owned();
    let (_, new) = rotate(&place, "host");
    let known = fs::read_to_string(place.data().join("known_hosts")).unwrap();
    assert_eq!(known, format!("{listen} {new}\n"));
    // And a list that is damaged keeps nobody from rotating.
    fs::write(place.data().join("known_hosts"), "nonsense\n").unwrap();
    rotate(&place, "host");
}
