"""What is known of another member's run, and its keys (SPEC 5)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from peertap._core import PairSecret, ReceiveKey, SendKey
from peertap.types import Mac, PeerId, Sid
from peertap.vlan.epochs import Epoch
from peertap.wire.introduction import Confirm, Hello, Setup

RETRY_FIRST_S: Final = 0.1  # ours: about ten round trips of a near relay
RETRY_MOST_S: Final = 2.0  # ours


@dataclass(slots=True)
class Repeated:
    """Something that is said again until it is answered, each time after twice as long."""

    due_at: float
    gap_s: float = field(default=RETRY_FIRST_S, kw_only=True)

    def said(self, now: float) -> None:
        self.gap_s = min(2 * self.gap_s, RETRY_MOST_S)
        self.due_at = now + self.gap_s


@dataclass(slots=True)
class PendingSetup(Repeated):
    """A pair key that the member has not confirmed."""

    generation: int
    setup: Setup
    epoch: Epoch
    secret: PairSecret
    confirm: bytes


@dataclass(frozen=True, slots=True)
class PairReceive:
    """A pair key of theirs in one epoch, and until when it is of use."""

    key: ReceiveKey
    epoch: bytes
    until: float = float("inf")


@dataclass(slots=True)
class Peer:
    """A member whose present run (sid) is known."""

    id: int
    member: PeerId
    mac: Mac
    hello: Hello
    group_receive: dict[tuple[bytes, int], ReceiveKey]  # by epoch and generation: present, next, previous
    epoch: Epoch  # the latest in which it was heard
    pair_send: SendKey | None = None
    pair_send_epoch: Epoch | None = None
    pair_receive: list[PairReceive] = field(default_factory=list)  # newest first
    pair_out: PairSecret | None = None  # what they confirmed
    pair_in: PairSecret | None = None  # what we confirmed last
    pending: PendingSetup | None = None
    setup_seen: Setup | None = None
    confirm: Confirm | None = None

    @property
    def sid(self) -> Sid:
        return self.hello.sid


@dataclass(slots=True)
class Candidate(Repeated):
    """A run that said Hello and has not echoed us yet."""

    hello: Hello
    epoch: Epoch  # in which it came
    tries: int = 0
