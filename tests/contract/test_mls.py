"""MLS groups as Python sees them, against implementations that are not ours: rfc9420 and cryptography."""

from __future__ import annotations

import hashlib
import json
import struct
from dataclasses import dataclass

import cryptography_vectors
import pytest
from blake3 import blake3
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, MLKEM768X25519PrivateKey, Suite
from rfc9420.backends.crypto.default_hpke import DefaultCryptoProvider
from rfc9420.group.mls_group import processing
from rfc9420.group.mls_group.processing import MLSGroup as OtherGroup
from rfc9420.messages.data_structures import Welcome
from rfc9420.messages.key_packages import KeyPackage
from rfc9420.messages.messages import MLSMessage, MLSPlaintext

from peertap._core import (
    MlsChange,
    MlsError,
    MlsGroup,
    MlsMember,
    MlsProposal,
    MlsSigner,
    mls_credential_message,
    mls_hpke_open,
    mls_hpke_seal,
)
from peertap.wire.kdf import expand

HYBRID, X25519_AES128, X25519_CHACHA = 0xF1A1, 1, 3
VLAN_ID = bytes(range(16))
NOW = 1_800_000_000
NOT_AFTER = NOW + 86_400 * 365
ROUTING = bytes(32)


def identity(number: int) -> Ed25519PrivateKey:
    return Ed25519PrivateKey.from_private_bytes(bytes([number]) * 32)


def credential(number: int, suite: int, key: bytes) -> bytes:
    public = identity(number).public_key().public_bytes_raw()
    signature = identity(number).sign(mls_credential_message(VLAN_ID, public, suite, NOT_AFTER, key))
    return public + NOT_AFTER.to_bytes(8, "big") + signature


def member(number: int, suite: int) -> MlsMember:
    signer = MlsSigner(suite)
    return MlsMember(signer, VLAN_ID, credential(number, suite, signer.public))


def mls_id(group: MlsGroup) -> bytes:
    return group.keys(ROUTING).mls_id


@pytest.mark.parametrize("suite", [HYBRID, X25519_AES128, X25519_CHACHA])
def test_a_group_lives_through_python(suite: int) -> None:
    admin = member(1, suite).create(b"first", NOW)
    admin.keep()
    newcomers = [member(number, suite) for number in (2, 3)]
    commit, welcome = admin.commit(NOW, adds=[one.key_package(NOW) for one in newcomers], context=b"second")
    record = admin.keep()
    groups = [one.join(welcome, NOW) for one in newcomers]
    for group in groups:
        group.keep()
        assert (group.epoch, group.context, mls_id(group)) == (1, b"second", mls_id(admin))
    with pytest.raises(MlsError):
        groups[0].process(commit, NOW)  # it is of the epoch before
    wish = groups[0].propose_leave(b"farewell")
    seen = admin.process(wish, NOW)
    assert isinstance(seen, MlsProposal) and (seen.wish, seen.word) == ("leave", b"farewell")
    assert seen.sender == groups[0].own_index
    groups[1].process(wish, NOW)
    commit, _ = admin.commit(NOW)
    change = groups[1].process(commit, NOW)
    assert isinstance(change, MlsChange)
    assert [leaf.identity for leaf in change.removed] == [identity(2).public_key().public_bytes_raw()]
    assert change.committer is not None and change.committer.index == admin.own_index
    assert mls_id(groups[1]) == mls_id(admin) != mls_id(groups[0])
    assert MlsGroup.restore(record).epoch == 1
    admin.drop_step()
    assert admin.epoch == 1


def test_arguments_of_a_wrong_size_or_suite_are_value_errors() -> None:
    signer = MlsSigner(X25519_AES128)
    with pytest.raises(ValueError, match="104 bytes"):
        MlsMember(signer, VLAN_ID, b"short")
    with pytest.raises(ValueError, match="vlan_id"):
        MlsMember(signer, b"short", credential(1, X25519_AES128, signer.public))
    with pytest.raises(ValueError, match="not signed"):
        MlsMember(signer, bytes(16), credential(1, X25519_AES128, signer.public))
    with pytest.raises(MlsError, match="suite 2"):
        MlsSigner(2)
    with pytest.raises(MlsError, match="no record"):
        MlsGroup.restore(b"something else")
    with pytest.raises(ValueError, match="nothing was kept"):
        member(1, X25519_AES128).create(b"", NOW).drop_step()


# HPKE of the hybrid suite, and cryptography's

HYBRID_HPKE = Suite(KEM.MLKEM768_X25519, KDF.HKDF_SHA384, AEAD.AES_256_GCM)


def x_wing_key(material: bytes) -> tuple[MLKEM768X25519PrivateKey, bytes]:
    """The key pair that HPKE derives: draft-ietf-hpke-pq, then the expansion of draft-connolly-cfrg-xwing-kem."""
    labelled = material + b"HPKE-v1KEM" + bytes.fromhex("647a") + varint16(b"DeriveKeyPair") + (32).to_bytes(2, "big")
    unfolded = hashlib.shake_256(hashlib.shake_256(labelled).digest(32)).digest(96)
    ml_kem = MLKEM768PrivateKey.from_seed_bytes(unfolded[:64])
    x25519 = X25519PrivateKey.from_private_bytes(unfolded[64:])
    public = ml_kem.public_key().public_bytes_raw() + x25519.public_key().public_bytes_raw()
    return MLKEM768X25519PrivateKey(ml_kem, x25519), public


def varint16(data: bytes) -> bytes:
    return len(data).to_bytes(2, "big") + data


@pytest.mark.parametrize("material", [bytes(32), bytes(range(48)), b"short"], ids=len)
def test_the_hybrid_suites_hpke_and_cryptographys_open_each_other(material: bytes) -> None:
    key, public = x_wing_key(material)
    encapsulated, ciphertext = mls_hpke_seal(HYBRID, public, b"info", b"", b"text")
    assert HYBRID_HPKE.decrypt(encapsulated + ciphertext, key, b"info") == b"text"
    sealed = HYBRID_HPKE.encrypt(b"answer", key.public_key(), b"info")
    assert mls_hpke_open(HYBRID, material, sealed[:1120], b"info", b"", sealed[1120:]) == b"answer"
    with pytest.raises(MlsError):
        mls_hpke_open(HYBRID, material, sealed[:1120], b"other", b"", sealed[1120:])


def test_hpke_derives_the_published_x_wing_key() -> None:
    with cryptography_vectors.open_vector_file("HPKE/hpke-pq-test-vectors.json", "r") as file:
        cases = [case for case in json.load(file) if case["kem_id"] == 0x647A]
    assert cases
    for case in cases:
        _, public = x_wing_key(bytes.fromhex(case["ikmR"]))
        assert public == bytes.fromhex(case["pkRm"])


# rfc9420 as a member


def varint(data: bytes) -> bytes:
    """opaque<V> (RFC 9420, 2.1.2)."""
    size = len(data)
    return (bytes([size]) if size < 64 else (0x4000 | size).to_bytes(2, "big")) + data


def signed(key: Ed25519PrivateKey, label: bytes, content: bytes) -> bytes:
    """SignWithLabel (RFC 9420, 5.1.2)."""
    return varint(key.sign(varint(b"MLS 1.0 " + label) + varint(content)))


@dataclass
class Other:
    """A member whose MLS is rfc9420's; its key package is made here, for that library makes none that others take."""

    init: X25519PrivateKey
    leaf: X25519PrivateKey
    package: bytes

    @classmethod
    def create(cls, number: int) -> Other:
        init, leaf, signer = X25519PrivateKey.generate(), X25519PrivateKey.generate(), Ed25519PrivateKey.generate()
        key = signer.public_key().public_bytes_raw()

        def uint16s(*numbers: int) -> bytes:
            return varint(b"".join(struct.pack("!H", one) for one in numbers))

        capabilities = uint16s(1) + uint16s(X25519_AES128) + uint16s(0xF1A1) + uint16s() + uint16s(1)
        node = varint(leaf.public_key().public_bytes_raw()) + varint(key)
        node += struct.pack("!H", 1) + varint(credential(number, X25519_AES128, key)) + capabilities
        node += struct.pack("!BQQ", 1, NOW - 60, NOT_AFTER) + varint(b"")
        node += signed(signer, b"LeafNodeTBS", node)
        package = (
            struct.pack("!HH", 1, X25519_AES128) + varint(init.public_key().public_bytes_raw()) + node + varint(b"")
        )
        package += signed(signer, b"KeyPackageTBS", package)
        return cls(init, leaf, package)

    @property
    def message(self) -> bytes:
        return struct.pack("!HH", 1, 5) + self.package  # MLSMessage, mls_key_package

    def join(self, welcome: bytes) -> OtherGroup:
        return OtherGroup.from_welcome(
            Welcome.deserialize(welcome[4:]),
            self.init.private_bytes_raw(),
            DefaultCryptoProvider(),
            key_package=KeyPackage.deserialize(self.package),
            encryption_private_key=self.leaf.private_bytes_raw(),
        )


def test_rfc9420_follows_our_welcome_and_commits_to_the_same_exporter_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    # It asks whether the joiner knows the group's extensions before it has found the joiner's leaf.
    monkeypatch.setattr(processing, "leaf_supports_group_extension", lambda _, kind: int(kind) == 0xF1A1)
    admin = member(1, X25519_AES128).create(b"context", NOW)
    second = member(2, X25519_AES128)
    _, welcome = admin.commit(NOW, adds=[second.key_package(NOW)])
    ours = second.join(welcome, NOW)
    other = Other.create(3)
    commit, welcome = admin.commit(NOW, adds=[other.message])
    ours.process(commit, NOW)
    theirs = other.join(welcome)
    for sender, receiver in ((admin, ours), (ours, admin), (admin, ours)):
        assert mls_id_of(theirs) == mls_id(admin) == mls_id(ours)
        commit, _ = sender.commit(NOW)
        receiver.process(commit, NOW)
        theirs.process_commit(MLSPlaintext.deserialize(commit[4:]), sender.own_index)
    assert mls_id_of(theirs) == mls_id(admin)


def mls_id_of(group: OtherGroup) -> bytes:
    """MLS-ID from the exporter that another implementation gives (SPEC 3.2)."""
    schedule, provider = group._key_schedule, DefaultCryptoProvider()
    assert schedule is not None
    # Its own export_secret takes the context as it is; RFC 9420, 8.5 hashes it.
    secret = provider.derive_secret(schedule.exporter_secret, b"PeerTap/1 epoch")
    root = provider.expand_with_label(secret, b"exported", hashlib.sha256(VLAN_ID).digest(), 32)
    return blake3(expand(root, "mls-id")).digest()[:16]


def test_mls_message_of_a_welcome_is_what_rfc9420_reads() -> None:
    admin = member(1, X25519_AES128).create(b"", NOW)
    _, welcome = admin.commit(NOW, adds=[Other.create(2).message])
    assert MLSMessage.deserialize(welcome).wire_format == 3
