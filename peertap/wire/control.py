"""Control messages: what travels in the records of a trunk (SPEC 4.4)."""

from dataclasses import dataclass
from enum import IntEnum
from typing import ClassVar, Final, Self

from peertap.errors import DecodeError
from peertap.types import Token, VTag
from peertap.wire.codec import Reader, lp
from peertap.wire.path import PathAnswer, PathAsk
from peertap.wire.presence import SignedLinkDown, SignedPresence
from peertap.wire.relay import RelayResult, RelayUpdate
from peertap.wire.routes import (
    JOIN_BYTES,
    ORIGIN_BYTES,
    ROUTE_BYTES,
    Origin,
    SignedJoin,
    SignedRoute,
    SignedSubscription,
)

MAX_CONTROL_BYTES: Final = 60_000  # ours: below what a record's u16 length can say
MAX_ROUTES_PER_BATCH: Final = 256  # ours: 256 x 143 bytes fit one record
MAX_WANTS_PER_MESSAGE: Final = 800  # ours: two lists of 800 x 32 bytes fit one record
DIGEST_BYTES: Final = 8
MAX_DIGESTS_PER_MESSAGE: Final = 2048  # ours: 2,048 x 24 bytes fit one record
MAX_ENDPOINTS: Final = 32  # ours: candidates of one node
MAX_ADDRESSES: Final = 16  # ours: libp2p addresses of one node
MAX_ADDRESS_BYTES: Final = 256
MAX_SERVING: Final = 8  # ours: nodes that serve the rendezvous; any of them leads to the others
MAX_REASON_BYTES: Final = 200
NO_ORIGIN: Final = bytes(ORIGIN_BYTES)  # the origin field of a label that names a unicast token
INFINITE_METRIC: Final = 0xFFFF  # SPEC 6.1: a retraction


class CloseCode(IntEnum):
    """Why a trunk ends (SPEC 4.5)."""

    SHUTDOWN = 0
    REPLACED = 1
    VERSION = 2
    HANDSHAKE = 3
    MALFORMED = 4
    TIMEOUT = 5
    REFUSED = 6
    OVERLOAD = 7
    INTERNAL = 8


@dataclass(frozen=True, slots=True)
class _Identifier:
    """A body of one 8-byte id."""

    id: int

    def body(self) -> bytes:
        return self.id.to_bytes(8, "big")

    @classmethod
    def read(cls, reader: Reader) -> Self:
        return cls(reader.uint(8, "id"))


@dataclass(frozen=True, slots=True)
class _Label:
    """A body of one label."""

    label: int

    def body(self) -> bytes:
        return self.label.to_bytes(4, "big")

    @classmethod
    def read(cls, reader: Reader) -> Self:
        return cls(reader.uint(4, "label"))


@dataclass(frozen=True, slots=True)
class _Edge:
    """A body that names an edge of a tree: VTag 16 | root origin 16 | VFT 16."""

    vtag: VTag
    root: Origin
    token: Token

    def body(self) -> bytes:
        return self.vtag + self.root.emit() + self.token

    @classmethod
    def read(cls, reader: Reader) -> Self:
        return cls(
            VTag(reader.take(16, "VTag")),
            Origin.parse(reader.take(ORIGIN_BYTES, "root")),
            Token(reader.take(16, "VFT")),
        )


@dataclass(frozen=True, slots=True)
class Ping(_Identifier):
    """Asks for a Pong: id 8."""

    CODE: ClassVar[int] = 1


@dataclass(frozen=True, slots=True)
class Pong(_Identifier):
    """Answers a Ping: id 8."""

    CODE: ClassVar[int] = 2


@dataclass(frozen=True, slots=True)
class Close:
    """Authenticated end of the trunk, or alert: code 1 | lp(reason)."""

    CODE: ClassVar[int] = 3
    code: int
    reason: str

    def body(self) -> bytes:
        return bytes((self.code,)) + lp(self.reason.encode()[:MAX_REASON_BYTES])

    @classmethod
    def read(cls, reader: Reader) -> Self:
        return cls(reader.uint(1, "code"), reader.text("reason", MAX_REASON_BYTES))


class RekeyStep(IntEnum):
    """Which message of a rekey (SPEC 4.3)."""

    OFFER = 1
    ANSWER = 2
    PROOF = 3
    DONE = 4


@dataclass(frozen=True, slots=True)
class Rekey:
    """One message of a rekey: step 1 | lp(handshake message) | lp(proof)."""

    CODE: ClassVar[int] = 4
    step: RekeyStep
    message: bytes
    proof: bytes

    def body(self) -> bytes:
        return bytes((self.step,)) + lp(self.message) + lp(self.proof)

    @classmethod
    def read(cls, reader: Reader) -> Self:
        step = reader.uint(1, "step")
        if step not in RekeyStep.__members__.values():
            raise DecodeError(f"rekey: no step {step}")
        return cls(RekeyStep(step), reader.lp("message", 8192), reader.lp("proof", 256))


@dataclass(frozen=True, slots=True)
class Indexes:
    """The sender's data plane now opens packets of this epoch under these indexes: epoch 4 | udp 4 | stream 4."""

    CODE: ClassVar[int] = 5
    epoch: int
    udp: int
    stream: int

    def body(self) -> bytes:
        return self.epoch.to_bytes(4, "big") + self.udp.to_bytes(4, "big") + self.stream.to_bytes(4, "big")

    @classmethod
    def read(cls, reader: Reader) -> Self:
        return cls(reader.uint(4, "epoch"), reader.uint(4, "udp index"), reader.uint(4, "stream index"))


@dataclass(frozen=True, slots=True)
class Endpoints:
    """Where the sender can be reached.

    count 1 | (IPv6 or mapped IPv4 16 | port 2) ... for the udp carrier | count 1 | lp(libp2p address) ...
    """

    CODE: ClassVar[int] = 6
    udp: tuple[tuple[bytes, int], ...]
    addresses: tuple[str, ...]

    def body(self) -> bytes:
        udp = b"".join(ip + port.to_bytes(2, "big") for ip, port in self.udp)
        addresses = b"".join(lp(address.encode()) for address in self.addresses)
        return bytes((len(self.udp),)) + udp + bytes((len(self.addresses),)) + addresses

    @classmethod
    def read(cls, reader: Reader) -> Self:
        count = reader.uint(1, "endpoints")
        if count > MAX_ENDPOINTS:
            raise DecodeError(f"endpoints: {count}, at most {MAX_ENDPOINTS} are allowed")
        udp = tuple((reader.take(16, "ip"), reader.uint(2, "port")) for _ in range(count))
        count = reader.uint(1, "addresses")
        if count > MAX_ADDRESSES:
            raise DecodeError(f"addresses: {count}, at most {MAX_ADDRESSES} are allowed")
        return cls(udp, tuple(reader.text("address", MAX_ADDRESS_BYTES) for _ in range(count)))


@dataclass(frozen=True, slots=True)
class Advert:
    """A signed route with what this neighbour makes of it: route 139 | metric 2 | path MTU 2."""

    route: SignedRoute
    metric: int
    path_mtu: int


@dataclass(frozen=True, slots=True)
class Routes:
    """A numbered batch of adverts: batch 4 | count 2 | adverts (143 each)."""

    CODE: ClassVar[int] = 7
    batch: int
    adverts: tuple[Advert, ...]

    def body(self) -> bytes:
        adverts = b"".join(
            advert.route.emit() + advert.metric.to_bytes(2, "big") + advert.path_mtu.to_bytes(2, "big")
            for advert in self.adverts
        )
        return self.batch.to_bytes(4, "big") + len(self.adverts).to_bytes(2, "big") + adverts

    @classmethod
    def read(cls, reader: Reader) -> Self:
        batch, count = reader.uint(4, "batch"), reader.uint(2, "count")
        if count > MAX_ROUTES_PER_BATCH:
            raise DecodeError(f"routes: {count}, at most {MAX_ROUTES_PER_BATCH} are allowed")
        adverts = tuple(
            Advert(
                SignedRoute.parse_untrusted(reader.take(ROUTE_BYTES, "route")),
                reader.uint(2, "metric"),
                reader.uint(2, "path MTU"),
            )
            for _ in range(count)
        )
        return cls(batch, adverts)


@dataclass(frozen=True, slots=True)
class RoutesAck:
    """The batch was taken: batch 4."""

    CODE: ClassVar[int] = 8
    batch: int

    def body(self) -> bytes:
        return self.batch.to_bytes(4, "big")

    @classmethod
    def read(cls, reader: Reader) -> Self:
        return cls(reader.uint(4, "batch"))


@dataclass(frozen=True, slots=True)
class SequenceRequest:
    """Asks the origin of a token for a sequence number of at least this.

    VTag 16 | VFT 16 | origin 16 | sequence 4 | hops 1
    """

    CODE: ClassVar[int] = 9
    vtag: VTag
    token: Token
    origin: Origin
    sequence: int
    hops: int

    def body(self) -> bytes:
        return self.vtag + self.token + self.origin.emit() + self.sequence.to_bytes(4, "big") + bytes((self.hops,))

    @classmethod
    def read(cls, reader: Reader) -> Self:
        return cls(
            VTag(reader.take(16, "VTag")),
            Token(reader.take(16, "VFT")),
            Origin.parse(reader.take(ORIGIN_BYTES, "origin")),
            reader.uint(4, "sequence"),
            reader.uint(1, "hops"),
        )


@dataclass(frozen=True, slots=True)
class Join:
    """The sender, or a node below it, wants a group's frames: signed join 136."""

    CODE: ClassVar[int] = 10
    join: SignedJoin

    def body(self) -> bytes:
        return self.join.emit()

    @classmethod
    def read(cls, reader: Reader) -> Self:
        return cls(SignedJoin.parse_untrusted(reader.take(JOIN_BYTES, "join")))


@dataclass(frozen=True, slots=True)
class Joined(_Edge):
    """The sender is on that tree and has an edge to the receiver: VTag 16 | root origin 16 | VFT 16."""

    CODE: ClassVar[int] = 11


@dataclass(frozen=True, slots=True)
class Leave(_Edge):
    """Ends that edge: VTag 16 | root origin 16 | VFT 16."""

    CODE: ClassVar[int] = 12


@dataclass(frozen=True, slots=True)
class Bind:
    """The sender will use this label for that token: label 4 | VTag 16 | VFT 16 | root origin 16 (zero: unicast)."""

    CODE: ClassVar[int] = 13
    label: int
    vtag: VTag
    token: Token
    root: Origin | None

    def body(self) -> bytes:
        root = self.root.emit() if self.root else NO_ORIGIN
        return self.label.to_bytes(4, "big") + self.vtag + self.token + root

    @classmethod
    def read(cls, reader: Reader) -> Self:
        label = reader.uint(4, "label")
        vtag, token = VTag(reader.take(16, "VTag")), Token(reader.take(16, "VFT"))
        root = reader.take(ORIGIN_BYTES, "root")
        return cls(label, vtag, token, None if root == NO_ORIGIN else Origin.parse(root))


@dataclass(frozen=True, slots=True)
class Bound(_Label):
    """The label works: the data plane has it: label 4."""

    CODE: ClassVar[int] = 14


@dataclass(frozen=True, slots=True)
class Unbind(_Label):
    """The sender uses this label no more: label 4."""

    CODE: ClassVar[int] = 15


@dataclass(frozen=True, slots=True)
class Policy:
    """What the sender relays: flags 1 (bit 0: relays for others; bit 1: only with a grant; bit 2: it is a leaf)."""

    CODE: ClassVar[int] = 16
    relays: bool
    wants_grants: bool
    is_leaf: bool = False

    def body(self) -> bytes:
        return bytes((self.relays | self.wants_grants << 1 | self.is_leaf << 2,))

    @classmethod
    def read(cls, reader: Reader) -> Self:
        flags = reader.uint(1, "flags")
        return cls(bool(flags & 1), bool(flags & 2), bool(flags & 4))


@dataclass(frozen=True, slots=True)
class Grant:
    """Proves a VLAN-ID to a relay whose policy names VLANs (SPEC 6.4).

    count 1 | lp(creator key) ... | k 1 | name hash 32 | grant key 32 | expiry 8 | creator signature 64
    | route key 32 | grant signature 64 | route key's signature 64
    """

    CODE: ClassVar[int] = 17
    creators: tuple[bytes, ...]
    threshold: int
    name_hash: bytes
    grant_key: bytes
    expiry: int
    creator_signature: bytes
    route_public: bytes
    grant_signature: bytes
    route_signature: bytes

    def body(self) -> bytes:
        return b"".join(
            (
                bytes((len(self.creators),)),
                *(lp(key) for key in self.creators),
                bytes((self.threshold,)),
                self.name_hash,
                self.grant_key,
                self.expiry.to_bytes(8, "big"),
                self.creator_signature,
                self.route_public,
                self.grant_signature,
                self.route_signature,
            )
        )

    @classmethod
    def read(cls, reader: Reader) -> Self:
        count = reader.uint(1, "creators")
        if not 1 <= count <= 16:
            raise DecodeError(f"grant: {count} creators, 1 to 16 are allowed")
        return cls(
            tuple(reader.lp("creator key", 64) for _ in range(count)),
            reader.uint(1, "threshold"),
            reader.take(32, "name hash"),
            reader.take(32, "grant key"),
            reader.uint(8, "expiry"),
            reader.take(64, "creator signature"),
            reader.take(32, "route key"),
            reader.take(64, "grant signature"),
            reader.take(64, "route key's signature"),
        )


@dataclass(frozen=True, slots=True)
class Refresh:
    """Asks for what the neighbour announces under a VTag, which we carry from now on: VTag 16."""

    CODE: ClassVar[int] = 18
    vtag: VTag

    def body(self) -> bytes:
        return self.vtag

    @classmethod
    def read(cls, reader: Reader) -> Self:
        return cls(VTag(reader.take(16, "VTag")))


@dataclass(frozen=True, slots=True)
class Want:
    """A leaf wants to be told of these tokens, and of those no longer.

    count 2 | (VTag 16 | VFT 16) ... | count 2 | (VTag 16 | VFT 16) ...
    """

    CODE: ClassVar[int] = 19
    more: tuple[tuple[VTag, Token], ...]
    less: tuple[tuple[VTag, Token], ...]

    def body(self) -> bytes:
        lists = (
            len(keys).to_bytes(2, "big") + b"".join(vtag + token for vtag, token in keys)
            for keys in (self.more, self.less)
        )
        return b"".join(lists)

    @classmethod
    def read(cls, reader: Reader) -> Self:
        return cls(cls._keys(reader), cls._keys(reader))

    @staticmethod
    def _keys(reader: Reader) -> tuple[tuple[VTag, Token], ...]:
        count = reader.uint(2, "count")
        if count > MAX_WANTS_PER_MESSAGE:
            raise DecodeError(f"want: {count} tokens, at most {MAX_WANTS_PER_MESSAGE} are allowed")
        return tuple((VTag(reader.take(16, "VTag")), Token(reader.take(16, "VFT"))) for _ in range(count))


@dataclass(frozen=True, slots=True)
class Digest:
    """What the sender told of routes that still holds, a digest for each VTag (SPEC 6.1): n 2 | (VTag 16 | digest 8) n.

    A digest of zeros: nothing.
    """

    CODE: ClassVar[int] = 22
    told: tuple[tuple[VTag, bytes], ...]

    def body(self) -> bytes:
        return len(self.told).to_bytes(2, "big") + b"".join(vtag + digest for vtag, digest in self.told)

    @classmethod
    def read(cls, reader: Reader) -> Self:
        count = reader.uint(2, "count")
        if count > MAX_DIGESTS_PER_MESSAGE:
            raise DecodeError(f"digest: {count} VTags, at most {MAX_DIGESTS_PER_MESSAGE} are allowed")
        return cls(tuple((VTag(reader.take(16, "VTag")), reader.take(DIGEST_BYTES, "digest")) for _ in range(count)))


@dataclass(frozen=True, slots=True)
class Serving:
    """Nodes that serve the rendezvous (SPEC 12.4), the sender itself among them if it does: n 1 | lp(multiaddr) n."""

    CODE: ClassVar[int] = 30
    addresses: tuple[str, ...]

    def body(self) -> bytes:
        return bytes((len(self.addresses),)) + b"".join(lp(one.encode()) for one in self.addresses)

    @classmethod
    def read(cls, reader: Reader) -> Self:
        count = reader.uint(1, "addresses")
        if count > MAX_SERVING:
            raise DecodeError(f"serving: {count} addresses, at most {MAX_SERVING} are allowed")
        return cls(tuple(reader.text("address", MAX_ADDRESS_BYTES) for _ in range(count)))


@dataclass(frozen=True, slots=True)
class Subscribe:
    """Somebody on the sender's side of a tree's edge listens to a group: signed subscription 136 (SPEC 13.1)."""

    CODE: ClassVar[int] = 32
    join: SignedSubscription

    def body(self) -> bytes:
        return self.join.emit()

    @classmethod
    def read(cls, reader: Reader) -> Self:
        return cls(SignedSubscription.parse_untrusted(reader.take(JOIN_BYTES, "subscription")))


@dataclass(frozen=True, slots=True)
class Unsubscribe(_Edge):
    """Nobody there listens to it any more: VTag 16 | root origin 16 | VFT 16."""

    CODE: ClassVar[int] = 33


@dataclass(frozen=True, slots=True)
class Unknown:
    """A message of a code that this version does not know: skipped, so that later versions can add some."""

    code: int


Message = (
    Ping | Pong | Close | Rekey | Indexes | Endpoints | Routes | RoutesAck | SequenceRequest
    | Join | Joined | Leave | Bind | Bound | Unbind | Policy | Grant | Refresh | Want | PathAsk | PathAnswer
    | Serving | Subscribe | Unsubscribe | RelayUpdate | RelayResult | SignedPresence | SignedLinkDown | Digest
)  # fmt: skip

_KINDS: Final[dict[int, type[Message]]] = {
    kind.CODE: kind
    for kind in (
        Ping, Pong, Close, Rekey, Indexes, Endpoints, Routes, RoutesAck, SequenceRequest,
        Join, Joined, Leave, Bind, Bound, Unbind, Policy, Grant, Refresh, Want, PathAsk, PathAnswer,
        Serving, Subscribe, Unsubscribe, RelayUpdate, RelayResult, SignedPresence, SignedLinkDown, Digest,
    )
}  # fmt: skip


def emit(message: Message) -> bytes:
    """Code 1 and body: the plaintext of one record."""
    return bytes((message.CODE,)) + message.body()


def parse_untrusted(data: bytes) -> Message | Unknown:
    """The message in a record's plaintext.

    Raises: DecodeError.
    """
    if len(data) > MAX_CONTROL_BYTES:
        raise DecodeError(f"control message of {len(data)} bytes, at most {MAX_CONTROL_BYTES} are allowed")
    reader = Reader(data, "control message")
    code = reader.uint(1, "code")
    kind = _KINDS.get(code)
    if kind is None:
        return Unknown(code)
    message = kind.read(reader)
    reader.end()
    return message
