"""Node identities that are the same in every run."""

import hashlib

from peertap.identity.node import NodeIdentity


def identity(name: str) -> NodeIdentity:
    return NodeIdentity(hashlib.sha256(name.encode()).digest())
