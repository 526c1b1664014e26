//! Records of gold images and ISOs.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use vmmgr_common::api::disk::{DiskSize, GoldImage, Medium};
use vmmgr_common::api::host::Arch;
use vmmgr_common::api::iso::IsoUrl;
use vmmgr_common::error::{ErrorCode, Problem};
use vmmgr_common::ids::ResourceName;
use vmmgr_common::text::check_line;

use super::App;
use crate::store::{Table, from_text, to_text};

/// A gold image by name and architecture.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ImageRecord {
    /// Name.
    pub(crate) name: ResourceName,
    /// Guests that can boot it.
    pub(crate) arch: Arch,
    /// `https://…`, `http://…`, `ssh://…` or a path on the hosts.
    #[schema(max_length = 2000, pattern = "^(https?://|ssh://|/)")]
    pub(crate) uri: String,
    /// Digest that the file must have.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(pattern = "^[0-9a-f]{64}$")]
    pub(crate) sha256: Option<String>,
    /// Virtual size; disks made from it are at least as large.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) size: Option<DiskSize>,
    /// For people.
    #[serde(default)]
    #[schema(max_length = 1000)]
    pub(crate) description: String,
    /// RFC 3339, UTC; ours to set.
    #[serde(default)]
    pub(crate) modified: String,
}

/// An ISO by name: a file on the hosts, or one that QEMU reads from a web server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct IsoRecord {
    /// Name.
    pub(crate) name: ResourceName,
    /// Path on the hosts; empty where there is a `url`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schema(max_length = 2000, pattern = "^(/|$)")]
    pub(crate) path: String,
    /// Where QEMU reads it; the web server is one of the hosts' origins.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) url: Option<IsoUrl>,
    /// `false`: the web server need not prove who it is (`https`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) tls_verify: Option<bool>,
    /// For people.
    #[serde(default)]
    #[schema(max_length = 1000)]
    pub(crate) description: String,
    /// RFC 3339, UTC; ours to set.
    #[serde(default)]
    pub(crate) modified: String,
}

impl IsoRecord {
    /// As the described system writes one: a path, or the URL of a web server.
    pub(crate) fn at(name: ResourceName, uri: &str, description: String) -> Result<Self, Problem> {
        let (path, url) = if uri.starts_with("http://") || uri.starts_with("https://") {
            (String::new(), Some(IsoUrl::parse(uri)?))
        } else {
            (uri.to_owned(), None)
        };
        Ok(Self { name, path, url, tls_verify: None, description, modified: String::new() })
    }

    /// Path or URL.
    pub(crate) fn place(&self) -> String {
        self.url.as_ref().map_or_else(|| self.path.clone(), ToString::to_string)
    }

    /// What an agent is asked to put into a drive.
    pub(crate) fn medium(self) -> Medium {
        match self.url {
            Some(url) => Medium::Network { url, tls_verify: self.tls_verify.unwrap_or(true) },
            None => Medium::Iso { path: self.path },
        }
    }
}

fn refuse(field: &str, rule: &str) -> Problem {
    Problem::new(ErrorCode::InvalidValue, format!("{field}: {rule}"))
}

fn no_such(what: &str, name: &str) -> Problem {
    Problem::new(ErrorCode::NoSuchRecord, format!("no {what} `{}`", name.escape_debug()))
}

fn exists(what: &str, name: &str) -> Problem {
    Problem::new(ErrorCode::AlreadyExists, format!("{what} `{name}` exists"))
}

fn checked_image(mut image: ImageRecord) -> Result<ImageRecord, Problem> {
    check_line("uri", &image.uri, 2000)?;
    check_line("description", &image.description, 1000)?;
    let starts = ["https://", "http://", "ssh://", "/"];
    if !starts.iter().any(|start| image.uri.starts_with(start)) {
        return Err(refuse(
            "uri",
            "expected https://, http://, ssh:// or an absolute path on the hosts",
        ));
    }
    let digest = |text: &String| {
        text.len() == 64 && text.bytes().all(|b| b.is_ascii_hexdigit() && !b.is_ascii_uppercase())
    };
    if !image.sha256.as_ref().is_none_or(digest) {
        return Err(refuse("sha256", "expected 64 lower-case hex digits"));
    }
    image.modified = super::operations::now();
    Ok(image)
}

fn checked_iso(mut iso: IsoRecord) -> Result<IsoRecord, Problem> {
    check_line("path", &iso.path, 2000)?;
    check_line("description", &iso.description, 1000)?;
    match &iso.url {
        Some(_) if !iso.path.is_empty() => {
            return Err(refuse("path", "an ISO has a path on the hosts or a url, not both"));
        }
        Some(url) if iso.tls_verify.is_some() && !url.is_tls() => {
            return Err(refuse("tls_verify", "has a meaning for https only"));
        }
        None if iso.tls_verify.is_some() => {
            return Err(refuse("tls_verify", "has a meaning with a url only"));
        }
        None if !iso.path.starts_with('/') => {
            return Err(refuse("path", "expected an absolute path on the hosts"));
        }
        Some(_) | None => {}
    }
    iso.modified = super::operations::now();
    Ok(iso)
}

impl App {
    /// Adds a gold image; hosts fetch it when a disk first asks for it.
    pub(crate) async fn add_image(&self, image: ImageRecord) -> Result<ImageRecord, Problem> {
        let image = checked_image(image)?;
        let key = format!("{}/{}", image.name, image.arch.as_str());
        if !self.store.insert(Table::Images, &key, &to_text(&image)?).await? {
            return Err(exists("gold image", &key));
        }
        Ok(image)
    }

    /// Writes a gold image, over what was there.
    pub(crate) async fn put_image(&self, image: ImageRecord) -> Result<ImageRecord, Problem> {
        let image = checked_image(image)?;
        let key = format!("{}/{}", image.name, image.arch.as_str());
        self.store.put(Table::Images, &key, &to_text(&image)?).await?;
        Ok(image)
    }

    /// All gold images, or those of one architecture.
    pub(crate) async fn images(&self, arch: Option<Arch>) -> Result<Vec<ImageRecord>, Problem> {
        let mut images = Vec::new();
        for (_, text) in self.store.list(Table::Images).await? {
            let image: ImageRecord = from_text(&text)?;
            if arch.is_none_or(|arch| arch == image.arch) {
                images.push(image);
            }
        }
        Ok(images)
    }

    /// The gold image that a guest of `arch` means by `name`.
    /// It must fit into a disk of `size`.
    pub(crate) async fn gold(
        &self,
        name: &ResourceName,
        arch: &str,
        size: DiskSize,
    ) -> Result<GoldImage, Problem> {
        let key = format!("{name}/{arch}");
        let text = self.store.get(Table::Images, &key).await?;
        let text = text.ok_or_else(|| no_such("gold image", &key))?;
        let ImageRecord { name, arch, uri, sha256, size: least, .. } = from_text(&text)?;
        if let Some(least) = least.filter(|least| *least > size) {
            let gib = least.bytes().div_ceil(1 << 30);
            return Err(refuse("size", &format!("gold image `{key}` needs at least {gib}G")));
        }
        Ok(GoldImage { name, arch, uri, sha256 })
    }

    /// Removes a gold image's record; disks over it stay as they are.
    pub(crate) async fn remove_image(
        &self,
        name: &ResourceName,
        arch: Arch,
    ) -> Result<(), Problem> {
        let key = format!("{name}/{}", arch.as_str());
        match self.store.delete(Table::Images, &key).await? {
            true => Ok(()),
            false => Err(no_such("gold image", &key)),
        }
    }

    /// Adds an ISO.
    pub(crate) async fn add_iso(&self, iso: IsoRecord) -> Result<IsoRecord, Problem> {
        let iso = checked_iso(iso)?;
        if !self.store.insert(Table::Isos, iso.name.as_str(), &to_text(&iso)?).await? {
            return Err(exists("ISO", iso.name.as_str()));
        }
        Ok(iso)
    }

    /// Writes an ISO, over what was there.
    pub(crate) async fn put_iso(&self, iso: IsoRecord) -> Result<IsoRecord, Problem> {
        let iso = checked_iso(iso)?;
        self.store.put(Table::Isos, iso.name.as_str(), &to_text(&iso)?).await?;
        Ok(iso)
    }

    /// All ISOs.
    pub(crate) async fn isos(&self) -> Result<Vec<IsoRecord>, Problem> {
        self.store.list(Table::Isos).await?.iter().map(|(_, text)| from_text(text)).collect()
    }

    /// One ISO.
    pub(crate) async fn iso(&self, name: &ResourceName) -> Result<IsoRecord, Problem> {
        let text = self.store.get(Table::Isos, name.as_str()).await?;
        from_text(&text.ok_or_else(|| no_such("ISO", name.as_str()))?)
    }

    /// Removes an ISO's record.
    pub(crate) async fn remove_iso(&self, name: &ResourceName) -> Result<(), Problem> {
        match self.store.delete(Table::Isos, name.as_str()).await? {
            true => Ok(()),
            false => Err(no_such("ISO", name.as_str())),
        }
    }
}
