"""How this node finds its network: remembered neighbours, the LAN, the rendezvous; all of it tells the book of peers.

cache        neighbours of former processes                       SPEC 12.5
LAN          members that announce themselves by mDNS             SPEC 12.2
rendezvous   members' records at nodes that serve                 SPEC 12.3
neighbours   tell which nodes serve                               SPEC 12.4
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Iterator, Sequence
from contextlib import aclosing
from ipaddress import ip_address
from typing import Any, Final, Protocol

import structlog
import trio

from peertap.config.address import parse_address
from peertap.config.model import Config
from peertap.errors import ConfigError, DecodeError, DeviceError, PeerTapError
from peertap.identity.node import NodeIdentity, format_peer_id, parse_peer_id
from peertap.mesh.book import Source
from peertap.mesh.dht import KEEP_S
from peertap.mesh.remembered import Memory
from peertap.node.node import Node
from peertap.node.vlan import LocalVlan
from peertap.shell.dial import Dialler
from peertap.shell.host import Connection, Host
from peertap.shell.interfaces import LocalAddress, address_changes
from peertap.shell.lan import Announcement, Heard, Lan, is_on_link
from peertap.shell.rendezvous import PROTOCOL, Rendezvous
from peertap.shell.store import Store
from peertap.shell.whereabouts import Whereabouts
from peertap.types import PeerId, TrunkId
from peertap.vlan.circles import (
    DAY_S,
    MAX_SLOTS,
    NONCE_BYTES,
    SALT_BYTES,
    SLOT_BYTES,
    SLOTS,
    Circle,
    days,
)
from peertap.wire.control import MAX_SERVING, Serving

FIRST_NOTE_S: Final = 5.0  # ours: a trunk that lives that long is worth remembering
NOTE_S: Final = 30.0  # ours: how often neighbours are noted
LAN_DAY_S: Final = 600.0  # ours: how often it is looked whether it is another day
LAN_RETRY_S: Final = 300.0  # ours: where multicast DNS is not to be had
LOOK_FIRST_S: Final = 2.0  # ours: a member that is alone looks again, at times that double
LOOK_MOST_S: Final = 300.0
ALONE_CHECK_S: Final = 5.0  # ours: how often it is looked whether a VLAN has lost all its members
SHOW_S: Final = KEEP_S / 2  # what is kept is said again in time
ANNOUNCE_S: Final = 600.0  # ours: serving nodes make themselves known to each other
LOOK_AT_ONCE_S: Final = 30.0  # ours: for one lookup
MAX_CIRCLES: Final = 64  # ours: VLANs, lobbies and doors that are looked for; the others wait for a neighbour


class Place(Protocol):
    """Where the process stands."""

    config: Config
    node: Node
    dialler: Dialler

    whereabouts: Whereabouts

    def dial_addresses(self) -> list[str]:
        """Multiaddrs by which others may find this node."""

    def neighbours(self) -> Iterator[tuple[TrunkId, Connection]]:
        """The trunks that are up."""


class _Sought:
    """When one circle is due."""

    def __init__(self) -> None:
        self.show_at = self.look_at = float("-inf")
        self.wait_s = LOOK_FIRST_S
        self.shown: tuple[str, ...] = ()
        self.day = -1


class Discovery:
    """All of it, for one running node."""

    def __init__(
        self, place: Place, host: Host, identity: NodeIdentity, store: Store, log: structlog.typing.FilteringBoundLogger
    ) -> None:
        self._place = place
        self._identity = identity
        self._store = store
        self._log = log
        self._config = place.config.discovery
        serves = [one for one in place.whereabouts.texts if "/tcp/" in one] if self._config.dht == "server" else []
        self.rendezvous: Final = Rendezvous(host, identity, serves=serves)
        if serves:
            host.handle(PROTOCOL, self.rendezvous.serve)
        self._memory = Memory()
        self._lan: Lan | None = None
        self._lan_state = "off" if not self._config.mdns else "starting"
        self._circles: dict[tuple[bytes, int], Circle] = {}
        self._sought: dict[bytes, _Sought] = {}
        self._told: set[TrunkId] = set()  # those that told who serves; trunks that are gone leave it
        self._changed = trio.Event()  # circles, or nodes that serve
        self._lan_changed = trio.Event()

    async def run(self) -> None:
        """Runs until it is cancelled."""
        self._recall()
        self._bootstrap()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._note_for_ever)
            nursery.start_soon(self._watch_addresses)
            if self._config.mdns:
                nursery.start_soon(self._keep_lan)
            if self._config.dht != "off":
                nursery.start_soon(self._keep_meeting)
                if self.rendezvous.serves:
                    nursery.start_soon(self._keep_serving)

    # What the runtime tells

    def changed(self) -> None:
        """VLANs, their secrets or invites may be others."""
        self._changed.set()
        self._lan_changed.set()

    def serving(self) -> Serving | None:
        """What a new neighbour is told."""
        known = [addresses[0] for _, addresses in self.rendezvous.servers.nearest(bytes(32), MAX_SERVING, proven=True)]
        texts = tuple(dict.fromkeys((*self.rendezvous.serves[:2], *known)))[:MAX_SERVING]
        return Serving(texts) if texts and self._config.dht != "off" else None

    def told(self, trunk: TrunkId, message: Serving) -> None:
        """A neighbour told who serves; it does so once."""
        if trunk in self._told:
            return
        self._told &= {number for number, _ in self._place.neighbours()}
        self._told.add(trunk)
        had = len(self.rendezvous.servers)
        self.rendezvous.learn(message.addresses)
        if len(self.rendezvous.servers) > had:
            self._hurry()

    def status(self) -> dict[str, Any]:
        """For `peertap status`."""
        return {
            "mdns": self._lan_state,
            "dht": self._config.dht,
            "known_peers": len(self._place.dialler.book),
            "remembered": len(self._memory.peers),
            "servers": len(self.rendezvous.servers),
            "records": len(self.rendezvous.records),
            "refused": self.rendezvous.refused,
        }

    def _hurry(self) -> None:
        for one in self._sought.values():
            one.look_at, one.wait_s = float("-inf"), LOOK_FIRST_S
        self._changed.set()

    async def _watch_addresses(self) -> None:
        """A machine that has moved says so to whoever looks for it, and looks itself."""
        try:
            async with aclosing(address_changes()) as changes:
                async for _ in changes:
                    if self._place.whereabouts.refresh():
                        self._log.info("addresses changed", listen=list(self._place.whereabouts.texts))
                        self._hurry()
                        self._lan_changed.set()
        except DeviceError as error:
            self._log.warning("addresses not watched", reason=str(error))

    # The cache

    def _recall(self) -> None:
        try:
            data = self._store.load_cache()
            if data is not None:
                self._memory = Memory.parse(data, time.time())
        except (ConfigError, DecodeError) as error:
            self._log.warning("cached peers ignored", reason=str(error))
        for peer, one in self._memory.peers.items():
            try:
                self._place.dialler.learn(Source.CACHED, parse_peer_id(peer), one.addresses)
            except DecodeError:
                continue
        self.rendezvous.learn(self._memory.servers[:8])
        self.rendezvous.learn(self._memory.servers[8:])

    async def _note_for_ever(self) -> None:
        await trio.sleep(FIRST_NOTE_S)
        while True:
            self.note()
            if not self._place.dialler.book.trunks:
                self._bootstrap()  # nobody else gives them up for good
            await trio.sleep(NOTE_S)

    def note(self) -> None:
        """Remembers the neighbours that there are now."""
        now, is_news = int(time.time()), False
        for number, connection in self._place.neighbours():
            trunk = self._place.node.trunks.get(number)
            told = trunk.addresses if trunk is not None else ()
            # where it listens, as far as that is where it is: nobody makes us dial others
            there = [one for one in told if _host_of(one) == connection.host and connection.host is not None]
            addresses = there if connection.dialled is None else [connection.dialled, *there]
            name = format_peer_id(connection.peer)
            if addresses:
                is_dialled = connection.dialled is not None
                is_news |= self._memory.note(name, addresses, now, dialled=is_dialled)
                self._place.dialler.learn(Source.CACHED, connection.peer, self._memory.peers[name].addresses)
        proven = self.rendezvous.servers.nearest(bytes(32), 16, proven=True)
        is_news |= self._memory.note_servers(addresses[0] for _, addresses in proven)
        if is_news:
            try:
                self._store.save_cache(self._memory.emit())
            except PeerTapError as error:
                self._log.warning("cached peers not written", reason=str(error))

    def _bootstrap(self) -> None:
        found: dict[PeerId, list[str]] = {}
        for one in self._config.bootstrap:
            found.setdefault(one.peer_id, []).append(str(one))
        for peer, addresses in found.items():
            self._place.dialler.learn(Source.BOOTSTRAP, peer, addresses)
            self.rendezvous.learn(addresses)

    # Circles

    def _vlans(self) -> list[LocalVlan]:
        """Those in which somebody is to be found, frames before letters."""
        vlans = [one for one in self._place.node.vlans.values() if one.source.is_shown or one.source.is_sought]
        return sorted(vlans, key=lambda one: not one.is_inside)[:MAX_CIRCLES]

    def _circle(self, vlan: LocalVlan, day: int) -> Circle:
        name = (vlan.source.keys.circle, day)
        if name not in self._circles:
            if len(self._circles) >= 4 * MAX_CIRCLES:  # three days of each, and former secrets
                self._circles.clear()
            self._circles[name] = Circle(*name)
        return self._circles[name]

    def _learn(self, source: Source, vlan: LocalVlan, member: PeerId, addresses: Sequence[str]) -> None:
        """A member was found; its addresses may be those of relays."""
        if member == self._identity.peer_id or not vlan.source.is_member(member):
            return
        by_peer: dict[PeerId, list[str]] = {}
        for text in addresses:
            try:
                address = parse_address(text)
            except ConfigError:
                continue
            if not self._is_overlay(address.host):
                by_peer.setdefault(address.peer_id, []).append(text)
        book = self._place.dialler.book
        for peer, texts in by_peer.items():
            if not set(texts) <= set(book.addresses(peer)):
                self._log.info("peer found", peer=format_peer_id(peer), by=source.name.lower())
            self._place.dialler.learn(source, peer, texts)

    def _is_overlay(self, host: str) -> bool:
        try:
            address = ip_address(host)
        except ValueError:
            return False
        return any(address in one for one in self._place.node.overlay if one.version == address.version)

    # The rendezvous

    async def _keep_serving(self) -> None:
        wait_s = LOOK_FIRST_S
        while True:
            answered = await self.rendezvous.announce() if len(self.rendezvous.servers) else 0
            wait_s = ANNOUNCE_S if answered else min(2 * wait_s, LOOK_MOST_S)
            await trio.sleep(random.uniform(0.5, 1) * wait_s)  # noqa: S311  jitter
            self._bootstrap()

    async def _keep_meeting(self) -> None:
        while True:
            self._changed = trio.Event()
            due_at = await self._meet()
            with trio.move_on_after(max(1.0, due_at - time.monotonic())):
                await self._changed.wait()
            await trio.sleep(0.1)  # what changes together is looked at together

    async def _meet(self) -> float:
        """Shows and looks wherever it is due; says when to come again."""
        vlans = self._vlans()
        secrets = {one.source.keys.circle for one in vlans}
        self._sought = {secret: one for secret, one in self._sought.items() if secret in secrets}
        if vlans and not len(self.rendezvous.servers):
            self._bootstrap()
        if not len(self.rendezvous.servers):
            return time.monotonic() + LOOK_MOST_S  # told of one, we come at once
        addresses = tuple(self._place.dial_addresses())
        for vlan in vlans:
            sought = self._sought.setdefault(vlan.source.keys.circle, _Sought())
            now, today = time.monotonic(), days(time.time())
            is_alone = vlan.source.is_sought and not any(names.reachable for names in vlan.names)
            is_news = addresses != sought.shown or sought.day != today[-1]
            shows = vlan.source.is_shown and (is_news or sought.show_at <= now)
            if not shows and not (is_alone and sought.look_at <= now):
                if not is_alone:
                    sought.wait_s, sought.look_at = LOOK_FIRST_S, max(sought.look_at, now + ALONE_CHECK_S)
                continue
            kept = 0
            for day in today:
                with trio.move_on_after(LOOK_AT_ONCE_S):
                    kept += await self._ask(vlan, self._circle(vlan, day), addresses if shows else None)
            now = time.monotonic()
            sought.look_at = now + sought.wait_s * random.uniform(0.5, 1)  # noqa: S311  jitter
            sought.wait_s = min(2 * sought.wait_s, LOOK_MOST_S)
            if shows:
                sought.shown, sought.day = addresses, today[-1]
                sought.show_at = (now + SHOW_S * random.uniform(0.8, 1)) if kept else sought.look_at  # noqa: S311
        dues = [min(one.show_at, one.look_at) for one in self._sought.values()]
        return min(dues, default=time.monotonic() + LOOK_MOST_S)

    async def _ask(self, vlan: LocalVlan, circle: Circle, addresses: tuple[str, ...] | None) -> int:
        """Looks under a circle's key; leaves where we are, if anything is said. Says how many keep that."""
        record = None
        if addresses is not None:
            record = circle.record(self._identity, addresses, time.time(), os.urandom(NONCE_BYTES))
        try:
            found, kept = await self.rendezvous.look(circle.key, record)
        except DeviceError as error:
            self._log.warning("rendezvous", reason=str(error))
            return 0
        for one in found:
            try:
                member = circle.open_untrusted(one)
            except DecodeError:
                continue
            self._learn(Source.RENDEZVOUS, vlan, member.member, member.addresses)
        self._log.debug("rendezvous", vlan=vlan.source.label, found=len(found), kept=kept)
        return kept

    # The LAN

    async def _keep_lan(self) -> None:
        said: object = None
        try:
            while True:
                self._lan_changed = trio.Event()
                wait_s = LAN_DAY_S
                try:
                    underlay = self._place.whereabouts.underlay
                    if self._lan is None or list(self._lan.underlay) != underlay:
                        await self._reopen_lan(underlay)
                        said = None
                    said = await self._announce(said)
                    if self._lan is not None:
                        self._lan.repeat()
                except DeviceError as error:
                    if self._lan_state != "failed":
                        self._log.warning("no discovery on the LAN", reason=str(error))
                    self._lan_state, wait_s = "failed", LAN_RETRY_S
                    await self._close_lan()
                with trio.move_on_after(wait_s):
                    await self._lan_changed.wait()
                    await trio.sleep(0.1)  # what changes together is announced together
        finally:
            await self._close_lan()

    async def _reopen_lan(self, underlay: Sequence[LocalAddress]) -> None:
        await self._close_lan()
        if underlay:
            self._lan = Lan(underlay, self._heard)
            await self._lan.open()
        self._lan_state = "on" if underlay else "no address"

    async def _close_lan(self) -> None:
        lan, self._lan = self._lan, None
        if lan is not None:
            await lan.close()

    async def _announce(self, said: object) -> object:
        """Says what is true now, where that is something else; returns what was said."""
        port, relay = self._place.config.listen.tcp, self._place.config.relay
        day = int(time.time()) // DAY_S
        shown = [one for one in self._vlans() if one.source.is_shown][:MAX_SLOTS] if port else []
        relays = self._identity.text if port and relay is not None and relay.mode == "open" else ""
        fresh = (day, relays, tuple(one.source.keys.circle for one in shown))
        if self._lan is None or fresh == said:
            return said
        if not shown and not relays:
            await self._lan.announce(None)
            return fresh
        salt, addresses = os.urandom(SALT_BYTES), tuple(str(one.address.ip) for one in self._lan.underlay)
        slots = [self._circle(one, day).lan_slot(salt, self._identity, port or 0, addresses) for one in shown]
        slots += [os.urandom(SLOT_BYTES) for _ in range(-len(slots) % SLOTS)]
        random.shuffle(slots)
        await self._lan.announce(Announcement(salt, tuple(slots), relays, port or 0))
        return fresh

    def _heard(self, heard: Heard) -> None:
        """Somebody announces itself on the LAN. Called by trio itself: nothing may be raised."""
        try:
            self._heard_untrusted(heard)
        except Exception as error:
            self._log.error("internal error", error=f"{type(error).__name__}: {error}", where="an announcement")

    def _heard_untrusted(self, heard: Heard) -> None:
        lan = self._lan
        if lan is None:
            return
        today = int(time.time()) // DAY_S
        for vlan in self._vlans():
            for circle in [self._circle(vlan, today + near) for near in (0, -1, 1)]:
                for found in circle.open_lan_untrusted(heard.salt, heard.slots):
                    hosts = [str(one) for one in found.addresses if is_on_link(str(one), lan.underlay)]
                    self._learn(Source.LAN, vlan, found.member, _multiaddrs(hosts, found.port, found.member))
        if heard.relay and heard.relay != self._identity.text:
            try:
                peer = parse_peer_id(heard.relay)
            except DecodeError:
                return
            hosts = [one for one in heard.addresses if is_on_link(one, lan.underlay) and not self._is_overlay(one)]
            self._place.dialler.learn(Source.RELAY, peer, _multiaddrs(hosts, heard.port, peer))


def _multiaddrs(hosts: Sequence[str], port: int, peer: PeerId) -> list[str]:
    tail = f"tcp/{port}/p2p/{format_peer_id(peer)}"
    return [f"/ip{6 if ':' in host else 4}/{host}/{tail}" for host in hosts]


def _host_of(address: str) -> str | None:
    try:
        return parse_address(address).host
    except ConfigError:
        return None
