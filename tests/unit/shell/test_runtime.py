"""What comes from others and finds a bug of ours ends one trunk or drops one packet, never the node."""

from types import SimpleNamespace
from typing import Any

import pytest
import structlog
import trio

from peertap.node.actions import Action, Send
from peertap.node.events import (
    ControlReceived,
    Event,
    IntroReceived,
    KeySpent,
    MessageReceived,
    PathFound,
    SourceSeen,
    TimePassed,
    TrunkClosed,
    UnknownKidSeen,
)
from peertap.shell.runtime import Runtime
from peertap.types import TrunkId, VlanIndex
from peertap.wire.control import CloseCode, Ping, Pong

pytestmark = pytest.mark.filterwarnings("default")  # py-libp2p's own
VICTIM, OTHER = TrunkId(1), TrunkId(2)


class StubLink:
    def __init__(self) -> None:
        self.sent: list[object] = []
        self.closed: list[tuple[CloseCode, str]] = []

    def send(self, message: object) -> None:
        self.sent.append(message)

    def close(self, code: CloseCode, reason: str) -> None:
        self.closed.append((code, reason))


def stub(bad: type[Event], error: Exception) -> tuple[Runtime, list[dict[str, Any]]]:
    """A runtime whose node fails at one kind of event (from the victim) and answers Pings otherwise."""

    def handle(event: Event, _now: float) -> list[Action]:
        if isinstance(event, bad) and getattr(event, "trunk", VICTIM) == VICTIM:
            raise error
        if isinstance(event, MessageReceived) and isinstance(event.message, Ping):
            return [Send(event.trunk, Pong(event.message.id))]
        return []

    logged: list[dict[str, Any]] = []
    runtime = object.__new__(Runtime)
    log = structlog.wrap_logger(None, processors=[lambda _l, _n, entry: logged.append(entry) or _drop()])
    runtime.__dict__.update(
        node=SimpleNamespace(handle=handle, trunks={}), links={VICTIM: StubLink(), OTHER: StubLink()}, _log=log,
        _woken=trio.Event(), _changed=trio.Event(), _fatal=None,
    )  # fmt: skip
    return runtime, logged


def _drop() -> object:
    raise structlog.DropEvent


@pytest.mark.parametrize(
    "error", [ValueError("x"), KeyError(1), OverflowError(), RecursionError(), AssertionError()], ids=repr
)
def test_a_message_that_finds_a_bug_ends_its_trunk_only_and_the_log_says_so(error: Exception) -> None:
    runtime, logged = stub(MessageReceived, error)
    runtime.post(MessageReceived(VICTIM, Ping(1)))
    runtime.post(MessageReceived(OTHER, Ping(2)))
    victim, other = runtime.links[VICTIM], runtime.links[OTHER]
    assert [code for code, _ in victim.closed] == [CloseCode.INTERNAL]  # type: ignore[attr-defined]
    assert not other.closed  # type: ignore[attr-defined]
    assert other.sent == [Pong(2)]  # type: ignore[attr-defined]
    assert [entry["event"] for entry in logged] == ["internal error"]
    assert type(error).__name__ in logged[0]["error"]
    assert runtime._woken.is_set()


@pytest.mark.parametrize(
    "event",
    [
        IntroReceived(VlanIndex(1), bytes(16), bytes(12), b""),
        UnknownKidSeen(VlanIndex(1), bytes(4)),
        ControlReceived(VlanIndex(1), 1, b""),
        SourceSeen(VICTIM, ("192.0.2.1", 1)),
        PathFound(VICTIM, ("192.0.2.1", 1), 0.1),
        KeySpent(VlanIndex(1), bytes(4)),
    ],
    ids=lambda event: type(event).__name__,
)
def test_a_packet_that_finds_a_bug_is_dropped_and_ends_no_trunk(event: Event) -> None:
    runtime, logged = stub(type(event), ValueError("x"))
    runtime.post(event)
    assert len(logged) == 1
    assert not any(link.closed for link in runtime.links.values())  # type: ignore[attr-defined]


@pytest.mark.parametrize("event", [TimePassed(), TrunkClosed(VICTIM, "gone")], ids=["time", "closed"])
def test_a_bug_without_an_input_is_not_hidden(event: Event) -> None:
    runtime, logged = stub(type(event), ValueError("x"))
    with pytest.raises(ValueError, match="x"):
        runtime.post(event)
    assert not logged


def test_a_message_of_a_trunk_that_is_gone_already_is_no_second_error() -> None:
    runtime, logged = stub(MessageReceived, ValueError("x"))
    del runtime.links[VICTIM]
    runtime.post(MessageReceived(VICTIM, Ping(1)))
    assert len(logged) == 1
