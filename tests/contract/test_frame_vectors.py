"""Our own formats: the vectors that the data plane's tests read, read by the Python reference (SPEC 2, 3)."""

import json
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from peertap._core import StaticSecret
from peertap.mesh.routes import KIND_TREE
from peertap.types import Mac
from peertap.vlan.names import BROADCAST, KIND_GROUP, NO_MAC
from peertap.wire import kdf, packet
from peertap.wire.packet import FLAG_INTRO, HOP_LIMIT, FramePacket, GroupTrailer
from peertap.wire.routes import KIND_UNICAST, vtag_of

VECTORS: dict[str, str] = json.loads((Path(__file__).parents[1] / "vectors" / "frame.json").read_text())
AEADS = {"aes_256_gcm": 1, "chacha20_poly1305": 2}


def raw(name: str) -> bytes:
    return bytes.fromhex(VECTORS[name])


@pytest.fixture(params=sorted(AEADS))
def aead(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_key_derivation_is_the_same_in_both_languages() -> None:
    secret = raw("static_secret")
    assert packet.expand(secret, "static root") == raw("root") == kdf.expand(secret, "static root")
    assert packet.expand(secret, "static routing") == raw("routing_secret")
    assert packet.expand(secret, "static nonce")[:16] == raw("name_nonce")
    for name, label in (("creator_public", "static creator"), ("grant_public", "static grant")):
        seed = packet.expand(secret, label)
        assert Ed25519PrivateKey.from_private_bytes(seed).public_key().public_bytes_raw() == raw(name)


def test_names_and_tokens_are_those_of_the_data_plane() -> None:
    keys = StaticSecret(raw("static_secret")).keys(raw("vlan_id"))
    assert keys.mls_id == raw("mls_id")
    assert keys.route_public == raw("route_public")
    assert vtag_of(keys.route_public) == raw("vtag")
    assert keys.circle == packet.expand(raw("routing_secret"), "circle", raw("vlan_id")) == raw("circle")
    mac = Mac(raw("mac"))
    for name, kind, where in (
        ("unicast_token", KIND_UNICAST, mac),
        ("broadcast_token", KIND_GROUP, BROADCAST),
        ("tree_token", KIND_TREE, NO_MAC),
    ):
        assert keys.token(kind, where) == raw(name)
        fields = bytes((kind,)) + where + raw("vlan_id")
        assert packet.expand(raw("routing_secret"), "vft", fields)[:16] == raw(name)


def test_a_pair_frame_opens_and_is_made_the_same(aead: str) -> None:
    number, vector = AEADS[aead], lambda name: raw(f"{aead}/{name}")
    secret = packet.pair_secret(raw("root"), raw("pair_secret"), raw("pair_info"), raw("pair_sealed_hash"), number)
    key, kid = packet.frame_key(secret)
    assert kid == vector("pair_kid")
    assert packet.confirmed(secret, vector("pair_confirm"))
    got = FramePacket.parse_untrusted(vector("pair_packet"), raw("hop_key"), number)
    assert (got.index, got.label, got.flags) == (
        int.from_bytes(raw("hop_index"), "big"), int.from_bytes(raw("hop_label"), "big"), 0,
    )  # fmt: skip
    assert got.nonce[:4] == kid
    assert got.hop_limit == HOP_LIMIT
    assert got.inner_tag + got.body == vector("pair_inner_tag_and_ciphertext")
    aad = packet.frame_aad(raw("vlan_id"), raw("mls_id"), raw("unicast_token"), got.nonce)
    plaintext = packet.open_untrusted(key, number, got.nonce, aad, got.inner_tag, got.body)
    assert plaintext == b"\1\0" + raw("frame")
    tag, ciphertext = packet.seal(key, number, got.nonce, aad, plaintext)
    again = FramePacket(got.index, got.counter, got.label, got.hop_limit, 0, got.nonce, tag, ciphertext)
    assert again.emit(raw("hop_key"), number) == vector("pair_packet")


def test_a_group_frame_opens_and_its_signature_is_the_senders(aead: str) -> None:
    number, vector = AEADS[aead], lambda name: raw(f"{aead}/{name}")
    secret = packet.group_secret(raw("root"), raw("member"), raw("sid"), 1, number)  # generation 1
    key, kid = packet.frame_key(secret)
    assert kid == vector("group_kid")
    got = FramePacket.parse_untrusted(vector("group_packet"), raw("hop_key"), number)
    aad = packet.frame_aad(raw("vlan_id"), raw("mls_id"), raw("broadcast_token"), got.nonce)
    opened = packet.open_untrusted(key, number, got.nonce, aad, got.inner_tag, got.body)
    assert opened is not None
    content, trailer = GroupTrailer.split_untrusted(opened)
    assert content == b"\1\0" + raw("frame")
    assert trailer.salt == raw("salt")
    leaf = packet.group_leaf(trailer.salt, aad, content)
    root = packet.group_root(leaf, trailer.salt, list(trailer.path), trailer.index)
    message = packet.group_message(raw("vlan_id"), raw("mls_id"), kid, trailer.salt, len(trailer.path), root)
    Ed25519PublicKey.from_public_bytes(raw("signer_public")).verify(trailer.signature, message)
    assert content + trailer.emit() == opened


def test_frames_that_were_signed_together_lead_to_one_root(aead: str) -> None:
    number, vector = AEADS[aead], lambda name: raw(f"{aead}/{name}")
    key, kid = packet.frame_key(packet.group_secret(raw("root"), raw("member"), raw("sid"), 1, number))
    roots = set()
    for place, expected in enumerate((b"first", b"second frame", b"third")):
        got = FramePacket.parse_untrusted(vector(f"tree_packet_{place}"), raw("hop_key"), number)
        aad = packet.frame_aad(raw("vlan_id"), raw("mls_id"), raw("broadcast_token"), got.nonce)
        opened = packet.open_untrusted(key, number, got.nonce, aad, got.inner_tag, got.body)
        assert opened is not None
        content, trailer = GroupTrailer.split_untrusted(opened)
        assert (content, trailer.index, len(trailer.path)) == (b"\1\0" + expected, place, 2)
        leaf = packet.group_leaf(trailer.salt, aad, content)
        roots.add(packet.group_root(leaf, trailer.salt, list(trailer.path), trailer.index))
        message = packet.group_message(raw("vlan_id"), raw("mls_id"), kid, trailer.salt, 2, max(roots))
        Ed25519PublicKey.from_public_bytes(raw("signer_public")).verify(trailer.signature, message)
    assert len(roots) == 1


def test_an_intro_opens_with_the_hello_key(aead: str) -> None:
    number = AEADS[aead]
    got = FramePacket.parse_untrusted(raw(f"{aead}/intro_packet"), raw("hop_key"), number)
    assert got.flags == FLAG_INTRO
    assert got.inner_tag + got.body == raw("hello_sealed")
    sid, ciphertext = got.body[:16], got.body[16:]
    assert sid == raw("sid")
    aad = packet.frame_aad(raw("vlan_id"), raw("mls_id"), raw("broadcast_token"), got.nonce, sid)
    key = packet.expand(raw("root"), "hello", sid)
    assert packet.open_untrusted(key, 1, got.nonce, aad, got.inner_tag, ciphertext) == raw("hello_plaintext")
    keys = StaticSecret(raw("static_secret")).keys(raw("vlan_id"))
    assert keys.hello_open(got.nonce, raw("broadcast_token"), raw("hello_sealed")) == raw("hello_plaintext")


def test_overhead_of_a_pair_frame_is_64_bytes(aead: str) -> None:
    assert len(raw(f"{aead}/pair_packet")) - len(raw("frame")) == 64
