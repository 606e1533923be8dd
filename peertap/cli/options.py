"""Options that several commands share, and how they become values where that has to be quick."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer
from typer.core import TyperArgument, TyperCommand, TyperOption

ConfigOption = Annotated[
    Path | None,
    typer.Option(
        "--config", "-c", metavar="FILE", help="Configuration file (also $PEERTAP_CONFIG).", show_default=False
    ),
]
NodeOption = Annotated[
    str | None,
    typer.Option("--node", metavar="NAME", help="Which of this machine's nodes.", show_default=False),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]


class QuickCommand(TyperCommand):
    """A command that begins at once: see `quick`."""

    def get_params(self, ctx: Any) -> Any:
        """The parameters; see typer."""
        return quick(super().get_params(ctx))


Params = TypeVar("Params", bound=Sequence[object])


def quick(params: Params) -> Params:
    """Lets parameters make text and paths without pydantic, with which typer converts each, given or not: 70 ms.

    What else was typed, numbers with their bounds, is left to typer.
    """
    for param in params:
        if isinstance(param, TyperArgument | TyperOption) and param.nargs == 1 and not param.multiple:
            param.process_value = partial(_processed, param)  # type: ignore[method-assign]
    return params


def _processed(param: TyperArgument | TyperOption, ctx: Any, value: Any) -> Any:
    kind = param.type_descriptor.annotation
    if kind is Path and isinstance(value, str):
        value = Path(value)
    is_made = not param.required if value is None else isinstance(kind, type) and isinstance(value, kind)
    if not is_made:
        return type(param).process_value(param, ctx, value)
    return value if param.callback is None else param.callback(ctx, param, value)
