//! Who holds a run against its network rules.
//!
//! ```text
//! wasi:sockets ── sockets ──┐
//! wasi:sockets/ip-name-lookup ── names ──┤ Gate ── address (which addresses a rule means)
//! wasi:http ────────────────┘      └───── resolve (names: looked up by the host, checked, pinned)
//! ```
//!
//! *Owns:* every decision about an address or a name. *Never:* a decision by name alone: a name only adds the public addresses
//! that the host found for it, once, to what may be reached. *Bound:* lookups are bounded in time, tries and answers.

pub(crate) mod address;
pub(crate) mod http;
mod names;
mod own;
pub(crate) mod resolve;
mod sockets;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use crate::grant::Grant;
use crate::reach::{Ledger, Reach};
use crate::rules::{Destination, Hosts, HttpHost, HttpRule, Listener, Protocol};

use address::{Covers, canonical, covers, is_special};
use resolve::{Pinned, Resolver};

pub(crate) use sockets::{Sockets, link};

/// Why a name led nowhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refused {
    /// No rule speaks of it.
    #[error("not granted")]
    NotGranted,
    /// It has addresses, all of which are private, loopback or otherwise special, and not granted by address.
    #[error("leads only to private or otherwise special addresses; grant the address itself to allow it")]
    Special,
    /// The resolver knows no address.
    #[error("no address was found")]
    Unknown,
    /// The resolver did not answer in time.
    #[error("the lookup took too long")]
    Slow,
}

/// One attempt's network rules. Clones share the pinned names; without any rule there is nothing to share, and every question
/// is answered by no.
#[derive(Clone, Debug)]
pub(crate) struct Gate {
    /// None: nothing is granted, nothing was allocated.
    rules: Option<Arc<Rules>>,
    ledger: Ledger,
}

#[derive(Debug)]
struct Rules {
    connect: Vec<Destination>,
    listen: Vec<Listener>,
    http: Vec<HttpRule>,
    /// Every name that `connect` and `http` speak of.
    names: Vec<Pinned>,
    resolver: Resolver,
    /// How long one lookup may take. Tests have less.
    patience: Duration,
    /// Whether an address is this machine's own. A test plays a machine with a public one.
    is_own: fn(IpAddr) -> bool,
}

impl Gate {
    pub(crate) fn new(grant: &Grant, ledger: &Ledger, resolver: &Resolver) -> Self {
        let none = grant.connect.is_empty() && grant.listen.is_empty() && grant.http.is_empty();
        let rules = (!none).then(|| Arc::new(Rules::new(grant, resolver)));
        Self { rules, ledger: ledger.clone() }
    }

    /// Whether the guest may connect or send to `address`. Writes down what it reached for.
    pub(crate) fn allows_connect(&self, protocol: Protocol, address: SocketAddr) -> bool {
        let allowed = self.permits(protocol, address);
        self.note(allowed, || Reach::Connect { protocol, address });
        allowed
    }

    /// Whether the guest may wait for strangers at `address`. Writes down what it reached for.
    pub(crate) fn allows_listen(&self, protocol: Protocol, address: SocketAddr) -> bool {
        let allowed = self.listens(protocol, address);
        self.note(allowed, || Reach::Listen { protocol, address });
        allowed
    }

    /// [`Gate::allows_listen`] for a TCP socket that is only bound: told when refused, as the listening is told anyway.
    fn allows_bind(&self, address: SocketAddr) -> bool {
        let allowed = self.listens(Protocol::Tcp, address);
        if !allowed {
            self.ledger.denied(Reach::Listen { protocol: Protocol::Tcp, address });
        }
        allowed
    }

    /// The addresses of a granted name, the same ones throughout the attempt. Writes down what the guest reached for.
    ///
    /// # Errors
    ///
    /// See [`Refused`].
    pub(crate) async fn resolve(&self, name: &str) -> Result<Vec<IpAddr>, Refused> {
        let name = plain(name);
        let answers = match &self.rules {
            Some(rules) => rules.resolve(&name).await,
            None => Err(Refused::NotGranted),
        };
        match answers {
            Ok(_) => self.note(true, || Reach::Resolve { name }),
            Err(Refused::NotGranted | Refused::Special) => self.note(false, || Reach::Resolve { name }),
            // The name was granted; that nobody knows it is no refusal.
            Err(Refused::Unknown | Refused::Slow) => {}
        }
        answers
    }

    /// Where the HTTP client may connect to for `host` and `port` of a request. The caller has held the request against the
    /// HTTP rules; that some rule speaks of this host and port is looked at here again.
    ///
    /// An address in a rule is named exactly. A name leads to its public addresses, and to a special one only where a TCP
    /// [`Destination`] names that address and the port exactly.
    ///
    /// # Errors
    ///
    /// See [`Refused`].
    pub(crate) async fn addresses_of(&self, host: &HttpHost, port: u16) -> Result<Vec<SocketAddr>, Refused> {
        let rules = self.rules.as_ref().ok_or(Refused::NotGranted)?;
        if !rules.http.iter().any(|rule| rule.host == *host && rule.port == port) {
            return Err(Refused::NotGranted);
        }
        let name = match host {
            HttpHost::Address(address) => return Ok(vec![SocketAddr::new(*address, port)]),
            HttpHost::Name(name) => name,
        };
        let answers = self.resolve(name).await?.into_iter().map(|ip| SocketAddr::new(ip, port));
        let reachable: Vec<_> = answers.filter(|address| rules.http_reaches(*address)).collect();
        if reachable.is_empty() { Err(Refused::Special) } else { Ok(reachable) }
    }

    /// Whether any rule is about sockets: without, a guest that opens some only learns that it may not use them.
    fn grants_sockets(&self) -> bool {
        self.rules.as_ref().is_some_and(|rules| !rules.connect.is_empty() || !rules.listen.is_empty())
    }

    /// [`Gate::allows_connect`], told to nobody.
    fn permits(&self, protocol: Protocol, address: SocketAddr) -> bool {
        self.rules.as_ref().is_some_and(|rules| rules.permit(protocol, address))
    }

    fn listens(&self, protocol: Protocol, address: SocketAddr) -> bool {
        let same = |listener: &Listener| {
            address.port() != 0
                && listener.protocol == protocol
                && listener.address.ip() == address.ip()
                && listener.address.port() == address.port()
        };
        self.rules.as_ref().is_some_and(|rules| rules.listen.iter().any(same))
    }

    fn note(&self, allowed: bool, what: impl FnOnce() -> Reach) {
        if !allowed {
            self.ledger.denied(what());
        } else if self.ledger.tells_all() {
            self.ledger.granted(what());
        }
    }
}

impl Rules {
    fn new(grant: &Grant, resolver: &Resolver) -> Self {
        let of_http = |rule: &HttpRule| match &rule.host {
            HttpHost::Name(name) => Some(plain(name)),
            HttpHost::Address(_) => None,
        };
        let of_connect = |destination: &Destination| match &destination.hosts {
            Hosts::Name(name) => Some(plain(name)),
            Hosts::Net(_) => None,
        };
        let mut names: Vec<String> = grant
            .connect
            .iter()
            .filter_map(of_connect)
            .chain(grant.http.iter().filter_map(of_http))
            .collect();
        names.sort_unstable();
        names.dedup();
        Self {
            connect: grant.connect.clone(),
            listen: grant.listen.clone(),
            http: grant.http.clone(),
            names: names.into_iter().map(Pinned::new).collect(),
            resolver: resolver.clone(),
            patience: resolve::PATIENCE,
            is_own: own::is_own,
        }
    }

    fn permit(&self, protocol: Protocol, address: SocketAddr) -> bool {
        let ip = canonical(address.ip());
        let mut widely = false;
        for rule in &self.connect {
            if rule.protocol != protocol || !rule.ports.contains(&address.port()) {
                continue;
            }
            match &rule.hosts {
                Hosts::Net(net) => match covers(*net, ip) {
                    Covers::Exactly => return true,
                    Covers::Widely => widely = true,
                    Covers::Not => {}
                },
                Hosts::Name(name) => widely |= !is_special(ip) && self.answers(name).contains(&ip),
            }
        }
        widely && !self.is_own_service(ip)
    }

    /// What `name` was found to mean; nothing before it was looked up.
    fn answers(&self, name: &str) -> &[IpAddr] {
        self.pinned(&plain(name)).map_or(&[], Pinned::answers)
    }

    fn pinned(&self, name: &str) -> Option<&Pinned> {
        self.names.iter().find(|pinned| pinned.name() == name)
    }

    async fn resolve(&self, name: &str) -> Result<Vec<IpAddr>, Refused> {
        let pinned = self.pinned(name).ok_or(Refused::NotGranted)?;
        pinned.resolve(&self.resolver, self.patience, |ip| !is_special(ip) || self.names_exactly(ip)).await
    }

    /// Whether some rule, for whatever port, names exactly this address.
    fn names_exactly(&self, ip: IpAddr) -> bool {
        self.connect
            .iter()
            .any(|rule| matches!(&rule.hosts, Hosts::Net(net) if covers(*net, ip) == Covers::Exactly))
    }

    fn http_reaches(&self, address: SocketAddr) -> bool {
        let ip = canonical(address.ip());
        let exactly = |rule: &Destination| {
            rule.protocol == Protocol::Tcp
                && rule.ports.contains(&address.port())
                && matches!(&rule.hosts, Hosts::Net(net) if covers(*net, ip) == Covers::Exactly)
        };
        (!is_special(ip) && !self.is_own_service(ip)) || self.connect.iter().any(exactly)
    }

    /// What listens on all of this machine's addresses is reached through its public ones, too: the host's own port among it.
    /// Loopback is not asked about: it is special, and whoever grants it means this machine.
    fn is_own_service(&self, ip: IpAddr) -> bool {
        !ip.is_loopback() && (self.is_own)(ip)
    }
}

/// A name as rules spell it: lower case, without the dot of the root.
fn plain(name: &str) -> String {
    name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase()
}

#[cfg(test)]
mod tests;
