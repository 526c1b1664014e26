use reqwest::Method;
use serde_json::{Value, json};
use vmmgr_common::api::domain::{Firmware, SeedMode};
use vmmgr_common::api::operation::Work;
use vmmgr_common::error::{ErrorCode, Problem};
use vmmgr_common::ids::VmId;

use crate::auth::Role;
use crate::fake::Stack;

async fn get(stack: &Stack, path: &str) -> (u16, Value) {
    stack.call(Role::Operator, Method::GET, path, None).await
}

async fn post(stack: &Stack, path: &str, body: Value) -> (u16, Value) {
    stack.call(Role::Operator, Method::POST, path, Some(body)).await
}

fn last_work(stack: &Stack) -> Work {
    stack.host.lock().unwrap().works.last().unwrap().clone()
}

#[actix_web::test]
async fn the_template_lists_are_bare_arrays_with_the_seed_s_keys() {
    let (stack, _) = Stack::with_guest().await;
    let (status, hosts) = get(&stack, "/tpl/host/").await;
    assert_eq!(status, 200);
    for key in ["name", "url", "arch", "ipaddr", "active", "inactive", "desc", "last_modified"] {
        assert!(hosts[0].get(key).is_some(), "{key} in {hosts}");
    }
    assert_eq!((&hosts[0]["name"], &hosts[0]["ipaddr"]), (&json!("host01"), &json!("127.0.0.1")));
    let (_, devices) = get(&stack, "/tpl/device/host01").await;
    assert_eq!(devices[0]["name"], "local-disk");
    assert_eq!((&devices[0]["devtype"], &devices[1]["devtype"]), (&json!("disk"), &json!("net")));
    let image = json!({"name": "debian12", "arch": "x86_64", "uri": "/images/d.qcow2"});
    stack.call(Role::Admin, Method::POST, "/v1/images", Some(image)).await;
    let (_, golds) = get(&stack, "/tpl/gold/host01").await;
    assert_eq!(
        (&golds[0]["name"], &golds[0]["tpl"]),
        (&json!("debian12"), &json!("/images/d.qcow2"))
    );
    assert_eq!(get(&stack, "/tpl/iso/").await, (200, json!([])));
}

#[actix_web::test]
async fn the_fleet_list_has_json_in_strings_and_a_host_s_list_has_not() {
    let (stack, vm) = Stack::with_guest().await;
    let (_, fleet) = get(&stack, "/vm/list/").await;
    assert_eq!((&fleet[0]["kvmhost"], &fleet[0]["uuid"]), (&json!("host01"), &json!(vm)));
    assert!(fleet[0]["disks"].is_string() && fleet[0]["mdconfig"].is_string());
    assert!(fleet[0].get("state").is_none());
    let (_, host) = get(&stack, "/vm/list/host01").await;
    assert_eq!(
        (&host[0]["state"], &host[0]["disks"][0]["dev"]),
        (&json!("SHUTOFF"), &json!("vda"))
    );
    let (_, one) = get(&stack, &format!("/vm/list/host01/{vm}")).await;
    assert_eq!((&one["uuid"], &one["curmem"]), (&json!(vm), &json!(1_048_576)));
}

#[actix_web::test]
async fn addresses_are_keyed_by_mac_on_both_routes() {
    let (stack, vm) = Stack::with_guest().await;
    for path in [format!("/vm/ipaddr/host01/{vm}"), format!("/vm/list/host01/{vm}/get_ipaddr")] {
        let (status, body) = get(&stack, &path).await;
        assert_eq!((status, &body["result"]), (200, &json!("OK")));
        assert_eq!(body["52:54:00:00:00:01"]["addrs"][0]["addr"], "10.0.0.2");
    }
}

#[actix_web::test]
async fn the_readme_s_create_line_makes_a_guest() {
    let (stack, _) = Stack::with_guest().await;
    let body = json!({"vm_arch": "x86_64", "vm_uefi": "/usr/share/OVMF/OVMF_CODE.fd", "vm_vcpus": 2,
        "vm_ram_mb": "2048", "vm_desc": "测试VM", "vm_ip": "192.168.168.2/32", "vm_gw": "192.168.168.1",
        "enum": "NOCLOUD", "vm_uuid": "mine", "my_variable": "x"});
    let (status, answer) = post(&stack, "/vm/create/host01", body).await;
    assert_eq!((status, &answer["result"]), (200, &json!("OK")), "{answer}");
    let Work::Create { domain } = last_work(&stack) else { panic!("no create") };
    assert_eq!(answer["uuid"], json!(domain.id));
    assert_eq!((domain.vcpus, domain.memory_mib, domain.firmware), (2, 2048, Firmware::Uefi));
    assert_eq!(domain.seed_mode, SeedMode::Http);
    assert_eq!(domain.seed.network.unwrap().address, "192.168.168.2/32");
    assert_eq!(domain.variables["my_variable"], "x");
    assert_eq!(domain.record.creator, "ada");
}

#[actix_web::test]
async fn a_malformed_create_changes_nothing() {
    let (stack, _) = Stack::with_guest().await;
    for body in [
        json!({"vm_vcpus": "two"}),
        json!({"vm_name": "../x"}),
        json!({"vm_arch": "mips"}),
        json!({"enum": "FLOPPY"}),
        json!("text"),
    ] {
        let (status, answer) = post(&stack, "/vm/create/host01", body.clone()).await;
        assert_eq!((status, &answer["result"]), (422, &json!("ERR")), "{body}: {answer}");
        assert_eq!(answer["name"], "create");
    }
    assert!(stack.host.lock().unwrap().works.is_empty());
}

#[actix_web::test]
async fn only_a_plain_yes_forces() {
    let (stack, vm) = Stack::with_guest().await;
    for (query, forced) in [
        ("", false),
        ("?force=", false),
        ("?force=false", false),
        ("?force=0", false),
        ("?force=true", true),
        ("?force=1", true),
        ("?force=yes", true),
    ] {
        let (status, body) = get(&stack, &format!("/vm/stop/host01/{vm}{query}")).await;
        assert_eq!((status, &body["desc"]), (200, &json!(format!("{vm} stop ok"))), "{query}");
        assert_eq!(matches!(last_work(&stack), Work::Destroy { .. }), forced, "{query}");
    }
    let count = stack.host.lock().unwrap().works.len();
    for query in ["?force=maybe", "?force=true&force=false", "?force=true&%66orce=false"] {
        let (status, _) = get(&stack, &format!("/vm/stop/host01/{vm}{query}")).await;
        assert!((400..500).contains(&status), "{query}: {status}");
    }
    assert_eq!(stack.host.lock().unwrap().works.len(), count);
}

#[actix_web::test]
async fn attaching_streams_lines_and_ends_with_the_envelope() {
    let (stack, vm) = Stack::with_guest().await;
    let path = format!("/vm/attach_device/host01/{vm}?dev=local-disk");
    let body = Some(json!({"size": "10G"}));
    let answer = stack.send(Role::Operator, Method::POST, &path, body).await;
    assert_eq!(answer.status(), 200);
    let text = answer.text().await.unwrap();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines[0], "volume made");
    let last: Value = serde_json::from_str(lines.last().unwrap()).unwrap();
    assert_eq!((&last["result"], &last["target"]), (&json!("OK"), &json!("vdb")));
}

#[actix_web::test]
async fn what_cannot_be_attached_is_refused_before_anything_begins() {
    let (stack, vm) = Stack::with_guest().await;
    for (query, body, expected) in [
        ("?dev=local-disk", json!({}), 422),
        ("?dev=local-disk", json!({"size": "10GG"}), 422),
        ("?dev=local-disk", json!({"size": 10, "gold": "unknown"}), 404),
        ("?dev=tape", json!({}), 404),
        ("", json!({}), 422),
        ("?dev=net-br-ext&dev=local-disk", json!({}), 400),
    ] {
        let path = format!("/vm/attach_device/host01/{vm}{query}");
        let (status, answer) = post(&stack, &path, body).await;
        assert_eq!((status, &answer["result"]), (expected, &json!("ERR")), "{query}: {answer}");
    }
    assert!(stack.host.lock().unwrap().works.is_empty());
}

#[actix_web::test]
async fn detach_and_cdrom_take_both_forms() {
    let (stack, vm) = Stack::with_guest().await;
    for form in ["/vda", "?dev=52:54:00:00:00:01"] {
        let path = format!("/vm/detach_device/host01/{vm}{form}");
        let (status, body) = post(&stack, &path, json!({})).await;
        assert_eq!((status, &body["result"]), (200, &json!("OK")), "{form}: {body}");
        assert!(matches!(last_work(&stack), Work::Detach { .. }));
    }
    let iso = json!({"name": "centos7", "path": "/srv/iso/c.iso"});
    stack.call(Role::Admin, Method::POST, "/v1/isos", Some(iso)).await;
    for form in ["/sda", "?dev=sda"] {
        let path = format!("/vm/cdrom/host01/{vm}{form}");
        let (status, body) = post(&stack, &path, json!({"isoname": "centos7"})).await;
        assert_eq!(status, 200, "{form}: {body}");
        assert!(matches!(last_work(&stack), Work::ChangeMedium { .. }));
    }
}

#[actix_web::test]
async fn failures_have_the_envelope_and_an_honest_status() {
    let (stack, vm) = Stack::with_guest().await;
    let (status, body) = get(&stack, &format!("/vm/start/host01/{}", VmId::new())).await;
    assert_eq!((status, &body["result"], &body["name"]), (404, &json!("ERR"), &json!("start")));
    assert_eq!(get(&stack, &format!("/vm/start/host09/{vm}")).await.0, 404);
    stack.host.lock().unwrap().fail =
        Some(Problem::new(ErrorCode::HypervisorFailed, "already running (code 55)"));
    let (status, body) = get(&stack, &format!("/vm/start/host01/{vm}")).await;
    assert_eq!((status, &body["code"]), (502, &json!(55)), "{body}");
    assert_eq!(body["desc"], "already running (code 55)");
}
