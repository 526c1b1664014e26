//! Consoles: tickets, the sessions that they open, and what the services say of them.
//!
//! ```text
//!  caller --ConsoleRequest--> gateway --ConsoleTicket--> page --websocket + ticket--> vnc-proxy
//!  vnc-proxy --redeem, once--> gateway --ConsoleGrant--> vnc-proxy --upgrade--> host-agent --> guest
//! ```
//!
//! A ticket is good for one websocket within [`TICKET_SECONDS`]. A page that wants to come back
//! after a cut exchanges its ticket first for another one and a resume secret
//! (`POST /v1/console/exchange`), and later the resume secret for the next pair.

use serde::{Deserialize, Serialize};

use crate::ids::{ConsoleSessionId, HostId, VmId};
use crate::secret::Secret;

/// Life of a ticket: long enough for a page to load and connect, too short to be worth stealing.
pub const TICKET_SECONDS: u64 = 30;

/// `Upgrade:` token of the agent's console streams; the bytes after it are the guest's own. A
/// request offers `websocket` too, in an `Upgrade:` line of its own that is never chosen: actix
/// hands on what follows a request's head only where that is offered.
pub const UPGRADE: &str = "vmmgr-console";

/// Answer header of the agent: offset of the first byte of a serial stream.
pub const OFFSET_HEADER: &str = "x-vmmgr-offset";

/// Websocket subprotocol that carries a ticket: this prefix and the ticket, offered beside
/// `binary`; the proxy only ever selects `binary`.
pub const TICKET_PROTOCOL: &str = "vmmgr.ticket.";

/// Codes of the websocket's closing frame; the reason beside them is for people.
///
/// A page comes back by itself after everything but [`close::NORMAL`] and [`close::ENDED`].
pub mod close {
    /// The guest closed its console, or the browser did.
    pub const NORMAL: u16 = 1000;
    /// The browser's frames break RFC 6455.
    pub const PROTOCOL: u16 = 1002;
    /// A text frame is not UTF-8.
    pub const NOT_TEXT: u16 = 1007;
    /// Ended for good: revoked, deleted, taken over, expired, or a message that is not let through.
    pub const ENDED: u16 = 1008;
    /// A frame is larger than the proxy takes.
    pub const TOO_LARGE: u16 = 1009;
    /// The host was lost.
    pub const LOST: u16 = 1011;
    /// The proxy is going down; another one, or the next one, takes the session up again.
    pub const RESTART: u16 = 1012;
}

/// First message of a serial websocket that was opened with `?from=`, as a text frame; all that
/// follows is the line's own bytes, in binary frames. A page that counts them knows the offset to
/// come back with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConsoleOffset {
    /// Offset of the first byte that follows; larger than `from` when the ring has lost some.
    pub offset: u64,
}

/// Which of a guest's consoles.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum ConsoleKind {
    /// RFB (RFC 6143).
    Vnc,
    /// SPICE.
    Spice,
    /// The first serial line.
    Serial,
}

impl ConsoleKind {
    /// As it stands on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Vnc => "vnc",
            Self::Spice => "spice",
            Self::Serial => "serial",
        }
    }

    /// Of its name on the wire.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Vnc, Self::Spice, Self::Serial].into_iter().find(|kind| kind.as_str() == text)
    }
}

/// How a session behaves towards the others of the same console.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum ConsoleMode {
    /// Beside the others.
    #[default]
    Share,
    /// Looks on; its input is dropped in the proxy.
    View,
    /// Ends the others first.
    #[serde(alias = "take-over")]
    TakeOver,
}

/// `GET /v1/domains/{vm}/console` of an agent: what can be opened now. 409 when it does not run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConsoleInfo {
    /// Names this run of the guest: another one after every start.
    pub run: String,
    /// Consoles that the guest has.
    pub kinds: Vec<ConsoleKind>,
}

/// `POST /v1/hosts/{host}/vms/{vm}/console` of a gateway.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct ConsoleRequest {
    /// Which.
    pub kind: ConsoleKind,
    /// How.
    #[serde(default)]
    pub mode: ConsoleMode,
}

/// Its answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ConsoleTicket {
    /// Opens one websocket, once.
    #[cfg_attr(feature = "openapi", schema(value_type = String, format = Password))]
    pub ticket: Secret<String>,
    /// Path of the websocket on the public site.
    pub websocket: String,
    /// Page on the public site, the ticket in its fragment, which no server and no log sees.
    #[cfg_attr(feature = "openapi", schema(value_type = String, format = Password))]
    pub page: Secret<String>,
    /// Which.
    pub kind: ConsoleKind,
    /// How.
    pub mode: ConsoleMode,
    /// RFC 3339, UTC.
    pub expires_at: String,
}

/// `POST /v1/console/exchange` of a gateway: a ticket or a resume secret, never both.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum ConsoleExchange {
    /// A fresh ticket; it is used up by this.
    #[cfg_attr(feature = "openapi", schema(value_type = String, format = Password))]
    Ticket(Secret<String>),
    /// What an earlier exchange gave; it is used up by this.
    #[cfg_attr(feature = "openapi", schema(value_type = String, format = Password))]
    Resume(Secret<String>),
}

/// Its answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ConsoleResumable {
    /// For the websocket.
    pub ticket: ConsoleTicket,
    /// For the next exchange.
    #[cfg_attr(feature = "openapi", schema(value_type = String, format = Password))]
    pub resume: Secret<String>,
    /// Host of the guest.
    pub host: HostId,
    /// Guest.
    pub vm: VmId,
    /// libvirt's name of the guest, for the page's title.
    pub name: String,
}

/// `POST /internal/console/redeem` of a gateway, callable by vnc-proxy only.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConsoleRedeem {
    /// As the browser sent it.
    pub ticket: Secret<String>,
    /// Address of the browser as nginx saw it, for the session list.
    #[serde(default)]
    pub address: String,
}

/// Its answer: what the session may do. An unknown, used or expired ticket is 401.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConsoleGrant {
    /// Name of the session from now on.
    pub session: ConsoleSessionId,
    /// Host.
    pub host: HostId,
    /// `https://…` of its agent.
    pub agent_url: String,
    /// Guest.
    pub vm: VmId,
    /// Who asked for the ticket; the proxy tells it in its reports.
    #[serde(default)]
    pub user: String,
    /// What the session hangs on (login, resume chain), in the gateway's own words; the proxy keeps
    /// it and tells it in its reports, so that a gateway that was restarted knows it again.
    #[serde(default)]
    pub binding: String,
    /// Run that the ticket was bound to; the agent refuses another one.
    pub run: String,
    /// Which.
    pub kind: ConsoleKind,
    /// How.
    pub mode: ConsoleMode,
    /// When it must end, RFC 3339, UTC; no limit when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ends_at: Option<String>,
}

/// A session as the owner sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ConsoleSession {
    /// Its name.
    pub id: ConsoleSessionId,
    /// Host.
    pub host: HostId,
    /// Guest.
    pub vm: VmId,
    /// Which.
    pub kind: ConsoleKind,
    /// How.
    pub mode: ConsoleMode,
    /// Who opened it.
    pub user: String,
    /// From where.
    #[serde(default)]
    pub address: String,
    /// RFC 3339, UTC.
    pub since: String,
    /// As the grant had it; empty where people see the session.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub binding: String,
}

/// `POST /internal/console/sessions` of a gateway, callable by vnc-proxy only, every few seconds
/// and after each end of a session: the sessions that the proxy has. The gateway answers which of
/// them must end; it learns its list anew from this after a restart.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConsoleReport {
    /// All live sessions of this proxy.
    pub sessions: Vec<ConsoleSession>,
}

/// Its answer.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ConsoleVerdict {
    /// Sessions to end now.
    pub end: Vec<ConsoleSessionId>,
}

/// One line of `GET /internal/console/events` of a gateway (newline-delimited JSON), which each
/// vnc-proxy follows: what cannot wait for the next report.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum ConsoleEvent {
    /// End this session now.
    End {
        /// Which.
        session: ConsoleSessionId,
        /// For the closing frame and the log: revoked, deleted, taken over, expired.
        reason: String,
    },
    /// Every 5 s when nothing else is sent.
    Heartbeat,
}
