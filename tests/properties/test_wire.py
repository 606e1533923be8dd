"""parse(emit(x)) == x for every message, and untrusted bytes raise nothing but DecodeError."""

import os
from ipaddress import IPv4Address, IPv6Address

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from peertap.errors import DecodeError
from peertap.types import MlsId, Sid, Token, VlanId, VTag, peer_id_of
from peertap.wire import control, echo, handshake, introduction, path, rendezvous
from peertap.wire.codec import packed_ip, unpacked_ip
from peertap.wire.content import Content, Reassembler, plaintext, split, unpad_untrusted
from peertap.wire.routes import Origin, SignedJoin, SignedRoute, SignedSubscription

EXAMPLES = 20_000 if os.environ.get("PEERTAP_FULL") else 300  # a million of another kind: test_mutated_input.py


def exactly(size: int) -> st.SearchStrategy[bytes]:
    return st.binary(min_size=size, max_size=size)


def uint(size: int) -> st.SearchStrategy[int]:
    return st.integers(0, 256**size - 1)


ids = exactly(16)
origins = st.builds(Origin, uint(1), uint(6), exactly(9))
routes = st.builds(SignedRoute, exactly(32), uint(1), ids.map(Token), origins, uint(4), uint(6), exactly(64))
joins = st.builds(SignedJoin, exactly(32), origins, ids.map(Token), uint(8), exactly(64))
subscriptions = st.builds(SignedSubscription, exactly(32), origins, ids.map(Token), uint(8), exactly(64))
adverts = st.builds(control.Advert, routes, uint(2), uint(2))
texts = st.text(max_size=40)
vtags, tokens = ids.map(VTag), ids.map(Token)

messages = st.one_of(
    st.builds(control.Ping, uint(8)),
    st.builds(control.Pong, uint(8)),
    st.builds(control.Close, uint(1), texts),
    st.builds(control.Rekey, st.sampled_from(control.RekeyStep), st.binary(max_size=200), st.binary(max_size=200)),
    st.builds(control.Indexes, uint(4), uint(4), uint(4)),
    st.builds(
        control.Endpoints,
        st.lists(st.tuples(exactly(16), uint(2)), max_size=control.MAX_ENDPOINTS).map(tuple),
        st.lists(texts, max_size=control.MAX_ADDRESSES).map(tuple),
    ),
    st.builds(control.Routes, uint(4), st.lists(adverts, max_size=4).map(tuple)),
    st.builds(control.RoutesAck, uint(4)),
    st.builds(control.SequenceRequest, vtags, tokens, origins, uint(4), uint(1)),
    st.builds(control.Join, joins),
    st.builds(control.Joined, vtags, origins, tokens),
    st.builds(control.Leave, vtags, origins, tokens),
    st.builds(control.Bind, uint(4), vtags, tokens, st.none() | origins.filter(lambda one: one.emit() != bytes(16))),
    st.builds(control.Bound, uint(4)),
    st.builds(control.Subscribe, subscriptions),
    st.builds(control.Unsubscribe, vtags, origins, tokens),
    st.builds(control.Unbind, uint(4)),
    st.builds(control.Policy, st.booleans(), st.booleans()),
    st.builds(path.PathAsk, uint(8), vtags, tokens, st.integers(1, path.MAX_PATH_HOPS)),
    st.builds(
        path.PathAnswer, uint(8), st.integers(1, path.MAX_PATH_HOPS), st.integers(0, path.PathAnswer.LOST),
        st.sampled_from(path.Means), st.sampled_from(path.Bears), uint(4), st.just(b"") | exactly(38),
        st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=path.MAX_WHY_BYTES),
    ),
    st.builds(control.Serving, st.lists(texts, max_size=control.MAX_SERVING).map(tuple)),
    st.builds(
        control.Grant,
        st.lists(st.binary(max_size=64), min_size=1, max_size=16).map(tuple),
        uint(1), exactly(32), exactly(32), uint(8), exactly(64), exactly(32), exactly(64), exactly(64),
    ),
)  # fmt: skip

members = exactly(32).map(peer_id_of)
hellos = st.builds(
    introduction.Hello,
    ids.map(VlanId), ids.map(MlsId), members, uint(4), ids.map(Sid), uint(8), exactly(32),
    exactly(introduction.PREKEY_BYTES), st.integers(0, introduction.MAX_GENERATION),
    st.integers(0, introduction.MAX_COUNTER), ids, ids.map(Sid), ids, exactly(4), exactly(64),
)  # fmt: skip
introductions = st.one_of(
    hellos,
    st.builds(introduction.Setup, ids.map(Sid), uint(4), st.binary(max_size=introduction.MAX_SETUP_BYTES)),
    st.builds(introduction.Confirm, ids.map(Sid), uint(4), ids),
)

offers = st.builds(
    handshake.Offer,
    st.binary(max_size=64),
    st.lists(uint(1), min_size=1, max_size=handshake.MAX_CHOICES).map(tuple),
    st.lists(uint(1), min_size=1, max_size=handshake.MAX_CHOICES).map(tuple),
    uint(8), exactly(32), exactly(32), exactly(1568),
)  # fmt: skip
answers = st.builds(
    handshake.Answer, st.binary(max_size=64), uint(1), uint(1), uint(8), exactly(32), exactly(32), exactly(1568)
)
proofs = st.builds(handshake.Proof, exactly(64), exactly(48))


@given(messages)
def test_control_message_emitted_and_parsed_is_itself(message: control.Message) -> None:
    assert control.parse_untrusted(control.emit(message)) == message


@given(introductions)
def test_introduction_emitted_and_parsed_is_itself(message: introduction.Introduction) -> None:
    assert introduction.parse_untrusted(message.emit()) == message


@given(offers | answers | proofs)
def test_handshake_message_emitted_and_parsed_is_itself(
    message: handshake.Offer | handshake.Answer | handshake.Proof,
) -> None:
    assert type(message).parse_untrusted(message.emit()) == message


@given(messages, st.data())
def test_control_message_with_a_byte_missing_or_too_many_is_refused(
    message: control.Message, data: st.DataObject
) -> None:
    emitted = control.emit(message)
    cut = data.draw(st.integers(0, len(emitted) - 1))
    with pytest.raises(DecodeError):
        control.parse_untrusted(emitted[:cut])
    with pytest.raises(DecodeError):
        control.parse_untrusted(emitted + b"\0")


@settings(max_examples=EXAMPLES)
@given(st.binary(max_size=400) | st.builds(lambda code, body: bytes((code,)) + body, uint(1), st.binary(max_size=400)))
def test_random_bytes_raise_nothing_but_decode_error(data: bytes) -> None:
    for parse in (
        control.parse_untrusted,
        introduction.parse_untrusted,
        handshake.Offer.parse_untrusted,
        handshake.Answer.parse_untrusted,
        handshake.Proof.parse_untrusted,
        handshake.Refusal.parse_untrusted,
        unpad_untrusted,
        echo.parse_untrusted,
        rendezvous.Question.parse_untrusted,
        rendezvous.Reply.parse_untrusted,
        rendezvous.Record.parse_untrusted,
    ):
        try:
            parse(data)  # type: ignore[operator]
        except DecodeError:
            pass


@given(st.binary(min_size=1, max_size=20_000), st.integers(400, 1400), st.randoms())
def test_fragments_in_any_order_give_the_message_back(message: bytes, most: int, random: object) -> None:
    parts = list(split(Content.CONTROL, message, 7, most))
    assert all(len(part) <= most for part in parts)
    random.shuffle(parts)  # type: ignore[attr-defined]
    reassembler: Reassembler[int] = Reassembler()
    if len(parts) == 1:
        assert parts[0] == plaintext(Content.CONTROL, message)
        return
    results = [reassembler.add_untrusted(1, unpad_untrusted(part)[1], 0.0) for part in parts]
    assert results[-1] == message
    assert results[:-1] == [None] * (len(parts) - 1)


@given(st.lists(st.binary(max_size=60), max_size=200))
def test_garbage_fragments_neither_raise_nor_grow(parts: list[bytes]) -> None:
    reassembler: Reassembler[int] = Reassembler()
    for number, part in enumerate(parts):
        try:
            reassembler.add_untrusted(number % 3, part, number * 0.001)
        except DecodeError:
            pass
    assert len(reassembler) <= 24


records = st.builds(
    rendezvous.Record, exactly(32), ids, uint(8), st.binary(max_size=rendezvous.MAX_SEALED_BYTES), exactly(64)
)
places = st.lists(st.text(max_size=60), max_size=rendezvous.MAX_NODES).map(tuple)


@given(records, exactly(32), places)
def test_a_question_emitted_and_parsed_is_itself(
    record: rendezvous.Record, key: bytes, serves: tuple[str, ...]
) -> None:
    find = rendezvous.Question(rendezvous.Kind.FIND, key, serves)
    put = rendezvous.Question(rendezvous.Kind.PUT, record.key, serves, record)
    for question in (find, put):
        assert rendezvous.Question.parse_untrusted(question.emit()) == question


@given(st.booleans(), places, st.lists(records, max_size=rendezvous.MAX_RECORDS).map(tuple))
def test_a_reply_emitted_and_parsed_is_itself(
    kept: bool, nodes: tuple[str, ...], found: tuple[rendezvous.Record, ...]
) -> None:
    reply = rendezvous.Reply(kept, nodes, found)
    assert len(reply.emit()) <= rendezvous.MAX_MESSAGE_BYTES
    assert rendezvous.Reply.parse_untrusted(reply.emit()) == reply


def test_a_question_whose_record_is_of_another_key_is_refused() -> None:
    record = rendezvous.Record(b"o" * 32, b"s" * 16, 1, b"", b"g" * 64)
    with pytest.raises(DecodeError):
        rendezvous.Question.parse_untrusted(rendezvous.Question(rendezvous.Kind.PUT, b"k" * 32, (), record).emit())


@given(st.ip_addresses())
def test_an_ip_address_survives_its_sixteen_bytes(address: IPv4Address | IPv6Address) -> None:
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    assert len(packed_ip(str(address))) == 16
    assert unpacked_ip(packed_ip(str(address))) == (mapped or address)


@given(st.booleans(), st.integers(0, 2**64 - 1), st.booleans())
def test_an_echo_survives(reply: bool, number: int, of_way: bool) -> None:
    one = echo.Echo(reply, number, of_way)
    assert echo.parse_untrusted(one.emit()) == one
    assert len(one.emit()) == echo.ECHO_BYTES
