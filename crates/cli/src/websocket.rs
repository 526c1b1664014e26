//! The websocket of a console on the public site.

use reqwest::header;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::client::generate_key;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::Role;
use vmmgr_common::api::console::{ConsoleTicket, TICKET_PROTOCOL};

use crate::client::Client;
use crate::failure::{Failure, odd_answer};

/// A console.
pub(crate) type Websocket = WebSocketStream<reqwest::Upgraded>;

impl Client {
    /// Opens a console with a ticket, which goes into the subprotocol and into no URL; `from` is the
    /// offset of a serial line.
    pub(crate) async fn websocket(
        &self,
        ticket: &ConsoleTicket,
        from: Option<u64>,
    ) -> Result<Websocket, Failure> {
        let key = generate_key();
        let offer = format!("binary, {TICKET_PROTOCOL}{}", ticket.ticket.expose());
        let query = from.map(|from| format!("?from={from}")).unwrap_or_default();
        let request = self
            .get_request(&format!("{}{query}", ticket.websocket))
            .header(header::CONNECTION, "Upgrade")
            .header(header::UPGRADE, "websocket")
            .header(header::SEC_WEBSOCKET_VERSION, "13")
            .header(header::SEC_WEBSOCKET_KEY, &key)
            .header(header::SEC_WEBSOCKET_PROTOCOL, offer);
        let answer = self.switch(request).await?;
        let said = |name: header::HeaderName| {
            answer.headers().get(name).and_then(|value| value.to_str().ok()).map(str::to_owned)
        };
        let accepted = said(header::SEC_WEBSOCKET_ACCEPT);
        if accepted != Some(derive_accept_key(key.as_bytes()))
            || said(header::SEC_WEBSOCKET_PROTOCOL).as_deref() != Some("binary")
        {
            return Err(odd_answer(101, "not the websocket that was asked for"));
        }
        let stream =
            answer.upgrade().await.map_err(|error| Failure::Unreachable(error.to_string()))?;
        Ok(WebSocketStream::from_raw_socket(stream, Role::Client, None).await)
    }
}
