"""What a relay carries for others (SPEC 6.4, 15.1)."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from fnmatch import fnmatchcase
from typing import Final

from peertap.types import VlanId, VTag
from peertap.wire.relay import Change, Verdict

MAX_GRANTS: Final = 65_536  # ours: bounds the table; the oldest goes
MAX_RULES: Final = 4096  # ours: as many as patterns in a configuration; more are refused
NEVER: Final = float("inf")
GRACE_S: Final = 0.7  # ours: neighbours that are asked for proofs have sent them by then; an update works within 1 s


class Mode(Enum):
    """Whom a relay serves."""

    NONE = "none"  # relays for its own VLANs only
    OPEN = "open"
    RESTRICTED = "restricted"  # exactly the named VLANs
    ALLOW = "allow"  # VLANs that match a pattern
    DENY = "deny"  # VLANs that prove a name which matches none


@dataclass(slots=True)
class RelayPolicy:
    """Decides by VTag; VLANs prove their VLAN-ID by a grant where mode or rules ask for it.

    `rules` were made while the relay ran, and go before mode and patterns. Of those that match, the one with most
    digits decides; among equals, DENY.
    """

    mode: Mode
    patterns: tuple[str, ...] = ()
    names_itself: bool = False  # to whoever asks for a way that leads through it (SPEC 16)
    own: Callable[[VTag], bool] = field(default=lambda _vtag: False)
    rules: dict[str, Change] = field(default_factory=dict)
    _ends_at: float = NEVER
    _granted: dict[VTag, tuple[VlanId, float]] = field(default_factory=dict)
    _unproven: set[VTag] = field(default_factory=set)  # carried before proofs were wanted, and for GRACE_S more
    _decided: dict[VlanId, bool] = field(default_factory=dict)

    @property
    def wants_grants(self) -> bool:
        named = self.mode in (Mode.RESTRICTED, Mode.ALLOW, Mode.DENY)
        return named or any(self._matters(rule) for rule in self.rules.values())

    @property
    def relays(self) -> bool:
        return self.mode is not Mode.NONE or any(rule.verdict is Verdict.ALLOW for rule in self.rules.values())

    @property
    def proven(self) -> Mapping[VTag, tuple[VlanId, float]]:
        """VTags whose VLAN-ID is proven, with it and the proof's expiry (Unix seconds)."""
        return self._granted

    def granted(self, vtag: VTag, vlan: VlanId, expiry: float) -> None:
        """A checked grant: this VTag is that VLAN's until then. One that changes nothing takes no room."""
        self._unproven.discard(vtag)
        if not self.serves(vlan):
            return
        self._granted.pop(vtag, None)
        self._granted[vtag] = (vlan, expiry)
        while len(self._granted) > MAX_GRANTS:
            del self._granted[next(iter(self._granted))]

    def carries(self, vtag: VTag, now_unix: float) -> bool:
        """Whether routes and joins under this VTag are taken."""
        if self.own(vtag) or vtag in self._unproven:
            return True
        grant = self._granted.get(vtag)
        if grant is None or grant[1] < now_unix:
            return self.mode is Mode.OPEN and not self.wants_grants
        return self.serves(grant[0])

    def serves(self, vlan: VlanId) -> bool:
        """What mode, patterns and rules say of a proven VLAN-ID."""
        decided = self._decided.get(vlan)
        if decided is None:
            if len(self._decided) >= MAX_GRANTS:
                self._decided.clear()
            decided = self._decided[vlan] = self._decide(vlan)
        return decided

    # Changes

    def configure(self, mode: Mode, patterns: tuple[str, ...]) -> None:
        """The configuration says so from now on."""
        self.mode, self.patterns = mode, patterns
        self._decided.clear()

    def has_room(self, changes: Iterable[Change]) -> bool:
        """Whether these rules can be kept."""
        after = set(self.rules)
        for change in changes:
            (after.discard if change.verdict is Verdict.FORGET else after.add)(change.pattern)
        return len(after) <= MAX_RULES

    def change(self, changes: Iterable[Change]) -> None:
        """Makes and forgets rules."""
        for change in changes:
            self.rules.pop(change.pattern, None)
            if change.verdict is not Verdict.FORGET:
                self.rules[change.pattern] = change
        self._ends_at = min((rule.until for rule in self.rules.values() if rule.until), default=NEVER)
        self._decided.clear()

    @property
    def ends_at(self) -> float:
        """When the next rule's time is over (Unix seconds)."""
        return self._ends_at

    def end_rules(self, now_unix: float) -> None:
        """Rules whose time is over go."""
        over = [rule for rule in self.rules.values() if 0 < rule.until <= now_unix]
        self.change(Change(Verdict.FORGET, rule.pattern) for rule in over)

    def end_proofs(self, now_unix: float) -> None:
        """Proofs whose time is over go."""
        for vtag in [vtag for vtag, (_, expiry) in self._granted.items() if expiry < now_unix]:
            del self._granted[vtag]

    def tolerate(self, vtags: Iterable[VTag]) -> None:
        """These were carried without proof; they stay until one comes, or `end_grace`."""
        self._unproven = {vtag for vtag in vtags if vtag not in self._granted}

    def end_grace(self) -> None:
        """What has not proven its VLAN-ID is not carried any more."""
        self._unproven.clear()

    # Inside

    def _matters(self, rule: Change) -> bool:
        """Whether it changes anything in this mode: only then do VLANs have to say who they are."""
        return self.mode is not Mode.OPEN if rule.verdict is Verdict.ALLOW else self.mode is Mode.OPEN

    def _decide(self, vlan: VlanId) -> bool:
        name = vlan.hex()
        matching = [rule for rule in self.rules.values() if fnmatchcase(name, rule.pattern)]
        if matching:
            best = max(matching, key=lambda rule: (_digits(rule.pattern), rule.verdict))
            return best.verdict is Verdict.ALLOW
        if self.mode in (Mode.NONE, Mode.OPEN):
            return self.mode is Mode.OPEN
        matches = any(fnmatchcase(name, pattern.lower()) for pattern in self.patterns)
        return not matches if self.mode is Mode.DENY else matches


def _digits(pattern: str) -> int:
    return len(pattern) - pattern.count("*")
