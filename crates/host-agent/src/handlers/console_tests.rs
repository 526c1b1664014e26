//! The upgrade as vnc-proxy makes it, over mutual TLS.

use std::sync::Arc;
use std::time::Duration;

use actix_web::web;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::watch;
use vmmgr_common::api::console::ConsoleKind;
use vmmgr_common::client::AgentClient;
use vmmgr_common::error::ErrorCode;
use vmmgr_common::ids::{HostId, VmId};
use vmmgr_common::mtls::issue::{Ca, LeafRequest};
use vmmgr_common::mtls::{Identity, Role, TlsFiles};
use vmmgr_common::server::{self, Door, Readiness, Service};
use vmmgr_common::testing::free_address;

use crate::console::{Consoles, HistoryDirs};
use crate::hypervisor::Hypervisor as _;
use crate::hypervisor::fake::{FakeHypervisor, domain_xml};

fn leaf(dir: &std::path::Path, role: Role, instance: &str) -> TlsFiles {
    let identity = Some(Identity { role, instance: instance.to_owned() });
    let request = LeafRequest { identity, names: Vec::new(), server: true, client: true, days: 1 };
    let name = role.as_str();
    Ca::load(dir).unwrap().issue(&request).unwrap().write(dir, name).unwrap();
    let at = |end: &str| dir.join(format!("{name}.{end}"));
    TlsFiles { ca: dir.join("ca.pem"), cert: at("pem"), key: at("key") }
}

#[tokio::test]
async fn vnc_proxy_gets_the_guest_s_own_bytes_and_nobody_else_does() {
    let dir = tempfile::tempdir().unwrap();
    Ca::create(dir.path()).unwrap();
    let (fake, vm, listen) = (FakeHypervisor::new(), VmId::new(), free_address());
    let devices = "<devices><serial type='pty'><source path='/dev/pts/7'/></serial>\
         <graphics type='vnc'><listen type='none'/></graphics></devices>";
    fake.define(vm, &domain_xml(vm).replace("<devices></devices>", devices)).await.unwrap();
    fake.start(vm).await.unwrap();
    let history = HistoryDirs { logs: dir.path().to_owned(), anchors: dir.path().join("console") };
    let consoles = Consoles::start(fake.clone(), history).unwrap();
    let consoles: web::Data<Consoles> = web::Data::from(consoles);
    let (stop, stopping) = watch::channel(false);
    let stopping = web::Data::new(stopping);
    let door = Door::new(&[Role::VncProxy], move |app| {
        app.app_data(consoles.clone()).app_data(stopping.clone());
        super::console_routes(app);
    });
    let service = Service {
        name: "test",
        tls: leaf(dir.path(), Role::HostAgent, "host01"),
        listen,
        ops_listen: free_address(),
        accept: &[Role::Gateway],
        ready: Readiness::default(),
    };
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
        runtime.block_on(server::run_with_doors(service, |_| (), vec![door])).unwrap();
    });
    let host = HostId::parse("host01").unwrap();
    let client = |role| {
        let files = leaf(dir.path(), role, "x");
        AgentClient::new(&files, &format!("https://{listen}"), &host).unwrap()
    };
    let proxy = client(Role::VncProxy);
    let up = async {
        while proxy.console_info(vm).await.is_err() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), up).await.unwrap();
    let run = proxy.console_info(vm).await.unwrap().run;

    let (mut screen, offset) = proxy.console(vm, ConsoleKind::Vnc, &run, None).await.unwrap();
    assert_eq!(offset, None);
    let mut hello = [0; 12];
    screen.read_exact(&mut hello).await.unwrap();
    assert_eq!(&hello, b"RFB 003.008\n");
    // Much in both directions at a time arrives whole and in order.
    let sent: Vec<u8> = (0..2_000_000_u32).map(|n| (n % 251) as u8).collect();
    let (mut read, mut write) = tokio::io::split(screen);
    let all = sent.clone();
    let sending = tokio::spawn(async move {
        write.write_all(&all).await.unwrap();
        write
    });
    let mut back = vec![0; sent.len()];
    let reading = tokio::time::timeout(Duration::from_secs(60), read.read_exact(&mut back));
    reading.await.unwrap().unwrap();
    assert!(back == sent, "the bytes differ");
    let write = sending.await.unwrap();

    let (mut line, offset) = proxy.console(vm, ConsoleKind::Serial, &run, Some(0)).await.unwrap();
    assert!(offset.is_some());
    let mut guest = fake.serial(vm);
    line.write_all(b"root\n").await.unwrap();
    let mut typed = [0; 5];
    guest.read_exact(&mut typed).await.unwrap();
    assert_eq!(&typed, b"root\n");
    guest.write_all(b"# ").await.unwrap();
    let mut shown = [0; 2];
    line.read_exact(&mut shown).await.unwrap();
    assert_eq!(&shown, b"# ");

    let refused = |run: &'static str, kind| proxy.console(vm, kind, run, None);
    let code = refused("another", ConsoleKind::Vnc).await.map(drop).unwrap_err().code;
    assert_eq!(code, ErrorCode::WrongState);
    let spice = proxy.console(vm, ConsoleKind::Spice, &run, None).await;
    assert_eq!(spice.map(drop).unwrap_err().code, ErrorCode::NoSuchConsole);
    for role in [Role::Gateway, Role::Nginx, Role::Operator] {
        let other = client(role).console(vm, ConsoleKind::Vnc, &run, None).await;
        let status = other.map(drop).unwrap_err().status;
        assert!(matches!(status, 403 | 404), "{role:?}: {status}");
    }
    // A stop of the agent ends what is open.
    stop.send_replace(true);
    let ended = tokio::time::timeout(Duration::from_secs(20), read.read(&mut hello)).await.unwrap();
    assert!(ended.is_err() || ended.is_ok_and(|count| count == 0));
    drop((write, Arc::clone(&fake)));
}
