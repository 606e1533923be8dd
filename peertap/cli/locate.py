"""Where the running node answers, read from its configuration without checking the rest.

The check costs 150 ms, of which pydantic is most: a node that runs has passed it, and `peertap status` shall be quick.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from peertap.config.paths import DEFAULT_NODE, default_admin_socket, default_state_dir
from peertap.config.text import MAX_FILE_BYTES, parse_json, parse_yaml
from peertap.errors import ConfigError


def admin_socket_of(path: Path, node: str | None, environ: Mapping[str, str]) -> tuple[str, Path]:
    """Returns the node's name and admin socket as the configuration file `path` has them.

    Args:
        node: Name of the node; wins over file and environment.

    Raises:
        ConfigError: It does not say, with every mistake in the configuration.
    """
    found = _unchecked(path, node, environ)
    if found is not None:
        return found
    from peertap.config.load import load_config  # 150 ms, only needed here

    config = load_config(path, node=node, environ=environ)
    return config.node, config.admin_socket


def _unchecked(path: Path, node: str | None, environ: Mapping[str, str]) -> tuple[str, Path] | None:
    """The same where it is plain to see, or None; keys and their order of precedence are those of `load_config`."""
    try:
        with path.open("rb") as file:
            content = file.read(MAX_FILE_BYTES + 1)
        text = content.decode("utf-8-sig")
        document = parse_json(text, path) if path.suffix.lower() == ".json" else parse_yaml(text, path)
    except (OSError, ValueError, ConfigError):
        return None
    data = document.data
    if len(content) > MAX_FILE_BYTES or not isinstance(data, dict) or document.mistakes:
        return None

    def written(key: str, default: object) -> object:
        return environ.get(f"PEERTAP_{key.upper()}") or data.get(key, default)

    name = node if node is not None else written("node", DEFAULT_NODE)
    if not isinstance(name, str) or not name or "/" in name or "\0" in name:
        return None
    state_dir = written("state_dir", str(default_state_dir(name, environ)))
    if not _is_absolute(state_dir):
        return None
    socket = written("admin_socket", str(default_admin_socket(name, Path(str(state_dir)), environ)))
    return (name, Path(str(socket))) if _is_absolute(socket) else None


def _is_absolute(value: object) -> bool:
    return isinstance(value, str) and value.startswith("/") and "\0" not in value
