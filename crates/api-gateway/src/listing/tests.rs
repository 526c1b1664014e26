use reqwest::Method;
use serde_json::{Value, json};

use crate::auth::Role;
use crate::fake::{Stack, guest};

#[actix_web::test]
async fn a_list_that_the_caller_has_is_not_sent_again_until_it_changes() {
    let (stack, vm) = Stack::with_guest().await;
    let ask = async |path: &str, known: Option<&str>| {
        let mut request = stack.request(Method::GET, path).bearer_auth(stack.token(Role::Viewer));
        if let Some(known) = known {
            request = request.header("if-none-match", known);
        }
        let answer = request.send().await.unwrap();
        let tag = answer.headers()["etag"].to_str().unwrap().to_owned();
        (answer.status().as_u16(), tag, answer.text().await.unwrap())
    };
    let paths = ["/v1/vms", "/v1/hosts/host01/vms", "/vm/list/", "/vm/list/host01"];
    let mut tags = Vec::new();
    for path in paths {
        let (status, tag, body) = ask(path, None).await;
        assert_eq!(status, 200);
        assert!(tag.starts_with('"'), "a strong tag: {tag}");
        let rows: Value = serde_json::from_str(&body).unwrap();
        assert_eq!(rows.as_array().unwrap().len(), 1, "{path}: {body}");
        let (status, again, body) = ask(path, Some(&format!("\"other\", W/{tag}"))).await;
        assert_eq!((status, &again, body.as_str()), (304, &tag, ""), "{path}");
        assert_eq!(ask(path, Some("\"other\"")).await.0, 200, "{path}");
        tags.push(tag);
    }
    let row: Value = serde_json::from_str(&ask(paths[1], None).await.2).unwrap();
    let mut whole = guest(vm);
    for (name, value) in [("host", "host01"), ("host_state", "reachable")] {
        whole[name] = json!(value);
    }
    whole["age_seconds"] = json!(0);
    assert_eq!(row[0], whole, "joined rows say what a serialised view says");
    let start = format!("/v1/hosts/host01/vms/{vm}/start?wait_ms=5000");
    assert_eq!(stack.call(Role::Operator, Method::POST, &start, None).await.0, 200);
    stack.until(async || ask(paths[0], Some(&tags[0])).await.0 == 200).await;
    for (path, tag) in paths.iter().zip(&tags) {
        let (status, fresh, _) = ask(path, Some(tag)).await;
        assert_eq!(status, 200, "{path} has changed");
        assert_ne!(fresh, *tag);
    }
    let (_, _, body) = ask(paths[0], None).await;
    assert!(body.contains("running"), "{body}");
}
