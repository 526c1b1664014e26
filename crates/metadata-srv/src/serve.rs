//! One guest's request to one answer.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use chrono::TimeDelta;
use metrics::Counter;
use tokio::time::Instant;
use vmmgr_common::error::{ErrorCode, Problem};
use vmmgr_common::ids::VmId;

use crate::caller::{self, NeighbourTable};
use crate::seed::SeedFile;
use crate::store::{Seed, Store};
use crate::trace;
use crate::wire::{Answer, Head};

/// First release that waits on 503 with `Retry-After` as long as it takes.
const WAITS_ON_503: (u32, u32) = (25, 1);

/// The guests' side of the service.
pub(crate) struct Guests {
    /// What to serve.
    pub(crate) store: Arc<Store>,
    /// Who asks.
    pub(crate) neighbours: Box<dyn NeighbourTable>,
    /// How long to hold an older cloud-init whose guest is being created.
    pub(crate) hold: Duration,
    /// How long after the first reading secrets are still given; for ever when `None`.
    pub(crate) secret: Option<TimeDelta>,
    /// What was served.
    pub(crate) served: Served,
}

/// Counts of files served, by [`SeedFile::ALL`]; found once, not at each request.
pub(crate) struct Served([Counter; 5]);

impl Default for Served {
    fn default() -> Self {
        Self(SeedFile::ALL.map(|file| {
            metrics::counter!("vmmgr_seed_requests_total", "file" => file.name(), "status" => "200")
        }))
    }
}

impl Served {
    fn count(&self, file: Option<SeedFile>, status: u16) {
        match file {
            Some(file) if status == 200 => self.0[file as usize].increment(1),
            _ => {
                let (file, status) = (file.map_or("none", SeedFile::name), status.to_string());
                metrics::counter!("vmmgr_seed_requests_total", "file" => file, "status" => status)
                    .increment(1);
            }
        }
    }
}

/// What a request came through.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Via<'a> {
    /// The guest's address.
    pub(crate) peer: Ipv4Addr,
    /// Ours, as `Host` must name it: `address:port`.
    pub(crate) listen: &'a str,
    /// Index of the bridge, if the listener is bound to one.
    pub(crate) bridge: Option<u32>,
}

/// A request that its caller may make.
pub(crate) struct Admitted {
    vm: VmId,
    seed: Arc<Seed>,
    file: SeedFile,
    agent: String,
    started: Instant,
}

impl Guests {
    /// Judges a request. All refusals that depend on who asks are the same 404.
    pub(crate) fn admit(&self, head: &Head<'_, '_>, via: Via<'_>) -> Result<Admitted, Answer> {
        let started = Instant::now();
        let (vm, seed, file) = self.judge(head, via).map_err(|refusal| {
            let answer = refusal.answer();
            self.served.count(None, answer.status());
            answer
        })?;
        Ok(Admitted { vm, seed, file, agent: trace::cleaned(head.agent()), started })
    }

    /// Answers an admitted request.
    pub(crate) async fn answer(&self, asked: Admitted) -> Answer {
        let Admitted { vm, seed, file, agent, started } = asked;
        let answer = self.open(vm, &seed, file, &agent).await;
        self.served.count(Some(file), answer.status());
        seed.trace.note(file.name(), answer.status(), agent, started.elapsed());
        answer
    }

    fn judge(
        &self,
        head: &Head<'_, '_>,
        via: Via<'_>,
    ) -> Result<(VmId, Arc<Seed>, SeedFile), Refusal> {
        let proxied = head.target.contains("://") || caller::forwarded(head);
        if proxied || !caller::host_is(head, via.listen) {
            return Err(Refusal::Forbidden);
        }
        if !matches!(head.method, "GET" | "HEAD") {
            return Err(Refusal::Method);
        }
        let mac = self
            .neighbours
            .behind(via.peer, via.bridge)
            .map_err(|error| {
                tracing::warn!(%error, "cannot read the neighbour table");
                Refusal::Unavailable
            })?
            .ok_or(Refusal::NotFound)?;
        let (vm, file) = split(head.target).ok_or(Refusal::NotFound)?;
        let seed = self.store.get(vm).filter(|seed| seed.belongs_to(mac));
        let seed = seed.ok_or(Refusal::NotFound)?;
        Ok((vm, seed, file))
    }

    async fn open(&self, vm: VmId, seed: &Arc<Seed>, file: SeedFile, agent: &str) -> Answer {
        let mut seed = Arc::clone(seed);
        if !seed.committed() && gives_up_on_503(agent) {
            match self.store.committed(vm, Instant::now() + self.hold).await {
                Some(later) => seed = later,
                None => return not_found(),
            }
        }
        if !seed.committed() {
            return unavailable();
        }
        match self.read(vm, seed, file).await {
            Ok(answer) => answer,
            Err(problem) => {
                tracing::error!(vm.id = %vm, %problem, "cannot serve a seed");
                Answer::text(500, "internal error\n")
            }
        }
    }

    /// The file; secrets only until `secret` after their first reading, which is on the disk
    /// before they leave: a restart does not open them again.
    async fn read(&self, vm: VmId, seed: Arc<Seed>, file: SeedFile) -> Result<Answer, Problem> {
        let Some(window) = self.secret else {
            return seed.file(file);
        };
        if seed.locked(window) {
            return seed.locked_file(file);
        }
        if seed.opens_secrets(file) {
            let store = Arc::clone(&self.store);
            let noted = tokio::task::spawn_blocking(move || store.note_read(vm)).await;
            noted.map_err(|error| Problem::new(ErrorCode::Internal, error.to_string()))??;
        }
        seed.file(file)
    }
}

/// Why a request gets no file.
enum Refusal {
    /// It came through a proxy, or for another host name.
    Forbidden,
    /// Neither GET nor HEAD.
    Method,
    /// No such file for this caller.
    NotFound,
    /// The caller cannot be told at this moment.
    Unavailable,
}

impl Refusal {
    fn answer(self) -> Answer {
        match self {
            Self::Forbidden => Answer::text(403, "forbidden\n"),
            Self::Method => Answer::text_with(405, "allow: GET, HEAD\r\n", "method not allowed\n"),
            Self::NotFound => not_found(),
            Self::Unavailable => unavailable(),
        }
    }
}

/// `/<uuid>/<file>`, with as many slashes as the guest's seed URL and cloud-init make of it. The
/// firmware may spell the uuid in capitals where `__dmi.system-uuid__` is used.
fn split(path: &str) -> Option<(VmId, SeedFile)> {
    let mut parts = path.split('/').filter(|part| !part.is_empty());
    let vm = VmId::parse(&parts.next()?.to_ascii_lowercase()).ok()?;
    let file = SeedFile::named(parts.next()?)?;
    parts.next().is_none().then_some((vm, file))
}

/// Whether this is a cloud-init that a few 503 make give up.
fn gives_up_on_503(agent: &str) -> bool {
    let release = || {
        let mut numbers = agent.strip_prefix("Cloud-Init/")?.split(|c: char| !c.is_ascii_digit());
        let major: u32 = numbers.next()?.parse().ok()?;
        let minor: u32 = numbers.next()?.parse().ok()?;
        Some((major, minor))
    };
    release().is_some_and(|release| release < WAITS_ON_503)
}

fn not_found() -> Answer {
    Answer::text(404, "not found\n")
}

fn unavailable() -> Answer {
    Answer::text_with(503, "retry-after: 1\r\n", "not yet\n")
}

#[cfg(test)]
mod tests;
