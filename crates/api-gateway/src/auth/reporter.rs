//! Who reports an event of a libvirt hook: a host with its certificate, or an account.

use actix_web::dev::Payload;
use actix_web::{FromRequest, HttpRequest};
use percent_encoding::percent_decode_str;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use std::future::{Ready, ready};
use vmmgr_common::error::{ErrorCode, Problem};
use vmmgr_common::mtls::{Identity, Role};
use vmmgr_common::server::Peer;

use super::{Caller, ManageVms};
use crate::watch;

/// The client certificate that nginx has verified at the hosts' name, PEM with URL escapes. nginx sets
/// it there and clears it everywhere else; from any other peer it is an attempt.
pub(crate) const CERTIFICATE_HEADER: &str = "x-vmmgr-client-certificate";

/// Who reports.
pub(crate) struct Reporter {
    /// `host01`, or `user:ada`.
    pub(crate) name: String,
}

fn forbidden(why: impl Into<String>) -> Problem {
    Problem::new(ErrorCode::Forbidden, why)
}

/// The host of a certificate that nginx forwards.
fn host(request: &HttpRequest) -> Result<Option<String>, Problem> {
    let mut headers = request.headers().get_all(CERTIFICATE_HEADER);
    let (Some(header), second) = (headers.next(), headers.next()) else { return Ok(None) };
    if header.is_empty() && second.is_none() {
        return Ok(None);
    }
    let from_nginx = request.conn_data::<Peer>().is_some_and(|peer| peer.0.role == Role::Nginx);
    if !from_nginx || second.is_some() {
        tracing::warn!("refused a client certificate in a header");
        return Err(forbidden("only nginx may say whose certificate it has seen"));
    }
    let unreadable = || forbidden("the client certificate cannot be read");
    let pem = percent_decode_str(header.to_str().map_err(|_| unreadable())?);
    let pem = pem.decode_utf8().map_err(|_| unreadable())?;
    let der = CertificateDer::from_pem_slice(pem.as_bytes()).map_err(|_| unreadable())?;
    match Identity::of_certificate(&der) {
        Ok(Identity { role: Role::Host, instance }) => Ok(Some(instance)),
        Ok(other) => Err(forbidden(format!("{other} is no host"))),
        Err(error) => Err(forbidden(error.to_string())),
    }
}

fn reporter(request: &HttpRequest, payload: &mut Payload) -> Result<Reporter, Problem> {
    if let Some(name) = host(request)? {
        watch::is_of(request, format!("host:{name}"), true);
        return Ok(Reporter { name });
    }
    let caller = Caller::<ManageVms>::from_request(request, payload).into_inner()?;
    Ok(Reporter { name: format!("user:{}", caller.identity.user) })
}

impl FromRequest for Reporter {
    type Error = Problem;
    type Future = Ready<Result<Self, Problem>>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        ready(reporter(request, payload))
    }
}
