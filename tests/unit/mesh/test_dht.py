"""The rendezvous' pure parts: what is kept, for how long, and how a lookup finds its way."""

import itertools

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from peertap.mesh.dht import (
    BUCKET,
    CLOCK_S,
    KEEP_S,
    MAX_ASKED,
    MAX_KEPT_PER_KEY,
    MAX_KEPT_PER_SOURCE,
    MAX_SERVER_FAILURES,
    MAX_SERVERS,
    NEAREST,
    Lookup,
    Records,
    Servers,
    distance,
    place,
)
from peertap.types import PeerId
from peertap.wire.rendezvous import MAX_NODES, MAX_RECORDS, Record

UNIX = 1_800_000_000
OWNER = Ed25519PrivateKey.from_private_bytes(b"o" * 32)


def peer(number: int) -> PeerId:
    return PeerId(number.to_bytes(38, "big"))


def node(number: int) -> tuple[PeerId, tuple[str, ...]]:
    return peer(number), (f"/ip4/192.0.2.1/tcp/{number}",)


def record(slot: int, *, time: int = UNIX, owner: Ed25519PrivateKey = OWNER, sealed: bytes = b"sealed") -> Record:
    public = owner.public_key().public_bytes_raw()
    unsigned = Record(public, slot.to_bytes(16, "big"), time, sealed)
    return Record(public, unsigned.slot, time, sealed, owner.sign(unsigned.signed()))


def test_what_is_kept_is_given_to_who_asks_until_it_runs_out() -> None:
    records = Records()
    assert records.put(record(1), "192.0.2.1", 0.0, UNIX)
    assert records.get(record(1).key, KEEP_S - 1) == (record(1),)
    assert records.get(record(1).key, KEEP_S) == ()
    assert len(records) == 0


def test_only_the_owner_of_a_key_writes_under_it() -> None:
    records, stranger = Records(), Ed25519PrivateKey.from_private_bytes(b"x" * 32)
    stuffed = record(1, owner=stranger)
    forged = Record(record(1).owner, stuffed.slot, stuffed.time, stuffed.sealed, stuffed.signature)
    assert not records.put(forged, "192.0.2.1", 0.0, UNIX)
    assert records.put(stuffed, "192.0.2.1", 0.0, UNIX)
    assert stuffed.key != record(1).key


def test_an_older_record_does_not_replace_a_newer_one() -> None:
    records = Records()
    assert records.put(record(1, time=UNIX, sealed=b"new"), "192.0.2.1", 0.0, UNIX)
    assert not records.put(record(1, time=UNIX - 5, sealed=b"old"), "192.0.2.2", 1.0, UNIX)
    assert records.put(record(1, time=UNIX + 5, sealed=b"newest"), "192.0.2.2", 1.0, UNIX)
    assert [one.sealed for one in records.get(record(1).key, 2.0)] == [b"newest"]


def test_a_record_of_another_day_is_refused() -> None:
    records = Records()
    assert not records.put(record(1, time=UNIX - CLOCK_S - 1), "192.0.2.1", 0.0, UNIX)
    assert not records.put(record(1, time=UNIX + CLOCK_S + 1), "192.0.2.1", 0.0, UNIX)


def test_one_key_has_so_many_records_and_one_answer_fewer() -> None:
    records = Records()
    for slot in range(3 * MAX_KEPT_PER_KEY):
        records.put(record(slot), f"192.0.2.{slot}", float(slot), UNIX)
    assert len(records) == MAX_KEPT_PER_KEY
    got = records.get(record(0).key, 100.0)
    assert len(got) == MAX_RECORDS
    assert got[-1] == record(3 * MAX_KEPT_PER_KEY - 1)


def test_one_address_cannot_fill_what_is_there_for_all() -> None:
    records = Records()
    assert records.put(record(1), "192.0.2.1", 0.0, UNIX)
    for number in range(MAX_KEPT_PER_SOURCE + 50):
        own = Ed25519PrivateKey.from_private_bytes(number.to_bytes(32, "big"))
        assert records.put(record(1, owner=own), "198.51.100.1", 1.0, UNIX)
    assert len(records) == MAX_KEPT_PER_SOURCE + 1
    assert records.get(record(1).key, 2.0) == (record(1),)


def test_a_lookup_finds_the_nearest_nodes_of_five_hundred() -> None:
    """Each node knows some of the others, as its own table has them."""
    everybody, known = [node(number) for number in range(1, 501)], {}
    for number in range(1, 501):
        servers = Servers(peer(number))
        for who, (address, *_) in everybody[number:] + everybody[:number]:
            servers.answered(who, address)
        assert len(servers) <= MAX_SERVERS
        known[peer(number)] = servers
    for seed in range(20):
        key = place(peer(10_000 + seed))
        lookup = Lookup(key, [node(seed + 1)])
        while (asked := lookup.next()) is not None:
            lookup.answered(asked[0], known[asked[0]].nearest(key, MAX_NODES), ())
        best = sorted((who for who, _ in everybody), key=lambda who: distance(place(who), key))[:NEAREST]
        found = [who for who, _ in lookup.nearest()]
        assert len(set(found) & set(best)) >= NEAREST - 1, seed


def test_a_lookup_ends_whatever_hostile_nodes_answer() -> None:
    """Each answer names eight nodes that nobody has heard of, all nearer than the last ones."""
    key, numbers = bytes(32), itertools.count(1)
    lookup, asked = Lookup(key, [node(next(numbers))]), 0
    while (one := lookup.next()) is not None:
        asked += 1
        lookup.answered(one[0], [node(next(numbers)) for _ in range(100)], [record(slot) for slot in range(100)])
    assert asked <= MAX_ASKED
    assert len(lookup.records) <= MAX_RECORDS


def test_a_lookup_goes_on_when_nodes_do_not_answer() -> None:
    lookup = Lookup(bytes(32), [node(number) for number in range(1, 13)])
    failed = set()
    while (one := lookup.next()) is not None:
        if len(failed) < 8:
            failed.add(one[0])
            lookup.failed(one[0])
        else:
            lookup.answered(one[0], (), ())
    assert {who for who, _ in lookup.nearest()} == {peer(number) for number in range(1, 13)} - failed


def test_of_two_records_of_a_member_a_lookup_takes_the_later() -> None:
    lookup = Lookup(record(1).key, [node(1), node(2)])
    for who, time in ((1, UNIX + 9), (2, UNIX)):
        lookup.next()
        lookup.answered(peer(who), (), [record(1, time=time)])
    assert [one.time for one in lookup.records.values()] == [UNIX + 9]


def test_a_server_that_fails_is_forgotten_and_only_those_that_answered_are_told_to_others() -> None:
    servers = Servers(peer(1))
    servers.heard(*node(2))
    servers.answered(peer(3), "/ip4/192.0.2.1/tcp/3")
    assert servers.told(bytes(32)) == ("/ip4/192.0.2.1/tcp/3",)
    for _ in range(MAX_SERVER_FAILURES):
        servers.failed(peer(3))
    assert [who for who, _ in servers.nearest(bytes(32))] == [peer(2)]


def test_hearsay_neither_fills_a_bucket_beyond_its_size_nor_changes_what_answered() -> None:
    servers = Servers(peer(0))
    servers.answered(peer(1), "/ip4/192.0.2.1/tcp/1")
    servers.heard(peer(1), ["/ip4/198.51.100.1/tcp/9"])
    assert dict(servers.nearest(bytes(32)))[peer(1)] == ("/ip4/192.0.2.1/tcp/1",)
    for number in range(2, 2000):
        servers.heard(*node(number))
    assert len(servers) <= MAX_SERVERS
    far = [one for one in range(2, 2000) if distance(place(peer(0)), place(peer(one))).bit_length() == 256]
    assert len(far) > BUCKET
    noted = {who for who, _ in servers.nearest(bytes(32), 3000)}
    assert len(noted & {peer(one) for one in far}) <= BUCKET


def test_hearsay_makes_room_for_a_server_that_answers() -> None:
    servers = Servers(peer(0))
    for number in range(1, 2000):
        servers.heard(*node(number))
    full = len(servers)
    far = [one for one in range(2000, 2100) if distance(place(peer(0)), place(peer(one))).bit_length() == 256]
    for number in far[:BUCKET]:
        servers.answered(peer(number), f"/ip4/192.0.2.1/tcp/{number}")
    proven = {who for who, _ in servers.nearest(bytes(32), 3000, proven=True)}
    assert proven == {peer(number) for number in far[:BUCKET]}
    assert len(servers) == full
