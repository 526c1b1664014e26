//! The readme's own shell lines, as they are printed there, against a whole system. Only what a
//! reader must add is added: a credential, the CA, and where the names of the sites are.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};

use crate::lab::{HOST, Lab, lab, run, until};

const README: &str = include_str!("../fixtures/readme-api.txt");

/// `curl` with what a reader adds: the CA, the credential from a file (not for a caller that shows
/// a certificate, nor for a tenant), and the address behind the sites' names.
const PRELUDE: &str = r#"
set -o pipefail
curl() {
    local extra=(--fail-with-body --silent --cacert "$VMMGR_CA" --connect-to ::127.0.0.1:8443)
    case " $* " in
        *" --cert "* | *"/user/vm/"*) ;;
        *) extra+=(-H "@$TOKEN_HEADER") ;;
    esac
    command curl "${extra[@]}" "$@"
}
"#;

/// What the example of the agent's configuration puts into `debian_installcd`.
const INSTALLER: &str = "debian-12-netinst.iso";

/// The readme, the variables that its lines have set or need, and where to run.
struct Reader {
    lab: &'static Lab,
    dir: std::path::PathBuf,
    variables: Vec<(&'static str, String)>,
}

/// The command that begins with a line that has `part` in it: that line, or up to the end of its
/// here-document, loop or continuation.
fn command(part: &str) -> String {
    let lines: Vec<&str> = README.lines().collect();
    let start = lines.iter().position(|line| line.contains(part) && !line.starts_with("# "));
    let start = start.unwrap_or_else(|| panic!("the readme has no line with {part:?}"));
    let is_over: fn(&str) -> bool = if lines[start].contains("<<EOF") {
        |line| line == "EOF"
    } else if lines[start].ends_with('{') {
        |line| line == "}"
    } else {
        |line| !line.ends_with('\\')
    };
    let end = (start..lines.len()).find(|at| is_over(lines[*at])).unwrap();
    let text = lines[start..=end].join("\n");
    // What is echoed before a command is for the reader; in three lines its quotes do not even match.
    let from = ["cat <<EOF", "curl -", "{\n"].iter().filter_map(|begin| text.find(begin)).min();
    from.filter(|_| text.starts_with("echo ")).map_or(text.clone(), |from| text[from..].to_owned())
}

impl Reader {
    fn new(lab: &'static Lab) -> Self {
        let dir = lab.run.join("readme");
        fs_err::create_dir_all(&dir).unwrap();
        fs_err::write(dir.join("token"), format!("Authorization: Bearer {}\n", lab.api.token))
            .unwrap();
        let variables = vec![("srv", "https://vmm.registry.local".to_owned())];
        Self { lab, dir, variables }
    }

    fn set(&mut self, name: &'static str, value: &str) {
        self.variables.retain(|(known, _)| *known != name);
        self.variables.push((name, value.to_owned()));
    }

    fn value(&self, name: &str) -> &str {
        let found = self.variables.iter().find(|(known, _)| *known == name);
        &found.unwrap_or_else(|| panic!("{name} is not set")).1
    }

    /// Runs text in the readme's shell; whether it succeeded, and what it printed.
    fn shell(&self, text: &str) -> (bool, String) {
        let output = Command::new("bash")
            .arg("-c")
            .arg(format!("{PRELUDE}\n{text}"))
            .current_dir(&self.dir)
            .env("VMMGR_CA", self.lab.state.join("pki/ca.pem"))
            .env("TOKEN_HEADER", self.dir.join("token"))
            .envs(self.variables.iter().map(|(name, value)| (*name, value)))
            .output()
            .unwrap();
        let printed = String::from_utf8(output.stdout).unwrap();
        if !output.status.success() {
            eprintln!("{text}\n{printed}{}", String::from_utf8_lossy(&output.stderr));
        }
        (output.status.success(), printed)
    }

    /// The readme's command with `part`; it must succeed.
    fn does(&self, part: &str) -> String {
        let text = command(part);
        let (fine, printed) = self.shell(&text);
        assert!(fine, "{text}: {printed}");
        printed
    }

    /// As [`Self::does`]; it prints one JSON value, or lines that end with one.
    fn json(&self, part: &str) -> Value {
        let printed = self.does(part);
        let whole = serde_json::from_str(&printed);
        whole
            .or_else(|_| serde_json::from_str(printed.lines().last().unwrap_or_default()))
            .unwrap_or_else(|_| panic!("{part}: {printed}"))
    }

    /// As [`Self::json`], and its envelope says OK.
    fn ok(&self, part: &str) -> Value {
        let answer = self.json(part);
        assert_eq!(answer["result"], "OK", "{part}: {answer}");
        answer
    }

    /// A stream of values, as `jq` prints them.
    fn values(&self, part: &str) -> Vec<Value> {
        let printed = self.does(part);
        serde_json::Deserializer::from_str(&printed).into_iter().map(Result::unwrap).collect()
    }
}

fn state(reader: &Reader) -> String {
    reader.json("list a vm on host")["state"].as_str().unwrap().to_owned()
}

fn records(lab: &Lab) -> std::path::PathBuf {
    let cache = std::env::var("VMMGR_CACHE").unwrap_or_else(|_| "/var/cache/vmmgr".to_owned());
    let folder = Path::new(&cache).join("iso");
    fs_err::create_dir_all(&folder).unwrap();
    let iso = folder.join("readme-test.iso");
    for file in [&iso, &folder.join(INSTALLER)] {
        fs_err::write(file, vec![0; 1 << 20]).unwrap();
    }
    let (status, body) = lab.api.post("/v1/isos", &json!({"name": "centos7-x86_64", "path": iso}));
    assert!([201, 409].contains(&status), "{body}");
    let row = json!({"cidr": "192.168.168.2/32", "gateway": "192.168.168.1"});
    let (status, body) = lab.api.post("/v1/addresses", &row);
    assert_eq!(status, 201, "{body}");
    iso
}

/// What the readme does first: look, and make the guest.
fn looks_and_creates(reader: &mut Reader) {
    let hosts = reader.values("echo 'list host'");
    assert_eq!(hosts, [json!({"name": HOST, "arch": "x86_64"})]);
    assert!(
        reader
            .json("echo 'list iso'")
            .as_array()
            .unwrap()
            .iter()
            .any(|iso| iso["name"] == "centos7-x86_64")
    );
    reader.set("host", HOST);
    reader.set("arch", "x86_64");
    let free = reader.json("get freeip");
    assert_eq!(
        (&free["cidr"], &free["gateway"]),
        (&json!("192.168.168.2/32"), &json!("192.168.168.1"))
    );
    reader.set("uefi", "/usr/share/OVMF/OVMF_CODE.fd");
    let made = reader.ok("echo 'create vm'");
    let uuid = made["uuid"].as_str().unwrap().to_owned();
    assert_eq!(made["desc"], format!("create vm {uuid} on {HOST} ok"));
    let (again, refusal) = reader.shell(&command("echo 'create vm'"));
    assert!(!again && refusal.contains(&uuid), "the address is taken: {refusal}");
    reader.set("uuid", &uuid);
    let guest = reader.json("list a vm on host");
    assert_eq!(
        (&guest["desc"], &guest["curcpu"], &guest["curmem"]),
        (&json!("测试VM"), &json!(2), &json!(2_097_152))
    );
    assert_eq!(guest["mdconfig"]["ipaddr"], "192.168.168.2/32");
    assert_eq!(reader.json("get freeip")["cidr"], "N/A");
}

/// Disks from a gold image and blank, away again; an interface, a drive and its medium.
fn attaches(reader: &mut Reader) {
    let devices = reader.values("echo 'list device on host'");
    assert!(devices.contains(&json!({"name": "local-disk", "type": "disk"})), "{devices:?}");
    let golds = reader.values("echo 'list gold image'");
    let known = golds.iter().any(|gold| gold["name"] == "busybox" && gold["arch"] == "x86_64");
    assert!(known, "{golds:?}");
    reader.set("device", "local-disk");
    reader.set("gold", "busybox");
    assert_eq!(reader.ok("echo 'add disk'")["target"], "vda");
    // `gold=""` is the readme's data disk.
    reader.set("gold", "");
    assert_eq!(reader.ok("echo 'add disk'")["target"], "vdb");
    reader.set("dev", "vdb");
    reader.ok("echo 'del disk'");
    for device in ["net-br-ext", "debian_installcd"] {
        reader.set("device", device);
        reader.ok("echo \"add ${device} noargs\"");
    }
    // The guest's own seed is in sda, so the installer is in the next drive.
    let guest = reader.json("list a vm on host");
    let inserted = guest["disks"].as_array().unwrap().iter().any(|disk| {
        disk["device"] == "cdrom" && disk["vol"].as_str().unwrap_or_default().ends_with(INSTALLER)
    });
    assert!(inserted, "{guest}");
    reader.set("dev", "sda");
    reader.ok("echo 'change cd media'");
    let guest = reader.json("list a vm on host");
    let disks: Vec<(&str, &str)> = guest["disks"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|disk| Some((disk["dev"].as_str()?, disk["vol"].as_str()?)))
        .collect();
    assert!(disks.iter().any(|(dev, _)| *dev == "vda"), "{disks:?}");
    assert!(!disks.iter().any(|(dev, _)| *dev == "vdb"), "{disks:?}");
    let changed = |(dev, vol): &(&str, &str)| *dev == "sda" && vol.ends_with("readme-test.iso");
    assert!(disks.iter().any(changed), "{disks:?}");
    assert_eq!(guest["nets"].as_array().unwrap().len(), 1);
}

fn runs_and_stops(reader: &Reader) {
    reader.ok("echo 'start vm'");
    assert_eq!(state(reader), "RUN");
    for (part, kind, page) in [
        ("echo 'display vnc'", "vnc", "/novnc/vnc_lite.html?"),
        ("echo 'console'", "serial", "/term/xterm.html?"),
    ] {
        let shown = reader.ok(part);
        assert_eq!(shown["desc"], kind, "{shown}");
        assert!(shown["display"].as_str().unwrap().starts_with(page), "{shown}");
    }
    reader.ok("echo 'commn reset vm'");
    reader.ok("echo 'commn stop vm'");
    for part in ["vm ipaddr", "echo 'get vmip'"] {
        assert_eq!(reader.ok(part)["desc"], "get_ipaddr ok");
    }
    let xml = reader.does("get vm xml");
    assert!(xml.starts_with("<domain") && xml.contains(&format!("srv-{}", reader.value("uuid"))));
    let fleet = reader.json("echo 'list all guests in database'");
    let guest =
        fleet.as_array().unwrap().iter().find(|guest| guest["uuid"] == reader.value("uuid"));
    assert!(guest.is_some_and(|guest| guest["disks"].is_string() && guest["kvmhost"] == HOST));
    let listed = reader.values("echo 'update all guests dbtable'");
    // Other tests' guests come and go meanwhile; this one is on both lists.
    let mut on_host = listed[0].as_array().unwrap().iter();
    assert!(on_host.any(|guest| guest["uuid"] == reader.value("uuid")), "{listed:?}");
    reader.ok("echo 'force stop vm'");
    assert_eq!(state(reader), "SHUTOFF");
}

/// The lines of a tenant, who has a link and no account.
fn is_driven_by_its_tenant(reader: &mut Reader) {
    let (fine, epoch) = reader.shell(&format!("{}\necho $epoch", command("epoch=$(date")));
    assert!(fine);
    reader.set("epoch", epoch.trim());
    let link = reader.ok("get tenant vm mgr page");
    assert_eq!((&link["desc"], &link["url"]), (&json!("vmuserinterface"), &json!("/guest.html")));
    let token = link["token"].as_str().unwrap();
    let (fine, text) =
        reader.shell(&format!("basenc --base64url -d <<<{token}== 2>/dev/null || :"));
    assert!(fine && text.contains("?k="), "the readme's form");
    reader.set("str_token", &text);
    assert_eq!(reader.json("echo 'get vminfo by token'")["uuid"], reader.value("uuid"));
    reader.ok("echo 'start vm by token'");
    assert_eq!(state(reader), "RUN");
    assert_eq!(reader.ok("echo 'vm vnc by token'")["desc"], "vnc");
    reader.ok("echo 'stop vm by token'");
    reader.ok("echo 'force stop vm by token'");
    assert_eq!(state(reader), "SHUTOFF");
    // The one that is printed was made with the key that everybody knows.
    let printed = README.lines().find_map(|line| line.strip_prefix("str_token='")).unwrap();
    reader.set("str_token", printed.trim_end_matches('\''));
    let (opened, refusal) = reader.shell(&command("get vminfo by token"));
    assert!(!opened && refusal.contains("403") | refusal.contains("not valid"), "{refusal}");
    let log = fs_err::read_to_string(reader.lab.run.join("nginx/nginx-access.log")).unwrap();
    let (key, word) = (text.split("k=").nth(1).unwrap().split('&').next().unwrap(), token);
    assert!(log.contains("/user/vm/list/") && !log.contains(key) && !log.contains(word));
}

/// The hook's lines: plain with a credential, and with a host's certificate.
fn is_reported_by_its_host(reader: &Reader) {
    let pki = reader.lab.state.join("pki");
    let xml = run("virsh", &["-c", "qemu:///system", "dumpxml", reader.value("uuid")]);
    fs_err::write(reader.dir.join("a.xml"), &xml).unwrap();
    let plain = reader.ok("curl -X POST ${srv}/domain/prepare/begin/");
    assert_eq!(plain["desc"], format!("{} uploadxml ok", reader.value("uuid")));
    let text = command("curl --cacert")
        .replace("/etc/libvirt/pki/ca-cert.pem", &pki.join("ca.pem").to_string_lossy())
        .replace("/etc/libvirt/pki/server", &pki.join("host").to_string_lossy())
        .replace("/etc/libvirt/qemu/vm1.xml", "a.xml")
        .replace("-key.pem", ".key")
        .replace("-cert.pem", ".pem");
    let (fine, printed) = reader.shell(&text);
    let answer: Value = serde_json::from_str(&printed).unwrap();
    assert!(fine && answer["desc"] == "vm1 uploadxml ok", "{printed}");
    let (_, reports) = reader.lab.api.get("/v1/hook-reports");
    let sender = |name: &str| reports.as_array().unwrap().iter().any(|r| r["sender"] == name);
    assert!(sender(HOST) && sender("user:admin"), "{reports}");
    // A certificate of another role is no host's, and without one the name does not open at all.
    for (role, cut) in [("metadata", false), ("none", true)] {
        let mut other =
            text.replace(&*pki.join("host").to_string_lossy(), &pki.join(role).to_string_lossy());
        if cut {
            other = "curl -X POST https://kvm.registry.local/domain/prepare/begin/vm1".to_owned();
        }
        assert!(!reader.shell(&other).0, "{role}");
    }
}

#[test]
fn the_readme_s_own_lines_do_what_they_say() {
    let Some(lab) = lab("the readme") else { return };
    let _peace = lab.peace();
    let mut reader = Reader::new(lab);
    let iso = records(lab);
    looks_and_creates(&mut reader);
    attaches(&mut reader);
    runs_and_stops(&reader);
    is_driven_by_its_tenant(&mut reader);
    is_reported_by_its_host(&reader);
    reader.ok("echo 'undefine domain'");
    assert!(!reader.shell(&command("list a vm on host")).0);
    until("the address is free again", Duration::from_secs(10), || {
        let free = reader.json("get freeip");
        if free["cidr"] == "192.168.168.2/32" { Ok(()) } else { Err(free.to_string()) }
    });
    assert_eq!(lab.leftovers(reader.value("uuid")), Vec::<String>::new());
    fs_err::remove_file(iso).unwrap();
}
