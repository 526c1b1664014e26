"""How long after libvirt's event a change made by hand shows in the gateway's list, over a real libvirtd and
QEMU: guest suspended, guest resumed. The peer asks libvirt itself, as the described system's live list."""

import json
import threading
import time

import gateway
from harness import Failed, Row, Target, interleave, need, note, run, wait_until
from recipes.disks import AGENT_PORT, Agent

ROWS = ("event_visible",)
CHANGES = 100
ROUNDS = 3
PATH = "/v1/hosts/host01/vms"
PATIENCE = 5


class Events:
    """When libvirt told last of a change of a guest's state."""

    def __init__(self, libvirt):
        self.told = threading.Event()
        self.at = 0.0
        libvirt.virEventRegisterDefaultImpl()

        def loop():
            while True:
                libvirt.virEventRunDefaultImpl()
        threading.Thread(target=loop, daemon=True).start()
        self.connection = libvirt.open("qemu:///system")
        self.connection.domainEventRegisterAny(None, libvirt.VIR_DOMAIN_EVENT_ID_LIFECYCLE, self.hear, None)

    def hear(self, *_):
        self.at = time.perf_counter()
        self.told.set()

    def after(self, change, seen):
        """Milliseconds from the event of `change` until `seen`."""
        self.told.clear()
        change()
        if not self.told.wait(PATIENCE):
            raise Failed("libvirt told of no event")
        end = time.perf_counter() + PATIENCE
        while not seen():
            if time.perf_counter() > end:
                raise Failed(f"a change was not seen in {PATIENCE} s")
            time.sleep(0.001)
        return max(time.perf_counter() - self.at, 0) * 1000


def started(lab):
    """A gateway that follows the agent; gives a client that has logged in."""
    config = lab.config("api-gateway")
    made = run(lab.bin / "api-gateway", "init-admin", "--config", config)
    lab.service("api-gateway", account_per_second=1000000)
    client = gateway.Client(lab.pki())
    login = {"username": "admin", "password": made.split()[-1]}
    client.token = json.loads(client.ok("POST", "/v1/session", login))["token"]
    client.ok("POST", "/v1/hosts", {"name": "host01", "url": f"https://127.0.0.1:{AGENT_PORT}"})
    return client


def measure(name, lab):
    need("libvirtd", "virsh", "nginx", modules=("libvirt",))
    import libvirt

    agent = Agent(lab)
    vm = agent.guest()
    agent.work(verb="start", vm=vm)
    client, events = started(lab), Events(libvirt)
    domain = events.connection.lookupByUUIDString(vm)

    def listed(state):
        guests = json.loads(client.ok("GET", PATH))
        return any(guest["id"] == vm and guest["state"] == state for guest in guests)
    wait_until("the guest in the list", 30, lambda: listed("running"))
    live = {"paused": libvirt.VIR_DOMAIN_PAUSED, "running": libvirt.VIR_DOMAIN_RUNNING}

    def side(seen):
        def once():
            took = []
            for _ in range(CHANGES // 2):
                for change, state in ((domain.suspend, "paused"), (domain.resume, "running")):
                    took.append(events.after(change, lambda: seen(state)))
                    wait_until("the list to settle", PATIENCE, lambda: listed(state))
            took.sort()
            note(f"median {took[len(took) // 2]:.1f} ms, longest {took[-1]:.1f} ms")
            return took[int(len(took) * 0.99) - 1]
        return once
    values = interleave(side(listed), side(lambda state: domain.info()[0] == live[state]), ROUNDS)
    return Row(name, "99th of a hundred changes, from libvirt's event to the list", "ms", values[0],
               "python3-libvirt asks libvirt", values[1], Target(100, "ours", "ms"))
