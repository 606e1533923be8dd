"""What the node is told of the configuration, in the node's own terms."""

from __future__ import annotations

from peertap.config.model import Config
from peertap.mesh.policy import Mode
from peertap.node.bridges import SwitchSettings


def relay_policy(config: Config) -> tuple[Mode, tuple[str, ...], bool]:
    """Whom the node relays for, and whether it says who it is to those who ask for the way."""
    if config.relay is None:
        return Mode.NONE, (), False
    return Mode(config.relay.mode), tuple(config.relay.vlans), config.relay.trace


def switching(config: Config) -> SwitchSettings:
    """How its interfaces switch."""
    switch = config.switch
    limits = switch.broadcasts, switch.multicasts, switch.unknown
    return SwitchSettings(limits, switch.answer_above, frozenset(switch.bpdus))
