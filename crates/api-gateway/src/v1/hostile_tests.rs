//! Texts that are meant to do harm, in every field that takes text.

use reqwest::Method;
use serde_json::{Value, json};
use vmmgr_common::ids::VmId;

use crate::auth::Role;
use crate::fake::Stack;

const SPELLINGS: [&str; 7] = [
    "6F5D8BF6-D580-4946-9541-13FA98B4ACF4",
    "%7B6f5d8bf6-d580-4946-9541-13fa98b4acf4%7D",
    "urn:uuid:6f5d8bf6-d580-4946-9541-13fa98b4acf4",
    "6f5d8bf6d5804946954113fa98b4acf4",
    "00000000-0000-0000-0000-000000000000",
    "%206f5d8bf6-d580-4946-9541-13fa98b4acf4",
    "x",
];

/// What no field takes that is shown to people.
fn hostile() -> [String; 7] {
    ["a\0b", "a\rb", "\u{1b}]0;x\u{7}", "gnp.\u{202e}exe", "\u{2066}x", "\u{ffff}"]
        .map(str::to_owned)
        .into_iter()
        .chain(["x".repeat(5000)])
        .collect::<Vec<_>>()
        .try_into()
        .unwrap()
}

/// What names refuse beside that.
const NO_NAMES: [&str; 8] =
    ["", "../x", "a/b", "a b", "a\nb", "<x/>", "{{ 7*7 }}", "\u{5e9}\u{5dc}\u{5d5}\u{5dd}"];

#[actix_web::test]
async fn a_guest_has_one_spelling_and_others_are_refused_everywhere() {
    let (stack, _) = Stack::with_guest().await;
    for id in SPELLINGS {
        let here = |rest: &str| format!("/v1/hosts/host01/vms/{id}{rest}");
        let asked = [
            (Method::GET, here(""), Value::Null),
            (Method::GET, here("/xml"), Value::Null),
            (Method::DELETE, here(""), Value::Null),
            (Method::POST, here("/start"), Value::Null),
            (Method::POST, here("/poweroff"), Value::Null),
            (Method::POST, here("/disks"), json!({"device": "local-disk", "size": "1G"})),
            (Method::DELETE, here("/devices/vda"), Value::Null),
            (Method::GET, format!("/v1/operations/{id}"), Value::Null),
            (Method::GET, format!("/vm/list/host01/{id}"), Value::Null),
            (Method::POST, format!("/vm/start/host01/{id}"), Value::Null),
        ];
        for (method, path, body) in asked {
            let body = (!body.is_null()).then_some(body);
            let (status, answer) = stack.call(Role::Admin, method.clone(), &path, body).await;
            assert_eq!(status, 422, "{method} {path} {answer}");
        }
        let filter = format!("/v1/operations?vm={id}");
        assert_eq!(stack.call(Role::Viewer, Method::GET, &filter, None).await.0, 400, "{id}");
    }
    assert!(stack.host.lock().unwrap().works.is_empty());
}

async fn refused(stack: &Stack, path: &str, body: Value) {
    let (status, problem) = stack.call(Role::Admin, Method::POST, path, Some(body.clone())).await;
    assert_eq!(
        (status, &problem["code"]),
        (422, &json!("invalid_value")),
        "{path} {body} {problem}"
    );
    let detail = problem["detail"].as_str().unwrap();
    let harmless = |c: char| !c.is_control() && !('\u{202a}'..='\u{202e}').contains(&c);
    assert!(detail.len() < 1000 && detail.chars().all(harmless), "{detail:?}");
}

#[actix_web::test]
async fn records_take_no_hostile_text() {
    let stack = Stack::start().await;
    let image = |field: &str, value: &str| {
        let mut body = json!({"name": "i", "arch": "x86_64", "uri": "/i", "description": ""});
        body[field] = json!(value);
        body
    };
    let iso = |field: &str, value: &str| {
        let mut body = json!({"name": "i", "path": "/i", "description": ""});
        body[field] = json!(value);
        body
    };
    let network = |field: &str, value: &Value| {
        let mut body = json!({"name": "i", "url": "https://iso.test/i.iso"});
        body[field] = value.clone();
        body
    };
    let host = |field: &str, value: &str| {
        let mut body = json!({"name": "h", "url": "https://127.0.0.1:1", "description": ""});
        body[field] = json!(value);
        body
    };
    for text in hostile() {
        for field in ["name", "uri", "description", "arch", "sha256"] {
            refused(&stack, "/v1/images", image(field, &text)).await;
        }
        for field in ["name", "path", "description"] {
            refused(&stack, "/v1/isos", iso(field, &text)).await;
            refused(&stack, "/v1/isos", network(field, &json!(text))).await;
        }
        refused(&stack, "/v1/isos", network("url", &json!(text))).await;
        refused(&stack, "/v1/isos", network("url", &json!(format!("https://h/{text}")))).await;
        for field in ["name", "url", "description"] {
            refused(&stack, "/v1/hosts", host(field, &text)).await;
        }
    }
    for name in NO_NAMES {
        refused(&stack, "/v1/images", image("name", name)).await;
        refused(&stack, "/v1/isos", iso("name", name)).await;
        refused(&stack, "/v1/hosts", host("name", name)).await;
    }
    for uri in ["file:///etc/passwd", "relative", "ftp://x/y", "nbd:unix:/x"] {
        refused(&stack, "/v1/images", image("uri", uri)).await;
        refused(&stack, "/v1/isos", iso("path", uri)).await;
    }
    for url in [
        "http://u:p@iso.test/x.iso",
        "https://iso.test/x.iso?t=1",
        "https://iso.test/",
        "/srv/x.iso",
    ] {
        refused(&stack, "/v1/isos", network("url", &json!(url))).await;
    }
    refused(&stack, "/v1/isos", network("path", &json!("/srv/iso/x.iso"))).await;
    refused(&stack, "/v1/isos", network("tls_verify", &json!("no"))).await;
    refused(&stack, "/v1/isos", json!({"name": "i"})).await;
    refused(&stack, "/v1/isos", json!({"name": "i", "path": "/i", "tls_verify": false})).await;
    let plain = json!({"name": "i", "url": "http://iso.test/i.iso", "tls_verify": true});
    refused(&stack, "/v1/isos", plain).await;
    for path in ["/v1/images", "/v1/isos", "/v1/hosts"] {
        assert_eq!(stack.call(Role::Viewer, Method::GET, path, None).await.1, json!([]));
    }
    // What only looks odd is kept as it is.
    for text in ["</x>&amp;", "{{ 7*7 }}", "\u{5e9}\u{5dc}\u{5d5}\u{5dd} \u{4f60}\u{597d}"] {
        let body = json!({"name": "odd", "path": "/i", "description": text});
        let (status, kept) = stack.call(Role::Admin, Method::POST, "/v1/isos", Some(body)).await;
        assert_eq!((status, &kept["description"]), (201, &json!(text)));
        assert_eq!(stack.call(Role::Admin, Method::DELETE, "/v1/isos/odd", None).await.0, 204);
    }
}

#[actix_web::test]
async fn guests_and_devices_take_no_hostile_names() {
    let (stack, vm) = Stack::with_guest().await;
    let guests = "/v1/hosts/host01/vms";
    let here = |rest: &str| format!("{guests}/{vm}{rest}");
    let long = "x".repeat(5000);
    for name in NO_NAMES.into_iter().chain([&*long, "a\0b", "\u{202e}x"]) {
        for field in ["name", "template", "cpu_model", "machine"] {
            let mut body = json!({"name": "web1"});
            body[field] = json!(name);
            refused(&stack, guests, body).await;
        }
        for field in ["arch", "firmware", "graphics", "seed_mode"] {
            let mut body = json!({"name": "web1"});
            body[field] = json!(name);
            refused(&stack, guests, body).await;
        }
        for (rest, field) in [
            ("/disks", "device"),
            ("/disks", "gold"),
            ("/disks", "size"),
            ("/nics", "device"),
            ("/nics", "mac"),
            ("/cdroms", "device"),
            ("/cdroms", "iso"),
            ("/media/sda", "iso"),
        ] {
            let mut body = match rest {
                "/disks" => json!({"device": "local-disk", "size": "1G"}),
                "/nics" => json!({"device": "net-br-ext"}),
                "/cdroms" => json!({"device": "cdrom"}),
                _ => json!({}),
            };
            body[field] = json!(name);
            refused(&stack, &here(rest), body).await;
        }
    }
    for size in ["10GG", "-1", "1.5G", "0", "65T", "1e3", "0x10", "G", "99999999999999999999"] {
        refused(&stack, &here("/disks"), json!({"device": "local-disk", "size": size})).await;
    }
    for target in ["vd", "xda", "vda%00", "..%2fx", "VDA", "52:54:00"] {
        let path = here(&format!("/devices/{target}"));
        let (status, answer) = stack.call(Role::Operator, Method::DELETE, &path, None).await;
        assert_eq!(status, 422, "{target} {answer}");
    }
    let unknown = format!("{guests}/{}/start", VmId::new());
    assert_eq!(stack.call(Role::Operator, Method::POST, &unknown, None).await.0, 404);
    assert!(stack.host.lock().unwrap().works.is_empty());
}

#[actix_web::test]
async fn bodies_that_are_none_are_told_from_bodies_with_bad_values() {
    let (stack, _) = Stack::with_guest().await;
    let send = async |kind: &str, body: Vec<u8>| {
        let request = stack.request(Method::POST, "/v1/isos").bearer_auth(stack.token(Role::Admin));
        let answer = request.header("content-type", kind).body(body).send().await.unwrap();
        crate::fake::read(answer).await.0
    };
    let json = "application/json";
    assert_eq!(send(json, b"{\"name\": ".to_vec()).await, 400);
    assert_eq!(send(json, b"\xff\xfe".to_vec()).await, 400);
    assert_eq!(send("text/plain", b"{}".to_vec()).await, 400);
    assert_eq!(send(json, b"[]".to_vec()).await, 422);
    // Fields in their order would be enough for serde.
    assert_eq!(send(json, b"[\"i\", \"/i\"]".to_vec()).await, 422);
    assert_eq!(send(json, b"{\"name\":\"i\",\"path\":\"/i\"}".to_vec()).await, 201);
    assert_eq!(
        send(json, b"{\"name\":\"i\",\"path\":\"/i\",\"owner\":\"me\"}".to_vec()).await,
        422
    );
    assert_eq!(send(json, vec![b' '; 2 << 20]).await, 413);
    let deep = format!("{}{}", "[".repeat(10_000), "]".repeat(10_000));
    assert_eq!(send(json, deep.into_bytes()).await, 422);
}
