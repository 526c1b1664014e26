//! Certificates in the places of nginx and libvirt.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;
use std::process::Command;

use crate::pki::{alternative_names, init};
use crate::support::{Run, vmmctl};

fn pki(dir: &Path, what: &str, more: &[&str]) -> Run {
    let (ca, root) = (dir.join("pki"), dir.join("root"));
    let mut arguments = vec!["pki", what];
    arguments.extend(["--dir", ca.to_str().unwrap(), "--root", root.to_str().unwrap()]);
    arguments.extend(more);
    vmmctl("http://127.0.0.1:1", &arguments)
}

fn ok(run: Run) -> Run {
    assert_eq!(run.code, 0, "{}", run.err);
    assert!(!format!("{}{}", run.out, run.err).contains("PRIVATE KEY"));
    run
}

fn prepared() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    init(&dir.path().join("pki"), &[]);
    fs::create_dir(dir.path().join("root")).unwrap();
    dir
}

/// Path below the root and octal mode of each file, and that nothing else is there.
fn has(dir: &Path, wanted: &[(&str, u32)]) {
    let root = dir.join("root");
    for (path, mode) in wanted {
        let found = fs::metadata(root.join(path)).unwrap_or_else(|e| panic!("{path}: {e}"));
        assert_eq!(found.permissions().mode() & 0o7777, *mode, "{path}");
    }
    let listed = Command::new("find").arg(&root).args(["-type", "f"]).output().unwrap();
    let count = String::from_utf8(listed.stdout).unwrap().lines().count();
    assert_eq!(count, wanted.iter().filter(|(path, _)| path.contains(".")).count());
}

fn verifies(dir: &Path, path: &str, purpose: &str) -> bool {
    let root = dir.join("root");
    let run = Command::new("openssl")
        .args(["verify", "-CAfile"])
        .arg(dir.join("pki/ca.pem"))
        .args(["-purpose", purpose])
        .arg(root.join(path))
        .output()
        .unwrap();
    run.status.success()
}

#[test]
fn nginx_gets_a_pair_for_each_site() {
    let dir = prepared();
    ok(pki(dir.path(), "nginx", &["--public-name", "vmm.registry.local", "--public-name", "::1"]));
    let files = [
        ("etc/nginx/ssl", 0o755),
        ("etc/nginx/ssl/kvm.ca.pem", 0o644),
        ("etc/nginx/ssl/kvm.registry.local.pem", 0o644),
        ("etc/nginx/ssl/kvm.registry.local.key", 0o600),
        ("etc/nginx/ssl/vmm.registry.local.pem", 0o644),
        ("etc/nginx/ssl/vmm.registry.local.key", 0o600),
    ];
    let root = dir.path().join("root");
    for (path, mode) in files {
        let found = fs::metadata(root.join(path)).unwrap();
        assert_eq!(found.permissions().mode() & 0o7777, mode, "{path}");
    }
    assert!(verifies(dir.path(), "etc/nginx/ssl/vmm.registry.local.pem", "sslserver"));
    assert!(!verifies(dir.path(), "etc/nginx/ssl/vmm.registry.local.pem", "sslclient"));
    ok(pki(dir.path(), "nginx", &["--key-mode", "0644"]));
    let key = root.join("etc/nginx/ssl/vmm.registry.local.key");
    assert_eq!(fs::metadata(key).unwrap().permissions().mode() & 0o777, 0o644);
}

#[test]
fn nginx_itself_takes_a_pair_for_each_site() {
    let dir = prepared();
    ok(pki(dir.path(), "nginx", &[]));
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let (conf, ca, run, ssl) =
        (path("nginx.conf"), path("pki"), path("run"), path("root/etc/nginx/ssl"));
    let arguments = ["nginx", "render", "--output", &conf, "--run-dir", &run, "--pki", &ca];
    let arguments =
        [&arguments[..], &["--sites-pki", &ssl, "--listen", "127.0.0.1:18443"]].concat();
    ok(vmmctl("http://127.0.0.1:1", &arguments));
    let text = fs::read_to_string(&conf).unwrap();
    for site in ["vmm", "kvm"] {
        assert!(text.contains(&format!("ssl_certificate {ssl}/{site}.registry.local.pem;")));
    }
    let check = Command::new("nginx").args(["-t", "-c", &conf]).output().unwrap();
    assert!(check.status.success(), "{}", String::from_utf8_lossy(&check.stderr));
    let hostile = [&arguments[..8], &["--sites-pki", "/x; alias /etc"]].concat();
    assert_eq!(vmmctl("http://127.0.0.1:1", &hostile).code, 2);
}

#[test]
fn a_libvirt_client_finds_its_certificate_where_libvirt_looks() {
    let dir = prepared();
    ok(pki(dir.path(), "libvirt-client", &[]));
    has(
        dir.path(),
        &[
            ("etc/pki", 0o755),
            ("etc/pki/CA", 0o755),
            ("etc/pki/private", 0o755),
            ("etc/pki/CA/cacert.pem", 0o644),
            ("etc/pki/clientcert.pem", 0o644),
            ("etc/pki/private/clientkey.pem", 0o600),
        ],
    );
    let root = dir.path().join("root/etc/pki");
    let same =
        |a: &str, b: &str| fs::read(root.join(a)).unwrap() == fs::read(root.join(b)).unwrap();
    assert!(same("libvirt/clientcert.pem", "clientcert.pem"));
    assert!(same("libvirt/private/clientkey.pem", "private/clientkey.pem"));
    assert!(verifies(dir.path(), "etc/pki/clientcert.pem", "sslclient"));
    assert!(!verifies(dir.path(), "etc/pki/clientcert.pem", "sslserver"));
}

#[test]
fn a_host_gets_its_names_and_addresses_and_is_kept_until_they_change() {
    let dir = prepared();
    let names = ["kvm1.local", "--name", "kvm1.local", "--name", "192.168.168.1"];
    let run = ok(pki(dir.path(), "libvirt-server", &names));
    assert!(run.out.contains("tls_allowed_dn_list = [\"CN=libvirt-client.vmmgr.internal\"]"));
    has(
        dir.path(),
        &[
            ("etc/libvirt/pki", 0o755),
            ("etc/libvirt/pki/cacert.pem", 0o444),
            ("etc/libvirt/pki/ca-cert.pem", 0o444),
            ("etc/libvirt/pki/server-key.pem", 0o440),
            ("etc/libvirt/pki/server-cert.pem", 0o444),
        ],
    );
    let path = dir.path().join("root/etc/libvirt/pki/server-cert.pem");
    let first = fs::read(&path).unwrap();
    assert_eq!(
        alternative_names(&first),
        ["vmmgr://host/kvm1.local", "host.vmmgr.internal", "kvm1.local", "192.168.168.1"]
    );
    ok(pki(dir.path(), "libvirt-server", &names));
    assert_eq!(fs::read(&path).unwrap(), first);
    ok(pki(dir.path(), "libvirt-server", &[&names[..], &["--name", "10.0.0.1"]].concat()));
    assert!(alternative_names(&fs::read(&path).unwrap()).contains(&"10.0.0.1".to_owned()));
}

#[test]
fn another_ca_replaces_what_the_first_one_issued() {
    let dir = prepared();
    let names = ["kvm1", "--name", "kvm1"];
    ok(pki(dir.path(), "libvirt-server", &names));
    fs::remove_dir_all(dir.path().join("pki")).unwrap();
    init(&dir.path().join("pki"), &[]);
    ok(pki(dir.path(), "libvirt-server", &names));
    assert!(verifies(dir.path(), "etc/libvirt/pki/server-cert.pem", "sslserver"));
}

#[test]
fn the_key_goes_to_the_group_that_qemu_runs_as() {
    let dir = prepared();
    if fs::metadata(dir.path()).unwrap().uid() != 0 {
        return;
    }
    ok(pki(dir.path(), "libvirt-server", &["kvm1", "--name", "kvm1", "--group", "daemon"]));
    let key = dir.path().join("root/etc/libvirt/pki/server-key.pem");
    let group = Command::new("stat").args(["-c", "%U:%G"]).arg(key).output().unwrap();
    assert_eq!(String::from_utf8(group.stdout).unwrap().trim(), "root:daemon");
}

#[test]
fn what_makes_no_sense_is_refused_and_nothing_is_written() {
    for (what, more) in [
        ("nginx", &["--key-mode", "0777"][..]),
        ("nginx", &["--key-mode", "rw"]),
        ("nginx", &["--public-name", "../x"]),
        ("nginx", &["--days", "0"]),
        ("libvirt-server", &["../x", "--name", "a"]),
        ("libvirt-server", &["kvm1"]),
        ("libvirt-server", &["kvm1", "--name", "a", "--group", "no-such-group"]),
    ] {
        let dir = prepared();
        let run = pki(dir.path(), what, more);
        assert_ne!(run.code, 0, "{what} {more:?}");
        let mut find = Command::new("find");
        let keys = find.arg(dir.path().join("root")).args(["-name", "*key*"]).output().unwrap();
        assert!(keys.stdout.is_empty(), "{what} {more:?}");
    }
}

#[test]
fn a_folder_without_the_ca_key_issues_nothing() {
    let dir = prepared();
    fs::remove_file(dir.path().join("pki/ca.key")).unwrap();
    let run = pki(dir.path(), "nginx", &[]);
    assert_eq!(run.code, 1);
    assert!(run.err.contains("ca.key"), "{}", run.err);
}
