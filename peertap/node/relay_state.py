"""What a relay keeps on disk: rules made while it ran, and each controller's last sequence (SPEC 15.3)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Self

from peertap.errors import DecodeError
from peertap.mesh.policy import MAX_RULES
from peertap.types import PEER_ID_BYTES, PeerId
from peertap.wire.codec import Reader
from peertap.wire.relay import Change, Verdict

MAGIC: Final = b"PTRELAY1"
MAX_SEQUENCES: Final = 256  # ours: controllers that ever changed something; the oldest that is none any more goes


@dataclass(frozen=True, slots=True)
class RelayState:
    """├ "PTRELAY1" ┼ rules 2 ┼ rule … ┼ controllers 2 ┼ (peer ID 38 ┼ sequence 8) … ┤, rules as changes (SPEC 15.2)."""

    rules: tuple[Change, ...] = ()
    sequences: Mapping[PeerId, int] = field(default_factory=dict)

    def emit(self) -> bytes:
        rules = b"".join(rule.emit() for rule in self.rules)
        pairs = b"".join(peer + number.to_bytes(8, "big") for peer, number in self.sequences.items())
        counts = len(self.rules).to_bytes(2, "big"), len(self.sequences).to_bytes(2, "big")
        return MAGIC + counts[0] + rules + counts[1] + pairs

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """Reads the file. Raises DecodeError."""
        reader = Reader(data, "relay policy")
        if reader.take(len(MAGIC), "magic") != MAGIC:
            raise DecodeError("relay policy: this is not a file of PeerTap's")
        count = reader.uint(2, "rules")
        if count > MAX_RULES:
            raise DecodeError(f"relay policy: {count} rules, at most {MAX_RULES} are allowed")
        rules = tuple(Change.read(reader) for _ in range(count))
        if any(rule.verdict is Verdict.FORGET for rule in rules):
            raise DecodeError("relay policy: a rule neither allows nor denies")
        sequences = {
            PeerId(reader.take(PEER_ID_BYTES, "controller")): reader.uint(8, "sequence")
            for _ in range(reader.uint(2, "controllers"))
        }
        reader.end()
        return cls(rules, sequences)
