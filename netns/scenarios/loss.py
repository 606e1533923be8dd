"""A bad link: one packet in a hundred is lost, some come late. The Ethernet over it works on."""

from netns.checks import reach, throughput
from netns.emulator import Impairment
from netns.errors import require
from netns.lab import Lab
from netns.scenario import Figures, Scenario
from netns.topology import configure_pair, emulated_links, side, start_pair

BAD = Impairment(delay_ms=5, jitter_ms=1, loss_percent=1, reorder_percent=2, gap_ms=2, duplicate_percent=0.5)
MIN_TCP_MBPS = 2.0  # ours: Mathis' bound for 1.3 kB, 12 ms and 1.5 % is about 8 Mbit/s


def run(lab: Lab, short: bool) -> Figures:
    a_machine, b_machine, link = emulated_links(lab, BAD, seed=3)
    nodes = configure_pair(lab, a_machine, b_machine)
    start_pair(nodes, carrier="udp")
    a, b = side(nodes.a), side(nodes.b)
    figures: Figures = {}
    count = 200 if short else 500
    with lab.report.step("ping: about 2 % lost, none doubled, 10 ms"):
        figures |= reach.ping(a, b, count=count, interval_s=0.01, lost_at_most=count * 6 // 100)
    with lab.report.step("TCP goes on"):
        figures |= throughput.tcp(a, b, seconds=4)
        speed = figures["tcp_mbps"]
        require(isinstance(speed, float) and speed >= MIN_TCP_MBPS, f"TCP: {speed} Mbit/s")
    with lab.report.step("the carrier is still udp"):
        nodes.a.wait_trunk(nodes.b, carrier="udp", timeout_s=1)
    figures["link"] = link.stop()
    return figures


SCENARIO = Scenario(
    name="loss",
    summary="1 % loss, reordering and duplication on the link: ping and TCP go on, nothing comes twice",
    run=run,
    bound_s=120,
    short_bound_s=90,
    needs_emulator=True,
)
