//! A guest: what is asked for, and what libvirt says it is.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::host::Arch;
use super::seed::SeedSpec;
use crate::error::{ErrorCode, Problem};
use crate::ids::{MacAddress, ResourceName, VmId};

/// How the guest's firmware starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum Firmware {
    /// SeaBIOS; x86_64 only.
    #[default]
    Bios,
    /// OVMF or AAVMF, with variables of the guest's own.
    Uefi,
    /// The same with secure boot and the usual vendors' keys.
    UefiSecure,
}

/// The screen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum Graphics {
    /// VNC on a socket of the guest's own, no TCP port.
    #[default]
    Vnc,
    /// SPICE on a socket of the guest's own, no TCP port.
    Spice,
    /// No screen; serial only.
    None,
}

/// Where cloud-init finds its seed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum SeedMode {
    /// `http://169.254.169.254/<uuid>/`, announced in the SMBIOS serial.
    #[default]
    Http,
    /// A CD-ROM labelled `cidata`; needs no DHCP.
    Iso,
    /// None.
    None,
}

/// What the seed's `<metadata>` block holds (`urn:iso-meta`, prefix `mdconfig`): the record of a
/// guest that lives with the guest itself.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct GuestRecord {
    /// Owner; empty for the operator's own guests.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub tenant: String,
    /// Who asked for it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub creator: String,
    /// RFC 3339, UTC.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub created: String,
    /// Reserved address in CIDR form.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub ipaddr: String,
    /// Gateway of that address.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub gateway: String,
    /// Template that it was made from.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub template: String,
}

/// A guest to be made. Disks and NICs are attached by operations of their own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DomainCreate {
    /// Minted by the gateway.
    pub id: VmId,
    /// Short name, 1 to 63 of `a-z A-Z 0-9 . _ -`; libvirt's name is `<name>-<id>`.
    pub name: ResourceName,
    /// For people; up to 1000 characters, no control characters but newline and tab.
    #[serde(default)]
    pub description: String,
    /// Guest architecture.
    pub arch: Arch,
    /// Domain template on the host; the architecture's built-in when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub template: Option<ResourceName>,
    /// Values for variables that the template declares; others are refused.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub variables: BTreeMap<String, String>,
    /// Virtual CPUs at start, 1 to `vcpus_max`.
    pub vcpus: u32,
    /// Virtual CPUs that can be plugged in, up to 512.
    pub vcpus_max: u32,
    /// Memory at start, MiB, at least 16.
    pub memory_mib: u64,
    /// Memory that can be plugged in, MiB.
    pub memory_mib_max: u64,
    /// BIOS or UEFI.
    #[serde(default)]
    pub firmware: Firmware,
    /// A TPM 2.0 of the guest's own (swtpm on the host).
    #[serde(default)]
    pub tpm: bool,
    /// The screen.
    #[serde(default)]
    pub graphics: Graphics,
    /// libvirt CPU model, or `host-model`, `host-passthrough`, `maximum`; the best that the host
    /// gives when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_model: Option<ResourceName>,
    /// Machine type; `q35` or `virt` when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub machine: Option<ResourceName>,
    /// How the seed reaches the guest.
    #[serde(default)]
    pub seed_mode: SeedMode,
    /// What cloud-init is told.
    #[serde(default)]
    pub seed: SeedSpec,
    /// Kept in the domain's metadata.
    #[serde(default)]
    pub record: GuestRecord,
}

/// Run state, as libvirt tells it (`virDomainState`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum DomainState {
    /// libvirt has none.
    NoState,
    /// Runs.
    Running,
    /// Waits for a resource.
    Blocked,
    /// Paused.
    Paused,
    /// Is going down.
    ShuttingDown,
    /// Off.
    ShutOff,
    /// Crashed.
    Crashed,
    /// Suspended by the guest's power management.
    Suspended,
}

/// A guest as the inventory has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Domain {
    /// libvirt's UUID.
    pub id: VmId,
    /// libvirt's name.
    pub name: String,
    /// `<title>` and `<description>`.
    #[serde(default)]
    #[cfg_attr(feature = "openapi", schema(required))]
    pub description: String,
    /// Guest architecture, libvirt's spelling.
    pub arch: String,
    /// Run state.
    pub state: DomainState,
    /// Virtual CPUs now.
    pub vcpus: u32,
    /// Virtual CPUs at most.
    pub vcpus_max: u32,
    /// Memory now, KiB.
    pub memory_kib: u64,
    /// Memory at most, KiB.
    pub memory_kib_max: u64,
    /// CPU time used since start, nanoseconds.
    pub cpu_time_ns: u64,
    /// libvirt restarts it with the host.
    #[serde(default)]
    #[cfg_attr(feature = "openapi", schema(required))]
    pub autostart: bool,
    /// Disks and drives.
    #[serde(default)]
    #[cfg_attr(feature = "openapi", schema(required))]
    pub disks: Vec<Disk>,
    /// Interfaces.
    #[serde(default)]
    #[cfg_attr(feature = "openapi", schema(required))]
    pub nics: Vec<Nic>,
    /// First graphics kind: `vnc`, `spice` or none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub graphics: Option<String>,
    /// Our metadata block; empty for guests that others made.
    #[serde(default)]
    #[cfg_attr(feature = "openapi", schema(required))]
    pub record: GuestRecord,
    /// Keys and values that callers keep with the guest, in the same block.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub metadata: BTreeMap<String, String>,
}

impl Domain {
    /// Another whenever anything differs but the CPU time used: 32 hexadecimal digits of SHA-256.
    #[must_use]
    pub fn version(&self) -> String {
        let still = Self { cpu_time_ns: 0, ..self.clone() };
        let mut digest = Sha256::new();
        // Its own JSON has no map whose keys are no text, so this does not fail; if it did, the
        // version would be one that nobody has read.
        digest.update(serde_json::to_vec(&still).unwrap_or_default());
        digest.finalize().iter().take(16).map(|byte| format!("{byte:02x}")).collect()
    }

    /// Refuses when none of `versions` is the present one.
    pub fn unchanged(&self, versions: &[String]) -> Result<(), Problem> {
        if versions.contains(&self.version()) {
            return Ok(());
        }
        let detail = format!("guest {} is no longer as it was read", self.id);
        Err(Problem::new(ErrorCode::PreconditionFailed, detail)
            .hint("read the guest again, then repeat the change"))
    }
}

/// A disk or drive of a guest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Disk {
    /// `disk` or `cdrom` (also `floppy`, `lun`).
    pub device: String,
    /// Kind of source: `file`, `block`, `rbd`, `http`, `https`, or empty.
    pub source_type: String,
    /// Target (`vda`).
    pub target: String,
    /// Bus (`virtio`).
    pub bus: String,
    /// Path, volume or URL; empty for an empty drive.
    pub source: String,
}

/// An interface of a guest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Nic {
    /// `bridge`, `network`, `user`, …
    pub kind: String,
    /// Its address.
    pub mac: MacAddress,
    /// Bridge or network that it is on.
    pub source: String,
    /// Model (`virtio`).
    pub model: String,
    /// Tap device while the guest runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tap: Option<String>,
}

/// Addresses of one interface (`virDomainInterfaceAddresses`: lease, ARP and guest agent merged).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct InterfaceAddresses {
    /// Hardware address.
    pub mac: MacAddress,
    /// Name in the guest, or of the tap when the guest does not tell.
    pub name: String,
    /// Addresses.
    pub addresses: Vec<InterfaceAddress>,
}

/// One address.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct InterfaceAddress {
    /// Address with its prefix length, `169.254.3.4/16`.
    pub address: String,
    /// `ipv4` or `ipv6`.
    pub family: String,
}
