"""Rekeying: the table has no dead state, keys switch in step, and no record is lost on the way."""

import os

import pytest

from peertap.errors import PeerError
from peertap.trunk.handshake import Dialler, Listener
from peertap.trunk.records import RecordReceiver, RecordSender
from peertap.trunk.rekey import TRANSITIONS, Rekeying, State, Step
from peertap.wire.control import Rekey, RekeyStep
from tests.support.identities import identity

LOW, HIGH = sorted((identity("a"), identity("b")), key=lambda one: one.peer_id)


class End:
    """One end of a trunk with records and a rekey machine."""

    def __init__(self, rekeying: Rekeying, sender: RecordSender, receiver: RecordReceiver) -> None:
        self.rekeying, self.sender, self.receiver = rekeying, sender, receiver

    def take(self, step: Step) -> list[bytes]:
        if step.switch_receiving and step.new is not None:
            self.receiver.rekey(step.new.control_receive, step.new.aead)
        out = [self.sender.seal(step.reply.body())] if step.reply is not None else []
        if step.switch_sending and step.new is not None:
            self.sender.rekey(step.new.control_send, step.new.aead)
        return out


def ends() -> tuple[End, End]:
    dialler, listener = Dialler(HIGH, LOW.peer_id, os.urandom), Listener(LOW, HIGH.peer_id, os.urandom)
    answer, proof = listener.offered(dialler.offer())
    back, high = dialler.answered(answer, proof)
    low = listener.proved(back)

    def end(me: object, agreed: object) -> End:
        return End(
            Rekeying(me, os.urandom, agreed),  # type: ignore[arg-type]
            RecordSender(agreed.control_send, agreed.aead),  # type: ignore[attr-defined]
            RecordReceiver(agreed.control_receive, agreed.aead),  # type: ignore[attr-defined]
        )

    return end(LOW, low), end(HIGH, high)


def test_every_state_can_be_reached_and_left() -> None:
    targets, sources = set(TRANSITIONS.values()), {state for state, _ in TRANSITIONS}
    assert targets == sources == set(State)


def test_only_the_lower_peer_id_begins() -> None:
    low, high = ends()
    assert low.rekeying.begins
    assert not high.rekeying.begins


def test_three_rekeys_in_a_row_lose_no_record_in_either_direction() -> None:
    low, high = ends()
    for _ in range(3):
        wires: dict[str, list[bytes]] = {"to high": [], "to low": []}
        wires["to high"].append(low.sender.seal(low.rekeying.begin().body()))
        news = []
        turn = 0
        while wires["to high"] or wires["to low"]:
            name, sender, receiver = ("to high", low, high) if turn % 2 == 0 else ("to low", high, low)
            turn += 1
            wires[name].append(sender.sender.seal(b"ordinary %d" % turn))
            for record in wires[name]:
                plain = receiver.receiver.open_untrusted(record[2:])
                if plain.startswith(b"ordinary"):
                    continue
                from peertap.wire.codec import Reader

                step = receiver.rekeying.received(Rekey.read(Reader(plain, "rekey")))
                other = "to low" if name == "to high" else "to high"
                wires[other] += receiver.take(step)
                if step.new is not None and step.switch_receiving:
                    news.append(step.new)
            wires[name] = []
            if turn > 12:
                break
        assert len(news) == 2
        assert news[0].chain == news[1].chain
        assert not low.rekeying.busy
        assert not high.rekeying.busy


def test_a_step_out_of_turn_ends_the_trunk() -> None:
    low, high = ends()
    for step in (RekeyStep.ANSWER, RekeyStep.PROOF, RekeyStep.DONE):
        with pytest.raises(PeerError):
            high.rekeying.received(Rekey(step, b"", b""))
    with pytest.raises(PeerError, match="higher peer ID"):
        low.rekeying.received(Rekey(RekeyStep.OFFER, b"", b""))


def test_a_record_replayed_swapped_or_changed_does_not_open() -> None:
    low, high = ends()
    first, second = low.sender.seal(b"one"), low.sender.seal(b"two")
    with pytest.raises(PeerError):
        high.receiver.open_untrusted(second[2:])
    assert high.receiver.open_untrusted(first[2:]) == b"one"
    with pytest.raises(PeerError):
        high.receiver.open_untrusted(first[2:])
    with pytest.raises(PeerError):
        high.receiver.open_untrusted(second[2:-1] + bytes((second[-1] ^ 1,)))
    assert high.receiver.open_untrusted(second[2:]) == b"two"
