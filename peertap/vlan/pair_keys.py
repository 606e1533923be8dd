"""The pair keys of this run and each member's: offered, taken, confirmed, and followed from epoch to epoch (SPEC 5.2).

A                                          B
│ offer: a secret sealed for B's prekey ──▶ │ take: A's frames open from here
│ ◀───────────────────────────── a Confirm │
│ confirmed: A seals for B from here        │       and the same the other way, with another secret
"""

import hmac as constant_time
from collections.abc import Callable
from dataclasses import replace
from itertools import product
from typing import Final

from peertap._core import PairSecret
from peertap.errors import PeerError
from peertap.types import MlsId, PeerId, Sid
from peertap.vlan.epochs import Epoch, Epochs
from peertap.vlan.membership import KeySource
from peertap.vlan.pairing import (
    SECRET_BYTES,
    Prekey,
    open_secret_untrusted,
    pair_info,
    seal_secret,
    sealed_hash,
    setup_message,
)
from peertap.vlan.peer import RETRY_FIRST_S, PairReceive, Peer, PendingSetup
from peertap.wire.introduction import Confirm, Hello, Setup

PREVIOUS_KEY_S: Final = 5.0  # PROTOCOL 2: receivers hold the previous generation for 5 s


class PairKeys:
    """What a run needs to agree on keys with each peer; the keys themselves are the peer's (`Peer`)."""

    def __init__(
        self,
        source: KeySource,
        epochs: Epochs,
        run: tuple[PeerId, Sid],
        sign: Callable[[bytes], bytes],
        random: Callable[[int], bytes],
    ) -> None:
        self._source: Final = source
        self._epochs: Final = epochs
        self._run: Final = run
        self._sign: Final = sign
        self._random: Final = random
        self._prekeys = [Prekey()]  # ours, and the former one
        self._offers = 0

    # Our prekey

    @property
    def prekey(self) -> bytes:
        """What others seal their secrets for."""
        return self._prekeys[0].public

    def renew_prekey(self) -> None:
        """A new one; the former opens what is under way."""
        self._prekeys = [Prekey(), self._prekeys[0]]

    def forget_prekeys(self) -> None:
        """What was sealed for us so far opens no more, so that it cannot be replayed."""
        self._prekeys = [Prekey()]

    # Keys to seal with

    def offer(self, peer: Peer, now: float) -> PendingSetup:
        """A new secret for a member, in an epoch that it has; it is pending until it is confirmed.

        Raises: PeerError: the member's prekey is none.
        """
        epoch = self.common(peer)
        self._offers += 1  # of the process: rises for every receiver, whatever it forgot
        info = self._info(epoch, self._run, (peer.member, peer.sid), peer.hello.prekey)
        secret = self._random(SECRET_BYTES)
        signature = self._sign(setup_message(info, secret, self._offers))
        sealed = seal_secret(peer.hello.prekey, info, secret, self._offers, signature)
        pair = PairSecret(secret, info, sealed_hash(sealed), self._source.aead)
        confirm = epoch.keys.pair_sender(pair)[1]
        setup = Setup(peer.sid, self._offers, sealed)
        peer.pending = PendingSetup(now + RETRY_FIRST_S, self._offers, setup, epoch, pair, confirm)
        return peer.pending

    def offer_again(self, peer: Peer, pending: PendingSetup, now: float) -> PendingSetup:
        """The same once more, or a new one in the epoch that the member has by now."""
        if pending.epoch is not self.common(peer):
            return self.offer(peer, now)
        pending.said(now)
        return pending

    def met_again(self, peer: Peer, hello: Hello) -> None:
        """A later Hello: an offer for a former prekey or epoch is void."""
        if peer.pending is None:
            return
        if hello.prekey != peer.hello.prekey or peer.pending.epoch is not self.common(peer):
            peer.pending = None

    def confirmed(self, peer: Peer, confirm: Confirm) -> bool:
        """The member opens frames of the key that was offered last: seal with it. Returns whether that is news.

        Raises: PeerError: it does not have the key.
        """
        pending = peer.pending
        if pending is None or confirm.generation != pending.generation:
            return False
        if not constant_time.compare_digest(confirm.confirm, pending.confirm):
            raise PeerError("confirm does not match")
        peer.pair_out, peer.pair_send_epoch, peer.pending = pending.secret, None, None
        return self.follow(peer)

    def follow(self, peer: Peer) -> bool:
        """Seals for a member under the latest epoch that is due or that it has. Never twice under one."""
        epoch = max(self._epochs.sending, peer.epoch, key=lambda one: one.number)
        used = peer.pair_send_epoch
        if peer.pair_out is None or (used is not None and epoch.number <= used.number):
            return False
        peer.pair_send, peer.pair_send_epoch = epoch.keys.pair_sender(peer.pair_out)[0], epoch
        return True

    def common(self, peer: Peer) -> Epoch:
        """The latest epoch that a member is known to have, while it lasts."""
        return peer.epoch if peer.epoch in self._epochs.live else self._epochs.sending

    # Keys to open with

    def take_untrusted(self, peer: Peer, setup: Setup, now: float) -> tuple[Confirm, Epoch]:
        """Opens with a member's new key from now on; returns what to confirm it with, and in which epoch.

        Raises: PeerError.
        """
        secret, epoch = self._open(peer, setup)
        key, confirm = epoch.keys.pair_receiver(secret)
        later = [PairReceive(one.keys.pair_receiver(secret)[0], one.id) for one in self._epochs.later_than(epoch)]
        former = [replace(one, until=min(one.until, now + PREVIOUS_KEY_S)) for one in peer.pair_receive]
        peer.pair_receive = [*later, PairReceive(key, epoch.id), *former]
        peer.pair_in, peer.setup_seen = secret, setup
        peer.confirm = Confirm(peer.sid, setup.generation, confirm)
        return peer.confirm, epoch

    # Inside

    def _info(self, epoch: Epoch, sender: tuple[PeerId, Sid], receiver: tuple[PeerId, Sid], prekey: bytes) -> bytes:
        return pair_info(self._source.vlan_id, MlsId(epoch.id), sender, receiver, prekey)

    def _open(self, peer: Peer, setup: Setup) -> tuple[PairSecret, Epoch]:
        """The pair secret under our prekey or the former one, and the epoch in which it was made."""
        failure = PeerError("setup: no prekey")
        for epoch, prekey in product(self._epochs.live, self._prekeys):
            info = self._info(epoch, (peer.member, peer.sid), self._run, prekey.public)
            try:
                secret = open_secret_untrusted(prekey, setup.sealed, info, setup.generation, peer.member)
            except PeerError as error:
                failure = error
                continue
            return PairSecret(secret, info, sealed_hash(setup.sealed), self._source.aead), epoch
        raise failure
