//! From tables to a [`Config`]: each key asked for once, each rule stated once.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use strongroom_job::{Access, Digest, Limits, Name, PublicKey};

use strongroom_runtime::TlsRoots;

use super::allow;
use super::confine;
use super::forward;
use super::knobs::{self, Knob};
use super::raw::{Fault, Section, Source, Value};
use super::roles;
use super::roots;
use super::settings;
use super::sharing;
use super::telemetry;
use super::witnesses;
use super::{Bounds, Check, Config, Elsewhere, Governs, Principal, Retention, Volume};

/// Longest name of an audit log, in bytes.
const MAX_ORIGIN_BYTES: usize = 200;

pub(super) fn check(text: &[u8]) -> Result<Config, Fault> {
    let mut top = Source::of(text)?.parse()?;
    let listen = listen(&mut top)?;
    let allow_from = allow::list(&mut top, "allow_from")?;
    let log_origin = log_origin(&mut top)?;
    let mut queues = queues(&mut top)?;
    let queue_rules = sharing::queue_rules(&mut top)?;
    queues.extend(queue_rules.keys().cloned());
    let labels = sharing::labels(&mut top)?;
    let bounds = bounds(&mut top)?;
    let retention = retention(&mut top)?;
    let check = self_check(&mut top)?;
    let volumes = volumes(&mut top)?;
    let (http_roots, http_ca_file) = http_roots(&mut top)?;
    let principals = principals(&mut top, &volumes)?;
    let serve_log = witnesses::serve_log(&mut top)?;
    let serve_log_allow_from = allow::of_log(&mut top, serve_log)?;
    let admin = allow::admin(&mut top)?;
    let (witnesses, witness_quorum) = witnesses::witnesses(&mut top)?;
    let tenants = sharing::tenants(&mut top, &principals)?;
    let forwards = forward::check(&mut top)?;
    let telemetry = telemetry::check(&mut top)?;
    let (confine, run_as) = confine::check(&mut top)?;
    let isolation = confine::isolation(&mut top)?;
    top.finish()?;
    let mut config = Config {
        listen,
        allow_from,
        log_origin,
        principals,
        volumes,
        queues,
        queue_rules,
        tenants,
        labels,
        bounds,
        retention,
        check,
        serve_log,
        serve_log_allow_from,
        admin,
        witnesses,
        witness_quorum,
        http_roots,
        http_ca_file,
        forwards,
        telemetry,
        confine,
        run_as,
        isolation,
        digest: Digest::of(text),
        governs: Governs::of(&[]),
    };
    config.governs = Governs::of(&settings::of(text, &config)?);
    Ok(config)
}

/// All other keys stay unread.
pub(super) fn elsewhere(text: &[u8]) -> Result<Elsewhere, Fault> {
    let mut top = Source::of(text)?.parse()?;
    Ok(Elsewhere { log_origin: log_origin(&mut top)?, bounds: bounds(&mut top)? })
}

fn http_roots(top: &mut Section<'_>) -> Result<(TlsRoots, Option<PathBuf>), Fault> {
    let mut section = top.section("http")?;
    let file = section.take("ca_file");
    let roots = file.as_ref().map(roots::load).transpose()?;
    let file = file.map(|file| file.text().map(PathBuf::from)).transpose()?;
    section.finish()?;
    Ok((roots.unwrap_or_default(), file))
}

fn listen(top: &mut Section<'_>) -> Result<SocketAddr, Fault> {
    let Some(value) = top.take("listen") else { return Ok(super::example::LISTEN) };
    let problem = "expected an address and a port, such as \"127.0.0.1:7433\" or \"[::1]:7433\"";
    value.text()?.parse().map_err(|_| value.fault(problem))
}

fn log_origin(top: &mut Section<'_>) -> Result<String, Fault> {
    let value = top.require("log_origin", "name the audit log, such as \"example.com/strongroom\"")?;
    let origin = value.text()?;
    // The name stands in signed notes, where a space ends it and a '+' would split it.
    let plain = !origin.is_empty() && origin.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'+');
    if !plain || origin.len() > MAX_ORIGIN_BYTES {
        return Err(
            value.fault(format_args!("use 1 to {MAX_ORIGIN_BYTES} visible ASCII characters, without '+'"))
        );
    }
    Ok(origin.to_owned())
}

fn queues(top: &mut Section<'_>) -> Result<BTreeSet<Name>, Fault> {
    let mut queues = BTreeSet::from([Name::default_name()]);
    let Some(list) = top.take("queues") else { return Ok(queues) };
    if list.is_table() {
        return Err(list.fault(
            "expected a list of names, found a table; the rules of a queue stand in [queue_rules.NAME]",
        ));
    }
    let mut seen = BTreeSet::new();
    for item in list.list()? {
        let name: Name = item.parsed()?;
        if !seen.insert(name.clone()) {
            return Err(item.fault(format_args!("queue {name} stands twice in the list")));
        }
        queues.insert(name);
    }
    Ok(queues)
}

fn bounds(top: &mut Section<'_>) -> Result<Bounds, Fault> {
    let mut section = top.section("bounds")?;
    let bounds = Bounds {
        max_running: count(&mut section, &knobs::MAX_RUNNING)?,
        max_queued: count(&mut section, &knobs::MAX_QUEUED)?,
        max_module_bytes: number(&mut section, &knobs::MAX_MODULE_BYTES)?,
        max_input_bytes: number(&mut section, &knobs::MAX_INPUT_BYTES)?,
        max_lifetime: time(&mut section, &knobs::MAX_LIFETIME_MS)?,
        clock_skew: time(&mut section, &knobs::CLOCK_SKEW_MS)?,
        max_schedule_ahead: time(&mut section, &knobs::MAX_SCHEDULE_AHEAD_MS)?,
        max_connections: count(&mut section, &knobs::MAX_CONNECTIONS)?,
        max_connections_per_key: count(&mut section, &knobs::MAX_CONNECTIONS_PER_KEY)?,
        max_streams_per_connection: count(&mut section, &knobs::MAX_STREAMS)?,
        request_timeout: time(&mut section, &knobs::REQUEST_TIMEOUT_MS)?,
        drain: time(&mut section, &knobs::DRAIN_MS)?,
        compile_memory_bytes: number(&mut section, &knobs::COMPILE_MEMORY_BYTES)?,
        compile_time: time(&mut section, &knobs::COMPILE_MS)?,
        compile_cache_bytes: number(&mut section, &knobs::COMPILE_CACHE_BYTES)?,
        disk_reserve_bytes: number(&mut section, &knobs::DISK_RESERVE_BYTES)?,
        max_workers: count(&mut section, &knobs::MAX_WORKERS)?,
        worker_idle: time(&mut section, &knobs::WORKER_IDLE_MS)?,
        max_limits: max_limits(top)?,
    };
    section.finish()?;
    Ok(bounds)
}

fn max_limits(top: &mut Section<'_>) -> Result<Limits, Fault> {
    let mut section = top.section("max_limits")?;
    let limits = Limits {
        memory_bytes: number(&mut section, &knobs::MEMORY_BYTES)?,
        fuel: optional(&mut section, &knobs::FUEL)?,
        wall_ms: number(&mut section, &knobs::WALL_MS)?,
        stdout_bytes: number(&mut section, &knobs::STDOUT_BYTES)?,
        stderr_bytes: number(&mut section, &knobs::STDERR_BYTES)?,
        cpu_ms: optional(&mut section, &knobs::CPU_MS)?,
        disk_bytes: number(&mut section, &knobs::DISK_BYTES)?,
        file_bytes: number(&mut section, &knobs::FILE_BYTES)?,
        files: count(&mut section, &knobs::FILES)?,
        handles: count(&mut section, &knobs::HANDLES)?,
        sockets: count(&mut section, &knobs::SOCKETS)?,
        http_bytes: number(&mut section, &knobs::HTTP_BYTES)?,
        instances: count(&mut section, &knobs::INSTANCES)?,
        host_buffer_bytes: number(&mut section, &knobs::HOST_BUFFER_BYTES)?,
    };
    section.finish()?;
    Ok(limits)
}

fn retention(top: &mut Section<'_>) -> Result<Retention, Fault> {
    let mut section = top.section("retention")?;
    let retention = Retention {
        keep: time(&mut section, &knobs::KEEP_MS)?,
        jobs_per_tenant: count(&mut section, &knobs::KEEP_JOBS)?,
        bytes_per_tenant: optional(&mut section, &knobs::KEEP_BYTES)?,
    };
    section.finish()?;
    Ok(retention)
}

fn self_check(top: &mut Section<'_>) -> Result<Check, Fault> {
    let mut section = top.section("check")?;
    let every = time(&mut section, &knobs::CHECK_EVERY_MS)?;
    let check = Check {
        every: (!every.is_zero()).then_some(every),
        bytes_per_second: number(&mut section, &knobs::CHECK_BYTES)?,
    };
    section.finish()?;
    Ok(check)
}

pub(super) fn optional(section: &mut Section<'_>, knob: &Knob) -> Result<Option<u64>, Fault> {
    section.take(knob.key).map(|value| value.number(&knob.range)).transpose()
}

fn number(section: &mut Section<'_>, knob: &Knob) -> Result<u64, Fault> {
    Ok(optional(section, knob)?.or(knob.default).unwrap_or(u64::MAX))
}

fn time(section: &mut Section<'_>, knob: &Knob) -> Result<Duration, Fault> {
    number(section, knob).map(Duration::from_millis)
}

/// A count that fits what holds it: the ranges of counts end far below `u32::MAX`.
pub(super) fn count<T: TryFrom<u64> + Bounded>(section: &mut Section<'_>, knob: &Knob) -> Result<T, Fault> {
    Ok(T::try_from(number(section, knob)?).unwrap_or(T::MAX))
}

/// A count that may be left out.
pub(super) fn optional_count<T: TryFrom<u64> + Bounded>(
    section: &mut Section<'_>,
    knob: &Knob,
) -> Result<Option<T>, Fault> {
    Ok(optional(section, knob)?.map(|number| T::try_from(number).unwrap_or(T::MAX)))
}

pub(super) trait Bounded {
    const MAX: Self;
}

impl Bounded for usize {
    const MAX: Self = Self::MAX;
}

impl Bounded for u32 {
    const MAX: Self = Self::MAX;
}

fn volumes(top: &mut Section<'_>) -> Result<BTreeMap<Name, Volume>, Fault> {
    let mut volumes = BTreeMap::new();
    for (key, value) in top.section("volumes")?.entries() {
        let name: Name = key.parse().map_err(|error| value.fault(error))?;
        let mut section = value.section()?;
        let path = section.require("path", "the directory that the name stands for")?;
        let access = section.take("access").map_or(Ok(Access::Read), |value| access(&value))?;
        section.finish()?;
        let path = directory(&path)?;
        volumes.insert(name, Volume { path, access });
    }
    Ok(volumes)
}

fn directory(value: &Value<'_>) -> Result<PathBuf, Fault> {
    let path = Path::new(value.text()?);
    if !path.is_absolute() {
        return Err(value.fault(format_args!("{path:?} must be an absolute path")));
    }
    let real = path.canonicalize().map_err(|error| value.fault(format_args!("{path:?}: {error}")))?;
    if !real.is_dir() {
        return Err(value.fault(format_args!("{path:?} is not a directory")));
    }
    Ok(real)
}

fn access(value: &Value<'_>) -> Result<Access, Fault> {
    match value.text()? {
        "read" => Ok(Access::Read),
        "write" => Ok(Access::ReadWrite),
        other => Err(value.fault(format_args!("expected \"read\" or \"write\", found {other:?}"))),
    }
}

fn principals(top: &mut Section<'_>, volumes: &BTreeMap<Name, Volume>) -> Result<Vec<Principal>, Fault> {
    let Some(list) = top.take("principals") else { return Ok(Vec::new()) };
    let mut names = BTreeSet::new();
    let mut keys: BTreeMap<PublicKey, Name> = BTreeMap::new();
    let mut principals = Vec::new();
    for item in list.list()? {
        let mut section = item.section()?;
        let name_value = section.require("name", "what people call this principal")?;
        let name: Name = name_value.parsed()?;
        if !names.insert(name.clone()) {
            return Err(name_value.fault(format_args!("an earlier principal is called {name} too")));
        }
        let key_value = section.require("key", "its public key, `ed25519:` and 64 hex digits")?;
        let key: PublicKey = key_value.parsed()?;
        if let Some(other) = keys.insert(key, name.clone()) {
            return Err(key_value.fault(format_args!("this is already the key of {other}")));
        }
        principals.push(principal(section, name, key, volumes)?);
    }
    Ok(principals)
}

fn principal(
    mut section: Section<'_>,
    name: Name,
    key: PublicKey,
    volumes: &BTreeMap<Name, Volume>,
) -> Result<Principal, Fault> {
    let tenant = section.take("tenant").map_or_else(|| Ok(Name::default_name()), |value| value.parsed())?;
    let any_directory = section.take("any_directory").map_or(Ok(false), |value| value.boolean())?;
    let any_network = section.take("any_network").map_or(Ok(false), |value| value.boolean())?;
    let roles = roles::roles(&mut section)?;
    let granted = granted(section.section("volumes")?, volumes)?;
    let connect = rules(&mut section, "connect")?;
    let listen = rules(&mut section, "listen")?;
    let http = rules(&mut section, "http")?;
    let secrets = rules(&mut section, "secrets")?.into_iter().collect();
    section.finish()?;
    Ok(Principal {
        name,
        key,
        tenant,
        volumes: granted,
        any_directory,
        any_network,
        connect,
        listen,
        http,
        secrets,
        roles,
        narrowed: None,
    })
}

/// A list of texts, each of them a rule that stands there once.
fn rules<T>(section: &mut Section<'_>, key: &'static str) -> Result<Vec<T>, Fault>
where
    T: std::str::FromStr<Err: std::fmt::Display> + std::fmt::Display + PartialEq,
{
    let Some(list) = section.take(key) else { return Ok(Vec::new()) };
    let mut rules = Vec::new();
    for item in list.list()? {
        let rule: T = item.parsed()?;
        if rules.contains(&rule) {
            return Err(item.fault(format_args!("{rule} stands twice in the list")));
        }
        rules.push(rule);
    }
    Ok(rules)
}

/// A grant may narrow its volume and never widen it: an author who writes more than is given must be told.
fn granted(section: Section<'_>, volumes: &BTreeMap<Name, Volume>) -> Result<BTreeMap<Name, Access>, Fault> {
    let mut granted = BTreeMap::new();
    for (key, value) in section.entries() {
        let name: Name = key.parse().map_err(|error| value.fault(error))?;
        let Some(volume) = volumes.get(&name) else {
            return Err(value.fault(format_args!("there is no volume {name}; add [volumes.{name}]")));
        };
        let access = access(&value)?;
        if access > volume.access {
            return Err(value.fault(format_args!("volume {name} itself is read-only")));
        }
        granted.insert(name, access);
    }
    Ok(granted)
}
