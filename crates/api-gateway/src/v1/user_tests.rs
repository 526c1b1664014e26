use reqwest::Method;
use serde_json::{Value, json};

use crate::auth::Role;
use crate::auth::password::create_admin;
use crate::fake::{Stack, read};

/// A person with a token.
struct Person<'a> {
    stack: &'a Stack,
    token: String,
}

impl Person<'_> {
    async fn call(&self, method: Method, path: &str, body: Value) -> (u16, Value) {
        let request = self.stack.request(method, path).bearer_auth(&self.token).json(&body);
        read(request.send().await.unwrap()).await
    }

    async fn works(&self) -> bool {
        self.call(Method::GET, "/v1/session", Value::Null).await.0 == 200
    }
}

async fn login<'a>(stack: &'a Stack, name: &str, password: &str) -> Option<Person<'a>> {
    let body = json!({"username": name, "password": password});
    let request = stack.request(Method::POST, "/v1/session").json(&body);
    let (status, session) = read(request.send().await.unwrap()).await;
    let token = session["token"].as_str().map(str::to_owned);
    assert_eq!(token.is_some(), status == 200, "{status} {session}");
    token.map(|token| Person { stack, token })
}

async fn with_admin(stack: &Stack) -> Person<'_> {
    let password = create_admin(stack.app.store.as_ref()).await.unwrap().unwrap();
    login(stack, "admin", &password).await.unwrap()
}

#[actix_web::test]
async fn an_account_is_made_used_changed_and_removed_and_its_sessions_end_with_it() {
    let stack = Stack::start().await;
    let admin = with_admin(&stack).await;
    let bob = json!({"name": "bob", "role": "viewer", "password": "correct horse"});
    let (status, made) = admin.call(Method::POST, "/v1/users", bob.clone()).await;
    let view = |name: &str, role: &str| json!({"name": name, "role": role, "source": "local", "disabled": false});
    assert_eq!((status, made), (201, view("bob", "viewer")));
    assert_eq!(admin.call(Method::POST, "/v1/users", bob).await.1["code"], "already_exists");
    let (_, all) = admin.call(Method::GET, "/v1/users", Value::Null).await;
    assert_eq!(all, json!([view("admin", "admin"), view("bob", "viewer")]));
    let session = login(&stack, "bob", "correct horse").await.unwrap();
    let image = json!({"name": "i", "arch": "x86_64", "uri": "/i"});
    assert_eq!(session.call(Method::POST, "/v1/images", image.clone()).await.0, 403);
    let role = json!({"role": "admin"});
    assert_eq!(admin.call(Method::PATCH, "/v1/users/bob", role).await.0, 200);
    assert!(!session.works().await, "the role that the token names is no longer bob's");
    let session = login(&stack, "bob", "correct horse").await.unwrap();
    assert_eq!(session.call(Method::POST, "/v1/images", image).await.0, 201);
    let password = json!({"password": "battery staple"});
    assert_eq!(admin.call(Method::PATCH, "/v1/users/bob", password).await.0, 200);
    assert!(!session.works().await);
    assert!(login(&stack, "bob", "correct horse").await.is_none());
    let session = login(&stack, "bob", "battery staple").await.unwrap();
    assert_eq!(admin.call(Method::DELETE, "/v1/users/bob", Value::Null).await.0, 204);
    assert!(!session.works().await);
    assert!(login(&stack, "bob", "battery staple").await.is_none());
    // The name comes back; the old sessions do not.
    let bob = json!({"name": "bob", "role": "admin", "password": "battery staple"});
    assert_eq!(admin.call(Method::POST, "/v1/users", bob).await.0, 201);
    assert!(!session.works().await && admin.works().await);
}

#[actix_web::test]
async fn there_is_always_an_admin() {
    let stack = Stack::start().await;
    let admin = with_admin(&stack).await;
    for (method, body) in
        [(Method::DELETE, Value::Null), (Method::PATCH, json!({"role": "operator"}))]
    {
        let (status, problem) = admin.call(method, "/v1/users/admin", body).await;
        assert_eq!((status, &problem["code"]), (409, &json!("wrong_state")), "{problem}");
    }
    assert!(admin.works().await);
    let other = json!({"name": "eve", "role": "admin", "password": "correct horse"});
    assert_eq!(admin.call(Method::POST, "/v1/users", other).await.0, 201);
    let eve = login(&stack, "eve", "correct horse").await.unwrap();
    // Both at once: one of them must stay.
    let (first, second) = tokio::join!(
        admin.call(Method::DELETE, "/v1/users/eve", Value::Null),
        eve.call(Method::DELETE, "/v1/users/admin", Value::Null)
    );
    let mut both = [first.0, second.0];
    both.sort_unstable();
    assert!(both[0] == 204 && [401, 409].contains(&both[1]), "{both:?}");
    assert_eq!(stack.app.users().await.unwrap().len(), 1);
}

#[actix_web::test]
async fn the_own_password_is_changed_with_the_old_one() {
    let stack = Stack::start().await;
    let admin = with_admin(&stack).await;
    let bob = json!({"name": "bob", "role": "viewer", "password": "correct horse"});
    assert_eq!(admin.call(Method::POST, "/v1/users", bob).await.0, 201);
    let session = login(&stack, "bob", "correct horse").await.unwrap();
    let change = async |person: &Person<'_>, old: &str, new: &str| {
        let body = json!({"old": old, "new": new});
        person.call(Method::PUT, "/v1/session/password", body).await
    };
    assert_eq!(change(&session, "wrong", "battery staple").await.0, 403);
    assert_eq!(change(&session, "correct horse", "short").await.0, 422);
    assert!(session.works().await);
    let (status, fresh) = change(&session, "correct horse", "battery staple").await;
    assert_eq!(status, 200, "{fresh}");
    assert!(!session.works().await);
    let fresh = Person { stack: &stack, token: fresh["token"].as_str().unwrap().to_owned() };
    assert!(fresh.works().await && admin.works().await);
    assert!(login(&stack, "bob", "battery staple").await.is_some());
}

#[actix_web::test]
async fn accounts_are_the_admins_business_and_odd_ones_are_refused() {
    let stack = Stack::start().await;
    let admin = with_admin(&stack).await;
    for role in [Role::Viewer, Role::Operator] {
        let body = json!({"name": "eve", "role": "admin", "password": "correct horse"});
        let added = stack.call(role, Method::POST, "/v1/users", Some(body)).await;
        assert_eq!(added.0, 403);
        assert_eq!(stack.call(role, Method::GET, "/v1/users", None).await.0, 403);
        assert_eq!(stack.call(role, Method::DELETE, "/v1/users/admin", None).await.0, 403);
        let body = Some(json!({"password": "correct horse"}));
        assert_eq!(stack.call(role, Method::PATCH, "/v1/users/admin", body).await.0, 403);
    }
    let long = "x".repeat(2000);
    for body in [
        json!({"name": "", "role": "viewer", "password": "correct horse"}),
        json!({"name": "a b", "role": "viewer", "password": "correct horse"}),
        json!({"name": "a\u{0}", "role": "viewer", "password": "correct horse"}),
        json!({"name": "../x", "role": "viewer", "password": "correct horse"}),
        json!({"name": "\u{202e}bob", "role": "viewer", "password": "correct horse"}),
        json!({"name": long, "role": "viewer", "password": "correct horse"}),
        json!({"name": "bob", "role": "root", "password": "correct horse"}),
        json!({"name": "bob", "role": "viewer", "password": "short"}),
        json!({"name": "bob", "role": "viewer", "password": long}),
        json!({"name": "bob", "role": "viewer"}),
        json!({"name": "bob", "role": "viewer", "password": "correct horse", "hash": "x"}),
    ] {
        let (status, problem) = admin.call(Method::POST, "/v1/users", body.clone()).await;
        assert_eq!(status, 422, "{body} {problem}");
        assert!(!problem.to_string().contains("correct horse"), "{problem}");
    }
    let nobody = admin.call(Method::PATCH, "/v1/users/nobody", json!({"role": "admin"})).await;
    assert_eq!((nobody.0, &nobody.1["code"]), (404, &json!("no_such_record")));
    assert_eq!(admin.call(Method::DELETE, "/v1/users/nobody", Value::Null).await.0, 404);
    assert_eq!(stack.app.users().await.unwrap().len(), 1);
}
