"""Raw Ethernet frames on an interface of a namespace: sent, and heard. Markers make each frame unmistakable."""

import secrets
import select
import socket
import struct
import threading
import time
from collections import Counter
from typing import Final

from netns.namespace import Namespace
from netns.packets import ETHERTYPE_TEST, ethernet

ETH_P_ALL: Final = 0x0003  # linux/if_ether.h
PACKET_OUTGOING: Final = 4  # linux/if_packet.h
SOL_PACKET: Final = 263  # linux/socket.h
PACKET_AUXDATA: Final = 8  # linux/if_packet.h
AUXDATA: Final = struct.Struct("=IIIHHHH")  # struct tpacket_auxdata: status, lengths, offsets, TCI, TPID
VLAN_VALID: Final = 1 << 4  # TP_STATUS_VLAN_VALID
MARKER_BYTES: Final = 24


class FrameSocket:
    """An AF_PACKET socket on one interface."""

    def __init__(self, namespace: Namespace, interface: str, *, listens: bool = False) -> None:
        self._socket = namespace.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
        if listens:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8 << 20)
            self._socket.setsockopt(SOL_PACKET, PACKET_AUXDATA, 1)
        self._socket.bind((interface, ETH_P_ALL if listens else 0))

    def send(self, frame: bytes) -> None:
        self._socket.send(frame)

    def receive(self, timeout_s: float) -> tuple[float, bytes] | None:
        """The next frame that came in from outside, as it was on the wire, with its instant; None after `timeout_s`."""
        end = time.monotonic() + timeout_s
        while (left := end - time.monotonic()) > 0 and select.select([self._socket], [], [], left)[0]:
            try:
                frame, extra, _, address = self._socket.recvmsg(65_600, socket.CMSG_SPACE(AUXDATA.size))
            except OSError:
                return None  # the interface went down: nothing comes any more
            if address[2] != PACKET_OUTGOING:
                return time.monotonic(), _with_tag(frame, extra)
        return None

    def close(self) -> None:
        self._socket.close()


def _with_tag(frame: bytes, extra: list[tuple[int, int, bytes]]) -> bytes:
    """The kernel takes the outer tag off before a socket sees the frame, and tells it beside."""
    for level, kind, data in extra:
        if (level, kind) == (SOL_PACKET, PACKET_AUXDATA):
            status, _, _, _, _, tci, tpid = AUXDATA.unpack(data[: AUXDATA.size])
            if status & VLAN_VALID:
                return frame[:12] + struct.pack("!HH", tpid, tci) + frame[12:]
    return frame


class Listener:
    """Counts how often each marker arrives on an interface, in a thread of its own."""

    def __init__(self, namespace: Namespace, interface: str) -> None:
        self.name = f"{namespace.name}/{interface}"
        self._socket = FrameSocket(namespace, interface, listens=True)
        self._heard: Counter[bytes] = Counter()
        self.first_at: dict[bytes, float] = {}
        self.order: list[bytes] = []
        self.test_frames = 0
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._listen, name=f"listen {self.name}", daemon=True)
        self._thread.start()
        namespace.lab.at_end(self.stop)

    def count(self, marker: bytes) -> int:
        return self._heard[marker]

    def heard(self, markers: list[bytes]) -> int:
        """How many of the markers arrived at least once."""
        return sum(1 for marker in markers if self._heard[marker])

    def repeated(self, markers: list[bytes]) -> int:
        """How many of the markers arrived more than once."""
        return sum(1 for marker in markers if self._heard[marker] > 1)

    def stop(self) -> None:
        self._stopped.set()
        self._thread.join()
        self._socket.close()

    def _listen(self) -> None:
        while not self._stopped.is_set():
            received = self._socket.receive(0.1)
            if received is None:
                continue
            at, frame = received
            if frame[12:14] == ETHERTYPE_TEST.to_bytes(2, "big"):
                self.test_frames += 1
                marker = frame[14 : 14 + MARKER_BYTES]
                self._heard[marker] += 1
                self.first_at.setdefault(marker, at)
                self.order.append(marker)


def new_marker() -> bytes:
    return secrets.token_bytes(MARKER_BYTES)


def marked_frame(destination: bytes, source: bytes, marker: bytes, length: int = 64) -> bytes:
    """A frame of the test ethertype that carries a marker, padded to `length` bytes."""
    return ethernet(destination, source, ETHERTYPE_TEST, marker).ljust(length, b"\0")
