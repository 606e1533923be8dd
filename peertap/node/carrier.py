"""Which carrier a trunk sends on: udp as soon as a path is valid, else its stream (DESIGN 7).

STREAM ─ path found ─▶ UDP ─ path lost ─▶ STREAM        both probe: quickly at first, then every PROBE_MOST_S
"""

from collections.abc import Iterable
from typing import Final

from peertap.node.tables import Address
from peertap.wire.codec import unpacked_ip

PROBE_FIRST_S: Final = 0.05  # ours: a first probe can be lost to a NAT that the other side's probe opens
PROBE_MOST_S: Final = 1.0  # ours: back on udp within about a second of its return
PROBE_TRIES: Final = 120  # ours: about two minutes of that; a neighbour may not have us probe strangers for ever
PROBE_TIRED_S: Final = 15.0  # ours: after that
WHERE_SEEN: Final = "::"  # SPEC 4.4: in Endpoints, the address at which the neighbour sees us
MAX_CANDIDATES: Final = 40  # ours: 32 that the neighbour names, some that it was seen at


class CarrierChoice:
    """The carrier of one trunk."""

    def __init__(self, *, udp_allowed: bool, has_stream: bool, now: float) -> None:
        self.remote: Address | None = None
        self.candidates: dict[Address, None] = {}
        self._udp_allowed = udp_allowed
        self._has_stream = has_stream
        self._gap_s = PROBE_FIRST_S
        self._tries = 0
        self._due_at = now
        self._since: float | None = None  # probed in vain

    @property
    def name(self) -> str:
        if self.remote is not None:
            return "udp"
        return "stream" if self._has_stream else "none"

    def why(self, now: float, *, to_stranger: bool = False) -> str:
        """Why the carrier is not udp; nothing where it is. A stranger is told no address."""
        if self.remote is not None:
            return ""
        if not self._udp_allowed:
            return "udp is switched off"
        if not self.candidates or self._since is None:
            return "no address for udp is known"
        for_s = f"in {max(0.0, now - self._since):.0f} s"
        if to_stranger:
            return f"udp failed: no reply {for_s}"
        there = next(iter(self.candidates))
        others = f" and {len(self.candidates) - 1} more" if len(self.candidates) > 1 else ""
        return f"udp failed: no reply from {there[0]}:{there[1]}{others} {for_s}"

    def offer(self, addresses: Iterable[Address], now: float) -> None:
        """The neighbour may be found there."""
        for address in addresses:
            if len(self.candidates) < MAX_CANDIDATES and address not in self.candidates:
                self.candidates[address] = None
                self._gap_s, self._due_at = PROBE_FIRST_S, now

    def found(self, address: Address) -> bool:
        """A probe came back; returns whether the carrier changes."""
        if not self._udp_allowed or self.remote == address:
            return False
        if self.remote is not None and self.remote in self.candidates and address in self.candidates:
            return False  # stay with a path that works
        self.remote = address
        return True

    def roam(self, address: Address) -> None:
        """A checked path to where the neighbour's packets come from now."""
        self.remote = address

    def lost(self, now: float) -> bool:
        """The path is silent; returns whether the carrier changes."""
        if self.remote is None:
            return False
        if len(self.candidates) < MAX_CANDIDATES:
            self.candidates.setdefault(self.remote)
        self.remote = None
        self._gap_s, self._due_at, self._tries, self._since = PROBE_FIRST_S, now, 0, now
        return True

    def next_deadline(self) -> float | None:
        return self._due_at if self._udp_allowed and self.remote is None and self.candidates else None

    def due(self, now: float) -> list[Address]:
        """The addresses to probe now."""
        deadline = self.next_deadline()
        if deadline is None or now < deadline:
            return []
        self._due_at = now + self._gap_s
        self._since = now if self._since is None else self._since
        self._tries += 1
        self._gap_s = min(2 * self._gap_s, PROBE_MOST_S if self._tries < PROBE_TRIES else PROBE_TIRED_S)
        return list(self.candidates)


def unpacked(ip: bytes, port: int, seen_at: str | None) -> Address | None:
    """An address out of Endpoints; None where nothing may be sent to.

    Args:
        seen_at: the neighbour's IP address as its connection shows it, for WHERE_SEEN.
    """
    one = unpacked_ip(ip)
    if one.is_unspecified:
        return None if seen_at is None or port == 0 else (seen_at, port)
    return None if port == 0 or one.is_multicast else (str(one), port)
