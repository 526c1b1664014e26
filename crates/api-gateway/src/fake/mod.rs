//! A gateway and a fake agent that really speak HTTP over mutual TLS, for the route tests.

mod agent;

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use actix_web::web;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use reqwest::{Method, Response};
use serde_json::{Value, json};
use tokio::sync::watch;
use vmmgr_common::ids::VmId;
use vmmgr_common::mtls::issue::{Ca, LeafRequest};
use vmmgr_common::mtls::{Identity, Role as PeerRole, TlsFiles, client_config};
use vmmgr_common::server::{self, Door, Readiness, Service};
use vmmgr_common::testing::free_address;

use self::agent::Agent;
pub(crate) use self::agent::{Host, guest};
use crate::app::App;
use crate::app::links::Links;
use crate::auth::Role;
use crate::auth::token::Tokens;
use crate::directory::Directory;
use crate::limits::{LimitConfig, Limits};
use crate::store::{Sqlite, Store};

/// Longest time that a test waits for something to come about.
const PATIENCE: Duration = Duration::from_secs(20);
/// Key of every test gateway's tokens.
pub(crate) const KEY: [u8; 32] = [9; 32];

/// Key of every test gateway's MD5 links.
pub(crate) const LEGACY_KEY: &str = "a-key-of-our-own";

fn serve(
    tls: TlsFiles,
    listen: SocketAddr,
    accept: &'static [PeerRole],
    configure: impl Fn(&mut web::ServiceConfig) + Send + Sync + 'static,
    doors: Vec<Door>,
) {
    let service = Service {
        name: "test",
        tls,
        listen,
        ops_listen: free_address(),
        accept,
        ready: Readiness::default(),
    };
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
        runtime.block_on(server::run_with_doors(service, configure, doors)).unwrap();
    });
}

/// A gateway with the fake agent of `host01` behind it.
pub(crate) struct Stack {
    dir: tempfile::TempDir,
    gateway: SocketAddr,
    agent: SocketAddr,
    /// What the agent holds.
    pub(crate) host: Arc<Mutex<Host>>,
    changed: watch::Sender<u64>,
    /// Speaks with nginx's certificate.
    http: reqwest::Client,
    /// The application, for looking behind the API.
    pub(crate) app: web::Data<App>,
}

impl Stack {
    /// Starts both; no host is registered yet.
    pub(crate) async fn start() -> Self {
        Self::on(Arc::new(Sqlite::in_memory())).await
    }

    /// The same, with these records.
    pub(crate) async fn on(store: Arc<dyn Store>) -> Self {
        Self::limited(store, Limits::new(&LimitConfig::default())).await
    }

    /// The same, with these limits.
    pub(crate) async fn limited(store: Arc<dyn Store>, limits: Limits) -> Self {
        Self::set_up(store, limits, None).await
    }

    /// The same, with people of a directory.
    pub(crate) async fn with_directory(store: Arc<dyn Store>, directory: Directory) -> Self {
        Self::set_up(store, Limits::new(&LimitConfig::default()), Some(directory)).await
    }

    async fn set_up(store: Arc<dyn Store>, limits: Limits, directory: Option<Directory>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let ca = Ca::create(dir.path()).unwrap();
        let leaf = |role: PeerRole, instance: &str| issue(&ca, dir.path(), role, instance);
        let (gateway, agent) = (free_address(), free_address());
        let host = Arc::new(Mutex::new(Host::default()));
        let changed = watch::Sender::new(1);
        let state = web::Data::new(Agent { host: host.clone(), changed: changed.clone() });
        let agent_tls = leaf(PeerRole::HostAgent, "host01");
        serve(
            agent_tls,
            agent,
            &[PeerRole::Gateway],
            move |service| {
                service.app_data(state.clone());
                agent::routes(service);
            },
            Vec::new(),
        );
        let gateway_tls = leaf(PeerRole::Gateway, "gw1");
        let tokens = Tokens::with_key(&KEY, 3600);
        let links = Links::with_keys(Some(LEGACY_KEY));
        let app = Arc::new(
            App::start(store, tokens, links, limits, directory, gateway_tls.clone()).await.unwrap(),
        );
        crate::app::consoles::keep(&app);
        crate::app::progress::keep(&app);
        let app = web::Data::from(app);
        let (routes, proxies) = crate::doors(app.clone());
        let accept: &[PeerRole] = &[PeerRole::Nginx, PeerRole::Operator];
        serve(gateway_tls, gateway, accept, routes, vec![proxies]);
        let http = client(&leaf(PeerRole::Nginx, "front"));
        let stack = Self { dir, gateway, agent, host, changed, http, app };
        stack.until(async || stack.listening().await).await;
        stack
    }

    /// The application of a second gateway, without its listener.
    pub(crate) async fn another(&self, store: Arc<dyn Store>) -> App {
        self.another_with(store, None).await
    }

    /// The same, with another directory.
    pub(crate) async fn another_with(
        &self,
        store: Arc<dyn Store>,
        directory: Option<Directory>,
    ) -> App {
        let ca = Ca::load(self.dir.path()).unwrap();
        let tls = issue(&ca, self.dir.path(), PeerRole::Gateway, "gw2");
        let (tokens, links) = (Tokens::with_key(&KEY, 3600), Links::with_keys(Some(LEGACY_KEY)));
        let limits = Limits::new(&LimitConfig::default());
        App::start(store, tokens, links, limits, directory, tls).await.unwrap()
    }

    /// Starts both, registers `host01` and puts one guest on it.
    pub(crate) async fn with_guest() -> (Self, VmId) {
        let stack = Self::start().await;
        let vm = stack.add_guest().await;
        (stack, vm)
    }

    /// Its host, and a guest there.
    pub(crate) async fn add_guest(&self) -> VmId {
        let (stack, vm) = (self, VmId::new());
        stack.host.lock().unwrap().domains.insert(vm, guest(vm));
        stack.changed.send_modify(|generation| *generation += 1);
        let (status, body) = stack.add_host().await;
        assert_eq!(status, 201, "{body}");
        stack.until(async || stack.app.fleet.knows(vm)).await;
        vm
    }

    async fn listening(&self) -> bool {
        // Where nobody listens, a connection from a port to itself comes about at times.
        let open = async |address: SocketAddr| {
            let stream = tokio::net::TcpStream::connect(address).await;
            stream.is_ok_and(|stream| stream.local_addr().is_ok_and(|own| own != address))
        };
        open(self.gateway).await && open(self.agent).await
    }

    /// Waits until something holds.
    pub(crate) async fn until(&self, holds: impl AsyncFn() -> bool) {
        let start = Instant::now();
        while !holds().await {
            assert!(start.elapsed() < PATIENCE, "it did not come about");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// The agent tells what it holds now.
    pub(crate) fn touch(&self) {
        self.changed.send_modify(|generation| *generation += 1);
    }

    /// Registers the fake agent as `host01`.
    pub(crate) async fn add_host(&self) -> (u16, Value) {
        let url = format!("https://{}", self.agent);
        let body = json!({"name": "host01", "url": url, "description": "test"});
        self.call(Role::Admin, Method::POST, "/v1/hosts", Some(body)).await
    }

    /// A token of a role.
    pub(crate) fn token(&self, role: Role) -> String {
        self.app.accounts.know("ada", 0);
        self.app.tokens.sign("ada", role, 0).unwrap().expose().clone()
    }

    /// A request as nginx forwards it.
    pub(crate) fn request(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        self.http.request(method, format!("https://{}{path}", self.gateway))
    }

    /// A request of somebody with a role, and the answer.
    pub(crate) async fn send(
        &self,
        role: Role,
        method: Method,
        path: &str,
        body: Option<Value>,
    ) -> Response {
        let mut request = self.request(method, path).bearer_auth(self.token(role));
        if let Some(body) = body {
            request = request.json(&body);
        }
        request.send().await.unwrap()
    }

    /// Status and JSON body of [`Self::send`]; null when the body is no JSON.
    pub(crate) async fn call(
        &self,
        role: Role,
        method: Method,
        path: &str,
        body: Option<Value>,
    ) -> (u16, Value) {
        read(self.send(role, method, path, body).await).await
    }

    /// File of a certificate of this role.
    pub(crate) fn certificate(&self, role: PeerRole, instance: &str) -> std::path::PathBuf {
        let ca = Ca::load(self.dir.path()).unwrap();
        issue(&ca, self.dir.path(), role, instance).cert
    }

    /// A client with a certificate of this role, and the gateway's address.
    pub(crate) fn client_as(&self, role: PeerRole) -> (reqwest::Client, String) {
        let ca = Ca::load(self.dir.path()).unwrap();
        let files = issue(&ca, self.dir.path(), role, "other");
        (client(&files), format!("https://{}", self.gateway))
    }
}

/// Status and JSON of an answer.
pub(crate) async fn read(response: Response) -> (u16, Value) {
    let status = response.status().as_u16();
    let text = response.text().await.unwrap();
    (status, serde_json::from_str(&text).unwrap_or(Value::Null))
}

/// A token of an admin as the gateway makes them, but for `change` and `key`.
pub(crate) fn forged(change: impl FnOnce(&mut Value), key: &[u8]) -> String {
    let now = jsonwebtoken::get_current_timestamp();
    let mut claims = json!({"iss": "vmmgr", "aud": "vmmgr-api", "sub": "ada", "role": "admin",
        "generation": 0, "iat": now, "nbf": now, "exp": now + 60, "jti": "j"});
    change(&mut claims);
    let key = EncodingKey::from_secret(key);
    jsonwebtoken::encode(&Header::new(Algorithm::HS256), &claims, &key).unwrap()
}

fn client(files: &TlsFiles) -> reqwest::Client {
    let gateway = Identity { role: PeerRole::Gateway, instance: "gw1".to_owned() };
    reqwest::Client::builder()
        .tls_backend_preconfigured(client_config(files, gateway).unwrap())
        .no_proxy()
        .timeout(PATIENCE)
        .build()
        .unwrap()
}

fn issue(ca: &Ca, dir: &std::path::Path, role: PeerRole, instance: &str) -> TlsFiles {
    let identity = Identity { role, instance: instance.to_owned() };
    let (server, client) = (true, true);
    let request =
        LeafRequest { identity: Some(identity), names: Vec::new(), server, client, days: 1 };
    let name = format!("{}-{instance}", role.as_str());
    ca.issue(&request).unwrap().write(dir, &name).unwrap();
    TlsFiles {
        ca: dir.join("ca.pem"),
        cert: dir.join(format!("{name}.pem")),
        key: dir.join(format!("{name}.key")),
    }
}
