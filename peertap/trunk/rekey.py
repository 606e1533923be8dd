"""Rekeying a live trunk without losing a packet (SPEC 4.3).

The end with the lower peer ID begins. States and what they take:

    IDLE      ─ begin ───▶ OFFERED            IDLE     ─ OFFER ─▶ ANSWERED
    OFFERED   ─ ANSWER ──▶ PROVED             ANSWERED ─ PROOF ─▶ IDLE, sends DONE
    PROVED    ─ DONE ────▶ IDLE

Anything else ends the trunk. Control keys change right after PROOF (first direction) and DONE (the other one): both
are the last records under the old key. Hop keys of the new epoch are used once the other side has named its indexes.
"""

from dataclasses import dataclass
from enum import Enum, auto
from typing import Final

from peertap.errors import PeerError, StateError
from peertap.trunk.handshake import Dialler, Listener, RandomBytes, Signer, TrunkSecrets
from peertap.wire.control import Rekey, RekeyStep


class State(Enum):
    """Where a rekey stands."""

    IDLE = auto()
    OFFERED = auto()
    ANSWERED = auto()
    PROVED = auto()


class Input(Enum):
    """What can happen to it."""

    BEGIN = auto()
    OFFER = auto()
    ANSWER = auto()
    PROOF = auto()
    DONE = auto()


TRANSITIONS: Final[dict[tuple[State, Input], State]] = {
    (State.IDLE, Input.BEGIN): State.OFFERED,
    (State.OFFERED, Input.ANSWER): State.PROVED,
    (State.PROVED, Input.DONE): State.IDLE,
    (State.IDLE, Input.OFFER): State.ANSWERED,
    (State.ANSWERED, Input.PROOF): State.IDLE,
}

_INPUTS: Final = {
    RekeyStep.OFFER: Input.OFFER,
    RekeyStep.ANSWER: Input.ANSWER,
    RekeyStep.PROOF: Input.PROOF,
    RekeyStep.DONE: Input.DONE,
}


@dataclass(frozen=True, slots=True)
class Step:
    """What to do after an input: send `reply`; then, where it says so, use the new keys for what we send, or get."""

    reply: Rekey | None = None
    new: TrunkSecrets | None = None
    switch_sending: bool = False
    switch_receiving: bool = False


class Rekeying:
    """The rekey machine of one trunk."""

    def __init__(self, signer: Signer, random: RandomBytes, first: TrunkSecrets) -> None:
        self._signer = signer
        self._random = random
        self._current = first
        self._state = State.IDLE
        self._dialler: Dialler | None = None
        self._listener: Listener | None = None
        self._next: TrunkSecrets | None = None

    @property
    def begins(self) -> bool:
        """Whether this end begins."""
        return self._signer.peer_id < self._current.peer

    @property
    def busy(self) -> bool:
        return self._state is not State.IDLE

    def begin(self) -> Rekey:
        """Starts a rekey; returns the message to send."""
        self._move(Input.BEGIN)
        self._dialler = Dialler(
            self._signer, self._current.peer, self._random,
            features=self._current.features, chain=self._current.chain, suites=(self._current.suite,),
        )  # fmt: skip
        return Rekey(RekeyStep.OFFER, self._dialler.offer(), b"")

    def received(self, message: Rekey) -> Step:
        """Takes the other side's message.

        Raises: PeerError; the trunk ends then.
        """
        step = _INPUTS[message.step]
        if step is Input.OFFER and self.begins:
            raise PeerError("rekey: offered by the end with the higher peer ID")
        self._move(step)
        if step is Input.OFFER:
            return self._offered(message)
        if step is Input.ANSWER:
            return self._answered(message)
        if step is Input.PROOF:
            return self._proved(message)
        return self._done()

    def _offered(self, message: Rekey) -> Step:
        self._listener = Listener(
            self._signer, self._current.peer, self._random,
            features=self._current.features, chain=self._current.chain, suites=(self._current.suite,),
        )  # fmt: skip
        answer, proof = self._listener.offered(message.message)
        return Step(reply=Rekey(RekeyStep.ANSWER, answer, proof))

    def _answered(self, message: Rekey) -> Step:
        if self._dialler is None:
            raise StateError("rekey: OFFERED without an offer")
        proof, self._next = self._dialler.answered(message.message, message.proof)
        self._dialler = None
        return Step(reply=Rekey(RekeyStep.PROOF, b"", proof), new=self._next, switch_sending=True)

    def _proved(self, message: Rekey) -> Step:
        if self._listener is None:
            raise StateError("rekey: ANSWERED without an answer")
        new = self._listener.proved(message.proof)
        self._listener = None
        self._current = new
        done = Rekey(RekeyStep.DONE, b"", b"")
        return Step(reply=done, new=new, switch_sending=True, switch_receiving=True)

    def _done(self) -> Step:
        if self._next is None:
            raise StateError("rekey: PROVED without keys")
        self._current = self._next
        self._next = None
        return Step(new=self._current, switch_receiving=True)

    def _move(self, step: Input) -> None:
        new = TRANSITIONS.get((self._state, step))
        if new is None:
            raise PeerError(f"rekey: {step.name} in state {self._state.name}")
        self._state = new
