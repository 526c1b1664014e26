use reqwest::Method;
use serde_json::{Value, json};
use vmmgr_common::api::operation::Work;
use vmmgr_common::error::{ErrorCode, Problem};
use vmmgr_common::ids::VmId;
use vmmgr_common::mtls::Role as PeerRole;

use crate::auth::Role;
use crate::auth::password::create_admin;
use crate::fake::{KEY, Stack, forged, read};

/// Routes that anybody may call.
const PUBLIC_ROUTES: [(&str, &str); 5] = [
    ("POST", "/v1/session"),
    ("POST", "/api/login"),
    ("GET", "/v1/version"),
    ("GET", "/v1/openapi.json"),
    ("POST", "/v1/console/exchange"),
];

/// Every route: of the document, and of the source that registers the compat routes, so that a new one
/// cannot be forgotten here.
pub(super) fn routes() -> Vec<(Method, String)> {
    let mut found = super::document_tests::operations();
    let sources = include_str!("../compat/mod.rs").lines();
    for line in sources.flat_map(|line| line.split(".route(").skip(1)) {
        let (path, rest) = line.split_once(", ").expect(line);
        let quoted = path.split('"').nth(1);
        let paths: Vec<String> = match (path, quoted) {
            ("&path", _) => ["start", "stop", "reset", "delete"]
                .into_iter()
                .flat_map(|verb| ["", "/"].map(|end| format!("/vm/{verb}/{{host}}/{{uuid}}{end}")))
                .collect(),
            (_, Some(path)) => vec![path.to_owned()],
            _ => panic!("cannot read the route in `{line}`"),
        };
        let verb = rest.split('(').next().unwrap().to_uppercase();
        found.extend(paths.into_iter().map(|path| (verb.parse().unwrap(), path)));
    }
    assert!(!found.is_empty());
    found
}

pub(super) fn filled(path: &str, vm: VmId) -> String {
    path.replace("{host}", "host01")
        .replace("{vm}", &vm.to_string())
        .replace("{uuid}", &vm.to_string())
        .replace("{id}", &vm.to_string())
        .replace("{target}", "sda")
        .replace("{device}", "vda")
        .replace("{dev}", "vda")
        .replace("{link:.*}", "host01/link")
        .replace("{epoch}", "1900000000")
        .replace("{op}", "prepare")
        .replace("{action}", "begin")
        .replace("{name}", "debian12")
        .replace("{arch}", "x86_64")
}

#[actix_web::test]
async fn every_route_refuses_who_cannot_prove_who_they_are() {
    let (stack, vm) = Stack::with_guest().await;
    let now = jsonwebtoken::get_current_timestamp();
    let bad = [
        None,
        Some("Bearer nonsense".to_owned()),
        Some(format!("Bearer {}", forged(|c| c["exp"] = json!(now - 60), &KEY))),
        Some(format!("Bearer {}", forged(|_| (), &[8; 32]))),
        Some("Basic YWRtaW46YWRtaW4=".to_owned()),
    ];
    for (method, path) in routes() {
        if PUBLIC_ROUTES.contains(&(method.as_str(), path.as_str())) {
            continue;
        }
        for header in &bad {
            // A refusal that does not wait for the body closes its connection: none is used twice.
            let mut request = stack.request(method.clone(), &filled(&path, vm)).json(&json!({}));
            request = request.header("connection", "close");
            if let Some(header) = header {
                request = request.header("authorization", header);
            }
            let (status, body) = read(request.send().await.unwrap()).await;
            let shown = format!("{method} {path} {header:?}: {body}");
            match path.split('/').nth(1) {
                Some("v1") => {
                    assert_eq!(
                        (status, &body["code"]),
                        (401, &json!("unauthenticated")),
                        "{shown}"
                    );
                }
                // No account opens these, only a link.
                Some("user") => {
                    assert_eq!((status, &body["result"]), (403, &json!("ERR")), "{shown}")
                }
                _ => assert_eq!((status, &body["result"]), (401, &json!("ERR")), "{shown}"),
            }
        }
    }
    assert!(stack.host.lock().unwrap().works.is_empty());
}

#[actix_web::test]
async fn a_known_path_tells_the_methods_that_it_takes() {
    let (stack, vm) = Stack::with_guest().await;
    for (method, path, allowed) in [
        (Method::PATCH, "/v1/vms".to_owned(), vec!["GET"]),
        (Method::PUT, "/v1/hosts".to_owned(), vec!["GET", "POST"]),
        (Method::DELETE, "/v1/session/".to_owned(), vec![]),
        (Method::POST, format!("/v1/hosts/host01/vms/{vm}"), vec!["DELETE", "GET", "PATCH"]),
        (Method::GET, format!("/v1/hosts/host01/vms/{vm}/start"), vec!["POST"]),
        (Method::DELETE, format!("/vm/start/host01/{vm}"), vec!["GET", "POST"]),
        (Method::TRACE, "/v1/vms".to_owned(), vec!["GET"]),
        (Method::GET, "/v1/nonsense".to_owned(), vec![]),
    ] {
        let answer = stack.send(Role::Admin, method.clone(), &path, None).await;
        let allow = answer.headers().get("allow").map(|value| value.to_str().unwrap().to_owned());
        let mut told: Vec<&str> = allow.iter().flat_map(|text| text.split(", ")).collect();
        told.sort_unstable();
        let (status, body) = read(answer).await;
        let (code, expected) = match (path.starts_with("/vm/"), allowed.is_empty()) {
            (true, _) => (998.into(), 405),
            (_, true) => (json!("no_such_route"), 404),
            (_, false) => (json!("method_not_allowed"), 405),
        };
        let got = (status, told, &body["code"]);
        assert_eq!(got, (expected, allowed, &code), "{method} {path}");
    }
    assert!(stack.host.lock().unwrap().works.is_empty());
}

#[actix_web::test]
async fn a_viewer_only_looks_and_an_operator_does_not_touch_records() {
    let (stack, vm) = Stack::with_guest().await;
    let here = |rest: &str| format!("/v1/hosts/host01/vms/{vm}{rest}");
    for (method, path) in [
        (Method::POST, "/v1/hosts/host01/vms".to_owned()),
        (Method::DELETE, here("")),
        (Method::POST, here("/start")),
        (Method::POST, here("/poweroff")),
        (Method::POST, here("/disks")),
        (Method::DELETE, here("/devices/vda")),
        (Method::GET, here("/seed")),
        (Method::POST, here("/console")),
        (Method::GET, here("/console/log")),
        (Method::GET, here("/console/sessions")),
        (Method::GET, here("/screenshot")),
        (Method::GET, format!("/vm/display/host01/{vm}")),
        (Method::GET, format!("/vm/console/host01/{vm}")),
        (Method::GET, format!("/vm/delete/host01/{vm}")),
    ] {
        let (status, _) = stack.call(Role::Viewer, method.clone(), &path, Some(json!({}))).await;
        assert_eq!(status, 403, "{method} {path}");
    }
    for (method, path) in [
        (Method::POST, "/v1/hosts"),
        (Method::DELETE, "/v1/hosts/host01"),
        (Method::POST, "/v1/images"),
        (Method::DELETE, "/v1/images/debian12/x86_64"),
        (Method::POST, "/v1/isos"),
        (Method::DELETE, "/v1/isos/x"),
    ] {
        let (status, _) = stack.call(Role::Operator, method.clone(), path, Some(json!({}))).await;
        assert_eq!(status, 403, "{method} {path}");
    }
    assert_eq!(stack.call(Role::Viewer, Method::GET, "/v1/vms", None).await.0, 200);
    assert!(stack.host.lock().unwrap().works.is_empty());
}

#[actix_web::test]
async fn a_session_is_opened_with_a_password_and_ended_for_good() {
    let stack = Stack::start().await;
    let password = create_admin(stack.app.store.as_ref()).await.unwrap().unwrap();
    let login = async |password: &str| {
        let body = json!({"username": "admin", "password": password});
        read(stack.request(Method::POST, "/v1/session").json(&body).send().await.unwrap()).await
    };
    assert_eq!(login("wrong").await.0, 401);
    let (status, session) = login(&password).await;
    assert_eq!((status, &session["token_type"]), (200, &json!("Bearer")), "{session}");
    assert_eq!(session["expires_in"], 3600);
    let token = session["token"].as_str().unwrap();
    let me = async |method| {
        read(stack.request(method, "/v1/session").bearer_auth(token).send().await.unwrap()).await
    };
    let (status, who) = me(Method::GET).await;
    assert_eq!((status, &who["username"], &who["role"]), (200, &json!("admin"), &json!("admin")));
    assert_eq!(me(Method::DELETE).await.0, 204);
    assert_eq!(me(Method::GET).await.0, 401);
}

#[actix_web::test]
async fn guessing_a_password_is_slowed_down() {
    let stack = Stack::start().await;
    let body = json!({"username": "admin", "password": "guess"});
    let mut limited = None;
    for _ in 0..20 {
        let answer = stack.request(Method::POST, "/v1/session").json(&body).send().await.unwrap();
        if answer.status() == 429 {
            limited = Some(answer);
            break;
        }
    }
    let limited = limited.expect("never limited");
    assert!(limited.headers().contains_key("retry-after"));
    assert_eq!(read(limited).await.1["code"], "rate_limited");
}

#[actix_web::test]
async fn certificates_of_other_services_do_not_get_in() {
    let stack = Stack::start().await;
    for role in [PeerRole::HostAgent, PeerRole::Metadata, PeerRole::Host] {
        let (client, base) = stack.client_as(role);
        let answer = client.get(format!("{base}/v1/version")).send().await.unwrap();
        assert_eq!(answer.status(), 403, "{role:?}");
    }
    let (proxy, base) = stack.client_as(PeerRole::VncProxy);
    let answer = proxy.get(format!("{base}/v1/version")).send().await.unwrap();
    assert_eq!(answer.status(), 404, "vnc-proxy has a door of its own");
}

#[actix_web::test]
async fn a_host_is_registered_after_it_has_proved_who_it_is() {
    let stack = Stack::start().await;
    let (status, host) = stack.add_host().await;
    assert_eq!((status, &host["name"]), (201, &json!("host01")), "{host}");
    assert_eq!(host["info"]["arch"], "x86_64");
    assert_eq!(stack.add_host().await.0, 409);
    let url = host["url"].clone();
    let other = json!({"name": "host02", "url": url});
    let (status, body) = stack.call(Role::Admin, Method::POST, "/v1/hosts", Some(other)).await;
    assert_eq!(
        (status, &body["code"]),
        (503, &json!("host_unreachable")),
        "the certificate is host01's"
    );
    let away = json!({"name": "host03", "url": "https://127.0.0.1:1"});
    let (status, body) = stack.call(Role::Admin, Method::POST, "/v1/hosts", Some(away)).await;
    assert_eq!((status, &body["code"]), (503, &json!("host_unreachable")));
    let (_, hosts) = stack.call(Role::Viewer, Method::GET, "/v1/hosts", None).await;
    assert_eq!(hosts.as_array().unwrap().len(), 1);
    let gone = stack.call(Role::Admin, Method::DELETE, "/v1/hosts/host01", None).await;
    assert_eq!(gone.0, 204);
    assert_eq!(stack.call(Role::Viewer, Method::GET, "/v1/hosts/host01", None).await.0, 404);
}

#[actix_web::test]
async fn a_guest_is_made_started_seen_and_deleted() {
    let (stack, _) = Stack::with_guest().await;
    let body = json!({"name": "web1", "vcpus": 2, "memory_mib": 512, "seed": {"hostname": "web1"}});
    let path = "/v1/hosts/host01/vms?wait_ms=5000";
    let answer = stack.send(Role::Operator, Method::POST, path, Some(body)).await;
    assert_eq!(answer.status(), 200);
    let place = answer.headers()["location"].to_str().unwrap().to_owned();
    let (_, operation) = read(answer).await;
    assert_eq!((&operation["verb"], &operation["host"]), (&json!("create"), &json!("host01")));
    assert_eq!(place, format!("/v1/operations/{}", operation["id"].as_str().unwrap()));
    let vm = operation["vm"].as_str().unwrap().to_owned();
    let here = |rest: &str| format!("/v1/hosts/host01/vms/{vm}{rest}");
    let run =
        async |method, rest: &str| stack.call(Role::Operator, method, &here(rest), None).await;
    assert_eq!(run(Method::POST, "/start?wait_ms=5000").await.0, 200);
    let (_, shown) = run(Method::GET, "").await;
    assert_eq!((&shown["state"], &shown["host"]), (&json!("running"), &json!("host01")));
    assert_eq!(run(Method::GET, "/boot").await.1["total"], 3);
    assert_eq!(run(Method::GET, "/addresses").await.1[0]["name"], "eth0");
    assert_eq!(run(Method::GET, "/seed").await.1["user_data"], "u");
    assert_eq!(run(Method::GET, "/xml").await.0, 200);
    let listed = async || {
        let (_, fleet) = stack.call(Role::Viewer, Method::GET, "/v1/vms", None).await;
        fleet.as_array().unwrap().iter().any(|known| known["id"] == json!(vm))
    };
    stack.until(async || listed().await).await;
    assert_eq!(run(Method::DELETE, "?wait_ms=5000").await.0, 200);
    stack.until(async || !listed().await).await;
    assert_eq!(run(Method::GET, "").await.0, 404);
}

#[actix_web::test]
async fn devices_are_attached_changed_and_detached() {
    let (stack, vm) = Stack::with_guest().await;
    let image = json!({"name": "debian12", "arch": "x86_64", "uri": "/images/d.qcow2"});
    stack.call(Role::Admin, Method::POST, "/v1/images", Some(image)).await;
    let iso = json!({"name": "rescue", "path": "/srv/iso/r.iso"});
    stack.call(Role::Admin, Method::POST, "/v1/isos", Some(iso)).await;
    let here = |rest: &str| format!("/v1/hosts/host01/vms/{vm}{rest}?wait_ms=5000");
    let post = async |rest: &str, body| {
        stack.call(Role::Operator, Method::POST, &here(rest), Some(body)).await
    };
    let disk = json!({"device": "local-disk", "size": "2G", "gold": "debian12"});
    let (status, done) = post("/disks", disk).await;
    assert_eq!((status, &done["outcome"]["target"]), (200, &json!("vdb")), "{done}");
    assert_eq!(post("/nics", json!({"device": "net-br-ext"})).await.0, 200);
    assert_eq!(post("/cdroms", json!({"device": "cdrom", "iso": "rescue"})).await.0, 200);
    assert_eq!(post("/media/sda", json!({"seed": true})).await.0, 200);
    let gone = stack.call(Role::Operator, Method::DELETE, &here("/devices/vda"), None).await;
    assert_eq!(gone.0, 200);
    let verbs: Vec<_> = stack.host.lock().unwrap().works.iter().map(Work::verb).collect();
    assert_eq!(verbs, ["attach", "attach", "attach", "change_medium", "detach"]);
    let url = "https://iso.example.org/net.iso";
    for (name, more, verified) in
        [("net", json!({}), true), ("own", json!({"tls_verify": false}), false)]
    {
        let mut iso = json!({"name": name, "url": url, "description": ""});
        iso.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let (status, kept) = stack.call(Role::Admin, Method::POST, "/v1/isos", Some(iso)).await;
        assert_eq!((status, &kept["url"], &kept["path"]), (201, &json!(url), &Value::Null));
        assert_eq!(post("/media/sda", json!({"iso": name})).await.0, 200);
        let asked = serde_json::to_value(stack.host.lock().unwrap().works.last().unwrap()).unwrap();
        let expected = json!({"kind": "network", "url": url, "tls_verify": verified});
        assert_eq!(asked["medium"], expected);
    }
    let unknown = json!({"device": "local-disk", "size": "2G", "gold": "debian13"});
    assert_eq!(post("/disks", unknown).await.0, 404);
    assert_eq!(post("/disks", json!({"device": "local-disk", "size": "2GG"})).await.0, 422);
    assert_eq!(
        post("/disks", json!({"device": "local-disk", "size": 2, "path": "/etc"})).await.0,
        422
    );
}

#[actix_web::test]
async fn an_idempotency_key_stands_for_one_request() {
    let (stack, vm) = Stack::with_guest().await;
    let send = async |verb: &str| {
        let path = format!("/v1/hosts/host01/vms/{vm}/{verb}?wait_ms=5000");
        let request = stack.request(Method::POST, &path).bearer_auth(stack.token(Role::Operator));
        read(request.header("idempotency-key", "k1").send().await.unwrap()).await
    };
    let (status, first) = send("start").await;
    let (again, second) = send("start").await;
    assert_eq!((status, again, &first["id"]), (200, 200, &second["id"]));
    assert_eq!(stack.host.lock().unwrap().works.len(), 1);
    let (status, other) = send("reset").await;
    assert_eq!((status, &other["code"]), (409, &json!("key_reuse")));
    assert_eq!(stack.host.lock().unwrap().works.len(), 1);
}

#[actix_web::test]
async fn failures_arrive_with_their_own_status() {
    let (stack, vm) = Stack::with_guest().await;
    let path = format!("/v1/hosts/host01/vms/{vm}/start?wait_ms=5000");
    let start = async || stack.call(Role::Operator, Method::POST, &path, None).await;
    for code in
        [ErrorCode::WrongState, ErrorCode::HypervisorFailed, ErrorCode::HypervisorUnreachable]
    {
        stack.host.lock().unwrap().fail = Some(Problem::new(code, "because"));
        let (status, body) = start().await;
        assert_eq!((status, &body["code"]), (code.status(), &json!(code.as_str())));
        stack.host.lock().unwrap().fail = None;
        stack.host.lock().unwrap().refuse = Some(Problem::new(code, "because"));
        assert_eq!(start().await.0, code.status(), "refused with {code:?}");
        stack.host.lock().unwrap().refuse = None;
    }
    let absent = format!("/v1/hosts/host01/vms/{}/start", VmId::new());
    let (status, body) = stack.call(Role::Operator, Method::POST, &absent, None).await;
    assert_eq!((status, &body["code"]), (404, &json!("no_such_vm")));
    let (status, body) = stack.call(Role::Viewer, Method::GET, "/v1/hosts/host09/vms", None).await;
    assert_eq!((status, &body["code"]), (404, &json!("no_such_host")));
    assert!(body["request_id"].is_string());
    let bad = Some(json!({"name": "web1", "vcpu": 1}));
    let (status, _) = stack.call(Role::Operator, Method::POST, "/v1/hosts/host01/vms", bad).await;
    assert_eq!(status, 422, "unknown fields are refused");
}

#[actix_web::test]
async fn an_operation_is_accepted_followed_and_settled() {
    let (stack, vm) = Stack::with_guest().await;
    stack.host.lock().unwrap().stall = true;
    let path = format!("/v1/hosts/host01/vms/{vm}/start");
    let (status, accepted) = stack.call(Role::Operator, Method::POST, &path, None).await;
    assert_eq!((status, &accepted["state"]), (202, &json!("running")));
    let place = format!("/v1/operations/{}", accepted["id"].as_str().unwrap());
    for operation in stack.host.lock().unwrap().operations.values_mut() {
        operation.state = vmmgr_common::api::operation::OperationState::Succeeded;
    }
    let events = stack.send(Role::Viewer, Method::GET, &format!("{place}/events"), None).await;
    let text = events.text().await.unwrap();
    let data = text.lines().rfind(|line| !line.is_empty()).unwrap();
    let last: Value = serde_json::from_str(data.strip_prefix("data: ").unwrap()).unwrap();
    assert_eq!(last["event"], "done");
    let (_, settled) = stack.call(Role::Viewer, Method::GET, &place, None).await;
    assert_eq!(settled["state"], "succeeded");
    let (_, list) = stack.call(Role::Viewer, Method::GET, "/v1/operations", None).await;
    assert_eq!((&list[0]["id"], &list[0]["state"]), (&accepted["id"], &json!("succeeded")));
}
