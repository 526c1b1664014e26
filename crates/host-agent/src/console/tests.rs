use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use vmmgr_common::api::console::ConsoleKind;
use vmmgr_common::error::ErrorCode;
use vmmgr_common::ids::VmId;

use super::*;
use crate::hypervisor::HypervisorError;
use crate::hypervisor::fake::FakeHypervisor;

const DEVICES: &str = "<devices><serial type='pty'><source path='/dev/pts/7'/></serial>\
     <graphics type='vnc'><listen type='socket' socket='/nonexistent/vnc.sock'/></graphics></devices>";

struct Lab {
    fake: Arc<FakeHypervisor>,
    dir: tempfile::TempDir,
    vm: VmId,
}

impl Lab {
    async fn new(devices: &str) -> (Self, Arc<Consoles>) {
        let (fake, vm) = (FakeHypervisor::new(), VmId::new());
        let xml = crate::hypervisor::fake::domain_xml(vm).replace("<devices></devices>", devices);
        fake.define(vm, &xml).await.unwrap();
        fake.start(vm).await.unwrap();
        let lab = Self { fake, dir: tempfile::tempdir().unwrap(), vm };
        let consoles = lab.consoles();
        (lab, consoles)
    }

    /// As an agent that was started anew.
    fn consoles(&self) -> Arc<Consoles> {
        let dir = self.dir.path();
        let history = HistoryDirs { logs: dir.to_owned(), anchors: dir.join("console") };
        Consoles::start(self.fake.clone(), history).unwrap()
    }

    fn log(&self, text: &str) {
        let path = self.dir.path().join(format!("console.{}.log", self.vm));
        let mut options = std::fs::OpenOptions::new();
        let mut file = options.create(true).append(true).open(path).unwrap();
        std::io::Write::write_all(&mut file, text.as_bytes()).unwrap();
    }
}

/// What a viewer gets until it has seen `what`.
async fn hear(viewer: &mut Viewer, what: &str) -> String {
    let mut heard = Vec::new();
    let hearing = async {
        while !String::from_utf8_lossy(&heard).contains(what) {
            heard.extend_from_slice(&viewer.next().await.expect("the line ended").unwrap());
        }
    };
    tokio::time::timeout(Duration::from_secs(10), hearing).await.expect(what);
    String::from_utf8(heard).unwrap()
}

async fn code<T>(result: impl Future<Output = Result<T, Problem>>) -> ErrorCode {
    result.await.map(drop).unwrap_err().code
}

#[tokio::test]
async fn a_console_is_opened_for_the_run_that_it_was_asked_for() {
    let (lab, consoles) = Lab::new(DEVICES).await;
    let info = consoles.info(lab.vm).await.unwrap();
    assert_eq!(info.kinds, [ConsoleKind::Vnc, ConsoleKind::Serial]);
    let mut screen = consoles.screen(lab.vm, ConsoleKind::Vnc, &info.run).await.unwrap();
    let mut hello = [0; 12];
    screen.read_exact(&mut hello).await.unwrap();
    assert_eq!(&hello, b"RFB 003.008\n");
    screen.write_all(b"echo").await.unwrap();
    let mut back = [0; 4];
    screen.read_exact(&mut back).await.unwrap();
    assert_eq!(&back, b"echo");
    let spice = consoles.screen(lab.vm, ConsoleKind::Spice, &info.run);
    assert_eq!(code(spice).await, ErrorCode::NoSuchConsole);
    lab.fake.destroy(lab.vm).await.unwrap();
    assert_eq!(code(consoles.info(lab.vm)).await, ErrorCode::WrongState);
    lab.fake.start(lab.vm).await.unwrap();
    for kind in [ConsoleKind::Vnc, ConsoleKind::Spice] {
        assert_eq!(code(consoles.screen(lab.vm, kind, &info.run)).await, ErrorCode::WrongState);
    }
    assert_eq!(code(consoles.serial(lab.vm, &info.run, None)).await, ErrorCode::WrongState);
    assert_ne!(consoles.info(lab.vm).await.unwrap().run, info.run);
    assert_eq!(code(consoles.info(VmId::new())).await, ErrorCode::NoSuchVm);
}

#[tokio::test]
async fn a_screen_that_is_not_handed_out_is_reached_at_its_port() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let devices = format!(
        "<devices><graphics type='vnc' port='{port}'><listen type='address' address='0.0.0.0'/></graphics></devices>"
    );
    let (lab, consoles) = Lab::new(&devices).await;
    let run = consoles.info(lab.vm).await.unwrap().run;
    let refusal = || HypervisorError::Failed { code: 3, message: "no support".into() };
    lab.fake.failing_on("open_graphics", refusal());
    let mut screen = consoles.screen(lab.vm, ConsoleKind::Vnc, &run).await.unwrap();
    let (mut guest, _) = listener.accept().await.unwrap();
    guest.write_all(b"RFB").await.unwrap();
    let mut hello = [0; 3];
    screen.read_exact(&mut hello).await.unwrap();
    assert_eq!(&hello, b"RFB");
    // Where nothing listens the hypervisor's own reason is told.
    let (lab, consoles) =
        Lab::new("<devices><graphics type='vnc'><listen type='none'/></graphics></devices>").await;
    let run = consoles.info(lab.vm).await.unwrap().run;
    lab.fake.failing_on("open_graphics", refusal());
    let screen = consoles.screen(lab.vm, ConsoleKind::Vnc, &run);
    assert_eq!(code(screen).await, ErrorCode::HypervisorFailed);
}

#[tokio::test]
async fn many_look_at_one_line_and_come_back_where_they_were() {
    let (lab, consoles) = Lab::new(DEVICES).await;
    lab.log("booting\nlogin: ");
    let run = consoles.info(lab.vm).await.unwrap().run;
    let mut first = consoles.serial(lab.vm, &run, None).await.unwrap();
    assert_eq!((first.offset(), hear(&mut first, "login: ").await.len()), (0, 15));
    let mut second = consoles.serial(lab.vm, &run, Some(8)).await.unwrap();
    assert_eq!(hear(&mut second, "login: ").await, "login: ");
    // Both type; the guest hears both, in order.
    let mut guest = lab.fake.serial(lab.vm);
    first.input().send(Bytes::from_static(b"ro")).await.unwrap();
    second.input().send(Bytes::from_static(b"ot\n")).await.unwrap();
    let mut heard = [0; 5];
    guest.read_exact(&mut heard).await.unwrap();
    assert_eq!(&heard, b"root\n");
    lab.log("# one\n");
    assert_eq!(hear(&mut first, "one\n").await, "# one\n");
    assert_eq!(hear(&mut second, "one\n").await, "# one\n");
    let left = first.offset();
    drop((first, second));
    lab.log("# two\n");
    // The agent was restarted as well, and the log rotated.
    let path = lab.dir.path().join(format!("console.{}.log", lab.vm));
    fs_err::rename(&path, path.with_extension("log.0")).unwrap();
    lab.log("# three\n");
    let again = lab.consoles();
    let mut back = again.serial(lab.vm, &run, Some(left)).await.unwrap();
    assert_eq!(back.offset(), left);
    assert_eq!(hear(&mut back, "three\n").await, "# two\n# three\n");
    let (offset, history) = again.history(lab.vm, None, 0).await.unwrap();
    assert_eq!((offset, history), (0, b"booting\nlogin: # one\n# two\n# three\n".to_vec()));
    assert_eq!(again.history(lab.vm, Some(16), 3).await.unwrap(), (16, b" on".to_vec()));
    // The guest's end ends the stream, after its last words.
    lab.log("bye\n");
    lab.fake.hang_up(lab.vm);
    drop(guest);
    assert_eq!(hear(&mut back, "bye\n").await, "bye\n");
    let end = tokio::time::timeout(Duration::from_secs(10), back.next()).await.unwrap();
    assert!(end.is_none());
}

#[tokio::test]
async fn a_line_without_a_log_is_kept_in_memory_while_somebody_looks() {
    let (lab, consoles) = Lab::new(DEVICES).await;
    assert_eq!(code(consoles.history(lab.vm, None, 0)).await, ErrorCode::NoSuchConsole);
    let run = consoles.info(lab.vm).await.unwrap().run;
    let mut viewer = consoles.serial(lab.vm, &run, None).await.unwrap();
    let mut guest = lab.fake.serial(lab.vm);
    guest.write_all(b"hello\n").await.unwrap();
    assert_eq!(hear(&mut viewer, "hello\n").await, "hello\n");
    let left = viewer.offset();
    drop(viewer);
    // One who does not read costs nobody anything.
    let _slow = consoles.serial(lab.vm, &run, Some(0)).await.unwrap();
    guest.write_all(&[b'x'; 300_000]).await.unwrap();
    guest.write_all(b"end\n").await.unwrap();
    let mut back = consoles.serial(lab.vm, &run, Some(left)).await.unwrap();
    assert_eq!(hear(&mut back, "end\n").await.len(), 300_004);
    assert_eq!(consoles.history(lab.vm, Some(left), 4).await.unwrap(), (left, b"xxxx".to_vec()));
}

#[tokio::test]
async fn a_screenshot_is_a_png() {
    let (lab, consoles) = Lab::new(DEVICES).await;
    let png = consoles.screenshot(lab.vm).await.unwrap();
    assert!(png.starts_with(b"\x89PNG"));
    let late = HypervisorError::Deadline { call: "screenshot", after: Duration::from_secs(1) };
    lab.fake.failing_on("screenshot", late);
    assert_eq!(code(consoles.screenshot(lab.vm)).await, ErrorCode::Deadline);
    let (lab, consoles) = Lab::new("<devices></devices>").await;
    assert_eq!(code(consoles.screenshot(lab.vm)).await, ErrorCode::NoSuchConsole);
}
