//! HTTP/1.1, as little of it as the log needs: files for readers of the log, questions to witnesses, answers of a
//! witness, and the host's other face for who administers it.
//!
//! `server` takes connections and hands each request, read whole and within bounds, to an [`Answer`]; `client` asks one
//! question; `address` says whom; `local` is a socket in a directory. What is asked and answered is plain values: nobody else names the library below.
//!
//! *Owns:* sockets, connections and their bounds. *Never:* a key, a log, a job: nothing of a guest is reached from here, and no guest
//! reaches this (its requests go through `strongroom-runtime`).
//! *Spec:* RFC 9112, by hyper.

mod address;
mod client;
mod local;
mod server;
mod stream;

pub use address::{ParsePrefixError, Prefix};
pub(crate) use client::{Answered, Post, PostError, get_local, get_text, post, post_local, post_text};
pub(crate) use server::{Answer, Asked, Body, Door, Listening, Method, Reply, Serving};
