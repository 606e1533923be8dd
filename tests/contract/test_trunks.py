"""Real py-libp2p hosts on loopback: Noise only, a trunk on every transport, a bad neighbour ends only its trunk."""

import gc
import os
import socket
import warnings
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import pytest
import trio
from libp2p import new_host
from libp2p.crypto.ed25519 import create_new_key_pair
from libp2p.network.exceptions import SwarmException
from libp2p.peer.id import ID
from libp2p.security.insecure.transport import PLAINTEXT_PROTOCOL_ID, InsecureTransport
from multiaddr import Multiaddr

from peertap.errors import TrunkError
from peertap.node.events import Event, MessageReceived, TrunkOpened, TrunkRekeyed
from peertap.shell.host import FRAMES_PROTOCOL, TRUNK_PROTOCOL, Connection, Stream, running_host
from peertap.shell.link import FRAMES_PROOF_BYTES, Link, shake_hands
from peertap.types import TrunkId
from peertap.wire.codec import lp
from peertap.wire.control import Ping
from tests.support.identities import identity

A, B = sorted((identity("a"), identity("b")), key=lambda one: one.peer_id)
pytestmark = pytest.mark.filterwarnings("default")  # py-libp2p's own


@pytest.fixture(autouse=True)
def _collect_what_libp2p_leaves_open() -> Iterator[None]:
    """py-libp2p leaves QUIC sockets to the garbage collector: collect them here, where nobody minds."""
    yield
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        gc.collect()


def free_port(kind: socket.SocketKind = socket.SOCK_STREAM) -> int:
    with socket.socket(socket.AF_INET, kind) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def addresses() -> dict[str, str]:
    return {
        "tcp": f"/ip4/127.0.0.1/tcp/{free_port()}",
        "ws": f"/ip4/127.0.0.1/tcp/{free_port()}/ws",
        "quic": f"/ip4/127.0.0.1/udp/{free_port(socket.SOCK_DGRAM)}/quic-v1",
    }


class Frames:
    """Both ends of a stream carrier."""

    def __init__(self) -> None:
        self.outgoing: list[bytes] = []
        self.arrived: list[bytes] = []

    def stream_take(self, trunk: int) -> bytes | None:
        return self.outgoing.pop(0) if self.outgoing else None

    def stream_put(self, trunk: int, batch: bytes) -> None:
        self.arrived.append(batch)


class End:
    """One end of a trunk: its link, what its node would be told, its frames."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.frames = Frames()
        self.link: Link | None = None

    def got(self, kind: type) -> list[Event]:
        return [event for event in self.events if isinstance(event, kind)]


def bug(error: Exception) -> None:
    raise error


async def until(condition: object, within_s: float = 5) -> None:
    with trio.fail_after(within_s):
        while not condition():  # type: ignore[operator]
            await trio.sleep(0.01)


@asynccontextmanager
async def trunk(transport: str) -> AsyncIterator[tuple[End, End]]:
    """A dials B; both ends of the trunk."""
    where = addresses()
    dialler, listener = End(), End()
    hosts = running_host(B, list(where.values())), running_host(A, [])
    async with hosts[0] as b_host, hosts[1] as a_host, trio.open_nursery() as nursery:

        async def accepted(connection: Connection, stream: Stream) -> None:
            agreed = await shake_hands(stream, B, connection, dialled=False)
            listener.link = Link(
                TrunkId(1), connection, stream, agreed, B, listener.events.append, listener.frames,
                dialled=False, report=bug,
            )  # fmt: skip
            await listener.link.run(b_host)

        async def accepted_frames(connection: Connection, stream: Stream) -> None:
            proof = await stream.read_exactly(FRAMES_PROOF_BYTES)
            if listener.link is None or not await listener.link.adopt_frames(stream, proof):
                await stream.close()

        b_host.handle(TRUNK_PROTOCOL, accepted)
        b_host.handle(FRAMES_PROTOCOL, accepted_frames)
        connection = await a_host.dial(f"{where[transport]}/p2p/{B.text}", B.peer_id)
        stream = await a_host.open(connection, TRUNK_PROTOCOL)
        agreed = await shake_hands(stream, A, connection, dialled=True)
        dialler.link = Link(
            TrunkId(1), connection, stream, agreed, A, dialler.events.append, dialler.frames,
            dialled=True, report=bug,
        )  # fmt: skip
        nursery.start_soon(dialler.link.run, a_host)
        await until(lambda: dialler.got(TrunkOpened) and listener.got(TrunkOpened))
        yield dialler, listener
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("transport", ["tcp", "ws", "quic"])
def test_a_trunk_opens_and_carries_messages_both_ways(transport: str) -> None:
    async def main() -> None:
        async with trunk(transport) as (a, b):
            opened = b.got(TrunkOpened)[0]
            assert isinstance(opened, TrunkOpened)
            assert (opened.peer, opened.transport) == (A.peer_id, transport)
            assert a.link is not None
            assert b.link is not None
            a.link.send(Ping(1))
            b.link.send(Ping(2))
            await until(lambda: a.got(MessageReceived) and b.got(MessageReceived))
            assert b.got(MessageReceived) == [MessageReceived(TrunkId(1), Ping(1))]
            assert a.got(MessageReceived) == [MessageReceived(TrunkId(1), Ping(2))]

    trio.run(main)


@pytest.mark.parametrize("transport", ["tcp", "ws"])
def test_sealed_batches_cross_the_frame_stream_whole_and_in_order(transport: str) -> None:
    async def main() -> None:
        async with trunk(transport) as (a, b):
            packets = [os.urandom(size) for size in (1, 1400, 62, 65_000)]
            a.frames.outgoing.extend(lp(one) for one in packets)
            assert a.link is not None
            a.link.frames_ready.set()
            await until(lambda: sum(map(len, b.frames.arrived)) == sum(len(one) + 2 for one in packets))
            assert b"".join(b.frames.arrived) == b"".join(map(lp, packets))

    trio.run(main)


def test_rekeys_under_messages_lose_none_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("peertap.shell.link.REKEY_GAP_S", 0.0)

    async def main() -> None:
        async with trunk("tcp") as (a, b):
            assert a.link is not None
            assert b.link is not None
            assert a.link.begins_rekeys
            for number in range(60):
                if number % 20 == 10:
                    a.link.rekey()
                a.link.send(Ping(number))
                b.link.send(Ping(1000 + number))
                await trio.sleep(0.002)
            await until(lambda: len(a.got(TrunkRekeyed)) == len(b.got(TrunkRekeyed)) == 3)
            await until(lambda: len(a.got(MessageReceived)) == len(b.got(MessageReceived)) == 60)
            assert [event.message.id for event in b.got(MessageReceived)] == list(range(60))  # type: ignore[attr-defined]

    trio.run(main)


def test_plaintext_is_refused() -> None:
    async def main() -> None:
        where = addresses()["tcp"]
        plain = create_new_key_pair(A.seed)
        async with running_host(B, [where]):
            insecure = new_host(key_pair=plain, sec_opt={PLAINTEXT_PROTOCOL_ID: InsecureTransport(plain)})
            async with insecure.run(listen_addrs=[]):
                with pytest.raises((SwarmException, ExceptionGroup)):
                    with trio.fail_after(5):
                        await insecure.get_network()._dial_addr_single_attempt(
                            Multiaddr(f"{where}/p2p/{B.text}"), ID(B.peer_id)
                        )
                assert not insecure.get_network().connections

    trio.run(main)


def test_a_host_of_ours_does_not_dial_into_plaintext_either() -> None:
    async def main() -> None:
        where = addresses()["tcp"]
        plain = create_new_key_pair(B.seed)
        insecure = new_host(key_pair=plain, sec_opt={PLAINTEXT_PROTOCOL_ID: InsecureTransport(plain)})
        async with insecure.run(listen_addrs=[Multiaddr(where)]), running_host(A, []) as host:
            with pytest.raises(TrunkError):
                with trio.fail_after(5):
                    await host.dial(f"{where}/p2p/{B.text}", B.peer_id)

    trio.run(main)


def test_garbage_instead_of_a_handshake_ends_the_stream_and_nothing_else() -> None:
    async def main() -> None:
        where = addresses()["tcp"]
        ended: list[str] = []

        async def accepted(connection: Connection, stream: Stream) -> None:
            try:
                await shake_hands(stream, B, connection, dialled=False)
            except Exception as error:
                ended.append(type(error).__name__)
                await stream.close()

        async with running_host(B, [where]) as b_host, running_host(A, []) as a_host:
            b_host.handle(TRUNK_PROTOCOL, accepted)
            for garbage in (lp(b"nonsense"), b"\xff\xff" + bytes(100), lp(bytes(3000))):
                connection = await a_host.dial(f"{where}/p2p/{B.text}", B.peer_id)
                stream = await a_host.open(connection, TRUNK_PROTOCOL)
                await stream.write(garbage)
                await stream.close()
                await connection.close()
            await until(lambda: len(ended) == 3)
            assert set(ended) <= {"HandshakeFailed", "TrunkError"}

    trio.run(main)
