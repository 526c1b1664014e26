"""Seeds for the recipes that serve them, ours and as files of an nginx."""

import json
import re

from harness import Failed, run
from lab import METADATA

VM = "6f5d8bf6-d580-4946-9541-13fa98b4acf4"
FILES = ("meta-data", "user-data", "vendor-data", "network-config")
PEER_PORT = 8080
OURS = f"http://{METADATA}/{VM}/"
PEER = f"http://{METADATA}:{PEER_PORT}/{VM}/"


def record(folder, vm, mac):
    """A guest's record, as metadata-srv keeps it."""
    spec = {"hostname": "web1", "user_data": "#cloud-config\nruncmd: [\"true\"]\n"}
    told = {"vm": vm, "spec": spec, "macs": [mac], "committed": True}
    (folder / f"{vm}.json").write_text(json.dumps({"generation": 1, "record": told}))


def metadata_srv(lab, mac):
    """Our service with one seed; gives its process."""
    folder = lab.dir / "state" / "metadata"
    folder.mkdir(parents=True)
    record(folder, VM, mac)
    return lab.service("metadata-srv")


def copy(lab, guest):
    """The same files in a folder for nginx."""
    folder = lab.dir / "www" / VM
    folder.mkdir(parents=True)
    for name in FILES:
        (folder / name).write_text(run(*guest, "curl", "-fsS", OURS + name))
    return folder.parent


def nginx(lab, root, more=""):
    """nginx with the same files, at its best: open files cached, no log, a listener per worker."""
    return lab.nginx("nginx-seeds", f"""
        sendfile on; tcp_nopush on; keepalive_requests 1000; default_type text/plain;
        open_file_cache max=1000 inactive=600s; open_file_cache_valid 600s;
        server {{ listen {METADATA}:{PEER_PORT} reuseport backlog=4096; root {root}; {more} }}""")


def wrk(guest, url, seconds, *options):
    """Requests that were answered; all must be answered well."""
    out = run(*guest, "wrk", "-t1", "-c8", f"-d{seconds}s", *options, url)
    if "Non-2xx" in out or "Socket errors" in out:
        raise Failed(f"{url}: {out.strip()}")
    return int(re.search(r"(\d+) requests in", out).group(1))
