//! A program's websocket to a console, through nginx.

use std::time::{Duration, Instant};

use futures_util::{SinkExt as _, StreamExt as _};
use reqwest::header;
use serde_json::{Value, json};
use tokio::time::timeout;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::client::generate_key;
use tokio_tungstenite::tungstenite::protocol::Role;

use crate::api::{Api, URL};
use crate::guest::Guest;

/// Generous: the guest runs without KVM beside others.
const PATIENCE: Duration = Duration::from_secs(300);

/// A console that is open.
pub(crate) struct Websocket<'a> {
    api: &'a Api,
    stream: WebSocketStream<reqwest::Upgraded>,
    /// Offset of the next byte, once a serial line told one.
    pub(crate) at: u64,
    /// What the guest said and nobody took.
    pub(crate) unread: Vec<u8>,
}

/// A ticket for a console; the whole answer.
pub(crate) fn ticket(api: &Api, guest: &str, kind: &str, mode: &str) -> Value {
    let (status, answer) =
        api.post(&format!("{guest}/console"), &json!({"kind": kind, "mode": mode}));
    assert_eq!(status, 200, "{answer}");
    answer
}

impl<'a> Websocket<'a> {
    /// With the ticket as a subprotocol; or the status of the refusal.
    pub(crate) fn with(api: &'a Api, ticket: &Value, query: &str) -> Result<Self, u16> {
        let offer = format!("binary, vmmgr.ticket.{}", ticket["ticket"].as_str().unwrap());
        let path = format!("{}{query}", ticket["websocket"].as_str().unwrap());
        Self::open(api, &path, &[(header::SEC_WEBSOCKET_PROTOCOL, &offer)])
    }

    /// With these headers and no others.
    pub(crate) fn open(
        api: &'a Api,
        path: &str,
        headers: &[(header::HeaderName, &str)],
    ) -> Result<Self, u16> {
        let mut request = api
            .client
            .get(format!("{URL}{path}"))
            .timeout(Duration::from_secs(3600))
            .header(header::CONNECTION, "Upgrade")
            .header(header::UPGRADE, "websocket")
            .header(header::SEC_WEBSOCKET_VERSION, "13")
            .header(header::SEC_WEBSOCKET_KEY, generate_key());
        for (name, value) in headers {
            request = request.header(name, *value);
        }
        let stream = api.runtime.block_on(async {
            let answer = request.send().await.unwrap();
            if answer.status() != 101 {
                return Err(answer.status().as_u16());
            }
            let upgraded = answer.upgrade().await.unwrap();
            Ok(WebSocketStream::from_raw_socket(upgraded, Role::Client, None).await)
        })?;
        Ok(Self { api, stream, at: 0, unread: Vec::new() })
    }

    /// A new console of this guest.
    pub(crate) fn of(api: &'a Api, guest: &Guest, kind: &str, mode: &str) -> Self {
        Self::with(api, &ticket(api, &guest.path(""), kind, mode), "").unwrap()
    }

    pub(crate) fn send(&mut self, bytes: &[u8]) {
        self.api.runtime.block_on(self.stream.send(Message::binary(bytes.to_vec()))).unwrap();
    }

    /// One more message is read; gives the closing code and reason if it was the last one.
    fn more(&mut self, within: Duration) -> Option<(u16, String)> {
        let next = self.api.runtime.block_on(async { timeout(within, self.stream.next()).await });
        let said = String::from_utf8_lossy(&self.unread).into_owned();
        let next = next.unwrap_or_else(|_| panic!("nothing comes any more after {said:?}"));
        match next {
            Some(Ok(Message::Binary(bytes))) => {
                self.at += bytes.len() as u64;
                self.unread.extend(&bytes);
                None
            }
            Some(Ok(Message::Text(text))) => {
                let told: Value = serde_json::from_str(&text).unwrap();
                self.at = told["offset"].as_u64().unwrap();
                None
            }
            Some(Ok(Message::Close(frame))) => {
                let frame = frame.expect("the closing frame says why");
                Some((frame.code.into(), frame.reason.to_string()))
            }
            Some(Ok(_)) => None,
            Some(Err(error)) => panic!("cut without a closing frame: {error}"),
            None => panic!("ended without a closing frame"),
        }
    }

    /// The next bytes, so many.
    pub(crate) fn take(&mut self, count: usize) -> Vec<u8> {
        while self.unread.len() < count {
            assert_eq!(self.more(PATIENCE), None);
        }
        self.unread.drain(..count).collect()
    }

    /// Everything up to and with this text.
    pub(crate) fn says(&mut self, what: &str) -> String {
        loop {
            let found = self.unread.windows(what.len()).position(|part| part == what.as_bytes());
            if let Some(at) = found {
                return String::from_utf8_lossy(&self.take(at + what.len())).into_owned();
            }
            assert_eq!(self.more(PATIENCE), None);
        }
    }

    /// The closing code and reason, and how long they took.
    pub(crate) fn ends(&mut self) -> (u16, String, Duration) {
        let start = Instant::now();
        loop {
            if let Some((code, reason)) = self.more(Duration::from_secs(10)) {
                return (code, reason, start.elapsed());
            }
        }
    }

    /// Cut without a word, as a lost network does it.
    pub(crate) fn cut(self) {
        drop(self.stream);
    }
}
