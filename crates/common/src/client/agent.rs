//! Client of host-agent.

use std::time::Duration;

use bytes::Bytes;
use futures_util::Stream;
use reqwest::Method;

use super::http::{ClientError, DEADLINE, Peer};
use crate::api::console::{ConsoleInfo, ConsoleKind};
use crate::api::disk::TargetName;
use crate::api::domain::{Domain, InterfaceAddresses};
use crate::api::host::HostInfo;
use crate::api::inventory::{HostEvent, Inventory};
use crate::api::operation::{Operation, OperationEvent, OperationRequest};
use crate::api::seed::{BootTrace, SeedPreview};
use crate::api::snapshot::Snapshot;
use crate::api::tuning::{DiskUsage, NicStats};
use crate::error::{ErrorCode, Problem};
use crate::ids::{HostId, MacAddress, OperationId, VmId};
use crate::mtls::{Identity, Role, TlsFiles};

/// One host's agent.
#[derive(Debug, Clone)]
pub struct AgentClient {
    peer: Peer,
}

impl AgentClient {
    /// A client of the agent at `base_url` whose certificate must name `host`.
    pub fn new(files: &TlsFiles, base_url: &str, host: &HostId) -> Result<Self, ClientError> {
        let identity = Identity { role: Role::HostAgent, instance: host.to_string() };
        let peer = Peer::new(files, base_url, identity, ErrorCode::HostUnreachable)?;
        Ok(Self { peer })
    }

    /// What the host is.
    pub async fn host(&self) -> Result<HostInfo, Problem> {
        self.peer.get("/v1/host").await
    }

    /// All its guests.
    pub async fn inventory(&self) -> Result<Inventory, Problem> {
        self.peer.get("/v1/inventory").await
    }

    /// All its guests, and what changes from now on. Ends after the first error.
    pub async fn events(
        &self,
    ) -> Result<impl Stream<Item = Result<HostEvent, Problem>> + Send + use<>, Problem> {
        self.peer.lines("/v1/events").await
    }

    /// Hands in work and waits up to `wait` (at most 30 s) for its end.
    pub async fn submit(
        &self,
        request: &OperationRequest,
        wait: Duration,
    ) -> Result<Operation, Problem> {
        let wait = wait.min(Duration::from_secs(30));
        let path = format!("/v1/operations?wait_ms={}", wait.as_millis());
        let text = self.peer.call(Method::POST, &path, Some(request), DEADLINE + wait).await?;
        self.peer.read(&text)
    }

    /// How far an operation is.
    pub async fn operation(&self, id: OperationId) -> Result<Operation, Problem> {
        self.peer.get(&format!("/v1/operations/{id}")).await
    }

    /// An operation's progress from its start to its end.
    pub async fn operation_events(
        &self,
        id: OperationId,
    ) -> Result<impl Stream<Item = Result<OperationEvent, Problem>> + Send + use<>, Problem> {
        self.peer.lines(&format!("/v1/operations/{id}/events")).await
    }

    /// One guest, read from libvirt now.
    pub async fn domain(&self, vm: VmId) -> Result<Domain, Problem> {
        self.peer.get(&format!("/v1/domains/{vm}")).await
    }

    /// Its definition, without secrets.
    pub async fn xml(&self, vm: VmId) -> Result<String, Problem> {
        let text = self.peer.bytes(&format!("/v1/domains/{vm}/xml")).await?;
        String::from_utf8(text.to_vec())
            .map_err(|_| Problem::new(ErrorCode::Internal, format!("guest {vm}: XML is not UTF-8")))
    }

    /// Its addresses: lease, ARP and guest agent.
    pub async fn addresses(&self, vm: VmId) -> Result<Vec<InterfaceAddresses>, Problem> {
        self.peer.get(&format!("/v1/domains/{vm}/addresses")).await
    }

    /// Its snapshots, oldest first.
    pub async fn snapshots(&self, vm: VmId) -> Result<Vec<Snapshot>, Problem> {
        self.peer.get(&format!("/v1/domains/{vm}/snapshots")).await
    }

    /// Room that one of its disks takes.
    pub async fn disk_usage(&self, vm: VmId, target: &TargetName) -> Result<DiskUsage, Problem> {
        self.peer.get(&format!("/v1/domains/{vm}/disks/{target}")).await
    }

    /// Counters of one of its interfaces.
    pub async fn nic_stats(&self, vm: VmId, mac: MacAddress) -> Result<NicStats, Problem> {
        self.peer.get(&format!("/v1/domains/{vm}/nics/{mac}/stats")).await
    }

    /// Which consoles it has now, and the name of this run.
    pub async fn console_info(&self, vm: VmId) -> Result<ConsoleInfo, Problem> {
        self.peer.get(&format!("/v1/domains/{vm}/console")).await
    }

    /// Opens a console of the run `run`: the guest's own bytes in both directions. `from` is the
    /// offset from which a serial line is told again; its first byte's real offset is answered.
    pub async fn console(
        &self,
        vm: VmId,
        kind: ConsoleKind,
        run: &str,
        from: Option<u64>,
    ) -> Result<(reqwest::Upgraded, Option<u64>), Problem> {
        let from = from.map(|from| format!("&from={from}")).unwrap_or_default();
        let kind = kind.as_str();
        self.peer.upgrade(&format!("/v1/domains/{vm}/console/{kind}?run={run}{from}")).await
    }

    /// What its serial line said from the offset `from` on (from the oldest that is kept without),
    /// at most `limit` bytes (0: what the agent gives at once), and the offset of the first of them.
    pub async fn console_log(
        &self,
        vm: VmId,
        from: Option<u64>,
        limit: u64,
    ) -> Result<(u64, Bytes), Problem> {
        let from = from.map(|from| format!("&from={from}")).unwrap_or_default();
        self.peer.bytes_at(&format!("/v1/domains/{vm}/console/log?limit={limit}{from}")).await
    }

    /// Its screen now, PNG.
    pub async fn screenshot(&self, vm: VmId) -> Result<Bytes, Problem> {
        self.peer.bytes(&format!("/v1/domains/{vm}/screenshot")).await
    }

    /// What it fetched of its seed.
    pub async fn boot_trace(&self, vm: VmId) -> Result<BootTrace, Problem> {
        self.peer.get(&format!("/v1/domains/{vm}/boot")).await
    }

    /// Its seed as served, secrets masked.
    pub async fn seed_preview(&self, vm: VmId) -> Result<SeedPreview, Problem> {
        self.peer.get(&format!("/v1/domains/{vm}/seed")).await
    }
}
