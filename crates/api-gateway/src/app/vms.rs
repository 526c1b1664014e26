//! Guests: lists from memory, everything else through the host's agent.

use serde::Serialize;
use sha2::{Digest as _, Sha256};
use utoipa::ToSchema;
use vmmgr_common::api::domain::{Domain, DomainState};
use vmmgr_common::error::{ErrorCode, Problem};
use vmmgr_common::ids::{HostId, VmId};

use super::{App, no_such_host};
use crate::fleet::{HostState, HostView};

/// A guest and its host.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct VmView {
    /// Its host.
    pub(crate) host: HostId,
    /// How the host is: anything but `reachable` makes the rest the last known.
    pub(crate) host_state: HostState,
    /// How old the rest is, seconds; 0 while the host is reachable.
    pub(crate) age_seconds: u64,
    /// The guest.
    #[serde(flatten)]
    pub(crate) domain: Domain,
}

/// True while the guest has a process.
pub(crate) const fn is_active(state: DomainState) -> bool {
    !matches!(state, DomainState::ShutOff | DomainState::Crashed | DomainState::NoState)
}

/// Guests of one host or of all, as they were at one moment.
pub(crate) struct Listing(Vec<(HostId, HostView)>);

impl Listing {
    /// Hosts and their guests.
    pub(crate) fn hosts(&self) -> impl Iterator<Item = (&HostId, &HostView)> {
        self.0.iter().map(|(host, view)| (host, view))
    }

    /// Guests and their hosts.
    pub(crate) fn guests(&self) -> impl Iterator<Item = (&HostId, &Domain)> {
        self.0.iter().flat_map(|(host, view)| view.guests().map(move |guest| (host, &guest.domain)))
    }

    /// Another whenever the list would differ.
    pub(crate) fn version(&self) -> String {
        let mut digest = Sha256::new();
        digest.update(env!("CARGO_PKG_VERSION"));
        for (host, view) in &self.0 {
            digest.update(format!("\n{host} {}", view.version()));
        }
        digest.finalize().iter().take(16).map(|byte| format!("{byte:02x}")).collect()
    }
}

impl App {
    /// All guests of all hosts, from memory.
    pub(crate) fn listing(&self) -> Listing {
        Listing(self.fleet.all().into_iter().collect())
    }

    /// All guests of one host, from memory.
    pub(crate) fn listing_of(&self, host: &HostId) -> Result<Listing, Problem> {
        let view = self.fleet.host(host).ok_or_else(|| no_such_host(host))?;
        Ok(Listing(vec![(host.clone(), view)]))
    }

    /// One guest as last known.
    fn known(&self, host: &HostId, vm: VmId) -> Result<Option<VmView>, Problem> {
        let view = self.fleet.host(host).ok_or_else(|| no_such_host(host))?;
        Ok(view.guest(vm).map(|guest| VmView {
            host: host.clone(),
            host_state: view.state,
            age_seconds: view.staleness_seconds(),
            domain: guest.domain.clone(),
        }))
    }

    /// One guest, read from libvirt now; the last known if the host is away.
    pub(crate) async fn vm(&self, host: &HostId, vm: VmId) -> Result<VmView, Problem> {
        match self.agent(host)?.domain(vm).await {
            Ok(domain) => Ok(VmView {
                host: host.clone(),
                host_state: HostState::Reachable,
                age_seconds: 0,
                domain,
            }),
            Err(problem) if problem.code == ErrorCode::HostUnreachable => {
                self.known(host, vm)?.ok_or(problem)
            }
            Err(problem) => Err(problem),
        }
    }

    /// The architecture of a guest, from memory or from its host.
    pub(crate) async fn arch_of(&self, host: &HostId, vm: VmId) -> Result<String, Problem> {
        match self.known(host, vm)? {
            Some(known) => Ok(known.domain.arch),
            None => Ok(self.agent(host)?.domain(vm).await?.arch),
        }
    }
}
