"""A guest's disk from a 2 GiB gold image, by an agent over a real libvirtd: the first brings the image to
the host, the others are overlays."""

import json
import os
import pathlib
import shutil
import statistics
import time
import uuid

import gateway
from harness import Failed, Row, Target, interleave, need, run, server, wait_until

ROWS = ("disk_first", "disk_second")
AGENT_PORT = 7442
ORIGIN_PORT = 7470
SIZE = 2 << 30
BLOCK = 64 << 20


def libvirt(lab):
    """A libvirtd of the lab's own."""
    kvm = pathlib.Path("/dev/kvm")
    if kvm.exists():
        # As udev would have it; otherwise libvirtd probes QEMU anew, a minute each time.
        shutil.chown(kvm, group="kvm")
        kvm.chmod(0o660)
    for daemon in ("virtlogd", "libvirtd"):
        lab.keep(server(lab.log(daemon), daemon))

    def answers():
        try:
            return run("virsh", "-c", "qemu:///system", "version")
        except Failed:
            return None
    wait_until("libvirtd's first answer", 120, answers)


class Agent:
    """An agent as a gateway uses it."""

    def __init__(self, lab):
        lab.guest_network()
        libvirt(lab)
        (lab.dir / "state" / "storage").mkdir()
        lab.service("metadata-srv")
        lab.service("host-agent", allow=f'["127.0.0.1:{ORIGIN_PORT}"]')
        self.client = gateway.Client(lab.pki(), AGENT_PORT, "gateway")

    def work(self, **work):
        """Runs work to its end; gives its milliseconds."""
        started = time.perf_counter()
        body = {"id": str(uuid.uuid4()), "work": work}
        told = json.loads(self.client.ok("POST", "/v1/operations?wait_ms=30000", body))
        took = (time.perf_counter() - started) * 1000
        if told["state"] != "succeeded":
            raise Failed(f"{work['verb']}: {told}")
        return took

    def guest(self):
        """A new guest."""
        vm = str(uuid.uuid4())
        self.work(verb="create", domain={
            "id": vm, "name": "bench", "arch": "x86_64", "vcpus": 1, "vcpus_max": 1,
            "memory_mib": 128, "memory_mib_max": 128, "seed_mode": "none"})
        return vm


def gold(path):
    """An image without holes."""
    block = os.urandom(BLOCK)
    with open(path, "wb") as image:
        for _ in range(SIZE // BLOCK):
            image.write(block)


def image(uri, name):
    return {"name": name, "arch": "x86_64", "uri": uri}


def first(lab, agent, origin):
    """An import over HTTP, durable on the disk, against curl and sync."""
    lab.nginx("nginx-origin", f"sendfile on; server {{ listen 127.0.0.1:{ORIGIN_PORT}; "
                              f"root {origin.parent}; }}")
    uri = f"http://127.0.0.1:{ORIGIN_PORT}/{origin.name}"

    def ours():
        name = f"gold-{uuid.uuid4().hex[:8]}"
        return agent.work(verb="import_image", gold=image(uri, name)) / 1000

    def peer():
        to = lab.dir / "state" / "curl"
        started = time.perf_counter()
        run("curl", "-fsS", "-o", to, uri)
        run("sync", to)
        took = time.perf_counter() - started
        to.unlink()
        return took
    return Row("disk_first", "2 GiB gold image brought to the host and hashed", "s",
               *parts(interleave(ours, peer, 3), "curl and sync, not hashed"), Target(1.1, "ratio"))


def second(lab, agent, origin):
    """Overlays attached to a guest, against a copy of the image."""
    shutil.move(origin, lab.dir / "state" / "local.raw")
    origin = lab.dir / "state" / "local.raw"
    vm, where = agent.guest(), image(str(origin), "local")
    agent.work(verb="import_image", gold=where)
    attachment = {"kind": "disk", "device": "local-disk", "size": "3G", "gold": where}

    def ours():
        return statistics.median(agent.work(verb="attach", vm=vm, attachment=attachment)
                                 for _ in range(7))

    def peer():
        to = lab.dir / "state" / "copy"
        started = time.perf_counter()
        run("qemu-img", "convert", "-f", "raw", "-O", "qcow2", origin, to)
        took = (time.perf_counter() - started) * 1000
        to.unlink()
        return took
    return Row("disk_second", "a further disk from it, attached and durable", "ms",
               *parts(interleave(ours, peer, 3), "qemu-img convert"), Target(20, "ours", "ms"))


def parts(values, peer):
    """In the order of `Row`."""
    return values[0], peer, values[1]


def measure(name, lab):
    need("libvirtd", "virsh", "qemu-img", "nginx", "curl")
    agent = Agent(lab)
    origin = lab.dir / "gold.raw"
    gold(origin)
    return {"disk_first": first, "disk_second": second}[name](lab, agent, origin)
