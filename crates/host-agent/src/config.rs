//! `agent.toml`.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer};
use vmmgr_common::api::disk::{DiskBus, DiskFormat, NicModel};
use vmmgr_common::api::iso::IsoUrl;
use vmmgr_common::ids::{HostId, ResourceName};
use vmmgr_common::mtls::TlsFiles;
use vmmgr_common::telemetry::LogConfig;

use crate::domain::rbd::RbdPool;
use crate::storage::origin::Origins;

/// Everything that an operator can set; see `config.example.toml` for each key's meaning.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Config {
    /// Name of this host; also in the certificate.
    pub(crate) host: HostId,
    /// mTLS listener.
    pub(crate) listen: SocketAddr,
    /// Health and metrics.
    pub(crate) ops_listen: SocketAddr,
    /// libvirt's address.
    #[serde(default = "default_libvirt_uri")]
    pub(crate) libvirt_uri: String,
    /// Threads that call libvirt.
    #[serde(default = "default_libvirt_workers")]
    pub(crate) libvirt_workers: usize,
    /// `kvm`, `qemu`, or `auto`.
    #[serde(default)]
    pub(crate) virt_type: VirtType,
    /// Journal of operations.
    pub(crate) state_dir: PathBuf,
    /// Serial logs of guests.
    pub(crate) console_log_dir: PathBuf,
    /// Operator templates (`<name>.xml.j2`, `device/<name>.xml.j2`).
    #[serde(default)]
    pub(crate) template_dir: Option<PathBuf>,
    /// Imported gold images.
    pub(crate) image_dir: PathBuf,
    /// Folders that gold images and ISOs may come from.
    #[serde(default)]
    pub(crate) local_roots: Vec<PathBuf>,
    /// Where gold images may be downloaded from.
    #[serde(default)]
    pub(crate) origins: Origins,
    /// The pool of local disks.
    pub(crate) pool: PoolConfig,
    /// Pools of RBD images on Ceph.
    #[serde(default)]
    pub(crate) rbd_pool: Vec<RbdPool>,
    /// Devices that can be attached.
    #[serde(default)]
    pub(crate) device: Vec<DeviceConfig>,
    /// Programs of the operator that run when a device comes or goes; none: off.
    #[serde(default)]
    pub(crate) device_hooks: Option<DeviceHooks>,
    /// The seed service; none where guests have ISO seeds or none.
    #[serde(default)]
    pub(crate) metadata: Option<MetadataConfig>,
    /// Certificates.
    pub(crate) tls: TlsFiles,
    /// Logs.
    #[serde(default)]
    pub(crate) log: LogConfig,
}

/// What guests run on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum VirtType {
    /// KVM if libvirt offers it and the device works.
    #[default]
    Auto,
    /// KVM.
    Kvm,
    /// Software emulation.
    Qemu,
}

/// A libvirt `dir` pool.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct PoolConfig {
    /// Name in libvirt.
    pub(crate) name: ResourceName,
    /// Folder.
    pub(crate) path: PathBuf,
}

/// A device by name.
#[derive(Debug, Clone, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase", deny_unknown_fields)]
pub(crate) enum DeviceConfig {
    /// A disk in a pool.
    Disk {
        /// Name in the API.
        name: ResourceName,
        /// For people.
        #[serde(default)]
        description: String,
        /// Bus where the request names none.
        #[serde(default)]
        bus: DiskBus,
        /// Format where the request names none; the pool's usual one if that is not set either.
        #[serde(default)]
        format: Option<DiskFormat>,
        /// Name of a `[[rbd_pool]]`; the local pool otherwise.
        #[serde(default)]
        pool: Option<ResourceName>,
        /// Device template of the operator; the built-in one otherwise.
        #[serde(default)]
        template: Option<ResourceName>,
        /// Hook of the device.
        #[serde(default)]
        hook: Option<ResourceName>,
    },
    /// A NIC on a bridge.
    Net {
        /// Name in the API.
        name: ResourceName,
        /// For people.
        #[serde(default)]
        description: String,
        /// Linux bridge.
        bridge: ResourceName,
        /// Model where the request names none.
        #[serde(default)]
        model: NicModel,
        /// Device template of the operator; the built-in one otherwise.
        #[serde(default)]
        template: Option<ResourceName>,
        /// Hook of the device.
        #[serde(default)]
        hook: Option<ResourceName>,
    },
    /// A CD-ROM drive.
    Iso {
        /// Name in the API.
        name: ResourceName,
        /// For people.
        #[serde(default)]
        description: String,
        /// What is in it: `"any"`, `"seed"`, `{ iso = "/srv/iso/debian.iso" }`, or
        /// `{ network = { url = "https://…" } }`.
        #[serde(default)]
        content: IsoContent,
        /// Hook of the device.
        #[serde(default)]
        hook: Option<ResourceName>,
    },
}

/// `[device_hooks]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct DeviceHooks {
    /// Folder of the hooks, absolute; root's alone.
    #[serde(deserialize_with = "absolute")]
    pub(crate) directory: PathBuf,
    /// How long one may take before it is killed, 1 to 3600 seconds.
    #[serde(default = "default_hook_seconds", deserialize_with = "hook_seconds")]
    timeout_seconds: u32,
}

impl DeviceHooks {
    /// One for tests.
    #[cfg(test)]
    pub(crate) fn of_test(directory: PathBuf, timeout_seconds: u32) -> Self {
        Self { directory, timeout_seconds }
    }

    /// How long a hook may take.
    pub(crate) fn timeout(&self) -> Duration {
        Duration::from_secs(self.timeout_seconds.into())
    }
}

/// What a CD-ROM device comes with.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase", deny_unknown_fields)]
pub(crate) enum IsoContent {
    /// What the request says; nothing if it says nothing.
    #[default]
    Any,
    /// The guest's own seed.
    Seed,
    /// Always this file, below one of `local_roots`.
    Iso(PathBuf),
    /// Always this ISO of a web server, one of the `[origins]`.
    Network {
        /// Where.
        url: IsoUrl,
        /// Whether the server has to prove who it is (`https`).
        #[serde(default = "yes")]
        tls_verify: bool,
    },
}

impl DeviceConfig {
    /// Its operator template.
    pub(crate) fn template(&self) -> Option<&ResourceName> {
        match self {
            Self::Disk { template, .. } | Self::Net { template, .. } => template.as_ref(),
            Self::Iso { .. } => None,
        }
    }

    /// The hook that runs when it comes or goes.
    pub(crate) fn hook(&self) -> Option<&ResourceName> {
        match self {
            Self::Disk { hook, .. } | Self::Net { hook, .. } | Self::Iso { hook, .. } => {
                hook.as_ref()
            }
        }
    }

    /// Name in the API.
    pub(crate) fn name(&self) -> &ResourceName {
        match self {
            Self::Disk { name, .. } | Self::Net { name, .. } | Self::Iso { name, .. } => name,
        }
    }
}

/// metadata-srv of this host.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct MetadataConfig {
    /// `https://127.0.0.1:7443`.
    pub(crate) url: String,
}

impl Config {
    /// Checks what the types cannot; the text names the key.
    pub(crate) fn check(&self) -> Result<(), String> {
        for (at, pool) in self.rbd_pool.iter().enumerate() {
            let name = &pool.name;
            if pool.monitors.is_empty() {
                return Err(format!("`rbd_pool` {name}: `monitors` must have at least one entry"));
            }
            if self.pool.name == *name {
                return Err(format!("`rbd_pool` {name}: the local pool has that name"));
            }
            let mut others = self.rbd_pool[..at].iter();
            if others.any(|other| other.name == *name || other.ceph_pool == pool.ceph_pool) {
                // A disk's source names the Ceph pool and no cluster.
                return Err(format!(
                    "`rbd_pool` {name}: another one has its name or its `ceph_pool`, and their disks could not be told apart"
                ));
            }
        }
        for device in &self.device {
            let DeviceConfig::Disk { name, pool: Some(pool), format, .. } = device else {
                continue;
            };
            if !self.rbd_pool.iter().any(|known| known.name == *pool) {
                return Err(format!("`device` {name}: there is no `rbd_pool` {pool}"));
            }
            if *format == Some(DiskFormat::Qcow2) {
                return Err(format!(
                    "`device` {name}: disks of an `rbd_pool` have `format = \"raw\"`"
                ));
            }
        }
        Ok(())
    }
}

fn default_libvirt_uri() -> String {
    "qemu:///system".to_owned()
}

const fn default_libvirt_workers() -> usize {
    4
}

const fn yes() -> bool {
    true
}

/// As long as the described system gave its actions.
const fn default_hook_seconds() -> u32 {
    300
}

fn hook_seconds<'de, D: Deserializer<'de>>(input: D) -> Result<u32, D::Error> {
    let seconds = u32::deserialize(input)?;
    if (1..=3600).contains(&seconds) {
        return Ok(seconds);
    }
    Err(D::Error::custom("expected 1 to 3600 seconds"))
}

fn absolute<'de, D: Deserializer<'de>>(input: D) -> Result<PathBuf, D::Error> {
    let path = PathBuf::deserialize(input)?;
    if path.is_absolute() { Ok(path) } else { Err(D::Error::custom("expected an absolute path")) }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    const EXAMPLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/config.example.toml");

    /// The example with its lines on Ceph, which begin with `#: `, taken in.
    pub(crate) fn with_ceph(change: impl FnOnce(String) -> String) -> Config {
        let text = fs_err::read_to_string(EXAMPLE).unwrap();
        let file = tempfile::NamedTempFile::new().unwrap();
        fs_err::write(file.path(), change(text.replace("\n#: ", "\n"))).unwrap();
        vmmgr_common::config::load(file.path()).unwrap()
    }

    #[test]
    fn the_example_is_a_valid_configuration() {
        let config: Config = vmmgr_common::config::load(EXAMPLE.as_ref()).unwrap();
        config.check().unwrap();
        assert_eq!(config.host.as_str(), "host01");
        assert_eq!((config.device.len(), config.rbd_pool.len()), (5, 0));
        assert!(config.device_hooks.is_none(), "hooks are opt-in");
        let ceph = with_ceph(|text| text);
        ceph.check().unwrap();
        assert_eq!((ceph.device.len(), ceph.rbd_pool.len()), (6, 1));
        assert_eq!(ceph.rbd_pool[0].monitors.len(), 3);
    }

    #[test]
    fn pools_that_do_not_fit_together_are_refused_by_name() {
        let bad = [
            ("\"10.0.0.11:6789\", \"10.0.0.12:6789\", \"[2001:db8::13]:6789\"", "", "monitors"),
            ("pool = \"ceph\"", "pool = \"absent\"", "no `rbd_pool` absent"),
            ("pool = \"ceph\"", "pool = \"ceph\"\nformat = \"qcow2\"", "raw"),
            ("name = \"ceph\"", "name = \"vmmgr\"", "the local pool"),
        ];
        for (from, to, why) in bad {
            let config = with_ceph(|text| {
                assert!(text.contains(from), "{from}");
                text.replace(from, to)
            });
            let said = config.check().expect_err(to);
            assert!(said.contains(why), "{said}");
        }
        let mut twice = with_ceph(|text| text);
        twice.rbd_pool.push(RbdPool {
            name: ResourceName::parse("second").unwrap(),
            ..twice.rbd_pool[0].clone()
        });
        assert!(twice.check().unwrap_err().contains("told apart"));
    }

    #[test]
    fn a_drive_may_come_with_an_iso_of_a_web_server() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("device.toml");
        let device = |content: &str| {
            fs_err::write(&path, format!("kind = 'iso'\nname = 'cd'\ncontent = {content}"))
                .unwrap();
            vmmgr_common::config::load::<DeviceConfig>(&path)
        };
        device("{ network = { url = 'https://iso.test/a.iso' } }").unwrap();
        device("{ network = { url = 'https://iso.test/a.iso', tls_verify = false } }").unwrap();
        for bad in
            ["'url'", "'/srv/a.iso', verify = 'no'", "'https://iso.test/a.iso', verify = 'no'"]
        {
            assert!(device(&format!("{{ network = {{ url = {bad} }} }}")).is_err(), "{bad}");
        }
    }

    #[test]
    fn hooks_have_an_absolute_folder_and_a_time() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("hooks.toml");
        let read = |text: &str| {
            fs_err::write(&path, text).unwrap();
            vmmgr_common::config::load::<DeviceHooks>(&path)
        };
        let hooks = read("directory = '/etc/vmmgr/hooks'").unwrap();
        assert_eq!(hooks.timeout(), Duration::from_secs(300));
        for (bad, why) in [
            ("directory = 'hooks'", "absolute"),
            ("directory = '/h'\ntimeout_seconds = 0", "1 to 3600"),
            ("directory = '/h'\ntimeout_seconds = 3601", "1 to 3600"),
            ("directory = '/h'\nshell = true", "shell"),
        ] {
            assert!(read(bad).unwrap_err().to_string().contains(why), "{bad}");
        }
    }
}
