//! `/vm/display/{host}/{uuid}` and `/vm/console/{host}/{uuid}`, and the same of a link.
//!
//! The URL that they answer carries a ticket of 30 s for one websocket, where the seed's carried a
//! credential of a day. Nothing that runs is touched: a display is one more viewer.

use actix_web::{HttpResponse, web};
use base64::Engine as _;
use serde::Deserialize;
use serde_json::{Value, json};
use vmmgr_common::api::console::{ConsoleKind, ConsoleMode, ConsoleRequest, ConsoleTicket};
use vmmgr_common::error::{ErrorCode, Problem};
use vmmgr_common::ids::{HostId, VmId};

use super::envelope::{answer, ok};
use crate::app::App;
use crate::auth::tenant::{Console, Display, Tenant};
use crate::auth::{Caller, Identity, ManageVms};

type Place = web::Path<(String, String)>;

/// What the seed's newer form adds. `timeout_mins` is taken and means nothing: a ticket has its
/// own, shorter life.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Newer {
    disp: Option<String>,
    prefix: Option<String>,
    timeout_mins: Option<u32>,
}

impl Newer {
    const fn is_used(&self) -> bool {
        self.disp.is_some() || self.prefix.is_some() || self.timeout_mins.is_some()
    }
}

const fn page(kind: ConsoleKind) -> &'static str {
    match kind {
        ConsoleKind::Vnc => "/novnc/vnc_lite.html",
        ConsoleKind::Spice => "/spice/spice_auto.html",
        ConsoleKind::Serial => "/term/xterm.html",
    }
}

/// Path of the websocket before its query; a prefix is a path of our own site.
fn websocket(prefix: &str) -> Result<String, Problem> {
    let plain = prefix.bytes().all(|b| b.is_ascii_alphanumeric() || b"/_-".contains(&b));
    if plain && !prefix.contains("//") && prefix.len() <= 64 {
        let prefix = prefix.trim_matches('/');
        return Ok(if prefix.is_empty() {
            "websockify".into()
        } else {
            format!("{prefix}/websockify")
        });
    }
    Err(Problem::new(ErrorCode::InvalidValue, "prefix: expected a plain path"))
}

async fn show(
    app: &App,
    who: &Identity,
    (host, vm): (HostId, VmId),
    serial: bool,
    newer: &Newer,
) -> Result<Value, Problem> {
    let path = websocket(newer.prefix.as_deref().unwrap_or_default())?;
    let kind = if serial {
        ConsoleKind::Serial
    } else {
        let kinds = app.agent(&host)?.console_info(vm).await?.kinds;
        kinds.into_iter().find(|kind| *kind != ConsoleKind::Serial).ok_or_else(|| {
            Problem::new(ErrorCode::NoSuchConsole, format!("guest {vm} has no screen"))
        })?
    };
    let asked = ConsoleRequest { kind, mode: ConsoleMode::Share };
    let ticket = app.console_ticket(who, &host, vm, asked).await?;
    Ok(shape(vm, &path, &ticket, newer))
}

fn shape(vm: VmId, path: &str, given: &ConsoleTicket, newer: &Newer) -> Value {
    let (kind, ticket) = (given.kind, given.ticket.expose());
    let display = format!("{}?password=&path={path}/%3Ftoken={ticket}", page(kind));
    if !newer.is_used() {
        return ok(kind.as_str(), json!({"display": display, "expire": given.expires_at}));
    }
    let access = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(ticket);
    let disp = newer.disp.as_deref().unwrap_or_default();
    // Minutes, rounded up.
    let more = json!({"uuid": vm, "display": display, "token": ticket, "disp": disp, "expire": 1,
        "access": access});
    ok(kind.as_str(), more)
}

pub(super) async fn display(
    app: web::Data<App>,
    who: Caller<ManageVms>,
    path: Place,
    newer: web::Query<Newer>,
) -> HttpResponse {
    let result = async {
        let place = (HostId::parse(&path.0)?, VmId::parse(&path.1)?);
        let serial = match newer.disp.as_deref() {
            None | Some("") => false,
            Some("console") => true,
            Some(_) => {
                let said = "disp: expected nothing or `console`";
                return Err(Problem::new(ErrorCode::InvalidValue, said));
            }
        };
        show(&app, &who.identity, place, serial, &newer).await
    };
    answer("display", result.await)
}

pub(super) async fn console(
    app: web::Data<App>,
    who: Caller<ManageVms>,
    path: Place,
) -> HttpResponse {
    let result = async {
        let place = (HostId::parse(&path.0)?, VmId::parse(&path.1)?);
        show(&app, &who.identity, place, true, &Newer::default()).await
    };
    answer("console", result.await)
}

/// The screen, for the holder of a link.
pub(super) async fn tenant_display(app: web::Data<App>, who: Tenant<Display>) -> HttpResponse {
    let place = (who.host.clone(), who.vm);
    answer("display", show(&app, &who.identity, place, false, &Newer::default()).await)
}

/// The serial line, for the holder of a link.
pub(super) async fn tenant_console(app: web::Data<App>, who: Tenant<Console>) -> HttpResponse {
    let place = (who.host.clone(), who.vm);
    answer("console", show(&app, &who.identity, place, true, &Newer::default()).await)
}
