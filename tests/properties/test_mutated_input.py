"""Valid input, changed at random: nothing raises but the error that is meant, and nothing grows.

1,000,000 of each with PEERTAP_FULL=1 (make test-full), fewer in the suite. Packets are changed likewise in
rust/dataplane/tests/hostile.rs.
"""

import os
import random
import tracemalloc
from pathlib import Path

from peertap.config.load import parse_config
from peertap.errors import ConfigError, DecodeError, PeerError
from peertap.trunk.records import RecordReceiver, RecordSender
from peertap.types import Token, VTag, peer_id_of
from peertap.wire import control, rendezvous
from peertap.wire.relay import Change, Outcome, RelayResult, RelayUpdate, Verdict
from peertap.wire.routes import Origin, SignedJoin, SignedRoute

FULL = bool(os.environ.get("PEERTAP_FULL"))
MAX_GROWTH_BYTES = 2 << 20
RELAY = peer_id_of(b"k" * 32)
ORIGIN = Origin(128, 1_700_000_000_000, b"r" * 9)
ROUTE = SignedRoute(b"p" * 32, 1, Token(b"t" * 16), ORIGIN, 7, 1_800_000_000, b"s" * 64)
SEEDS = [
    control.emit(message)
    for message in (
        control.Ping(1), control.Close(3, "why"), control.Rekey(control.RekeyStep.OFFER, b"m" * 50, b"p" * 112),
        control.Indexes(1, 2, 3), control.Endpoints(((b"a" * 16, 4511),), ("/ip4/192.0.2.1/tcp/4511",)),
        control.Routes(1, (control.Advert(ROUTE, 16, 1452),) * 3), control.RoutesAck(1),
        control.SequenceRequest(VTag(b"v" * 16), Token(b"t" * 16), ORIGIN, 8, 32),
        control.Join(SignedJoin(b"p" * 32, ORIGIN, Token(b"t" * 16), 1_800_000_000, b"s" * 64)),
        control.Bind(1, VTag(b"v" * 16), Token(b"t" * 16), ORIGIN), control.Policy(True, False),
        control.Serving(("/ip4/192.0.2.1/tcp/4511",) * 3),
        RelayUpdate(RELAY, RELAY, 7, (Change(Verdict.ALLOW, "3f2a*"), Change(Verdict.DENY, "*", 9)), b"s" * 64),
        RelayResult(7, Outcome.OLD, 8),
    )
]  # fmt: skip
RECORD = rendezvous.Record(b"o" * 32, b"s" * 16, 1_800_000_000, b"sealed" * 100, b"s" * 64)
RENDEZVOUS = [
    (rendezvous.Question.parse_untrusted, rendezvous.Question(rendezvous.Kind.FIND, b"k" * 32, ("/ip4/a",)).emit()),
    (rendezvous.Question.parse_untrusted, rendezvous.Question(rendezvous.Kind.PUT, RECORD.key, (), RECORD).emit()),
    (rendezvous.Reply.parse_untrusted, rendezvous.Reply(True, ("/ip4/192.0.2.1/tcp/1",) * 3, (RECORD,) * 2).emit()),
]
CONFIGURATIONS = [
    path.read_bytes()
    for path in sorted((Path(__file__).parents[2] / "configs").iterdir())
    if path.name in ("minimal.yaml", "pair-b.yaml", "relay.json")
]


def changed(data: bytes, chance: random.Random) -> bytes:
    """A few bytes flipped, taken out, doubled or put in."""
    out = bytearray(data)
    for _ in range(chance.randint(1, 4)):
        at = chance.randrange(len(out) + 1)
        match chance.randrange(4):
            case 0 if at < len(out):
                out[at] ^= 1 << chance.randrange(8)
            case 1:
                del out[at : at + chance.randint(1, 20)]
            case 2:
                out[at:at] = out[at : at + chance.randint(1, 20)]
            case _:
                out[at:at] = chance.randbytes(chance.randint(1, 8))
    return bytes(out)


def test_changed_control_messages_raise_nothing_but_decode_error_and_leave_nothing() -> None:
    chance, refused, count = random.Random(1), 0, 1_000_000 if FULL else 20_000
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    for number in range(count):
        try:
            control.parse_untrusted(changed(SEEDS[number % len(SEEDS)], chance))
        except DecodeError:
            refused += 1
    grown = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    assert refused > count // 4
    assert grown < MAX_GROWTH_BYTES


def test_changed_questions_and_replies_raise_nothing_but_decode_error() -> None:
    chance, refused, count = random.Random(4), 0, 1_000_000 if FULL else 20_000
    for number in range(count):
        parse, seed = RENDEZVOUS[number % len(RENDEZVOUS)]
        try:
            parse(changed(seed, chance))
        except DecodeError:
            refused += 1
    assert refused > count // 4


def test_a_changed_record_never_opens() -> None:
    chance, count = random.Random(2), 1_000_000 if FULL else 20_000
    record = RecordSender(b"k" * 32, 1).seal(SEEDS[5])
    receiver = RecordReceiver(b"k" * 32, 1)
    for _ in range(count):
        bad = changed(record[2:], chance)
        try:
            receiver.open_untrusted(bad)
        except PeerError:
            continue
        assert bad == record[2:]
        receiver.opened = 0
    assert receiver.open_untrusted(record[2:]) == SEEDS[5]


def test_changed_configurations_raise_nothing_but_config_error_with_a_place() -> None:
    chance, refused, count = random.Random(3), 0, 1_000_000 if FULL else 2_000
    for number in range(count):
        text = changed(CONFIGURATIONS[number % len(CONFIGURATIONS)], chance).decode("utf-8", errors="replace")
        try:
            parse_config(text, environ={})
        except ConfigError as error:
            refused += 1
            assert str(error)
    assert refused > count // 10
