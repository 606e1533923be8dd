"""What is said to nodes that serve the rendezvous: questions, answers, and the records they keep (SPEC 12.3)."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from blake3 import blake3

from peertap.errors import DecodeError
from peertap.wire.codec import Reader, lp
from peertap.wire.control import MAX_ADDRESS_BYTES
from peertap.wire.routes import signed_by

MAGIC: Final = b"PT1D"
KEY_BYTES: Final = 32
SLOT_BYTES: Final = 16
PUBLIC_BYTES: Final = 32
SIGNATURE_BYTES: Final = 64
MAX_SEALED_BYTES: Final = 1100  # ours: 1,024 of content, nonce 12, tag 16, and some room
MAX_RECORD_BYTES: Final = PUBLIC_BYTES + SLOT_BYTES + 8 + 2 + MAX_SEALED_BYTES + SIGNATURE_BYTES
MAX_NODES: Final = 8  # ours: addresses of serving nodes in one message
MAX_RECORDS: Final = 16  # ours: in one answer; any member leads to the others
MAX_MESSAGE_BYTES: Final = 32_768  # ours: 8 addresses and 16 records fit


class Kind(IntEnum):
    """What is asked for."""

    FIND = 1
    PUT = 2


@dataclass(frozen=True, slots=True)
class Record:
    """How a member of a circle is found; whoever keeps it can tell that it is true, not what it says.

        ├ owner 32 ┼ slot 16 ┼ time 8 ┼ lp(sealed) ┼ signature 64 ┤

    Args:
        owner: a key that the members of the circle have for a day; the record's key in the DHT is made from it.
        slot: stands for the member on that day.
        time: Unix seconds; of one slot the latest counts.
    """

    owner: bytes
    slot: bytes
    time: int
    sealed: bytes
    signature: bytes = b""

    @property
    def key(self) -> bytes:
        """Under which key it is kept."""
        return key_of(self.owner)

    def head(self) -> bytes:
        """What stands before the sealed part."""
        return self.owner + self.slot + self.time.to_bytes(8, "big")

    def signed(self) -> bytes:
        """What the owner key signs."""
        return b"PeerTap/1 rendezvous" + self.head() + lp(self.sealed)

    def is_signed(self) -> bool:
        return signed_by(self.owner, self.signature, self.signed())

    def emit(self) -> bytes:
        return self.head() + lp(self.sealed) + self.signature

    @classmethod
    def parse_untrusted(cls, data: bytes) -> Record:
        """Raises DecodeError."""
        reader = Reader(data, "rendezvous record")
        record = cls(
            owner=reader.take(PUBLIC_BYTES, "owner"),
            slot=reader.take(SLOT_BYTES, "slot"),
            time=reader.uint(8, "time"),
            sealed=reader.lp("sealed", MAX_SEALED_BYTES),
            signature=reader.take(SIGNATURE_BYTES, "signature"),
        )
        reader.end()
        return record


@dataclass(frozen=True, slots=True)
class Question:
    """Who is near a key, and what is kept under it: ├ "PT1D" ┼ kind 1 ┼ key 32 ┼ n 1 ┼ n × lp(multiaddr) ┼ lp(record) ┤

    Args:
        serves: where the asker serves itself; empty: it does not.
        record: for PUT, what is to be kept; else None.
    """

    kind: Kind
    key: bytes
    serves: tuple[str, ...] = ()
    record: Record | None = None

    def emit(self) -> bytes:
        record = b"" if self.record is None else self.record.emit()
        return MAGIC + bytes((self.kind,)) + self.key + _texts(self.serves) + lp(record)

    @classmethod
    def parse_untrusted(cls, data: bytes) -> Question:
        """Raises DecodeError."""
        reader = _begin(data, "question")
        kind = reader.uint(1, "kind")
        if kind not in Kind.__members__.values():
            raise DecodeError(f"question: no kind {kind}")
        key, serves = reader.take(KEY_BYTES, "key"), _read_texts(reader)
        body = reader.lp("record", MAX_RECORD_BYTES)
        reader.end()
        record = Record.parse_untrusted(body) if body else None
        if (record is None) != (kind == Kind.FIND) or (record is not None and record.key != key):
            raise DecodeError("question: a PUT has a record of its key, a FIND has none")
        return cls(Kind(kind), key, serves, record)


@dataclass(frozen=True, slots=True)
class Reply:
    """├ "PT1D" ┼ kept 1 ┼ n 1 ┼ n × lp(multiaddr of a node near the key) ┼ m 1 ┼ m × lp(record) ┤"""

    kept: bool
    nodes: tuple[str, ...] = ()
    records: tuple[Record, ...] = ()

    def emit(self) -> bytes:
        records = b"".join(lp(one.emit()) for one in self.records)
        return MAGIC + bytes((self.kept,)) + _texts(self.nodes) + bytes((len(self.records),)) + records

    @classmethod
    def parse_untrusted(cls, data: bytes) -> Reply:
        """Raises DecodeError."""
        reader = _begin(data, "reply")
        kept, nodes, count = bool(reader.uint(1, "kept")), _read_texts(reader), reader.uint(1, "records")
        if count > MAX_RECORDS:
            raise DecodeError(f"reply: {count} records, at most {MAX_RECORDS} are allowed")
        records = tuple(Record.parse_untrusted(reader.lp("record", MAX_RECORD_BYTES)) for _ in range(count))
        reader.end()
        return cls(kept, nodes, records)


def key_of(owner: bytes) -> bytes:
    """The key in the DHT of what an owner key signs."""
    return blake3(b"PeerTap/1 rendezvous key" + owner).digest()


def _begin(data: bytes, what: str) -> Reader:
    reader = Reader(data, what)
    if reader.take(len(MAGIC), "magic") != MAGIC:
        raise DecodeError(f"{what}: this is none")
    return reader


def _texts(texts: tuple[str, ...]) -> bytes:
    return bytes((len(texts),)) + b"".join(lp(one.encode()) for one in texts)


def _read_texts(reader: Reader) -> tuple[str, ...]:
    count = reader.uint(1, "addresses")
    if count > MAX_NODES:
        raise DecodeError(f"{count} addresses, at most {MAX_NODES} are allowed")
    return tuple(reader.text("address", MAX_ADDRESS_BYTES) for _ in range(count))
