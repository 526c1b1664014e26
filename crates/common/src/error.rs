//! The one failure body of every service, and its stable codes.
//!
//! RFC 9457 problem details. Each code has one HTTP status, decided in [`ErrorCode::status`] and
//! documented in `docs/errors.md` (a test compares the two).

use serde::ser::SerializeMap as _;
use serde::{Deserialize, Serialize};

macro_rules! codes {
    ($($(#[$doc:meta])* $variant:ident = $code:literal, $status:literal, $title:literal;)*) => {
        /// Stable machine-readable reason of a failure.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
        pub enum ErrorCode {
            $($(#[$doc])* #[serde(rename = $code)] $variant,)*
        }

        impl ErrorCode {
            /// Every code, in the order of `docs/errors.md`.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// The code as it stands in the body.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $code,)* }
            }

            /// The HTTP status that carries this code.
            #[must_use]
            pub const fn status(self) -> u16 {
                match self { $(Self::$variant => $status,)* }
            }

            /// One line for people; the same for every occurrence.
            #[must_use]
            pub const fn title(self) -> &'static str {
                match self { $(Self::$variant => $title,)* }
            }
        }
    };
}

codes! {
    /// The body, path or query does not parse.
    MalformedRequest = "malformed_request", 400, "the request cannot be read";
    /// No credential, or one that does not verify.
    Unauthenticated = "unauthenticated", 401, "authentication is required";
    /// The caller is known and may not do this.
    Forbidden = "forbidden", 403, "not allowed";
    /// No such route.
    NoSuchRoute = "no_such_route", 404, "no such route";
    /// No such host, or not the caller's business.
    NoSuchHost = "no_such_host", 404, "no such host";
    /// No such guest, or not the caller's business.
    NoSuchVm = "no_such_vm", 404, "no such guest";
    /// A record (device, gold image, ISO, template, user) that does not exist.
    NoSuchRecord = "no_such_record", 404, "no such record";
    /// No such operation.
    NoSuchOperation = "no_such_operation", 404, "no such operation";
    /// No disk, NIC or drive with that target or MAC.
    NoSuchDevice = "no_such_device", 404, "no such device on this guest";
    /// The guest has no console of that kind, or no session has that id.
    NoSuchConsole = "no_such_console", 404, "no such console";
    /// The verb is not offered here.
    MethodNotAllowed = "method_not_allowed", 405, "this method is not offered here";
    /// The thing exists already.
    AlreadyExists = "already_exists", 409, "already exists";
    /// The guest is in a state that excludes the action.
    WrongState = "wrong_state", 409, "not possible in the present state";
    /// Same idempotency key, other body.
    KeyReuse = "key_reuse", 409, "the idempotency key was used with another body";
    /// A tenant link whose time or uses are over, or a way of the seed that is closed.
    Gone = "gone", 410, "no longer available";
    /// `If-Match` names another version.
    PreconditionFailed = "precondition_failed", 412, "changed in between";
    /// The body is larger than the route takes.
    TooLarge = "too_large", 413, "the request is too large";
    /// The body parses but a value in it is not acceptable.
    InvalidValue = "invalid_value", 422, "a value is not acceptable";
    /// An image is not fit: backing file, data file, other format, too large.
    UnfitImage = "unfit_image", 422, "the image is not acceptable";
    /// The composed domain or device XML broke the allow-list.
    XmlRefused = "xml_refused", 422, "the domain definition is not acceptable";
    /// Too many requests; `Retry-After` says when.
    RateLimited = "rate_limited", 429, "too many requests";
    /// A defect of ours; the log has the request id.
    Internal = "internal", 500, "internal error";
    /// libvirt refused or failed; the detail has its text.
    HypervisorFailed = "hypervisor_failed", 502, "the host's libvirt failed";
    /// A device hook ended with a failure, or was killed at its time.
    HookFailed = "hook_failed", 502, "the host's device hook failed";
    /// A device hook is not run: it is missing, or others than root may write to it.
    HookRefused = "hook_refused", 502, "the host does not run the device hook";
    /// The image origin failed.
    OriginFailed = "origin_failed", 502, "the image origin failed";
    /// The host's agent does not answer.
    HostUnreachable = "host_unreachable", 503, "the host cannot be reached";
    /// libvirtd on the host does not answer; the agent is reconnecting.
    HypervisorUnreachable = "hypervisor_unreachable", 503, "the host's libvirt cannot be reached";
    /// The seed service does not answer.
    MetadataUnreachable = "metadata_unreachable", 503, "the metadata service cannot be reached";
    /// The LDAP directory does not answer, or refuses what is not the caller's doing.
    DirectoryUnreachable = "directory_unreachable", 503, "the directory of accounts cannot be asked";
    /// The gateway's store is down.
    StoreUnavailable = "store_unavailable", 503, "the record store is unavailable";
    /// A call outlived its deadline; its effect is unknown until the operation says.
    Deadline = "deadline", 504, "the deadline passed";
    /// The pool or file system has no room.
    NoSpace = "no_space", 507, "no space left in the pool";
}

/// A failure as every API answers it (`application/problem+json`). `type` and `title` follow from
/// the code and are written, not kept.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, thiserror::Error)]
#[error("{detail}")]
pub struct Problem {
    /// HTTP status, 400 to 599.
    pub status: u16,
    /// Stable code.
    pub code: ErrorCode,
    /// What failed, on which host and guest; safe to show to the caller.
    pub detail: String,
    /// What the caller can do next.
    #[serde(default)]
    pub hint: Option<String>,
    /// The id under which the services' logs tell more.
    #[serde(default)]
    pub request_id: Option<String>,
}

impl Serialize for Problem {
    fn serialize<S: serde::Serializer>(&self, out: S) -> Result<S::Ok, S::Error> {
        let mut body = out.serialize_map(None)?;
        body.serialize_entry("type", &format_args!("urn:vmmgr:error:{}", self.code.as_str()))?;
        body.serialize_entry("title", self.code.title())?;
        body.serialize_entry("status", &self.status)?;
        body.serialize_entry("code", &self.code)?;
        body.serialize_entry("detail", &self.detail)?;
        if let Some(hint) = &self.hint {
            body.serialize_entry("hint", hint)?;
        }
        if let Some(id) = &self.request_id {
            body.serialize_entry("request_id", id)?;
        }
        body.end()
    }
}

impl Problem {
    /// A problem with the status that its code implies.
    #[must_use]
    pub fn new(code: ErrorCode, detail: impl Into<String>) -> Self {
        Self { status: code.status(), code, detail: detail.into(), hint: None, request_id: None }
    }

    /// Adds what the caller can do next.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

impl From<crate::ids::InvalidName> for Problem {
    fn from(refusal: crate::ids::InvalidName) -> Self {
        Self::new(ErrorCode::InvalidValue, refusal.to_string())
    }
}

/// Prints an error with all its causes, `outer: middle: root`; for logs.
pub struct Chain<'a>(pub &'a (dyn std::error::Error + 'a));

impl std::fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.0)?;
        let mut cause = self.0.source();
        while let Some(error) = cause {
            write!(f, ": {error}")?;
            cause = error.source();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_is_documented_with_its_status() {
        let page = include_str!("../../../docs/errors.md");
        for code in ErrorCode::ALL {
            let row = format!("| `{}` | {} |", code.as_str(), code.status());
            assert!(page.contains(&row), "docs/errors.md lacks the row {row}");
        }
        let rows = page.lines().filter(|line| line.starts_with("| `")).count();
        assert_eq!(rows, ErrorCode::ALL.len(), "docs/errors.md has rows for codes that are gone");
    }
}
