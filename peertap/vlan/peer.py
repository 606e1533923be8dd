"""What is known of another member's run, and its keys (SPEC 5)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from peertap._core import PairSecret, ReceiveKey, SendKey, VlanKeys
from peertap.errors import PeerError
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

    def confirm_again(self, setup: Setup) -> Confirm | None:
        """What a setup that was taken before was confirmed with, for that was lost. None: the setup is new.

        Raises: PeerError: it is an older one.
        """
        seen = self.setup_seen
        if seen is None or setup.generation > seen.generation:
            return None
        if setup != seen or self.confirm is None:
            raise PeerError(f"setup: generation {setup.generation} again")
        return self.confirm

    def epoch_began(self, keys: VlanKeys) -> None:
        """What it seals for us alone in a new epoch is opened from now on."""
        if self.pair_in is not None:
            self.pair_receive.insert(0, PairReceive(keys.pair_receiver(self.pair_in)[0], keys.mls_id))

    def drop_former(self, now: float) -> bool:
        """Forgets pair keys of theirs whose time is over; returns whether there were any."""
        were = len(self.pair_receive)
        self.pair_receive = [one for one in self.pair_receive if one.until > now]
        return len(self.pair_receive) < were

    def next_deadline(self) -> float:
        """When a setup is to be repeated, or a key to be dropped. Asked after every event: most have neither."""
        due_at = self.pending.due_at if self.pending is not None else float("inf")
        for one in self.pair_receive[1:] if len(self.pair_receive) > 1 else ():
            due_at = min(due_at, one.until)
        return due_at


@dataclass(slots=True)
class Candidate(Repeated):
    """A run that said Hello and has not echoed us yet."""

    hello: Hello
    epoch: Epoch  # in which it came
    tries: int = 0
