//! The agent's side: mutual TLS, JSON.

use actix_web::{HttpResponse, web};
use serde::Deserialize;
use vmmgr_common::api::seed::{BootTrace, SeedCallers, SeedPreview, SeedRecord, StoredSeed};
use vmmgr_common::error::{ErrorCode, Problem};
use vmmgr_common::ids::{MacAddress, VmId};
use vmmgr_common::server::Routes;

use crate::seed::SeedFile;
use crate::store::Store;

/// NICs of one guest.
const MOST_NICS: usize = 64;

/// Routes below `/v1/seeds/{vm}`; a store as `web::Data<Store>` must be there.
pub(crate) fn routes(config: &mut web::ServiceConfig) {
    Routes::new(config)
        .route("/v1/seeds/{vm}", web::put().to(put_seed))
        .route("/v1/seeds/{vm}", web::get().to(stored))
        .route("/v1/seeds/{vm}", web::delete().to(delete_seed))
        .route("/v1/seeds/{vm}/callers", web::put().to(set_callers))
        .route("/v1/seeds/{vm}/commit", web::post().to(commit_seed))
        .route("/v1/seeds/{vm}/boot", web::get().to(boot))
        .route("/v1/seeds/{vm}/preview", web::get().to(preview))
        .route("/v1/seeds/{vm}/cidata.iso", web::get().to(iso));
}

/// `?generation=N`: as which instance; the next one where the spec is another otherwise.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Instance {
    generation: Option<u32>,
}

async fn stored(
    store: web::Data<Store>,
    vm: web::Path<VmId>,
) -> Result<web::Json<StoredSeed>, Problem> {
    Ok(web::Json(store.require(*vm)?.stored()))
}

async fn put_seed(
    store: web::Data<Store>,
    vm: web::Path<VmId>,
    instance: web::Query<Instance>,
    record: web::Json<SeedRecord>,
) -> Result<HttpResponse, Problem> {
    let (vm, record) = (*vm, record.into_inner());
    if record.vm != vm {
        let detail = format!("the path names guest {vm}, the body guest {}", record.vm);
        return Err(Problem::new(ErrorCode::InvalidValue, detail));
    }
    bounded(&record.macs)?;
    let generation = instance.generation;
    blocking(move || store.put_as(record, generation)).await?;
    tracing::info!(vm.id = %vm, "seed.put");
    Ok(HttpResponse::NoContent().finish())
}

async fn set_callers(
    store: web::Data<Store>,
    vm: web::Path<VmId>,
    callers: web::Json<SeedCallers>,
) -> Result<HttpResponse, Problem> {
    let (vm, macs) = (*vm, callers.into_inner().macs);
    bounded(&macs)?;
    blocking(move || store.set_callers(vm, macs)).await?;
    tracing::info!(vm.id = %vm, "seed.callers");
    Ok(HttpResponse::NoContent().finish())
}

async fn commit_seed(
    store: web::Data<Store>,
    vm: web::Path<VmId>,
) -> Result<HttpResponse, Problem> {
    let vm = *vm;
    blocking(move || store.commit(vm)).await?;
    tracing::info!(vm.id = %vm, "seed.commit");
    Ok(HttpResponse::NoContent().finish())
}

async fn delete_seed(
    store: web::Data<Store>,
    vm: web::Path<VmId>,
) -> Result<HttpResponse, Problem> {
    let vm = *vm;
    blocking(move || store.delete(vm)).await?;
    tracing::info!(vm.id = %vm, "seed.delete");
    Ok(HttpResponse::NoContent().finish())
}

async fn boot(
    store: web::Data<Store>,
    vm: web::Path<VmId>,
) -> Result<web::Json<BootTrace>, Problem> {
    Ok(web::Json(store.require(*vm)?.trace.boot()))
}

async fn preview(
    store: web::Data<Store>,
    vm: web::Path<VmId>,
) -> Result<web::Json<SeedPreview>, Problem> {
    store.preview(*vm).map(web::Json)
}

async fn iso(store: web::Data<Store>, vm: web::Path<VmId>) -> Result<HttpResponse, Problem> {
    let image = store.require(*vm)?.file(SeedFile::Iso)?;
    Ok(HttpResponse::Ok().content_type("application/octet-stream").body(image.body().clone()))
}

fn bounded(macs: &[MacAddress]) -> Result<(), Problem> {
    if macs.len() <= MOST_NICS {
        return Ok(());
    }
    Err(Problem::new(ErrorCode::InvalidValue, format!("`macs` has more than {MOST_NICS} entries")))
}

/// Off the workers' threads: the disk may be slow.
async fn blocking<F>(work: F) -> Result<(), Problem>
where
    F: FnOnce() -> Result<(), Problem> + Send + 'static,
{
    web::block(work).await.map_err(|error| {
        Problem::new(ErrorCode::Internal, format!("a change of a seed was cut off: {error}"))
    })?
}

#[cfg(test)]
mod tests;
