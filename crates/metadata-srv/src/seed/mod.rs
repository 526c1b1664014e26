//! From a guest's typed record to the files that cloud-init reads; pure.
//!
//! The typed spec always goes to vendor-data, the user's own document to user-data byte for byte
//! (empty if there is none). cloud-init lays user-data over vendor-data key by key, so a document
//! with its own `users` or `runcmd` replaces ours, and one with `vendor_data: {enabled: false}`
//! switches ours off. JSON is YAML, so everything of ours is serialised by serde_json.

mod iso;
mod meta_data;
mod network;
pub(crate) mod validate;
mod vendor_data;

use bytes::Bytes;
use serde::Serialize;
use vmmgr_common::api::seed::{SeedPreview, SeedRecord, SeedSpec};
use vmmgr_common::error::{ErrorCode, Problem};

use crate::config::Defaults;

/// The files of a seed, in the order cloud-init asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SeedFile {
    /// Instance id, host name.
    MetaData,
    /// The user's document.
    UserData,
    /// Our document.
    VendorData,
    /// Network, version 2.
    NetworkConfig,
    /// All four as an ISO 9660 image.
    Iso,
}

impl SeedFile {
    /// All of them.
    pub(crate) const ALL: [Self; 5] =
        [Self::MetaData, Self::UserData, Self::VendorData, Self::NetworkConfig, Self::Iso];

    /// Name in the URL and in the ISO.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::MetaData => "meta-data",
            Self::UserData => "user-data",
            Self::VendorData => "vendor-data",
            Self::NetworkConfig => "network-config",
            Self::Iso => "cidata.iso",
        }
    }

    /// The file with that name.
    pub(crate) fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|file| file.name() == name)
    }
}

/// The four files as bytes.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Rendered {
    /// `meta-data`.
    pub(crate) meta_data: Bytes,
    /// `user-data`.
    pub(crate) user_data: Bytes,
    /// `vendor-data`.
    pub(crate) vendor_data: Bytes,
    /// `network-config`.
    pub(crate) network_config: Bytes,
}

impl Rendered {
    /// The same without the password's hash.
    pub(crate) fn locked(&self, spec: &SeedSpec, defaults: &Defaults) -> Result<Self, Problem> {
        Ok(Self { vendor_data: vendor_data(spec, defaults, Some(""))?.into(), ..self.clone() })
    }

    /// The seed as an ISO 9660 image; about 400 KiB.
    pub(crate) fn iso(&self) -> Result<Bytes, Problem> {
        iso::build(self).map(Bytes::from)
    }
}

/// Checks and renders a record. `generation` counts the specs this guest has had, from 1: another
/// spec is another instance to cloud-init, which then configures the guest anew.
pub(crate) fn render(
    record: &SeedRecord,
    generation: u32,
    defaults: &Defaults,
) -> Result<Rendered, Problem> {
    validate::spec(&record.spec)?;
    let spec = &record.spec;
    let mac = record.macs.first().copied();
    Ok(Rendered {
        meta_data: json(&meta_data::MetaData::new(record.vm, generation, spec)?)?.into(),
        user_data: spec.user_data.clone().unwrap_or_default().into(),
        vendor_data: vendor_data(spec, defaults, None)?.into(),
        network_config: match &spec.network {
            Some(fixed) => json(&network::NetworkConfig::new(fixed, mac)?)?.into(),
            // An empty mapping, not an empty body: readers parse it and then fall back to DHCP.
            None => Bytes::from_static(b"{}\n"),
        },
    })
}

/// The files as an operator may see them: no password hash, and of the user's document, which may
/// hold a secret anywhere, only its kind and size.
pub(crate) fn preview(
    record: &SeedRecord,
    generation: u32,
    defaults: &Defaults,
) -> Result<SeedPreview, Problem> {
    let rendered = render(record, generation, defaults)?;
    Ok(SeedPreview {
        meta_data: text(&rendered.meta_data),
        user_data: shown(&rendered.user_data),
        vendor_data: vendor_data(&record.spec, defaults, Some("***"))?,
        network_config: text(&rendered.network_config),
    })
}

fn shown(document: &[u8]) -> String {
    if document.is_empty() {
        return String::new();
    }
    let kind = match text(document).lines().next() {
        Some(line) if line.starts_with("#!") => "a script",
        Some("#cloud-config") => "#cloud-config",
        _ => "another kind of document",
    };
    format!("*** ({kind}, {} bytes; not shown, it may hold secrets)\n", document.len())
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn vendor_data(
    spec: &SeedSpec,
    defaults: &Defaults,
    mask: Option<&str>,
) -> Result<String, Problem> {
    let document = vendor_data::VendorData::new(spec, defaults, mask);
    json(&document).map(|json| format!("#cloud-config\n{json}"))
}

fn json<T: Serialize>(value: &T) -> Result<String, Problem> {
    serde_json::to_string_pretty(value).map(|text| text + "\n").map_err(|error| {
        Problem::new(ErrorCode::Internal, format!("cannot serialise a seed: {error}"))
    })
}

#[cfg(test)]
mod tests;
