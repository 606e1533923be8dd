"""`peertap keygen`, `peertap id`, `peertap config check`, and how errors look."""

import json
import stat
from pathlib import Path

import pytest
from typer.testing import CliRunner

from peertap import __version__
from peertap.cli.main import app
from peertap.cli.report import report
from peertap.errors import ConfigError, DeviceError, PeerTapError
from peertap.identity.secret import VlanSecret
from peertap.shell.store import Store, load_vlan_secret_file

runner = CliRunner()


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("PEERTAP_CONFIG", "STATE_DIRECTORY", "RUNTIME_DIRECTORY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PEERTAP_STATE_DIR", str(tmp_path / "state"))


def test_version_is_printed() -> None:
    assert runner.invoke(app, ["--version"]).stdout == f"peertap {__version__}\n"


def test_keygen_prints_a_new_secret_each_time() -> None:
    lines = [runner.invoke(app, ["keygen", "--vlan", "games"]).stdout for _ in range(2)]
    assert lines[0] != lines[1]
    assert {VlanSecret.parse(line).label for line in lines} == {"games"}


def test_keygen_writes_a_private_file_and_replaces_none(tmp_path: Path) -> None:
    path = tmp_path / "lab.secret"
    first = runner.invoke(app, ["keygen", "--out", str(path)])
    assert (first.exit_code, first.stdout) == (0, "")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    secret = load_vlan_secret_file(path)
    assert secret.emit() not in first.stderr
    assert runner.invoke(app, ["keygen", "--out", str(path)]).exit_code == 2
    assert load_vlan_secret_file(path) == secret
    assert runner.invoke(app, ["keygen", "--out", str(path), "--force"]).exit_code == 0
    assert load_vlan_secret_file(path) != secret


def test_keygen_refuses_a_label_that_is_none() -> None:
    result = runner.invoke(app, ["keygen", "--vlan", "No"])
    assert result.exit_code == 2
    assert result.stderr.startswith("error: --vlan: not a label\n  hint: ")


def test_id_prints_the_peer_id_and_creates_nothing(tmp_path: Path) -> None:
    config = tmp_path / "n.yaml"
    config.write_text("node: n\nrelay: {mode: open}\n")
    missing = runner.invoke(app, ["id", "--config", str(config)])
    assert (missing.exit_code, missing.stdout) == (2, "")
    assert "run `peertap init`" in missing.stderr
    assert not (tmp_path / "state").exists()
    identity = Store(tmp_path / "state").create_identity()
    assert runner.invoke(app, ["id", "--config", str(config)]).stdout == f"{identity.text}\n"
    shown = json.loads(runner.invoke(app, ["id", "--config", str(config), "--json"]).stdout)
    assert shown == {"node": "n", "peer_id": identity.text, "public_key": identity.public_key.hex()}


def test_config_check_says_ok_or_every_mistake(tmp_path: Path) -> None:
    good, bad = tmp_path / "good.yaml", tmp_path / "bad.yaml"
    good.write_text("vlans: [{label: lab}]\n")
    bad.write_text("nod: 1\nlog: {level: x}\nvlans: [{label: lab}]\n")
    result = runner.invoke(app, ["config", "check", str(good)])
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout.startswith(f"{good}: ok")
    result = runner.invoke(app, ["config", "check", str(bad)])
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.splitlines() == [
        f"error: {bad}:1: nod: unknown key",
        "  hint: did you mean node?",
        f"error: {bad}:2: log.level: 'x' is none of debug, info, warning, error",
        "  hint: the least that is logged; default info",
    ]


def test_config_check_as_json_is_one_object(tmp_path: Path) -> None:
    path = tmp_path / "n.yaml"
    path.write_text("nod: 1\nvlans: [{label: lab}]\n")
    result = runner.invoke(app, ["config", "check", str(path), "--json"])
    assert result.exit_code == 2
    assert json.loads(result.stdout) == {
        "ok": False,
        "mistakes": [
            {"file": str(path), "line": 1, "key": "nod", "what": "unknown key", "hint": "did you mean node?"},
        ],
    }
    path.write_text("vlans: [{label: lab}]\n")
    result = runner.invoke(app, ["config", "check", str(path), "--json"])
    assert result.exit_code == 0
    assert json.loads(result.stdout)["ok"] is True


def test_config_check_without_a_file_says_what_to_do(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("peertap.config.paths.running_as_root", lambda: False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    result = runner.invoke(app, ["config", "check"])
    assert result.exit_code == 2
    assert f"{tmp_path}/peertap/peertap.yaml: there is no configuration" in result.stderr
    assert "run `peertap init`" in result.stderr
    found = tmp_path / "peertap/peertap.json"
    found.parent.mkdir()
    found.write_text('{"relay": {"mode": "open"}}')
    assert str(found) in runner.invoke(app, ["config", "check"]).stdout


@pytest.mark.parametrize(
    ("error", "code"),
    [(ConfigError("x", hint="h"), 2), (DeviceError("x", hint="h"), 1), (PeerTapError("x", hint="h"), 1)],
)
def test_an_error_is_one_line_and_a_hint(error: PeerTapError, code: int, capsys: pytest.CaptureFixture[str]) -> None:
    assert report(error) == code
    assert capsys.readouterr() == ("", "error: x\n  hint: h\n")


@pytest.mark.parametrize("arguments", [["bogus"], ["config", "bogus"], ["init", "--vlan"]])
def test_wrong_usage_exits_2(arguments: list[str]) -> None:
    result = runner.invoke(app, arguments)
    assert (result.exit_code, result.stdout) == (2, "")
