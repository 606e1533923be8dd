"""Where this machine listens, and where others may reach it; both change when it moves."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterable
from typing import Final

from peertap.config.model import Config, Listen
from peertap.errors import DeviceError
from peertap.shell.interfaces import LocalAddress, local_addresses, port_is_free

MAX_TEXTS: Final = 16  # ours: as many as a neighbour takes (SPEC 4.4, Endpoints)


def check_ports(listen: Listen) -> None:
    """py-libp2p shares ports silently with whoever has them (SO_REUSEPORT): look first.

    Raises: DeviceError.
    """
    tcp, udp = socket.SOCK_STREAM, socket.SOCK_DGRAM
    for key, kind, port in (
        ("tcp", tcp, listen.tcp), ("websocket", tcp, listen.websocket), ("quic", udp, listen.quic),
        ("udp", udp, listen.udp),
    ):  # fmt: skip
        if port and not port_is_free(kind, port):
            raise DeviceError(
                f"listen.{key}: port {port} is taken by another program",
                hint="choose another one; `peertap init --node NAME` does so for a second node",
            )


def listen_addresses(listen: Listen) -> list[str]:
    """The multiaddrs on which libp2p is to listen."""
    out = []
    for address in listen.address:
        base = f"/ip{address.version}/{address}"
        out += [f"{base}/tcp/{listen.tcp}"] if listen.tcp is not None else []
        out += [f"{base}/tcp/{listen.websocket}/ws"] if listen.websocket is not None else []
        out += [f"{base}/udp/{listen.quic}/quic-v1"] if listen.quic is not None else []
    return out


class Whereabouts:
    """This machine's addresses, as they were when they were last looked at."""

    def __init__(self, config: Config, peer_id: str, taps: Callable[[], Iterable[str]]) -> None:
        """Args: taps: the interfaces of VLANs that there are now."""
        self._listen = config.listen
        self._peer_id = peer_id
        self._configured = [vlan.tap.name for vlan in config.vlans]
        self._taps = taps
        self.underlay: list[LocalAddress] = []  # where others may reach this machine: not over the node's own VLANs
        self.texts: tuple[str, ...] = ()  # multiaddrs that others can dial, as far as this machine knows
        self.refresh()

    def refresh(self) -> bool:
        """Looks again; says whether anything is new.

        Raises: DeviceError.
        """
        found = local_addresses(without=[*self._configured, *sorted(self._taps())])
        is_news, self.underlay = found != self.underlay, found
        self.texts = tuple(text for one in found for text in self._texts(one))[:MAX_TEXTS]
        return is_news

    def _texts(self, one: LocalAddress) -> list[str]:
        listen, base, tail = self._listen, one.multiaddr, f"/p2p/{self._peer_id}"
        out = [f"{base}/tcp/{listen.tcp}{tail}"] if listen.tcp else []
        out += [f"{base}/tcp/{listen.websocket}/ws{tail}"] if listen.websocket else []
        out += [f"{base}/udp/{listen.quic}/quic-v1{tail}"] if listen.quic else []
        return out
