//! What an agent says of its host.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::ids::{HostId, ResourceName};

/// Guest architectures that we define.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum Arch {
    /// 64-bit x86.
    #[serde(rename = "x86_64")]
    X86_64,
    /// 64-bit ARM.
    Aarch64,
}

impl Arch {
    /// libvirt's spelling.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::X86_64 => "x86_64",
            Self::Aarch64 => "aarch64",
        }
    }
}

/// `GET /v1/host` of an agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct HostInfo {
    /// The name in the agent's configuration and certificate.
    pub host: HostId,
    /// Architecture of the machine.
    pub arch: Arch,
    /// Architectures of guests that its QEMU offers.
    pub guest_archs: Vec<Arch>,
    /// What guests run on: `kvm` or `qemu` (software emulation).
    pub virt_type: String,
    /// libvirt's version, `9.0.0`.
    pub libvirt_version: String,
    /// QEMU's version, `7.2.22`.
    pub hypervisor_version: String,
    /// Logical CPUs.
    pub cpus: u32,
    /// CPU clock in MHz as libvirt reports it.
    pub cpu_mhz: u32,
    /// Memory of the host in bytes.
    pub memory_bytes: u64,
    /// Free memory of the host in bytes, at the time of the call.
    pub memory_free_bytes: u64,
    /// Devices that can be attached, as the agent is configured.
    pub devices: Vec<DeviceTemplate>,
    /// Names of the domain templates that the agent has.
    pub templates: Vec<ResourceName>,
    /// Variables of each domain template: what a request may set beside the typed fields.
    #[serde(default)]
    pub template_variables: BTreeMap<ResourceName, BTreeMap<String, TemplateVariable>>,
    /// Template files that the agent left out, and why.
    #[serde(default)]
    pub template_problems: Vec<String>,
}

/// A variable that a template declares.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct TemplateVariable {
    /// For people; empty if the operator wrote none.
    #[serde(default)]
    pub help: String,
    /// Value where a request names none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default: Option<String>,
    /// All values that are taken; any text if empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub one_of: Vec<String>,
}

impl TemplateVariable {
    /// Help, values and default in one line.
    #[must_use]
    pub fn summary(&self) -> String {
        let mut text = self.help.clone();
        if !self.one_of.is_empty() {
            text += &format!(" (one of {})", self.one_of.join(", "));
        }
        if let Some(default) = &self.default {
            text += &format!(" [{default}]");
        }
        text.trim().to_owned()
    }
}

/// What kind of device a device template makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum DeviceKind {
    /// A disk in a pool.
    Disk,
    /// A CD-ROM drive.
    Iso,
    /// A network interface.
    Net,
}

/// A device that an operator can attach by name (`local-disk`, `net-br-ext`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct DeviceTemplate {
    /// Name in the API.
    pub name: ResourceName,
    /// What it makes.
    pub kind: DeviceKind,
    /// For people.
    pub description: String,
    /// Its template, or `built-in`.
    pub template: String,
    /// Variables of its template.
    #[serde(default)]
    pub variables: BTreeMap<String, TemplateVariable>,
}
