"""Whatever the bytes are: a configuration or a ConfigError with a hint, in bounded time."""

import json
import os
from pathlib import Path

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from peertap.config import text as config_text
from peertap.config.load import load_config, parse_config
from peertap.config.model import Config
from peertap.errors import ConfigError

EXAMPLES = 5_000 if os.environ.get("PEERTAP_FULL") else 300
FILES = [path.read_text() for path in sorted((Path(__file__).parents[3] / "configs").glob("*"))]
WORDS = sorted({*Config.model_fields, "tcp", "mode", "label", "tap", "name", "mtu", "level", "vlans", "address"})

scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=20),
    st.sampled_from(WORDS),
    st.just("10.0.0.1/24"),
)
values = st.recursive(
    scalars,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.dictionaries(st.one_of(st.sampled_from(WORDS), st.text(max_size=8)), inner, max_size=5),
    ),
    max_leaves=20,
)
fuzz = settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))


def attempt(text: str, name: str, environ: dict[str, str] | None = None) -> None:
    """Parses and lets nothing but ConfigError through, each with a hint and printable."""
    try:
        parse_config(text, file=Path(name), environ=environ or {})
    except ConfigError as error:
        assert all(mistake.hint for mistake in error.mistakes)
        str(error).encode(errors="surrogateescape")


@fuzz
@given(st.text(max_size=200), st.sampled_from(["n.yaml", "n.json"]))
def test_random_text_raises_nothing_but_config_error(text: str, name: str) -> None:
    attempt(text, name)


@fuzz
@given(values)
def test_random_structures_raise_nothing_but_config_error(value: object) -> None:
    attempt(json.dumps(value), "n.json")
    attempt(yaml.safe_dump(value, allow_unicode=True), "n.yaml")


@fuzz
@given(st.sampled_from(FILES), st.data())
def test_damaged_examples_raise_nothing_but_config_error(text: str, data: st.DataObject) -> None:
    start = data.draw(st.integers(0, len(text)))
    end = data.draw(st.integers(start, min(len(text), start + 30)))
    middle = data.draw(
        st.one_of(st.text(max_size=6), st.sampled_from(["[", "{", "\n- ", ": ", "\t", "&a ", "*a", "'", "!!x "]))
    )
    damaged = text[:start] + middle + text[end:]
    attempt(damaged, "n.yaml")
    attempt(damaged, "n.json")


@fuzz
@given(st.binary(max_size=300))
def test_random_bytes_in_a_file_raise_nothing_but_config_error(
    tmp_path_factory: pytest.TempPathFactory, data: bytes
) -> None:
    path = tmp_path_factory.getbasetemp() / "fuzz.yaml"
    path.write_bytes(data)
    with pytest.raises(ConfigError):
        load_config(path, environ={})


@fuzz
@given(
    st.sampled_from(["PEERTAP_LISTEN__TCP", "PEERTAP_PEERS", "PEERTAP_VLANS", "PEERTAP_NODE", "PEERTAP_RELAY__MODE"]),
    st.text(alphabet=st.characters(blacklist_characters="\0"), max_size=40),
)
def test_random_environment_raises_nothing_but_config_error(variable: str, value: str) -> None:
    attempt("vlans: [{label: lab}]", "n.yaml", {variable: value})


@fuzz
@given(values)
def test_both_yaml_parsers_read_the_same_values(value: object) -> None:
    text = yaml.safe_dump(value, allow_unicode=True)
    results = []
    for loader in (yaml.CSafeLoader, yaml.SafeLoader):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(config_text, "_LOADER", loader)
            try:
                document = config_text.parse_yaml(text)
                results.append(repr((document.data, document.lines)))
            except ConfigError as error:
                results.append(f"{error.line} {error.key}")
    assert results[0] == results[1]


@pytest.mark.parametrize(
    "bomb", ["[" * 500_000, "{a: " * 200_000, "- " * 500_000, "a: &x [*x, *x]", "'" * 999_999, "? " * 400_000]
)
@pytest.mark.parametrize("name", ["n.yaml", "n.json"])
def test_a_bomb_is_refused_early(bomb: str, name: str) -> None:
    with pytest.raises(ConfigError):
        parse_config(bomb, file=Path(name), environ={})
