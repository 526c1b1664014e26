//! The way to a guest: one mutual TLS connection to its host's agent, which stops being HTTP.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustls::ClientConfig;
use tokio::net::TcpStream;
use tokio::time::timeout;
use vmmgr_common::api::console::{ConsoleGrant, OFFSET_HEADER, UPGRADE};
use vmmgr_common::error::{Chain, ErrorCode, Problem};
use vmmgr_common::ids::HostId;
use vmmgr_common::mtls::{Identity, Role, TlsFiles, client_config};
use vmmgr_common::request_id;

use crate::wire::Wire;

/// Until the agent's answer; it may have to ask libvirt.
const DEADLINE: Duration = Duration::from_secs(10);
const LARGEST_HEAD: usize = 8 << 10;
/// A problem of an agent is some hundred bytes.
const LARGEST_REFUSAL: usize = 64 << 10;
const MOST_HEADERS: usize = 32;

/// TLS towards all hosts.
#[derive(Debug)]
pub(crate) struct Agents {
    files: TlsFiles,
    /// One configuration a host, since it names whom we expect; certificates are taken up anew.
    known: Mutex<HashMap<HostId, Arc<ClientConfig>>>,
}

impl Agents {
    pub(crate) fn new(files: TlsFiles) -> Self {
        Self { files, known: Mutex::default() }
    }

    fn config(&self, host: &HostId) -> Result<Arc<ClientConfig>, Problem> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(config) = known.get(host) {
            return Ok(Arc::clone(config));
        }
        let identity = Identity { role: Role::HostAgent, instance: host.to_string() };
        let config = client_config(&self.files, identity).map_err(|error| {
            Problem::new(ErrorCode::Internal, format!("TLS towards {host}: {}", Chain(&error)))
        })?;
        let config = Arc::new(config);
        known.insert(host.clone(), Arc::clone(&config));
        Ok(config)
    }

    /// Opens the console that was granted: the guest's own bytes, and the offset of the first
    /// one if it is a serial line.
    pub(crate) async fn open(
        &self,
        grant: &ConsoleGrant,
        from: Option<u64>,
    ) -> Result<(Wire, Option<u64>), Problem> {
        let config = self.config(&grant.host)?;
        let answer = timeout(DEADLINE, connect(grant, from, config)).await;
        answer.unwrap_or_else(|_| {
            let detail = format!("the agent of {} does not answer", grant.host);
            Err(Problem::new(ErrorCode::Deadline, detail).hint("look at host-agent on that host"))
        })
    }
}

fn away(host: &HostId, why: impl std::fmt::Display) -> Problem {
    Problem::new(ErrorCode::HostUnreachable, format!("the agent of {host}: {why}"))
        .hint("look at host-agent and its certificate on that host")
}

async fn connect(
    grant: &ConsoleGrant,
    from: Option<u64>,
    config: Arc<ClientConfig>,
) -> Result<(Wire, Option<u64>), Problem> {
    let host = &grant.host;
    let (authority, request) = request(grant, from)?;
    let socket = TcpStream::connect(&authority).await.map_err(|error| away(host, error))?;
    socket.set_nodelay(true).map_err(|error| away(host, error))?;
    let mut wire = Wire::connect(socket, config).await.map_err(|error| away(host, error))?;
    wire.write(request.as_bytes()).await.map_err(|error| away(host, error))?;
    let mut bytes = Vec::new();
    loop {
        if let Some((status, offset, length)) = head(host, &bytes)? {
            let rest = bytes.split_off(length);
            if status == 101 {
                wire.unread(&rest);
                return Ok((wire, offset));
            }
            return Err(refusal(host, status, wire, rest).await);
        }
        if wire.read(&mut bytes).await.map_err(|error| away(host, error))? == 0 {
            return Err(away(host, "it closed the connection"));
        }
    }
}

/// Where to connect, and what to say there.
fn request(grant: &ConsoleGrant, from: Option<u64>) -> Result<(String, String), Problem> {
    let odd = |what: &str| Problem::new(ErrorCode::Internal, format!("the grant's {what} is odd"));
    let plain = |text: &str| {
        !text.is_empty()
            && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-:[]".contains(&byte))
    };
    let authority = grant.agent_url.strip_prefix("https://").unwrap_or_default();
    let authority = authority.trim_end_matches('/');
    if !plain(authority) {
        return Err(odd("address of the agent"));
    }
    if !plain(&grant.run) {
        return Err(odd("run"));
    }
    let port = authority.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
    let authority = if port { authority.to_owned() } else { format!("{authority}:443") };
    let (vm, kind, run) = (grant.vm, grant.kind.as_str(), &grant.run);
    let from = from.map(|from| format!("&from={from}")).unwrap_or_default();
    let id = request_id::accept(request_id::current().as_deref());
    // `websocket` is never chosen: the agent's server hands on what follows the head only where
    // that is offered too.
    let text = format!(
        "GET /v1/domains/{vm}/console/{kind}?run={run}{from} HTTP/1.1\r\nHost: {authority}\r\n\
         Connection: Upgrade\r\nUpgrade: {UPGRADE}\r\nUpgrade: websocket\r\n{}: {id}\r\n\r\n",
        request_id::HEADER
    );
    Ok((authority, text))
}

/// Status, offset and length of an answer's head; none while it is not whole.
fn head(host: &HostId, bytes: &[u8]) -> Result<Option<(u16, Option<u64>, usize)>, Problem> {
    let mut headers = [httparse::EMPTY_HEADER; MOST_HEADERS];
    let mut response = httparse::Response::new(&mut headers);
    match response.parse(bytes) {
        Ok(httparse::Status::Complete(length)) => {
            let offset =
                response.headers.iter().find(|h| h.name.eq_ignore_ascii_case(OFFSET_HEADER));
            let offset =
                offset.and_then(|header| std::str::from_utf8(header.value).ok()?.parse().ok());
            Ok(Some((response.code.unwrap_or_default(), offset, length)))
        }
        Ok(httparse::Status::Partial) if bytes.len() <= LARGEST_HEAD => Ok(None),
        Ok(httparse::Status::Partial) => Err(away(host, "its answer's head is too large")),
        Err(error) => Err(away(host, format!("it does not speak HTTP: {error}"))),
    }
}

/// The agent's own reason. It ends with the connection or when it is whole.
async fn refusal(host: &HostId, status: u16, mut wire: Wire, mut body: Vec<u8>) -> Problem {
    loop {
        if let Ok(problem) = serde_json::from_slice::<Problem>(&body) {
            return problem;
        }
        if body.len() > LARGEST_REFUSAL {
            break;
        }
        match wire.read(&mut body).await {
            Ok(1..) => {}
            Ok(0) | Err(_) => break,
        }
    }
    away(host, format!("it answered {status} without a reason"))
}
