"""CPU that a small GET to a host's agent costs in the gateway, mutual TLS on both sides: against an nginx
that passes it on and knows nobody, and against what the described system does, which has nginx ask a
gunicorn first that verifies the token with PyJWT."""

import statistics
import time

import gateway
import harness
from harness import Row, Target, cpu_seconds, interleave, need, note, server, wait_until

ROWS = ("gateway_overhead", "gateway_auth_request")
ROUNDS = 5
REQUESTS = 5000
PATH = f"/v1/hosts/host01/vms/{gateway.VM}/addresses"
FLASK_PORT = 7460
PEER_PORT = 7461
APP = """
import flask, jwt
app = flask.Flask(__name__)
@app.route("/auth")
def auth():
    token = flask.request.headers.get("Authorization", "")[7:]
    try:
        jwt.decode(token, "k" * 32, algorithms=["HS256"])
    except jwt.PyJWTError:
        return "", 401
    return "", 200
"""


def proxy(lab, asking=""):
    """An nginx that passes on to the agent, in the manner of the gateway; `asking` comes first."""
    pki = lab.pki()
    return lab.nginx("nginx-peer", f"""
        upstream auth {{ server 127.0.0.1:{FLASK_PORT}; keepalive 8; }}
        upstream agent {{ server 127.0.0.1:{gateway.AGENT_PORT}; keepalive 8; }}
        keepalive_requests 1000000; proxy_http_version 1.1; proxy_set_header Connection "";
        server {{
            listen 127.0.0.1:{PEER_PORT} ssl;
            ssl_certificate {pki}/gateway.pem; ssl_certificate_key {pki}/gateway.key;
            ssl_client_certificate {pki}/ca.pem; ssl_verify_client on; ssl_verify_depth 2;
            location / {{
                {asking}
                proxy_ssl_certificate {pki}/gateway.pem; proxy_ssl_certificate_key {pki}/gateway.key;
                proxy_pass https://agent;
            }}
            location = /auth {{ internal; proxy_pass_request_body off; proxy_pass http://auth; }}
        }}""")


def measure(name, lab):
    need("nginx", "gunicorn", modules=("flask", "jwt"))
    import jwt

    ours, client = gateway.start(lab, 1)
    pki = lab.pki()
    if name == "gateway_overhead":
        peers = [proxy(lab)]
        told, target = "nginx proxy_pass", Target(15, "excess", "us")
    else:
        (lab.dir / "bench_auth.py").write_text(APP)
        gunicorn = lab.keep(server(lab.log("gunicorn"), "gunicorn", "-w", "2", "--keep-alive", "75",
                                   "-b", f"127.0.0.1:{FLASK_PORT}", "bench_auth:app", cwd=lab.dir))
        peers = [proxy(lab, "auth_request /auth;"), gunicorn]
        told, target = "nginx auth_request + gunicorn, flask, PyJWT", Target(0.25, "ratio")
    peer = gateway.Client(pki, PEER_PORT)
    peer.token = jwt.encode({"sub": "admin", "exp": 4102444800}, "k" * 32, algorithm="HS256")

    def works():
        try:
            return peer.ok("GET", PATH) == b"[]"
        except (harness.Failed, OSError):
            return False
    wait_until("the peer's first answer", 20, works)

    def side(caller, processes):
        def once():
            before = sum(map(cpu_seconds, processes))
            took = []
            for _ in range(REQUESTS):
                began = time.perf_counter()
                caller.ok("GET", PATH)
                took.append((time.perf_counter() - began) * 1e6)
            note(f"{statistics.median(took):.0f} us from the question to the last byte")
            return (sum(map(cpu_seconds, processes)) - before) / REQUESTS * 1e6
        return once
    values = interleave(side(client, [ours]), side(peer, peers), ROUNDS)
    return Row(name, "server CPU a small GET through to the agent", "us", values[0],
               told, values[1], target)
