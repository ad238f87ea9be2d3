//! The network rules of a job, from the contract's words to the sandbox's.

use strongroom_job::{Capabilities, Destination, Hosts, HttpRule, Listener, Protocol};
use strongroom_runtime as sandbox;
use strongroom_runtime::Grant;

/// Adds every rule that the job asks for. Each was held against the principal's policy before.
pub(super) fn give(mut grant: Grant, asked: &Capabilities) -> Grant {
    for to in &asked.connect {
        grant = grant.connect(destination(to));
    }
    for Listener { protocol, address } in &asked.listen {
        grant = grant.listen(sandbox::Listener { protocol: self::protocol(*protocol), address: *address });
    }
    for rule in asked.http.iter().filter_map(http) {
        grant = grant.http(rule);
    }
    grant
}

fn protocol(protocol: Protocol) -> sandbox::Protocol {
    match protocol {
        Protocol::Tcp => sandbox::Protocol::Tcp,
        Protocol::Udp => sandbox::Protocol::Udp,
    }
}

fn destination(to: &Destination) -> sandbox::Destination {
    let hosts = match &to.hosts {
        Hosts::Name(name) => sandbox::Hosts::Name(name.clone()),
        Hosts::Net(net) => sandbox::Hosts::Net(*net),
    };
    sandbox::Destination { protocol: protocol(to.protocol), hosts, ports: to.ports.0..=to.ports.1 }
}

/// None for a rule about a whole network, which cannot be written.
fn http(rule: &HttpRule) -> Option<sandbox::HttpRule> {
    let host = match &rule.host {
        Hosts::Name(name) => sandbox::HttpHost::Name(name.clone()),
        Hosts::Net(net) if net.prefix_len() == net.max_prefix_len() => sandbox::HttpHost::Address(net.addr()),
        Hosts::Net(_) => return None,
    };
    let (methods, path) = (rule.methods.clone(), rule.path.clone());
    Some(sandbox::HttpRule { methods, tls: rule.tls, host, port: rule.port, path })
}
