//! Who a certificate is.

use std::fmt;
use std::str::FromStr;

use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

/// What a process may be inside vmmgr.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    /// api-gateway.
    Gateway,
    /// host-agent.
    HostAgent,
    /// metadata-srv.
    Metadata,
    /// vnc-proxy.
    VncProxy,
    /// The public front.
    Nginx,
    /// A person with `vmmctl`.
    Operator,
    /// A libvirt host's own hook (`kvm.*` name).
    Host,
}

impl Role {
    /// All roles.
    pub const ALL: [Self; 7] = [
        Self::Gateway,
        Self::HostAgent,
        Self::Metadata,
        Self::VncProxy,
        Self::Nginx,
        Self::Operator,
        Self::Host,
    ];

    /// As it stands in the SAN.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Gateway => "gateway",
            Self::HostAgent => "host-agent",
            Self::Metadata => "metadata",
            Self::VncProxy => "vnc-proxy",
            Self::Nginx => "nginx",
            Self::Operator => "operator",
            Self::Host => "host",
        }
    }
}

/// Role and instance of a certificate.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Identity {
    /// What it is.
    pub role: Role,
    /// Which of them: the host's name, the gateway's, the user's.
    pub instance: String,
}

/// A certificate or URI that names no identity of ours.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no vmmgr identity: {0}")]
pub struct InvalidIdentity(String);

impl Identity {
    /// An identity; `instance` is 1 to 64 of `a-z A-Z 0-9 . _ -`.
    pub fn new(role: Role, instance: &str) -> Result<Self, InvalidIdentity> {
        let fits = (1..=64).contains(&instance.len())
            && instance.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b));
        if fits {
            Ok(Self { role, instance: instance.to_owned() })
        } else {
            Err(InvalidIdentity(format!("instance {instance:?}")))
        }
    }

    /// The one `vmmgr://` URI SAN of a leaf; none or several are refused.
    pub fn of_certificate(der: &[u8]) -> Result<Self, InvalidIdentity> {
        let (_, certificate) =
            X509Certificate::from_der(der).map_err(|e| InvalidIdentity(e.to_string()))?;
        let names = certificate
            .subject_alternative_name()
            .map_err(|e| InvalidIdentity(e.to_string()))?
            .ok_or_else(|| InvalidIdentity("the certificate has no alternative name".into()))?;
        let mut ours = names.value.general_names.iter().filter_map(|name| match name {
            GeneralName::URI(uri) if uri.starts_with("vmmgr://") => Some(*uri),
            _ => None,
        });
        match (ours.next(), ours.next()) {
            (Some(uri), None) => uri.parse(),
            (None, _) => Err(InvalidIdentity("the certificate names no role".into())),
            (Some(_), Some(_)) => Err(InvalidIdentity("the certificate names two roles".into())),
        }
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "vmmgr://{}/{}", self.role.as_str(), self.instance)
    }
}

impl FromStr for Identity {
    type Err = InvalidIdentity;
    fn from_str(uri: &str) -> Result<Self, Self::Err> {
        let refuse = || InvalidIdentity(format!("{uri:?}"));
        let rest = uri.strip_prefix("vmmgr://").ok_or_else(refuse)?;
        let (role, instance) = rest.split_once('/').ok_or_else(refuse)?;
        let role = Role::ALL.into_iter().find(|r| r.as_str() == role).ok_or_else(refuse)?;
        Self::new(role, instance)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identity_reads_as_it_prints() {
        for role in Role::ALL {
            let id = Identity::new(role, "host01").unwrap();
            assert_eq!(id.to_string().parse::<Identity>().unwrap(), id);
        }
        for bad in [
            "",
            "vmmgr://",
            "vmmgr://root/x",
            "vmmgr://host-agent/",
            "vmmgr://host-agent/a/b",
            "https://gateway/x",
        ] {
            assert!(bad.parse::<Identity>().is_err(), "{bad}");
        }
    }
}
