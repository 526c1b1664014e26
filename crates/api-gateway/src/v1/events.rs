//! What changes in the fleet, as it changes.

use actix_web::{HttpRequest, HttpResponse, web};
use futures_util::stream;
use serde::Deserialize;
use utoipa::{IntoParams, ToSchema};
use vmmgr_common::error::Problem;
use vmmgr_common::ids::HostId;
use vmmgr_common::server::Draining;

use crate::app::App;
use crate::app::no_such_host;
use crate::app::operations::OperationRecord;
use crate::app::progress::OperationProgress;
use crate::app::vms::VmView;
use crate::auth::{Caller, ReadFleet};
use crate::feed::{Filter, Resync};
use crate::fleet::{HostChanged, HostRemoved, VmRemoved};
use crate::sse;

/// Which events are wanted.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Wanted {
    /// `vm`, `host`, `operation`, or several with commas between them; all when absent.
    #[param(pattern = "^(vm|host|operation)(,(vm|host|operation))*$")]
    topics: Option<String>,
    /// Only what happens on this host.
    host: Option<HostId>,
}

/// Data of the events, by their names.
#[derive(ToSchema)]
#[schema(as = FleetEvent)]
#[serde(rename_all = "snake_case")]
#[expect(dead_code, reason = "describes what others write")]
pub(super) enum FleetEvent<'a> {
    /// A guest is new or has changed: as lists show it.
    Vm(VmView),
    /// A guest is gone.
    VmRemoved(VmRemoved<'a>),
    /// A host has another state.
    Host(HostChanged<'a>),
    /// A host is not registered any more.
    HostRemoved(HostRemoved<'a>),
    /// An operation is new or has another state.
    Operation(OperationRecord),
    /// An operation says how it goes.
    OperationProgress(OperationProgress<'a>),
    /// The lists have to be read again.
    Resync(Resync),
}

/// What changes in the fleet, as server-sent events, until the caller leaves.
#[utoipa::path(
    get, path = "/v1/events", tag = "events", operation_id = "follow_fleet",
    params(Wanted, ("last-event-id" = Option<String>, Header, description = "The `id` that came last; the stream goes on after it. A stream that cannot begins with `resync`.")),
    responses((status = 200, body = FleetEvent, content_type = "text/event-stream", description = "Events by the names of the schema's properties, with the property's value as data")),
)]
pub(super) async fn follow(
    app: web::Data<App>,
    draining: Draining,
    who: Caller<ReadFleet>,
    wanted: web::Query<Wanted>,
    request: HttpRequest,
) -> Result<HttpResponse, Problem> {
    let Wanted { topics, host } = wanted.into_inner();
    if let Some(host) = host.as_ref().filter(|host| app.fleet.host(host).is_none()) {
        return Err(no_such_host(host));
    }
    let filter = Filter::new(topics.as_deref(), host)?;
    let reader = app.fleet.feed().read(last_event_id(&request), filter)?;
    let frames = stream::unfold(reader, |mut reader| async move {
        let frame = reader.next().await;
        Some((frame, reader))
    });
    Ok(sse::answer(app, who.identity, draining, frames))
}

/// `Last-Event-ID`; one that is no text is as good as one that is not known.
pub(super) fn last_event_id(request: &HttpRequest) -> Option<&str> {
    request.headers().get("last-event-id").map(|value| value.to_str().unwrap_or_default())
}
