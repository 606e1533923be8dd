"""A member is removed, and keeps all it had: a second later it reads nothing, says nothing, and does not come back."""

import json
import shutil
import time
from pathlib import Path
from typing import Any

from netns import clubs, exmember
from netns.errors import LabError, require
from netns.frames import Listener, marked_frame, new_marker
from netns.lab import Lab
from netns.packets import BROADCAST
from netns.process import Process
from netns.scenario import Figures, Scenario
from netns.waiting import wait_for

READS_NOTHING_S = 1.0  # the row
LATER_FRAMES = 10_000  # the row
CONTROL_FRAMES = 200
SENDER = (
    "import socket,time,sys\n"
    "s=socket.socket(socket.AF_INET,socket.SOCK_DGRAM);s.setsockopt(socket.SOL_SOCKET,socket.SO_BROADCAST,1)\n"
    "while True:\n"
    "    for _ in range(8): s.sendto(b'x'*64,(sys.argv[1],4242))\n"
    "    time.sleep(0.005)\n"
)


def run(lab: Lab, short: bool) -> Figures:
    with lab.report.step("eight members"):
        nodes = clubs.lan(lab, 8)
        admin, *others = nodes
        clubs.create(admin)
        invites = []
        for node in others:
            invites.append(clubs.invite(admin))
            clubs.join(node, invites[-1])
        clubs.agree(*nodes)
    *rest, victim = others
    with lab.report.step("the last one becomes a node that keeps its keys and looks at every frame; others speak"):
        victim.kill()
        state, orders = victim.config.state_directory, lab.path("orders")
        kept = lab.path("kept-state")
        shutil.copytree(state, kept)
        for node in rest[:2]:
            node.namespace.start(f"sender-{node.name}", "python3", "-c", SENDER, "10.99.9.255")
        spy = exmember.start(
            victim.namespace, address="10.86.0.1", peer_id=admin.peer_id, state_directory=kept, orders=orders,
            control=CONTROL_FRAMES, later=LATER_FRAMES,
        )  # fmt: skip
        control = wait_for(lambda: _said(spy, 0), 30, "it opens frames as long as it is a member")
    with lab.report.step("kick: from a second later on it opens none of 10,000 frames, though they reach it"):
        listener = Listener(rest[0].namespace, clubs.TAP)
        marker, source = new_marker(), bytes.fromhex("020000000008")
        at = time.monotonic()
        clubs.vlan(admin, "kick", clubs.LABEL, victim.peer_id)
        command_s = time.monotonic() - at
        orders.with_suffix(".new").write_text(
            json.dumps({"at": at, "frame": marked_frame(BROADCAST, source, marker).hex()})
        )
        orders.with_suffix(".new").rename(orders)
        found = wait_for(lambda: _said(spy, 1), 60, "it counts")
        require(found["opened_later"] == 0, f"it opened frames after a second: {found}")
        require(found["seen_later"] >= LATER_FRAMES, f"too few frames reached it to say so: {found}")
        require(found["last_opened_after_s"] <= READS_NOTHING_S, f"it read for too long: {found}")
    with lab.report.step("what it injects is heard by nobody"):
        require(found["injected"] > 0, f"it sent nothing: {found}")
        require(listener.count(marker) == 0, "a frame of the ex-member was delivered")
        listener.stop()
        clubs.agree(admin, *rest)
    with lab.report.step("with its old state it stays outside, and is told that it was removed"):
        victim.start()
        victim.wait_ready()
        require(not clubs.pings(victim, rest[0]), "the ex-member pings a member")
        wait_for(lambda: not clubs.is_in(victim), 20, "it knows")
        clubs.agree(admin, *rest)
    with lab.report.step("its old invite does not let it in again"):
        victim.terminate()
        _forget(state)
        victim.start()
        victim.wait_ready()
        said = clubs.refused(victim, "join", invites[-1])
        require("removed since" in said, f"the old invite: {said}")
        clubs.agree(admin, *rest)
        clubs.all_ping(admin, *rest[:3])
    return {
        "control_opened": control["opened"],
        "kick_command_s": round(command_s, 3),
        **found,
    }


def _said(spy: Process, number: int) -> dict[str, Any] | None:
    """The spy's answer of this number."""
    if spy.exit_status not in (None, 0):
        raise LabError(f"the ex-member's program ended: {spy.tail(20)}")
    lines = [line for line in spy.tail(50).splitlines() if line.startswith("{")]
    return json.loads(lines[number]) if len(lines) > number else None


def _forget(state: Path) -> None:
    for record in state.glob("*.vlan"):
        record.unlink()


SCENARIO = Scenario(
    name="kicked",
    summary="an ex-member with all its keys opens 0 of 10,000 frames a second after the kick, and cannot come back",
    run=run,
    bound_s=240,
    short_bound_s=200,
)
