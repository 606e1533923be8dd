"""Pair keys: an HPKE-sealed secret from one run of a member to another (SPEC 5.2)."""

from typing import Final

from blake3 import blake3
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey, MLKEM768PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.hashes import SHA384, Hash
from cryptography.hazmat.primitives.hpke import (
    AEAD,
    KDF,
    KEM,
    MLKEM768X25519PrivateKey,
    MLKEM768X25519PublicKey,
    Suite,
)

from peertap.errors import DecodeError, PeerError
from peertap.types import MlsId, PeerId, Sid, VlanId, public_key_of
from peertap.wire.codec import Reader, lp
from peertap.wire.introduction import MLKEM768_KEY_BYTES
from peertap.wire.routes import signed_by

SECRET_BYTES: Final = 32
_SUITE: Final = Suite(KEM.MLKEM768_X25519, KDF.HKDF_SHA256, AEAD.AES_256_GCM)  # RFC 9180 with the X-Wing KEM


class Prekey:
    """Our half of pair keys: hybrid, in memory only, new at each start."""

    def __init__(self) -> None:
        mlkem, x25519 = MLKEM768PrivateKey.generate(), X25519PrivateKey.generate()
        self._private = MLKEM768X25519PrivateKey(mlkem, x25519)
        self.public: Final = mlkem.public_key().public_bytes_raw() + x25519.public_key().public_bytes_raw()

    def open_untrusted(self, sealed: bytes, info: bytes) -> bytes:
        """What was sealed for this key under `info`.

        Raises: PeerError.
        """
        try:
            return _SUITE.decrypt(sealed, self._private, info)
        except (InvalidTag, ValueError):
            raise PeerError("setup: does not open") from None


def pair_info(
    vlan: VlanId, mls: MlsId, sender: tuple[PeerId, Sid], receiver: tuple[PeerId, Sid], receiver_prekey: bytes
) -> bytes:
    """What a pair key is bound to (SPEC 3.3)."""
    ends = b"".join(lp(member) + sid for member, sid in (sender, receiver))
    return vlan + mls + ends + blake3(receiver_prekey).digest()


def setup_message(info: bytes, secret: bytes, generation: int) -> bytes:
    """What the sender of a pair secret signs (SPEC 5.2)."""
    return b"PeerTap/1 setup" + lp(info) + blake3(secret).digest() + generation.to_bytes(4, "big")


def seal_secret(prekey: bytes, info: bytes, secret: bytes, generation: int, signature: bytes) -> bytes:
    """HPKE enc and ciphertext for the holder of `prekey`.

    Raises: PeerError when the prekey is not valid.
    """
    try:
        public = MLKEM768X25519PublicKey(
            MLKEM768PublicKey.from_public_bytes(prekey[:MLKEM768_KEY_BYTES]),
            X25519PublicKey.from_public_bytes(prekey[MLKEM768_KEY_BYTES:]),
        )
        return _SUITE.encrypt(secret + generation.to_bytes(4, "big") + signature, public, info)
    except ValueError:
        raise PeerError("hello: the prekey is not valid") from None


def open_secret_untrusted(prekey: Prekey, sealed: bytes, info: bytes, generation: int, sender: PeerId) -> bytes:
    """The pair secret in a setup, its signature checked.

    Raises: PeerError.
    """
    opened = prekey.open_untrusted(sealed, info)
    try:
        reader = Reader(opened, "setup")
        secret = reader.take(SECRET_BYTES, "secret")
        inner_generation, signature = reader.uint(4, "generation"), reader.take(64, "signature")
        reader.end()
    except DecodeError as error:
        raise PeerError(str(error)) from None
    if inner_generation != generation:
        raise PeerError(f"setup: generation {inner_generation} under the name of {generation}")
    if not signed_by(public_key_of(sender), signature, setup_message(info, secret, generation)):
        raise PeerError("setup: the signature does not match")
    return secret


def sealed_hash(sealed: bytes) -> bytes:
    """SHA-384 of what HPKE gave (SPEC 3.3)."""
    digest = Hash(SHA384())
    digest.update(sealed)
    return digest.finalize()
