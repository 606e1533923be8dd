"""What a command imports before it answers: asking a node must not cost what being one does."""

import gc
import json
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from peertap.cli.up import undisturbed_imports

# Each takes 25 ms or more to import, libp2p 400.
DEAR: Final = {"cryptography", "libp2p", "peertap._core", "pydantic", "pyroute2", "rich", "structlog", "trio"}
STATUS: Final = {
    "node": "n", "version": "0", "peer_id": "p", "ready": True, "uptime_s": 1.0, "trunks": [], "vlans": [], "drops": {},
    "listen": [], "not_reached": {}, "udp": None, "underlay_mtu": 1500, "overhead_bytes": 64, "routes": [], "ports": {},
    "relay": {"mode": "none", "patterns": []}, "rejected": {"routes": 0, "introductions": 0}, "frame_keys": 0,
}  # fmt: skip
RUN: Final = """
import sys
from peertap.cli.main import main
try:
    main()
finally:
    print(*sys.modules, file=sys.stderr)
"""


@pytest.fixture
def config(tmp_path: Path) -> Iterator[Path]:
    """The configuration of a node that gives each client one answer."""
    answers = {"status": STATUS, "ping": {"seq": 1, "rtt_s": 0.001}, "rekey": {"rekeyed": 0}}
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(tmp_path / "s"))
    listener.listen()

    def serve() -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:  # closed at the end
                return
            with client, client.makefile("rwb") as stream:
                answer = answers.get(json.loads(stream.readline())["command"])
                stream.write(b"" if answer is None else json.dumps(answer).encode() + b"\n")

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    path = tmp_path / "n.yaml"
    path.write_text(f"admin_socket: {tmp_path}/s\nrelay: {{mode: open}}\n")
    yield path
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()
    thread.join()


@pytest.mark.parametrize(
    "arguments", [["status", "--json"], ["topology"], ["topology", "--dot"], ["ping", "x"], ["trace"], ["rekey"]]
)
def test_a_command_that_asks_the_node_imports_nothing_dear(config: Path, arguments: list[str]) -> None:
    assert imported_by(*arguments, "--config", str(config)) & DEAR == set()


@pytest.mark.parametrize("arguments", [["--version"], ["status", "--help"]])
def test_a_command_that_asks_nobody_imports_nothing_dear(arguments: list[str]) -> None:
    assert imported_by(*arguments) & DEAR == set()


def imported_by(*arguments: str) -> set[str]:
    """The modules in a fresh interpreter after a command that ended well."""
    done = subprocess.run([sys.executable, "-c", RUN, *arguments], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    modules = set(done.stderr.splitlines()[-1].split())
    assert "peertap.cli.main" in modules
    return modules


def test_imports_are_undisturbed_and_garbage_is_collected_again_afterwards() -> None:
    try:
        with undisturbed_imports():
            assert not gc.isenabled()
        assert gc.isenabled()
        assert gc.get_freeze_count() > 0
    finally:
        gc.unfreeze()


def test_imports_that_fail_leave_the_collector_as_it_was() -> None:
    with pytest.raises(ImportError), undisturbed_imports():
        raise ImportError
    assert gc.isenabled()
    assert gc.get_freeze_count() == 0
