"""An invite as one line to paste: ptjoin1-LABEL-<base32>. Layout: armour.py, SPEC 10.1."""

from __future__ import annotations

from typing import Final

from peertap.errors import DecodeError
from peertap.identity import armour
from peertap.identity.secret import is_label
from peertap.wire.invite import Invite

TEXT_PREFIX: Final = "ptjoin1"
_WHAT: Final = "invite"


def emit_line(invite: Invite) -> str:
    """The line."""
    return armour.emit(TEXT_PREFIX, invite.label, invite.emit())


def parse_line(text: str) -> Invite:
    """Reads the line that `emit_line` wrote.

    Raises:
        DecodeError: anything else; the text is not repeated.
    """
    label, content = armour.parse_long(TEXT_PREFIX, text, what=_WHAT)
    invite = Invite.parse_untrusted(content)
    if invite.label != label or not is_label(label):
        raise DecodeError("invite: the label is not valid", hint="ask for a new one")
    return invite
