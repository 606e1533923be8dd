"""Neighbours of former processes, as a file: where trunks to them worked, and when last (SPEC 12.5). Pure.

{"version": 1, "peers": [{"addresses": ["/ip4/…/p2p/…"], "seen": 1764000000, "dialled": true}], "servers": ["/ip4/…"]}
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from peertap.errors import DecodeError

VERSION: Final = 1
MAX_REMEMBERED: Final = 64  # ours: a node keeps fewer trunks
MAX_ADDRESSES: Final = 4  # ours: of one peer
MAX_SERVERS: Final = 16  # ours: any of them leads to the others
MAX_TEXT_CHARS: Final = 400
MAX_FILE_BYTES: Final = 256 << 10  # ours: 64 peers of 4 addresses are 110 KB
AGE_S: Final = 90 * 86_400  # ours: who was not seen for so long is forgotten
NEWS_S: Final = 3600  # ours: who is seen all the time is not written down all the time


@dataclass(frozen=True, slots=True)
class Remembered:
    """A neighbour.

    Args:
        addresses: multiaddrs, the best first.
        seen: Unix seconds.
        dialled: the trunk was ours to it, so the first address works; else it is where the peer came from.
    """

    addresses: tuple[str, ...]
    seen: int
    dialled: bool


@dataclass(slots=True)
class Memory:
    """All of them, by peer, and nodes that serve the rendezvous."""

    peers: dict[str, Remembered] = field(default_factory=dict)
    servers: tuple[str, ...] = ()

    def note(self, peer: str, addresses: Sequence[str], seen: int, *, dialled: bool) -> bool:
        """There is a trunk; says whether that is news. Whom we dialled stays before those who came to us."""
        former = self.peers.get(peer)
        before = former.addresses if former is not None else ()
        texts = tuple(dict.fromkeys((*addresses, *before)))[:MAX_ADDRESSES]
        was_dialled = former is not None and former.dialled
        fresh = Remembered(texts, seen, dialled or was_dialled)
        is_news = former is None or replace(former, seen=seen) != fresh or seen >= former.seen + NEWS_S
        if texts and is_news:
            self.peers[peer] = fresh
            self._shorten(seen)
        return bool(texts) and is_news

    def note_servers(self, addresses: Iterable[str]) -> bool:
        """Nodes that answered; says whether that is news."""
        fresh = tuple(addresses)[:MAX_SERVERS]
        is_news = bool(fresh) and set(fresh) != set(self.servers)
        if is_news:
            self.servers = fresh
        return is_news

    def emit(self) -> bytes:
        """Returns the file's bytes."""
        peers = [
            {"addresses": list(one.addresses), "seen": one.seen, "dialled": one.dialled} for one in self.peers.values()
        ]
        content = {"version": VERSION, "peers": peers, "servers": list(self.servers)}
        return json.dumps(content, indent=1).encode() + b"\n"

    @classmethod
    def parse(cls, data: bytes, now_unix: float) -> Memory:
        """Reads the file.

        Raises:
            DecodeError: it is another one, of another version, or damaged.
        """
        try:
            content = json.loads(data)
            if content["version"] != VERSION:
                raise DecodeError(f"cached peers: version {content['version']!r:.20}, this is {VERSION}")
            memory = cls(servers=tuple(_text(one) for one in content["servers"][:MAX_SERVERS]))
            for one in content["peers"][:MAX_REMEMBERED]:
                addresses = tuple(_text(text) for text in one["addresses"][:MAX_ADDRESSES])
                entry = Remembered(addresses, int(one["seen"]), bool(one["dialled"]))
                if addresses and now_unix - AGE_S < entry.seen:
                    memory.peers[_peer_in(addresses[0])] = entry
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise DecodeError(f"cached peers: damaged ({type(error).__name__})") from None
        return memory

    def _shorten(self, now_unix: int) -> None:
        while len(self.peers) > MAX_REMEMBERED:
            del self.peers[min(self.peers, key=lambda one: (self.peers[one].dialled, self.peers[one].seen))]
        for peer in [one for one, known in self.peers.items() if known.seen <= now_unix - AGE_S]:
            del self.peers[peer]


def _text(value: Any) -> str:
    if not isinstance(value, str) or len(value) > MAX_TEXT_CHARS:
        raise DecodeError("cached peers: damaged (an address is no text)")
    return value


def _peer_in(address: str) -> str:
    return address.rsplit("/", 1)[-1]
