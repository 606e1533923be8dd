"""Who is in the mesh, as everybody says it of itself, and which trunks are gone (SPEC 11.1).

    Presence  version 1 ┼ sequence 8 ┼ lifetime, s 2 ┼ flags 1 ┼ load 1 ┼ n 1 ┼ n × trunk version 2 ┼ n 1 ┼ n × link 34
              ┼ n 1 ┼ n × VLAN-ID 16 ┼ n 1 ┼ n × lp(multiaddr)         link: neighbour's key 32 ‖ round trip 2
    LinkDown  version 1 ┼ neighbour's key 32 ┼ sequence 8 of the neighbour's last presence

Each is the payload of an envelope that its author signed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Final, Generic, Self, TypeVar

from peertap.errors import DecodeError
from peertap.types import PeerId, VlanId, peer_id_of, public_key_of
from peertap.wire.codec import Reader, lp
from peertap.wire.envelope import MAX_ENVELOPE_BYTES, Envelope

DOMAIN: Final = b"PeerTap/1 presence"
VERSION: Final = 1
MAX_LINKS: Final = 64  # ours: neighbours that one node names, the nearest
MAX_VLANS: Final = 32  # ours: public VLANs that one node names
MAX_VERSIONS: Final = 8  # ours
MAX_ADDRESSES: Final = 4  # ours: where to dial a relay
MAX_ADDRESS_BYTES: Final = 256  # SPEC 4.4: as in Endpoints
MAX_LIFETIME_S: Final = 3600  # ours: whoever says nothing for so long is gone, whatever was said before
RTT_STEP_S: Final = 0.0001  # the unit of a round trip on the wire
UNKNOWN_RTT: Final = 0xFFFF
_RELAYS, _WANTS_GRANTS, _IS_LEAF, _IS_FULL, _IS_BUSY = 1, 2, 4, 8, 16

T = TypeVar("T")
P = TypeVar("P", "Presence", "LinkDown")


@dataclass(frozen=True, slots=True)
class Link:
    """A trunk to a relay; its round trip in s, None: not measured yet."""

    peer: PeerId
    rtt_s: float | None

    def emit(self) -> bytes:
        """Key 32 ‖ round trip 2, in 0.1 ms."""
        rtt = UNKNOWN_RTT if self.rtt_s is None else min(round(self.rtt_s / RTT_STEP_S), UNKNOWN_RTT - 1)
        return public_key_of(self.peer) + rtt.to_bytes(2, "big")

    @classmethod
    def read(cls, reader: Reader) -> Self:
        """Raises DecodeError."""
        peer, rtt = _peer(reader), reader.uint(2, "round trip")
        return cls(peer, None if rtt == UNKNOWN_RTT else rtt * RTT_STEP_S)


@dataclass(frozen=True, slots=True)
class Presence:
    """What a node says of itself.

    Args:
        sequence: ms since 1970, or one above its last, whichever is more.
        lifetime_s: so long it counts after that time; 0: the node goes down.
        relays, wants_grants, is_leaf: as in Policy (SPEC 4.4).
        is_full: it takes no more neighbours.
        is_busy: it carries as much as it can; who can go elsewhere should.
        load: the share of one core that its busiest thread takes, 0 to 255.
        versions: of the trunk's protocol (SPEC 4.1).
        links: its neighbours that relay; of a node that does not: none.
        vlans: those of its VLANs whose owners let everybody know of them.
        addresses: where to dial it, if it relays for others.
    """

    TYPE: ClassVar[bytes] = b"/peertap/presence/1"
    sequence: int
    lifetime_s: int
    relays: bool = False
    wants_grants: bool = False
    is_leaf: bool = False
    is_full: bool = False
    is_busy: bool = False
    load: int = 0
    versions: tuple[int, ...] = ()
    links: tuple[Link, ...] = ()
    vlans: tuple[VlanId, ...] = ()
    addresses: tuple[str, ...] = ()

    def emit(self) -> bytes:
        flags = self.relays * _RELAYS | self.wants_grants * _WANTS_GRANTS | self.is_leaf * _IS_LEAF
        flags |= self.is_full * _IS_FULL | self.is_busy * _IS_BUSY
        lists = (
            [version.to_bytes(2, "big") for version in self.versions],
            [link.emit() for link in self.links],
            self.vlans,
            [lp(address.encode()) for address in self.addresses],
        )
        head = bytes((VERSION,)) + self.sequence.to_bytes(8, "big") + self.lifetime_s.to_bytes(2, "big")
        return head + bytes((flags, self.load)) + b"".join(bytes((len(one),)) + b"".join(one) for one in lists)

    @classmethod
    def parse_untrusted(cls, data: bytes) -> Self:
        """Raises DecodeError."""
        reader = _read_version(data, "presence")
        sequence, lifetime_s = reader.uint(8, "sequence"), reader.uint(2, "lifetime")
        if lifetime_s > MAX_LIFETIME_S:
            raise DecodeError(f"presence: a lifetime of {lifetime_s} s, at most {MAX_LIFETIME_S} are allowed")
        flags, load = reader.uint(1, "flags"), reader.uint(1, "load")
        found = cls(
            sequence,
            lifetime_s,
            relays=bool(flags & _RELAYS),
            wants_grants=bool(flags & _WANTS_GRANTS),
            is_leaf=bool(flags & _IS_LEAF),
            is_full=bool(flags & _IS_FULL),
            is_busy=bool(flags & _IS_BUSY),
            load=load,
            versions=_several(reader, "versions", MAX_VERSIONS, lambda: reader.uint(2, "version")),
            links=_several(reader, "links", MAX_LINKS, lambda: Link.read(reader)),
            vlans=_several(reader, "VLAN-IDs", MAX_VLANS, lambda: VlanId(reader.take(16, "VLAN-ID"))),
            addresses=_several(reader, "addresses", MAX_ADDRESSES, lambda: reader.text("address", MAX_ADDRESS_BYTES)),
        )
        reader.end()
        return found


@dataclass(frozen=True, slots=True)
class LinkDown:
    """A trunk of the author's is gone; who was at its other end may say a later presence if it is still there."""

    TYPE: ClassVar[bytes] = b"/peertap/link-down/1"
    peer: PeerId
    sequence: int

    def emit(self) -> bytes:
        return bytes((VERSION,)) + public_key_of(self.peer) + self.sequence.to_bytes(8, "big")

    @classmethod
    def parse_untrusted(cls, data: bytes) -> Self:
        """Raises DecodeError."""
        reader = _read_version(data, "link down")
        found = cls(_peer(reader), reader.uint(8, "sequence"))
        reader.end()
        return found


@dataclass(frozen=True, slots=True)
class _Signed(Generic[P]):
    """An envelope with what is in it; whoever passes it on passes on these bytes."""

    PAYLOAD: ClassVar[type[Presence | LinkDown]]
    author: PeerId
    said: P
    envelope: bytes

    def body(self) -> bytes:
        return self.envelope

    def is_signed(self) -> bool:
        """Whether its author signed it."""
        return Envelope.parse_untrusted(self.envelope).is_signed(DOMAIN)

    @classmethod
    def sign(cls, author: PeerId, sign: Callable[[bytes], bytes], said: P) -> Self:
        """Says it: as others will read it."""
        envelope = Envelope.seal(author, sign, DOMAIN, said.TYPE, said.emit())
        return cls(author, type(said).parse_untrusted(envelope.payload), envelope.emit())

    @classmethod
    def read(cls, reader: Reader) -> Self:
        data = reader.take(min(reader.left, MAX_ENVELOPE_BYTES), "envelope")
        envelope = Envelope.parse_untrusted(data)
        if envelope.payload_type != cls.PAYLOAD.TYPE:
            raise DecodeError("presence: the envelope is of another type")
        return cls(envelope.signer, cls.PAYLOAD.parse_untrusted(envelope.payload), data)  # type: ignore[arg-type]


@dataclass(frozen=True, slots=True)
class SignedPresence(_Signed[Presence]):
    """Somebody is there: an envelope with a Presence."""

    CODE: ClassVar[int] = 20
    PAYLOAD = Presence


@dataclass(frozen=True, slots=True)
class SignedLinkDown(_Signed[LinkDown]):
    """A trunk is gone: an envelope with a LinkDown."""

    CODE: ClassVar[int] = 21
    PAYLOAD = LinkDown


def _read_version(data: bytes, what: str) -> Reader:
    reader = Reader(data, what)
    if (version := reader.uint(1, "version")) != VERSION:
        raise DecodeError(f"{what}: version {version} is not {VERSION}")
    return reader


def _peer(reader: Reader) -> PeerId:
    return peer_id_of(reader.take(32, "neighbour's key"))


def _several(reader: Reader, what: str, most: int, read: Callable[[], T]) -> tuple[T, ...]:
    count = reader.uint(1, what)
    if count > most:
        raise DecodeError(f"presence: {count} {what}, at most {most} are allowed")
    return tuple(read() for _ in range(count))
