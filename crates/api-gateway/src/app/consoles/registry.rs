//! Live sessions and their chains, in memory: what the proxies tell. Pure: it does what it is told, and
//! asks nobody.
//!
//! ```text
//!  issue --> ticket --redeem--> session          one chain: one caller, guest, kind
//!              | exchange                        a session that is ended breaks its chain:
//!              v                                 its tickets and resume secrets are worth nothing
//!            ticket + resume --exchange--> ticket + resume --> ...
//! ```

use std::collections::{BTreeMap, HashMap};

use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};
use vmmgr_common::api::console::{ConsoleKind, ConsoleMode, ConsoleSession};
use vmmgr_common::error::{ErrorCode, Problem};
use vmmgr_common::ids::{ConsoleSessionId, HostId, VmId};

/// A console that was opened this morning is not still open tomorrow.
const CHAIN: TimeDelta = TimeDelta::hours(12);
/// Between a redeemed ticket and the first report with its session the agent opens the console.
const OPENING: TimeDelta = TimeDelta::seconds(30);
/// A proxy reports every 5 s; one that is silent this long has lost its sessions.
const SILENCE: TimeDelta = TimeDelta::seconds(60);
/// How long it is remembered that a session is to end.
const ENDED: TimeDelta = TimeDelta::minutes(5);

/// Who a console was given to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Owner {
    /// As [`crate::auth::Identity`] has it.
    pub(crate) user: String,
    /// Name of its token or link.
    pub(crate) token: String,
    /// Generation of the account that the token was given in.
    pub(crate) generation: u32,
    /// When the token ends, seconds since 1970.
    pub(crate) until: i64,
}

/// What tickets of one page have in common.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Chain {
    /// Its name.
    pub(super) id: ConsoleSessionId,
    /// Who asked.
    pub(crate) owner: Owner,
    began: DateTime<Utc>,
    /// Host of the guest.
    pub(crate) host: HostId,
    /// Guest.
    pub(crate) vm: VmId,
    /// Its name.
    pub(crate) name: String,
    /// Which console.
    pub(crate) kind: ConsoleKind,
    /// How.
    pub(crate) mode: ConsoleMode,
}

/// [`ConsoleSession::binding`].
#[derive(Serialize, Deserialize)]
struct Binding {
    chain: ConsoleSessionId,
    #[serde(flatten)]
    owner: Owner,
    ends: i64,
}

impl Chain {
    /// A new one of `owner`.
    pub(crate) fn new(
        owner: Owner,
        (host, vm, name): (HostId, VmId, String),
        (kind, mode): (ConsoleKind, ConsoleMode),
        now: DateTime<Utc>,
    ) -> Self {
        Self { id: ConsoleSessionId::new(), owner, began: now, host, vm, name, kind, mode }
    }

    /// When its last session must end.
    pub(super) fn ends(&self) -> DateTime<Utc> {
        let token = DateTime::from_timestamp(self.owner.until, 0).unwrap_or(self.began);
        token.min(self.began + CHAIN)
    }
}

struct Live {
    shown: ConsoleSession,
    proxy: String,
    chain: ConsoleSessionId,
    owner: Option<Owner>,
    ends: Option<DateTime<Utc>>,
    /// When the proxy last told of it, or was given it.
    heard: DateTime<Utc>,
    reported: bool,
    /// The fleet has shown its guest.
    seen: bool,
}

/// What a ticket was redeemed for.
#[derive(Debug)]
pub(crate) struct Granted {
    /// Name of the session.
    pub(crate) session: ConsoleSessionId,
    /// Its chain.
    pub(crate) chain: Chain,
    /// Run that the ticket was bound to.
    pub(crate) run: String,
    /// When it must end.
    pub(crate) ends: DateTime<Utc>,
    /// For the proxy to keep.
    pub(crate) binding: String,
    /// Sessions that it took over.
    pub(crate) ended: Vec<ConsoleSessionId>,
}

/// A live session as the keeper looks at it.
#[derive(Debug, Clone)]
pub(crate) struct Kept {
    /// Its name.
    pub(crate) id: ConsoleSessionId,
    /// Host.
    pub(crate) host: HostId,
    /// Guest.
    pub(crate) vm: VmId,
    /// Who it was given to; unknown where the proxy lost it.
    pub(crate) owner: Option<Owner>,
    /// The fleet has shown its guest before.
    pub(crate) seen: bool,
}

/// All consoles of this gateway.
#[derive(Default)]
pub(crate) struct Registry {
    sessions: BTreeMap<ConsoleSessionId, Live>,
    ended: HashMap<ConsoleSessionId, DateTime<Utc>>,
    /// Chains of ended sessions: nothing is given for them any more.
    broken: HashMap<ConsoleSessionId, DateTime<Utc>>,
    /// Those whose secrets are still to be taken out of the store.
    to_break: Vec<ConsoleSessionId>,
}

/// The same for every reason: who guesses learns nothing.
pub(super) fn refused() -> Problem {
    Problem::new(ErrorCode::Unauthenticated, "the console ticket is unknown, used or expired")
        .hint("ask for the console again")
}

impl Registry {
    fn forget_old(&mut self, now: DateTime<Utc>) {
        self.ended.retain(|_, at| *at + ENDED > now);
        self.broken.retain(|_, at| *at + ENDED > now);
        self.sessions.retain(|_, live| live.heard + SILENCE > now);
    }

    /// Whether a session of the chain was ended.
    pub(crate) fn is_broken(&self, chain: &Chain) -> bool {
        self.broken.contains_key(&chain.id)
    }

    /// Chains whose secrets are still to be taken out of the store; they are the caller's now.
    pub(crate) fn take_broken(&mut self) -> Vec<ConsoleSessionId> {
        std::mem::take(&mut self.to_break)
    }

    /// Gives back what could not be taken out of the store.
    pub(crate) fn give_back(&mut self, chain: ConsoleSessionId) {
        self.to_break.push(chain);
    }

    /// A session of `chain`, which `proxy` will relay.
    pub(crate) fn begin(
        &mut self,
        (chain, run): (Chain, String),
        (proxy, address): (&str, String),
        now: DateTime<Utc>,
    ) -> Result<Granted, Problem> {
        let session = ConsoleSessionId::new();
        let mut ended = Vec::new();
        if chain.mode == ConsoleMode::TakeOver {
            let theirs = |live: &Live| {
                (&live.shown.host, live.shown.vm, live.shown.kind)
                    == (&chain.host, chain.vm, chain.kind)
            };
            ended = self.sessions.iter().filter(|(_, l)| theirs(l)).map(|(id, _)| *id).collect();
            for other in &ended {
                self.end(*other, now);
            }
        }
        let ends = chain.ends();
        let bound = Binding { chain: chain.id, owner: chain.owner.clone(), ends: ends.timestamp() };
        let binding = crate::store::to_text(&bound)?;
        let shown = ConsoleSession {
            id: session,
            host: chain.host.clone(),
            vm: chain.vm,
            kind: chain.kind,
            mode: chain.mode,
            user: chain.owner.user.clone(),
            address,
            since: now.to_rfc3339_opts(chrono::SecondsFormat::Secs, true),
            binding: String::new(),
        };
        let live = Live {
            shown,
            proxy: proxy.to_owned(),
            chain: chain.id,
            owner: Some(chain.owner.clone()),
            ends: Some(ends),
            heard: now,
            reported: false,
            seen: false,
        };
        self.sessions.insert(session, live);
        Ok(Granted { session, chain, run, ends, binding, ended })
    }

    /// Ends a session and breaks its chain; false if there is none of that name.
    pub(crate) fn end(&mut self, id: ConsoleSessionId, now: DateTime<Utc>) -> bool {
        let Some(live) = self.sessions.remove(&id) else { return false };
        self.ended.insert(id, now);
        self.broken.insert(live.chain, now);
        self.to_break.push(live.chain);
        true
    }

    /// Takes a proxy's list for the truth; answers which of them must end.
    pub(crate) fn report(
        &mut self,
        proxy: &str,
        told: Vec<ConsoleSession>,
        now: DateTime<Utc>,
    ) -> Vec<ConsoleSessionId> {
        let mut end = Vec::new();
        let mut heard = std::collections::HashSet::new();
        for session in told {
            if self.ended.contains_key(&session.id) {
                end.push(session.id);
                continue;
            }
            heard.insert(session.id);
            let live =
                self.sessions.entry(session.id).or_insert_with(|| adopt(session, proxy, now));
            (live.heard, live.reported) = (now, true);
        }
        self.sessions.retain(|id, live| {
            let opening = !live.reported && live.heard + OPENING > now;
            live.proxy != proxy || heard.contains(id) || opening
        });
        end
    }

    /// Live sessions, of one guest if given.
    pub(crate) fn sessions(&self, of: Option<(&HostId, VmId)>) -> Vec<ConsoleSession> {
        let fits = |s: &&ConsoleSession| of.is_none_or(|(host, vm)| s.host == *host && s.vm == vm);
        self.sessions.values().map(|live| &live.shown).filter(fits).cloned().collect()
    }

    /// What there is to look after; what is over by itself is in the second list.
    pub(crate) fn keep(&mut self, now: DateTime<Utc>) -> (Vec<Kept>, Vec<ConsoleSessionId>) {
        self.forget_old(now);
        let over = |live: &Live| live.ends.is_some_and(|ends| ends <= now);
        let expired = self.sessions.iter().filter(|(_, live)| over(live)).map(|(id, _)| *id);
        let expired = expired.collect();
        let kept = self.sessions.iter().filter(|(_, live)| !over(live)).map(|(id, live)| Kept {
            id: *id,
            host: live.shown.host.clone(),
            vm: live.shown.vm,
            owner: live.owner.clone(),
            seen: live.seen,
        });
        (kept.collect(), expired)
    }

    /// The fleet shows the session's guest.
    pub(crate) fn mark_seen(&mut self, id: ConsoleSessionId) {
        if let Some(live) = self.sessions.get_mut(&id) {
            live.seen = true;
        }
    }
}

/// A session from before this gateway was started.
fn adopt(mut session: ConsoleSession, proxy: &str, now: DateTime<Utc>) -> Live {
    let bound: Option<Binding> = serde_json::from_str(&std::mem::take(&mut session.binding)).ok();
    Live {
        proxy: proxy.to_owned(),
        chain: bound.as_ref().map_or(session.id, |bound| bound.chain),
        ends: bound.as_ref().and_then(|bound| DateTime::from_timestamp(bound.ends, 0)),
        owner: bound.map(|bound| bound.owner),
        shown: session,
        heard: now,
        reported: true,
        seen: false,
    }
}
