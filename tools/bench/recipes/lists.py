"""A list of one host's guests: from the gateway's memory, over mutual TLS, against asking libvirt guest
by guest. libvirt's test driver runs inside the asking process, so the peer pays for no socket."""

import contextlib
import statistics
import time
import uuid
import xml.etree.ElementTree

import fake_agent
import gateway
from harness import Row, Target, cpu_seconds, interleave, need, note

ROWS = {"list_1000": (1000, 5), "list_4000": (4000, 10)}
ROUNDS = 5
# The kernel counts CPU in ticks of 10 ms: many lists make it exact.
TIMES = 200
PATH = "/v1/hosts/host01/vms"


def define(connection, guests):
    """Guests like the fake host's in a libvirt of our own."""
    for known in connection.listAllDomains():
        with contextlib.suppress(Exception):
            known.destroy()
        known.undefine()
    for number in range(guests):
        told = fake_agent.guest(number)
        disks = "".join(f"<disk type='file' device='disk'><source file='{disk['source']}'/>"
                        f"<target dev='{disk['target']}' bus='virtio'/></disk>"
                        for disk in told["disks"])
        nics = "".join(f"<interface type='bridge'><mac address='{nic['mac']}'/>"
                       f"<source bridge='br-ext'/><model type='virtio'/></interface>"
                       for nic in told["nics"])
        connection.defineXML(
            f"<domain type='test'><name>{told['name']}</name><uuid>{uuid.UUID(told['id'])}</uuid>"
            f"<memory>8388608</memory><vcpu>2</vcpu><os><type>hvm</type></os>"
            f"<devices>{disks}{nics}</devices></domain>")


def one_by_one(connection):
    """What a list needs of each guest."""
    rows = []
    for domain in connection.listAllDomains():
        tree = xml.etree.ElementTree.fromstring(domain.XMLDesc())
        devices = [(element.tag, element.find("target")) for element in tree.find("devices")]
        rows.append((domain.UUIDString(), domain.name(), domain.info(), devices))
    return rows


def measure(name, lab):
    need("nginx", modules=("libvirt",))
    import libvirt

    guests, limit = ROWS[name]
    process, client = gateway.start(lab, guests)
    connection = libvirt.open("test:///default")
    define(connection, guests)

    def ours():
        before = cpu_seconds(process)
        took = []
        for _ in range(TIMES):
            began = time.perf_counter()
            client.ok("GET", PATH)
            took.append((time.perf_counter() - began) * 1000)
        note(f"{statistics.median(took):.2f} ms from the question to the last byte")
        return (cpu_seconds(process) - before) / TIMES * 1000

    def peer():
        before = time.process_time()
        one_by_one(connection)
        return (time.process_time() - before) * 1000
    values = interleave(ours, peer, ROUNDS)
    connection.close()
    return Row(name, f"CPU of a list of {guests} guests", "ms", values[0],
               "python3-libvirt, guest by guest", values[1], Target(limit, "ours", "ms"))
