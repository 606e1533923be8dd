"""The table of hosts under anything that members may say: its invariants hold, and members that hear the same agree."""

from collections.abc import Callable

from hypothesis import given, settings
from hypothesis import strategies as st

from peertap.errors import DecodeError
from peertap.types import Mac, PeerId
from peertap.vlan.hosts import MOVES, HostTable, Outcome
from peertap.wire import macs
from peertap.wire.macs import Add, Ask, Host, Hosts, Placed, Withdraw

MEMBERS = [PeerId(bytes((n,)) * 38) for n in range(4)]
HOSTS = [Host(Mac(bytes((6, 0, 0, 0, 0, n)))) for n in range(3)] + [Host(Mac(bytes(5) + b"\x02"), 5)]
VIRTUAL = Mac(bytes((2, 0, 0, 0, 0, 9)))

_mac = st.binary(min_size=6, max_size=6).map(lambda raw: Mac(bytes((raw[0] & 0xFE | 2,)) + raw[1:]))
_host = st.builds(Host, _mac, st.none() | st.integers(1, 4094))
_placed = st.builds(Placed, _host, st.integers(0, 2**32 - 1))
_message = st.one_of(
    st.builds(Add, st.integers(0, 2**32 - 1), st.lists(_placed, max_size=90).map(tuple)),
    st.builds(Withdraw, st.integers(0, 2**32 - 1), st.lists(_placed, max_size=90).map(tuple)),
    st.builds(Hosts, st.integers(0, 2**32 - 1), st.lists(_placed, max_size=90).map(tuple)),
    st.just(Ask()),
)


@given(_message)
def test_what_is_told_is_what_is_read(message: macs.Message) -> None:
    assert macs.parse_untrusted(message.emit()) == message


@given(st.binary(max_size=60).flatmap(lambda tail: st.integers(14, 21).map(lambda kind: bytes((kind,)) + tail)))
def test_any_bytes_are_a_message_another_kind_or_a_decode_error(data: bytes) -> None:
    try:
        message = macs.parse_untrusted(data)
    except DecodeError:
        return
    assert (message is None) == (not 16 <= data[0] <= 19)
    assert message is None or message.emit() == data


_step = st.tuples(
    st.sampled_from(["seen", "gone", "told", "withdrawn", "listed", "left", "thaw", "only"]),
    st.sampled_from(MEMBERS[1:]),
    st.lists(st.tuples(st.sampled_from([*HOSTS, Host(VIRTUAL)]), st.integers(0, 6)), min_size=1, max_size=3),
    st.floats(0, 60),
)


def _do(table: HostTable, step: tuple[str, PeerId, list[tuple[Host, int]], float], now: float) -> Outcome:
    what, member, hosts, _ = step
    placed = [Placed(host, moves) for host, moves in hosts]
    doing: dict[str, Callable[[], Outcome]] = {
        "seen": lambda: table.seen(hosts[0][0] if hosts[0][0].mac != VIRTUAL else HOSTS[0], now),
        "gone": lambda: table.gone(hosts[0][0], now),
        "told": lambda: table.told(member, placed, now),
        "withdrawn": lambda: table.withdrawn(member, [host for host, _ in hosts], now),
        "listed": lambda: table.listed(member, placed, now),
        "left": lambda: table.left(member, now),
        "thaw": lambda: table.thaw(now),
        "only": lambda: table.only([host for host, _ in hosts if host.mac != VIRTUAL], now),
    }
    return doing[what]()


@settings(max_examples=300, deadline=None)
@given(st.lists(_step, max_size=60))
def test_whatever_happens_the_table_and_what_it_says_of_it_stay_true(
    steps: list[tuple[str, PeerId, list[tuple[Host, int]], float]],
) -> None:
    me, now = MEMBERS[0], 0.0
    table = HostTable(me, lambda mac: mac == VIRTUAL)
    places: dict[Host, PeerId] = {}  # as the data plane was told
    told: dict[Host, int] = {}  # as the others were
    for step in steps:
        now += step[3]
        out = _do(table, step, now)
        for host, place in out.placed.items():
            if place is None:
                places.pop(host)
            else:
                places[host] = place
        for one in out.add:
            told[one.host] = one.moves
        for one in out.withdraw:
            told.pop(one.host, None)
        assert places == {host: place for host, place, _ in table.all()}
        assert told == {one.host: one.moves for one in table.own()}
        assert all(host.mac != VIRTUAL for host in places)
        assert all(table.where(one.host) == me for one in table.own())
        for host, frozen in table.frozen().items():
            assert table.where(host) in (None, frozen.at)
        assert len(out.frozen) == 0 or any(name in step[0] for name in ("seen", "told", "listed", "only"))


@settings(max_examples=200, deadline=None)
@given(st.dictionaries(st.sampled_from(MEMBERS[1:]), st.integers(0, 6), max_size=MOVES - 1), st.data())
def test_two_members_that_hear_the_same_claims_in_another_order_agree(
    latest: dict[PeerId, int], data: st.DataObject
) -> None:
    tables = [HostTable(MEMBERS[0], lambda _: False), HostTable(PeerId(b"z" * 38), lambda _: False)]
    for table in tables:
        for member, moves in data.draw(st.permutations(sorted(latest.items()))):
            table.told(member, [Placed(HOSTS[0], moves)], 0.0)
    assert tables[0].where(HOSTS[0]) == tables[1].where(HOSTS[0])
