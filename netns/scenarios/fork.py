"""A partition in which both sides change the group: healed, one epoch remains, and who was kicked anywhere is out."""

import time

from netns import clubs, rules
from netns.errors import require
from netns.lab import Lab
from netns.node import Node
from netns.scenario import Figures, Scenario
from netns.waiting import wait_for

ONE_EPOCH_S = 5.0  # the row


def run(lab: Lab, short: bool) -> Figures:
    with lab.report.step("six members, two of them admins"):
        nodes = clubs.lan(lab, 6)
        here, there = nodes[:3], nodes[3:]
        first, second = here[0], there[0]
        clubs.create(first)
        for node in (*here[1:], second):
            clubs.join(node, clubs.invite(first))
        clubs.agree(*here, second)
        clubs.vlan(first, "promote", clubs.LABEL, second.peer_id)
        clubs.agree(*here, second)
        for node in there[1:]:
            clubs.join(node, clubs.invite(second))
        clubs.agree(*nodes)
        clubs.all_ping(first, here[2], there[2])
    with lab.report.step("the network falls apart; each side kicks a member of the other, one side has more changes"):
        _cut(here, there)
        wait_for(lambda: not clubs.pings(first, second, 1), 20, "the sides do not hear each other")
        clubs.vlan(first, "kick", clubs.LABEL, there[2].peer_id)
        clubs.vlan(second, "kick", clubs.LABEL, here[2].peer_id)
        clubs.vlan(second, "rotate", clubs.LABEL)
        _epochs(here[:2])
        _epochs(there[:2])
        time.sleep(1 if short else 8)
    left = [*here[:2], *there[:2]]
    with lab.report.step("it heals: one epoch, both removals count, everybody reaches everybody"):
        for node in nodes:
            rules.remove(node.namespace, "cut")
        healed = time.monotonic()
        linked = wait_for(lambda: _linked(first, second), 30, "a trunk between the sides", interval_s=0.02)
        epoch = clubs.agree(*left, timeout_s=30)
        agreed = time.monotonic()
        clubs.all_ping(*left)
    figures: Figures = {
        "one_epoch_after_s": round(agreed - linked, 2),
        "trunk_after_s": round(linked - healed, 2),
        "epoch": epoch,
    }
    with lab.report.step("who was kicked on either side is out, and stays out"):
        for node in (here[2], there[2]):
            wait_for(lambda node=node: not clubs.is_in(node), 20, f"{node.name} knows")  # type: ignore[misc]
        require(agreed - linked <= ONE_EPOCH_S, f"too late: {figures}")
    return figures


def _cut(here: list[Node], there: list[Node]) -> None:
    for side, others in ((here, there), (there, here)):
        addresses = [f"10.86.0.{clubs.number_of(node)}" for node in others]
        for node in side:
            node.namespace.nft(rules.drop_sources(addresses))


def _epochs(nodes: list[Node]) -> None:
    """These are in one epoch."""

    def same() -> bool:
        return len({clubs.members(node)["epoch"] for node in nodes}) == 1

    wait_for(same, 10, "a side agrees")


def _linked(a: Node, b: Node) -> float | None:
    """The instant at which a trunk between them was seen."""
    (status,) = clubs.ask(a, "status")
    up = any(trunk["peer_id"] == b.peer_id and trunk["state"] == "up" for trunk in status["trunks"])
    return time.monotonic() if up else None


SCENARIO = Scenario(
    name="fork",
    summary="both sides of a partition change the group: one epoch within 5 s of the first trunk, kicked ones stay out",
    run=run,
    bound_s=150,
    short_bound_s=120,
)
