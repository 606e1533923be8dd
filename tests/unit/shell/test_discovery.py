"""What discovery makes of its sources: the cache on disk, the LAN, neighbours that tell who serves."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from ipaddress import ip_interface, ip_network
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import structlog

from peertap._core import StaticSecret
from peertap.config.model import Config
from peertap.mesh.book import PeerBook, Source
from peertap.mesh.remembered import Memory
from peertap.shell.discovery import Discovery
from peertap.shell.host import Connection
from peertap.shell.interfaces import LocalAddress
from peertap.shell.lan import Heard
from peertap.shell.store import CACHE_FILE, Store
from peertap.types import PeerId, TrunkId
from peertap.vlan.circles import Circle
from peertap.vlan.membership import StaticMembership
from peertap.wire.control import Serving
from tests.support.identities import identity

ME, A, B = identity("me"), identity("a"), identity("b")
TODAY = int(time.time()) // 86_400
SALT = b"s" * 16
HERE = LocalAddress("up0", ip_interface("10.87.0.1/24"), True)


class StubDialler:
    """The real book, and no dials."""

    def __init__(self) -> None:
        self.book = PeerBook(ME.peer_id, lambda: 0.5)

    def learn(self, source: Source, peer: PeerId, addresses: Any) -> None:
        self.book.learn(source, peer, tuple(addresses), 0.0)


class StubPlace:
    """A node in one static VLAN, with neighbours as a test wants them."""

    def __init__(self) -> None:
        self.config = Config.model_validate({"relay": {"mode": "open"}})
        self.source = StaticMembership("lab", StaticSecret(b"k" * 32))
        vlan = SimpleNamespace(source=self.source, is_inside=True, names=[])
        self.node: Any = SimpleNamespace(vlans={1: vlan}, trunks={}, overlay=[ip_network("10.99.0.0/16")])
        self.dialler: Any = StubDialler()
        self.whereabouts: Any = SimpleNamespace(texts=(), underlay=[HERE])
        self.links: dict[TrunkId, Connection] = {}

    def dial_addresses(self) -> list[str]:
        return []

    def neighbours(self) -> Iterator[tuple[TrunkId, Connection]]:
        return iter(self.links.items())


@pytest.fixture
def place() -> StubPlace:
    return StubPlace()


@pytest.fixture
def logged() -> list[dict[str, Any]]:
    return []


@pytest.fixture
def discovery(place: StubPlace, tmp_path: Path, logged: list[dict[str, Any]]) -> Discovery:
    def note(_logger: object, level: str, entry: Any) -> Any:
        logged.append({"level": level, **entry})
        raise structlog.DropEvent

    log = structlog.wrap_logger(logging.getLogger("test"), processors=[note])
    store = Store(tmp_path / "state")
    store.prepare()
    made = Discovery(place, SimpleNamespace(), ME, store, log)  # type: ignore[arg-type]
    made._lan = SimpleNamespace(underlay=[HERE])  # type: ignore[assignment]
    return made


def address(who: Any, host: str = "10.87.0.2") -> str:
    return f"/ip4/{host}/tcp/4511/p2p/{who.text}"


def test_a_member_on_the_lan_is_found_and_a_stranger_is_not(place: StubPlace, discovery: Discovery) -> None:
    ours, theirs = (Circle(circle, TODAY) for circle in (place.source.keys.circle, b"other circle".ljust(32)))
    slots = (theirs.lan_slot(SALT, B, 4511, ("10.87.0.3",)), ours.lan_slot(SALT, A, 4511, ("10.87.0.2", "192.0.2.1")))
    discovery._heard(Heard(SALT, slots, "", 4511, ("10.87.0.2",)))
    assert place.dialler.book.addresses(A.peer_id) == (address(A),), "what is not of this LAN is not dialled"
    assert place.dialler.book.addresses(B.peer_id) == ()


def test_an_announcement_carried_to_another_lan_leads_nowhere(place: StubPlace, discovery: Discovery) -> None:
    """Whoever repeats it elsewhere would see who is a member by who dials."""
    slot = Circle(place.source.keys.circle, TODAY).lan_slot(SALT, A, 4511, ("192.168.1.7",))
    discovery._heard(Heard(SALT, (slot,), "", 4511, ("10.87.0.66",)))
    assert len(place.dialler.book) == 0


def test_a_stranger_that_relays_is_known_as_one_and_dialled_only_without_trunks(
    place: StubPlace, discovery: Discovery
) -> None:
    discovery._heard(Heard(SALT, (), B.text, 4511, ("10.87.0.3", "192.0.2.1")))
    book = place.dialler.book
    assert book.addresses(B.peer_id) == (address(B, "10.87.0.3"),)
    book.reached(A.peer_id, None, 1.0)
    assert book.wanted(1.0) == []
    book.lost(A.peer_id, 2.0)
    assert [one.peer for one in book.wanted(2.0)] == [B.peer_id]


def test_nothing_of_an_announcement_that_makes_no_sense_is_raised(
    discovery: Discovery, logged: list[dict[str, Any]]
) -> None:
    discovery._heard(Heard(SALT, (b"x",), "no peer ID", 0, ("nowhere",)))
    discovery._heard(Heard(b"", (b"",), "", 0, ()))
    assert not [one for one in logged if one["level"] == "error"]


def test_no_trunk_is_sought_over_the_overlay_itself(place: StubPlace, discovery: Discovery) -> None:
    vlan = place.node.vlans[1]
    discovery._learn(Source.RENDEZVOUS, vlan, A.peer_id, [address(A, "10.99.1.2"), address(A, "192.0.2.2")])
    assert place.dialler.book.addresses(A.peer_id) == (address(A, "192.0.2.2"),)


def test_a_members_record_may_name_a_relay(place: StubPlace, discovery: Discovery) -> None:
    discovery._learn(Source.RENDEZVOUS, place.node.vlans[1], A.peer_id, [address(A), address(B)])
    assert place.dialler.book.addresses(B.peer_id) == (address(B),)


def test_neighbours_are_remembered_where_they_really_are(
    place: StubPlace, discovery: Discovery, tmp_path: Path
) -> None:
    """Who came to us may say what it likes: only the address that it came from is believed."""
    place.links = {
        TrunkId(1): Connection(A.peer_id, "tcp", "10.87.0.2", None, address(A)),
        TrunkId(2): Connection(B.peer_id, "tcp", "10.87.0.3", None),
    }
    place.node.trunks = {
        TrunkId(1): SimpleNamespace(addresses=()),
        TrunkId(2): SimpleNamespace(addresses=(address(B, "192.0.2.9"), address(B, "10.87.0.3"), "nonsense")),
    }
    discovery.note()
    file = tmp_path / "state" / CACHE_FILE
    assert file.stat().st_mode & 0o777 == 0o600
    memory = Memory.parse(file.read_bytes(), time.time())
    assert memory.peers[A.text].addresses == (address(A),)
    assert memory.peers[B.text].addresses == (address(B, "10.87.0.3"),)
    written = file.stat().st_mtime_ns
    discovery.note()
    assert file.stat().st_mtime_ns == written, "what is no news is not written"


def test_the_cache_is_used_at_the_next_start(place: StubPlace, discovery: Discovery, tmp_path: Path) -> None:
    memory = Memory(servers=(address(B),))
    memory.note(A.text, [address(A)], int(time.time()), dialled=True)
    (tmp_path / "state" / CACHE_FILE).write_bytes(memory.emit())
    (tmp_path / "state" / CACHE_FILE).chmod(0o600)
    discovery._recall()
    assert place.dialler.book.addresses(A.peer_id) == (address(A),)
    assert len(discovery.rendezvous.servers) == 1


@pytest.mark.parametrize("mode", [0o600, 0o644])
def test_a_cache_that_is_damaged_or_open_to_others_is_ignored_with_a_warning(
    place: StubPlace, discovery: Discovery, tmp_path: Path, logged: list[dict[str, Any]], mode: int
) -> None:
    memory = Memory()
    memory.note(A.text, [address(A)], int(time.time()), dialled=True)
    file = tmp_path / "state" / CACHE_FILE
    file.write_bytes(memory.emit()[:-10] if mode == 0o600 else memory.emit())
    file.chmod(mode)
    discovery._recall()
    assert len(place.dialler.book) == 0
    assert [one["event"] for one in logged if one["level"] == "warning"] == ["cached peers ignored"]


def test_what_neighbours_tell_of_who_serves_is_bounded(discovery: Discovery) -> None:
    for number in range(300):
        where = f"192.0.2.{number % 250 + 1}"
        discovery.told(TrunkId(number), Serving((address(identity(f"s{number}"), where), "nonsense")))
    assert 16 <= len(discovery.rendezvous.servers) <= 256
    assert discovery.serving() is None, "nobody is told of those who never answered"


def test_one_neighbour_tells_once(place: StubPlace, discovery: Discovery) -> None:
    place.links = {TrunkId(1): Connection(A.peer_id, "tcp", "10.87.0.2", None)}
    for name in ("s1", "s2"):
        discovery.told(TrunkId(1), Serving((address(identity(name)),)))
    assert len(discovery.rendezvous.servers) == 1
