//! The audit log, over the API.

use reqwest::Method;
use serde_json::{Value, json};
use vmmgr_common::api::audit::{AuditRecord, verify};

use crate::auth::Role;
use crate::fake::{Stack, read};
use crate::store::conformance::Server;

async fn log(stack: &Stack) -> Vec<AuditRecord> {
    let (status, page) = stack.call(Role::Admin, Method::GET, "/v1/audit", None).await;
    assert_eq!(status, 200, "{page}");
    let mut records: Vec<AuditRecord> = serde_json::from_value(page).unwrap();
    records.reverse();
    records
}

#[actix_web::test]
async fn changes_and_refusals_are_written_down_and_reading_is_not() {
    let stack = Stack::start().await;
    assert_eq!(stack.add_host().await.0, 201);
    stack.call(Role::Viewer, Method::GET, "/v1/hosts", None).await;
    let refused = stack.call(Role::Viewer, Method::DELETE, "/v1/hosts/host01", None).await;
    assert_eq!(refused.0, 403);
    stack.call(Role::Viewer, Method::GET, "/v1/users", None).await;
    // The described system starts guests with GET.
    let vm = "6f5d8bf6-d580-4946-9541-13fa98b4acf4";
    stack.call(Role::Operator, Method::GET, &format!("/vm/start/host01/{vm}"), None).await;
    let login = json!({"username": "eve", "password": "swordfish-and-more"});
    let request = stack.request(Method::POST, "/v1/session").json(&login);
    let answer = request.send().await.unwrap();
    let id = answer.headers()["x-request-id"].to_str().unwrap().to_owned();
    assert_eq!(answer.status(), 401);
    let secret = "/user/vm/start/host01/6f5d8bf6-d580-4946-9541-13fa98b4acf4?k=secret&e=1";
    read(stack.request(Method::POST, secret).send().await.unwrap()).await;

    let records = log(&stack).await;
    let told: Vec<_> = records
        .iter()
        .map(|r| (r.who.as_str(), r.method.as_str(), r.path.as_str(), r.status))
        .collect();
    assert_eq!(
        told[..5],
        [
            ("ada", "POST", "/v1/hosts", 201),
            ("ada", "DELETE", "/v1/hosts/host01", 403),
            ("ada", "GET", "/v1/users", 403),
            ("ada", "GET", "/vm/start/host01/6f5d8bf6-d580-4946-9541-13fa98b4acf4", 404),
            ("eve", "POST", "/v1/session", 401),
        ]
    );
    assert_eq!(records[4].request_id, id);
    assert_eq!(verify(&records).unwrap().unwrap().number as usize, records.len());
    let text = format!("{records:?}");
    assert!(!text.contains("swordfish") && !text.contains("k=secret"), "{text}");
}

#[actix_web::test]
async fn a_flood_of_strangers_is_counted_and_not_kept() {
    let stack = Stack::start().await;
    for _ in 0..300 {
        stack.request(Method::GET, "/v1/hosts").send().await.unwrap();
    }
    stack.add_host().await;
    let (_, page) = stack.call(Role::Admin, Method::GET, "/v1/audit?limit=1000", None).await;
    let records: Vec<AuditRecord> = serde_json::from_value(page).unwrap();
    // A minute may have begun in between.
    assert!((120..=241).contains(&records.len()), "{}", records.len());
    let omitted: u64 = records.iter().map(|record| record.omitted).sum();
    assert_eq!(records.len() as u64 + omitted, 301);
}

#[actix_web::test]
async fn two_gateways_write_one_chain_and_pages_lead_through_it() {
    let server = Server::start();
    let first = Stack::on(server.store().await).await;
    let second = first.another(server.store().await).await;
    let event = |path: &str| crate::app::audit::Event {
        who: "ada".into(),
        method: "POST".into(),
        path: path.into(),
        status: 200,
        request_id: String::new(),
    };
    for round in 0..10 {
        let (a, b) = tokio::join!(
            first.app.audit(event(&format!("/first/{round}")), 0),
            second.audit(event(&format!("/second/{round}")), 0),
        );
        a.unwrap();
        b.unwrap();
    }
    let mut records: Vec<AuditRecord> = Vec::new();
    let mut next = Some("/v1/audit?limit=7".to_owned());
    while let Some(path) = next {
        let answer = first.send(Role::Admin, Method::GET, &path, None).await;
        next = answer.headers().get("link").map(|link| {
            let link = link.to_str().unwrap();
            link[1..link.find('>').unwrap()].to_owned()
        });
        let page: Vec<AuditRecord> = answer.json().await.unwrap();
        records.extend(page);
    }
    records.reverse();
    assert_eq!(records.len(), 20);
    verify(&records).unwrap();
    let refused: (u16, Value) = first.call(Role::Operator, Method::GET, "/v1/audit", None).await;
    assert_eq!(refused.0, 403);
}
