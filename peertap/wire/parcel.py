"""Letters between members under their pair keys (SPEC 5.4): whole, or in blocks that the receiver asks for.

Parcel  ├ 3 ┼ id 8 ┼ body ┤                           at most 8 KiB
Offer   ├ 4 ┼ id 8 ┼ size 4 ┼ H(body) 32 ┤
Pull    ├ 5 ┼ id 8 ┼ first block 4 ┼ blocks 1 ┤
Block   ├ 6 ┼ id 8 ┼ block 4 ┼ 1 to 1,024 bytes ┤
Taken   ├ 7 ┼ id 8 ┤
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Final

from peertap.errors import DecodeError
from peertap.wire.codec import Reader

ID_BYTES: Final = 8
BLOCK_BYTES: Final = 1024  # PROTOCOL 10
MAX_PARCEL_BYTES: Final = 8 * BLOCK_BYTES  # ours: PROTOCOL 10 allows 16 fragments
MAX_BODY_BYTES: Final = 4 << 20  # ours: the Welcome of a group of some thousands
HASH_BYTES: Final = 32


@dataclass(frozen=True, slots=True)
class Parcel:
    """A whole letter."""

    KIND: ClassVar[int] = 3
    id: bytes
    body: bytes

    def emit(self) -> bytes:
        return bytes((self.KIND,)) + self.id + self.body


@dataclass(frozen=True, slots=True)
class Offer:
    """A letter that is too long for one message."""

    KIND: ClassVar[int] = 4
    id: bytes
    size: int
    hash: bytes

    def emit(self) -> bytes:
        return bytes((self.KIND,)) + self.id + self.size.to_bytes(4, "big") + self.hash


@dataclass(frozen=True, slots=True)
class Pull:
    """Asks for blocks of an offered letter."""

    KIND: ClassVar[int] = 5
    id: bytes
    first: int
    count: int

    def emit(self) -> bytes:
        return bytes((self.KIND,)) + self.id + self.first.to_bytes(4, "big") + bytes((self.count,))


@dataclass(frozen=True, slots=True)
class Block:
    """A part of a letter."""

    KIND: ClassVar[int] = 6
    id: bytes
    number: int
    data: bytes

    def emit(self) -> bytes:
        return bytes((self.KIND,)) + self.id + self.number.to_bytes(4, "big") + self.data


@dataclass(frozen=True, slots=True)
class Taken:
    """The letter is here, or of no use."""

    KIND: ClassVar[int] = 7
    id: bytes

    def emit(self) -> bytes:
        return bytes((self.KIND,)) + self.id


Message = Parcel | Offer | Pull | Block | Taken


def parse_untrusted(data: bytes) -> Message | None:
    """The message; None where it is of another kind.

    Raises: DecodeError.
    """
    if not data or not Parcel.KIND <= data[0] <= Taken.KIND:
        return None
    reader = Reader(data, "parcel")
    kind, name = reader.uint(1, "kind"), reader.take(ID_BYTES, "id")
    message: Message
    if kind == Parcel.KIND:
        message = Parcel(name, reader.rest())
        if len(message.body) > MAX_PARCEL_BYTES:
            raise DecodeError(f"parcel: {len(message.body)} bytes, at most {MAX_PARCEL_BYTES}")
    elif kind == Offer.KIND:
        message = Offer(name, reader.uint(4, "size"), reader.take(HASH_BYTES, "hash"))
        if not 0 < message.size <= MAX_BODY_BYTES:
            raise DecodeError(f"parcel: a letter of {message.size} bytes, at most {MAX_BODY_BYTES}")
    elif kind == Pull.KIND:
        message = Pull(name, reader.uint(4, "block"), reader.uint(1, "blocks"))
    elif kind == Block.KIND:
        message = Block(name, reader.uint(4, "block"), reader.rest())
        if not 0 < len(message.data) <= BLOCK_BYTES:
            raise DecodeError(f"parcel: a block of {len(message.data)} bytes")
    else:
        message = Taken(name)
    reader.end()
    return message
