"""A VLAN in which two of three admins have to agree: nobody comes in, goes or gets a role by the word of one."""

import time

from netns import clubs
from netns.errors import require
from netns.lab import Lab
from netns.node import Node
from netns.scenario import Figures, Scenario
from netns.waiting import wait_for

ALONE_S = 4.0  # so long nothing happens by one admin's word; its own would take effect within a second


def run(lab: Lab, short: bool) -> Figures:
    del short
    with lab.report.step("a VLAN of three admins, two of whom have to agree: they come in by one of them"):
        nodes = clubs.lan(lab, 4)
        first, second, third, newcomer = nodes
        admins = nodes[:3]
        clubs.create(first, "--admins", "2-of-3", "--admin", second.peer_id, "--admin", third.peer_id)
        for node in (second, third):
            clubs.join(node, clubs.invite(first))
        clubs.agree(*admins)
        clubs.all_ping(*admins)
    with lab.report.step("a newcomer waits, and is in once another admin has agreed"):
        found = clubs.vlan(newcomer, "join", clubs.invite(first), *clubs.port(newcomer))
        require(found["state"] == "waiting", f"not waiting: {found}")
        time.sleep(ALONE_S)
        clubs.agree(*admins)
        agreed = time.monotonic()
        _approve(second, "admit", newcomer)
        clubs.agree(*nodes)
        admitted_s = time.monotonic() - agreed
        clubs.all_ping(first, newcomer)
    with lab.report.step("one admin's kick does nothing, nor does its word for another admin"):
        clubs.vlan(third, "kick", clubs.LABEL, newcomer.peer_id)
        clubs.vlan(third, "promote", clubs.LABEL, newcomer.peer_id)
        time.sleep(ALONE_S)
        clubs.agree(*nodes)
        require(clubs.pings(third, newcomer), "the newcomer is not reached any more")
        roles = [one["role"] for one in clubs.members(first)["members"] if one["peer_id"] == newcomer.peer_id]
        require(roles == ["member"], f"the newcomer is {roles}")
    with lab.report.step("a second admin agrees to the kick: the newcomer is out"):
        agreed = time.monotonic()
        _approve(first, "remove", newcomer)
        wait_for(lambda: not clubs.is_in(newcomer), 10, "the newcomer knows that it is out", interval_s=0.05)
        removed_s = time.monotonic() - agreed
        clubs.agree(*admins)
        require(not clubs.pings(first, newcomer, 1), "it is reached still")
    with lab.report.step("an admin goes; the other two are too few to lose another"):
        clubs.vlan(third, "leave", clubs.LABEL)
        wait_for(lambda: not clubs.is_in(third), 60, "the admin is out")
        clubs.agree(first, second)
        error = clubs.refused(first, "kick", clubs.LABEL, second.peer_id)
        require("fewer would be left" in error, f"another reason: {error}")
    return {"admitted_s": round(admitted_s, 2), "removed_s": round(removed_s, 2)}


def _approve(admin: Node, what: str, member: Node) -> None:
    """Types the command that `vlan members` shows, once the change is there."""
    (change,) = wait_for(lambda: _changes(admin, what, member), 10, f"{admin.name} is asked to {what}")
    clubs.vlan(admin, "approve", clubs.LABEL, change)


def _changes(admin: Node, what: str, member: Node) -> list[str]:
    wanted = [{"do": what, "peer_id": member.peer_id}]
    return [one["id"] for one in clubs.members(admin)["changes"] if one["what"] == wanted]


SCENARIO = Scenario(
    name="council",
    summary="two of three admins have to agree: one alone admits, removes and promotes nobody",
    run=run,
    bound_s=150,
    short_bound_s=150,
)
