//! The ways in which somebody else's console was opened once.

use vmmgr_common::api::console::ConsoleKind;
use vmmgr_common::error::Problem;
use vmmgr_common::mtls::Role;

use crate::stack::{ORIGIN, Stack};

fn status(result: Result<crate::browser::Browser, (u16, String)>) -> (u16, String) {
    let (status, body) = result.err().expect("a session was opened");
    let problem: Problem = serde_json::from_str(&body).unwrap();
    assert_eq!(problem.status, status, "{body}");
    assert!(problem.request_id.is_some(), "{body}");
    (status, body)
}

#[tokio::test]
async fn a_ticket_is_good_once() {
    let stack = Stack::start().await;
    let ticket = stack.ticket(&stack.grant("echo"));
    let mut first = stack.page(&ticket, "/console/ws").await.unwrap();
    assert_eq!(status(stack.page(&ticket, "/console/ws").await).0, 401);
    first.binary(b"still here").await;
    assert_eq!(first.bytes(10).await, b"still here");
    assert_eq!(stack.agent.seen.requests.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn an_expired_ticket_and_one_of_nobody_are_refused() {
    let stack = Stack::start().await;
    let ticket = stack.ticket(&stack.grant("echo"));
    stack.gateway.expire();
    let (code, body) = status(stack.page(&ticket, "/console/ws").await);
    assert_eq!(code, 401);
    assert!(!body.contains(&ticket), "{body}");
    let unknown = "t-00000000-0000-0000-0000-000000000000";
    assert_eq!(status(stack.page(unknown, "/console/ws").await).0, 401);
    assert!(stack.agent.seen.requests.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_doubled_encoded_or_mixed_case_token_opens_nothing_and_uses_no_ticket_up() {
    let stack = Stack::start().await;
    let (mine, other) = (stack.ticket(&stack.grant("echo")), stack.ticket(&stack.grant("echo")));
    let origin = format!("Origin: {ORIGIN}\r\n");
    let ask = |query: String| {
        let path = format!("/websockify/?{query}");
        let (stack, origin) = (&stack, &origin);
        async move { stack.request(Role::Nginx, &path, origin).await }
    };
    for query in [
        format!("token={mine}&token={other}"),
        format!("token={mine}&Token={other}"),
        format!("Token={mine}"),
        format!("token={mine}&%74oken={other}"),
        format!("token={mine}&token%5B%5D={other}"),
        format!("%74oken={mine}"),
        format!("token={mine};token={other}"),
        format!("token={mine}%26token={other}"),
        String::new(),
    ] {
        let (code, body) = status(ask(query.clone()).await);
        assert!(matches!(code, 400 | 401), "{query}: {code}");
        assert!(!body.contains(&mine) && !body.contains(&other), "{body}");
    }
    assert!(stack.gateway.redeemed.lock().unwrap().is_empty());
    let mut browser = ask(format!("token={mine}")).await.unwrap();
    assert!(!browser.head.contains("Sec-WebSocket-Protocol"), "{}", browser.head);
    browser.binary(b"hello").await;
    assert_eq!(browser.bytes(5).await, b"hello");
}

#[tokio::test]
async fn a_ticket_of_one_guest_opens_that_guest_whatever_else_is_said() {
    let stack = Stack::start().await;
    let (mine, other) = (stack.grant("echo"), stack.grant("echo"));
    let ticket = stack.ticket(&mine);
    // There is no place to name a guest.
    for path in [format!("/console/ws?vm={}", other.vm), format!("/console/ws/{}", other.vm)] {
        assert!(stack.page(&ticket, &path).await.is_err(), "{path}");
    }
    let _open = stack.page(&ticket, "/console/ws").await.unwrap();
    let requests = stack.agent.seen.requests.lock().unwrap().clone();
    let wanted = format!("GET /v1/domains/{}/console/serial?run=echo HTTP/1.1", mine.vm);
    assert_eq!(requests, [wanted]);
    let redeemed = stack.gateway.redeemed.lock().unwrap().clone();
    assert_eq!((redeemed.len(), redeemed[0].address.as_str()), (1, "192.0.2.7"));
}

#[tokio::test]
async fn a_page_of_another_site_opens_nothing() {
    let stack = Stack::start().await;
    let ticket = stack.ticket(&stack.grant("echo"));
    let offer = format!("Sec-WebSocket-Protocol: binary, vmmgr.ticket.{ticket}\r\n");
    let path = format!("/websockify/?token={ticket}");
    for origin in ["https://evil.example", "http://vmm.registry.local", "null"] {
        let headers = format!("Origin: {origin}\r\n");
        assert_eq!(status(stack.request(Role::Nginx, &path, &headers).await).0, 403);
        let headers = headers + &offer;
        assert_eq!(status(stack.request(Role::Nginx, "/console/ws", &headers).await).0, 403);
    }
    assert_eq!(status(stack.request(Role::Nginx, &path, "").await).0, 403);
    // `vmmctl` sends no Origin, and shows by the header that it is no page.
    assert!(stack.request(Role::Nginx, "/console/ws", &offer).await.is_ok());
}

#[tokio::test]
async fn only_nginx_may_call() {
    let stack = Stack::start().await;
    let ticket = stack.ticket(&stack.grant("echo"));
    let offer = format!("Sec-WebSocket-Protocol: binary, vmmgr.ticket.{ticket}\r\n");
    for role in [Role::HostAgent, Role::Gateway, Role::Metadata, Role::Host, Role::Operator] {
        assert_eq!(status(stack.request(role, "/console/ws", &offer).await).0, 403);
    }
    assert!(stack.request(Role::Nginx, "/console/ws", &offer).await.is_ok());
}

#[tokio::test]
async fn a_ticket_of_another_run_tells_why_and_is_used_up() {
    let stack = Stack::start().await;
    let ticket = stack.ticket(&stack.grant("gone"));
    let (code, body) = status(stack.page(&ticket, "/console/ws").await);
    assert_eq!(code, 409);
    assert!(body.contains("another run of the guest"), "{body}");
    assert_eq!(status(stack.page(&ticket, "/console/ws").await).0, 401);
    // An agent that names another host in its certificate is none of ours.
    let mut grant = stack.grant("echo");
    grant.host = vmmgr_common::ids::HostId::parse("host02").unwrap();
    let ticket = stack.ticket(&grant);
    assert_eq!(status(stack.page(&ticket, "/console/ws").await).0, 503);
    grant = stack.grant("x HTTP/1.1\r\nx: y");
    grant.kind = ConsoleKind::Vnc;
    let ticket = stack.ticket(&grant);
    assert_eq!(status(stack.page(&ticket, "/console/ws").await).0, 500);
}
