//! Issuing: the private CA and its leaves (rcgen). Only `vmmctl pki` and tests call this.

use std::net::IpAddr;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, SanType,
};
use time::{Duration, OffsetDateTime};

use super::{Identity, dns_name};

/// Life of the CA.
const CA_DAYS: i64 = 15 * 365;
/// Clocks of hosts differ; a leaf is valid from a little before now.
const BACKDATE: Duration = Duration::minutes(10);

/// Why something was not issued.
#[derive(Debug, thiserror::Error)]
pub enum IssueError {
    /// A file cannot be read or written.
    #[error("cannot access {path}")]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The certificate cannot be built; a name in it may not fit.
    #[error("cannot build the certificate")]
    Rcgen(#[from] rcgen::Error),
}

/// What a leaf is for.
#[derive(Debug, Clone)]
pub struct LeafRequest {
    /// Who it is inside vmmgr; none for a public server certificate.
    pub identity: Option<Identity>,
    /// DNS names and IP addresses besides `<role>.vmmgr.internal`.
    pub names: Vec<String>,
    /// May be presented by a server.
    pub server: bool,
    /// May be presented by a client.
    pub client: bool,
    /// Life in days from now; negative makes an expired one, for tests.
    pub days: i64,
}

/// A leaf and its key, PEM.
pub struct Issued {
    /// Certificate.
    pub cert_pem: String,
    /// PKCS#8 private key; write it 0600.
    pub key_pem: String,
}

/// The private CA: `ca.pem` and `ca.key` in a folder.
pub struct Ca {
    cert_pem: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Ca {
    /// Makes a new CA in `dir`; refuses to overwrite a key that is there.
    pub fn create(dir: &Path) -> Result<Self, IssueError> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.distinguished_name = common_name("vmmgr private CA");
        params.not_before = OffsetDateTime::now_utc() - BACKDATE;
        params.not_after = OffsetDateTime::now_utc() + Duration::days(CA_DAYS);
        let cert_pem = params.self_signed(&key)?.pem();
        write_new(&dir.join("ca.key"), &key.serialize_pem(), 0o600)?;
        write_new(&dir.join("ca.pem"), &cert_pem, 0o644)?;
        Self::load(dir)
    }

    /// Opens the CA in `dir`.
    pub fn load(dir: &Path) -> Result<Self, IssueError> {
        let read = |name: &str| {
            let path = dir.join(name);
            fs_err::read_to_string(&path).map_err(|source| IssueError::File { path, source })
        };
        let cert_pem = read("ca.pem")?;
        let issuer = Issuer::from_ca_cert_pem(&cert_pem, KeyPair::from_pem(&read("ca.key")?)?)?;
        Ok(Self { cert_pem, issuer })
    }

    /// The CA's certificate, PEM.
    #[must_use]
    pub fn cert_pem(&self) -> &str {
        &self.cert_pem
    }

    /// Issues a leaf with a fresh key.
    pub fn issue(&self, request: &LeafRequest) -> Result<Issued, IssueError> {
        self.issue_for(request, vec![KeyUsagePurpose::DigitalSignature])
    }

    /// As [`Ca::issue`], without a key usage extension: libvirt before 10 refuses a certificate whose
    /// extension lacks `keyEncipherment`, which has no meaning for our kind of key.
    pub fn issue_for_libvirt(&self, request: &LeafRequest) -> Result<Issued, IssueError> {
        self.issue_for(request, Vec::new())
    }

    fn issue_for(
        &self,
        request: &LeafRequest,
        key_usages: Vec<KeyUsagePurpose>,
    ) -> Result<Issued, IssueError> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::default();
        params.subject_alt_names = alternative_names(request)?;
        params.distinguished_name = common_name(&subject(request));
        params.key_usages = key_usages;
        if request.server {
            params.extended_key_usages.push(ExtendedKeyUsagePurpose::ServerAuth);
        }
        if request.client {
            params.extended_key_usages.push(ExtendedKeyUsagePurpose::ClientAuth);
        }
        params.use_authority_key_identifier_extension = true;
        let now = OffsetDateTime::now_utc();
        params.not_after = now + Duration::days(request.days);
        params.not_before = now.min(params.not_after - Duration::days(1)) - BACKDATE;
        let cert = params.signed_by(&key, &self.issuer)?;
        Ok(Issued { cert_pem: cert.pem(), key_pem: key.serialize_pem() })
    }
}

impl Issued {
    /// Writes `<name>.pem` and `<name>.key` (0600) below `dir`, each whole or not at all.
    pub fn write(&self, dir: &Path, name: &str) -> Result<(), IssueError> {
        replace(&dir.join(format!("{name}.key")), &self.key_pem, 0o600)?;
        replace(&dir.join(format!("{name}.pem")), &self.cert_pem, 0o644)
    }
}

fn subject(request: &LeafRequest) -> String {
    match &request.identity {
        Some(identity) => format!("{} {}", identity.role.as_str(), identity.instance),
        None => request.names.first().cloned().unwrap_or_else(|| "vmmgr".to_owned()),
    }
}

fn common_name(text: &str) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, text);
    name
}

fn alternative_names(request: &LeafRequest) -> Result<Vec<SanType>, IssueError> {
    let mut names = Vec::new();
    if let Some(identity) = &request.identity {
        names.push(SanType::URI(identity.to_string().try_into()?));
        names.push(SanType::DnsName(dns_name(identity.role).try_into()?));
    }
    for name in &request.names {
        names.push(match name.parse::<IpAddr>() {
            Ok(address) => SanType::IpAddress(address),
            Err(_) => SanType::DnsName(name.clone().try_into()?),
        });
    }
    Ok(names)
}

fn write_new(path: &Path, text: &str, mode: u32) -> Result<(), IssueError> {
    let write = || -> std::io::Result<()> {
        let mut file =
            std::fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(path)?;
        std::io::Write::write_all(&mut file, text.as_bytes())?;
        file.sync_all()
    };
    write().map_err(|source| IssueError::File { path: path.to_owned(), source })
}

fn replace(path: &Path, text: &str, mode: u32) -> Result<(), IssueError> {
    let fresh = path.with_extension(format!("new-{}", uuid::Uuid::new_v4().simple()));
    write_new(&fresh, text, mode)?;
    fs_err::rename(&fresh, path)
        .map_err(|source| IssueError::File { path: path.to_owned(), source })
}
