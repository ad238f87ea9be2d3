//! The file that `strongroom init` writes.

use std::fmt::Write as _;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};

use strongroom_job::PublicKey;

use super::knobs::KNOBS;

/// This machine only, until its owner decides otherwise.
pub(super) const LISTEN: SocketAddr = SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::LOCALHOST, 7433));

pub(super) fn text(owner: &PublicKey, log_origin: &str) -> String {
    let mut text = format!(
        r#"# Strongroom's host reads this file at its start, and again at SIGHUP. A key that it does not know is an error.
# Every key is explained in docs/reference/config.md; a line behind a '#' shows the default.

# Where the host listens (UDP). Other machines reach it only when you name another address here.
listen = "{LISTEN}"
# From which networks; whoever asks from elsewhere gets no answer at all. Without it: from anywhere.
# allow_from = ["192.0.2.0/24", "2001:db8::/32"]

# The name of the audit log. Checkpoints are signed under it, so it stays as it is for the life of the log.
log_origin = {log_origin:?}

# Queues that jobs may wait in, besides "default".
# queues = ["default"]

# Where anybody may read the audit log over HTTP, and how many of the [[witnesses]] below must cosign what is shown first.
# serve_log = "127.0.0.1:7443"
# serve_log_allow_from = ["192.0.2.0/24"]
# witness_quorum = 1

# What to do where the kernel cannot confine the host: "try" goes on and says so, "required" does not serve.
# confine = "try"
# The user that `strongroom serve` becomes when root starts it. The data directory must belong to that user.
# run_as = "strongroom"
# Where guests run: "in-process", or each tenant's in a "process" of its own, which has its tenant's files and nothing else.
# isolation = "in-process"
"#
    );
    let mut section = "";
    for knob in KNOBS {
        if knob.section != section {
            section = knob.section;
            let _ = writeln!(text, "\n[{section}]");
        }
        let _ = match knob.default {
            Some(default) => writeln!(text, "# {} = {default}  # {}", knob.key, knob.meaning),
            None => writeln!(text, "# {} = …  # {}; no bound unless set", knob.key, knob.meaning),
        };
    }
    let _ = write!(
        text,
        r#"
# How jobs share the host; docs/queues.md tells how they take turns. A queue that stands here exists, and bounds what is written.
# [queue_rules.reports]
# max_running = 4
# max_running_per_tenant = 2
# max_running_per_group = 1
# rate = "100/min"
# burst = 10

# What a tenant gets. One that does not stand here has weight 1 and no bounds of its own.
# [tenants.default]
# weight = 1
# max_running = 8
# max_queued = 10000
# max_stored_bytes = 10737418240
# max_modules = 100
# cpu_seconds_per_day = 86400

# What this host is. A job may require a label, and is refused where it is not the same.
# [labels]
# environment = "production"

# Directories that jobs may ask for by name. "read" is the most that any job gets, unless access says "write".
# [volumes.data]
# path = "/srv/data"
# access = "read"

# Whom outgoing HTTPS of jobs trusts: the authorities of the public web, unless a PEM file says otherwise.
# [http]
# ca_file = "/etc/ssl/private-ca.pem"

# Metrics and health over plain HTTP, for reading. Without it: only over admin.sock in this directory.
# [admin]
# listen = "127.0.0.1:9433"
# allow_from = ["127.0.0.1"]

# The collector that traces and metrics go to, over OTLP. Without it: nowhere.
# [telemetry]
# to = "otlp+http://127.0.0.1:4318"
# traces = true
# metrics = true
# metrics_every_ms = 15000
# ca_file = "/etc/ssl/private-ca.pem"

# Who cosigns the audit log, so that it cannot show two histories: `strongroom witness` on somebody else's machine.
# [[witnesses]]
# key = "witness.example/w1+773a6c12+BMhTrQ8M0rYZrqks7sT9VqJNZJnVhM55JX5Fz9gTm2Cn"
# url = "http://witness.example:7444"

# Who may connect. Nobody else gets as far as sending a byte.
[[principals]]
name = "owner"
key = "{owner}"
# tenant = "default"
# This key lies beside the host's own keys, so its holder is the host's user: it may name any directory in a job.
# Never grant this to anybody else; give them volumes instead.
any_directory = true
# Likewise it may ask for any network access. Others get lists: connect, listen, http.
any_network = true
# It may pause, drain and open queues, and erase jobs, for all tenants, besides submitting and looking. Others get roles: docs/reference/roles.md.
# A trust file, once there is one, must name it, too.
operator = true
# volumes = {{ data = "read" }}
# connect = ["db.example.com:5432", "udp://192.0.2.0/24:53"]
# listen = ["127.0.0.1:8080"]
# http = ["https://example.com/data", "PUT,POST https://api.example.com/v1"]
# Secrets have no shortcut: each that a job may ask for stands here. `strongroom secret set NAME` stores one.
# secrets = ["api-token"]

# Where else the audit log goes: docs/how-to/forward-the-log.md. What cannot be sent waits in the log and keeps no job waiting.
# [[forward]]
# name = "siem"
# to = "syslog+tls://logs.example.com:6514"
# from = "start"
# ca_file = "/etc/ssl/private-ca.pem"
#
# [[forward]]
# name = "copy"
# to = "file:///var/log/strongroom.jsonl"
# rotate_bytes = 104857600
# keep = 10
"#
    );
    text
}
