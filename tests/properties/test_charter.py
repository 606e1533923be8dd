"""A charter comes back as it was, in one form only; changed bytes raise nothing but DecodeError."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peertap.errors import DecodeError
from peertap.wire.charter import Charter, SpentInvite
from peertap.wire.motion import MAX_ADMINS, Admission, Removal, Roles

keys = st.binary(min_size=32, max_size=32)
u64 = st.integers(0, 2**64 - 1)
numbers = st.integers(0, 2**62)
signatures = st.dictionaries(keys, st.binary(min_size=64, max_size=64), max_size=3).map(
    lambda found: tuple(sorted(found.items()))
)
removals = st.builds(Removal, keys, keys, numbers, signatures)
admissions = st.builds(Admission, keys, keys, numbers, signatures)
roles = st.builds(
    Roles,
    number=numbers,
    admins=st.lists(keys, max_size=3, unique=True).map(tuple),
    bridges=st.frozensets(keys, max_size=3),
    signatures=signatures,
)
spent = st.builds(SpentInvite, st.binary(min_size=16, max_size=16), st.integers(0, 65535), u64)
plain_charters = st.builds(
    Charter,
    label=st.from_regex(r"[a-z0-9][a-z0-9-]{0,31}", fullmatch=True),
    name_nonce=st.binary(min_size=16, max_size=16),
    creators=st.lists(keys, min_size=1, max_size=3, unique=True).map(lambda found: tuple(sorted(found))),
    threshold=st.just(1),
    aead=st.integers(0, 255),
    lobby=keys,
    admins=st.lists(keys, min_size=1, max_size=4, unique=True).map(tuple),
    bridges=st.frozensets(keys, max_size=3),
    removals=st.lists(removals, max_size=3, unique_by=lambda one: one.identity).map(tuple),
    spent=st.lists(spent, max_size=3, unique_by=lambda one: one.id).map(lambda found: tuple(sorted(found))),
)
charters = plain_charters | st.builds(
    lambda charter, more, admissions, roles: replace(
        charter, creators=tuple(sorted({*charter.creators, more})), threshold=2, admissions=admissions, roles=roles
    ),
    plain_charters,
    keys,
    st.lists(admissions, max_size=3, unique_by=lambda one: one.identity).map(tuple),
    st.none() | roles,
).filter(lambda charter: len(charter.creators) > 1)
PLAIN = Charter("lab", bytes(16), (b"c" * 32,), 1, 1, bytes(32), (b"a" * 32,))


@given(charters)
def test_a_charter_comes_back_as_it_was(charter: Charter) -> None:
    assert Charter.parse_untrusted(charter.emit()) == charter


@given(charters, st.integers(0, 2**32))
def test_changed_bytes_are_refused_or_another_charter_in_its_one_form(charter: Charter, seed: int) -> None:
    chance, data = random.Random(seed), bytearray(charter.emit())
    data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
    changed = bytes(data[: chance.randrange(len(data) + 1)] if chance.random() < 0.3 else data)
    try:
        assert Charter.parse_untrusted(changed).emit() == changed
    except DecodeError:
        pass


@pytest.mark.parametrize(
    ("charter", "why"),
    [
        (replace(PLAIN, admins=()), "no admin"),
        (replace(PLAIN, admins=(b"a" * 32, b"a" * 32)), "twice"),
        (replace(PLAIN, threshold=2), "2 of 1 creators"),
        (replace(PLAIN, threshold=0), "0 of 1 creators"),
        (replace(PLAIN, creators=(b"c" * 32, b"c" * 32)), "twice"),
        (replace(PLAIN, removals=(Removal(b"r" * 32, b"k" * 32, 1, ((b"a" * 32, bytes(64)),)),) * 2), "twice"),
        (replace(PLAIN, admissions=(Admission(b"r" * 32, b"k" * 32),)), "one admin is enough"),
        (replace(PLAIN, roles=Roles(1, (), frozenset())), "one admin is enough"),
        (replace(PLAIN, changes=1), "one admin is enough"),
        (replace(PLAIN, changes=2**63), "not credible"),
        (replace(PLAIN, spent=(SpentInvite(bytes(16), 1, 1), SpentInvite(bytes(16), 2, 1))), "twice"),
    ],
)
def test_a_charter_that_makes_no_sense_is_refused(charter: Charter, why: str) -> None:
    with pytest.raises(DecodeError, match=why):
        Charter.parse_untrusted(charter.emit())


def test_more_than_the_bound_is_neither_written_nor_read() -> None:
    many = tuple(number.to_bytes(32, "big") for number in range(MAX_ADMINS + 1))
    with pytest.raises(DecodeError, match="65 admins"):
        replace(PLAIN, admins=many).emit()
    with pytest.raises(DecodeError, match="33 bytes"):
        replace(PLAIN, label="x" * 33).emit()
    data = bytearray(PLAIN.emit())
    at = data.index(b"a" * 32) - 2
    data[at : at + 2] = b"\xff\xff"
    with pytest.raises(DecodeError, match="65535 admins"):
        Charter.parse_untrusted(bytes(data))
