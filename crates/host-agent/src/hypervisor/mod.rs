//! The one door to the hypervisor.
//!
//! [`Hypervisor`] is what the operations and handlers know; `libvirt.rs` (with `events.rs` and
//! `worker.rs`) is the real one, `fake.rs` the one for fast tests and faults. XML goes in and comes
//! out as text: `domain/` gives it meaning.

mod events;
#[cfg(test)]
pub(crate) mod fake;
mod libvirt;
mod serial;
mod storage;
#[cfg(test)]
mod tests;
mod tuning;
mod worker;

use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use async_trait::async_trait;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::broadcast;
use vmmgr_common::api::domain::{DomainState, InterfaceAddresses};
use vmmgr_common::api::host::Arch;
use vmmgr_common::error::{ErrorCode, Problem};
use vmmgr_common::ids::VmId;

pub(crate) use libvirt::Libvirt;
pub(crate) use storage::{Storage, VolumeInfo};
pub(crate) use tuning::{Level, Tuning};

/// The code of failures that are not libvirt's own (`VIR_ERR_OK`).
const NO_CODE: i32 = 0;

/// Why a call failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum HypervisorError {
    /// libvirt has no such domain.
    #[error("guest {0} does not exist on this host")]
    NoSuchDomain(VmId),
    /// A domain with that UUID or name exists.
    #[error("guest {0} exists already")]
    AlreadyExists(VmId),
    /// The domain has no snapshot of that name.
    #[error("guest {0} has no snapshot `{1}`")]
    NoSuchSnapshot(VmId, String),
    /// The domain's state excludes the call (`VIR_ERR_OPERATION_INVALID`).
    #[error("{0}")]
    WrongState(String),
    /// libvirtd cannot be reached; the worker is reconnecting.
    #[error("libvirt cannot be reached")]
    Unreachable,
    /// The call outlived its deadline; whether it took effect is unknown.
    #[error("libvirt did not answer `{call}` within {after:?}")]
    Deadline {
        /// Name of the call.
        call: &'static str,
        /// The deadline.
        after: Duration,
    },
    /// A volume that does not go away: somebody has it open, or it has snapshots.
    #[error("libvirt: {0}")]
    InUse(String),
    /// libvirt refused or failed.
    #[error("libvirt: {message} (code {code})")]
    Failed {
        /// `virErrorNumber`.
        code: i32,
        /// libvirt's text.
        message: String,
    },
}

impl From<HypervisorError> for Problem {
    fn from(error: HypervisorError) -> Self {
        let code = match &error {
            HypervisorError::NoSuchDomain(_) => ErrorCode::NoSuchVm,
            HypervisorError::AlreadyExists(_) => ErrorCode::AlreadyExists,
            HypervisorError::NoSuchSnapshot(..) => ErrorCode::NoSuchRecord,
            HypervisorError::WrongState(_) | HypervisorError::InUse(_) => ErrorCode::WrongState,
            HypervisorError::Unreachable => ErrorCode::HypervisorUnreachable,
            HypervisorError::Deadline { .. } => ErrorCode::Deadline,
            HypervisorError::Failed { .. } => ErrorCode::HypervisorFailed,
        };
        Self::new(code, error.to_string())
    }
}

/// The volatile part of a domain (`virDomainGetInfo`) and its XML.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RawDomain {
    /// Its id.
    pub(crate) id: VmId,
    /// `virDomainGetXMLDesc`, live when running.
    pub(crate) xml: String,
    /// Run state.
    pub(crate) state: DomainState,
    /// Memory now, KiB.
    pub(crate) memory_kib: u64,
    /// CPU time, ns.
    pub(crate) cpu_time_ns: u64,
    /// Starts with the host.
    pub(crate) autostart: bool,
}

/// What the host and its QEMU are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RawHost {
    /// Architecture of the machine.
    pub(crate) arch: Arch,
    /// `virConnectGetLibVersion`, `9.0.0`.
    pub(crate) libvirt_version: String,
    /// `virConnectGetVersion`, `7.2.22`.
    pub(crate) hypervisor_version: String,
    /// `virNodeGetInfo`.
    pub(crate) cpus: u32,
    /// MHz.
    pub(crate) cpu_mhz: u32,
    /// Bytes.
    pub(crate) memory_bytes: u64,
    /// `virNodeGetFreeMemory`, bytes.
    pub(crate) memory_free_bytes: u64,
    /// `virConnectGetCapabilities`, for guest architectures and KVM.
    pub(crate) capabilities_xml: String,
}

/// What the hypervisor tells unasked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Notice {
    /// Something about this domain changed: read it again (it may be gone).
    Dirty(VmId),
    /// A connection was made; everything may have changed.
    Connected,
    /// The connection was lost.
    Lost,
}

/// Which definition a change goes to (`virDomainModificationImpact`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Affect {
    /// The running domain.
    pub(crate) live: bool,
    /// Its definition.
    pub(crate) config: bool,
}

/// A domain that has a process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LiveDomain {
    /// Names this run: another one after every start.
    pub(crate) run: String,
    /// Live XML.
    pub(crate) xml: String,
}

/// A serial line: what the guest says, and what it is told.
pub(crate) type SerialLine =
    (Box<dyn AsyncRead + Send + Unpin>, Box<dyn AsyncWrite + Send + Unpin>);

/// Calls of the hypervisor. Each has a deadline of its own and may be called from any task.
#[async_trait]
pub(crate) trait Hypervisor: Tuning + Storage + Send + Sync + 'static {
    /// True while libvirtd answers.
    fn connected(&self) -> bool;
    /// Unasked news. A receiver that lags must take a full read.
    fn notices(&self) -> broadcast::Receiver<Notice>;
    /// About the host.
    async fn host(&self) -> Result<RawHost, HypervisorError>;
    /// All domains, active or not.
    async fn list(&self) -> Result<Vec<RawDomain>, HypervisorError>;
    /// One domain.
    async fn domain(&self, id: VmId) -> Result<RawDomain, HypervisorError>;
    /// The persistent definition (`VIR_DOMAIN_XML_INACTIVE`; secrets included when `secure`).
    async fn definition(&self, id: VmId, secure: bool) -> Result<String, HypervisorError>;
    /// `virDomainDefineXMLFlags` with validation; refuses an existing UUID.
    async fn define(&self, id: VmId, xml: &str) -> Result<(), HypervisorError>;
    /// `virDomainUndefineFlags`: managed save, snapshot metadata and NVRAM go too.
    async fn undefine(&self, id: VmId) -> Result<(), HypervisorError>;
    /// `virDomainCreate`.
    async fn start(&self, id: VmId) -> Result<(), HypervisorError>;
    /// `virDomainShutdownFlags` (ACPI).
    async fn shutdown(&self, id: VmId) -> Result<(), HypervisorError>;
    /// `virDomainDestroyFlags`; a domain that is off is not an error.
    async fn destroy(&self, id: VmId) -> Result<(), HypervisorError>;
    /// `virDomainReset`.
    async fn reset(&self, id: VmId) -> Result<(), HypervisorError>;
    /// `virDomainAttachDeviceFlags`.
    async fn attach(&self, id: VmId, xml: &str, affect: Affect) -> Result<(), HypervisorError>;
    /// `virDomainDetachDeviceFlags`; live removal may complete later, when the guest agrees.
    async fn detach(&self, id: VmId, xml: &str, affect: Affect) -> Result<(), HypervisorError>;
    /// `virDomainUpdateDeviceFlags`.
    async fn update(&self, id: VmId, xml: &str, affect: Affect) -> Result<(), HypervisorError>;
    /// `virDomainInterfaceAddresses` from lease, ARP and agent, merged; `lo` skipped.
    async fn addresses(&self, id: VmId) -> Result<Vec<InterfaceAddresses>, HypervisorError>;
    /// A domain that runs; [`HypervisorError::WrongState`] when it does not.
    async fn live(&self, id: VmId) -> Result<LiveDomain, HypervisorError>;
    /// `virDomainOpenGraphicsFD` without the screen's own password: who may see it was decided.
    /// `index` counts `<graphics>`; another run than `run` is [`HypervisorError::WrongState`].
    async fn open_graphics(
        &self,
        id: VmId,
        run: &str,
        index: u32,
    ) -> Result<UnixStream, HypervisorError>;
    /// The serial line whose host side is the pseudo-terminal `pty`.
    async fn open_serial(&self, id: VmId, pty: &Path) -> Result<SerialLine, HypervisorError>;
    /// `virDomainScreenshot` of the first screen: PPM or PNG.
    async fn screenshot(&self, id: VmId) -> Result<Vec<u8>, HypervisorError>;
}
