"""What `peertap relay list` prints for people."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

_UNITS: Final = ((1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "kB"))


def relay_lines(relay: Mapping[str, Any]) -> Iterator[str]:
    """`peertap relay list` for people."""
    patterns = f": {', '.join(relay['patterns'])}" if relay["patterns"] else ""
    yield f"mode {relay['mode']}{patterns}"
    for rule in relay["rules"]:
        until = f", until {_day(rule['until'])}" if rule["until"] else ""
        yield f"  {rule['verdict']:5}  {rule['pattern']}{until}"
    for controller in relay["controllers"]:
        yield f"controller {controller}"
    for name, rate_bps in relay["limits"].items():
        if rate_bps:
            yield f"{name.removesuffix('_bps')}  {rate_bps / 1e6:g} Mbit/s"
    for why, count in relay["refused_updates"].items():
        yield f"refused updates  {count}  {why}"
    for one in relay["carried"]:
        name = one["vlan_id"] or ("-" if one["vtag"] else "the others")
        lost = one["over_rate"] + one["no_room"]
        dropped = f", {lost} packets dropped" if lost else ""
        state = "" if one["is_carried"] else "  not carried now"
        amount = f"{one['packets']} packets, {_size(one['bytes'])}"
        yield f"VTag {one['vtag'] or '-'}  VLAN-ID {name}  {amount}{dropped}{state}"


def _day(unix: int) -> str:
    from datetime import UTC, datetime  # 3 ms, seldom needed

    return f"{datetime.fromtimestamp(unix, UTC):%Y-%m-%d %H:%M} UTC"


def _size(count: int) -> str:
    for unit, name in _UNITS:
        if count >= unit:
            return f"{count / unit:.1f} {name}"
    return f"{count} bytes"
