"""Real Links over streams that stall: a neighbour that stops reading ends its own trunk, and in time."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
import trio.testing

from peertap.errors import TrunkError
from peertap.node.events import Event, MessageReceived, TrunkClosed, TrunkOpened
from peertap.shell import link as links
from peertap.shell.host import Connection
from peertap.shell.link import Link
from peertap.trunk.handshake import Dialler, Listener, TrunkSecrets
from peertap.trunk.records import RecordReceiver, RecordSender
from peertap.trunk.rekey import Rekeying
from peertap.types import TrunkId
from peertap.wire.control import Close, CloseCode, Ping, Pong, Rekey, emit, parse_untrusted
from tests.support.identities import identity

A, B = sorted((identity("a"), identity("b")), key=lambda one: one.peer_id)
pytestmark = pytest.mark.filterwarnings("default")  # py-libp2p's own


class StallingStream:
    """One end of a stream: what the other side sends is fed, what is written can stall, and so can its close."""

    def __init__(self) -> None:
        self.written = bytearray()
        self.stalled = self.close_stalls = False
        self.closed = False
        self._fed = bytearray()
        self._news = trio.Event()

    def feed(self, data: bytes) -> None:
        self._fed += data
        self._news.set()

    async def read_some(self, most: int) -> bytes:
        while not self._fed:
            self._news = trio.Event()
            await self._news.wait()
        data = bytes(self._fed[:most])
        del self._fed[:most]
        await trio.lowlevel.checkpoint()
        return data

    async def read_exactly(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            data += await self.read_some(size - len(data))
        return data

    async def write(self, data: bytes) -> None:
        await trio.lowlevel.checkpoint()
        if self.stalled:
            await trio.sleep_forever()
        self.written += data

    async def close(self) -> None:
        with trio.move_on_after(1) as scope:  # as shell.host's streams do
            scope.shield = True
            if self.close_stalls:
                await trio.sleep_forever()
        self.closed = True


class Raw:
    """A connection whose close may stall."""

    stalls = False

    async def close(self) -> None:
        if self.stalls:
            await trio.sleep_forever()


class Frames:
    """A data plane with one batch after the other, or none."""

    def __init__(self) -> None:
        self.batches: list[bytes] = []

    def stream_take(self, _trunk: int) -> bytes | None:
        return self.batches.pop() if self.batches else None

    def stream_put(self, _trunk: int, _batch: bytes) -> None:
        pass


class End:
    """A link of B, and A's keys for it."""

    def __init__(self, transport: str = "quic") -> None:
        dialler, listener = Dialler(A, B.peer_id, os.urandom), Listener(B, A.peer_id, os.urandom)
        answer, proof = listener.offered(dialler.offer())
        last, self.theirs = dialler.answered(answer, proof)
        ours: TrunkSecrets = listener.proved(last)
        self.events: list[Event] = []
        self.bugs: list[Exception] = []
        self.stream, self.raw, self.frames = StallingStream(), Raw(), Frames()
        self.sender = RecordSender(self.theirs.control_send, self.theirs.aead)
        self.receiver = RecordReceiver(self.theirs.control_receive, self.theirs.aead)
        connection = Connection(A.peer_id, transport, "192.0.2.1", self.raw)
        self.link = Link(
            TrunkId(1), connection, self.stream, ours, B, self._post, self.frames,  # type: ignore[arg-type]
            dialled=False, report=self.bugs.append,
        )  # fmt: skip
        self.ended_at: float | None = None

    def _post(self, event: Event) -> None:
        self.events.append(event)
        if isinstance(event, MessageReceived) and isinstance(event.message, Ping):
            self.link.send(Pong(event.message.id))

    def say(self, *messages: Any) -> None:
        self.stream.feed(b"".join(self.sender.seal(emit(message)) for message in messages))

    def heard(self) -> list[Any]:
        out = []
        while self.stream.written:
            size = int.from_bytes(self.stream.written[:2], "big")
            out.append(parse_untrusted(self.receiver.open_untrusted(bytes(self.stream.written[2 : 2 + size]))))
            del self.stream.written[: 2 + size]
        return out

    async def run(self) -> None:
        await self.link.run(None)  # type: ignore[arg-type]
        self.ended_at = trio.current_time()


@asynccontextmanager
async def running(*ends: End) -> AsyncIterator[None]:
    async with trio.open_nursery() as nursery:
        for end in ends:
            nursery.start_soon(end.run)
        await trio.sleep(0.01)
        assert all(isinstance(end.events[0], TrunkOpened) for end in ends)
        yield
        nursery.cancel_scope.cancel()


def run(main: Any) -> None:
    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0.001))


def test_a_link_to_a_neighbour_that_stopped_reading_ends_within_a_second_of_close_and_no_other_does() -> None:
    async def main() -> None:
        stalled, fine = End(), End()
        async with running(stalled, fine):
            stalled.stream.stalled = True
            stalled.link.send(Ping(1))
            await trio.sleep(0.1)
            asked_at = trio.current_time()
            stalled.link.close(CloseCode.TIMEOUT, "nothing heard")
            await trio.sleep(10)
            assert stalled.ended_at is not None
            assert stalled.ended_at - asked_at < 1
            assert stalled.link.closed_reason == "nothing heard"
            assert stalled.stream.closed
            assert fine.ended_at is None
            fine.say(Ping(7))
            await trio.sleep(0.1)
            assert fine.heard() == [Pong(7)]

    run(main)


def test_a_link_whose_frame_stream_stalls_ends_within_a_second_of_close() -> None:
    async def main() -> None:
        end, frames = End("tcp"), StallingStream()
        async with running(end):
            async with trio.open_nursery() as nursery:
                proof = end.link._frames_proof
                nursery.start_soon(end.link.adopt_frames, frames, proof)
                await trio.sleep(0.1)
                frames.stalled = True
                end.frames.batches.append(b"x" * 100)
                end.link.frames_ready.set()
                await trio.sleep(0.1)
                asked_at = trio.current_time()
                end.link.close(CloseCode.SHUTDOWN, "the node is going down")
                await trio.sleep(10)
            assert end.ended_at is not None
            assert end.ended_at - asked_at < 1
            assert end.heard() == [Close(CloseCode.SHUTDOWN, "the node is going down")]

    run(main)


def test_a_link_of_which_nothing_closes_ends_within_a_second_of_close_all_the_same() -> None:
    async def main() -> None:
        end = End()
        async with running(end):
            end.stream.stalled = end.stream.close_stalls = end.raw.stalls = True
            end.link.send(Ping(1))
            await trio.sleep(0.1)
            asked_at = trio.current_time()
            end.link.close(CloseCode.TIMEOUT, "nothing heard")
            await trio.sleep(10)
            assert end.ended_at is not None
            assert end.ended_at - asked_at <= 1.3

    run(main)


def test_a_link_that_closes_says_what_is_queued_and_then_close() -> None:
    async def main() -> None:
        end = End()
        async with running(end):
            end.link.send(Ping(1))
            end.link.close(CloseCode.SHUTDOWN, "bye")
            await trio.sleep(1)
            assert end.ended_at is not None
            assert end.heard() == [Ping(1), Close(CloseCode.SHUTDOWN, "bye")]

    run(main)


def test_more_messages_than_a_neighbour_reads_end_its_link_and_raise_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(links, "MAX_QUEUED", 100)

    async def main() -> None:
        end = End()
        async with running(end):
            end.stream.stalled = True
            for number in range(500):
                end.link.send(Ping(number))
            end.link.close(CloseCode.OVERLOAD, "too late")
            await trio.sleep(5)
            assert end.ended_at is not None
            assert end.link.closed_reason in ("the neighbour does not read", "too late")
            end.link.send(Ping(1))
            end.link.close(CloseCode.SHUTDOWN, "twice")
            assert not end.bugs

    run(main)


def test_a_rekey_over_a_full_queue_ends_the_link_and_raises_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(links, "MAX_QUEUED", 50)

    async def main() -> None:
        end = End()
        rekeying = Rekeying(A, os.urandom, end.theirs)
        async with running(end):
            end.say(rekeying.begin())
            await trio.sleep(0.1)
            (answer,) = end.heard()
            assert isinstance(answer, Rekey)
            proof = rekeying.received(answer).reply
            end.stream.stalled = True
            end.say(Ping(0))  # the writer's hands are full with the answer
            await trio.sleep(0.1)
            end.say(*(Ping(number) for number in range(51)))
            await trio.sleep(0.1)
            end.say(proof)
            await trio.sleep(1)
            assert end.ended_at is not None
            assert end.link.closed_reason == "the neighbour does not read"
            assert not end.bugs

    run(main)


def test_records_that_do_not_open_end_the_link_with_a_close_and_raise_nothing() -> None:
    async def main() -> None:
        for garbage in (b"\x00\x20" + bytes(32), b"\xff\xff", b"\x00\x00", b"\x00\x05hello"):
            end = End()
            async with running(end):
                end.stream.feed(garbage)
                await trio.sleep(1)
                assert end.ended_at is not None
                (said,) = end.heard()
                assert (type(said), said.code) == (Close, CloseCode.MALFORMED)
                assert not end.bugs

    run(main)


def test_garbage_from_a_neighbour_that_does_not_read_ends_the_link_within_a_second() -> None:
    async def main() -> None:
        end = End()
        async with running(end):
            end.stream.stalled = True
            end.link.send(Ping(1))
            began_at = trio.current_time()
            end.stream.feed(b"\x00\x20" + bytes(32))
            await trio.sleep(5)
            assert end.ended_at is not None
            assert end.ended_at - began_at < 1
            assert not end.bugs

    run(main)


def test_a_stream_that_fails_ends_its_link_and_is_no_bug() -> None:
    async def main() -> None:
        end = End()

        async def broken(_data: bytes) -> None:
            await trio.lowlevel.checkpoint()
            raise TrunkError("stream ended: BrokenPipeError")

        async with running(end):
            end.stream.write = broken  # type: ignore[method-assign]
            end.link.send(Ping(1))
            await trio.sleep(1)
            assert end.ended_at is not None
            assert "BrokenPipeError" in end.link.closed_reason
            assert not end.bugs

    run(main)


def test_a_bug_of_ours_under_a_message_ends_its_link_only_and_is_reported() -> None:
    async def main() -> None:
        end, fine = End(), End()
        end._post = None  # type: ignore[assignment,method-assign]
        async with running(end, fine):
            end.link._post = lambda event: isinstance(event, TrunkClosed) or 1 / 0  # type: ignore[assignment]
            end.say(Ping(1))
            await trio.sleep(1)
            assert end.ended_at is not None
            assert [type(bug) for bug in end.bugs] == [ZeroDivisionError]
            assert end.link.closed_reason == "internal error: ZeroDivisionError"
            assert fine.ended_at is None

    run(main)
