"""Which of two routes of one token is to be preferred, before their metrics are looked at (SPEC 6.1)."""

from collections.abc import Iterable
from typing import Final

from peertap.wire.routes import KIND_TREE, Origin, SignedRoute

SEQUENCE_MODULUS: Final = 1 << 32


def better(origin: Origin, than: Origin, kind: int) -> bool:
    """Whether an origin is as good as another one of the same token, or takes it (SPEC 6.1)."""
    if kind == KIND_TREE:
        return origin <= than
    return (origin.start_ms, origin.random) >= (than.start_ms, than.random)


def winner(routes: Iterable[SignedRoute]) -> Origin | None:
    """The origin that all nodes prefer among these routes of one token."""
    best: SignedRoute | None = None
    for route in routes:
        if best is None or (route.origin != best.origin and better(route.origin, best.origin, route.kind)):
            best = route
    return None if best is None else best.origin


def newer_or_same(sequence: int, than: int) -> bool:
    """Serial-number arithmetic (RFC 1982) on 32 bits."""
    return (sequence - than) % SEQUENCE_MODULUS < SEQUENCE_MODULUS // 2
