"""Which routes and joins are well signed (SPEC 6.1, 6.2)."""

from typing import Final

from peertap.wire.routes import SignedJoin, SignedRoute, signed_by

MAX_VERIFIED: Final = 65_536  # ours: signatures remembered as good


class Signatures:
    """Remembers what was well signed: each is checked once, by however many neighbours it comes."""

    def __init__(self) -> None:
        self._verified: dict[bytes, None] = {}

    def are_right(self, signed: SignedRoute | SignedJoin) -> bool:
        name = signed.signed_part() + signed.signature  # with the prefix: a subscription is no join
        if name in self._verified:
            return True
        if not signed_by(signed.public, signed.signature, signed.signed_part()):
            return False
        self._verified[name] = None
        if len(self._verified) > MAX_VERIFIED:
            del self._verified[next(iter(self._verified))]
        return True
