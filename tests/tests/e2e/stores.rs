//! A gateway whose records are in a real Redis, and Redis dies under it.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};

use crate::api::Api;
use crate::guest::Guest;
use crate::lab::{HOST, lab, program, run, tool_ok, until};

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

#[test]
fn guests_and_lists_outlive_redis_and_nothing_that_was_accepted_is_lost() {
    let Some(lab) = lab("Redis") else { return };
    let _alone = lab.alone();
    let guest = Guest::boot(lab, "kept");
    let url = lab.api.get(&format!("/v1/hosts/{HOST}")).1["url"].as_str().unwrap().to_owned();
    let dir = lab.state.join("redis");
    let mut redis = Redis::start(&dir);
    let config = lab.run.join("etc/api-gateway.toml");
    let embedded = fs_err::read_to_string(&config).unwrap();
    let address = dir.join("redis.url");
    fs_err::write(&address, format!("unix://{}\n", redis.socket().display())).unwrap();
    let shared = format!("{embedded}\n[store]\nredis_url_file = {address:?}\n");
    tool_ok("stack", &["stop", "api-gateway"]);
    fs_err::write(&config, shared).unwrap();
    let config_path = config.to_str().unwrap();
    let said =
        run(program("api-gateway").to_str().unwrap(), &["init-admin", "--config", config_path]);
    tool_ok("stack", &["start", "api-gateway"]);

    let ca = fs_err::read(lab.state.join("pki/ca.pem")).unwrap();
    let api = Api::login(&ca, said.lines().last().unwrap());
    let (status, answer) = api.post("/v1/hosts", &json!({"name": HOST, "url": url}));
    assert_eq!(status, 201, "{answer}");
    let sees_guest = || {
        let (status, all) = api.get("/v1/vms");
        let there = all.as_array().is_some_and(|all| {
            all.iter().any(|vm| vm["id"] == guest.id.as_str() && vm["state"] == "running")
        });
        if status == 200 && there { Ok(()) } else { Err(format!("{status} {all}")) }
    };
    until("the fleet has the guest", Duration::from_secs(20), sees_guest);
    let user = json!({"name": "eve", "role": "viewer", "password": "correct horse"});
    assert_eq!(api.post("/v1/users", &user).0, 201);

    redis.kill();
    let refused = api.change("POST", &guest.path("/reset"), None).unwrap_err();
    assert_eq!(refused["code"], "store_unavailable", "{refused}");
    sees_guest().unwrap();
    assert_eq!(run("virsh", &["-c", "qemu:///system", "domstate", &guest.id]).trim(), "running");

    redis = Redis::start(&dir);
    until("the gateway has Redis again", Duration::from_secs(20), || {
        let (status, users) = api.get("/v1/users");
        if status == 200 { Ok(users) } else { Err(users.to_string()) }
    })
    .as_array()
    .unwrap()
    .iter()
    .find(|user| user["name"] == "eve")
    .unwrap();
    api.change("POST", &guest.path("/reset"), None).unwrap();

    tool_ok("stack", &["stop", "api-gateway"]);
    fs_err::write(&config, embedded).unwrap();
    tool_ok("stack", &["start", "api-gateway"]);
    drop(redis);
    until("the host is followed again", Duration::from_secs(20), || {
        let (_, host): (u16, Value) = lab.api.get(&format!("/v1/hosts/{HOST}"));
        if host["state"] == "reachable" { Ok(()) } else { Err(host.to_string()) }
    });
    guest.delete();
}
