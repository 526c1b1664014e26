//! What the clients share.

use std::time::Duration;

use bytes::Bytes;
use futures_util::{Stream, StreamExt as _, stream};
use reqwest::{Method, Response};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::api::console;
use crate::error::{ErrorCode, Problem};
use crate::mtls::{Identity, TlsError, TlsFiles, client_config};
use crate::request_id;

/// Longest JSON line of an event stream: a snapshot of some ten thousand guests.
const LONGEST_LINE: usize = 64 << 20;
/// A stream that is silent for longer than three heartbeats is dead.
const STREAM_SILENCE: Duration = Duration::from_secs(16);

/// Why a client could not be made.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The TLS files are not usable.
    #[error("cannot set up TLS towards {peer}")]
    Tls {
        /// Whom we meant to talk to.
        peer: String,
        /// Why.
        #[source]
        source: TlsError,
    },
    /// The address is not `https://host:port`.
    #[error("`{0}` is not an https:// address")]
    Url(String),
    /// The HTTP client refused its configuration.
    #[error("cannot build the HTTP client")]
    Build(#[from] reqwest::Error),
}

/// One peer: where it is, who it must be, and what to say when it is away.
#[derive(Debug, Clone)]
pub(super) struct Peer {
    http: reqwest::Client,
    base: String,
    who: String,
    unreachable: ErrorCode,
}

impl Peer {
    pub(super) fn new(
        files: &TlsFiles,
        base_url: &str,
        identity: Identity,
        unreachable: ErrorCode,
    ) -> Result<Self, ClientError> {
        let base = base_url.trim_end_matches('/').to_owned();
        let fits = base.starts_with("https://") && reqwest::Url::parse(&base).is_ok();
        if !fits {
            return Err(ClientError::Url(base_url.to_owned()));
        }
        let who = identity.to_string();
        let tls = client_config(files, identity)
            .map_err(|source| ClientError::Tls { peer: who.clone(), source })?;
        let http = reqwest::Client::builder()
            .tls_backend_preconfigured(tls)
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(Duration::from_secs(3))
            .read_timeout(Duration::from_secs(45))
            .tcp_keepalive(Duration::from_secs(15))
            .pool_idle_timeout(Duration::from_secs(60))
            .build()?;
        Ok(Self { http, base, who, unreachable })
    }

    fn away(&self, error: &reqwest::Error) -> Problem {
        let code = if error.is_timeout() && !error.is_connect() {
            ErrorCode::Deadline
        } else {
            self.unreachable
        };
        Problem::new(code, format!("{} at {}: {}", self.who, self.base, crate::error::Chain(error)))
            .hint("look at the service and its certificate on that host")
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        body: Option<Vec<u8>>,
        within: Option<Duration>,
    ) -> Result<Response, Problem> {
        let mut request = self.http.request(method, format!("{}{path}", self.base));
        if let Some(id) = request_id::current() {
            request = request.header(request_id::HEADER, id);
        }
        if let Some(body) = body {
            request = request.header("content-type", "application/json").body(body);
        }
        if let Some(within) = within {
            request = request.timeout(within);
        }
        let response = request.send().await.map_err(|error| self.away(&error))?;
        if response.status().is_success() {
            return Ok(response);
        }
        Err(self.refusal(response).await)
    }

    /// The peer's own reason, when it gave one.
    async fn refusal(&self, response: Response) -> Problem {
        let status = response.status();
        let text = match response.bytes().await {
            Ok(text) => text,
            Err(error) => return self.away(&error),
        };
        serde_json::from_slice::<Problem>(&text).unwrap_or_else(|_| {
            Problem::new(
                self.unreachable,
                format!("{} answered {status} without a reason", self.who),
            )
        })
    }

    pub(super) async fn bytes(&self, path: &str) -> Result<Bytes, Problem> {
        let response = self.send(Method::GET, path, None, Some(DEADLINE)).await?;
        response.bytes().await.map_err(|error| self.away(&error))
    }

    /// A body and the console offset beside it.
    pub(super) async fn bytes_at(&self, path: &str) -> Result<(u64, Bytes), Problem> {
        let response = self.send(Method::GET, path, None, Some(DEADLINE)).await?;
        let offset = offset(response.headers()).ok_or_else(|| {
            Problem::new(ErrorCode::Internal, format!("{} named no offset", self.who))
        })?;
        Ok((offset, response.bytes().await.map_err(|error| self.away(&error))?))
    }

    pub(super) async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, Problem> {
        let text = self.bytes(path).await?;
        self.read(&text)
    }

    pub(super) async fn call<B: Serialize + Sync>(
        &self,
        method: Method,
        path: &str,
        body: Option<&B>,
        within: Duration,
    ) -> Result<Bytes, Problem> {
        let body = body
            .map(serde_json::to_vec)
            .transpose()
            .map_err(|error| Problem::new(ErrorCode::Internal, error.to_string()))?;
        let response = self.send(method, path, body, Some(within)).await?;
        response.bytes().await.map_err(|error| self.away(&error))
    }

    pub(super) fn read<T: DeserializeOwned>(&self, text: &[u8]) -> Result<T, Problem> {
        serde_json::from_slice(text).map_err(|error| {
            Problem::new(ErrorCode::Internal, format!("{} sent an odd answer: {error}", self.who))
        })
    }

    /// Leaves HTTP: a raw stream to the peer, and the offset that it named.
    pub(super) async fn upgrade(
        &self,
        path: &str,
    ) -> Result<(reqwest::Upgraded, Option<u64>), Problem> {
        let mut request = self
            .http
            .get(format!("{}{path}", self.base))
            .header("connection", "upgrade")
            .header("upgrade", console::UPGRADE)
            // Never chosen. actix hands on what follows the head only where this is offered too.
            .header("upgrade", "websocket");
        if let Some(id) = request_id::current() {
            request = request.header(request_id::HEADER, id);
        }
        let answer = tokio::time::timeout(DEADLINE, request.send()).await;
        let late = || Problem::new(ErrorCode::Deadline, format!("{} opens no console", self.who));
        let response = answer.map_err(|_| late())?.map_err(|error| self.away(&error))?;
        if response.status() != reqwest::StatusCode::SWITCHING_PROTOCOLS {
            return Err(self.refusal(response).await);
        }
        let offset = offset(response.headers());
        let stream = response.upgrade().await.map_err(|error| self.away(&error))?;
        Ok((stream, offset))
    }

    /// Opens a stream of JSON lines; it ends after the first error.
    pub(super) async fn lines<T: DeserializeOwned + 'static>(
        &self,
        path: &str,
    ) -> Result<impl Stream<Item = Result<T, Problem>> + Send + use<T>, Problem> {
        let response = self.send(Method::GET, path, None, None).await?;
        let body = Box::pin(response.bytes_stream());
        let start = Lines { peer: self.clone(), body, buffer: Vec::new(), over: false };
        Ok(stream::unfold(start, |mut lines| async move {
            let item = lines.next().await?;
            let item = item.and_then(|line| lines.peer.read(&line));
            lines.over |= item.is_err();
            Some((item, lines))
        }))
    }
}

fn offset(headers: &reqwest::header::HeaderMap) -> Option<u64> {
    headers.get(console::OFFSET_HEADER)?.to_str().ok()?.parse().ok()
}

/// Deadline of calls that only ask.
pub(super) const DEADLINE: Duration = Duration::from_secs(20);

struct Lines<S> {
    peer: Peer,
    body: S,
    buffer: Vec<u8>,
    over: bool,
}

impl<S: Stream<Item = reqwest::Result<Bytes>> + Unpin> Lines<S> {
    async fn next(&mut self) -> Option<Result<Vec<u8>, Problem>> {
        // Where the search for a newline goes on, so that a long line costs one pass.
        let mut searched = 0;
        while !self.over {
            if let Some(at) = self.buffer[searched..].iter().position(|byte| *byte == b'\n') {
                let mut line: Vec<u8> = self.buffer.drain(..=searched + at).collect();
                line.pop();
                if line.is_empty() {
                    searched = 0;
                    continue;
                }
                return Some(Ok(line));
            }
            searched = self.buffer.len();
            match tokio::time::timeout(STREAM_SILENCE, self.body.next()).await {
                Ok(Some(Ok(bytes))) if self.buffer.len() + bytes.len() <= LONGEST_LINE => {
                    self.buffer.extend_from_slice(&bytes);
                }
                Ok(Some(Ok(_))) => return self.fail("sent a line that is too long"),
                Ok(Some(Err(error))) => {
                    self.over = true;
                    return Some(Err(self.peer.away(&error)));
                }
                Ok(None) => return None,
                Err(_) => return self.fail("went silent"),
            }
        }
        None
    }

    fn fail<T>(&mut self, how: &str) -> Option<Result<T, Problem>> {
        self.over = true;
        Some(Err(Problem::new(self.peer.unreachable, format!("{} {how}", self.peer.who))))
    }
}
