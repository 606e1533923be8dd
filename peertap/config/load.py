"""Reads a configuration: file, then environment over it, then defaults; all mistakes at once, each with its place.

environment variable = PEERTAP_ + key in upper case, "__" between levels:   PEERTAP_LOG__LEVEL=debug
its value is read as in YAML: PEERTAP_LISTEN__TCP=null, PEERTAP_PEERS='[/ip4/…]'; empty counts as unset
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Final, Literal, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from peertap.config.model import Config, show
from peertap.config.paths import CONFIG_VARIABLE, DEFAULT_NODE, default_admin_socket, default_state_dir
from peertap.config.text import MAX_FILE_BYTES, Document, KeyPath, Value, parse_json, parse_yaml, render
from peertap.errors import ConfigError

VARIABLE_PREFIX: Final = "PEERTAP_"
MAX_MISTAKES: Final = 100  # ours: more than anyone reads in one go

_NUMBER_WORDS: Final = {"int": "a whole number", "bool": "true or false", "string": "text", "float": "a number"}


def load_config(path: Path, *, node: str | None = None, environ: Mapping[str, str]) -> Config:
    """Reads and checks the configuration file `path` (JSON when its name ends in .json, else YAML).

    Args:
        path: The file.
        node: Name of the node; wins over file and environment.
        environ: Environment variables.

    Raises:
        ConfigError: With every mistake in `mistakes`.
    """
    return parse_config(read_text(path), file=path, node=node, environ=environ)


def read_text(path: Path) -> str:
    """Returns the text of a configuration file of at most 1 MiB.

    Raises:
        ConfigError: It cannot be read, or is no text.
    """
    try:
        with path.open("rb") as file:
            data = file.read(MAX_FILE_BYTES + 1)
    except FileNotFoundError:
        raise ConfigError("does not exist", file=path, hint="run `peertap init`, or name another file") from None
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise ConfigError(f"cannot be read: {reason}", file=path, hint="name a file that you may read") from None
    if len(data) > MAX_FILE_BYTES:
        raise ConfigError(f"longer than {MAX_FILE_BYTES} bytes", file=path, hint="this is no configuration")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ConfigError("not UTF-8 text", file=path, line=line, hint="save it as UTF-8") from None


def parse_config(text: str, *, file: Path | None = None, node: str | None = None, environ: Mapping[str, str]) -> Config:
    """Like `load_config`, for text already in memory; `file` names it in messages and decides on YAML or JSON.

    Raises:
        ConfigError: With every mistake in `mistakes`; nothing else, whatever `text` is.
    """
    is_json = file is not None and file.suffix.lower() == ".json"
    document = parse_json(text, file) if is_json else parse_yaml(text, file)
    sheet = _Sheet(document)
    sheet.overlay(environ)
    if node is not None:
        sheet.put(("node",), node, "--node")
    sheet.fill_in(environ)
    return sheet.validate()


@dataclass
class _Sheet:
    """The data on its way from text to Config, and where each part of it came from."""

    document: Document
    data: dict[str, Value] = field(init=False)
    origins: dict[KeyPath, str] = field(default_factory=dict)
    mistakes: list[ConfigError] = field(init=False)

    def __post_init__(self) -> None:
        data = self.document.data
        if data is None:
            data = {}
        if not isinstance(data, dict):
            self.document.fail("the file must hold keys, not one value", 1, "start from `peertap init`")
        self.data = data
        self.mistakes = list(self.document.mistakes)

    def put(self, path: KeyPath, value: Value, origin: str) -> None:
        """Sets the value at `path`; where the file has something else than a mapping on the way, its mistake stays."""
        at: Value = self.data
        for part in path[:-1]:
            if not isinstance(at, dict):
                return
            if at.get(str(part)) is None:
                at[str(part)] = {}
            at = at[str(part)]
        if isinstance(at, dict):
            at[str(path[-1])] = value
            self.origins[path] = origin

    def overlay(self, environ: Mapping[str, str]) -> None:
        """Puts the environment's values over the file's."""
        known = {VARIABLE_PREFIX + "__".join(path).upper(): (path, info) for path, info in _keys(Config)}
        for variable in sorted(name for name in environ if name.startswith(VARIABLE_PREFIX)):
            text = environ[variable]
            if not text or variable == CONFIG_VARIABLE:
                continue
            if variable not in known:
                near = difflib.get_close_matches(variable, known, n=1, cutoff=0.8)
                if near or "__" in variable:  # anything else is not meant for the configuration
                    hint = f"did you mean {near[0]}?" if near else "see configs/reference.yaml for the keys"
                    self.mistakes.append(ConfigError("no such key", key=variable, hint=hint))
                continue
            path, info = known[variable]
            if _is_text(info.annotation):
                self.put(path, text, variable)
                continue
            try:
                self.put(path, parse_yaml(text).data, variable)
            except ConfigError as error:
                self.mistakes.append(ConfigError(error.what, key=variable, hint=error.hint))

    def fill_in(self, environ: Mapping[str, str]) -> None:
        """Sets the defaults that depend on the node's name and on who runs it."""
        node = self.data.get("node", DEFAULT_NODE)
        name = node if isinstance(node, str) and "/" not in node and "\0" not in node else DEFAULT_NODE
        self.data.setdefault("state_dir", str(default_state_dir(name, environ)))
        written = self.data["state_dir"]  # what is wrong with it is said once, not again for the socket in it
        valid = isinstance(written, str) and written.startswith("/") and "\0" not in written
        state_dir = Path(str(written)) if valid else default_state_dir(name, environ)
        self.data.setdefault("admin_socket", str(default_admin_socket(name, state_dir, environ)))

    def validate(self) -> Config:
        """Returns the configuration, or raises all the mistakes in it, in the order of the file."""
        config: Config | None = None
        try:
            config = Config.model_validate(self.data)
        except ValidationError as errors:
            for error in errors.errors(include_url=False, include_input=True)[:MAX_MISTAKES]:
                if error["type"] != "too_short" or not error["input"]:  # else its items have mistakes of their own
                    self.mistakes.append(self._explain(error))
        for path, what, hint in islice(_conflicts(self.data), MAX_MISTAKES):
            self.mistakes.append(self._mistake(path, what, hint))
        if config is None or self.mistakes:
            self.mistakes.sort(key=lambda mistake: (mistake.file is None, mistake.line or 0))
            raise ConfigError.of(self.mistakes[:MAX_MISTAKES])
        return config

    def _mistake(self, path: KeyPath, what: str, hint: str) -> ConfigError:
        path = self._written(path)
        shown = tuple(_tame(part) for part in path)
        for length in range(len(path), 0, -1):
            if (origin := self.origins.get(path[:length])) is not None:
                below = render(shown[length:])
                return ConfigError(f"{below}: {what}" if below else what, key=origin, hint=hint)
        lines = self.document.lines
        line = next((lines[path[:length]] for length in range(len(path), -1, -1) if path[:length] in lines), 1)
        return ConfigError(what, file=self.document.file, line=line, key=render(shown) or None, hint=hint)

    def _written(self, path: KeyPath) -> KeyPath:
        """Cuts an index off where the file has one value in place of a list."""
        at: Value = self.data
        for depth, part in enumerate(path):
            if isinstance(part, int):
                if not isinstance(at, list):
                    return path[:depth]
                at = at[part]
            else:
                at = _dict(at).get(part)
        return path

    def _explain(self, error: ErrorDetails) -> ConfigError:
        path: KeyPath = tuple(error["loc"])
        kind, value, context = error["type"], error["input"], error.get("ctx", {})
        if kind == "extra_forbidden":
            names = list(_model_at(path[:-1]).model_fields)
            near = difflib.get_close_matches(str(path[-1])[:64], names, n=1, cutoff=0.6)
            hint = f"did you mean {near[0]}?" if near else f"keys here: {', '.join(names)}"
            return self._mistake(path, "unknown key", hint)
        description = _describe(path)
        if kind == "missing":
            return self._mistake(path, "is missing", description)
        if kind == "rule":
            return self._mistake(path, str(context["what"]), str(context["hint"]) or description)
        if kind == "literal_error":
            choices = [str(choice) for choice in _choices(path)]
            near = difflib.get_close_matches(str(value)[:64].lower(), choices, n=1, cutoff=0.6)
            hint = f"did you mean {near[0]}?" if near else description
            return self._mistake(path, f"{show(value)} is none of {', '.join(choices)}", hint)
        if kind in ("greater_than_equal", "less_than_equal"):
            side = "less than" if kind.startswith("greater") else "more than"
            return self._mistake(path, f"{show(value)} is {side} {context.get('ge', context.get('le'))}", description)
        if kind in ("too_long", "too_short"):
            bound = context.get("max_length", context.get("min_length"))
            return self._mistake(path, f"{'at most' if kind == 'too_long' else 'at least'} {bound} items", description)
        if kind in ("tuple_type", "model_type", "dict_type"):
            wanted = "a list (- item)" if kind == "tuple_type" else "keys (key: value)"
            return self._mistake(path, f"needs {wanted}, not {show(value)}", description)
        if isinstance(value, str) and kind.startswith("int") and value.isdecimal():
            description = "delete the quotes"
        wanted = next((words for start, words in _NUMBER_WORDS.items() if kind.startswith(start)), "another value")
        return self._mistake(path, f"needs {wanted}, not {show(value)}", description)


def _tame(part: str | int) -> str | int:
    """A key that nobody knows may be anything, even a secret."""
    return part if isinstance(part, int) or show(part) != "(a secret)" else "(a secret)"


def _conflicts(data: Mapping[str, Value]) -> Iterator[tuple[KeyPath, str, str]]:
    """Yields what is wrong between keys that are right one by one, skipping whatever has the wrong shape."""
    vlans = [(index, vlan) for index, vlan in enumerate(_list(data.get("vlans"))) if isinstance(vlan, dict)]
    if "vlans" not in data and data.get("relay") is None:
        hint = "see `peertap init`; `vlans: []` if they are to come by `peertap vlan`"
        yield (), "nothing to do: neither vlans nor relay", hint

    def twice(found: Iterable[tuple[KeyPath, object]], what: str, hint: str) -> Iterator[tuple[KeyPath, str, str]]:
        first: dict[str, KeyPath] = {}
        for path, value in found:
            if not isinstance(value, str):
                continue
            if (before := first.setdefault(value, path)) != path:
                yield path, f"{what} {show(value)} is also that of {render(before)}", hint

    yield from twice(
        ((("vlans", index, "label"), vlan.get("label")) for index, vlan in vlans), "label", "give each VLAN its own"
    )
    yield from twice(
        ((("vlans", index, "tap", "name"), _dict(vlan.get("tap")).get("name", "ptap0")) for index, vlan in vlans),
        "interface name",
        "give each VLAN its own: tap: {name: ptap1}",
    )
    yield from twice(
        (
            (("vlans", index, "tap", "address", place), address)
            for index, vlan in vlans
            for place, address in enumerate(_list(_dict(vlan.get("tap")).get("address")))
        ),
        "address",
        "give each interface its own",
    )
    for index, vlan in vlans:
        tap = _dict(vlan.get("tap"))
        mtu = tap.get("mtu")
        has_ipv6 = any(isinstance(address, str) and ":" in address for address in _list(tap.get("address")))
        if isinstance(mtu, int) and not isinstance(mtu, bool) and 576 <= mtu < 1280 and has_ipv6:
            yield ("vlans", index, "tap", "mtu"), f"{mtu} is too small for IPv6", "use 1280 or more, or auto"
    listen = _dict(data.get("listen"))
    for one, other, kind in (("tcp", "websocket", "TCP"), ("udp", "quic", "UDP")):
        ports = [listen.get(name, _default_port(name)) for name in (one, other)]
        if ports[0] == ports[1] and isinstance(ports[0], int) and ports[0] != 0:
            name = other if other in listen else one
            yield ("listen", name), f"{kind} port {ports[0]} is taken by both {one} and {other}", "change one of them"
    yield from _peer_conflicts(data)
    yield from _relay_conflicts(data)


def _peer_conflicts(data: Mapping[str, Value]) -> Iterator[tuple[KeyPath, str, str]]:
    first: dict[str, int] = {}
    for index, entry in enumerate(_list(data.get("peers"))):
        ids = [text.rpartition("/p2p/")[2] for text in _list(entry) if isinstance(text, str) and "/p2p/" in text]
        if len(set(ids)) > 1:
            yield ("peers", index), "the addresses of one entry name different peers", "make one entry per peer"
        elif ids and first.setdefault(ids[0], index) != index:
            yield ("peers", index), f"the same peer as peers[{first[ids[0]]}]", "put its addresses into one list"


def _relay_conflicts(data: Mapping[str, Value]) -> Iterator[tuple[KeyPath, str, str]]:
    relay = _dict(data.get("relay"))
    mode, patterns = relay.get("mode", "restricted"), _list(relay.get("vlans"))
    if mode in ("allow", "deny") and not patterns:
        nothing, instead = ("nothing is allowed", "restricted") if mode == "allow" else ("nothing is denied", "open")
        yield ("relay", "mode"), f"{mode} without vlans: {nothing}", f"list VLAN-IDs in relay.vlans, or use {instead}"
    if mode == "open" and patterns:
        yield ("relay", "vlans"), "has no effect with mode open", "use allow or deny, or delete the list"
    if mode == "restricted":
        for index, pattern in enumerate(patterns):
            if isinstance(pattern, str) and "*" in pattern:
                yield (
                    ("relay", "vlans", index),
                    f"{show(pattern)} is a pattern, restricted takes exact VLAN-IDs",
                    "write all 32 digits, or use allow",
                )


def _default_port(name: str) -> object:
    listen: BaseModel = Config.model_fields["listen"].default
    return getattr(listen, name)


def _list(value: Value) -> list[Value]:
    """A list as it is, one text as a list of one, anything else as nothing."""
    if isinstance(value, list):
        return value
    return [value] if isinstance(value, str) else []


def _dict(value: Value) -> dict[str, Value]:
    return value if isinstance(value, dict) else {}


def _keys(model: type[BaseModel], path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], FieldInfo]]:
    """Yields every key that an environment variable can set: all but those inside lists."""
    for name, info in model.model_fields.items():
        yield (*path, name), info
        if (below := _submodel(info)) is not None and get_origin(info.annotation) is not tuple:
            yield from _keys(below, (*path, name))


def _is_text(annotation: object) -> bool:
    return annotation in (str, Path) or get_origin(annotation) is Literal


def _submodel(info: FieldInfo) -> type[BaseModel] | None:
    for kind in (info.annotation, *get_args(info.annotation)):
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            return kind
    return None


def _field_at(path: KeyPath) -> FieldInfo | None:
    model: type[BaseModel] | None = Config
    info: FieldInfo | None = None
    for part in path:
        if isinstance(part, int):
            continue
        if model is None or part not in model.model_fields:
            return None
        info = model.model_fields[part]
        model = _submodel(info)
    return info


def _model_at(path: KeyPath) -> type[BaseModel]:
    info = _field_at(path)
    return (info and _submodel(info)) or Config


def _choices(path: KeyPath) -> tuple[object, ...]:
    info = _field_at(path)
    return get_args(info.annotation) if info is not None else ()


def _describe(path: KeyPath) -> str:
    info = _field_at(path)
    if info is None or info.description is None:
        return "see configs/reference.yaml"
    default = info.default
    if isinstance(default, str | int) and not isinstance(default, bool):
        return f"{info.description}; default {default}"
    return info.description
