//! `POST /domain/{op}/{action}/{uuid}`: what the libvirt hook of a host sends.

use actix_web::{HttpRequest, HttpResponse, web};
use serde_json::json;
use vmmgr_common::error::{ErrorCode, Problem};

use super::envelope::{answer, ok};
use super::multipart;
use crate::app::App;
use crate::app::hooks::{HookReport, LARGEST_XML};
use crate::app::operations::now;
use crate::auth::reporter::Reporter;
use crate::query::Arguments;

pub(super) async fn report(
    app: web::Data<App>,
    who: Reporter,
    path: web::Path<(String, String, String)>,
    request: HttpRequest,
    body: web::Payload,
) -> HttpResponse {
    let run = async {
        Arguments::of(&request, &[])?;
        let (operation, action, object) = path.into_inner();
        let xml = match multipart::file(&request, body, LARGEST_XML).await? {
            Some(bytes) => Some(String::from_utf8(bytes).map_err(|_| {
                Problem::new(ErrorCode::InvalidValue, "file: expected XML in UTF-8")
            })?),
            None => None,
        };
        let uploaded = xml.is_some();
        let event = format!("{object}-{operation}-{action}");
        let report = HookReport {
            sender: who.name,
            object: object.clone(),
            operation,
            action,
            received: now(),
            xml,
        };
        app.keep_report(report).await?;
        Ok(if uploaded {
            ok(format!("{object} uploadxml ok"), json!({}))
        } else {
            ok(format!("{object} report ok"), json!({ "report": event }))
        })
    };
    answer("domain", run.await)
}
