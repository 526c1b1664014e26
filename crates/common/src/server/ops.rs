//! `/healthz`, `/readyz` and `/metrics` on a listener of their own.

use std::sync::OnceLock;

use actix_web::{HttpResponse, web};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use serde_json::{Map, Value, json};

use super::Readiness;

/// Upper bounds of duration histograms, seconds: 0.1 ms to 30 s.
const BUCKETS: [f64; 12] =
    [0.0001, 0.0005, 0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0, 30.0];

/// Installs the process's recorder; later calls give the same handle.
pub(super) fn recorder() -> Option<PrometheusHandle> {
    static HANDLE: OnceLock<Option<PrometheusHandle>> = OnceLock::new();
    HANDLE
        .get_or_init(|| {
            PrometheusBuilder::new()
                .set_buckets_for_metric(Matcher::Suffix("_seconds".into()), &BUCKETS)
                .and_then(PrometheusBuilder::install_recorder)
                .map_err(|error| tracing::warn!(%error, "metrics are off"))
                .ok()
        })
        .clone()
}

/// Installs the process's metrics recorder; handles to counters made before this count nothing.
/// [`run`](super::run) does it too.
pub fn install_metrics() {
    recorder();
}

pub(super) fn routes(config: &mut web::ServiceConfig) {
    config
        .service(web::resource("/healthz").get(async || HttpResponse::Ok().body("ok\n")))
        .service(web::resource("/readyz").get(readyz))
        .service(web::resource("/metrics").get(metrics));
}

async fn readyz(ready: web::Data<Readiness>) -> HttpResponse {
    let conditions = ready.all();
    let fine = conditions.values().all(Result::is_ok);
    let body: Map<String, Value> = conditions
        .into_iter()
        .map(|(what, state)| (what.to_owned(), json!(state.err().unwrap_or_else(|| "ok".into()))))
        .collect();
    let mut answer = if fine { HttpResponse::Ok() } else { HttpResponse::ServiceUnavailable() };
    answer.json(json!({ "ready": fine, "conditions": body }))
}

async fn metrics() -> HttpResponse {
    match recorder() {
        Some(handle) => {
            handle.run_upkeep();
            HttpResponse::Ok().content_type("text/plain; version=0.0.4").body(handle.render())
        }
        None => HttpResponse::ServiceUnavailable().body("metrics are off\n"),
    }
}
