"""Where things lie when nobody says: configuration, state and sockets, for root, for users and under systemd."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from peertap.errors import ConfigError

DEFAULT_NODE: Final = "default"
CONFIG_VARIABLE: Final = "PEERTAP_CONFIG"


def running_as_root() -> bool:
    """Says whether the system's directories are ours."""
    return os.geteuid() == 0


def default_config_path(node: str | None, environ: Mapping[str, str]) -> Path:
    """Returns where the configuration of `node` (None: the default node) is written."""
    name = "peertap" if node in (None, DEFAULT_NODE) else node
    if running_as_root():
        return Path(f"/etc/peertap/{name}.yaml")
    return _xdg("XDG_CONFIG_HOME", ".config", environ) / "peertap" / f"{name}.yaml"


def find_config(path: Path | None, node: str | None, environ: Mapping[str, str]) -> Path:
    """Returns the configuration to read: `path`, else $PEERTAP_CONFIG, else the default place (.yaml or .json).

    Raises:
        ConfigError: None of them names or holds a file.
    """
    if path is not None:
        return path
    if environ.get(CONFIG_VARIABLE):
        return Path(environ[CONFIG_VARIABLE])
    usual = default_config_path(node, environ)
    for candidate in (usual, usual.with_suffix(".json")):
        if candidate.exists():
            return candidate
    suffix = "" if node in (None, DEFAULT_NODE) else f" --node {node}"
    raise ConfigError(
        "there is no configuration", file=usual, hint=f"run `peertap init{suffix}`, or name a file with --config"
    )


def default_state_dir(node: str, environ: Mapping[str, str]) -> Path:
    """Returns where `node` keeps identity and secrets: $STATE_DIRECTORY (systemd), /var/lib or XDG."""
    if managed := environ.get("STATE_DIRECTORY", "").split(":")[0]:
        return Path(managed) / node
    if running_as_root():
        return Path("/var/lib/peertap") / node
    return _xdg("XDG_STATE_HOME", ".local/state", environ) / "peertap" / node


def default_admin_socket(node: str, state_dir: Path, environ: Mapping[str, str]) -> Path:
    """Returns where `node` answers `peertap status`: $RUNTIME_DIRECTORY (systemd), /run, XDG, or its state."""
    if managed := environ.get("RUNTIME_DIRECTORY", "").split(":")[0]:
        return Path(managed) / f"{node}.sock"
    if running_as_root():
        return Path("/run/peertap") / f"{node}.sock"
    runtime = environ.get("XDG_RUNTIME_DIR", "")
    return Path(runtime) / "peertap" / f"{node}.sock" if runtime.startswith("/") else state_dir / "admin.sock"


def _xdg(variable: str, below_home: str, environ: Mapping[str, str]) -> Path:
    value = environ.get(variable, "")
    if value.startswith("/"):  # the XDG specification: relative paths are ignored
        return Path(value)
    home = environ.get("HOME", "")
    return (Path(home) if home.startswith("/") else Path.home()) / below_home
