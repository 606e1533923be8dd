"""Pinging without a pause: when did it work, and when not?"""

import os
import select
import socket
import struct
import threading
import time
from itertools import pairwise
from pathlib import Path
from typing import Final

from netns import linux
from netns.namespace import Namespace
from netns.packets import checksum
from netns.waiting import wait_for

ECHO: Final = 8  # RFC 792
ECHO_REPLY: Final = 0


class PingProbe:
    """Sends an ICMP echo every `interval_s` from a thread, and notes when each answer came (monotonic seconds).

    With `interface`, ARP there repeats every 20 ms as soon as it exists: a lost first request would otherwise round the
    time of the first answer to whole seconds.
    """

    _next_identifier = os.getpid() & 0xFFFF

    def __init__(
        self, namespace: Namespace, target: str, interval_s: float = 0.02, interface: str | None = None
    ) -> None:
        self.namespace, self.target, self.interval_s = namespace, target, interval_s
        self._to_tune = interface
        PingProbe._next_identifier = (PingProbe._next_identifier + 1) & 0xFFFF
        self._identifier = PingProbe._next_identifier
        self._socket = namespace.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
        self._socket.setblocking(False)
        self.sent_at: list[float] = []
        self.reply_at: list[float] = []
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"ping {target}", daemon=True)
        self._thread.start()
        namespace.lab.at_end(self.stop)

    def first_reply_after(self, instant: float) -> float | None:
        return next((at for at in list(self.reply_at) if at > instant), None)

    def wait_for_reply(self, after: float, timeout_s: float, what: str) -> float:
        """The instant of the first answer later than `after`."""
        return wait_for(lambda: self.first_reply_after(after), timeout_s, what, interval_s=0.005)

    def longest_silence(self, since: float, until: float) -> float:
        """The longest time between two answers, in seconds; the ends count."""
        instants = [since, *(at for at in list(self.reply_at) if since < at < until), until]
        return max(later - earlier for earlier, later in pairwise(instants))

    def stop(self) -> None:
        self._stopped.set()
        self._thread.join()
        self._socket.close()

    def _run(self) -> None:
        sequence, next_at = 0, time.monotonic()
        while not self._stopped.is_set():
            sequence += 1
            self._tune()
            self._send(sequence)
            next_at = max(next_at + self.interval_s, time.monotonic())
            while (left := next_at - time.monotonic()) > 0 and select.select([self._socket], [], [], left)[0]:
                self._receive()

    def _tune(self) -> None:
        if self._to_tune is None:
            return
        setting = Path(f"/proc/sys/net/ipv4/neigh/{self._to_tune}/retrans_time_ms")
        with linux.inside(self.namespace.path):
            if setting.exists():
                setting.write_text("20")
                self._to_tune = None

    def _send(self, sequence: int) -> None:
        body = struct.pack("!HH", self._identifier, sequence & 0xFFFF) + b"peertap netns probe "
        packet = struct.pack("!BBH", ECHO, 0, checksum(struct.pack("!BBH", ECHO, 0, 0) + body)) + body
        try:
            self._socket.sendto(packet, (self.target, 0))
            self.sent_at.append(time.monotonic())
        except OSError:
            return  # no interface or no route yet: the next one will tell

    def _receive(self) -> None:
        try:
            packet, source = self._socket.recvfrom(2048)
        except OSError:
            return
        icmp = packet[(packet[0] & 15) * 4 :]
        if source[0] != self.target or len(icmp) < 8 or icmp[0] != ECHO_REPLY:
            return
        if struct.unpack_from("!H", icmp, 4)[0] == self._identifier:
            self.reply_at.append(time.monotonic())
