"""Both sides start at the same moment, again and again: where tinc and fastd stumble."""

import statistics
import time

from netns.errors import require
from netns.lab import Lab
from netns.probe import PingProbe
from netns.scenario import Figures, Scenario
from netns.topology import pair, side

WITHIN_S = 2.0  # the row


def run(lab: Lab, short: bool) -> Figures:
    nodes = pair(lab)
    near, target = side(nodes.a).interface, side(nodes.b).ipv4
    rounds = 5 if short else 20
    waits: list[float] = []
    for number in range(1, rounds + 1):
        with lab.report.step(f"round {number} of {rounds}"):
            probe = PingProbe(nodes.a.namespace, target, interface=near)
            began = time.monotonic()
            nodes.a.start()
            nodes.b.start()
            ready = max(nodes.a.wait_ready(), nodes.b.wait_ready())
            reply = probe.wait_for_reply(began, 15, "the first ping is answered")
            probe.stop()
            waits.append(max(0.0, reply - ready))
            lab.report.detail(f"ready after {ready - began:.2f} s, first reply {reply - ready:+.3f} s later")
            for node in (nodes.a, nodes.b):
                node.terminate()
    slow = [round(wait, 3) for wait in waits if wait > WITHIN_S]
    require(not slow, f"{len(slow)} of {rounds} first pings later than {WITHIN_S:g} s: {slow}")
    return {
        "rounds": rounds,
        "first_ping_max_s": round(max(waits), 3),
        "first_ping_median_s": round(statistics.median(waits), 3),
    }


SCENARIO = Scenario(
    name="start-together",
    summary="both sides start at once, 20 times: first ping within 2 s of the later side's readiness every time",
    run=run,
    bound_s=300,
    short_bound_s=90,
)
