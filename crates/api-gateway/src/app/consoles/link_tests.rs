//! Consoles that are asked for with a link.

use std::time::{Duration, Instant};

use reqwest::Method;
use serde_json::{Value, json};
use tokio::time::timeout;
use vmmgr_common::ids::VmId;

use super::tests::{Proxy, running};
use crate::auth::Role;
use crate::fake::{Stack, read};

async fn link(stack: &Stack, vm: VmId, wish: Value) -> Value {
    let path = format!("/v1/hosts/host01/vms/{vm}/links");
    let (status, link) = stack.call(Role::Operator, Method::POST, &path, Some(wish)).await;
    assert_eq!(status, 201, "{link}");
    link
}

async fn ask(stack: &Stack, verb: &str, link: &Value) -> (u16, Value) {
    let path = format!("/user/vm/{verb}/{}", link["path"].as_str().unwrap());
    read(stack.request(Method::GET, &path).send().await.unwrap()).await
}

/// The ticket in the address of a page.
fn ticket(answer: &Value) -> Value {
    assert_eq!(answer["result"], "OK", "{answer}");
    json!(answer["display"].as_str().unwrap().split("token=").nth(1).unwrap())
}

#[actix_web::test]
async fn a_link_opens_the_screen_and_the_serial_line_of_its_guest() {
    let (stack, vm) = running().await;
    let made = link(&stack, vm, json!({"expires_in_seconds": 60})).await;
    let proxy = Proxy::of(&stack);
    for (verb, kind, page) in
        [("display", "vnc", "/novnc/vnc_lite.html"), ("console", "serial", "/term/xterm.html")]
    {
        let (status, answer) = ask(&stack, verb, &made).await;
        assert_eq!((status, &answer["desc"]), (200, &json!(kind)), "{answer}");
        assert!(answer["display"].as_str().unwrap().starts_with(page), "{answer}");
        let (status, grant) = proxy.redeem(&ticket(&answer)).await;
        assert_eq!((status, &grant["vm"], &grant["kind"]), (200, &json!(vm), &json!(kind)));
        assert!(grant["user"].as_str().unwrap().starts_with("link:"), "{grant}");
        let ends = chrono::DateTime::parse_from_rfc3339(grant["ends_at"].as_str().unwrap());
        let left = ends.unwrap().timestamp() - chrono::Utc::now().timestamp();
        assert!((0..=60).contains(&left), "it ends with the link, not after half a day: {left} s");
    }
}

#[actix_web::test]
async fn a_link_without_the_verb_or_without_a_use_left_gets_no_ticket() {
    let (stack, vm) = running().await;
    let made = link(&stack, vm, json!({"verbs": ["display"], "uses": 1})).await;
    assert_eq!(ask(&stack, "console", &made).await.0, 403, "not among its verbs");
    assert_eq!(ask(&stack, "display", &made).await.0, 200);
    let (status, answer) = ask(&stack, "display", &made).await;
    assert_eq!((status, &answer["result"]), (410, &json!("ERR")), "{answer}");
    let path = format!("/user/vm/display/{}", made["path"].as_str().unwrap());
    let posted = stack.request(Method::POST, &path).header("content-length", "0").send().await;
    assert_eq!(posted.unwrap().status(), 405);
    stack.host.lock().unwrap().domains.get_mut(&vm).unwrap()["state"] = json!("shut_off");
    let other = link(&stack, vm, json!({})).await;
    assert_eq!(ask(&stack, "display", &other).await.0, 409, "it is off");
}

/// The end of a session as the proxy hears it, and how long after `lose` that was.
async fn ended(wish: Value, lose: impl AsyncFn(&Stack, VmId, &Value)) -> (String, Duration) {
    let (stack, vm) = running().await;
    let made = link(&stack, vm, wish).await;
    let proxy = Proxy::of(&stack);
    let mut events = proxy.events().await;
    let (_, unused) = ask(&stack, "display", &made).await;
    let (_, answer) = ask(&stack, "display", &made).await;
    let (status, grant) = proxy.redeem(&ticket(&answer)).await;
    assert_eq!(status, 200, "{grant}");
    lose(&stack, vm, &made).await;
    let since = Instant::now();
    let word = async {
        loop {
            let word = events.recv().await.unwrap();
            if word["event"] == "end" {
                break word;
            }
        }
    };
    let word = timeout(Duration::from_secs(20), word).await.unwrap();
    assert_eq!(word["session"], grant["session"]);
    assert_eq!(proxy.redeem(&ticket(&unused)).await.0, 401, "a ticket dies with its link");
    (word["reason"].as_str().unwrap().to_owned(), since.elapsed())
}

#[actix_web::test]
async fn a_console_ends_within_a_second_of_the_revocation_of_its_link() {
    let (reason, took) = ended(json!({}), async |stack, vm, made| {
        let path = format!("/v1/hosts/host01/vms/{vm}/links/{}", made["id"].as_str().unwrap());
        assert_eq!(stack.call(Role::Operator, Method::DELETE, &path, None).await.0, 204);
    })
    .await;
    assert_eq!(reason, "no longer allowed");
    assert!(took < Duration::from_secs(1), "{took:?}");
}

#[actix_web::test]
async fn a_console_ends_with_the_time_of_its_link() {
    let (reason, _) = ended(json!({"expires_in_seconds": 3}), async |_, _, _| {}).await;
    assert!(["expired", "no longer allowed"].contains(&reason.as_str()), "{reason}");
}
