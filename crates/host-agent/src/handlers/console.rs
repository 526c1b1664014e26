//! Consoles: what there is, the streams themselves, the serial history, a screenshot.

use actix_web::http::header;
use actix_web::web::{self, Bytes};
use actix_web::{HttpRequest, HttpResponse};
use futures_util::{Stream, StreamExt as _, stream};
use serde::Deserialize;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::{mpsc, watch};
use tokio::task::AbortHandle;
use vmmgr_common::api::console::{ConsoleInfo, ConsoleKind, OFFSET_HEADER, UPGRADE};
use vmmgr_common::error::{ErrorCode, Problem};
use vmmgr_common::ids::VmId;

use crate::console::{self, Consoles, Viewer};

/// Most that one read of a screen takes.
const CHUNK: usize = 64 << 10;

/// Tells streams to end, so that a stop of the agent does not wait for them.
pub(crate) type Stopping = watch::Receiver<bool>;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Open {
    run: String,
    from: Option<u64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Range {
    from: Option<u64>,
    #[serde(default)]
    limit: u64,
}

/// What can be opened now.
pub(super) async fn info(
    consoles: web::Data<Consoles>,
    vm: web::Path<String>,
) -> Result<web::Json<ConsoleInfo>, Problem> {
    Ok(web::Json(consoles.info(VmId::parse(&vm)?).await?))
}

/// What the serial line said.
pub(super) async fn log(
    consoles: web::Data<Consoles>,
    vm: web::Path<String>,
    range: web::Query<Range>,
) -> Result<HttpResponse, Problem> {
    let (offset, data) = consoles.history(VmId::parse(&vm)?, range.from, range.limit).await?;
    Ok(HttpResponse::Ok()
        .content_type("application/octet-stream")
        .insert_header((OFFSET_HEADER, offset.to_string()))
        .body(data))
}

/// The screen as PNG.
pub(super) async fn screenshot(
    consoles: web::Data<Consoles>,
    vm: web::Path<String>,
) -> Result<HttpResponse, Problem> {
    let png = consoles.screenshot(VmId::parse(&vm)?).await?;
    Ok(HttpResponse::Ok().content_type("image/png").body(png))
}

fn upgrades(request: &HttpRequest) -> Result<(), Problem> {
    let offered = |token: &str| {
        let mut lines = request.headers().get_all(header::UPGRADE);
        lines.any(|value| value.as_bytes() == token.as_bytes())
    };
    if offered(UPGRADE) && offered("websocket") {
        return Ok(());
    }
    let said = format!(
        "a console needs `Connection: Upgrade` and two lines `Upgrade: {UPGRADE}`, `Upgrade: websocket`"
    );
    Err(Problem::new(ErrorCode::MalformedRequest, said))
}

/// Leaves HTTP: from here on both ways carry the guest's own bytes.
pub(super) async fn open(
    consoles: web::Data<Consoles>,
    stopping: web::Data<Stopping>,
    path: web::Path<(String, String)>,
    open: web::Query<Open>,
    request: HttpRequest,
    payload: web::Payload,
) -> Result<HttpResponse, Problem> {
    let vm = VmId::parse(&path.0)?;
    let kind = ConsoleKind::parse(&path.1).ok_or_else(|| {
        let said = format!("no console `{}`", path.1.escape_debug());
        Problem::new(ErrorCode::NoSuchConsole, said).hint("vnc, spice or serial")
    })?;
    upgrades(&request)?;
    let stopping = stopping.get_ref().clone();
    let mut answer = HttpResponse::SwitchingProtocols();
    answer.upgrade(UPGRADE);
    tracing::info!(vm.id = %vm, kind = kind.as_str(), "opens a console");
    if kind == ConsoleKind::Serial {
        let viewer = consoles.serial(vm, &open.run, open.from).await?;
        answer.insert_header((OFFSET_HEADER, viewer.offset().to_string()));
        return Ok(answer.streaming(serial(viewer, payload, stopping)));
    }
    let screen = consoles.screen(vm, kind, &open.run).await?;
    Ok(answer.streaming(relay(screen, payload, stopping)))
}

/// The way towards the guest; it ends with the stream that owns this.
struct Inward {
    task: AbortHandle,
    ended: mpsc::Receiver<()>,
}

impl Drop for Inward {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Inward {
    /// Gives every piece of `payload` to `take`, until there is none or nobody takes it.
    fn start(
        mut payload: web::Payload,
        mut take: impl AsyncFnMut(Bytes) -> bool + 'static,
    ) -> Self {
        let (end, ended) = mpsc::channel(1);
        let task = actix_web::rt::spawn(async move {
            let _end = end;
            while let Some(Ok(bytes)) = payload.next().await {
                if !take(bytes).await {
                    return;
                }
            }
        });
        Self { task: task.abort_handle(), ended }
    }

    /// When the caller is gone or the agent stops.
    async fn over(&mut self, stopping: &mut Stopping) {
        tokio::select! {
            _ = self.ended.recv() => {}
            // A sender that is gone is a stop as well.
            _ = stopping.wait_for(|stop| *stop) => {}
        }
    }
}

fn relay(
    screen: Box<dyn console::Stream>,
    payload: web::Payload,
    stopping: Stopping,
) -> impl Stream<Item = std::io::Result<Bytes>> {
    let (read, mut write) = tokio::io::split(screen);
    let inward = Inward::start(payload, async move |bytes| write.write_all(&bytes).await.is_ok());
    stream::unfold((read, inward, stopping), |(mut read, mut inward, mut stopping)| async move {
        let mut buffer = web::BytesMut::with_capacity(CHUNK);
        let got = tokio::select! {
            got = read.read_buf(&mut buffer) => got,
            () = inward.over(&mut stopping) => return None,
        };
        match got {
            Ok(0) => None,
            Ok(_) => Some((Ok(buffer.freeze()), (read, inward, stopping))),
            Err(error) => Some((Err(error), (read, inward, stopping))),
        }
    })
}

fn serial(
    viewer: Viewer,
    payload: web::Payload,
    stopping: Stopping,
) -> impl Stream<Item = std::io::Result<Bytes>> {
    let input = viewer.input();
    let inward = Inward::start(payload, async move |bytes| input.send(bytes).await.is_ok());
    stream::unfold(
        (viewer, inward, stopping),
        |(mut viewer, mut inward, mut stopping)| async move {
            let next = tokio::select! {
                next = viewer.next() => next?,
                () = inward.over(&mut stopping) => return None,
            };
            Some((next, (viewer, inward, stopping)))
        },
    )
}
