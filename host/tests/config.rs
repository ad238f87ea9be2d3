//! The configuration file: what it accepts, what it refuses and with which words, and that its documents are true.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::fmt::Write as _;
use std::time::Duration;

use strongroom::config::{
    Begin, Check, Config, ForwardTo, Isolation, KNOBS, Knob, MAX_FORWARDS, QueueRules, RULES, Rate,
    Retention, Roles, Setting, TenantRules,
};
use strongroom_job::{Access, Limits, Name, PublicKey, Role};

const KEY: &str = "ed25519:3b6a27bcceb6a42d62a3a8d02a6f0d73653215771de243a63ac048a18b59da29";
const WITNESS: &str = "witness.example/w1+773a6c12+BMhTrQ8M0rYZrqks7sT9VqJNZJnVhM55JX5Fz9gTm2Cn";
const SECOND_WITNESS: &str = "witness.example/w2+2cf51e8f+BO4x+DyIpxIZpvz5vuDam8ImIFiPWhWmFFVTUE35ZJ5c";
const OTHER: &str = "ed25519:8a88e3dd7409f195fd52db2d3cba5d72ca6709bf1d94121bf3748801b40f6f5c";
const ORIGIN: &str = "log_origin = \"example.com/log\"\n";

fn key() -> PublicKey {
    KEY.parse().unwrap()
}

fn parse(text: &str) -> Config {
    Config::parse(text.as_bytes()).unwrap_or_else(|fault| panic!("{fault}\n{text}"))
}

fn fault(text: &str) -> String {
    Config::parse(text.as_bytes()).expect_err(text).to_string()
}

#[test]
fn the_example_is_the_defaults() {
    let example = parse(&Config::example(&key(), "example.com/log"));
    assert_eq!(example.listen, "127.0.0.1:7433".parse().unwrap(), "nobody outside this machine is let in");
    assert_eq!(example.log_origin, "example.com/log");
    let [owner] = example.principals.as_slice() else { panic!("{:?}", example.principals) };
    assert_eq!((owner.name.as_str(), owner.key, owner.any_directory), ("owner", key(), true));
    assert!(owner.any_network && owner.secrets.is_empty(), "any network, and no secret until it is listed");
    assert_eq!(owner.tenant, Name::default_name());
    let bare = parse(ORIGIN);
    assert!(owner.roles.has(Role::Operate), "whoever holds the host's own keys may pause its queues");
    assert_eq!((bare.bounds, bare.retention), (example.bounds, example.retention));
    assert_eq!((bare.queue_rules, bare.tenants, bare.labels), Default::default());
    assert!(example.queue_rules.is_empty() && example.tenants.is_empty() && example.labels.is_empty());
    assert_eq!((bare.queues, bare.volumes.len()), (example.queues, 0));
    assert!(bare.principals.is_empty(), "nobody may connect unless they are named");
}

#[test]
fn the_defaults_are_the_documented_ones() {
    let bounds = parse(ORIGIN).bounds;
    assert_eq!((bounds.max_running, bounds.max_queued), (64, 1_000_000));
    assert_eq!((bounds.max_module_bytes, bounds.max_input_bytes), (64 << 20, 4 << 30));
    let times = [bounds.max_lifetime, bounds.clock_skew, bounds.request_timeout, bounds.drain];
    assert_eq!(times, [86_400, 60, 10, 30].map(Duration::from_secs));
    let day = Duration::from_secs(86_400);
    assert_eq!(bounds.max_schedule_ahead, day * 366);
    let retention = Retention { keep: day * 30, jobs_per_tenant: 1_000_000, bytes_per_tenant: None };
    assert_eq!(parse(ORIGIN).retention, retention);
    assert_eq!(parse(ORIGIN).check, Check { every: Some(day), bytes_per_second: 32 << 20 });
    assert_eq!(parse(&format!("{ORIGIN}check.every_ms = 0")).check.every, None);
    assert_eq!((bounds.max_connections, bounds.max_connections_per_key), (256, 64));
    assert_eq!(bounds.max_streams_per_connection, 1024);
    let limits = Limits {
        memory_bytes: 1 << 30,
        fuel: None,
        wall_ms: 3_600_000,
        stdout_bytes: 4 << 30,
        stderr_bytes: 256 << 20,
        cpu_ms: None,
        disk_bytes: 64 << 30,
        file_bytes: 64 << 30,
        files: 1_000_000,
        handles: 1024,
        sockets: 1024,
        http_bytes: 64 << 30,
        instances: 64,
        host_buffer_bytes: 128 << 20,
    };
    assert_eq!(bounds.max_limits, limits);
}

/// A file that says `lines` of the table of the knob, and all that the knob needs. Its table begins in line 2.
fn with(knob: &Knob, lines: &str) -> String {
    let of = if RULES.iter().any(|rule| rule.section == knob.section) { ".default" } else { "" };
    let rate = if knob.key == "burst" { "\nrate = \"1/d\"".to_owned() } else { String::new() };
    let owner = format!("[[principals]]\nname = \"a\"\nkey = \"{KEY}\"\n");
    format!("{ORIGIN}[{}{of}]\n{lines}{rate}\n{owner}", knob.section)
}

/// Every knob is read: a file that sets each to the end of its range means something else than the defaults, one by one.
#[test]
fn every_knob_does_something() {
    for knob in KNOBS.iter().chain(RULES) {
        let default = parse(&with(knob, ""));
        let other =
            if knob.default == Some(*knob.range.end()) { knob.range.start() } else { knob.range.end() };
        let mut changed = parse(&with(knob, &format!("{} = {other}", knob.key)));
        assert_ne!(changed.digest, default.digest);
        (changed.digest, changed.governs) = (default.digest, default.governs);
        assert_ne!(changed, default, "{}.{}", knob.section, knob.key);
        for wrong in [knob.range.start().wrapping_sub(1), knob.range.end() + 1] {
            if knob.range.contains(&wrong) || wrong > i64::MAX as u64 {
                continue;
            }
            let text = fault(&with(knob, &format!("{} = {wrong}", knob.key)));
            let problem = format!("{}: {wrong} is out of range", knob.key);
            assert!(text.starts_with(&format!("3: {}.", knob.section)) && text.contains(&problem), "{text}");
        }
    }
}

/// A file with every kind of key in it.
fn full(path: &std::path::Path) -> String {
    format!(
        r#"
listen = "[::1]:9000"
log_origin = "example.com/log"
queues = ["night", "default"]
serve_log = "127.0.0.1:7443"
witness_quorum = 2
isolation = "process"

[queue_rules.reports]
max_running = 4
max_running_per_tenant = 3
max_running_per_group = 1
rate = "100/min"
burst = 10

[queue_rules."a.b"]

[queue_rules.night]
rate = "90/s"

[tenants.red]
weight = 3
max_running = 8
max_queued = 10_000
max_stored_bytes = 1_073_741_824
max_modules = 100
cpu_seconds_per_day = 3600

[tenants.default]

[labels]
environment = "production"
"the place]. a" = ""

[retention]
keep_ms = 60_000
keep_jobs_per_tenant = 7
keep_bytes_per_tenant = 1_048_576

[check]
every_ms = 60_000
bytes_per_second = 1_048_576

[volumes.data]
path = {path:?}
access = "write"

[volumes.papers]
path = {path:?}

[[principals]]
name = "alice"
key = "{KEY}"
tenant = "red"
volumes = {{ data = "read", papers = "read" }}
connect = ["example.com:443", "udp://10.0.0.0/8:53"]
listen = ["127.0.0.1:8080"]
http = ["https://example.com/v1"]
secrets = ["token"]
operator = true

[[principals]]
name = "bob"
key = "{OTHER}"
[principals.volumes]
data = "write"

[[witnesses]]
key = "{WITNESS}"
url = "http://[::1]:7444/w1/"

[[witnesses]]
key = "{SECOND_WITNESS}"
url = "http://witness.example"
"#
    )
}

#[test]
fn a_full_file_means_what_it_says() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().canonicalize().unwrap();
    let text = full(&path);
    let config = parse(&text);
    assert_eq!(config.listen.to_string(), "[::1]:9000");
    let queues: Vec<&str> = config.queues.iter().map(Name::as_str).collect();
    assert_eq!(queues, ["a.b", "default", "night", "reports"], "a queue with rules exists");
    let volumes: Vec<_> =
        config.volumes.iter().map(|(name, volume)| (name.as_str(), volume.access)).collect();
    assert_eq!(volumes, [("data", Access::ReadWrite), ("papers", Access::Read)]);
    let [alice, bob] = config.principals.as_slice() else { panic!("{:?}", config.principals) };
    assert_eq!((alice.tenant.as_str(), bob.tenant.as_str()), ("red", "default"));
    assert!(!alice.any_directory && !bob.any_directory);
    let granted: Vec<_> = alice.volumes.iter().map(|(name, access)| (name.as_str(), *access)).collect();
    assert_eq!(granted, [("data", Access::Read), ("papers", Access::Read)]);
    let network: Vec<String> = alice.connect.iter().map(ToString::to_string).collect();
    assert_eq!(network, ["tcp://example.com:443", "udp://10.0.0.0/8:53"]);
    assert_eq!(alice.listen, ["127.0.0.1:8080".parse().unwrap()]);
    assert_eq!(alice.http, ["https://example.com/v1".parse().unwrap()]);
    assert_eq!(alice.secrets.iter().map(Name::as_str).collect::<Vec<_>>(), ["token"]);
    assert!(!alice.any_network && !bob.any_network);
    assert_eq!((alice.roles, bob.roles), (Roles::USUAL.and(Role::Operate), Roles::USUAL));
    assert!(bob.connect.is_empty() && bob.listen.is_empty() && bob.http.is_empty() && bob.secrets.is_empty());
    assert_eq!(bob.volumes.values().copied().collect::<Vec<_>>(), [Access::ReadWrite]);
    assert_eq!(config.serve_log.unwrap().to_string(), "127.0.0.1:7443");
    let asked: Vec<String> =
        config.witnesses.iter().map(|one| format!("{} at {}", one.key.name(), one.url)).collect();
    let expected =
        ["witness.example/w1 at http://[::1]:7444/w1", "witness.example/w2 at http://witness.example"];
    assert_eq!(asked, expected);
    assert_eq!(config.witness_quorum, 2);
    assert_eq!(config.isolation, Isolation::Process);
    let none = parse(ORIGIN);
    assert_eq!(none.isolation, Isolation::InProcess);
    assert_eq!((none.serve_log, none.witnesses.len(), none.witness_quorum), (None, 0, 1));
    assert_ne!(config.digest, none.digest);
}

// Red with any two keys exchanged.
#[test]
fn what_is_shared_is_shared_as_written() {
    let dir = tempfile::tempdir().unwrap();
    let config = parse(&full(&dir.path().canonicalize().unwrap()));
    let rules: Vec<_> =
        config.queue_rules.iter().map(|(name, rules)| (name.as_str(), rules.clone())).collect();
    let per = Duration::from_secs;
    let reports = QueueRules {
        max_running: Some(4),
        max_running_per_tenant: Some(3),
        max_running_per_group: Some(1),
        rate: Some(Rate { starts: 100, per: per(60), burst: 10 }),
    };
    let night =
        QueueRules { rate: Some(Rate { starts: 90, per: per(1), burst: 90 }), ..QueueRules::default() };
    assert_eq!(rules, [("a.b", QueueRules::default()), ("night", night), ("reports", reports)]);
    let tenants: Vec<_> = config.tenants.iter().map(|(name, rules)| (name.as_str(), rules.clone())).collect();
    let red = TenantRules {
        weight: 3,
        max_running: Some(8),
        max_queued: Some(10_000),
        max_stored_bytes: Some(1 << 30),
        max_modules: Some(100),
        cpu_per_day: Some(per(3600)),
    };
    assert_eq!(tenants, [("default", TenantRules::default()), ("red", red)]);
    let labels: Vec<_> = config.labels.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    assert_eq!(labels, [("environment", "production"), ("the place]. a", "")]);
    let retention = Retention { keep: per(60), jobs_per_tenant: 7, bytes_per_tenant: Some(1 << 20) };
    assert_eq!(config.retention, retention);
}

// Red with `burst` left at 1, at which a fast rate could not be kept up.
#[test]
fn a_rate_lets_through_at_once_what_comes_in_one_second() {
    let rate = |text: &str| {
        let config = parse(&format!("{ORIGIN}[queue_rules.default]\nrate = \"{text}\"\n"));
        let Rate { starts, per, burst } = config.queue_rules[&Name::default_name()].rate.unwrap();
        (starts, per.as_secs(), burst)
    };
    assert_eq!(rate("100/s"), (100, 1, 100));
    assert_eq!(rate("100/min"), (100, 60, 2));
    assert_eq!(rate("1/h"), (1, 3600, 1));
    assert_eq!(rate("1000000/d"), (1_000_000, 86_400, 12));
    assert_eq!(rate("1000000/s"), (1_000_000, 1, 1_000_000));
}

/// The words of every refusal. `golden/config.txt` is written by hand and never by a test.
// Red for each rule of `sharing` that is taken out: tenants of nobody, rates, labels; and without `is_table`.
#[test]
fn every_fault_names_its_line_and_its_remedy() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path().canonicalize().unwrap();
    let file = dir.join("file");
    std::fs::write(&file, "").unwrap();
    let broken = dir.join("broken.pem");
    std::fs::write(&broken, "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n").unwrap();
    let volume = |lines: &str| format!("{ORIGIN}[volumes.data]\n{lines}\n");
    let principal = |lines: &str| format!("{ORIGIN}[[principals]]\nname = \"a\"\nkey = \"{KEY}\"\n{lines}\n");
    let witness = |lines: &str| format!("{ORIGIN}[[witnesses]]\nkey = \"{WITNESS}\"\n{lines}\n");
    let queue = |lines: &str| format!("{ORIGIN}[queue_rules.reports]\n{lines}\n");
    let tenant = |lines: &str| principal(&format!("[tenants.default]\n{lines}"));
    let labels = |lines: &str| format!("{ORIGIN}[labels]\n{lines}\n");
    let many: String = (0..33).fold(String::new(), |many, number| format!("{many}l{number} = \"\"\n"));
    let cases = [
        ("typo at the top", format!("{ORIGIN}\n\nlisten_adress = \"\"\n")),
        ("typo in a table", format!("{ORIGIN}[bounds]\nmax_runing = 3\n")),
        ("typo in a principal", principal("tennant = \"x\"")),
        ("typo in a volume", volume(&format!("path = {dir:?}\nacess = \"read\""))),
        ("key that is like no other", format!("{ORIGIN}[max_limits]\nzzz = 3\n")),
        ("not TOML", format!("{ORIGIN}listen = \n")),
        ("key twice", format!("{ORIGIN}{ORIGIN}")),
        ("not UTF-8", String::from("UTF8")),
        ("typo in a key that must be there", "log_orign = \"x\"\n".into()),
        ("no log name", "listen = \"127.0.0.1:1\"\n".into()),
        ("log name with a space", "log_origin = \"my log\"\n".into()),
        ("bad address", format!("listen = \"localhost\"\n{ORIGIN}")),
        ("text for a number", format!("{ORIGIN}[bounds]\nmax_running = \"64\"\n")),
        ("fraction for a number", format!("{ORIGIN}[bounds]\ndrain_ms = 1.5\n")),
        ("number for text", format!("{ORIGIN}[[principals]]\nname = 7\n")),
        ("table for a list", format!("{ORIGIN}[principals]\nname = \"a\"\n")),
        ("zero slots", format!("{ORIGIN}[bounds]\nmax_running = 0\n")),
        ("negative", format!("{ORIGIN}[bounds]\nclock_skew_ms = -1\n")),
        ("more than 64 bits", format!("{ORIGIN}[bounds]\nclock_skew_ms = 99999999999999999999\n")),
        ("queue twice", format!("queues = [\"a\",\n \"a\"]\n{ORIGIN}")),
        ("queue that is no name", format!("queues = [\"A b\"]\n{ORIGIN}")),
        ("rules among the names of queues", format!("{ORIGIN}[queues.reports]\nmax_running = 3\n")),
        ("typo in the rules of queues", format!("{ORIGIN}[queue_rule.reports]\nmax_running = 3\n")),
        ("rules of what is no name", format!("{ORIGIN}[queue_rules.\"A b\"]\n")),
        ("rules that are no table", format!("{ORIGIN}[queue_rules]\nreports = 3\n")),
        ("typo in a rule", queue("max_runing = 3")),
        ("rule in the words of another", queue("max_running_per_key = 3")),
        ("no place for a queue", queue("max_running = 0")),
        ("rate without a unit", queue("rate = \"100\"")),
        ("rate with another unit", queue("rate = \"100/minute\"")),
        ("rate with a fraction", queue("rate = \"0.5/s\"")),
        ("rate with a sign", queue("rate = \"+5/s\"")),
        ("rate of nothing", queue("rate = \"0/min\"")),
        ("rate beyond all measure", queue("rate = \"1000001/s\"")),
        ("rate of more than 32 bits", queue("rate = \"99999999999/s\"")),
        ("number for a rate", queue("rate = 100")),
        ("burst of nothing", queue("rate = \"1/s\"\nburst = 0")),
        ("burst without a rate", queue("burst = 5")),
        ("tenant whom nobody belongs to", principal("tenant = \"acme\"\n[tenants.acne]\nweight = 2")),
        ("tenant that is no name", principal("[tenants.\"A b\"]")),
        ("typo in a tenant", tenant("wieght = 2")),
        ("no weight", tenant("weight = 0")),
        ("number for a label", labels("cores = 8")),
        ("label of labels", labels("environment.name = \"production\"")),
        ("label without a name", labels("\"\" = \"x\"")),
        ("label with a line break", labels("environment = \"a\\nb\"")),
        ("label that is too long", labels(&format!("environment = \"{}\"", "x".repeat(257)))),
        ("too many labels", labels(&many)),
        ("typo in what is kept", format!("{ORIGIN}[retention]\nkeep_days = 3\n")),
        ("number for operator", principal("operator = 1")),
        ("volume that is not there", volume("path = \"/no/such/dir\"")),
        ("volume that is a file", volume(&format!("path = {file:?}"))),
        ("relative volume", volume("path = \"data\"")),
        ("volume without a path", volume("access = \"read\"")),
        ("unknown access", volume(&format!("path = {dir:?}\naccess = \"rw\""))),
        ("principal without a key", format!("{ORIGIN}[[principals]]\nname = \"a\"\n")),
        (
            "principal with half a key",
            format!("{ORIGIN}[[principals]]\nname = \"a\"\nkey = \"ed25519:00\"\n"),
        ),
        ("weak key", format!("{ORIGIN}[[principals]]\nname = \"a\"\nkey = \"ed25519:{}\"\n", "0".repeat(64))),
        ("name twice", format!("{}[[principals]]\nname = \"a\"\nkey = \"{OTHER}\"\n", principal(""))),
        ("key of two", format!("{}[[principals]]\nname = \"b\"\nkey = \"{KEY}\"\n", principal(""))),
        ("destination without a port", principal("connect = [\n  \"a.example:1\",\n  \"b.example\"]")),
        ("destination twice", principal("connect = [\"a.example:1\", \"tcp://a.example:1\"]")),
        ("listener by name", principal("listen = [\"localhost:80\"]")),
        ("HTTP rule without a scheme", principal("http = [\"example.com/v1\"]")),
        ("HTTP rule with a query", principal("http = [\"https://example.com/?a\"]")),
        ("secret that is no name", principal("secrets = [\"API_TOKEN!\"]")),
        ("secret twice", principal("secrets = [\"a\", \"a\"]")),
        ("text for a list", principal("connect = \"example.com:443\"")),
        ("number for a rule", principal("http = [443]")),
        ("typo in any_network", principal("any_netwrok = true")),
        ("certificates by a relative path", format!("{ORIGIN}[http]\nca_file = \"ca.pem\"\n")),
        ("certificates that are not there", format!("{ORIGIN}[http]\nca_file = {:?}\n", dir.join("none"))),
        ("certificates that are none", format!("{ORIGIN}[http]\nca_file = {file:?}\n")),
        ("certificates that are damaged", format!("{ORIGIN}[http]\nca_file = {broken:?}\n")),
        ("typo in http", format!("{ORIGIN}[http]\nca_flie = {file:?}\n")),
        ("log served by name", format!("serve_log = \"localhost:7443\"\n{ORIGIN}")),
        ("typo in a witness", witness("ulr = \"http://a\"")),
        ("witness without a key", format!("{ORIGIN}[[witnesses]]\nurl = \"http://a\"\n")),
        ("witness without a place", witness("")),
        ("witness with a log's key", witness("url = \"http://a\"").replacen("+BM", "+AM", 1)),
        ("witness over https", witness("url = \"https://witness.example\"")),
        ("witness with a user", witness("url = \"http://me@witness.example\"")),
        (
            "witness twice",
            format!(
                "{}[[witnesses]]\nkey = \"{WITNESS}\"\nurl = \"http://b\"\n",
                witness("url = \"http://a\"")
            ),
        ),
        ("table for witnesses", format!("{ORIGIN}[witnesses]\nkey = \"{WITNESS}\"\n")),
        ("more witnesses than there are", format!("witness_quorum = 2\n{}", witness("url = \"http://a\""))),
        ("none of the witnesses", format!("witness_quorum = 0\n{}", witness("url = \"http://a\""))),
        ("grant of an unknown volume", principal("volumes = { dat = \"read\" }")),
        (
            "grant above the volume",
            format!(
                "{}{}",
                principal("volumes = { data = \"write\" }"),
                &volume(&format!("path = {dir:?}"))[ORIGIN.len()..]
            ),
        ),
    ];
    let mut found = String::new();
    for (what, text) in &cases {
        let text =
            if text == "UTF8" { Config::parse(b"a = 1\n\xff").unwrap_err().to_string() } else { fault(text) };
        let text = text.replace(dir.to_str().unwrap(), "DIR");
        writeln!(found, "{what}\n    {text}").unwrap();
    }
    let golden = include_str!("golden/config.txt");
    assert!(found == golden, "--- found\n{found}\n--- golden/config.txt\n{golden}");
}

#[test]
fn the_file_and_the_line_stand_in_front() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("strongroom.toml");
    std::fs::write(&path, format!("{ORIGIN}\nlistn = 1\n")).unwrap();
    let text = Config::load(&path).unwrap_err().to_string();
    let expected = format!("{}:3: unknown key \"listn\": did you mean \"listen\"?", path.display());
    assert_eq!(text, expected);
    let missing = Config::load(&dir.path().join("none")).unwrap_err().to_string();
    assert!(missing.contains("none: cannot read the configuration: No such file"), "{missing}");
}

// Red without the comparison with MAX_CONFIG_BYTES.
#[test]
fn a_huge_file_is_not_read() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("strongroom.toml");
    std::fs::File::create(&path).unwrap().set_len(1 << 40).unwrap();
    let text = Config::load(&path).unwrap_err().to_string();
    assert!(text.contains("1099511627776 bytes where a configuration may have 4194304"), "{text}");
}

/// A reference that lacks a key, or names another default or range, is wrong.
#[test]
fn the_reference_has_every_knob() {
    let reference = include_str!("../../docs/reference/config.md");
    for knob in KNOBS.iter().chain(RULES) {
        let default = knob.default.map_or_else(|| "none".into(), |default| default.to_string());
        let (start, end) = knob.range.clone().into_inner();
        let row =
            format!("| `{}` | {default} | {start} to {end} | {} | {} |", knob.key, knob.meaning, knob.worst);
        assert!(reference.contains(&row), "docs/reference/config.md lacks the row\n{row}");
    }
}

#[test]
fn the_example_of_the_reference_is_valid() {
    let reference = include_str!("../../docs/reference/config.md");
    let example = reference.split("```toml\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let config = parse(&example.replace("/srv/papers", dir.path().to_str().unwrap()));
    assert_eq!(config.principals[0].tenant.as_str(), "research");
    assert_eq!(config.tenants[&"research".parse().unwrap()].weight, 3);
    assert_eq!(config.queue_rules[&"reports".parse().unwrap()].max_running, Some(4));
}

/// The file as `config show` writes it.
fn shown(text: &str) -> String {
    Config::explained(&Config::settings(text.as_bytes()).unwrap())
}

// Red with any key left out of `settings`, and with any other default there; without the `{}` of a queue with empty rules, which
// would be lost; and where a label's name is taken for that of a principal.
#[test]
fn what_is_shown_is_the_whole_configuration() {
    let dir = tempfile::tempdir().unwrap();
    let files = [
        full(&dir.path().canonicalize().unwrap()),
        ORIGIN.to_owned(),
        // Nothing but comments would be left of it.
        format!("{ORIGIN}queue_rules.reports = {{}}\n"),
        Config::example(&key(), "example.com/log"),
        format!("{ORIGIN}bounds.max_running = 0x10 # hex\n[max_limits]\nfuel = 7\n"),
    ];
    for file in files {
        let shown = shown(&file);
        let mut again = parse(&shown);
        let read = parse(&file);
        again.digest = read.digest;
        assert_eq!(again, read, "{file}\n{shown}");
        for knob in KNOBS {
            assert!(shown.contains(&format!("{}.{}", knob.section, knob.key)), "{}", knob.key);
        }
        assert!(shown.contains("http.ca_file: none"), "{shown}");
    }
}

#[test]
fn each_value_says_where_it_comes_from() {
    let text =
        format!("{ORIGIN}\n[bounds]\nmax_running = 3\n\n[[principals]]\nname = \"ab\"\nkey = \"{KEY}\"\n");
    let settings = Config::settings(text.as_bytes()).unwrap();
    let of = |key: &str| {
        let Setting { value, line, .. } = settings.iter().find(|setting| setting.key == key).unwrap();
        (value.as_deref(), *line)
    };
    assert_eq!(of("log_origin"), (Some("\"example.com/log\""), Some(1)));
    assert_eq!(of("bounds.max_running"), (Some("3"), Some(4)));
    assert_eq!(of("max_limits.fuel"), (None, None));
    assert_eq!(of("principals[0].name"), (Some("\"ab\""), Some(7)));
    assert_eq!(of("principals[0].any_directory"), (Some("false"), None));
    assert_eq!(of("listen"), (Some("\"127.0.0.1:7433\""), None));
    assert_eq!(of("retention.keep_ms"), (Some("2592000000"), None));
    assert!(Config::settings(b"nonsense = 1").is_err());
    let text = format!(
        "{ORIGIN}[queue_rules.a]\nrate = \"90/min\"\n[queue_rules.\"b.c\"]\nburst = 7\nrate = \"1/s\"\n[labels]\nx = \"y\"\n"
    );
    let settings = Config::settings(text.as_bytes()).unwrap();
    let of = |key: &str| {
        let Setting { value, line, .. } = settings.iter().find(|setting| setting.key == key).unwrap();
        (value.as_deref(), *line)
    };
    assert_eq!(of("queue_rules.a.rate"), (Some("\"90/min\""), Some(3)));
    assert_eq!(of("queue_rules.a.burst"), (Some("2"), None), "the default of a burst is that of its rate");
    assert_eq!(of("queue_rules.a.max_running"), (None, None));
    assert_eq!(of("queue_rules.\"b.c\".burst"), (Some("7"), Some(5)));
    assert_eq!(of("labels.x"), (Some("\"y\""), Some(8)));
}

/// What stands behind a `#` in the example is what a file may say: taken in, it is the whole of it, and good.
#[test]
fn the_comments_of_the_example_are_good_lines() {
    let example = Config::example(&key(), "example.com/log");
    let of = |from: &str, to: &str| {
        let rest = example.split(from).nth(1).unwrap().split(to).next().unwrap();
        let lines = rest.lines().filter_map(|line| line.strip_prefix("# "));
        lines
            .filter(|line| line.contains(" = ") || line.starts_with('['))
            .fold(String::new(), |all, line| all + line + "\n")
    };
    let rules = of("# How jobs share the host", "# Directories");
    let config = parse(&format!("{example}{rules}"));
    let reports = &config.queue_rules[&"reports".parse().unwrap()];
    assert_eq!((reports.max_running, reports.rate.unwrap().burst), (Some(4), 10));
    assert_eq!(config.tenants[&Name::default_name()].max_modules, Some(100));
    assert_eq!(config.labels["environment"], "production");
    for knob in RULES {
        assert!(
            rules.contains(&format!("{} = ", knob.key)),
            "the example lacks {}.{}",
            knob.section,
            knob.key
        );
    }
}

#[test]
fn where_the_log_goes_is_read_shown_and_refused() {
    let text = format!(
        "{ORIGIN}[[forward]]\nname = \"siem\"\nto = \"syslog+tls://logs.example.com:6514\"\n\n[[forward]]\nname = \"copy\"\n\
         to = \"file:///srv/copy.jsonl\"\nfrom = \"now\"\nrotate_bytes = 65536\nkeep = 3\n"
    );
    let config = parse(&text);
    let [siem, copy] = config.forwards.as_slice() else { panic!("{:?}", config.forwards) };
    assert_eq!((siem.name.as_str(), siem.from), ("siem", Begin::Start));
    assert_eq!(siem.to.to_string(), "syslog+tls://logs.example.com:6514");
    let ForwardTo::File(rules) = &copy.to else { panic!("{copy:?}") };
    assert_eq!((copy.from, rules.rotate_bytes, rules.keep), (Begin::Now, 65_536, Some(3)));
    let mut again = parse(&shown(&text));
    again.digest = config.digest;
    assert_eq!(again, config, "{}", shown(&text));
    assert!(parse(ORIGIN).forwards.is_empty(), "the log goes nowhere unless somebody says so");

    let line = |rest: &str| fault(&format!("{ORIGIN}[[forward]]\n{rest}"));
    for (rest, says) in [
        ("to = \"file:///x\"\n", "2: name is missing"),
        ("name = \"a\"\n", "2: to is missing"),
        ("name = \"a/b\"\nto = \"file:///x\"\n", "3: forward[0].name"),
        ("name = \"a\"\nto = \"http://x:1\"\n", "4: forward[0].to: expected syslog+tls://HOST:PORT"),
        ("name = \"a\"\nto = \"syslog+tcp://x\"\n", "and a port from 1 to 65535, usually 601"),
        ("name = \"a\"\nto = \"file://x\"\n", "an absolute path"),
        ("name = \"a\"\nto = \"file:///x\"\nform = \"now\"\n", "did you mean \"from\"?"),
        (
            "name = \"a\"\nto = \"file:///x\"\nfrom = \"end\"\n",
            "expected \"start\" or \"now\", found \"end\"",
        ),
        ("name = \"a\"\nto = \"file:///x\"\nkeep = 0\n", "0 is out of range"),
        ("name = \"a\"\nto = \"file:///x\"\nrotate_bytes = 1\n", "1 is out of range"),
        (
            "name = \"a\"\nto = \"file:///x\"\nca_file = \"/x\"\n",
            "is for destinations that begin with syslog+tls://",
        ),
        (
            "name = \"a\"\nto = \"syslog+udp://x:514\"\nkeep = 1\n",
            "is for destinations that begin with file://",
        ),
        ("name = \"a\"\nto = \"syslog+tls://x:514\"\nca_file = \"x\"\n", "must be an absolute path"),
        (
            "name = \"a\"\nto = \"file:///x\"\n[[forward]]\nname = \"a\"\nto = \"file:///y\"\n",
            "6: forward[1].name: an earlier destination is called a too",
        ),
        // Red without `is_one_file`.
        (
            "name = \"a\"\nto = \"file:///x/y\"\n[[forward]]\nname = \"b\"\nto = \"file:///x//y\"\n",
            "7: forward[1].to: a writes to this file, and each destination needs its own",
        ),
    ] {
        let fault = line(rest);
        assert!(fault.contains(says), "{rest}: {fault}");
    }
    assert!(fault(&format!("{ORIGIN}forward = 7\n")).contains("expected a list"));
    let many: String = (0..=MAX_FORWARDS)
        .map(|n| format!("[[forward]]\nname = \"a{n}\"\nto = \"file:///x{n}\"\n"))
        .collect();
    assert!(fault(&format!("{ORIGIN}{many}")).contains("at most 16 destinations"));
}

// Red without either half of the comparison of volumes in `apart_from`, and without that of files.
#[test]
fn the_data_directory_is_nobodys_volume_and_no_place_for_a_copy() {
    let dir = tempfile::tempdir().unwrap();
    let place = dir.path().canonicalize().unwrap();
    let home = place.join("home");
    for directory in ["home/keys", "beside"] {
        std::fs::create_dir_all(place.join(directory)).unwrap();
    }
    std::os::unix::fs::symlink(home.join("keys"), place.join("link")).unwrap();
    let volume = |path: &str| format!("{ORIGIN}[volumes.data]\npath = {:?}\n", place.join(path));
    let copy = |path: &str| {
        format!("{ORIGIN}[[forward]]\nname = \"copy\"\nto = \"file://{}/{path}\"\n", place.display())
    };
    for (text, says) in [
        (volume(""), "[volumes.data]: "),
        (volume("home"), "[volumes.data]: "),
        (volume("home/keys"), "[volumes.data]: "),
        (volume("link"), "[volumes.data]: "),
        (copy("home/audit.jsonl"), "[[forward]] copy: "),
        (copy("home/not/there/yet.jsonl"), "[[forward]] copy: "),
        (copy("link/host.key"), "[[forward]] copy: "),
        (copy("beside/../home/strongroom.toml"), "[[forward]] copy: "),
    ] {
        let error = parse(&text).apart_from(&home).expect_err(&text).to_string();
        assert!(error.starts_with(says) && error.contains("data directory"), "{text}: {error}");
    }
    for text in
        [volume("beside"), copy("beside/audit.jsonl"), copy("home.jsonl"), copy("nowhere/audit.jsonl")]
    {
        assert_eq!(parse(&text).apart_from(&home), Ok(()), "{text}");
    }
}
