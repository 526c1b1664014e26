//! Consoles: who gets a ticket, what it is worth, who is looking, and when that ends.

#[cfg(test)]
mod link_tests;
mod registry;
#[cfg(test)]
mod tests;
mod tickets;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use chrono::{DateTime, Utc};
use tokio::sync::broadcast;
use vmmgr_common::api::console::{
    ConsoleEvent, ConsoleExchange, ConsoleGrant, ConsoleKind, ConsoleMode, ConsoleRedeem,
    ConsoleReport, ConsoleRequest, ConsoleResumable, ConsoleSession, ConsoleTicket, ConsoleVerdict,
};
use vmmgr_common::error::{ErrorCode, Problem};
use vmmgr_common::ids::{ConsoleSessionId, HostId, VmId};
use vmmgr_common::secret::Secret;

use self::registry::{Chain, Kept, Owner, Registry, refused};
use self::tickets::Tickets;
use super::App;
use crate::auth::{Identity, LINK};
use crate::store::Store;

/// The websocket on the public site.
const WEBSOCKET: &str = "/console/ws";
/// What ends a session is looked for this often: well within the second that is promised.
const KEEP_EVERY: Duration = Duration::from_millis(300);

/// Between two rounds of forgetting tickets that nobody used.
const FORGET_EVERY: u32 = 200;

/// Consoles: tickets of all gateways, sessions as the proxies tell this one.
pub(crate) struct Consoles {
    registry: Mutex<Registry>,
    tickets: Tickets,
    events: broadcast::Sender<ConsoleEvent>,
}

impl Consoles {
    /// None yet.
    pub(crate) fn new(store: Arc<dyn Store>) -> Self {
        let (registry, tickets) = (Mutex::default(), Tickets::new(store));
        Self { registry, tickets, events: broadcast::channel(1024).0 }
    }

    fn lock(&self) -> MutexGuard<'_, Registry> {
        self.registry.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the proxies must hear at once.
    pub(crate) fn events(&self) -> broadcast::Receiver<ConsoleEvent> {
        self.events.subscribe()
    }

    fn tell(&self, session: ConsoleSessionId, reason: &str) {
        tracing::info!(session.id = %session, reason, "console.end");
        // Where no proxy listens, the next report's answer tells it.
        drop(self.events.send(ConsoleEvent::End { session, reason: reason.to_owned() }));
    }

    /// Ends a session for good; false if there is none of that name.
    async fn end(&self, session: ConsoleSessionId, reason: &str) -> bool {
        let was = self.lock().end(session, Utc::now());
        if was {
            self.tell(session, reason);
            self.break_chains().await;
        }
        was
    }

    /// Takes secrets of ended sessions out of the store; what fails is tried again by the keeper, and
    /// is refused here meanwhile.
    async fn break_chains(&self) {
        let broken = self.lock().take_broken();
        for chain in broken {
            if let Err(problem) = self.tickets.break_chain(chain).await {
                tracing::warn!(%problem, "secrets of an ended console stay for a moment");
                self.lock().give_back(chain);
            }
        }
    }
}

fn text(at: DateTime<Utc>) -> String {
    at.to_rfc3339_opts(chrono::SecondsFormat::Secs, true)
}

/// The page that takes a ticket from its fragment, which no server and no log sees.
fn page(chain: &Chain, ticket: &Secret<String>) -> Secret<String> {
    let (kind, host, vm) = (chain.kind.as_str(), &chain.host, chain.vm);
    let ticket = ticket.expose();
    Secret::new(format!("/console/{kind}.html#host={host}&vm={vm}&ticket={ticket}"))
}

impl App {
    /// A ticket for a console of a guest that runs.
    pub(crate) async fn console_ticket(
        &self,
        who: &Identity,
        host: &HostId,
        vm: VmId,
        asked: ConsoleRequest,
    ) -> Result<ConsoleTicket, Problem> {
        let ConsoleRequest { kind, mode } = asked;
        if kind == ConsoleKind::Spice && mode == ConsoleMode::View {
            let said = "mode: SPICE has no `view`, its channels need answers";
            return Err(Problem::new(ErrorCode::InvalidValue, said).hint("use `share`, or vnc"));
        }
        let agent = self.agent(host)?;
        let info = agent.console_info(vm).await?;
        if !info.kinds.contains(&kind) {
            let said = format!("guest {vm} has no {} console", kind.as_str());
            return Err(Problem::new(ErrorCode::NoSuchConsole, said));
        }
        let name = agent.domain(vm).await?.name;
        let owner = Owner {
            user: who.user.clone(),
            token: who.token.clone(),
            generation: who.generation,
            until: i64::try_from(who.until).unwrap_or(i64::MAX),
        };
        let chain = Chain::new(owner, (host.clone(), vm, name), (kind, mode), Utc::now());
        let user = &who.user;
        tracing::info!(user, host.id = %host, vm.id = %vm, kind = kind.as_str(), ?mode, "console.ticket");
        self.ticket_of(chain, info.run).await
    }

    async fn ticket_of(&self, chain: Chain, run: String) -> Result<ConsoleTicket, Problem> {
        let (ticket, expires) = self.consoles.tickets.issue(chain.clone(), run, Utc::now()).await?;
        Ok(ConsoleTicket {
            websocket: WEBSOCKET.to_owned(),
            page: page(&chain, &ticket),
            ticket,
            kind: chain.kind,
            mode: chain.mode,
            expires_at: text(expires),
        })
    }

    /// A ticket or a resume secret for the next pair.
    pub(crate) async fn console_exchange(
        &self,
        given: ConsoleExchange,
    ) -> Result<ConsoleResumable, Problem> {
        let now = Utc::now();
        let (chain, run) = match &given {
            ConsoleExchange::Ticket(ticket) => {
                self.consoles.tickets.use_ticket(ticket, now).await?
            }
            ConsoleExchange::Resume(secret) => {
                let found = self.consoles.tickets.look_up(secret, now).await?;
                let kept = found.filter(|chain| !self.consoles.lock().is_broken(chain));
                let chain = kept.ok_or_else(refused)?;
                // While the guest is off, the secret stays good for when it is back.
                let info = self.agent(&chain.host)?.console_info(chain.vm).await?;
                if !self.consoles.tickets.use_resume(secret).await? {
                    return Err(refused());
                }
                (chain, info.run)
            }
        };
        if self.consoles.lock().is_broken(&chain) || !self.still_good(&chain.owner).await {
            return Err(refused());
        }
        let (host, vm, name) = (chain.host.clone(), chain.vm, chain.name.clone());
        let resume = self.consoles.tickets.resume_secret(&chain, now).await?;
        let ticket = self.ticket_of(chain, run).await?;
        Ok(ConsoleResumable { ticket, resume, host, vm, name })
    }

    /// What a ticket is worth, once.
    pub(crate) async fn console_redeem(
        &self,
        proxy: &str,
        given: ConsoleRedeem,
    ) -> Result<ConsoleGrant, Problem> {
        let (chain, run) = self.consoles.tickets.use_ticket(&given.ticket, Utc::now()).await?;
        if self.consoles.lock().is_broken(&chain) || !self.still_good(&chain.owner).await {
            return Err(refused());
        }
        let agent_url = self.host(&chain.host).await?.record.url;
        let address: String = given.address.chars().filter(|c| !c.is_control()).take(64).collect();
        let granted = self.consoles.lock().begin((chain, run), (proxy, address), Utc::now())?;
        for other in granted.ended {
            self.consoles.tell(other, "taken over");
        }
        self.consoles.break_chains().await;
        let chain = granted.chain;
        let user = chain.owner.user;
        tracing::info!(session.id = %granted.session, user, vm.id = %chain.vm, "console.open");
        Ok(ConsoleGrant {
            session: granted.session,
            host: chain.host,
            agent_url,
            vm: chain.vm,
            user,
            binding: granted.binding,
            run: granted.run,
            kind: chain.kind,
            mode: chain.mode,
            ends_at: Some(text(granted.ends)),
        })
    }

    /// Takes a proxy's list; answers which of them must end.
    pub(crate) fn console_report(&self, proxy: &str, report: ConsoleReport) -> ConsoleVerdict {
        let end = self.consoles.lock().report(proxy, report.sessions, Utc::now());
        ConsoleVerdict { end }
    }

    /// Who looks at a guest's consoles.
    pub(crate) fn console_sessions(
        &self,
        host: &HostId,
        vm: VmId,
    ) -> Result<Vec<ConsoleSession>, Problem> {
        self.agent(host)?;
        Ok(self.consoles.lock().sessions(Some((host, vm))))
    }

    /// Ends a session; its page does not come back by itself.
    pub(crate) async fn end_console(
        &self,
        who: &Identity,
        id: ConsoleSessionId,
    ) -> Result<(), Problem> {
        if self.consoles.end(id, &format!("ended by {}", who.user)).await {
            return Ok(());
        }
        Err(Problem::new(ErrorCode::NoSuchConsole, format!("no console session {id}")))
    }

    /// True while the login that a console was asked with is good and its account unchanged, or
    /// the link is not revoked.
    async fn still_good(&self, owner: &Owner) -> bool {
        if owner.user.starts_with(LINK) {
            return owner.until > Utc::now().timestamp() && self.link_is_kept(&owner.token).await;
        }
        !self.is_revoked(&owner.token)
            && owner.until > Utc::now().timestamp()
            && self.accounts.has(&owner.user, owner.generation)
    }

    /// Why a session must end now.
    async fn overdue(&self, kept: &Kept) -> Option<&'static str> {
        if let Some(owner) = &kept.owner
            && !self.still_good(owner).await
        {
            return Some("no longer allowed");
        }
        if self.agent(&kept.host).is_err() {
            return Some("the host was removed");
        }
        match self.fleet.has(&kept.host, kept.vm) {
            Some(true) if !kept.seen => self.consoles.lock().mark_seen(kept.id),
            // A guest that is too new for the fleet is not one that is gone.
            Some(false) if kept.seen => return Some("the guest was deleted"),
            _ => {}
        }
        None
    }

    async fn keep_consoles(&self) {
        let (kept, expired) = self.consoles.lock().keep(Utc::now());
        for session in expired {
            self.consoles.end(session, "expired").await;
        }
        for kept in kept {
            if let Some(reason) = self.overdue(&kept).await {
                self.consoles.end(kept.id, reason).await;
            }
        }
        self.consoles.break_chains().await;
    }
}

/// Ends sessions whose time has come, until the application is gone: one look at everything that
/// a session hangs on, so that no way of losing a right has to remember consoles.
pub(crate) fn keep(app: &Arc<App>) {
    let app: Weak<App> = Arc::downgrade(app);
    tokio::spawn(async move {
        for round in 1_u32.. {
            tokio::time::sleep(KEEP_EVERY).await;
            let Some(app) = app.upgrade() else { return };
            app.keep_consoles().await;
            if round % FORGET_EVERY == 0
                && let Err(problem) = app.consoles.tickets.forget_old(Utc::now()).await
            {
                tracing::warn!(%problem, "old console tickets are forgotten later");
            }
        }
    });
}
