//! CD-ROMs that QEMU itself reads from a web server, in a guest that runs.

use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::Duration;

use serde_json::{Value, json};

use crate::agent::Agent;
use crate::guest::Guest;
use crate::lab::{HOST, Lab, lab, run, until};

const HTTP: u16 = 18081;
const HTTPS: u16 = 18443;

/// A web server of ISOs with a certificate of the lab's CA; gone with this.
struct Server {
    nginx: Child,
    dir: PathBuf,
}

impl Server {
    fn start(lab: &Lab) -> Self {
        let dir = lab.state.join("isos");
        fs_err::create_dir_all(&dir).unwrap();
        let tree = boot_sector(&dir);
        for (name, label) in [("one", "NETONE"), ("two", "NETTWO"), ("sly", "CIDATA")] {
            let mut make = Command::new("genisoimage");
            make.args(["-quiet", "-J", "-r", "-V", label]);
            make.args(["-b", "boot", "-no-emul-boot", "-boot-load-size", "4", "-o"]);
            make.arg(dir.join(format!("{name}.iso"))).arg(&tree);
            assert!(make.status().unwrap().success());
        }
        let ours = fs_err::read_to_string(lab.run.join("etc/nginx.conf")).unwrap();
        let certificate: Vec<&str> = ours
            .lines()
            .filter(|line| line.trim().starts_with("ssl_certificate"))
            .take(2)
            .collect();
        let place = dir.display();
        let configuration = format!(
            "user root; daemon off; pid {place}/pid; error_log {place}/errors; events {{}}\n\
             http {{ access_log {place}/asked; client_body_temp_path {place}/b; proxy_temp_path {place}/p;\n\
             fastcgi_temp_path {place}/fc; uwsgi_temp_path {place}/u; scgi_temp_path {place}/s;\n\
             server {{ listen 127.0.0.1:{HTTP}; listen 127.0.0.1:{HTTPS} ssl; root {place};\n{}\n\
             location /moved.iso {{ return 302 /one.iso; }} }} }}\n",
            certificate.join("\n")
        );
        let path = dir.join("nginx.conf");
        fs_err::write(&path, configuration).unwrap();
        let nginx = Command::new("nginx").arg("-c").arg(&path).spawn().unwrap();
        let server = Self { nginx, dir };
        until("the web server answers", Duration::from_secs(10), || {
            let url = format!("http://localhost:{HTTP}/one.iso");
            let asked = Command::new("curl").args(["-fsI", &url]).output().unwrap();
            if asked.status.success() { Ok(()) } else { Err(format!("{asked:?}")) }
        });
        server
    }

    /// How often QEMU has asked for a file: curl in the test has a name, QEMU has none.
    fn asked(&self, name: &str) -> usize {
        let log = fs_err::read_to_string(self.dir.join("asked")).unwrap();
        let of = format!("GET /{name}.iso ");
        log.lines().filter(|line| line.contains(&of) && line.contains(" 206 ")).count()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // SIGTERM, so that it ends its workers.
        run("kill", &[&self.nginx.id().to_string()]);
        self.nginx.wait().unwrap();
    }
}

/// A folder with what a guest boots from such a CD-ROM: it says what the medium is called.
fn boot_sector(dir: &Path) -> PathBuf {
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/label.S");
    let (object, tree) = (dir.join("label.o"), dir.join("tree"));
    fs_err::create_dir_all(&tree).unwrap();
    let (object, boot) = (object.to_str().unwrap(), tree.join("boot"));
    run("as", &["--32", "-o", object, source]);
    let place = ["-m", "elf_i386", "-Ttext", "0x7c00", "--oformat", "binary"];
    run("ld", &[&place[..], &["-o", boot.to_str().unwrap(), object]].concat());
    tree
}

/// The lab's system trusts the lab's CA: in its own mounts, which end with it.
fn trust(lab: &Lab) {
    let known = "/etc/ssl/certs/ca-certificates.crt";
    let both = format!(
        "{}\n{}",
        fs_err::read_to_string(known).unwrap(),
        fs_err::read_to_string(lab.state.join("pki/ca.pem")).unwrap()
    );
    let more = lab.run.join("trusted.pem");
    fs_err::write(&more, both).unwrap();
    run("mount", &["--bind", more.to_str().unwrap(), known]);
}

/// Type and place of the drive's medium as the described system lists it.
fn listed(lab: &Lab, guest: &Guest) -> (String, String) {
    let (status, shown) = lab.api.get(&format!("/vm/list/{HOST}/{}", guest.id));
    assert_eq!(status, 200, "{shown}");
    let disks = shown["disks"].as_array().unwrap();
    let drive = disks.iter().find(|disk| disk["device"] == "cdrom").unwrap();
    let text = |key: &str| drive[key].as_str().unwrap_or_default().to_owned();
    (text("type"), text("vol"))
}

fn refused(lab: &Lab, guest: &Guest, iso: &str) -> Value {
    let body = json!({"device": "cdrom", "iso": iso});
    lab.api.change("POST", &guest.path("/cdroms"), Some(&body)).unwrap_err()
}

#[test]
fn a_guest_reads_its_cdrom_over_the_network_and_changes_it() {
    let Some(lab) = lab("network media") else { return };
    let _alone = lab.alone_but_demo();
    let server = Server::start(lab);
    let _agent = Agent::with(lab, |text| {
        assert!(text.contains("\nallow = []\n"), "{text}");
        text.replace("\nallow = []\n", "\nallow = [\"localhost\"]\n")
    });
    let http = |name: &str| format!("http://localhost:{HTTP}/{name}.iso");
    let https = format!("https://localhost:{HTTPS}/one.iso");
    for (name, url, more) in [
        ("net-two", http("two"), json!({})),
        ("net-sly", http("sly"), json!({})),
        ("net-moved", http("moved"), json!({})),
        ("net-absent", http("absent"), json!({})),
        ("net-other", format!("http://127.0.0.1:{HTTP}/one.iso"), json!({})),
        ("net-tls", https.clone(), json!({})),
        ("net-own", https.clone(), json!({"tls_verify": false})),
    ] {
        let mut body = json!({"name": name, "url": url});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let (status, answer) = lab.api.post("/v1/isos", &body);
        assert_eq!(status, 201, "{answer}");
    }
    let mut guest = Guest::define(lab, "netcd", &json!({}));
    for (iso, code) in [
        ("net-sly", "invalid_value"),
        ("net-other", "invalid_value"),
        ("net-moved", "origin_failed"),
        ("net-absent", "origin_failed"),
        // The system does not know the lab's CA.
        ("net-tls", "origin_failed"),
    ] {
        let problem = refused(lab, &guest, iso);
        assert_eq!(problem["code"], code, "{iso}: {problem}");
    }
    assert!(refused(lab, &guest, "net-tls")["hint"].as_str().unwrap().contains("tls_verify"));

    // There when the guest starts, over TLS that is verified.
    trust(lab);
    guest.act("POST", "/cdroms", &json!({"device": "cdrom", "iso": "net-tls"}));
    let asked = server.asked("one");
    guest.start();
    guest.says("label-NETONE;");
    let xml = run("virsh", &["-c", "qemu:///system", "dumpxml", &guest.id]);
    assert!(xml.contains("<ssl verify='yes'/>") && xml.contains("protocol='https'"), "{xml}");
    assert_eq!(listed(lab, &guest), ("https".to_owned(), https.clone()));
    assert!(server.asked("one") > asked, "QEMU reads from the server");

    // While it runs: another server's, the seed, nothing, and back; the firmware boots from it anew.
    let boots = |guest: &mut Guest, label: &str| {
        guest.act("POST", "/reset", &Value::Null);
        guest.says(&format!("label-{label};"));
    };
    guest.act("POST", "/media/sda", &json!({"iso": "net-two"}));
    assert_eq!(listed(lab, &guest), ("http".to_owned(), http("two")));
    boots(&mut guest, "NETTWO");
    guest.act("POST", "/media/sda", &json!({"seed": true}));
    assert_eq!(listed(lab, &guest).0, "file");
    assert!(has_iso(&lab.state.join("storage"), &guest.id));
    guest.act("POST", "/media/sda", &json!({"iso": "net-own"}));
    assert_eq!(listed(lab, &guest), ("https".to_owned(), https.clone()));
    boots(&mut guest, "NETONE");
    guest.act("POST", "/media/sda", &json!({}));
    assert_eq!(listed(lab, &guest), (String::new(), String::new()));
    // The described system's way.
    let path = format!("/vm/cdrom/{HOST}/{}?dev=sda", guest.id);
    let (status, answer) = lab.api.post(&path, &json!({"isoname": "net-two"}));
    assert_eq!((status, &answer["result"]), (200, &json!("OK")), "{answer}");
    boots(&mut guest, "NETTWO");
    assert!(!has_iso(&lab.state.join("storage"), &guest.id), "no seed is left");
    guest.delete();
    for name in ["two", "sly", "moved", "absent", "other", "tls", "own"] {
        lab.api.call(&lab.api.token, "DELETE", &format!("/v1/isos/net-{name}"), None);
    }
}

fn has_iso(dir: &Path, guest: &str) -> bool {
    let names = fs_err::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name());
    names
        .map(|name| name.to_string_lossy().into_owned())
        .any(|name| name.contains(guest) && name.ends_with(".iso"))
}
