"""The admin socket under nonsense: an error as the answer, and the node goes on."""

import json
import math
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import trio

from peertap.errors import DeviceError
from peertap.shell import admin, admin_client
from peertap.shell.answers import MAX_TRACE_S
from peertap.shell.answers import Answers as Node

pytestmark = pytest.mark.filterwarnings("default")  # py-libp2p's own
Answers = list[dict[str, Any]]


def stub() -> Node:
    """Answers with nothing behind them but an engine that notes what it is told."""
    traced: list[tuple[float, object]] = []

    def trace(seconds: float, mac: object) -> None:
        if not (0 <= seconds < 1e9):
            raise OverflowError("the engine takes no such duration")
        traced.append((seconds, mac))

    runtime = SimpleNamespace(
        node=SimpleNamespace(trunks={}, vlans={}), links={}, ports=SimpleNamespace(neighbour=lambda _ip: None),
        data_plane=SimpleNamespace(engine=SimpleNamespace(trace=trace)), traced=traced,
    )  # fmt: skip
    return Node(runtime)  # type: ignore[arg-type]


def asked(
    folder: Path, *lines: bytes, handler: Callable[[dict[str, Any]], AsyncIterator[dict[str, Any]]]
) -> list[Answers]:
    """The answers to each line, each on a connection of its own; the server must outlive them all."""
    out: list[Answers] = []

    async def main() -> None:
        path = folder / "admin.sock"
        async with trio.open_nursery() as nursery:
            nursery.start_soon(admin.serve, admin.listen(path), path, handler)
            for line in lines:
                data = b""
                with trio.fail_after(10):
                    stream = await trio.open_unix_socket(str(path))
                    async with stream:
                        with suppress(trio.BrokenResourceError):
                            await stream.send_all(line)
                            await stream.send_eof()
                        with suppress(trio.BrokenResourceError):
                            async for part in stream:
                                data += part
                out.append([json.loads(one) for one in data.splitlines()])
            nursery.cancel_scope.cancel()

    trio.run(main)
    return out


@pytest.mark.parametrize(
    "seconds",
    ["-1", "0", "NaN", "Infinity", "-Infinity", "1e400", "601", "9" * 400, '"5"', "null", "[]", "{}", "false"],
)
def test_a_trace_over_no_possible_time_is_an_error_and_the_node_goes_on(tmp_path: Path, seconds: str) -> None:
    runtime = stub()
    bad = b'{"command":"trace","seconds":%s}\n' % seconds.encode()
    first, second = asked(tmp_path, bad, b'{"command":"rekey"}\n', handler=runtime.answer)
    assert [set(answer) for answer in first] == [{"error", "hint"}]
    assert "seconds" in first[0]["error"]
    assert second == [{"rekeyed": 0}]
    assert not runtime._runtime.traced
    assert not runtime._tracers


@pytest.mark.parametrize(
    "line",
    [
        b"", b"\n", b"nonsense\n", b"\xff\xfe\n", b"[1]\n", b"null\n", b"[" * 60_000 + b"\n", b'{"a":' * 10_000 + b"\n",
        b'{"command":"trace","seconds":' + b"[" * 5_000 + b"]" * 5_000 + b"}\n",
        b'{"command":"ping","target":' + b"[" * 900 + b"]" * 900 + b"}\n",
        b'{"command":"ping","target":"00:00:00:00:00:00"}\n', b'{"command":"ping","target":"a:b:c:d:e:f"}\n',
        b'{"command":"trace","seconds":1,"mac":"nonsense"}\n', b'{"command":{}}\n',
        b'{"command":"' + b"x" * 60_000 + b'"}\n',
    ],
    ids=lambda line: repr(line[:40]),
)  # fmt: skip
def test_a_request_that_is_none_is_an_error_and_the_node_goes_on(tmp_path: Path, line: bytes) -> None:
    first, second = asked(tmp_path, line, b'{"command":"rekey"}\n', handler=stub().answer)
    assert len(first) == 1
    assert "error" in first[0]
    assert len(first[0]["error"]) < 500
    assert second == [{"rekeyed": 0}]


def test_a_line_without_end_is_cut_off_and_the_node_goes_on(tmp_path: Path) -> None:
    first, second = asked(tmp_path, b"x" * 200_000, b'{"command":"rekey"}\n', handler=stub().answer)
    assert first == []
    assert second == [{"rekeyed": 0}]


@pytest.mark.parametrize(
    "error", [ValueError("x"), OverflowError("x"), RecursionError(), KeyError(7), DeviceError("no")]
)
def test_a_question_that_finds_a_bug_gets_an_error_and_the_next_one_an_answer(tmp_path: Path, error: Exception) -> None:
    async def handler(request: dict[str, Any]) -> AsyncIterator[dict[str, Any]]:
        if "bug" in request:
            raise error
        yield {"fine": True}

    first, second = asked(tmp_path, b'{"bug":1}\n', b"{}\n", handler=handler)
    assert len(first) == 1
    assert "error" in first[0]
    assert second == [{"fine": True}]


def first_answer(path: Path) -> dict[str, Any]:
    with admin_client.connect(path, node="n") as connection:
        return next(admin_client.ask(connection, {}, node="n"))


def test_a_client_that_hangs_up_in_the_middle_ends_only_its_own_question(tmp_path: Path) -> None:
    async def handler(_request: dict[str, Any]) -> AsyncIterator[dict[str, Any]]:
        for number in range(10_000):
            yield {"number": number, "text": "x" * 1000}

    async def main() -> None:
        path = tmp_path / "admin.sock"
        async with trio.open_nursery() as nursery:
            nursery.start_soon(admin.serve, admin.listen(path), path, handler)
            for _ in range(5):
                raw = socket.socket(socket.AF_UNIX)
                client = trio.socket.from_stdlib_socket(raw)
                await client.connect(str(path))
                await client.send(b"{}\n")
                await client.recv(10)
                client.close()
            assert await trio.to_thread.run_sync(first_answer, path) == {"number": 0, "text": "x" * 1000}
            nursery.cancel_scope.cancel()

    trio.run(main)


def test_a_trace_of_a_possible_time_is_passed_to_the_engine(tmp_path: Path) -> None:
    runtime = stub()
    (answers,) = asked(tmp_path, b'{"command":"trace","seconds":0.01}\n', handler=runtime.answer)
    assert answers == []
    assert runtime._runtime.traced == [(0.01, None)]
    assert math.isfinite(MAX_TRACE_S)
