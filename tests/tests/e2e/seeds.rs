//! Seeds that change, and media that hold them.

use std::process::Command;

use serde_json::json;

use crate::guest::Guest;
use crate::lab::{Lab, lab, run};

/// The file in the guest's drive.
fn medium(lab: &Lab, guest: &Guest, target: &str) -> String {
    let (_, shown) = lab.api.get(&guest.path(""));
    let disks = shown["disks"].as_array().unwrap().clone();
    let drive = disks.into_iter().find(|disk| disk["target"] == target).unwrap();
    drive["source"].as_str().unwrap().to_owned()
}

fn in_iso(iso: &str, file: &str) -> String {
    run("isoinfo", &["-J", "-i", iso, "-x", &format!("/{file}")])
}

#[test]
fn another_seed_reaches_the_drive_at_once_and_is_another_instance() {
    let Some(lab) = lab("reseed") else { return };
    let _peace = lab.peace();
    let guest = Guest::define(lab, "reseeded", &json!({"seed_mode": "iso"}));
    let first = medium(lab, &guest, "sda");
    let seed = json!({"hostname": "second", "network": {"address": "10.1.0.5/24",
        "gateway": "10.1.0.1", "dns": ["10.1.0.53"], "interface": "ens3"}});
    guest.act("PUT", "/seed", &seed);
    let second = medium(lab, &guest, "sda");
    assert_ne!(first, second);
    assert!(!std::path::Path::new(&first).exists(), "the old ISO is to go");
    let meta = in_iso(&second, "meta-data");
    assert!(meta.contains("second") && meta.contains(&format!("{}-2", guest.id)), "{meta}");
    assert!(meta.contains("address 10.1.0.5"), "{meta}");
    let network = in_iso(&second, "network-config");
    assert!(network.contains("10.1.0.53") && network.contains("ens3"), "{network}");
    guest.act("POST", "/reseed", &json!({}));
    let same = in_iso(&medium(lab, &guest, "sda"), "meta-data");
    assert_eq!(same, meta, "the same seed is the same instance");
    guest.act("POST", "/reseed", &json!({"new_instance": true}));
    let third = in_iso(&medium(lab, &guest, "sda"), "meta-data");
    assert!(third.contains(&format!("{}-3", guest.id)), "{third}");
    let bad =
        lab.api.change("PUT", &guest.path("/seed"), Some(&json!({"hostname": "a b"}))).unwrap_err();
    assert_eq!(bad["code"], "invalid_value", "{bad}");
    assert_eq!(in_iso(&medium(lab, &guest, "sda"), "meta-data"), third);
    guest.delete();
}

#[test]
fn media_change_to_any_iso_but_a_seed_and_back() {
    let Some(lab) = lab("media") else { return };
    let _peace = lab.peace();
    let guest = Guest::define(lab, "media", &json!({"seed_mode": "iso"}));
    let folder = std::env::var("VMMGR_CACHE").unwrap_or_else(|_| "/var/cache/vmmgr".to_owned());
    let dir = tempfile::tempdir_in(folder).unwrap();
    fs_err::write(dir.path().join("f"), "x").unwrap();
    for (name, label) in [("tools", "tools"), ("sly", "CIDATA")] {
        let path = dir.path().join(format!("{name}.iso"));
        let made = Command::new("genisoimage")
            .args(["-quiet", "-J", "-r", "-V", label, "-o"])
            .args([&path, &dir.path().join("f")])
            .status();
        assert!(made.unwrap().success());
        let (status, answer) = lab.api.post("/v1/isos", &json!({"name": name, "path": path}));
        assert_eq!(status, 201, "{answer}");
    }
    guest.act("POST", "/media/sda", &json!({"iso": "tools"}));
    assert!(medium(lab, &guest, "sda").ends_with("/tools.iso"));
    let sly = lab
        .api
        .change("POST", &guest.path("/media/sda"), Some(&json!({"iso": "sly"})))
        .unwrap_err();
    assert_eq!(sly["code"], "invalid_value", "{sly}");
    assert!(medium(lab, &guest, "sda").ends_with("/tools.iso"));
    guest.act("POST", "/media/sda", &json!({"seed": true}));
    assert!(in_iso(&medium(lab, &guest, "sda"), "meta-data").contains(&guest.id));
    assert_eq!(lab.leftovers(&guest.id).iter().filter(|name| name.ends_with(".iso")).count(), 1);
    guest.delete();
    for name in ["tools", "sly"] {
        lab.api.call(&lab.api.token, "DELETE", &format!("/v1/isos/{name}"), None);
    }
}

#[test]
fn a_guest_without_a_seed_is_told_so() {
    let Some(lab) = lab("no seed") else { return };
    let _peace = lab.peace();
    let guest = Guest::define(lab, "seedless", &json!({"seed_mode": "none"}));
    let no = lab.api.change("POST", &guest.path("/reseed"), Some(&json!({}))).unwrap_err();
    assert_eq!(no["code"], "wrong_state", "{no}");
    guest.delete();
}
