//! One guest's request to one answer.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use chrono::TimeDelta;
use http_body_util::Full;
use hyper::header::{
    ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderMap, HeaderValue, RETRY_AFTER, USER_AGENT,
};
use hyper::{Method, Request, Response, StatusCode};
use tokio::time::Instant;
use vmmgr_common::error::{ErrorCode, Problem};
use vmmgr_common::ids::VmId;

use crate::caller::{self, NeighbourTable};
use crate::seed::SeedFile;
use crate::store::{Seed, Store};

/// An answer as it goes out.
pub(crate) type Answer = Response<Full<Bytes>>;

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
}

/// What a request came through.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Via<'a> {
    /// The guest's address.
    pub(crate) peer: Ipv4Addr,
    /// Ours.
    pub(crate) listen: SocketAddrV4,
    /// The bridge, if the listener is bound to one.
    pub(crate) bridge: Option<&'a str>,
}

impl Guests {
    /// Answers a request. All refusals that depend on who asks are the same 404.
    pub(crate) async fn answer<B>(&self, request: &Request<B>, via: Via<'_>) -> Answer {
        let started = Instant::now();
        let (file, answer) = match self.admit(request, via) {
            Err(refusal) => ("none", refusal.answer()),
            Ok((vm, seed, file)) => {
                let answer = self.open(vm, &seed, file, agent(request.headers())).await;
                let status = answer.status().as_u16();
                seed.trace.note(file.name(), status, agent(request.headers()), started.elapsed());
                (file.name(), answer)
            }
        };
        let status = answer.status().as_str().to_owned();
        metrics::counter!("vmmgr_seed_requests_total", "file" => file, "status" => status)
            .increment(1);
        answer
    }

    fn admit<B>(
        &self,
        request: &Request<B>,
        via: Via<'_>,
    ) -> Result<(VmId, Arc<Seed>, SeedFile), Refusal> {
        let (uri, headers) = (request.uri(), request.headers());
        let proxied = uri.authority().is_some() || caller::forwarded(headers);
        if proxied || !caller::host_is(headers, via.listen) {
            return Err(Refusal::Forbidden);
        }
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            return Err(Refusal::Method);
        }
        let mac = caller::identify(self.neighbours.as_ref(), via.peer, via.bridge)
            .map_err(|error| {
                tracing::warn!(%error, "cannot read the neighbour table");
                Refusal::Unavailable
            })?
            .ok_or(Refusal::NotFound)?;
        let path = if uri.query().is_none() { split(uri.path()) } else { None };
        let (vm, file) = path.ok_or(Refusal::NotFound)?;
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
            Ok(bytes) => content(file, bytes),
            Err(problem) => {
                tracing::error!(vm.id = %vm, %problem, "cannot serve a seed");
                fixed(StatusCode::INTERNAL_SERVER_ERROR, "internal error\n")
            }
        }
    }

    /// The bytes; secrets only until `secret` after their first reading, which is on the disk
    /// before they leave: a restart does not open them again.
    async fn read(&self, vm: VmId, seed: Arc<Seed>, file: SeedFile) -> Result<Bytes, Problem> {
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
            Self::Forbidden => fixed(StatusCode::FORBIDDEN, "forbidden\n"),
            Self::Method => {
                let mut answer = fixed(StatusCode::METHOD_NOT_ALLOWED, "method not allowed\n");
                answer.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
                answer
            }
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

fn agent(headers: &HeaderMap) -> &str {
    headers.get(USER_AGENT).and_then(|agent| agent.to_str().ok()).unwrap_or_default()
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

fn content(file: SeedFile, bytes: Bytes) -> Answer {
    let kind = match file {
        SeedFile::Iso => "application/octet-stream",
        SeedFile::MetaData
        | SeedFile::UserData
        | SeedFile::VendorData
        | SeedFile::NetworkConfig => "text/plain; charset=utf-8",
    };
    build(StatusCode::OK, kind, bytes)
}

fn fixed(status: StatusCode, text: &'static str) -> Answer {
    build(status, "text/plain; charset=utf-8", Bytes::from_static(text.as_bytes()))
}

fn not_found() -> Answer {
    fixed(StatusCode::NOT_FOUND, "not found\n")
}

fn unavailable() -> Answer {
    let mut answer = fixed(StatusCode::SERVICE_UNAVAILABLE, "not yet\n");
    answer.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
    answer
}

fn build(status: StatusCode, kind: &'static str, bytes: Bytes) -> Answer {
    let mut answer = Response::new(Full::new(bytes));
    *answer.status_mut() = status;
    let headers = answer.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    answer
}

#[cfg(test)]
mod tests;
