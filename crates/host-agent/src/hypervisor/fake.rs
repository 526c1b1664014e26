//! A hypervisor in memory, for fast tests and for faults that the real one does not do on demand.

mod storage;
mod tuning;

use std::collections::HashMap;
use std::io::Write as _;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use tokio::io::DuplexStream;
use tokio::sync::broadcast;
use vmmgr_common::api::domain::{DomainState, InterfaceAddresses};
use vmmgr_common::api::host::Arch;
use vmmgr_common::api::snapshot::Snapshot;
use vmmgr_common::ids::VmId;

use super::{
    Affect, Hypervisor, HypervisorError, LiveDomain, Notice, RawDomain, RawHost, SerialLine,
};
use crate::domain::{read, target};

/// The smallest XML that reads as one of our guests.
pub(crate) fn domain_xml(id: VmId) -> String {
    format!(
        "<domain type='qemu'><name>t-{id}</name><uuid>{id}</uuid><memory unit='KiB'>65536</memory>\
         <vcpu>1</vcpu><os><type arch='x86_64' machine='q35'>hvm</type></os><devices></devices></domain>"
    )
}

#[derive(Default)]
struct State {
    domains: HashMap<VmId, (String, DomainState)>,
    failures: Vec<Failure>,
    lost: bool,
    snapshots: HashMap<VmId, Vec<(Snapshot, String)>>,
    autostart: std::collections::HashSet<VmId>,
    disk_bytes: HashMap<(VmId, String), u64>,
    beside: Option<(&'static str, &'static str)>,
    /// Starts of all domains so far; names the runs.
    starts: u64,
    /// The guest's ends of serial lines that were opened.
    lines: HashMap<VmId, DuplexStream>,
    available_bytes: Option<u64>,
    volumes: storage::Volumes,
}

struct Failure {
    call: &'static str,
    /// The call has its effect first, as when an answer gets lost.
    after: bool,
    /// So many calls pass first.
    pass: usize,
    error: HypervisorError,
}

impl State {
    fn fail(&mut self, call: &str, after: bool) -> Result<(), HypervisorError> {
        let mut due = |f: &mut Failure| {
            let meant = f.call == call && f.after == after;
            let due = meant && f.pass == 0;
            f.pass -= usize::from(meant && !due);
            due
        };
        let at = self.failures.iter_mut().position(&mut due);
        at.map_or(Ok(()), |at| Err(self.failures.remove(at).error))
    }
}

/// Domains as text; fails where it is told to.
pub(crate) struct FakeHypervisor {
    state: Mutex<State>,
    notices: broadcast::Sender<Notice>,
}

impl FakeHypervisor {
    /// Connected, no domains.
    pub(crate) fn new() -> Arc<Self> {
        let (notices, _) = broadcast::channel(256);
        Arc::new(Self { state: Mutex::default(), notices })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next call named `call` fails once.
    pub(crate) fn failing_on(&self, call: &'static str, error: HypervisorError) {
        self.failing_later(call, 0, error);
    }

    /// The call named `call` that comes after `pass` others fails once.
    pub(crate) fn failing_later(&self, call: &'static str, pass: usize, error: HypervisorError) {
        self.lock().failures.push(Failure { call, after: false, pass, error });
    }

    /// The next call named `call` does its work once and says that it failed.
    pub(crate) fn failing_after(&self, call: &'static str, error: HypervisorError) {
        self.lock().failures.push(Failure { call, after: true, pass: 0, error });
    }

    /// Injected failures that were not met.
    pub(crate) fn failures_left(&self) -> usize {
        self.lock().failures.len()
    }

    /// Room that `pool_info` reports.
    pub(crate) fn set_available(&self, bytes: u64) {
        self.lock().available_bytes = Some(bytes);
    }

    /// Drops the connection.
    pub(crate) fn lose(&self) {
        self.lock().lost = true;
        drop(self.notices.send(Notice::Lost));
    }

    /// Makes the connection again.
    pub(crate) fn come_back(&self) {
        self.lock().lost = false;
        drop(self.notices.send(Notice::Connected));
    }

    /// A domain that appears without an event.
    pub(crate) fn define_silently(&self, id: VmId, xml: &str) {
        self.lock().domains.insert(id, (xml.to_owned(), DomainState::ShutOff));
    }

    /// At the next call named `call`, somebody else attaches `device` to every guest.
    pub(crate) fn beside(&self, call: &'static str, device: &'static str) {
        self.lock().beside = Some((call, device));
    }

    /// Ids of all domains.
    pub(crate) fn ids(&self) -> Vec<VmId> {
        self.lock().domains.keys().copied().collect()
    }

    /// The guest's end of a serial line that was opened.
    pub(crate) fn serial(&self, id: VmId) -> DuplexStream {
        self.lock().lines.remove(&id).expect("no serial line was opened")
    }

    /// The guest's end of the serial lines that nobody took is closed.
    pub(crate) fn hang_up(&self, id: VmId) {
        drop(self.lock().lines.remove(&id));
    }

    fn enter(&self, call: &'static str) -> Result<MutexGuard<'_, State>, HypervisorError> {
        let mut state = self.lock();
        if state.lost {
            return Err(HypervisorError::Unreachable);
        }
        if let Some((_, device)) = state.beside.take_if(|(at, _)| *at == call) {
            for (xml, _) in state.domains.values_mut() {
                *xml = xml.replacen("</devices>", &format!("{device}</devices>"), 1);
            }
        }
        state.fail(call, false)?;
        Ok(state)
    }

    fn change(
        &self,
        call: &'static str,
        id: VmId,
        change: impl FnOnce(&mut (String, DomainState)) -> Result<(), HypervisorError>,
    ) -> Result<(), HypervisorError> {
        let mut state = self.enter(call)?;
        let domain = state.domains.get_mut(&id).ok_or(HypervisorError::NoSuchDomain(id))?;
        change(domain)?;
        self.leave(state, call, id)
    }

    fn leave(
        &self,
        mut state: MutexGuard<'_, State>,
        call: &'static str,
        id: VmId,
    ) -> Result<(), HypervisorError> {
        let answer = state.fail(call, true);
        drop(state);
        drop(self.notices.send(Notice::Dirty(id)));
        answer
    }
}

fn raw(id: VmId, (xml, state): &(String, DomainState), autostart: bool) -> RawDomain {
    let memory_kib = read::memory_levels(xml).map_or(65536, |(now, _)| now);
    RawDomain { id, xml: xml.clone(), state: *state, memory_kib, cpu_time_ns: 0, autostart }
}

fn device_of(xml: &str) -> String {
    target::device_name(xml).unwrap_or_default()
}

#[async_trait]
impl Hypervisor for FakeHypervisor {
    fn connected(&self) -> bool {
        !self.lock().lost
    }
    fn notices(&self) -> broadcast::Receiver<Notice> {
        self.notices.subscribe()
    }
    async fn host(&self) -> Result<RawHost, HypervisorError> {
        self.enter("host").map(drop)?;
        Ok(RawHost {
            arch: Arch::X86_64,
            libvirt_version: "9.0.0".into(),
            hypervisor_version: "7.2.0".into(),
            cpus: 2,
            cpu_mhz: 2000,
            memory_bytes: 1 << 34,
            memory_free_bytes: 1 << 33,
            capabilities_xml: "<arch name='x86_64'>".into(),
        })
    }
    async fn list(&self) -> Result<Vec<RawDomain>, HypervisorError> {
        let state = self.enter("list")?;
        Ok(state
            .domains
            .iter()
            .map(|(id, domain)| raw(*id, domain, state.autostart.contains(id)))
            .collect())
    }
    async fn domain(&self, id: VmId) -> Result<RawDomain, HypervisorError> {
        let state = self.enter("domain")?;
        state
            .domains
            .get(&id)
            .map(|d| raw(id, d, state.autostart.contains(&id)))
            .ok_or(HypervisorError::NoSuchDomain(id))
    }
    async fn definition(&self, id: VmId, _secure: bool) -> Result<String, HypervisorError> {
        let state = self.enter("definition")?;
        state.domains.get(&id).map(|d| d.0.clone()).ok_or(HypervisorError::NoSuchDomain(id))
    }
    async fn define(&self, id: VmId, xml: &str) -> Result<(), HypervisorError> {
        let mut state = self.enter("define")?;
        if state.domains.contains_key(&id) {
            return Err(HypervisorError::AlreadyExists(id));
        }
        state.domains.insert(id, (xml.to_owned(), DomainState::ShutOff));
        self.leave(state, "define", id)
    }
    async fn undefine(&self, id: VmId) -> Result<(), HypervisorError> {
        let mut state = self.enter("undefine")?;
        state.domains.remove(&id).ok_or(HypervisorError::NoSuchDomain(id))?;
        self.leave(state, "undefine", id)
    }
    async fn start(&self, id: VmId) -> Result<(), HypervisorError> {
        self.lock().starts += 1;
        self.change("start", id, |domain| {
            if domain.1 == DomainState::Running {
                return Err(HypervisorError::WrongState("domain is already running".into()));
            }
            domain.1 = DomainState::Running;
            Ok(())
        })
    }
    async fn shutdown(&self, id: VmId) -> Result<(), HypervisorError> {
        self.change("shutdown", id, |domain| {
            if domain.1 != DomainState::Running {
                return Err(HypervisorError::WrongState("domain is not running".into()));
            }
            domain.1 = DomainState::ShutOff;
            Ok(())
        })
    }
    async fn destroy(&self, id: VmId) -> Result<(), HypervisorError> {
        self.change("destroy", id, |domain| {
            domain.1 = DomainState::ShutOff;
            Ok(())
        })
    }
    async fn reset(&self, id: VmId) -> Result<(), HypervisorError> {
        self.change("reset", id, |_| Ok(()))
    }
    async fn attach(&self, id: VmId, xml: &str, _: Affect) -> Result<(), HypervisorError> {
        self.change("attach", id, |domain| {
            domain.0 = domain.0.replacen("</devices>", &format!("{xml}</devices>"), 1);
            Ok(())
        })
    }
    async fn detach(&self, id: VmId, xml: &str, _: Affect) -> Result<(), HypervisorError> {
        let name = device_of(xml);
        self.change("detach", id, |domain| {
            if let Some(found) = target::find_device(&domain.0, &name) {
                domain.0 = domain.0.replacen(&found.xml, "", 1);
            }
            Ok(())
        })
    }
    async fn update(&self, id: VmId, xml: &str, _: Affect) -> Result<(), HypervisorError> {
        let name = device_of(xml);
        self.change("update", id, |domain| {
            if let Some(found) = target::find_device(&domain.0, &name) {
                domain.0 = domain.0.replacen(&found.xml, xml, 1);
            }
            Ok(())
        })
    }
    async fn addresses(&self, id: VmId) -> Result<Vec<InterfaceAddresses>, HypervisorError> {
        let state = self.enter("addresses")?;
        state.domains.get(&id).map(|_| Vec::new()).ok_or(HypervisorError::NoSuchDomain(id))
    }
    async fn live(&self, id: VmId) -> Result<LiveDomain, HypervisorError> {
        let state = self.enter("live")?;
        match state.domains.get(&id).ok_or(HypervisorError::NoSuchDomain(id))? {
            (xml, DomainState::Running) => {
                Ok(LiveDomain { run: format!("run-{}", state.starts), xml: xml.clone() })
            }
            _ => Err(HypervisorError::WrongState("domain is not running".into())),
        }
    }
    /// A screen that says hello and then everything that it is told.
    async fn open_graphics(
        &self,
        id: VmId,
        run: &str,
        _: u32,
    ) -> Result<UnixStream, HypervisorError> {
        self.enter("open_graphics").map(drop)?;
        if self.live(id).await?.run != run {
            return Err(HypervisorError::WrongState("another run".into()));
        }
        let (ours, mut guest) = UnixStream::pair().unwrap();
        std::thread::spawn(move || {
            guest.write_all(b"RFB 003.008\n").unwrap();
            let mut back = guest.try_clone().unwrap();
            std::io::copy(&mut guest, &mut back)
        });
        Ok(ours)
    }
    async fn open_serial(&self, id: VmId, _: &Path) -> Result<SerialLine, HypervisorError> {
        let (ours, guest) = tokio::io::duplex(64);
        self.enter("open_serial")?.lines.insert(id, guest);
        let (read, write) = tokio::io::split(ours);
        Ok((Box::new(read), Box::new(write)))
    }
    async fn screenshot(&self, _: VmId) -> Result<Vec<u8>, HypervisorError> {
        self.enter("screenshot").map(drop)?;
        Ok(b"P6\n2 1\n255\n\x01\x02\x03\xff\x00\x10".to_vec())
    }
}
