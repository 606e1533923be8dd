"""A node's admin socket with nothing behind it: notes what it is asked, and gives one answer."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


@contextmanager
def answering(path: Path, answer: Callable[[dict[str, Any]], dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    """Serves one client at `path`; gives the list of requests."""
    requests: list[dict[str, Any]] = []
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    listener.listen()

    def serve() -> None:
        client, _ = listener.accept()
        with client, client.makefile("rwb") as stream:
            if line := stream.readline():
                requests.append(json.loads(line))
                stream.write(json.dumps(answer(requests[0])).encode() + b"\n")

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield requests
    finally:
        with socket.socket(socket.AF_UNIX) as last:  # wakes it where nobody asked
            last.connect(str(path))
        listener.close()
        thread.join()
