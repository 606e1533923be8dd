"""YAML and JSON text as plain values, with the line of every one of them.

Both readers accept the same data: mappings with text keys, sequences, text, whole numbers, fractions, true, false
and null.
What makes other YAML readers surprising is refused or absent: aliases, tags, several documents, merged keys, and the
words yes, no, on and off (YAML 1.2 core schema: only true and false are truth values).
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, NoReturn

import yaml

from peertap.errors import ConfigError

MAX_FILE_BYTES: Final = 1 << 20  # ours: a thousand VLANs and peers fit in a third of it
MAX_DEPTH: Final = 16  # ours: the schema needs 5
MAX_NUMBER_CHARS: Final = 32  # ours: no key needs more; int() is quadratic

KeyPath = tuple[str | int, ...]
Value = object  # dict[str, Value] | list[Value] | str | int | float | bool | None

# libyaml where PyYAML has it: 20 times as fast, same events
_LOADER: Final = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

_INT = re.compile(r"[-+]?[0-9]+", re.ASCII)
_BASED_INT = re.compile(r"0x[0-9a-fA-F]+|0o[0-7]+", re.ASCII)
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?", re.ASCII)
_WORDS: Final[dict[str, bool | None]] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL")),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}


@dataclass(slots=True)
class Document:
    """What a text holds.

    Args:
        data: The value at the top; None for an empty text.
        lines: Line of each value, by its path; of a mapping's value, the line of its key.
        mistakes: What is wrong but did not stop the reading (keys that occur twice).
    """

    file: Path | None
    data: Value = None
    lines: dict[KeyPath, int] = field(default_factory=dict)
    mistakes: list[ConfigError] = field(default_factory=list)

    def add_twice(self, path: KeyPath, line: int) -> None:
        """Notes that the key at `path` stands again on `line`; the first one counts."""
        self.mistakes.append(
            ConfigError(
                "this key is here twice",
                file=self.file,
                line=line,
                key=render(path),
                hint=f"the first is on line {self.lines[path]}: delete one",
            )
        )

    def fail(self, what: str, line: int | None, hint: str, path: KeyPath = ()) -> NoReturn:
        """Raises a mistake that ends the reading."""
        raise ConfigError.of(
            [ConfigError(what, file=self.file, line=line, key=render(path) or None, hint=hint), *self.mistakes]
        )


def render(path: KeyPath) -> str:
    """Returns a path as the operator would write it: "vlans[0].tap.mtu"."""
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            shown = part if part.isprintable() and len(part) <= 40 else f"{part[:40]!a}…"
            text += f".{shown}" if text else shown
    return text


def parse_yaml(text: str, file: Path | None = None) -> Document:
    """Reads YAML.

    Raises:
        ConfigError: With line and hint; nothing else, whatever `text` is.
    """
    return _YamlReader(text, file).document()


class _YamlReader:
    """Builds values from the parser's events, so that a mistake stops it before the rest is read."""

    def __init__(self, text: str, file: Path | None) -> None:
        self._text = text
        self._out = Document(file)

    def document(self) -> Document:
        try:
            if (odd := yaml.reader.Reader.NON_PRINTABLE.search(self._text)) is not None:
                line = self._text.count("\n", 0, odd.start()) + 1
                self._out.fail("holds a control character", line, "delete it, or save the file as UTF-8")
            self._events = yaml.parse(self._text, Loader=_LOADER)
            self._take()  # StreamStart
            if isinstance(self._take(), yaml.StreamEndEvent):
                return self._out
            self._out.data = self._value((), self._take())
            self._take()  # DocumentEnd
            if not isinstance(event := self._take(), yaml.StreamEndEvent):
                self._out.fail("a second document starts here", _line(event), "keep one, delete the --- lines")
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark if error.problem_mark is not None else error.context_mark
            number = 0 if mark is None else mark.line
            line_text = self._text.split("\n")[number : number + 1]
            tab = any("\t" in text[: len(text) - len(text.lstrip())] for text in line_text)
            self._out.fail(
                f"not YAML: {error.problem or 'unreadable'}",
                number + 1,
                "indent with spaces, not tabs" if tab else "look at indentation, colons and quotes here and just above",
            )
        except yaml.YAMLError:
            self._out.fail("not YAML", None, "look at indentation, colons and quotes")
        return self._out

    def _take(self) -> yaml.Event:
        event: yaml.Event = next(self._events)
        return event

    def _value(self, path: KeyPath, event: yaml.Event) -> Value:
        line = _line(event)
        self._out.lines.setdefault(path, line)
        if isinstance(event, yaml.AliasEvent):
            self._out.fail("aliases (*name) are not allowed", line, "write the value out", path)
        if getattr(event, "anchor", None) is not None:
            self._out.fail("anchors (&name) are not allowed", line, "write the value out where it is needed", path)
        if getattr(event, "tag", None) is not None:
            self._out.fail("tags (!name) are not allowed", line, "delete the tag; put quotes around text", path)
        if isinstance(event, yaml.ScalarEvent):
            return event.value if event.style else self._plain(event.value, path, line)
        if len(path) >= MAX_DEPTH:
            self._out.fail(f"nested more than {MAX_DEPTH} deep", line, "no key needs that much", ())
        return self._sequence(path) if isinstance(event, yaml.SequenceStartEvent) else self._mapping(path)

    def _sequence(self, path: KeyPath) -> list[Value]:
        items: list[Value] = []
        while not isinstance(event := self._take(), yaml.SequenceEndEvent):
            items.append(self._value((*path, len(items)), event))
        return items

    def _mapping(self, path: KeyPath) -> dict[str, Value]:
        items: dict[str, Value] = {}
        while not isinstance(event := self._take(), yaml.MappingEndEvent):
            line = _line(event)
            if not isinstance(event, yaml.ScalarEvent) or event.anchor or event.tag:
                self._out.fail("a key must be a plain word", line, "write key: value; quote { and [ in text", path)
            key_path = (*path, event.value)
            if event.value in items:
                self._out.add_twice(key_path, line)
                self._value((*key_path, "again"), self._take())
                continue
            self._out.lines[key_path] = line
            items[event.value] = self._value(key_path, self._take())
        return items

    def _plain(self, text: str, path: KeyPath, line: int) -> Value:
        if text in _WORDS:
            return _WORDS[text]
        if _INT.fullmatch(text) or _BASED_INT.fullmatch(text) or _FLOAT.fullmatch(text):
            if len(text) > MAX_NUMBER_CHARS:
                self._out.fail("a number of too many digits", line, "put quotes around it if it is text", path)
            if _INT.fullmatch(text):
                return int(text)
            return int(text, 0) if _BASED_INT.fullmatch(text) else float(text)
        return text


def _line(event: yaml.Event) -> int:
    return 0 if event.start_mark is None else event.start_mark.line + 1


def parse_json(text: str, file: Path | None = None) -> Document:
    """Reads JSON (RFC 8259).

    Raises:
        ConfigError: With line and hint; nothing else, whatever `text` is.
    """
    reader = _JsonReader(text, file)
    reader.out.data = reader.value(())
    if reader.peek():
        reader.fail("text after the end of the JSON", "delete it")
    return reader.out


class _JsonReader:
    """A recursive reader over one regular expression of tokens."""

    _SPACE = re.compile(r"[ \t\r\n]*")
    _STRING = re.compile(r'"(?:[^"\\\x00-\x1f]|\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4}))*"')
    _NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][-+]?[0-9]+)?(?![0-9A-Za-z.])", re.ASCII)
    _WORD = re.compile(r"(?:true|false|null)(?![0-9A-Za-z_])", re.ASCII)

    def __init__(self, text: str, file: Path | None) -> None:
        self.out = Document(file)
        self._text = text
        self._at = 0
        self._line = 1

    def peek(self) -> str:
        """Returns the next character that is no white space, or ""."""
        start = self._at
        match = self._SPACE.match(self._text, start)
        self._at = match.end() if match else start
        self._line += self._text.count("\n", start, self._at)
        return self._text[self._at : self._at + 1]

    def fail(self, what: str, hint: str, path: KeyPath = ()) -> NoReturn:
        self.out.fail(f"not JSON: {what}", self._line, hint, path)

    def value(self, path: KeyPath) -> Value:
        start = self.peek()
        self.out.lines.setdefault(path, self._line)
        if start and start in "{[":
            if len(path) >= MAX_DEPTH:
                self.out.fail(f"nested more than {MAX_DEPTH} deep", self._line, "no key needs that much")
            return self._object(path) if start == "{" else self._array(path)
        if start == '"':
            return self._string(path)
        if (match := self._WORD.match(self._text, self._at)) is not None:
            self._at = match.end()
            return _WORDS[match[0]]
        if (match := self._NUMBER.match(self._text, self._at)) is not None:
            if len(match[0]) > MAX_NUMBER_CHARS:
                self.fail("a number of too many digits", "put quotes around it if it is text", path)
            self._at = match.end()
            return int(match[0]) if _INT.fullmatch(match[0]) else float(match[0])
        self.fail(
            "a value is missing" if start in ("", ",", "]", "}") else f"unexpected {start!r}",
            "JSON has no comments; text stands in double quotes; no comma after the last item",
            path,
        )

    def _string(self, path: KeyPath) -> str:
        match = self._STRING.match(self._text, self._at)
        if match is None:
            self.fail("text without end, or with a control character or a wrong \\ escape", "check the quotes", path)
        self._at = match.end()
        text: str = json.loads(match[0])
        if any("\ud800" <= char <= "\udfff" for char in text):
            self.fail("half a surrogate pair", "write the character itself", path)
        return text

    def _object(self, path: KeyPath) -> dict[str, Value]:
        items: dict[str, Value] = {}
        self._at += 1
        if self.peek() == "}":
            self._at += 1
            return items
        while True:
            if self.peek() != '"':
                self.fail("a key in double quotes is missing", 'write "key": value; no comma after the last item', path)
            line = self._line
            key_path = (*path, self._string(path))
            key = str(key_path[-1])
            if self.peek() != ":":
                self.fail("a colon is missing", 'write "key": value', key_path)
            self._at += 1
            if key in items:
                self.out.add_twice(key_path, line)
                self.value((*key_path, "again"))
            else:
                self.out.lines[key_path] = line
                items[key] = self.value(key_path)
            if self._ends("}", path):
                return items

    def _array(self, path: KeyPath) -> list[Value]:
        items: list[Value] = []
        self._at += 1
        if self.peek() == "]":
            self._at += 1
            return items
        while True:
            items.append(self.value((*path, len(items))))
            if self._ends("]", path):
                return items

    def _ends(self, bracket: str, path: KeyPath) -> bool:
        char = self.peek()
        if char not in (",", bracket) or not char:
            self.fail(f"a comma or {bracket} is missing", "put a comma between items", path)
        self._at += 1
        return char == bracket
