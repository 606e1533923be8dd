"""One exception tree, each branch named for whose fault it is.

    PeerTapError
    ├── ConfigError     the operator
    ├── DecodeError     the other side: bytes that are not what the format says
    ├── PeerError       the other side: well-formed, but not allowed
    ├── DeviceError     the machine: TAP devices and what the kernel refuses
    ├── TrunkError      the machine: links to neighbours
    ├── GatewayError    the machine: foreign networks at the edge
    └── StateError      us: a bug

A message says what, where and which value; a `hint` says what to do about it. Neither ever holds a secret.
"""

from __future__ import annotations

from typing import Protocol


class PathLike(Protocol):
    """A file's name that is not text, such as a Path; this module knows no file system."""

    def __fspath__(self) -> str:
        """Returns the name as text."""
        ...


class PeerTapError(Exception):
    """Anything PeerTap raises on purpose.

    Args:
        what: What is wrong, with where and which value, in one line.
        hint: What the reader can do about it, in one line.
    """

    def __init__(self, what: str, *, hint: str | None = None) -> None:
        super().__init__(what)
        self.what = what
        self.hint = hint

    def __str__(self) -> str:
        return self.what if self.hint is None else f"{self.what} (hint: {self.hint})"


class ConfigError(PeerTapError):
    """The operator wrote or passed something that cannot be; nothing has been changed.

    `str()` is "file:line: key: what (hint: …)"; parts that are unknown are left out. One file can hold several
    mistakes: the first is the exception itself, and `mistakes` lists all of them, itself first.
    """

    def __init__(
        self,
        what: str,
        *,
        file: PathLike | str | None = None,
        line: int | None = None,
        key: str | None = None,
        hint: str | None = None,
    ) -> None:
        super().__init__(what, hint=hint)
        self.file = None if file is None else file if isinstance(file, str) else file.__fspath__()
        self.line = line
        self.key = key
        self.mistakes: tuple[ConfigError, ...] = (self,)

    @classmethod
    def of(cls, mistakes: list[ConfigError]) -> ConfigError:
        """Returns the first of `mistakes` (at least one), carrying all of them."""
        first = mistakes[0]
        first.mistakes = tuple(mistakes)
        return first

    @property
    def where(self) -> str:
        """File, line and key as "file:line: key", as far as known."""
        place = ""
        if self.file is not None:
            place = self.file if self.line is None else f"{self.file}:{self.line}"
        return ": ".join(part for part in (place, self.key) if part)

    def line_of_text(self) -> str:
        """This one mistake as a line without the hint."""
        return f"{self.where}: {self.what}" if self.where else self.what

    def __str__(self) -> str:
        return "\n".join(
            mistake.line_of_text() if mistake.hint is None else f"{mistake.line_of_text()} (hint: {mistake.hint})"
            for mistake in self.mistakes
        )


class DecodeError(PeerTapError):
    """Bytes from outside do not follow their format; they are dropped and counted."""


class PeerError(PeerTapError):
    """The other side said something well-formed that it may not say."""


class DeviceError(PeerTapError):
    """The machine refuses a device, a privilege or an address."""


class TrunkError(PeerTapError):
    """A link to a neighbour cannot be made or has failed."""


class GatewayError(PeerTapError):
    """A foreign network at the edge cannot be reached or has failed."""


class StateError(PeerTapError):
    """A bug of ours: a state that the design rules out."""
