"""`peertap relay` and `peertap vlan grant`: what is typed arrives, what is answered is told."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from peertap.cli.main import app
from peertap.observe.relay_text import relay_lines
from tests.support.answering import answering

runner = CliRunner()
ANSWERS: dict[str, dict[str, Any]] = {
    "relay allow": {"rules": 1, "relay": None},
    "relay deny": {"relay": "12D3", "sequence": 9},
    "relay forget": {"error": "no trunk to that relay is up", "hint": "look"},
    "vlan grant": {"vlan": "lab", "vlan_id": "3f", "relay": "12D3", "until": 9, "line": "ptcarry1-lab-x"},
}


@pytest.fixture
def asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[dict[str, Any]]]:
    """What the node was asked."""
    for name in ("PEERTAP_CONFIG", "PEERTAP_NODE", "PEERTAP_ADMIN_SOCKET", "STATE_DIRECTORY", "RUNTIME_DIRECTORY"):
        monkeypatch.delenv(name, raising=False)
    config = tmp_path / "n.yaml"
    config.write_text(f"admin_socket: {tmp_path}/s\nrelay: {{mode: open}}\n")
    monkeypatch.setenv("PEERTAP_CONFIG", str(config))
    with answering(tmp_path / "s", lambda request: ANSWERS[request["command"]]) as requests:
        yield requests


def test_rules_of_our_own_for_a_time(asked: list[dict[str, Any]]) -> None:
    done = runner.invoke(app, ["relay", "allow", "3f*", "00*", "--for", "12h"])
    assert (done.exit_code, done.stdout, done.stderr) == (0, "", "allow 3f* 00*: it is in effect\n")
    assert asked == [{"command": "relay allow", "patterns": ["3f*", "00*"], "lifetime_s": 43_200}]


def test_rules_of_another_relay(asked: list[dict[str, Any]]) -> None:
    done = runner.invoke(app, ["relay", "deny", "3f*", "--relay", "12D3"])
    assert (done.exit_code, done.stderr) == (0, "deny 3f*: it is in effect there (update 9)\n")
    assert asked == [{"command": "relay deny", "patterns": ["3f*"], "relay": "12D3"}]


def test_what_was_not_done_is_told_and_exits_1(asked: list[dict[str, Any]]) -> None:
    done = runner.invoke(app, ["relay", "forget", "3f*", "--relay", "12D3"])
    assert (done.exit_code, done.stdout) == (1, "")
    assert "no trunk to that relay is up" in done.stderr


def test_a_carriage_grant_is_one_line_on_stdout(asked: list[dict[str, Any]]) -> None:
    done = runner.invoke(app, ["vlan", "grant", "12D3"])
    assert (done.exit_code, done.stdout) == (0, "ptcarry1-lab-x\n")
    assert asked == [{"command": "vlan grant", "relay": "12D3", "label": None, "lifetime_s": 30 * 86_400}]


@pytest.mark.parametrize("typed", [["allow"], ["deny", "3f*", "--for", "soon"], ["permit", "3f*"]])
def test_wrong_usage_exits_2(typed: list[str], asked: list[dict[str, Any]]) -> None:
    done = runner.invoke(app, ["relay", *typed])
    assert (done.exit_code, done.stdout, asked) == (2, "", [])


def carried(
    vtag: str | None, vlan_id: str | None, packets: int, size: int, *, lost: int = 0, is_carried: bool = True
) -> dict[str, Any]:
    counts = {"packets": packets, "bytes": size, "over_rate": lost, "no_room": lost}
    return {"vtag": vtag, "vlan_id": vlan_id, "is_carried": is_carried, **counts}


def test_a_listing_for_people_names_everything_once() -> None:
    relay = {
        "mode": "allow", "patterns": ["3f*"], "rules": [{"pattern": "00*", "verdict": "deny", "until": 1_800_000_000}],
        "controllers": ["12D3"], "limits": {"rate_bps": 8_000_000, "trunk_rate_bps": None, "vlan_rate_bps": None},
        "refused_updates": {"old": 1}, "waiting_bytes": 0, "carried": [
            carried("aa", "3f01", 3, 4000, lost=1), carried("bb", None, 0, 0, is_carried=False),
            carried(None, None, 1, 40),
        ],
    }  # fmt: skip
    assert list(relay_lines(relay)) == [
        "mode allow: 3f*",
        "  deny   00*, until 2027-01-15 08:00 UTC",
        "controller 12D3",
        "rate  8 Mbit/s",
        "refused updates  1  old",
        "VTag aa  VLAN-ID 3f01  3 packets, 4.0 kB, 2 packets dropped",
        "VTag bb  VLAN-ID -  0 packets, 0 bytes  not carried now",
        "VTag -  VLAN-ID the others  1 packets, 40 bytes",
    ]
