//! One guest: what libvirt and metadata-srv say of it.

use actix_web::{HttpResponse, web};
use vmmgr_common::api::domain::{Domain, InterfaceAddresses};
use vmmgr_common::api::seed::{BootTrace, SeedPreview};
use vmmgr_common::client::MetadataClient;
use vmmgr_common::error::{ErrorCode, Problem};
use vmmgr_common::ids::VmId;

use crate::domain::read;
use crate::ops::Engine;

/// Read from libvirt now, not from the inventory.
pub(super) async fn show(
    engine: web::Data<Engine>,
    vm: web::Path<String>,
) -> Result<web::Json<Domain>, Problem> {
    let vm = VmId::parse(&vm)?;
    let raw = engine.context().hypervisor.domain(vm).await?;
    read::parse(&raw).map(web::Json).ok_or_else(|| {
        Problem::new(ErrorCode::HypervisorFailed, format!("guest {vm}: its XML cannot be read"))
    })
}

/// The definition, without secrets.
pub(super) async fn xml(
    engine: web::Data<Engine>,
    vm: web::Path<String>,
) -> Result<HttpResponse, Problem> {
    let xml = engine.context().hypervisor.definition(VmId::parse(&vm)?, false).await?;
    Ok(HttpResponse::Ok().content_type("text/xml; charset=utf-8").body(xml))
}

/// Lease, ARP and guest agent.
pub(super) async fn addresses(
    engine: web::Data<Engine>,
    vm: web::Path<String>,
) -> Result<web::Json<Vec<InterfaceAddresses>>, Problem> {
    Ok(web::Json(engine.context().hypervisor.addresses(VmId::parse(&vm)?).await?))
}

fn metadata(engine: &Engine) -> Result<&MetadataClient, Problem> {
    let context = engine.context();
    context.metadata.as_ref().ok_or_else(|| {
        Problem::new(
            ErrorCode::MetadataUnreachable,
            format!("host {} has no seed service configured", context.host),
        )
    })
}

/// What the guest fetched of its seed.
pub(super) async fn boot(
    engine: web::Data<Engine>,
    vm: web::Path<String>,
) -> Result<web::Json<BootTrace>, Problem> {
    Ok(web::Json(metadata(&engine)?.boot(VmId::parse(&vm)?).await?))
}

/// The seed as served, secrets masked.
pub(super) async fn seed(
    engine: web::Data<Engine>,
    vm: web::Path<String>,
) -> Result<web::Json<SeedPreview>, Problem> {
    Ok(web::Json(metadata(&engine)?.preview(VmId::parse(&vm)?).await?))
}
