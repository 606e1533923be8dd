"""What a scenario is, and where they are.

To write one: netns/scenarios/NAME.py with `run(lab, short)` and a SCENARIO, and its name in NAMES below.

    def run(lab: Lab, short: bool) -> Figures:
        nodes = pair(lab)                                  # topology.py: machines, cables, configured nodes
        start_pair(nodes)                                  # started, ready, members of each other
        with lab.report.step("what is done and must hold"):
            figures = reach.ping(side(nodes.a), side(nodes.b))          # checks/: raise where it does not hold
            require(nodes.a.status()["frame_keys"] > 0, "what was seen instead")
        return figures                                     # the lab cleans up and proves it
"""

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from netns.lab import Lab

Figures = dict[str, object]

NAMES: Final = (
    "demo", "lab", "emulator", "pair", "relay-line", "fallback", "isolation", "start-together", "kill-relay", "replay",
    "loss", "transfer", "group-load", "roam", "process", "new-user", "vlan-life", "kicked",
    "rekey-load", "catch-up", "fork", "spoof", "council", "ring", "relay-failover", "lan", "discovery", "bridge",
    "storm", "multicast", "relay-policy", "liars", "mesh32", "multipath",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Scenario:
    """Something that must hold.

    Args:
        summary: one line for `netns list`.
        bound_s, short_bound_s: it fails when it runs longer.
        run: builds, checks (raising ScenarioFailed) and returns its figures.
    """

    name: str
    summary: str
    run: Callable[[Lab, bool], Figures]
    bound_s: float
    short_bound_s: float
    needs_emulator: bool = False


def load(name: str) -> Scenario:
    """Raises KeyError for a name that no scenario has."""
    if name not in NAMES:
        raise KeyError(name)
    module = importlib.import_module(f"netns.scenarios.{name.replace('-', '_')}")
    scenario = module.SCENARIO
    assert isinstance(scenario, Scenario) and scenario.name == name
    return scenario
