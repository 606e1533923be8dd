"""Node identities and peer IDs."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from libp2p.crypto.ed25519 import create_new_key_pair
from libp2p.peer.id import ID

from peertap.errors import DecodeError
from peertap.identity.node import (
    NodeIdentity,
    check_peer_id,
    format_peer_id,
    parse_peer_id,
)
from peertap.types import peer_id_of, public_key_of
from peertap.wire.routes import signed_by

seeds = st.binary(min_size=32, max_size=32)


@given(seeds)
def test_an_identity_survives_its_text_and_shows_only_its_peer_id(seed: bytes) -> None:
    identity = NodeIdentity(seed)
    again = NodeIdentity.parse(f" {identity.emit()}\n")
    assert (again.seed, again.peer_id) == (seed, identity.peer_id)
    assert repr(identity) == f"NodeIdentity({identity.text})"


@given(seeds)
def test_a_peer_id_is_that_of_libp2p(seed: bytes) -> None:
    identity = NodeIdentity(seed)
    theirs = ID.from_pubkey(create_new_key_pair(seed).public_key)
    assert (identity.peer_id, identity.text) == (theirs.to_bytes(), theirs.to_base58())
    assert identity.text.startswith("12D3KooW")


@given(seeds)
def test_a_peer_id_survives_text_and_gives_its_key_back(seed: bytes) -> None:
    identity = NodeIdentity(seed)
    assert parse_peer_id(identity.text) == identity.peer_id == peer_id_of(identity.public_key)
    assert public_key_of(identity.peer_id) == identity.public_key
    assert format_peer_id(identity.peer_id) == identity.text


@given(seeds, st.binary(max_size=100))
def test_a_signature_verifies_for_its_message_and_signer_only(seed: bytes, message: bytes) -> None:
    identity, other = NodeIdentity(seed), NodeIdentity(bytes(32) if seed != bytes(32) else b"\1" * 32)
    signature = identity.sign(message)
    assert signed_by(identity.public_key, signature, message)
    assert not signed_by(identity.public_key, signature, message + b"x")
    assert not signed_by(other.public_key, signature, message)
    assert not signed_by(identity.public_key, signature[:-1], message)


@given(st.text(max_size=80))
def test_random_text_is_no_peer_id_and_raises_decode_error(text: str) -> None:
    with pytest.raises(DecodeError):
        parse_peer_id(text)


@pytest.mark.parametrize("extra", [" ", "\n", "1"])
def test_a_peer_id_with_anything_around_it_is_refused(extra: str) -> None:
    text = NodeIdentity(bytes(32)).text
    for candidate in (text + extra, extra + text):
        with pytest.raises(DecodeError):
            parse_peer_id(candidate)


@given(st.binary(max_size=60))
def test_bytes_that_are_no_ed25519_identity_are_refused(raw: bytes) -> None:
    with pytest.raises(DecodeError):
        check_peer_id(raw)


def test_keys_of_a_wrong_size_are_refused() -> None:
    with pytest.raises(DecodeError):
        NodeIdentity(bytes(31))
    with pytest.raises(DecodeError):
        peer_id_of(bytes(33))


def test_a_vlan_secret_is_no_identity() -> None:
    with pytest.raises(DecodeError, match="ptnode1"):
        NodeIdentity.parse("ptvlan1-lab-2ncr75picf6jk6yjwbieijgndeorkg4dkuugodpqbac2wej3lhvllokrmm")
