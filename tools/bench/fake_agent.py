"""A host with as many guests as one likes: the events of an agent, plain HTTP on loopback; nginx puts
mutual TLS before it.

    fake_agent.py PORT GUESTS
"""

import http.server
import json
import sys
import time
import uuid

GENERATION = 1


def guest(number):
    """A guest with two disks and two interfaces, as an agent tells it."""
    vm = str(uuid.UUID(int=(0x6f5d8bf6d58049469541 << 48) + number, version=4))
    disk = {"device": "disk", "source_type": "file", "bus": "virtio"}
    nic = {"kind": "bridge", "source": "br-ext", "model": "virtio"}
    address = f"{number >> 8 & 255:02x}:{number & 255:02x}"
    return {
        "id": vm, "name": f"web{number}-{vm}", "description": f"web server {number}",
        "arch": "x86_64", "state": "running" if number % 2 else "shut_off", "vcpus": 2,
        "vcpus_max": 8, "memory_kib": 2097152, "memory_kib_max": 8388608, "cpu_time_ns": number,
        "autostart": False, "graphics": "vnc",
        "disks": [{**disk, "target": f"vd{letter}",
                   "source": f"/var/lib/vmmgr/storage/vd{letter}-{vm}-0123abcd.qcow2"}
                  for letter in "ab"],
        "nics": [{**nic, "mac": f"52:54:0{kind}:00:{address}", "tap": f"vnet{number}{kind}"}
                 for kind in range(2)],
        "record": {"creator": "admin", "created": "2026-01-01T00:00:00Z",
                   "ipaddr": f"10.{number >> 8 & 255}.{number & 255}.2/24", "gateway": "10.0.0.1"},
    }


class Agent(http.server.BaseHTTPRequestHandler):
    """Answers `/v1/events`: everything, then a heartbeat every 2 s."""

    protocol_version = "HTTP/1.1"
    guests = 0

    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Type", "application/x-ndjson")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        self.line({"event": "snapshot", "host": "host01", "epoch": str(uuid.uuid4()),
                   "generation": GENERATION, "connected": True, "age_seconds": 0,
                   "domains": [guest(number) for number in range(self.guests)]})
        while True:
            time.sleep(2)
            self.line({"event": "heartbeat", "generation": GENERATION})

    def line(self, event):
        data = json.dumps(event).encode() + b"\n"
        self.wfile.write(b"%x\r\n%b\r\n" % (len(data), data))
        self.wfile.flush()

    def log_message(self, *_):
        """The log is nginx's."""


if __name__ == "__main__":
    Agent.guests = int(sys.argv[2])
    http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Agent).serve_forever()
