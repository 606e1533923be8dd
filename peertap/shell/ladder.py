"""In which order a peer's addresses are dialled: the cheapest transport first (docs/decisions/0003)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from peertap.config.address import PeerAddress, parse_address
from peertap.errors import ConfigError
from peertap.node.neighbours import TRANSPORT_RANK

_NAMES: Final = {"tcp": "tcp", "ws": "ws", "quic-v1": "quic"}


def parsed(texts: Iterable[str]) -> list[PeerAddress]:
    """Those of these multiaddrs that can be dialled."""
    found = []
    for text in texts:
        try:
            found.append(parse_address(text))
        except ConfigError:
            continue
    return found


def ladder(texts: Iterable[str]) -> list[PeerAddress]:
    """Every address once, cheapest transport first, and of one transport the most promising first."""
    concrete = [one for address in parsed(texts) for one in address.concrete()]
    return sorted(dict.fromkeys(concrete), key=rank)


def rank(address: PeerAddress) -> int:
    """How dear an address is: that of its transport."""
    return TRANSPORT_RANK[_NAMES[address.transport or "tcp"]]
