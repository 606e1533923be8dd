"""What is installed from this checkout fits together: versions, lock file, service unit, programs that others start."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.repo.rules import ROOT

UNIT = ROOT / "packaging" / "peertap.service"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def locked_versions(text: str) -> dict[str, str]:
    lines = [line.split("#")[0].strip() for line in text.splitlines()]
    pairs = [line.split("==") for line in lines if line]
    return {canonicalize_name(name): version for name, version in pairs}


def test_the_version_is_the_same_everywhere() -> None:
    cargo = tomllib.loads((ROOT / "Cargo.toml").read_text(encoding="utf-8"))["workspace"]["package"]["version"]
    changelog = re.search(r"^## \[(\d+\.\d+\.\d+)]", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.M)
    package = re.search(r'__version__.*= "(.*)"', (ROOT / "peertap" / "__init__.py").read_text(encoding="utf-8"))
    assert changelog is not None
    assert package is not None
    assert {PROJECT["version"], cargo, changelog[1], package[1]} == {PROJECT["version"]}


def test_no_crate_has_a_version_of_its_own() -> None:
    manifests = [tomllib.loads(path.read_text(encoding="utf-8")) for path in (ROOT / "rust").glob("*/Cargo.toml")]
    assert manifests
    assert all(manifest["package"]["version"] == {"workspace": True} for manifest in manifests)


def test_the_lock_file_pins_every_dependency_within_its_bounds() -> None:
    locked = locked_versions((ROOT / "requirements.lock").read_text(encoding="utf-8"))
    for text in [*PROJECT["dependencies"], *PROJECT["optional-dependencies"]["dev"]]:
        requirement = Requirement(text)
        assert requirement.specifier.contains(locked[canonicalize_name(requirement.name)]), text


def test_no_rust_toolchain_is_forced_on_a_machine() -> None:
    # A channel named there makes rustup download it, and fail where it cannot; rust-version says the minimum.
    assert not list(ROOT.glob("rust-toolchain*"))


@pytest.mark.parametrize("name", [".ci/run", "tools/setup.sh", "tools/test.sh"])
def test_a_script_can_be_run_and_bash_understands_it(name: str) -> None:
    assert os.access(ROOT / name, os.X_OK)
    subprocess.run(["bash", "-n", ROOT / name], check=True, timeout=10)


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not on this machine")
def test_systemd_accepts_the_service_unit(tmp_path: Path) -> None:
    # A copy, since verify wants the program to be there, and here PeerTap is not installed in /usr/local.
    text, replaced = re.subn(r"^ExecStart=/\S+", "ExecStart=/bin/true", UNIT.read_text(encoding="utf-8"), flags=re.M)
    assert replaced == 1
    copy = tmp_path / UNIT.name
    copy.write_text(text, encoding="utf-8")
    done = subprocess.run(["systemd-analyze", "verify", copy], capture_output=True, text=True, timeout=60)
    about_us = [line for line in (done.stdout + done.stderr).splitlines() if UNIT.name in line]
    assert (done.returncode, about_us) == (0, [])


def test_the_service_unit_asks_for_network_administration_and_nothing_more() -> None:
    settings = dict(
        line.split("=", 1) for line in UNIT.read_text(encoding="utf-8").splitlines() if re.match(r"\w+=", line)
    )
    assert settings["Type"] == "notify"
    assert settings["AmbientCapabilities"] == settings["CapabilityBoundingSet"] == "CAP_NET_ADMIN"
    assert settings["DeviceAllow"] == "/dev/net/tun rw"
    assert not {"PrivateDevices", "PrivateNetwork", "PrivateUsers"} & settings.keys()
