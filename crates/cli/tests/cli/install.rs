//! The installers, into a folder; what they install is judged by systemd's own tools.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// A folder that stands for `/`, and one of programs: the real `vmmctl`, and others that only start.
struct Stage {
    dir: tempfile::TempDir,
}

fn tool(name: &str) -> PathBuf {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../tools")).join(name)
}

impl Stage {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let programs = dir.path().join("programs");
        for folder in [&programs, &dir.path().join("root")] {
            fs::create_dir(folder).unwrap();
        }
        symlink(env!("CARGO_BIN_EXE_vmmctl"), programs.join("vmmctl")).unwrap();
        for name in ["api-gateway", "vnc-proxy", "host-agent", "metadata-srv"] {
            let path = programs.join(name);
            fs::write(&path, "#!/bin/sh\nexit 0\n").unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        }
        Self { dir }
    }

    fn root(&self, path: &str) -> PathBuf {
        self.dir.path().join("root").join(path)
    }

    fn run(&self, name: &str, arguments: &[&str]) -> Output {
        let mut command = Command::new(tool(name));
        command.arg("--root").arg(self.root(""));
        if name != "install-qemu-hook" {
            command.arg("--programs").arg(self.dir.path().join("programs"));
        }
        command.args(arguments).output().unwrap()
    }

    fn ok(&self, name: &str, arguments: &[&str]) -> String {
        let output = self.run(name, arguments);
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{name} {arguments:?}: {text}");
        assert!(!text.contains("PRIVATE KEY"));
        text
    }

    fn read(&self, path: &str) -> String {
        fs::read_to_string(self.root(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
    }

    /// Paths of all files, sorted, with their content.
    fn files(&self) -> Vec<(String, Vec<u8>)> {
        let mut find = Command::new("find");
        let found = find.args([".", "-type", "f"]).current_dir(self.root("")).output().unwrap();
        let mut paths: Vec<String> =
            String::from_utf8(found.stdout).unwrap().lines().map(str::to_owned).collect();
        paths.sort();
        let content = |path: String| (path.clone(), fs::read(self.root(&path)).unwrap());
        paths.into_iter().map(content).collect()
    }
}

const API: [&str; 6] =
    ["--host", "host01", "--public-name", "vmm.registry.local", "--public-name", "10.0.0.1"];

#[test]
fn the_control_plane_is_installed_once_and_then_kept() {
    let stage = Stage::new();
    stage.ok("install-api-server", &API);
    let first = stage.files();
    let config = stage.read("etc/vmmgr/gateway.toml");
    assert!(
        config.contains("key = \"/run/credentials/vmmgr-api-gateway.service/gateway.key\""),
        "{config}"
    );
    let consoles: toml::Table = stage.read("etc/vmmgr/vnc-proxy.toml").parse().unwrap();
    let origins = consoles["origins"].as_array().unwrap();
    assert_eq!(origins, &["https://vmm.registry.local".into(), "https://10.0.0.1".into()]);
    assert!(stage.read("etc/vmmgr/pki.env").contains("--public-name 10.0.0.1"));
    assert_eq!(
        fs::metadata(stage.root("etc/vmmgr/pki/ca.key")).unwrap().permissions().mode() & 0o777,
        0o600
    );
    stage.ok("install-api-server", &API);
    assert_eq!(stage.files(), first, "a second run changed something");
}

#[test]
fn built_web_pages_are_installed_and_replaced_whole() {
    let stage = Stage::new();
    let ui = stage.dir.path().join("dist");
    fs::create_dir_all(ui.join("assets")).unwrap();
    fs::write(ui.join("index.html"), "page").unwrap();
    fs::write(ui.join("assets/app-1.js"), "old").unwrap();
    let options = [&API[..], &["--ui", ui.to_str().unwrap()]].concat();
    stage.ok("install-api-server", &options);
    assert_eq!(stage.read("usr/share/vmmgr/ui/assets/app-1.js"), "old");
    assert!(stage.read("etc/vmmgr/nginx.env").contains("--ui /usr/share/vmmgr/ui"));
    fs::rename(ui.join("assets/app-1.js"), ui.join("assets/app-2.js")).unwrap();
    stage.ok("install-api-server", &options);
    assert!(!stage.root("usr/share/vmmgr/ui/assets/app-1.js").exists());
    let mode = fs::metadata(stage.root("usr/share/vmmgr/ui/assets/app-2.js")).unwrap();
    assert_eq!(mode.permissions().mode() & 0o777, 0o644);
    stage.ok("install-api-server", &["--uninstall"]);
    assert!(!stage.root("usr/share/vmmgr/ui").exists());
}

#[test]
fn a_configuration_of_the_operator_stays_and_the_new_one_lies_beside_it() {
    let stage = Stage::new();
    stage.ok("install-host", &["host02"]);
    let own =
        stage.read("etc/vmmgr/agent.toml").replace("libvirt_workers = 4", "libvirt_workers = 8");
    fs::write(stage.root("etc/vmmgr/agent.toml"), &own).unwrap();
    let said = stage.ok("install-host", &["host02"]);
    assert!(said.contains("/etc/vmmgr/agent.toml is kept"), "{said}");
    assert_eq!(stage.read("etc/vmmgr/agent.toml"), own);
    assert!(stage.read("etc/vmmgr/agent.toml.new").contains("libvirt_workers = 4"));
}

#[test]
fn a_host_s_options_reach_its_configurations() {
    let stage = Stage::new();
    let options = ["--listen", "10.0.0.2", "--storage", "/data/vm", "--bridge", "br0"];
    stage.ok(
        "install-host",
        &[&["host02", "--gateway-url", "https://kvm.example:8443"][..], &options].concat(),
    );
    let agent: toml::Table = stage.read("etc/vmmgr/agent.toml").parse().unwrap();
    assert_eq!(agent["host"].as_str(), Some("host02"));
    assert_eq!(agent["listen"].as_str(), Some("10.0.0.2:7442"));
    assert_eq!(agent["pool"]["name"].as_str(), Some("default"));
    assert_eq!(agent["pool"]["path"].as_str(), Some("/data/vm"));
    assert!(agent["device"].as_array().unwrap().iter().any(|device| {
        device.get("bridge").is_some_and(|bridge| bridge.as_str() == Some("br0"))
    }));
    assert!(stage.read("usr/lib/tmpfiles.d/vmmgr-host.conf").contains("d /data/vm"));
    assert!(
        stage.read("etc/systemd/system/vmmgr-host-agent.service.d/vmmgr.conf").contains("/data/vm")
    );
    assert!(stage.read("etc/vmmgr/metadata.toml").contains("bridge = \"br0\""));
    assert!(stage.read("etc/vmmgr/hook.conf").contains("url=https://kvm.example:8443"));
    let hook = fs::metadata(stage.root("etc/libvirt/hooks/qemu")).unwrap();
    assert_eq!(hook.permissions().mode() & 0o777, 0o755);
}

#[test]
fn a_second_host_gets_the_certificates_of_its_bundle() {
    let stage = Stage::new();
    stage.ok("install-api-server", &API);
    let bundle = stage.dir.path().join("host02");
    let bundle = bundle.to_str().unwrap();
    let pki = stage.root("etc/vmmgr/pki");
    let run = crate::support::vmmctl(
        "http://127.0.0.1:1",
        &["pki", "host", "host02", "--dir", pki.to_str().unwrap(), "--out", bundle],
    );
    assert_eq!(run.code, 0, "{}", run.err);
    let host = Stage::new();
    host.ok("install-host", &["host02", "--certificates", bundle]);
    for (name, mode) in [("host-agent.key", 0o600), ("metadata.pem", 0o644), ("ca.pem", 0o644)] {
        let found = fs::metadata(host.root("etc/vmmgr/pki").join(name)).unwrap();
        assert_eq!(found.permissions().mode() & 0o777, mode, "{name}");
    }
    assert!(!host.root("etc/vmmgr/pki/ca.key").exists());
}

#[test]
fn what_is_uninstalled_leaves_configurations_and_what_is_purged_leaves_nothing() {
    let stage = Stage::new();
    stage.ok("install-api-server", &API);
    stage.ok(
        "install-host",
        &["host01", "--certificates", stage.root("etc/vmmgr/pki").to_str().unwrap()],
    );
    fs::create_dir_all(stage.root("storage")).unwrap();
    fs::write(stage.root("storage/vda.qcow2"), "a disk").unwrap();
    stage.ok("install-host", &["--uninstall"]);
    stage.ok("install-api-server", &["--uninstall"]);
    let left = stage.files();
    assert!(
        left.iter()
            .all(|(path, _)| path.starts_with("./etc/vmmgr/") || path == "./storage/vda.qcow2"),
        "{left:?}"
    );
    assert!(
        stage.root("etc/vmmgr/gateway.toml").exists()
            && stage.root("etc/vmmgr/pki/ca.key").exists()
    );
    stage.ok("install-host", &["--purge"]);
    stage.ok("install-api-server", &["--purge"]);
    let left: Vec<String> = stage.files().into_iter().map(|(path, _)| path).collect();
    assert_eq!(left, ["./storage/vda.qcow2"]);
}

#[test]
fn another_s_hook_stays() {
    let stage = Stage::new();
    fs::create_dir_all(stage.root("etc/libvirt/hooks")).unwrap();
    fs::write(stage.root("etc/libvirt/hooks/qemu"), "#!/bin/sh\n").unwrap();
    stage.ok("install-qemu-hook", &[]);
    assert_eq!(stage.read("etc/libvirt/hooks/qemu"), "#!/bin/sh\n");
    assert!(stage.root("etc/libvirt/hooks/qemu.d/vmmgr").exists());
    stage.ok("install-qemu-hook", &["--uninstall"]);
    assert!(stage.root("etc/libvirt/hooks/qemu").exists());
    assert!(!stage.root("etc/libvirt/hooks/qemu.d/vmmgr").exists());
}

#[test]
fn systemd_itself_takes_the_units_and_finds_them_confined() {
    let stage = Stage::new();
    stage.ok("install-api-server", &API);
    stage.ok("install-host", &["host01"]);
    // What every unit stands on, and a program that is not ours.
    let units = stage.root("usr/lib/systemd/system");
    let system = fs::read_dir("/usr/lib/systemd/system").expect("systemd's files are installed");
    for entry in system.map(Result::unwrap) {
        if entry.path().extension().is_some_and(|end| end == "target") {
            fs::copy(entry.path(), units.join(entry.file_name())).unwrap();
        }
    }
    fs::create_dir_all(stage.root("usr/sbin")).unwrap();
    fs::copy(stage.root("usr/bin/api-gateway"), stage.root("usr/sbin/nginx")).unwrap();
    let mut seen = 0;
    for entry in fs::read_dir(&units).unwrap().map(Result::unwrap) {
        let name = entry.file_name().into_string().unwrap();
        if !name.starts_with("vmmgr-") {
            continue;
        }
        seen += 1;
        let verify = analyze(&stage, &["verify", &name]);
        assert!(verify.status.success(), "{name}: {}", String::from_utf8_lossy(&verify.stderr));
        assert!(verify.stderr.is_empty(), "{name}: {}", String::from_utf8_lossy(&verify.stderr));
        if name.ends_with(".service") {
            // Tenths; below 3 systemd itself calls it OK.
            let confined =
                analyze(&stage, &["security", "--offline=true", "--threshold=29", &name]);
            assert!(confined.status.success(), "{}", String::from_utf8_lossy(&confined.stdout));
        }
    }
    assert_eq!(seen, 9);
}

fn analyze(stage: &Stage, arguments: &[&str]) -> Output {
    let mut command = Command::new("systemd-analyze");
    command.arg(format!("--root={}", stage.root("").display())).args(arguments).output().unwrap()
}

#[test]
fn what_makes_no_sense_is_refused_and_nothing_is_installed() {
    for (name, arguments) in [
        ("install-api-server", &[][..]),
        ("install-api-server", &["--host", "a b"]),
        ("install-api-server", &["--host", "h", "--public-name", "x;y"]),
        ("install-api-server", &["--host", "h", "--port", "0"]),
        ("install-api-server", &["--host", "h", "--port", "65536"]),
        ("install-api-server", &["--host"]),
        ("install-host", &[]),
        ("install-host", &["h", "second"]),
        ("install-host", &["h", "--storage", "relative"]),
        ("install-host", &["h", "--storage", "/a/../etc"]),
        ("install-host", &["h", "--bridge", "a\"b"]),
        ("install-host", &["h", "--listen", "name"]),
        ("install-host", &["h", "--gateway-url", "http://kvm.example"]),
        ("install-host", &["h", "--certificates", "/no/such/folder"]),
        ("install-host", &["h", "--unknown", "x"]),
        ("install-qemu-hook", &["--url", "http://kvm.example"]),
        ("install-qemu-hook", &["--url", "https://x; reboot"]),
    ] {
        let stage = Stage::new();
        let output = stage.run(name, arguments);
        assert_eq!(output.status.code(), Some(2), "{name} {arguments:?}");
        assert!(stage.files().is_empty(), "{name} {arguments:?}: {:?}", stage.files());
    }
}
