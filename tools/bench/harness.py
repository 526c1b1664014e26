"""What all recipes share: CPU time of a process tree, interleaving, medians, a row of the table."""

import contextlib
import dataclasses
import importlib.util
import os
import pathlib
import shutil
import signal
import statistics
import subprocess
import sys
import time

TICK = os.sysconf("SC_CLK_TCK")


class Missing(Exception):
    """A peer is not installed."""


class Failed(Exception):
    """Something did not do what is measured."""


@dataclasses.dataclass(frozen=True)
class Target:
    """At most `limit`: of our own figure, of the ratio to the peer's, or of what ours is over it."""

    limit: float
    of: str  # "ours", "ratio" or "excess"
    unit: str = ""

    def text(self):
        kinds = {"ours": f" {self.unit}", "ratio": "x", "excess": f" {self.unit} more"}
        return f"<= {self.limit:g}{kinds[self.of]}"

    def met(self, ours, peer):
        return {"ours": ours, "ratio": ours / peer, "excess": ours - peer}[self.of] <= self.limit


@dataclasses.dataclass(frozen=True)
class Row:
    """One line of the table; smaller is better in all of them."""

    name: str
    metric: str
    unit: str
    ours: list
    peer: str
    peers: list
    target: Target

    def as_dict(self):
        ours, peer = statistics.median(self.ours), statistics.median(self.peers)
        return {"name": self.name, "metric": self.metric, "unit": self.unit,
                "ours": round(ours, 3), "peer": self.peer, "peer_value": round(peer, 3),
                "ratio": round(ours / peer, 4), "target": self.target.text(),
                "met": self.target.met(ours, peer)}


def need(*programs, modules=()):
    """Raises `Missing` unless all are there."""
    for program in programs:
        if not shutil.which(program):
            raise Missing(f"`{program}` is not installed")
    for module in modules:
        if not importlib.util.find_spec(module):
            raise Missing(f"Python's `{module}` is not installed")


def note(text):
    """Tells a figure that is no row."""
    print(f"    {text}", file=sys.stderr, flush=True)


def interleave(ours, peer, rounds):
    """A B A B: what else the machine does meets both alike. Prints and gives all values."""
    values = ([], [])
    for number in range(rounds):
        for side, kept in zip((ours, peer), values):
            kept.append(side())
        note(f"round {number + 1}: ours {values[0][-1]:.4g}, peer {values[1][-1]:.4g}")
    return values


def tree(pid):
    """A process and all below it."""
    found = [pid]
    for parent in found:
        for children in pathlib.Path(f"/proc/{parent}/task").glob("*/children"):
            with contextlib.suppress(OSError):
                found.extend(int(child) for child in children.read_text().split())
    return found


def cpu_seconds(pid):
    """utime + stime of a process tree, with its ended children's."""
    ticks = 0
    for process in tree(pid):
        with contextlib.suppress(OSError):
            fields = pathlib.Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
            ticks += sum(int(field) for field in fields[11:15])
    return ticks / TICK


def wait_until(what, seconds, probe):
    """Polls until `probe` gives something true, and gives that."""
    end = time.monotonic() + seconds
    while True:
        found = probe()
        if found:
            return found
        if time.monotonic() > end:
            raise Failed(f"{what} did not happen in {seconds} s")
        time.sleep(0.02)


def run(*args, **options):
    """Output of a program that must succeed."""
    done = subprocess.run(args, capture_output=True, text=True, **options)
    if done.returncode:
        raise Failed(f"{' '.join(map(str, args[:4]))}: {(done.stderr or done.stdout).strip()}")
    return done.stdout


@contextlib.contextmanager
def server(log, *args, **options):
    """A program that runs until the block ends; its output goes to `log`."""
    with open(log, "ab") as output:
        process = subprocess.Popen(args, stdin=subprocess.DEVNULL, stdout=output, stderr=output,
                                   **options)
    try:
        yield process.pid
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
