"""The reference of all keys, rendered from the schema.

python -m peertap.config.reference > configs/reference.yaml
"""

from __future__ import annotations

import json
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Final, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from peertap.config.model import Config

WIDTH: Final = 112

_HEAD: Final = """\
# Every key of PeerTap's configuration, with its default. This file is rendered from the schema:
#     python -m peertap.config.reference > configs/reference.yaml
#
# YAML, or the same keys as JSON in a file whose name ends in .json. Only `vlans` or `relay` has to be there.
# Check a file:            peertap config check FILE
# Environment, over file:  PEERTAP_LOG__LEVEL=debug   PEERTAP_LISTEN__TCP=null   PEERTAP_PEERS='[/ip4/…]'
# [reloads]: SIGHUP applies a change to the running node; everything else needs a restart.
"""

# a value for what has no default, or whose default would hide the keys below it; and examples that say more than types
_SHOWN: Final[dict[str, str]] = {"vlans.label": "lab", "vlans.secret_file": "lab.secret"}
_NOTES: Final[dict[str, tuple[str, ...]]] = {
    "peers": (
        "  - /ip4/192.0.2.1/p2p/12D3KooW…                      every transport, default ports",
        "  - /dns/relay.example.org/tcp/4511/p2p/12D3KooW…     also /tcp/PORT/ws, /udp/PORT/quic-v1",
        "  - [/ip4/192.0.2.7/p2p/12D3KooW…, /ip6/2001:db8::7/p2p/12D3KooW…]",
    ),
    "relay": ("Absent by default; with these values it changes nothing.",),
    "relay.vlans": ('  vlans: ["3f2a*", "00112233445566778899aabbccddeeff"]',),
    "vlans": ("None by default; each entry has these keys.",),
    "vlans.tap.address": ('  address: ["10.9.0.1/24", "fd00:9::1/64"]',),
}


def render() -> str:
    """Returns the text of configs/reference.yaml."""
    return "\n".join([_HEAD, *_model(Config, "", 0)]).rstrip() + "\n"


def _model(model: type[BaseModel], path: str, depth: int) -> Iterator[str]:
    for name, field in model.model_fields.items():
        key = f"{path}{name}"
        yield from _comment(key, field, depth)
        below = _submodel(field)
        indent = "  " * depth
        if below is None:
            yield f"{indent}{name}: {_SHOWN.get(key) or _value(field.get_default())}"
        else:
            yield f"{indent}{name}:"
            if get_origin(field.annotation) is tuple:
                entry = list(_model(below, f"{key}.", depth + 2))
                first = next(index for index, line in enumerate(entry) if not line.lstrip().startswith("#"))
                entry[first] = f"{indent}  - {entry[first].lstrip()}"
                yield from entry
            else:
                yield from _model(below, f"{key}.", depth + 1)
        if depth == 0:
            yield ""


def _comment(key: str, field: FieldInfo, depth: int) -> Iterator[str]:
    extra = field.json_schema_extra if isinstance(field.json_schema_extra, dict) else {}
    marks = [f"[{extra['unit']}]"] if extra.get("unit") not in (None, "port") else []
    marks += ["[reloads]"] if extra.get("reloads") else []
    text = " ".join([field.description or "", *marks])
    indent = "  " * depth
    for line in textwrap.wrap(text, WIDTH - len(indent) - 2, break_on_hyphens=False):
        yield f"{indent}# {line}"
    for line in _NOTES.get(key, ()):
        yield f"{indent}# {line}"


def _submodel(field: FieldInfo) -> type[BaseModel] | None:
    for kind in (field.annotation, *get_args(field.annotation)):
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            return kind
    return None


def _value(value: object) -> str:
    if isinstance(value, tuple):
        return "[" + ", ".join(json.dumps(str(item)) for item in value) + "]"
    if isinstance(value, str | Path):
        return str(value)
    return json.dumps(value)


if __name__ == "__main__":
    sys.stdout.write(render())
