"""What the node is told of the configuration, in the node's own terms."""

from __future__ import annotations

from typing import Final

from peertap.config.model import Config
from peertap.mesh.policy import Mode
from peertap.node.bridges import SwitchSettings
from peertap.node.tables import NO_LIMITS, RelayLimits
from peertap.node.ways import WaySettings
from peertap.types import PeerId

BYTES_PER_MBIT: Final = 125_000


def relay_policy(config: Config) -> tuple[Mode, tuple[str, ...], bool]:
    """Whom the node relays for, and whether it says who it is to those who ask for the way."""
    if config.relay is None:
        return Mode.NONE, (), False
    return Mode(config.relay.mode), tuple(config.relay.vlans), config.relay.trace


def relay_rights(config: Config) -> tuple[frozenset[PeerId], RelayLimits]:
    """Who may change the policy, and what is carried at most."""
    relay = config.relay
    if relay is None:
        return frozenset(), NO_LIMITS
    rates = (relay.rate, relay.trunk_rate, relay.vlan_rate)
    limits = RelayLimits(*(max(1, int(rate * BYTES_PER_MBIT)) if rate else 0 for rate in rates))
    return frozenset(relay.controllers), limits


def switching(config: Config) -> SwitchSettings:
    """How its interfaces switch."""
    switch = config.switch
    limits = switch.broadcasts, switch.multicasts, switch.unknown
    return SwitchSettings(limits, switch.answer_above, frozenset(switch.bpdus))


def ways(config: Config) -> WaySettings:
    """What it does with several ways to a member."""
    return WaySettings(frozenset(config.paths.spread), frozenset(config.paths.duplicate))
