//! Gold images from real servers: nginx with TLS, OpenSSH.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};
use vmmgr_common::api::operation::OperationRequest;

use crate::another_agent::{Installed, text};
use crate::lab::{Lab, lab, program, run, until};

const HTTPS: &str = "127.0.0.1:8470";
/// Behind a certificate of a CA that nobody trusts.
const STRANGER: &str = "127.0.0.1:8471";
const SSH: &str = "127.0.0.1:8472";

/// Servers that end with the test.
struct Servers(Vec<Child>);

impl Drop for Servers {
    fn drop(&mut self) {
        for server in &mut self.0 {
            // SIGTERM, so that nginx ends its workers.
            run("kill", &[&server.id().to_string()]);
            server.wait().unwrap();
        }
    }
}

/// A CA of its own and a server's certificate for the loopback address.
fn pki(dir: &Path) -> PathBuf {
    let arguments = ["pki", "init", "--host", "origin", "--public-name", "127.0.0.1", "--dir"];
    run(&text(&program("vmmctl")), &[&arguments[..], &[&text(dir)]].concat());
    dir.to_owned()
}

fn nginx(dir: &Path, files: &Path) -> Child {
    let site = |address: &str, pki: &Path| {
        let pki = pki.display();
        format!(
            "server {{ listen {address} ssl; root {files}; ssl_certificate {pki}/server.pem; \
             ssl_certificate_key {pki}/server.key; }}",
            files = files.display()
        )
    };
    let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|kind| format!("{kind}_temp_path {}/{kind};\n", dir.display()))
        .concat();
    let configuration = dir.join("nginx.conf");
    let (known, stranger) = (pki(&dir.join("known")), pki(&dir.join("stranger")));
    let config = format!(
        "user root; pid {dir}/nginx.pid; error_log {dir}/error.log; daemon off; events {{}}\n\
         http {{ access_log off; {temporary} {} {} }}\n",
        site(HTTPS, &known),
        site(STRANGER, &stranger),
        dir = dir.display(),
    );
    fs_err::write(&configuration, config).unwrap();
    Command::new("nginx").args(["-c", &text(&configuration)]).spawn().unwrap()
}

/// OpenSSH's server, installed or as `tools/setup` has unpacked it.
fn sshd() -> PathBuf {
    let cache = std::env::var("VMMGR_CACHE").unwrap_or_else(|_| "/var/cache/vmmgr".to_owned());
    let unpacked = PathBuf::from(cache).join("tests/openssh-server/usr/sbin/sshd");
    [PathBuf::from("/usr/sbin/sshd"), unpacked].into_iter().find(|path| path.exists()).unwrap()
}

/// Lets root in with the key `dir/key`; `dir/known_hosts` has its host key.
fn ssh(dir: &Path) -> Child {
    let at = |name: &str| text(&dir.join(name));
    for key in ["key", "host", "wrong"] {
        run("ssh-keygen", &["-q", "-t", "ed25519", "-N", "", "-f", &at(key)]);
    }
    let public = |name: &str| fs_err::read_to_string(dir.join(format!("{name}.pub"))).unwrap();
    fs_err::write(dir.join("known_hosts"), format!("127.0.0.1 {}", public("host"))).unwrap();
    fs_err::write(dir.join("allowed"), public("key")).unwrap();
    // Its user and its empty folder, which the package would have made; this is the lab's own /etc.
    let users = fs_err::read_to_string("/etc/passwd").unwrap();
    if !users.lines().any(|line| line.starts_with("sshd:")) {
        let made = dir.join("passwd");
        fs_err::write(&made, format!("{users}sshd:x:65533:65534::/run/sshd:/usr/sbin/nologin\n"))
            .unwrap();
        run("mount", &["--bind", &text(&made), "/etc/passwd"]);
    }
    fs_err::create_dir_all("/run/sshd").unwrap();
    let (address, port) = SSH.split_once(':').unwrap();
    let options = [
        format!("ListenAddress={address}"),
        format!("Port={port}"),
        format!("HostKey={}", at("host")),
        format!("AuthorizedKeysFile={}", at("allowed")),
        "StrictModes=no".to_owned(),
        "UsePAM=no".to_owned(),
        "PermitRootLogin=prohibit-password".to_owned(),
        "PasswordAuthentication=no".to_owned(),
        "PidFile=none".to_owned(),
        "Subsystem=sftp internal-sftp".to_owned(),
    ];
    Command::new(sshd())
        .args(["-D", "-e", "-f", "/dev/null"])
        .args(options.iter().flat_map(|option| ["-o", option]))
        .stdin(Stdio::null())
        .spawn()
        .unwrap()
}

/// Brings an image to the host: the operation when it has ended.
fn import(lab: &Lab, agent: &Installed, gold: &Value) -> Value {
    let id = uuid::Uuid::now_v7();
    let submission = json!({"id": id, "work": {"verb": "import_image", "gold": gold}});
    let submission: OperationRequest = serde_json::from_value(submission).unwrap();
    let client = agent.client();
    let wait = Duration::from_secs(30);
    let told = lab.api.runtime.block_on(client.submit(&submission, wait)).unwrap();
    serde_json::to_value(told).unwrap()
}

#[test]
fn gold_images_come_over_tls_and_ssh_from_servers_that_prove_themselves() {
    let Some(lab) = lab("origins of images") else { return };
    let _peace = lab.peace();
    let dir = lab.run.join("origins");
    let files = dir.join("files");
    fs_err::create_dir_all(&files).unwrap();
    let raw: Vec<u8> =
        (0..1_u32 << 20).flat_map(|n| n.wrapping_mul(0x9e37_79b1).to_le_bytes()).collect();
    fs_err::write(files.join("gold.raw"), &raw).unwrap();
    let sum = run("sha256sum", &[&text(&files.join("gold.raw"))]);
    let digest = sum.split(' ').next().unwrap();
    let _servers = Servers(vec![nginx(&dir, &files), ssh(&dir)]);
    let at = |name: &str| text(&dir.join(name));
    let agent = Installed::new(lab, "host04", "127.0.0.4", |config| {
        config
            .replace("127.0.0.1:9442", "127.0.0.4:9442")
            .replace("allow = []", &format!("allow = [\"{HTTPS}\", \"{STRANGER}\", \"{SSH}\"]"))
            .replace(
                "# ca = \"/etc/vmmgr/images-ca.pem\"",
                &format!("ca = \"{}\"", at("known/ca.pem")),
            )
            .replace(
                "# ssh_key = \"/etc/vmmgr/ssh/id_ed25519\"",
                &format!("ssh_key = \"{}\"", at("key")),
            )
            .replace(
                "# ssh_known_hosts = \"/etc/vmmgr/ssh/known_hosts\"",
                &format!("ssh_known_hosts = \"{}\"", at("known_hosts")),
            )
    });
    let _agent = agent.start(&[]);
    let client = agent.client();
    until("the agent answers", Duration::from_secs(30), || {
        lab.api.runtime.block_on(client.host()).map_err(|problem| problem.to_string())
    });
    let gold = |name: &str, uri: &str| json!({"name": name, "arch": "x86_64", "uri": uri});
    let pinned = |name: &str, uri: &str, digest: &str| {
        let mut gold = gold(name, uri);
        gold["sha256"] = json!(digest);
        gold
    };
    let (https, stranger) =
        (format!("https://{HTTPS}/gold.raw"), format!("https://{STRANGER}/gold.raw"));
    let ssh = format!("ssh://root@{SSH}{}", files.join("gold.raw").display());

    // What proves itself comes: by the operator's CA, by its digest, by a known host key.
    for image in
        [gold("by-ca", &https), pinned("by-digest", &stranger, digest), gold("by-ssh", &ssh)]
    {
        let done = import(lab, &agent, &image);
        assert_eq!(done["state"], "succeeded", "{image}: {done}");
    }
    let images = lab.run.join("host04-root/var/lib/vmmgr/images");
    let whole = |entry: &fs_err::DirEntry| fs_err::read(entry.path()).unwrap() == raw;
    let kept = fs_err::read_dir(&images).unwrap().filter(|entry| whole(entry.as_ref().unwrap()));
    assert_eq!(kept.count(), 1, "the same content is kept once");

    // What does not is refused, says why, and leaves nothing behind.
    let before = fs_err::read_dir(&images).unwrap().count();
    let refused = |image: &Value, code: &str, word: &str| {
        let failed = import(lab, &agent, image);
        assert_eq!(
            (&failed["state"], &failed["problem"]["code"]),
            (&json!("failed"), &json!(code)),
            "{failed}"
        );
        let detail = failed["problem"]["detail"].as_str().unwrap();
        assert!(detail.contains(word), "{detail}");
    };
    refused(&gold("stranger", &stranger), "origin_failed", "certificate");
    refused(&pinned("other", &stranger, &"0".repeat(64)), "unfit_image", "not the pinned one");
    fs_err::copy(dir.join("key"), dir.join("kept")).unwrap();
    fs_err::copy(dir.join("wrong"), dir.join("key")).unwrap();
    refused(&gold("wrong-key", &ssh), "origin_failed", "denied");
    fs_err::copy(dir.join("kept"), dir.join("key")).unwrap();
    let imposter = fs_err::read_to_string(dir.join("wrong.pub")).unwrap();
    fs_err::write(dir.join("known_hosts"), format!("127.0.0.1 {imposter}")).unwrap();
    refused(&gold("imposter", &ssh), "origin_failed", "Host key verification failed");
    assert_eq!(fs_err::read_dir(&images).unwrap().count(), before);
}
