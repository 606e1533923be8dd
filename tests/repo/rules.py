"""The rules of the house, each a function from a source text to what breaks it. No code of PeerTap is imported."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[2]
PACKAGE: Final = "peertap"
NATIVE: Final = "_core"

# What each part of peertap may import from the others, lowest first (CONTRIBUTING.md draws it).
_GROUND: Final = frozenset({"errors", "types"})
_SIBLINGS: Final = frozenset({"vlan", "mesh", "trunk"})
_BELOW_SHELL: Final = _GROUND | _SIBLINGS | {"wire", "node", "identity", "config", "observe"}
MAY_IMPORT: Final[dict[str, frozenset[str]]] = {
    "errors": frozenset(),
    "types": frozenset({"errors"}),
    "wire": _GROUND,
    "config": _GROUND | {"identity"},
    "observe": _GROUND | _SIBLINGS | {"wire", "identity", "node"},
    "identity": _GROUND | {"wire"},
    "vlan": _GROUND | {"wire", NATIVE},
    "mesh": _GROUND | {"wire"},
    "trunk": _GROUND | {"wire"},
    "node": _GROUND | _SIBLINGS | {"wire", NATIVE},
    "shell": _BELOW_SHELL | {NATIVE},
    "cli": _BELOW_SHELL | {"shell"},
}
ENGINE_USERS: Final = frozenset({"shell"})

PURE: Final = frozenset({"errors", "types", "wire", "vlan", "mesh", "trunk", "node", "identity"})
IMPURE_MODULES: Final = frozenset(
    {
        "asyncio",
        "datetime",
        "importlib",
        "io",
        "libp2p",
        "multiprocessing",
        "os",
        "pathlib",
        "random",
        "secrets",
        "select",
        "selectors",
        "signal",
        "socket",
        "subprocess",
        "tempfile",
        "threading",
        "time",
        "trio",
        "uuid",
    }
)
IMPURE_CALLS: Final = frozenset({"open", "input", "print", "__import__", "exec", "eval"})
CLOCK_METHODS: Final = frozenset({"now", "utcnow", "today"})

VAGUE_NAMES: Final = frozenset({"utils", "util", "helpers", "helper", "common", "misc"})
MAX_LINES: Final = 600  # STYLE: a file fits in the head

# A letter in brackets, here and below, so that this file keeps its own rules.
_UNFINISHED: Final = re.compile(r"\b(TOD[O]|FIXM[E]|XX[X]|NotImplementedErro[r]|tod[o]!|unimplemente[d]!)")
_MACHINE_PATH: Final = re.compile(r"(?<![\w.$}-])/(?:wor[k]|far[m]|roo[t])/\S|/\.librar[y]\b")
_REGISTRY: Final = re.compile(
    r"\b(?:pypi\.or[g]|(?:files\.)?pythonhosted\.or[g]|crates\.i[o]|(?:deb|security)\.debian\.or[g]"
    r"|proxy\.golang\.or[g]|registry\.npmjs\.or[g]|repo\.maven\.apache\.or[g])"
)

_NOT_OURS: Final = frozenset({"target", "__pycache__", "node_modules", "dist", "build"})
_HIDDEN_FOLDERS: Final = frozenset({".ci", ".cargo", ".github"})  # the others belong to tools
_TEXT_ENDINGS: Final = frozenset(
    {
        ".cfg",
        ".dot",
        ".ini",
        ".json",
        ".lock",
        ".lua",
        ".md",
        ".pyi",
        ".py",
        ".rs",
        ".service",
        ".sh",
        ".toml",
        ".txt",
        ".yaml",
        ".yml",
    }
)


def files(*endings: str) -> list[Path]:
    """Every text file of the checkout with one of these endings; all of them, also those without any, if none is given.

    Found without git, so that it also works on an unpacked archive and in a checkout that belongs to another user.
    """
    found = []
    folders = [ROOT]
    while folders:
        for path in folders.pop().iterdir():
            if path.is_symlink() or path.name in _NOT_OURS:
                continue
            if path.is_dir():
                if not path.name.startswith(".") or path.name in _HIDDEN_FOLDERS:
                    folders.append(path)
            elif path.suffix in (endings or _TEXT_ENDINGS) or (not endings and not path.suffix):
                found.append(path)
    return sorted(found)


def module_of(path: Path) -> tuple[str, ...]:
    """The dotted name of a Python file of the checkout, as parts: ("peertap", "wire", "codec")."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return parts[:-1] if parts[-1] == "__init__" else parts


def imports(source: str, module: tuple[str, ...], *, is_package: bool = False) -> Iterator[tuple[int, str]]:
    """Every imported name, absolute and dotted, with its line; `from a import b` gives "a.b"."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom):
            above = module[: len(module) - node.level + is_package] if node.level else ()
            base = ".".join([*above, *([node.module] if node.module else [])])
            for alias in node.names:
                yield node.lineno, f"{base}.{alias.name}"


def breaks_of_layers(source: str, module: tuple[str, ...], *, is_package: bool = False) -> list[str]:
    """What a module of peertap imports against MAY_IMPORT."""
    if len(module) < 2:
        inside = [name for _, name in imports(source, module, is_package=is_package) if name.startswith(f"{PACKAGE}.")]
        return [f"peertap/__init__.py imports {name}: it must stay empty of parts" for name in inside]
    part = module[1]
    if part not in MAY_IMPORT:
        return [f"{part}: say in tests/repo/rules.py, MAY_IMPORT, where this part stands"]
    allowed = MAY_IMPORT[part] | {part}
    breaks = []
    for line, name in imports(source, module, is_package=is_package):
        names = name.split(".")
        if names[0] != PACKAGE:
            continue
        if len(names) < 2 or names[1] == "*":
            breaks.append(f"line {line}: {part} imports peertap as a whole")
        elif names[1] in {*MAY_IMPORT, NATIVE} and names[1] not in allowed:
            breaks.append(f"line {line}: {part} must not import {names[1]}")
        elif names[1] == NATIVE and names[2:] in (["Engine"], ["*"]) and part not in ENGINE_USERS:
            breaks.append(f"line {line}: only {', '.join(ENGINE_USERS)} may use the Engine")
    if part not in ENGINE_USERS:
        breaks += [
            f"line {node.lineno}: only {', '.join(ENGINE_USERS)} may use the Engine"
            for node in ast.walk(ast.parse(source))
            if isinstance(node, ast.Attribute) and node.attr == "Engine"
        ]
    return breaks


def breaks_of_purity(source: str, module: tuple[str, ...], *, is_package: bool = False) -> list[str]:
    """What a pure module takes from the world: clock, randomness, files, sockets, threads."""
    if len(module) < 2 or module[1] not in PURE:
        return []
    breaks = [
        f"line {line}: pure code imports {name.split('.')[0]}"
        for line, name in imports(source, module, is_package=is_package)
        if name.split(".")[0] in IMPURE_MODULES
    ]
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Call):
            continue
        if isinstance(node.func, ast.Name) and node.func.id in IMPURE_CALLS:
            breaks.append(f"line {node.lineno}: pure code calls {node.func.id}()")
        elif isinstance(node.func, ast.Attribute) and node.func.attr in CLOCK_METHODS:
            breaks.append(f"line {node.lineno}: pure code asks the clock by .{node.func.attr}()")
    return breaks


def breaks_of_names(path: Path) -> list[str]:
    """Folders and modules that say nothing about what is in them."""
    parts = (*path.parts[:-1], path.stem)
    return [f"{part}: name it for what it does" for part in parts if part.lower() in VAGUE_NAMES]


def breaks_of_length(source: str) -> list[str]:
    lines = source.count("\n") + (not source.endswith("\n"))
    return [f"{lines} lines, at most {MAX_LINES}: split it by idea"] if lines > MAX_LINES else []


def breaks_of_completeness(source: str) -> list[str]:
    return [f"line {line}: {match[0]}" for line, match in _matches(_UNFINISHED, source)]


def breaks_of_place(source: str) -> list[str]:
    """Paths of one machine and hosts of package registries."""
    found = [*_matches(_MACHINE_PATH, source), *_matches(_REGISTRY, source)]
    return [f"line {line}: {match[0]}" for line, match in found]


def _matches(pattern: re.Pattern[str], source: str) -> Iterator[tuple[int, re.Match[str]]]:
    for number, text in enumerate(source.splitlines(), start=1):
        for match in pattern.finditer(text):
            yield number, match
