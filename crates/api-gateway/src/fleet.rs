//! All guests of all hosts, in memory; each host's event stream keeps it fresh.
//!
//! A host that cannot be reached keeps its last known guests, marked and with their age; it is
//! never shown as empty.

mod news;

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock, PoisonError, RwLock};
use std::time::Duration;

use futures_util::StreamExt as _;
use serde::Serialize;
use tokio::time::Instant;
use utoipa::ToSchema;
use vmmgr_common::api::domain::Domain;
use vmmgr_common::api::inventory::{HostEvent, Inventory};
use vmmgr_common::client::AgentClient;
use vmmgr_common::ids::{HostId, OperationId, VmId};

use self::news::Before;
pub(crate) use self::news::{HostChanged, HostRemoved, VmRemoved, row, start};
use crate::feed::Feed;

/// First pause before a host is tried again; doubles up to [`LONGEST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_millis(200);
/// Longest pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// How a host is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum HostState {
    /// Not reached since it was registered or the gateway started.
    Connecting,
    /// Its stream is alive.
    Reachable,
    /// The agent answers, its libvirtd does not.
    HypervisorDown,
    /// The agent does not answer.
    Unreachable,
}

/// Shapes in which lists show a guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Face {
    /// `/v1`, any list.
    V1,
    /// The seed's list of one host.
    CompatHost,
    /// The seed's list of all hosts.
    CompatFleet,
}

/// A guest as last seen, and its rows in lists: made when first asked for, gone with the next change.
#[derive(Debug)]
pub(crate) struct Guest {
    /// What the agent said.
    pub(crate) domain: Domain,
    rows: [OnceLock<Box<str>>; 3],
}

impl Guest {
    fn new(domain: Domain) -> Arc<Self> {
        Arc::new(Self { domain, rows: Default::default() })
    }

    /// Its row, made by `render` unless it is there.
    pub(crate) fn row(&self, face: Face, render: impl FnOnce(&Domain) -> String) -> &str {
        self.rows[face as usize].get_or_init(|| render(&self.domain).into_boxed_str())
    }
}

/// Guests by id; a reader keeps the map that it took, a change goes into a copy then.
type Guests = Arc<BTreeMap<VmId, Arc<Guest>>>;

/// One host as last seen.
#[derive(Debug, Clone)]
pub(crate) struct HostView {
    /// How it is.
    pub(crate) state: HostState,
    /// Why it is not reachable.
    pub(crate) reason: Option<String>,
    epoch: Option<OperationId>,
    generation: u64,
    guests: Guests,
    seen: Instant,
}

impl HostView {
    fn new() -> Self {
        Self {
            state: HostState::Connecting,
            reason: None,
            epoch: None,
            generation: 0,
            guests: Guests::default(),
            seen: Instant::now(),
        }
    }

    /// Seconds since the agent was last heard.
    pub(crate) fn age_seconds(&self) -> u64 {
        self.seen.elapsed().as_secs()
    }

    /// How old what is known of its guests is, seconds: nothing while its stream is alive, so that
    /// equal lists are equal bytes.
    pub(crate) fn staleness_seconds(&self) -> u64 {
        if self.state == HostState::Reachable { 0 } else { self.age_seconds() }
    }

    /// Its guests as last known.
    pub(crate) fn guests(&self) -> impl Iterator<Item = &Arc<Guest>> {
        self.guests.values()
    }

    /// One of its guests.
    pub(crate) fn guest(&self, vm: VmId) -> Option<&Arc<Guest>> {
        self.guests.get(&vm)
    }

    /// Another whenever a list of its guests would differ: the agent numbers its changes, and an
    /// agent that starts anew has another epoch.
    pub(crate) fn version(&self) -> String {
        let epoch = self.epoch.map(|epoch| epoch.to_string()).unwrap_or_default();
        let (state, age) = (self.state as u8, self.staleness_seconds());
        format!("{epoch}.{}.{state}.{age}", self.generation)
    }

    /// Applies an event; false if it does not follow what is known, so that all must be read again.
    fn apply(&mut self, event: HostEvent) -> bool {
        self.seen = Instant::now();
        match event {
            HostEvent::Snapshot(inventory) => self.replace(inventory),
            HostEvent::Changed { generation, domain } => {
                if !self.follows(generation) {
                    return false;
                }
                Arc::make_mut(&mut self.guests).insert(domain.id, Guest::new(*domain));
            }
            HostEvent::Removed { generation, id } => {
                if !self.follows(generation) {
                    return false;
                }
                Arc::make_mut(&mut self.guests).remove(&id);
            }
            HostEvent::Connection { generation, connected } => {
                if !self.follows(generation) {
                    return false;
                }
                self.connected(connected);
            }
            HostEvent::Heartbeat { generation } => return generation <= self.generation + 1,
        }
        true
    }

    fn follows(&mut self, generation: u64) -> bool {
        let next = generation == self.generation + 1;
        if next {
            self.generation = generation;
        }
        next
    }

    fn replace(&mut self, inventory: Inventory) {
        self.epoch = Some(inventory.epoch);
        self.generation = inventory.generation;
        let guests = inventory.domains.into_iter().map(|domain| (domain.id, Guest::new(domain)));
        self.guests = Arc::new(guests.collect());
        self.connected(inventory.connected);
    }

    fn connected(&mut self, connected: bool) {
        self.state = if connected { HostState::Reachable } else { HostState::HypervisorDown };
        self.reason = (!connected).then(|| "libvirtd on the host cannot be reached".to_owned());
    }
}

/// The fleet.
#[derive(Default, Clone)]
pub(crate) struct Fleet {
    hosts: Arc<RwLock<BTreeMap<HostId, HostView>>>,
    feed: Feed,
}

impl Fleet {
    /// Begins to follow a host; the task ends when the host is removed.
    pub(crate) fn follow(&self, host: HostId, agent: AgentClient) {
        self.write(|hosts| {
            let view = HostView::new();
            // At another address now: what it has there is told anew.
            if hosts.contains_key(&host) {
                news::tell_host_removed(&self.feed, &host);
            }
            news::tell_host(&self.feed, &host, &view);
            hosts.insert(host.clone(), view)
        });
        tokio::spawn(follow(self.clone(), host, agent));
    }

    /// Forgets a host.
    pub(crate) fn forget(&self, host: &HostId) {
        self.write(|hosts| {
            if hosts.remove(host).is_some() {
                news::tell_host_removed(&self.feed, host);
            }
        });
    }

    /// Where its changes are told.
    pub(crate) const fn feed(&self) -> &Feed {
        &self.feed
    }

    /// One host.
    pub(crate) fn host(&self, host: &HostId) -> Option<HostView> {
        self.hosts.read().unwrap_or_else(PoisonError::into_inner).get(host).cloned()
    }

    /// Whether a host has a guest; none while that is not known for sure.
    pub(crate) fn has(&self, host: &HostId, vm: VmId) -> Option<bool> {
        let hosts = self.hosts.read().unwrap_or_else(PoisonError::into_inner);
        let view = hosts.get(host).filter(|view| view.state == HostState::Reachable)?;
        Some(view.guests.contains_key(&vm))
    }

    /// All hosts.
    pub(crate) fn all(&self) -> BTreeMap<HostId, HostView> {
        self.hosts.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// True if some host has the guest.
    pub(crate) fn knows(&self, vm: VmId) -> bool {
        self.all().values().any(|view| view.guest(vm).is_some())
    }

    fn write<T>(&self, change: impl FnOnce(&mut BTreeMap<HostId, HostView>) -> T) -> T {
        change(&mut self.hosts.write().unwrap_or_else(PoisonError::into_inner))
    }

    /// None once the host was removed.
    fn apply(&self, host: &HostId, event: HostEvent) -> Option<bool> {
        self.write(|hosts| {
            let view = hosts.get_mut(host)?;
            let before = Before::of(view, Some(&event));
            let follows = view.apply(event);
            if follows {
                before.tell(&self.feed, host, view);
            }
            Some(follows)
        })
    }

    fn lost(&self, host: &HostId, reason: String) -> bool {
        self.write(|hosts| match hosts.get_mut(host) {
            Some(view) => {
                let before = Before::of(view, None);
                view.state = HostState::Unreachable;
                view.reason = Some(reason);
                before.tell(&self.feed, host, view);
                true
            }
            None => false,
        })
    }
}

async fn follow(fleet: Fleet, host: HostId, agent: AgentClient) {
    let mut pause = FIRST_PAUSE;
    loop {
        let reason = match agent.events().await {
            Ok(events) => {
                pause = FIRST_PAUSE;
                let mut events = std::pin::pin!(events);
                loop {
                    match events.next().await {
                        Some(Ok(event)) => match fleet.apply(&host, event) {
                            Some(true) => {}
                            Some(false) => break "changes were missed".to_owned(),
                            None => return,
                        },
                        Some(Err(problem)) => break problem.detail,
                        None => break "the agent ended its stream".to_owned(),
                    }
                }
            }
            Err(problem) => problem.detail,
        };
        tracing::warn!(host.id = %host, reason, "lost the host's events");
        if !fleet.lost(&host, reason) {
            return;
        }
        // A little randomness, so that a thousand agents are not asked in one instant.
        tokio::time::sleep(pause.mul_f64(0.5 + rand::random::<f64>())).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn inventory(generation: u64) -> Inventory {
        Inventory {
            host: HostId::parse("h").unwrap(),
            epoch: OperationId::new(),
            generation,
            connected: true,
            age_seconds: 0,
            domains: Vec::new(),
        }
    }

    #[test]
    fn a_gap_in_the_numbers_is_noticed_and_a_lost_libvirt_is_told() {
        let mut view = HostView::new();
        assert!(view.apply(HostEvent::Snapshot(inventory(5))));
        assert_eq!(view.state, HostState::Reachable);
        assert!(view.apply(HostEvent::Connection { generation: 6, connected: false }));
        assert_eq!(view.state, HostState::HypervisorDown);
        assert!(!view.apply(HostEvent::Removed { generation: 8, id: VmId::new() }));
        assert!(view.apply(HostEvent::Heartbeat { generation: 6 }));
        assert!(!view.apply(HostEvent::Heartbeat { generation: 9 }));
    }

    #[test]
    fn a_version_changes_with_what_lists_show_and_only_then() {
        let mut view = HostView::new();
        let mut seen = vec![view.version()];
        let mut first = inventory(5);
        let epoch = first.epoch;
        first.domains = vec![domain()];
        view.apply(HostEvent::Snapshot(first));
        seen.push(view.version());
        view.apply(HostEvent::Heartbeat { generation: 5 });
        assert_eq!(seen[1], view.version(), "a heartbeat is no news");
        view.apply(HostEvent::Changed { generation: 6, domain: Box::new(domain()) });
        seen.push(view.version());
        view.apply(HostEvent::Connection { generation: 7, connected: false });
        seen.push(view.version());
        view.apply(HostEvent::Snapshot(Inventory { epoch, ..inventory(8) }));
        seen.push(view.version());
        view.apply(HostEvent::Snapshot(inventory(8)));
        seen.push(view.version());
        let all = seen.len();
        seen.sort();
        seen.dedup();
        assert_eq!(seen.len(), all, "{seen:?}");
    }

    #[test]
    fn a_row_is_made_once_and_anew_after_a_change() {
        let mut view = HostView::new();
        let guest = domain();
        let id = guest.id;
        view.apply(HostEvent::Snapshot(Inventory { domains: vec![guest.clone()], ..inventory(1) }));
        let row = |view: &HostView, text: &str| {
            view.guest(id).unwrap().row(Face::V1, |_| text.to_owned()).to_owned()
        };
        assert_eq!((row(&view, "a"), row(&view, "b")), ("a".into(), "a".into()));
        let taken = view.clone();
        view.apply(HostEvent::Changed { generation: 2, domain: Box::new(guest) });
        assert_eq!((row(&view, "c"), row(&taken, "d")), ("c".into(), "a".into()));
    }

    fn domain() -> Domain {
        serde_json::from_value(crate::fake::guest(VmId::new())).unwrap()
    }
}
