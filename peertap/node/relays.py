"""The relays that this node stays connected to, and the trunks that it ends for others (SPEC 11.3)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from peertap.mesh.keeping import Keeping, Tie
from peertap.node.actions import Action, Choose
from peertap.node.neighbours import Neighbours
from peertap.node.presence import OurPresence
from peertap.node.role import OurRole
from peertap.node.trunk import Trunk
from peertap.types import PeerId
from peertap.wire.control import CloseCode


class State(Protocol):
    """What the choice depends on."""

    @property
    def presence(self) -> OurPresence: ...

    @property
    def role(self) -> OurRole: ...


class OurRelays:
    """Looks every few seconds, and has the shell dial whom it chose."""

    def __init__(
        self,
        state: State,
        neighbours: Neighbours,
        chance: Callable[[], float],
        say: Callable[[Action], None],
        *,
        limit: int,
        chooses: bool,
        now: float,
    ) -> None:
        """Args: chance: a number from 0 up to 1; limit: trunks; chooses: whether it chooses relays by itself."""
        self._state = state
        self._neighbours = neighbours
        self._say = say
        self._keeping = Keeping(chance, limit, now, chooses=chooses)
        self._chosen: dict[PeerId, tuple[str, ...]] = {}

    @property
    def chosen(self) -> frozenset[PeerId]:
        """Whom we stay connected to though nobody told us to."""
        return self._keeping.chosen

    @property
    def is_full(self) -> bool:
        """Whether strangers are turned away."""
        return len(self._neighbours.trunks) >= self._keeping.limit

    def lost(self, trunk: Trunk, now: float) -> None:
        """A trunk ended."""
        if not trunk.is_leaving:
            self._keeping.lost(trunk.peer, now)

    def next_deadline(self) -> float:
        """When to look again."""
        return self._keeping.next_deadline()

    def tick(self, now: float) -> None:
        """Chooses anew."""
        if now < self._keeping.next_deadline():
            return
        seen, ties = self._state.presence.seen(), self._ties()
        self._keeping.look(now, seen, ties, is_leaf=self._state.role.is_leaf)
        chosen = {
            peer: seen[peer].presence.addresses if peer in seen else self._chosen.get(peer, ())
            for peer in sorted(self._keeping.chosen)
        }
        if chosen != self._chosen:
            self._chosen = chosen
            self._say(Choose(chosen))
        for number in self._keeping.superfluous(ties):
            trunk = self._neighbours.trunks[number]
            if trunk.dialled:
                self._neighbours.close(trunk, CloseCode.REPLACED, "another relay is better", now)
            else:
                self._neighbours.close(trunk, CloseCode.OVERLOAD, "too many trunks", now)

    # Inside

    def _ties(self) -> list[Tie]:
        return [
            Tie(
                trunk.id,
                trunk.peer,
                trunk.rtt_s,
                trunk.loss,
                dialled=trunk.dialled,
                is_wanted=trunk.is_wanted,
                is_silent=trunk.is_silent,
                serves=self._state.role.serves(trunk),
            )
            for trunk in self._neighbours.trunks.values()
            if not trunk.is_leaving
        ]
