//! A further agent beside the stack's, installed by the steps of the README, over libvirt's test driver.

use std::path::{Path, PathBuf};
use std::process::{Child, Command};

use vmmgr_common::client::AgentClient;
use vmmgr_common::ids::HostId;
use vmmgr_common::mtls::TlsFiles;

use crate::lab::{Lab, program, run, tool_ok};

/// Installed, not started.
pub(crate) struct Installed {
    name: &'static str,
    address: &'static str,
    config: PathBuf,
    pki: PathBuf,
}

/// One that ends with the test.
pub(crate) struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

/// A path as an argument.
pub(crate) fn text(path: &Path) -> String {
    path.to_str().unwrap().to_owned()
}

impl Installed {
    /// Certificates, files and configuration of host `name`; `edit` has the last word on the latter.
    pub(crate) fn new(
        lab: &Lab,
        name: &'static str,
        address: &'static str,
        edit: impl FnOnce(String) -> String,
    ) -> Self {
        let (root, out) =
            (lab.run.join(format!("{name}-root")), text(&lab.run.join(format!("{name}-pki"))));
        fs_err::create_dir_all(&root).unwrap();
        let (pki, programs) = (lab.state.join("pki"), program("vmmctl"));
        let vmmctl = text(&programs);
        run(&vmmctl, &["pki", "host", name, "--dir", &text(&pki), "--out", &out]);
        let programs = text(programs.parent().unwrap());
        tool_ok(
            "install-host",
            &[
                name,
                "--certificates",
                &out,
                "--listen",
                address,
                "--programs",
                &programs,
                "--root",
                &text(&root),
            ],
        );
        // systemd would give the credentials and the folders.
        let made = fs_err::read_to_string(root.join("etc/vmmgr/agent.toml")).unwrap();
        assert!(made.contains(&format!("host = \"{name}\"")), "{made}");
        let made = made
            .replace("/var/", &format!("{}/var/", root.display()))
            .replace("/run/credentials/vmmgr-host-agent.service", &out)
            .replace("path = \"/storage\"", &format!("path = \"{}/storage\"", root.display()))
            .replace("qemu:///system", "test:///default");
        let config = root.join("agent.toml");
        fs_err::write(&config, edit(made)).unwrap();
        Self { name, address, config, pki }
    }

    /// Where gateways reach it.
    pub(crate) fn url(&self) -> String {
        format!("https://{}:7442", self.address)
    }

    /// Starts it; `before` are words before the program's own, such as those of `ip netns exec`.
    pub(crate) fn start(&self, before: &[&str]) -> Running {
        let (agent, config) = (text(&program("host-agent")), text(&self.config));
        let words = [before, &[&agent, "--config", &config]].concat();
        Running(Command::new(words[0]).args(&words[1..]).spawn().unwrap())
    }

    /// As an operator calls it, past the gateway.
    pub(crate) fn client(&self) -> AgentClient {
        let file = |name: &str| self.pki.join(name);
        let files =
            TlsFiles { ca: file("ca.pem"), cert: file("operator.pem"), key: file("operator.key") };
        AgentClient::new(&files, &self.url(), &HostId::parse(self.name).unwrap()).unwrap()
    }
}
