//! All guests of the host, in memory, kept fresh by events.
//!
//! ```text
//!  Dirty(vm) --25 ms--> read that guest --> changed? --> generation + 1, event
//!  Connected, or every 20 s --> read all --> the same, for each
//!  Lost --> connected = false; the guests stay as they were last seen
//! ```

use std::collections::{BTreeMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::broadcast;
use tokio::time::Instant;
use vmmgr_common::api::domain::Domain;
use vmmgr_common::api::inventory::{HostEvent, Inventory};
use vmmgr_common::ids::{HostId, OperationId, VmId};

use crate::domain::read;
use crate::hypervisor::{Hypervisor, HypervisorError, Notice};

/// Events of one action come in bursts; one read answers them all.
const COALESCE: Duration = Duration::from_millis(25);
/// Repairs what lost events left wrong.
const FULL_READ: Duration = Duration::from_secs(20);
/// After a full read that failed.
const RETRY: Duration = Duration::from_millis(500);
/// Changes that a slow consumer may be behind before it gets a snapshot instead.
const BACKLOG: usize = 8192;

struct State {
    domains: BTreeMap<VmId, Domain>,
    generation: u64,
    connected: bool,
    read_at: Instant,
}

/// The inventory of this host.
pub(crate) struct InventoryService {
    host: HostId,
    epoch: OperationId,
    hypervisor: Arc<dyn Hypervisor>,
    state: Mutex<State>,
    events: broadcast::Sender<HostEvent>,
}

impl InventoryService {
    /// Begins to follow `hypervisor`.
    pub(crate) fn start(hypervisor: Arc<dyn Hypervisor>, host: HostId) -> Arc<Self> {
        let notices = hypervisor.notices();
        let (events, _) = broadcast::channel(BACKLOG);
        let state = State {
            domains: BTreeMap::new(),
            generation: 0,
            connected: false,
            read_at: Instant::now(),
        };
        let service = Arc::new(Self {
            host,
            epoch: OperationId::new(),
            hypervisor,
            state: Mutex::new(state),
            events,
        });
        tokio::spawn(follow(service.clone(), notices));
        service
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn snapshot_of(&self, state: &State) -> Inventory {
        Inventory {
            host: self.host.clone(),
            epoch: self.epoch,
            generation: state.generation,
            connected: state.connected,
            age_seconds: state.read_at.elapsed().as_secs(),
            domains: state.domains.values().cloned().collect(),
        }
    }

    /// Everything now.
    pub(crate) fn snapshot(&self) -> Inventory {
        self.snapshot_of(&self.lock())
    }

    /// Number of the last change.
    pub(crate) fn generation(&self) -> u64 {
        self.lock().generation
    }

    /// Everything now, and every change from now on: no gap, no overlap.
    pub(crate) fn subscribe(&self) -> (Inventory, broadcast::Receiver<HostEvent>) {
        let state = self.lock();
        (self.snapshot_of(&state), self.events.subscribe())
    }

    fn publish(&self, event: HostEvent) {
        // No consumer is no failure.
        drop(self.events.send(event));
    }

    fn upsert(&self, state: &mut State, domain: Domain) {
        if state.domains.get(&domain.id).is_some_and(|known| same(known, &domain)) {
            return;
        }
        state.generation += 1;
        state.domains.insert(domain.id, domain.clone());
        self.publish(HostEvent::Changed { generation: state.generation, domain: Box::new(domain) });
    }

    fn remove(&self, state: &mut State, id: VmId) {
        if state.domains.remove(&id).is_some() {
            state.generation += 1;
            self.publish(HostEvent::Removed { generation: state.generation, id });
        }
    }

    fn set_connected(&self, connected: bool) {
        let mut state = self.lock();
        if state.connected != connected {
            state.connected = connected;
            state.generation += 1;
            self.publish(HostEvent::Connection { generation: state.generation, connected });
        }
    }

    /// Reads one guest now, so that the caller's next look shows what it did. A failure leaves
    /// what was known; the next full read repairs it.
    pub(crate) async fn refresh(&self, id: VmId) {
        match self.hypervisor.domain(id).await {
            Ok(raw) => {
                if let Some(domain) = read::parse(&raw) {
                    self.upsert(&mut self.lock(), domain);
                }
            }
            Err(HypervisorError::NoSuchDomain(_)) => self.remove(&mut self.lock(), id),
            Err(error) => tracing::debug!(vm.id = %id, %error, "a guest was not read"),
        }
    }

    async fn read_all(&self) -> Result<(), HypervisorError> {
        let raw = self.hypervisor.list().await?;
        let domains: Vec<Domain> = raw.iter().filter_map(read::parse).collect();
        let mut state = self.lock();
        let seen: HashSet<VmId> = domains.iter().map(|domain| domain.id).collect();
        let gone: Vec<VmId> =
            state.domains.keys().filter(|id| !seen.contains(id)).copied().collect();
        for domain in domains {
            self.upsert(&mut state, domain);
        }
        for id in gone {
            self.remove(&mut state, id);
        }
        state.read_at = Instant::now();
        Ok(())
    }
}

/// Equal but for the CPU time, which changes all the time and is no news.
fn same(known: &Domain, fresh: &Domain) -> bool {
    let mut known = known.clone();
    known.cpu_time_ns = fresh.cpu_time_ns;
    known == *fresh
}

async fn follow(service: Arc<InventoryService>, mut notices: broadcast::Receiver<Notice>) {
    let mut next_full = Instant::now();
    let mut dirty: HashSet<VmId> = HashSet::new();
    let mut dirty_at: Option<Instant> = None;
    loop {
        let wake = dirty_at.map_or(next_full, |at| at.min(next_full));
        tokio::select! {
            notice = notices.recv() => match notice {
                Ok(Notice::Dirty(id)) => {
                    dirty.insert(id);
                    dirty_at.get_or_insert_with(|| Instant::now() + COALESCE);
                }
                Ok(Notice::Connected) | Err(broadcast::error::RecvError::Lagged(_)) => {
                    next_full = Instant::now();
                }
                Ok(Notice::Lost) => service.set_connected(false),
                Err(broadcast::error::RecvError::Closed) => return,
            },
            () = tokio::time::sleep_until(wake) => {
                if dirty_at.is_some_and(|at| at <= Instant::now()) {
                    dirty_at = None;
                    for id in dirty.drain() {
                        service.refresh(id).await;
                    }
                }
                if next_full <= Instant::now() {
                    next_full = Instant::now() + full_read(&service).await;
                }
            }
        }
    }
}

/// Reads everything; says when to do it next.
async fn full_read(service: &InventoryService) -> Duration {
    match service.read_all().await {
        Ok(()) => {
            service.set_connected(true);
            FULL_READ
        }
        Err(HypervisorError::Unreachable) => {
            service.set_connected(false);
            RETRY
        }
        Err(error) => {
            tracing::warn!(%error, "the guests could not be read");
            RETRY
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hypervisor::fake::{FakeHypervisor, domain_xml};

    async fn next(events: &mut broadcast::Receiver<HostEvent>) -> HostEvent {
        tokio::time::timeout(Duration::from_secs(5), events.recv()).await.unwrap().unwrap()
    }

    fn service(fake: &Arc<FakeHypervisor>) -> Arc<InventoryService> {
        InventoryService::start(fake.clone(), HostId::parse("host01").unwrap())
    }

    #[tokio::test]
    async fn a_change_is_seen_and_numbered_and_a_removal_too() {
        let fake = FakeHypervisor::new();
        let service = service(&fake);
        let (_, mut events) = service.subscribe();
        let id = VmId::new();
        fake.define(id, &domain_xml(id)).await.unwrap();
        loop {
            match next(&mut events).await {
                HostEvent::Changed { domain, generation } => {
                    assert_eq!(domain.id, id);
                    assert!(generation >= 1 && generation <= service.generation());
                    break;
                }
                HostEvent::Connection { connected, .. } => assert!(connected),
                other => panic!("{other:?}"),
            }
        }
        fake.undefine(id).await.unwrap();
        while !matches!(next(&mut events).await, HostEvent::Removed { id: gone, .. } if gone == id)
        {
        }
        assert!(service.snapshot().domains.is_empty());
    }

    #[tokio::test]
    async fn a_lost_libvirt_keeps_the_guests_and_a_new_connection_reads_all_again() {
        let fake = FakeHypervisor::new();
        let id = VmId::new();
        fake.define(id, &domain_xml(id)).await.unwrap();
        let service = service(&fake);
        let (_, mut events) = service.subscribe();
        while !service.snapshot().connected {
            next(&mut events).await;
        }
        fake.lose();
        while !matches!(next(&mut events).await, HostEvent::Connection { connected: false, .. }) {}
        assert_eq!(service.snapshot().domains.len(), 1);
        assert!(!service.snapshot().connected);
        let other = VmId::new();
        fake.define_silently(other, &domain_xml(other));
        fake.come_back();
        while !matches!(next(&mut events).await, HostEvent::Changed { domain, .. } if domain.id == other)
        {
        }
        while !service.snapshot().connected {
            next(&mut events).await;
        }
        assert_eq!(service.snapshot().domains.len(), 2);
    }
}
