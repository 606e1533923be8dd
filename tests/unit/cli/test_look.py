"""Commands that ask the node: what is typed arrives, and a node that is not there is told with the reason."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from peertap.cli.main import app
from peertap.observe.text import mesh_lines, path_line
from tests.support.answering import answering

runner = CliRunner()


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PEERTAP_CONFIG", "PEERTAP_NODE", "PEERTAP_ADMIN_SOCKET", "STATE_DIRECTORY", "RUNTIME_DIRECTORY"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "n.yaml"
    path.write_text(f"node: n\nadmin_socket: {tmp_path}/s\nrelay: {{mode: open}}\n")
    return path


@pytest.fixture
def asked(tmp_path: Path) -> Iterator[list[dict[str, Any]]]:
    """What the node, which answers one client with one ping, was asked."""
    with answering(tmp_path / "s", lambda _: {"seq": 1, "rtt_s": 0.0015}) as requests:
        yield requests


@pytest.mark.parametrize(
    ("typed", "request_"),
    [
        (["ping", "10.0.0.1"], {"command": "ping", "target": "10.0.0.1", "count": 4}),
        (["ping", "-n", "2", "x"], {"command": "ping", "target": "x", "count": 2}),
        (["ping", "--count=10000", "x"], {"command": "ping", "target": "x", "count": 10_000}),
        (["ping", "7", "--json"], {"command": "ping", "target": "7", "count": 4}),
    ],
)
def test_what_is_typed_arrives(
    config: Path, asked: list[dict[str, Any]], typed: list[str], request_: dict[str, Any]
) -> None:
    done = runner.invoke(app, [*typed, "--config", str(config)])
    assert (done.exit_code, asked) == (0, [request_])
    if "--json" in typed:
        assert json.loads(done.stdout) == {"target": "7", "sent": 1, "received": 1, "median_s": 0.0015}
    else:
        assert (done.stdout, done.stderr) == ("1: 1.5 ms\n", "1 of 1 answered, median 1.5 ms\n")


@pytest.mark.parametrize(
    ("typed", "mistake"),
    [
        (["ping"], "Missing argument"),
        (["ping", "x", "-n", "0"], "greater than or equal to 1"),
        (["ping", "x", "-n", "two"], "integer"),
        (["path"], "Missing argument"),
        (["trace", "-s", "0.01"], "greater than or equal to 0.1"),
        (["trace", "-s", "long"], "number"),
        (["trace", "nonsense"], "six hexadecimal pairs"),
        (["status", "--node"], "requires an argument"),
        (["status", "more"], "unexpected"),
    ],
)
def test_what_is_typed_wrongly_exits_2_and_says_what(typed: list[str], mistake: str) -> None:
    done = runner.invoke(app, typed)
    assert (done.exit_code, done.stdout) == (2, "")
    assert mistake in done.stderr


def test_a_node_that_does_not_run_is_told_with_a_hint(config: Path) -> None:
    done = runner.invoke(app, ["status", "--config", str(config)])
    assert (done.exit_code, done.stdout) == (1, "")
    assert done.stderr == (
        f"error: node n does not run (nobody listens on {config.parent}/s)\n  hint: start it: peertap up\n"
    )


def test_a_node_that_does_not_run_for_a_mistake_in_its_configuration_is_told_with_the_mistake(config: Path) -> None:
    config.write_text(config.read_text() + "nod: x\n")
    done = runner.invoke(app, ["status", "--config", str(config)])
    assert (done.exit_code, done.stdout) == (2, "")
    assert done.stderr == f"error: {config}:4: nod: unknown key\n  hint: did you mean node?\n"


def test_a_step_of_a_way_is_a_line_with_its_reason_below() -> None:
    passes = {"end": "passes", "rtt_s": None, "transport": None, "carrier": None, "link_s": None, "why": ""}
    here = {**passes, "hop": 0, "node": "x", "transport": "tcp", "carrier": "stream", "link_s": 0.002, "why": "because"}
    assert path_line(here) == " 0  this node  on by tcp, stream, 2.0 ms\n    because"
    assert path_line({**passes, "hop": 1, "node": None, "rtt_s": 0.003}) == " 1  *  3.0 ms"
    assert path_line({**passes, "hop": 2, "node": "y", "rtt_s": 0.004, "end": "member"}) == " 2  y  4.0 ms  the member"


def test_the_mesh_is_a_table_of_who_is_there_and_what_is_special_about_them() -> None:
    relay = {
        "peer_id": "12D3KooWRelay", "hops": 1, "rtt_s": 0.0123, "role": "transit", "relays": True,
        "wants_grants": False, "load": 0.41, "busy": True, "full": False, "chosen": True, "vlans": ["ab" * 16],
        "said_at": 1.0,
    }  # fmt: skip
    user = relay | {
        "peer_id": "12D3KooWUser",
        "hops": 2,
        "role": "leaf",
        "relays": False,
        "busy": False,
        "chosen": False,
    }
    assert list(mesh_lines({"nodes": [relay, user | {"vlans": []}]})) == [
        "NODE           WHERE      ABOUT    LOAD  WHAT",
        "12D3KooWRelay  neighbour  12.3 ms  41%   relay, busy, chosen",
        "12D3KooWUser   2 hops     12.3 ms  41%   leaf",
        f"…3KooWRelay is in VLAN {'ab' * 16}",
    ]
    assert list(mesh_lines({"nodes": []})) == ["no other node is seen"]
