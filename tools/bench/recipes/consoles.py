"""Consoles against Debian's websockify: the service as it runs (mutual TLS to nginx and to the agent), and
its relay alone, which does no more than websockify does (no TLS on either side, `_relay`)."""

import json
import subprocess

from harness import Failed, Row, Target, interleave, need, server

SERVICE, RELAY, PEER, GUEST = 7444, 7452, 7453, 7451
MEGABYTES = 512

# What the load measures and how often, the figure, its unit, how it becomes "smaller is better", target.
PLAN = {
    "console_s2c": (f"s2c={MEGABYTES}", "mb_per_cpu_second", "CPU ms/GB", "to the browser", 0.25),
    "console_c2s": (f"c2s={MEGABYTES}", "mb_per_cpu_second", "CPU ms/GB", "to the guest", 0.2),
    "console_burst": ("burst=1000", "ms", "ms", "1000 pointer events in one write", 0.01),
}
ROWS = tuple(name + kind for name in PLAN for kind in ("", "_relay")) + (
    "console_memory", "console_open")
ROUNDS = 5


class Console:
    """Servers that relay, and the load that plays everything around them."""

    def __init__(self, lab):
        self.lab, self.pki = lab, lab.pki()
        self.load = lab.bin / "examples" / "console_load"

    def service(self):
        config = self.lab.config("vnc-proxy")
        return self._start("vnc-proxy", self.lab.bin / "vnc-proxy", "--config", config), SERVICE, "mtls"

    def relay(self):
        program = self.lab.bin / "examples" / "plain_relay"
        pid = self._start("plain_relay", program, f"127.0.0.1:{RELAY}", f"127.0.0.1:{GUEST}")
        return pid, RELAY, "plain"

    def websockify(self):
        pid = self._start("websockify", "websockify", f"127.0.0.1:{PEER}", f"127.0.0.1:{GUEST}")
        return pid, PEER, "plain"

    def _start(self, name, *command):
        return self.lab.keep(server(self.lab.log(name), *command))

    def measure(self, which, what, figure):
        pid, port, kind = which
        done = subprocess.run(
            [self.load, kind, self.pki, str(pid), f"127.0.0.1:{port}", what],
            capture_output=True, text=True, timeout=300)
        if done.returncode:
            raise Failed(f"console_load {what}: {done.stderr.strip()}")
        return json.loads(done.stdout)[figure]


def measure(name, lab):
    need("websockify")
    console = Console(lab)
    if name == "console_memory":
        return memory(console)
    if name == "console_open":
        return opening(console)
    plain = name.endswith("_relay")
    what, figure, unit, metric, limit = PLAN[name.removesuffix("_relay")]
    ours, peer = console.relay() if plain else console.service(), console.websockify()

    def side(which):
        value = console.measure(which, what, figure)
        return value if figure == "ms" else 1e6 / value
    values = interleave(lambda: side(ours), lambda: side(peer), ROUNDS)
    how = "relay without TLS" if plain else "mutual TLS twice"
    return Row(name, f"{metric}; {how}", unit, values[0], "websockify, no TLS", values[1],
               Target(limit, "ratio"))


def memory(console):
    """Sessions that nobody types in; websockify forks for each, so fifty of its are enough."""
    ours, peer = console.service(), console.websockify()
    values = interleave(lambda: console.measure(ours, "memory=5000", "kib_each"),
                        lambda: console.measure(peer, "memory=50", "kib_each"), 1)
    return Row("console_memory", "an idle session of 5000, mutual TLS twice", "KiB", values[0],
               "websockify, of 50", values[1], Target(10, "ours", "KiB"))


def opening(console):
    """From the first SYN to the guest's first byte, ticket and agent included; TLS handshakes as well."""
    ours, peer = console.service(), console.websockify()
    values = interleave(lambda: console.measure(ours, "open=200", "p50_ms"),
                        lambda: console.measure(peer, "open=50", "p50_ms"), 3)
    return Row("console_open", "first byte of a new session, mutual TLS twice", "ms", values[0],
               "websockify, no TLS, no ticket", values[1], Target(5, "ours", "ms"))
