use reqwest::Method;
use reqwest::header::{COOKIE, SET_COOKIE};
use serde_json::{Value, json};
use vmmgr_common::secret::Secret;

use crate::auth::password::create_admin;
use crate::auth::token::MOST_REFRESHES;
use crate::auth::{Role, password};
use crate::fake::{KEY, Stack, forged, read};

async fn login(stack: &Stack, body: &Value) -> (u16, Value) {
    read(stack.request(Method::POST, "/api/login").json(body).send().await.unwrap()).await
}

async fn with(stack: &Stack, token: &str, method: Method, path: &str) -> (u16, Value) {
    read(stack.request(method, path).bearer_auth(token).send().await.unwrap()).await
}

fn token(answer: &Value) -> String {
    answer["token"].as_str().unwrap_or_else(|| panic!("{answer}")).to_owned()
}

#[actix_web::test]
async fn a_login_has_the_seed_s_shape_and_no_cookie() {
    let stack = Stack::start().await;
    let password = create_admin(stack.app.store.as_ref()).await.unwrap().unwrap();
    let body = json!({"username": "admin", "password": password, "role": "x", "count": 7});
    let answer = stack.request(Method::POST, "/api/login").json(&body).send().await.unwrap();
    assert!(answer.headers().get(SET_COOKIE).is_none());
    let (status, answer) = read(answer).await;
    assert_eq!((status, &answer["result"], &answer["expires"]), (200, &json!("OK"), &json!(3600)));
    let session = token(&answer);
    let (_, me) = with(&stack, &session, Method::GET, "/v1/session").await;
    assert_eq!((&me["username"], &me["role"]), (&json!("admin"), &json!("admin")));
    assert_eq!(stack.app.tokens.verify(&session).unwrap().count, 0);

    // A cookie is nobody's word.
    for path in ["/api/refresh", "/v1/session"] {
        let cookie = format!("token={session}; jwt={session}; Authorization=Bearer {session}");
        let request = stack.request(Method::GET, path).header(COOKIE, cookie);
        assert_eq!(read(request.send().await.unwrap()).await.0, 401, "{path}");
    }
    for (body, status) in [
        (json!({"username": "admin", "password": "wrong"}), 401),
        (json!({"username": "nobody", "password": password}), 401),
        (json!({"username": "admin"}), 422),
        (json!(["admin", password]), 422),
    ] {
        let (code, refusal) = login(&stack, &body).await;
        assert_eq!((code, &refusal["result"]), (status, &json!("ERR")), "{body}: {refusal}");
        assert_eq!(refusal["name"], "login");
    }
    // A form of another site is no JSON; a password does not belong in a URL.
    let form = stack.request(Method::POST, "/api/login").body(body.to_string());
    assert_eq!(read(form.send().await.unwrap()).await.0, 400);
    let url = "/api/login?username=admin&password=x";
    assert_eq!(read(stack.request(Method::GET, url).send().await.unwrap()).await.0, 405);
}

#[actix_web::test]
async fn a_session_is_refreshed_some_times_and_ends_with_any_of_its_tokens() {
    let stack = Stack::start().await;
    let made = password::User::new("eve", Role::Viewer, Secret::new("correct horse".to_owned()));
    let made = made.await.unwrap();
    stack.app.accounts.learn(&made);
    let first = stack.app.tokens.sign("eve", Role::Viewer, made.generation).unwrap();
    let refresh = async |token: &str| with(&stack, token, Method::GET, "/api/refresh").await;
    let mut latest = first.expose().clone();
    for count in 1..=MOST_REFRESHES {
        let (status, answer) = refresh(&latest).await;
        assert_eq!((status, &answer["result"]), (200, &json!("OK")), "{count}: {answer}");
        latest = token(&answer);
        let claims = stack.app.tokens.verify(&latest).unwrap();
        assert_eq!((claims.count, claims.role), (count, Role::Viewer));
    }
    let (status, answer) = refresh(&latest).await;
    assert_eq!((status, &answer["result"]), (401, &json!("ERR")), "{answer}");
    assert_eq!(with(&stack, &latest, Method::GET, "/v1/session").await.0, 200);
    // Another length of the chain is another signature.
    let other_key = forged(|claims| claims["count"] = json!(0), &[8; 32]);
    assert_eq!(refresh(&other_key).await.0, 401);
    let negative = forged(|claims| claims["count"] = json!(-1), &KEY);
    assert_eq!(refresh(&negative).await.0, 401);

    // Logging out with the first one ends the latest, which would last longer.
    assert_eq!(with(&stack, first.expose(), Method::DELETE, "/v1/session").await.0, 204);
    for token in [first.expose(), &latest] {
        assert_eq!(with(&stack, token, Method::GET, "/v1/session").await.0, 401);
        assert_eq!(refresh(token).await.0, 401);
    }
    let now = jsonwebtoken::get_current_timestamp();
    stack.app.prune(now + 2 * 3600, 30).await.unwrap();
    assert_eq!(with(&stack, &latest, Method::GET, "/v1/session").await.0, 401, "it came back");
}

#[actix_web::test]
async fn a_named_token_is_never_refreshed() {
    let stack = Stack::start().await;
    let wish = Some(json!({"name": "ci"}));
    let (_, named) = stack.call(Role::Viewer, Method::POST, "/v1/tokens", wish).await;
    let (status, answer) = with(&stack, &token(&named), Method::GET, "/api/refresh").await;
    assert_eq!((status, &answer["result"]), (403, &json!("ERR")), "{answer}");
}
