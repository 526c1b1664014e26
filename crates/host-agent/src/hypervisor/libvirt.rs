//! The real hypervisor: libvirt through the `virt` crate, on [`super::worker`]'s threads.

mod storage;
mod tuning;

use std::collections::BTreeMap;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::broadcast;
use virt::connect::Connect;
use virt::domain::Domain;
use virt::error::Error;
use virt::stream::Stream;
use virt_sys as sys;
use vmmgr_common::api::domain::{DomainState, InterfaceAddress, InterfaceAddresses};
use vmmgr_common::api::host::Arch;
use vmmgr_common::ids::{MacAddress, VmId};

use super::worker::Pool;
use super::{
    Affect, Hypervisor, HypervisorError, LiveDomain, Notice, RawDomain, RawHost, SerialLine,
    events, serial,
};

/// Calls that read.
const READ: Duration = Duration::from_secs(10);
/// Reading all domains of a large host.
const LIST: Duration = Duration::from_secs(60);
/// Calls that change something; starting a guest waits for QEMU.
const CHANGE: Duration = Duration::from_secs(60);
/// Bytes of a screenshot: 8K at three bytes a pixel.
const LARGEST_SCREEN: usize = 7680 * 4320 * 3 + 1024;

/// libvirt on this host.
pub(crate) struct Libvirt {
    pool: Pool,
}

impl Libvirt {
    /// Connects in the background, and again whenever the connection is lost.
    pub(crate) fn connect(uri: String, workers: usize) -> std::io::Result<Arc<Self>> {
        Ok(Arc::new(Self { pool: Pool::start(uri, workers)? }))
    }

    async fn on_domain<T: Send + 'static>(
        &self,
        name: &'static str,
        within: Duration,
        id: VmId,
        work: impl FnOnce(&Domain) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, HypervisorError> {
        self.pool
            .call(name, within, move |connection| {
                let domain = lookup(connection, id)?;
                work(&domain).map_err(|error| translate(&error, Some(id)))
            })
            .await
    }
}

fn lookup(connection: &Connect, id: VmId) -> Result<Domain, HypervisorError> {
    connection
        .lookup_domain_by_uuid_string(&id.to_string())
        .map_err(|error| translate(&error, Some(id)))
}

fn translate(error: &Error, id: Option<VmId>) -> HypervisorError {
    let code = error.code().to_raw();
    match (code, id) {
        (sys::VIR_ERR_NO_DOMAIN, Some(id)) => HypervisorError::NoSuchDomain(id),
        (sys::VIR_ERR_DOM_EXIST, Some(id)) => HypervisorError::AlreadyExists(id),
        (sys::VIR_ERR_OPERATION_INVALID, _) => {
            HypervisorError::WrongState(error.message().to_owned())
        }
        (sys::VIR_ERR_NO_CONNECT | sys::VIR_ERR_INVALID_CONN | sys::VIR_ERR_RPC, _) => {
            HypervisorError::Unreachable
        }
        _ if lost(error.message()) => HypervisorError::Unreachable,
        _ => HypervisorError::Failed { code: code as i32, message: error.message().to_owned() },
    }
}

/// libvirt reports a connection that breaks during a call under general codes.
fn lost(message: &str) -> bool {
    ["client socket is closed", "internal error: client", "End of file while reading data"]
        .iter()
        .any(|text| message.contains(text))
}

/// libvirt tells a name that another UUID has under a general code.
fn name_taken(message: &str) -> bool {
    message.contains("already exists with uuid")
}

const fn state(raw: sys::virDomainState) -> DomainState {
    match raw {
        sys::VIR_DOMAIN_RUNNING => DomainState::Running,
        sys::VIR_DOMAIN_BLOCKED => DomainState::Blocked,
        sys::VIR_DOMAIN_PAUSED => DomainState::Paused,
        sys::VIR_DOMAIN_SHUTDOWN => DomainState::ShuttingDown,
        sys::VIR_DOMAIN_SHUTOFF => DomainState::ShutOff,
        sys::VIR_DOMAIN_CRASHED => DomainState::Crashed,
        sys::VIR_DOMAIN_PMSUSPENDED => DomainState::Suspended,
        _ => DomainState::NoState,
    }
}

fn raw(domain: &Domain) -> Result<Option<RawDomain>, Error> {
    // Guests of others may have a UUID that is none of ours (all zero): they are not shown.
    let Ok(id) = VmId::parse(&domain.uuid_string()?) else { return Ok(None) };
    let info = domain.info()?;
    Ok(Some(RawDomain {
        id,
        xml: domain.xml_desc(0)?,
        state: state(info.state.to_raw()),
        memory_kib: info.memory,
        cpu_time_ns: info.cpu_time,
        autostart: domain.autostart().unwrap_or(false),
    }))
}

fn version(number: u32) -> String {
    format!("{}.{}.{}", number / 1_000_000, number / 1000 % 1000, number % 1000)
}

const fn flags(affect: Affect) -> u32 {
    (if affect.live { sys::VIR_DOMAIN_AFFECT_LIVE } else { 0 })
        | (if affect.config { sys::VIR_DOMAIN_AFFECT_CONFIG } else { 0 })
}

#[async_trait]
impl Hypervisor for Libvirt {
    fn connected(&self) -> bool {
        self.pool.connected()
    }

    fn notices(&self) -> broadcast::Receiver<Notice> {
        self.pool.notices()
    }

    async fn host(&self) -> Result<RawHost, HypervisorError> {
        let read = |connection: &Connect| -> Result<RawHost, Error> {
            let node = connection.node_info()?;
            let capabilities_xml = connection.capabilities()?;
            let arch = if node.model == "aarch64" { Arch::Aarch64 } else { Arch::X86_64 };
            Ok(RawHost {
                arch,
                libvirt_version: version(connection.lib_version()?),
                hypervisor_version: version(connection.hyp_version()?),
                cpus: node.cpus,
                cpu_mhz: node.mhz,
                memory_bytes: node.memory * 1024,
                memory_free_bytes: connection.free_memory()?,
                capabilities_xml,
            })
        };
        self.pool.call("host", READ, move |c| read(c).map_err(|e| translate(&e, None))).await
    }

    async fn list(&self) -> Result<Vec<RawDomain>, HypervisorError> {
        self.pool
            .call("list", LIST, |connection| {
                let domains = connection.list_all_domains(0).map_err(|e| translate(&e, None))?;
                let mut all = Vec::with_capacity(domains.len());
                for domain in domains {
                    match raw(&domain) {
                        Ok(found) => all.extend(found),
                        // It went away between the two calls.
                        Err(error) if error.code().to_raw() == sys::VIR_ERR_NO_DOMAIN => {}
                        Err(error) => return Err(translate(&error, None)),
                    }
                }
                Ok(all)
            })
            .await
    }

    async fn domain(&self, id: VmId) -> Result<RawDomain, HypervisorError> {
        let found = self.on_domain("domain", READ, id, raw).await?;
        found.ok_or(HypervisorError::NoSuchDomain(id))
    }

    async fn definition(&self, id: VmId, secure: bool) -> Result<String, HypervisorError> {
        let secret = if secure { sys::VIR_DOMAIN_XML_SECURE } else { 0 };
        let wanted = sys::VIR_DOMAIN_XML_INACTIVE | secret;
        self.on_domain("definition", READ, id, move |domain| domain.xml_desc(wanted)).await
    }

    async fn define(&self, id: VmId, xml: &str) -> Result<(), HypervisorError> {
        let xml = xml.to_owned();
        self.pool
            .call("define", CHANGE, move |connection| {
                match lookup(connection, id) {
                    Err(HypervisorError::NoSuchDomain(_)) => {}
                    Ok(_) => return Err(HypervisorError::AlreadyExists(id)),
                    Err(error) => return Err(error),
                }
                connection
                    .define_domain_xml_flags(&xml, sys::VIR_DOMAIN_DEFINE_VALIDATE)
                    .map(drop)
                    .map_err(|error| match error.code().to_raw() {
                        sys::VIR_ERR_OPERATION_FAILED if name_taken(error.message()) => {
                            HypervisorError::AlreadyExists(id)
                        }
                        _ => translate(&error, Some(id)),
                    })
            })
            .await
    }

    async fn undefine(&self, id: VmId) -> Result<(), HypervisorError> {
        let basic =
            sys::VIR_DOMAIN_UNDEFINE_MANAGED_SAVE | sys::VIR_DOMAIN_UNDEFINE_SNAPSHOTS_METADATA;
        let all =
            basic | sys::VIR_DOMAIN_UNDEFINE_CHECKPOINTS_METADATA | sys::VIR_DOMAIN_UNDEFINE_NVRAM;
        self.on_domain("undefine", CHANGE, id, move |domain| match domain.undefine_flags(all) {
            // A driver without checkpoints and NVRAM refuses their flags before it does anything.
            Err(error) if error.code().to_raw() == sys::VIR_ERR_INVALID_ARG => {
                domain.undefine_flags(basic)
            }
            other => other,
        })
        .await
    }

    async fn start(&self, id: VmId) -> Result<(), HypervisorError> {
        self.on_domain("start", CHANGE, id, Domain::create).await
    }

    async fn shutdown(&self, id: VmId) -> Result<(), HypervisorError> {
        let how = sys::VIR_DOMAIN_SHUTDOWN_ACPI_POWER_BTN;
        self.on_domain("shutdown", READ, id, move |domain| domain.shutdown_flags(how)).await
    }

    async fn destroy(&self, id: VmId) -> Result<(), HypervisorError> {
        self.on_domain("destroy", CHANGE, id, |domain| match domain.destroy() {
            Err(error) if error.code().to_raw() == sys::VIR_ERR_OPERATION_INVALID => Ok(()),
            other => other,
        })
        .await
    }

    async fn reset(&self, id: VmId) -> Result<(), HypervisorError> {
        self.on_domain("reset", READ, id, Domain::reset).await
    }

    async fn attach(&self, id: VmId, xml: &str, affect: Affect) -> Result<(), HypervisorError> {
        let xml = xml.to_owned();
        self.on_domain("attach", CHANGE, id, move |domain| {
            domain.attach_device_flags(&xml, flags(affect))
        })
        .await
    }

    async fn detach(&self, id: VmId, xml: &str, affect: Affect) -> Result<(), HypervisorError> {
        let xml = xml.to_owned();
        self.on_domain("detach", CHANGE, id, move |domain| {
            domain.detach_device_flags(&xml, flags(affect))
        })
        .await
    }

    async fn update(&self, id: VmId, xml: &str, affect: Affect) -> Result<(), HypervisorError> {
        let xml = xml.to_owned();
        self.on_domain("update", CHANGE, id, move |domain| {
            domain.update_device_flags(&xml, flags(affect))
        })
        .await
    }

    async fn addresses(&self, id: VmId) -> Result<Vec<InterfaceAddresses>, HypervisorError> {
        self.on_domain("addresses", READ, id, |domain| {
            let running = domain.info()?.state.to_raw() == sys::VIR_DOMAIN_RUNNING;
            let mut merged = BTreeMap::new();
            if running {
                for source in [
                    sys::VIR_DOMAIN_INTERFACE_ADDRESSES_SRC_AGENT,
                    sys::VIR_DOMAIN_INTERFACE_ADDRESSES_SRC_LEASE,
                    sys::VIR_DOMAIN_INTERFACE_ADDRESSES_SRC_ARP,
                ] {
                    // Each source may be missing (no agent, no libvirt network): the others stand.
                    for interface in domain.interface_addresses(source, 0).unwrap_or_default() {
                        merge(&mut merged, interface);
                    }
                }
            }
            Ok(merged.into_values().collect())
        })
        .await
    }

    async fn live(&self, id: VmId) -> Result<LiveDomain, HypervisorError> {
        let found = self.on_domain("live", READ, id, |domain| {
            Ok((serial::run_of(domain)?, domain.xml_desc(0)?))
        });
        match found.await? {
            (Some(run), xml) => Ok(LiveDomain { run, xml }),
            (None, _) => Err(HypervisorError::WrongState(format!("guest {id} is not running"))),
        }
    }

    async fn open_graphics(
        &self,
        id: VmId,
        run: &str,
        index: u32,
    ) -> Result<UnixStream, HypervisorError> {
        let asked = run.to_owned();
        let opened = self.on_domain("open_graphics", READ, id, move |domain| {
            let socket = events::open_graphics(domain, index)?;
            // Looked at afterwards: a socket of the run before is dead and harms nobody.
            Ok((serial::run_of(domain)? == Some(asked)).then_some(socket))
        });
        let other = || HypervisorError::WrongState(format!("guest {id} was restarted"));
        opened.await?.map(UnixStream::from).ok_or_else(other)
    }

    async fn open_serial(&self, id: VmId, pty: &Path) -> Result<SerialLine, HypervisorError> {
        serial::open(pty).map_err(|error| HypervisorError::Failed {
            code: error.raw_os_error().unwrap_or(0),
            message: format!("the serial line of guest {id}, {}: {error}", pty.display()),
        })
    }

    async fn screenshot(&self, id: VmId) -> Result<Vec<u8>, HypervisorError> {
        self.pool
            .call("screenshot", READ, move |connection| {
                let domain = lookup(connection, id)?;
                let stream = Stream::new(connection, 0).map_err(|e| translate(&e, Some(id)))?;
                let shown = domain.screenshot(&stream, 0, 0);
                shown.map_err(|e| translate(&e, Some(id)))?;
                receive(stream).map_err(|e| translate(&e, Some(id)))
            })
            .await
    }
}

/// All that a stream gives; a screen is smaller than the bound.
fn receive(stream: Stream) -> Result<Vec<u8>, Error> {
    let (mut data, mut chunk) = (Vec::new(), vec![0; 256 << 10]);
    loop {
        match usize::try_from(stream.recv(&mut chunk)?) {
            Ok(0) | Err(_) => break,
            Ok(count) if data.len() + count > LARGEST_SCREEN => {
                stream.abort()?;
                return Ok(Vec::new());
            }
            Ok(count) => data.extend_from_slice(&chunk[..count]),
        }
    }
    stream.finish()?;
    Ok(data)
}

fn merge(merged: &mut BTreeMap<String, InterfaceAddresses>, interface: virt::domain::Interface) {
    let Some(mac) = interface.hwaddr.as_deref().and_then(|mac| MacAddress::parse(mac).ok()) else {
        return;
    };
    if interface.name == "lo" {
        return;
    }
    let entry = merged.entry(mac.to_string()).or_insert_with(|| InterfaceAddresses {
        mac,
        name: interface.name.clone(),
        addresses: Vec::new(),
    });
    for address in interface.addrs {
        // ARP tells no prefix length.
        let text = match address.prefix {
            0 => address.addr.clone(),
            prefix => format!("{}/{prefix}", address.addr),
        };
        let known =
            |a: &InterfaceAddress| a.address.split('/').next() == Some(address.addr.as_str());
        if !entry.addresses.iter().any(known) {
            let family = if address.addr.contains(':') { "ipv6" } else { "ipv4" };
            entry.addresses.push(InterfaceAddress { address: text, family: family.to_owned() });
        }
    }
}
