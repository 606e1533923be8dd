"""What a person sees while a scenario runs: one line per step, as it happens."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO


class Report:
    """Prints steps. With `quiet_stdout` (a JSON object is to be the only data) everything goes to stderr."""

    def __init__(self, *, verbose: bool = False, quiet_stdout: bool = False) -> None:
        self.verbose = verbose
        self.out: TextIO = sys.stderr if quiet_stdout else sys.stdout
        self._colour = self.out.isatty()

    @contextmanager
    def step(self, what: str) -> Iterator[None]:
        """One thing that is done or checked; ✔ and its time at the end, ✘ where it raised."""
        began = time.monotonic()
        if self._colour:
            self._print(f"  … {what}", end="\r")
        try:
            yield
        except BaseException:
            self._print(f"  {self._paint('✘', 31)} {what}")
            raise
        took = time.monotonic() - began
        self._print(f"  {self._paint('✔', 32)} {what}" + (self._paint(f"  ({took:.1f} s)", 2) if took >= 0.5 else ""))

    def title(self, text: str) -> None:
        self._print(self._paint(text, 1))

    def say(self, text: str) -> None:
        self._print(text)

    def block(self, text: str) -> None:
        """Output of a program, indented."""
        for line in text.rstrip().splitlines():
            self._print(f"    {line}")

    def detail(self, text: str) -> None:
        if self.verbose:
            self._print(self._paint(f"      {text}", 2))

    def _print(self, text: str, end: str = "\n") -> None:
        clear = "\x1b[K" if self._colour else ""
        print(clear + text, end=end, file=self.out, flush=True)

    def _paint(self, text: str, code: int) -> str:
        return f"\x1b[{code}m{text}\x1b[0m" if self._colour else text
