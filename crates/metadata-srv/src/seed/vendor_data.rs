//! `vendor-data`: the typed spec over the operator's defaults.

use serde::Serialize;
use vmmgr_common::api::seed::SeedSpec;

use crate::config::Defaults;

/// A `#cloud-config` document of 22.4.2's vocabulary.
#[derive(Serialize)]
pub(super) struct VendorData<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    hostname: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    manage_etc_hosts: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    users: Option<[User<'a>; 1]>,
    /// Changes to the image's own default user. 22.4.2 warns that it has no name, and obeys; a
    /// `users` entry `default` passes its schema, and cannot unlock the password.
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<Password<'a>>,
    /// Keys of the image's own default user.
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    ssh_authorized_keys: &'a [String],
    #[serde(skip_serializing_if = "Option::is_none")]
    timezone: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    locale: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    growpart: Option<GrowPart>,
    #[serde(skip_serializing_if = "Option::is_none")]
    resize_rootfs: Option<bool>,
    #[serde(skip_serializing_if = "<[Vec<String>]>::is_empty")]
    runcmd: &'a [Vec<String>],
}

#[derive(Serialize)]
struct User<'a> {
    name: &'a str,
    shell: &'static str,
    /// One rule as text: the schema of 22.4.2 takes no list.
    sudo: &'static str,
    #[serde(flatten)]
    password: Password<'a>,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    ssh_authorized_keys: &'a [String],
}

#[derive(Serialize)]
struct Password<'a> {
    lock_passwd: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    hashed_passwd: Option<&'a str>,
}

#[derive(Serialize)]
struct GrowPart {
    mode: &'static str,
    devices: [&'static str; 1],
}

impl<'a> VendorData<'a> {
    /// Lays `spec` over `defaults`. With `mask`, that stands in for the password's hash; an empty
    /// one leaves the hash away and the password of the guest alone.
    pub(super) fn new(spec: &'a SeedSpec, defaults: &'a Defaults, mask: Option<&'a str>) -> Self {
        let hash = spec.password_hash.as_ref();
        let hash = hash.map(|hash| mask.unwrap_or_else(|| hash.expose().as_str()));
        let password = || Password {
            lock_passwd: hash.is_none(),
            hashed_passwd: hash.filter(|hash| !hash.is_empty()),
        };
        let user = |name: &'a String| User {
            name,
            shell: "/bin/bash",
            sudo: "ALL=(ALL) NOPASSWD:ALL",
            password: password(),
            ssh_authorized_keys: &spec.ssh_keys,
        };
        let named = spec.user.is_some();
        Self {
            hostname: spec.hostname.as_deref(),
            manage_etc_hosts: (defaults.manage_etc_hosts && spec.hostname.is_some())
                .then_some(true),
            users: spec.user.as_ref().map(|name| [user(name)]),
            user: (!named && hash.is_some()).then(password),
            ssh_authorized_keys: if named { &[] } else { &spec.ssh_keys },
            timezone: spec.timezone.as_deref().or(defaults.timezone.as_deref()),
            locale: spec.locale.as_deref().or(defaults.locale.as_deref()),
            growpart: defaults.growpart.then_some(GrowPart { mode: "auto", devices: ["/"] }),
            resize_rootfs: defaults.growpart.then_some(true),
            runcmd: &spec.runcmd,
        }
    }
}
