"""The admin socket's commands for relays (SPEC 8.3, 15): from JSON to what the node understands, and back."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Mapping
from typing import Any, Final, Protocol

import trio

from peertap.config.model import parse_pattern
from peertap.errors import ConfigError, DecodeError, DeviceError
from peertap.identity.carriage import TEXT_PREFIX, emit_line, parse_line
from peertap.identity.node import format_peer_id, parse_peer_id
from peertap.node.commands import Command
from peertap.node.node import Node
from peertap.node.relay_control import ChangeRules, RelayCommand, Steer, TakeCarriage
from peertap.observe.relay import relay_status
from peertap.shell.dataplane import DataPlane
from peertap.types import PeerId
from peertap.vlan.membership import GroupMembership, StaticMembership
from peertap.wire.relay import MAX_CHANGES, Change, Outcome, RelayResult, Verdict

ANSWER_S: Final = 5.0  # ours: a relay that has not answered by then is not asked again
LOOK_S: Final = 0.5  # ours: a waiting command looks so often where nothing happens
MAX_LIFETIME_S: Final = 10 * 365 * 86_400  # ours
CARRIAGE_S: Final = 30 * 86_400  # ours: how long a carriage grant holds where nobody says

_REFUSALS: Final = {
    Outcome.REFUSED: ("the relay refuses: this node is no controller of it", "relay.controllers there names who is"),
    Outcome.OLD: ("the relay has seen a later update of this node", "is its clock right? try again"),
    Outcome.FULL: ("the relay has no room for more rules", "patterns with * take the place of many"),
}

Answers = AsyncGenerator[dict[str, Any], None]


class Runtime(Protocol):
    """The running node, as these commands need it."""

    @property
    def node(self) -> Node: ...

    @property
    def data_plane(self) -> DataPlane: ...

    def command(self, command: Command | RelayCommand) -> dict[str, Any]:
        """Does it. Raises PeerTapError."""

    async def next_change(self) -> None:
        """Waits until something happens to the node."""


class RelayAdmin:
    """Answers requests whose command begins with "relay "."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime

    async def answer(self, name: str, request: dict[str, Any]) -> Answers:
        """What the command leads to.

        Raises: PeerTapError.
        """
        verdicts = {verdict.name.lower(): verdict for verdict in Verdict}
        if name == "list":
            yield relay_status(self._runtime.node, self._runtime.data_plane.engine.snapshot())
        elif name in verdicts:
            yield await self._change(verdicts[name], request)
        else:
            raise ConfigError(f"no command {name[:40]!r} for relays")

    async def _change(self, verdict: Verdict, request: dict[str, Any]) -> dict[str, Any]:
        texts, relay = request.get("patterns"), request.get("relay")
        if not isinstance(texts, list) or not 0 < len(texts) <= MAX_CHANGES:
            raise ConfigError(f"1 to {MAX_CHANGES} patterns are needed", key="PATTERN")
        lines = [text for text in texts if isinstance(text, str) and text.strip().startswith(f"{TEXT_PREFIX}-")]
        if lines:
            alone = len(texts) == 1 and relay is None and request.get("lifetime_s") is None
            if verdict is not Verdict.ALLOW or not alone:
                what = "a carriage grant stands alone, for its own time, and is allowed on the relay that it is for"
                raise ConfigError(what, key="PATTERN")
            return self._take(lines[0])
        until = _until(request.get("lifetime_s"), self._runtime.node.now_unix)
        changes = tuple(Change(verdict, parse_pattern(text), until) for text in texts)
        if relay is None:
            return {**self._runtime.command(ChangeRules(changes)), "relay": None}
        result = await self._steer(_peer_id(relay, "--relay"), changes)
        return {"relay": relay, "sequence": result.sequence}

    def _take(self, line: str) -> dict[str, Any]:
        try:
            carriage = parse_line(line)
        except DecodeError as error:
            raise ConfigError(error.what, key="PATTERN", hint=error.hint) from None
        return self._runtime.command(TakeCarriage(carriage))

    async def _steer(self, relay: PeerId, changes: tuple[Change, ...]) -> RelayResult:
        """Raises: DeviceError: the relay did not do it."""
        result = await self._sent(Steer(relay, changes))
        if result.outcome is Outcome.OLD:  # our clock was ahead once
            result = await self._sent(Steer(relay, changes, above=result.last))
        if result.outcome is not Outcome.DONE:
            what, hint = _REFUSALS[result.outcome]
            raise DeviceError(what, hint=hint)
        return result

    async def _sent(self, command: Steer) -> RelayResult:
        sequence = self._runtime.command(command)["sequence"]
        results, began = self._runtime.node.relay_control.results, time.monotonic()
        while sequence not in results:
            if time.monotonic() > began + ANSWER_S:
                raise DeviceError("the relay does not answer", hint="does it run this version? see its log")
            with trio.move_on_after(LOOK_S):
                await self._runtime.next_change()
        return results.pop(sequence)


def carriage_line(node: Node, request: Mapping[str, Any]) -> dict[str, Any]:
    """Answers `vlan grant`: one line that asks a relay to carry a VLAN.

    Raises:
        ConfigError: no such VLAN, or none that can be granted.
    """
    relay, label = _peer_id(request.get("relay"), "RELAY"), request.get("label")
    vlans = {
        vlan.source.label: vlan.source
        for vlan in node.vlans.values()
        if vlan.is_inside and isinstance(vlan.source, StaticMembership | GroupMembership)
    }
    if label is None and len(vlans) == 1:
        label = next(iter(vlans))
    if label not in vlans:
        hint = f"there are: {', '.join(sorted(vlans))}" if vlans else "this node is in none"
        what = "which VLAN?" if label is None else f"this node is in no VLAN {str(label)[:40]!r}"
        raise ConfigError(what, key="--vlan", hint=hint)
    source, lifetime_s = vlans[str(label)], request.get("lifetime_s") or CARRIAGE_S
    until = _until(lifetime_s, node.now_unix)
    carriage = source.carriage(relay, until, node.now_unix)
    if carriage is None:
        raise ConfigError(
            "this VLAN cannot be granted: several admins have to agree in it, or the grant of its creator is over",
            key="--vlan", hint="the relay's operator can use mode open",
        )  # fmt: skip
    return {
        "vlan": label, "vlan_id": source.vlan_id.hex(), "relay": format_peer_id(relay), "until": until,
        "line": emit_line(source.label, carriage),
    }  # fmt: skip


def _until(lifetime_s: object, now_unix: float) -> int:
    if lifetime_s is None:
        return 0
    if not isinstance(lifetime_s, int) or not 0 < lifetime_s <= MAX_LIFETIME_S:
        raise ConfigError("a time of at most ten years is needed", key="--for")
    return int(now_unix) + lifetime_s


def _peer_id(text: object, key: str) -> PeerId:
    try:
        return parse_peer_id(str(text))
    except DecodeError as error:
        raise ConfigError(f"{str(text)[:60]!r}: {error.what}", key=key, hint="peertap id prints it there") from None
