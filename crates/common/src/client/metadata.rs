//! Client of metadata-srv's administration.

use std::time::Duration;

use bytes::Bytes;
use reqwest::Method;

use super::http::{ClientError, Peer};
use crate::api::seed::{BootTrace, SeedCallers, SeedPreview, SeedRecord, StoredSeed};
use crate::error::{ErrorCode, Problem};
use crate::ids::{HostId, VmId};
use crate::mtls::{Identity, Role, TlsFiles};

/// It answers from memory and one small file.
const DEADLINE: Duration = Duration::from_secs(5);

/// The seed service of one host.
#[derive(Debug, Clone)]
pub struct MetadataClient {
    peer: Peer,
}

impl MetadataClient {
    /// A client of the service at `base_url` whose certificate must name `host`.
    pub fn new(files: &TlsFiles, base_url: &str, host: &HostId) -> Result<Self, ClientError> {
        let identity = Identity { role: Role::Metadata, instance: host.to_string() };
        let peer = Peer::new(files, base_url, identity, ErrorCode::MetadataUnreachable)?;
        Ok(Self { peer })
    }

    async fn change<B: serde::Serialize + Sync>(
        &self,
        method: Method,
        path: &str,
        body: Option<&B>,
    ) -> Result<(), Problem> {
        self.peer.call(method, path, body, DEADLINE).await.map(drop)
    }

    /// Writes a guest's seed, replacing what was there.
    pub async fn put(&self, record: &SeedRecord) -> Result<(), Problem> {
        self.change(Method::PUT, &format!("/v1/seeds/{}", record.vm), Some(record)).await
    }

    /// Writes a guest's seed as the instance of that number; its secrets can be read again.
    pub async fn put_as(&self, seed: &StoredSeed) -> Result<(), Problem> {
        let path = format!("/v1/seeds/{}?generation={}", seed.record.vm, seed.generation);
        self.change(Method::PUT, &path, Some(&seed.record)).await
    }

    /// What is there, secrets included.
    pub async fn stored(&self, vm: VmId) -> Result<StoredSeed, Problem> {
        self.peer.get(&format!("/v1/seeds/{vm}")).await
    }

    /// Tells who may read it.
    pub async fn set_callers(&self, vm: VmId, callers: &SeedCallers) -> Result<(), Problem> {
        self.change(Method::PUT, &format!("/v1/seeds/{vm}/callers"), Some(callers)).await
    }

    /// Opens it to the guest.
    pub async fn commit(&self, vm: VmId) -> Result<(), Problem> {
        self.change::<()>(Method::POST, &format!("/v1/seeds/{vm}/commit"), None).await
    }

    /// Removes it for good; one that is not there is fine.
    pub async fn delete(&self, vm: VmId) -> Result<(), Problem> {
        self.change::<()>(Method::DELETE, &format!("/v1/seeds/{vm}"), None).await
    }

    /// What the guest fetched.
    pub async fn boot(&self, vm: VmId) -> Result<BootTrace, Problem> {
        self.peer.get(&format!("/v1/seeds/{vm}/boot")).await
    }

    /// The files as served, secrets masked.
    pub async fn preview(&self, vm: VmId) -> Result<SeedPreview, Problem> {
        self.peer.get(&format!("/v1/seeds/{vm}/preview")).await
    }

    /// The seed as an ISO 9660 image labelled `cidata`.
    pub async fn iso(&self, vm: VmId) -> Result<Bytes, Problem> {
        self.peer.bytes(&format!("/v1/seeds/{vm}/cidata.iso")).await
    }
}
