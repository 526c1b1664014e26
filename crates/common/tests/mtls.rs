//! Handshakes in memory between real configurations made from issued files.

#![expect(clippy::unwrap_used, reason = "a test that panics fails")]

use std::io::{Read as _, Write as _};
use std::path::Path;
use std::sync::Arc;

use rustls::{ClientConnection, ConnectionCommon, ServerConnection};
use vmmgr_common::mtls::issue::{Ca, LeafRequest};
use vmmgr_common::mtls::{Identity, Role, TlsFiles, client_config, server_config};

struct Pki {
    dir: tempfile::TempDir,
    ca: Ca,
}

impl Pki {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let ca = Ca::create(dir.path()).unwrap();
        Self { dir, ca }
    }

    fn leaf(&self, role: Role, instance: &str, days: i64) -> TlsFiles {
        let identity = Identity::new(role, instance).unwrap();
        let request = LeafRequest {
            identity: Some(identity),
            names: vec![],
            server: true,
            client: true,
            days,
        };
        let name = format!("{}-{instance}", role.as_str());
        self.ca.issue(&request).unwrap().write(self.dir.path(), &name).unwrap();
        self.files(&name)
    }

    fn files(&self, name: &str) -> TlsFiles {
        let at = |file: String| self.dir.path().join(file);
        TlsFiles {
            ca: at("ca.pem".into()),
            cert: at(format!("{name}.pem")),
            key: at(format!("{name}.key")),
        }
    }
}

fn move_bytes<A, B>(
    from: &mut ConnectionCommon<A>,
    to: &mut ConnectionCommon<B>,
) -> Result<bool, rustls::Error> {
    let mut wire = Vec::new();
    while from.wants_write() {
        from.write_tls(&mut wire).unwrap();
    }
    let moved = !wire.is_empty();
    let mut left = wire.as_slice();
    while !left.is_empty() {
        to.read_tls(&mut left).unwrap();
        to.process_new_packets()?;
    }
    Ok(moved)
}

fn talk(server: &TlsFiles, client: &TlsFiles, expected: &str) -> Result<Identity, rustls::Error> {
    let server = server_config(server).unwrap();
    let client = client_config(client, expected.parse().unwrap()).unwrap();
    let mut server = ServerConnection::new(Arc::new(server)).unwrap();
    let mut client =
        ClientConnection::new(Arc::new(client), "127.0.0.1".try_into().unwrap()).unwrap();
    loop {
        let forth = move_bytes(&mut client, &mut server)?;
        let back = move_bytes(&mut server, &mut client)?;
        if !forth && !back {
            break;
        }
    }
    client.writer().write_all(b"ping").unwrap();
    move_bytes(&mut client, &mut server)?;
    let mut heard = [0; 4];
    server.reader().read_exact(&mut heard).unwrap();
    assert_eq!(&heard, b"ping");
    let leaf = server.peer_certificates().unwrap()[0].clone();
    Ok(Identity::of_certificate(&leaf).unwrap())
}

#[test]
fn both_sides_learn_who_the_other_is() {
    let pki = Pki::new();
    let agent = pki.leaf(Role::HostAgent, "host01", 30);
    let gateway = pki.leaf(Role::Gateway, "gw1", 30);
    let seen = talk(&agent, &gateway, "vmmgr://host-agent/host01").unwrap();
    assert_eq!(seen.to_string(), "vmmgr://gateway/gw1");
}

#[test]
fn a_server_of_another_role_or_host_is_refused() {
    let pki = Pki::new();
    let agent = pki.leaf(Role::HostAgent, "host02", 30);
    let gateway = pki.leaf(Role::Gateway, "gw1", 30);
    for expected in ["vmmgr://host-agent/host01", "vmmgr://metadata/host02"] {
        assert!(talk(&agent, &gateway, expected).is_err(), "{expected}");
    }
}

#[test]
fn an_expired_leaf_and_a_foreign_ca_are_refused() {
    let (ours, theirs) = (Pki::new(), Pki::new());
    let agent = ours.leaf(Role::HostAgent, "host01", 30);
    let name = "vmmgr://host-agent/host01";
    assert!(talk(&agent, &ours.leaf(Role::Gateway, "old", -1), name).is_err());
    assert!(talk(&agent, &theirs.leaf(Role::Gateway, "gw1", 30), name).is_err());
    assert!(
        talk(&ours.leaf(Role::HostAgent, "host01", -1), &ours.leaf(Role::Gateway, "gw1", 30), name)
            .is_err()
    );
}

#[test]
fn private_keys_are_for_their_owner_only_and_a_ca_is_never_overwritten() {
    use std::os::unix::fs::PermissionsExt as _;
    let pki = Pki::new();
    pki.leaf(Role::Gateway, "gw1", 30);
    let mode = |path: &Path| fs_err::metadata(path).unwrap().permissions().mode() & 0o777;
    for key in ["ca.key", "gateway-gw1.key"] {
        assert_eq!(mode(&pki.dir.path().join(key)), 0o600, "{key}");
    }
    assert!(Ca::create(pki.dir.path()).is_err());
}
