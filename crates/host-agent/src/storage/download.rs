//! Downloads over HTTP: to a judged address, resumed where they break off, within a size.

use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt as _;
use reqwest::header::{ETAG, IF_RANGE, LAST_MODIFIED, LOCATION, RANGE};
use reqwest::{Certificate, Client, Response, StatusCode};
use tokio::sync::mpsc::{Receiver, Sender, channel};
use url::Url;
use vmmgr_common::error::{ErrorCode, Problem};

use super::origin::Origins;
use super::sink::Sink;

/// Redirects of one download.
const MOST_REDIRECTS: usize = 5;
/// Beginnings of one download: it goes on where it broke off.
const TRIES: u32 = 5;
/// Before the next try.
const PAUSE: Duration = Duration::from_millis(500);
/// Pieces that may wait for the disk.
const ARRIVING: usize = 64;
/// Between two lines of progress, bytes.
const TELL_EVERY: u64 = 256 << 20;

fn failed(uri: &str, why: &str) -> Problem {
    Problem::new(ErrorCode::OriginFailed, format!("gold image {uri}: {why}"))
}

/// What goes to the disk.
enum Piece {
    /// What came so far is worth nothing: begin the file anew.
    Restart,
    Bytes(Bytes),
}

/// What came so far.
struct Part {
    to_disk: Sender<Piece>,
    length: u64,
    told: u64,
    /// What the origin calls this version of the file.
    version: Option<String>,
}

impl Part {
    /// A disk that has failed says why at the end.
    async fn send(&mut self, piece: Piece) -> bool {
        match &piece {
            Piece::Restart => (self.length, self.told) = (0, 0),
            Piece::Bytes(bytes) => self.length += bytes.len() as u64,
        }
        self.to_disk.send(piece).await.is_ok()
    }
}

/// Writes what arrives; the network is read meanwhile.
fn write(path: &Path, mut arriving: Receiver<Piece>) -> Result<String, Problem> {
    let mut sink = Sink::create(path)?;
    while let Some(piece) = arriving.blocking_recv() {
        match piece {
            Piece::Restart => sink = Sink::create(path)?,
            Piece::Bytes(bytes) => sink.write(bytes)?,
        }
    }
    sink.finish()
}

/// Why a try ended: for good, or so that another may go on.
enum End {
    Whole,
    /// The disk does not take it; it says why itself.
    Refused,
    Broken(String),
}

/// Downloads `uri` into `path`; gives its SHA-256. With `pinned` the digest proves the content, and
/// the origin need not prove itself.
pub(super) async fn download(
    origins: &Origins,
    uri: &str,
    path: &Path,
    pinned: bool,
    progress: &(dyn Fn(String) + Send + Sync),
) -> Result<String, Problem> {
    let (to_disk, arriving) = channel(ARRIVING);
    let place = path.to_owned();
    let written = tokio::task::spawn_blocking(move || write(&place, arriving));
    let part = Part { to_disk, length: 0, told: 0, version: None };
    // The part goes, and with it the writer's last piece, before the writer is waited for.
    let fetched = fetch(origins, uri, part, pinned, progress).await;
    let written =
        written.await.map_err(|error| Problem::new(ErrorCode::Internal, error.to_string()))?;
    fetched.and(written)
}

async fn fetch(
    origins: &Origins,
    uri: &str,
    mut part: Part,
    pinned: bool,
    progress: &(dyn Fn(String) + Send + Sync),
) -> Result<(), Problem> {
    let mut why = String::new();
    for number in 0..TRIES {
        if number > 0 {
            progress(format!("broke off at {} MiB ({why}), going on", part.length >> 20));
            tokio::time::sleep(PAUSE).await;
        }
        let response = match ask(origins, uri, &part, pinned).await {
            Ok(response) => response,
            Err(problem) if problem.code == ErrorCode::OriginFailed && number > 0 => {
                why = problem.detail;
                continue;
            }
            Err(problem) => return Err(problem),
        };
        match take(origins, uri, response, &mut part, progress).await? {
            End::Whole | End::Refused => return Ok(()),
            End::Broken(reason) => why = reason,
        }
    }
    Err(failed(uri, &why))
}

/// Asks for what is missing, following redirects; each place is judged and looked up anew.
async fn ask(origins: &Origins, uri: &str, part: &Part, pinned: bool) -> Result<Response, Problem> {
    let mut url = origins.judge(uri)?;
    for _ in 0..=MOST_REDIRECTS {
        let client = client(origins, &url, pinned).await?;
        let mut request = client.get(url.clone());
        if let (Some(version), true) = (&part.version, part.length > 0) {
            request = request.header(RANGE, format!("bytes={}-", part.length));
            request = request.header(IF_RANGE, version);
        }
        let response = request.send().await.map_err(|error| {
            failed(uri, &vmmgr_common::error::Chain(&error.without_url()).to_string())
        })?;
        if !response.status().is_redirection() {
            return Ok(response);
        }
        let place = response.headers().get(LOCATION).and_then(|place| place.to_str().ok());
        let next = place.and_then(|place| url.join(place).ok());
        let next = next.ok_or_else(|| failed(uri, "it redirects to nowhere"))?;
        if url.scheme() == "https" && next.scheme() != "https" {
            return Err(failed(uri, "it redirects from https to http"));
        }
        url = origins.judge(next.as_str())?;
    }
    Err(failed(uri, "it redirects too often"))
}

async fn client(origins: &Origins, url: &Url, pinned: bool) -> Result<Client, Problem> {
    let address = origins.resolve(url).await?;
    let bad = |why: String| Problem::new(ErrorCode::Internal, why);
    let mut builder = Client::builder()
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .connect_timeout(Duration::from_secs(10))
        .read_timeout(Duration::from_secs(60))
        .resolve(url.host_str().unwrap_or_default(), address)
        .tls_danger_accept_invalid_certs(pinned);
    if let Some(ca) = &origins.ca {
        let pem = fs_err::read(ca).map_err(|error| bad(error.to_string()))?;
        let all = Certificate::from_pem_bundle(&pem).map_err(|error| bad(error.to_string()))?;
        builder = builder.tls_certs_merge(all);
    }
    builder.build().map_err(|error| bad(error.to_string()))
}

async fn take(
    origins: &Origins,
    uri: &str,
    response: Response,
    part: &mut Part,
    progress: &(dyn Fn(String) + Send + Sync),
) -> Result<End, Problem> {
    match response.status() {
        StatusCode::PARTIAL_CONTENT if part.length > 0 => {}
        // Another version than before, or an origin that does not resume: from the start.
        status if status.is_success() && status != StatusCode::PARTIAL_CONTENT => {
            part.send(Piece::Restart).await;
        }
        status if status.is_server_error() => {
            return Ok(End::Broken(format!("the origin answered {status}")));
        }
        status => return Err(failed(uri, &format!("the origin answered {status}"))),
    }
    let header = |name| response.headers().get(name).and_then(|value| value.to_str().ok());
    let strong = header(ETAG).filter(|tag| !tag.starts_with("W/"));
    part.version = strong.or_else(|| header(LAST_MODIFIED)).map(str::to_owned);
    let expected = response.content_length().map(|rest| part.length + rest);
    let mut body = response.bytes_stream();
    while let Some(bytes) = body.next().await {
        let bytes = match bytes {
            Ok(bytes) => bytes,
            Err(error) => return Ok(End::Broken(error.without_url().to_string())),
        };
        if !part.send(Piece::Bytes(bytes)).await {
            return Ok(End::Refused);
        }
        if part.length > origins.max_bytes {
            let detail = format!("gold image {uri}: larger than {} bytes", origins.max_bytes);
            return Err(Problem::new(ErrorCode::UnfitImage, detail));
        }
        if part.length - part.told >= TELL_EVERY {
            part.told = part.length;
            progress(format!("{} MiB", part.length >> 20));
        }
    }
    match expected {
        Some(expected) if expected != part.length => {
            Ok(End::Broken(format!("{} of {expected} bytes came", part.length)))
        }
        _ => Ok(End::Whole),
    }
}
