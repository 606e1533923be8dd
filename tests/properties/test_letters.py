"""Letters come back as they were; changed bytes raise nothing but DecodeError, and make nothing beyond its bounds."""

from __future__ import annotations

from random import Random

from hypothesis import given
from hypothesis import strategies as st

from peertap.errors import DecodeError
from peertap.vlan import letters
from peertap.vlan.commits import Step
from peertap.vlan.group_actions import (
    AskAdmins,
    Dismiss,
    Give,
    GiveInfo,
    Move,
    Remind,
    Show,
    Tell,
    ToAll,
)
from peertap.vlan.letters import Answer, Join, Letter, Secrets, Verdict, WelcomeIn
from peertap.vlan.secrets import VlanSecrets
from tests.properties.test_charter import admissions, keys, removals, roles, u64

ME = b"m" * 32
data = st.binary(max_size=200)
signature = st.binary(min_size=64, max_size=64)
name = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=32)
few_steps = st.lists(
    st.builds(
        Step,
        epoch=u64,
        transcript_hash=st.binary(max_size=64),
        rank=st.none() | st.integers(0, 63),
        motions=st.lists(removals | admissions | roles, max_size=4).map(tuple),
    ),
    max_size=3,
).map(tuple)
secrets = st.builds(
    VlanSecrets,
    number=u64,
    routing=keys,
    grant=keys,
    expiry=u64,
    creator_signature=signature,
    admin=keys,
    signature=signature,
)
nonce = st.binary(min_size=16, max_size=16)
some: st.SearchStrategy[Letter] = st.one_of(
    st.builds(ToAll, data),
    st.builds(Give, st.just(ME), st.lists(data, max_size=3).map(tuple)),
    st.builds(Tell, st.just(ME), u64, st.binary(max_size=64)),
    st.builds(Show, st.just(ME), few_steps, signature),
    st.builds(AskAdmins, few_steps, nonce),
    st.builds(GiveInfo, st.just(ME), data, few_steps, signature),
    st.builds(Remind, st.just(ME), data),
    st.builds(Dismiss, st.just(ME), removals),
    st.builds(Move, removals | admissions | roles),
    st.builds(Secrets, secrets),
    st.builds(Join, nonce, name, st.binary(min_size=48, max_size=48), data),
    st.builds(WelcomeIn, data, secrets),
    st.builds(Answer, st.sampled_from(Verdict), name),
)


@given(some)
def test_a_letter_comes_back_as_it_was(letter: Letter) -> None:
    assert letters.parse_untrusted(letters.emit(letter), ME) == letter


@given(some, st.randoms(use_true_random=False))
def test_a_changed_letter_is_another_one_or_none(letter: Letter, chance: Random) -> None:
    changed = bytearray(letters.emit(letter))
    changed[chance.randrange(len(changed))] ^= 1 << chance.randrange(8)
    del changed[chance.randrange(1, len(changed) + 1) :]
    try:
        found = letters.parse_untrusted(bytes(changed), ME)
    except DecodeError:
        return
    assert letters.parse_untrusted(letters.emit(found), ME) == found
