"""One process a node: what stands in the lock's place is named, never followed."""

import os
import stat
from pathlib import Path

import pytest

from peertap.errors import ConfigError, DeviceError, PeerTapError
from peertap.shell.lock import lock_node


def test_a_lock_that_is_a_symlink_is_refused_and_what_it_points_at_stays(tmp_path: Path) -> None:
    target = tmp_path / "precious"
    target.write_text("precious\n")
    state = tmp_path / "state"
    state.mkdir()
    (state / "lock").symlink_to(target)
    with pytest.raises(DeviceError, match=r"state/lock: "):
        lock_node(state, "n")
    assert target.read_text() == "precious\n"


def test_a_lock_that_is_a_dangling_symlink_creates_nothing(tmp_path: Path) -> None:
    state = tmp_path / "state"
    state.mkdir()
    (state / "lock").symlink_to(tmp_path / "new")
    with pytest.raises(DeviceError):
        lock_node(state, "n")
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("what", ["folder", "no state", "fifo"])
def test_a_lock_that_cannot_be_one_is_a_clear_error(tmp_path: Path, what: str) -> None:
    state = tmp_path / "state"
    if what != "no state":
        state.mkdir()
    if what == "folder":
        (state / "lock").mkdir()
    if what == "fifo":
        os.mkfifo(state / "lock")
    with pytest.raises(PeerTapError, match="lock"):
        lock_node(state, "n").close()


def test_a_state_directory_that_may_not_be_written_is_a_clear_error(tmp_path: Path) -> None:
    state = tmp_path / "state"
    state.mkdir(mode=0o500)
    root = os.geteuid() == 0
    if root:
        os.seteuid(65_534)  # nobody: root may write everything
    try:
        with pytest.raises((DeviceError, ConfigError), match=r"lock: Permission denied"):
            lock_node(state, "n")
    finally:
        if root:
            os.seteuid(0)


def test_a_second_process_is_told_who_has_the_lock(tmp_path: Path) -> None:
    with lock_node(tmp_path, "n"):
        with pytest.raises(ConfigError, match=rf"process {os.getpid()}"):
            lock_node(tmp_path, "n")
        assert stat.S_IMODE((tmp_path / "lock").stat().st_mode) == 0o600
    lock_node(tmp_path, "n").close()
