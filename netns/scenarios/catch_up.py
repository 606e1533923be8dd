"""Members that were away: off for 50 epochs, back in three seconds; off for longer than the log, back by themselves."""

import time

from netns import clubs
from netns.errors import require
from netns.lab import Lab
from netns.node import Node
from netns.probe import PingProbe
from netns.scenario import Figures, Scenario

BACK_S = 3.0  # the row
EPOCHS_AWAY = 50  # the row
LOG = 64  # SPEC 9.6
SETTLED_S = 3.0  # after so long everybody seals under the last of them (SPEC 3.4)


def run(lab: Lab, short: bool) -> Figures:
    with lab.report.step("four members"):
        nodes = clubs.founded(lab, 4)
        admin, other, sleeper, long_sleeper = nodes
    with lab.report.step(f"two are switched off; {EPOCHS_AWAY} epochs pass, then one comes back"):
        long_sleeper.terminate()
        sleeper.terminate()
        _rotate(admin, EPOCHS_AWAY)
        time.sleep(SETTLED_S)
        back = _wake(sleeper, other)
        require(back["back_s"] <= BACK_S, f"off for {EPOCHS_AWAY} epochs: {back}")
        require(clubs.members(sleeper)["epoch"] == clubs.members(admin)["epoch"], "it is not in the others' epoch")
    with lab.report.step(f"the other one was off for more than the {LOG} epochs of the log: it rejoins by itself"):
        _rotate(admin, LOG - EPOCHS_AWAY + 6)
        time.sleep(SETTLED_S)
        rejoined = _wake(long_sleeper, other)
        clubs.agree(*nodes)
        clubs.all_ping(*nodes)
    return {
        "epochs_away": EPOCHS_AWAY,
        "back_s": back["back_s"],
        "ready_s": back["ready_s"],
        "rejoined_after_s": rejoined["back_s"],
        "epoch": clubs.members(admin)["epoch"],
    }


def _rotate(admin: Node, times: int) -> None:
    for _ in range(times):
        clubs.ask(admin, "vlan rotate", label=clubs.LABEL)


def _wake(node: Node, other: Node) -> dict[str, float]:
    """Starts a node; seconds from its readiness to the first answer of a ping, and to its readiness."""
    began = time.monotonic()
    node.start()
    ready = node.wait_ready()
    probe = PingProbe(node.namespace, clubs.side(other).ipv4, interface=clubs.TAP)
    reply = probe.wait_for_reply(began, 40, f"{node.name} pings {other.name}")
    probe.stop()
    return {"ready_s": round(ready - began, 2), "back_s": round(max(0.0, reply - ready), 2)}


SCENARIO = Scenario(
    name="catch-up",
    summary="off for 50 epochs: back within 3 s; off for longer than the log: rejoins by itself",
    run=run,
    bound_s=150,
    short_bound_s=150,
)
