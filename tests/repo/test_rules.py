"""The house keeps its rules, and each rule can fail (CONTRIBUTING.md)."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

from tests.repo import rules

PYTHON_OF_PACKAGE = [path for path in rules.files(".py") if path.is_relative_to(rules.ROOT / rules.PACKAGE)]


def spell(text: str) -> str:
    """Takes out the "~", which are there so that this file keeps its own rules."""
    return text.replace("~", "")


def report(paths: Iterable[Path], rule: Callable[[str], list[str]]) -> list[str]:
    """All breaks of `rule` in these files, each with its file."""
    return [
        f"{path.relative_to(rules.ROOT)}: {found}"
        for path in paths
        for found in dict.fromkeys(rule(path.read_text(encoding="utf-8")))
    ]


def assert_none(found: list[str]) -> None:
    assert not found, "\n" + "\n".join(found)


def report_modules(rule: Callable[..., list[str]]) -> list[str]:
    return [
        found
        for path in PYTHON_OF_PACKAGE
        for found in report(
            [path], lambda source, p=path: rule(source, rules.module_of(p), is_package=p.stem == "__init__")
        )
    ]


def test_imports_go_downwards_only() -> None:
    assert_none(report_modules(rules.breaks_of_layers))


def test_pure_code_takes_nothing_from_the_world() -> None:
    assert_none(report_modules(rules.breaks_of_purity))


def test_no_module_has_a_name_that_says_nothing() -> None:
    paths = [path.relative_to(rules.ROOT) for path in rules.files(".py", ".pyi", ".rs")]
    assert_none([f"{path}: {found}" for path in paths for found in rules.breaks_of_names(path)])


def test_no_source_file_is_too_long() -> None:
    assert_none(report(rules.files(".py", ".pyi", ".rs"), rules.breaks_of_length))


def test_nothing_is_left_unfinished() -> None:
    assert_none(report(rules.files(".py", ".pyi", ".rs", ".sh"), rules.breaks_of_completeness))


def test_no_file_names_a_machine_or_a_registry() -> None:
    # Cargo.lock names the registry of every crate: cargo writes it so, and that is its format.
    paths = [path for path in rules.files() if path.name != "Cargo.lock"]
    assert_none(report(paths, rules.breaks_of_place))


def test_the_search_for_files_finds_sources_and_leaves_out_what_was_built() -> None:
    names = {str(path.relative_to(rules.ROOT)) for path in rules.files()}
    assert {"pyproject.toml", "Makefile", ".ci/run", "peertap/errors.py", "tests/repo/rules.py"} <= names
    assert not [name for name in names if name.startswith((".venv/", "target/", ".git/")) or "/target/" in name]


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("wire.codec", "from peertap.vlan import names"),
        ("wire.codec", "import peertap.node.core"),
        ("wire.codec", "from peertap import _core"),
        ("wire.codec", "from ..shell import store"),
        ("wire.codec", "def late():\n    from peertap.shell.store import Store"),
        ("wire.codec", "import peertap"),
        ("vlan.names", "from peertap.mesh.routes import Table"),
        ("mesh.routes", "from peertap.trunk import records"),
        ("trunk.records", "from peertap.vlan import names"),
        ("mesh.routes", "from peertap._core import SendKey"),
        ("vlan.names", "from peertap._core import Engine"),
        ("node.core", "from peertap import _core\n_core.Engine(udp_port=0)"),
        ("node.core", "from peertap.identity import node"),
        ("node.core", "from peertap.config import model"),
        ("config.load", "from peertap.wire import codec"),
        ("identity.node", "from peertap.vlan import names"),
        ("observe.logs", "from peertap.shell import runtime"),
        ("shell.host", "from peertap.cli import main"),
        ("cli.main", "from peertap._core import StaticSecret"),
        ("errors", "from peertap.types import Mac"),
        ("nowhere.new", "import re"),
    ],
)
def test_an_import_upwards_or_sideways_is_found(module: str, source: str) -> None:
    assert rules.breaks_of_layers(source, ("peertap", *module.split(".")))


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("types", "from peertap.errors import DecodeError"),
        ("wire.codec", "from peertap.wire.control import Hello\nfrom peertap import errors, types"),
        ("vlan.names", "from peertap._core import StaticSecret"),
        (
            "node.core",
            "from peertap.mesh import routes\nfrom peertap.vlan import names\nfrom peertap._core import Tables",
        ),
        (
            "shell.engine",
            "from peertap._core import Engine\nfrom peertap.node import core\nfrom peertap.config import model",
        ),
        (
            "cli.main",
            "from peertap import __version__\nfrom peertap.shell import host\nfrom peertap.identity import node",
        ),
    ],
)
def test_an_import_downwards_is_allowed(module: str, source: str) -> None:
    assert rules.breaks_of_layers(source, ("peertap", *module.split("."))) == []


def test_a_relative_import_in_a_package_file_is_resolved_from_the_package() -> None:
    module = ("peertap", "wire")
    assert rules.breaks_of_layers("from .codec import lp", module, is_package=True) == []
    assert rules.breaks_of_layers("from ..node import core", module, is_package=True)


@pytest.mark.parametrize(
    "source",
    [
        "import trio",
        "import os.path",
        "from time import monotonic",
        "from pathlib import Path",
        "from libp2p.crypto import keys",
        "def f():\n    import random",
        "if True:\n    import socket as s",
        "stamp = clock.datetime.now()",
        "stamp = datetime.utcnow()",
        "data = open('x').read()",
        "print('x')",
    ],
)
def test_a_pure_module_that_reaches_for_the_world_is_found(source: str) -> None:
    assert rules.breaks_of_purity(source, ("peertap", "mesh", "routes"))
    assert rules.breaks_of_purity(source, ("peertap", "shell", "store")) == []


def test_a_pure_module_that_gets_its_time_as_an_argument_is_allowed() -> None:
    source = "import hashlib\ndef next_deadline(self, now: float) -> float:\n    return max(now, self.now) + 1"
    assert rules.breaks_of_purity(source, ("peertap", "mesh", "routes")) == []


@pytest.mark.parametrize("path", ["peertap/utils.py", "rust/dataplane/src/common.rs", "tests/helpers/x.py"])
def test_a_name_that_says_nothing_is_found(path: str) -> None:
    assert rules.breaks_of_names(Path(path))


def test_a_file_of_600_lines_is_allowed_and_one_of_601_is_found() -> None:
    assert rules.breaks_of_length("x\n" * 600) == []
    assert rules.breaks_of_length("x\n" * 601)


@pytest.mark.parametrize("word", ["TO~DO", "FIX~ME", "NotImplemented~Error", "to~do!", "unimple~mented!"])
def test_unfinished_code_is_found(word: str) -> None:
    assert rules.breaks_of_completeness(f"first\nx = 1  # {spell(word)}: later\n") == [f"line 2: {spell(word)}"]


@pytest.mark.parametrize(
    "source",
    [
        "see /wo~rk/shared",
        "'/fa~rm/x'",
        "https://pypi.o~rg/simple",
        "http://deb.debian.o~rg",
        "(crates.i~o)",
        "a/.libra~ry",
    ],
)
def test_a_path_of_a_machine_and_a_registry_are_found(source: str) -> None:
    assert rules.breaks_of_place(spell(source))


@pytest.mark.parametrize("source", ["target/work/x", "docs/farm/house", "/workers/x", "${root}/work/x", "debian.org"])
def test_a_path_inside_the_project_is_allowed(source: str) -> None:
    assert rules.breaks_of_place(source) == []
