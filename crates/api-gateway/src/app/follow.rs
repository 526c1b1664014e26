//! Several gateways on one store: what this one holds in memory follows what the others write.
//!
//! A look at the counters a second is cheap and cannot miss anything, which a message could.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use vmmgr_common::error::{ErrorCode, Problem};
use vmmgr_common::server::Readiness;

use super::App;
use crate::store::Table;

/// What another gateway writes is known here after this time at most.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Counters of changes, by table.
type Versions = BTreeMap<String, u64>;

/// Follows until the process ends.
pub(crate) async fn follow(app: Arc<App>, ready: Readiness) {
    let mut known = Versions::new();
    let mut look = tokio::time::interval(LOOK_EVERY);
    loop {
        look.tick().await;
        let looked = app.look(&mut known).await;
        ready.set("shared store", looked.map_err(|problem| problem.detail));
    }
}

/// A table whose counter went back: somebody emptied the store, or brought back an old copy of it.
fn went_back(known: &Versions, now: &Versions) -> Option<String> {
    known
        .iter()
        .find(|(table, count)| now.get(*table) < Some(count))
        .map(|(table, _)| table.clone())
}

impl App {
    /// Reads again what has changed since `known`.
    pub(super) async fn look(&self, known: &mut Versions) -> Result<(), Problem> {
        let now = self.store.versions().await?;
        // What is in memory is then the better truth: guests stay managed until people have decided.
        if let Some(table) = went_back(known, &now) {
            let said = format!("the store has lost records (table `{table}`)");
            return Err(Problem::new(ErrorCode::StoreUnavailable, said)
                .hint("restore a backup into it, then restart the gateways"));
        }
        let changed = |table: Table| known.get(table.name()) != now.get(table.name());
        if changed(Table::Users) {
            self.accounts.read(self.store.as_ref()).await?;
        }
        if changed(Table::ApiTokens) {
            self.api_tokens.read(self.store.as_ref()).await?;
        }
        if changed(Table::RevokedTokens) {
            self.read_revoked().await?;
        }
        if changed(Table::Hosts) {
            self.read_hosts().await?;
        }
        if changed(Table::Operations) {
            self.tell_others(known.is_empty()).await?;
        }
        *known = now;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use reqwest::Method;
    use serde_json::json;
    use vmmgr_common::ids::{HostId, VmId};

    use super::*;
    use crate::auth::Role;
    use crate::auth::password::User;
    use crate::fake::{Stack, guest};
    use crate::feed::Filter;
    use crate::store::conformance::Server;
    use crate::store::from_text;

    #[test]
    fn a_counter_that_goes_back_is_noticed_and_a_new_one_is_not() {
        let versions = |pairs: &[(&str, u64)]| {
            pairs.iter().map(|(table, count)| ((*table).to_owned(), *count)).collect::<Versions>()
        };
        let known = versions(&[("hosts", 3), ("users", 2)]);
        assert_eq!(went_back(&known, &versions(&[("hosts", 3), ("users", 2), ("links", 1)])), None);
        assert_eq!(went_back(&known, &versions(&[("hosts", 4), ("users", 2)])), None);
        assert_eq!(went_back(&known, &versions(&[("hosts", 3)])).as_deref(), Some("users"));
        assert_eq!(went_back(&known, &versions(&[("hosts", 1), ("users", 2)])).unwrap(), "hosts");
    }

    #[tokio::test]
    async fn a_second_gateway_knows_what_the_first_one_was_told() {
        let server = Server::start();
        let first = Stack::on(server.store().await).await;
        let second = first.another(server.store().await).await;
        let mut known = Versions::new();
        let host = HostId::parse("host01").unwrap();
        second.look(&mut known).await.unwrap();
        assert!(second.agent(&host).is_err());
        assert_eq!(first.add_host().await.0, 201);
        second.look(&mut known).await.unwrap();
        assert!(second.agent(&host).is_ok());

        let body = json!({"name": "eve", "role": "viewer", "password": "correct horse"});
        let (status, made) = first.call(Role::Admin, Method::POST, "/v1/users", Some(body)).await;
        assert_eq!(status, 201, "{made}");
        let text = second.store.get(Table::Users, "eve").await.unwrap().unwrap();
        let generation = from_text::<User>(&text).unwrap().generation;
        second.look(&mut known).await.unwrap();
        assert!(second.accounts.has("eve", generation));
        let (status, _) = first.call(Role::Admin, Method::DELETE, "/v1/users/eve", None).await;
        assert_eq!(status, 204);
        second.look(&mut known).await.unwrap();
        assert!(!second.accounts.has("eve", generation), "its sessions go on at another gateway");

        first.app.revoke("a-token", u64::MAX).await.unwrap();
        second.look(&mut known).await.unwrap();
        assert!(second.is_revoked("a-token"));
        first.app.remove_host(&host).await.unwrap();
        second.look(&mut known).await.unwrap();
        assert!(second.agent(&host).is_err());
    }

    #[tokio::test]
    async fn an_operation_that_another_gateway_was_asked_for_is_told_once() {
        let server = Server::start();
        let first = Stack::on(server.store().await).await;
        let vm = VmId::new();
        first.host.lock().unwrap().domains.insert(vm, guest(vm));
        assert_eq!(first.add_host().await.0, 201);
        let start = async || {
            let path = format!("/v1/hosts/host01/vms/{vm}/start?wait_ms=5000");
            let (status, done) = first.call(Role::Operator, Method::POST, &path, None).await;
            assert_eq!(status, 200, "{done}");
            done["id"].as_str().unwrap().to_owned()
        };
        let old = start().await;
        let second = first.another(server.store().await).await;
        let wanted = || Filter::new(Some("operation"), None).unwrap();
        let mut readers =
            [&first.app, &second].map(|app| app.fleet.feed().read(None, wanted()).unwrap());
        let mut known = Versions::new();
        second.look(&mut known).await.unwrap();
        let id = start().await;
        let mut also = Versions::new();
        for _ in 0..2 {
            second.look(&mut known).await.unwrap();
            first.app.look(&mut also).await.unwrap();
        }
        let told = readers.each_mut().map(|reader| {
            let frames: Vec<u8> = std::iter::from_fn(|| reader.ready()).flatten().collect();
            String::from_utf8(frames).unwrap()
        });
        let count = |told: &str, what: &str| told.matches(what).count();
        for told in told {
            assert_eq!(count(&told, &format!("\"id\":\"{id}\"")), count(&told, "event: operation"));
            assert_eq!(count(&told, "\"state\":\"succeeded\""), 1, "{told}");
            assert!(!told.contains(&old), "it was over before: {told}");
        }
    }

    #[tokio::test]
    async fn an_emptied_store_takes_nothing_from_a_gateway_that_runs() {
        let server = Server::start();
        let stack = Stack::on(server.store().await).await;
        assert_eq!(stack.add_host().await.0, 201);
        let mut known = Versions::new();
        stack.app.look(&mut known).await.unwrap();
        server.empty().await;
        let problem = stack.app.look(&mut known).await.unwrap_err();
        assert!(problem.detail.contains("lost records"), "{problem}");
        assert!(stack.app.agent(&HostId::parse("host01").unwrap()).is_ok());
    }
}
