"""Whether neighbours know what they were told: short digests of it, once a minute where something was said (SPEC 6.1).

what we told ─▶ digest, a VTag each ─▶ the neighbour compares it with what it heard ─▶ it asks for that VTag again
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Final

from blake3 import blake3

from peertap.mesh.audience import Key
from peertap.types import TrunkId, VTag
from peertap.wire.control import DIGEST_BYTES, MAX_DIGESTS_PER_MESSAGE, Advert, Digest

GAP_S: Final = 60.0  # PROTOCOL 5: every minute
BUSY_S: Final = 1.0  # ours: it is looked at again then, where something is under way to the neighbour
MAX_ASKED: Final = 32  # ours: VTags of one message that are asked for again; below what a neighbour answers at once
MAX_DIFFERING: Final = 4096  # ours: VTags of one neighbour that are remembered as differing
NOTHING: Final = bytes(DIGEST_BYTES)


def digests(told: Iterable[tuple[Key, Advert]]) -> dict[VTag, bytes]:
    """Of what was told under each VTag: the first 8 bytes of H over the sorted VFT 16 ‖ origin 16 ‖ metric 2."""
    rows: defaultdict[VTag, list[bytes]] = defaultdict(list)
    for (vtag, token), advert in told:
        rows[vtag].append(token + advert.route.origin.emit() + advert.metric.to_bytes(2, "big"))
    return {vtag: blake3(b"".join(sorted(some))).digest(DIGEST_BYTES) for vtag, some in rows.items()}


class Digests:
    """When to say digests to whom, and what differed in those that came."""

    def __init__(self) -> None:
        self._due: dict[TrunkId, float] = {}
        self._listed: dict[TrunkId, frozenset[VTag]] = {}  # in the last digests that were said
        self._differing: dict[TrunkId, dict[VTag, int]] = {}  # how often in succession

    def told(self, trunk: TrunkId, now: float) -> None:
        """A neighbour is told of routes: it hears a digest within a minute."""
        self._due.setdefault(trunk, now + GAP_S)

    def gone(self, trunk: TrunkId) -> None:
        for known in (self._due, self._listed, self._differing):
            known.pop(trunk, None)

    def next_deadline(self) -> float | None:
        """When there is something to say, or to look whether it can be said."""
        return min(self._due.values(), default=None)

    def due(self, now: float) -> list[TrunkId]:
        """To whom digests are to be said now; the caller says them, or postpones."""
        due = [trunk for trunk, at in self._due.items() if at <= now]
        for trunk in due:
            del self._due[trunk]
        return due

    def postpone(self, trunk: TrunkId, now: float) -> None:
        """What the neighbour knows is just changing."""
        self._due[trunk] = now + BUSY_S

    def messages(self, trunk: TrunkId, told: Mapping[VTag, bytes]) -> list[Digest]:
        """What to say of what it was told; VTags under which nothing holds any more are named once more."""
        ended = self._listed.get(trunk, frozenset()) - told.keys()
        self._listed[trunk] = frozenset(told)
        every = [*told.items(), *((vtag, NOTHING) for vtag in sorted(ended))]
        size = MAX_DIGESTS_PER_MESSAGE
        return [Digest(tuple(every[at : at + size])) for at in range(0, len(every), size)]

    def compare(
        self, trunk: TrunkId, said: Iterable[tuple[VTag, bytes]], heard: Mapping[VTag, bytes]
    ) -> tuple[list[VTag], list[VTag]]:
        """Compares what a neighbour says that it told with what we heard of it.

        Returns: VTags to ask for again, and of those the ones that differ though that was done: all that was heard
        there goes first. Where that does not help either, nothing does.
        """
        asked, void = list[VTag](), list[VTag]()
        differing = self._differing.setdefault(trunk, {})
        for vtag, digest in said:
            if heard.get(vtag, NOTHING) == digest:
                differing.pop(vtag, None)
            elif len(asked) < MAX_ASKED and (vtag in differing or len(differing) < MAX_DIFFERING):
                times = differing[vtag] = differing.get(vtag, 0) + 1
                asked += [vtag] if times <= 2 else []
                void += [vtag] if times == 2 else []
        return asked, void
