"""A process ends at any of its writes: it starts again from what is there, all agree in the end, no nonce comes twice.

The story has every command in it. It is told once for each write of each node, with an end before the write and with
one after it: what follows the write in the same event is lost with the process. The mesh watches all keys and nonces.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from peertap.errors import ConfigError, PeerError
from peertap.node.commands import (
    Approve,
    Bridge,
    Command,
    Demote,
    JoinBy,
    Kick,
    LeaveVlan,
    MakeInvite,
    Promote,
    Revoke,
    Rotate,
)
from tests.support.club import PORT, Club
from tests.support.identities import identity

NAMES = ("ada", "bob", "cyd", "dan")
WRITES = {"ada": 27, "bob": 25, "cyd": 21, "dan": 14}  # so many has the story of each


class Story(Club):
    """A day of the club, told so that it goes on whatever happens to one of them."""

    def __init__(self, who: str, at: int, *, after: bool) -> None:
        super().__init__(*NAMES)
        self.who = who
        self.nodes[who].saves = 0
        self.nodes[who].crash_at_save = at
        self.nodes[who].crash_after_writing = after
        self.ends = 0

    def live(self, seconds: float) -> None:
        """Time passes; who ended is started again."""
        for _ in range(round(seconds / 0.25)):
            self.run(0.25)
            self.start_again()

    def start_again(self) -> None:
        while self.crashed:
            node = self.nodes[self.crashed.pop()]
            for link in list(node.trunks.values()):
                link.close("killed")
            node.crash_at_save = 0
            node.boot()
            self.ends += 1
            for other in self.nodes.values():
                if other is not node:
                    self.link(node.name, other.name)

    def do(self, name: str, command: Command) -> None:
        """What the operator types; a command during which the node ended is typed again, if it was not done."""
        for _ in range(2):
            try:
                self.nodes[name].command(command)
            except (ConfigError, PeerError):
                return  # it was done before the node ended
            if not self.crashed:
                return
            self.live(3)

    def bring_in(self, name: str, by: str, *, approve: bool = False) -> None:
        for _ in range(3):
            if self.state(name) in ("member", "leaving"):
                return
            if self.state(name) in ("gone", "refused"):
                invite = self.invite(by, approve=approve)
                if self.crashed:
                    self.live(3)
                    continue
                self.do(name, JoinBy(invite, PORT))
            self.live(3)
            if approve and identity(name).public_key in self.at(by).doors.invites.waiting:
                self.do(by, Approve("club", identity(name).public_key, is_welcome=True))
                self.live(2)

    def tell(self) -> None:
        ada, bob, cyd, dan = NAMES
        self.bring_in(bob, ada)
        self.bring_in(cyd, ada, approve=True)
        self.do(ada, MakeInvite("club", 1, 600, False, ("/ip4/1.2.3.4/tcp/1",)))
        for name in list(self.at(ada).doors.invites.open)[-1:]:
            self.do(ada, Revoke("club", name))
        self.do(ada, Promote("club", identity(bob).public_key))
        self.live(2)
        self.bring_in(dan, bob if identity(bob).public_key in self.at(bob).group.charter.admins else ada)  # type: ignore[union-attr]
        self.do(bob, Rotate("club"))
        self.live(2)
        self.do(ada, Bridge("club", identity(cyd).public_key, is_allowed=True))
        self.live(2)
        self.do(cyd, Rotate("club"))
        self.live(25)
        for _ in range(4):
            for name in (ada, bob):
                self.do(name, Rotate("club"))
                self.live(0.5)
        self.do(ada, Kick("club", identity(dan).public_key))
        self.live(70)  # the routing secret is new, too
        self.do(ada, Demote("club", identity(bob).public_key))
        self.live(2)
        if self.state(cyd) == "member":
            self.do(cyd, LeaveVlan("club"))
        self.live(30)


def points() -> list[tuple[str, int, bool]]:
    return [(who, at, after) for who in NAMES for at in range(1, WRITES[who] + 1) for after in (False, True)]


@pytest.mark.parametrize(("who", "at", "after"), points(), ids=str)
def test_a_process_that_ends_at_any_write_starts_again_and_all_agree(who: str, at: int, after: bool) -> None:
    story = Story(who, at, after=after)
    story.tell()
    story.live(60)
    assert story.ends <= 1
    left = [name for name in NAMES if story.state(name) in ("member", "leaving")]
    assert "ada" in left
    assert "bob" in left
    story.agree(*(name for name in left if name != "cyd"), *(["cyd"] if "cyd" in left else []))
    assert len(story.send_keys) > 20


def test_the_story_has_as_many_writes_as_there_are_points() -> None:
    story = Story("ada", 0, after=False)
    story.tell()
    story.agree("ada", "bob")
    assert {name: story.nodes[name].saves for name in NAMES} == WRITES


def test_a_second_handle_of_a_key_or_a_nonce_twice_would_be_seen() -> None:
    checks: list[Callable[[], None]] = []
    story = Story("ada", 0, after=False)
    story.bring_in("bob", "ada")
    sid, nonce = next(iter(story.intro_nonces))
    checks.append(lambda: story.watch_nonce(sid, nonce))
    here = story.nodes["bob"].vlan("club").introductions  # type: ignore[attr-defined]
    here.group_send = here._group_sender()
    here.changed = True
    checks.append(lambda: story.live(1) or story.do("ada", Rotate("club")) or story.live(1))  # type: ignore[func-returns-value]
    for check in checks:
        with pytest.raises(AssertionError, match=r"twice|anew"):
            check()
