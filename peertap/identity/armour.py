"""Key material as one token that survives copy and paste.

prefix "-" [label "-"] base32

base32 = RFC 4648 alphabet in lower case, no padding, of:
┌────────────────────────────────┬─────────────┐
│ key 32                         │ checksum 4  │
└────────────────────────────────┴─────────────┘
checksum = BLAKE3("PeerTap/1 " ‖ prefix ‖ lp(label) ‖ key)[:4]
"""

from __future__ import annotations

import base64
import binascii
import hmac
from typing import Final

import blake3

from peertap.errors import DecodeError

KEY_BYTES: Final = 32  # an Ed25519 seed (RFC 8032) and a VLAN secret (SPEC 3.1) alike
CHECKSUM_BYTES: Final = 4  # ours: a wrong paste passes once in 2^32; it is no security measure
TOKEN_TEXT_CHARS: Final = 58  # 36 bytes in base32 without padding
MAX_TEXT_CHARS: Final = 256  # ours: bounds what is read before it is understood
MAX_LONG_CHARS: Final = 4096  # ours: an invite with its addresses has some hundred


def emit(prefix: str, label: str, key: bytes) -> str:
    """Returns the token of `key`, usually 32 bytes; an empty `label` is left out."""
    body = base64.b32encode(key + _checksum(prefix, label, key)).decode("ascii").rstrip("=").lower()
    return "-".join(part for part in (prefix, label, body) if part)


def parse(prefix: str, text: str, *, what: str) -> tuple[str, bytes]:
    """Reads the token of a key; white space around it and the case of the base32 part do not matter.

    Returns:
        Label (perhaps empty; its characters are the caller's to check) and key (32 bytes).

    Raises:
        DecodeError: Not such a token, or damaged. The message never repeats any of the text.
    """
    text = text.strip()
    if len(text) > MAX_TEXT_CHARS:
        raise DecodeError(f"{what}: longer than {MAX_TEXT_CHARS} characters", hint="paste one whole line, nothing else")
    head, body = _parts(prefix, text, what)
    if len(body) != TOKEN_TEXT_CHARS:
        raise DecodeError(
            f"{what}: the last part has {len(body)} characters, not {TOKEN_TEXT_CHARS}", hint="copy the whole line"
        )
    return _parse(prefix, head, body, what)


def parse_long(prefix: str, text: str, *, what: str) -> tuple[str, bytes]:
    """The same for a token of up to MAX_LONG_CHARS whose content has no fixed size.

    Raises:
        DecodeError: Not such a token, or damaged. The message never repeats any of the text.
    """
    text = text.strip()
    if len(text) > MAX_LONG_CHARS:
        raise DecodeError(f"{what}: longer than {MAX_LONG_CHARS} characters", hint="paste one whole line, nothing else")
    return _parse(prefix, *_parts(prefix, text, what), what)


def _parts(prefix: str, text: str, what: str) -> tuple[str, str]:
    head, _, body = text.rpartition("-")
    if head.partition("-")[0] != prefix:
        raise DecodeError(f"{what}: does not start with {prefix}-", hint="copy the whole line")
    return head, body


def _parse(prefix: str, head: str, body: str, what: str) -> tuple[str, bytes]:
    label = head.partition("-")[2]
    try:
        raw = base64.b32decode(body.upper() + "=" * (-len(body) % 8))
    except (binascii.Error, ValueError):  # ValueError: characters beyond ASCII
        raise DecodeError(f"{what}: the last part is not base32 (a-z, 2-7)", hint="copy the whole line") from None
    content, checksum = raw[:-CHECKSUM_BYTES], raw[-CHECKSUM_BYTES:]
    canonical = hmac.compare_digest(emit(prefix, label, content).encode(), f"{head}-{body.lower()}".encode())
    if not canonical or not hmac.compare_digest(checksum, _checksum(prefix, label, content)):
        raise DecodeError(f"{what}: the checksum does not match", hint="a character was lost or changed: copy it again")
    return label, content


def _checksum(prefix: str, label: str, key: bytes) -> bytes:
    name = label.encode()
    message = b"PeerTap/1 " + prefix.encode() + len(name).to_bytes(2, "big") + name + key
    return blake3.blake3(message).digest(CHECKSUM_BYTES)
