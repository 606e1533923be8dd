"""What a relay carries for others (SPEC 6.4)."""

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from fnmatch import fnmatchcase
from typing import Final

from peertap.types import VlanId, VTag

MAX_GRANTS: Final = 65_536  # ours: bounds the table; the oldest goes


class Mode(Enum):
    """Whom a relay serves."""

    NONE = "none"  # relays for its own VLANs only
    OPEN = "open"
    RESTRICTED = "restricted"  # exactly the named VLANs
    ALLOW = "allow"  # VLANs that match a pattern
    DENY = "deny"  # VLANs that prove a name which matches none


@dataclass(slots=True)
class RelayPolicy:
    """Decides by VTag; VLANs prove their VLAN-ID by a grant where the mode asks for it."""

    mode: Mode
    patterns: tuple[str, ...] = ()
    names_itself: bool = False  # to whoever asks for a way that leads through it (SPEC 16)
    own: Callable[[VTag], bool] = field(default=lambda _vtag: False)
    _granted: dict[VTag, tuple[VlanId, float]] = field(default_factory=dict)

    @property
    def wants_grants(self) -> bool:
        return self.mode in (Mode.RESTRICTED, Mode.ALLOW, Mode.DENY)

    @property
    def relays(self) -> bool:
        return self.mode is not Mode.NONE

    def granted(self, vtag: VTag, vlan: VlanId, expiry: float) -> None:
        """A checked grant: this VTag is that VLAN's until then. One that changes nothing takes no room."""
        if not self._carries_named(vlan):
            return
        self._granted.pop(vtag, None)
        self._granted[vtag] = (vlan, expiry)
        while len(self._granted) > MAX_GRANTS:
            del self._granted[next(iter(self._granted))]

    def carries(self, vtag: VTag, now_unix: float) -> bool:
        """Whether routes and joins under this VTag are taken."""
        if self.own(vtag) or self.mode is Mode.OPEN:
            return True
        if self.mode is Mode.NONE:
            return False
        grant = self._granted.get(vtag)
        if grant is None or grant[1] < now_unix:
            return False
        return self._carries_named(grant[0])

    def _carries_named(self, vlan: VlanId) -> bool:
        matches = any(fnmatchcase(vlan.hex(), pattern.lower()) for pattern in self.patterns)
        return not matches if self.mode is Mode.DENY else matches
