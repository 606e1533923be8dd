"""Capturing on an interface, and looking for bytes in what was captured.

By a packet socket of our own: tcpdump insists on changing its user, which a user namespace with one user forbids.
"""

import select
import socket
import struct
import threading
import time
from typing import Final

from netns import pcap
from netns.errors import LabError
from netns.namespace import Namespace
from netns.packets import tcp_segment
from netns.pcap import Packet

ETH_P_ALL: Final = 0x0003  # linux/if_ether.h
SOL_PACKET: Final = 263  # linux/socket.h
PACKET_STATISTICS: Final = 6  # linux/if_packet.h
SO_RCVBUFFORCE: Final = 33  # asm-generic/socket.h
BUFFER_BYTES: Final = 64 << 20  # ours: a second of a busy link
MAX_PACKETS: Final = 1_000_000  # ours: bounds the memory; more is a mistake of the scenario


class Capture:
    """Everything that passes an interface, both ways, from now to `stop`, which also writes it to a pcap file."""

    def __init__(self, namespace: Namespace, interface: str) -> None:
        self.name = f"capture-{namespace.name}-{interface}"
        self.file = namespace.lab.path(f"{self.name}.pcap")
        self._packets: list[Packet] = []
        self._socket = namespace.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
        try:
            self._socket.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, BUFFER_BYTES)
        except PermissionError:  # allowed to the real root alone
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER_BYTES)
        self._socket.bind((interface, ETH_P_ALL))
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name=self.name, daemon=True)
        self._thread.start()
        namespace.lab.at_end(self._halt)

    def stop(self) -> list[Packet]:
        """Raises LabError where packets were missed."""
        self._halt()
        _, missed = struct.unpack("II", self._socket.getsockopt(SOL_PACKET, PACKET_STATISTICS, 8))
        self._socket.close()
        self.file.write_bytes(pcap.write(self._packets))
        if missed or len(self._packets) >= MAX_PACKETS:
            raise LabError(f"{self.name}: {missed} packets missed beside {len(self._packets)}")
        return self._packets

    def _halt(self) -> None:
        self._stopped.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stopped.is_set():
            while select.select([self._socket], [], [], 0.1)[0] and len(self._packets) < MAX_PACKETS:
                self._packets.append(Packet(time.time(), self._socket.recv(pcap.MAX_PACKET_BYTES)))
                if self._stopped.is_set():
                    break


def find_clear_text(packets: list[Packet], needles: dict[str, bytes]) -> list[str]:
    """Names of the needles that occur in a packet, or in a TCP stream across packets."""
    flows: dict[tuple[bytes, bytes, bytes], bytearray] = {}
    haystacks: list[bytes | bytearray] = []
    for packet in packets:
        haystacks.append(packet.data)
        if segment := tcp_segment(packet.data):
            flow, payload = segment
            flows.setdefault(flow, bytearray()).extend(payload)
    haystacks += flows.values()
    return [name for name, needle in needles.items() if any(needle in haystack for haystack in haystacks)]
