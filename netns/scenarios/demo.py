"""What `make demo` shows: three machines, an Ethernet between two of them through the third."""

from netns.checks import reach, throughput
from netns.lab import Lab
from netns.scenario import Figures, Scenario
from netns.topology import line, require_no_underlay_route, side, start_line

PICTURE = """
   10.99.1.1                                        10.99.1.2
   ┌──────┐  TAP            no route            TAP  ┌──────┐
   │  a   ├────┐       between a and b         ┌────┤  b   │
   └──┬───┘    └ ─ ─ ─ one private Ethernet ─ ─┘    └───┬──┘
      │                  ┌─────────┐                    │
      └───── trunk ──────┤    r    ├────── trunk ───────┘
                         └─────────┘
                a relay: passes on, reads nothing
"""


def run(lab: Lab, short: bool) -> Figures:
    say, step = lab.report.say, lab.report.step
    for row in PICTURE.strip("\n").splitlines():
        say(row)
    say("")
    nodes = line(lab)
    require_no_underlay_route(nodes)
    start_line(nodes, carrier=None)
    a, b = side(nodes.a), side(nodes.b)
    measured: Figures = {}
    with step("ping a → b, 100 times"):
        measured |= reach.ping(a, b, count=100)
    with step("iperf3 a → b"):
        measured |= throughput.tcp(a, b, seconds=2 if short else 4)
    say(f"    round trip {measured['rtt_median_ms']} ms, TCP {measured['tcp_mbps']} Mbit/s, all through the relay")
    for node in (nodes.a, nodes.relay, nodes.b):
        say(f"\n  $ peertap topology        # on {node.name}")
        lab.report.block(node.command("topology"))
    say("")
    with step("SIGTERM: all three say goodbye and exit 0 within 2 s"):
        exit_s = round(max(node.terminate() for node in (nodes.a, nodes.b, nodes.relay)), 2)
    return {key: measured[key] for key in ("rtt_median_ms", "tcp_mbps")} | {"exit_s": exit_s}


SCENARIO = Scenario(
    name="demo",
    summary="three nodes in a line: ping and iperf3 through the relay, the topology of each",
    run=run,
    bound_s=90,
    short_bound_s=60,
)
