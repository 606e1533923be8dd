"""One process a node."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from typing import IO

from peertap.errors import ConfigError, DeviceError


def lock_node(state_dir: Path, node: str) -> IO[str]:
    """Takes the node's lock for as long as the returned file is open.

    Raises: ConfigError when another process has it.
    """
    path = state_dir / "lock"
    try:
        file = open(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600), "r+")  # noqa: SIM115
    except OSError as error:
        raise DeviceError(f"{path}: {error.strerror or error}") from None
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        owner = file.read(20).strip() or "?"
        file.close()
        raise ConfigError(
            f"node {node} runs already (process {owner})",
            file=str(path),
            hint="stop it first, or give this one another name and state_dir with --node",
        ) from None
    file.truncate(0)
    file.write(f"{os.getpid()}\n")
    file.flush()
    return file
