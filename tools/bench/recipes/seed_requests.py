"""CPU of a seed request from behind the bridge, the caller's identity checked each time, against
nginx that hands the same file to anybody."""

import seeds
from harness import Row, Target, cpu_seconds, interleave, need

ROWS = {"seed_keepalive": ([], 0.6), "seed_close": (["-H", "Connection: close"], 1.0)}
SECONDS = 3
ROUNDS = 5


def measure(name, lab):
    need("wrk", "nginx", "curl")
    options, limit = ROWS[name]
    guest, mac = lab.guest_network()
    ours = seeds.metadata_srv(lab, mac)
    peer = seeds.nginx(lab, seeds.copy(lab, guest))

    def side(process, base):
        def once():
            before = cpu_seconds(process)
            count = seeds.wrk(guest, base + "meta-data", SECONDS, *options)
            return (cpu_seconds(process) - before) / count * 1e6
        return once
    values = interleave(side(ours, seeds.OURS), side(peer, seeds.PEER), ROUNDS)
    kind = "new connections" if options else "kept connections"
    return Row(name, f"server CPU a request, {kind}", "us", values[0], "nginx static", values[1],
               Target(limit, "ratio"))
