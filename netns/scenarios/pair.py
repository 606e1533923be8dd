"""Two nodes with a direct link: everything that Ethernet carries, over the `udp` carrier."""

from netns.checks import everything
from netns.lab import Lab
from netns.scenario import Figures, Scenario
from netns.topology import pair, side, start_pair


def run(lab: Lab, short: bool) -> Figures:
    nodes = pair(lab)
    start_pair(nodes, carrier="udp")
    a, b = side(nodes.a), side(nodes.b)
    figures: Figures = everything.functions(a, b)
    figures |= everything.volume(a, b, short=short)
    with lab.report.step("the carrier is still udp; both end within 2 s of SIGTERM"):
        trunk = nodes.a.wait_trunk(nodes.b, carrier="udp", timeout_s=1)
        figures["carrier"] = trunk["carrier"]
        figures["exit_s"] = round(max(nodes.a.terminate(), nodes.b.terminate()), 2)
    return figures


SCENARIO = Scenario(
    name="pair",
    summary="two nodes, direct: ping, ARP, IPv4, IPv6, TCP, UDP, DHCP, mDNS, 1 GiB, large broadcasts; its speed",
    run=run,
    bound_s=300,
    short_bound_s=120,
)
