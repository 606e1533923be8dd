"""`peertap vlan …`: VLANs with a group, whose members come and go. All of it asks the running node."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from peertap.cli.ask import ask
from peertap.cli.options import ConfigOption, JsonOption, NodeOption, QuickCommand
from peertap.cli.report import say
from peertap.errors import ConfigError

app = typer.Typer(
    help="VLANs whose members come by invite and can be removed.", no_args_is_help=True, rich_markup_mode=None
)

LabelArgument = Annotated[str, typer.Argument(metavar="LABEL", help="The VLAN.")]
MemberArgument = Annotated[
    str, typer.Argument(metavar="MEMBER", help="A peer ID, or its last four or more characters.")
]
TapOption = Annotated[str | None, typer.Option("--tap", metavar="NAME", help="The interface; ptapN when absent.")]
AddressOption = Annotated[
    list[str] | None,
    typer.Option("--address", metavar="IP/PREFIX", help="Of the interface; derived when absent. Repeatable."),
]
MtuOption = Annotated[int | None, typer.Option("--mtu", help="Of the interface; what fits when absent.")]
BridgeOption = Annotated[bool, typer.Option("--bridge", help="The interface may carry other MACs than its own.")]

_UNITS_S: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


@app.command("create", cls=QuickCommand)
def create(
    label: LabelArgument,
    admins: Annotated[
        str | None,
        typer.Option("--admins", metavar="K-of-N", help="So many of N have to agree on who is in. 1-of-1 when absent."),
    ] = None,
    admin: Annotated[
        list[str] | None,
        typer.Option("--admin", metavar="PEER_ID", help="Another admin from the beginning. N - 1 times."),
    ] = None,
    suite: Annotated[str, typer.Option("--suite", help="hybrid, x25519-aes128 or x25519-chacha20.")] = "hybrid",
    tap: TapOption = None,
    address: AddressOption = None,
    mtu: MtuOption = None,
    bridge: BridgeOption = False,
    public: Annotated[
        bool, typer.Option("--public", help="Every node of the mesh may know who is in it; never changes.")
    ] = False,
    config: ConfigOption = None,
    node: NodeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make a VLAN; this node is its first member and admin."""
    port = {"tap": tap, "addresses": address or [], "mtu": mtu, "bridge": bridge}
    found = _one(
        "create", config, node, label=label, suite=suite, admins=admins, founders=admin or [], public=public, **port
    )
    _show(found, as_json, f"VLAN {label} is made\n  next: peertap vlan invite {label}")


@app.command("invite", cls=QuickCommand)
def invite(
    label: LabelArgument,
    uses: Annotated[int, typer.Option("--uses", min=1, max=65_535, help="How many may come in by it.")] = 1,
    expires: Annotated[str, typer.Option("--expires", metavar="TIME", help="30m, 12h, 1d, …")] = "1d",
    approve: Annotated[bool, typer.Option("--approve", help="An admin approves each newcomer.")] = False,
    address: Annotated[
        list[str] | None,
        typer.Option("--address", metavar="MULTIADDR", help="Another way to this node. Repeatable."),
    ] = None,
    qr: Annotated[bool, typer.Option("--qr/--no-qr", help="Draw it, too, where stderr is a terminal.")] = True,
    config: ConfigOption = None,
    node: NodeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Print one line that lets somebody in; it is a secret until it is used."""
    wanted = {"uses": uses, "lifetime_s": duration_s(expires), "approve": approve, "addresses": address or []}
    found = _one("invite", config, node, label=label, **wanted)
    if as_json:
        _print(json.dumps(found))
        return
    if qr and sys.stderr.isatty():
        _draw(found["line"])
    say(f"On the other machine: peertap vlan join, then paste this line ({_times(uses)}, good for {expires}):")
    _print(found["line"])


@app.command("join", cls=QuickCommand)
def join(
    line: Annotated[
        str | None, typer.Argument(metavar="LINE", help="What `invite` printed; asked for when absent.")
    ] = None,
    tap: TapOption = None,
    address: AddressOption = None,
    mtu: MtuOption = None,
    bridge: BridgeOption = False,
    config: ConfigOption = None,
    node: NodeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Come in by an invite. Waits until this node is a member; if that takes long, the node goes on by itself."""
    pasted = line if line is not None else _ask_for_line()
    port = {"tap": tap, "addresses": address or [], "mtu": mtu, "bridge": bridge}
    found = _one("join", config, node, line=pasted, **port)
    if as_json:
        _print(json.dumps(found))
    elif found["state"] == "member":
        others = len(found["members"]) - 1
        say(f"in VLAN {found['vlan']}: {others} other{'s' if others != 1 else ''}, interface {found['tap']}")
    else:
        say(f"not in yet: {found['next']}")


@app.command("members", cls=QuickCommand)
def members(
    label: Annotated[str | None, typer.Argument(metavar="LABEL", help="The VLAN; all when absent.")] = None,
    config: ConfigOption = None,
    node: NodeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show who is in, and who waits."""
    found = _one("members", config, node, label=label)
    if as_json:
        _print(json.dumps(found))
        return
    for vlan in found.get("vlans", [found]):
        _print("\n".join(_member_lines(vlan)))


@app.command("invites", cls=QuickCommand)
def invites(
    label: LabelArgument,
    revoke: Annotated[str | None, typer.Option("--revoke", metavar="ID", help="Of no more use from now on.")] = None,
    config: ConfigOption = None,
    node: NodeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show the invites that this node gave out, or revoke one."""
    found = _one("invites", config, node, label=label, revoke=revoke)
    lines = [
        f"{one['id']}  {one['left']} of {one['uses']} left, expires in {one['expires_in_s']} s"
        f"{', approval' if one['approve'] else ''}{', revoked' if one['revoked'] else ''}"
        for one in found["invites"]
    ]
    _show(found, as_json, "\n".join(lines) or "no invites")


@app.command("approve", cls=QuickCommand)
def approve(
    label: LabelArgument,
    member: MemberArgument,
    no: Annotated[bool, typer.Option("--no", help="Refuse it.")] = False,
    config: ConfigOption = None,
    node: NodeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Let somebody in who waits, or agree to another admin's change; or say no."""
    found = _one("refuse" if no else "approve", config, node, label=label, member=member)
    _show(found, as_json, "refused" if no else _done(found, "done"))


@app.command("kick", cls=QuickCommand)
def kick(
    label: LabelArgument,
    member: MemberArgument,
    config: ConfigOption = None,
    node: NodeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Remove a member; it reads nothing from a second later on, and needs a new invite."""
    found = _one("kick", config, node, label=label, member=member)
    _show(found, as_json, _done(found, "removed; all others have new keys"))


@app.command("leave", cls=QuickCommand)
def leave(
    label: LabelArgument,
    at_once: Annotated[bool, typer.Option("--at-once", help="Do not wait until an admin has taken note.")] = False,
    config: ConfigOption = None,
    node: NodeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Go. Nothing of the VLAN stays on this machine."""
    found = _one("leave", config, node, label=label, at_once=at_once)
    _show(found, as_json, f"{found['state']}{': ' + found['next'] if 'next' in found else ''}")


@app.command("backup", cls=QuickCommand)
def backup(
    label: LabelArgument,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Is made, for its owner only.")],
    force: Annotated[bool, typer.Option("--force", help="Replace the file.")] = False,
    config: ConfigOption = None,
    node: NodeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write what brings this node back into the VLAN after its disk was lost. Keep identity.key, too."""
    found = _one("backup", config, node, label=label, file=str(file.absolute()), force=force)
    _show(found, as_json, f"{found['file']}: a secret; with it and identity.key, `peertap vlan restore` comes back")


@app.command("restore", cls=QuickCommand)
def restore(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="What `backup` wrote.")],
    config: ConfigOption = None,
    node: NodeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Come back from a backup: an admin that is reached lets this node in anew, as the member that it was."""
    found = _one("restore", config, node, file=str(file.absolute()))
    _show(found, as_json, f"VLAN {found['vlan']}: it comes back once an admin is reached; see `peertap vlan members`")


@app.command("rotate", cls=QuickCommand)
def rotate(
    label: LabelArgument, config: ConfigOption = None, node: NodeOption = None, as_json: JsonOption = False
) -> None:
    """Give the VLAN new keys now; they change every day by themselves."""
    _show(_one("rotate", config, node, label=label), as_json, "new keys")


@app.command("promote", cls=QuickCommand)
def promote(
    label: LabelArgument,
    member: MemberArgument,
    config: ConfigOption = None,
    node: NodeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make a member an admin, who invites and removes."""
    found = _one("promote", config, node, label=label, member=member)
    _show(found, as_json, _done(found, "an admin now"))


@app.command("demote", cls=QuickCommand)
def demote(
    label: LabelArgument,
    member: MemberArgument,
    config: ConfigOption = None,
    node: NodeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make an admin a member like others."""
    found = _one("demote", config, node, label=label, member=member)
    _show(found, as_json, _done(found, "no admin any more"))


@app.command("bridge", cls=QuickCommand)
def bridge(
    label: LabelArgument,
    member: MemberArgument,
    off: Annotated[bool, typer.Option("--off", help="It may not any more.")] = False,
    config: ConfigOption = None,
    node: NodeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Let other MACs be behind a member: its interface may then be a port of a bridge (--bridge when it came in)."""
    found = _one("bridge", config, node, label=label, member=member, allowed=not off)
    _show(found, as_json, _done(found, "may not bridge" if off else "may bridge"))


@app.command("grant", cls=QuickCommand)
def grant(
    relay: Annotated[str, typer.Argument(metavar="RELAY", help="The relay's peer ID.")],
    label: Annotated[
        str | None, typer.Option("--vlan", metavar="LABEL", help="The VLAN; the only one when absent.")
    ] = None,
    lifetime: Annotated[str, typer.Option("--for", metavar="TIME", help="30m, 12h, 30d, …")] = "30d",
    config: ConfigOption = None,
    node: NodeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Print one line that asks one relay, and no other, to carry a VLAN; its operator allows it. It is no secret."""
    found = _one("grant", config, node, relay=relay, label=label, lifetime_s=duration_s(lifetime))
    if as_json:
        _print(json.dumps(found))
        return
    say(f"VLAN {found['vlan']}, VLAN-ID {found['vlan_id']}\nOn the relay: peertap relay allow, then this line:")
    _print(found["line"])


def duration_s(text: str) -> int:
    """Reads "30m", "12h", "1d", "90s".

    Raises: ConfigError.
    """
    found = re.fullmatch(r"([0-9]{1,6})([smhd])", text.strip(), re.ASCII)
    if found is None:
        raise ConfigError(f"{text[:20]!r} is no time", key="--expires", hint="write 30m, 12h or 1d")
    return int(found[1]) * _UNITS_S[found[2]]


def _one(name: str, config: Path | None, node: str | None, **fields: Any) -> dict[str, Any]:
    """The last answer; what comes before is progress."""
    last: dict[str, Any] = {}

    def take(answer: dict[str, Any]) -> None:
        nonlocal last
        if "progress" in answer:
            say(f"… {answer['progress']}")
        else:
            last = answer

    ask({"command": f"vlan {name}", **fields}, config, node, take)
    return last


def _show(found: dict[str, Any], as_json: bool, text: str) -> None:
    _print(json.dumps(found)) if as_json else say(text)


def _done(found: dict[str, Any], text: str) -> str:
    """What happened, unless other admins have to agree first."""
    if found.get("agreement") != "waits":
        return text
    return f"noted; it is done once enough admins agree\n  next: there, peertap vlan members {found['vlan']}"


def _print(text: str) -> None:
    print(text, flush=True)


def _times(uses: int) -> str:
    return "one use" if uses == 1 else f"{uses} uses"


def _ask_for_line() -> str:
    """Reads the line without echo: it is a secret until it is used."""
    import getpass

    if sys.stdin.isatty():
        return getpass.getpass("Invite, ptjoin1-… (not shown): ", stream=sys.stderr)
    return sys.stdin.readline(8192)


def _draw(line: str) -> None:
    import segno

    segno.make(line.upper(), error="l", boost_error=False, micro=False).terminal(out=sys.stderr, compact=True)


def _member_lines(vlan: dict[str, Any]) -> list[str]:
    if "members" not in vlan:
        reason = f": {vlan['reason']}" if vlan.get("reason") else ""
        return [f"VLAN {vlan['vlan']}: {vlan['state']}{reason}"]
    agree = f", {vlan['admins_needed']} admins have to agree" if vlan["admins_needed"] > 1 else ""
    head = f"VLAN {vlan['vlan']}: {vlan['state']}, epoch {vlan['epoch']}, {vlan['suite']}{agree}"
    lines = [
        f"  {one['peer_id']}  {one['role']}"
        f"{', this node' if one['is_us'] else '' if one['reachable'] else ', not reached now'}"
        for one in vlan["members"]
    ]
    lines += [f"  {one}  admin, not in yet: it needs an invite" for one in vlan["awaited"]]
    lines += [f"  {one['peer_id']}  waits for approval: {one['name']}" for one in vlan["waiting"]]
    needed = vlan["admins_needed"]
    for one in vlan["changes"]:
        what = ", ".join(f"{part['do']} {part['peer_id']}" for part in one["what"])
        lines.append(f"  change {one['id']}: {what}; {len(one['agreed'])} of {needed} agree")
        lines.append(f"    to agree: peertap vlan approve {vlan['vlan']} {one['id']}")
    return [head, *lines]
