"""No (key, nonce) pair occurs twice: whatever restarts, whatever state comes back, however many loops send."""

import os
import socket
import threading

from hypothesis import given, settings
from hypothesis import strategies as st

from peertap._core import AES_256_GCM, FrameSigner, HopSendKey, PairSecret, StaticSecret
from peertap.types import Sid, Token
from peertap.vlan.introductions import Introductions
from peertap.vlan.membership import StaticMembership
from peertap.wire import packet
from tests.support.identities import identity

SECRET = b"s" * 32  # a static secret that is never changed, and state that is always the same: the worst case


def group_key(sid: bytes, generation: int) -> bytes:
    root = packet.expand(SECRET, "static root")
    return packet.frame_key(packet.group_secret(root, identity("a").peer_id, sid, generation, AES_256_GCM))[0]


class Run:
    """One process start of a member, from the same state directory."""

    def __init__(self) -> None:
        self.introductions = Introductions(
            StaticMembership("lab", StaticSecret(SECRET)), identity("a"),
            sid=Sid(os.urandom(16)), random=os.urandom, token_to=lambda _mac: Token(bytes(16)),
        )  # fmt: skip
        self.generation = 0

    def hellos(self) -> list[tuple[bytes, bytes]]:
        """Key and nonce of every INTRO of one Hello."""
        key = packet.expand(packet.expand(SECRET, "static root"), "hello", self.introductions.sid)
        return [(key, intro.nonce) for intro in self.introductions.edge_up(0.0)]

    def step_generation(self) -> list[tuple[bytes, bytes]]:
        kid = self.introductions.group_send.kid
        key = packet.expand(packet.expand(SECRET, "static root"), "hello", self.introductions.sid)
        sent = self.introductions.generation_spent(kid, 0.0)
        self.generation += 1
        assert self.introductions.group_send.kid != kid
        return [(key, intro.nonce) for intro in sent]


@settings(max_examples=100, deadline=None)
@given(st.lists(st.sampled_from(["restart", "hello", "generation", "frames"]), min_size=4, max_size=40))
def test_restarts_restored_state_and_generations_repeat_no_key_with_a_nonce(steps: list[str]) -> None:
    used: set[tuple[bytes, bytes]] = set()
    run = Run()
    frames = 0

    def use(pairs: list[tuple[bytes, bytes]]) -> None:
        for pair in pairs:
            assert pair not in used
            used.add(pair)

    for step in steps:
        if step == "restart":
            run, frames = Run(), 0
        elif step == "hello":
            use(run.hellos())
        elif step == "generation":
            use(run.step_generation())
            frames = 0
        else:
            assert run.introductions.group_send.next_counter == 0  # nobody sealed with this very handle
            key = group_key(run.introductions.sid, run.generation)
            use(
                [
                    (key, run.introductions.group_send.kid + number.to_bytes(8, "big"))
                    for number in range(frames, frames + 5)
                ]
            )
            frames += 5


def test_pair_keys_of_every_setup_differ_even_between_the_same_runs() -> None:
    keys = StaticMembership("lab", StaticSecret(SECRET)).keys
    secrets = [PairSecret(bytes((number,)) * 32, b"info", bytes(48), AES_256_GCM) for number in range(200)]
    kids = {keys.pair_sender(secret)[0].kid for secret in secrets}
    assert len(kids) == 200


def test_two_loops_and_many_threads_take_every_counter_of_a_key_once() -> None:
    """Packets of two engines' loops under one hop key: read off the wire, no counter occurs twice."""
    from peertap._core import Engine, Tables, Trunk

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as ear:
        ear.bind(("127.0.0.1", 0))
        ear.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
        ear.settimeout(0.5)
        engine = Engine(udp_port=0)
        try:
            key = HopSendKey(7, bytes(32), AES_256_GCM)
            trunk = Trunk(
                1, carrier="udp", remote=ear.getsockname(), send_udp=key, send_stream=None, receive=[], max_payload=1452
            )
            engine.apply(Tables(trunks=[trunk], vlans=[], labels=[]))
            membership = StaticMembership("lab", StaticSecret(SECRET))
            sealed = membership.keys.hello_seal(bytes(16), 0, bytes(16), b"\3\0x")

            def send() -> None:
                for _ in range(300):
                    engine.send_intro([(1, 1)], bytes(12), sealed)
                    engine.probe(1, ear.getsockname())

            threads = [threading.Thread(target=send) for _ in range(4)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            nonces = []
            try:
                while True:
                    nonces.append(ear.recv(2048)[4:12])
            except TimeoutError:
                pass
        finally:
            engine.stop()
    assert len(nonces) > 600
    assert len({nonce[1:] for nonce in nonces}) == len(nonces)
    assert key.next_counter >= len(nonces)


def test_a_frame_signer_is_new_at_each_start() -> None:
    assert FrameSigner.generate().public != FrameSigner.generate().public
