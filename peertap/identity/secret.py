"""The secret of a VLAN with static membership, as a value and as one line to paste.

ptvlan1-LABEL-<58 characters of base32>        layout: armour.py; use: SPEC 3.1
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Final

from peertap.errors import DecodeError
from peertap.identity import armour

SECRET_BYTES: Final = armour.KEY_BYTES
TEXT_PREFIX: Final = "ptvlan1"
LABEL_HINT: Final = "a label is 1 to 32 of a-z, 0-9 and -, and starts with a letter or digit"

_LABEL = re.compile(r"[a-z0-9][a-z0-9-]{0,31}", re.ASCII)


def is_label(text: str) -> bool:
    """Says whether `text` can be the label of a VLAN."""
    return _LABEL.fullmatch(text) is not None


@dataclass(frozen=True, slots=True)
class VlanSecret:
    """Label and secret of a VLAN; `repr` shows the label only.

    Args:
        label: 1 to 32 of a-z, 0-9, "-"; part of the VLAN-ID.
        secret: 32 random bytes.
    """

    label: str
    secret: bytes = field(repr=False)

    def __post_init__(self) -> None:
        if not is_label(self.label):
            raise DecodeError("VLAN secret: the label is not valid", hint=LABEL_HINT)
        if len(self.secret) != SECRET_BYTES:
            raise DecodeError(f"VLAN secret: {len(self.secret)} bytes, not {SECRET_BYTES}")

    @classmethod
    def parse(cls, text: str) -> VlanSecret:
        """Reads the line that `emit` wrote.

        Raises:
            DecodeError: Anything else; the text is not repeated.
        """
        return cls(*armour.parse(TEXT_PREFIX, text, what="VLAN secret"))

    def emit(self) -> str:
        """Returns the secret as one line to paste."""
        return armour.emit(TEXT_PREFIX, self.label, self.secret)
