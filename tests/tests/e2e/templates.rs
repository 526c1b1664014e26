//! Every built-in combination is a definition that real libvirt validates; devices come on each bus.

use serde_json::{Value, json};

use crate::guest::Guest;
use crate::lab::{HOST, lab, run};

#[test]
fn libvirt_validates_every_built_in_combination() {
    let Some(lab) = lab("templates") else { return };
    let _peace = lab.peace();
    let (_, host) = lab.api.get(&format!("/v1/hosts/{HOST}/capabilities"));
    assert_eq!(host["template_problems"], json!([]), "{host}");
    let mut count = 0;
    let mut define = |body: Value| {
        count += 1;
        Guest::define(lab, &format!("tpl{count}"), &body).delete();
    };
    for (arch, firmwares) in
        [("x86_64", &["bios", "uefi", "uefi_secure"][..]), ("aarch64", &["uefi", "uefi_secure"])]
    {
        for firmware in firmwares {
            let base = json!({"arch": arch, "firmware": firmware, "seed_mode": "none",
                "vcpus_max": 4, "memory_mib_max": 512});
            let with = |key: &str, value: Value| {
                let mut body = base.clone();
                body[key] = value;
                body
            };
            define(with("graphics", json!("none")));
            define(with("tpm", json!(true)));
            define(with("cpu_model", json!("maximum")));
            for (name, about) in host["template_variables"][arch].as_object().unwrap() {
                for value in about["one_of"].as_array().unwrap() {
                    define(with("variables", json!({ name: value })));
                }
            }
        }
    }
    define(json!({"machine": "pc", "cpu_model": "IvyBridge", "seed_mode": "iso"}));
    assert!(count > 100, "{count}");
}

#[test]
fn a_guest_with_secure_boot_and_a_tpm_starts() {
    let Some(lab) = lab("secure boot") else { return };
    let _peace = lab.peace();
    let body = json!({"firmware": "uefi_secure", "tpm": true, "memory_mib": 256});
    let guest = Guest::define(lab, "secure", &body);
    guest.start();
    assert_eq!(guest.state(), "running");
    let live = run("virsh", &["-c", "qemu:///system", "dumpxml", &guest.id]);
    assert!(live.contains("<tpm model='tpm-crb'>") && live.contains("secure='yes'"), "{live}");
    guest.delete();
}

#[test]
fn disks_come_on_each_bus_and_in_each_format() {
    let Some(lab) = lab("buses") else { return };
    let _peace = lab.peace();
    let guest = Guest::define(lab, "buses", &json!({}));
    let disk = |bus: &str, format: &str| json!({"device": "local-disk", "size": "128M", "gold": "busybox", "bus": bus, "format": format});
    for (bus, format, target) in
        [("virtio", "raw", "vda"), ("scsi", "qcow2", "sda"), ("sata", "raw", "sdb")]
    {
        let done = guest.act("POST", "/disks", &disk(bus, format));
        assert_eq!(done["outcome"]["target"], target, "{bus}");
    }
    let ide =
        lab.api.change("POST", &guest.path("/disks"), Some(&disk("ide", "qcow2"))).unwrap_err();
    assert_eq!(ide["code"], "wrong_state", "{ide}");
    let nic = json!({"device": "net-br-ext", "model": "e1000e"});
    guest.act("POST", "/nics", &nic);
    let odd = json!({"device": "net-br-ext", "model": "ne2k"});
    assert_eq!(lab.api.post(&guest.path("/nics"), &odd).0, 422);
    let mut guest = guest;
    guest.start();
    // The kernel of this guest has no driver for SATA: sda is the SCSI disk.
    guest.sees(&["vda", "sda"]);
    let late =
        lab.api.change("POST", &guest.path("/disks"), Some(&disk("sata", "raw"))).unwrap_err();
    assert_eq!(late["code"], "wrong_state", "{late}");
    guest.act("POST", "/disks", &disk("scsi", "raw"));
    guest.sees(&["vda", "sda", "sdb"]);
    let no =
        lab.api.change("POST", &guest.path("/snapshots"), Some(&json!({"name": "s"}))).unwrap_err();
    assert!(no["detail"].as_str().unwrap().contains("raw"), "{no}");
    guest.delete();
    let pc = Guest::define(lab, "ide", &json!({"machine": "pc"}));
    assert_eq!(pc.act("POST", "/disks", &disk("ide", "qcow2"))["outcome"]["target"], "hda");
    pc.delete();
}
