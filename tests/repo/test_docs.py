"""The documents in docs/ say what the code does, as far as a program can compare them."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import BaseModel

from netns.scenario import NAMES
from peertap.config.model import Config, Relay
from peertap.trunk.rekey import TRANSITIONS
from tests.repo.rules import ROOT

DOCS = sorted((ROOT / "docs").rglob("*.md"))
DECISIONS = sorted((ROOT / "docs" / "decisions").glob("*.md"))
ROOT_FOLDERS = ("configs", "docs", "netns", "packaging", "peertap", "rust", "tests", "tools")
DATAPLANE = ROOT / "rust" / "dataplane" / "src"
BASES = (ROOT, ROOT / "peertap", DATAPLANE, DATAPLANE / "engine")  # a document may leave these out
MAX_COLUMNS = 120


def text(name: str) -> str:
    return (ROOT / "docs" / name).read_text(encoding="utf-8")


def marked_rows(page: str, mark: str) -> list[tuple[str, ...]]:
    """The rows of the table between <!-- mark --> and <!-- end -->, without its head."""
    block = re.search(rf"<!-- {mark} -->\n(.*?)<!-- end -->", page, re.S)
    assert block is not None, mark
    return [tuple(cell.strip(" `") for cell in row.strip("|").split("|")) for row in block[1].splitlines()[2:]]


def section(page: str, title: str) -> str:
    """What stands under a heading, up to the next one."""
    return page.partition(f"\n## {title}\n")[2].partition("\n## ")[0]


def codes_in(page: str) -> set[str]:
    """Everything in backticks."""
    return set(re.findall(r"`([^`\n]+)`", page))


def drop_reasons(source: str) -> set[str]:
    return set(re.findall(r'^    \w+ => "(\w+)",', source, re.M))


def reloadable(model: type[BaseModel], prefix: str = "") -> Iterator[str]:
    for name, field in model.model_fields.items():
        extra = field.json_schema_extra
        if isinstance(extra, dict) and extra.get("reloads") is True:
            yield f"{prefix}{name}"
        inner = Relay if name == "relay" else field.annotation  # relay is optional
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            yield from reloadable(inner, f"{prefix}{name}.")


def keys_of_dicts(source: str) -> set[str]:
    """Every constant key of a dict in a source text."""
    dicts = (node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Dict))
    return {
        key.value for one in dicts for key in one.keys if isinstance(key, ast.Constant) and isinstance(key.value, str)
    }


def names_of_tests() -> set[str]:
    python = (path.read_text(encoding="utf-8") for path in (ROOT / "tests").rglob("test_*.py"))
    rust = (path.read_text(encoding="utf-8") for path in (ROOT / "rust").rglob("*.rs"))
    return {name for source in python for name in re.findall(r"def (test_\w+)", source)} | {
        name for source in rust for name in re.findall(r"#\[test\]\s+fn (\w+)", source)
    }


def long_lines(page: str) -> list[str]:
    """Lines of prose beyond the limit; tables, drawings and links cannot be wrapped."""
    return [line for line in page.splitlines() if len(line) > MAX_COLUMNS and not line.startswith(("|", "    "))]


def test_operations_explains_exactly_the_drop_reasons_of_the_data_plane() -> None:
    reasons = drop_reasons((DATAPLANE / "drops.rs").read_text(encoding="utf-8"))
    explained = re.findall(r"^\| `(\w+)` \| .", section(text("operations.md"), "Drop reasons"), re.M)
    assert len(reasons) > 40
    assert sorted(explained) == sorted(reasons)


def test_the_drawn_rekey_machine_is_the_one_that_runs() -> None:
    drawn = marked_rows(text("architecture.md"), "rekey")
    assert sorted(drawn) == sorted((state.name, step.name, new.name) for (state, step), new in TRANSITIONS.items())


def test_operations_lists_exactly_the_keys_that_reload() -> None:
    listed = [row[0] for row in marked_rows(text("operations.md"), "reload")]
    assert sorted(listed) == sorted(reloadable(Config))


def test_operations_explains_every_key_of_the_status() -> None:
    source = (ROOT / "peertap" / "observe" / "status.py").read_text(encoding="utf-8")
    keys = keys_of_dicts(source)
    explained = codes_in(section(text("operations.md"), "What `status` says"))
    assert len(keys) > 40
    assert keys <= explained, keys - explained


def test_operations_explains_every_step_of_a_trace() -> None:
    engine = "".join(path.read_text(encoding="utf-8") for path in (DATAPLANE / "engine").glob("*.rs"))
    steps = set(re.findall(r'\.say\([^"]*?"([a-z ]+)", \|\|', engine))
    explained = set(re.findall(r"^\| `([a-z ]+)` \|", section(text("operations.md"), "What `trace` says"), re.M))
    assert "port read" in steps
    assert explained == steps


@pytest.mark.parametrize("path", DOCS, ids=lambda path: path.name)
def test_every_link_of_a_document_leads_somewhere(path: Path) -> None:
    links = re.findall(r"\]\(([^)#]+)", path.read_text(encoding="utf-8"))
    assert not [link for link in links if "://" not in link and not (path.parent / link).exists()]


@pytest.mark.parametrize("path", DOCS, ids=lambda path: path.name)
def test_every_file_that_a_document_names_is_there(path: Path) -> None:
    named = {
        code
        for code in codes_in(path.read_text(encoding="utf-8"))
        if re.fullmatch(r"[\w./-]+\.(py|rs|sh|yaml|service)", code)
    }
    named |= {
        code
        for code in codes_in(path.read_text(encoding="utf-8"))
        if re.fullmatch(r"[\w./-]+/", code) and code.startswith(ROOT_FOLDERS)
    }
    assert not [name for name in named if not any((base / name).exists() for base in BASES)]


def test_the_threat_model_cites_only_tests_and_scenarios_that_are_there() -> None:
    page = text("threat-model.md")
    cited = {code for code in codes_in(page) if re.fullmatch(r"[a-z][a-z0-9]*(_[a-z0-9]+){4,}", code)}
    scenarios = {
        name for found in re.findall(r"[Ss]cenario((?: `[a-z-]+`)+)", page) for name in re.findall(r"`([\w-]+)`", found)
    }
    assert len(cited) > 15
    assert cited <= names_of_tests(), cited - names_of_tests()
    assert scenarios
    assert scenarios <= set(NAMES)


@pytest.mark.parametrize("path", DOCS, ids=lambda path: path.name)
def test_a_document_is_wrapped(path: Path) -> None:
    assert not long_lines(path.read_text(encoding="utf-8"))


def test_decisions_are_numbered_without_a_gap_and_have_three_parts() -> None:
    assert [int(path.name[:4]) for path in DECISIONS] == list(range(1, len(DECISIONS) + 1))
    for path in DECISIONS:
        page = path.read_text(encoding="utf-8")
        assert page.startswith(f"# {path.name[:4]}: "), path.name
        assert re.findall(r"^## (.*)", page, re.M) == ["Context", "Decision", "Consequences"], path.name


def test_every_decision_that_the_code_cites_is_there() -> None:
    sources = [path for folder in ("peertap", "rust", "netns", "docs") for path in (ROOT / folder).rglob("*.*")]
    texts = (
        path.read_text(encoding="utf-8")
        for path in sources
        if path.suffix in (".py", ".rs", ".md") and "target" not in path.parts
    )
    cited = {number for source in texts for number in re.findall(r"decisions/(\d{4})", source)}
    assert cited
    assert cited <= {path.name[:4] for path in DECISIONS}


def test_a_missing_reason_key_or_wrap_would_be_found() -> None:
    assert drop_reasons('    Runt => "runt",\n    /// More.\n    New => "new_reason",\n') == {"runt", "new_reason"}
    assert keys_of_dicts('x = {"a": {"b": 1}, **more}') == {"a", "b"}
    assert long_lines("x" * 121 + "\n| " + "x" * 121) == ["x" * 121]
