//! `/user/vm/…`: what the holder of a link can do with its guest.

use actix_web::http::Method;
use actix_web::{HttpRequest, HttpResponse, web};
use serde::Deserialize;
use serde_json::{Value, json};
use vmmgr_common::api::operation::Work;
use vmmgr_common::error::{ErrorCode, Problem};
use vmmgr_common::ids::ResourceName;

use super::devices::{change_medium, missing, read};
use super::envelope::{answer, ok, refuse};
use super::lists::live;
use super::power::settle;
use super::tuning::{listed, take};
use crate::app::App;
use crate::auth::link;
use crate::auth::tenant::{
    Cdrom, DeleteSnapshot, Getiso, LinkRoute, List, Reset, RevertSnapshot, Snapshot, Start, Stop,
    Tenant,
};

/// A guest has no more snapshots than this when a link takes one: they fill the owner's disk.
const MOST_SNAPSHOTS: usize = 10;

pub(super) async fn list(app: web::Data<App>, who: Tenant<List>) -> HttpResponse {
    let guest = app.vm(&who.host, who.vm).await;
    answer("list", guest.map(|guest| live(&guest.domain)))
}

/// Names only: where an ISO is on the hosts is not a tenant's business.
pub(super) async fn isos(app: web::Data<App>, _: Tenant<Getiso>) -> HttpResponse {
    let rows = app.isos().await.map(|isos| {
        isos.iter()
            .map(|iso| {
                json!({"name": iso.name, "uri": "", "desc": iso.description,
                    "last_modified": iso.modified})
            })
            .collect::<Value>()
    });
    answer("getiso", rows)
}

async fn act<R: LinkRoute>(app: &App, who: &Tenant<R>, work: Work, verb: &str) -> HttpResponse {
    let done = settle(app, &who.identity, &who.host, work).await;
    answer(verb, done.map(|_| ok(format!("{} {verb} ok", who.vm), json!({}))))
}

pub(super) async fn start(app: web::Data<App>, who: Tenant<Start>) -> HttpResponse {
    act(&app, &who, Work::Start { vm: who.vm }, "start").await
}

pub(super) async fn reset(app: web::Data<App>, who: Tenant<Reset>) -> HttpResponse {
    act(&app, &who, Work::Reset { vm: who.vm }, "reset").await
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct StopBody {
    force: Option<bool>,
}

/// The readme prints `POST -d '{}'` as the forced stop, and `GET` as the ordinary one; `force` in
/// the query or in the body says it explicitly.
fn forced(who: &Tenant<Stop>, method: &Method, body: &[u8]) -> Result<bool, Problem> {
    let body: StopBody = if body.iter().all(u8::is_ascii_whitespace) {
        StopBody::default()
    } else {
        serde_json::from_slice(body)
            .map_err(|error| Problem::new(ErrorCode::InvalidValue, format!("body: {error}")))?
    };
    match (who.arguments.has("force"), body.force) {
        (true, Some(_)) => {
            Err(Problem::new(ErrorCode::MalformedRequest, "force is given in query and body"))
        }
        (true, None) => who.arguments.flag("force"),
        (false, Some(force)) => Ok(force),
        (false, None) => Ok(method == Method::POST),
    }
}

pub(super) async fn stop(
    app: web::Data<App>,
    who: Tenant<Stop>,
    request: HttpRequest,
    body: web::Bytes,
) -> HttpResponse {
    match forced(&who, request.method(), &body) {
        Ok(true) => act(&app, &who, Work::Destroy { vm: who.vm }, "stop").await,
        Ok(false) => act(&app, &who, Work::Shutdown { vm: who.vm }, "stop").await,
        Err(problem) => refuse("stop", &problem),
    }
}

pub(super) async fn cdrom(
    app: web::Data<App>,
    who: Tenant<Cdrom>,
    body: web::Bytes,
) -> HttpResponse {
    let run = async {
        let body = read(&body)?;
        let dev = body.dev.as_deref().or(who.arguments.get("dev"));
        let dev = dev.ok_or_else(|| missing("dev"))?;
        let place = (who.host.clone(), who.vm);
        change_medium(&app, &who.identity, place, dev, body.isoname.as_deref()).await
    };
    answer("cdrom", run.await)
}

/// With GET the snapshots that there are, with POST one more.
pub(super) async fn snapshot(
    app: web::Data<App>,
    who: Tenant<Snapshot>,
    request: HttpRequest,
) -> HttpResponse {
    let run = async {
        if request.method() == Method::GET {
            return listed(&app, &who.host, who.vm, "snapshot ok".to_owned()).await;
        }
        if app.agent(&who.host)?.snapshots(who.vm).await?.len() >= MOST_SNAPSHOTS {
            let detail = format!("guest {} has {MOST_SNAPSHOTS} snapshots", who.vm);
            return Err(Problem::new(ErrorCode::WrongState, detail).hint("delete some first"));
        }
        take(&app, &who.identity, (&who.host, who.vm), who.arguments.get("name")).await
    };
    answer("snapshot", run.await)
}

fn snapshot_name<R>(who: &Tenant<R>) -> Result<ResourceName, Problem> {
    Ok(ResourceName::parse(who.arguments.get("name").ok_or_else(|| missing("name"))?)?)
}

pub(super) async fn revert_snapshot(
    app: web::Data<App>,
    who: Tenant<RevertSnapshot>,
) -> HttpResponse {
    match snapshot_name(&who) {
        Ok(name) => {
            act(&app, &who, Work::RevertSnapshot { vm: who.vm, name }, "revert_snapshot").await
        }
        Err(problem) => refuse("revert_snapshot", &problem),
    }
}

pub(super) async fn delete_snapshot(
    app: web::Data<App>,
    who: Tenant<DeleteSnapshot>,
) -> HttpResponse {
    match snapshot_name(&who) {
        Ok(name) => {
            act(&app, &who, Work::DeleteSnapshot { vm: who.vm, name }, "delete_snapshot").await
        }
        Err(problem) => refuse("delete_snapshot", &problem),
    }
}

/// Everything else below `/user/`: no link opens it.
pub(super) async fn refused() -> HttpResponse {
    refuse("user", &link::refused())
}
