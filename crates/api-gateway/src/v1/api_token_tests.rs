//! Tokens for scripts, over the API.

use reqwest::Method;
use serde_json::{Value, json};

use crate::auth::Role;
use crate::fake::{Stack, read};
use crate::store::{Sqlite, Table};

async fn with(stack: &Stack, token: &str, method: Method, path: &str, body: Value) -> (u16, Value) {
    let request = stack.request(method, path).bearer_auth(token).json(&body);
    read(request.send().await.unwrap()).await
}

async fn made(stack: &Stack, role: Role, wish: Value) -> (u16, Value) {
    stack.call(role, Method::POST, "/v1/tokens", Some(wish)).await
}

async fn status(stack: &Stack, token: &str, method: Method, path: &str) -> u16 {
    with(stack, token, method, path, json!({})).await.0
}

#[actix_web::test]
async fn a_token_does_what_its_role_allows_until_it_is_revoked() {
    let stack = Stack::start().await;
    let (code, viewer) = made(&stack, Role::Admin, json!({"name": "ci", "role": "viewer"})).await;
    assert_eq!((code, &viewer["role"], &viewer["user"]), (201, &json!("viewer"), &json!("ada")));
    let token = viewer["token"].as_str().unwrap();
    assert!(token.starts_with("vmmgr_") && token.len() == 49, "{token}");
    assert_eq!(status(&stack, token, Method::GET, "/v1/hosts").await, 200);
    assert_eq!(status(&stack, token, Method::POST, "/v1/hosts").await, 403);
    // A token that was stolen makes no others.
    let (code, refused) =
        with(&stack, token, Method::POST, "/v1/tokens", json!({"name": "more"})).await;
    assert_eq!((code, &refused["code"]), (403, &json!("forbidden")));

    let (_, all) = stack.call(Role::Admin, Method::GET, "/v1/tokens", None).await;
    assert_eq!((all[0]["name"].as_str(), all[0]["token"].is_null()), (Some("ci"), true));
    let kept = stack.app.store.list(Table::ApiTokens).await.unwrap();
    assert!(!format!("{kept:?}").contains(&token[6..]), "the store has the token itself");

    let path = format!("/v1/tokens/{}", viewer["id"].as_str().unwrap());
    assert_eq!(status(&stack, token, Method::DELETE, &path).await, 204, "its own end is its right");
    assert_eq!(status(&stack, token, Method::GET, "/v1/hosts").await, 401);
    assert_eq!(stack.call(Role::Admin, Method::DELETE, &path, None).await.0, 404);
}

#[actix_web::test]
async fn a_token_ends_with_its_time_its_account_and_its_password() {
    let store = std::sync::Arc::new(Sqlite::in_memory());
    let stack = Stack::on(store.clone()).await;
    let now = jsonwebtoken::get_current_timestamp();
    let (_, body) =
        made(&stack, Role::Viewer, json!({"name": "a", "expires_in_seconds": 60})).await;
    let token = body["token"].as_str().unwrap();
    assert!(stack.app.api_tokens.identity(token, now + 50).is_ok());
    assert!(stack.app.api_tokens.identity(token, now + 70).is_err());
    // Another gateway, or this one after a restart.
    let again = stack.another(store).await;
    assert_eq!(again.api_tokens.identity(token, now).unwrap().user, "ada");
    stack.app.accounts.know("ada", 1);
    assert_eq!(status(&stack, token, Method::GET, "/v1/hosts").await, 401);
    stack.app.prune(now, 30).await.unwrap();
    assert!(stack.app.store.list(Table::ApiTokens).await.unwrap().is_empty());
}

#[actix_web::test]
async fn tokens_that_may_not_be_are_not_made() {
    let stack = Stack::start().await;
    for wish in [
        json!({"name": ""}),
        json!({"name": "a\nb"}),
        json!({"name": "x".repeat(101)}),
        json!({"name": "a", "role": "operator"}),
        json!({"name": "a", "expires_in_seconds": 0}),
        json!({"name": "a", "expires_in_seconds": 32_000_000}),
        json!({"name": "a", "user": "admin"}),
    ] {
        let (code, answer) = made(&stack, Role::Viewer, wish.clone()).await;
        assert_eq!(code, 422, "{wish}: {answer}");
    }
    for forged in ["vmmgr_", "vmmgr_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA", "vmmgr_\u{e9}"] {
        assert_eq!(status(&stack, forged, Method::GET, "/v1/hosts").await, 401, "{forged}");
    }
    assert!(stack.app.store.list(Table::ApiTokens).await.unwrap().is_empty());
    // Another account's token is as one that is not there.
    let (_, body) = made(&stack, Role::Admin, json!({"name": "a"})).await;
    stack.app.accounts.know("eve", 0);
    let eve = stack.app.tokens.sign("eve", Role::Operator, 0).unwrap();
    let path = format!("/v1/tokens/{}", body["id"].as_str().unwrap());
    assert_eq!(status(&stack, eve.expose(), Method::DELETE, &path).await, 404);
    let (_, seen) = with(&stack, eve.expose(), Method::GET, "/v1/tokens", json!({})).await;
    assert_eq!(seen, json!([]));
}
