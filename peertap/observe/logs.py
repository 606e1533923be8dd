"""Structured logs on standard error: one event a line, fixed keys, never a payload or a key."""

from __future__ import annotations

import logging
import sys
from typing import Final

import structlog

LEVELS: Final = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}


class _Level:
    """The threshold, changeable while the node runs."""

    number = logging.INFO


def set_level(level: str) -> None:
    """From now on, nothing below this level."""
    _Level.number = LEVELS[level]


def _drop_below(_logger: object, method: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    if LEVELS[method] < _Level.number:
        raise structlog.DropEvent
    return event


def set_up(level: str, form: str) -> structlog.typing.FilteringBoundLogger:
    """Configures logging for the process; returns the node's logger.

    Args:
        level: debug, info, warning or error.
        form: "text" for people, "json" for machines.
    """
    set_level(level)
    logging.getLogger("libp2p").setLevel(logging.CRITICAL)  # what matters of it reaches us as errors of calls
    logging.getLogger("aioquic").setLevel(logging.CRITICAL)
    logging.getLogger("quic").setLevel(logging.CRITICAL)
    renderer: structlog.typing.Processor = (
        structlog.processors.JSONRenderer(sort_keys=True)
        if form == "json"
        else structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), pad_event_to=0, pad_level=False)
    )
    structlog.configure(
        processors=[
            _drop_below,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            renderer,
        ],
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    logger: structlog.typing.FilteringBoundLogger = structlog.get_logger("peertap")
    return logger
