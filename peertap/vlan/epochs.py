"""Which keys of a VLAN may be under way now (PROTOCOL 2, SPEC 3.4).

    began            2 s later                       5 s after the next one began
    │ received       │ sent under                    │ gone
    ├────────────────┴───────────────────────────────┤
    after a removal: 0.3 s, and 1 s

The newest epoch is received at once; frames are sealed under it a little later, when the others have it too.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from peertap._core import VlanKeys

SEND_AFTER_S: Final = 2.0  # PROTOCOL 2
SEND_AFTER_REMOVAL_S: Final = 0.3  # PROTOCOL 2
GRACE_S: Final = 5.0  # PROTOCOL 2
GRACE_AFTER_REMOVAL_S: Final = 1.0  # PROTOCOL 2
MAX_EPOCHS: Final = 64  # ours: of a burst of more than that some epochs pass unused


@dataclass(slots=True)
class Epoch:
    """The keys of one epoch, from when we send under them, and until when we receive. `number` rises."""

    number: int
    keys: VlanKeys
    send_from: float
    receive_until: float = float("inf")

    @property
    def id(self) -> bytes:
        """The MLS-ID."""
        return self.keys.mls_id


class Epochs:
    """The epochs that are live, newest first. There is always one."""

    def __init__(self, keys: VlanKeys) -> None:
        self.sending = Epoch(0, keys, float("-inf"))
        self.live = [self.sending]

    @property
    def newest(self) -> Epoch:
        return self.live[0]

    def begin(self, keys: VlanKeys, now: float, *, removal: bool, at_once: bool = False) -> Epoch:
        """An epoch began here. Returns it.

        Args:
            removal: somebody is no member any more.
            at_once: nobody hears us under the former ones.
        """
        grace_s = GRACE_AFTER_REMOVAL_S if removal else GRACE_S
        for epoch in self.live:
            epoch.receive_until = min(epoch.receive_until, now + grace_s)
        send_after_s = 0.0 if at_once else SEND_AFTER_REMOVAL_S if removal else SEND_AFTER_S
        began = Epoch(self.newest.number + 1, keys, now + send_after_s)
        if len(self.live) >= MAX_EPOCHS:  # of a burst those pass unused that others have hardly begun to use
            self.live.remove(next(one for one in self.live if one is not self.sending))
        self.live.insert(0, began)
        return began

    def later_than(self, epoch: Epoch) -> list[Epoch]:
        """Those that began after it, newest first."""
        return [one for one in self.live if one.number > epoch.number]

    def next_deadline(self) -> float:
        """When `tick` has something to do."""
        switches = [one.send_from for one in self.later_than(self.sending)]
        return min([one.receive_until for one in self.live] + switches)

    def tick(self, now: float) -> tuple[bool, bool]:
        """Whether frames are sealed under a later epoch from now on, and whether an epoch is over.

        It never goes back: a key that is made a second time would count from 0 again.
        """
        newer = next((one for one in self.later_than(self.sending) if one.send_from <= now), self.sending)
        switched, self.sending = newer is not self.sending, newer
        live = [one for one in self.live if one.receive_until > now or one is self.newest or one is newer]
        ended, self.live = len(live) < len(self.live), live
        return switched, ended
