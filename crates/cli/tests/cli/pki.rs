//! The private CA in a folder.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use vmmgr_common::mtls::issue::{Ca, LeafRequest};
use vmmgr_common::mtls::{Identity, Role};
use x509_parser::extensions::GeneralName;

use crate::support::{Run, vmmctl};

pub(crate) fn init(dir: &Path, more: &[&str]) -> Run {
    let mut arguments = vec!["pki", "init", "--dir", dir.to_str().unwrap(), "--host", "host01"];
    arguments.extend(["--public-name", "vmm.registry.local", "--public-name", "127.0.0.1"]);
    arguments.extend(more);
    let run = vmmctl("http://127.0.0.1:1", &arguments);
    assert_eq!(run.code, 0, "{}", run.err);
    assert!(!format!("{}{}", run.out, run.err).contains("PRIVATE KEY"));
    run
}

fn files(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    entries
        .map(|path| {
            (path.file_name().unwrap().to_str().unwrap().to_owned(), fs::read(&path).unwrap())
        })
        .collect()
}

/// Names of which the second state differs from the first.
fn changed(before: &BTreeMap<String, Vec<u8>>, after: &BTreeMap<String, Vec<u8>>) -> Vec<String> {
    after
        .iter()
        .filter(|(name, text)| before.get(*name) != Some(text))
        .map(|(name, _)| name.clone())
        .collect()
}

pub(crate) fn alternative_names(pem: &[u8]) -> Vec<String> {
    let (_, block) = x509_parser::pem::parse_x509_pem(pem).unwrap();
    let certificate = block.parse_x509().unwrap();
    let names = certificate.subject_alternative_name().unwrap().unwrap();
    let print = |name: &GeneralName| match name {
        GeneralName::DNSName(name) | GeneralName::URI(name) => (*name).to_owned(),
        GeneralName::IPAddress(bytes) => {
            bytes.iter().map(u8::to_string).collect::<Vec<_>>().join(".")
        }
        other => panic!("{other:?}"),
    };
    names.value.general_names.iter().map(print).collect()
}

#[test]
fn a_folder_is_made_once_and_then_kept() {
    let dir = tempfile::tempdir().unwrap();
    let pki = dir.path().join("pki");
    init(&pki, &[]);
    let first = files(&pki);
    for name in
        ["ca", "gateway", "host-agent", "metadata", "vnc-proxy", "nginx", "operator", "server"]
    {
        for end in ["pem", "key"] {
            let name = format!("{name}.{end}");
            assert!(first.contains_key(&name), "{name} is missing");
            let mode = fs::metadata(pki.join(&name)).unwrap().permissions().mode() & 0o777;
            assert_eq!(mode, if end == "key" { 0o600 } else { 0o644 }, "{name}");
        }
    }
    assert_eq!(fs::metadata(&pki).unwrap().permissions().mode() & 0o777, 0o700);
    init(&pki, &[]);
    assert_eq!(changed(&first, &files(&pki)), [""; 0]);
    assert_eq!(files(&pki).len(), first.len());
}

#[test]
fn each_certificate_is_of_its_role_and_the_public_one_of_none() {
    let dir = tempfile::tempdir().unwrap();
    init(dir.path(), &["--hosts-name", "kvm.registry.local"]);
    let files = files(dir.path());
    assert_eq!(
        alternative_names(&files["gateway.pem"]),
        ["vmmgr://gateway/main", "gateway.vmmgr.internal"]
    );
    assert_eq!(
        alternative_names(&files["host-agent.pem"]),
        ["vmmgr://host-agent/host01", "host-agent.vmmgr.internal"]
    );
    assert_eq!(alternative_names(&files["metadata.pem"])[0], "vmmgr://metadata/host01");
    assert_eq!(
        alternative_names(&files["server.pem"]),
        ["vmm.registry.local", "127.0.0.1", "kvm.registry.local"]
    );
}

#[test]
fn what_ends_soon_is_renewed_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    init(dir.path(), &[]);
    let ca = Ca::load(dir.path()).unwrap();
    for days in [5, -1] {
        let identity = Some(Identity::new(Role::Gateway, "main").unwrap());
        let request = LeafRequest { identity, names: Vec::new(), server: true, client: true, days };
        ca.issue(&request).unwrap().write(dir.path(), "gateway").unwrap();
        let before = files(dir.path());
        init(dir.path(), &[]);
        assert_eq!(
            changed(&before, &files(dir.path())),
            ["gateway.key", "gateway.pem"],
            "{days} days"
        );
    }
}

#[test]
fn a_new_public_name_gets_into_the_public_certificate() {
    let dir = tempfile::tempdir().unwrap();
    init(dir.path(), &[]);
    init(dir.path(), &["--public-name", "new.registry.local"]);
    let names = alternative_names(&files(dir.path())["server.pem"]);
    assert!(names.contains(&"new.registry.local".to_owned()), "{names:?}");
}

#[test]
fn a_certificate_without_its_key_is_issued_anew() {
    let dir = tempfile::tempdir().unwrap();
    init(dir.path(), &[]);
    fs::remove_file(dir.path().join("nginx.key")).unwrap();
    init(dir.path(), &[]);
    assert!(dir.path().join("nginx.key").exists());
}

#[test]
fn another_host_gets_its_own_certificates_and_not_the_ca_key() {
    let dir = tempfile::tempdir().unwrap();
    let (pki, out) = (dir.path().join("pki"), dir.path().join("host02"));
    init(&pki, &[]);
    let run = vmmctl(
        "http://127.0.0.1:1",
        &["pki", "host", "host02", "--dir", pki.to_str().unwrap(), "--out", out.to_str().unwrap()],
    );
    assert_eq!(run.code, 0, "{}", run.err);
    let (ours, theirs) = (files(&pki), files(&out));
    assert_eq!(theirs["ca.pem"], ours["ca.pem"]);
    assert!(!theirs.contains_key("ca.key") && !theirs.contains_key("gateway.key"));
    assert_eq!(alternative_names(&theirs["host-agent.pem"])[0], "vmmgr://host-agent/host02");
}

#[test]
fn a_name_that_is_none_of_ours_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let run = vmmctl(
        "http://127.0.0.1:1",
        &[
            "pki",
            "init",
            "--dir",
            dir.path().to_str().unwrap(),
            "--host",
            "../x",
            "--public-name",
            "a",
        ],
    );
    assert_ne!(run.code, 0);
}
