"""Over any order of answers, losses and ways that come and go: bounded, never idle in haste, and just to each way."""

import itertools

from hypothesis import given
from hypothesis import strategies as st

from peertap.node.way_probes import MAX_UNDER_WAY, MAX_WAYS, PROBE_GAP_S, WAIT_S, WayProbes
from peertap.types import PeerId

WAYS = tuple(PeerId(bytes((number,))) for number in range(5))
STEPS = st.lists(
    st.tuples(st.floats(0.01, 3.0), st.sets(st.sampled_from(WAYS)), st.booleans(), st.booleans()),
    min_size=5,
    max_size=80,
)


@given(st.lists(st.sampled_from(WAYS), min_size=1, unique=True), st.integers(1, 3), STEPS)
def test_what_is_demoted_brought_nothing_back_while_another_way_did(
    ways: list[PeerId], used: int, steps: list[tuple[float, set[PeerId], bool, bool]]
) -> None:
    probes, now, numbers = WayProbes(0.0), 0.0, itertools.count()
    sent: list[tuple[float, PeerId, int]] = []
    brought: dict[PeerId, float] = {}  # when the last probe that came back was sent
    for gap_s, dead, heard, sends in steps:
        end = now + gap_s
        probes.ways_are(ways[:used], ways[used:])
        if sends:
            probes.traffic(now, heard=heard)
        for _ in range(1000):
            before = set(probes.demoted)
            for way, number in probes.tick(now, lambda: next(numbers)):
                assert way in ways
                sent.append((now, way, number))
                if way not in dead:
                    assert probes.answered(number, now)
                    brought[way] = now
            for way in probes.demoted - before:
                since = now - 4 * PROBE_GAP_S - WAIT_S
                assert brought.get(way, -1.0) < since + PROBE_GAP_S
                assert any(at > since - 0.001 for one, at in brought.items() if one != way)
            due = probes.next_deadline(now)
            if due > end:
                break
            now = max(now, due)
        else:
            raise AssertionError("it is never at rest")
        now = end
        assert len(probes._ways) <= MAX_WAYS and len(probes._under_way) <= MAX_UNDER_WAY
