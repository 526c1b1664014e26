//! Defects of the described system, by name, that these routes must never have again.

use reqwest::Method;
use serde_json::{Value, json};
use vmmgr_common::api::disk::{Attachment, DiskSize};
use vmmgr_common::api::operation::Work;
use vmmgr_common::ids::VmId;

use crate::auth::Role;
use crate::fake::{Stack, read};

async fn attach(stack: &Stack, vm: VmId, dev: &str, body: Value) -> (u16, String) {
    let path = format!("/vm/attach_device/host01/{vm}?dev={dev}");
    let answer = stack.send(Role::Operator, Method::POST, &path, Some(body)).await;
    (answer.status().as_u16(), answer.text().await.unwrap())
}

/// The action put a `G` behind whatever was sent, so that the readme's own line failed.
#[actix_web::test]
async fn a_size_with_its_unit_and_one_without_are_the_same_size() {
    let (stack, vm) = Stack::with_guest().await;
    for size in [json!("10G"), json!("10"), json!(10)] {
        let (status, text) = attach(&stack, vm, "local-disk", json!({"size": size})).await;
        assert_eq!(status, 200, "{size}: {text}");
        let work = stack.host.lock().unwrap().works.last().unwrap().clone();
        let Work::Attach { attachment: Attachment::Disk { size: taken, .. }, .. } = work else {
            panic!("{work:?}")
        };
        assert_eq!(taken, serde_json::from_value::<DiskSize>(json!("10G")).unwrap(), "{size}");
    }
}

/// A body without `device` failed after the device was attached.
#[actix_web::test]
async fn an_attach_without_device_in_its_body_ends_well_and_once() {
    let (stack, vm) = Stack::with_guest().await;
    for dev in ["net-br-ext", "cdrom"] {
        let (status, text) = attach(&stack, vm, dev, json!({})).await;
        let last: Value = serde_json::from_str(text.lines().last().unwrap()).unwrap();
        assert_eq!((status, &last["result"]), (200, &json!("OK")), "{text}");
    }
    assert_eq!(stack.host.lock().unwrap().works.len(), 2);
}

/// A GET that a foreign page makes the browser send carries its cookies, and nothing else.
#[actix_web::test]
async fn a_cookie_opens_no_route_that_changes_something() {
    let (stack, vm) = Stack::with_guest().await;
    let token = stack.token(Role::Admin);
    for verb in ["start", "stop", "reset", "delete"] {
        for name in ["token", "session", "vmmgr", "Authorization"] {
            let path = format!("/vm/{verb}/host01/{vm}");
            let request =
                stack.request(Method::GET, &path).header("cookie", format!("{name}={token}"));
            let (status, answer) = read(request.send().await.unwrap()).await;
            assert_eq!((status, &answer["result"]), (401, &json!("ERR")), "{verb} {name}");
        }
    }
    let path = format!("/vm/start/host01/{vm}?token={token}");
    assert_eq!(read(stack.request(Method::GET, &path).send().await.unwrap()).await.0, 401);
    assert!(stack.host.lock().unwrap().works.is_empty());
}

/// The address of a console held a password and a credential of a day.
#[actix_web::test]
async fn the_address_of_a_console_holds_no_password_and_ends_soon() {
    let (stack, vm) = Stack::with_guest().await;
    stack.host.lock().unwrap().domains.get_mut(&vm).unwrap()["state"] = json!("running");
    for verb in ["display", "console"] {
        let path = format!("/vm/{verb}/host01/{vm}");
        let (status, answer) = stack.call(Role::Operator, Method::GET, &path, None).await;
        assert_eq!(status, 200, "{answer}");
        let address = answer["display"].as_str().unwrap();
        assert!(address.contains("?password=&path="), "{address}");
        let expire = chrono::DateTime::parse_from_rfc3339(answer["expire"].as_str().unwrap());
        let left = expire.unwrap().timestamp() - chrono::Utc::now().timestamp();
        assert!(left <= 30, "{left} s");
    }
}

/// The address went back to the pool before anybody knew whether the guest was gone.
#[actix_web::test]
async fn a_delete_that_fails_gives_no_address_back() {
    let (stack, _) = Stack::with_guest().await;
    let row = json!({"cidr": "10.0.0.7/32", "gateway": "10.0.0.1"});
    let (status, _) = stack.call(Role::Admin, Method::POST, "/v1/addresses", Some(row)).await;
    assert_eq!(status, 201);
    let body = json!({"vm_arch": "x86_64", "vm_ip": "10.0.0.7/32", "vm_gw": "10.0.0.1"});
    let (status, made) =
        stack.call(Role::Operator, Method::POST, "/vm/create/host01", Some(body)).await;
    assert_eq!(status, 200, "{made}");
    let refusal = vmmgr_common::error::Problem::new(
        vmmgr_common::error::ErrorCode::WrongState,
        "a disk is in use",
    );
    stack.host.lock().unwrap().fail = Some(refusal);
    let path = format!("/vm/delete/host01/{}", made["uuid"].as_str().unwrap());
    assert_ne!(stack.call(Role::Operator, Method::GET, &path, None).await.0, 200);
    let (_, free) = stack.call(Role::Operator, Method::GET, "/vm/freeip/", None).await;
    assert_eq!(free["cidr"], "N/A", "{free}");
}
