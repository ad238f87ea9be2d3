//! Every variable of the environment that could matter is set to something evil, for a real host and a real client: nothing that a
//! configuration says is otherwise, nothing is written, read or reached elsewhere, and jobs run the same.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

#[allow(unreachable_pub, reason = "other test files are further away from it")]
#[path = "common/bomb.rs"]
mod bomb;
mod cli_support;

use std::fs;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use cli_support::{Place, Said, Serving, start, wait_for};
use serde_json::Value;
use strongroom::compile::COMMAND;

const FETCH: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/prebuilt/fetch.wasm");
/// A library that every glibc has, and that this program does not ask for.
const PRELOADED: &str = "libresolv.so.2";
/// What a compiler's process has in its environment, and nothing else.
const OF_THE_COMPILER: [&str; 3] =
    ["MALLOC_ARENA_MAX=2", "_RJEM_MALLOC_CONF=retain:false,narenas:2", "RAYON_NUM_THREADS="];

/// What an evil variable holds.
#[derive(Clone, Copy)]
enum Evil {
    /// These words.
    Words(&'static str),
    /// A file that is not there yet, in the trap.
    File,
    /// A directory of the trap.
    Directory,
    /// A place below a file, where nothing can be made.
    Nowhere,
    /// The address of a proxy, as a URL.
    Proxy,
}

use Evil::{Directory, File, Nowhere, Proxy, Words};

/// What the code, its libraries, the C library and the loader read, and what somebody might think they do.
const EVIL: &[(&str, Evil)] = &[
    // Ours, if there were any.
    ("STRONGROOM_LISTEN", Words("0.0.0.0:4433")),
    ("STRONGROOM_DIR", Directory),
    ("STRONGROOM_CONFIG", File),
    ("STRONGROOM_AS_ROOT", Words("true")),
    ("STRONGROOM_CONFINE", Words("off")),
    ("STRONGROOM_LOG", Words("trace")),
    ("STRONGROOM_HOST_KEY", Words("ed25519:AAAA")),
    ("STRONGROOM_SYSTEMD", Words("1")),
    // Where things lie.
    ("HOME", Directory),
    ("XDG_DATA_HOME", Directory),
    ("XDG_CONFIG_HOME", Directory),
    ("XDG_CACHE_HOME", Directory),
    ("XDG_STATE_HOME", Directory),
    ("XDG_RUNTIME_DIR", Directory),
    ("STATE_DIRECTORY", Directory),
    ("RUNTIME_DIRECTORY", Directory),
    ("CACHE_DIRECTORY", Directory),
    ("LOGS_DIRECTORY", Directory),
    ("CONFIGURATION_DIRECTORY", Directory),
    ("CREDENTIALS_DIRECTORY", Directory),
    ("TMPDIR", Nowhere),
    ("TMP", Nowhere),
    ("TEMP", Nowhere),
    ("PWD", Words("/nowhere")),
    ("PATH", Directory),
    ("SHELL", Words("/bin/false")),
    ("CARGO_TARGET_DIR", Directory),
    // Who listens and who is told.
    ("NOTIFY_SOCKET", Words("@nobody-listens-here")),
    ("WATCHDOG_USEC", Words("1")),
    ("WATCHDOG_PID", Words("1")),
    ("LISTEN_PID", Words("1")),
    ("LISTEN_FDS", Words("9")),
    ("LISTEN_FDNAMES", Words("jobs:admin")),
    // Keys and peers.
    ("SSLKEYLOGFILE", File),
    ("SSL_CERT_FILE", File),
    ("SSL_CERT_DIR", Directory),
    ("OPENSSL_CONF", File),
    ("HTTP_PROXY", Proxy),
    ("http_proxy", Proxy),
    ("HTTPS_PROXY", Proxy),
    ("https_proxy", Proxy),
    ("ALL_PROXY", Proxy),
    ("all_proxy", Proxy),
    ("NO_PROXY", Words("nothing.invalid")),
    ("OTEL_EXPORTER_OTLP_ENDPOINT", Proxy),
    ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", Proxy),
    ("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", Proxy),
    ("OTEL_EXPORTER_OTLP_HEADERS", Words("authorization=evil")),
    ("OTEL_RESOURCE_ATTRIBUTES", Words("service.name=evil")),
    ("OTEL_TRACES_SAMPLER", Words("always_on")),
    // Names and addresses.
    ("HOSTALIASES", File),
    ("LOCALDOMAIN", Words("evil.invalid")),
    ("RES_OPTIONS", Words("attempts:9 timeout:30 ndots:15")),
    ("RESOLV_HOST_CONF", File),
    ("RESOLV_MULTI", Words("off")),
    ("RESOLV_ADD_TRIM_DOMAINS", Words("localhost")),
    // How much is told.
    ("RUST_LOG", Words("trace")),
    ("RUST_BACKTRACE", Words("full")),
    ("RUST_LIB_BACKTRACE", Words("1")),
    ("RUST_MIN_STACK", Words("1")),
    ("COLORBT_SHOW_HIDDEN", Words("1")),
    ("CLICOLOR", Words("1")),
    ("CLICOLOR_FORCE", Words("1")),
    ("FORCE_COLOR", Words("1")),
    ("COLORTERM", Words("truecolor")),
    ("TERM", Words("\u{1b}[31mevil")),
    ("COLUMNS", Words("1")),
    ("LINES", Words("0")),
    ("CI", Words("1")),
    // Threads and memory.
    ("TOKIO_WORKER_THREADS", Words("none")),
    ("TOKIO_UNSTABLE_SHARDED_BLOCKING_QUEUE", Words("1")),
    ("RAYON_NUM_THREADS", Words("100000")),
    ("RAYON_RS_NUM_CPUS", Words("100000")),
    ("GLIBC_TUNABLES", Words("glibc.malloc.perturb=170:glibc.malloc.arena_max=100000")),
    ("MALLOC_PERTURB_", Words("170")),
    ("MALLOC_CHECK_", Words("3")),
    ("MALLOC_ARENA_MAX", Words("100000")),
    ("_RJEM_MALLOC_CONF", Words("narenas:1,junk:true,dirty_decay_ms:0,tcache:false")),
    ("MALLOC_MMAP_THRESHOLD_", Words("1")),
    ("MALLOC_TOP_PAD_", Words("1073741824")),
    ("MALLOC_TRACE", File),
    ("LD_PRELOAD", Words(PRELOADED)),
    ("LD_LIBRARY_PATH", Directory),
    ("LD_BIND_NOW", Words("1")),
    // Not LD_PROFILE: with that, the loader of the first program ends it.
    // The engine, the store, tests of libraries.
    ("WASMTIME_LOG", Words("trace")),
    ("WASMTIME_BACKTRACE_DETAILS", Words("1")),
    ("WASMTIME_CACHE_DIR", Directory),
    ("WASMTIME_TEST_FORCE_MPK", Words("1")),
    ("WASMTIME_TEST_NO_HOG_MEMORY", Words("1")),
    ("CRANELIFT_FLAGS", Words("enable_heap_access_spectre_mitigation=false")),
    ("PULLEY_SAMPLING_FREQ", Words("x")),
    ("WAST_STRICT_COMPONENT_INDICES", Words("1")),
    ("SLED_CRASH_CHANCE", Words("1")),
    ("SLED_LOCK_FREE_DELAY_INTENSITY", Words("1000000")),
    ("LANDLOCK_CRATE_TEST_ABI", Words("0")),
    ("_CLAP_COMPLETE_INDEX", Words("1")),
    ("COMPLETE", Words("bash")),
    // Time, language, tables of characters.
    ("TZ", Words(":/nowhere")),
    ("TZDIR", Directory),
    ("LANG", Words("evil.EVIL")),
    ("LC_ALL", Words("evil.EVIL")),
    ("LANGUAGE", Words("evil")),
    ("LOCPATH", Directory),
    ("NLSPATH", File),
    ("GCONV_PATH", Directory),
    ("GETCONF_DIR", Directory),
    ("POSIXLY_CORRECT", Words("1")),
    // Other people's.
    ("IFS", Words("/")),
    ("BASH_ENV", File),
    ("ENV", File),
    ("EDITOR", Words("/bin/false")),
    ("PAGER", Words("/bin/false")),
    ("LLVM_PROFILE_FILE", File),
    ("ASAN_OPTIONS", Words("log_path=/nowhere")),
];

/// Where evil variables lead to.
struct Trap {
    dir: PathBuf,
    proxy: TcpListener,
}

impl Trap {
    fn new(place: &Place) -> Self {
        let dir = place.path().join("trap");
        fs::create_dir(&dir).unwrap();
        fs::write(place.path().join("a-file"), "").unwrap();
        let proxy = TcpListener::bind("127.0.0.1:0").unwrap();
        proxy.set_nonblocking(true).unwrap();
        Self { dir, proxy }
    }

    fn set(&self, command: &mut Command) {
        for (name, evil) in EVIL {
            let value = match evil {
                Words(words) => (*words).to_owned(),
                File => self.dir.join(name).display().to_string(),
                Directory => self.dir.display().to_string(),
                Nowhere => self.dir.with_file_name("a-file").join("below").display().to_string(),
                Proxy => format!("http://{}", self.proxy.local_addr().unwrap()),
            };
            command.env(name, value);
        }
    }

    /// Fails if anything was made in the trap, or anybody came to the proxy.
    fn is_empty(&self) {
        let found: Vec<_> = fs::read_dir(&self.dir).unwrap().map(|entry| entry.unwrap().path()).collect();
        assert!(found.is_empty(), "{found:?}");
        assert_eq!(self.proxy.accept().map(|(_, from)| from).unwrap_err().kind(), ErrorKind::WouldBlock);
    }
}

/// A place, and the trap that its commands are in once it is set.
struct World {
    place: Place,
    trap: Option<Trap>,
}

impl World {
    fn run(&self, arguments: &[&str]) -> Said {
        let mut command = self.place.command(arguments);
        if let Some(trap) = &self.trap {
            trap.set(&mut command);
            // What comes first in a client and how deep its stacks are is its own user's matter.
            command.env_remove("LD_PRELOAD").env_remove("RUST_MIN_STACK");
        }
        start(&mut command).finish()
    }

    fn serve(&self) -> Serving {
        let Some(trap) = &self.trap else { return self.place.serve() };
        self.place.serve_in(|command| trap.set(command))
    }
}

/// What can be seen of a host: its configuration, its open ports, and what its jobs do.
#[derive(Debug, PartialEq)]
struct Seen {
    configuration: Value,
    listeners: Vec<(String, String, String)>,
    confinement: Value,
    environment: Vec<i32>,
    fetched: String,
    outcome: Value,
}

fn seen(world: &World, serving: &Serving, origin: SocketAddr) -> Seen {
    let configuration = world.run(&["config", "show", "--json"]).exits(0).json();
    let status = world.run(&["status", "--json"]).exits(0).json();
    let word = |listener: &Value, key: &str| {
        // The port of jobs is another one each time.
        let word = listener[key].as_str().unwrap();
        word.strip_suffix(serving.address.rsplit(':').next().unwrap()).unwrap_or(word).to_owned()
    };
    let listeners = status["listeners"].as_array().unwrap().iter();
    let listeners = listeners.map(|one| (word(one, "purpose"), word(one, "address"), word(one, "who")));
    // How many variables a guest has, without any and with one of its own.
    let count = world.place.path().join("count.wasm");
    let count = count.to_str().unwrap();
    let environment = [&[][..], &["--env", "A=b"][..]]
        .map(|more| world.run(&[&["submit", count, "--wait"][..], more].concat()).code)
        .to_vec();
    let url = format!("http://{origin}/");
    let fetched = world.run(&["submit", FETCH, "--wait", "--http", &url, "--", &url]).exits(0);
    let job = world.run(&["submit", count, "--wait", "--json"]).exits(0).lines()[0]["job"]
        .as_str()
        .unwrap()
        .to_owned();
    let shown = world.run(&["job", "show", &job, "--json"]).exits(0).json();
    Seen {
        configuration,
        listeners: listeners.collect(),
        confinement: serving.said["confinement"].clone(),
        environment,
        fetched: fetched.out().to_owned(),
        outcome: shown["end"]["outcome"].clone(),
    }
}

/// A server that says "direct" to whoever asks it for `/`, until it is dropped with the test.
fn origin() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream: TcpStream = stream.unwrap();
            stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
            let (mut head, mut byte) = (Vec::new(), [0]);
            while !head.ends_with(b"\r\n\r\n") && head.len() < 4096 && stream.read(&mut byte).unwrap_or(0) > 0
            {
                head.push(byte[0]);
            }
            // To a proxy one would write the whole URL.
            let direct = if head.starts_with(b"GET / ") { "direct" } else { "by a proxy" };
            let length = direct.len();
            let answer =
                format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{direct}");
            let _ = stream.write_all(answer.as_bytes());
        }
    });
    address
}

/// Ends with the number of variables that it has.
const COUNT: &str = r#"(module
    (import "wasi_snapshot_preview1" "environ_sizes_get" (func $sizes (param i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
    (memory (export "memory") 1)
    (func (export "_start")
        (drop (call $sizes (i32.const 0) (i32.const 4)))
        (call $exit (i32.load (i32.const 0)))))"#;

fn world(origin: SocketAddr) -> World {
    let place = Place::new();
    place.module("count.wasm", COUNT);
    let key = place.run(&["init", "--json"]).exits(0).json()["client_key"].as_str().unwrap().to_owned();
    let config = format!(
        "log_origin = \"example.com/log\"\n[[principals]]\nname = \"alice\"\nkey = \"{key}\"\nhttp = [\"http://{origin}\"]\n\
         roles = [\"view\", \"submit\"]\n"
    );
    fs::write(place.data().join("strongroom.toml"), config).unwrap();
    World { place, trap: None }
}

/// What is in a file of `/proc`, where this user may read it.
fn proc(pid: u32, name: &str) -> Option<String> {
    let bytes = fs::read(Path::new("/proc").join(pid.to_string()).join(name)).ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

/// The variables that a process was started with; none where it may not be looked at.
fn variables(pid: u32) -> Option<Vec<String>> {
    Some(proc(pid, "environ")?.split('\0').filter(|one| !one.is_empty()).map(str::to_owned).collect())
}

// Red without the number of threads in `with_runtime` (clients panic), and without `leave_behind` in `serve` (the host does not start).
#[test]
fn a_host_and_its_clients_are_the_same_in_an_evil_environment() {
    let origin = origin();
    let mut world = world(origin);
    let serving = world.serve();
    let before = seen(&world, &serving, origin);
    serving.stop().exits(0);
    assert_eq!(before.environment, [0, 1]);
    assert!(before.fetched.starts_with("status 200\nbytes 6\n"), "{before:?}");
    assert_eq!(before.listeners.len(), 2, "{before:?}");

    world.trap = Some(Trap::new(&world.place));
    let serving = world.serve();
    let after = seen(&world, &serving, origin);
    assert_eq!(after, before);
    let said = serving.stop().exits(0);
    for loud in ["TRACE", "DEBUG", "\u{1b}", "panicked", "stack backtrace"] {
        assert!(!said.stderr.contains(loud), "{}", said.stderr);
    }
    world.trap.as_ref().unwrap().is_empty();
    world.run(&["audit", "verify"]).exits(0);

    // The host that is in `run`.
    let count = world.place.path().join("count.wasm");
    world.run(&["run", count.to_str().unwrap(), "--env", "A=b"]).exits(1);
    world.trap.as_ref().unwrap().is_empty();
}

// Red without `leave_behind` in `serve`, and with an `LD_` name among those that it keeps.
#[test]
fn a_host_has_only_the_documented_variables_and_no_library_that_a_variable_names() {
    let mut world = world("127.0.0.1:9".parse().unwrap());
    world.trap = Some(Trap::new(&world.place));
    let serving = world.serve();
    let (Some(variables), Some(maps)) = (variables(serving.pid()), proc(serving.pid(), "maps")) else {
        println!("NOT TESTED: only root may look at a host's process");
        return;
    };
    let documented = documented();
    for variable in &variables {
        let name = variable.split('=').next().unwrap();
        assert!(documented.iter().any(|known| known == name), "{variable}");
    }
    assert!(!maps.contains("libresolv"), "{maps}");
    assert!(maps.contains("libc.so"), "the maps are another process's: {maps}");
    serving.stop().exits(0);
}

/// A compiler that has much to do is looked at while it is there.
// Red without `env_clear` in `Process::start`, when `serve` leaves nothing behind either.
#[test]
fn a_compiler_has_three_variables_and_no_others() {
    let mut world = world("127.0.0.1:9".parse().unwrap());
    world.trap = Some(Trap::new(&world.place));
    let bomb = world.place.file("bomb.wasm", bomb::bomb(60, 200));
    let serving = world.serve();
    let host = serving.pid();
    let mut submit = start(&mut world.place.command(&["submit", bomb.to_str().unwrap()]));
    // One that is still a copy of the host has another command line.
    let is_compiler = |pid: &u32| proc(*pid, "cmdline").is_some_and(|line| line.contains(COMMAND));
    let found = wait_for("a compiler", || {
        let found = children(host).into_iter().filter(is_compiler).find_map(variables);
        found.map(Some).or_else(|| (!submit.is_running()).then_some(None))
    });
    let Some(found) = found else {
        assert!(!rustix::process::geteuid().is_root(), "no compiler was seen: {:?}", submit.finish());
        println!("NOT TESTED: only root may look at a compiler's process");
        return;
    };
    assert_eq!(found.len(), OF_THE_COMPILER.len(), "{found:?}");
    for expected in OF_THE_COMPILER {
        assert!(found.iter().any(|variable| variable.starts_with(expected)), "{found:?}");
    }
}

/// The processes that a process started.
fn children(pid: u32) -> Vec<u32> {
    let numbers =
        fs::read_dir("/proc").unwrap().filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    let of_pid = |child: &u32| {
        // After the name, which may hold anything, in parentheses: the state, then the parent.
        let stat = proc(*child, "stat")?;
        let parent = stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse::<u32>().ok()?;
        (parent == pid).then_some(())
    };
    numbers.filter(|child| of_pid(child).is_some()).collect()
}

/// The variables of the table in the reference that a service keeps.
fn documented() -> Vec<String> {
    let page = include_str!("../../docs/reference/cli.md");
    let table = page.split("## Variables of the environment").nth(1).unwrap().split("\n## ").next().unwrap();
    let rows = table.lines().filter(|line| line.starts_with("| `"));
    let mut names = Vec::new();
    for row in rows {
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        if cells[2].contains("service") {
            names.extend(cells[1].split('`').skip(1).step_by(2).map(str::to_owned));
        }
    }
    names
}

/// What is kept is what the reference says, no more and no less.
#[test]
fn the_reference_has_every_variable_that_a_service_keeps() {
    let source = include_str!("../src/cli/environment.rs");
    let kept = source.split("const KEPT").nth(1).unwrap().split("];").next().unwrap();
    let mut kept: Vec<&str> = kept.split('"').skip(1).step_by(2).collect();
    let mut documented = documented();
    kept.sort_unstable();
    documented.sort_unstable();
    assert_eq!(kept, documented);
}

/// A witness is a service, too.
// Red without `leave_behind` in `witness`.
#[test]
fn a_witness_keeps_no_more_than_a_host() {
    let place = Place::new();
    place.run(&["init"]).exits(0);
    let trap = Trap::new(&place);
    place.serve().stop().exits(0);
    let log = place.data().join("audit/log.pub");
    let mut command = Command::new(env!("CARGO_BIN_EXE_strongroom"));
    command.args(["witness", "--json", "--listen", "127.0.0.1:0", "--dir"]).arg(place.path().join("witness"));
    command.arg("--log").arg(log).current_dir(place.path()).stdin(Stdio::null()).env_clear();
    trap.set(&mut command);
    let mut running = start(&mut command);
    let public = place.path().join("witness/witness.pub");
    wait_for("the witness's key", || (public.exists() || !running.is_running()).then_some(()));
    let Some(variables) = variables(running.pid()) else { return };
    for variable in &variables {
        assert!(documented().iter().any(|known| variable.starts_with(&format!("{known}="))), "{variable}");
    }
    running.signal("TERM");
    running.finish().exits(0);
}
