"""Every primitive, in the form in which PeerTap calls it, against vectors that others published.

Sources and licences: tests/vectors/official/README.md; the older vectors come from the package cryptography_vectors.
A reader of vectors asserts how many there are, so that none of these tests passes for want of cases.
"""

from __future__ import annotations

import hmac
import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import cryptography_vectors
import pytest
from blake3 import blake3
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM1024PrivateKey, MLKEM1024PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

from peertap.identity import node
from peertap.trunk.handshake import HandshakeFailed, _x25519
from peertap.wire import kdf, packet
from peertap.wire.codec import lp
from peertap.wire.control import CloseCode
from peertap.wire.routes import signed_by

OFFICIAL: Final = Path(__file__).resolve().parents[1] / "vectors" / "official"
AES_256_GCM: Final = 1  # SPEC 1
CHACHA20_POLY1305: Final = 2  # SPEC 1
WYCHEPROOF_AEADS: Final = [
    ("wycheproof_aes_256_gcm.json", AES_256_GCM, {"valid": 39, "invalid": 27}),
    ("wycheproof_chacha20_poly1305.json", CHACHA20_POLY1305, {"valid": 256, "invalid": 60}),
]

Case = dict[str, Any]


def wycheproof(name: str, counts: dict[str, int]) -> list[Case]:
    """All cases of a file, each with the fields of its group; hex becomes bytes where `raw` asks for it."""
    groups = json.loads((OFFICIAL / name).read_text("utf-8"))["testGroups"]
    cases = [{**group, **case} for group in groups for case in group["tests"]]
    assert Counter(case["result"] for case in cases) == counts
    return cases


def raw(case: Case, *names: str) -> list[bytes]:
    return [bytes.fromhex(case[name]) for name in names]


def packaged(path: str, first: str, count: int) -> list[dict[str, str]]:
    """The cases of a "name = value" file of cryptography_vectors; `first` is the name that begins a case."""
    cases: list[dict[str, str]] = []
    with cryptography_vectors.open_vector_file(path, "r") as file:
        for line in file:
            name, equals, value = (part.strip() for part in line.partition("="))
            if line.startswith(("#", "[")) or not (equals or name == "FAIL"):
                continue
            if name == first:
                cases.append({})
            if cases:
                cases[-1][name] = value
    assert len(cases) == count
    return cases


def signatures_of_sign_input() -> Iterator[tuple[bytes, bytes, bytes, bytes]]:
    """Seed, public key, message and signature of every line of Ed25519's own sign.input."""
    with cryptography_vectors.open_vector_file("asymmetric/Ed25519/sign.input", "r") as file:
        for line in file:
            private, public, message, signed = (bytes.fromhex(field) for field in line.split(":")[:4])
            yield private[:32], public, message, signed[:64]


# AEADs


@pytest.mark.parametrize(("name", "aead", "counts"), WYCHEPROOF_AEADS)
def test_an_aead_seals_and_opens_the_valid_cases_of_wycheproof_and_opens_no_other(
    name: str, aead: int, counts: dict[str, int]
) -> None:
    for case in wycheproof(name, counts):
        key, nonce, aad, message, ciphertext, tag = raw(case, "key", "iv", "aad", "msg", "ct", "tag")
        opened = packet.open_untrusted(key, aead, nonce, aad, tag, ciphertext)
        assert opened == (message if case["result"] == "valid" else None), case["tcId"]
        sealed = packet.seal(key, aead, nonce, aad, message)
        assert (sealed == (tag, ciphertext)) == (case["result"] == "valid"), case["tcId"]


@pytest.mark.parametrize(("name", "aead", "counts"), WYCHEPROOF_AEADS)
def test_an_aead_opens_no_valid_case_after_any_one_of_its_inputs_changed(
    name: str, aead: int, counts: dict[str, int]
) -> None:
    for case in wycheproof(name, counts):
        if case["result"] != "valid":
            continue
        key, nonce, aad, ciphertext, tag = raw(case, "key", "iv", "aad", "ct", "tag")
        assert packet.open_untrusted(key, aead, nonce, aad + b"\0", tag, ciphertext) is None
        assert packet.open_untrusted(key, aead, nonce, aad, tag, ciphertext + b"\0") is None
        assert packet.open_untrusted(key, aead, _flipped(nonce), aad, tag, ciphertext) is None
        assert packet.open_untrusted(_flipped(key), aead, nonce, aad, tag, ciphertext) is None


def _flipped(data: bytes) -> bytes:
    return bytes((data[0] ^ 1,)) + data[1:]


def test_aes_256_gcm_opens_what_nist_says_it_opens_and_refuses_what_nist_says_fails() -> None:
    results: Counter[bool] = Counter()
    for case in packaged("ciphers/AES/GCM/gcmDecrypt256.rsp", "Count", 7875):
        key, nonce, ciphertext, aad, tag = (bytes.fromhex(case[name]) for name in ("Key", "IV", "CT", "AAD", "Tag"))
        if (len(nonce), len(tag)) != (12, 16):
            continue  # sizes that PeerTap never uses
        want = None if "FAIL" in case else bytes.fromhex(case["PT"])
        assert packet.open_untrusted(key, AES_256_GCM, nonce, aad, tag, ciphertext) == want
        results[want is None] += 1
    assert results[False] > 100 and results[True] > 100


def test_aes_256_gcm_seals_as_nist_does() -> None:
    sealed = 0
    for case in packaged("ciphers/AES/GCM/gcmEncryptExtIV256.rsp", "Count", 7875):
        key, nonce, plaintext, aad = (bytes.fromhex(case[name]) for name in ("Key", "IV", "PT", "AAD"))
        tag, ciphertext = bytes.fromhex(case["Tag"]), bytes.fromhex(case["CT"])
        if (len(nonce), len(tag)) != (12, 16):
            continue  # sizes that PeerTap never uses
        assert packet.seal(key, AES_256_GCM, nonce, aad, plaintext) == (tag, ciphertext)
        sealed += 1
    assert sealed > 100


# Key derivation


def hkdf_expand(prk: bytes, info: bytes, length: int) -> bytes:
    """RFC 5869, 2.3, from the standard library alone."""
    out, block, number = b"", b"", 0
    while len(out) < length:
        number += 1
        block = hmac.digest(prk, block + info + bytes((number,)), "sha384")
        out += block
    return out[:length]


def test_hkdf_with_sha384_gives_the_output_of_every_valid_case_of_wycheproof() -> None:
    for case in wycheproof("wycheproof_hkdf_sha384.json", {"valid": 80, "invalid": 3}):
        secret, salt, info, output = raw(case, "ikm", "salt", "info", "okm")
        prk = kdf.extract(salt, secret)
        if case["result"] == "valid":
            assert HKDFExpand(hashes.SHA384(), case["size"], info).derive(prk) == output, case["tcId"]
            assert hkdf_expand(prk, info, case["size"]) == output, case["tcId"]
        else:
            with pytest.raises(ValueError, match="larger"):
                HKDFExpand(hashes.SHA384(), case["size"], info)


def test_expand_is_hkdf_expand_under_the_info_of_the_spec() -> None:
    for case in wycheproof("wycheproof_hkdf_sha384.json", {"valid": 80, "invalid": 3}):
        secret, salt, info = raw(case, "ikm", "salt", "info")
        prk = kdf.extract(salt, secret)
        ours = b"PeerTap/1 official\0" + lp(info) + lp(b"")
        assert kdf.expand(prk, "official", info, b"") == hkdf_expand(prk, ours, 32)
        assert packet.expand(prk, "official", info, b"") == hkdf_expand(prk, ours, 32)
        assert kdf.expand(prk, "official", info, b"", length=100) == hkdf_expand(prk, ours, 100)


def test_mac_is_hmac_sha384_of_rfc_4231() -> None:
    for case in packaged("HMAC/rfc-4231-sha384.txt", "Len", 6):
        assert kdf.mac(bytes.fromhex(case["Key"]), bytes.fromhex(case["Msg"])).hex() == case["MD"]


@pytest.mark.parametrize(("name", "count"), [("SHA384ShortMsg.rsp", 129), ("SHA384LongMsg.rsp", 128)])
def test_hash384_is_sha384_of_nist_whether_in_one_part_or_in_two(name: str, count: int) -> None:
    for case in packaged(f"hashes/SHA2/{name}", "Len", count):
        message = bytes.fromhex(case["Msg"])[: int(case["Len"]) // 8]
        half = len(message) // 2
        assert kdf.hash384(message).hex() == kdf.hash384(message[:half], message[half:]).hex() == case["MD"]


def test_blake3_gives_the_published_hash_at_every_length_that_is_asked_for() -> None:
    cases = json.loads((OFFICIAL / "blake3.json").read_text("utf-8"))["cases"]
    assert len(cases) == 22
    for case in cases:
        data = bytes(i % 251 for i in range(case["input_len"]))
        want = bytes.fromhex(case["hash"])
        assert blake3(data).digest() == want[:32]
        for length in (6, 8, 10, 16, 32, len(want)):  # SPEC 1 and 3 ask for the first five
            assert blake3(data).digest(length) == want[:length]


# Key agreement


def test_x25519_agrees_as_in_rfc_7748() -> None:
    for case in packaged("asymmetric/X25519/rfc7748.txt", "COUNT", 3):
        private = X25519PrivateKey.from_private_bytes(bytes.fromhex(case["INPUT_SCALAR"]))
        assert _x25519(private, bytes.fromhex(case["INPUT_U"])).hex() == case["OUTPUT_U"]


def test_x25519_agrees_with_wycheproof_and_an_all_zero_result_fails_the_handshake() -> None:
    zeros = 0
    for case in wycheproof("wycheproof_x25519.json", {"valid": 264, "acceptable": 254}):
        scalar, public, shared = raw(case, "private", "public", "shared")
        private = X25519PrivateKey.from_private_bytes(scalar)
        if any(shared):
            assert _x25519(private, public) == shared, case["tcId"]
            continue
        assert "ZeroSharedSecret" in case["flags"]
        with pytest.raises(HandshakeFailed) as failed:
            _x25519(private, public)
        assert failed.value.code is CloseCode.HANDSHAKE
        zeros += 1
    assert zeros == 31


def test_ml_kem_1024_makes_the_public_keys_and_secrets_of_the_known_answers() -> None:
    for case in packaged("asymmetric/MLKEM/kat_MLKEM_1024.rsp", "count", 1000):
        private = MLKEM1024PrivateKey.from_seed_bytes(bytes.fromhex(case["d"] + case["z"]))
        assert private.public_key().public_bytes_raw().hex() == case["pk"]
        assert private.decapsulate(bytes.fromhex(case["ct"])).hex() == case["ss"]
        assert private.decapsulate(bytes.fromhex(case["ct_n"])).hex() == case["ss_n"]  # implicit rejection


def test_ml_kem_1024_decapsulates_the_valid_cases_of_wycheproof_and_refuses_wrong_sizes() -> None:
    for case in wycheproof("wycheproof_mlkem_1024_decaps.json", {"valid": 30, "invalid": 24}):
        seed, ciphertext = raw(case, "seed", "c")
        if case["result"] == "valid":
            private = MLKEM1024PrivateKey.from_seed_bytes(seed)
            assert private.public_key().public_bytes_raw().hex() == case["ek"], case["tcId"]
            assert private.decapsulate(ciphertext).hex() == case["K"], case["tcId"]
        else:
            with pytest.raises(ValueError, match=r"."):
                MLKEM1024PrivateKey.from_seed_bytes(seed).decapsulate(ciphertext)


def test_an_ml_kem_1024_public_key_that_is_not_reduced_or_has_a_wrong_size_is_refused() -> None:
    for case in wycheproof("wycheproof_mlkem_1024_public_keys.json", {"invalid": 52}):
        with pytest.raises(ValueError, match=r"."):
            MLKEM1024PublicKey.from_public_bytes(bytes.fromhex(case["ek"])).encapsulate()


# Signatures


def test_a_node_signs_and_verifies_as_ed25519s_own_vectors_do() -> None:
    vectors = list(signatures_of_sign_input())
    assert len(vectors) == 1024
    for seed, public, message, signature in vectors:
        identity = node.NodeIdentity(seed)
        assert (identity.public_key, identity.sign(message)) == (public, signature)
        assert signed_by(public, signature, message)
        assert not signed_by(public, signature, message + b"\0")


def test_the_vectors_of_rfc_8032_that_the_data_plane_reads_are_those_of_sign_input() -> None:
    cases = json.loads((OFFICIAL / "rfc8032_ed25519.json").read_text("utf-8"))["tests"]
    vectors = list(signatures_of_sign_input())[:3]
    assert [tuple(raw(case, "seed", "public", "msg", "sig")) for case in cases] == vectors


def test_the_valid_signatures_of_wycheproof_are_accepted_and_no_other_is() -> None:
    for case in wycheproof("wycheproof_ed25519.json", {"valid": 88, "invalid": 63}):
        public, message, signature = raw(case, "publicKey", "msg", "sig")
        assert signed_by(public, signature, message) == (case["result"] == "valid"), case["tcId"]
