"""What members share beside the epoch: the routing secret, and what proves the VLAN-ID to relays (SPEC 10.3).

    ├ number 8 ┼ routing secret 32 ┼ grant secret 32 ┼ expiry 8 ┼ creator's signature 64 ┼ admin 32 ┼ its signature 64 ┤

The higher number wins, then the lower hash. They travel in the Welcome, and under pair keys; any member can pass on
what an admin signed.
"""

from __future__ import annotations

from collections.abc import Container, Iterable
from dataclasses import dataclass, field, replace
from typing import Final

from blake3 import blake3
from cryptography.hazmat.primitives.hashes import SHA384, Hash

from peertap._core import StaticSecret, VlanKeys
from peertap.types import VlanId
from peertap.vlan.grants import grant_message, owner_message, vtag_message
from peertap.wire.codec import Reader
from peertap.wire.control import Grant
from peertap.wire.routes import signed_by, vtag_of

SECRET_BYTES: Final = 32
MAX_STEP: Final = 1 << 16  # ours: more rotations than anybody sleeps through
SIGNATURE_BYTES: Final = 64


@dataclass(frozen=True, slots=True)
class VlanSecrets:
    """The secrets of one number.

    Args:
        grant: its key signs VTags; every member has it.
        expiry: of the creator's signature for that key, Unix seconds.
    """

    number: int
    routing: bytes = field(repr=False)
    grant: bytes = field(repr=False)
    expiry: int
    creator_signature: bytes
    admin: bytes
    signature: bytes = b""

    def wins(self, other: VlanSecrets) -> bool:
        """Whether these are to be used, and not the others."""
        return (self.number, other._hash()) > (other.number, self._hash())

    def next(self, routing: bytes, admin: bytes) -> VlanSecrets:
        """The next ones, with a new routing secret, to be signed by this admin."""
        return replace(self, number=self.number + 1, routing=routing, admin=admin, signature=b"")

    def signed_by_creator(self, vlan_id: VlanId) -> bytes:
        """What the creator signs."""
        return grant_message(vlan_id, StaticSecret(self.grant).grant_public, self.expiry)

    def signed(self, vlan_id: VlanId) -> bytes:
        """What the admin signs."""
        secret = Hash(SHA384())
        secret.update(self.routing + self.grant + self.expiry.to_bytes(8, "big") + self.creator_signature)
        return b"PeerTap/1 secrets" + vlan_id + self.number.to_bytes(8, "big") + secret.finalize()

    def is_signed(self, vlan_id: VlanId, creators: Iterable[bytes], admins: Container[bytes]) -> bool:
        """Whether an admin signed it, and a creator of the VLAN the grant key in it."""
        is_granted = any(
            signed_by(creator, self.creator_signature, self.signed_by_creator(vlan_id)) for creator in creators
        )
        return is_granted and self.admin in admins and signed_by(self.admin, self.signature, self.signed(vlan_id))

    def follows(self, other: VlanSecrets) -> bool:
        """Whether these are to be used instead of the others; who jumps far ahead would leave no number to others."""
        return self.wins(other) and self.number <= other.number + MAX_STEP

    def grant_of(self, keys: VlanKeys, creators: tuple[bytes, ...], threshold: int, name_hash: bytes) -> Grant:
        """The proof that the route key in `keys` is this VLAN's (SPEC 6.4)."""
        secret = StaticSecret(self.grant)
        return Grant(
            creators=creators,
            threshold=threshold,
            name_hash=name_hash,
            grant_key=secret.grant_public,
            expiry=self.expiry,
            creator_signature=self.creator_signature,
            route_public=keys.route_public,
            grant_signature=secret.sign_as_grantee(vtag_message(vtag_of(keys.route_public))),
            route_signature=keys.sign_route(owner_message(VlanId(keys.vlan_id))),
        )

    def emit(self) -> bytes:
        """Returns the bytes."""
        head = self.number.to_bytes(8, "big") + self.routing + self.grant
        return head + self.expiry.to_bytes(8, "big") + self.creator_signature + self.admin + self.signature

    @classmethod
    def read(cls, reader: Reader) -> VlanSecrets:
        """Reads them. Raises DecodeError."""
        return cls(
            number=reader.uint(8, "number"),
            routing=reader.take(SECRET_BYTES, "routing secret"),
            grant=reader.take(SECRET_BYTES, "grant secret"),
            expiry=reader.uint(8, "expiry"),
            creator_signature=reader.take(SIGNATURE_BYTES, "creator's signature"),
            admin=reader.take(SECRET_BYTES, "admin"),
            signature=reader.take(SIGNATURE_BYTES, "admin's signature"),
        )

    def _hash(self) -> bytes:
        return blake3(self.routing).digest()
