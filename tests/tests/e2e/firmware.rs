//! Guests of another architecture and with UEFI get as far as their firmware.

use serde_json::json;

use crate::guest::Guest;
use crate::lab::lab;

#[test]
fn an_aarch64_guest_boots_to_its_uefi() {
    let Some(lab) = lab("aarch64") else { return };
    let _peace = lab.peace();
    let mut guest = Guest::define(lab, "arm", &json!({"arch": "aarch64", "memory_mib": 256}));
    guest.start();
    guest.says("UEFI firmware");
    guest.delete();
}

#[test]
fn an_x86_guest_boots_to_its_uefi() {
    let Some(lab) = lab("x86 UEFI") else { return };
    let _peace = lab.peace();
    let mut guest = Guest::define(lab, "uefi", &json!({"firmware": "uefi", "memory_mib": 256}));
    guest.start();
    guest.says("BdsDxe");
    guest.delete();
}
