use std::sync::Arc;
use std::time::{Duration, Instant};

use chrono::{TimeDelta, Utc};
use futures_util::StreamExt as _;
use reqwest::Method;
use serde_json::{Value, json};
use vmmgr_common::api::console::{ConsoleExchange, ConsoleKind, ConsoleMode, ConsoleSession};
use vmmgr_common::ids::{ConsoleSessionId, HostId, VmId};
use vmmgr_common::mtls::Role as PeerRole;
use vmmgr_common::secret::Secret;

use super::registry::{Chain, Owner, Registry};
use super::tickets::Tickets;
use crate::auth::Role;
use crate::fake::{Stack, read};
use crate::store::Sqlite;
use crate::store::conformance::Server;

fn chain(user: &str, vm: VmId, mode: ConsoleMode, now: chrono::DateTime<Utc>) -> Chain {
    let until = (now + TimeDelta::hours(24)).timestamp();
    let owner =
        Owner { user: user.into(), token: format!("token of {user}"), generation: 0, until };
    let place = (HostId::parse("host01").unwrap(), vm, "web".to_owned());
    Chain::new(owner, place, (ConsoleKind::Vnc, mode), now)
}

fn tickets() -> Tickets {
    Tickets::new(Arc::new(Sqlite::in_memory()))
}

#[tokio::test]
async fn a_ticket_is_good_once_and_for_thirty_seconds() {
    let (tickets, now) = (tickets(), Utc::now());
    let new = || chain("ada", VmId::new(), ConsoleMode::Share, now);
    let (ticket, expires) = tickets.issue(new(), "7".into(), now).await.unwrap();
    assert!(ticket.expose().len() >= 36 + 43, "256 bits");
    assert_eq!(expires, now + TimeDelta::seconds(30));
    assert_eq!(tickets.use_ticket(&ticket, now).await.unwrap().1, "7");
    assert_eq!(tickets.use_ticket(&ticket, now).await.unwrap_err().status, 401);
    let (late, _) = tickets.issue(new(), "7".into(), now).await.unwrap();
    assert!(tickets.use_ticket(&late, expires).await.is_err());
    let never = Secret::new("x".repeat(79));
    let reasons = tickets.use_ticket(&never, now).await.unwrap_err();
    assert_eq!(reasons, tickets.use_ticket(&ticket, now).await.unwrap_err());
    for odd in ["", "x", "é".repeat(40).as_str(), "/t/", "%"] {
        let odd = tickets.use_ticket(&Secret::new(odd.to_owned()), now).await;
        assert_eq!(odd.unwrap_err(), reasons);
    }
    // A resume secret is no ticket, and a ticket no resume secret.
    let (ticket, _) = tickets.issue(new(), "7".into(), now).await.unwrap();
    let resume = tickets.resume_secret(&new(), now).await.unwrap();
    assert!(tickets.use_ticket(&resume, now).await.is_err());
    assert!(!tickets.use_resume(&ticket).await.unwrap());
    assert!(tickets.use_resume(&resume).await.unwrap());
    assert!(!tickets.use_resume(&resume).await.unwrap());
}

#[tokio::test]
async fn a_ticket_that_many_gateways_are_shown_is_good_at_one() {
    let server = Server::start();
    let (one, now) = (Tickets::new(server.store().await), Utc::now());
    let new = chain("ada", VmId::new(), ConsoleMode::Share, now);
    let (ticket, _) = one.issue(new, "7".into(), now).await.unwrap();
    let mut gateways = Vec::new();
    for _ in 0..4 {
        gateways.push(Tickets::new(server.store().await));
    }
    let shown = gateways.iter().map(|gateway| gateway.use_ticket(&ticket, now));
    let worth = futures_util::future::join_all(shown).await;
    assert_eq!(worth.iter().filter(|worth| worth.is_ok()).count(), 1);
}

#[tokio::test]
async fn tickets_that_nobody_uses_do_not_fill_the_store() {
    let (tickets, now) = (tickets().at_most(50), Utc::now());
    let new = |at| chain("ada", VmId::new(), ConsoleMode::Share, at);
    for _ in 0..50 {
        tickets.issue(new(now), "7".into(), now).await.unwrap();
    }
    assert_eq!(tickets.issue(new(now), "7".into(), now).await.unwrap_err().status, 429);
    let later = now + TimeDelta::seconds(31);
    tickets.issue(new(later), "7".into(), later).await.unwrap();
}

#[tokio::test]
async fn a_chain_ends_after_half_a_day_with_the_login_or_when_it_is_broken() {
    let (tickets, now) = (tickets(), Utc::now());
    let ada = chain("ada", VmId::new(), ConsoleMode::TakeOver, now);
    let secret = tickets.resume_secret(&ada, now).await.unwrap();
    let worth = async |hours| tickets.look_up(&secret, now + TimeDelta::hours(hours)).await;
    assert_eq!(worth(11).await.unwrap().unwrap().mode, ConsoleMode::Share);
    assert!(worth(12).await.unwrap().is_none());
    let mut short = ada.clone();
    short.owner.until = (now + TimeDelta::seconds(10)).timestamp();
    let (ticket, expires) = tickets.issue(short, "7".into(), now).await.unwrap();
    assert!(expires <= now + TimeDelta::seconds(10));
    assert!(tickets.use_ticket(&ticket, now + TimeDelta::seconds(11)).await.is_err());
    let (ticket, _) = tickets.issue(ada.clone(), "7".into(), now).await.unwrap();
    let bob = chain("bob", VmId::new(), ConsoleMode::Share, now);
    let (other, _) = tickets.issue(bob, "7".into(), now).await.unwrap();
    tickets.break_chain(ada.id).await.unwrap();
    assert!(worth(0).await.unwrap().is_none());
    assert!(tickets.use_ticket(&ticket, now).await.is_err());
    assert!(tickets.use_ticket(&other, now).await.is_ok());
}

#[test]
fn taking_over_ends_the_others_and_they_do_not_come_back() {
    let (mut registry, now, vm) = (Registry::default(), Utc::now(), VmId::new());
    let ada = chain("ada", vm, ConsoleMode::TakeOver, now);
    let first = registry.begin((ada.clone(), "7".into()), ("p", String::new()), now).unwrap();
    let elsewhere = chain("eve", VmId::new(), ConsoleMode::Share, now);
    let other = registry.begin((elsewhere, "7".into()), ("p", String::new()), now).unwrap();
    let bob = chain("bob", vm, ConsoleMode::TakeOver, now);
    let second = registry.begin((bob, "7".into()), ("p", String::new()), now).unwrap();
    assert_eq!(second.ended, [first.session]);
    assert!(registry.is_broken(&ada));
    assert_eq!(registry.take_broken(), [ada.id]);
    let told = registry.sessions(None).into_iter().map(|s| s.id).collect::<Vec<_>>();
    assert_eq!(told, [other.session, second.session]);
    // Should the event be lost, the next report ends it.
    let mut late = registry.sessions(None)[0].clone();
    late.id = first.session;
    assert_eq!(registry.report("p", vec![late], now), [first.session]);
}

#[test]
fn a_new_gateway_knows_sessions_again_from_the_report() {
    let (mut old, now) = (Registry::default(), Utc::now());
    let ada = chain("ada", VmId::new(), ConsoleMode::Share, now);
    let granted = old.begin((ada.clone(), "7".into()), ("p", String::new()), now).unwrap();
    assert_eq!(granted.ends, now + TimeDelta::hours(12));
    let mut told = old.sessions(None);
    told[0].binding = granted.binding;
    let mut new = Registry::default();
    assert!(new.report("p", told.clone(), now).is_empty());
    let (kept, _) = new.keep(now);
    assert_eq!((kept[0].id, kept[0].owner.as_ref()), (granted.session, Some(&ada.owner)));
    assert_eq!(new.sessions(None)[0].binding, "", "it is not for people");
    let (_, expired) = new.keep(now + TimeDelta::seconds(59));
    assert!(expired.is_empty());
    // What the proxy no longer has is gone; another proxy's sessions are not its business.
    assert!(new.report("q", Vec::new(), now).is_empty());
    assert_eq!(new.sessions(None).len(), 1);
    new.report("p", Vec::new(), now);
    assert!(new.sessions(None).is_empty());
}

pub(super) async fn running() -> (Stack, VmId) {
    let stack = Stack::start().await;
    let vm = running_on(&stack).await;
    (stack, vm)
}

async fn running_on(stack: &Stack) -> VmId {
    let vm = stack.add_guest().await;
    let start = format!("/v1/hosts/host01/vms/{vm}/start");
    assert_eq!(stack.call(Role::Operator, Method::POST, &start, None).await.0, 200);
    vm
}

async fn ticket(stack: &Stack, vm: VmId, mode: &str) -> Value {
    let path = format!("/v1/hosts/host01/vms/{vm}/console");
    let asked = json!({"kind": "vnc", "mode": mode});
    let (status, ticket) = stack.call(Role::Operator, Method::POST, &path, Some(asked)).await;
    assert_eq!(status, 200, "{ticket}");
    ticket
}

/// vnc-proxy.
pub(super) struct Proxy(reqwest::Client, String);

impl Proxy {
    pub(super) fn of(stack: &Stack) -> Self {
        let (client, base) = stack.client_as(PeerRole::VncProxy);
        Self(client, base)
    }

    async fn post(&self, path: &str, body: &Value) -> (u16, Value) {
        let request = self.0.post(format!("{}/internal/console/{path}", self.1)).json(body);
        read(request.send().await.unwrap()).await
    }

    pub(super) async fn redeem(&self, ticket: &Value) -> (u16, Value) {
        self.post("redeem", &json!({"ticket": ticket, "address": "192.0.2.7"})).await
    }

    /// Follows the events from now on.
    pub(super) async fn events(&self) -> tokio::sync::mpsc::UnboundedReceiver<Value> {
        let url = format!("{}/internal/console/events", self.1);
        let mut body = self.0.get(url).send().await.unwrap().bytes_stream();
        let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
        tokio::spawn(async move {
            while let Some(Ok(bytes)) = body.next().await {
                for line in bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
                    drop(tell.send(serde_json::from_slice::<Value>(line).unwrap()));
                }
            }
        });
        assert_eq!(told.recv().await.unwrap()["event"], "heartbeat");
        told
    }
}

async fn exchange(stack: &Stack, body: Value) -> (u16, Value) {
    let request = stack.request(Method::POST, "/v1/console/exchange").json(&body);
    read(request.send().await.unwrap()).await
}

#[actix_web::test]
async fn a_ticket_opens_one_session_of_the_run_that_it_was_asked_for() {
    let (stack, vm) = running().await;
    stack.host.lock().unwrap().run = 7;
    let proxy = Proxy::of(&stack);
    let given = ticket(&stack, vm, "share").await;
    assert_eq!(given["websocket"], "/console/ws");
    let secret = given["ticket"].as_str().unwrap();
    let page = format!("/console/vnc.html#host=host01&vm={vm}&ticket={secret}");
    assert_eq!(given["page"], page.as_str());
    stack.host.lock().unwrap().run = 8;
    let (status, grant) = proxy.redeem(&given["ticket"]).await;
    assert_eq!((status, &grant["run"]), (200, &json!("run-7")), "{grant}");
    assert_eq!(
        (&grant["vm"], &grant["user"], &grant["kind"]),
        (&json!(vm), &json!("ada"), &json!("vnc"))
    );
    assert!(grant["agent_url"].as_str().unwrap().starts_with("https://127.0.0.1:"));
    assert!(grant["ends_at"].is_string());
    assert_eq!(proxy.redeem(&given["ticket"]).await.0, 401, "used twice");
    assert_eq!(proxy.redeem(&json!("A".repeat(43))).await.0, 401, "unknown");
    let path = format!("/v1/hosts/host01/vms/{vm}/console/sessions");
    let (_, sessions) = stack.call(Role::Operator, Method::GET, &path, None).await;
    assert_eq!(sessions[0]["id"], grant["session"]);
    assert_eq!(
        (&sessions[0]["user"], &sessions[0]["address"]),
        (&json!("ada"), &json!("192.0.2.7"))
    );
    assert!(sessions[0].get("binding").is_none());
}

#[actix_web::test]
async fn what_cannot_be_opened_gets_no_ticket() {
    let (stack, vm) = Stack::with_guest().await;
    let path = format!("/v1/hosts/host01/vms/{vm}/console");
    let ask = async |role, body: Value| stack.call(role, Method::POST, &path, Some(body)).await;
    let (status, body) = ask(Role::Operator, json!({"kind": "vnc"})).await;
    assert_eq!((status, &body["code"]), (409, &json!("wrong_state")), "it is off");
    stack.call(Role::Operator, Method::POST, &path.replace("/console", "/start"), None).await;
    assert_eq!(ask(Role::Viewer, json!({"kind": "vnc"})).await.0, 403);
    for (body, status) in [
        (json!({"kind": "spice"}), 404),
        (json!({"kind": "spice", "mode": "view"}), 422),
        (json!({"kind": "rdp"}), 422),
        (json!({"kind": "vnc", "mode": "steal"}), 422),
        (json!({"kind": "vnc", "user": "root"}), 422),
        (json!({}), 422),
    ] {
        let (got, answer) = ask(Role::Operator, body.clone()).await;
        assert_eq!(got, status, "{body} {answer}");
    }
    let elsewhere = format!("/v1/hosts/host01/vms/{}/console", VmId::new());
    let asked = Some(json!({"kind": "vnc"}));
    assert_eq!(stack.call(Role::Operator, Method::POST, &elsewhere, asked).await.0, 404);
}

#[actix_web::test]
async fn only_vnc_proxy_finds_the_internal_routes() {
    let (stack, vm) = running().await;
    let given = ticket(&stack, vm, "share").await;
    let body = json!({"ticket": given["ticket"]});
    for role in [PeerRole::Nginx, PeerRole::Operator] {
        let (client, base) = stack.client_as(role);
        for path in ["/internal/console/redeem", "/%69nternal/console/redeem"] {
            let answer = client.post(format!("{base}{path}")).json(&body).send().await.unwrap();
            assert_eq!(answer.status(), 404, "{role:?} {path}");
        }
    }
    let (client, base) = stack.client_as(PeerRole::VncProxy);
    for path in ["/v1/hosts", "/vm/list/", "/v1/console/exchange"] {
        let asked = client.get(format!("{base}{path}")).bearer_auth(stack.token(Role::Admin));
        assert_eq!(asked.send().await.unwrap().status(), 404, "{path}");
    }
    assert_eq!(Proxy::of(&stack).redeem(&given["ticket"]).await.0, 200);
}

#[actix_web::test]
async fn a_page_comes_back_with_its_resume_secret_and_each_is_good_once() {
    let (stack, vm) = running().await;
    let proxy = Proxy::of(&stack);
    let given = ticket(&stack, vm, "share").await;
    let (status, first) = exchange(&stack, json!({"ticket": given["ticket"]})).await;
    assert_eq!(
        (status, &first["vm"], &first["host"]),
        (200, &json!(vm), &json!("host01")),
        "{first}"
    );
    assert_eq!(first["name"], format!("web-{vm}").as_str());
    assert_eq!(proxy.redeem(&given["ticket"]).await.0, 401, "it was exchanged");
    assert_eq!(proxy.redeem(&first["ticket"]["ticket"]).await.0, 200);
    // The guest was restarted meanwhile: the next ticket is for the new run.
    stack.host.lock().unwrap().run = 9;
    let (status, second) = exchange(&stack, json!({"resume": first["resume"]})).await;
    assert_eq!(status, 200, "{second}");
    assert_eq!(proxy.redeem(&second["ticket"]["ticket"]).await.1["run"], "run-9");
    assert_eq!(exchange(&stack, json!({"resume": first["resume"]})).await.0, 401);
    // While the guest is off the secret stays good.
    stack.host.lock().unwrap().domains.get_mut(&vm).unwrap()["state"] = json!("shut_off");
    assert_eq!(exchange(&stack, json!({"resume": second["resume"]})).await.0, 409);
    stack.host.lock().unwrap().domains.get_mut(&vm).unwrap()["state"] = json!("running");
    let (status, third) = exchange(&stack, json!({"resume": second["resume"]})).await;
    assert_eq!(status, 200, "{third}");
    for bad in [json!({}), json!({"ticket": "x", "resume": "y"}), json!({"user": "x"}), json!([])] {
        let (status, _) = exchange(&stack, bad.clone()).await;
        assert!(matches!(status, 400 | 422), "{bad} {status}");
    }
    assert_eq!(exchange(&stack, json!({"ticket": "x"})).await.0, 401);
}

#[actix_web::test]
async fn any_gateway_takes_a_ticket_and_a_new_one_of_the_same_store_too() {
    let server = Server::start();
    let first = Stack::on(server.store().await).await;
    let vm = running_on(&first).await;
    let second = first.another(server.store().await).await;
    second.accounts.know("ada", 0);
    let given = ticket(&first, vm, "share").await;
    let exchanged = ConsoleExchange::Ticket(Secret::new(given["ticket"].as_str().unwrap().into()));
    let resumable = second.console_exchange(exchanged).await.unwrap();
    let (status, grant) = Proxy::of(&first).redeem(&json!(resumable.ticket.ticket.expose())).await;
    assert_eq!(status, 200, "{grant}");
    let resume = ConsoleExchange::Resume(resumable.resume);
    assert!(second.console_exchange(resume).await.is_ok());
}

/// Opens a session, loses its right, and waits for the word to the proxy.
async fn ends_within_a_second(lose: impl AsyncFn(&Stack, VmId, &str)) -> String {
    let (stack, vm) = running().await;
    let proxy = Proxy::of(&stack);
    let given = ticket(&stack, vm, "share").await;
    let (_, resumable) = exchange(&stack, json!({"ticket": given["ticket"]})).await;
    let (_, grant) = proxy.redeem(&resumable["ticket"]["ticket"]).await;
    let mut events = proxy.events().await;
    // The keeper has had a look with all in order.
    let seen = async || stack.app.consoles.lock().keep(Utc::now()).0.iter().any(|kept| kept.seen);
    stack.until(seen).await;
    let session = grant["session"].as_str().unwrap();
    lose(&stack, vm, session).await;
    let since = Instant::now();
    let word = tokio::time::timeout(Duration::from_secs(10), events.recv()).await.unwrap().unwrap();
    let took = since.elapsed();
    assert_eq!((&word["event"], &word["session"]), (&json!("end"), &grant["session"]));
    assert!(took < Duration::from_secs(1), "{took:?}");
    let (status, _) = exchange(&stack, json!({"resume": resumable["resume"]})).await;
    assert_eq!(status, 401, "it does not come back");
    word["reason"].as_str().unwrap().to_owned()
}

#[actix_web::test]
async fn a_session_ends_with_the_login_the_account_and_the_guest() {
    // The token of the ticket is one of many of the account: its own logout ends it.
    let reason = ends_within_a_second(async |stack, _, _| {
        let tokens = stack.app.consoles.lock().keep(Utc::now()).0;
        let owner = tokens[0].owner.clone().unwrap();
        stack.app.revoke(&owner.token, owner.until.cast_unsigned()).await.unwrap();
    });
    assert_eq!(reason.await, "no longer allowed");
    let reason = ends_within_a_second(async |stack, _, _| {
        stack.app.accounts.know("ada", 1);
    });
    assert_eq!(reason.await, "no longer allowed");
    let reason = ends_within_a_second(async |stack, vm, _| {
        let path = format!("/v1/hosts/host01/vms/{vm}");
        assert_eq!(stack.call(Role::Operator, Method::DELETE, &path, None).await.0, 200);
    });
    assert_eq!(reason.await, "the guest was deleted");
    let reason = ends_within_a_second(async |stack, _, session| {
        let path = format!("/v1/console/sessions/{session}");
        assert_eq!(stack.call(Role::Operator, Method::DELETE, &path, None).await.0, 204);
        assert_eq!(stack.call(Role::Operator, Method::DELETE, &path, None).await.0, 404);
    });
    assert_eq!(reason.await, "ended by ada");
}

#[actix_web::test]
async fn a_report_is_answered_with_what_must_end() {
    let (stack, vm) = running().await;
    let proxy = Proxy::of(&stack);
    let given = ticket(&stack, vm, "share").await;
    let (_, grant) = proxy.redeem(&given["ticket"]).await;
    let session = ConsoleSession {
        id: ConsoleSessionId::parse(grant["session"].as_str().unwrap()).unwrap(),
        host: HostId::parse("host01").unwrap(),
        vm,
        kind: ConsoleKind::Vnc,
        mode: ConsoleMode::Share,
        user: "ada".to_owned(),
        address: String::new(),
        since: "2026-01-01T00:00:00Z".to_owned(),
        binding: grant["binding"].as_str().unwrap().to_owned(),
    };
    let report = json!({"sessions": [session]});
    assert_eq!(proxy.post("sessions", &report).await, (200, json!({"end": []})));
    let other = ticket(&stack, vm, "take_over").await;
    assert_eq!(proxy.redeem(&other["ticket"]).await.0, 200);
    let (_, verdict) = proxy.post("sessions", &report).await;
    assert_eq!(verdict, json!({"end": [session.id]}));
    // As many as one proxy holds.
    let many: Vec<ConsoleSession> = std::iter::repeat_n(session, 10_000).collect();
    assert_eq!(proxy.post("sessions", &json!({"sessions": many})).await.0, 200);
}
