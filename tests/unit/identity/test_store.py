"""The state directory."""

import os
import stat
from pathlib import Path

import pytest

from peertap.errors import ConfigError
from peertap.identity.secret import VlanSecret
from peertap.node.relay_state import RelayState
from peertap.shell.store import Store, load_vlan_secret_file, new_vlan_secret, read_private, write_file
from peertap.wire.relay import Change, Verdict
from tests.support.identities import identity


def mode(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "state" / "node")


def test_making_a_store_touches_nothing(store: Store) -> None:
    assert not store.directory.exists()
    assert not store.has_identity()
    with pytest.raises(ConfigError, match="does not exist") as caught:
        store.load_identity()
    assert "peertap init" in str(caught.value.hint)
    assert not store.directory.exists()


def test_identity_and_secret_are_private_whatever_the_umask(store: Store) -> None:
    before = os.umask(0)
    try:
        identity = store.create_identity()
        path = store.save_vlan_secret(secret := new_vlan_secret("lab"))
    finally:
        os.umask(before)
    assert (mode(store.directory), mode(store.identity_path), mode(path)) == (0o700, 0o600, 0o600)
    assert store.load_identity().seed == identity.seed
    assert store.load_vlan_secret("lab") == store.load_vlan_secret(Path("lab.secret")) == secret
    assert sorted(os.listdir(store.directory)) == ["identity.key", "lab.secret"]


def test_nothing_is_overwritten_without_force(store: Store) -> None:
    identity, secret = store.create_identity(), new_vlan_secret("lab")
    store.save_vlan_secret(secret)
    for attempt in (store.create_identity, lambda: store.save_vlan_secret(new_vlan_secret("lab"))):
        with pytest.raises(ConfigError, match="exists already"):
            attempt()
    assert store.load_identity().seed == identity.seed
    assert store.load_vlan_secret("lab") == secret
    assert store.create_identity(force=True).seed != identity.seed
    assert sorted(os.listdir(store.directory)) == ["identity.key", "lab.secret"]


@pytest.mark.parametrize("bits", [0o640, 0o604, 0o620, 0o602, 0o610])
def test_a_file_open_to_others_is_refused_with_the_command_that_repairs_it(store: Store, bits: int) -> None:
    store.create_identity()
    store.identity_path.chmod(bits)
    with pytest.raises(ConfigError, match=f"mode {bits:04o}") as caught:
        store.load_identity()
    assert caught.value.hint == f"chmod 600 {store.identity_path}"
    assert caught.value.file == str(store.identity_path)


def test_the_repairing_command_quotes_odd_names(tmp_path: Path) -> None:
    path = tmp_path / "a b;c"
    path.write_text("x")
    path.chmod(0o644)
    with pytest.raises(ConfigError) as caught:
        read_private(path)
    assert caught.value.hint == f"chmod 600 '{path}'"


def test_a_directory_open_to_others_is_refused(store: Store) -> None:
    store.create_identity()
    store.directory.chmod(0o750)
    with pytest.raises(ConfigError) as caught:
        store.load_identity()
    assert caught.value.hint == f"chmod 700 {store.directory}"


def test_files_of_another_user_are_refused(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    store.create_identity()
    owner = os.geteuid()
    monkeypatch.setattr("os.geteuid", lambda: owner + 1)
    with pytest.raises(ConfigError, match=f"belongs to user {owner}") as caught:
        read_private(store.identity_path)
    assert str(caught.value.hint).startswith(f"chown {owner + 1} ")


def test_symbolic_links_are_refused(store: Store, tmp_path: Path) -> None:
    store.create_identity()
    elsewhere = tmp_path / "elsewhere"
    store.identity_path.rename(elsewhere)
    store.identity_path.symlink_to(elsewhere)
    with pytest.raises(ConfigError, match="symbolic link"):
        store.load_identity()
    alias = tmp_path / "alias"
    alias.symlink_to(store.directory)
    with pytest.raises(ConfigError, match="symbolic link"):
        Store(alias).check()


def test_a_fifo_is_refused_without_waiting(tmp_path: Path) -> None:
    path = tmp_path / "fifo"
    os.mkfifo(path, 0o600)
    with pytest.raises(ConfigError, match="not a regular file"):
        read_private(path)


@pytest.mark.parametrize("content", [b"", b"\xff\xfe", b"ptvlan1-lab-xxx", b"x" * 5000])
def test_a_damaged_secret_is_refused_and_not_repeated(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "lab.secret"
    write_file(path, content)
    with pytest.raises(ConfigError) as caught:
        load_vlan_secret_file(path)
    assert caught.value.file == str(path)
    assert caught.value.hint
    assert "xxx" not in str(caught.value)


def test_a_failed_write_leaves_the_old_file_and_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "lab.secret"
    write_file(path, b"old")

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(Exception, match="No space left"):
        write_file(path, b"new", replace=True)
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["lab.secret"]


def test_a_secret_elsewhere_needs_no_state_directory(tmp_path: Path) -> None:
    secret = VlanSecret("lab", bytes(32))
    path = tmp_path / "shared.secret"
    write_file(path, secret.emit().encode())
    assert Store(tmp_path / "none").load_vlan_secret(path) == secret


def test_what_a_relay_keeps_is_private_and_read_again(store: Store) -> None:
    store.prepare()
    assert store.load_relay_state() == RelayState()
    state = RelayState((Change(Verdict.DENY, "3f*", 9),), {identity("c").peer_id: 7})
    store.save_relay_state(RelayState().emit())
    store.save_relay_state(state.emit())
    assert store.load_relay_state() == state
    path = store.directory / "relay.policy"
    assert mode(path) == 0o600
    path.write_bytes(state.emit() + b"x")
    with pytest.raises(ConfigError, match="too many") as caught:
        store.load_relay_state()
    assert "begin anew" in str(caught.value.hint)
    path.write_bytes(state.emit())
    path.chmod(0o644)
    with pytest.raises(ConfigError, match="open to other users"):
        store.load_relay_state()
