"""What steers a relay: rules on VLAN-IDs, signed updates of them, and carriage grants (SPEC 15)."""

import re
from dataclasses import dataclass
from enum import IntEnum
from typing import ClassVar, Final, Self

from peertap.errors import DecodeError
from peertap.types import PEER_ID_BYTES, PeerId, is_peer_id
from peertap.wire.codec import Reader, lp

MAX_PATTERN_BYTES: Final = 64  # ours: 32 digits of a VLAN-ID, and as many *
MAX_CHANGES: Final = 256  # ours: in one update; more need several
SIGNATURE_BYTES: Final = 64
_PATTERN: Final = re.compile(rb"[0-9a-f*]{1,64}")


class Verdict(IntEnum):
    """What a change does with a pattern."""

    FORGET = 0  # the rule goes: what the configuration says holds again
    ALLOW = 1
    DENY = 2


@dataclass(frozen=True, slots=True)
class Change:
    """A rule: verdict 1 | until 8 (Unix seconds, 0: for ever) | lp(pattern of VLAN-IDs, hexadecimal and *)."""

    verdict: Verdict
    pattern: str
    until: int = 0

    def emit(self) -> bytes:
        return bytes((self.verdict,)) + self.until.to_bytes(8, "big") + lp(self.pattern.encode())

    @classmethod
    def read(cls, reader: Reader) -> Self:
        verdict, until = reader.uint(1, "verdict"), reader.uint(8, "until")
        pattern = reader.lp("pattern", MAX_PATTERN_BYTES)
        if verdict not in Verdict.__members__.values():
            raise DecodeError(f"relay update: no verdict {verdict}")
        if _PATTERN.fullmatch(pattern) is None:
            raise DecodeError("relay update: a pattern has hexadecimal digits and * only")
        return cls(Verdict(verdict), pattern.decode("ascii"), until)


@dataclass(frozen=True, slots=True)
class RelayUpdate:
    """A controller changes a relay's rules; all of them or none.

    lp(relay) | lp(controller) | sequence 8 | count 2 | changes | signature 64, by the controller's identity key over
    "PeerTap/1 relay update" and all before it.
    """

    CODE: ClassVar[int] = 24
    relay: PeerId
    controller: PeerId
    sequence: int
    changes: tuple[Change, ...]
    signature: bytes

    def signed_part(self) -> bytes:
        """What the controller signs."""
        return b"PeerTap/1 relay update" + self._unsigned()

    def _unsigned(self) -> bytes:
        head = lp(self.relay) + lp(self.controller) + self.sequence.to_bytes(8, "big")
        return head + len(self.changes).to_bytes(2, "big") + b"".join(change.emit() for change in self.changes)

    def body(self) -> bytes:
        return self._unsigned() + self.signature

    @classmethod
    def read(cls, reader: Reader) -> Self:
        relay, controller = _peer(reader, "relay"), _peer(reader, "controller")
        sequence, count = reader.uint(8, "sequence"), reader.uint(2, "count")
        if count > MAX_CHANGES:
            raise DecodeError(f"relay update: {count} changes, at most {MAX_CHANGES} are allowed")
        changes = tuple(Change.read(reader) for _ in range(count))
        return cls(relay, controller, sequence, changes, reader.take(SIGNATURE_BYTES, "signature"))


class Outcome(IntEnum):
    """What became of an update."""

    DONE = 0  # the data plane acts on it
    REFUSED = 1  # for another relay, from no controller of it, or not signed by it
    OLD = 2  # its sequence is not above the last one
    FULL = 3  # more rules than the relay keeps


@dataclass(frozen=True, slots=True)
class RelayResult:
    """What became of an update: sequence 8 | outcome 1 | last sequence taken of this controller 8 (0: none)."""

    CODE: ClassVar[int] = 25
    sequence: int
    outcome: Outcome
    last: int

    def body(self) -> bytes:
        return self.sequence.to_bytes(8, "big") + bytes((self.outcome,)) + self.last.to_bytes(8, "big")

    @classmethod
    def read(cls, reader: Reader) -> Self:
        sequence, outcome = reader.uint(8, "sequence"), reader.uint(1, "outcome")
        if outcome not in Outcome.__members__.values():
            raise DecodeError(f"relay result: no outcome {outcome}")
        return cls(sequence, Outcome(outcome), reader.uint(8, "last"))


@dataclass(frozen=True, slots=True)
class Carriage:
    """A VLAN asks one relay to carry it: relay 38 | until 8 | signature 64 | body of the VLAN's Grant (SPEC 4.4).

    signature by the grant key over "PeerTap/1 carriage" | relay | VLAN-ID | until.
    """

    relay: PeerId
    until: int
    signature: bytes
    grant: bytes

    def emit(self) -> bytes:
        return self.relay + self.until.to_bytes(8, "big") + self.signature + self.grant

    @classmethod
    def parse_untrusted(cls, data: bytes) -> Self:
        """Reads one. Raises DecodeError."""
        reader = Reader(data, "carriage grant")
        relay = reader.take(PEER_ID_BYTES, "relay")
        if not is_peer_id(relay):
            raise DecodeError("carriage grant: the relay is no peer ID")
        until, signature = reader.uint(8, "until"), reader.take(SIGNATURE_BYTES, "signature")
        return cls(PeerId(relay), until, signature, reader.rest())


def carriage_message(relay: PeerId, vlan: bytes, until: int) -> bytes:
    """What the grant key signs."""
    return b"PeerTap/1 carriage" + relay + vlan + until.to_bytes(8, "big")


def _peer(reader: Reader, field: str) -> PeerId:
    peer = reader.lp(field, PEER_ID_BYTES)
    if not is_peer_id(peer):
        raise DecodeError(f"relay update: {field} is no peer ID")
    return PeerId(peer)
