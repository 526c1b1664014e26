//! `/vm/{attach_device,detach_device,cdrom}`.

use std::convert::Infallible;

use actix_web::{HttpRequest, HttpResponse, web};
use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use serde::Deserialize;
use serde_json::{Value, json};
use vmmgr_common::api::disk::{Attachment, DiskSize, Medium};
use vmmgr_common::api::host::DeviceKind;
use vmmgr_common::api::operation::{Operation, OperationEvent, Work};
use vmmgr_common::error::{ErrorCode, Problem};
use vmmgr_common::ids::{HostId, ResourceName, VmId};

use super::envelope::{answer, error, ok, refuse};
use super::power::settle;
use crate::app::App;
use crate::app::operations::{OperationRecord, Submission};
use crate::auth::{Caller, Identity, ManageVms};
use crate::v1::device_ref;

#[derive(Deserialize, Default)]
struct Body {
    size: Option<DiskSize>,
    gold: Option<String>,
    isoname: Option<String>,
    dev: Option<String>,
}

/// An empty body is `{}`: the seed's scripts send either.
fn read(body: &[u8]) -> Result<Body, Problem> {
    if body.iter().all(u8::is_ascii_whitespace) {
        return Ok(Body::default());
    }
    serde_json::from_slice(body).map_err(|error| {
        let code =
            if error.is_data() { ErrorCode::InvalidValue } else { ErrorCode::MalformedRequest };
        Problem::new(code, format!("body: {error}"))
    })
}

/// `?dev=`, given once.
fn query_dev(request: &HttpRequest) -> Result<Option<String>, Problem> {
    let query = web::Query::<Vec<(String, String)>>::from_query(request.query_string())
        .map_err(|error| Problem::new(ErrorCode::MalformedRequest, format!("query: {error}")))?;
    let mut given = query.iter().filter(|(key, _)| key == "dev");
    match (given.next(), given.next()) {
        (Some(_), Some(_)) => Err(Problem::new(ErrorCode::MalformedRequest, "dev is given twice")),
        (found, _) => Ok(found.map(|(_, value)| value.clone())),
    }
}

fn missing(what: &str) -> Problem {
    Problem::new(ErrorCode::InvalidValue, format!("{what}: missing"))
}

async fn attachment(
    app: &App,
    host: &HostId,
    vm: VmId,
    dev: &str,
    body: Body,
) -> Result<Attachment, Problem> {
    let device = ResourceName::parse(dev)?;
    let known = app.host_info(host).await?.devices.into_iter().find(|known| known.name == device);
    let known = known.ok_or_else(|| {
        Problem::new(ErrorCode::NoSuchRecord, format!("host `{host}` has no device `{device}`"))
    })?;
    match known.kind {
        DeviceKind::Net => Ok(Attachment::Nic { device, mac: None }),
        DeviceKind::Iso => Ok(Attachment::Cdrom { device, medium: Medium::Empty }),
        DeviceKind::Disk => {
            let gold = match body.gold.filter(|name| !name.is_empty()) {
                Some(name) => {
                    let arch = app.arch_of(host, vm).await?;
                    Some(app.gold(&ResourceName::parse(&name)?, &arch).await?)
                }
                None => None,
            };
            let size = body.size.ok_or_else(|| missing("size"))?;
            Ok(Attachment::Disk { device, size, gold })
        }
    }
}

async fn begin(
    app: &App,
    who: &Identity,
    path: &(String, String),
    request: &HttpRequest,
    body: &[u8],
) -> Result<(OperationRecord, String), Problem> {
    let (host, vm) = (HostId::parse(&path.0)?, VmId::parse(&path.1)?);
    let dev = query_dev(request)?.ok_or_else(|| missing("dev"))?;
    let attachment = attachment(app, &host, vm, &dev, read(body)?).await?;
    let record =
        app.submit(who, &host, Work::Attach { vm, attachment }, Submission::default()).await?;
    Ok((record, dev))
}

fn last_line(operation: &Operation, dev: &str) -> Value {
    match &operation.problem {
        Some(problem) => error("attach_device", problem),
        None => ok(
            format!("attach {dev} ok"),
            json!({"target": operation.outcome.target, "mac": operation.outcome.mac}),
        ),
    }
}

/// Lines of progress as they happen, then the envelope: the seed's form. What is refused before
/// anything was begun has an honest status; a failure after that is in the last line.
pub(super) async fn attach(
    app: web::Data<App>,
    who: Caller<ManageVms>,
    path: web::Path<(String, String)>,
    request: HttpRequest,
    body: web::Bytes,
) -> HttpResponse {
    let (record, dev) = match begin(&app, &who.identity, &path, &request, &body).await {
        Ok(begun) => begun,
        Err(problem) => return refuse("attach_device", &problem),
    };
    let events = match app.agent(&record.host) {
        Ok(agent) => agent.operation_events(record.operation.id).await,
        Err(problem) => Err(problem),
    };
    let events = match events {
        Ok(events) => events,
        Err(problem) => return refuse("attach_device", &problem),
    };
    let mut events = Box::pin(events);
    // Refusals come first: wait for the first line, so that they can have their own status.
    let first = events.next().await;
    if let Some(Ok(OperationEvent::Done { operation })) = &first {
        return match &operation.problem {
            Some(problem) => refuse("attach_device", problem),
            None => HttpResponse::Ok().json(last_line(operation, &dev)),
        };
    }
    let lines = stream::iter(first).chain(events).map(move |event| {
        let text = match event {
            Ok(OperationEvent::Progress { line }) => line,
            Ok(OperationEvent::Done { operation }) => last_line(&operation, &dev).to_string(),
            Err(problem) => error("attach_device", &problem).to_string(),
        };
        Ok::<_, Infallible>(Bytes::from(text + "\n"))
    });
    HttpResponse::Ok()
        .content_type("text/event-stream")
        .insert_header(("x-accel-buffering", "no"))
        .streaming(lines)
}

/// The device of the path form, of `?dev=` or of the body.
fn named(path: &HttpRequest, body: &Body) -> Result<String, Problem> {
    let in_path = path.match_info().get("dev").map(str::to_owned);
    // The readme's cdrom line has both; the body names the drive.
    match body.dev.clone().or(query_dev(path)?).or(in_path) {
        Some(dev) => Ok(dev),
        None => Err(missing("dev")),
    }
}

fn place(request: &HttpRequest) -> Result<(HostId, VmId), Problem> {
    let part = |name: &str| request.match_info().get(name).unwrap_or_default().to_owned();
    Ok((HostId::parse(&part("host"))?, VmId::parse(&part("uuid"))?))
}

pub(super) async fn detach(
    app: web::Data<App>,
    who: Caller<ManageVms>,
    request: HttpRequest,
    body: web::Bytes,
) -> HttpResponse {
    let run = async {
        let (host, vm) = place(&request)?;
        let dev = named(&request, &read(&body)?)?;
        let work = Work::Detach { vm, device: device_ref(&dev)? };
        let record = settle(&app, &who.identity, &host, work).await?;
        let failed = record.operation.outcome.undeleted.first().map(|disk| disk.source.clone());
        Ok(ok(format!("detach {dev} ok"), failed.map_or(json!({}), |vol| json!({ "failed": vol }))))
    };
    answer("detach_device", run.await)
}

pub(super) async fn cdrom(
    app: web::Data<App>,
    who: Caller<ManageVms>,
    request: HttpRequest,
    body: web::Bytes,
) -> HttpResponse {
    let run = async {
        let (host, vm) = place(&request)?;
        let body = read(&body)?;
        let dev = named(&request, &body)?;
        let medium = match body.isoname.as_deref() {
            Some("") => Medium::Seed,
            Some(name) => Medium::Iso { path: app.iso(&ResourceName::parse(name)?).await?.path },
            None => return Err(missing("isoname")),
        };
        let work = Work::ChangeMedium { vm, device: device_ref(&dev)?, medium };
        settle(&app, &who.identity, &host, work).await?;
        Ok(ok(format!("cdrom {dev} ok"), json!({})))
    };
    answer("cdrom", run.await)
}
