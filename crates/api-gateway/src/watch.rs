//! Around all public routes: how much an address may ask, and what goes into the audit log.

use actix_web::HttpMessage as _;
use actix_web::body::MessageBody;
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::Method;
use actix_web::middleware::Next;
use actix_web::{HttpRequest, web};
use vmmgr_common::server::{RequestId, loggable};

use crate::app::App;
use crate::app::audit::Event;

/// Who a request turned out to be of.
#[derive(Clone)]
struct Who {
    name: String,
    /// The route is for more than looking; the described system starts guests with GET.
    changes: bool,
}

/// Notes it for the audit log.
pub(crate) fn is_of(request: &HttpRequest, name: impl Into<String>, changes: bool) {
    request.extensions_mut().insert(Who { name: name.into(), changes });
}

/// Holds floods back, and writes changes and refusals down, before the caller hears of them.
pub(crate) async fn watch<B: MessageBody>(
    app: web::Data<App>,
    request: ServiceRequest,
    next: Next<B>,
) -> Result<ServiceResponse<B>, actix_web::Error> {
    let (method, path) = (request.method().clone(), loggable(request.path()).to_owned());
    let request_id = request.extensions().get::<RequestId>().map(|id| id.0.clone());
    app.limits.address(&request)?;
    let response = next.call(request).await?;
    let status = response.status().as_u16();
    let who = response.request().extensions().get::<Who>().cloned();
    let reads = (method == Method::GET || method == Method::HEAD)
        && !who.as_ref().is_some_and(|who| who.changes);
    if (reads && !matches!(status, 401 | 403)) || (who.is_none() && matches!(status, 404 | 405)) {
        return Ok(response);
    }
    let event = Event {
        who: who.map(|who| who.name).unwrap_or_default(),
        method: method.to_string(),
        path,
        status,
        request_id: request_id.unwrap_or_default(),
    };
    // What was done is done, and its caller is told so.
    if let Err(problem) = app.audit(event, jsonwebtoken::get_current_timestamp()).await {
        tracing::error!(%problem, "the audit log lacks this request");
    }
    Ok(response)
}
