"""The trunk handshake: both ends get the same keys, and a mismatch of any byte fails closed."""

import os

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from peertap.trunk.handshake import Dialler, HandshakeFailed, Listener, TrunkSecrets
from peertap.wire.control import CloseCode
from peertap.wire.handshake import Offer
from tests.support.identities import identity

A, B, C = identity("a"), identity("b"), identity("c")


def shake(chain: bytes = b"") -> tuple[TrunkSecrets, TrunkSecrets]:
    dialler = Dialler(A, B.peer_id, os.urandom, chain=chain)
    listener = Listener(B, A.peer_id, os.urandom, chain=chain)
    answer, proof = listener.offered(dialler.offer())
    back, ours = dialler.answered(answer, proof)
    return ours, listener.proved(back)


def test_both_ends_agree_on_every_key() -> None:
    ours, theirs = shake()
    assert ours.control_send == theirs.control_receive
    assert ours.control_receive == theirs.control_send
    assert ours.chain == theirs.chain
    for carrier in ("udp", "stream"):
        assert ours.hop(sending=True, carrier=carrier) == theirs.hop(sending=False, carrier=carrier)
        assert ours.hop(sending=False, carrier=carrier) == theirs.hop(sending=True, carrier=carrier)


def test_directions_and_carriers_have_separate_keys() -> None:
    ours, _ = shake()
    keys = [ours.control_send, ours.control_receive, ours.chain]
    keys += [ours.hop(sending=sending, carrier=carrier) for sending in (True, False) for carrier in ("udp", "stream")]
    assert len(set(keys)) == len(keys)


def test_two_handshakes_share_no_key() -> None:
    assert shake()[0].control_send != shake()[0].control_send


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_any_changed_byte_of_any_message_fails_closed(data: st.DataObject) -> None:
    which = data.draw(st.sampled_from(["offer", "answer", "proof of listener", "proof of dialler"]))

    def maybe(name: str, message: bytes) -> bytes:
        if name != which:
            return message
        at = data.draw(st.integers(0, len(message) - 1))
        return message[:at] + bytes((message[at] ^ 1 << data.draw(st.integers(0, 7)),)) + message[at + 1 :]

    dialler, listener = Dialler(A, B.peer_id, os.urandom), Listener(B, A.peer_id, os.urandom)
    with pytest.raises(HandshakeFailed):
        answer, proof = listener.offered(maybe("offer", dialler.offer()))
        back, _ = dialler.answered(maybe("answer", answer), maybe("proof of listener", proof))
        listener.proved(maybe("proof of dialler", back))


def test_another_identity_than_the_connection_shows_is_refused() -> None:
    with pytest.raises(HandshakeFailed, match="another peer ID"):
        Listener(B, C.peer_id, os.urandom).offered(Dialler(A, B.peer_id, os.urandom).offer())


def test_an_impostor_without_the_identity_key_is_refused() -> None:
    class Impostor:
        peer_id = A.peer_id

        @staticmethod
        def sign(message: bytes) -> bytes:
            return C.sign(message)

    dialler, listener = Dialler(Impostor(), B.peer_id, os.urandom), Listener(B, A.peer_id, os.urandom)
    answer, proof = listener.offered(dialler.offer())
    back, _ = dialler.answered(answer, proof)
    with pytest.raises(HandshakeFailed, match="signature"):
        listener.proved(back)


def test_a_rekey_without_the_last_chain_fails() -> None:
    dialler = Dialler(A, B.peer_id, os.urandom, chain=b"x" * 32)
    listener = Listener(B, A.peer_id, os.urandom, chain=b"y" * 32)
    answer, proof = listener.offered(dialler.offer())
    with pytest.raises(HandshakeFailed, match="confirmation"):
        dialler.answered(answer, proof)


@pytest.mark.parametrize("low_order", [bytes(32), b"\1" + bytes(31)])
def test_an_all_zero_x25519_result_is_refused(low_order: bytes) -> None:
    offer = Offer.parse_untrusted(Dialler(A, B.peer_id, os.urandom).offer())
    bad = Offer(offer.peer, offer.versions, offer.suites, offer.features, offer.nonce, low_order, offer.mlkem)
    with pytest.raises(HandshakeFailed, match="low order"):
        Listener(B, A.peer_id, os.urandom).offered(bad.emit())


def test_no_common_version_is_said_as_such() -> None:
    offer = Offer.parse_untrusted(Dialler(A, B.peer_id, os.urandom).offer())
    later = Offer(offer.peer, (9,), offer.suites, offer.features, offer.nonce, offer.x25519, offer.mlkem)
    with pytest.raises(HandshakeFailed) as caught:
        Listener(B, A.peer_id, os.urandom).offered(later.emit())
    assert caught.value.code is CloseCode.VERSION


def test_a_suite_that_was_not_offered_is_refused() -> None:
    dialler = Dialler(A, B.peer_id, os.urandom, suites=(1,))
    answer, proof = Listener(B, A.peer_id, os.urandom).offered(dialler.offer())
    suite_at = 4 + 1 + 2 + len(B.peer_id) + 1
    with pytest.raises(HandshakeFailed, match="not offered"):
        dialler.answered(answer[:suite_at] + b"\2" + answer[suite_at + 1 :], proof)
