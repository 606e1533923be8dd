"""The way that frames to a token go, node by node (SPEC 16): ours, and what neighbours ask.

ask ─▶ next node on the way ─▶ … ─▶ the token's owner        each answers by the trunk that asked it
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, Protocol

from peertap.mesh.audience import Key
from peertap.mesh.policy import RelayPolicy
from peertap.mesh.routes import RouteTable
from peertap.node.actions import Action, PathStep, ReportPath, Send
from peertap.node.events import PathAsked
from peertap.node.tables import Hop
from peertap.node.trunk import Trunk
from peertap.node.vlan import LocalVlan
from peertap.types import PeerId, TrunkId, VlanIndex, VTag
from peertap.wire.path import MAX_PATH_HOPS, MAX_WHY_BYTES, Bears, Means, PathAnswer, PathAsk

MAX_ASKED: Final = 256  # ours: questions under way, of us and of others; the oldest goes
ASKED_S: Final = 5.0  # ours: an answer later than that finds nobody
MAX_RTT_US: Final = 0xFFFFFFFF

_MEANS: Final = {"tcp": Means.TCP, "ws": Means.WS, "quic": Means.QUIC}
_BEARS: Final = {"udp": Bears.UDP, "stream": Bears.STREAM, "none": Bears.NONE}


class State(Protocol):
    """What ways depend on."""

    @property
    def trunks(self) -> dict[TrunkId, Trunk]: ...

    @property
    def routes(self) -> RouteTable: ...

    @property
    def vlans(self) -> dict[VlanIndex, LocalVlan]: ...

    @property
    def is_leaf(self) -> bool: ...


@dataclass(slots=True)
class _Question:
    """One that we passed on."""

    asker: TrunkId | None  # None: the operator
    report: int  # the operator's number
    hop: int  # of the node that we passed it to
    asked_at: float
    heard: set[int] = field(default_factory=set)


class Paths:
    """Asks, answers and passes on. A neighbour speaks for what lies behind it: an answer is worth its word."""

    def __init__(
        self,
        state: State,
        way: Callable[[Key], Hop | None],
        carries: Callable[[VTag], bool],
        policy: RelayPolicy,
        me: PeerId,
        random: Callable[[int], bytes],
        say: Callable[[Action], None],
    ) -> None:
        """Args: way: where frames to a token go now; carries: whether a neighbour may ask about a VTag."""
        self._state = state
        self._way = way
        self._carries = carries
        self._policy = policy
        self._me = me
        self._random = random
        self._say = say
        self._passed: dict[tuple[TrunkId, int], _Question] = {}

    def ask(self, event: PathAsked, now: float) -> None:
        """The operator wants to know the way to a member."""
        vlan = self._state.vlans.get(event.vlan)
        if vlan is None:
            self._say(ReportPath(event.id, PathStep(0, self._me, PathAnswer.LOST)))
            return
        key = vlan.towards(event.mac).key_of(event.mac)
        hop = self._way(key)
        trunk = self._state.trunks.get(hop[0]) if hop is not None else None
        if trunk is None:
            self._say(ReportPath(event.id, PathStep(0, self._me, PathAnswer.LOST, why="no route")))
            return
        member = next((peer.member for peer in vlan.introductions.peers.values() if peer.mac == event.mac), None)
        why = "; ".join(filter(None, (self._why_not_direct(member, trunk), trunk.choice.why(now))))
        step = PathStep(0, self._me, PathAnswer.PASSES, trunk.transport, trunk.choice.name, trunk.rtt_s, why)
        self._say(ReportPath(event.id, step))
        number = int.from_bytes(self._random(8), "big")
        self._pass_on(trunk.id, PathAsk(number, *key, 1), _Question(None, event.id, 1, now), now)

    def asked_untrusted(self, asker: Trunk, ask: PathAsk, now: float) -> None:
        """A neighbour asks. What may not be said, and what comes too often, is not answered."""
        key = (ask.vtag, ask.token)
        if not asker.asks.take(now) or not self._carries(ask.vtag):
            return
        if self._state.routes.owns(key):
            self._say(Send(asker.id, PathAnswer(ask.id, ask.hop, PathAnswer.OWNS)))
            return
        hop = None if self._state.is_leaf else self._way(key)
        trunk = self._state.trunks.get(hop[0]) if hop is not None and hop[0] != asker.id else None
        end = PathAnswer.LOST if trunk is None else PathAnswer.PASSES
        answer = PathAnswer(ask.id, ask.hop, end)
        if self._policy.names_itself:
            answer = self._named(answer, trunk, now)
        self._say(Send(asker.id, answer))
        if trunk is not None and ask.hop < MAX_PATH_HOPS and (trunk.id, ask.id) not in self._passed:
            onward = PathAsk(ask.id, ask.vtag, ask.token, ask.hop + 1)
            self._pass_on(trunk.id, onward, _Question(asker.id, 0, ask.hop + 1, now), now)

    def answered_untrusted(self, trunk: Trunk, answer: PathAnswer, now: float) -> None:
        """An answer goes back to who asked; one for each node, of nodes behind this neighbour."""
        question = self._passed.get((trunk.id, answer.id))
        if question is None or question.asked_at + ASKED_S < now:
            return
        if answer.hop < question.hop or answer.hop in question.heard:
            return
        question.heard.add(answer.hop)
        if question.asker is not None:
            if question.asker in self._state.trunks:
                self._say(Send(question.asker, answer))
            return
        # The nearest node is our neighbour, whether it says its name or not.
        name = PeerId(answer.name) if answer.name else (trunk.peer if answer.hop == 1 else None)
        means = answer.means.name.lower() if answer.means else None
        bears = answer.bears.name.lower() if answer.bears else None
        link_s = answer.rtt_us / 1e6 if answer.rtt_us else None
        step = PathStep(answer.hop, name, answer.end, means, bears, link_s, answer.why, now - question.asked_at)
        self._say(ReportPath(question.report, step))

    # Inside

    def _pass_on(self, trunk: TrunkId, ask: PathAsk, question: _Question, now: float) -> None:
        for name in [name for name, one in self._passed.items() if one.asked_at + ASKED_S < now]:
            del self._passed[name]
        while len(self._passed) >= MAX_ASKED:
            del self._passed[next(iter(self._passed))]
        self._passed[trunk, ask.id] = question
        self._say(Send(trunk, ask))

    def _named(self, answer: PathAnswer, trunk: Trunk | None, now: float) -> PathAnswer:
        """The answer with who we are, and by what the next node is reached."""
        if trunk is None:
            return PathAnswer(answer.id, answer.hop, answer.end, name=self._me)
        return PathAnswer(
            answer.id,
            answer.hop,
            answer.end,
            _MEANS[trunk.transport],
            _BEARS[trunk.choice.name],
            min(round((trunk.rtt_s or 0.0) * 1e6), MAX_RTT_US),
            self._me,
            trunk.choice.why(now, to_stranger=True)[:MAX_WHY_BYTES],
        )

    def _why_not_direct(self, member: PeerId | None, used: Trunk) -> str:
        """Why frames to a member take another node's trunk; what the dialler knows is the shell's to add."""
        if member is None or used.peer == member:
            return ""
        direct = [trunk for trunk in self._state.trunks.values() if trunk.peer == member and not trunk.is_leaving]
        if not direct:
            return "no trunk to the member itself"
        if direct[0].is_silent:
            return "the direct trunk is silent"
        rtt_s, other_s = direct[0].rtt_s, used.rtt_s
        if rtt_s is not None and other_s is not None:
            return f"the direct trunk is dearer: {rtt_s * 1000:.1f} ms, {other_s * 1000:.1f} ms to this one"
        return "the direct trunk is not better"
