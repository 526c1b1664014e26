//! The private CA and its certificates.

mod layout;

use std::net::IpAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use clap::Subcommand;
use vmmgr_common::mtls::issue::{Ca, LeafRequest};
use vmmgr_common::mtls::{Identity, Role};
use x509_parser::extensions::GeneralName;
use x509_parser::pem::parse_x509_pem;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use crate::failure::Failure;

/// Life of a leaf, days; `init` renews one that has less than a third of it left.
const LEAF_DAYS: i64 = 30;

/// Certificates.
#[derive(Subcommand)]
pub(crate) enum Pki {
    /// Make the CA and the certificates of one control plane with one host; keep what is valid
    Init {
        /// Where they go
        #[arg(long)]
        dir: PathBuf,
        /// Name of the host
        #[arg(long)]
        host: String,
        /// Name or address of the public site; may be repeated
        #[arg(long, required = true)]
        public_name: Vec<String>,
        /// Name of the site for hosts
        #[arg(long, default_value = "kvm.registry.local")]
        hosts_name: String,
    },
    /// Issue the certificates of another host: host-agent, metadata and host
    Host {
        /// Name of the host
        name: String,
        /// The CA
        #[arg(long)]
        dir: PathBuf,
        /// Where they go
        #[arg(long)]
        out: PathBuf,
    },
    /// Write nginx's certificates to /etc/nginx/ssl, one pair for each site
    Nginx(layout::Nginx),
    /// Write the certificate of libvirt's clients to /etc/pki
    LibvirtClient(layout::Client),
    /// Write a host's libvirt certificate to /etc/libvirt/pki and print what libvirtd.conf needs
    LibvirtServer(layout::Server),
    /// Show when the certificates in a folder end
    Show {
        /// The folder
        #[arg(long)]
        dir: PathBuf,
    },
}

impl Pki {
    pub(crate) fn run(self) -> Result<(), Failure> {
        match self {
            Self::Init { dir, host, mut public_name, hosts_name } => {
                fs_err::create_dir_all(&dir).map_err(Failure::local)?;
                fs_err::set_permissions(&dir, std::fs::Permissions::from_mode(0o700))
                    .map_err(Failure::local)?;
                let ca =
                    if dir.join("ca.key").exists() { Ca::load(&dir) } else { Ca::create(&dir) };
                let ca = ca.map_err(chain)?;
                public_name.push(hosts_name);
                host_leaves(&ca, &dir, &host)?;
                for role in [Role::Gateway, Role::VncProxy, Role::Nginx, Role::Operator] {
                    leaf(&ca, &dir, role.as_str(), Some((role, "main")), Vec::new())?;
                }
                leaf(&ca, &dir, "server", None, public_name)
            }
            Self::Host { name, dir, out } => {
                let ca = Ca::load(&dir).map_err(chain)?;
                fs_err::create_dir_all(&out).map_err(Failure::local)?;
                fs_err::write(out.join("ca.pem"), ca.cert_pem()).map_err(Failure::local)?;
                host_leaves(&ca, &out, &name)
            }
            Self::Nginx(nginx) => nginx.run(),
            Self::LibvirtClient(client) => client.run(),
            Self::LibvirtServer(server) => server.run(),
            Self::Show { dir } => show(&dir),
        }
    }
}

fn chain(error: impl std::error::Error) -> Failure {
    Failure::Local(vmmgr_common::error::Chain(&error).to_string())
}

fn host_leaves(ca: &Ca, dir: &Path, host: &str) -> Result<(), Failure> {
    for role in [Role::HostAgent, Role::Metadata, Role::Host] {
        leaf(ca, dir, role.as_str(), Some((role, host)), Vec::new())?;
    }
    Ok(())
}

fn leaf(
    ca: &Ca,
    dir: &Path,
    name: &str,
    who: Option<(Role, &str)>,
    names: Vec<String>,
) -> Result<(), Failure> {
    let identity =
        who.map(|(role, instance)| Identity::new(role, instance)).transpose().map_err(chain)?;
    let has_key = dir.join(format!("{name}.key")).exists();
    let path = dir.join(format!("{name}.pem"));
    if has_key && still_good(&path, identity.as_ref(), &names, LEAF_DAYS)? {
        return Ok(());
    }
    // A public server is no client; inside, a service is both.
    let client = identity.is_some();
    let request = LeafRequest { identity, names, server: true, client, days: LEAF_DAYS };
    ca.issue(&request).map_err(chain)?.write(dir, name).map_err(chain)?;
    eprintln!("issued {name}.pem, valid for {LEAF_DAYS} days");
    Ok(())
}

/// Seconds that a certificate has left; none if there is no such file.
fn seconds_left(path: &Path) -> Result<Option<(i64, Vec<u8>)>, Failure> {
    let pem = match fs_err::read(path) {
        Ok(pem) => pem,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(Failure::local(error)),
    };
    let (_, block) = parse_x509_pem(&pem).map_err(Failure::local)?;
    let end = block.parse_x509().map_err(Failure::local)?.validity().not_after.timestamp();
    Ok(Some((end - chrono::Utc::now().timestamp(), block.contents)))
}

/// True if a certificate is there, is of this identity and names, and has a third of its life left.
fn still_good(
    path: &Path,
    wanted: Option<&Identity>,
    names: &[String],
    days: i64,
) -> Result<bool, Failure> {
    let Some((left, der)) = seconds_left(path)? else { return Ok(false) };
    let same = match wanted {
        Some(wanted) => Identity::of_certificate(&der).is_ok_and(|found| found == *wanted),
        None => true,
    };
    Ok(same && covers(&der, names)? && left > days * 86400 / 3)
}

/// True if the certificate has all of the names and addresses.
fn covers(der: &[u8], names: &[String]) -> Result<bool, Failure> {
    let (_, certificate) = X509Certificate::from_der(der).map_err(Failure::local)?;
    let found = certificate.subject_alternative_name().map_err(Failure::local)?;
    let found = found.map(|names| names.value.general_names.as_slice()).unwrap_or_default();
    Ok(names.iter().all(|wanted| {
        let address = wanted.parse::<IpAddr>().map(octets);
        found.iter().any(|name| match (name, &address) {
            (GeneralName::DNSName(name), Err(_)) => name.eq_ignore_ascii_case(wanted),
            (GeneralName::IPAddress(bytes), Ok(address)) => bytes == address,
            _ => false,
        })
    }))
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

fn show(dir: &Path) -> Result<(), Failure> {
    let mut files: Vec<PathBuf> = fs_err::read_dir(dir)
        .map_err(Failure::local)?
        .filter_map(|entry| entry.ok().map(|entry| entry.path()))
        .filter(|path| path.extension().is_some_and(|end| end == "pem"))
        .collect();
    files.sort();
    for path in files {
        if let Some((left, der)) = seconds_left(&path)? {
            let who =
                Identity::of_certificate(&der).map_or_else(|_| "-".to_owned(), |id| id.to_string());
            println!("{}  {} days left  {who}", path.display(), left / 86400);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn init(dir: &Path) {
        Pki::Init {
            dir: dir.to_owned(),
            host: "host01".into(),
            public_name: vec!["vmm.registry.local".into(), "127.0.0.1".into()],
            hosts_name: "kvm.registry.local".into(),
        }
        .run()
        .unwrap();
    }

    #[test]
    fn a_second_init_keeps_what_is_valid_and_keys_are_private() {
        let dir = tempfile::tempdir().unwrap();
        init(dir.path());
        let read = |name: &str| fs_err::read(dir.path().join(name)).unwrap();
        let before = (read("ca.pem"), read("gateway.pem"), read("server.key"));
        init(dir.path());
        assert_eq!(before, (read("ca.pem"), read("gateway.pem"), read("server.key")));
        for entry in fs_err::read_dir(dir.path()).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|end| end == "key") {
                let mode = fs_err::metadata(&path).unwrap().permissions().mode();
                assert_eq!(mode & 0o777, 0o600, "{}", path.display());
            }
        }
        let (_, der) = seconds_left(&dir.path().join("host-agent.pem")).unwrap().unwrap();
        assert_eq!(
            Identity::of_certificate(&der).unwrap().to_string(),
            "vmmgr://host-agent/host01"
        );
        let other = tempfile::tempdir().unwrap();
        Pki::Host {
            name: "host02".into(),
            dir: dir.path().to_owned(),
            out: other.path().to_owned(),
        }
        .run()
        .unwrap();
        assert!(!other.path().join("ca.key").exists());
    }
}
