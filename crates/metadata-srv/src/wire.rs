//! HTTP/1.1 as guests speak it: a head comes, a whole answer goes; bodies are never read.
//!
//! Answers are made when a seed changes, heads included: serving one is copying two slices.

use bytes::Bytes;
use httparse::{EMPTY_HEADER, Header, Status};

/// A request line and some headers.
pub(crate) const LARGEST_HEAD: usize = 8 * 1024;
const MOST_HEADERS: usize = 32;
const TEXT: &str = "text/plain; charset=utf-8";

/// A request without its body.
pub(crate) struct Head<'h, 'b> {
    /// As sent: methods have one spelling.
    pub(crate) method: &'b str,
    /// Of the request line, as sent.
    pub(crate) target: &'b str,
    /// HTTP/1.1 and not HTTP/1.0.
    recent: bool,
    headers: &'h [Header<'b>],
}

impl<'b> Head<'_, 'b> {
    /// Names of all headers, as sent.
    pub(crate) fn names(&self) -> impl Iterator<Item = &'b str> {
        self.headers.iter().map(|header| header.name)
    }

    /// Values of the headers with that name.
    pub(crate) fn all(&self, name: &str) -> impl Iterator<Item = &'b [u8]> {
        let same = move |header: &&Header<'_>| header.name.eq_ignore_ascii_case(name);
        self.headers.iter().filter(same).map(|header| header.value)
    }

    /// What the guest calls itself.
    pub(crate) fn agent(&self) -> &'b str {
        let agent = self.all("user-agent").next();
        agent.and_then(|agent| str::from_utf8(agent).ok()).unwrap_or_default()
    }

    /// Whether a body follows, or the guest says so; it is never read.
    pub(crate) fn has_body(&self) -> bool {
        self.names().any(|name| {
            name.eq_ignore_ascii_case("content-length")
                || name.eq_ignore_ascii_case("transfer-encoding")
        })
    }

    /// Whether another request may follow: not after HTTP/1.0, `Connection`, or a body.
    fn keeps(&self) -> bool {
        let plain = |value: &[u8]| value.eq_ignore_ascii_case(b"keep-alive");
        self.recent && !self.has_body() && self.all("connection").all(plain)
    }
}

/// Reads one head off `buffer` and hands it to `look`, with whether the connection may go on and how
/// many bytes it took; nothing while it is not whole.
pub(crate) fn head<'b, T>(
    buffer: &'b [u8],
    look: impl FnOnce(&Head<'_, 'b>, bool, usize) -> T,
) -> Result<Option<T>, Answer> {
    let mut headers = [EMPTY_HEADER; MOST_HEADERS];
    let mut request = httparse::Request::new(&mut headers);
    match request.parse(buffer) {
        Ok(Status::Complete(length)) => {
            let (Some(method), Some(target)) = (request.method, request.path) else {
                return Err(Answer::text(400, "bad request\n"));
            };
            let recent = request.version == Some(1);
            let head = Head { method, target, recent, headers: request.headers };
            Ok(Some(look(&head, head.keeps(), length)))
        }
        Ok(Status::Partial) if buffer.len() < LARGEST_HEAD => Ok(None),
        Ok(Status::Partial) | Err(httparse::Error::TooManyHeaders) => {
            Err(Answer::text(431, "request header fields too large\n"))
        }
        Err(_) => Err(Answer::text(400, "bad request\n")),
    }
}

/// A whole answer; a clone costs nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Answer {
    status: u16,
    /// Status line and headers, without the empty line that ends them.
    head: Bytes,
    body: Bytes,
}

impl Answer {
    /// A refusal in words.
    pub(crate) fn text(status: u16, body: &'static str) -> Self {
        Self::new(status, TEXT, "", Bytes::from_static(body.as_bytes()))
    }

    /// A refusal with another header, `name: value\r\n`.
    pub(crate) fn text_with(status: u16, header: &'static str, body: &'static str) -> Self {
        Self::new(status, TEXT, header, Bytes::from_static(body.as_bytes()))
    }

    /// A file's bytes.
    pub(crate) fn file(binary: bool, body: Bytes) -> Self {
        Self::new(200, if binary { "application/octet-stream" } else { TEXT }, "", body)
    }

    fn new(status: u16, kind: &str, header: &str, body: Bytes) -> Self {
        let reason = match status {
            200 => "OK",
            400 => "Bad Request",
            403 => "Forbidden",
            404 => "Not Found",
            405 => "Method Not Allowed",
            431 => "Request Header Fields Too Large",
            503 => "Service Unavailable",
            _ => "Internal Server Error",
        };
        let head = format!(
            "HTTP/1.1 {status} {reason}\r\ncontent-type: {kind}\r\ncache-control: no-store\r\n\
             {header}content-length: {}\r\n",
            body.len()
        );
        Self { status, head: head.into(), body }
    }

    /// Status code.
    pub(crate) const fn status(&self) -> u16 {
        self.status
    }

    /// The bytes that the answer is about.
    pub(crate) const fn body(&self) -> &Bytes {
        &self.body
    }

    /// Appends what goes out first: all of it if it is small, the head alone otherwise. What
    /// remains is returned.
    pub(crate) fn write(&self, out: &mut Vec<u8>, keep: bool, bodiless: bool) -> Bytes {
        /// Copying this much costs less than a second system call.
        const SMALL: usize = 16 << 10;
        out.extend_from_slice(&self.head);
        out.extend_from_slice(if keep { b"\r\n" } else { b"connection: close\r\n\r\n" });
        if bodiless {
            return Bytes::new();
        }
        if self.body.len() > SMALL {
            return self.body.clone();
        }
        out.extend_from_slice(&self.body);
        Bytes::new()
    }
}

/// A head for tests.
#[cfg(test)]
pub(crate) fn with_head<T>(
    method: &str,
    target: &str,
    headers: &[(&str, &str)],
    look: impl FnOnce(&Head<'_, '_>) -> T,
) -> T {
    let headers: Vec<Header<'_>> =
        headers.iter().map(|(name, value)| Header { name, value: value.as_bytes() }).collect();
    look(&Head { method, target, recent: true, headers: &headers })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Option<(String, bool, usize)>, u16> {
        let found = head(text.as_bytes(), |head, keep, length| {
            (format!("{} {}", head.method, head.target), keep, length)
        });
        found.map_err(|answer| answer.status())
    }

    #[test]
    fn a_connection_goes_on_only_after_a_plain_request() {
        let whole = "GET /a HTTP/1.1\r\nHost: h\r\n\r\n";
        let (asked, keep, length) = parse(&format!("{whole}GET /b")).unwrap().unwrap();
        assert_eq!((asked.as_str(), keep, length), ("GET /a", true, whole.len()));
        for end in [
            "1.0\r\n\r\n",
            "1.1\r\nConnection: close\r\n\r\n",
            "1.1\r\nconnection: keep-alive, close\r\n\r\n",
            "1.1\r\nContent-Length: 3\r\n\r\nabc",
            "1.1\r\nContent-Length: 0\r\n\r\n",
            "1.1\r\ntransfer-encoding: chunked\r\n\r\n",
        ] {
            assert!(!parse(&format!("GET / HTTP/{end}")).unwrap().unwrap().1, "{end}");
        }
        assert!(parse("GET / HTTP/1.1\r\nConnection: Keep-Alive\r\n\r\n").unwrap().unwrap().1);
    }

    #[test]
    fn what_is_not_a_head_is_waited_for_or_refused() {
        assert_eq!(parse("GET / HT"), Ok(None));
        for bad in [
            "GET\r\n\r\n",
            "GET / HTTP/2.0\r\n\r\n",
            "GET / HTTP/1.1\r\na : b\r\n\r\n",
            "GET / HTTP/1.1\r\na: b\r\n c\r\n\r\n",
            "\0",
        ] {
            assert_eq!(parse(bad), Err(400), "{bad:?}");
        }
        assert_eq!(parse(&format!("GET /{}", "a".repeat(LARGEST_HEAD))), Err(431));
        let many = "x: y\r\n".repeat(MOST_HEADERS + 1);
        assert_eq!(parse(&format!("GET / HTTP/1.1\r\n{many}\r\n")), Err(431));
    }

    #[test]
    fn a_large_body_goes_out_uncopied_and_a_bodiless_answer_tells_its_length() {
        let answer = Answer::file(true, vec![7; 100_000].into());
        let mut out = Vec::new();
        assert_eq!(answer.write(&mut out, true, false).len(), 100_000);
        assert!(out.ends_with(b"content-length: 100000\r\n\r\n"));
        let mut out = Vec::new();
        assert!(Answer::text(404, "not found\n").write(&mut out, false, true).is_empty());
        let text = String::from_utf8(out).unwrap();
        assert!(text.ends_with("content-length: 10\r\nconnection: close\r\n\r\n"), "{text}");
    }
}
