"""How a command asks the running node; imports the little that it takes (tests/unit/cli/test_start_up.py)."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from peertap.cli.options import ConfigOption, NodeOption
from peertap.errors import DeviceError


def ask(
    request: dict[str, Any], config: ConfigOption, node: NodeOption, take: Callable[[dict[str, Any]], None]
) -> None:
    """Sends a request to the node and hands every answer on as it comes."""
    from peertap.cli.locate import admin_socket_of
    from peertap.config.paths import find_config
    from peertap.shell import admin_client

    path = find_config(config, node, os.environ)
    name, admin_socket = admin_socket_of(path, node, os.environ)
    try:
        connection = admin_client.connect(admin_socket, node=name)
    except DeviceError:
        from peertap.config.load import load_config  # 150 ms, only needed here

        load_config(path, node=node, environ=os.environ)  # a mistake in it is told first
        raise
    with connection:
        for answer in admin_client.ask(connection, request, node=name):
            take(answer)
