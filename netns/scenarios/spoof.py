"""A member that speaks as another one, in every way that it has: all is dropped, and it is named."""

import json
import socket
import struct
import time
from collections.abc import Callable

from netns import clubs, impostor
from netns.errors import require
from netns.frames import FrameSocket, Listener, marked_frame, new_marker
from netns.lab import Lab
from netns.node import Node, grown
from netns.packets import BROADCAST, ethernet
from netns.scenario import Figures, Scenario
from netns.waiting import wait_for

ETHERTYPE_ARP = 0x0806
SILENCE_S = 0.5


def run(lab: Lab, short: bool) -> Figures:
    with lab.report.step("four members"):
        nodes = clubs.founded(lab, 4)
        admin, victim, witness, culprit = nodes
    macs = {node.name: clubs.side(node).mac for node in nodes}
    figures: Figures = {}
    listener = Listener(witness.namespace, clubs.TAP)
    with lab.report.step("by its own interface: another's MAC does not even leave the culprit's node"):
        before = culprit.drops()
        marker = new_marker()
        sender = FrameSocket(culprit.namespace, clubs.TAP)
        sender.send(marked_frame(BROADCAST, macs[victim.name], marker))
        sender.close()
        time.sleep(SILENCE_S)
        counted = grown(before, culprit.drops())
        require("foreign_mac" in counted and listener.count(marker) == 0, f"another's MAC: {counted}")
        figures["foreign_mac"] = counted["foreign_mac"]
    with lab.report.step("ARP by its own MAC for another's address: dropped by all, the address stays whose it was"):
        figures["arp"] = _accused(
            witness, culprit, "spoofed_address", lambda: _arp(culprit, macs[culprit.name], clubs.side(victim).ipv4)
        )
        require(_resolved(witness, victim) == macs[victim.name].hex(":"), "the witness believes the culprit")
        require(clubs.pings(witness, victim), "the witness does not reach the victim")
    with lab.report.step("ARP that names another's MAC: dropped"):
        figures["arp_mac"] = _accused(
            witness, culprit, "spoofed_address", lambda: _arp(culprit, macs[victim.name], "10.99.9.77")
        )
    with lab.report.step("a node of the culprit's own making: another's MAC, and group frames in another's name"):
        culprit.kill()
        marker = new_marker()
        before = witness.drops()
        sent = impostor.attack(
            culprit.namespace, address="10.86.0.1", peer_id=admin.peer_id, victim=victim.peer_id,
            witness=witness.peer_id, state_directory=culprit.config.state_directory,
            spoofed=marked_frame(macs[witness.name], macs[victim.name], marker),
            forged=marked_frame(BROADCAST, macs[victim.name], marker),
        )  # fmt: skip
        counted = wait_for(
            lambda: _has(grown(before, witness.drops()), "spoofed_mac", "forged"), 15, "the witness counts both"
        )
        time.sleep(SILENCE_S)
        require(listener.count(marker) == 0, "a frame of the impostor was delivered")
        figures["impostor_sent"], figures["impostor_dropped"] = sent, counted
    with lab.report.step("the witness names who it was"):
        log = witness.log()
        spoofs = [line for line in log.splitlines() if "member spoofs" in line]
        require(any(culprit.peer_id in line and "MAC" in line for line in spoofs), f"no name for the MAC: {spoofs}")
        require(any(culprit.peer_id in line and "IP" in line for line in spoofs), f"no name for the address: {spoofs}")
        forged = [line for line in log.splitlines() if "forged group frame" in line]
        require(any(victim.peer_id in line for line in forged), f"no word of the forgery: {forged}")
        figures["accusations"] = len(spoofs) + len(forged)
    with lab.report.step("bridging by leave of an admin: with it another MAC passes, without it not"):
        culprit.start()
        culprit.wait_ready()
        clubs.agree(*nodes)
        clubs.vlan(admin, "bridge", clubs.LABEL, witness.peer_id)
        clubs.agree(*nodes)
        require(_may_bridge(admin, witness), "the leave is not in the group")
        clubs.vlan(admin, "bridge", clubs.LABEL, witness.peer_id, "--off")
        clubs.agree(*nodes)
        require(not _may_bridge(admin, witness), "the leave stays")
        clubs.all_ping(*nodes)
    return figures


def _accused(witness: Node, culprit: Node, reason: str, act: Callable[[], None]) -> dict[str, int]:
    """What the witness dropped because of an act; its status names the culprit."""
    before, named = witness.drops(), _spoofed(witness, culprit)
    act()
    counted = wait_for(lambda: _has(grown(before, witness.drops()), reason), 5, f"{reason} is counted")
    require(_spoofed(witness, culprit) > named, "the status does not name the culprit")
    return counted


def _has(counted: dict[str, int], *reasons: str) -> dict[str, int] | None:
    return {one: counted[one] for one in reasons} if all(one in counted for one in reasons) else None


def _spoofed(node: Node, culprit: Node) -> int:
    members = node.vlan(clubs.LABEL)["members"]
    return int(next(one["spoofed"] for one in members if one["peer_id"] == culprit.peer_id))


def _arp(node: Node, sender_mac: bytes, sender_ip: str) -> None:
    """Says by broadcast that an address is at a MAC, as hosts do when they come up (RFC 5227)."""
    ip = socket.inet_aton(sender_ip)
    body = struct.pack("!HHBBH6s4s6s4s", 1, 0x0800, 6, 4, 2, sender_mac, ip, BROADCAST, ip)
    out = FrameSocket(node.namespace, clubs.TAP)
    for _ in range(3):
        out.send(ethernet(BROADCAST, clubs.side(node).mac, ETHERTYPE_ARP, body))
    out.close()


def _resolved(node: Node, other: Node) -> str | None:
    entries = node.namespace.ip_json("-4", "neigh", "show", clubs.side(other).ipv4, "dev", clubs.TAP)
    return entries[0].get("lladdr") if entries else None


def _may_bridge(node: Node, other: Node) -> bool:
    found = json.loads(node.command("vlan", "members", clubs.LABEL, "--json"))
    return bool(next(one["bridge"] for one in found["members"] if one["peer_id"] == other.peer_id))


SCENARIO = Scenario(
    name="spoof",
    summary="MAC and ARP spoofing by a member, group frames forged in another's name: dropped, and reported by name",
    run=run,
    bound_s=150,
    short_bound_s=120,
)
