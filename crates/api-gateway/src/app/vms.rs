//! Guests: lists from memory, everything else through the host's agent.

use std::sync::Arc;

use serde::Serialize;
use vmmgr_common::api::domain::{Domain, DomainState};
use vmmgr_common::error::{ErrorCode, Problem};
use vmmgr_common::ids::{HostId, VmId};

use super::{App, no_such_host};
use crate::fleet::HostState;

/// A guest and its host.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct VmView {
    /// Its host.
    pub(crate) host: HostId,
    /// How the host is: anything but `reachable` makes the rest the last known.
    pub(crate) host_state: HostState,
    /// Seconds since the host was last heard.
    pub(crate) age_seconds: u64,
    /// The guest.
    #[serde(flatten, serialize_with = "shared")]
    pub(crate) domain: Arc<Domain>,
}

fn shared<S: serde::Serializer>(domain: &Arc<Domain>, out: S) -> Result<S::Ok, S::Error> {
    domain.as_ref().serialize(out)
}

/// True while the guest has a process.
pub(crate) const fn is_active(state: DomainState) -> bool {
    !matches!(state, DomainState::ShutOff | DomainState::Crashed | DomainState::NoState)
}

impl App {
    /// All guests of all hosts, from memory.
    pub(crate) fn vms(&self) -> Vec<VmView> {
        let mut all = Vec::new();
        for (host, view) in self.fleet.all() {
            all.extend(view.domains().into_iter().map(|domain| VmView {
                host: host.clone(),
                host_state: view.state,
                age_seconds: view.age_seconds(),
                domain,
            }));
        }
        all
    }

    /// All guests of one host, from memory.
    pub(crate) fn vms_of(&self, host: &HostId) -> Result<Vec<VmView>, Problem> {
        let view = self.fleet.host(host).ok_or_else(|| no_such_host(host))?;
        let age_seconds = view.age_seconds();
        let all = view.domains().into_iter().map(|domain| VmView {
            host: host.clone(),
            host_state: view.state,
            age_seconds,
            domain,
        });
        Ok(all.collect())
    }

    /// One guest, read from libvirt now; the last known if the host is away.
    pub(crate) async fn vm(&self, host: &HostId, vm: VmId) -> Result<VmView, Problem> {
        match self.agent(host)?.domain(vm).await {
            Ok(domain) => Ok(VmView {
                host: host.clone(),
                host_state: HostState::Reachable,
                age_seconds: 0,
                domain: Arc::new(domain),
            }),
            Err(problem) if problem.code == ErrorCode::HostUnreachable => {
                let known = self.vms_of(host)?.into_iter().find(|known| known.domain.id == vm);
                known.ok_or(problem)
            }
            Err(problem) => Err(problem),
        }
    }

    /// The architecture of a guest, from memory or from its host.
    pub(crate) async fn arch_of(&self, host: &HostId, vm: VmId) -> Result<String, Problem> {
        if let Some(known) = self.vms_of(host)?.into_iter().find(|known| known.domain.id == vm) {
            return Ok(known.domain.arch.clone());
        }
        Ok(self.agent(host)?.domain(vm).await?.arch)
    }
}
