//! One request and its answer, in the calls of `wasi:http`.

use std::io::{self, Read, Write};

use sha2::{Digest, Sha256};
use strongroom_guest::Failure;
use wasip2::http::outgoing_handler;
use wasip2::http::types::{
    ErrorCode, Fields, FutureIncomingResponse, HeaderError, IncomingBody, IncomingResponse, Method,
    OutgoingBody, OutgoingRequest, RequestOptions, Scheme,
};

/// Bytes that are in memory at a time, in either direction.
const CHUNK_BYTES: usize = 16 * 1024;
const NANOSECONDS: u64 = 1_000_000_000;

/// What is asked for.
pub(crate) struct Ask {
    /// GET and so on.
    pub(crate) method: String,
    pub(crate) url: Url,
    /// Names and values.
    pub(crate) headers: Vec<(String, Vec<u8>)>,
    /// Seconds to wait for a connection, for the answer, and between its parts.
    pub(crate) timeout: Option<u64>,
    /// Whether stdin is the body.
    pub(crate) post: bool,
}

/// A URL in the parts that `wasi:http` wants.
pub(crate) struct Url {
    scheme: Scheme,
    authority: String,
    path: String,
    origin: String,
}

/// What came back.
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// Where a redirect leads.
    pub(crate) location: Option<String>,
    /// Length of the body.
    pub(crate) bytes: u64,
    /// Digest of the body, as hexadecimal digits.
    pub(crate) sha256: String,
}

impl Url {
    pub(crate) fn parse(text: &str) -> Result<Self, Failure> {
        let (scheme, rest) = match text.split_once("://") {
            Some(("https", rest)) => (Scheme::Https, rest),
            Some(("http", rest)) => (Scheme::Http, rest),
            _ => return Err(Failure::usage(format!("{text:?} begins with neither https:// nor http://"))),
        };
        // What is behind a # is the browser's business.
        let rest = rest.split('#').next().unwrap_or(rest);
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, path) = (rest[..end].to_owned(), rest[end..].to_owned());
        let origin =
            text[..text.len() - text.split_once("://").map_or(0, |(_, rest)| rest.len()) + end].to_owned();
        Ok(Self { scheme, authority, path, origin })
    }
}

/// Asks, waits, and reads the answer to its end.
pub(crate) fn exchange(ask: &Ask) -> Result<Answer, Failure> {
    let response = send(ask)?;
    let header = |name: &str| response.headers().get(name).into_iter().next();
    let location = header("location").map(|value| String::from_utf8_lossy(&value).into_owned());
    let (bytes, sha256) = digest(&response)?;
    Ok(Answer { status: response.status(), location, bytes, sha256 })
}

fn send(ask: &Ask) -> Result<IncomingResponse, Failure> {
    let headers = Fields::new();
    for (name, value) in &ask.headers {
        headers.append(name, value).map_err(|error| bad_header(name, &error))?;
    }
    let request = OutgoingRequest::new(headers);
    let wrong =
        |what: &'static str| move |()| Failure::usage(format!("the {what} is not one that HTTP knows"));
    request.set_method(&method(&ask.method)).map_err(wrong("method"))?;
    request.set_scheme(Some(&ask.url.scheme)).map_err(wrong("scheme"))?;
    request.set_authority(Some(&ask.url.authority)).map_err(wrong("host"))?;
    request.set_path_with_query(Some(&ask.url.path)).map_err(wrong("path"))?;

    let body = if ask.post { request.body().ok() } else { None };
    let pending = outgoing_handler::handle(request, options(ask.timeout)).map_err(|code| told(ask, &code))?;
    // A server that has answered already may not want the rest; then its answer says more than the broken pipe.
    let sent = body.map_or(Ok(()), |body| upload(body, &pending));
    let response = answer(&pending).map_err(|code| told(ask, &code))?;
    sent.map(|()| response)
}

fn method(name: &str) -> Method {
    match name {
        "GET" => Method::Get,
        "HEAD" => Method::Head,
        "POST" => Method::Post,
        "PUT" => Method::Put,
        "DELETE" => Method::Delete,
        "CONNECT" => Method::Connect,
        "OPTIONS" => Method::Options,
        "TRACE" => Method::Trace,
        "PATCH" => Method::Patch,
        other => Method::Other(other.to_owned()),
    }
}

fn options(timeout: Option<u64>) -> Option<RequestOptions> {
    let nanoseconds = timeout?.saturating_mul(NANOSECONDS);
    let options = RequestOptions::new();
    // A host that does not know one of them waits as long as it likes, which is no reason not to ask.
    let _ = options.set_connect_timeout(Some(nanoseconds));
    let _ = options.set_first_byte_timeout(Some(nanoseconds));
    let _ = options.set_between_bytes_timeout(Some(nanoseconds));
    Some(options)
}

/// Sends stdin as the body, until it ends or the answer is there.
fn upload(body: OutgoingBody, pending: &FutureIncomingResponse) -> Result<(), Failure> {
    let answered = pending.subscribe();
    {
        let mut stream = body.write().map_err(|()| Failure::failed("the body cannot be written"))?;
        let mut chunk = vec![0; CHUNK_BYTES];
        let mut input = io::stdin().lock();
        loop {
            let read = input.read(&mut chunk)?;
            if read == 0 {
                break;
            }
            if let Err(error) = stream.write_all(&chunk[..read]) {
                answered.block();
                return Err(Failure::failed(format!("the request was not sent whole: {error}")));
            }
        }
    }
    OutgoingBody::finish(body, None)
        .map_err(|code| Failure::failed(format!("the request was not sent whole: {code:?}")))
}

fn answer(pending: &FutureIncomingResponse) -> Result<IncomingResponse, ErrorCode> {
    loop {
        match pending.get() {
            Some(Ok(response)) => return response,
            Some(Err(())) => return Err(ErrorCode::InternalError(None)),
            None => pending.subscribe().block(),
        }
    }
}

/// Length and SHA-256 of the body.
fn digest(response: &IncomingResponse) -> Result<(u64, String), Failure> {
    let broken = |error: io::Error| Failure::failed(format!("the answer broke off: {error}"));
    let body = response.consume().map_err(|()| Failure::failed("the answer has no body"))?;
    let mut hash = Sha256::new();
    let mut bytes = 0;
    {
        let mut stream = body.stream().map_err(|()| Failure::failed("the answer cannot be read"))?;
        let mut chunk = vec![0; CHUNK_BYTES];
        loop {
            // The stream has a `read` of its own.
            let read = Read::read(&mut stream, &mut chunk).map_err(broken)?;
            if read == 0 {
                break;
            }
            hash.update(&chunk[..read]);
            bytes += read as u64;
        }
    }
    drop(IncomingBody::finish(body));
    let hex = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    Ok((bytes, hex))
}

fn bad_header(name: &str, error: &HeaderError) -> Failure {
    let why = match error {
        HeaderError::Forbidden => "the host does not let a task set it",
        _ => "it is not one that HTTP knows, or too much",
    };
    Failure::failed(format!("the header {name:?}: {why}"))
}

/// What an error code means to whoever runs the task.
fn told(ask: &Ask, code: &ErrorCode) -> Failure {
    let (method, origin) = (&ask.method, &ask.url.origin);
    Failure::failed(match code {
        ErrorCode::HttpRequestDenied => {
            format!("{method} {origin} is not granted; grant it with --http '{method} {origin}/'")
        }
        ErrorCode::TlsCertificateError => format!("{origin} has no certificate that the host trusts for it"),
        other => format!("{method} {origin}: {other:?}"),
    })
}
