//! Servers that are not vmmgr's: judged by an operator's CA and by the name that was called.

use std::path::Path;
use std::sync::Arc;

use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;

use super::reload::TlsError;

/// A configuration for a server whose certificate is signed by a CA in the PEM file `ca`, and names
/// the server. The caller shows no certificate.
pub fn trusting(ca: &Path) -> Result<ClientConfig, TlsError> {
    let bad = |reason: String| TlsError::File { what: "the CA", path: ca.to_owned(), reason };
    let mut roots = RootCertStore::empty();
    for root in CertificateDer::pem_file_iter(ca).map_err(|error| bad(error.to_string()))? {
        roots.add(root.map_err(|error| bad(error.to_string()))?)?;
    }
    if roots.is_empty() {
        return Err(bad("there is no certificate in it".to_owned()));
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    Ok(ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth())
}
