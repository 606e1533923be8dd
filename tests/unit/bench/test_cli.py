"""The command line of the bench, without measuring."""

from pathlib import Path

import pytest

from tools.bench.cli import _settings, main, parser
from tools.bench.peers.tunnel import FOLDER, Program
from tools.bench.result import Result
from tools.bench.run import found


def executable(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("#!/bin/sh\n")
    path.chmod(0o755)
    return path


def saved(path: Path, tcp1: float) -> str:
    result = Result()
    result.add("peertap", {"tcp1": tcp1})
    path.write_text(result.emit() + "\n")
    return str(path)


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--peers", "fastd,wrong"], "wireguard-go"),
        (["--axes", "tcp9"], "relay_rtt_ms"),
        (["--peers", ""], "peertap"),
        (["--rounds", "0"], "at least 1"),
        (["--seconds", "fast"], "from 1 to 60"),
    ],
)
def test_wrong_usage_says_what_there_is_and_ends_with_2(
    arguments: list[str], named: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    assert named in capsys.readouterr().err


def test_names_come_in_the_order_of_the_tables_whatever_was_typed() -> None:
    options = parser().parse_args(["--peers", "veth, fastd,peertap", "--axes", "rtt_ms,tcp1"])
    assert options.peers == ("peertap", "fastd", "veth")
    assert options.axes == ("tcp1", "rtt_ms")


def test_quick_is_one_round_of_short_streams_unless_told_otherwise() -> None:
    settings, rounds = _settings(parser().parse_args(["--quick"]))
    assert rounds == 1
    assert settings.stream_s < 3
    assert _settings(parser().parse_args(["--quick", "--rounds", "2", "--seconds", "4"]))[0].stream_s == 4
    assert _settings(parser().parse_args([]))[1] == 3


def test_two_saved_results_are_compared_without_a_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    old, new = saved(tmp_path / "old.json", 1000.0), saved(tmp_path / "new.json", 2000.0)
    assert main(["--compare", old, new]) == 0
    assert "+100.0%  better" in capsys.readouterr().out


def test_a_file_that_is_no_result_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "x.json").write_text("{}")
    good = saved(tmp_path / "good.json", 1.0)
    assert main(["--compare", good, str(tmp_path / "x.json")]) == 1
    assert "x.json: no result" in capsys.readouterr().err
    assert main(["--compare", good, str(tmp_path / "none.json")]) == 1
    assert main(["--compare", good, good, good]) == 1


def test_a_program_is_looked_for_in_its_override_the_folder_and_the_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = Program("nebula", "NEBULA_BIN", is_folder=True, folders=("nebula-1.10",), package="nebula")
    monkeypatch.setenv(FOLDER, str(tmp_path / "peers"))
    monkeypatch.setenv("PATH", str(tmp_path / "path"))
    monkeypatch.delenv("NEBULA_BIN", raising=False)
    assert program.find() is None
    on_path = executable(tmp_path / "path" / "nebula")
    assert program.find() == on_path
    built = executable(tmp_path / "peers" / "nebula-1.10" / "nebula")
    assert program.find() == built
    given = executable(tmp_path / "own" / "nebula")
    monkeypatch.setenv("NEBULA_BIN", str(tmp_path / "own"))
    assert program.find() == given


def test_an_override_that_is_wrong_is_not_silently_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(FOLDER, str(tmp_path))
    executable(tmp_path / "vpncloud")
    monkeypatch.setenv("VPNCLOUD", str(tmp_path / "nowhere"))
    assert Program("vpncloud", "VPNCLOUD").find() is None


def test_tincr_is_never_tinc_from_the_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(FOLDER, str(tmp_path / "peers"))
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("TINCR_BIN", raising=False)
    executable(tmp_path / "tincd")
    executable(tmp_path / "tinc")
    absent = found(("peertap", "tinc", "tincr-tap-aes"))
    assert "tinc" not in absent
    assert "TINCR_BIN" in absent["tincr-tap-aes"]
    assert absent["fastd"] == "left out by --peers"
    assert "peertap" not in absent


def test_an_absent_peer_names_the_package_that_has_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(FOLDER, str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "Debian package fastd" in found(("fastd",))["fastd"]
