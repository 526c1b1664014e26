//! From a ticket to a session, and the list of those that live.
//!
//! ```text
//!  request -> redeem (gateway, once) -> open (agent) -> 101 -> Relay
//!                                                        |  ^
//!                       Live: who is there, how to end it +--+ events, verdicts, drain
//! ```

mod follow;
mod live;

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use tokio::time::Instant;
use vmmgr_common::api::console::{
    ConsoleGrant, ConsoleKind, ConsoleMode, ConsoleOffset, ConsoleRedeem, ConsoleSession,
};
use vmmgr_common::error::{ErrorCode, Problem};

use crate::agent::Agents;
use crate::frame::{Opcode, header};
use crate::relay::{Relay, Rules};
use crate::request::Opening;
use crate::wire::Wire;

pub(crate) use follow::Gateways;
pub(crate) use live::Live;

/// What all sessions need.
#[derive(Debug)]
pub(crate) struct Sessions {
    pub(crate) gateways: Gateways,
    pub(crate) agents: Agents,
    pub(crate) live: Arc<Live>,
    /// Time between two pings.
    pub(crate) beat: Duration,
}

/// A console that is open at the guest's end and not yet at the browser's.
pub(crate) struct Granted {
    guest: Wire,
    grant: ConsoleGrant,
    rules: Rules,
    /// First frame to the browser.
    greeting: Vec<u8>,
    session: ConsoleSession,
}

impl Sessions {
    /// Uses the ticket up and opens the guest's console.
    pub(crate) async fn grant(&self, opening: &Opening) -> Result<Granted, Problem> {
        let ticket =
            ConsoleRedeem { ticket: opening.ticket.clone(), address: opening.address.clone() };
        let grant = self.gateways.redeem(&ticket).await?;
        if grant.kind == ConsoleKind::Spice && grant.mode == ConsoleMode::View {
            // Its channels acknowledge and agree all the time: dropping input would stop them.
            let detail = "SPICE has no mode `view`";
            return Err(Problem::new(ErrorCode::InvalidValue, detail).hint("use vnc or share"));
        }
        let from = opening.from.filter(|_| grant.kind == ConsoleKind::Serial);
        let now = Utc::now();
        let rules = Rules {
            kind: grant.kind,
            mode: grant.mode,
            beat: self.beat,
            ends_at: ends_at(grant.ends_at.as_deref(), now)?,
        };
        let (guest, offset) = self.agents.open(&grant, from).await?;
        let greeting = from.map(|from| greet(offset.unwrap_or(from))).unwrap_or_default();
        let session = ConsoleSession {
            id: grant.session,
            host: grant.host.clone(),
            vm: grant.vm,
            kind: grant.kind,
            mode: grant.mode,
            user: grant.user.clone(),
            address: opening.address.clone(),
            since: now.to_rfc3339_opts(chrono::SecondsFormat::Secs, true),
            binding: grant.binding.clone(),
        };
        Ok(Granted { guest, grant, rules, greeting, session })
    }

    /// Relays; the task lives as long as the session and holds no more than it.
    pub(crate) async fn begin(self: &Arc<Self>, mut browser: Wire, granted: Granted) {
        let Granted { guest, grant, rules, greeting, session } = granted;
        if !greeting.is_empty()
            && let Err(error) = browser.write(&greeting).await
        {
            tracing::info!(session.id = %grant.session, %error, "a browser went at once");
            return;
        }
        let Some(order) = self.live.enter(session) else { return };
        let (id, vm, host) = (grant.session, grant.vm, grant.host);
        let (kind, mode) = (grant.kind.as_str(), grant.mode);
        tracing::info!(session.id = %id, vm.id = %vm, host.id = %host, kind, ?mode, "console.open");
        let relay = Relay::new(browser, guest, rules);
        let live = Arc::clone(&self.live);
        let since = Instant::now();
        tokio::spawn(async move {
            let (ending, tally) = relay.run(order).await;
            live.leave(id, kind, ending.cause, tally);
            tracing::info!(session.id = %id, vm.id = %vm, cause = ending.cause, reason = %ending.reason,
                from_browser = tally.from_browser, from_guest = tally.from_guest,
                took_s = since.elapsed().as_secs(), "console.end");
        });
    }
}

/// The wall clock may be set; from here on only the time that passes counts.
fn ends_at(text: Option<&str>, now: DateTime<Utc>) -> Result<Option<Instant>, Problem> {
    let Some(text) = text else { return Ok(None) };
    let end = DateTime::parse_from_rfc3339(text).map_err(|error| {
        Problem::new(ErrorCode::Internal, format!("the grant's end is no time: {error}"))
    })?;
    let left = (end.with_timezone(&Utc) - now).to_std();
    let left =
        left.map_err(|_| Problem::new(ErrorCode::Unauthenticated, "the link has expired"))?;
    Ok(Instant::now().checked_add(left))
}

fn greet(offset: u64) -> Vec<u8> {
    let text = serde_json::to_vec(&ConsoleOffset { offset }).unwrap_or_default();
    let (head, length) = header(Opcode::Text, text.len());
    [&head[..length], &text].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_in_the_past_is_no_session_and_one_far_off_is_no_panic() {
        let now = Utc::now();
        assert_eq!(ends_at(None, now).unwrap(), None);
        let past = (now - chrono::TimeDelta::seconds(1)).to_rfc3339();
        assert_eq!(ends_at(Some(&past), now).unwrap_err().status, 401);
        assert!(ends_at(Some("9999-12-31T23:59:59Z"), now).is_ok());
        assert_eq!(ends_at(Some("soon"), now).unwrap_err().status, 500);
    }
}
