"""`peertap init`: two machines, a relay, wrong input, and running it again."""

import json
import os
import pty
import select
import shlex
import stat
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from typer.testing import CliRunner

from peertap.cli.main import app
from peertap.config.load import load_config
from peertap.config.model import Config
from peertap.shell.store import Store

SCRIPT = "from peertap.cli.main import main; main()"
RELAY = "/ip4/192.0.2.7/p2p/12D3KooWQPZP3N5TX3nPzyuaaJVkWuuBVAVCn4Fc1Yc65xhEmTRL"


class Machine:
    """A place with its own configuration and state, as if on its own machine."""

    def __init__(self, root: Path, suffix: str = ".yaml") -> None:
        self.root = root
        self.config_file = root / f"peertap{suffix}"
        self.state = root / "state"

    def init(self, *arguments: str, stdin: str = "") -> SimpleNamespace:
        """Runs init; `stdout` is a list of lines."""
        places = ["--config", str(self.config_file), "--state-dir", str(self.state)]
        result = CliRunner().invoke(app, ["init", *arguments, *places], input=stdin)
        assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
        return SimpleNamespace(code=result.exit_code, stdout=result.stdout.splitlines(), stderr=result.stderr)

    def type(self, line: str, stdin: str = "") -> SimpleNamespace:
        """Runs a printed `peertap init …` line."""
        words = shlex.split(line)
        assert words[:2] == ["peertap", "init"]
        return self.init(*words[2:], stdin=stdin)

    @property
    def config(self) -> Config:
        return load_config(self.config_file, environ={})

    def everything(self) -> dict[str, tuple[bytes, int]]:
        """Returns each file's content and time."""
        files = [path for path in self.root.rglob("*") if path.is_file()]
        return {str(path): (path.read_bytes(), path.stat().st_mtime_ns) for path in files}


@pytest.fixture
def alice(tmp_path: Path) -> Machine:
    return Machine(tmp_path / "alice")


@pytest.fixture
def bob(tmp_path: Path) -> Machine:
    return Machine(tmp_path / "bob")


def test_two_machines_need_init_and_the_line_it_prints(alice: Machine, bob: Machine) -> None:
    first = alice.init()
    assert first.code == 0, first.stderr
    command, secret = first.stdout
    second = bob.type(command, stdin=f"{secret}\n")
    assert second.code == 0, second.stderr
    assert second.stdout == []

    ours, theirs = alice.config, bob.config
    stores = [Store(alice.state), Store(bob.state)]
    assert stores[0].load_vlan_secret("lab") == stores[1].load_vlan_secret("lab")
    assert stores[0].load_identity().peer_id != stores[1].load_identity().peer_id
    assert theirs.peers[0][0].peer_id == stores[0].load_identity().peer_id
    assert ours.vlans[0].label == theirs.vlans[0].label == "lab"
    for one, other in zip(ours.vlans[0].tap.address, theirs.vlans[0].tap.address, strict=True):
        assert one.network == other.network
        assert one.ip != other.ip
    assert str(ours.vlans[0].tap.address[0]).endswith(".0.1/16")
    assert secret not in alice.config_file.read_text() + bob.config_file.read_text() + first.stderr + second.stderr


def test_what_init_writes_is_private_and_commented(alice: Machine) -> None:
    alice.init()
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in [alice.state, *alice.state.iterdir()]}
    assert modes == {"state": 0o700, "identity.key": 0o600, "lab.secret": 0o600}
    assert stat.S_IMODE(alice.config_file.stat().st_mode) == 0o644
    assert alice.config_file.read_text().count("#") > 5


def test_an_existing_configuration_is_refused_and_nothing_changes(alice: Machine) -> None:
    alice.init()
    before = alice.everything()
    again = alice.init("--vlan", "other", "--relay")
    assert again.code == 2
    assert again.stdout == []
    assert str(alice.config_file) in again.stderr
    assert "hint: " in again.stderr
    assert alice.everything() == before


def test_force_rewrites_the_configuration_and_keeps_identity_secret_and_addresses(alice: Machine) -> None:
    first = alice.init()
    before, addresses = alice.everything(), alice.config.vlans[0].tap.address
    again = alice.init("--force")
    assert (again.code, again.stdout) == (0, first.stdout)
    for name, content in alice.everything().items():
        if name != str(alice.config_file):
            assert content == before[name]
    assert alice.config.vlans[0].tap.address == addresses


def test_a_relay_knows_no_vlan_and_brings_two_members_together(alice: Machine, bob: Machine, tmp_path: Path) -> None:
    relay = Machine(tmp_path / "relay", ".json")
    started = relay.init("--relay")
    assert started.code == 0, started.stderr
    (first_member,) = started.stdout
    assert json.loads(relay.config_file.read_text())["relay"] == {"mode": "open"}
    assert relay.config.vlans == ()
    assert os.listdir(relay.state) == ["identity.key"]

    command, secret = alice.type(first_member).stdout
    assert bob.type(command, stdin=secret).code == 0
    relay_id = Store(relay.state).load_identity().peer_id
    assert alice.config.peers[0][0].peer_id == bob.config.peers[0][0].peer_id == relay_id
    assert Store(alice.state).load_vlan_secret("lab") == Store(bob.state).load_vlan_secret("lab")


def test_addresses_of_one_peer_become_one_entry(alice: Machine) -> None:
    other = RELAY.replace("/p2p/", "/tcp/4512/ws/p2p/")
    alice.init("--new", "--join", RELAY, "--join", other)
    assert [[str(address) for address in peer] for peer in alice.config.peers] == [[RELAY, other]]


def test_given_addresses_are_taken(alice: Machine) -> None:
    alice.init("--address", "10.9.0.1/24", "--address", "fd00:9::1/64", "--vlan", "games")
    (vlan,) = alice.config.vlans
    assert [str(address) for address in vlan.tap.address] == ["10.9.0.1/24", "fd00:9::1/64"]
    assert (vlan.label, alice.config.secret_path(vlan)) == ("games", alice.state / "games.secret")


def test_the_secret_can_come_from_a_private_file(alice: Machine, bob: Machine, tmp_path: Path) -> None:
    secret = alice.init("--vlan", "games").stdout[1]
    path = tmp_path / "pasted"
    path.write_text(secret + "\n")
    path.chmod(0o644)
    refused = bob.init("--secret-file", str(path))
    assert (refused.code, bob.root.exists()) == (2, False)
    assert f"chmod 600 {path}" in refused.stderr
    path.chmod(0o600)
    assert bob.init("--secret-file", str(path)).code == 0
    assert bob.config.vlans[0].label == "games"


def test_json_output_is_one_object_with_all_that_a_script_needs(alice: Machine) -> None:
    result = alice.init("--json")
    (line,) = result.stdout
    report = json.loads(line)
    assert report["peer_id"] == Store(alice.state).load_identity().text
    assert report["join"][0].startswith("peertap init --vlan lab --join /ip")
    assert report["secret"].startswith("ptvlan1-lab-")
    assert (report["vlan"], report["config"]) == ("lab", str(alice.config_file))


GOOD = "ptvlan1-lab-aaaqeayeaudaocajbifqydiob4ibceqtcqkrmfyydenbwha5dyprylmhnq"


@pytest.mark.parametrize(
    ("arguments", "stdin", "what"),
    [
        (["--vlan", "Lab"], "", "--vlan: not a label"),
        (["--node", "../x"], "", "--node: '../x' is not a node's name"),
        (["--join", "192.0.2.1"], GOOD, "--join: '192.0.2.1' is not a multiaddr"),
        (["--join", RELAY], "", "no secret was given"),
        (["--join", RELAY], GOOD[:-1], "the last part has 57 characters"),
        (["--join", RELAY], GOOD[:-1] + "a", "the checksum does not match"),
        (["--join", RELAY], "\xff\n", "does not start with ptvlan1-"),
        (["--join", RELAY, "--vlan", "games"], GOOD, "the secret of VLAN 'lab', not of 'games'"),
        (["--address", "10.0.0.1"], "", "--address: '10.0.0.1' has no prefix length"),
        (["--address", "10.0.0.1/24", "--relay"], "", "--address: there is no VLAN"),
        (["--new", "--secret-file", "/x"], "", "--new: not together"),
        (["--secret-file", "/nonexistent/x"], "", "does not exist"),
        (["--bogus"], "", "No such option"),
    ],
)
def test_wrong_input_exits_2_and_writes_nothing(alice: Machine, arguments: list[str], stdin: str, what: str) -> None:
    result = alice.init(*arguments, stdin=stdin)
    assert result.code == 2
    assert what in result.stderr
    assert "Traceback" not in result.stderr
    assert GOOD[-40:-2] not in result.stderr
    assert not alice.root.exists()


def test_joining_oneself_is_refused(alice: Machine) -> None:
    command, secret = alice.init().stdout
    before = alice.everything()
    result = alice.type(command + " --force", stdin=secret)
    assert (result.code, alice.everything()) == (2, before)
    assert "this node itself" in result.stderr


def test_another_secret_for_a_stored_vlan_needs_force(alice: Machine) -> None:
    own = alice.init().stdout[1]
    alice.config_file.unlink()
    refused = alice.init("--join", RELAY, stdin=GOOD)
    assert refused.code == 2
    assert "another secret of VLAN 'lab'" in refused.stderr
    assert Store(alice.state).load_vlan_secret("lab").emit() == own
    assert alice.init("--join", RELAY, "--force", stdin=GOOD).code == 0
    assert Store(alice.state).load_vlan_secret("lab").emit() == GOOD


def test_joining_again_without_pasting_keeps_the_stored_secret(alice: Machine) -> None:
    alice.init("--join", RELAY, stdin=GOOD)
    assert alice.init("--join", RELAY, "--force").code == 0
    assert Store(alice.state).load_vlan_secret("lab").emit() == GOOD


def test_a_state_directory_open_to_others_is_refused(alice: Machine) -> None:
    alice.state.mkdir(parents=True)
    alice.state.chmod(0o755)
    result = alice.init()
    assert result.code == 2
    assert f"chmod 700 {alice.state}" in result.stderr
    assert alice.everything() == {}


def environment(home: Path) -> dict[str, str]:
    """A user's environment, for processes of our own."""
    return {
        "HOME": str(home),
        "PATH": "/usr/bin:/bin",
        "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
        "TERM": "dumb",
    }


def test_the_terminal_does_not_show_the_secret(tmp_path: Path) -> None:
    places = ["--config", str(tmp_path / "p.yaml"), "--state-dir", str(tmp_path / "s")]
    pid, terminal = pty.fork()
    if pid == 0:
        os.execve(
            sys.executable, [sys.executable, "-c", SCRIPT, "init", "--join", RELAY, *places], environment(tmp_path)
        )
    seen, typed, deadline = b"", False, time.monotonic() + 30
    while time.monotonic() < deadline and select.select([terminal], [], [], 30)[0]:
        try:
            seen += os.read(terminal, 4096)
        except OSError:  # Linux: the other end has gone
            break
        if not typed and b"Secret of the VLAN" in seen:
            os.write(terminal, f"{GOOD}\n".encode())
            typed = True
    os.close(terminal)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0, seen
    assert GOOD[12:].encode() not in seen
    assert Store(tmp_path / "s").load_vlan_secret("lab").emit() == GOOD


def test_a_second_node_of_a_user_gets_its_own_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("peertap.config.paths.running_as_root", lambda: False)
    monkeypatch.setattr("peertap.shell.interfaces.port_is_free", lambda kind, port: True)
    for variable, name in (("XDG_CONFIG_HOME", "c"), ("XDG_STATE_HOME", "s")):
        monkeypatch.setenv(variable, str(tmp_path / name))
    runner = CliRunner()
    assert runner.invoke(app, ["init"]).exit_code == 0
    second = runner.invoke(app, ["init", "--node", "two"])
    assert second.exit_code == 0, second.stderr
    one, two = (load_config(tmp_path / "c/peertap" / name, environ={}) for name in ("peertap.yaml", "two.yaml"))
    assert (one.state_dir, two.state_dir) == (tmp_path / "s/peertap/default", tmp_path / "s/peertap/two")
    assert (one.vlans[0].tap.name, two.vlans[0].tap.name) == ("ptap0", "ptap1")
    assert (two.listen.tcp, two.listen.websocket, two.listen.quic, two.listen.udp) == (4521, 4522, 4522, 4521)
    assert second.stdout.splitlines()[0].count("--join") == 3
    assert "/tcp/4521/p2p/" in second.stdout
    assert "peertap up --node two" in second.stderr
    shown = runner.invoke(app, ["id", "--node", "two"])
    assert shown.stdout.strip() in second.stdout


def test_help_is_quick_because_it_imports_nothing_heavy(tmp_path: Path) -> None:
    code = "import atexit, sys; atexit.register(lambda: print(sorted(sys.modules), file=sys.stderr)); " + SCRIPT
    result = subprocess.run(
        [sys.executable, "-c", code, "--help"], capture_output=True, text=True, env=environment(tmp_path), check=True
    )
    for module in ("pydantic", "yaml", "libp2p", "pyroute2", "cryptography", "trio"):
        assert f"'{module}'" not in result.stderr
