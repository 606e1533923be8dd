"""The `peertap` command line: one module per command group, registered here.

The command modules import what they need inside their functions, so that `peertap --help` stays quick.
"""

from __future__ import annotations

from typing import Annotated

import typer

from peertap import __version__
from peertap.cli import config, init, keys, look, relay, up, vlan
from peertap.cli.options import QuickCommand
from peertap.cli.report import ReportingGroup

app = typer.Typer(
    name="peertap",
    cls=ReportingGroup,
    help="A private Ethernet for machines that are anywhere.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"peertap {__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """A private Ethernet for machines that are anywhere. Start with `peertap init`, then `peertap up`."""


app.command("init")(init.init)
app.command("keygen")(keys.keygen)
app.command("id")(keys.show_id)
app.command("up", cls=QuickCommand)(up.up)
app.command("status", cls=QuickCommand)(look.status)
app.command("topology", cls=QuickCommand)(look.topology)
app.command("mesh", cls=QuickCommand)(look.mesh)
app.command("ping", cls=QuickCommand)(look.ping)
app.command("path", cls=QuickCommand)(look.path)
app.command("trace", cls=QuickCommand)(look.trace)
app.command("rekey", cls=QuickCommand)(look.rekey)
app.add_typer(config.app, name="config")
app.add_typer(vlan.app, name="vlan")
app.add_typer(relay.app, name="relay")


def main() -> None:
    """Runs the command line; the entry point of the `peertap` script."""
    app()
