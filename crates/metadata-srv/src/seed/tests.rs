use std::process::Command;

use vmmgr_common::api::seed::StaticNetwork;
use vmmgr_common::ids::{MacAddress, VmId};
use vmmgr_common::secret::Secret;

use super::*;

const VM: &str = "6f5d8bf6-d580-4946-9541-13fa98b4acf4";
const HASH: &str = "$6$rounds=5000$saltsalt$Zm9vYmFyZm9vYmFyZm9vYmFyZm9vYmFyZm9vYmFy";
const KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIB alice@laptop";

fn record(spec: SeedSpec) -> SeedRecord {
    SeedRecord {
        vm: VmId::parse(VM).unwrap(),
        spec,
        macs: vec![MacAddress::parse("52:54:00:00:00:01").unwrap()],
        committed: true,
    }
}

fn full() -> SeedSpec {
    SeedSpec {
        hostname: Some("web1.example.com".into()),
        user: Some("alice".into()),
        password_hash: Some(Secret::new(HASH.into())),
        ssh_keys: vec![KEY.into()],
        timezone: Some("Europe/Berlin".into()),
        locale: Some("en_US.UTF-8".into()),
        network: Some(StaticNetwork {
            interface: None,
            address: "192.0.2.10/24".into(),
            gateway: Some("192.0.2.1".into()),
            dns: vec!["192.0.2.53".into(), "2001:db8::53".into()],
        }),
        runcmd: vec![vec!["sh".into(), "-c".into(), "echo \"it's: ü\" > /etc/motd".into()]],
        user_data: None,
    }
}

fn rendered(spec: SeedSpec) -> Rendered {
    render(&record(spec), 1, &Defaults::default()).unwrap()
}

#[test]
fn a_full_spec_renders_to_the_golden_files() {
    let seed = rendered(full());
    let golden = |file: &str| {
        fs_err::read_to_string(format!("{}/tests/golden/{file}", env!("CARGO_MANIFEST_DIR")))
            .unwrap()
    };
    assert_eq!(text(&seed.meta_data), golden("meta-data"));
    assert_eq!(text(&seed.vendor_data), golden("vendor-data"));
    assert_eq!(text(&seed.network_config), golden("network-config"));
    assert!(seed.user_data.is_empty());
}

#[test]
fn an_empty_spec_has_four_files_all_the_same() {
    let seed = rendered(SeedSpec::default());
    assert_eq!(text(&seed.meta_data), format!("{{\n  \"instance-id\": \"{VM}\"\n}}\n"));
    assert_eq!(text(&seed.network_config), "{}\n");
    assert!(text(&seed.vendor_data).starts_with("#cloud-config\n{\n"));
    assert_eq!(text(&seed.user_data), "");
}

#[test]
fn the_users_document_is_served_byte_for_byte() {
    for document in
        ["#cloud-config\nusers: []\n", "#!/bin/sh\r\necho \u{1f600}", "\n", "no newline"]
    {
        let seed = rendered(SeedSpec { user_data: Some(document.into()), ..full() });
        assert_eq!(&seed.user_data[..], document.as_bytes());
        assert_eq!(seed.vendor_data, rendered(full()).vendor_data);
    }
}

#[test]
fn without_a_user_the_images_own_gets_keys_and_password() {
    let seed = rendered(SeedSpec { user: None, ..full() });
    let document = text(&seed.vendor_data);
    let value: serde_json::Value =
        serde_json::from_str(document.strip_prefix("#cloud-config\n").unwrap()).unwrap();
    assert_eq!(value["user"], serde_json::json!({"lock_passwd": false, "hashed_passwd": HASH}));
    assert_eq!(value["ssh_authorized_keys"], serde_json::json!([KEY]));
    assert!(value.get("users").is_none());
}

#[test]
fn a_second_spec_is_another_instance() {
    let seed = render(&record(full()), 2, &Defaults::default()).unwrap();
    assert!(text(&seed.meta_data).contains(&format!("\"instance-id\": \"{VM}-2\"")));
}

#[test]
fn a_named_interface_is_not_matched_by_address() {
    let mut spec = full();
    let fixed = spec.network.as_mut().unwrap();
    fixed.interface = Some("enp1s0".into());
    fixed.address = "2001:db8::10/64".into();
    fixed.gateway = Some("2001:db8::1".into());
    let seed = rendered(spec);
    let config = text(&seed.network_config);
    assert!(config.contains("\"enp1s0\"") && config.contains("\"::/0\""), "{config}");
    assert!(!config.contains("match") && !config.contains("set-name"), "{config}");
    let meta = text(&seed.meta_data);
    assert!(
        meta.contains("iface enp1s0 inet6 static\\n  address 2001:db8::10\\n  netmask 64"),
        "{meta}"
    );
}

#[test]
fn the_preview_shows_no_secret() {
    let spec = SeedSpec { user_data: Some("#cloud-config\npassword: hunter2\n".into()), ..full() };
    let preview = preview(&record(spec), 1, &Defaults::default()).unwrap();
    let all = serde_json::to_string(&preview).unwrap();
    assert!(!all.contains("hunter2") && !all.contains("Zm9vYmFy"), "{all}");
    assert!(preview.vendor_data.contains("\"hashed_passwd\": \"***\""));
    assert!(preview.user_data.contains("#cloud-config, 32 bytes"), "{}", preview.user_data);
}

#[test]
fn a_locked_seed_has_no_hash_and_leaves_the_guests_password_alone() {
    let open = rendered(full());
    let locked = open.locked(&full(), &Defaults::default()).unwrap();
    let document = text(&locked.vendor_data);
    assert!(
        document.contains("\"lock_passwd\": false") && !document.contains("hashed"),
        "{document}"
    );
    assert!(document.contains(KEY));
    assert_eq!(locked.meta_data, open.meta_data);
}

#[test]
fn hostile_values_are_refused_by_field() {
    let refused = |field: &str, edit: &dyn Fn(&mut SeedSpec)| {
        let mut spec = full();
        edit(&mut spec);
        let problem = render(&record(spec), 1, &Defaults::default()).err().unwrap();
        assert_eq!(problem.status, 422);
        assert!(problem.detail.contains(field), "{field}: {problem}");
        assert!(!problem.detail.contains("hunter2"), "{problem}");
    };
    for bad in ["", "a b", "-a", "a-", "a..b", "a\nruncmd: [x]", "ü", &"a".repeat(64), "a_b"] {
        refused("spec.hostname", &|spec| spec.hostname = Some(bad.into()));
    }
    for bad in ["", "default", "Root", "1a", "a b", "a:b", "a\"", "a\n", &"a".repeat(33)] {
        refused("spec.user", &|spec| spec.user = Some(bad.into()));
    }
    for bad in
        ["hunter2", "", "$6$", "$1$abc$0123456789012345678901", "$6$a:b$hunter2hunter2hunter2"]
    {
        refused("spec.password_hash", &|spec| spec.password_hash = Some(Secret::new(bad.into())));
    }
    for bad in [
        "",
        "ssh-ed25519",
        "hello world",
        "command=\"x\" ssh-ed25519 AAAA",
        "ssh-ed25519 AAAA a\nssh-rsa BBBB",
        "ssh-ed25519 AAAA \u{2028}",
        "ssh-ed25519 A\u{0}",
    ] {
        refused("spec.ssh_keys[1]", &|spec| spec.ssh_keys.push(bad.into()));
    }
    for bad in ["", "/etc/passwd", "../../etc/passwd", "Europe//Berlin", "a b"] {
        refused("spec.timezone", &|spec| spec.timezone = Some(bad.into()));
    }
    for bad in ["", "en US", "en\nx", "a/b"] {
        refused("spec.locale", &|spec| spec.locale = Some(bad.into()));
    }
    for bad in [
        "",
        "192.0.2.1",
        "192.0.2.1/33",
        "192.0.2.1/+4",
        "192.0.2.1/",
        "0.0.0.0/8",
        "127.0.0.1/8",
        "224.0.0.1/4",
        "::1/64",
        "192.0.2.1/24\n  up evil",
    ] {
        refused("spec.network.address", &|spec| {
            spec.network.as_mut().unwrap().address = bad.into()
        });
    }
    for bad in ["", "2001:db8::1", "192.0.2.10", "gateway", "192.0.2.1\n up evil"] {
        refused("spec.network.gateway", &|spec| {
            spec.network.as_mut().unwrap().gateway = Some(bad.into());
        });
    }
    refused("spec.network.dns[2]", &|spec| spec.network.as_mut().unwrap().dns.push("x y".into()));
    for bad in ["", "..", "eth0 inet", "abcdefghijklmnop", "a/b"] {
        refused("spec.network.interface", &|spec| {
            spec.network.as_mut().unwrap().interface = Some(bad.into());
        });
    }
    refused("spec.runcmd[1]", &|spec| spec.runcmd.push(vec![]));
    refused("spec.runcmd[1][1]", &|spec| spec.runcmd.push(vec!["a".into(), "b\u{85}".into()]));
    refused("spec.user_data", &|spec| spec.user_data = Some("x".repeat(256 * 1024 + 1)));
}

#[test]
fn text_cannot_leave_its_place_in_the_document() {
    let mut spec = full();
    let hostile = "\"]]}, \"users\": [] #\\ ${IFS} {{ evil }}".to_owned();
    spec.runcmd = vec![vec![hostile.clone()]];
    let document = text(&rendered(spec).vendor_data);
    let value: serde_json::Value =
        serde_json::from_str(document.strip_prefix("#cloud-config\n").unwrap()).unwrap();
    assert_eq!(value["runcmd"], serde_json::json!([[hostile]]));
    assert_eq!(value["users"][0]["name"], "alice");
}

/// The image is written by a young crate: three other readers must agree on it.
#[test]
fn the_iso_reads_the_same_in_other_tools() {
    let big = "x".repeat(200 * 1024);
    let seed = rendered(SeedSpec { user_data: Some(big.clone()), ..full() });
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("cidata.iso");
    fs_err::write(&path, seed.iso().unwrap()).unwrap();
    let run = |program: &str, arguments: &[&str]| {
        let output = match Command::new(program).args(arguments).arg(&path).output() {
            Ok(output) => output,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return None,
            Err(error) => panic!("{program}: {error}"),
        };
        assert!(output.status.success(), "{program}: {}", text(&output.stderr));
        Some(output.stdout)
    };
    if let Some(out) = run("/usr/sbin/blkid", &["-p", "-o", "export"]) {
        let out = text(&out);
        assert!(out.contains("LABEL=cidata\n") && out.contains("TYPE=iso9660\n"), "{out}");
    }
    if let Some(out) = run("isoinfo", &["-d", "-i"]) {
        let out = text(&out);
        assert!(out.contains("Joliet") && out.contains("Rock Ridge"), "{out}");
    }
    let files = [
        ("meta-data", &seed.meta_data),
        ("user-data", &seed.user_data),
        ("vendor-data", &seed.vendor_data),
        ("network-config", &seed.network_config),
    ];
    for extension in ["-R", "-J"] {
        for (name, bytes) in files {
            let inside = format!("/{name}");
            if let Some(out) = run("isoinfo", &[extension, "-x", &inside, "-i"]) {
                assert!(out == bytes[..], "{name} differs through {extension}");
            }
        }
    }
    let listed = Command::new("xorriso")
        .args(["-indev", path.to_str().unwrap(), "-find", "/", "-type", "f"])
        .output();
    if let Ok(output) = listed {
        let out = text(&output.stdout);
        for (name, _) in files {
            assert!(out.contains(&format!("'/{name}'")), "{out}");
        }
    }
}

#[test]
fn no_file_of_a_seed_switches_cloud_init_off() {
    let seed = rendered(full());
    for file in [&seed.meta_data, &seed.vendor_data, &seed.user_data, &seed.network_config] {
        let text = String::from_utf8_lossy(file);
        assert!(
            !text.contains("cloud-init.disabled") && !text.contains("disabled: true"),
            "{text}"
        );
    }
}
