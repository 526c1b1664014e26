//! People of a directory: their accounts, sessions and tokens, and how all of that ends.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use reqwest::Method;
use serde_json::{Value, json};
use vmmgr_common::error::{ErrorCode, Problem};
use vmmgr_common::secret::Secret;

use crate::auth::Role;
use crate::auth::password::{User, create_admin};
use crate::directory::{Ask, Directory, Verdict};
use crate::fake::{Stack, read};
use crate::store::{Sqlite, Store as _, Table, from_text, to_text};

/// Password and verdict by name, and who was asked for; no people is a server that is down.
#[derive(Default)]
struct State {
    people: Option<HashMap<&'static str, (&'static str, Verdict)>>,
    asked: Vec<String>,
}

#[derive(Clone, Default)]
struct Fake(Arc<Mutex<State>>);

#[async_trait]
impl Ask for Fake {
    async fn ask(&self, name: &str, password: &Secret<String>) -> Result<Verdict, Problem> {
        let mut state = self.0.lock().unwrap();
        state.asked.push(name.to_owned());
        let Some(people) = &state.people else {
            return Err(Problem::new(ErrorCode::DirectoryUnreachable, "it is down"));
        };
        Ok(match people.get(name) {
            Some((known, verdict)) if known == password.expose() => *verdict,
            _ => Verdict::Refused,
        })
    }
}

impl Fake {
    fn set(&self, name: &'static str, verdict: Verdict) {
        let mut state = self.0.lock().unwrap();
        state.people.get_or_insert_default().insert(name, ("secret", verdict));
    }

    async fn stack(&self) -> (Stack, Arc<Sqlite>) {
        let store = Arc::new(Sqlite::in_memory());
        let directory = Directory::faked(self.clone(), &["mallory"]);
        (Stack::with_directory(store.clone(), directory).await, store)
    }
}

async fn login(stack: &Stack, name: &str, password: &str) -> (u16, Value) {
    let body = json!({"username": name, "password": password});
    let (status, mut body) =
        read(stack.request(Method::POST, "/v1/session").json(&body).send().await.unwrap()).await;
    body.as_object_mut().unwrap().remove("request_id");
    (status, body)
}

async fn token(stack: &Stack, name: &str) -> String {
    let (status, session) = login(stack, name, "secret").await;
    assert_eq!(status, 200, "{session}");
    session["token"].as_str().unwrap().to_owned()
}

async fn call(stack: &Stack, token: &str, method: Method, path: &str, body: Value) -> (u16, Value) {
    read(stack.request(method, path).bearer_auth(token).json(&body).send().await.unwrap()).await
}

async fn works(stack: &Stack, token: &str) -> bool {
    call(stack, token, Method::GET, "/v1/session", Value::Null).await.0 == 200
}

#[actix_web::test]
async fn a_person_gets_an_account_with_the_role_of_the_groups_as_they_are_at_each_login() {
    let directory = Fake::default();
    directory.set("bob", Verdict::Person(Role::Operator));
    let (stack, _) = directory.stack().await;
    let first = token(&stack, "Bob").await;
    let (_, me) = call(&stack, &first, Method::GET, "/v1/session", Value::Null).await;
    assert_eq!((&me["username"], &me["role"]), (&json!("bob"), &json!("operator")));
    let (_, all) = stack.call(Role::Admin, Method::GET, "/v1/users", None).await;
    let shown =
        json!([{"name": "bob", "role": "operator", "source": "directory", "disabled": false}]);
    assert_eq!(all, shown);
    let (status, named) =
        call(&stack, &first, Method::POST, "/v1/tokens", json!({"name": "ci"})).await;
    assert_eq!(status, 201, "{named}");
    let named = named["token"].as_str().unwrap();

    // Another login with the same role takes nothing away; one with another role does.
    token(&stack, "bob").await;
    assert!(works(&stack, &first).await && works(&stack, named).await);
    directory.set("bob", Verdict::Person(Role::Viewer));
    let viewer = token(&stack, "bob").await;
    assert!(works(&stack, &viewer).await);
    assert!(!works(&stack, &first).await && !works(&stack, named).await);

    // Out of all groups: a wrong password says nothing of it, the right one does.
    directory.set("bob", Verdict::NoRole);
    assert_eq!(login(&stack, "bob", "wrong").await.0, 401);
    assert!(works(&stack, &viewer).await);
    assert_eq!(login(&stack, "bob", "secret").await.0, 401);
    assert!(!works(&stack, &viewer).await);
}

#[actix_web::test]
async fn every_refusal_is_the_same_and_not_sooner_than_another() {
    let directory = Fake::default();
    for name in ["bob", "mallory", "admin", "eve", "off"] {
        directory.set(name, Verdict::Person(Role::Admin));
    }
    directory.set("nogroup", Verdict::NoRole);
    let (stack, _) = directory.stack().await;
    create_admin(stack.app.store.as_ref()).await.unwrap().unwrap();
    let eve = json!({"name": "eve", "role": "viewer", "password": "correct horse"});
    assert_eq!(stack.call(Role::Admin, Method::POST, "/v1/users", Some(eve)).await.0, 201);
    token(&stack, "off").await;
    let off = Some(json!({"disabled": true}));
    assert_eq!(stack.call(Role::Admin, Method::PATCH, "/v1/users/off", off).await.0, 200);
    directory.0.lock().unwrap().asked.clear();

    let tries = [
        ("bob", "wrong"),
        ("bob", ""),
        ("nobody", "secret"),
        ("nogroup", "secret"),
        ("mallory", "secret"),
        ("Mallory", "secret"),
        ("off", "secret"),
        // vmmgr's own accounts are not the directory's people, in no spelling.
        ("admin", "secret"),
        ("Admin", "secret"),
        ("eve", "secret"),
        ("EVE", "secret"),
        ("*", "secret"),
        (")(uid=*", "secret"),
        ("bob,ou=people", "secret"),
        ("bob ", "secret"),
        ("", "secret"),
        ("bob\0", "secret"),
    ];
    let told = futures_util::future::join_all(tries.map(async |(name, password)| {
        let start = Instant::now();
        (login(&stack, name, password).await, start.elapsed(), name)
    }))
    .await;
    for ((status, problem), took, name) in &told {
        assert_eq!(*status, 401, "{name}: {problem}");
        assert_eq!(*problem, told[0].0.1, "{name}");
        assert!(*took >= Duration::from_millis(300), "{name}: {took:?}");
    }
    let mut asked = directory.0.lock().unwrap().asked.clone();
    asked.sort();
    assert_eq!(asked, ["bob", "nobody", "nogroup"], "who may not come is not asked for");
}

#[actix_web::test]
async fn a_directory_that_is_down_stops_its_own_people_only() {
    let directory = Fake::default();
    directory.set("bob", Verdict::Person(Role::Operator));
    let (stack, _) = directory.stack().await;
    let password = create_admin(stack.app.store.as_ref()).await.unwrap().unwrap();
    let bob = token(&stack, "bob").await;
    directory.0.lock().unwrap().people = None;
    let (status, problem) = login(&stack, "bob", "secret").await;
    assert_eq!((status, &problem["code"]), (503, &json!("directory_unreachable")), "{problem}");
    assert_eq!(login(&stack, "nobody", "x").await.0, 503);
    assert_eq!(login(&stack, "admin", &password).await.0, 200);
    assert!(works(&stack, &bob).await, "a session needs no directory");
}

#[actix_web::test]
async fn an_account_of_the_directory_is_disabled_and_removed_here_and_changed_there() {
    let directory = Fake::default();
    directory.set("bob", Verdict::Person(Role::Admin));
    let (stack, _) = directory.stack().await;
    let password = create_admin(stack.app.store.as_ref()).await.unwrap().unwrap();
    let (_, admin) = login(&stack, "admin", &password).await;
    let admin = admin["token"].as_str().unwrap();
    let bob = token(&stack, "bob").await;
    for (path, method, body) in [
        ("/v1/users/bob", Method::PATCH, json!({"role": "viewer"})),
        ("/v1/users/bob", Method::PATCH, json!({"password": "battery staple"})),
        ("/v1/session/password", Method::PUT, json!({"old": "secret", "new": "battery staple"})),
    ] {
        let (status, problem) = call(&stack, &bob, method, path, body).await;
        assert_eq!((status, &problem["code"]), (409, &json!("wrong_state")), "{problem}");
        assert!(problem["detail"].as_str().unwrap().contains("directory"), "{problem}");
    }
    // An admin of the directory is none while the directory is away.
    let last = call(&stack, &bob, Method::DELETE, "/v1/users/admin", Value::Null).await;
    assert_eq!(last.0, 409, "{}", last.1);
    let last = json!({"disabled": true});
    assert_eq!(call(&stack, &bob, Method::PATCH, "/v1/users/admin", last).await.0, 409);

    let disabled = |value: bool| json!({"disabled": value});
    let (status, shown) = call(&stack, admin, Method::PATCH, "/v1/users/bob", disabled(true)).await;
    assert_eq!((status, &shown["disabled"]), (200, &json!(true)));
    assert!(!works(&stack, &bob).await);
    assert_eq!(login(&stack, "bob", "secret").await.0, 401);
    assert_eq!(call(&stack, admin, Method::PATCH, "/v1/users/bob", disabled(false)).await.0, 200);
    assert!(!works(&stack, &bob).await, "what has ended stays ended");
    let bob = token(&stack, "bob").await;
    assert_eq!(call(&stack, admin, Method::DELETE, "/v1/users/bob", Value::Null).await.0, 204);
    assert!(!works(&stack, &bob).await);
    assert_eq!(login(&stack, "bob", "secret").await.0, 200, "the directory still has the person");
}

#[actix_web::test]
async fn an_own_account_can_be_disabled_too() {
    let stack = Stack::start().await;
    let eve = json!({"name": "eve", "role": "viewer", "password": "correct horse"});
    assert_eq!(stack.call(Role::Admin, Method::POST, "/v1/users", Some(eve)).await.0, 201);
    let (_, session) = login(&stack, "eve", "correct horse").await;
    let session = session["token"].as_str().unwrap();
    assert!(works(&stack, session).await);
    for (value, status) in [(true, 401), (false, 200)] {
        let change = Some(json!({"disabled": value}));
        assert_eq!(stack.call(Role::Admin, Method::PATCH, "/v1/users/eve", change).await.0, 200);
        assert!(!works(&stack, session).await);
        assert_eq!(login(&stack, "eve", "correct horse").await.0, status);
    }
}

#[actix_web::test]
async fn nobody_is_trusted_whom_the_directory_has_not_vouched_for_of_late() {
    let directory = Fake::default();
    directory.set("bob", Verdict::Person(Role::Operator));
    let (stack, store) = directory.stack().await;
    token(&stack, "bob").await;
    let text = store.get(Table::Users, "bob").await.unwrap().unwrap();
    let bob: User = from_text(&text).unwrap();
    let has = async |directory: Option<Directory>| {
        let again = stack.another_with(store.clone(), directory).await;
        again.accounts.has("bob", bob.generation)
    };
    let known = |block: &[&str]| Some(Directory::faked(directory.clone(), block));
    assert!(has(known(&[])).await);
    assert!(!has(known(&["bob"])).await, "blocked by now");
    assert!(!has(None).await, "the directory was taken away");
    // The fake one is trusted for a day.
    let seen = bob.seen - 24 * 3600;
    let long_ago = to_text(&User { seen, ..bob.clone() }).unwrap();
    store.put(Table::Users, "bob", &long_ago).await.unwrap();
    assert!(!has(known(&[])).await);
    token(&stack, "bob").await;
    assert!(has(known(&[])).await, "seen again");
}
