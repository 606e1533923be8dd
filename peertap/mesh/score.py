"""What a trunk costs as a part of a way (SPEC 6.1), and how good a relay is to be connected to (SPEC 11.3)."""

import math
from typing import Final

LINK_COST: Final = 16  # ours: what a hop costs beside its round trip, so that fewer hops win among equals
COST_PER_DOUBLING: Final = 8  # ours: and each doubling of the round trip beyond 1 ms
LOSS_PER_DOUBLING: Final = 8  # ours: and of the loss beyond 1 %: TCP is half as fast at four times the loss
COST_STEP: Final = 4  # ours: smaller changes of cost are not announced
UNKNOWN_RTT_S: Final = 0.05  # ours: of a link that was not measured yet
LOAD_COST: Final = 16  # ours: what a relay costs whose busiest core has no time left
BUSY_COST: Final = 32  # ours: and if it says that it wants to be relieved: as a round trip 16 times as long
LOSSES_COST: Final = 8  # ours: and for each time that its trunk was lost of late


def link_cost(rtt_s: float, loss: float = 0.0, before: int = LINK_COST) -> int:
    """The cost of a trunk with this smoothed round trip and share of lost packets; what it was, where that is near."""
    cost = LINK_COST + round(_doublings(rtt_s, loss))
    return cost if abs(cost - before) >= COST_STEP else before


def relay_score(rtt_s: float, loss: float, load: float, losses: float, *, is_busy: bool) -> float:
    """How dear a relay is, beside its cost as a link; the less, the better.

    Args:
        load: share of a core, 0 to 1.
        losses: how often its trunk was lost of late.
    """
    return _doublings(rtt_s, loss) + LOAD_COST * load + BUSY_COST * is_busy + LOSSES_COST * losses


def _doublings(rtt_s: float, loss: float) -> float:
    return COST_PER_DOUBLING * math.log2(1 + rtt_s * 1000) + LOSS_PER_DOUBLING * math.log2(1 + loss * 100)
