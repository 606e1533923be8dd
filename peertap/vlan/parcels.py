"""Letters to members arrive, once, though packets get lost (SPEC 5.4).

    Parcel ──▶ Taken                       up to 8 KiB
    Offer ──▶ Pull ⇄ Blocks … ──▶ Taken    longer: the receiver asks for 16 blocks at a time

A letter that nobody takes within 30 s is given up: where members are is told anew whenever they meet, and what was
missed follows from that.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from blake3 import blake3

from peertap.types import PeerId
from peertap.wire.parcel import (
    BLOCK_BYTES,
    ID_BYTES,
    MAX_PARCEL_BYTES,
    Block,
    Message,
    Offer,
    Parcel,
    Pull,
    Taken,
)

REPEAT_FIRST_S: Final = 0.25  # ours: some round trips
REPEAT_MOST_S: Final = 4.0  # ours
GIVE_UP_S: Final = 30.0  # ours
AT_LAST_S: Final = 300.0  # ours: a long letter that trickles in is given up, too
WINDOW: Final = 16  # ours: blocks under way
MAX_OUT_EACH: Final = 64  # ours: letters that one member has not taken; the oldest goes
MAX_IN: Final = 16  # ours: long letters that come in at a time, of all members
MAX_IN_EACH: Final = 2  # ours
MAX_KNOWN: Final = 4096  # ours: letters of which a repetition is known


@dataclass(frozen=True, slots=True)
class Out:
    """A member control message to send. `attempt` counts from 0: another way may be better for a later one."""

    member: PeerId
    message: bytes
    attempt: int = 0


@dataclass(slots=True)
class _Outgoing:
    head: Parcel | Offer
    body: bytes
    until: float
    due_at: float
    gap_s: float = REPEAT_FIRST_S
    attempts: int = 0


@dataclass(slots=True)
class _Incoming:
    offer: Offer
    due_at: float
    until: float
    at_last: float
    gap_s: float = REPEAT_FIRST_S
    blocks: dict[int, bytes] = field(default_factory=dict)
    asked: int = 0  # blocks below this one were asked for
    low: int = 0  # blocks below this one are here
    attempts: int = 0

    @property
    def count(self) -> int:
        return -(-self.offer.size // BLOCK_BYTES)


class Parcels:
    """All letters of one VLAN, to and from this node."""

    def __init__(self, random: Callable[[int], bytes]) -> None:
        self._random = random
        self._out: dict[PeerId, OrderedDict[bytes, _Outgoing]] = {}
        self._in: dict[tuple[PeerId, bytes], _Incoming] = {}
        self._known: OrderedDict[tuple[PeerId, bytes], None] = OrderedDict()

    def post(self, member: PeerId, body: bytes, now: float) -> list[Out]:
        """Sends a letter, and again until it is taken."""
        name = self._random(ID_BYTES)
        is_short = len(body) <= MAX_PARCEL_BYTES
        head = Parcel(name, body) if is_short else Offer(name, len(body), blake3(body).digest())
        letters = self._out.setdefault(member, OrderedDict())
        letters[name] = _Outgoing(head, b"" if is_short else body, now + GIVE_UP_S, now + REPEAT_FIRST_S)
        while len(letters) > MAX_OUT_EACH:
            letters.popitem(last=False)
        return [Out(member, head.emit())]

    def received(self, member: PeerId, message: Message, now: float) -> tuple[list[Out], bytes | None]:
        """What to answer, and a letter that is complete now."""
        match message:
            case Parcel():
                return [Out(member, Taken(message.id).emit())], self._first(member, message.id, message.body)
            case Offer():
                return self._offered(member, message, now), None
            case Pull():
                return self._pulled(member, message, now), None
            case Block():
                return self._got(member, message, now)
            case Taken():
                if member in self._out:
                    self._out[member].pop(message.id, None)
                return [], None

    def forget(self, member: PeerId) -> None:
        """No letter to or from this member is of use any more."""
        self._out.pop(member, None)
        self._in = {name: one for name, one in self._in.items() if name[0] != member}

    def hurry(self, member: PeerId, now: float) -> None:
        """There is a way to this member again."""
        for letter in self._letters(member).values():
            letter.due_at = now

    def next_deadline(self) -> float | None:
        """When `tick` has something to do."""
        dues = [one.due_at for letters in self._out.values() for one in letters.values()]
        return min([*dues, *(one.due_at for one in self._in.values())], default=None)

    def tick(self, now: float) -> list[Out]:
        """Repeats what is due, gives up what is old."""
        out: list[Out] = []
        for member, letters in list(self._out.items()):
            for name, letter in list(letters.items()):
                if letter.until <= now:
                    del letters[name]
                elif letter.due_at <= now:
                    letter.gap_s = min(2 * letter.gap_s, REPEAT_MOST_S)
                    letter.due_at = now + letter.gap_s
                    letter.attempts += 1
                    out.append(Out(member, letter.head.emit(), letter.attempts))
            if not letters:
                del self._out[member]
        for key, incoming in list(self._in.items()):
            if incoming.until <= now:
                del self._in[key]
            elif incoming.due_at <= now:
                incoming.gap_s = min(2 * incoming.gap_s, REPEAT_MOST_S)
                incoming.attempts += 1
                out += self._ask(key[0], incoming, now)
        return out

    # Long letters

    def _offered(self, member: PeerId, offer: Offer, now: float) -> list[Out]:
        key = (member, offer.id)
        if key in self._known:
            return [Out(member, Taken(offer.id).emit())]
        if key in self._in:
            return []
        own = sum(name[0] == member for name in self._in)
        if own >= MAX_IN_EACH or len(self._in) >= MAX_IN:
            return []  # it is offered again
        incoming = self._in[key] = _Incoming(offer, now, now + GIVE_UP_S, now + AT_LAST_S)
        return self._ask(member, incoming, now)

    def _pulled(self, member: PeerId, pull: Pull, now: float) -> list[Out]:
        letter = self._letters(member).get(pull.id)
        if letter is None or not letter.body:
            return []
        letter.until, letter.due_at = now + GIVE_UP_S, now + REPEAT_MOST_S
        starts = range(pull.first * BLOCK_BYTES, len(letter.body), BLOCK_BYTES)[: min(pull.count, WINDOW)]
        return [
            Out(member, Block(pull.id, start // BLOCK_BYTES, letter.body[start : start + BLOCK_BYTES]).emit())
            for start in starts
        ]

    def _got(self, member: PeerId, block: Block, now: float) -> tuple[list[Out], bytes | None]:
        incoming = self._in.get((member, block.id))
        if incoming is None or block.number >= incoming.count:
            return [], None
        is_last = block.number == incoming.count - 1
        wanted = incoming.offer.size - block.number * BLOCK_BYTES if is_last else BLOCK_BYTES
        if len(block.data) != wanted:
            return [], None
        if block.number in incoming.blocks:
            return [], None
        incoming.blocks[block.number] = block.data
        incoming.until, incoming.gap_s = min(now + GIVE_UP_S, incoming.at_last), REPEAT_FIRST_S
        if len(incoming.blocks) < incoming.count:
            while incoming.low in incoming.blocks:
                incoming.low += 1
            return (self._ask(member, incoming, now) if incoming.low >= incoming.asked else []), None
        del self._in[member, block.id]
        body = b"".join(incoming.blocks[number] for number in range(incoming.count))
        if blake3(body).digest() != incoming.offer.hash:
            return [], None
        return [Out(member, Taken(block.id).emit())], self._first(member, block.id, body)

    def _letters(self, member: PeerId) -> OrderedDict[bytes, _Outgoing]:
        return self._out.get(member) or OrderedDict()

    def _ask(self, member: PeerId, incoming: _Incoming, now: float) -> list[Out]:
        """Asks for the next blocks that are not here."""
        incoming.due_at = now + incoming.gap_s
        count = min(WINDOW, incoming.count - incoming.low)
        incoming.asked = incoming.low + count
        return [Out(member, Pull(incoming.offer.id, incoming.low, count).emit(), incoming.attempts)]

    def _first(self, member: PeerId, name: bytes, body: bytes) -> bytes | None:
        """The letter, where it is no repetition."""
        if (member, name) in self._known:
            return None
        self._known[member, name] = None
        while len(self._known) > MAX_KNOWN:
            self._known.popitem(last=False)
        return body
