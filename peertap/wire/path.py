"""Which way frames to a token go, asked node by node (SPEC 16)."""

from dataclasses import dataclass
from enum import IntEnum
from typing import ClassVar, Final

from peertap.errors import DecodeError
from peertap.types import PEER_ID_BYTES, Token, VTag
from peertap.wire.codec import Reader, lp

MAX_PATH_HOPS: Final = 16  # SPEC 16: a longer way is followed no further
MAX_WHY_BYTES: Final = 160  # ours: one line


class Means(IntEnum):
    """What connects a node with the next one on the way."""

    UNSAID = 0
    TCP = 1
    WS = 2
    QUIC = 3


class Bears(IntEnum):
    """What carries frames there."""

    UNSAID = 0
    UDP = 1
    STREAM = 2
    NONE = 3


@dataclass(frozen=True, slots=True)
class PathAsk:
    """Asks for the way to a token: id 8 | VTag 16 | VFT 16 | number of the node that is asked 1."""

    CODE: ClassVar[int] = 28
    id: int
    vtag: VTag
    token: Token
    hop: int

    def body(self) -> bytes:
        return self.id.to_bytes(8, "big") + self.vtag + self.token + bytes((self.hop,))

    @classmethod
    def read(cls, reader: Reader) -> "PathAsk":
        found = cls(
            reader.uint(8, "id"),
            VTag(reader.take(16, "VTag")),
            Token(reader.take(16, "VFT")),
            reader.uint(1, "hop"),
        )
        if not 1 <= found.hop <= MAX_PATH_HOPS:
            raise DecodeError(f"path: hop {found.hop} is not 1 to {MAX_PATH_HOPS}")
        return found


@dataclass(frozen=True, slots=True)
class PathAnswer:
    """One node of the way.

    id 8 | number of the node 1 | end: 0 passes it on, 1 the token is its own, 2 knows no way 1
    | transport 1 | carrier 1 | round trip in microseconds 4: of the trunk to the next node
    | lp(peer ID, or nothing) | lp(why this way, in printable ASCII, or nothing)
    """

    CODE: ClassVar[int] = 29
    PASSES: ClassVar[int] = 0
    OWNS: ClassVar[int] = 1
    LOST: ClassVar[int] = 2
    id: int
    hop: int
    end: int
    means: Means = Means.UNSAID
    bears: Bears = Bears.UNSAID
    rtt_us: int = 0
    name: bytes = b""
    why: str = ""

    def body(self) -> bytes:
        head = self.id.to_bytes(8, "big") + bytes((self.hop, self.end, self.means, self.bears))
        return head + self.rtt_us.to_bytes(4, "big") + lp(self.name) + lp(self.why.encode("ascii"))

    @classmethod
    def read(cls, reader: Reader) -> "PathAnswer":
        number, hop, end = reader.uint(8, "id"), reader.uint(1, "hop"), reader.uint(1, "end")
        means, bears = reader.uint(1, "transport"), reader.uint(1, "carrier")
        if not 1 <= hop <= MAX_PATH_HOPS or end > cls.LOST or means > max(Means) or bears > max(Bears):
            raise DecodeError(f"path: hop {hop}, end {end}, transport {means}, carrier {bears}: out of range")
        rtt_us = reader.uint(4, "round trip")
        name, why = reader.lp("peer ID", PEER_ID_BYTES), reader.text("reason", MAX_WHY_BYTES)
        if len(name) not in (0, PEER_ID_BYTES) or not (why.isascii() and why.isprintable()):
            raise DecodeError("path: the peer ID is none, or the reason no line of printable ASCII")
        return cls(number, hop, end, Means(means), Bears(bears), rtt_us, name, why)
