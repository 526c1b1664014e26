use std::process::Command;

use super::*;

const ADDRESS: Ipv4Addr = Ipv4Addr::new(169, 254, 10, 2);

fn mac(last: u8) -> MacAddress {
    MacAddress::from_bytes([0x52, 0x54, 0, 0, 0, last]).unwrap()
}

fn message(kind: u16, flags: u16, body: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    bytes.extend(u32::try_from(16 + body.len()).unwrap().to_ne_bytes());
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(flags.to_ne_bytes());
    bytes.extend([0; 8]);
    bytes.extend(body);
    bytes
}

fn neighbour(kind: u16, device: u32, state: u16, hardware: &[u8]) -> Vec<u8> {
    let mut body = vec![AF_INET, 0, 0, 0];
    body.extend(device.to_ne_bytes());
    body.extend(state.to_ne_bytes());
    body.extend([0, 1]);
    for (number, bytes) in [(DESTINATION, &ADDRESS.octets()[..]), (HARDWARE, hardware)] {
        body.extend(u16::try_from(4 + bytes.len()).unwrap().to_ne_bytes());
        body.extend(number.to_ne_bytes());
        body.extend(bytes);
        body.resize(body.len().next_multiple_of(4), 0);
    }
    message(kind, 0, &body)
}

#[test]
fn a_neighbour_is_known_while_its_hardware_address_is() {
    let mut mirror = Mirror::default();
    let one = [0x52, 0x54, 0, 0, 0, 1];
    for state in [0x02, 0x04, 0x08, 0x10, 0x40, 0x80] {
        mirror.hear(&neighbour(NEW_NEIGHBOUR, 7, state, &one)).unwrap();
        assert_eq!(mirror.behind(ADDRESS, Some(7)), Some(mac(1)), "{state:#x}");
        // Incomplete, then failed.
        for gone in [0x01, 0x20] {
            mirror.hear(&neighbour(NEW_NEIGHBOUR, 7, state, &one)).unwrap();
            mirror.hear(&neighbour(NEW_NEIGHBOUR, 7, gone, &one)).unwrap();
            assert_eq!(mirror.behind(ADDRESS, Some(7)), None, "{gone:#x}");
        }
    }
    mirror.hear(&neighbour(NEW_NEIGHBOUR, 7, 2, &one)).unwrap();
    mirror.hear(&neighbour(DEL_NEIGHBOUR, 7, 2, &one)).unwrap();
    assert!(mirror.0.is_empty());
}

#[test]
fn the_bridge_decides_between_equal_addresses() {
    let mut mirror = Mirror::default();
    let mut both = neighbour(NEW_NEIGHBOUR, 7, 2, &[0x52, 0x54, 0, 0, 0, 1]);
    both.extend(neighbour(NEW_NEIGHBOUR, 8, 2, &[0x52, 0x54, 0, 0, 0, 2]));
    mirror.hear(&both).unwrap();
    assert_eq!(mirror.behind(ADDRESS, Some(7)), Some(mac(1)));
    assert_eq!(mirror.behind(ADDRESS, Some(8)), Some(mac(2)));
    assert_eq!(mirror.behind(ADDRESS, Some(9)), None);
    assert_eq!(mirror.behind(ADDRESS, None), None);
}

#[test]
fn an_address_that_moves_to_another_mac_leaves_the_first() {
    let mut mirror = Mirror::default();
    for last in [1, 2] {
        mirror.hear(&neighbour(NEW_NEIGHBOUR, 7, 4, &[0x52, 0x54, 0, 0, 0, last])).unwrap();
        assert_eq!(mirror.behind(ADDRESS, Some(7)), Some(mac(last)));
    }
}

#[test]
fn odd_messages_change_nothing_and_an_error_is_told() {
    let mut mirror = Mirror::default();
    let whole = neighbour(NEW_NEIGHBOUR, 7, 2, &[0x52, 0x54, 0, 0, 0, 1]);
    for length in 0..whole.len() {
        mirror.hear(&whole[..length]).unwrap();
        assert!(mirror.0.is_empty(), "cut at {length}");
    }
    mirror.hear(&neighbour(NEW_NEIGHBOUR, 7, 2, &[1; 20])).unwrap();
    mirror.hear(&neighbour(NEW_NEIGHBOUR, 7, 2, &[0; 6])).unwrap();
    mirror.hear(&message(NEW_NEIGHBOUR, 0, &[10; 40])).unwrap();
    mirror.hear(&[0; 64]).unwrap();
    assert!(mirror.0.is_empty());
    let denied = mirror.hear(&message(ERROR, 0, &(-1_i32).to_ne_bytes()));
    assert_eq!(denied.err().and_then(|error| error.raw_os_error()), Some(1));
    let end = mirror.hear(&message(DONE, INTERRUPTED, &[0; 4])).unwrap();
    assert!(end.done && end.interrupted);
}

/// Runs itself again in a network namespace of its own; skips where there can be none.
#[test]
fn the_kernels_own_table_is_followed() {
    const INSIDE: &str = "VMMGR_TEST_NEIGHBOURS";
    if std::env::var_os(INSIDE).is_some() {
        return inside();
    }
    let bridge = ["-rn", "ip", "link", "add", "b0", "type", "bridge"];
    if !Command::new("unshare").args(bridge).status().is_ok_and(|status| status.success()) {
        eprintln!("skipped: no network namespace with a bridge can be made here");
        return;
    }
    let name = "neighbours::tests::the_kernels_own_table_is_followed";
    let program = std::env::current_exe().unwrap();
    let again = Command::new("unshare")
        .arg("-rn")
        .arg(program)
        .args(["--exact", name, "--nocapture"])
        .env(INSIDE, "1")
        .status()
        .unwrap();
    assert!(again.success());
}

fn ip(arguments: &str) {
    let done = Command::new("ip").args(arguments.split(' ')).status().unwrap();
    assert!(done.success(), "ip {arguments}");
}

fn inside() {
    ip("link add b0 type bridge");
    ip("addr add 169.254.169.254/16 dev b0");
    ip("link set b0 up");
    // `/sys` shows the devices of the namespace that mounted it.
    let shown = Command::new("ip").args(["-o", "link", "show", "b0"]).output().unwrap();
    let shown = String::from_utf8(shown.stdout).unwrap();
    let bridge = Some(shown.split(':').next().unwrap().parse().unwrap());
    ip("neigh add 169.254.10.2 lladdr 52:54:00:00:00:01 dev b0");
    let table = KernelTable::open().unwrap();
    let who = || table.behind(ADDRESS, bridge).unwrap();
    assert_eq!(who(), Some(mac(1)), "there before us");
    ip("neigh replace 169.254.10.2 lladdr 52:54:00:00:00:02 dev b0");
    assert_eq!(who(), Some(mac(2)), "moved to another guest");
    ip("neigh del 169.254.10.2 dev b0");
    assert_eq!(who(), None);
    // More changes than the queue holds between two look-ups.
    let batch: String = (0..12_000)
        .map(|n| {
            format!("neigh replace 169.254.10.2 lladdr 52:54:00:00:00:{:02x} dev b0\n", n % 200 + 1)
        })
        .collect();
    let file = tempfile::NamedTempFile::new().unwrap();
    fs_err::write(
        file.path(),
        batch + "neigh replace 169.254.10.2 lladdr 52:54:00:00:00:03 dev b0\n",
    )
    .unwrap();
    ip(&format!("-batch {}", file.path().display()));
    assert_eq!(who(), Some(mac(3)), "events were lost");
    ip("link del b0");
    assert_eq!(who(), None, "the bridge is gone");
}
