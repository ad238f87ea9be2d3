//! The log over HTTP: the files of the log, as the specification names them, and nothing else of the host.

use std::net::SocketAddr;
use std::path::Path;

use crate::cli_support::{Place, exit, wait_for};
use crate::support::{Daemon, ask, exchange, get, post};

struct Served {
    place: Place,
    host: Daemon,
    address: SocketAddr,
}

fn served() -> Served {
    let place = Place::new();
    place.module("exit.wasm", &exit(0));
    place.run(&["run", "exit.wasm"]).exits(0);
    let path = place.data().join("strongroom.toml");
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, format!("serve_log = \"127.0.0.1:0\"\n{text}")).unwrap();
    let dir = place.data();
    let host = Daemon::start(&["serve", "--json", "--listen", "127.0.0.1:0", "--dir", dir.to_str().unwrap()]);
    let address = host.address("log");
    Served { place, host, address }
}

fn files(dir: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { found.extend(files(&path)) } else { found.push(path.display().to_string()) }
    }
    found
}

#[test]
fn every_file_of_the_log_is_served_as_specified() {
    let Served { place, host, address } = served();
    place.run(&["run", "exit.wasm"]).exits(0);
    let audit = place.data().join("audit");
    let size = |text: &str| text.lines().nth(1).unwrap().parse::<u64>().unwrap();
    // Nobody writes any more when all that was told is published.
    let told = place.run(&["audit", "show", "--json"]).exits(0).lines().len() as u64;
    wait_for("publication", || (size(get(address, "/checkpoint").text()) >= told).then_some(()));
    let mut tiles = 0;
    for path in files(&audit) {
        let name = path.strip_prefix(&format!("{}/", audit.display())).unwrap();
        let said = get(address, &format!("/{name}"));
        assert_eq!((said.status, said.body), (200, std::fs::read(&path).unwrap()), "{name}");
        let head = ask(address, "HEAD", &format!("/{name}"));
        let length = format!("content-length: {}", path_len(&path));
        assert!(head.status == 200 && head.body.is_empty() && head.has(&length), "{head:?}");
        let tile = name.starts_with("tile/");
        tiles += usize::from(tile);
        let (kind, cache) = if tile {
            ("content-type: application/octet-stream", "cache-control: public, max-age=31536000, immutable")
        } else {
            ("content-type: text/plain; charset=utf-8", "cache-control: public, max-age=1")
        };
        assert!(head.has(kind) && head.has(cache) && head.has("x-content-type-options: nosniff"), "{head:?}");
    }
    assert!(tiles >= 2, "a tile and a bundle");
    assert_eq!(get(address, "/checkpoint.latest").body, std::fs::read(audit.join("checkpoint")).unwrap());
    // A query does not make it another file.
    assert_eq!(get(address, "/checkpoint?x=1").status, 200);
    host.stop();
}

fn path_len(path: &str) -> u64 {
    std::fs::metadata(path).unwrap().len()
}

// Red without the test of the size in `LogFiles::show`, and with links followed in `Files::open`.
#[test]
fn nothing_else_of_the_host_can_be_reached() {
    let Served { place, host, address } = served();
    let audit = place.data().join("audit");
    // A file that is named like a tile of the log and lies beyond it, and a link where a tile belongs.
    std::fs::write(audit.join("tile/0/009"), "not signed").unwrap();
    let secret = place.data().join("keys/log.key");
    std::os::unix::fs::symlink(&secret, audit.join("tile/1")).unwrap();
    let narrow = audit.join("tile/0/000.p/1");
    let _ = std::fs::remove_file(&narrow);
    std::os::unix::fs::symlink(&secret, &narrow).unwrap();
    for path in [
        "/",
        "//checkpoint",
        "/checkpoint/",
        "/./checkpoint",
        "/tile",
        "/tile/",
        "/tile/0",
        "/tile/0/",
        "/tile/0/000.p",
        "/tile/0/009",
        "/tile/1",
        "/tile/0/000.p/1",
        "/tile/0/000.p/256",
        "/tile/0/000.p/0",
        "/tile/0/0",
        "/tile/00/000",
        "/tile/8/000",
        "/tile/entries/000.p/250",
        "/.pending",
        "/.cosigned",
        "/strongroom.toml",
        "/keys/log.key",
        "/../keys/log.key",
        "/tile/../../keys/log.key",
        "/%2e%2e/keys/log.key",
        "/tile/0/..%2f..%2f..%2fkeys%2flog.key",
        "/..\\keys\\log.key",
        "/checkpoint%00",
        "/tile/0/000%00",
        "http://x/../keys/log.key",
    ] {
        let said = get(address, path);
        assert!(matches!(said.status, 400 | 404 | 500), "{path}: {said:?}");
        assert!(!said.body.windows(6).any(|six| six == b"SECRET" || six == b"secret"), "{path}");
        assert!(!said.text().contains("not signed"), "{path}");
        let key = std::fs::read(&secret).unwrap();
        assert!(!said.body.windows(16).any(|piece| piece == &key[..16]), "{path}");
    }
    for method in ["PUT", "DELETE", "PATCH", "OPTIONS"] {
        let said = ask(address, method, "/checkpoint");
        assert!(said.status == 405 && said.has("allow: get, head"), "{method}: {said:?}");
    }
    assert_eq!(post(address, "/checkpoint", b"").status, 405);
    assert_eq!(post(address, "/checkpoint", b"x").status, 413);
    assert_eq!(exchange(address, b"\x16\x03\x01 nonsense\r\n\r\n").status, 400);
    std::fs::remove_file(audit.join("tile/0/009")).unwrap();
    std::fs::remove_file(audit.join("tile/1")).unwrap();
    std::fs::remove_file(narrow).unwrap();
    place.run(&["run", "exit.wasm"]).exits(0);
    host.stop();
}

#[test]
fn the_log_is_served_by_no_host_that_was_not_told_to() {
    let Served { place, host, address } = served();
    host.stop();
    assert!(std::net::TcpStream::connect(address).is_err(), "it ends with its host");
    // Taken: the host says so and does not start.
    let path = place.data().join("strongroom.toml");
    let text = std::fs::read_to_string(&path).unwrap();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().map(|address| (taken, address)).unwrap();
    std::fs::write(&path, text.replacen("127.0.0.1:0", &taken.1.to_string(), 1)).unwrap();
    let said = place.run(&["serve", "--listen", "127.0.0.1:0"]).exits(125);
    assert!(said.stderr.contains("cannot serve the log at"), "{said:?}");
    // A host that is there for one job does not serve it.
    place.run(&["run", "exit.wasm"]).exits(0);
    std::fs::write(&path, text.replacen("serve_log = \"127.0.0.1:0\"\n", "", 1)).unwrap();
    let dir = place.data();
    let host = Daemon::start(&["serve", "--json", "--listen", "127.0.0.1:0", "--dir", dir.to_str().unwrap()]);
    assert!(host.said["log"].is_null());
}
