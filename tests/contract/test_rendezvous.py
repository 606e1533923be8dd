"""Real py-libp2p hosts on loopback: members leave records at nodes that serve, and find each other by them."""

import gc
import os
import socket
import time
import warnings
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager

import pytest
import trio

from peertap.identity.node import NodeIdentity
from peertap.shell.host import Connection, Stream, running_host
from peertap.shell.rendezvous import MAX_QUESTIONS_PER_SOURCE, PROTOCOL, Rendezvous
from peertap.types import PeerId
from peertap.vlan.circles import Circle
from peertap.wire.codec import lp
from tests.support.identities import identity

pytestmark = pytest.mark.filterwarnings("default")  # py-libp2p's own
SECRET = b"c" * 32
DAY = int(time.time()) // 86_400


@pytest.fixture(autouse=True)
def _collect_what_libp2p_leaves_open() -> Iterator[None]:
    yield
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        gc.collect()


@asynccontextmanager
async def serving(name: str, *, refuse: bool = False) -> AsyncIterator[tuple[Rendezvous, str, list[PeerId]]]:
    """A node that serves: its part, its address, and who asked."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    who, asked = identity(name), []
    text = f"/ip4/127.0.0.1/tcp/{port}/p2p/{who.text}"
    async with running_host(who, [f"/ip4/127.0.0.1/tcp/{port}"]) as host:
        part = Rendezvous(host, who, serves=[text])

        async def serve(connection: Connection, stream: Stream) -> None:
            asked.append(connection.peer)
            if refuse:
                await stream.write(lp(b"PT1D\0\xff nonsense"))
                await stream.close()
            else:
                await part.serve(connection, stream)

        host.handle(PROTOCOL, serve)
        yield part, text, asked


@asynccontextmanager
async def member(name: str, bootstrap: str) -> AsyncIterator[tuple[Rendezvous, NodeIdentity]]:
    who = identity(name)
    async with running_host(who, []) as host:
        part = Rendezvous(host, who, serves=[])
        part.learn([bootstrap])
        yield part, who


async def show(part: Rendezvous, who: NodeIdentity) -> int:
    circle = Circle(SECRET, DAY)
    record = circle.record(who, (f"/ip4/192.0.2.1/tcp/4511/p2p/{who.text}",), time.time(), os.urandom(12))
    return (await part.look(circle.key, record))[1]


async def found_by(part: Rendezvous) -> set[PeerId]:
    circle = Circle(SECRET, DAY)
    records, _ = await part.look(circle.key, None)
    return {circle.open_untrusted(one).member for one in records}


def test_members_find_each_other_at_nodes_of_which_each_knows_another_one() -> None:
    async def main() -> None:
        async with AsyncExitStack() as stack:
            nodes = [await stack.enter_async_context(serving(f"server {number}")) for number in range(4)]
            for part, _, _ in nodes[1:]:  # each knows the first, and makes itself known there
                part.learn([nodes[0][1]])
                assert await part.announce() >= 1
            with trio.fail_after(5):
                while len(nodes[0][0].servers) < 3:  # it asks back before it believes
                    await trio.sleep(0.02)
            a, us = await stack.enter_async_context(member("a", nodes[1][1]))
            b, _ = await stack.enter_async_context(member("b", nodes[2][1]))
            assert await show(a, us) == 4
            assert await found_by(b) == {us.peer_id}
            assert all(len(part.records) == 1 for part, _, _ in nodes)

    trio.run(main)


def test_who_serves_never_learns_a_members_peer_id() -> None:
    async def main() -> None:
        async with serving("server") as (_, text, asked), member("a", text) as (a, us), member("b", text) as (b, them):
            await show(a, us)
            await found_by(b)
            await found_by(b)
            assert asked
            assert not {us.peer_id, them.peer_id} & set(asked)
            assert len(set(asked)) == 3, "each lookup has an identity of its own"

    trio.run(main)


def test_a_node_that_answers_nonsense_withholds_and_does_no_more() -> None:
    async def main() -> None:
        async with (
            serving("bad", refuse=True) as (_, bad, _),
            serving("good") as (_, good, _),
            member("a", bad) as (a, us),
        ):
            assert await show(a, us) == 0
            a.learn([good])
            assert await show(a, us) == 1
            assert await found_by(a) == {us.peer_id}

    trio.run(main)


def test_whoever_asks_too_much_is_turned_away() -> None:
    async def main() -> None:
        async with serving("server") as (part, text, _), member("a", text) as (a, us):
            assert await show(a, us) == 1
            part._rates["127.0.0.1"] = MAX_QUESTIONS_PER_SOURCE
            assert await found_by(a) == set()
            assert part.refused > 0

    trio.run(main)


def test_a_node_that_says_it_serves_where_it_does_not_is_not_told_to_others() -> None:
    async def main() -> None:
        async with serving("server") as (part, text, _), running_host(identity("liar"), []) as host:
            liar = Rendezvous(host, identity("liar"), serves=[f"/ip4/127.0.0.1/tcp/9/p2p/{identity('liar').text}"])
            liar.learn([text])
            assert await liar.announce() == 1
            await trio.sleep(0.3)
            assert len(part.servers) == 0

    trio.run(main)
