"""What a neighbour or relay sees is what docs/threat-model.md lists: no field of a message is missing there."""

import dataclasses
import re
from types import ModuleType

import pytest

from peertap.wire import control, envelope, handshake, packet, path, presence, relay, routes
from tests.repo.rules import ROOT

PAGE = (ROOT / "docs" / "threat-model.md").read_text(encoding="utf-8")
PACKET_RS = (ROOT / "rust" / "dataplane" / "src" / "packet.rs").read_text(encoding="utf-8")
SEALED_FOR_MEMBERS = {"GroupTrailer"}  # inside the ciphertext; a relay has no key for it
SEEN_FROM_THE_CONNECTION = {10, 11}  # sizes, times and the peer ID need no field


def documented() -> dict[str, tuple[set[str], set[int]]]:
    """Per value of the page's tables: its fields, and the items of the list that they give away."""
    found = {}
    for block in re.findall(r"<!-- fields -->\n(.*?)<!-- end -->", PAGE, re.S):
        for row in block.splitlines()[2:]:
            name, fields, items = (cell.strip() for cell in row.strip("|").split("|"))
            found[name] = (set(fields.split(", ")), {int(item) for item in items.split(", ")})
    return found


def listed_items() -> set[int]:
    block = re.search(r"<!-- items -->\n(.*?)<!-- end -->", PAGE, re.S)
    assert block is not None
    return {int(number) for number in re.findall(r"^(\d+)\. ", block[1], re.M)}


def values_of(module: ModuleType) -> dict[str, set[str]]:
    """The public values of the wire that a module defines, with their fields."""
    return {
        name: fields
        for name, value in vars(module).items()
        if isinstance(value, type) and value.__module__ == module.__name__ and not name.startswith("_")
        if name not in SEALED_FOR_MEMBERS
        if (fields := fields_of(value))
    }


def fields_of(value: type) -> set[str]:
    """What is read from the wire into a dataclass or a named tuple; other classes have none."""
    if dataclasses.is_dataclass(value):
        return {field.name for field in dataclasses.fields(value) if field.init}
    return set(getattr(value, "_fields", ()))


def rust_fields(source: str, struct: str) -> set[str]:
    body = re.search(rf"pub struct {struct} \{{\n(.*?)^\}}", source, re.S | re.M)
    assert body is not None, struct
    return set(re.findall(r"^    (?:pub(?:\(\w+\))? )?(\w+):", body[1], re.M))


MODULES = (control, envelope, handshake, packet, path, presence, relay, routes)


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.__name__)
def test_every_field_that_a_neighbour_reads_is_in_the_list(module: ModuleType) -> None:
    written = documented()
    values = values_of(module)
    assert values
    assert {name: written.get(name, (set(), set()))[0] for name in values} == values


def test_every_message_with_a_code_is_among_the_values() -> None:
    codes = {kind.__name__ for kind in control._KINDS.values()}
    assert codes <= set().union(*(values_of(module) for module in (control, path, presence, relay)))


def test_the_header_that_rust_opens_for_a_hop_is_in_the_list() -> None:
    assert documented()["HopFields"][0] == rust_fields(PACKET_RS, "HopFields")


def test_the_page_lists_no_value_that_is_not_there() -> None:
    values = {name for module in MODULES for name in values_of(module)}
    assert documented().keys() == values | {"HopFields"}


def test_every_item_is_in_the_list_and_comes_from_a_field() -> None:
    items, used = listed_items(), set().union(*(numbers for _, numbers in documented().values()))
    assert items == set(range(1, len(items) + 1))
    assert used <= items
    assert items - used <= SEEN_FROM_THE_CONNECTION


def test_a_new_field_of_a_rust_header_would_be_seen() -> None:
    source = PACKET_RS.replace("    pub label: u32,\n", "    pub label: u32,\n    pub colour: u8,\n")
    assert rust_fields(source, "HopFields") == documented()["HopFields"][0] | {"colour"}
