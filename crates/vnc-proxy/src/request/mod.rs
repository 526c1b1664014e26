//! The opening request of a browser, by hand: a GET that asks for a websocket, and nothing else.
//!
//! Everything that can be refused without knowing the ticket is refused here, so a foreign page
//! or a malformed request costs the gateway nothing and uses no ticket up.

mod origin;

use aws_lc_rs::digest;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use vmmgr_common::error::{ErrorCode, Problem};
use vmmgr_common::request_id;
use vmmgr_common::secret::Secret;

use crate::ticket;

pub use origin::{InvalidOrigin, Origins};

/// Largest head, bytes.
pub const LARGEST_HEAD: usize = 8 << 10;
/// nginx adds five to those of a browser.
const MOST_HEADERS: usize = 64;
/// RFC 6455, 1.3.
const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// What a browser wants, as far as it can be known without the gateway.
#[derive(Debug)]
pub struct Opening {
    /// To be redeemed.
    pub ticket: Secret<String>,
    /// Offset from which a serial line is told again.
    pub from: Option<u64>,
    /// Where the browser is, as nginx says; empty when it does not.
    pub address: String,
    /// `Sec-WebSocket-Accept`.
    accept: String,
    /// Whether `binary` is selected: only what was offered may be.
    binary: bool,
}

/// A head that was read.
#[derive(Debug)]
pub struct Head {
    /// What it asks for, or why it is refused.
    pub opening: Result<Opening, Problem>,
    /// How long it is.
    pub length: usize,
    /// For the logs of all services.
    pub request_id: String,
}

/// Reads a request's head from the front of `bytes`; none while it is not whole.
#[must_use]
pub fn read(bytes: &[u8], origins: &Origins) -> Option<Head> {
    let mut headers = [httparse::EMPTY_HEADER; MOST_HEADERS];
    let mut request = httparse::Request::new(&mut headers);
    let refuse = |problem| (Err(problem), bytes.len());
    let (opening, length) = match request.parse(bytes) {
        Ok(httparse::Status::Complete(length)) => (open(&request, origins), length),
        Ok(httparse::Status::Partial) if bytes.len() < LARGEST_HEAD => return None,
        Ok(httparse::Status::Partial) => {
            refuse(Problem::new(ErrorCode::TooLarge, "the request's head is too large"))
        }
        Err(error) => refuse(malformed(format!("no HTTP request: {error}"))),
    };
    let id = single(&request, request_id::HEADER);
    Some(Head { opening, length, request_id: request_id::accept(id.ok().flatten()) })
}

fn malformed(why: impl Into<String>) -> Problem {
    Problem::new(ErrorCode::MalformedRequest, why)
}

/// The values of a header, none of which may be anything but ASCII.
fn values<'a>(request: &'a httparse::Request<'_, '_>, name: &str) -> Result<Vec<&'a str>, Problem> {
    let wanted = request.headers.iter().filter(|header| header.name.eq_ignore_ascii_case(name));
    let text = |header: &httparse::Header<'a>| std::str::from_utf8(header.value).ok();
    wanted
        .map(|header| text(header).filter(|text| text.is_ascii()))
        .collect::<Option<_>>()
        .ok_or_else(|| malformed(format!("header `{name}` is not ASCII")))
}

/// The one value of a header.
fn single<'a>(
    request: &'a httparse::Request<'_, '_>,
    name: &str,
) -> Result<Option<&'a str>, Problem> {
    match values(request, name)?.as_slice() {
        [] => Ok(None),
        [value] => Ok(Some(value)),
        _ => Err(malformed(format!("header `{name}` is given twice"))),
    }
}

fn lists(values: &[&str], wanted: &str) -> bool {
    let mut parts = values.iter().flat_map(|value| value.split(','));
    parts.any(|part| part.trim().eq_ignore_ascii_case(wanted))
}

fn open(request: &httparse::Request<'_, '_>, origins: &Origins) -> Result<Opening, Problem> {
    let (Some(method), Some(target), Some(version)) =
        (request.method, request.path, request.version)
    else {
        return Err(malformed("no HTTP request"));
    };
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let names: &[&str] = match path {
        "/console/ws" => &["from"],
        "/websockify" | "/websockify/" => &["token"],
        // The path is the caller's text; the log has it, without its query.
        _ => return Err(Problem::new(ErrorCode::NoSuchRoute, "no such route")),
    };
    if method != "GET" {
        return Err(Problem::new(ErrorCode::MethodNotAllowed, "a websocket is opened with GET"));
    }
    let query = ticket::query(query, names)?;
    let protocols = values(request, "sec-websocket-protocol")?;
    let protocols = ticket::protocols(protocols.into_iter())?;
    let accept = handshake(request, version)?;
    if protocols.any && !protocols.binary {
        return Err(malformed("the only subprotocol is `binary`, and it was not offered"));
    }
    let by_header = protocols.ticket.is_some();
    // Who can set a subprotocol without an Origin is no browser, and no page of another site.
    origins.check(&values(request, "origin")?, by_header)?;
    let ticket = match (query.ticket, protocols.ticket) {
        (Some(ticket), None) | (None, Some(ticket)) => ticket,
        (Some(_), Some(_)) => return Err(malformed("two tickets are given")),
        (None, None) => {
            return Err(Problem::new(ErrorCode::Unauthenticated, "no ticket is given")
                .hint("ask the API for a console; its answer has a ticket"));
        }
    };
    Ok(Opening {
        ticket,
        from: query.from,
        address: address(single(request, "x-forwarded-for")?),
        accept,
        binary: protocols.binary,
    })
}

/// Only what can be an address; nginx sets the header itself and passes no other on.
fn address(forwarded: Option<&str>) -> String {
    let parsed = forwarded.and_then(|text| text.trim().parse::<std::net::IpAddr>().ok());
    parsed.map(|address| address.to_string()).unwrap_or_default()
}

/// RFC 6455, 4.2.1; the answer's `Sec-WebSocket-Accept`.
fn handshake(request: &httparse::Request<'_, '_>, version: u8) -> Result<String, Problem> {
    let upgrade = lists(&values(request, "upgrade")?, "websocket");
    let connection = lists(&values(request, "connection")?, "upgrade");
    if version != 1 || !upgrade || !connection {
        return Err(malformed("this route is for websockets only"));
    }
    let has_body = !values(request, "transfer-encoding")?.is_empty()
        || single(request, "content-length")?.is_some_and(|length| length != "0");
    if has_body {
        return Err(malformed("a websocket is opened without a body"));
    }
    if single(request, "sec-websocket-version")? != Some("13") {
        return Err(malformed("the only version of websockets is 13"));
    }
    let key = single(request, "sec-websocket-key")?.unwrap_or_default();
    if STANDARD.decode(key).map(|bytes| bytes.len()) != Ok(16) {
        return Err(malformed("`Sec-WebSocket-Key` is not 16 bytes of base64"));
    }
    let hashed = [key.as_bytes(), GUID].concat();
    Ok(STANDARD.encode(digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, &hashed)))
}

impl Opening {
    /// The answer that opens the websocket.
    #[must_use]
    pub fn accepted(&self, request_id: &str) -> String {
        let protocol = if self.binary { "Sec-WebSocket-Protocol: binary\r\n" } else { "" };
        format!(
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Accept: {}\r\n{protocol}X-Request-Id: {request_id}\r\n\r\n",
            self.accept
        )
    }
}

/// The answer that opens none. The connection ends after it.
#[must_use]
pub fn refused(problem: &Problem, request_id: &str) -> String {
    let mut problem = problem.clone();
    problem.request_id = Some(request_id.to_owned());
    let body = serde_json::to_string(&problem).unwrap_or_else(|_| "{}".to_owned());
    let extra = match problem.status {
        401 => "WWW-Authenticate: Bearer\r\n",
        405 => "Allow: GET\r\n",
        429 | 503 => "Retry-After: 2\r\n",
        _ => "",
    };
    format!(
        "HTTP/1.1 {} {}\r\nContent-Type: application/problem+json\r\nContent-Length: {}\r\n\
         Cache-Control: no-store\r\nConnection: close\r\nX-Request-Id: {request_id}\r\n{extra}\r\n{body}",
        problem.status,
        problem.code.title(),
        body.len()
    )
}

#[cfg(test)]
mod tests;
