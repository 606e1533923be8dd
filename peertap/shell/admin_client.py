"""The client's end of the admin socket (SPEC 8.3): blocking calls, a command that asks does nothing else."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from peertap.errors import DeviceError

MAX_ANSWER_BYTES: Final = 64 << 20  # ours: topology of a large mesh
_READ_BYTES: Final = 1 << 20


def connect(path: Path, *, node: str) -> socket.socket:
    """A connection to the node that answers at `path`.

    Raises: DeviceError when no node runs there or we may not ask it.
    """
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    try:
        connection.connect(str(path))
    except OSError as error:
        connection.close()
        if isinstance(error, PermissionError):
            raise DeviceError(f"{path}: not allowed", hint="ask as root or as the node's own user") from None
        raise DeviceError(f"node {node} does not run (nobody listens on {path})", hint="start it: peertap up") from None
    return connection


def ask(connection: socket.socket, request: dict[str, Any], *, node: str) -> Iterator[dict[str, Any]]:
    """Sends the connection's one request; yields the node's answers until it has no more.

    Raises: DeviceError when the node refuses or goes away.
    """
    buffer = bytearray()
    try:
        connection.sendall(json.dumps(request).encode() + b"\n")
        while part := connection.recv(_READ_BYTES):
            buffer += part
            if len(buffer) > MAX_ANSWER_BYTES:
                raise DeviceError(f"node {node} answers with more than {MAX_ANSWER_BYTES} bytes")
            while (end := buffer.find(b"\n")) >= 0:
                answer = json.loads(bytes(buffer[:end]))
                del buffer[: end + 1]
                if "error" in answer:
                    raise DeviceError(answer["error"], hint=answer.get("hint"))
                yield answer
    except ConnectionError as error:
        raise DeviceError(f"node {node} went away: {error.strerror}") from None
