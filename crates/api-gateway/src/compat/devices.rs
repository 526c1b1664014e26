//! `/vm/{attach_device,detach_device,cdrom}`.

use std::collections::BTreeMap;
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
use crate::query::Arguments;
use crate::v1::device_ref;

#[derive(Deserialize, Default)]
pub(super) struct Body {
    size: Option<DiskSize>,
    gold: Option<String>,
    pub(super) isoname: Option<String>,
    pub(super) dev: Option<String>,
}

/// An empty body is `{}`: the seed's scripts send either.
pub(super) fn read(body: &[u8]) -> Result<Body, Problem> {
    if body.iter().all(u8::is_ascii_whitespace) {
        return Ok(Body::default());
    }
    serde_json::from_slice(body).map_err(|error| {
        let code =
            if error.is_data() { ErrorCode::InvalidValue } else { ErrorCode::MalformedRequest };
        Problem::new(code, format!("body: {error}"))
    })
}

pub(super) fn missing(what: &str) -> Problem {
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
        DeviceKind::Net => {
            Ok(Attachment::Nic { device, mac: None, model: None, variables: BTreeMap::new() })
        }
        DeviceKind::Iso => Ok(Attachment::Cdrom { device, medium: Medium::Empty }),
        DeviceKind::Disk => {
            let size = body.size.ok_or_else(|| missing("size"))?;
            let gold = match body.gold.filter(|name| !name.is_empty()) {
                Some(name) => {
                    let arch = app.arch_of(host, vm).await?;
                    Some(app.gold(&ResourceName::parse(&name)?, &arch, size).await?)
                }
                None => None,
            };
            let (bus, format, variables) = (None, None, BTreeMap::new());
            Ok(Attachment::Disk { device, size, gold, bus, format, variables })
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
    let arguments = Arguments::of(request, &["dev"])?;
    let dev = arguments.get("dev").ok_or_else(|| missing("dev"))?.to_owned();
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
    let in_path = path.match_info().get("dev");
    let arguments = Arguments::of(path, &["dev"])?;
    // The readme's cdrom line has both; the body names the drive.
    let dev = body.dev.as_deref().or(arguments.get("dev")).or(in_path);
    dev.map(str::to_owned).ok_or_else(|| missing("dev"))
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

/// Changes what is in a drive: an ISO by name, or the guest's own seed for `""`.
pub(super) async fn change_medium(
    app: &App,
    who: &Identity,
    (host, vm): (HostId, VmId),
    dev: &str,
    isoname: Option<&str>,
) -> Result<Value, Problem> {
    let medium = match isoname {
        Some("") => Medium::Seed,
        Some(name) => app.iso(&ResourceName::parse(name)?).await?.medium(),
        None => return Err(missing("isoname")),
    };
    let work = Work::ChangeMedium { vm, device: device_ref(dev)?, medium };
    settle(app, who, &host, work).await?;
    Ok(ok(format!("cdrom {dev} ok"), json!({})))
}

pub(super) async fn cdrom(
    app: web::Data<App>,
    who: Caller<ManageVms>,
    request: HttpRequest,
    body: web::Bytes,
) -> HttpResponse {
    let run = async {
        let body = read(&body)?;
        let dev = named(&request, &body)?;
        change_medium(&app, &who.identity, place(&request)?, &dev, body.isoname.as_deref()).await
    };
    answer("cdrom", run.await)
}
