"""Our services and the guests' network, inside `tools/lab`: nothing of the machine is touched."""

import contextlib
import os
import pathlib
import re
import shutil
import sys
import urllib.error
import urllib.request

from harness import Failed, run, server, wait_until

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
OPS = {"metadata-srv": 9443, "host-agent": 9442, "api-gateway": 9441}
METADATA = "169.254.169.254"


class Lab:
    """Folders, certificates and servers of one recipe; all gone when it ends."""

    def __init__(self):
        if os.environ.get("VMMGR_LAB") != "inside":
            sys.exit("error: run `make bench` or tools/bench/run: this needs a lab of its own")
        self.bin = pathlib.Path(os.environ["VMMGR_BENCH_BIN"])
        self.dir = pathlib.Path(os.environ["VMMGR_RUN"]) / "bench"
        self._open = contextlib.ExitStack()

    def __enter__(self):
        shutil.rmtree(self.dir, ignore_errors=True)
        for name in ("log", "etc", "state"):
            (self.dir / name).mkdir(parents=True)
        self.dir.chmod(0o755)
        return self

    def __exit__(self, *error):
        self._open.close()

    def keep(self, context):
        """Enters a context that lasts as long as the recipe."""
        return self._open.enter_context(context)

    def log(self, name):
        return self.dir / "log" / f"{name}.log"

    def pki(self):
        """The folder of certificates of one control plane with host `host01`."""
        folder = self.dir / "pki"
        if not folder.exists():
            run(self.bin / "vmmctl", "pki", "init", "--dir", folder, "--host", "host01",
                "--public-name", "localhost")
        return folder

    def config(self, crate, **changed):
        """The crate's example with our folders; `changed` replaces whole values."""
        text = (ROOT / "crates" / crate / "config.example.toml").read_text()
        text = text.replace("/etc/vmmgr/pki", str(self.pki()))
        for folder in ("/etc/vmmgr", "/var/lib/vmmgr", "/var/log/vmmgr", "/var/cache/vmmgr"):
            text = text.replace(folder, str(self.dir / "state"))
        for key, value in changed.items():
            text, count = re.subn(rf"(?m)^{key} = .*$", f"{key} = {value}", text)
            if not count:
                raise Failed(f"{crate}'s configuration has no `{key}`")
        path = self.dir / "etc" / f"{crate}.toml"
        path.write_text(text)
        return path

    def service(self, crate, **changed):
        """Starts one of our services and waits until it is ready; gives its process."""
        config = self.config(crate, **changed)
        pid = self.keep(server(self.log(crate), self.bin / crate, "--config", config))
        url = f"http://127.0.0.1:{OPS[crate]}/readyz"

        def ready():
            with contextlib.suppress(urllib.error.URLError, ConnectionError):
                return urllib.request.urlopen(url, timeout=2).status == 200
        try:
            wait_until(f"the readiness of {crate}", 60, ready)
        except Failed as failure:
            raise Failed(f"{failure}: {self.log(crate).read_text()[-600:]}") from None
        return pid

    def nginx(self, name, http, workers=2):
        """Starts an nginx with that `http` block; gives its process."""
        path = self.dir / "etc" / f"{name}.conf"
        temporary = "".join(f"{kind}_temp_path {self.dir}/{kind};\n"
                            for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
        path.write_text(f"user root;\nworker_processes {workers};\npid {self.dir}/{name}.pid;\n"
                        f"error_log {self.log(name)} warn;\ndaemon off;\n"
                        f"events {{ worker_connections 4096; }}\n"
                        f"http {{\naccess_log off;\n{temporary}{http}\n}}\n")
        run("nginx", "-q", "-t", "-c", path)
        pid = self.keep(server(self.log(name), "nginx", "-c", path))
        wait_until(f"{name}'s workers", 10,
                   lambda: pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text().strip())
        return pid

    def no_network(self):
        """Takes away bridges and guests' networks that a recipe before this has made."""
        run("ip", "-all", "netns", "delete")
        if pathlib.Path("/sys/class/net/br-ext").exists():
            run("ip", "link", "delete", "br-ext")

    def guest_network(self):
        """The bridge with the metadata address and one guest behind it, as the demo has it; gives
        the guest's network namespace and MAC."""
        mac = "52:54:00:00:00:01"
        if not pathlib.Path("/sys/class/net/br-ext").exists():
            for command in (
                "link add br-ext type bridge forward_delay 0 stp_state 0",
                f"addr add {METADATA}/16 dev br-ext", "link set br-ext up",
                "netns add guest1", f"link add tap1 type veth peer name eth0 address {mac}",
                "link set eth0 netns guest1", "link set tap1 master br-ext up",
                "-n guest1 link set lo up", "-n guest1 addr add 169.254.10.2/16 dev eth0",
                "-n guest1 link set eth0 up",
            ):
                run("ip", *command.split())
        wait_until("the way to the bridge", 10, lambda: not run(
            "ip", "netns", "exec", "guest1", "sh", "-c",
            f"ping -c1 -W1 {METADATA} >/dev/null 2>&1 || arping -c1 {METADATA} >/dev/null 2>&1 "
            "|| true"))
        return ["ip", "netns", "exec", "guest1"], mac
