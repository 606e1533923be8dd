"""HPKE as pair keys use it (base mode, X-Wing, HKDF-SHA256, AES-256-GCM) against the published vectors.

No published vector has exactly this suite, so a key schedule written here from RFC 9180 stands between: it must give
the published keys for X-Wing with ChaCha20-Poly1305 and for X25519 with AES-256-GCM, and what it then seals under
PeerTap's own suite, to the published key and encapsulation, must open.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from typing import Any, Final, cast

import cryptography_vectors
import pytest
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305
from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, MLKEM768X25519PrivateKey, Suite

from peertap.errors import PeerError
from peertap.vlan.pairing import Prekey

X25519: Final = 0x0020  # RFC 9180, 7.1
X_WING: Final = 0x647A  # draft-connolly-cfrg-xwing-kem
HKDF_SHA256: Final = 1  # RFC 9180, 7.2
AES_256_GCM: Final = 2  # RFC 9180, 7.3
CHACHA20_POLY1305: Final = 3  # RFC 9180, 7.3
ENC_BYTES: Final = 1120  # ML-KEM-768 ciphertext and X25519 key

Vector = dict[str, Any]


def vector(path: str, kem: int, aead: int) -> Vector:
    """The one base-mode vector of these algorithms with HKDF-SHA256."""
    with cryptography_vectors.open_vector_file(f"HPKE/{path}", "r") as file:
        found = [
            case
            for case in cast("list[Vector]", json.load(file))
            if (case["mode"], case["kem_id"], case["kdf_id"], case["aead_id"]) == (0, kem, HKDF_SHA256, aead)
        ]
    assert len(found) == 1 and found[0]["encryptions"]
    return found[0]


def x_wing() -> Vector:
    return vector("hpke-pq-test-vectors.json", X_WING, CHACHA20_POLY1305)


def raw(case: Vector, *names: str) -> list[bytes]:
    return [bytes.fromhex(case[name]) for name in names]


def key_and_base_nonce(shared: bytes, info: bytes, kem: int, aead: int) -> tuple[bytes, bytes]:
    """The key schedule of base mode with HKDF-SHA256 (RFC 9180, 5.1)."""
    label = b"HPKE-v1HPKE" + b"".join(number.to_bytes(2, "big") for number in (kem, HKDF_SHA256, aead))

    def extract(salt: bytes, name: bytes, secret: bytes) -> bytes:
        return hmac.digest(salt, label + name + secret, "sha256")

    def expand(name: bytes, length: int) -> bytes:  # at most one block
        info_of_block = length.to_bytes(2, "big") + label + name + context
        return hmac.digest(secret, info_of_block + b"\1", "sha256")[:length]

    context = b"\0" + extract(b"", b"psk_id_hash", b"") + extract(b"", b"info_hash", info)
    secret = extract(shared, b"secret", b"")
    return expand(b"key", 32), expand(b"base_nonce", 12)


def x_wing_private(seed: bytes) -> MLKEM768X25519PrivateKey:
    """An X-Wing key from its seed of 32 bytes (draft-connolly-cfrg-xwing-kem, expandDecapsulationKey)."""
    expanded = hashlib.shake_256(seed).digest(96)
    return MLKEM768X25519PrivateKey(
        MLKEM768PrivateKey.from_seed_bytes(expanded[:64]), X25519PrivateKey.from_private_bytes(expanded[64:])
    )


def official_prekey(case: Vector) -> Prekey:
    """A prekey with the vector's private key instead of a new one."""
    prekey = Prekey()
    prekey._private = x_wing_private(bytes.fromhex(case["skRm"]))
    return prekey


def sealed_for_the_official_key(case: Vector, plaintext: bytes) -> tuple[bytes, bytes]:
    """The published encapsulation with `plaintext` under PeerTap's suite, and the info."""
    enc, shared, info = raw(case, "enc", "shared_secret", "info")
    key, nonce = key_and_base_nonce(shared, info, X_WING, AES_256_GCM)
    return enc + AESGCM(key).encrypt(nonce, plaintext, None), info


@pytest.mark.parametrize(
    ("path", "kem", "aead"),
    [
        ("test-vectors.json", X25519, AES_256_GCM),
        ("test-vectors.json", X25519, CHACHA20_POLY1305),
        ("hpke-pq-test-vectors.json", X_WING, CHACHA20_POLY1305),
    ],
)
def test_the_key_schedule_of_this_file_gives_the_published_keys_and_ciphertexts(path: str, kem: int, aead: int) -> None:
    case = vector(path, kem, aead)
    shared, info, want_key, want_nonce = raw(case, "shared_secret", "info", "key", "base_nonce")
    key, nonce = key_and_base_nonce(shared, info, kem, aead)
    assert (key, nonce) == (want_key, want_nonce)
    cipher = AESGCM(key) if aead == AES_256_GCM else ChaCha20Poly1305(key)
    plaintext, aad, ciphertext = raw(case["encryptions"][0], "pt", "aad", "ct")
    assert cipher.encrypt(nonce, plaintext, aad) == ciphertext


def test_an_x_wing_seed_gives_the_published_public_key() -> None:
    case = x_wing()
    expanded = hashlib.shake_256(bytes.fromhex(case["skRm"])).digest(96)
    mlkem = MLKEM768PrivateKey.from_seed_bytes(expanded[:64]).public_key().public_bytes_raw()
    x25519 = X25519PrivateKey.from_private_bytes(expanded[64:]).public_key().public_bytes_raw()
    assert (mlkem + x25519).hex() == case["pkRm"]


def test_the_library_opens_what_is_sealed_with_the_published_x_wing_keys() -> None:
    case = x_wing()
    enc, info, key, nonce, secret = raw(case, "enc", "info", "key", "base_nonce", "skRm")
    suite = Suite(KEM.MLKEM768_X25519, KDF.HKDF_SHA256, AEAD.CHACHA20_POLY1305)
    sealed = enc + ChaCha20Poly1305(key).encrypt(nonce, b"pair secret", None)
    assert suite.decrypt(sealed, x_wing_private(secret), info) == b"pair secret"


def test_the_library_opens_what_is_sealed_with_the_published_aes_256_gcm_keys() -> None:
    case = vector("test-vectors.json", X25519, AES_256_GCM)
    enc, info, key, nonce, secret = raw(case, "enc", "info", "key", "base_nonce", "skRm")
    suite = Suite(KEM.X25519, KDF.HKDF_SHA256, AEAD.AES_256_GCM)
    sealed = enc + AESGCM(key).encrypt(nonce, b"pair secret", None)
    assert suite.decrypt(sealed, X25519PrivateKey.from_private_bytes(secret), info) == b"pair secret"


def test_a_prekey_opens_what_is_sealed_to_it_under_peertaps_suite() -> None:
    case = x_wing()
    sealed, info = sealed_for_the_official_key(case, b"pair secret")
    assert official_prekey(case).open_untrusted(sealed, info) == b"pair secret"


def test_a_prekey_opens_nothing_whose_encapsulation_ciphertext_or_info_changed() -> None:
    case = x_wing()
    prekey = official_prekey(case)
    sealed, info = sealed_for_the_official_key(case, b"pair secret")
    for at in (0, ENC_BYTES - 40, ENC_BYTES - 1, ENC_BYTES, len(sealed) - 1):  # ML-KEM, X25519, ciphertext and tag
        changed = sealed[:at] + bytes((sealed[at] ^ 1,)) + sealed[at + 1 :]
        with pytest.raises(PeerError):
            prekey.open_untrusted(changed, info)
    for cut in (0, ENC_BYTES - 1, ENC_BYTES, len(sealed) - 1):
        with pytest.raises(PeerError):
            prekey.open_untrusted(sealed[:cut], info)
    with pytest.raises(PeerError):
        prekey.open_untrusted(sealed, info + b"\0")
    with pytest.raises(PeerError):
        Prekey().open_untrusted(sealed, info)


def test_a_prekey_opens_nothing_whose_x25519_part_is_the_zero_point() -> None:
    case = x_wing()
    sealed, info = sealed_for_the_official_key(case, b"pair secret")
    with pytest.raises(PeerError):
        official_prekey(case).open_untrusted(sealed[: ENC_BYTES - 32] + bytes(32) + sealed[ENC_BYTES:], info)
