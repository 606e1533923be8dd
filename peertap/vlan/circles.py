"""Circles: those who know one secret of a VLAN, and find each other by it (SPEC 12.1, 12.2, 12.3). Pure.

A circle has other keys each day. What it leaves with strangers, on the LAN or in the DHT, says neither which VLAN it is
of nor who is in it, and cannot be joined with another day's.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from ipaddress import IPv4Address, IPv6Address
from typing import Final, Protocol

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from peertap.errors import DecodeError
from peertap.types import PeerId, peer_id_of
from peertap.wire.codec import Reader, lp, packed_ip, unpacked_ip
from peertap.wire.control import MAX_ADDRESS_BYTES
from peertap.wire.kdf import expand
from peertap.wire.rendezvous import Record, key_of
from peertap.wire.routes import signed_by

DAY_S: Final = 86_400
OVERLAP_S: Final = 3 * 3600  # ours: around midnight both days' keys are used, so clocks may differ by six hours
CONTENT_BYTES: Final = 1024  # ours: always padded to this, whatever the member's addresses are
MAX_FOUND_ADDRESSES: Final = 6  # ours: they fit the content
NONCE_BYTES: Final = 12
SALT_BYTES: Final = 16
SLOT_BYTES: Final = 98  # key 32, port 2, 3 x address 16, tag 16
SLOTS: Final = 4  # ours: a LAN announcement has a multiple of so many slots, filled up with random bytes
MAX_SLOTS: Final = 8  # ours: one mDNS packet
LAN_ADDRESSES: Final = 3


class Signer(Protocol):
    """The node's identity."""

    @property
    def public_key(self) -> bytes: ...

    def sign(self, message: bytes) -> bytes: ...


@dataclass(frozen=True, slots=True)
class Found:
    """A member that was found, and where it says that it can be reached: multiaddrs."""

    member: PeerId
    addresses: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class OnLan:
    """A member on the same LAN."""

    member: PeerId
    port: int
    addresses: tuple[IPv4Address | IPv6Address, ...]


def days(now_unix: float) -> tuple[int, ...]:
    """The days whose keys are used now: one, near midnight (UTC) two."""
    first, last = int(now_unix - OVERLAP_S) // DAY_S, int(now_unix + OVERLAP_S) // DAY_S
    return (first,) if first == last else (first, last)


class Circle:
    """One circle on one day."""

    def __init__(self, secret: bytes, day: int) -> None:
        """Args: secret: the VLAN's circle secret, 32 bytes."""
        self.day: Final = day
        self._key = expand(secret, "day", day.to_bytes(4, "big"))
        self._owner = Ed25519PrivateKey.from_private_bytes(expand(self._key, "owner"))
        self._box = AESGCM(expand(self._key, "seal"))
        self.owner: Final = self._owner.public_key().public_bytes_raw()
        self.key: Final = key_of(self.owner)

    def record(self, us: Signer, addresses: tuple[str, ...], now_unix: float, nonce: bytes) -> Record:
        """How we are found on this day.

        Args:
            addresses: multiaddrs, the best first; what does not fit is left out.
            nonce: 12 random bytes.
        """
        slot = expand(self._key, "slot", us.public_key)[:16]
        unsealed = Record(self.owner, slot, int(now_unix), b"")
        body = _body(us.public_key, addresses)
        content = body + us.sign(b"PeerTap/1 found" + unsealed.head() + body)
        sealed = nonce + self._box.encrypt(nonce, content.ljust(CONTENT_BYTES, b"\0"), unsealed.head())
        record = replace(unsealed, sealed=sealed)
        return replace(record, signature=self._owner.sign(record.signed()))

    def open_untrusted(self, record: Record) -> Found:
        """What a record of this circle says.

        Raises:
            DecodeError: it is none, or not what a member made.
        """
        if record.owner != self.owner or not record.is_signed():
            raise DecodeError("rendezvous record: it is not this circle's")
        try:
            nonce, sealed = record.sealed[:NONCE_BYTES], record.sealed[NONCE_BYTES:]
            content = self._box.decrypt(nonce, sealed, record.head())
        except (InvalidTag, ValueError):
            raise DecodeError("rendezvous record: it does not open") from None
        reader = Reader(content, "rendezvous record")
        public, count = reader.take(32, "member"), reader.uint(1, "addresses")
        if count > MAX_FOUND_ADDRESSES:
            raise DecodeError(f"rendezvous record: {count} addresses")
        addresses = tuple(reader.text("address", MAX_ADDRESS_BYTES) for _ in range(count))
        body = _body(public, addresses)
        if not signed_by(public, reader.take(64, "signature"), b"PeerTap/1 found" + record.head() + body):
            raise DecodeError("rendezvous record: the member did not sign it")
        return Found(peer_id_of(public), addresses)

    # On the LAN

    def lan_slot(self, salt: bytes, us: Signer, port: int, addresses: tuple[str, ...]) -> bytes:
        """Our part in an announcement on the LAN, which only this circle can open.

        Args:
            salt: 16 random bytes of the announcement.
            addresses: IP addresses; the first three count.
        """
        packed = b"".join(packed_ip(one) for one in addresses[:LAN_ADDRESSES]).ljust(16 * LAN_ADDRESSES, b"\0")
        return self._lan_box(salt).encrypt(bytes(NONCE_BYTES), us.public_key + port.to_bytes(2, "big") + packed, None)

    def open_lan_untrusted(self, salt: bytes, slots: Iterable[bytes]) -> list[OnLan]:
        """Who announces itself to this circle: of all slots those that open."""
        box, found = self._lan_box(salt), []
        for slot in slots:
            try:
                content = box.decrypt(bytes(NONCE_BYTES), slot, None)
            except (InvalidTag, ValueError):
                continue
            public, port, packed = content[:32], int.from_bytes(content[32:34], "big"), content[34:]
            addresses = [unpacked_ip(packed[at : at + 16]) for at in range(0, len(packed), 16)]
            member = peer_id_of(public)
            found.append(OnLan(member, port, tuple(one for one in addresses if not one.is_unspecified)))
        return found

    def _lan_box(self, salt: bytes) -> AESGCM:
        return AESGCM(expand(self._key, "lan", salt))


def _body(public: bytes, addresses: tuple[str, ...]) -> bytes:
    """The member and its addresses, as many as fit."""
    out, count = b"", 0
    for one in addresses[:MAX_FOUND_ADDRESSES]:
        part = lp(one.encode())
        if 32 + 1 + len(out) + len(part) + 64 <= CONTENT_BYTES and len(part) <= MAX_ADDRESS_BYTES:
            out, count = out + part, count + 1
    return public + bytes((count,)) + out
