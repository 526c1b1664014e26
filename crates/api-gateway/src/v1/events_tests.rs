//! `GET /v1/events` and the events of one operation, over HTTP.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use reqwest::{Method, Response};
use serde_json::{Value, json};
use vmmgr_common::api::operation::OperationState;
use vmmgr_common::client::{ServerEvent, ServerEvents};
use vmmgr_common::ids::{HostId, VmId};

use crate::auth::Role;
use crate::fake::{Stack, guest, read};
use crate::feed::Topic;

/// One who follows.
struct Follower {
    response: Response,
    parser: ServerEvents,
    found: VecDeque<ServerEvent>,
}

impl Follower {
    async fn new(stack: &Stack, token: &str, path: &str, last: Option<&str>) -> Self {
        let mut request = stack.request(Method::GET, path).bearer_auth(token);
        if let Some(last) = last {
            request = request.header("last-event-id", last);
        }
        let response = request.send().await.unwrap();
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        assert_eq!(response.headers()["x-accel-buffering"], "no");
        Self { response, parser: ServerEvents::default(), found: VecDeque::new() }
    }

    /// The next event; none when the stream ended as it should.
    async fn next(&mut self) -> Option<(String, Value)> {
        while self.found.is_empty() {
            let bytes = self.response.chunk().await.unwrap()?;
            self.found.extend(self.parser.push(&bytes).unwrap());
        }
        let ServerEvent { event, data, .. } = self.found.pop_front()?;
        Some((event, serde_json::from_str(&data).unwrap()))
    }

    /// The next event of this name.
    async fn until(&mut self, name: &str) -> Value {
        loop {
            let (event, data) = self.next().await.expect(name);
            if event == name {
                return data;
            }
        }
    }
}

async fn follow(stack: &Stack, query: &str) -> Follower {
    let token = stack.token(Role::Viewer);
    let mut follower = Follower::new(stack, &token, &format!("/v1/events{query}"), None).await;
    assert_eq!(follower.next().await.unwrap(), ("resync".into(), json!({"reason": "start"})));
    follower
}

#[actix_web::test]
async fn a_guest_is_told_as_lists_show_it_and_so_is_its_end() {
    let (stack, vm) = Stack::with_guest().await;
    let mut follower = follow(&stack, "?topics=vm").await;
    stack.host.lock().unwrap().domains.get_mut(&vm).unwrap()["state"] = json!("paused");
    stack.touch();
    let (event, told) = follower.next().await.unwrap();
    let (_, list) = stack.call(Role::Viewer, Method::GET, "/v1/vms", None).await;
    assert_eq!((event.as_str(), &told), ("vm", &list[0]));
    assert_eq!((&told["state"], &told["host"]), (&json!("paused"), &json!("host01")));
    // A guest that runs uses CPU time; that is no news.
    stack.host.lock().unwrap().domains.get_mut(&vm).unwrap()["cpu_time_ns"] = json!(8);
    stack.touch();
    let used = async || {
        let (_, list) = stack.call(Role::Viewer, Method::GET, "/v1/vms", None).await;
        list[0]["cpu_time_ns"] == 8
    };
    stack.until(used).await;
    let other = VmId::new();
    {
        let mut host = stack.host.lock().unwrap();
        host.domains.remove(&vm);
        host.domains.insert(other, guest(other));
    }
    stack.touch();
    assert_eq!(follower.next().await.unwrap().1["id"], json!(other), "and no other");
    let gone = follower.next().await.unwrap();
    assert_eq!(gone, ("vm_removed".into(), json!({"host": "host01", "id": vm})));
}

#[actix_web::test]
async fn a_host_is_told_when_it_comes_and_goes() {
    let stack = Stack::start().await;
    let mut follower = follow(&stack, "?topics=host").await;
    stack.add_host().await;
    assert_eq!(follower.until("host").await["state"], "connecting");
    let reachable = json!({"host": "host01", "state": "reachable", "age_seconds": 0});
    assert_eq!(follower.until("host").await, reachable);
    stack.call(Role::Admin, Method::DELETE, "/v1/hosts/host01", None).await;
    assert_eq!(follower.until("host_removed").await, json!({"host": "host01"}));
}

#[actix_web::test]
async fn an_operation_is_told_from_its_acceptance_to_its_end() {
    let (stack, vm) = Stack::with_guest().await;
    let mut follower = follow(&stack, "?topics=operation&host=host01").await;
    stack.host.lock().unwrap().stall = true;
    let path = format!("/v1/hosts/host01/vms/{vm}/start");
    let (_, accepted) = stack.call(Role::Operator, Method::POST, &path, None).await;
    let pending = follower.until("operation").await;
    assert_eq!((&pending["state"], &pending["id"]), (&json!("pending"), &accepted["id"]));
    assert_eq!((&pending["host"], &pending["user"]), (&json!("host01"), &json!("ada")));
    assert_eq!(follower.until("operation").await["state"], "running");
    let line = follower.until("operation_progress").await;
    let id = accepted["id"].clone();
    assert_eq!(line, json!({"host": "host01", "id": id, "vm": vm, "line": "volume made"}));
    for operation in stack.host.lock().unwrap().operations.values_mut() {
        operation.state = OperationState::Succeeded;
    }
    let end = follower.until("operation").await;
    assert_eq!((&end["state"], &end["id"]), (&json!("succeeded"), &id));
    // Told once, however often its host says it.
    stack.host.lock().unwrap().stall = false;
    let (_, next) = stack.call(Role::Operator, Method::POST, &path, None).await;
    assert_eq!(follower.next().await.unwrap().1["id"], next["id"]);
}

#[actix_web::test]
async fn a_stream_goes_on_where_it_broke() {
    let (stack, vm) = Stack::with_guest().await;
    let mut follower = follow(&stack, "").await;
    let last = follower.parser.last_id().to_owned();
    drop(std::mem::replace(&mut follower, follow(&stack, "?topics=vm").await));
    stack.host.lock().unwrap().domains.get_mut(&vm).unwrap()["state"] = json!("running");
    stack.touch();
    follower.until("vm").await;
    let token = stack.token(Role::Viewer);
    let mut again = Follower::new(&stack, &token, "/v1/events", Some(&last)).await;
    let (event, data) = again.next().await.unwrap();
    assert_eq!((event.as_str(), &data["state"]), ("vm", &json!("running")));
    let mut foreign = Follower::new(&stack, &token, "/v1/events", Some("elsewhere-5")).await;
    assert_eq!(foreign.next().await.unwrap().1["reason"], "restarted");
}

#[actix_web::test]
async fn a_client_that_does_not_read_is_told_what_it_missed_and_goes_on() {
    let (stack, _) = Stack::with_guest().await;
    let mut follower = follow(&stack, "?topics=operation").await;
    let host = HostId::parse("host01").unwrap();
    // More than is remembered, and more than sockets hold.
    let padding = "x".repeat(2000);
    for number in 0..20_000 {
        let data = json!({"number": number, "padding": padding});
        stack.app.fleet.feed().tell_json(Topic::Operation, "news", &host, &data);
    }
    let mut expected = 0;
    let resync = loop {
        match follower.next().await.unwrap() {
            (event, data) if event == "news" => {
                assert_eq!(data["number"], expected, "nothing is left out without a word");
                expected += 1;
            }
            (_, resync) => break resync,
        }
    };
    assert_eq!(resync, json!({"reason": "missed"}));
    assert!(expected < 20_000 - 5000, "{expected}");
    stack.app.fleet.feed().tell_json(Topic::Operation, "news", &host, &json!({"number": "last"}));
    assert_eq!(follower.next().await.unwrap().1["number"], "last");
}

#[actix_web::test]
async fn a_stream_ends_with_the_login_or_the_account() {
    let (stack, _) = Stack::with_guest().await;
    let token = stack.token(Role::Viewer);
    let mut follower = Follower::new(&stack, &token, "/v1/events", None).await;
    follower.until("resync").await;
    let mut other = follow(&stack, "").await;
    let begun = Instant::now();
    let logout = stack.request(Method::DELETE, "/v1/session").bearer_auth(&token);
    assert_eq!(logout.send().await.unwrap().status(), 204);
    while follower.next().await.is_some() {}
    assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
    // As a change of the password or the role does.
    let begun = Instant::now();
    stack.app.accounts.know("ada", 1);
    while other.next().await.is_some() {}
    assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
}

#[actix_web::test]
async fn what_cannot_be_followed_is_refused() {
    let (stack, _) = Stack::with_guest().await;
    for (query, status, code) in [
        ("?topics=guests", 422, "invalid_value"),
        ("?host=host09", 404, "no_such_host"),
        ("?what=vm", 400, "malformed_request"),
    ] {
        let path = format!("/v1/events{query}");
        let (got, body) = stack.call(Role::Viewer, Method::GET, &path, None).await;
        assert_eq!((got, &body["code"]), (status, &json!(code)), "{query}: {body}");
    }
    let anonymous = stack.request(Method::GET, "/v1/events").send().await.unwrap();
    assert_eq!(read(anonymous).await.0, 401);
    // A token in a URL is no token.
    let path = format!("/v1/events?token={}", stack.token(Role::Viewer));
    assert_eq!(read(stack.request(Method::GET, &path).send().await.unwrap()).await.0, 401);
}

#[actix_web::test]
async fn an_operation_is_followed_and_its_lines_are_not_told_twice() {
    let (stack, vm) = Stack::with_guest().await;
    stack.host.lock().unwrap().stall = true;
    let path = format!("/v1/hosts/host01/vms/{vm}/start");
    let (_, accepted) = stack.call(Role::Operator, Method::POST, &path, None).await;
    let place = format!("/v1/operations/{}/events", accepted["id"].as_str().unwrap());
    let token = stack.token(Role::Viewer);
    let mut follower = Follower::new(&stack, &token, &place, None).await;
    let (event, data) = follower.next().await.unwrap();
    assert_eq!((event.as_str(), &data["line"]), ("progress", &json!("volume made")));
    let (event, data) = follower.next().await.unwrap();
    assert_eq!((event.as_str(), &data["operation"]["id"]), ("done", &accepted["id"]));
    assert_eq!(follower.next().await, None);
    let mut again = Follower::new(&stack, &token, &place, Some("1")).await;
    assert_eq!(again.next().await.unwrap().0, "done");
    for last in ["x", "-1", "99999999999999999999"] {
        let mut whole = Follower::new(&stack, &token, &place, Some(last)).await;
        assert_eq!(whole.next().await.unwrap().0, "progress", "{last}");
    }
}
