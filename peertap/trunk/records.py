"""Records: control messages under the trunk's own keys (SPEC 4.4).

├ length 2 ┼ ciphertext, tag 16 ┤      nonce = 00 00 00 00 ‖ record number 8      AAD = length
"""

from collections.abc import Iterator
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305

from peertap.errors import PeerError, StateError
from peertap.wire.control import MAX_CONTROL_BYTES

LENGTH_BYTES: Final = 2
TAG_BYTES: Final = 16
MAX_RECORD_BYTES: Final = MAX_CONTROL_BYTES + TAG_BYTES
MAX_RECORDS_PER_KEY: Final = 1 << 32  # ours: far below the AEAD's limit; a rekey comes long before

_AEADS: Final[dict[int, type[AESGCM] | type[ChaCha20Poly1305]]] = {1: AESGCM, 2: ChaCha20Poly1305}  # SPEC 1


class RecordSender:
    """Seals the records of one direction; a new key starts its numbers again."""

    def __init__(self, key: bytes, aead: int) -> None:
        self.rekey(key, aead)

    def rekey(self, key: bytes, aead: int) -> None:
        self._aead = _AEADS[aead](key)
        self.sealed = 0

    def seal(self, plaintext: bytes) -> bytes:
        """One record, length first."""
        if len(plaintext) > MAX_CONTROL_BYTES or self.sealed >= MAX_RECORDS_PER_KEY:
            raise StateError(f"record of {len(plaintext)} bytes, number {self.sealed}")
        length = (len(plaintext) + TAG_BYTES).to_bytes(LENGTH_BYTES, "big")
        sealed = self._aead.encrypt(_nonce(self.sealed), plaintext, length)
        self.sealed += 1
        return length + sealed


class RecordFinder:
    """Finds sealed records in the pieces that a stream comes in."""

    def __init__(self) -> None:
        self._rest = bytearray()

    def found_untrusted(self, piece: bytes) -> Iterator[bytes]:
        """The records that are whole with this piece, without their lengths. Raises: PeerError: one is too long."""
        rest = self._rest
        rest += piece
        at = 0
        while len(rest) >= at + LENGTH_BYTES:
            size = int.from_bytes(rest[at : at + LENGTH_BYTES], "big")
            if size > MAX_RECORD_BYTES:
                raise PeerError(f"record of {size} bytes")
            if len(rest) < at + LENGTH_BYTES + size:
                break
            yield bytes(rest[at + LENGTH_BYTES : at + LENGTH_BYTES + size])
            at += LENGTH_BYTES + size
        del rest[:at]


class RecordReceiver:
    """Opens the records of one direction."""

    def __init__(self, key: bytes, aead: int) -> None:
        self.rekey(key, aead)

    def rekey(self, key: bytes, aead: int) -> None:
        self._aead = _AEADS[aead](key)
        self.opened = 0

    def open_untrusted(self, sealed: bytes) -> bytes:
        """The plaintext of the next record (without its length).

        Raises: PeerError; the trunk ends then, because the stream is reliable and in order.
        """
        length = len(sealed).to_bytes(LENGTH_BYTES, "big")
        try:
            plaintext = self._aead.decrypt(_nonce(self.opened), sealed, length)
        except InvalidTag:
            raise PeerError(f"record {self.opened} does not open") from None
        self.opened += 1
        return plaintext


def _nonce(number: int) -> bytes:
    return bytes(4) + number.to_bytes(8, "big")
