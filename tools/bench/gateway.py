"""A gateway that follows a fake host, and a client of it as nginx is one."""

import http.client
import json
import pathlib
import ssl
import sys

import fake_agent
from harness import Failed, run, server, wait_until

AGENT_PORT = 7450
EVENTS_PORT = 7451
GATEWAY_PORT = 7441
VM = fake_agent.guest(0)["id"]
INFO = {"host": "host01", "arch": "x86_64", "guest_archs": ["x86_64"], "virt_type": "qemu",
        "libvirt_version": "9.0.0", "hypervisor_version": "7.2.0", "cpus": 2, "cpu_mhz": 2000,
        "memory_bytes": 1 << 34, "memory_free_bytes": 1 << 33, "devices": [], "templates": []}


class Client:
    """Requests over one kept connection, under the certificate of a role."""

    def __init__(self, pki, port=GATEWAY_PORT, role="nginx"):
        context = ssl.create_default_context(cafile=pki / "ca.pem")
        # Certificates inside name roles, not hosts.
        context.check_hostname = False
        context.load_cert_chain(pki / f"{role}.pem", pki / f"{role}.key")
        self.connection = http.client.HTTPSConnection("127.0.0.1", port, context=context)
        self.token = None

    def call(self, method, path, body=None, headers=()):
        """Status and body of an answer."""
        sent = dict(headers)
        if self.token:
            sent["Authorization"] = f"Bearer {self.token}"
        if body is not None:
            sent["Content-Type"] = "application/json"
        self.connection.request(method, path, body and json.dumps(body), sent)
        answer = self.connection.getresponse()
        data = answer.read()
        return answer.status, answer.headers, data

    def ok(self, method, path, body=None):
        """Body of a good answer."""
        status, _, data = self.call(method, path, body)
        if status >= 300:
            raise Failed(f"{method} {path}: {status} {data[:300]!r}")
        return data


def start(lab, guests):
    """Gateway and fake host; gives the gateway's process and a client that has logged in."""
    pki = lab.pki()
    lab.keep(server(lab.log("fake-agent"), sys.executable,
                    pathlib.Path(fake_agent.__file__), str(EVENTS_PORT), str(guests)))
    lab.nginx("nginx-agent", f"""
        proxy_http_version 1.1; proxy_buffering off; proxy_read_timeout 1h; default_type application/json;
        keepalive_requests 1000000;
        server {{
            listen 127.0.0.1:{AGENT_PORT} ssl reuseport;
            ssl_certificate {pki}/host-agent.pem; ssl_certificate_key {pki}/host-agent.key;
            ssl_client_certificate {pki}/ca.pem; ssl_verify_client on; ssl_verify_depth 2;
            location = /v1/host {{ return 200 '{json.dumps(INFO)}'; }}
            location = /v1/events {{ proxy_pass http://127.0.0.1:{EVENTS_PORT}; }}
            location / {{ return 200 '[]'; }}
        }}""")
    config = lab.config("api-gateway")
    made = run(lab.bin / "api-gateway", "init-admin", "--config", config)
    gateway = lab.service("api-gateway", account_per_second=1000000)
    client = Client(pki)
    login = {"username": "admin", "password": made.split()[-1]}
    client.token = json.loads(client.ok("POST", "/v1/session", login))["token"]
    client.ok("POST", "/v1/hosts", {"name": "host01", "url": f"https://127.0.0.1:{AGENT_PORT}"})
    wait_until("the gateway's inventory", 60,
               lambda: client.ok("GET", "/v1/hosts/host01/vms").count(b'"host_state"') == guests)
    return gateway, client
