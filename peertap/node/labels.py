"""Labels of one trunk session, both directions (SPEC 6.3).

ours, for packets that we send:     Bind ──▶ (waiting) ──▶ Bound: usable
theirs, for packets that come:      Bind ──▶ (waiting until the data plane can act on it) ──▶ Bound
"""

from collections.abc import Collection
from dataclasses import dataclass, field
from itertools import islice
from typing import Final

from peertap.errors import PeerError
from peertap.types import Token, VTag
from peertap.wire.control import Bind, Bound, Unbind
from peertap.wire.routes import Origin

MAX_LABELS: Final = 16_384  # ours: live labels a trunk and direction
MAX_UNCONFIRMED: Final = 1024  # ours: Binds under way, so that a fail-over of many routes does not fill the queue
UNCONFIRMED_S: Final = 5.0  # ours: a Bind without a Bound counts for so long; it may lead nowhere, and blocks nobody
LAST_LABEL: Final = 0xFFFFFFFF  # SPEC 2.1: a label is a u32, never used again in a session

LabelKey = tuple[VTag, Token, Origin | None]


@dataclass(slots=True)
class _Out:
    label: int
    bound: bool = False
    said_at: float = 0.0


@dataclass(slots=True)
class _In:
    key: LabelKey
    confirmed: bool = False


@dataclass(slots=True)
class Labels:
    """The labels of one trunk."""

    _out: dict[LabelKey, _Out] = field(default_factory=dict)
    _by_label: dict[int, LabelKey] = field(default_factory=dict)
    incoming: dict[int, _In] = field(default_factory=dict)
    cut: bool = False
    _last: int = 0
    _last_in: int = 0

    def want(self, wanted: Collection[LabelKey], now: float) -> list[Bind | Unbind]:
        """Makes our labels exactly these, the first ones first; returns what to say.

        `cut` says that not all were bound now. Beyond MAX_LABELS the last ones get none.
        """
        if len(wanted) > MAX_LABELS:
            wanted = dict.fromkeys(islice(wanted, MAX_LABELS))
        out: list[Bind | Unbind] = []
        for key in [key for key in self._out if key not in wanted]:
            gone = self._out.pop(key)
            del self._by_label[gone.label]
            out.append(Unbind(gone.label))
        unconfirmed = sum(not one.bound and one.said_at + UNCONFIRMED_S > now for one in self._out.values())
        self.cut = False
        for key in wanted:
            if unconfirmed >= MAX_UNCONFIRMED:
                self.cut = True
                break  # the next Bound makes room
            if key not in self._out and self._last < LAST_LABEL:
                unconfirmed += 1
                self._last += 1
                self._out[key] = _Out(self._last, said_at=now)
                self._by_label[self._last] = key
                out.append(Bind(self._last, *key))
        return out

    def usable(self, key: LabelKey) -> int | None:
        """Our label for this token, once the neighbour has confirmed it."""
        out = self._out.get(key)
        return out.label if out is not None and out.bound else None

    def bound(self, message: Bound) -> bool:
        """The neighbour confirmed; returns whether that is news."""
        key = self._by_label.get(message.label)
        if key is None or self._out[key].bound:
            return False
        self._out[key].bound = True
        return True

    def bind_untrusted(self, message: Bind) -> None:
        """The neighbour will use a label.

        Raises: PeerError when it uses one again or binds too many.
        """
        if message.label <= self._last_in:
            raise PeerError(f"label {message.label} was used before in this session")
        if len(self.incoming) >= MAX_LABELS:
            raise PeerError(f"more than {MAX_LABELS} labels")
        self._last_in = message.label
        self.incoming[message.label] = _In((message.vtag, message.token, message.root))

    def unbind_untrusted(self, message: Unbind) -> bool:
        """The neighbour uses a label no more; returns whether it had it."""
        return self.incoming.pop(message.label, None) is not None

    def confirm(self, label: int) -> bool:
        """Whether the Bound for this label is still to be said; it counts as said then."""
        entry = self.incoming.get(label)
        if entry is None or entry.confirmed:
            return False
        entry.confirmed = True
        return True
