"""What a trunk costs as a part of a way (SPEC 6.1): its round trip, in steps that do not flap."""

import math
from typing import Final

LINK_COST: Final = 16  # ours: what a hop costs beside its round trip, so that fewer hops win among equals
COST_PER_DOUBLING: Final = 8  # ours: and each doubling of the round trip beyond 1 ms
COST_STEP: Final = 4  # ours: smaller changes of cost are not announced


def link_cost(rtt_s: float, before: int = LINK_COST) -> int:
    """The cost of a trunk with this smoothed round trip; what it was `before`, where it hardly changed."""
    cost = LINK_COST + round(COST_PER_DOUBLING * math.log2(1 + rtt_s * 1000))
    return cost if abs(cost - before) >= COST_STEP else before
