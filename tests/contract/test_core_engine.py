"""peertap._core as Python sees it: sizes and errors of arguments, and two engines that exchange frames."""

import gc
import os
import select
import socket
import time
from collections.abc import Iterator

import pytest

from peertap import _core
from peertap._core import AES_256_GCM

VLAN_ID = bytes(16)
SECRET = bytes(range(32))
MACS = {1: b"\x02\0\0\0\0\x01", 2: b"\x02\0\0\0\0\x02"}
GROUP = b"\xff" * 6


def keys() -> _core.VlanKeys:
    return _core.StaticSecret(SECRET).keys(VLAN_ID)


class Node:
    """One end of a pair of engines; the trunk's id is the other node's number, labels are the destination's."""

    def __init__(self, number: int) -> None:
        self.number, self.other = number, 3 - number
        self.engine = _core.Engine(udp_port=0)
        self.tap, ours = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.tap.settimeout(5)
        self.port = self.engine.add_port(ours.fileno(), "test")
        ours.close()  # the engine owns a duplicate
        self.signer = _core.FrameSigner.generate()

    def apply(self, peer: "Node", passage: _core.Passage | None = None) -> None:
        me, other, k = self.number, self.other, keys()

        def hop_key(sender: int) -> bytes:
            return bytes([sender]) * 32

        trunk = _core.Trunk(
            other,
            carrier="udp",
            remote=("127.0.0.1", peer.engine.udp_port),
            send_udp=_core.HopSendKey(me, hop_key(me), AES_256_GCM),
            send_stream=None,
            receive=[_core.HopReceiveKey(other, hop_key(other), AES_256_GCM)],
            max_payload=1432,
        )
        send, confirm = k.pair_sender(_core.PairSecret(bytes(32), bytes([me, other]), bytes(48), AES_256_GCM))
        receive, _ = k.pair_receiver(_core.PairSecret(bytes(32), bytes([other, me]), bytes(48), AES_256_GCM))
        assert (len(send.kid), len(confirm), send.next_counter) == (4, 16, 0)
        member = _core.Member(
            other,
            mac=MACS[other],
            token=k.token(1, MACS[other]),
            hop=(other, other),
            max_payload=1432,
            pair_send=send,
            pair_receive=[receive],
            group_receive=[
                k.group_receiver(bytes([other]), bytes([other]) * 16, 0, AES_256_GCM, peer.signer.public, 0)
            ],
        )
        vlan = _core.Vlan(
            7,
            keys=k,
            mac=MACS[me],
            token=k.token(1, MACS[me]),
            group_token=k.token(2, GROUP),
            ports=[self.port],
            bridge=passage is not None,
            passage=passage,
            group_send=k.group_sender(bytes([me]), bytes([me]) * 16, 0, AES_256_GCM, self.signer),
            group_edges=[(other, 99)],
            members=[member],
        )
        labels = [
            _core.Label(other, me, token=k.token(1, MACS[me]), group=False, deliver=7, out=[]),
            _core.Label(other, 99, token=k.token(2, GROUP), group=True, deliver=7, out=[]),
        ]
        generation = self.engine.apply(_core.Tables(trunks=[trunk], vlans=[vlan], labels=labels))
        assert self.wait("applied") == ("applied", generation)

    def wait(self, kind: str) -> _core.Event:
        end = time.monotonic() + 5
        while time.monotonic() < end:
            select.select([self.engine.event_fd], [], [], end - time.monotonic())
            for event in self.engine.events():
                if event[0] == kind:
                    return event
        raise AssertionError(f"no {kind} event in time")


@pytest.fixture
def pair() -> Iterator[tuple[Node, Node]]:
    a, b = Node(1), Node(2)
    a.apply(b)
    b.apply(a)
    yield a, b
    for node in (a, b):
        node.engine.stop()
        node.tap.close()


def test_frames_pass_between_two_engines(pair: tuple[Node, Node]) -> None:
    a, b = pair
    for dst in (MACS[2], GROUP):
        for size in (60, 9000):
            frame = dst + MACS[1] + b"\x88\xb5" + os.urandom(size - 14)
            a.tap.send(frame)
            assert b.tap.recv(65536) == frame
    snapshot = b.engine.snapshot()
    counted = {"rx_frames": 4, "tx_frames": 0, "spoofed": 0, "policed": 0}
    assert snapshot["vlans"][7]["members"] == {1: counted}  # type: ignore[index]
    assert not any(snapshot["drops"].values())  # type: ignore[attr-defined]


def test_introductions_controls_and_probes_become_events(pair: tuple[Node, Node]) -> None:
    a, b = pair
    token = keys().token(2, GROUP)
    sealed = keys().hello_seal(bytes(16), 5, token, b"hello")
    nonce = bytes(11) + b"\x05"
    a.engine.send_intro([(2, 99)], nonce, sealed)
    event = b.wait("intro")
    assert event == ("intro", 7, 1, token, nonce, sealed)
    assert keys().hello_open(nonce, token, sealed) == b"hello"
    assert keys().hello_open(bytes(12), token, sealed) is None
    a.engine.send_control(7, 2, b"control")
    assert b.wait("control") == ("control", 7, 1, b"control")
    a.engine.send_group_control(7, b"\x10control")
    assert b.wait("group_control") == ("group_control", 7, 1, b"\x10control")
    a.engine.probe(2, ("127.0.0.1", b.engine.udp_port))
    kind, trunk, address, rtt_s = a.wait("path")
    assert (kind, trunk, address) == ("path", 2, ("127.0.0.1", b.engine.udp_port))
    assert isinstance(rtt_s, float) and 0 <= rtt_s < 5


def test_a_control_message_goes_by_a_way_and_members_with_frames_are_told_once(pair: tuple[Node, Node]) -> None:
    a, b = pair
    a.engine.send_control(7, 2, b"by a way", (2, 2))
    assert b.wait("control") == ("control", 7, 1, b"by a way")
    assert a.engine.traffic() == []
    frame = MACS[2] + MACS[1] + b"\x88\xb5" + bytes(46)
    a.tap.send(frame)
    assert b.tap.recv(65536) == frame
    assert (a.engine.traffic(), a.engine.traffic()) == ([(7, 2, 1, 0)], [])


def test_hosts_and_probes_at_a_bridged_port_become_events(pair: tuple[Node, Node]) -> None:
    a, b = pair
    host = b"\x06" + bytes(4) + b"\x01"
    a.apply(b, passage(probing=([keys()], b"h" * 8, b"r" * 8, 60.0)))
    probe = a.tap.recv(65536)
    assert (len(probe), probe[12:18], probe[20:36]) == (60, b"\x88\xb6PTLP", b"h" * 8 + b"r" * 8)
    a.tap.send(GROUP + host + b"\x81\x00\x00\x05\x88\xb5" + bytes(46))
    assert a.wait("mac_seen") == ("mac_seen", 7, host, 5)
    snapshot = a.engine.snapshot()["vlans"][7]  # type: ignore[index]
    assert snapshot["local_macs"] == [(host, 5, 0.0)]
    a.engine.forget_local_macs(7, [(host, 5)], True)
    a.engine.place_macs(7, [((host, 5), 2), ((host, None), 2), ((host, None), None)])
    snapshot = a.engine.snapshot()["vlans"][7]  # type: ignore[index]
    assert (snapshot["local_macs"], snapshot["macs"]) == ([], [(host, 5, 2)])
    a.tap.send(probe)
    assert a.wait("probed") == ("probed", 7, b"h" * 8, b"r" * 8, 1, True, True)
    a.apply(b, passage(forwards=False, limits=(1, 1, 1)))
    a.tap.send(GROUP + host + b"\x88\xb5" + bytes(46))
    end = time.monotonic() + 5
    while not a.engine.snapshot()["drops"]["port_blocked"] and time.monotonic() < end:  # type: ignore[index]
        time.sleep(0.01)
    assert a.engine.snapshot()["drops"]["port_blocked"] == 1  # type: ignore[index]


def passage(
    *,
    forwards: bool = True,
    probing: tuple[list[_core.VlanKeys], bytes, bytes, float] | None = None,
    limits: tuple[int, int, int] = (0, 0, 0),
) -> _core.Passage:
    return _core.Passage(forwards=forwards, probing=probing, answers=False, bpdus=False, limits=limits)


def test_wrong_arguments_are_value_errors() -> None:
    k = keys()
    for call in (
        lambda: _core.StaticSecret(bytes(31)),
        lambda: k.token(1, bytes(5)),
        lambda: k.token(256, bytes(6)),
        lambda: k.hello_seal(bytes(16), -1, bytes(16), b""),
        lambda: _core.HopSendKey(1 << 32, bytes(32), AES_256_GCM),
        lambda: _core.HopSendKey(1, bytes(32), 3),
        lambda: _core.Engine(udp_port=65536),
        lambda: passage(probing=([k], bytes(7), bytes(8), 1.0)),
        lambda: passage(probing=([k], bytes(8), bytes(8), -1.0)),
        lambda: passage(limits=(-1, 0, 0)),
        lambda: _core.Label(1, 1, token=bytes(16), group=False, deliver=1, out=[(1, 1)]),
        lambda: _core.Class(-1, limited=True),
        lambda: _core.Tables(trunks=[], vlans=[], labels=[], classes=2 * [_core.Class(1, limited=True)]),
        lambda: _core.Tables(trunks=[], vlans=[], labels=[], limits=(0, -1, 0)),
    ):
        with pytest.raises(ValueError):
            call()
    with pytest.raises(TypeError):
        _core.StaticSecret("x" * 32)  # type: ignore[arg-type]
    assert _core.StaticSecret(bytearray(SECRET)).grant_public == _core.StaticSecret(SECRET).grant_public


def test_system_errors_are_os_errors_and_a_stopped_engine_says_so() -> None:
    engine = _core.Engine(udp_port=0)
    with pytest.raises(OSError) as caught:
        engine.add_port(9999, "none")
    assert caught.value.errno == 9
    with pytest.raises(OSError):
        _core.Engine(udp_port=engine.udp_port)
    engine.stop()
    engine.stop()
    with pytest.raises(RuntimeError):
        engine.probe(1, ("127.0.0.1", 1))
    assert engine.snapshot()["generation"] == 0


def test_a_collected_engine_closes_its_descriptors() -> None:
    gc.collect()  # engines of earlier tests
    before = len(os.listdir("/proc/self/fd"))
    engine = _core.Engine(udp_port=0)
    assert len(os.listdir("/proc/self/fd")) > before
    del engine
    gc.collect()
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_port_that_hangs_up_and_says_nothing_keeps_no_loop_busy() -> None:
    engine = _core.Engine(udp_port=0)
    ours, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    ours.shutdown(socket.SHUT_RD)  # epoll says "hung up" for ever, a read says "nothing now"
    engine.add_port(ours.fileno(), "test")
    begun = time.process_time()
    select.select([engine.event_fd], [], [], 0.5)
    assert time.process_time() - begun < 0.1
    engine.stop()
    ours.close()
    other.close()
