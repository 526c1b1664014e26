//! A host's agent without a host.

use std::collections::{BTreeMap, HashMap};
use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use actix_web::{HttpResponse, web};
use bytes::Bytes;
use futures_util::stream;
use serde_json::{Value, json};
use tokio::sync::watch;
use vmmgr_common::api::console::OFFSET_HEADER;
use vmmgr_common::api::operation::{Operation, OperationRequest, OperationState, Outcome, Work};
use vmmgr_common::error::{ErrorCode, Problem};
use vmmgr_common::ids::{OperationId, VmId};

/// What the fake agent holds, and how it is to fail.
#[derive(Default)]
pub(crate) struct Host {
    pub(crate) domains: BTreeMap<VmId, Value>,
    pub(crate) operations: HashMap<OperationId, Operation>,
    /// All work that arrived.
    pub(crate) works: Vec<Work>,
    /// Work is refused with this.
    pub(crate) refuse: Option<Problem>,
    /// Work is accepted and fails with this.
    pub(crate) fail: Option<Problem>,
    /// Work is accepted and does not end.
    pub(crate) stall: bool,
    /// Run of all guests that run.
    pub(crate) run: u32,
    /// Snapshots that each guest has beside `s1`.
    pub(crate) more_snapshots: usize,
}

#[derive(Clone)]
pub(super) struct Agent {
    pub(super) host: Arc<Mutex<Host>>,
    pub(super) changed: watch::Sender<u64>,
}

impl Host {
    fn carry_out(&mut self, work: &Work) -> Outcome {
        let state = |host: &mut Self, vm: &VmId, state: &str| {
            if let Some(domain) = host.domains.get_mut(vm) {
                domain["state"] = json!(state);
            }
        };
        let mut outcome = Outcome::default();
        match work {
            Work::Create { domain } => {
                self.domains.insert(domain.id, guest(domain.id));
            }
            Work::IfUnchanged { work, .. } => return self.carry_out(work),
            Work::Configure { vm, change } => {
                if let (Some(domain), Some(text)) = (self.domains.get_mut(vm), &change.description)
                {
                    domain["description"] = json!(text);
                }
            }
            Work::Start { vm } => state(self, vm, "running"),
            Work::Shutdown { vm } | Work::Destroy { vm } => state(self, vm, "shut_off"),
            Work::Delete { vm } => drop(self.domains.remove(vm)),
            Work::Attach { .. } => outcome.target = Some("vdb".to_owned()),
            _ => {}
        }
        outcome
    }

    fn accept(&mut self, request: &OperationRequest) -> Result<Operation, Problem> {
        if let Some(problem) = &self.refuse {
            return Err(problem.clone());
        }
        let vm = request.work.vm();
        let unknown = vm.filter(|vm| !self.domains.contains_key(vm));
        if let (Some(vm), false) = (unknown, matches!(request.work, Work::Create { .. })) {
            return Err(absent(&vm.to_string()));
        }
        self.works.push(request.work.clone());
        let mut operation = Operation {
            id: request.id,
            verb: request.work.verb().to_owned(),
            vm,
            state: OperationState::Running,
            accepted_at: "2026-01-01T00:00:00Z".to_owned(),
            ended_at: None,
            problem: self.fail.clone(),
            outcome: Outcome::default(),
        };
        if operation.problem.is_some() {
            operation.state = OperationState::Failed;
        } else if !self.stall {
            operation.outcome = self.carry_out(&request.work);
            operation.state = OperationState::Succeeded;
        }
        self.operations.insert(operation.id, operation.clone());
        Ok(operation)
    }
}

/// A guest as the agent shows it.
pub(crate) fn guest(id: VmId) -> Value {
    json!({"id": id, "name": format!("web-{id}"), "description": "a guest", "arch": "x86_64",
        "state": "shut_off", "vcpus": 1, "vcpus_max": 2, "memory_kib": 1_048_576,
        "memory_kib_max": 2_097_152, "cpu_time_ns": 7, "autostart": false,
        "disks": [{"device": "disk", "source_type": "file", "target": "vda", "bus": "virtio", "source": "/s/a"}],
        "nics": [{"kind": "bridge", "mac": "52:54:00:00:00:01", "source": "br-ext", "model": "virtio"}],
        "graphics": "vnc", "record": {"creator": "ada", "ipaddr": "10.0.0.2/24"}})
}

fn absent(vm: &str) -> Problem {
    Problem::new(ErrorCode::NoSuchVm, format!("no guest {vm}"))
}

async fn info() -> web::Json<Value> {
    web::Json(json!({"host": "host01", "arch": "x86_64", "guest_archs": ["x86_64"],
        "virt_type": "qemu", "libvirt_version": "9.0.0", "hypervisor_version": "7.2.0", "cpus": 2,
        "cpu_mhz": 2000, "memory_bytes": 8_589_934_592_u64, "memory_free_bytes": 4, "templates": [],
        "devices": [
            {"name": "local-disk", "kind": "disk", "description": "d", "template": "built-in"},
            {"name": "net-br-ext", "kind": "net", "description": "n", "template": "built-in"},
            {"name": "cdrom", "kind": "iso", "description": "c", "template": "built-in"}]}))
}

/// A snapshot for every change: the consumer replaces all it knows.
async fn events(agent: web::Data<Agent>) -> HttpResponse {
    let start = (agent.changed.subscribe(), agent, true);
    let lines = stream::unfold(start, |(mut changed, agent, first)| async move {
        if !first && changed.changed().await.is_err() {
            return None;
        }
        let generation = *changed.borrow_and_update();
        let domains: Vec<Value> = agent.host.lock().unwrap().domains.values().cloned().collect();
        let line = json!({"event": "snapshot", "host": "host01", "epoch": OperationId::new(),
            "generation": generation, "connected": true, "age_seconds": 0, "domains": domains});
        Some((Ok::<_, Infallible>(Bytes::from(line.to_string() + "\n")), (changed, agent, false)))
    });
    HttpResponse::Ok().content_type("application/x-ndjson").streaming(lines)
}

async fn submit(
    agent: web::Data<Agent>,
    request: web::Json<OperationRequest>,
) -> Result<web::Json<Operation>, Problem> {
    let operation = agent.host.lock().unwrap().accept(&request)?;
    agent.changed.send_modify(|generation| *generation += 1);
    Ok(web::Json(operation))
}

fn find(agent: &Agent, id: &str) -> Result<Operation, Problem> {
    let id = OperationId::parse(id)?;
    let found = agent.host.lock().unwrap().operations.get(&id).cloned();
    found.ok_or_else(|| Problem::new(ErrorCode::NoSuchOperation, format!("no operation {id}")))
}

async fn operation(
    agent: web::Data<Agent>,
    id: web::Path<String>,
) -> Result<web::Json<Operation>, Problem> {
    Ok(web::Json(find(&agent, &id)?))
}

async fn progress(agent: web::Data<Agent>, id: web::Path<String>) -> Result<HttpResponse, Problem> {
    let end = json!({"event": "done", "operation": find(&agent, &id)?});
    let text = format!("{}\n{end}\n", json!({"event": "progress", "line": "volume made"}));
    Ok(HttpResponse::Ok().content_type("application/x-ndjson").body(text))
}

async fn domain(
    agent: web::Data<Agent>,
    vm: web::Path<String>,
) -> Result<web::Json<Value>, Problem> {
    let found = agent.host.lock().unwrap().domains.get(&VmId::parse(&vm)?).cloned();
    found.map(web::Json).ok_or_else(|| absent(&vm))
}

async fn part(
    agent: web::Data<Agent>,
    path: web::Path<(String, String)>,
) -> Result<HttpResponse, Problem> {
    if !agent.host.lock().unwrap().domains.contains_key(&VmId::parse(&path.0)?) {
        return Err(absent(&path.0));
    }
    Ok(match path.1.as_str() {
        "xml" => HttpResponse::Ok().content_type("text/xml").body("<domain/>"),
        "snapshots" => {
            let all = 1..=1 + agent.host.lock().unwrap().more_snapshots;
            let snapshot = |number: usize| {
                json!({"name": format!("s{number}"), "description": "",
                    "created": "2026-01-01T00:00:00Z", "state": "shut_off", "current": number == 1})
            };
            HttpResponse::Ok().json(all.map(snapshot).collect::<Vec<_>>())
        }
        "addresses" => HttpResponse::Ok().json(json!([{"mac": "52:54:00:00:00:01", "name": "eth0",
            "addresses": [{"address": "10.0.0.2/24", "family": "ipv4"}]}])),
        "boot" => HttpResponse::Ok().json(json!({"fetches": [], "total": 3})),
        _ => HttpResponse::Ok()
            .json(json!({"meta_data": "m", "user_data": "u", "vendor_data": "v",
            "network_config": "n"})),
    })
}

async fn disk(path: web::Path<(String, String)>) -> web::Json<Value> {
    web::Json(json!({"target": path.1, "capacity_bytes": 1_u64 << 30, "allocation_bytes": 1,
        "physical_bytes": 2}))
}

async fn nic(path: web::Path<(String, String)>) -> web::Json<Value> {
    web::Json(json!({"mac": path.1, "rx_bytes": 1, "rx_packets": 2, "rx_errors": 0,
        "rx_dropped": 0, "tx_bytes": 3, "tx_packets": 4, "tx_errors": 0, "tx_dropped": 0}))
}

async fn console(
    agent: web::Data<Agent>,
    vm: web::Path<String>,
) -> Result<web::Json<Value>, Problem> {
    let host = agent.host.lock().unwrap();
    let domain = host.domains.get(&VmId::parse(&vm)?).ok_or_else(|| absent(&vm))?;
    if domain["state"] != "running" {
        return Err(Problem::new(ErrorCode::WrongState, format!("guest {vm} is not running")));
    }
    Ok(web::Json(json!({"run": format!("run-{}", host.run), "kinds": ["vnc", "serial"]})))
}

async fn console_log(range: web::Query<HashMap<String, String>>) -> HttpResponse {
    let from = range.get("from").map_or("0", String::as_str).to_owned();
    HttpResponse::Ok().insert_header((OFFSET_HEADER, from)).body("login: ")
}

async fn screenshot() -> HttpResponse {
    HttpResponse::Ok().content_type("image/png").body("PNG")
}

pub(super) fn routes(service: &mut web::ServiceConfig) {
    service
        .route("/v1/host", web::get().to(info))
        .route("/v1/events", web::get().to(events))
        .route("/v1/operations", web::post().to(submit))
        .route("/v1/operations/{id}", web::get().to(operation))
        .route("/v1/operations/{id}/events", web::get().to(progress))
        .route("/v1/domains/{vm}", web::get().to(domain))
        .route("/v1/domains/{vm}/disks/{target}", web::get().to(disk))
        .route("/v1/domains/{vm}/nics/{mac}/stats", web::get().to(nic))
        .route("/v1/domains/{vm}/console", web::get().to(console))
        .route("/v1/domains/{vm}/console/log", web::get().to(console_log))
        .route("/v1/domains/{vm}/screenshot", web::get().to(screenshot))
        .route("/v1/domains/{vm}/{part}", web::get().to(part));
}
