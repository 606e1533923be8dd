"""A neighbour of a relay that lies about who is there, what is allowed, and who is root.

It has a trunk like any other and no node behind: it hears what the relay says, and makes lies of it. It runs as a
process of its own in its namespace: `tell` starts it.
"""

from __future__ import annotations

import dataclasses
import json
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import trio

from netns.adversary import run
from netns.namespace import Namespace
from netns.stranger import NoFrames, identity_of, trunk_to_relay
from peertap.identity.node import NodeIdentity, parse_peer_id
from peertap.node.events import Event, MessageReceived
from peertap.shell.link import Link
from peertap.types import Token
from peertap.wire.control import Advert, Join, Message, Policy, Routes
from peertap.wire.presence import LinkDown, Presence, SignedLinkDown, SignedPresence
from peertap.wire.relay import Change, RelayUpdate, Verdict
from peertap.wire.routes import KIND_TREE, Origin, SignedJoin

LISTENS_S: Final = 3.0  # until it has heard of everybody
STAYS_S: Final = 4.0  # so that what it said is weighed
AHEAD_MS: Final = 7_200_000


class Heard:
    """What the relay told the liar."""

    def __init__(self) -> None:
        self.presences: dict[bytes, SignedPresence] = {}
        self.adverts: dict[bytes, Advert] = {}

    def take(self, message: Message) -> None:
        if isinstance(message, SignedPresence):
            self.presences[message.author] = message
        elif isinstance(message, Routes):
            self.adverts |= {advert.route.token: advert for advert in message.adverts}

    def trees(self) -> list[Advert]:
        """Announcements of roots."""
        return [advert for advert in self.adverts.values() if advert.route.kind == KIND_TREE]


def lies(order: dict[str, Any], liar: NodeIdentity, heard: Heard) -> dict[str, list[Message]]:
    """Everything that must change nothing, by what it is about."""
    return {
        "presence": list(_about_presence(liar, heard)),
        "update": list(_about_rules(order, liar)),
        "root": list(_about_roots(heard)),
    }


def _about_presence(liar: NodeIdentity, heard: Heard) -> Iterator[Message]:
    now_ms = int(time.time() * 1000)
    for author, genuine in heard.presences.items():
        if author == liar.peer_id:
            continue
        later = dataclasses.replace(genuine.said, sequence=now_ms)
        yield dataclasses.replace(genuine)  # as it came: no news
        yield SignedPresence.sign(genuine.author, liar.sign, dataclasses.replace(later, lifetime_s=0))
        yield SignedPresence.sign(genuine.author, liar.sign, dataclasses.replace(later, links=()))
        yield SignedLinkDown.sign(genuine.author, liar.sign, LinkDown(genuine.author, genuine.said.sequence))
        yield SignedLinkDown.sign(liar.peer_id, liar.sign, LinkDown(genuine.author, genuine.said.sequence))
    yield SignedPresence.sign(liar.peer_id, liar.sign, Presence(now_ms + AHEAD_MS, 600, relays=True))
    yield SignedPresence.sign(liar.peer_id, liar.sign, Presence(now_ms - AHEAD_MS, 600, relays=True))


def _about_rules(order: dict[str, Any], liar: NodeIdentity) -> Iterator[Message]:
    relay, controller = parse_peer_id(order["relay_peer_id"]), parse_peer_id(order["controller"])
    for name in (controller, liar.peer_id):
        unsigned = RelayUpdate(relay, name, int(time.time() * 1000), (Change(Verdict.DENY, "*"),), b"")
        yield dataclasses.replace(unsigned, signature=liar.sign(unsigned.signed_part()))


def _about_roots(heard: Heard) -> Iterator[Message]:
    """A better origin, a later sequence, another token, each under the genuine signature; and a wish for its frames."""
    for number, advert in enumerate(heard.trees()):
        route = advert.route
        best = Origin(0, route.origin.start_ms, route.origin.random)
        forged = (
            dataclasses.replace(route, origin=best),
            dataclasses.replace(route, sequence=route.sequence + 1),
            dataclasses.replace(route, token=Token(bytes(16))),
        )
        yield Routes(number, tuple(Advert(one, 1, 65_535) for one in forged))
        fields = (route.public, route.origin, Token(bytes(16)), route.expiry)
        yield Join(SignedJoin(*fields, signature=route.signature))


async def _tell(order: dict[str, Any]) -> dict[str, int]:
    heard = Heard()

    def received(_link: Link, event: Event) -> None:
        if isinstance(event, MessageReceived):
            heard.take(event.message)

    async with trunk_to_relay(order, received, NoFrames()) as link:
        link.send(Policy(True, False))
        await trio.sleep(LISTENS_S)
        told = lies(order, identity_of(order), heard)
        for messages in told.values():
            for message in messages:
                link.send(message)
        await trio.sleep(STAYS_S)
    return {name: len(messages) for name, messages in told.items()}


def tell(
    machine: Namespace, *, relay_address: str, relay_peer_id: str, state_directory: Path, controller: str
) -> dict[str, int]:
    """Tells its lies to a relay; returns how many, by what they are about.

    Raises: LabError: none could be told.
    """
    order = {
        "relay_address": relay_address, "relay_peer_id": relay_peer_id, "state_directory": str(state_directory),
        "controller": controller,
    }  # fmt: skip
    told: dict[str, int] = run("netns.liar", machine, order)
    return told


if __name__ == "__main__":
    print(json.dumps(trio.run(_tell, json.loads(sys.argv[1]))), flush=True)
    os._exit(0)  # libp2p's listeners can stay open after run() ends
