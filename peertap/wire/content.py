"""What a sealed frame holds: content type, padding, fragments (SPEC 2.3)."""

from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Final, Generic, TypeVar

from peertap.errors import DecodeError
from peertap.wire.codec import Reader

HEAD_BYTES: Final = 2  # content type, pad length
FRAGMENT_BYTES: Final = 12  # id, offset, total
MAX_MESSAGE_BYTES: Final = 65_535  # SPEC 2.3
MAX_FRAGMENTS: Final = 64  # SPEC 2.3
REASSEMBLY_S: Final = 2.0  # SPEC 2.3
MAX_REASSEMBLIES: Final = 64  # SPEC 2.3: per VLAN
MAX_REASSEMBLIES_PER_SENDER: Final = 8  # SPEC 2.3


class Content(IntEnum):
    """Content types (SPEC 2.3)."""

    PADDING = 0
    FRAME = 1
    FRAME_FRAGMENT = 2
    CONTROL = 3
    CONTROL_FRAGMENT = 4


def plaintext(kind: Content, content: bytes) -> bytes:
    """Content without padding, ready to seal."""
    return bytes((kind, 0)) + content


def split(kind: Content, content: bytes, message_id: int, most: int) -> Iterator[bytes]:
    """Plaintexts of at most `most` bytes that carry the content: one, or fragments.

    Args:
        kind: FRAME or CONTROL.
        message_id: 32 bits, not used twice within REASSEMBLY_S.
    """
    if HEAD_BYTES + len(content) <= most:
        yield plaintext(kind, content)
        return
    room = most - HEAD_BYTES - FRAGMENT_BYTES
    fragment = Content(kind + 1)
    for offset in range(0, len(content), room):
        head = message_id.to_bytes(4, "big") + offset.to_bytes(4, "big") + len(content).to_bytes(4, "big")
        yield plaintext(fragment, head + content[offset : offset + room])


def unpad_untrusted(data: bytes) -> tuple[int, bytes]:
    """Content type and content of an opened plaintext.

    Raises: DecodeError.
    """
    reader = Reader(data, "plaintext")
    kind, padding = reader.uint(1, "content type"), reader.uint(1, "pad length")
    content = reader.rest()
    end = len(content) - padding
    if end < 0 or any(content[end:]):
        raise DecodeError(f"plaintext: no {padding} zeros of padding in {len(content)} bytes")
    return kind, content[:end]


@dataclass(slots=True)
class _Partial:
    total: int
    until: float
    parts: dict[int, bytes] = field(default_factory=dict)
    have: int = 0


Sender = TypeVar("Sender")


class Reassembler(Generic[Sender]):
    """Puts the fragments of member control together; bounded in number, size and time."""

    def __init__(self) -> None:
        self._partial: OrderedDict[tuple[Sender, int], _Partial] = OrderedDict()

    def __len__(self) -> int:
        """Messages of which something is missing."""
        return len(self._partial)

    def add_untrusted(self, sender: Sender, content: bytes, now: float) -> bytes | None:
        """Takes one fragment; returns the whole message when it is complete.

        Raises: DecodeError.
        """
        reader = Reader(content, "fragment")
        key = (sender, reader.uint(4, "id"))
        offset, total = reader.uint(4, "offset"), reader.uint(4, "total")
        part = reader.rest()
        if not part or total > MAX_MESSAGE_BYTES or offset + len(part) > total:
            raise DecodeError(f"fragment: {len(part)} bytes at {offset} of {total}")
        self._expire(now)
        partial = self._partial.get(key)
        if partial is None:
            self._make_room(sender)
            partial = self._partial[key] = _Partial(total, now + REASSEMBLY_S)
        if partial.total != total or len(partial.parts) >= MAX_FRAGMENTS or self._overlaps(partial, offset, len(part)):
            del self._partial[key]
            raise DecodeError(f"fragment: {len(part)} bytes at {offset} of {total} do not fit the others")
        partial.parts[offset] = part
        partial.have += len(part)
        if partial.have < total:
            return None
        del self._partial[key]
        return b"".join(partial.parts[at] for at in sorted(partial.parts))

    @staticmethod
    def _overlaps(partial: _Partial, offset: int, size: int) -> bool:
        return any(at < offset + size and offset < at + len(part) for at, part in partial.parts.items())

    def _expire(self, now: float) -> None:
        while self._partial:
            key, partial = next(iter(self._partial.items()))
            if partial.until > now:
                return
            del self._partial[key]

    def _make_room(self, sender: Sender) -> None:
        own = [key for key in self._partial if key[0] == sender]
        if len(own) >= MAX_REASSEMBLIES_PER_SENDER:
            del self._partial[own[0]]
        elif len(self._partial) >= MAX_REASSEMBLIES:
            raise DecodeError(f"fragment: {MAX_REASSEMBLIES} messages are incomplete already")
