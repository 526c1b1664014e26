//! `/vm/ui` and `/vm/ctrl_url`: a link for the tenant of a guest.

use actix_web::{HttpRequest, HttpResponse, web};
use chrono::{DateTime, SecondsFormat};
use serde_json::{Value, json};
use vmmgr_common::error::{ErrorCode, Problem};
use vmmgr_common::ids::{HostId, VmId};

use super::envelope::{answer, ok};
use crate::app::App;
use crate::app::links::LinkWish;
use crate::auth::{Caller, ManageVms};
use crate::query::Arguments;

/// Where the tenant opens it.
const PAGE: &str = "/guest.html";

async fn make(
    app: &App,
    who: &Caller<ManageVms>,
    (host, uuid): (&str, &str),
    epoch: &str,
) -> Result<(VmId, String, String), Problem> {
    let (host, vm) = (HostId::parse(host)?, VmId::parse(uuid)?);
    let refuse = || Problem::new(ErrorCode::InvalidValue, "epoch: expected seconds since 1970");
    let expires: u64 = epoch.parse().map_err(|_| refuse())?;
    let end = i64::try_from(expires).ok().and_then(|seconds| DateTime::from_timestamp(seconds, 0));
    let end = end.ok_or_else(refuse)?.to_rfc3339_opts(SecondsFormat::Secs, true);
    let wish = LinkWish {
        verbs: Default::default(),
        label: "made by the seed's route".to_owned(),
        expires,
        uses: None,
    };
    let (token, _) = app.create_link(&who.identity.user, &host, vm, wish).await?;
    Ok((vm, token.word(), end))
}

pub(super) async fn ui(
    app: web::Data<App>,
    who: Caller<ManageVms>,
    path: web::Path<(String, String, String)>,
    request: HttpRequest,
) -> HttpResponse {
    let run = async {
        Arguments::of(&request, &[])?;
        let (_, token, expire) = make(&app, &who, (&path.0, &path.1), &path.2).await?;
        Ok(ok("vmuserinterface", json!({"url": PAGE, "token": token, "expire": expire})))
    };
    answer("ui", run.await)
}

pub(super) async fn ctrl_url(
    app: web::Data<App>,
    who: Caller<ManageVms>,
    path: web::Path<(String, String)>,
    request: HttpRequest,
) -> HttpResponse {
    let run = async {
        let arguments = Arguments::of(&request, &["epoch"])?;
        let epoch = arguments.get("epoch").ok_or_else(|| super::devices::missing("epoch"))?;
        let (vm, token, expire) = make(&app, &who, (&path.0, &path.1), epoch).await?;
        let more: Value = json!({"uuid": vm, "url": PAGE, "token": token, "expire": expire});
        Ok(ok("vmuserinterface", more))
    };
    answer("ctrl_url", run.await)
}
