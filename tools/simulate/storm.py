"""What happens to the mesh: nodes that come and go, links that break, halves that part, nodes that lie."""

from dataclasses import dataclass, replace
from typing import Final

from peertap.types import Mac
from peertap.wire.control import Advert, Message, Routes
from peertap.wire.presence import SignedPresence
from tools.simulate.world import World

Macs = dict[str, list[Mac]]

STORM_S: Final = 5.0
AWAY_S: Final = (1.0, 3.0)
LIE_METRIC: Final = 1


@dataclass(frozen=True, slots=True)
class Storm:
    """Shares of all nodes, from 0 to 1; `partition_s`: how long the mesh is in two halves."""

    churn: float = 0.0
    partition_s: float = 0.0
    liars: float = 0.0
    dead: float = 0.0

    @property
    def is_any(self) -> bool:
        return any((self.churn, self.partition_s, self.liars, self.dead))

    @property
    def length_s(self) -> float:
        return max(STORM_S + AWAY_S[1] if self.churn or self.dead or self.liars else 0.0, self.partition_s)


def begin(world: World, storm: Storm, macs: Macs) -> None:
    """Sets everything off from now on."""
    now, chance = world.clock.now, world.random
    numbers = list(range(len(world.nodes)))
    for number in chance.sample(numbers, round(storm.churn * len(numbers))):
        goes_at = now + chance.uniform(0, STORM_S)
        world.clock.at(goes_at, _goes, world, number, chance.random() < 0.5)
        world.clock.at(goes_at + chance.uniform(*AWAY_S), _comes, world, number, macs)
    if storm.churn:
        for a, b, _ in chance.sample(world.plan.links, round(storm.churn * len(world.plan.links))):
            breaks_at = now + chance.uniform(0, STORM_S)
            world.clock.at(breaks_at, world.break_link, a, b)
            world.clock.at(breaks_at + chance.uniform(*AWAY_S), world.mend_link, a, b)
    for number in chance.sample(numbers, round(storm.dead * len(numbers))):
        world.clock.at(now + chance.uniform(0, STORM_S), _goes, world, number, True)
    if storm.partition_s:
        places = world.plan.places
        torn = [(a, b) for a, b, _ in world.plan.links if (places[a][0] < 0.5) != (places[b][0] < 0.5)]
        for a, b in torn:
            world.break_link(a, b)
            world.clock.at(now + storm.partition_s, world.mend_link, a, b)
    if storm.liars:
        transits = world.plan.transits
        world.liars = frozenset(chance.sample(transits, max(1, round(storm.liars * len(transits)))))
        _lie(world)


def _goes(world: World, number: int, silently: bool) -> None:
    if world.nodes[number].is_up:
        world.kill(number, silently=silently)


def _comes(world: World, number: int, macs: Macs) -> None:
    if not world.nodes[number].is_up:
        world.boot(number)
        world.nodes[number].talk_to(macs)


def _lie(world: World) -> None:
    """From now on some transits announce everything as if it were next to them, and now and then what nobody signed."""

    def changed(node: int, message: Message) -> Message | None:
        if node not in world.liars:
            return message
        match message:
            case Routes(batch, adverts):
                return Routes(batch, tuple(_lied(world, one) for one in adverts))
            case SignedPresence(author, said):  # whoever it passes on goes down, it says
                liar = world.nodes[node].identity
                gone = replace(said, sequence=said.sequence + 1, lifetime_s=0)
                return message if author == liar.peer_id else SignedPresence.sign(author, liar.sign, gone)
            case _:
                return message

    world.on_sent = changed


def _lied(world: World, advert: Advert) -> Advert:
    if world.random.random() < 0.1:
        return replace(advert, route=replace(advert.route, sequence=advert.route.sequence + 1))
    return replace(advert, metric=LIE_METRIC)
