"""Bulk data over a link that loses and reorders: every byte arrives, whatever was cut, merged, lost and sent again."""

from typing import Final

from netns.checks import throughput
from netns.emulator import Impairment
from netns.errors import require
from netns.lab import Lab
from netns.scenario import Figures, Scenario
from netns.topology import configure_pair, emulated_links, side, start_pair

UNRELIABLE: Final = Impairment(delay_ms=0.5, jitter_ms=0.2, loss_percent=0.2, reorder_percent=1, gap_ms=1)
LONG_BYTES: Final = 10 << 30
SHORT_BYTES: Final = 128 << 20


def run(lab: Lab, short: bool) -> Figures:
    a_machine, b_machine, link = emulated_links(lab, UNRELIABLE, seed=4)
    nodes = configure_pair(lab, a_machine, b_machine)
    start_pair(nodes, carrier="udp")
    a, b = side(nodes.a), side(nodes.b)
    total = SHORT_BYTES if short else LONG_BYTES
    with lab.report.step(f"{total >> 20} MiB over TCP, equal hash"):
        figures: Figures = throughput.transfer(a, b, total)
    figures["link"] = counts = link.stop()
    lost = sum(one["lost"] for one in counts.values())
    require(lost > 0, f"the link lost nothing: {counts}")
    return figures


SCENARIO = Scenario(
    name="transfer",
    summary="0.2 % loss and 1 % reordering on the link: 10 GiB over TCP arrive with an equal hash",
    run=run,
    bound_s=1200,
    short_bound_s=120,
    needs_emulator=True,
)
