//! `wasi:http`: requests that a guest makes through the host.
//!
//! ```text
//! guest ── wasi:http ──► Http ── target (is it covered?) ──► wire (pinned address, TLS, HTTP/1.1) ──► body (counted)
//! ```
//!
//! A request is judged before anything is opened for it, and goes where it was judged to go: to addresses that the
//! [`Gate`] gives, under a `Host` header that is written here. No redirect is followed, so what it leads to is a request
//! like any other; no proxy is asked, whatever the environment says; no connection serves a second request, or a second guest.
//!
//! *Owns:* every byte of HTTP that a guest causes. *Never:* a body held whole; a connection that outlives its run: each
//! is a task that the guest's table of resources aborts when it is dropped. *Bound:* the constants below, the guest's own
//! timeouts below [`wire::Times`], [`Limits::http_body`](crate::Limits::http_body) and [`Limits::sockets`](crate::Limits::sockets).

mod body;
mod target;
pub(crate) mod tls;
mod wire;

use std::sync::{Arc, LazyLock};

use http::{HeaderName, Request, Response, header};
use rustls::ClientConfig;
use wasmtime::component::{Linker, ResourceTable};
use wasmtime_wasi_http::{
    DEFAULT_FORBIDDEN_HEADERS, Error, ForbiddenHeaderFilter, RequestOptions, WasiBody, WasiHttpCtx,
    WasiHttpCtxView, WasiHttpHooks, WasiHttpView,
};

use super::Gate;
use crate::reach::Reach;
use crate::rules::HttpRule;
use crate::soft::{OverLimit, SoftLimits};

use target::Target;
use wire::{Call, Times};

/// Largest set of headers that a guest may make, as it lies in memory. A guest can have one for each of its handles.
const MAX_FIELDS_BYTES: usize = 32 * 1024;
/// Largest path with its query.
const MAX_URI_BYTES: usize = 16 * 1024;
/// What one write to a body may bring, of which two lie in memory for each request.
const BODY_CHUNK_BYTES: usize = 64 * 1024;

/// Headers that would make a server read another method or path out of a request than the one that was judged.
const FORBIDDEN_HEADERS: [HeaderName; 8] = [
    header::TE,
    header::TRAILER,
    header::EXPECT,
    HeaderName::from_static("x-http-method-override"),
    HeaderName::from_static("x-http-method"),
    HeaderName::from_static("x-method-override"),
    HeaderName::from_static("x-original-url"),
    HeaderName::from_static("x-rewrite-url"),
];

/// One run's `wasi:http`.
pub(crate) struct Http {
    ctx: WasiHttpCtx,
    client: Client,
}

struct Client {
    gate: Gate,
    soft: SoftLimits,
    /// None where no rule speaks of HTTP: then nothing is shared with other runs, not even a counter.
    tls: Option<Arc<ClientConfig>>,
}

/// Adds `wasi:http` to what components may import.
pub(crate) fn link<T: WasiHttpView + 'static>(linker: &mut Linker<T>) -> wasmtime::Result<()> {
    wasmtime_wasi_http::p2::add_only_http_to_linker_async(linker)
}

impl Http {
    pub(crate) fn new(gate: Gate, soft: SoftLimits, tls: &Arc<ClientConfig>) -> Self {
        let tls = (!gate.http_rules().is_empty()).then(|| Arc::clone(tls));
        let mut ctx = WasiHttpCtx::new();
        ctx.set_field_size_limit(MAX_FIELDS_BYTES);
        Self { ctx, client: Client { gate, soft, tls } }
    }

    pub(crate) fn view<'a>(&'a mut self, table: &'a mut ResourceTable) -> WasiHttpCtxView<'a> {
        WasiHttpCtxView { hooks: &mut self.client, table, ctx: &mut self.ctx }
    }
}

impl Gate {
    fn http_rules(&self) -> &[HttpRule] {
        self.rules.as_ref().map_or(&[], |rules| &rules.http)
    }
}

/// What [`WasiHttpHooks::send_request`] gives: the response, and what keeps its connection going.
type Answer = (Response<WasiBody>, Box<dyn Future<Output = Result<(), Error>> + Send>);
type Answering = Box<dyn Future<Output = Result<Answer, Error>> + Send>;

impl WasiHttpHooks for Client {
    fn send_request(
        &mut self,
        request: Request<WasiBody>,
        options: Option<RequestOptions>,
        _told: Box<dyn Future<Output = Result<(), Error>> + Send>,
    ) -> Answering {
        match self.judge(&request) {
            Ok((target, socket, tls)) => {
                let (gate, soft, times) = (self.gate.clone(), self.soft.clone(), Times::of(options));
                Box::new(wire::exchange(Call { target, request, times, gate, soft, socket, tls }))
            }
            Err(error) => Box::new(std::future::ready(Err(error))),
        }
    }

    fn is_forbidden_header(&mut self, name: &HeaderName) -> bool {
        is_forbidden(name)
    }

    fn forbidden_header_filter(&mut self) -> ForbiddenHeaderFilter {
        static FILTER: LazyLock<ForbiddenHeaderFilter> = LazyLock::new(|| Arc::new(is_forbidden));
        Arc::clone(&FILTER)
    }

    /// `wire` writes it, from what was judged.
    fn set_host_header(&mut self) -> bool {
        false
    }

    fn p2_outgoing_body_chunk_size(&mut self) -> usize {
        BODY_CHUNK_BYTES
    }
}

impl Client {
    /// Whether the request may be made at all. Writes down what the guest reached for.
    fn judge(&self, request: &Request<WasiBody>) -> Result<(Target, Socket, Arc<ClientConfig>), Error> {
        let target = Target::of(request.method(), request.uri());
        let covered = self.gate.http_rules().iter().any(|rule| target.is_covered_by(rule));
        self.gate.note(covered, || target.reach());
        let Some(tls) = self.tls.clone().filter(|_| covered) else {
            return Err(Error::HttpRequestDenied);
        };
        if request.uri().path_and_query().is_some_and(|path| path.as_str().len() > MAX_URI_BYTES) {
            return Err(Error::HttpRequestUriTooLong);
        }
        let socket = Socket::open(&self.soft).map_err(|OverLimit| Error::ConnectionLimitReached)?;
        Ok((target, socket, tls))
    }
}

/// Whether a guest may neither set this header nor see it.
fn is_forbidden(name: &HeaderName) -> bool {
    DEFAULT_FORBIDDEN_HEADERS.contains(name) || FORBIDDEN_HEADERS.contains(name)
}

/// A place among the open sockets, for as long as a request is in flight.
struct Socket(SoftLimits);

impl Socket {
    fn open(soft: &SoftLimits) -> Result<Self, OverLimit> {
        soft.open_socket()?;
        Ok(Self(soft.clone()))
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        self.0.close_socket();
    }
}

impl Target {
    fn reach(&self) -> Reach {
        Reach::Http { method: self.method().to_owned(), origin: self.origin() }
    }
}
