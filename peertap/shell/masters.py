"""Notices when a VLAN's interface becomes a port of a bridge: what is behind it is another LAN then (SPEC 14.2)."""

from __future__ import annotations

import socket
from collections.abc import Callable
from contextlib import suppress
from typing import Final

import trio

from peertap.errors import DeviceError
from peertap.node.events import Event, PortAttached
from peertap.shell.ports import Ports
from peertap.types import VlanIndex

_NETLINK_ROUTE: Final = 0  # linux/netlink.h
_RTMGRP_LINK: Final = 1  # linux/rtnetlink.h
_READ_BYTES: Final = 1 << 16


async def watch_masters(ports: Ports, post: Callable[[Event], None]) -> None:
    """Posts PortAttached at each change, until cancelled."""
    raw = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, _NETLINK_ROUTE)
    with raw:
        raw.setblocking(False)
        raw.bind((0, _RTMGRP_LINK))
        known: dict[VlanIndex, int | None] = {}
        while True:
            with suppress(DeviceError):  # the next change tells as well
                now = ports.masters()
                for index in now.keys() & known.keys():
                    if known[index] != now[index]:
                        post(PortAttached(index))
                known = now
            await trio.lowlevel.wait_readable(raw.fileno())
            _drain(raw)


def _drain(raw: socket.socket) -> None:
    """Takes what waits; the messages say that something changed, the kernel is asked what."""
    try:
        while raw.recv(_READ_BYTES):
            pass
    except OSError:
        return  # nothing more, or more than the socket holds: asked anyway
