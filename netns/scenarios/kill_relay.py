"""The relay dies under load and comes back; nobody helps."""

import time

from netns.checks import throughput
from netns.errors import require
from netns.lab import Lab
from netns.probe import PingProbe
from netns.scenario import Figures, Scenario
from netns.topology import line, side, start_line
from netns.waiting import wait_for

WITHIN_S = 5.0  # the row
AWAY_S = 1.0
LOAD_S = 600.0  # longer than the scenario: the load must outlive each death of the relay


def run(lab: Lab, short: bool) -> Figures:
    nodes = line(lab)
    start_line(nodes)
    a, b = side(nodes.a), side(nodes.b)
    server = throughput.start_iperf_server(b)
    load = a.namespace.start("iperf3-client", "iperf3", "-c", b.ipv4, "-t", f"{LOAD_S:g}", "-C", "cubic")
    probe = PingProbe(a.namespace, b.ipv4)
    times: list[float] = []
    loads: list[float] = []

    def received() -> int:
        return int(b.namespace.ip_json("-s", "link", "show", "dev", b.interface)[0]["stats64"]["rx"]["bytes"])

    def flows(by: int) -> bool:
        before = received()
        time.sleep(0.1)
        return received() - before > by

    wait_for(lambda: flows(100_000), 10, "the load flows")
    for number in range(1, (2 if short else 5) + 1):
        with lab.report.step(f"kill -9 under load, back after {AWAY_S:g} s, the {number}. time"):
            nodes.relay.kill()
            killed = time.monotonic()
            time.sleep(AWAY_S)
            require(probe.first_reply_after(killed + 0.3) is None, "pings are answered without the relay")
            nodes.relay.start()
            ready = nodes.relay.wait_ready()
            reply = probe.wait_for_reply(killed + 0.3, WITHIN_S + 10, "traffic resumes")
            times.append(round(max(0.0, reply - ready), 3))
            require(
                times[-1] <= WITHIN_S, f"traffic resumed {times[-1]} s after the relay's return, more than {WITHIN_S:g}"
            )
            wait_for(
                lambda: flows(100_000), 20, "the TCP stream goes on"
            )  # its own retransmission timer may lag behind
            loads.append(round(time.monotonic() - ready, 2))
    probe.stop()
    require(load.exit_status is None, f"iperf3 gave up: {load.tail(5)}")
    load.stop()
    server.stop()
    return {"kills": len(times), "resumed_after_s": times, "resumed_max_s": max(times), "tcp_stream_after_s": loads}


SCENARIO = Scenario(
    name="kill-relay",
    summary="kill -9 and restart of the relay under load: traffic resumes by itself within 5 s of its return",
    run=run,
    bound_s=240,
    short_bound_s=120,
)
