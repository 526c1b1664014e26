//! Certificates where nginx and libvirt look for them.
//!
//! Paths, modes and groups are those of libvirt's and nginx's own documentation, with one exception:
//! private keys of nginx and of clients are for root alone unless `--key-mode` says otherwise.

use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::Command;

use clap::Args;
use vmmgr_common::mtls::issue::{Ca, LeafRequest};
use vmmgr_common::mtls::{Identity, Role};

use super::{chain, still_good};
use crate::failure::Failure;

/// Name in the certificate of libvirt's clients, and the only one that libvirtd is told to let in.
const CLIENT_NAME: &str = "libvirt-client.vmmgr.internal";
/// Groups that QEMU runs as: Red Hat's name and Debian's.
const QEMU_GROUPS: [&str; 2] = ["qemu", "libvirt-qemu"];

/// What every layout needs.
#[derive(Args)]
struct Common {
    /// The CA
    #[arg(long)]
    dir: PathBuf,
    /// Folder that stands for `/`, to prepare files for another machine
    #[arg(long, default_value = "/")]
    root: PathBuf,
    /// Life of a new certificate, days; one with less than a third of it left is renewed
    #[arg(long, default_value_t = 365, value_parser = clap::value_parser!(i64).range(1..=5475))]
    days: i64,
}

/// nginx.
#[derive(Args)]
pub(crate) struct Nginx {
    #[command(flatten)]
    common: Common,
    /// Name of the site for people, first of its certificate; more names and addresses may follow
    #[arg(long, default_value = "vmm.registry.local")]
    public_name: Vec<String>,
    /// Name of the site for hosts
    #[arg(long, default_value = "kvm.registry.local")]
    hosts_name: String,
    /// Mode of private keys, octal
    #[arg(long, default_value = "0600", value_parser = mode)]
    key_mode: u32,
}

/// libvirt's clients.
#[derive(Args)]
pub(crate) struct Client {
    #[command(flatten)]
    common: Common,
    /// Mode of the private key, octal
    #[arg(long, default_value = "0600", value_parser = mode)]
    key_mode: u32,
}

/// A libvirt host.
#[derive(Args)]
pub(crate) struct Server {
    /// Name of the host in vmmgr
    host: String,
    #[command(flatten)]
    common: Common,
    /// Name or address under which clients reach it; may be repeated
    #[arg(long = "name", required = true)]
    names: Vec<String>,
    /// Group that may read the key; `qemu` or `libvirt-qemu`, whichever exists
    #[arg(long)]
    group: Option<String>,
}

fn mode(text: &str) -> Result<u32, String> {
    match u32::from_str_radix(text, 8) {
        Ok(mode) if mode & !0o644 == 0 && mode & 0o400 != 0 => Ok(mode),
        _ => Err("a mode of a key is 0400 to 0644, and nobody executes it".to_owned()),
    }
}

/// A certificate and its key in their places.
struct Pair<'a> {
    cert: PathBuf,
    key: PathBuf,
    cert_mode: u32,
    key_mode: u32,
    group: Option<u32>,
    identity: Option<&'a Identity>,
    names: &'a [String],
    client: bool,
    server: bool,
}

impl Common {
    fn ca(&self) -> Result<Ca, Failure> {
        Ca::load(&self.dir).map_err(chain)
    }

    /// A path on the machine that the files are for.
    fn place(&self, path: &str) -> PathBuf {
        self.root.join(path.trim_start_matches('/'))
    }

    fn folder(&self, path: &str) -> Result<(), Failure> {
        let path = self.place(path);
        fs_err::create_dir_all(&path).map_err(Failure::local)?;
        fs_err::set_permissions(&path, std::fs::Permissions::from_mode(0o755))
            .map_err(Failure::local)
    }

    /// Makes a symbolic link; one that is there, or a file of somebody's own, stays.
    fn link(&self, path: &str, target: &str) -> Result<(), Failure> {
        let path = self.place(path);
        if path.symlink_metadata().is_ok() {
            return Ok(());
        }
        fs_err::os::unix::fs::symlink(target, path).map_err(Failure::local)
    }

    /// Writes the CA's certificate; true if another CA's stood there.
    fn authority(&self, ca: &Ca, path: &str, mode: u32) -> Result<bool, Failure> {
        let path = self.place(path);
        let before = fs_err::read_to_string(&path).ok();
        put(&path, ca.cert_pem(), mode, None)?;
        Ok(before.is_some_and(|before| before != ca.cert_pem()))
    }

    /// Keeps the pair if it is good, and issues it otherwise; modes and group are set in any case.
    fn pair(&self, ca: &Ca, stale: bool, pair: &Pair) -> Result<(), Failure> {
        let good = !stale
            && pair.key.exists()
            && still_good(&pair.cert, pair.identity, pair.names, self.days)?;
        let (cert, key) = if good {
            let read = |path: &Path| fs_err::read_to_string(path).map_err(Failure::local);
            (read(&pair.cert)?, read(&pair.key)?)
        } else {
            let request = LeafRequest {
                identity: pair.identity.cloned(),
                names: pair.names.to_vec(),
                server: pair.server,
                client: pair.client,
                days: self.days,
            };
            let issued = ca.issue_for_libvirt(&request).map_err(chain)?;
            eprintln!("issued {}, valid for {} days", pair.cert.display(), self.days);
            (issued.cert_pem, issued.key_pem)
        };
        put(&pair.key, &key, pair.key_mode, pair.group)?;
        put(&pair.cert, &cert, pair.cert_mode, pair.group)
    }
}

impl Nginx {
    pub(super) fn run(self) -> Result<(), Failure> {
        let common = &self.common;
        let ca = common.ca()?;
        common.folder("/etc/nginx/ssl")?;
        let stale = common.authority(&ca, "/etc/nginx/ssl/kvm.ca.pem", 0o644)?;
        for names in [&self.public_name[..], std::slice::from_ref(&self.hosts_name)] {
            let Some(first) = names.first() else { continue };
            let first = crate::cmd::part(first)?;
            let pair = Pair {
                cert: common.place(&format!("/etc/nginx/ssl/{first}.pem")),
                key: common.place(&format!("/etc/nginx/ssl/{first}.key")),
                cert_mode: 0o644,
                key_mode: self.key_mode,
                group: None,
                identity: None,
                names,
                client: false,
                server: true,
            };
            common.pair(&ca, stale, &pair)?;
        }
        Ok(())
    }
}

impl Client {
    pub(super) fn run(self) -> Result<(), Failure> {
        let common = &self.common;
        let ca = common.ca()?;
        for folder in ["/etc/pki", "/etc/pki/CA", "/etc/pki/private"] {
            common.folder(folder)?;
        }
        let stale = common.authority(&ca, "/etc/pki/CA/cacert.pem", 0o644)?;
        let pair = Pair {
            cert: common.place("/etc/pki/clientcert.pem"),
            key: common.place("/etc/pki/private/clientkey.pem"),
            cert_mode: 0o644,
            key_mode: self.key_mode,
            group: None,
            identity: None,
            names: &[CLIENT_NAME.to_owned()],
            client: true,
            server: false,
        };
        common.pair(&ca, stale, &pair)?;
        // libvirt itself looks one folder deeper.
        common.folder("/etc/pki/libvirt")?;
        common.folder("/etc/pki/libvirt/private")?;
        common.link("/etc/pki/libvirt/clientcert.pem", "../clientcert.pem")?;
        common.link("/etc/pki/libvirt/private/clientkey.pem", "../../private/clientkey.pem")
    }
}

impl Server {
    pub(super) fn run(self) -> Result<(), Failure> {
        let common = &self.common;
        let identity = Identity::new(Role::Host, &self.host).map_err(chain)?;
        let group = self.group()?;
        let ca = common.ca()?;
        common.folder("/etc/libvirt/pki")?;
        let stale = common.authority(&ca, "/etc/libvirt/pki/cacert.pem", 0o444)?;
        // The same under the name that QEMU's own TLS wants in such a folder.
        common.authority(&ca, "/etc/libvirt/pki/ca-cert.pem", 0o444)?;
        let pair = Pair {
            cert: common.place("/etc/libvirt/pki/server-cert.pem"),
            key: common.place("/etc/libvirt/pki/server-key.pem"),
            cert_mode: 0o444,
            key_mode: 0o440,
            group,
            identity: Some(&identity),
            names: &self.names,
            // The host's hook shows it to the gateway.
            client: true,
            server: true,
        };
        common.pair(&ca, stale, &pair)?;
        println!("{}", libvirtd_conf());
        Ok(())
    }

    /// Number of the group; none where files are only prepared and the group is not known here.
    fn group(&self) -> Result<Option<u32>, Failure> {
        let wanted: Vec<&str> = match &self.group {
            Some(group) => vec![group],
            None => QEMU_GROUPS.to_vec(),
        };
        if let Some(number) = wanted.iter().find_map(|name| group_number(name)) {
            return Ok(Some(number));
        }
        let missing = format!("no group {} on this machine", wanted.join(" or "));
        if self.common.root == Path::new("/") || self.group.is_some() {
            return Err(Failure::Local(format!(
                "{missing}; install libvirt first, or name the group with --group"
            )));
        }
        eprintln!("warning: {missing}; give server-key.pem to QEMU's group on the host");
        Ok(None)
    }
}

/// Every certificate of the CA would do for libvirtd; only the clients' is meant to.
fn libvirtd_conf() -> String {
    format!(
        "# /etc/libvirt/libvirtd.conf\n\
         listen_tls = 1\n\
         listen_tcp = 0\n\
         auth_tls = \"none\"\n\
         ca_file = \"/etc/libvirt/pki/cacert.pem\"\n\
         cert_file = \"/etc/libvirt/pki/server-cert.pem\"\n\
         key_file = \"/etc/libvirt/pki/server-key.pem\"\n\
         tls_allowed_dn_list = [\"CN={CLIENT_NAME}\"]"
    )
}

fn group_number(name: &str) -> Option<u32> {
    let output = Command::new("getent").args(["group", "--", name]).output().ok()?;
    let line = String::from_utf8(output.stdout).ok()?;
    line.split(':').nth(2)?.trim().parse().ok()
}

/// Writes a file whole or not at all; it is never readable by more than it should be.
fn put(path: &Path, text: &str, mode: u32, group: Option<u32>) -> Result<(), Failure> {
    if let Ok(metadata) = fs_err::metadata(path) {
        let same = metadata.permissions().mode() & 0o7777 == mode
            && group.is_none_or(|group| metadata.gid() == group)
            && fs_err::read_to_string(path).is_ok_and(|before| before == text);
        if same {
            return Ok(());
        }
    }
    let fresh = path.with_extension(format!("new-{}", uuid::Uuid::new_v4().simple()));
    let written = write(&fresh, text, mode, group);
    let result = written.and_then(|()| fs_err::rename(&fresh, path));
    if result.is_err() && fresh.exists() {
        fs_err::remove_file(&fresh).map_err(Failure::local)?;
    }
    result.map_err(|error| Failure::Local(format!("cannot write {}: {error}", path.display())))
}

fn write(path: &Path, text: &str, mode: u32, group: Option<u32>) -> std::io::Result<()> {
    use std::io::Write as _;
    use std::os::unix::fs::OpenOptionsExt as _;
    let mut options = std::fs::OpenOptions::new();
    let mut file = options.write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(text.as_bytes())?;
    if let Some(group) = group {
        std::os::unix::fs::fchown(&file, None, Some(group))?;
    }
    file.set_permissions(std::fs::Permissions::from_mode(mode))?;
    file.sync_all()
}
