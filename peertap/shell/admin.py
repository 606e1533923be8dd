"""The node's end of the admin socket: one JSON object a line each way, for root and the node's own user (SPEC 8.3)."""

from __future__ import annotations

import json
import os
import socket
import struct
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing, suppress
from pathlib import Path
from typing import Any, Final

import trio

from peertap.errors import ConfigError, DeviceError, PeerTapError

MAX_REQUEST_BYTES: Final = 65_536  # ours
ACCEPT_REST_S: Final = 0.2  # ours: before the next try where the machine is short of descriptors
REQUEST_S: Final = 30.0  # ours: an idle client is sent away
_UCRED: Final = struct.Struct("3i")  # unix(7): pid, uid, gid

Answers = AsyncGenerator[dict[str, Any], None]
Handler = Callable[[dict[str, Any]], Answers]


async def serve(listener: trio.socket.SocketType, path: Path, handler: Handler) -> None:
    """Answers on a socket made by `listen` until cancelled; its file is gone afterwards."""
    try:
        async with trio.open_nursery() as nursery:
            while True:
                try:
                    client, _ = await listener.accept()
                except OSError:  # too many open files: somebody will close some
                    await trio.sleep(ACCEPT_REST_S)
                    continue
                nursery.start_soon(_serve_one, client, handler)
    finally:
        listener.close()
        _remove(path)


def _remove(path: Path) -> None:
    path.unlink(missing_ok=True)


def listen(path: Path) -> trio.socket.SocketType:
    """Makes the socket, for the node's own user only.

    Raises: DeviceError, ConfigError.
    """
    try:
        path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        path.unlink(missing_ok=True)  # a dead process's: the node's lock says that no other one runs
        raw = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        old = os.umask(0o177)
        try:
            raw.bind(str(path))
        finally:
            os.umask(old)
        raw.listen(16)
    except PermissionError as error:
        raise ConfigError(
            f"admin socket: {error.strerror}",
            file=str(path),
            key="admin_socket",
            hint="name a path that this user may write",
        ) from None
    except OSError as error:
        raise DeviceError(f"admin socket {path}: {error.strerror}") from None
    return trio.socket.from_stdlib_socket(raw)


async def _serve_one(client: trio.socket.SocketType, handler: Handler) -> None:
    with client:
        credentials = client.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size)
        _, uid, _ = _UCRED.unpack(credentials)
        stream = trio.SocketStream(client)
        try:
            if uid not in (0, os.geteuid()):
                await stream.send_all(_line({"error": f"user {uid} may not talk to this node"}))
                return
            with trio.fail_after(REQUEST_S):
                request = await _read_line(stream, MAX_REQUEST_BYTES)
            try:
                decoded = json.loads(request)
            except (ValueError, RecursionError):
                decoded = None
            if not isinstance(decoded, dict):
                await stream.send_all(_line({"error": "not a JSON object"}))
                return
            try:
                async with aclosing(handler(decoded)) as answers:
                    async for answer in answers:
                        await stream.send_all(_line(answer))
            except PeerTapError as error:
                await stream.send_all(_line({"error": error.what, "hint": error.hint}))
        except (trio.BrokenResourceError, trio.TooSlowError, DeviceError):
            return
        except Exception as error:  # one question must not end the node
            with suppress(trio.BrokenResourceError):
                await stream.send_all(_line({"error": f"internal error: {type(error).__name__}: {error}"}))


async def _read_line(stream: trio.SocketStream, most: int) -> bytes:
    data = bytearray()
    while not data.endswith(b"\n"):
        part = await stream.receive_some(65_536)
        if not part:
            break
        data += part
        if len(data) > most:
            raise DeviceError("admin socket: the line is too long")
    return bytes(data)


def _line(answer: dict[str, Any]) -> bytes:
    return json.dumps(answer, separators=(",", ":")).encode() + b"\n"
