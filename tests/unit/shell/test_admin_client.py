"""The client's end of the admin socket: answers line by line, and whatever a node does is one error."""

import socket
import threading
from pathlib import Path
from typing import Any

import pytest

from peertap.errors import DeviceError
from peertap.shell import admin_client
from peertap.shell.admin_client import ask, connect


def answers(*parts: bytes, reads: bool = True) -> list[dict[str, Any]]:
    """What a client makes of a node that writes these parts, and then hangs up."""
    ours, theirs = socket.socketpair()

    def serve() -> None:
        with theirs:
            if reads:
                theirs.recv(1000)
            for part in parts:
                theirs.sendall(part)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        with ours:
            return list(ask(ours, {"command": "status"}, node="n"))
    finally:
        thread.join()


def test_answers_come_line_by_line_however_they_are_cut() -> None:
    assert answers(b'{"a":1}\n{"b"', b":2}", b'\n{"c":3}\n') == [{"a": 1}, {"b": 2}, {"c": 3}]


def test_no_answer_is_no_error() -> None:
    assert answers() == []


def test_a_refusal_is_raised_with_its_hint() -> None:
    with pytest.raises(DeviceError, match="no such thing") as caught:
        answers(b'{"a":1}\n{"error":"no such thing","hint":"look"}\n{"b":2}\n')
    assert caught.value.hint == "look"


def test_a_node_that_goes_away_is_told() -> None:
    with pytest.raises(DeviceError, match="node n went away"):
        answers(reads=False)  # what we asked lies unread when it closes


def test_a_line_without_end_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(admin_client, "MAX_ANSWER_BYTES", 1000)
    with pytest.raises(DeviceError, match="more than 1000 bytes"):
        answers(b"x" * 1001)


@pytest.mark.parametrize("made", ["nothing", "file", "dead socket", "directory", "long name"])
def test_a_node_that_does_not_listen_does_not_run(made: str, tmp_path: Path) -> None:
    path = tmp_path / ("x" * 120 if made == "long name" else "s")
    if made == "file":
        path.write_bytes(b"")
    elif made == "directory":
        path.mkdir()
    elif made == "dead socket":
        with socket.socket(socket.AF_UNIX) as dead:
            dead.bind(str(path))
    with pytest.raises(DeviceError, match="node n does not run") as caught:
        connect(path, node="n")
    assert caught.value.hint == "start it: peertap up"
