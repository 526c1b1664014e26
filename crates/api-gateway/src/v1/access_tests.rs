//! `docs/access.md` against what the routes really let in: every route and method by every kind of
//! caller, on an object that is there and on one that is not.

use std::collections::BTreeSet;

use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};
use vmmgr_common::ids::VmId;
use vmmgr_common::mtls::Role as PeerRole;

use super::tests::{filled, routes};
use crate::auth::Role;
use crate::fake::{KEY, Stack, forged, guest, read};

type Row = (Method, String, &'static str);

/// Method, path and least caller of each route on the page.
fn page() -> Vec<Row> {
    let rows = include_str!("../../../../docs/access.md").lines().filter(|l| l.starts_with("| `"));
    rows.map(|row| {
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        let (method, path) = cells[1].trim_matches('`').split_once(' ').unwrap();
        (method.parse().unwrap(), path.to_owned(), cells[2])
    })
    .collect()
}

/// The page's rows for people, as they can be called; what takes an object away comes last.
fn callable() -> Vec<Row> {
    let mut rows = page();
    rows.retain(|(_, path, _)| !path.starts_with("/internal/"));
    for (method, ..) in &mut rows {
        if method.as_str() == "ANY" {
            *method = Method::GET;
        }
    }
    rows.sort_by_key(|(method, path, _)| *method == Method::DELETE || path.contains("delete"));
    rows
}

/// A token with the algorithm `none` and no signature.
fn unsigned() -> String {
    let token = forged(|_| (), &KEY);
    let claims = token.split('.').nth(1).unwrap();
    // {"typ":"JWT","alg":"none"}
    format!("eyJ0eXAiOiJKV1QiLCJhbGciOiJub25lIn0.{claims}.")
}

/// Status, and what the answer says beside the request's id.
async fn answer(request: RequestBuilder) -> (u16, Value) {
    let response = request.send().await.unwrap();
    // A stream of events has no end.
    if response.headers().get("content-type").is_some_and(|kind| kind == "text/event-stream") {
        return (response.status().as_u16(), Value::Null);
    }
    let (status, mut body) = read(response).await;
    if let Some(body) = body.as_object_mut() {
        body.remove("request_id");
    }
    (status, body)
}

/// What somebody without an account gets.
fn refusal(least: &str) -> Option<u16> {
    match least {
        "anybody" => None,
        "link" => Some(403),
        _ => Some(401),
    }
}

fn least(name: &str) -> Option<Role> {
    [("viewer", Role::Viewer), ("operator", Role::Operator), ("admin", Role::Admin)]
        .into_iter()
        .find_map(|(known, role)| (known == name).then_some(role))
}

#[test]
fn the_page_names_every_route_and_no_other() {
    let any = |method: String| if method == "ROUTE" { "ANY".to_owned() } else { method };
    let mut there: BTreeSet<(String, String)> =
        routes().into_iter().map(|(method, path)| (any(method.to_string()), path)).collect();
    for segment in include_str!("../internal.rs").split(".route(\"").skip(1) {
        let (path, rest) = segment.split_once("\", ").unwrap();
        there.insert((rest.split('(').next().unwrap().to_uppercase(), path.to_owned()));
    }
    let rows = page();
    let named: BTreeSet<_> =
        rows.iter().map(|(method, path, _)| (method.to_string(), path.clone())).collect();
    assert_eq!(named, there);
    assert_eq!(named.len(), rows.len(), "a route is named twice");
    for (method, path, who) in rows {
        let inside = path.starts_with("/internal/");
        let known = least(who).is_some() || ["anybody", "link"].contains(&who);
        assert!(if inside { who == "vnc-proxy" } else { known }, "{method} {path}: {who}");
    }
}

#[actix_web::test]
async fn nobody_without_a_valid_token_gets_past_any_route() {
    let (stack, vm) = Stack::with_guest().await;
    let links = format!("/v1/hosts/host01/vms/{vm}/links");
    let (_, link) = stack.call(Role::Operator, Method::POST, &links, Some(json!({}))).await;
    let link = link["token"].as_str().unwrap().to_owned();
    let valid = stack.token(Role::Admin);
    let now = jsonwebtoken::get_current_timestamp();
    let bad: Vec<(&str, Vec<String>)> = vec![
        ("anonymous", vec![]),
        ("two headers", vec![valid.clone(), valid.clone()]),
        ("bad signature", vec![forged(|_| (), &[8; 32])]),
        ("expired", vec![forged(|c| c["exp"] = json!(now - 60), &KEY)]),
        ("not yet", vec![forged(|c| c["nbf"] = json!(now + 90), &KEY)]),
        ("wrong audience", vec![forged(|c| c["aud"] = json!("other"), &KEY)]),
        ("wrong issuer", vec![forged(|c| c["iss"] = json!("other"), &KEY)]),
        ("older generation", vec![forged(|c| c["generation"] = json!(1), &KEY)]),
        ("no such account", vec![forged(|c| c["sub"] = json!("bob"), &KEY)]),
        ("alg none", vec![unsigned()]),
        ("a link", vec![link]),
    ];
    // The forgery is as good as the real one, but for what each of them changes.
    let good = stack.request(Method::GET, "/v1/session").bearer_auth(forged(|_| (), &KEY));
    assert_eq!(answer(good).await.0, 200);
    for (method, path, who) in callable() {
        let Some(expected) = refusal(who) else { continue };
        for (kind, tokens) in &bad {
            let ask = async |vm, host: &str| {
                let path = filled(&path, vm).replace("host01", host);
                let request = stack.request(method.clone(), &path);
                answer(tokens.iter().fold(request, |request, token| request.bearer_auth(token)))
                    .await
            };
            let own = ask(vm, "host01").await;
            assert_eq!(own.0, expected, "{kind}: {method} {path} {}", own.1);
            assert_eq!(own, ask(VmId::new(), "host01").await, "{kind}: {method} {path}");
            assert_eq!(own, ask(vm, "host09").await, "{kind}: {method} {path}");
        }
    }
    assert!(stack.host.lock().unwrap().works.is_empty());
}

#[actix_web::test]
async fn each_role_gets_past_its_own_routes_and_no_others() {
    let (stack, vm) = Stack::with_guest().await;
    for (method, path, who) in callable() {
        for role in [Role::Viewer, Role::Operator, Role::Admin] {
            let ask = async |vm, host: &str| {
                let path = filled(&path, vm).replace("host01", host);
                answer(stack.request(method.clone(), &path).bearer_auth(stack.token(role))).await
            };
            let may = who == "anybody" || least(who).is_some_and(|least| least <= role);
            let works = stack.host.lock().unwrap().works.len();
            let (absent, own) = (ask(VmId::new(), "host01").await, ask(vm, "host01").await);
            let elsewhere = ask(vm, "host09").await;
            let shown = format!("{role:?}: {method} {path}");
            if may {
                for (status, body) in [&absent, &own, &elsewhere] {
                    assert!(![401, 403, 405, 500].contains(status), "{shown}: {status} {body}");
                }
            } else {
                assert_eq!(own.0, 403, "{shown} {}", own.1);
                assert_eq!((&own, &own), (&absent, &elsewhere), "{shown}");
                assert_eq!(stack.host.lock().unwrap().works.len(), works, "{shown}");
            }
            stack.host.lock().unwrap().domains.insert(vm, guest(vm));
        }
    }
    assert!(!stack.host.lock().unwrap().works.is_empty(), "nobody did anything");
}

#[actix_web::test]
async fn each_certificate_finds_its_own_door() {
    let (stack, vm) = Stack::with_guest().await;
    let admin = stack.token(Role::Admin);
    for role in PeerRole::ALL {
        let (client, base) = stack.client_as(role);
        for (method, path, who) in page() {
            let method = if method.as_str() == "ANY" { Method::GET } else { method };
            let people = [PeerRole::Nginx, PeerRole::Operator].contains(&role);
            let inside = who == "vnc-proxy";
            if people && !inside {
                continue;
            }
            let request = client.request(method.clone(), format!("{base}{}", filled(&path, vm)));
            let status = request.bearer_auth(&admin).send().await.unwrap().status().as_u16();
            let shown = format!("{role:?}: {method} {path} {status}");
            match role {
                PeerRole::VncProxy if inside => {
                    assert!(![403, 404, 405].contains(&status), "{shown}")
                }
                PeerRole::VncProxy | PeerRole::Nginx | PeerRole::Operator => {
                    assert_eq!(status, 404, "{shown}");
                }
                _ => assert_eq!(status, 403, "{shown}"),
            }
        }
    }
    assert!(stack.host.lock().unwrap().works.is_empty());
}
