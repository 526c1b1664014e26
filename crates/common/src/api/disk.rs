//! Sizes, images and attachable things.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize};

use super::host::Arch;
use super::iso::IsoUrl;
use crate::ids::{InvalidName, MacAddress, ResourceName};

const GIB: u64 = 1 << 30;

/// A virtual disk size in bytes. Reads the seed's forms: `10`, `"10"`, `"10G"` are GiB; `M`, `G`,
/// `T` (optionally followed by `iB` or `B`) are binary units. 1 MiB to 64 TiB.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct DiskSize(u64);

impl DiskSize {
    /// Whole bytes.
    pub fn from_bytes(bytes: u64) -> Result<Self, InvalidName> {
        if (1 << 20..=64 << 40).contains(&bytes) {
            Ok(Self(bytes))
        } else {
            Err(refuse(&bytes.to_string()))
        }
    }

    /// Reads one of the text forms.
    pub fn parse(text: &str) -> Result<Self, InvalidName> {
        let trimmed = text.trim();
        let split = trimmed.find(|c: char| !c.is_ascii_digit()).unwrap_or(trimmed.len());
        let (digits, unit) = trimmed.split_at(split);
        let count: u64 = digits.parse().map_err(|_| refuse(text))?;
        let unit = match unit {
            "" | "G" | "g" | "GB" | "GiB" => GIB,
            "M" | "m" | "MB" | "MiB" => 1 << 20,
            "T" | "t" | "TB" | "TiB" => 1 << 40,
            _ => return Err(refuse(text)),
        };
        count.checked_mul(unit).ok_or_else(|| refuse(text)).and_then(Self::from_bytes)
    }

    /// The size in bytes.
    #[must_use]
    pub const fn bytes(self) -> u64 {
        self.0
    }
}

fn refuse(given: &str) -> InvalidName {
    InvalidName::new("size", given, "expected GiB as `10` or `10G`, also `512M` or `2T`, up to 64T")
}

impl Serialize for DiskSize {
    /// `"<n>M"` when whole, so that what we write is what we read.
    fn serialize<S: serde::Serializer>(&self, out: S) -> Result<S::Ok, S::Error> {
        out.serialize_str(&format!("{}M", self.0.div_ceil(1 << 20)))
    }
}

impl<'de> Deserialize<'de> for DiskSize {
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Form {
            Number(u64),
            Text(String),
        }
        let parsed = match Form::deserialize(input)? {
            Form::Number(gib) => Self::parse(&gib.to_string()),
            Form::Text(text) => Self::parse(&text),
        };
        parsed.map_err(serde::de::Error::custom)
    }
}

/// Where a gold image comes from, and what it must be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GoldImage {
    /// Name of the record.
    pub name: ResourceName,
    /// Guests that can boot it.
    pub arch: Arch,
    /// `https://…`, `http://…`, or an absolute path on the host below an allowed folder.
    pub uri: String,
    /// Lower-case hex digest of the file, when the operator pinned one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
}

macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$about:meta])* $variant:ident = $word:literal,)* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
        #[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
        #[serde(rename_all = "lowercase")]
        pub enum $name { $($(#[$about])* $variant,)* }

        impl $name {
            /// libvirt's word.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word,)* }
            }
        }
    };
}

words! {
    /// Bus of a disk.
    DiskBus {
        /// Fast; needs a driver, which every Linux has.
        #[default]
        Virtio = "virtio",
        /// virtio-scsi: many disks.
        Scsi = "scsi",
        /// AHCI; not while the guest runs.
        Sata = "sata",
        /// For old guests of machine `pc`; not while the guest runs.
        Ide = "ide",
    }
}

impl DiskBus {
    /// How its targets begin.
    #[must_use]
    pub const fn prefix(self) -> &'static str {
        match self {
            Self::Virtio => "vd",
            Self::Scsi | Self::Sata => "sd",
            Self::Ide => "hd",
        }
    }
}

words! {
    /// Format of a disk's volume.
    DiskFormat {
        /// Thin, over the gold image, with snapshots.
        #[default]
        Qcow2 = "qcow2",
        /// A full copy of the gold image; no snapshots.
        Raw = "raw",
    }
}

words! {
    /// Model of an interface.
    NicModel {
        /// Fast; needs a driver, which every Linux has.
        #[default]
        Virtio = "virtio",
        /// Intel 82540, for old guests.
        E1000 = "e1000",
        /// Intel 82574.
        E1000e = "e1000e",
        /// Realtek, for very old guests.
        Rtl8139 = "rtl8139",
    }
}

/// What an agent is asked to attach. Target letters are the agent's business.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Attachment {
    /// A new volume in the device's pool: an overlay of `gold`, or blank.
    Disk {
        /// Device template, such as `local-disk`.
        device: ResourceName,
        /// Virtual size.
        size: DiskSize,
        /// Gold image to start from; none makes a data disk.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        gold: Option<GoldImage>,
        /// Bus; the device's when absent.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        bus: Option<DiskBus>,
        /// Format; the device's when absent.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        format: Option<DiskFormat>,
        /// Values for variables that the device's template declares.
        #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
        variables: BTreeMap<String, String>,
    },
    /// A network interface.
    Nic {
        /// Device template, such as `net-br-ext`.
        device: ResourceName,
        /// Fixed address; the agent mints one when absent.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        mac: Option<MacAddress>,
        /// Model; the device's when absent.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        model: Option<NicModel>,
        /// Values for variables that the device's template declares.
        #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
        variables: BTreeMap<String, String>,
    },
    /// A CD-ROM drive with the given medium.
    Cdrom {
        /// Device template, such as `cdrom`.
        device: ResourceName,
        /// What is in the drive.
        medium: Medium,
    },
}

/// What is in a CD-ROM drive.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Medium {
    /// Nothing.
    Empty,
    /// The guest's own seed (`cidata.iso`).
    Seed,
    /// An ISO on the host, an absolute path below an allowed folder.
    Iso {
        /// Path on the host.
        path: String,
    },
    /// An ISO that QEMU reads from a web server, one of the host's origins.
    Network {
        /// Where.
        url: IsoUrl,
        /// Whether the server has to prove who it is (`https`).
        #[serde(default = "yes")]
        tls_verify: bool,
    },
}

const fn yes() -> bool {
    true
}

/// Which attached thing is meant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum DeviceRef {
    /// A NIC by its address.
    Mac(MacAddress),
    /// A disk or drive by its target (`vda`, `sdb`).
    Target(TargetName),
}

/// A disk target: two lower-case letters of a bus and one or more of a position (`vda`, `vdaa`).
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[cfg_attr(feature = "openapi", schema(value_type = String, pattern = "^(vd|sd|hd|fd)[a-z]{1,3}$", examples("vda")))]
#[serde(try_from = "String", into = "String")]
pub struct TargetName(String);

impl TargetName {
    /// Parses a target name.
    pub fn parse(text: &str) -> Result<Self, InvalidName> {
        let known = ["vd", "sd", "hd", "fd"].iter().any(|bus| text.starts_with(bus));
        if known && (3..=5).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_lowercase()) {
            Ok(Self(text.to_owned()))
        } else {
            Err(InvalidName::new(
                "device",
                text,
                "expected a target such as `vda` or a MAC address",
            ))
        }
    }

    /// The name itself.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for TargetName {
    type Error = InvalidName;
    fn try_from(text: String) -> Result<Self, Self::Error> {
        Self::parse(&text)
    }
}
impl From<TargetName> for String {
    fn from(name: TargetName) -> Self {
        name.0
    }
}
impl std::fmt::Display for TargetName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_seed_s_size_forms_are_gibibytes() {
        for text in ["10", "10G", " 10GiB "] {
            assert_eq!(DiskSize::parse(text).unwrap().bytes(), 10 * GIB);
        }
        let read = |json: &str| serde_json::from_str::<DiskSize>(json);
        assert_eq!(read("2").unwrap().bytes(), 2 * GIB);
        assert_eq!(read("\"512M\"").unwrap().bytes(), 512 << 20);
        for bad in [
            "\"10GG\"",
            "\"\"",
            "0",
            "-1",
            "1.5",
            "\"G\"",
            "\"99999999999999999999\"",
            "\"65T\"",
            "null",
        ] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_device_is_a_target_or_a_mac() {
        let read = |json: &str| serde_json::from_str::<DeviceRef>(json);
        assert!(matches!(read("\"vdaa\"").unwrap(), DeviceRef::Target(_)));
        assert!(matches!(read("\"52:54:00:00:00:01\"").unwrap(), DeviceRef::Mac(_)));
        for bad in ["\"vd\"", "\"../x\"", "\"vda;\"", "\"xda\"", "3"] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }
}
