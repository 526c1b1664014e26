//! A guest that boots in seconds and tells on its serial line what it sees (`tools/busybox-image`).

use std::time::Duration;

use serde_json::{Value, json};

use crate::lab::{HOST, Lab, run, until};

/// Long even on a loaded machine without KVM.
const BOOT: Duration = Duration::from_secs(300);

/// A guest of one test; gone with it.
pub(crate) struct Guest {
    lab: &'static Lab,
    pub(crate) id: String,
    /// Its serial output that was read already, bytes.
    read: usize,
}

impl Guest {
    /// Defined, without any device.
    pub(crate) fn define(lab: &'static Lab, name: &str, extra: &Value) -> Self {
        let mut body = json!({
            "name": name, "memory_mib": 160, "seed": {"hostname": name},
        });
        for (key, value) in extra.as_object().unwrap() {
            body[key] = value.clone();
        }
        let operation =
            lab.api.change("POST", &format!("/v1/hosts/{HOST}/vms"), Some(&body)).unwrap();
        Self { lab, id: operation["vm"].as_str().unwrap().to_owned(), read: 0 }
    }

    /// With a disk of the busybox image and an interface.
    pub(crate) fn create(lab: &'static Lab, name: &str) -> Self {
        let guest = Self::define(lab, name, &json!({}));
        guest.act(
            "POST",
            "/disks",
            &json!({"device": "local-disk", "size": "1G", "gold": "busybox"}),
        );
        guest.act("POST", "/nics", &json!({"device": "net-br-ext"}));
        guest
    }

    /// As [`Guest::create`], and up.
    pub(crate) fn boot(lab: &'static Lab, name: &str) -> Self {
        let mut guest = Self::create(lab, name);
        guest.start();
        guest.says(&format!("vmmgr-busybox ready {name}"));
        guest
    }

    /// Path in the API.
    pub(crate) fn path(&self, rest: &str) -> String {
        format!("/v1/hosts/{HOST}/vms/{}{rest}", self.id)
    }

    /// A change that must succeed.
    pub(crate) fn act(&self, method: &str, rest: &str, body: &Value) -> Value {
        let body = (!body.is_null()).then_some(body);
        match self.lab.api.change(method, &self.path(rest), body) {
            Ok(operation) => operation,
            Err(problem) => panic!("{method} {rest}: {problem}"),
        }
    }

    pub(crate) fn start(&self) {
        self.act("POST", "/start", &Value::Null);
    }

    pub(crate) fn state(&self) -> String {
        self.lab.api.get(&self.path("")).1["state"].as_str().unwrap_or("none").to_owned()
    }

    pub(crate) fn becomes(&self, state: &str, within: Duration) {
        until(&format!("guest {} becomes {state}", self.id), within, || {
            let seen = self.state();
            if seen == state { Ok(()) } else { Err(seen) }
        });
    }

    /// All that it has said.
    pub(crate) fn serial(&self) -> String {
        let path = self.lab.state.join(format!("console/console.{}.log", self.id));
        let bytes = fs_err::read(path).unwrap_or_default();
        String::from_utf8_lossy(&bytes).replace('\r', "")
    }

    /// Waits until it says this, after what was waited for before; gives the rest of that line.
    pub(crate) fn says(&mut self, what: &str) -> String {
        let (end, rest) = until(&format!("guest {} says {what:?}", self.id), BOOT, || {
            let all = self.serial();
            let new = all.get(self.read..).unwrap_or_default();
            let at = new.find(what).map(|at| at + what.len());
            match at.and_then(|at| new[at..].find('\n').map(|len| (at, len))) {
                Some((at, len)) => Ok((self.read + at + len, new[at..at + len].trim().to_owned())),
                None => Err(new.lines().rev().take(8).collect::<Vec<_>>().join(" | ")),
            }
        });
        self.read = end;
        rest
    }

    /// Waits until the guest has found these devices; it tells them anew at each change.
    pub(crate) fn sees(&mut self, devices: &[&str]) {
        loop {
            let told = self.says("vmmgr-busybox devices ");
            let told: Vec<&str> = told.split_whitespace().collect();
            if devices.iter().all(|device| told.contains(device)) {
                return;
            }
        }
    }

    /// Deletes it; nothing of it may be left.
    pub(crate) fn delete(self) {
        self.act("DELETE", "", &Value::Null);
        assert_eq!(self.lab.leftovers(&self.id), Vec::<String>::new());
        assert_eq!(self.lab.api.get(&self.path("")).0, 404);
        let defined = run("virsh", &["-c", "qemu:///system", "list", "--all", "--uuid"]);
        assert!(!defined.contains(&self.id), "{defined}");
    }
}
