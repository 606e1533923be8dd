"""The admin socket's commands for relays: wrong ones say what, and change nothing."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import trio
import trio.testing

from peertap.config.load import parse_config
from peertap.errors import ConfigError, DeviceError, PeerTapError
from peertap.identity.carriage import emit_line
from peertap.identity.node import format_peer_id
from peertap.mesh.policy import Mode
from peertap.node.relay_control import ChangeRules, Steer, TakeCarriage
from peertap.node.tables import RelayLimits
from peertap.shell.relay_admin import RelayAdmin, carriage_line
from peertap.shell.settings import relay_policy, relay_rights
from peertap.wire.relay import Change, Outcome, RelayResult, Verdict
from tests.sim.test_relay_policy import relayed
from tests.support.identities import identity

RELAY = format_peer_id(identity("relay").peer_id)


class Node:
    """Notes commands; a relay answers updates with these outcomes, one after the other."""

    def __init__(self, *outcomes: Outcome) -> None:
        self.commands: list[object] = []
        self.outcomes = list(outcomes)
        self.node = SimpleNamespace(now_unix=1000.0, relay_control=SimpleNamespace(results={}))
        self.data_plane = SimpleNamespace()

    def command(self, command: object) -> dict[str, Any]:
        self.commands.append(command)
        if isinstance(command, Steer):
            number = len(self.commands)
            if self.outcomes:
                self.node.relay_control.results[number] = RelayResult(number, self.outcomes.pop(0), 77)
            return {"sequence": number}
        return {"rules": 1}

    async def next_change(self) -> None:
        await trio.sleep_forever()


def ask(node: Node, name: str, **request: Any) -> list[dict[str, Any]]:
    async def main() -> list[dict[str, Any]]:
        return [one async for one in RelayAdmin(node).answer(name, request)]  # type: ignore[arg-type]

    return trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))


def test_patterns_become_rules() -> None:
    node = Node()
    ask(node, "allow", patterns=["3F*"], lifetime_s=60)
    ask(node, "forget", patterns=["00*", "1" * 32])
    assert node.commands == [
        ChangeRules((Change(Verdict.ALLOW, "3f*", 1060),)),
        ChangeRules((Change(Verdict.FORGET, "00*"), Change(Verdict.FORGET, "1" * 32))),
    ]


def test_an_update_that_is_old_is_sent_once_more_above_what_the_relay_has_seen() -> None:
    node = Node(Outcome.OLD, Outcome.DONE)
    assert ask(node, "deny", patterns=["3f*"], relay=RELAY) == [{"relay": RELAY, "sequence": 2}]
    change, peer = (Change(Verdict.DENY, "3f*"),), identity("relay").peer_id
    assert node.commands == [Steer(peer, change), Steer(peer, change, above=77)]
    assert node.node.relay_control.results == {}


@pytest.mark.parametrize(
    ("outcomes", "what"),
    [
        ((Outcome.REFUSED,), "no controller"),
        ((Outcome.OLD, Outcome.OLD), "later update"),
        ((Outcome.FULL,), "no room"),
    ],
)
def test_what_a_relay_refuses_is_told(outcomes: tuple[Outcome, ...], what: str) -> None:
    with pytest.raises(DeviceError, match=what):
        ask(Node(*outcomes), "deny", patterns=["3f*"], relay=RELAY)


@pytest.mark.parametrize(
    ("name", "request_"),
    [
        ("allow", {}),
        ("allow", {"patterns": []}),
        ("allow", {"patterns": "3f*"}),
        ("allow", {"patterns": [7]}),
        ("allow", {"patterns": ["3f"]}),
        ("allow", {"patterns": ["[ab]*"]}),
        ("allow", {"patterns": ["3f*"] * 257}),
        ("allow", {"patterns": ["3f*"], "lifetime_s": 0}),
        ("allow", {"patterns": ["3f*"], "lifetime_s": "1d"}),
        ("allow", {"patterns": ["3f*"], "relay": "bob"}),
        ("allow", {"patterns": ["ptcarry1-lab-aaaa"]}),
        ("deny", {"patterns": ["ptcarry1-lab-aaaa"]}),
        ("allow", {"patterns": ["ptcarry1-lab-aaaa"], "lifetime_s": 60}),
        ("permit", {"patterns": ["3f*"]}),
    ],
)
def test_nonsense_is_refused_and_changes_nothing(name: str, request_: dict[str, Any]) -> None:
    node = Node()
    with pytest.raises(PeerTapError):
        ask(node, name, **request_)
    assert node.commands == []


def test_a_carriage_line_of_a_member_is_what_the_relay_takes() -> None:
    mesh, relay = relayed(Mode.RESTRICTED, "red")
    a = mesh.nodes["a"]
    found = carriage_line(a.node, {"relay": format_peer_id(relay.identity.peer_id), "label": "blue"})
    node = Node()
    ask(node, "allow", patterns=[found["line"]])
    (command,) = node.commands
    assert isinstance(command, TakeCarriage)
    relay.command(command)
    assert found["vlan_id"] in relay.node.policy.rules
    assert emit_line("blue", command.carriage) == found["line"]


@pytest.mark.parametrize("request_", [{}, {"label": "green"}, {"label": "red", "relay": "bob"}, {"label": 7}])
def test_a_carriage_line_for_nothing_is_refused(request_: dict[str, Any]) -> None:
    mesh, _ = relayed(Mode.RESTRICTED, "red")
    with pytest.raises(ConfigError):
        carriage_line(mesh.nodes["a"].node, {"relay": RELAY, **request_})


def test_the_configurations_rates_are_bytes_a_second_for_the_data_plane() -> None:
    text = f"relay: {{mode: deny, vlans: ['3*'], controllers: [{RELAY}], rate: 8, vlan_rate: 0.000001}}\n"
    config = parse_config(text, environ={})
    assert relay_policy(config) == (Mode.DENY, ("3*",), True)
    assert relay_rights(config) == (frozenset({identity("relay").peer_id}), RelayLimits(1_000_000, 0, 1))
    without = parse_config("vlans: [{label: lab}]\n", environ={})
    assert (relay_policy(without), relay_rights(without)) == ((Mode.NONE, (), False), (frozenset(), RelayLimits()))
