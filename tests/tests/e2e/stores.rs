//! Gateways whose records are in a real Redis: Redis dies under one, and two are one to their callers.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};

use crate::api::{Api, URL};
use crate::guest::Guest;
use crate::lab::{HOST, Lab, lab, program, run, tool_ok, until};
use crate::websocket::{self, Websocket};

/// A redis-server that is told to lose nothing.
struct Redis {
    dir: PathBuf,
    process: Child,
}

impl Redis {
    fn start(dir: &Path) -> Self {
        fs_err::create_dir_all(dir).unwrap();
        let process = Command::new("redis-server")
            .args(["--port", "0", "--save", "", "--appendonly", "yes", "--appendfsync", "always"])
            .args(["--unixsocket", "redis.sock", "--dir"])
            .arg(dir)
            .current_dir(dir)
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let redis = Self { dir: dir.to_owned(), process };
        until("Redis answers", Duration::from_secs(20), || {
            let ping = Command::new("redis-cli").arg("-s").arg(redis.socket()).arg("ping").output();
            let said = String::from_utf8(ping.unwrap().stdout).unwrap();
            if said.trim() == "PONG" { Ok(()) } else { Err(said) }
        });
        redis
    }

    fn socket(&self) -> PathBuf {
        self.dir.join("redis.sock")
    }

    fn kill(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        self.kill();
    }
}

/// The stack's gateway with its records in Redis; as it was when this goes.
struct Shared<'a> {
    lab: &'a Lab,
    redis: Redis,
    config: PathBuf,
    embedded: String,
    /// Its first admin, whose account is in Redis.
    api: Api,
}

impl<'a> Shared<'a> {
    fn start(lab: &'a Lab, name: &str) -> Self {
        let url = lab.api.get(&format!("/v1/hosts/{HOST}")).1["url"].as_str().unwrap().to_owned();
        let dir = lab.state.join(name);
        let redis = Redis::start(&dir);
        let config = lab.run.join("etc/api-gateway.toml");
        let embedded = fs_err::read_to_string(&config).unwrap();
        let address = dir.join("redis.url");
        fs_err::write(&address, format!("unix://{}\n", redis.socket().display())).unwrap();
        tool_ok("stack", &["stop", "api-gateway"]);
        fs_err::write(&config, format!("{embedded}\n[store]\nredis_url_file = {address:?}\n"))
            .unwrap();
        let made = ["init-admin", "--config", config.to_str().unwrap()];
        let said = run(program("api-gateway").to_str().unwrap(), &made);
        tool_ok("stack", &["start", "api-gateway"]);
        let ca = fs_err::read(lab.state.join("pki/ca.pem")).unwrap();
        let api = Api::login(&ca, said.lines().last().unwrap());
        let (status, answer) = api.post("/v1/hosts", &json!({"name": HOST, "url": url}));
        assert_eq!(status, 201, "{answer}");
        Self { lab, redis, config, embedded, api }
    }

    /// Waits until the fleet has the guest, running.
    fn sees(&self, guest: &Guest) -> Result<(), String> {
        let (status, all) = self.api.get("/v1/vms");
        let there = all.as_array().is_some_and(|all| {
            all.iter().any(|vm| vm["id"] == guest.id.as_str() && vm["state"] == "running")
        });
        if status == 200 && there { Ok(()) } else { Err(format!("{status} {all}")) }
    }

    /// Back to the records of the stack.
    fn end(self) {
        tool_ok("stack", &["stop", "api-gateway"]);
        fs_err::write(&self.config, &self.embedded).unwrap();
        tool_ok("stack", &["start", "api-gateway"]);
        let lab = self.lab;
        until("the host is followed again", Duration::from_secs(20), || {
            let (_, host): (u16, Value) = lab.api.get(&format!("/v1/hosts/{HOST}"));
            if host["state"] == "reachable" { Ok(()) } else { Err(host.to_string()) }
        });
    }
}

#[test]
fn guests_and_lists_outlive_redis_and_nothing_that_was_accepted_is_lost() {
    let Some(lab) = lab("Redis") else { return };
    let _alone = lab.alone();
    let guest = Guest::boot(lab, "kept");
    let mut shared = Shared::start(lab, "redis");
    until("the fleet has the guest", Duration::from_secs(20), || shared.sees(&guest));
    let user = json!({"name": "eve", "role": "viewer", "password": "correct horse"});
    assert_eq!(shared.api.post("/v1/users", &user).0, 201);

    shared.redis.kill();
    let refused = shared.api.change("POST", &guest.path("/reset"), None).unwrap_err();
    assert_eq!(refused["code"], "store_unavailable", "{refused}");
    shared.sees(&guest).unwrap();
    assert_eq!(run("virsh", &["-c", "qemu:///system", "domstate", &guest.id]).trim(), "running");

    shared.redis = Redis::start(&shared.redis.dir);
    until("the gateway has Redis again", Duration::from_secs(20), || {
        let (status, users) = shared.api.get("/v1/users");
        if status == 200 { Ok(users) } else { Err(users.to_string()) }
    })
    .as_array()
    .unwrap()
    .iter()
    .find(|user| user["name"] == "eve")
    .unwrap();
    shared.api.change("POST", &guest.path("/reset"), None).unwrap();
    shared.end();
    guest.delete();
}

/// A second gateway of the same store, beside the stack's.
struct Second(Child);

impl Second {
    const LISTEN: &str = "127.0.0.1:7451";
    const OPS: &str = "127.0.0.1:9451";

    fn start(lab: &Lab, shared: &Shared<'_>) -> Self {
        let config = fs_err::read_to_string(&shared.config).unwrap();
        let first = lab.state.join("gateway");
        let state = lab.state.join("gateway-2");
        fs_err::create_dir_all(&state).unwrap();
        for key in ["token.key", "link.key"] {
            fs_err::copy(first.join(key), state.join(key)).unwrap();
        }
        let config = config
            .replace("127.0.0.1:7441", Self::LISTEN)
            .replace("127.0.0.1:9441", Self::OPS)
            .replace(first.to_str().unwrap(), state.to_str().unwrap());
        let path = lab.run.join("etc/api-gateway-2.toml");
        fs_err::write(&path, config).unwrap();
        let process = Command::new(program("api-gateway"))
            .args(["--config", path.to_str().unwrap()])
            .stderr(
                fs_err::File::create(lab.run.join("log/api-gateway-2.log")).unwrap().into_file(),
            )
            .spawn()
            .unwrap();
        let second = Self(process);
        until("the second gateway is ready", Duration::from_secs(30), || {
            let asked = ["-fsS", &format!("http://{}/readyz", Self::OPS)].map(str::to_owned);
            let answer = Command::new("curl").args(asked).output().unwrap();
            if answer.status.success() { Ok(()) } else { Err(format!("{answer:?}")) }
        });
        second
    }
}

impl Drop for Second {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

/// nginx and vnc-proxy with these gateways.
fn pass_to(lab: &Lab, gateways: &[&str]) {
    let (pki, nginx) = (lab.state.join("pki"), lab.run.join("nginx"));
    let conf = lab.run.join("etc/nginx.conf");
    let mut render = vec!["nginx", "render", "--listen", "8443"];
    render.extend(["--pki", pki.to_str().unwrap(), "--run-dir", nginx.to_str().unwrap()]);
    render.extend(["--output", conf.to_str().unwrap()]);
    render.extend(gateways.iter().flat_map(|gateway| ["--gateway", gateway]));
    run(program("vmmctl").to_str().unwrap(), &render);
    run("nginx", &["-c", conf.to_str().unwrap(), "-s", "reload"]);
    let path = lab.run.join("etc/vnc-proxy.toml");
    let text = fs_err::read_to_string(&path).unwrap();
    let (before, rest) = text.split_once("[[gateway]]").unwrap();
    let tls = &rest[rest.find("[tls]").unwrap()..];
    let entries: String = gateways
        .iter()
        .map(|gateway| format!("[[gateway]]\nurl = \"https://{gateway}\"\nname = \"main\"\n"))
        .collect();
    fs_err::write(&path, format!("{before}{entries}{tls}")).unwrap();
    tool_ok("stack", &["stop", "vnc-proxy"]);
    tool_ok("stack", &["start", "vnc-proxy"]);
}

#[test]
fn two_gateways_of_one_store_are_one_to_their_callers() {
    let Some(lab) = lab("two gateways") else { return };
    let _alone = lab.alone();
    let mut guest = Guest::boot(lab, "both");
    let shared = Shared::start(lab, "redis-two");
    let second = Second::start(lab, &shared);
    // nginx takes turns: half of all that follows is asked of each.
    pass_to(lab, &["127.0.0.1:7441", Second::LISTEN]);
    let api = &shared.api;
    // What one was told the other knows a second later; a token at once.
    for _ in 0..20 {
        let (status, all) = api.get("/v1/users");
        assert_eq!(status, 200, "{all}");
    }
    until("both have the guest", Duration::from_secs(20), || {
        (0..4).try_for_each(|_| shared.sees(&guest))
    });
    // One operation, whoever is asked for it and about it.
    for _ in 0..4 {
        let done = api.change("POST", &guest.path("/reset"), None).unwrap();
        let path = format!("/v1/operations/{}", done["id"].as_str().unwrap());
        assert!((0..4).all(|_| api.get(&path).1["state"] == "succeeded"));
    }
    // Many creations that want one address: one has it, whichever gateway they came to.
    let range = json!({"cidr": "10.9.0.0/28", "gateway": "10.9.0.1"});
    assert_eq!(api.post("/v1/addresses", &range).0, 201);
    let creations: Vec<_> = (0..12)
        .map(|number| {
            let body = json!({"name": format!("race{number}"), "memory_mib": 64,
                "seed": {"hostname": "race", "network": {"address": "10.9.0.5/28"}}});
            let url = format!("{URL}/v1/hosts/{HOST}/vms?wait_ms=30000");
            let request = api.client.post(url).bearer_auth(&api.token).json(&body);
            async move { request.send().await.unwrap().json::<Value>().await.unwrap() }
        })
        .collect();
    let answers = api.runtime.block_on(futures_util::future::join_all(creations));
    let made: Vec<_> = answers.iter().filter(|answer| answer["state"] == "succeeded").collect();
    assert_eq!(made.len(), 1, "{answers:#?}");
    let path = format!("/v1/hosts/{HOST}/vms/{}", made[0]["vm"].as_str().unwrap());
    api.change("DELETE", &path, None).unwrap();
    // A ticket of either opens a console.
    for _ in 0..4 {
        let ticket = websocket::ticket(api, &guest.path(""), "serial", "share");
        Websocket::with(api, &ticket, "").ok().unwrap().cut();
    }
    // One is killed: nobody is told "no", and its part of the work goes on.
    drop(second);
    for _ in 0..20 {
        let (status, all) = api.get("/v1/vms");
        assert_eq!(status, 200, "{all}");
    }
    api.change("POST", &guest.path("/reset"), None).unwrap();
    guest.says("vmmgr-busybox ready both");

    pass_to(lab, &["127.0.0.1:7441"]);
    shared.end();
    guest.delete();
}
