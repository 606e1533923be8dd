"""Echo between members, under their pair keys (SPEC 5.4): kind 1 (1 request, 2 reply) | id 8."""

from dataclasses import dataclass
from typing import Final

ECHO_BYTES: Final = 9
_REQUEST: Final = 1
_REPLY: Final = 2


@dataclass(frozen=True, slots=True)
class Echo:
    """A request, or the reply to one."""

    reply: bool
    id: int

    def emit(self) -> bytes:
        return bytes((_REPLY if self.reply else _REQUEST,)) + self.id.to_bytes(8, "big")


def parse_untrusted(data: bytes) -> Echo | None:
    """The echo in a member control message; None when it is something else."""
    if len(data) != ECHO_BYTES or data[0] not in (_REQUEST, _REPLY):
        return None
    return Echo(data[0] == _REPLY, int.from_bytes(data[1:], "big"))
