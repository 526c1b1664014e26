use std::collections::BTreeSet;

use reqwest::Method;
use serde_json::{Value, json};
use vmmgr_common::error::{ErrorCode, Problem};
use vmmgr_common::ids::VmId;

use super::*;
use crate::auth::Role;
use crate::fake::Stack;

async fn admin(stack: &Stack, method: Method, path: &str, body: Option<Value>) -> (u16, Value) {
    stack.call(Role::Admin, method, path, body).await
}

async fn add(stack: &Stack, range: Value) {
    let (status, body) = admin(stack, Method::POST, "/v1/addresses", Some(range)).await;
    assert_eq!(status, 201, "{body}");
}

async fn create(stack: &Stack, address: &str) -> (u16, Value) {
    let body = json!({"vm_ip": address, "vm_gw": "10.0.0.1"});
    stack.call(Role::Operator, Method::POST, "/vm/create/host01", Some(body)).await
}

async fn free(stack: &Stack) -> u64 {
    let (_, ranges) = admin(stack, Method::GET, "/v1/addresses", None).await;
    ranges.as_array().unwrap().iter().map(|range| range["free"].as_u64().unwrap()).sum()
}

#[test]
fn rows_networks_and_parts_of_networks_are_ranges() {
    let parse = |body: Value| serde_json::from_value::<NewRange>(body).unwrap().parse();
    let size = |body: Value| parse(body).unwrap().addresses(0).count();
    assert_eq!(size(json!({"cidr": "192.168.168.2/32", "gateway": "192.168.168.1"})), 1);
    assert_eq!(size(json!({"cidr": "10.0.0.7/24", "gateway": "10.0.0.1"})), 1);
    assert_eq!(size(json!({"cidr": "10.0.0.0/24", "gateway": "10.0.0.1"})), 253);
    assert_eq!(size(json!({"cidr": "10.0.0.0/30"})), 2);
    assert_eq!(size(json!({"cidr": "10.0.0.0/31"})), 1);
    assert_eq!(size(json!({"cidr": "10.0.0.0/24", "first": "10.0.0.9", "last": "10.0.0.11"})), 3);
    assert_eq!(size(json!({"cidr": "fd00::5/64"})), 1);
    for bad in [
        json!({"cidr": "10.0.0.7"}),
        json!({"cidr": "10.0.0.7/33"}),
        json!({"cidr": "ten/8"}),
        json!({"cidr": "10.0.0.0/8"}),
        json!({"cidr": "fd00::/64"}),
        json!({"cidr": "10.0.0.0/24", "first": "10.0.1.1", "last": "10.0.1.2"}),
        json!({"cidr": "10.0.0.0/24", "first": "10.0.0.9", "last": "10.0.0.8"}),
        json!({"cidr": "10.0.0.0/24", "first": "10.0.0.9"}),
        json!({"cidr": "10.0.0.7/24", "gateway": "fd00::1"}),
    ] {
        assert!(parse(bad.clone()).is_err(), "{bad}");
    }
}

#[actix_web::test]
async fn sixty_four_writers_share_what_there_is_and_no_address_is_given_twice() {
    for n in [1_usize, 7, 63, 64, 80] {
        let stack = Stack::start().await;
        let last = format!("10.0.0.{}", 10 + n - 1);
        add(&stack, json!({"cidr": "10.0.0.0/24", "first": "10.0.0.10", "last": last})).await;
        let writer = async || loop {
            let (net, _) = stack.app.free_address().await.unwrap()?;
            let request = request(&net.to_string());
            let host = HostId::parse("host01").unwrap();
            match stack.app.reserve_for(&host, &request).await {
                Ok(()) => return Some(net.addr()),
                Err(problem) => assert_eq!(problem.status, 409, "{problem}"),
            }
        };
        let all = futures_util::future::join_all((0..64).map(|_| writer())).await;
        let given: Vec<IpAddr> = all.into_iter().flatten().collect();
        assert_eq!(given.len(), n.min(64), "of {n}");
        assert_eq!(given.iter().collect::<BTreeSet<_>>().len(), given.len());
    }
}

fn request(address: &str) -> OperationRequest {
    let domain = json!({"id": VmId::new(), "name": "srv", "arch": "x86_64", "vcpus": 1,
        "vcpus_max": 1, "memory_mib": 512, "memory_mib_max": 512,
        "seed": {"network": {"address": address}}});
    let domain = Box::new(serde_json::from_value(domain).unwrap());
    OperationRequest { id: OperationId::new(), work: Work::Create { domain } }
}

#[actix_web::test]
async fn an_address_is_reserved_with_the_operation_and_free_after_the_guest_is_proven_gone() {
    let (stack, _) = Stack::with_guest().await;
    add(&stack, json!({"cidr": "10.0.0.7/24", "gateway": "10.0.0.1"})).await;
    let (_, offered) = stack.call(Role::Viewer, Method::GET, "/vm/freeip/", None).await;
    assert_eq!(
        (&offered["cidr"], &offered["gateway"]),
        (&json!("10.0.0.7/24"), &json!("10.0.0.1"))
    );
    let (status, made) = create(&stack, "10.0.0.7/24").await;
    assert_eq!(status, 200, "{made}");
    let vm = made["uuid"].as_str().unwrap().to_owned();
    let (_, none) = stack.call(Role::Viewer, Method::GET, "/vm/freeip/", None).await;
    assert_eq!((&none["result"], &none["cidr"]), (&json!("OK"), &json!("N/A")));
    let (status, taken) = create(&stack, "10.0.0.7/24").await;
    assert_eq!((status, &taken["result"]), (409, &json!("ERR")), "{taken}");
    assert!(taken["desc"].as_str().unwrap().contains(&vm), "{taken}");
    let gone = admin(&stack, Method::DELETE, "/v1/addresses/10.0.0.7", None).await;
    assert_eq!(gone.0, 409, "a range in use stays");

    // The deletion fails: the guest may be there still, and so is its address.
    stack.host.lock().unwrap().fail = Some(Problem::new(ErrorCode::HypervisorFailed, "busy"));
    let delete = format!("/vm/delete/host01/{vm}");
    assert_eq!(stack.call(Role::Operator, Method::POST, &delete, None).await.0, 502);
    assert_eq!(free(&stack).await, 0);
    stack.host.lock().unwrap().fail = None;
    assert_eq!(stack.call(Role::Operator, Method::POST, &delete, None).await.0, 200);
    assert_eq!(free(&stack).await, 1);
    assert_eq!(stack.call(Role::Operator, Method::POST, &delete, None).await.0, 404, "twice");
    assert_eq!(admin(&stack, Method::DELETE, "/v1/addresses/10.0.0.7", None).await.0, 204);
    assert_eq!(admin(&stack, Method::DELETE, "/v1/addresses/10.0.0.7", None).await.0, 404);
}

#[actix_web::test]
async fn a_failed_creation_gives_the_address_back_and_a_doubtful_one_keeps_it() {
    let (stack, _) = Stack::with_guest().await;
    add(&stack, json!({"cidr": "10.0.0.8/24"})).await;
    stack.host.lock().unwrap().fail = Some(Problem::new(ErrorCode::NoSpace, "full"));
    assert_eq!(create(&stack, "10.0.0.8/24").await.0, 507);
    assert_eq!(free(&stack).await, 1);
    stack.host.lock().unwrap().fail = None;
    stack.host.lock().unwrap().refuse = Some(Problem::new(ErrorCode::InvalidValue, "no"));
    assert_eq!(create(&stack, "10.0.0.8/24").await.0, 422);
    assert_eq!(free(&stack).await, 1);
    stack.host.lock().unwrap().refuse = None;
    stack.host.lock().unwrap().stall = true;
    let body = json!({"name": "web", "seed": {"network": {"address": "10.0.0.8/24"}}});
    let path = "/v1/hosts/host01/vms";
    let (status, pending) = stack.call(Role::Operator, Method::POST, path, Some(body)).await;
    assert_eq!((status, free(&stack).await), (202, 0), "{pending}");
    let (_, ranges) = admin(&stack, Method::GET, "/v1/addresses", None).await;
    assert_eq!(ranges[0]["reserved"][0]["operation"], pending["id"]);
}

#[actix_web::test]
async fn what_a_known_guest_has_is_taken_though_no_record_says_so() {
    let (stack, vm) = Stack::with_guest().await;
    // The guest of the fake has 10.0.0.2/24 in its own record.
    add(&stack, json!({"cidr": "10.0.0.0/24", "first": "10.0.0.2", "last": "10.0.0.3"})).await;
    assert_eq!(free(&stack).await, 1);
    let (status, taken) = create(&stack, "10.0.0.2/24").await;
    assert_eq!(status, 409);
    assert!(taken["desc"].as_str().unwrap().contains(&vm.to_string()), "{taken}");
    assert_eq!(create(&stack, "192.168.7.7/24").await.0, 200, "outside the pool");
    let release = "/v1/addresses/10.0.0.2-10.0.0.3/reservations/10.0.0.3";
    assert_eq!(admin(&stack, Method::DELETE, release, None).await.0, 404);
    let overlap = json!({"cidr": "10.0.0.3/24"});
    assert_eq!(admin(&stack, Method::POST, "/v1/addresses", Some(overlap)).await.0, 409);
    for bad in [
        json!({}),
        json!({"cidr": 7}),
        json!({"cidr": "x"}),
        json!({"cidr": "10.9.0.1/24", "owner": "x"}),
    ] {
        assert_eq!(
            admin(&stack, Method::POST, "/v1/addresses", Some(bad.clone())).await.0,
            422,
            "{bad}"
        );
    }
}
