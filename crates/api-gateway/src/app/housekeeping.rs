//! What the gateway does without being asked: it settles operations whose end nobody waited for, and
//! forgets what is old.

use std::sync::Arc;
use std::time::Duration;

use vmmgr_common::error::{ErrorCode, Problem};
use vmmgr_common::server::Readiness;

use super::App;
use super::operations::{KeyRecord, Open, OperationRecord};
use crate::fleet::HostState;
use crate::store::{Table, from_text};

/// Between two looks at operations that have not ended.
const SETTLE_EVERY: Duration = Duration::from_secs(2);
/// Between two rounds of forgetting.
const PRUNE_EVERY: Duration = Duration::from_secs(3600);
/// How long an `Idempotency-Key` is remembered, seconds.
const KEY_SECONDS: u64 = 24 * 3600;
/// Records read at once.
const PAGE: usize = 500;

/// Keeps house until the process ends.
pub(crate) async fn keep_house(app: Arc<App>, ready: Readiness, operation_days: u32) {
    let mut settle = tokio::time::interval(SETTLE_EVERY);
    let mut prune = tokio::time::interval(PRUNE_EVERY);
    loop {
        let done = tokio::select! {
            _ = settle.tick() => {
                app.limits.tidy();
                let store = app.store.get(Table::Users, "admin").await;
                ready.set("store", store.map(drop).map_err(|problem| problem.detail));
                app.settle().await
            }
            _ = prune.tick() => {
                app.prune(jsonwebtoken::get_current_timestamp(), operation_days).await
            }
        };
        if let Err(problem) = done {
            tracing::warn!(%problem, "housekeeping goes on later");
        }
    }
}

impl App {
    /// Reads, once at the start, which operations have not ended.
    pub(super) async fn read_open(&self) -> Result<(), Problem> {
        let mut before: Option<String> = None;
        loop {
            let page = self.store.page(Table::Operations, "", before.as_deref(), PAGE).await?;
            for (_, text) in &page {
                let record: OperationRecord = from_text(text)?;
                if !record.operation.state.is_final() {
                    let open = Open::of(record.host, false);
                    self.opened(|all| all.insert(record.operation.id, open));
                }
            }
            match page.last() {
                Some((key, _)) if page.len() == PAGE => before = Some(key.clone()),
                _ => return Ok(()),
            }
        }
    }

    /// Asks the hosts that are there how the operations went that have not ended.
    pub(crate) async fn settle(&self) -> Result<(), Problem> {
        let open: Vec<_> =
            self.opened(|all| all.iter().map(|(id, open)| (*id, open.clone())).collect());
        for (id, open) in open {
            let view = self.fleet.host(&open.host);
            let there = view.is_some_and(|view| {
                matches!(view.state, HostState::Reachable | HostState::HypervisorDown)
            });
            if !there || open.on_the_way {
                continue;
            }
            match self.operation(id).await {
                // It was never written down, so nobody was told of it either.
                Err(problem) if problem.code == ErrorCode::NoSuchOperation => {
                    self.opened(|all| all.remove(&id));
                }
                other => drop(other?),
            }
        }
        Ok(())
    }

    /// Forgets operations that are older than `days`, keys of yesterday and tokens that have ended.
    pub(crate) async fn prune(&self, now: u64, days: u32) -> Result<(), Problem> {
        let oldest = now.saturating_sub(u64::from(days) * 24 * 3600);
        // The first 48 bits of an id are its milliseconds.
        let milliseconds = format!("{:012x}", oldest * 1000);
        let before = format!("{}-{}", &milliseconds[..8], &milliseconds[8..]);
        loop {
            let page = self.store.page(Table::Operations, "", Some(&before), PAGE).await?;
            for (id, text) in &page {
                if let Some(vm) = from_text::<OperationRecord>(text)?.operation.vm {
                    self.store.delete(Table::OperationsOfVm, &format!("{vm}/{id}")).await?;
                }
                self.store.delete(Table::Operations, id).await?;
            }
            if page.len() < PAGE {
                break;
            }
        }
        for (key, text) in self.store.list(Table::IdempotencyKeys).await? {
            if from_text::<KeyRecord>(&text)?.at + KEY_SECONDS < now {
                self.store.delete(Table::IdempotencyKeys, &key).await?;
            }
        }
        self.prune_api_tokens(now).await?;
        self.prune_revoked(now).await
    }
}

#[cfg(test)]
mod tests {
    use reqwest::Method;
    use serde_json::json;
    use vmmgr_common::api::operation::{Operation, OperationState, Outcome};
    use vmmgr_common::ids::{HostId, OperationId, VmId};

    use super::*;
    use crate::auth::Role;
    use crate::fake::Stack;
    use crate::store::to_text;

    fn pending(vm: VmId, accepted_at: String) -> OperationRecord {
        let operation = Operation {
            id: OperationId::new(),
            verb: "start".to_owned(),
            vm: Some(vm),
            state: OperationState::Pending,
            accepted_at,
            ended_at: None,
            problem: None,
            outcome: Outcome::default(),
        };
        OperationRecord { host: HostId::parse("host01").unwrap(), user: "ada".into(), operation }
    }

    async fn stored(app: &App, id: OperationId) -> OperationRecord {
        let text = app.store.get(Table::Operations, &id.to_string()).await.unwrap();
        from_text(&text.unwrap()).unwrap()
    }

    #[actix_web::test]
    async fn an_operation_that_nobody_asks_for_is_settled() {
        let (stack, vm) = Stack::with_guest().await;
        stack.host.lock().unwrap().stall = true;
        let path = format!("/v1/hosts/host01/vms/{vm}/start");
        let (status, _) = stack.call(Role::Operator, Method::POST, &path, None).await;
        assert_eq!(status, 202);
        let id = *stack.app.opened(|open| open.keys().next().copied()).as_ref().unwrap();
        stack.app.settle().await.unwrap();
        assert_eq!(stored(&stack.app, id).await.operation.state, OperationState::Running);
        for operation in stack.host.lock().unwrap().operations.values_mut() {
            operation.state = OperationState::Succeeded;
        }
        stack.app.settle().await.unwrap();
        assert_eq!(stored(&stack.app, id).await.operation.state, OperationState::Succeeded);
        assert!(stack.app.opened(|open| open.is_empty()));
    }

    #[actix_web::test]
    async fn work_that_a_gateway_died_with_is_told_as_never_done() {
        let (stack, vm) = Stack::with_guest().await;
        let old = pending(vm, "2026-01-01T00:00:00.000Z".to_owned());
        let young = pending(vm, crate::app::operations::now());
        for record in [&old, &young] {
            let key = record.operation.id.to_string();
            stack.app.store.put(Table::Operations, &key, &to_text(record).unwrap()).await.unwrap();
        }
        // As at a start.
        stack.app.read_open().await.unwrap();
        stack.app.settle().await.unwrap();
        let settled = stored(&stack.app, old.operation.id).await.operation;
        assert_eq!(settled.state, OperationState::Failed);
        assert_eq!(settled.problem.unwrap().code, ErrorCode::HostUnreachable);
        assert_eq!(stored(&stack.app, young.operation.id).await, young, "it may still arrive");
        assert!(stack.host.lock().unwrap().works.is_empty());
    }

    #[actix_web::test]
    async fn what_is_old_is_forgotten_and_what_is_young_is_not() {
        let (stack, vm) = Stack::with_guest().await;
        let path = format!("/v1/hosts/host01/vms/{vm}/start?wait_ms=5000");
        let request = stack.request(Method::POST, &path).bearer_auth(stack.token(Role::Operator));
        let answer = request.header("idempotency-key", "k").send().await.unwrap();
        assert_eq!(answer.status(), 200);
        let now = jsonwebtoken::get_current_timestamp();
        stack.app.revoke("t", now + 60).await.unwrap();
        let left = async || {
            let mut counts = Vec::new();
            for table in [
                Table::Operations,
                Table::OperationsOfVm,
                Table::IdempotencyKeys,
                Table::RevokedTokens,
            ] {
                counts.push(stack.app.store.list(table).await.unwrap().len());
            }
            counts
        };
        stack.app.prune(now, 30).await.unwrap();
        assert_eq!(left().await, [1, 1, 1, 1]);
        stack.app.prune(now + 29 * 24 * 3600, 30).await.unwrap();
        assert_eq!(left().await, [1, 1, 0, 0]);
        assert!(!stack.app.is_revoked("t"));
        stack.app.prune(now + 31 * 24 * 3600, 30).await.unwrap();
        assert_eq!(left().await, [0, 0, 0, 0]);
    }

    #[actix_web::test]
    async fn pages_of_operations_lead_to_the_next() {
        let (stack, vm) = Stack::with_guest().await;
        let other = VmId::new();
        for vm in [vm, other, vm, vm] {
            stack.host.lock().unwrap().domains.insert(vm, crate::fake::guest(vm));
            let path = format!("/v1/hosts/host01/vms/{vm}/start?wait_ms=5000");
            assert_eq!(stack.call(Role::Operator, Method::POST, &path, None).await.0, 200);
        }
        let walk = async |first: String| {
            let (mut next, mut pages) = (Some(first), Vec::new());
            while let Some(path) = next {
                let answer = stack.send(Role::Viewer, Method::GET, &path, None).await;
                let link = answer.headers().get("link").map(|link| link.to_str().unwrap());
                next = link.map(|link| {
                    link.strip_prefix('<').unwrap().split('>').next().unwrap().to_owned()
                });
                let (_, page) = crate::fake::read(answer).await;
                pages.push(page.as_array().unwrap().clone());
            }
            pages
        };
        let pages = walk("/v1/operations?limit=3".to_owned()).await;
        assert_eq!(pages.iter().map(Vec::len).collect::<Vec<_>>(), [3, 1]);
        let all: Vec<String> =
            pages.concat().iter().map(|op| op["id"].as_str().unwrap().to_owned()).collect();
        assert!(all.is_sorted_by(|a, b| a > b), "{all:?}");
        let pages = walk(format!("/v1/operations?limit=2&vm={vm}")).await;
        assert_eq!(pages.iter().map(Vec::len).collect::<Vec<_>>(), [2, 1]);
        assert!(pages.concat().iter().all(|op| op["vm"] == json!(vm)));
        let odd = "/v1/operations?page_token=x";
        assert_eq!(stack.call(Role::Viewer, Method::GET, odd, None).await.0, 400);
    }
}
