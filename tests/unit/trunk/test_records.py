"""Records: found in whatever pieces a stream comes in (SPEC 4.4)."""

import random

import pytest

from peertap.errors import PeerError
from peertap.trunk.records import MAX_RECORD_BYTES, RecordFinder, RecordReceiver, RecordSender
from peertap.wire.control import MAX_CONTROL_BYTES

AES = 1


def test_records_are_the_same_in_pieces_of_any_size() -> None:
    chance = random.Random(1)
    said = [chance.randbytes(chance.choice((0, 1, 40, 3000, MAX_CONTROL_BYTES))) for _ in range(60)]
    sender = RecordSender(b"k" * 32, AES)
    stream = b"".join(sender.seal(one) for one in said)
    for most in (1, 2, 19, 1500, 70_000, len(stream)):
        receiver, finder, heard, at = RecordReceiver(b"k" * 32, AES), RecordFinder(), [], 0
        while at < len(stream) and (most > 2 or at < 50_000):
            size = chance.randint(1, most)
            heard += [receiver.open_untrusted(one) for one in finder.found_untrusted(stream[at : at + size])]
            at += size
        assert heard == said[: len(heard)]
        assert len(heard) == len(said) or most <= 2


def test_a_record_that_is_too_long_is_refused_before_it_is_there() -> None:
    with pytest.raises(PeerError, match=str(MAX_RECORD_BYTES + 1)):
        list(RecordFinder().found_untrusted((MAX_RECORD_BYTES + 1).to_bytes(2, "big")))
    assert list(RecordFinder().found_untrusted(MAX_RECORD_BYTES.to_bytes(2, "big"))) == []


def test_what_waits_for_its_rest_is_no_more_than_a_record() -> None:
    finder = RecordFinder()
    whole = MAX_RECORD_BYTES.to_bytes(2, "big") + bytes(MAX_RECORD_BYTES)
    for _ in range(100):
        list(finder.found_untrusted(whole[:40_000]))
        assert len(list(finder.found_untrusted(whole[40_000:]))) == 1
        assert len(finder._rest) == 0
