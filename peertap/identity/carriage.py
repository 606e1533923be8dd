"""A carriage grant as one line to paste: ptcarry1-LABEL-<base32>. Layout: armour.py, SPEC 15.4. It is no secret."""

from __future__ import annotations

from typing import Final

from peertap.identity import armour
from peertap.wire.relay import Carriage

TEXT_PREFIX: Final = "ptcarry1"
_WHAT: Final = "carriage grant"


def emit_line(label: str, carriage: Carriage) -> str:
    """The line; the label is there for people."""
    return armour.emit(TEXT_PREFIX, label, carriage.emit())


def parse_line(text: str) -> Carriage:
    """Reads the line that `emit_line` wrote.

    Raises:
        DecodeError: anything else.
    """
    _, content = armour.parse_long(TEXT_PREFIX, text, what=_WHAT)
    return Carriage.parse_untrusted(content)
