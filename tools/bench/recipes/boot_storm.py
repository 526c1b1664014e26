"""5000 guests that boot at the same moment, each from a network device of its own, three connections each:
ours knows each by its MAC, nginx hands the same file to anybody."""

import json
import uuid

import seeds
from harness import Failed, Row, Target, interleave, need, note, run
from lab import METADATA

ROWS = ("boot_storm",)
GUESTS = 5000
# In one network namespace: more, and the kernel's routes of the guests' side are what is measured.
TOGETHER = 5
ROUNDS = 3


def mac(number):
    return f"52:54:00:00:{number >> 8:02x}:{number & 255:02x}"


def vm(number):
    return str(uuid.UUID(int=(0x6f5d8bf6d58049469541 << 48) + number, version=4))


def address(number):
    return f"169.254.{number // 250 + 1}.{number % 250 + 1}"


def batch(*args, lines):
    return run(*args, input="\n".join(lines))


def network():
    """All guests behind one port of the bridge. Both sides know each other's MAC as they do after a
    lease, and the kernel's table of neighbours need not grow for it."""
    for command in (
        "link add br-ext type bridge forward_delay 0 stp_state 0",
        f"addr add {METADATA}/16 dev br-ext", "link set br-ext up", "netns add guests",
        "link add tap1 type veth peer name up0", "link set up0 netns guests",
        "link set tap1 master br-ext up", "-n guests link set up0 up",
    ):
        run("ip", *command.split())
    bridge = json.loads(run("ip", "-json", "link", "show", "br-ext"))[0]["address"]
    links, outside = [], []
    for number in range(GUESTS):
        namespace, device = divmod(number, TOGETHER)
        links.append(f"link add link up0 name g{device} netns n{namespace} address {mac(number)} "
                     "type macvlan mode private")
        outside.append(f"neigh add {address(number)} lladdr {mac(number)} dev br-ext nud permanent")
    spaces = range(GUESTS // TOGETHER)
    batch("ip", "-batch", "-", lines=[f"netns add n{namespace}" for namespace in spaces] + outside)
    batch("ip", "-n", "guests", "-batch", "-", lines=links)
    for namespace in spaces:
        batch("ip", "-n", f"n{namespace}", "-batch", "-", lines=[
            line for device in range(TOGETHER) for line in (
                f"addr add {address(namespace * TOGETHER + device)}/16 dev g{device}",
                f"link set g{device} up",
                f"neigh add {METADATA} lladdr {bridge} dev g{device} nud permanent")])


def storm(lab, port, prefixes):
    """One storm; every request must be answered."""
    out = batch(lab.bin / "examples" / "boot_storm", f"{METADATA}:{port}", lines=prefixes)
    told = json.loads(out)
    if told["errors"]:
        raise Failed(f"port {port}: {told['errors']} of {3 * len(prefixes)} requests failed")
    note(f"port {port}: p50 {told['p50_ms']} ms, p99 {told['p99_ms']} ms of a request, 0 errors")
    return told["seconds"]


def measure(name, lab):
    need("nginx")
    lab.no_network()
    network()
    folder = lab.dir / "state" / "metadata"
    folder.mkdir(parents=True)
    root = lab.dir / "www"
    for number in range(GUESTS):
        seeds.record(folder, vm(number), mac(number))
        files = root / vm(number)
        files.mkdir(parents=True)
        for file in ("meta-data", "user-data", "vendor-data"):
            (files / file).write_text(f'{{"instance-id": "{vm(number)}"}}\n')
    lab.service("metadata-srv")
    seeds.nginx(lab, root)
    prefixes = [f"/{vm(number)}/" for number in range(GUESTS)]
    values = interleave(lambda: storm(lab, 80, prefixes), lambda: storm(lab, seeds.PEER_PORT, prefixes),
                        ROUNDS)
    lab.no_network()
    return Row(name, f"{GUESTS} guests at once, three files each", "s", values[0], "nginx static",
               values[1], Target(1.5, "ours", "s"))
