"""`peertap init`: a node's first run.

decide     read what exists, ask for the secret, choose ports, addresses and names   (changes nothing)
check      read the configuration back as `peertap up` will                          (changes nothing)
write      identity, secret, configuration, in this order
tell       what to type on the other machine
"""

from __future__ import annotations

import getpass
import json
import os
import shlex
import socket
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from peertap.cli.options import JsonOption
from peertap.cli.report import say
from peertap.errors import ConfigError, DecodeError, DeviceError

if TYPE_CHECKING:
    from peertap.config.address import PeerAddress
    from peertap.config.model import Config
    from peertap.config.write import Ports
    from peertap.identity.node import NodeIdentity
    from peertap.identity.secret import VlanSecret
    from peertap.shell.interfaces import LocalAddress
    from peertap.shell.store import Store

DEFAULT_LABEL: Final = "lab"
MAX_PORT_BLOCKS: Final = 50  # ours: this many nodes on one machine find ports by themselves
PORT_BLOCK: Final = 10  # ours: 4511, 4521, …: the last digit keeps its meaning


def init(
    vlan: Annotated[
        str | None, typer.Option("--vlan", metavar="LABEL", help=f"Label of the VLAN (default: {DEFAULT_LABEL}).")
    ] = None,
    join: Annotated[
        list[str] | None,
        typer.Option("--join", metavar="ADDRESS", help="Link to this node, and ask for the VLAN's secret. Repeatable."),
    ] = None,
    new: Annotated[bool, typer.Option("--new", help="With --join: make a new secret, do not ask for one.")] = False,
    secret_file: Annotated[
        Path | None, typer.Option("--secret-file", metavar="FILE", help="Take the VLAN's secret from FILE.")
    ] = None,
    bare: Annotated[bool, typer.Option("--bare", help="No VLAN yet: they come by `peertap vlan`.")] = False,
    relay: Annotated[bool, typer.Option("--relay", help="Pass on every VLAN's frames; member of --vlan only.")] = False,
    address: Annotated[
        list[str] | None,
        typer.Option("--address", metavar="CIDR", help="Address of the interface, such as 10.9.0.1/24. Repeatable."),
    ] = None,
    node: Annotated[str | None, typer.Option("--node", metavar="NAME", help="Name of this node.")] = None,
    config: Annotated[
        Path | None,
        typer.Option("--config", "-c", metavar="FILE", help="Where to write the configuration; .json or YAML."),
    ] = None,
    state_dir: Annotated[
        Path | None, typer.Option("--state-dir", metavar="DIR", help="Where to keep identity and secrets.")
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Replace the configuration, and a stored secret by another one given.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Write identity, secret and configuration, and print what to type on the other machine.

    The printed secret makes its holder a member: hand it over where nobody listens. It is asked for without echo, or
    read from standard input when that is no terminal; never put it on a command line.
    """
    request = Request(
        label=vlan,
        join=tuple(join or ()),
        new=new,
        secret_file=secret_file,
        bare=bare,
        relay=relay,
        addresses=tuple(address or ()),
        node=node,
        config=config,
        state_dir=state_dir,
        force=force,
    )
    plan = decide(request)
    plan.write()
    plan.tell(as_json=as_json)


@dataclass(frozen=True, slots=True)
class Request:
    """The command line of `peertap init`."""

    label: str | None
    join: tuple[str, ...]
    new: bool
    secret_file: Path | None
    bare: bool
    relay: bool
    addresses: tuple[str, ...]
    node: str | None
    config: Path | None
    state_dir: Path | None
    force: bool

    @property
    def joins(self) -> bool:
        """The secret comes from elsewhere."""
        return not self.bare and (self.secret_file is not None or (bool(self.join) and not self.new))

    @property
    def wants_vlan(self) -> bool:
        """The node becomes a member of a static VLAN: always, but for a bare node or a pure relay."""
        if self.bare:
            return False
        return not self.relay or self.label is not None or self.new or self.secret_file is not None


@dataclass(frozen=True, slots=True)
class Plan:
    """All that will be written, complete and checked."""

    request: Request
    path: Path
    text: str
    config: Config
    store: Store
    identity: NodeIdentity
    secret: VlanSecret | None
    identity_is_new: bool
    secret_is_new: bool

    def write(self) -> None:
        """Stores identity, secret and configuration; what exists and stays is not touched."""
        from peertap.shell.store import write_file

        if self.identity_is_new:
            self.store.save_identity(self.identity)
        if self.secret is not None and self.secret_is_new:
            self.store.save_vlan_secret(self.secret, force=self.request.force)
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigError(
                f"cannot make its directory: {error.strerror}", file=self.path, hint="name another place with --config"
            ) from None
        write_file(self.path, self.text.encode(), mode=0o644, replace=self.request.force)

    def tell(self, *, as_json: bool) -> None:
        """Prints what was done to stderr, and what the other machine needs to stdout."""
        from peertap.shell.interfaces import local_addresses

        try:
            mine = local_addresses()
        except DeviceError as error:  # all is written; only the address to print is unknown
            say(f"warning: {error.what}")
            mine = []
        commands = [self._command(local) for local in mine] or [self._command(None)]
        shares = self.secret is not None and not self.request.joins
        addresses = [str(address) for vlan in self.config.vlans for address in vlan.tap.address]
        if as_json:
            print(
                json.dumps(
                    {
                        "node": self.config.node,
                        "peer_id": self.identity.text,
                        "config": str(self.path),
                        "state_dir": str(self.store.directory),
                        "vlan": self.secret and self.secret.label,
                        "addresses": addresses,
                        "join": commands,
                        "secret": self.secret.emit() if self.secret is not None and shares else None,
                    }
                )
            )
            return
        say(f"node       {self.identity.text} ({'new' if self.identity_is_new else 'as before'})")
        say(f"config     {self.path}")
        if self.secret is not None:
            state = "new" if self.secret_is_new else "as before"
            say(f"secret     {self.store.secret_path(self.secret.label)} ({state})")
            for vlan in self.config.vlans:
                say(f"addresses  {' '.join(addresses) or 'none'} on {vlan.tap.name}")
            self._warn_of_overlap(mine)
        if shares or self.request.relay:
            self._tell_the_others(mine, commands, shares)
        say(f"{'then, on each' if shares else 'next'}: {self._up()}")
        if self.request.bare:
            say("then: peertap vlan create LABEL, or peertap vlan join")

    def _tell_the_others(self, mine: list[LocalAddress], commands: list[str], shares: bool) -> None:
        say("")
        say("on the other machine:" if shares else "on the first member (it then prints the line for the others):")
        print(commands[0], flush=True)
        if self.secret is not None and shares:
            say("and paste this when it asks for the secret (whoever has it is a member):")
            print(self.secret.emit(), flush=True)
        if not mine:
            say("replace ADDRESS by an address of this machine: it has none that others could reach")
        elif not (shares and self.request.join):
            others = [local.multiaddr for local in mine[1:]]
            if others:
                say(f"other addresses of this machine: {' '.join(others)}")
            if mine[0].address.is_private:
                say("from another network: its public address or name, as /dns/NAME/p2p/…, with the ports forwarded")
        say("")

    def _command(self, local: LocalAddress | None) -> str:
        """Returns the line to type elsewhere; who met us at a relay meets the next one there too."""
        words = ["peertap", "init"]
        if self.secret is not None:
            words += ["--vlan", self.secret.label]
        elif self.request.relay:
            words += ["--vlan", DEFAULT_LABEL, "--new"]
        for target in self.request.join if self.secret is not None and self.request.join else self._reach(local):
            words += ["--join", target]
        return shlex.join(words)

    def _reach(self, local: LocalAddress | None) -> Iterator[str]:
        from peertap.config.address import PeerAddress, Transport, parse_address

        start = "/ip4/ADDRESS" if local is None else local.multiaddr
        listen = self.config.listen
        if listen == type(listen)():
            yield f"{start}/p2p/{self.identity.text}"
            return
        peer = parse_address(f"/ip4/127.0.0.1/p2p/{self.identity.text}")
        ports: dict[Transport, int | None] = {"tcp": listen.tcp, "quic-v1": listen.quic, "ws": listen.websocket}
        for transport, port in ports.items():
            part = PeerAddress("ip4", "127.0.0.1", transport, port, peer.peer_id).transport_part
            yield f"{start}{part}/p2p/{self.identity.text}"

    def _up(self) -> str:
        words = ["peertap", "up"]
        if self.request.config is not None:
            words += ["--config", str(self.request.config)]
        elif self.request.node is not None:
            words += ["--node", self.request.node]
        return shlex.join(words)

    def _warn_of_overlap(self, mine: list[LocalAddress]) -> None:
        for vlan in self.config.vlans:
            for address in vlan.tap.address:
                for local in mine:
                    if local.address.version == address.version and local.address.network.overlaps(address.network):
                        say(f"warning: {address.network} overlaps {local.address.network} on {local.interface}")
                        say("  hint: choose another network with --address, the same on every member")


def decide(request: Request) -> Plan:
    """Settles everything, without writing anything.

    Raises:
        ConfigError: Something on the command line, in the secret or on this machine does not fit.
    """
    from peertap.config.load import parse_config
    from peertap.config.model import parse_node_name
    from peertap.config.paths import DEFAULT_NODE, default_config_path, default_state_dir
    from peertap.config.write import FirstConfig, as_json, as_yaml
    from peertap.identity.addressing import interface_addresses
    from peertap.identity.secret import LABEL_HINT, is_label
    from peertap.shell.store import Store, new_identity

    node = DEFAULT_NODE if request.node is None else str(_option("--node", parse_node_name, request.node))
    if request.label is not None and not is_label(request.label):
        raise ConfigError("not a label", key="--vlan", hint=LABEL_HINT)
    if request.bare and (request.label or request.new or request.secret_file):
        raise ConfigError("not together with --vlan, --new or --secret-file", key="--bare", hint="use one of them")
    if request.new and request.secret_file is not None:
        raise ConfigError("not together with --secret-file", key="--new", hint="use one of them")
    if request.addresses and not request.wants_vlan:
        raise ConfigError("there is no VLAN for it", key="--address", hint="add --vlan LABEL")
    peers = _peers(request.join)
    given = tuple(str(_option("--address", _tap_address, text)) for text in request.addresses)
    path = (request.config or default_config_path(request.node, os.environ)).absolute()
    previous = _previous(path, request)
    state_dir = request.state_dir or Path(os.environ.get("PEERTAP_STATE_DIR") or default_state_dir(node, os.environ))
    store = Store(state_dir.absolute())

    identity_is_new = not store.has_identity()
    identity = new_identity() if identity_is_new else store.load_identity()
    if any(peer[0].peer_id == identity.peer_id for peer in peers):
        raise ConfigError("that is this node itself", key="--join", hint="give the address of the other machine")
    secret, secret_is_new = _secret(request, store) if request.wants_vlan else (None, False)

    addresses, derived = given, False
    if secret is not None and not addresses:
        addresses = _addresses_of(previous, secret.label)
        derived = not addresses
        if derived:
            founder = secret_is_new and not request.joins
            addresses = tuple(
                str(one) for one in interface_addresses(secret.label, secret.secret, identity.peer_id, founder=founder)
            )
    ports, tap = _free_names(path, request, previous)
    first = FirstConfig(
        node=node,
        state_dir=store.directory,
        ports=ports,
        peers=tuple(tuple(str(address) for address in peer) for peer in peers),
        relay=request.relay,
        label=None if secret is None else secret.label,
        tap=tap,
        addresses=addresses,
        derived=derived,
    )
    text = as_json(first) if path.suffix.lower() == ".json" else as_yaml(first, path)
    config = parse_config(text, file=path, environ={})
    return Plan(request, path, text, config, store, identity, secret, identity_is_new, secret_is_new)


def _option(name: str, parse: Callable[[object], object], text: str) -> object:
    try:
        return parse(text)
    except ConfigError as error:
        raise ConfigError(error.what, key=name, hint=error.hint) from None


def _peers(texts: tuple[str, ...]) -> tuple[tuple[PeerAddress, ...], ...]:
    """Returns the addresses to join, those of one peer together."""
    from peertap.config.address import parse_address

    peers: dict[bytes, list[PeerAddress]] = {}
    for text in texts:
        try:
            address = parse_address(text)
        except ConfigError as error:
            raise ConfigError(error.what, key="--join", hint=error.hint) from None
        peers.setdefault(address.peer_id, []).append(address)
    return tuple(tuple(dict.fromkeys(peer)) for peer in peers.values())


def _previous(path: Path, request: Request) -> Config | None:
    """Returns the configuration that --force replaces, where it can be read.

    Raises:
        ConfigError: There is one, and no --force.
    """
    from peertap.config.load import load_config

    if not os.path.lexists(path):
        return None
    if not request.force:
        raise ConfigError(
            "there is a configuration already; nothing was changed",
            file=path,
            hint="edit it, use --node NAME for a second node, or --force to replace it (identity and secrets stay)",
        )
    try:
        return load_config(path, environ={})
    except ConfigError:
        return None


def _addresses_of(previous: Config | None, label: str) -> tuple[str, ...]:
    """Returns the addresses that the VLAN had: a rewritten configuration keeps them."""
    vlans = () if previous is None else previous.vlans
    return next((tuple(map(str, vlan.tap.address)) for vlan in vlans if vlan.label == label), ())


def _secret(request: Request, store: Store) -> tuple[VlanSecret, bool]:
    """Returns the VLAN's secret, and whether it has to be stored."""
    from peertap.shell.store import load_vlan_secret_file, new_vlan_secret

    if not request.joins:
        label = request.label or DEFAULT_LABEL
        if store.has_vlan_secret(label):
            return store.load_vlan_secret(label), False
        return new_vlan_secret(label), True
    secret = _ask(request, store) if request.secret_file is None else load_vlan_secret_file(request.secret_file)
    if request.label is not None and secret.label != request.label:
        raise ConfigError(
            f"this is the secret of VLAN {secret.label!r}, not of {request.label!r}",
            key="--vlan",
            hint=f"--vlan {secret.label}, or paste the other secret",
        )
    if not store.has_vlan_secret(secret.label):
        return secret, True
    if store.load_vlan_secret(secret.label) == secret:
        return secret, False
    if not request.force:
        raise ConfigError(
            f"another secret of VLAN {secret.label!r} is stored already",
            file=store.secret_path(secret.label),
            hint="--force replaces it; the old one is lost",
        )
    return secret, True


def _ask(request: Request, store: Store) -> VlanSecret:
    """Reads the secret from the terminal without echo, or from standard input; nothing at all keeps a stored one."""
    from peertap.identity.secret import VlanSecret

    label = request.label or DEFAULT_LABEL
    stored = store.has_vlan_secret(label)
    try:
        if sys.stdin.isatty():
            keep = ", or just Enter to keep the stored one" if stored else ""
            line = getpass.getpass(f"Secret of the VLAN, ptvlan1-… (not shown{keep}): ", stream=sys.stderr)
        else:
            line = sys.stdin.readline(4096)
    except (EOFError, UnicodeDecodeError):
        line = ""
    if not line.strip():
        if stored:
            return store.load_vlan_secret(label)
        raise ConfigError(
            "no secret was given",
            key="--join",
            hint="paste the line that init or keygen printed there; the first member of a VLAN adds --new",
        )
    try:
        return VlanSecret.parse(line)
    except DecodeError as error:
        raise ConfigError(error.what, hint=error.hint) from None


def _free_names(path: Path, request: Request, previous: Config | None) -> tuple[Ports | None, str]:
    """Returns ports (None: the default ones) and an interface name that no other node of this machine has."""
    from peertap.config.load import load_config
    from peertap.config.model import Listen
    from peertap.config.write import Ports
    from peertap.shell.interfaces import port_is_free

    usual = Listen()
    if previous is not None:
        listen = previous.listen
        tap = next((vlan.tap.name for vlan in previous.vlans), "ptap0")
        kept = (listen.tcp, listen.websocket, listen.quic, listen.udp)
        if listen == usual or None in kept:
            return None, tap
        return Ports(*(port or 0 for port in kept)), tap
    taken: set[int | None] = set()
    taps = {name for _, name in socket.if_nameindex()}
    for sibling in sorted(path.parent.glob("*")) if request.config is None else ():
        if sibling.suffix not in (".yaml", ".json"):
            continue
        try:
            other = load_config(sibling, environ={})
        except ConfigError:
            continue
        taken |= {other.listen.tcp, other.listen.websocket, other.listen.quic, other.listen.udp}
        taps |= {vlan.tap.name for vlan in other.vlans}
    tap = next(name for number in range(len(taps) + 1) if (name := f"ptap{number}") not in taps)
    for block in range(MAX_PORT_BLOCKS):
        shift = block * PORT_BLOCK
        low, high = (usual.tcp or 0) + shift, (usual.websocket or 0) + shift
        free = all(port_is_free(kind, port) for port in (low, high) for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM))
        if free and not taken & {low, high}:
            return (None if block == 0 else Ports(tcp=low, websocket=high, quic=high, udp=low)), tap
    return None, tap


def _tap_address(value: object) -> object:
    from peertap.config.model import parse_tap_address

    return parse_tap_address(value)
