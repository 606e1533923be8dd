"""Finding the node without checking its configuration: the same place as after the check, or the check's mistakes."""

import json
from pathlib import Path

import pytest

from peertap.cli import locate
from peertap.cli.locate import admin_socket_of
from peertap.config.load import load_config
from peertap.config.text import MAX_FILE_BYTES
from peertap.errors import ConfigError

WORKS = {"relay": {"mode": "open"}}
HOME = {"HOME": "/home/u"}


@pytest.mark.parametrize("as_root", [True, False])
@pytest.mark.parametrize("node", [None, "n2"])
@pytest.mark.parametrize(
    ("keys", "environ"),
    [
        ({}, {}),
        ({"node": "n1"}, {}),
        ({"state_dir": "/s"}, {}),
        ({"admin_socket": "/a/b.sock"}, {}),
        ({"node": "n1", "admin_socket": "/a/b.sock", "state_dir": "/s"}, {"XDG_RUNTIME_DIR": "/run/user/7"}),
        ({"node": "n1"}, {"XDG_RUNTIME_DIR": "/run/user/7", "RUNTIME_DIRECTORY": "", "STATE_DIRECTORY": "/var/x"}),
        ({"node": "n1"}, {"RUNTIME_DIRECTORY": "/run/x:/run/y"}),
        ({"node": "n1"}, {"PEERTAP_NODE": "n3", "PEERTAP_STATE_DIR": ""}),
        ({"state_dir": "/s", "admin_socket": "/a"}, {"PEERTAP_STATE_DIR": "/t", "PEERTAP_ADMIN_SOCKET": "/b"}),
    ],
)
def test_the_socket_is_where_the_whole_configuration_has_it(
    keys: dict[str, object], environ: dict[str, str], node: str | None, as_root: bool, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr("peertap.config.paths.running_as_root", lambda: as_root)
    for path in (tmp_path / "n.json", tmp_path / "n.yaml"):  # JSON is YAML too
        path.write_text(json.dumps({**keys, **WORKS}))
        config = load_config(path, node=node, environ=HOME | environ)
        assert locate._unchecked(path, node, HOME | environ) == (config.node, config.admin_socket)


def test_a_mistake_elsewhere_does_not_matter(tmp_path: Path) -> None:
    path = tmp_path / "n.yaml"
    path.write_text("node: n\nadmin_socket: /a\nvlans: nonsense\nnod: 1\n")
    assert admin_socket_of(path, None, HOME) == ("n", Path("/a"))


@pytest.mark.parametrize(
    "text",
    [
        "node: [", "7", "[1]", "node: n\nnode: m\n", "admin_socket: a\n", "admin_socket: 7\n", "admin_socket: null\n",
        "node: a/b\n", "node: ''\n", 'node: "\\0"\n', "state_dir: s\n", "state_dir: 7\n", 'admin_socket: "/\\0"\n',
        "\xff", "relay: {mode: open}\n" + "#" * MAX_FILE_BYTES,
    ],
    ids=lambda text: repr(text[:30]),
)  # fmt: skip
def test_what_does_not_say_where_is_told_as_by_the_whole_check(text: str, tmp_path: Path) -> None:
    path = tmp_path / "n.yaml"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(ConfigError) as told:
        admin_socket_of(path, None, HOME)
    with pytest.raises(ConfigError) as checked:
        load_config(path, environ=HOME)
    assert [one.line_of_text() for one in told.value.mistakes] == [one.line_of_text() for one in checked.value.mistakes]


def test_a_file_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="does not exist"):
        admin_socket_of(tmp_path / "n.yaml", None, HOME)
