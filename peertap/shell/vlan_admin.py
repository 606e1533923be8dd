"""The admin socket's commands for VLANs with a group (SPEC 8.3): from JSON to what the node understands, and back."""

from __future__ import annotations

import re
import socket
import time
from collections.abc import AsyncGenerator, Callable
from pathlib import Path
from typing import Any, Final, Protocol

import trio
from pydantic import ValidationError

from peertap._core import AES_256_GCM
from peertap.config.model import Tap
from peertap.errors import ConfigError, DecodeError
from peertap.identity.invite import emit_line, parse_line
from peertap.identity.node import format_peer_id, parse_peer_id
from peertap.identity.secret import LABEL_HINT, is_label
from peertap.node.commands import (
    Agree,
    Approve,
    Bridge,
    Command,
    Create,
    Demote,
    JoinBy,
    Kick,
    LeaveVlan,
    MakeInvite,
    Promote,
    Restore,
    Revoke,
    Rotate,
)
from peertap.node.group_vlan import GroupVlan
from peertap.node.node import Node
from peertap.node.relay_control import RelayCommand
from peertap.observe.groups import SUITES, group_status, invites, state
from peertap.shell.relay_admin import carriage_line
from peertap.shell.store import MAX_RECORD_FILE_BYTES, read_private, write_file
from peertap.types import peer_id_of, public_key_of
from peertap.vlan.record import Port, VlanRecord
from peertap.wire.charter import MAX_CREATORS

JOIN_S: Final = 30.0  # ours: `join` says how it stands after that, and the node goes on trying
LEAVE_S: Final = 10.0  # ours
LOOK_S: Final = 1.0  # ours: a waiting command looks so often where nothing happens
PROGRESS_S: Final = 2.0  # long work shows that it lives
DEFAULT_SUITE: Final = "hybrid"

Answers = AsyncGenerator[dict[str, Any], None]


class Runtime(Protocol):
    """The running node, as these commands need it."""

    @property
    def node(self) -> Node: ...

    def command(self, command: Command | RelayCommand) -> dict[str, Any]:
        """Does it. Raises PeerTapError."""

    async def next_change(self) -> None:
        """Waits until something happens to the node."""

    def dial_addresses(self) -> list[str]:
        """Multiaddrs by which newcomers may find this node, its own first."""

    def free_interface(self) -> str:
        """A name that no interface has."""

    def peers_not_reached(self) -> dict[str, str]:
        """Peer IDs that cannot be dialled now, with the reason."""


class VlanAdmin:
    """Answers requests whose command begins with "vlan "."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime

    async def answer(self, name: str, request: dict[str, Any]) -> Answers:
        """What the command leads to; several answers where it takes time.

        Raises: PeerTapError.
        """
        match name:
            case "create":
                yield self._create(request)
            case "invite":
                yield self._invite(request)
            case "join":
                async for one in self._join(request):
                    yield one
            case "leave":
                async for one in self._leave(request):
                    yield one
            case "members":
                yield self._members(request)
            case "invites":
                yield self._invites(request)
            case "approve" | "refuse" | "kick" | "promote" | "demote" | "bridge":
                yield self._person(name, request)
            case "grant":
                yield carriage_line(self._runtime.node, request)
            case "backup":
                yield self._backup(request)
            case "restore":
                yield self._restore(request)
            case "rotate":
                yield self._runtime.command(Rotate(_label(request)))
            case _:
                raise ConfigError(f"no command {name[:40]!r} for VLANs")

    def _create(self, request: dict[str, Any]) -> dict[str, Any]:
        label, wanted = _label(request), request.get("suite", DEFAULT_SUITE)
        if not is_label(label):
            raise ConfigError("not a label", key="LABEL", hint=LABEL_HINT)
        suite = next((number for number, text in SUITES.items() if text == wanted), None)
        if suite is None:
            raise ConfigError(f"{str(wanted)[:40]!r} is no suite", key="--suite", hint=", ".join(SUITES.values()))
        founders, threshold = self._founders(request)
        port, is_public = self._port(request), request.get("public") is True
        return self._runtime.command(Create(label, suite, AES_256_GCM, port, founders, threshold, is_public))

    def _founders(self, request: dict[str, Any]) -> tuple[tuple[bytes, ...], int]:
        """Who are admins from the beginning beside us, and how many of all have to agree."""
        founders: dict[bytes, None] = {}
        for text in _texts(request, "founders"):
            try:
                founders[public_key_of(parse_peer_id(text))] = None
            except DecodeError as error:
                raise ConfigError(f"{text[:60]!r}: {error.what}", key="--admin", hint="peertap id prints it") from None
        if public_key_of(self._runtime.node.identity.peer_id) in founders:
            raise ConfigError("this node is an admin anyway", key="--admin", hint="name the others")
        wanted = str(request.get("admins") or f"1-of-{1 + len(founders)}")
        found = re.fullmatch(r"([0-9]{1,2})-of-([0-9]{1,2})", wanted, re.ASCII)
        if found is None or not 1 <= int(found[1]) <= int(found[2]) <= MAX_CREATORS:
            raise ConfigError(f"{wanted[:20]!r} is no number of admins", key="--admins", hint="write 2-of-3")
        if int(found[2]) != 1 + len(founders):
            named = f"{wanted} names {int(found[2]) - 1} admins beside this node, not {len(founders)}"
            raise ConfigError(named, key="--admins", hint="each with --admin PEER_ID; peertap id prints it there")
        return tuple(founders), int(found[1])

    def _invite(self, request: dict[str, Any]) -> dict[str, Any]:
        uses, lifetime_s = request.get("uses", 1), request.get("lifetime_s", 86_400)
        if not isinstance(uses, int) or not isinstance(lifetime_s, int) or not 0 < uses <= 0xFFFF:
            raise ConfigError("uses must be from 1 to 65,535", key="--uses")
        extra = _texts(request, "addresses")
        addresses = tuple(dict.fromkeys([*extra, *self._runtime.dial_addresses()]))[:8]
        if not addresses:
            raise ConfigError("this node listens nowhere that others could dial", hint="add --address MULTIADDR")
        found = self._runtime.command(
            MakeInvite(_label(request), uses, lifetime_s, bool(request.get("approve")), addresses)
        )
        invite = found.pop("invite")
        line = emit_line(invite)
        return {**found, "line": line, "id": invite.id.hex()[:8], "expires_in_s": lifetime_s, "uses": uses}

    async def _join(self, request: dict[str, Any]) -> Answers:
        try:
            invite = parse_line(str(request.get("line", "")))
        except DecodeError as error:
            raise ConfigError(error.what, hint=error.hint) from None
        began = said = time.monotonic()
        self._runtime.command(JoinBy(invite, self._port(request)))
        vlan = self._runtime.node.groups.vlans[invite.label]
        while (found := state(vlan)) == "joining" and time.monotonic() < began + JOIN_S:
            await self._look_again()
            if time.monotonic() > said + PROGRESS_S:
                said = time.monotonic()
                yield {"progress": self._why_not_in(vlan)}
        if found == "refused":
            raise ConfigError(f"not let in: {group_status(self._runtime.node, vlan)['reason']}")
        status = group_status(self._runtime.node, vlan)
        if found != "member":
            yield {**status, "next": self._why_not_in(vlan)}
            return
        tap = self._tap(vlan)
        yield {**status, "seconds": round(time.monotonic() - began, 3), "tap": tap}

    def _why_not_in(self, vlan: GroupVlan) -> str:
        if state(vlan) == "waiting":
            return f"{group_status(self._runtime.node, vlan)['reason']}; this node waits and comes in by itself"
        if vlan.joining is None:
            return "opening the VLAN"
        inviter = format_peer_id(peer_id_of(vlan.joining.invite.inviter))
        failures = self._runtime.peers_not_reached()
        reason = failures.get(inviter) or next(iter(failures.values()), None)
        why = f" ({reason})" if reason else ""
        return f"the inviter {inviter} does not answer yet{why}; this node goes on trying until the invite expires"

    async def _leave(self, request: dict[str, Any]) -> Answers:
        label = _label(request)
        vlan = self._runtime.node.groups.vlans.get(label)
        self._runtime.command(LeaveVlan(label, bool(request.get("at_once"))))
        began = time.monotonic()
        while vlan is not None and not vlan.is_over and time.monotonic() < began + LEAVE_S:
            await self._look_again()
        if vlan is None or vlan.is_over:
            yield {"vlan": label, "state": "gone"}
        else:
            yield {"vlan": label, "state": "leaving", "next": "an admin takes note within a minute of being reachable"}

    async def _look_again(self) -> None:
        with trio.move_on_after(LOOK_S):
            await self._runtime.next_change()

    def _members(self, request: dict[str, Any]) -> dict[str, Any]:
        node, label = self._runtime.node, request.get("label")
        if label is None:
            return {"vlans": [group_status(node, one) for one in node.groups.vlans.values()]}
        return group_status(node, self._vlan(request))

    def _invites(self, request: dict[str, Any]) -> dict[str, Any]:
        vlan, name = self._vlan(request), request.get("revoke")
        if isinstance(name, str):
            try:
                prefix = bytes.fromhex(name)
            except ValueError:
                prefix = b""
            if not prefix:
                raise ConfigError(f"{name[:20]!r} is no invite's id", key="--revoke", hint="they have 8 digits")
            self._runtime.command(Revoke(vlan.label, prefix))
        return {"vlan": vlan.label, "invites": invites(vlan, self._runtime.node.now_unix)}

    def _backup(self, request: dict[str, Any]) -> dict[str, Any]:
        vlan, path = self._vlan(request), _path(request)
        write_file(path, vlan.backup().emit(), replace=bool(request.get("force")))
        return {"vlan": vlan.label, "file": str(path)}

    def _restore(self, request: dict[str, Any]) -> dict[str, Any]:
        path = _path(request)
        try:
            record = VlanRecord.parse(read_private(path, limit=MAX_RECORD_FILE_BYTES))
            if not record.group:
                raise DecodeError("VLAN record: this node was not in yet", hint="ask for a new invite")
            return self._runtime.command(Restore(record))
        except DecodeError as error:
            raise ConfigError(error.what, file=path, hint=error.hint or "is it what `vlan backup` wrote?") from None

    def _person(self, name: str, request: dict[str, Any]) -> dict[str, Any]:
        vlan = self._vlan(request)
        wanted = str(request.get("member", ""))
        is_newcomer = any(one.name == wanted for one in vlan.doors.invites.waiting.values())
        is_change = vlan.group is not None and wanted in vlan.group.motions and not is_newcomer
        if name in ("approve", "refuse") and is_change:
            return self._runtime.command(Agree(vlan.label, wanted, is_welcome=name == "approve"))
        identity = self._identity(vlan, wanted, waiting=name in ("approve", "refuse"))
        commands: dict[str, Callable[[], Command]] = {
            "approve": lambda: Approve(vlan.label, identity, is_welcome=True),
            "refuse": lambda: Approve(vlan.label, identity, is_welcome=False),
            "kick": lambda: Kick(vlan.label, identity),
            "promote": lambda: Promote(vlan.label, identity),
            "demote": lambda: Demote(vlan.label, identity),
            "bridge": lambda: Bridge(vlan.label, identity, is_allowed=bool(request.get("allowed", True))),
        }
        return self._runtime.command(commands[name]())

    @staticmethod
    def _identity(vlan: GroupVlan, text: str, *, waiting: bool) -> bytes:
        """Whom the operator means: a peer ID, its end, or the name of somebody who waits."""
        people: dict[bytes, str] = dict.fromkeys(vlan.group.members if vlan.group is not None else (), "")
        if waiting:
            people = {one.identity: one.name for one in vlan.doors.invites.waiting.values()}
        texts = {identity: format_peer_id(peer_id_of(identity)) for identity in people}
        found = [one for one in people if texts[one] == text]
        if not found:  # a newcomer chooses its own name: it may be another one's
            is_meant = {one: len(text) >= 4 and texts[one].endswith(text) for one in people}
            found = [one for one in people if is_meant[one] or (waiting and people[one] == text)]
        if len(found) != 1:
            what = "waits" if waiting else "is a member"
            many = "more than one of that name" if found else f"nobody like {text[:60]!r}"
            raise ConfigError(f"{many} {what}", hint=f"peertap vlan members {vlan.label} lists them")
        return found[0]

    def _vlan(self, request: dict[str, Any]) -> GroupVlan:
        label, vlans = _label(request), self._runtime.node.groups.vlans
        if label not in vlans:
            hint = f"there are: {', '.join(sorted(vlans))}" if vlans else "peertap vlan create LABEL makes one"
            raise ConfigError(f"this node is in no VLAN {label[:40]!r} with a group", hint=hint)
        return vlans[label]

    def _port(self, request: dict[str, Any]) -> Port:
        given = _texts(request, "addresses") or None
        name = request.get("tap") or self._runtime.free_interface()
        try:
            tap = Tap.model_validate({"name": name, "address": given or [], "mtu": request.get("mtu") or "auto"})
        except ValidationError as error:
            raise ConfigError(str(error.errors()[0]["msg"]), hint="peertap vlan create --help") from None
        records = self._runtime.node.groups.vlans.values()
        if any(one.record.port.interface == tap.name for one in records if not one.is_over):
            raise ConfigError(f"{tap.name} is another VLAN's interface", key="--tap", hint="leave it out")
        addresses = tuple(map(str, tap.address)) if given else None
        mtu = 0 if tap.mtu == "auto" else int(tap.mtu)
        return Port(tap.name, addresses, mtu, bool(request.get("bridge")))

    def _tap(self, vlan: GroupVlan) -> str:
        return vlan.record.port.interface


def node_name(configured: str) -> str:
    """What this node calls itself before those who approve it."""
    return f"{socket.gethostname()}/{configured}"[:32]


def _path(request: dict[str, Any]) -> Path:
    path = Path(str(request.get("file", "")))
    if not path.is_absolute():
        raise ConfigError("not an absolute path", key="FILE")
    return path


def _label(request: dict[str, Any]) -> str:
    label = request.get("label")
    if not isinstance(label, str):
        raise ConfigError("a VLAN's label is missing", key="LABEL")
    return label


def _texts(request: dict[str, Any], key: str) -> list[str]:
    found = request.get(key) or []
    if not isinstance(found, list) or not all(isinstance(one, str) for one in found):
        raise ConfigError(f"{key}: a list of texts is wanted")
    return found
