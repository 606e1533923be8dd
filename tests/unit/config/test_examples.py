"""The files in configs/."""

from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import pytest
from pydantic import BaseModel

from peertap.config.load import load_config
from peertap.config.model import Config
from peertap.config.reference import render
from peertap.config.text import KeyPath, parse_yaml

CONFIGS = Path(__file__).parents[3] / "configs"
REFERENCE = CONFIGS / "reference.yaml"
EXAMPLES_ONLY = {"vlans.label", "vlans.secret_file", "relay", "vlans"}  # no default, or a section shown for its keys


def keys(model: type[BaseModel], path: str = "") -> Iterator[tuple[str, object]]:
    """Yields every key of the schema with its default."""
    for name, field in model.model_fields.items():
        yield f"{path}{name}", field.get_default()
        for kind in (field.annotation, *get_args(field.annotation)):
            if isinstance(kind, type) and issubclass(kind, BaseModel):
                yield from keys(kind, f"{path}{name}.")


def dotted(path: KeyPath) -> str:
    return ".".join(part for part in path if isinstance(part, str))


def test_there_are_the_examples_that_the_documentation_names() -> None:
    names = {path.name for path in CONFIGS.iterdir()}
    assert names >= {"reference.yaml", "pair-a.yaml", "pair-b.yaml", "relay.json", "several-vlans.yaml", "minimal.yaml"}


@pytest.mark.parametrize("path", sorted(CONFIGS.iterdir()), ids=lambda path: path.name)
def test_an_example_loads(path: Path) -> None:
    config = load_config(path, environ={})
    assert config.vlans or config.relay


def test_the_pair_fits_together() -> None:
    one, other = (load_config(CONFIGS / f"pair-{name}.yaml", environ={}) for name in "ab")
    assert one.vlans[0].label == other.vlans[0].label
    nets = [{address.network for address in config.vlans[0].tap.address} for config in (one, other)]
    assert nets[0] == nets[1]
    assert not set(one.vlans[0].tap.address) & set(other.vlans[0].tap.address)
    assert len(other.peers) == 1


def test_the_reference_is_what_the_schema_renders() -> None:
    assert REFERENCE.read_text() == render(), "run: python -m peertap.config.reference > configs/reference.yaml"


def test_the_reference_holds_every_key_exactly_once() -> None:
    document = parse_yaml(REFERENCE.read_text())
    written = [dotted(path) for path in document.lines if path and isinstance(path[-1], str)]
    assert sorted(written) == sorted(key for key, _ in keys(Config))
    assert document.mistakes == []


def test_the_reference_shows_the_defaults() -> None:
    loaded = load_config(REFERENCE, environ={})

    def at(key: str) -> object:
        value: object = loaded
        for part in key.split("."):
            value = getattr(value[0] if isinstance(value, tuple) else value, part)
        return value

    for key, default in keys(Config):
        if key not in EXAMPLES_ONLY:
            assert at(key) == default, key
    assert at("relay") == Config.model_fields["relay"].annotation.__args__[0]()  # type: ignore[union-attr]


def test_every_key_has_a_description_and_says_whether_it_reloads() -> None:
    def walk(model: type[BaseModel]) -> Iterator[str]:
        for name, field in model.model_fields.items():
            extra = field.json_schema_extra
            if not (field.description and isinstance(extra, dict) and isinstance(extra.get("reloads"), bool)):
                yield name
            for kind in (field.annotation, *get_args(field.annotation)):
                if isinstance(kind, type) and issubclass(kind, BaseModel):
                    yield from walk(kind)

    assert list(walk(Config)) == []
