"""How errors reach the operator: a line each, with a hint, never a traceback."""

from __future__ import annotations

import sys
from typing import Any, Final

import typer
from typer.core import TyperGroup

from peertap.cli.options import quick
from peertap.errors import ConfigError, PeerTapError

EXIT_FAILED: Final = 1
EXIT_USAGE: Final = 2


def say(text: str) -> None:
    """Prints a line that is no data: to stderr."""
    print(text, file=sys.stderr, flush=True)


def report(error: PeerTapError) -> int:
    """Prints `error` with all its mistakes and returns the exit code."""
    if not isinstance(error, ConfigError):
        say(f"error: {error.what}")
        if error.hint:
            say(f"  hint: {error.hint}")
        return EXIT_FAILED
    for mistake in error.mistakes:
        say(f"error: {mistake.line_of_text()}")
        if mistake.hint:
            say(f"  hint: {mistake.hint}")
    return EXIT_USAGE


class ReportingGroup(TyperGroup):
    """The outermost command group: turns our exceptions into messages and exit codes."""

    def get_params(self, ctx: Any) -> Any:
        """The parameters; see typer."""
        return quick(super().get_params(ctx))

    def invoke(self, ctx: Any) -> Any:
        """Runs the command; see typer."""
        try:
            return super().invoke(ctx)
        except PeerTapError as error:
            raise typer.Exit(report(error)) from None
