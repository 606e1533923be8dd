"""Key derivation (SPEC 1)."""

from typing import Final

from cryptography.hazmat.primitives import hashes, hmac
from cryptography.hazmat.primitives.kdf.hkdf import HKDF, HKDFExpand

from peertap.wire.codec import lp

KEY_BYTES: Final = 32


def expand(key: bytes, label: str, *context: bytes, length: int = KEY_BYTES) -> bytes:
    """X(key, label, context ...) of SPEC 1."""
    info = b"PeerTap/1 " + label.encode("ascii") + b"\0" + b"".join(map(lp, context))
    return HKDFExpand(hashes.SHA384(), length, info).derive(key)


def extract(salt: bytes, secret: bytes) -> bytes:
    """HKDF-Extract with SHA-384 (RFC 5869)."""
    return HKDF.extract(hashes.SHA384(), salt, secret)


def mac(key: bytes, message: bytes) -> bytes:
    """HMAC-SHA-384."""
    keyed = hmac.HMAC(key, hashes.SHA384())
    keyed.update(message)
    return keyed.finalize()


def hash384(*parts: bytes) -> bytes:
    """SHA-384 over the parts as they are."""
    digest = hashes.Hash(hashes.SHA384())
    for part in parts:
        digest.update(part)
    return digest.finalize()
