//! A service that is told to stop: endless streams end, answers under way arrive, kept connections
//! hold nothing up.

#![expect(clippy::unwrap_used, reason = "a test that panics fails")]

use std::convert::Infallible;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use actix_web::{HttpResponse, web};
use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use tokio::sync::{Notify, oneshot};
use vmmgr_common::mtls::issue::{Ca, LeafRequest};
use vmmgr_common::mtls::{Identity, Role, TlsFiles, client_config};
use vmmgr_common::server::{Draining, Readiness, Service, run_until};
use vmmgr_common::testing::free_address;

/// Below what a drain may take at most: who waits for kept connections does not keep it.
const SOON: Duration = Duration::from_secs(5);
const WHOLE: usize = 3 << 20;

fn leaf(dir: &Path, ca: &Ca, role: Role) -> TlsFiles {
    let identity = Some(Identity::new(role, "one").unwrap());
    let request = LeafRequest { identity, names: Vec::new(), server: true, client: true, days: 1 };
    ca.issue(&request).unwrap().write(dir, role.as_str()).unwrap();
    let at = |ending: &str| dir.join(format!("{}.{ending}", role.as_str()));
    TlsFiles { ca: dir.join("ca.pem"), cert: at("pem"), key: at("key") }
}

#[derive(Clone, Default)]
struct Gate(Arc<(Notify, Notify)>);

async fn endless(draining: Draining) -> HttpResponse {
    let first = stream::iter([Ok::<_, Infallible>(Bytes::from_static(b"first"))]);
    HttpResponse::Ok().streaming(draining.cut(first.chain(stream::pending())))
}

async fn slow(gate: web::Data<Gate>) -> HttpResponse {
    gate.0.0.notify_one();
    gate.0.1.notified().await;
    HttpResponse::Ok().body(vec![7; WHOLE])
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_ends_streams_finishes_answers_and_waits_for_no_idle_caller() {
    let dir = tempfile::tempdir().unwrap();
    let ca = Ca::create(dir.path()).unwrap();
    let (listen, ops_listen) = (free_address(), free_address());
    let service = Service {
        name: "test",
        tls: leaf(dir.path(), &ca, Role::Gateway),
        listen,
        ops_listen,
        accept: &[Role::Nginx],
        ready: Readiness::default(),
    };
    let gate = Gate::default();
    let data = web::Data::new(gate.clone());
    let routes = move |app: &mut web::ServiceConfig| {
        app.app_data(data.clone())
            .route("/endless", web::get().to(endless))
            .route("/slow", web::get().to(slow))
            .route("/quick", web::get().to(|| async { "quick" }));
    };
    let (tell, told) = oneshot::channel::<()>();
    let (over, mut ended) = oneshot::channel();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
        let told = async { told.await.unwrap() };
        over.send(runtime.block_on(run_until(service, routes, Vec::new(), told))).unwrap();
    });

    let server = Identity::new(Role::Gateway, "one").unwrap();
    let http = reqwest::Client::builder()
        .tls_backend_preconfigured(
            client_config(&leaf(dir.path(), &ca, Role::Nginx), server).unwrap(),
        )
        .no_proxy()
        .build()
        .unwrap();
    let get = |path: &str| http.get(format!("https://{listen}{path}")).send();
    while get("/quick").await.is_err() {
        assert!(ended.try_recv().is_err(), "the service ended by itself");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let mut endless = get("/endless").await.unwrap();
    assert_eq!(endless.chunk().await.unwrap().unwrap(), "first");
    let slow = tokio::spawn(get("/slow"));
    gate.0.0.notified().await;
    // A connection that is kept for a next request.
    assert_eq!(get("/quick").await.unwrap().text().await.unwrap(), "quick");

    tell.send(()).unwrap();
    let end = tokio::time::timeout(SOON, endless.chunk()).await.expect("the stream goes on");
    assert_eq!(end.unwrap(), None, "the stream ends whole");
    assert!(ended.try_recv().is_err(), "an answer is under way");
    gate.0.1.notify_one();
    let body = slow.await.unwrap().unwrap().bytes().await.unwrap();
    assert_eq!(body.len(), WHOLE);
    let ended = tokio::time::timeout(SOON, ended).await.expect("an idle connection holds it up");
    ended.unwrap().unwrap();
}
