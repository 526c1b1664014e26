//! The OpenAPI document against the routes, and against what is committed.

use std::collections::BTreeSet;

use reqwest::Method;
use serde_json::{Value, json};
use vmmgr_common::error::ErrorCode;

use super::tests::filled;
use super::{document, document::text};
use crate::fake::Stack;

const COMMITTED: &str = include_str!("../../../../openapi/v1.json");

fn parsed() -> Value {
    serde_json::to_value(document()).unwrap()
}

/// Method and path of each operation.
pub(super) fn operations() -> Vec<(Method, String)> {
    let document = parsed();
    let paths = document["paths"].as_object().unwrap();
    let methods = |(path, item): (&String, &Value)| {
        let methods = item.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
        let row = |method: String| (method.to_uppercase().parse().unwrap(), path.clone());
        methods.into_iter().map(row).collect::<Vec<_>>()
    };
    paths.iter().flat_map(methods).collect()
}

#[test]
fn the_committed_document_is_what_the_handlers_say() {
    let now = text(&document()).unwrap();
    let differs = now.lines().zip(COMMITTED.lines()).position(|(now, then)| now != then);
    assert!(
        now == COMMITTED,
        "openapi/v1.json is not what the handlers say (line {}): `make openapi` writes it and the\n\
         types of the web pages anew, `cargo run -p api-gateway -- openapi > openapi/v1.json` it alone",
        differs.map_or(0, |at| at + 1),
    );
}

/// A route and its operation come from the same list; this is what would notice one beside it.
#[actix_web::test]
async fn the_document_has_the_routes_and_nothing_else() {
    let (stack, vm) = Stack::with_guest().await;
    let all = operations();
    assert!(all.len() > 70, "{}", all.len());
    for (_, path) in &all {
        let documented: BTreeSet<String> =
            all.iter().filter(|row| row.1 == *path).map(|row| row.0.to_string()).collect();
        let answer = stack.request(Method::TRACE, &filled(path, vm)).send().await.unwrap();
        let allow = answer.headers().get("allow").map(|value| value.to_str().unwrap().to_owned());
        let taken: BTreeSet<String> =
            allow.iter().flat_map(|text| text.split(", ")).map(str::to_owned).collect();
        assert_eq!(taken, documented, "{path}: {}", answer.status());
    }
    let source = include_str!("mod.rs");
    assert_eq!(source.matches(".route(").count(), 1, "a route that is not in the list");
    assert_eq!(source.matches(".service(").count(), 0, "a route that is not in the list");
}

#[test]
fn every_reference_leads_somewhere() {
    fn references(value: &Value, found: &mut BTreeSet<String>) {
        match value {
            Value::Object(fields) => fields.iter().for_each(|(name, value)| match value {
                Value::String(to) if name == "$ref" => {
                    found.insert(to.clone());
                }
                _ => references(value, found),
            }),
            Value::Array(items) => items.iter().for_each(|item| references(item, found)),
            _ => {}
        }
    }
    let (document, mut found) = (parsed(), BTreeSet::new());
    references(&document, &mut found);
    assert!(found.len() > 50, "{found:?}");
    for to in found {
        assert!(document.pointer(to.strip_prefix('#').unwrap()).is_some(), "{to}");
    }
}

#[test]
fn the_document_has_the_words_that_are_sent() {
    let schemas = &parsed()["components"]["schemas"];
    let codes: Vec<&str> = ErrorCode::ALL.iter().map(|code| code.as_str()).collect();
    assert_eq!(schemas["ErrorCode"]["enum"], json!(codes));
    assert_eq!(schemas["DiskBus"]["enum"], json!(["virtio", "scsi", "sata", "ide"]));
    assert_eq!(schemas["Arch"]["enum"], json!(["x86_64", "aarch64"]));
    assert_eq!(schemas["Role"]["enum"], json!(["viewer", "operator", "admin"]));
    assert_eq!(schemas["ConsoleMode"]["enum"], json!(["share", "view", "take_over"]));
}

#[test]
fn every_operation_tells_what_a_reader_needs() {
    let document = parsed();
    let tags: BTreeSet<&str> = document["tags"]
        .as_array()
        .unwrap()
        .iter()
        .map(|tag| tag["name"].as_str().unwrap())
        .collect();
    let (mut ids, mut used) = (BTreeSet::new(), BTreeSet::new());
    for (method, path) in operations() {
        let operation = &document["paths"][&path][method.as_str().to_lowercase()];
        let shown = format!("{method} {path}");
        let id = operation["operationId"].as_str().unwrap();
        assert!(ids.insert(id.to_owned()), "{shown}: another operation is `{id}`");
        assert!(
            operation["summary"].as_str().is_some_and(|text| text.len() > 3),
            "{shown}: says nothing"
        );
        for tag in operation["tags"].as_array().unwrap() {
            let tag = tag.as_str().unwrap();
            assert!(tags.contains(tag), "{shown}: the tag `{tag}` is not explained");
            used.insert(tag.to_owned());
        }
        for parameter in operation["parameters"].as_array().into_iter().flatten() {
            let name = &parameter["name"];
            assert!(
                parameter["description"].as_str().is_some_and(|t| t.len() > 3),
                "{shown}: {name}"
            );
        }
        let answers = operation["responses"].as_object().unwrap();
        assert!(answers.keys().any(|status| status.starts_with('2')), "{shown}");
        for (status, answer) in answers {
            let known = answer["description"].is_string() || answer["$ref"].is_string();
            assert!(known, "{shown}: {status}");
        }
        assert!(
            path.contains("{host}") == answers.contains_key("502") || path == "/v1/hosts",
            "{shown}"
        );
    }
    assert_eq!(used.len(), tags.len(), "a tag that nothing has");
}

#[actix_web::test]
async fn anybody_may_read_it() {
    let stack = Stack::with_guest().await.0;
    let answer = stack.request(Method::GET, "/v1/openapi.json").send().await.unwrap();
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.headers()["content-type"], "application/json");
    let sent: Value = answer.json().await.unwrap();
    assert_eq!(
        sent["paths"].as_object().unwrap().len(),
        parsed()["paths"].as_object().unwrap().len()
    );
}

#[test]
fn its_version_is_ours() {
    assert_eq!(parsed()["info"]["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(parsed()["openapi"], "3.1.0");
}
