//! Key pair and CA as files, re-read when they change.
//!
//! A pair that does not parse or match is reported once and the old one stays in use.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwap;
use rustls::RootCertStore;
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use serde::Deserialize;

/// `[tls]` of every service's configuration: PEM files.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TlsFiles {
    /// Certificate of the private CA.
    pub ca: PathBuf,
    /// This process's certificate chain.
    pub cert: PathBuf,
    /// Its private key, mode 0600.
    pub key: PathBuf,
}

/// Why TLS could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file is missing or is not PEM of the right kind.
    #[error("cannot read {what} from {path}: {reason}")]
    File {
        /// What was expected in it.
        what: &'static str,
        /// Which.
        path: PathBuf,
        /// Why not.
        reason: String,
    },
    /// Key and certificate do not belong together, or the like.
    #[error("cannot use the TLS files")]
    Rustls(#[from] rustls::Error),
}

/// How often changed files are looked for.
const LOOK_EVERY: Duration = Duration::from_secs(10);

/// What the files hold now.
#[derive(Debug)]
pub(super) struct Material {
    pub(super) roots: Arc<RootCertStore>,
    pub(super) key: Arc<CertifiedKey>,
    stamps: [Option<SystemTime>; 3],
}

/// Files and their present content.
#[derive(Debug)]
pub(super) struct Watched {
    files: TlsFiles,
    current: ArcSwap<Material>,
}

impl TlsFiles {
    fn stamps(&self) -> [Option<SystemTime>; 3] {
        let stamp = |path: &Path| fs_err::metadata(path).and_then(|m| m.modified()).ok();
        [stamp(&self.ca), stamp(&self.cert), stamp(&self.key)]
    }

    fn read(&self) -> Result<Material, TlsError> {
        let stamps = self.stamps();
        let bad = |what, path: &Path, reason: String| TlsError::File {
            what,
            path: path.to_owned(),
            reason,
        };
        let certificates = |what, path: &Path| -> Result<Vec<CertificateDer<'static>>, TlsError> {
            CertificateDer::pem_file_iter(path)
                .and_then(Iterator::collect)
                .map_err(|e| bad(what, path, e.to_string()))
        };
        let mut roots = RootCertStore::empty();
        for root in certificates("the CA", &self.ca)? {
            roots.add(root)?;
        }
        let chain = certificates("the certificate", &self.cert)?;
        let key = PrivateKeyDer::from_pem_file(&self.key)
            .map_err(|e| bad("the private key", &self.key, e.to_string()))?;
        let provider = rustls::crypto::aws_lc_rs::default_provider();
        let key = CertifiedKey::from_der(chain, key, &provider)?;
        Ok(Material { roots: Arc::new(roots), key: Arc::new(key), stamps })
    }

    pub(super) fn watch(&self) -> Result<Arc<Watched>, TlsError> {
        let current = ArcSwap::from_pointee(self.read()?);
        Ok(Arc::new(Watched { files: self.clone(), current }))
    }
}

impl Watched {
    pub(super) fn current(&self) -> Arc<Material> {
        self.current.load_full()
    }

    /// Reads the files again if they changed.
    pub(super) fn refresh(&self) {
        if self.files.stamps() == self.current.load().stamps {
            return;
        }
        match self.files.read() {
            Ok(material) => {
                self.current.store(Arc::new(material));
                tracing::info!(path = %self.files.cert.display(), "took up new TLS files");
            }
            Err(error) => tracing::warn!(
                error = %crate::error::Chain(&error),
                "new TLS files are not usable, the old ones stay in use"
            ),
        }
    }

    /// Looks for changes until the last other holder is gone.
    pub(super) fn spawn_refresh(self: &Arc<Self>) {
        let Ok(runtime) = tokio::runtime::Handle::try_current() else {
            return;
        };
        let weak = Arc::downgrade(self);
        runtime.spawn(async move {
            let mut tick = tokio::time::interval(LOOK_EVERY);
            loop {
                tick.tick().await;
                let Some(watched) = weak.upgrade() else { return };
                watched.refresh();
            }
        });
    }
}
