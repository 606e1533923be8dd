"""Which unknown key is asked for (SPEC 5.1)."""

import itertools
import random

from peertap.vlan.unknown_keys import KEY_GAP_MOST_S, MAX_UNKNOWN, UnknownKeys

CHANCE = random.Random(5)


def test_a_flood_of_junk_kids_within_an_instant_takes_no_more_than_the_bound() -> None:
    keys = UnknownKeys()
    for _ in range(10_000):
        keys.seen(CHANCE.randbytes(4), 1.0)
    assert len(keys._kids) <= MAX_UNKNOWN


def test_one_kid_that_nobody_answers_is_asked_for_ever_more_rarely() -> None:
    keys = UnknownKeys()
    asked = [step / 10 for step in range(20_000) if keys.seen(b"gone", step / 10)]
    gaps = [round(late - early, 1) for early, late in itertools.pairwise(asked)]
    assert gaps[:5] == [2.0, 4.0, 8.0, 16.0, 32.0]
    assert max(gaps) <= KEY_GAP_MOST_S + 0.2


def test_after_somebody_became_known_a_kid_is_asked_for_at_once() -> None:
    keys = UnknownKeys()
    assert keys.seen(b"gone", 0.0) == b"gone"
    assert keys.seen(b"gone", 1.0) is None
    keys.clear()
    assert keys.seen(b"gone", 1.1) == b"gone"
