//! Changes to a guest that exists, on both faces.

use reqwest::Method;
use serde_json::{Value, json};
use vmmgr_common::api::operation::Work;
use vmmgr_common::ids::VmId;

use crate::auth::Role;
use crate::fake::Stack;

async fn operator(stack: &Stack, method: Method, path: &str, body: Option<Value>) -> (u16, Value) {
    stack.call(Role::Operator, method, path, body).await
}

fn works(stack: &Stack) -> Vec<Value> {
    let host = stack.host.lock().unwrap();
    let mut works: Vec<Value> =
        host.works.iter().map(|work| serde_json::to_value(work).unwrap()).collect();
    for work in &mut works {
        work.as_object_mut().unwrap().remove("vm");
    }
    works
}

#[actix_web::test]
async fn a_change_of_what_was_read_is_refused_when_it_was_changed_since() {
    let (stack, vm) = Stack::with_guest().await;
    let path = format!("/v1/hosts/host01/vms/{vm}");
    let tag = async || {
        let answer = stack.send(Role::Viewer, Method::GET, &path, None).await;
        answer.headers()["etag"].to_str().unwrap().to_owned()
    };
    let change = async |tags: &str, text: &str| {
        let request = stack.request(Method::PATCH, &path).bearer_auth(stack.token(Role::Operator));
        let request = request.header("if-match", tags).json(&json!({"description": text}));
        let (status, body) = crate::fake::read(request.send().await.unwrap()).await;
        (status, body["code"].as_str().unwrap_or_default().to_owned())
    };
    let first = tag().await;
    assert_eq!(tag().await, first);
    stack.host.lock().unwrap().domains.get_mut(&vm).unwrap()["cpu_time_ns"] = json!(8);
    assert_eq!(tag().await, first, "a guest that runs is not changed by that");
    assert_eq!(change(&first, "one").await.0, 200);
    assert_ne!(tag().await, first);
    let weak = format!("W/{}", tag().await);
    for stale in [&*first, &*weak, "\"\""] {
        assert_eq!(change(stale, "two").await, (412, "precondition_failed".into()), "{stale}");
    }
    for bad in ["nonsense", "", "\"a\" b", "\\:"] {
        assert_eq!(change(bad, "two").await, (400, "malformed_request".into()), "{bad}");
    }
    assert_eq!(works(&stack).len(), 1, "what is refused does not arrive");
    assert_eq!(change(&format!("{first}, {}", tag().await), "two").await.0, 200);
    assert_eq!(change("*", "three").await.0, 200);
    assert_eq!(works(&stack)[1]["versions"].as_array().unwrap().len(), 2, "the host looks again");
}

#[actix_web::test]
async fn the_v1_verbs_become_work() {
    let (stack, vm) = Stack::with_guest().await;
    let at = |rest: &str| format!("/v1/hosts/host01/vms/{vm}{rest}?wait_ms=5000");
    let change = json!({"vcpus": 2, "memory_mib": 512, "description": "d", "autostart": true,
        "metadata": {"owner": "me", "old": null}});
    let calls = [
        (Method::PATCH, "", Some(change.clone())),
        (Method::POST, "/snapshots", Some(json!({"name": "s2", "description": "x"}))),
        (Method::POST, "/snapshots/s1/revert", None),
        (Method::DELETE, "/snapshots/s1", None),
        (Method::PATCH, "/disks/vda", Some(json!({"size": "2G"}))),
        (Method::PUT, "/seed", Some(json!({"hostname": "web2"}))),
        (Method::POST, "/reseed", Some(json!({"new_instance": true}))),
        (Method::POST, "/suspend", None),
        (Method::POST, "/resume", None),
        (Method::POST, "/reboot", None),
    ];
    for (method, rest, body) in calls {
        let (status, answer) = operator(&stack, method, &at(rest), body).await;
        assert_eq!(status, 200, "{rest}: {answer}");
    }
    let expected = [
        json!({"verb": "configure", "change": change}),
        json!({"verb": "create_snapshot", "snapshot": {"name": "s2", "description": "x"}}),
        json!({"verb": "revert_snapshot", "name": "s1"}),
        json!({"verb": "delete_snapshot", "name": "s1"}),
        json!({"verb": "resize_disk", "target": "vda", "size": "2048M"}),
        json!({"verb": "reseed", "seed": {"hostname": "web2"}, "new_instance": false}),
        json!({"verb": "reseed", "new_instance": true}),
        json!({"verb": "suspend"}),
        json!({"verb": "resume"}),
        json!({"verb": "reboot"}),
    ];
    assert_eq!(works(&stack), expected);
    let get = async |rest: &str| {
        let path = format!("/v1/hosts/host01/vms/{vm}{rest}");
        stack.call(Role::Viewer, Method::GET, &path, None).await
    };
    assert_eq!(get("/snapshots").await.1[0]["name"], "s1");
    assert_eq!(get("/disks/vda").await.1["capacity_bytes"], 1_u64 << 30);
    assert_eq!(get("/nics/52:54:00:00:00:01/stats").await.1["tx_bytes"], 3);
}

#[actix_web::test]
async fn bad_input_is_refused_and_becomes_no_work() {
    let (stack, vm) = Stack::with_guest().await;
    let at = |rest: &str| format!("/v1/hosts/host01/vms/{vm}{rest}");
    let bad = [
        (Method::PATCH, "", json!({"vcpu": 1})),
        (Method::PATCH, "", json!({"vcpus": "many"})),
        (Method::PATCH, "", json!({"record": {"tenant": "x"}})),
        (Method::POST, "/snapshots", json!({"name": "../x"})),
        (Method::POST, "/snapshots", json!({})),
        (Method::PATCH, "/disks/vda", json!({"size": "10GG"})),
        (Method::PATCH, "/disks/52:54:00:00:00:01", json!({"size": "2G"})),
        (Method::DELETE, "/snapshots/a%2Fb", json!({})),
        (Method::PUT, "/seed", json!({"hostnam": "x"})),
        (Method::POST, "/reseed", json!({"instance": 3})),
        (Method::GET, "/nics/vda/stats", json!({})),
        (Method::GET, "/disks/xyz", json!({})),
    ];
    for (method, rest, body) in bad {
        let (status, answer) = operator(&stack, method, &at(rest), Some(body)).await;
        assert_eq!(status, 422, "{rest}: {answer}");
    }
    for (method, rest) in
        [(Method::PATCH, ""), (Method::POST, "/snapshots"), (Method::POST, "/suspend")]
    {
        let (status, _) = stack.call(Role::Viewer, method, &at(rest), Some(json!({}))).await;
        assert_eq!(status, 403, "{rest}");
    }
    assert!(works(&stack).is_empty());
}

#[actix_web::test]
async fn the_compat_verbs_answer_in_the_seed_s_shapes() {
    let (stack, vm) = Stack::with_guest().await;
    let at = |verb: &str, query: &str| format!("/vm/{verb}/host01/{vm}{query}");
    let get =
        async |verb: &str, query: &str| operator(&stack, Method::GET, &at(verb, query), None).await;
    let (status, size) = get("blksize", "?dev=vda").await;
    assert_eq!((status, &size["dev"], &size["size"]), (200, &json!("vda"), &json!("1024MiB")));
    let (_, net) = get("netstat", "?dev=52:54:00:00:00:01").await;
    assert_eq!(net["stats"], json!({"rx": 1, "tx": 3}), "{net}");
    let (_, list) = get("snapshot", "").await;
    assert_eq!(
        (&list["num"], &list["names"], &list["current"]),
        (&json!(1), &json!(["s1"]), &json!("s1"))
    );
    for (verb, query) in [
        ("desc", "?vm_desc=%E6%B5%8B"),
        ("setmem", "?vm_ram_mb=512"),
        ("setcpu", "?vm_vcpus=2"),
        ("revert_snapshot", "?name=s1"),
        ("delete_snapshot", "?name=s1"),
    ] {
        let (status, answer) = get(verb, query).await;
        assert_eq!((status, &answer["result"]), (200, &json!("OK")), "{verb}: {answer}");
    }
    let body = json!({"owner": "me", "count": 3, "gone": null, "vm_create": "x"});
    let (_, answer) = operator(&stack, Method::POST, &at("metadata", ""), Some(body)).await;
    assert_eq!(answer["warn"], "no metadata iso regenerate", "{answer}");
    let (_, made) = operator(&stack, Method::POST, &at("snapshot", "?name=s2"), None).await;
    assert_eq!((&made["result"], &made["num"]), (&json!("OK"), &json!(1)), "{made}");
    let changes: Vec<Value> = works(&stack).iter().map(|work| work["change"].clone()).collect();
    assert_eq!(changes[0], json!({"description": "测"}));
    assert_eq!(changes[5], json!({"metadata": {"count": "3", "gone": null, "owner": "me"}}));
}

#[actix_web::test]
async fn bad_compat_input_keeps_the_envelope_and_becomes_no_work() {
    let (stack, vm) = Stack::with_guest().await;
    for (verb, query, status) in [
        ("blksize", "", 422),
        ("blksize", "?dev=vda&dev=vdb", 400),
        ("blksize", "?dev=../x", 422),
        ("netstat", "?dev=vda", 422),
        ("setmem", "?vm_ram_mb=lots", 422),
        ("setmem", "?vm_ram_mb=-1", 422),
        ("setcpu", "", 422),
        ("desc", "", 422),
        ("revert_snapshot", "", 422),
        ("delete_snapshot", "?name=a/b", 422),
    ] {
        let path = format!("/vm/{verb}/host01/{vm}{query}");
        let (got, answer) = operator(&stack, Method::GET, &path, None).await;
        assert_eq!((got, &answer["result"]), (status, &json!("ERR")), "{verb}{query}: {answer}");
    }
    let path = format!("/vm/metadata/host01/{vm}");
    for body in [json!({"a": {"b": 1}}), json!({"a": [1]})] {
        assert_eq!(operator(&stack, Method::POST, &path, Some(body)).await.0, 422);
    }
    let missing = format!("/vm/setcpu/host01/{}?vm_vcpus=1", VmId::new());
    assert_eq!(operator(&stack, Method::GET, &missing, None).await.0, 404);
    let verbs: Vec<&str> = stack.host.lock().unwrap().works.iter().map(Work::verb).collect();
    assert!(verbs.is_empty(), "{verbs:?}");
}
