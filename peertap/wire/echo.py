"""Echo between members, under their pair keys (SPEC 5.4): kind 1 | id 8.

1 request, 2 reply: of the operator. 32 request, 33 reply: of a way; the reply goes by every way that there is.
"""

from dataclasses import dataclass
from typing import Final

ECHO_BYTES: Final = 9
_KINDS: Final = {1: (False, False), 2: (True, False), 32: (False, True), 33: (True, True)}  # reply, of a way
_NUMBERS: Final = {kind: number for number, kind in _KINDS.items()}


@dataclass(frozen=True, slots=True)
class Echo:
    """A request, or the reply to one."""

    reply: bool
    id: int
    of_way: bool = False

    def emit(self) -> bytes:
        return bytes((_NUMBERS[self.reply, self.of_way],)) + self.id.to_bytes(8, "big")


def parse_untrusted(data: bytes) -> Echo | None:
    """The echo in a member control message; None when it is something else."""
    if len(data) != ECHO_BYTES or data[0] not in _KINDS:
        return None
    reply, of_way = _KINDS[data[0]]
    return Echo(reply, int.from_bytes(data[1:], "big"), of_way)
