//! `/vm/{start,stop,reset,delete}/{host}/{uuid}`.

use std::time::Duration;

use actix_web::{HttpRequest, HttpResponse, web};
use serde_json::{Value, json};
use vmmgr_common::api::operation::{OperationState, Work};
use vmmgr_common::error::{ErrorCode, Problem};
use vmmgr_common::ids::{HostId, VmId};

use super::envelope::{answer, ok};
use crate::app::App;
use crate::app::operations::{OperationRecord, Submission};
use crate::auth::{Caller, Identity, ManageVms};
use crate::query::Arguments;

/// The seed answers when the thing is done.
const WAIT: Duration = Duration::from_secs(30);

/// Hands work in and waits for its end.
pub(super) async fn settle(
    app: &App,
    who: &Identity,
    host: &HostId,
    work: Work,
) -> Result<OperationRecord, Problem> {
    let how = Submission { wait: WAIT, ..Submission::default() };
    let record = app.submit(who, host, work, how).await?;
    match (record.operation.state, &record.operation.problem) {
        (OperationState::Failed, Some(problem)) => Err(problem.clone()),
        (state, _) if state.is_final() => Ok(record),
        _ => Err(Problem::new(
            ErrorCode::Deadline,
            format!("not done within {WAIT:?}; operation {} goes on", record.operation.id),
        )),
    }
}

pub(super) async fn act(
    app: web::Data<App>,
    who: Caller<ManageVms>,
    path: web::Path<(String, String)>,
    request: HttpRequest,
) -> HttpResponse {
    let verb = request.path().split('/').nth(2).unwrap_or_default().to_owned();
    let result = async {
        let (host, vm) = (HostId::parse(&path.0)?, VmId::parse(&path.1)?);
        let known: &[&str] = if verb == "stop" { &["force"] } else { &[] };
        let arguments = Arguments::of(&request, known)?;
        let work = match verb.as_str() {
            "start" => Work::Start { vm },
            "reset" => Work::Reset { vm },
            "delete" => Work::Delete { vm },
            _ if arguments.flag("force")? => Work::Destroy { vm },
            _ => Work::Shutdown { vm },
        };
        let record = settle(&app, &who.identity, &host, work).await?;
        let more = match verb.as_str() {
            "delete" => {
                let failed: Vec<Value> = record
                    .operation
                    .outcome
                    .undeleted
                    .iter()
                    .map(|d| json!({"type": d.source_type, "dev": d.target, "vol": d.source}))
                    .collect();
                json!({ "failed": failed })
            }
            _ => json!({}),
        };
        Ok(ok(format!("{vm} {verb} ok"), more))
    };
    answer(&verb, result.await)
}
