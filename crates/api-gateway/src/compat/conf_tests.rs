//! The configuration plane, the hook's reports and the record files.

use std::fs;

use reqwest::Method;
use reqwest::multipart::{Form, Part};
use serde_json::{Value, json};
use vmmgr_common::ids::VmId;
use vmmgr_common::mtls::Role as PeerRole;

use crate::app::archive;
use crate::app::transfer::Files;
use crate::auth::Role;
use crate::auth::reporter::CERTIFICATE_HEADER;
use crate::fake::{Stack, read};

async fn admin(stack: &Stack, method: Method, path: &str, body: Option<Value>) -> (u16, Value) {
    stack.call(Role::Admin, method, path, body).await
}

fn form(name: &'static str, bytes: Vec<u8>) -> Form {
    Form::new().part(name, Part::bytes(bytes).file_name("a.xml"))
}

async fn restore(stack: &Stack, bytes: Vec<u8>) -> (u16, Value) {
    let request =
        stack.request(Method::POST, "/conf/restore/").bearer_auth(stack.token(Role::Admin));
    read(request.multipart(form("file", bytes)).send().await.unwrap()).await
}

/// The certificate of a role as nginx forwards it.
fn certificate(stack: &Stack, role: PeerRole) -> String {
    let path = stack.certificate(role, "host01");
    let pem = fs::read_to_string(path).unwrap();
    pem.bytes().map(|byte| format!("%{byte:02X}")).collect()
}

#[actix_web::test]
async fn a_host_s_hook_reports_with_its_certificate_and_nobody_else_does() {
    let (stack, vm) = Stack::with_guest().await;
    let path = format!("/domain/prepare/begin/{vm}");
    let send = async |pem: String, xml: Option<&str>| {
        let mut request = stack.request(Method::POST, &path).header(CERTIFICATE_HEADER, pem);
        if let Some(xml) = xml {
            request = request.multipart(form("file", xml.into()));
        }
        read(request.send().await.unwrap()).await
    };
    let host = certificate(&stack, PeerRole::Host);
    let (status, answer) = send(host.clone(), Some("<domain/>")).await;
    assert_eq!((status, &answer["desc"]), (200, &json!(format!("{vm} uploadxml ok"))), "{answer}");
    let (status, answer) = send(host.clone(), None).await;
    assert_eq!((status, &answer["report"]), (200, &json!(format!("{vm}-prepare-begin"))));
    for role in [PeerRole::HostAgent, PeerRole::Nginx, PeerRole::Operator] {
        assert_eq!(send(certificate(&stack, role), None).await.0, 403, "{role:?}");
    }
    assert_eq!(send("nonsense".to_owned(), None).await.0, 403);
    assert_eq!(send(String::new(), None).await.0, 401, "nginx says that nobody showed one");
    let twice = stack.request(Method::POST, &path).header(CERTIFICATE_HEADER, &host);
    let twice = twice.header(CERTIFICATE_HEADER, &host).send().await.unwrap();
    assert_eq!(twice.status(), 403);
    // An operator's own connection is not nginx's, whatever it says in a header.
    let (client, base) = stack.client_as(PeerRole::Operator);
    let forged =
        client.post(format!("{base}{path}")).header(CERTIFICATE_HEADER, &host).send().await;
    assert_eq!(forged.unwrap().status(), 403);

    let (_, reports) = admin(&stack, Method::GET, "/v1/hook-reports", None).await;
    assert_eq!((reports.as_array().unwrap().len(), &reports[0]["sender"]), (1, &json!("host01")));
    assert!(reports[0].get("xml").is_none(), "a definition may hold passwords");
    let xml = format!("/v1/hook-reports/host01/{vm}/xml");
    let shown = stack.send(Role::Operator, Method::GET, &xml, None).await;
    assert_eq!(shown.headers()["content-type"], "text/plain; charset=utf-8");
    assert_eq!(
        shown.text().await.unwrap(),
        "<domain/>",
        "an event without a file keeps the last one"
    );
    assert_eq!(stack.call(Role::Viewer, Method::GET, &xml, None).await.0, 403);
    assert_eq!(stack.app.listing().guests().count(), 1, "what a hook says makes no guests");
}

#[actix_web::test]
async fn an_account_reports_too_and_a_bad_report_is_kept_nowhere() {
    let (stack, _) = Stack::with_guest().await;
    let send = async |path: &str, form: Option<Form>| {
        let mut request =
            stack.request(Method::POST, path).bearer_auth(stack.token(Role::Operator));
        if let Some(form) = form {
            request = request.multipart(form);
        }
        read(request.send().await.unwrap()).await
    };
    let long = format!("/domain/prepare/begin/{}", "x".repeat(129));
    let two = Form::new().text("file", "<a/>").text("file", "<b/>");
    for (path, body, expected) in [
        ("/domain/explode/begin/vm1", None, 422),
        ("/domain/prepare/middle/vm1", None, 422),
        ("/domain/prepare/begin/vm%0a1", None, 422),
        ("/domain/prepare/begin/..%2f..%2fetc", None, 422),
        ("/domain/prepare/begin/vm1?x=1", None, 400),
        (long.as_str(), None, 422),
        ("/domain/prepare/begin/vm1", Some(form("file", vec![b'x'; 256 * 1024 + 1])), 413),
        ("/domain/prepare/begin/vm1", Some(form("file", vec![0xff, 0xfe])), 422),
        ("/domain/prepare/begin/vm1", Some(form("other", b"<a/>".to_vec())), 400),
        ("/domain/prepare/begin/vm1", Some(two), 400),
    ] {
        let (status, answer) = send(path, body).await;
        assert_eq!((status, &answer["result"]), (expected, &json!("ERR")), "{path}: {answer}");
    }
    assert_eq!(admin(&stack, Method::GET, "/v1/hook-reports", None).await.1, json!([]));
    let (status, answer) = send("/domain/started/begin/vm1", None).await;
    assert_eq!((status, &answer["report"]), (200, &json!("vm1-started-begin")));
    let (_, reports) = admin(&stack, Method::GET, "/v1/hook-reports", None).await;
    assert_eq!(reports[0]["sender"], "user:ada");
}

#[actix_web::test]
async fn the_record_files_are_read_in_with_a_report_and_written_out_again() {
    let (stack, vm) = Stack::with_guest().await;
    let files = json!({
        "hosts.json": [
            {"name": "host01", "url": "qemu+tls://127.0.0.1/system", "tpl": "newvm.tpl", "arch": "x86_64",
             "ipaddr": "127.0.0.1", "sshport": 22, "sshuser": "root", "active": 1, "inactive": 0, "desc": "d"},
            {"name": "host02", "url": "qemu+ssh://root@127.0.0.1:60022/system", "tpl": "", "arch": "x86_64"},
            {"name": "a name that is no name", "url": "x"}],
        "devices.json": [
            {"kvmhost": "host01", "name": "local-disk", "action": "disk.sh", "devtype": "disk", "tpl": "disk.file"},
            {"kvmhost": "host01", "name": "rbd-disk", "action": "rbd.sh", "devtype": "disk", "tpl": "disk.rbd"},
            {"kvmhost": "host09", "name": "local-disk", "devtype": "disk", "tpl": "disk.file"}],
        "golds.json": [
            {"name": "", "arch": "x86_64", "tpl": "", "desc": "data disk"},
            {"name": "a", "arch": "x86_64", "tpl": "https://vmm.registry.local/gold/a.qcow2", "desc": "a", "size": 2},
            {"name": "b", "arch": "aarch64", "uri": "http://m/b.qcow2", "size": "10"},
            {"name": "c", "arch": "x86_64", "uri": "/gold/c.qcow2", "size": "10G"},
            {"name": "d", "arch": "x86_64", "tpl": "ssh://root@10.0.0.1:22/gold/d.qcow2"},
            {"name": "e", "arch": "x86_64", "tpl": "rbd:pool/e"},
            {"name": "f", "arch": "mips", "tpl": "/f"}],
        "iso.json": [{"name": "", "uri": "/meta", "desc": "seed"}, {"name": "rescue", "uri": "/srv/iso/r.iso", "desc": ""},
            {"name": "net", "uri": "https://vmm.registry.local/net.iso", "tls_verify": false}, {"name": "odd", "uri": "https://u@h/x.iso"}],
        "ippool.json": [{"cidr": "192.168.168.2/32", "gateway": "192.168.168.1"}, {"cidr": "10.0.0.0/24", "gateway": "10.0.0.1"},
            {"cidr": "nonsense"}],
        "guests.json": [{"kvmhost": "host01", "uuid": vm}, {"kvmhost": "host01", "uuid": VmId::new()}],
        "vars.json": {"vm_ip": "address of the guest", "vm_gw": 7},
    });
    let (status, report) = admin(&stack, Method::POST, "/v1/config/import", Some(files)).await;
    assert_eq!(status, 200, "{report}");
    let fates: Vec<String> = report
        .as_array()
        .unwrap()
        .iter()
        .map(|row| {
            format!(
                "{} {} {}",
                row["file"].as_str().unwrap(),
                row["name"].as_str().unwrap(),
                row["fate"].as_str().unwrap()
            )
        })
        .collect();
    for expected in [
        "hosts.json host01 kept",
        "hosts.json host02 unresolved",
        "hosts.json a name that is no name refused",
        "devices.json local-disk kept",
        "devices.json rbd-disk unresolved",
        "golds.json  kept",
        "golds.json a written",
        "golds.json b written",
        "golds.json c written",
        "golds.json d written",
        "golds.json e refused",
        "golds.json f refused",
        "iso.json  kept",
        "iso.json rescue written",
        "iso.json net written",
        "iso.json odd refused",
        "ippool.json 192.168.168.2/32 written",
        "ippool.json 10.0.0.0/24 written",
        "ippool.json nonsense refused",
        "vars.json vm_ip written",
        "vars.json vm_gw refused",
    ] {
        assert!(fates.iter().any(|fate| fate == expected), "{expected}: {fates:#?}");
    }
    assert_eq!(fates.iter().filter(|fate| fate.starts_with("guests.json")).count(), 2);
    let (_, golds) = stack.call(Role::Viewer, Method::GET, "/tpl/gold/", None).await;
    assert_eq!(golds.as_array().unwrap().len(), 4);

    let (_, exported) = admin(&stack, Method::GET, "/v1/config/export", None).await;
    assert_eq!(exported["vars.json"], json!({"vm_ip": "address of the guest"}));
    assert_eq!(exported["golds.json"][0]["size"], "2048M");
    let uri = "https://vmm.registry.local/net.iso";
    let net = json!({"name": "net", "uri": uri, "desc": "", "tls_verify": false});
    assert!(exported["iso.json"].as_array().unwrap().contains(&net), "{exported}");
    let (_, isos) = stack.call(Role::Viewer, Method::GET, "/tpl/iso/", None).await;
    assert!(isos.as_array().unwrap().iter().any(|iso| iso["uri"] == uri), "{isos}");
    let (_, again) = admin(&stack, Method::POST, "/v1/config/import", Some(exported.clone())).await;
    let bad = again
        .as_array()
        .unwrap()
        .iter()
        .filter(|row| row["fate"] == "refused" || row["fate"] == "unresolved")
        .count();
    assert_eq!(bad, 0, "{again}");
    assert_eq!(admin(&stack, Method::GET, "/v1/config/export", None).await.1, exported);
    for bad in
        [json!({"passwd": []}), json!({"golds.json": {}}), json!({"vars.json": []}), json!([])]
    {
        assert_eq!(
            admin(&stack, Method::POST, "/v1/config/import", Some(bad.clone())).await.0,
            422,
            "{bad}"
        );
    }
}

#[actix_web::test]
async fn a_backup_restores_and_what_is_no_backup_changes_nothing() {
    let (stack, _) = Stack::with_guest().await;
    let gold =
        json!({"name": "a", "arch": "x86_64", "uri": "/gold/a.qcow2", "size": "10G", "desc": "d"});
    let (status, answer) = admin(&stack, Method::POST, "/conf/gold/", Some(gold)).await;
    assert_eq!((status, &answer["result"]), (200, &json!("OK")), "{answer}");
    let backup = stack.send(Role::Admin, Method::GET, "/conf/backup/", None).await;
    assert!(backup.headers()["content-disposition"].to_str().unwrap().contains("attachment"));
    let bytes = backup.bytes().await.unwrap().to_vec();
    let (status, _) = admin(&stack, Method::DELETE, "/conf/gold/?name=a&arch=x86_64", None).await;
    assert_eq!(status, 200);
    assert_eq!(
        admin(&stack, Method::DELETE, "/conf/gold/?name=a&arch=x86_64", None).await.0,
        404,
        "twice"
    );
    let (status, answer) = restore(&stack, bytes.clone()).await;
    assert_eq!(
        (status, &answer["result"], &answer["apply"]),
        (200, &json!("OK"), &json!(1)),
        "{answer}"
    );
    let (_, before) = admin(&stack, Method::GET, "/v1/config/export", None).await;
    assert_eq!(before["golds.json"][0]["name"], "a");

    let mut broken = bytes;
    let middle = broken.len() / 2;
    broken[middle] ^= 0xff;
    let other = Files::from([("golds.json".to_owned(), json!("no rows"))]);
    for bytes in [Vec::new(), b"text".to_vec(), broken, archive::pack(&other).unwrap()] {
        let (status, answer) = restore(&stack, bytes).await;
        assert_eq!((status, &answer["result"]), (422, &json!("ERR")), "{answer}");
    }
    assert_eq!(restore(&stack, vec![0; (1 << 20) + 1]).await.0, 413);
    assert_eq!(
        admin(&stack, Method::POST, "/conf/restore/", Some(json!({}))).await.0,
        422,
        "no file"
    );
    assert_eq!(admin(&stack, Method::GET, "/v1/config/export", None).await.1, before);
}

#[actix_web::test]
async fn the_configuration_plane_is_the_admin_s_and_tells_no_secret() {
    let (stack, _) = Stack::with_guest().await;
    let (status, conf) = admin(&stack, Method::GET, "/conf/", None).await;
    assert_eq!((status, &conf["conf"]["META_SRV"]), (200, &json!("169.254.169.254")));
    let (_, devices) = admin(&stack, Method::GET, "/conf/devices/", None).await;
    assert_eq!(devices["devices"]["local-disk"], "d");
    assert_eq!(admin(&stack, Method::GET, "/conf/domains/", None).await.1["domains"], json!([]));
    let keys = Some(json!({"passwd": "secret"}));
    let (status, answer) =
        admin(&stack, Method::POST, "/conf/add_authorized_keys/host01", keys).await;
    assert_eq!(status, 410);
    assert!(answer["desc"].as_str().unwrap().contains("vmmctl pki host"), "{answer}");
    for (method, path) in [
        (Method::GET, "/conf/"),
        (Method::GET, "/conf/backup/"),
        (Method::POST, "/conf/restore/"),
        (Method::POST, "/conf/host/"),
        (Method::DELETE, "/conf/iso/?name=x"),
        (Method::POST, "/conf/gold/"),
    ] {
        let (status, answer) = stack.call(Role::Operator, method, path, Some(json!({}))).await;
        assert_eq!((status, &answer["result"]), (403, &json!("ERR")), "{path}");
    }
    for (path, body, expected) in [
        ("/conf/host/", json!({"name": "host02", "url": "qemu+tls://127.0.0.1/system"}), 503),
        ("/conf/host/", json!({"url": "qemu+tls://10.0.0.1/system"}), 422),
        ("/conf/iso/", json!({"name": "../x", "uri": "/x"}), 422),
        ("/conf/iso/", json!({"name": "x", "uri": "relative"}), 422),
        ("/conf/iso/", json!({"name": "x", "uri": 7}), 422),
        ("/conf/gold/", json!({"name": "x", "arch": "x86_64", "uri": "/x", "size": "10GG"}), 422),
        ("/conf/gold/?name=y", json!({"name": "x", "arch": "x86_64", "uri": "/x"}), 400),
        ("/conf/gold/", json!("x"), 422),
    ] {
        let (status, answer) = admin(&stack, Method::POST, path, Some(body.clone())).await;
        assert_eq!(
            (status, &answer["result"]),
            (expected, &json!("ERR")),
            "{path} {body}: {answer}"
        );
    }
    for path in
        ["/conf/gold/?name=x", "/conf/gold/?name=x&arch=mips", "/conf/iso/", "/conf/host/?name=a/b"]
    {
        let (status, answer) = admin(&stack, Method::DELETE, path, None).await;
        assert_eq!((status, &answer["result"]), (422, &json!("ERR")), "{path}");
    }
    let iso = json!({"name": "x", "uri": "/srv/iso/x.iso", "desc": "first"});
    assert_eq!(admin(&stack, Method::POST, "/conf/iso/", Some(iso)).await.0, 200);
    let iso = json!({"name": "x", "uri": "/srv/iso/x.iso", "desc": "second"});
    assert_eq!(admin(&stack, Method::POST, "/conf/iso/", Some(iso)).await.0, 200, "written over");
    let (_, isos) = admin(&stack, Method::GET, "/tpl/iso/", None).await;
    assert_eq!((isos.as_array().unwrap().len(), &isos[0]["desc"]), (1, &json!("second")));
    assert_eq!(admin(&stack, Method::DELETE, "/conf/iso/?name=x", None).await.0, 200);
    assert_eq!(admin(&stack, Method::DELETE, "/conf/iso/?name=x", None).await.0, 404, "twice");
}
