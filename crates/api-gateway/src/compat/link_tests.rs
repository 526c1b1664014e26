//! Tenant links: made on both faces, used in both forms, ended in every way.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use md5::{Digest as _, Md5};
use reqwest::Method;
use serde_json::{Value, json};
use vmmgr_common::api::operation::Work;
use vmmgr_common::ids::{HostId, VmId};

use crate::app::links::LinkWish;
use crate::auth::Role;
use crate::auth::link::LinkToken;
use crate::fake::{LEGACY_KEY, Stack, read};

/// A call without any account.
async fn call(stack: &Stack, method: Method, path: &str, body: Option<Value>) -> (u16, Value) {
    let mut request = stack.request(method, path);
    if let Some(body) = body {
        request = request.json(&body);
    }
    read(request.send().await.unwrap()).await
}

async fn get(stack: &Stack, verb: &str, link: &str) -> (u16, Value) {
    call(stack, Method::GET, &format!("/user/vm/{verb}/{link}"), None).await
}

async fn make(stack: &Stack, vm: VmId, body: Value) -> Value {
    let path = format!("/v1/hosts/host01/vms/{vm}/links");
    let (status, link) = stack.call(Role::Operator, Method::POST, &path, Some(body)).await;
    assert_eq!(status, 201, "{link}");
    link
}

fn text<'a>(link: &'a Value, field: &str) -> &'a str {
    link[field].as_str().unwrap()
}

fn now() -> u64 {
    jsonwebtoken::get_current_timestamp()
}

fn last_work(stack: &Stack) -> Work {
    stack.host.lock().unwrap().works.last().unwrap().clone()
}

fn works(stack: &Stack) -> usize {
    stack.host.lock().unwrap().works.len()
}

#[actix_web::test]
async fn a_link_opens_its_guest_in_both_forms_and_without_an_account() {
    let (stack, vm) = Stack::with_guest().await;
    let epoch = now() + 10 * 86_400;
    let path = format!("/vm/ui/host01/{vm}/{epoch}");
    let (status, made) = stack.call(Role::Operator, Method::GET, &path, None).await;
    assert_eq!(
        (status, &made["desc"], &made["url"]),
        (200, &json!("vmuserinterface"), &json!("/guest.html"))
    );
    assert!(text(&made, "expire").ends_with('Z'));
    let word = text(&made, "token");
    let plain = String::from_utf8(URL_SAFE_NO_PAD.decode(word).unwrap()).unwrap();
    assert!(plain.starts_with(&format!("host01/{vm}?k=")), "the seed's outer form");
    for form in [word, plain.as_str()] {
        let (status, guest) = get(&stack, "list", form).await;
        assert_eq!((status, &guest["uuid"]), (200, &json!(vm)));
        let (status, body) = get(&stack, "start", form).await;
        assert_eq!((status, &body["desc"]), (200, &json!(format!("{vm} start ok"))));
        assert!(matches!(last_work(&stack), Work::Start { .. }));
        assert_eq!(get(&stack, "reset", form).await.0, 200);
    }
    let path = format!("/vm/ctrl_url/host01/{vm}?epoch={epoch}");
    let (status, made) = stack.call(Role::Operator, Method::GET, &path, None).await;
    assert_eq!((status, &made["uuid"]), (200, &json!(vm)));
    let kept = stack.app.store.list(crate::store::Table::Links).await.unwrap();
    assert_eq!(kept.len(), 2);
    let key = plain.split("k=").nth(1).unwrap().split('&').next().unwrap();
    assert!(kept.iter().all(|(digest, record)| !record.contains(key) && !digest.contains(key)));
    let (_, operations) = stack.call(Role::Viewer, Method::GET, "/v1/operations", None).await;
    assert!(text(&operations[0], "user").starts_with("link:"), "{operations}");
}

#[actix_web::test]
async fn stopping_forces_as_the_readme_prints_it_and_as_it_is_said() {
    let (stack, vm) = Stack::with_guest().await;
    let link = make(&stack, vm, json!({})).await;
    let link = text(&link, "path");
    for (method, query, body, forced) in [
        (Method::GET, "", None, false),
        (Method::GET, "&force=true", None, true),
        (Method::GET, "&force=false", None, false),
        (Method::POST, "", Some(json!({})), true),
        (Method::POST, "", None, true),
        (Method::POST, "&force=false", None, false),
        (Method::POST, "", Some(json!({"force": false})), false),
    ] {
        let path = format!("/user/vm/stop/{link}{query}");
        let (status, answer) = call(&stack, method.clone(), &path, body.clone()).await;
        assert_eq!(status, 200, "{method} {query}: {answer}");
        assert_eq!(
            matches!(last_work(&stack), Work::Destroy { .. }),
            forced,
            "{method} {query} {body:?}"
        );
    }
    let count = works(&stack);
    for (query, body) in [
        ("&force=maybe", json!({})),
        ("&force=true&force=true", json!({})),
        ("&force=true", json!({"force": false})),
        ("&power=true", json!({})),
        ("", json!({"force": "yes"})),
        ("", json!([1])),
    ] {
        let path = format!("/user/vm/stop/{link}{query}");
        let (status, answer) = call(&stack, Method::POST, &path, Some(body)).await;
        assert!((400..500).contains(&status) && answer["result"] == "ERR", "{query}: {answer}");
    }
    assert_eq!(works(&stack), count);
}

#[actix_web::test]
async fn wrong_is_403_expired_410_and_the_wrong_method_405() {
    let (stack, vm) = Stack::with_guest().await;
    let good = make(&stack, vm, json!({})).await;
    let good = text(&good, "path");
    let host = HostId::parse("host01").unwrap();
    let wish = LinkWish { verbs: Default::default(), label: String::new(), expires: 0, uses: None };
    let old = LinkToken::mint(host.clone(), vm, now() - 1);
    let (old, _) = stack.app.keep_link("ada", old, wish).await.unwrap();
    for form in [old.text(), old.word()] {
        assert_eq!(get(&stack, "start", &form).await.0, 410);
    }
    assert_eq!(call(&stack, Method::POST, &format!("/user/vm/list/{good}"), None).await.0, 405);
    assert_eq!(
        call(&stack, Method::GET, &format!("/user/vm/cdrom/{good}&dev=sda"), None).await.0,
        405
    );
    let never = LinkToken::mint(host, vm, now() + 60);
    let later = good.replace("&e=1", "&e=2");
    for link in [never.text(), never.word(), later, good.replace("host01", "host02"), String::new()]
    {
        let (status, body) = get(&stack, "start", &link).await;
        assert_eq!((status, &body["result"]), (403, &json!("ERR")), "{link}: {body}");
    }
    for verb in ["delete", "attach_device", "xml", "create", ""] {
        assert_eq!(get(&stack, verb, good).await.0, 403, "{verb}");
    }
    assert_eq!(works(&stack), 0);
}

#[actix_web::test]
async fn another_guest_looks_exactly_like_one_that_does_not_exist() {
    let (stack, vm) = Stack::with_guest().await;
    let link = make(&stack, vm, json!({})).await;
    let other = VmId::new();
    stack.host.lock().unwrap().domains.insert(other, crate::fake::guest(other));
    let mut answers = Vec::new();
    for target in [other, VmId::new()] {
        let path = text(&link, "path").replace(&vm.to_string(), &target.to_string());
        let answer =
            stack.request(Method::GET, &format!("/user/vm/start/{path}")).send().await.unwrap();
        assert_eq!(answer.status(), 403);
        answers.push(answer.bytes().await.unwrap());
    }
    assert_eq!(answers[0], answers[1]);
    assert_eq!(works(&stack), 0);
}

#[actix_web::test]
async fn a_second_reading_of_a_link_opens_nothing() {
    let (stack, vm) = Stack::with_guest().await;
    let link = make(&stack, vm, json!({})).await;
    let (path, word) = (text(&link, "path"), text(&link, "token"));
    let other = VmId::new();
    for bad in [
        format!("{path}&k=AAAA"),
        format!("{path}&%6b=AAAA"),
        format!("{path}&uuid={other}"),
        format!("{path}&host=host01"),
        path.replace("?k=", "?%6b="),
        path.replace("host01/", "host01%2f"),
        path.replace("host01", "%68ost01"),
        format!("{word}?k=AAAA&e=1"),
        format!("{word}%3d"),
    ] {
        let (status, body) = get(&stack, "start", &bad).await;
        assert!(matches!(status, 400 | 403) && body["result"] == "ERR", "{bad}: {status} {body}");
    }
    assert_eq!(works(&stack), 0);
}

#[actix_web::test]
async fn a_link_allows_its_verbs_for_its_number_of_uses_and_until_it_is_revoked() {
    let (stack, vm) = Stack::with_guest().await;
    let wish = json!({"verbs": ["list", "start"], "uses": 2, "label": "for bob", "expires_in_seconds": 60});
    let link = make(&stack, vm, wish).await;
    let path = text(&link, "path");
    assert_eq!(get(&stack, "stop", path).await.0, 403, "not among its verbs");
    for _ in 0..5 {
        assert_eq!(get(&stack, "list", path).await.0, 200, "looking takes no use");
    }
    let start = format!("/user/vm/start/{path}");
    let tries = (0..8).map(|_| call(&stack, Method::POST, &start, None));
    let statuses: Vec<u16> =
        futures_util::future::join_all(tries).await.into_iter().map(|(status, _)| status).collect();
    assert_eq!(statuses.iter().filter(|status| **status == 200).count(), 2, "{statuses:?}");
    assert_eq!(statuses.iter().filter(|status| **status == 410).count(), 6, "{statuses:?}");
    assert_eq!(works(&stack), 2);
    let all = format!("/v1/hosts/host01/vms/{vm}/links");
    let (_, list) = stack.call(Role::Viewer, Method::GET, &all, None).await;
    assert_eq!(
        (&list[0]["label"], &list[0]["used"], list[0].get("token")),
        (&json!("for bob"), &json!(2), None)
    );
    let one = format!("{all}/{}", text(&link, "id"));
    assert_eq!(stack.call(Role::Viewer, Method::DELETE, &one, None).await.0, 403);
    assert_eq!(stack.call(Role::Operator, Method::DELETE, &one, None).await.0, 204);
    assert_eq!(stack.call(Role::Operator, Method::DELETE, &one, None).await.0, 404);
    assert_eq!(get(&stack, "list", path).await.0, 403);
}

#[actix_web::test]
async fn a_link_that_cannot_be_is_not_made() {
    let (stack, vm) = Stack::with_guest().await;
    let path = format!("/v1/hosts/host01/vms/{vm}/links");
    for body in [
        json!({"expires_in_seconds": 0}),
        json!({"expires_in_seconds": 91 * 86_400}),
        json!({"expires_in_seconds": u64::MAX}),
        json!({"uses": 0}),
        json!({"uses": 4_000_000}),
        json!({"verbs": ["delete"]}),
        json!({"verbs": "list"}),
        json!({"label": "a\nb"}),
        json!({"label": "x".repeat(201)}),
        json!({"owner": "me"}),
    ] {
        let (status, answer) =
            stack.call(Role::Operator, Method::POST, &path, Some(body.clone())).await;
        assert_eq!(status, 422, "{body}: {answer}");
    }
    for epoch in
        [(now() - 1).to_string(), (now() + 91 * 86_400).to_string(), "soon".into(), "-1".into()]
    {
        let path = format!("/vm/ui/host01/{vm}/{epoch}");
        let (status, answer) = stack.call(Role::Operator, Method::GET, &path, None).await;
        assert_eq!((status, &answer["result"]), (422, &json!("ERR")), "{epoch}");
    }
    let absent = format!("/v1/hosts/host01/vms/{}/links", VmId::new());
    assert_eq!(stack.call(Role::Operator, Method::POST, &absent, Some(json!({}))).await.0, 404);
    assert!(stack.app.store.list(crate::store::Table::Links).await.unwrap().is_empty());
}

#[actix_web::test]
async fn links_end_with_their_guest() {
    let (stack, vm) = Stack::with_guest().await;
    let link = make(&stack, vm, json!({"uses": 3})).await;
    let path = text(&link, "path");
    assert_eq!(get(&stack, "start", path).await.0, 200);
    let gone =
        stack.call(Role::Operator, Method::GET, &format!("/vm/delete/host01/{vm}"), None).await;
    assert_eq!(gone.0, 200);
    assert_eq!(get(&stack, "list", path).await.0, 403);
    for table in [crate::store::Table::Links, crate::store::Table::LinkUses] {
        assert!(stack.app.store.list(table).await.unwrap().is_empty());
    }
}

#[actix_web::test]
async fn a_tenant_changes_media_by_name_and_sees_no_path() {
    let (stack, vm) = Stack::with_guest().await;
    let iso = json!({"name": "rescue", "path": "/srv/iso/r.iso"});
    stack.call(Role::Admin, Method::POST, "/v1/isos", Some(iso)).await;
    let link = make(&stack, vm, json!({})).await;
    let path = text(&link, "path");
    let (status, isos) = get(&stack, "getiso", path).await;
    assert_eq!((status, &isos[0]["name"]), (200, &json!("rescue")));
    assert!(!isos.to_string().contains("/srv"), "{isos}");
    let url = format!("/user/vm/cdrom/{path}&dev=sda");
    let (status, body) = call(&stack, Method::POST, &url, Some(json!({"isoname": "rescue"}))).await;
    assert_eq!((status, &body["result"]), (200, &json!("OK")), "{body}");
    assert!(matches!(last_work(&stack), Work::ChangeMedium { .. }));
    let unknown = call(&stack, Method::POST, &url, Some(json!({"isoname": "none"}))).await;
    assert_eq!(unknown.0, 404);
    assert_eq!(call(&stack, Method::POST, &url, Some(json!({}))).await.0, 422);
}

#[actix_web::test]
async fn the_readme_s_own_link_is_refused_and_md5_links_need_a_key_of_one_s_own() {
    let (stack, vm) = Stack::with_guest().await;
    let token = "aG9zdDAxLzZmNWQ4YmY2LWQ1ODAtNDk0Ni05NTQxLTEzZmE5OGI0YWNmND9rPWc2S0h1T1A4R0lmVTVfZFlBN0lQX1EmZT0xNzQzNDM2Nzk5";
    let plain = "host01/6f5d8bf6-d580-4946-9541-13fa98b4acf4?k=g6KHuOP8GIfU5_dYA7IP_Q&e=1743436799";
    for form in [token, plain] {
        assert_eq!(get(&stack, "list", form).await.0, 403, "forged with the published key");
    }
    let legacy = |key: &str, e: u64| {
        let k = URL_SAFE_NO_PAD.encode(Md5::digest(format!("{key}{e}host01{vm}")));
        format!("host01/{vm}?k={k}&e={e}")
    };
    assert_eq!(get(&stack, "list", &legacy(LEGACY_KEY, now() + 60)).await.0, 200);
    assert_eq!(get(&stack, "list", &legacy(LEGACY_KEY, now() - 60)).await.0, 410);
    assert_eq!(get(&stack, "list", &legacy(LEGACY_KEY, now() + 400 * 86_400)).await.0, 403);
    assert_eq!(get(&stack, "list", &legacy("P@ssw@rd4Display", now() + 60)).await.0, 403);
}

#[actix_web::test]
async fn snapshots_are_for_links_that_were_made_for_them() {
    let (stack, vm) = Stack::with_guest().await;
    let usual = make(&stack, vm, json!({})).await;
    let epoch = now() + 86_400;
    let path = format!("/vm/ui/host01/{vm}/{epoch}");
    let (_, page) = stack.call(Role::Operator, Method::GET, &path, None).await;
    let md5 = URL_SAFE_NO_PAD.encode(Md5::digest(format!("{LEGACY_KEY}{epoch}host01{vm}")));
    let legacy = format!("host01/{vm}?k={md5}&e={epoch}");
    for link in [text(&usual, "path"), text(&page, "token"), &legacy] {
        assert_ne!(get(&stack, "list", link).await.0, 404);
        for verb in ["snapshot", "revert_snapshot", "delete_snapshot"] {
            let (status, body) = get(&stack, verb, link).await;
            assert_eq!((status, &body["result"]), (403, &json!("ERR")), "{verb}");
        }
    }
    assert_eq!(works(&stack), 0);

    let link = make(&stack, vm, json!({"verbs": ["list", "snapshot"], "uses": 4})).await;
    let path = text(&link, "path");
    for _ in 0..6 {
        // Looking takes no use.
        let (status, all) = get(&stack, "snapshot", path).await;
        assert_eq!((status, &all["result"]), (200, &json!("OK")), "{all}");
    }
    let post = async |verb: &str, more: &str| {
        call(&stack, Method::POST, &format!("/user/vm/{verb}/{path}{more}"), None).await
    };
    assert_eq!(post("snapshot", "&name=before").await.0, 200);
    let taken = serde_json::to_value(last_work(&stack)).unwrap();
    assert_eq!(
        (&taken["verb"], &taken["snapshot"]["name"]),
        (&json!("create_snapshot"), &json!("before"))
    );
    let (status, body) = post("revert_snapshot", "&name=before").await;
    assert_eq!((status, &body["result"]), (200, &json!("OK")), "{body}");
    assert!(matches!(last_work(&stack), Work::RevertSnapshot { .. }));
    let (status, _) = get(&stack, "delete_snapshot", &format!("{path}&name=before")).await;
    assert_eq!(status, 200);
    assert!(matches!(last_work(&stack), Work::DeleteSnapshot { .. }));
    let before = works(&stack);
    assert_eq!(post("snapshot", "&name=../x").await.0, 422);
    assert_eq!(post("snapshot", "").await.0, 410, "the fourth use was the last");
    assert_eq!(get(&stack, "start", path).await.0, 403);
    assert_eq!(works(&stack), before);

    let other = make(&stack, vm, json!({"verbs": ["snapshot"]})).await;
    let path = text(&other, "path");
    for bad in ["&name=a&name=b", "&name=a&force=1"] {
        let url = format!("/user/vm/snapshot/{path}{bad}");
        assert!(call(&stack, Method::POST, &url, None).await.0 >= 400, "{bad}");
    }
    assert_eq!(get(&stack, "revert_snapshot", path).await.0, 422, "without a name");
    stack.host.lock().unwrap().more_snapshots = 9;
    let full = call(&stack, Method::POST, &format!("/user/vm/snapshot/{path}"), None).await;
    assert_eq!(full.0, 409, "a link fills no disk: {}", full.1);
    let put = call(&stack, Method::PUT, &format!("/user/vm/snapshot/{path}"), None).await;
    assert_eq!(put.0, 405);
    assert_eq!(works(&stack), before);
}
