//! A seed service in memory behind real HTTP and mutual TLS; one for all tests of this process.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use actix_web::{HttpResponse, web};
use vmmgr_common::api::seed::{SeedCallers, SeedRecord, StoredSeed};
use vmmgr_common::error::{ErrorCode, Problem};
use vmmgr_common::ids::VmId;
use vmmgr_common::mtls::issue::{Ca, LeafRequest};
use vmmgr_common::mtls::{Identity, Role, TlsFiles};
use vmmgr_common::server::{self, Readiness, Service};
use vmmgr_common::testing::free_address;

struct Failure {
    vm: VmId,
    call: &'static str,
    /// It has its effect first.
    after: bool,
    /// So many calls pass first.
    pass: usize,
    code: ErrorCode,
}

#[derive(Default)]
struct State {
    seeds: BTreeMap<VmId, StoredSeed>,
    failures: Vec<Failure>,
}

/// The service, its address and the agent's certificate.
pub(super) struct Seeds {
    state: Arc<Mutex<State>>,
    pub(super) url: String,
    pub(super) tls: TlsFiles,
}

type Shared = web::Data<Arc<Mutex<State>>>;

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

fn issue(ca: &Ca, dir: &Path, role: Role) -> TlsFiles {
    let identity = Some(Identity { role, instance: "host01".to_owned() });
    let request = LeafRequest { identity, names: Vec::new(), server: true, client: true, days: 1 };
    ca.issue(&request).unwrap().write(dir, role.as_str()).unwrap();
    let file = |end: &str| dir.join(format!("{}.{end}", role.as_str()));
    TlsFiles { ca: dir.join("ca.pem"), cert: file("pem"), key: file("key") }
}

impl Seeds {
    pub(super) fn shared() -> &'static Self {
        static SEEDS: OnceLock<Seeds> = OnceLock::new();
        SEEDS.get_or_init(Self::start)
    }

    fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let ca = Ca::create(dir.path()).unwrap();
        let tls = issue(&ca, dir.path(), Role::HostAgent);
        let service = Service {
            name: "seeds",
            tls: issue(&ca, dir.path(), Role::Metadata),
            listen: free_address(),
            ops_listen: free_address(),
            accept: &[Role::HostAgent],
            ready: Readiness::default(),
        };
        // The files are read for every new client.
        let _kept = dir.keep();
        let (state, listen) = (Arc::new(Mutex::new(State::default())), service.listen);
        let data: Shared = web::Data::new(state.clone());
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
            runtime.block_on(server::run(service, move |app| {
                app.app_data(data.clone());
                routes(app);
            }))
        });
        while std::net::TcpStream::connect(listen).is_err() {
            std::thread::yield_now();
        }
        Self { state, url: format!("https://{listen}"), tls }
    }

    /// The next `call` for `vm` fails once.
    pub(super) fn failing(&self, vm: VmId, call: &'static str, after: bool, code: ErrorCode) {
        lock(&self.state).failures.push(Failure { vm, call, after, pass: 0, code });
    }

    /// The `call` for `vm` that comes after `pass` others fails once.
    pub(super) fn failing_later(&self, vm: VmId, call: &'static str, pass: usize) {
        let code = ErrorCode::Internal;
        lock(&self.state).failures.push(Failure { vm, call, after: false, pass, code });
    }

    /// Injected failures of `vm` that were not met.
    pub(super) fn failures_left(&self, vm: VmId) -> usize {
        lock(&self.state).failures.iter().filter(|failure| failure.vm == vm).count()
    }

    /// A guest's seed.
    pub(super) fn of(&self, vm: VmId) -> Option<StoredSeed> {
        lock(&self.state).seeds.get(&vm).cloned()
    }
}

fn routes(app: &mut web::ServiceConfig) {
    app.route("/v1/seeds/{vm}", web::put().to(put))
        .route("/v1/seeds/{vm}", web::get().to(stored))
        .route("/v1/seeds/{vm}", web::delete().to(delete))
        .route("/v1/seeds/{vm}/callers", web::put().to(callers))
        .route("/v1/seeds/{vm}/commit", web::post().to(commit))
        .route("/v1/seeds/{vm}/boot", web::get().to(boot))
        .route("/v1/seeds/{vm}/cidata.iso", web::get().to(iso));
}

fn act(
    state: &Shared,
    vm: VmId,
    call: &str,
    effect: impl FnOnce(&mut State) -> Result<(), Problem>,
) -> Result<HttpResponse, Problem> {
    let mut state = lock(state);
    let fail = |state: &mut State, after: bool| {
        let due = |f: &mut Failure| {
            let meant = f.vm == vm && f.call == call && f.after == after;
            let due = meant && f.pass == 0;
            f.pass -= usize::from(meant && !due);
            due
        };
        let at = state.failures.iter_mut().position(due);
        let found = at.map(|at| state.failures.remove(at));
        found.map_or(Ok(()), |failure| Err(Problem::new(failure.code, "injected")))
    };
    fail(&mut state, false)?;
    effect(&mut state)?;
    fail(&mut state, true)?;
    Ok(HttpResponse::NoContent().finish())
}

fn seed(state: &mut State, vm: VmId) -> Result<&mut StoredSeed, Problem> {
    let absent = || Problem::new(ErrorCode::NoSuchVm, format!("no seed of {vm}"));
    state.seeds.get_mut(&vm).ok_or_else(absent)
}

#[derive(serde::Deserialize)]
struct As {
    generation: Option<u32>,
}

async fn put(
    state: Shared,
    vm: web::Path<VmId>,
    given: web::Query<As>,
    record: web::Json<SeedRecord>,
) -> Result<HttpResponse, Problem> {
    let generation = given.generation.unwrap_or(1);
    act(&state, *vm, "put", |state| {
        state.seeds.insert(*vm, StoredSeed { generation, record: record.into_inner() });
        Ok(())
    })
}

async fn stored(state: Shared, vm: web::Path<VmId>) -> Result<HttpResponse, Problem> {
    seed(&mut lock(&state), *vm).map(|seed| HttpResponse::Ok().json(&*seed))
}

async fn delete(state: Shared, vm: web::Path<VmId>) -> Result<HttpResponse, Problem> {
    act(&state, *vm, "delete", |state| {
        state.seeds.remove(&vm);
        Ok(())
    })
}

async fn callers(
    state: Shared,
    vm: web::Path<VmId>,
    callers: web::Json<SeedCallers>,
) -> Result<HttpResponse, Problem> {
    act(&state, *vm, "callers", |state| {
        seed(state, *vm)?.record.macs = callers.into_inner().macs;
        Ok(())
    })
}

async fn commit(state: Shared, vm: web::Path<VmId>) -> Result<HttpResponse, Problem> {
    act(&state, *vm, "commit", |state| {
        seed(state, *vm)?.record.committed = true;
        Ok(())
    })
}

async fn boot(state: Shared, vm: web::Path<VmId>) -> Result<HttpResponse, Problem> {
    act(&state, *vm, "boot", |state| seed(state, *vm).map(drop))?;
    Ok(HttpResponse::Ok().json(serde_json::json!({"fetches": [], "total": 0})))
}

async fn iso(state: Shared, vm: web::Path<VmId>) -> Result<HttpResponse, Problem> {
    act(&state, *vm, "iso", |state| seed(state, *vm).map(drop))?;
    Ok(HttpResponse::Ok().body("an ISO"))
}
