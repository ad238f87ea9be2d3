//! `wasi:sockets/ip-name-lookup`, in place of wasmtime's: a guest learns the addresses of granted names, and of no others.
//!
//! An address in text is no name: it is given back, and means nothing until the guest connects to it.

use std::net::{IpAddr, Ipv6Addr};
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::vec;

use wasmtime::StoreContextMut;
use wasmtime::component::{Linker, Resource, ResourceType};
use wasmtime_wasi::p2::bindings::sockets::network::{ErrorCode, IpAddress};
use wasmtime_wasi::p2::{DynPollable, Network, Pollable, subscribe};
use wasmtime_wasi::{WasiCtxView, WasiView};

use super::Refused;
use crate::sandbox::Guest;

/// The interface as wasmtime links it: the same version, so that this takes its place.
const INTERFACE: &str = "wasi:sockets/ip-name-lookup@0.2.12";

/// What a guest may pull addresses from.
enum Answers {
    /// The lookup goes on. Dropped, it stops.
    Coming(Pin<Box<dyn Future<Output = Result<Vec<IpAddr>, Refused>> + Send>>),
    Here(vec::IntoIter<IpAddr>),
    Not(Refused),
}

/// Puts the interface in place. The linker must allow shadowing.
pub(super) fn link(linker: &mut Linker<Guest>) -> wasmtime::Result<()> {
    let mut interface = linker.instance(INTERFACE)?;
    interface.resource("resolve-address-stream", ResourceType::host::<Answers>(), |mut store, rep| {
        store.data_mut().ctx().table.delete(Resource::<Answers>::new_own(rep))?;
        Ok(())
    })?;
    interface.func_wrap(
        "resolve-addresses",
        |mut store: StoreContextMut<'_, Guest>, (network, name): (Resource<Network>, String)| {
            let guest = store.data_mut();
            let answers = Answers::of(guest, name);
            let WasiCtxView { table, .. } = guest.ctx();
            // The capability to use names at all; nothing else is in it.
            table.get(&network)?;
            if let Answers::Not(refused) = answers {
                return Ok((Err(code(refused)),));
            }
            Ok((Ok(table.push(answers)?),))
        },
    )?;
    interface.func_wrap(
        "[method]resolve-address-stream.resolve-next-address",
        |mut store: StoreContextMut<'_, Guest>, (this,): (Resource<Answers>,)| {
            Ok((store.data_mut().ctx().table.get_mut(&this)?.next(),))
        },
    )?;
    interface.func_wrap(
        "[method]resolve-address-stream.subscribe",
        |mut store: StoreContextMut<'_, Guest>,
         (this,): (Resource<Answers>,)|
         -> wasmtime::Result<(Resource<DynPollable>,)> {
            Ok((subscribe(store.data_mut().ctx().table, this)?,))
        },
    )
}

impl Answers {
    fn of(guest: &Guest, name: String) -> Self {
        if let Some(ip) = literal(&name) {
            return Self::Here(vec![ip].into_iter());
        }
        let gate = guest.net().gate().clone();
        let mut answers = Self::Coming(Box::pin(async move { gate.resolve(&name).await }));
        // A pinned answer and a refusal are there at once.
        _ = answers.poll(&mut Context::from_waker(Waker::noop()));
        answers
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if let Self::Coming(lookup) = self {
            *self = match lookup.as_mut().poll(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Ok(addresses)) => Self::Here(addresses.into_iter()),
                Poll::Ready(Err(refused)) => Self::Not(refused),
            };
        }
        Poll::Ready(())
    }

    fn next(&mut self) -> Result<Option<IpAddress>, ErrorCode> {
        _ = self.poll(&mut Context::from_waker(Waker::noop()));
        match self {
            Self::Coming(_) => Err(ErrorCode::WouldBlock),
            Self::Here(addresses) => Ok(addresses.next().map(IpAddress::from)),
            Self::Not(refused) => Err(code(*refused)),
        }
    }
}

#[wasmtime_wasi::async_trait]
impl Pollable for Answers {
    async fn ready(&mut self) {
        std::future::poll_fn(|cx| self.poll(cx)).await;
    }
}

/// The address that `name` spells, if it is one; in brackets, too, as in a URL.
fn literal(name: &str) -> Option<IpAddr> {
    let bracketed = name.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    match bracketed {
        Some(inner) => inner.parse::<Ipv6Addr>().ok().map(IpAddr::V6),
        None => name.parse().ok(),
    }
}

fn code(refused: Refused) -> ErrorCode {
    match refused {
        Refused::NotGranted | Refused::Special => ErrorCode::AccessDenied,
        Refused::Unknown => ErrorCode::NameUnresolvable,
        Refused::Slow => ErrorCode::TemporaryResolverFailure,
    }
}
