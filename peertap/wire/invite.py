"""An invite: what a newcomer needs to come in, once (SPEC 10.1).

    ├ version 1 = 1 ┼ VLAN-ID 16 ┼ lp(label) ┼ secret 16 ┼ inviter's identity key 32 ┼ expiry 8 ┼ uses 2 ┼ flags 1
    ┼ suite 2 ┼ n 1 ┼ n × lp(address) ┼ signature 64 ┤

Flag 1: an admin approves each newcomer. An address is a multiaddr without /p2p where it is the inviter's own.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from blake3 import blake3

from peertap.errors import DecodeError
from peertap.types import VlanId
from peertap.wire.codec import Reader, lp
from peertap.wire.routes import signed_by

VERSION: Final = 1
SECRET_BYTES: Final = 16  # PROTOCOL 10: at least 128 bits
ID_BYTES: Final = 16
KEY_BYTES: Final = 32
MAX_LABEL_BYTES: Final = 32
MAX_ADDRESSES: Final = 8  # ours: an invite is read by people, and drawn as a QR code
MAX_ADDRESS_BYTES: Final = 160  # ours: a DNS name and a peer ID fit
MAX_USES: Final = 0xFFFF
APPROVE: Final = 1
SIGNED: Final = b"PeerTap/1 invite"


@dataclass(frozen=True, slots=True)
class Invite:
    """Lets `uses` newcomers in until `expiry`.

    Args:
        secret: 16 random bytes, which nobody ever sends.
        inviter: identity key of the admin who answers.
        expiry: Unix seconds.
        approve: an admin approves each newcomer.
        suite: of the group (SPEC 9.1).
        addresses: where the inviter, or a relay that it uses, can be dialled.
    """

    vlan_id: VlanId
    label: str
    secret: bytes = field(repr=False)
    inviter: bytes
    expiry: int
    uses: int
    approve: bool
    suite: int
    addresses: tuple[str, ...]
    signature: bytes = b""

    @property
    def id(self) -> bytes:
        """Its name, which gives nothing away."""
        return blake3(SIGNED + b" id" + self.secret).digest(ID_BYTES)

    def unsigned(self) -> bytes:
        """All fields before the signature.

        Raises:
            DecodeError: a field beyond its bound.
        """
        label = self.label.encode()
        if len(label) > MAX_LABEL_BYTES or len(self.addresses) > MAX_ADDRESSES or not 0 < self.uses <= MAX_USES:
            raise DecodeError("invite: label, addresses or uses are beyond their bounds")
        return b"".join(
            (
                bytes((VERSION,)),
                self.vlan_id,
                lp(label),
                self.secret,
                self.inviter,
                self.expiry.to_bytes(8, "big"),
                self.uses.to_bytes(2, "big"),
                bytes((APPROVE if self.approve else 0,)),
                self.suite.to_bytes(2, "big"),
                bytes((len(self.addresses),)),
                *(lp(one.encode()) for one in self.addresses),
            )
        )

    def signed(self) -> bytes:
        """What the inviter signs."""
        return SIGNED + self.unsigned()

    def emit(self) -> bytes:
        """Returns the invite's bytes."""
        return self.unsigned() + self.signature

    @classmethod
    def parse_untrusted(cls, data: bytes) -> Invite:
        """Reads an invite and checks its signature.

        Raises:
            DecodeError: it is none, or somebody changed it.
        """
        reader = Reader(data, "invite")
        if (version := reader.uint(1, "version")) != VERSION:
            raise DecodeError(f"invite: version {version} is not {VERSION}", hint="update PeerTap on this node")
        invite = cls(
            vlan_id=VlanId(reader.take(16, "VLAN-ID")),
            label=reader.text("label", MAX_LABEL_BYTES),
            secret=reader.take(SECRET_BYTES, "secret"),
            inviter=reader.take(KEY_BYTES, "inviter"),
            expiry=reader.uint(8, "expiry"),
            uses=reader.uint(2, "uses"),
            approve=_flags(reader.uint(1, "flags")),
            suite=reader.uint(2, "suite"),
            addresses=_addresses(reader),
            signature=reader.take(64, "signature"),
        )
        reader.end()
        if not signed_by(invite.inviter, invite.signature, invite.signed()):
            raise DecodeError("invite: its signature does not match", hint="ask for a new one")
        return invite


def _flags(flags: int) -> bool:
    if flags > APPROVE:
        raise DecodeError(f"invite: flags {flags} are not known", hint="update PeerTap on this node")
    return flags == APPROVE


def _addresses(reader: Reader) -> tuple[str, ...]:
    count = reader.uint(1, "addresses")
    if count > MAX_ADDRESSES:
        raise DecodeError(f"invite: {count} addresses, at most {MAX_ADDRESSES}")
    return tuple(reader.text("address", MAX_ADDRESS_BYTES) for _ in range(count))
