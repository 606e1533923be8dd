"""One trunk's I/O: handshake, records both ways, rekeys, and the frame stream (SPEC 4)."""

from __future__ import annotations

import hmac as constant_time
import itertools
import os
import secrets
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final, Protocol

import trio

from peertap._core import HopReceiveKey, HopSendKey, has_aes
from peertap.errors import DecodeError, PeerError, StateError, TrunkError
from peertap.identity.node import NodeIdentity
from peertap.node.events import Event, MessageReceived, TrunkClosed, TrunkOpened, TrunkRekeyed
from peertap.shell.host import FRAMES_PROTOCOL, Connection, Host, Stream
from peertap.trunk.handshake import SUITES, Dialler, HandshakeFailed, Listener, TrunkSecrets
from peertap.trunk.records import RecordFinder, RecordReceiver, RecordSender
from peertap.trunk.rekey import Rekeying
from peertap.types import TrunkId
from peertap.wire.codec import lp
from peertap.wire.control import Close, CloseCode, Message, Rekey, RekeyStep, Unknown, emit, parse_untrusted
from peertap.wire.handshake import MAX_HANDSHAKE_BYTES, Refusal, is_refusal_untrusted
from peertap.wire.kdf import expand

OUR_SUITES: Final = SUITES if has_aes() else SUITES[::-1]  # AES-256-GCM first where the processor has AES
HANDSHAKE_S: Final = 5.0  # ours: three messages on an open connection
MAX_QUEUED: Final = 32_768  # ours: waiting to be sent, two labels' worth; more means that the neighbour does not read
REKEY_S: Final = 3600.0  # PROTOCOL 3: a rekey each hour
REKEY_GAP_S: Final = 10.0  # ours: as long as an old epoch's keys live; an OFFER before that ends the trunk
REKEY_CHECK_S: Final = 5.0  # ours: how often that is looked at
REKEY_RECORDS: Final = 1 << 24  # ours: or by count
CLOSE_S: Final = 0.3  # ours: for the last record to get out
FRAMES_S: Final = 5.0  # ours: for the frame stream to open
FRAMES_PROOF_BYTES: Final = 32
READ_BYTES: Final = 65_536
WRITE_BYTES: Final = 65_536  # ours: of records that go together, and the last of them whole
RECORDS_AT_ONCE: Final = 32  # ours: of one neighbour, before others have their turn
GONE: Final = "the neighbour went away"


class FrameCarrier(Protocol):
    """The data plane's end of stream carriers."""

    def stream_take(self, trunk: int) -> bytes | None: ...

    def stream_put(self, trunk: int, batch: bytes) -> None: ...


# Unique in the process, from a start that says nothing about how long it runs.
_INDEXES: Final = (number & 0xFFFFFFFF for number in itertools.count(secrets.randbits(32)))


@dataclass(frozen=True, slots=True)
class _Switch:
    """In the queue of messages: from here on, another key."""

    key: bytes
    aead: int


class HopKeys:
    """The hop keys of one epoch as handles of the data plane."""

    def __init__(self, epoch: int, secrets_: TrunkSecrets) -> None:
        self.epoch = epoch
        self._secrets = secrets_
        self.udp_index, self.stream_index = next(_INDEXES), next(_INDEXES)
        self.receive = (
            HopReceiveKey(self.udp_index, secrets_.hop(sending=False, carrier="udp"), secrets_.aead),
            HopReceiveKey(self.stream_index, secrets_.hop(sending=False, carrier="stream"), secrets_.aead),
        )

    def send(self, udp_index: int, stream_index: int) -> tuple[HopSendKey, HopSendKey]:
        return (
            HopSendKey(udp_index, self._secrets.hop(sending=True, carrier="udp"), self._secrets.aead),
            HopSendKey(stream_index, self._secrets.hop(sending=True, carrier="stream"), self._secrets.aead),
        )


async def shake_hands(stream: Stream, identity: NodeIdentity, connection: Connection, *, dialled: bool) -> TrunkSecrets:
    """Runs the handshake (SPEC 4.1).

    Raises: TrunkError, HandshakeFailed.
    """
    with trio.move_on_after(HANDSHAKE_S):
        try:
            if dialled:
                dialler = Dialler(identity, connection.peer, os.urandom, suites=OUR_SUITES)
                await stream.write(lp(dialler.offer()))
                answer = await _read_message(stream)
                proof, agreed = dialler.answered(answer, await _read_message(stream))
                await stream.write(lp(proof))
                return agreed
            listener = Listener(identity, connection.peer, os.urandom, suites=OUR_SUITES)
            answer, proof = listener.offered(await _read_message(stream))
            await stream.write(lp(answer) + lp(proof))
            return listener.proved(await _read_message(stream))
        except HandshakeFailed as error:
            await stream.write(lp(Refusal(error.code).emit()))
            raise
    raise TrunkError("handshake: no answer in time")


async def _read_message(stream: Stream) -> bytes:
    size = int.from_bytes(await stream.read_exactly(2), "big")
    if size > MAX_HANDSHAKE_BYTES:
        raise HandshakeFailed(CloseCode.MALFORMED, f"handshake message of {size} bytes")
    data = await stream.read_exactly(size)
    if is_refusal_untrusted(data):
        try:
            code = Refusal.parse_untrusted(data).code
        except DecodeError:
            code = CloseCode.MALFORMED
        raise TrunkError(f"the neighbour refuses: {_code_name(code)}")
    return data


class Link:
    """The I/O of one trunk after its handshake."""

    def __init__(
        self,
        number: TrunkId,
        connection: Connection,
        stream: Stream,
        agreed: TrunkSecrets,
        identity: NodeIdentity,
        post: Callable[[Event], None],
        carrier: FrameCarrier,
        *,
        dialled: bool,
        is_wanted: bool = False,
        report: Callable[[Exception], None],
    ) -> None:
        self.number: Final = number
        self.connection: Final = connection
        self.dialled: Final = dialled
        self._is_wanted: Final = is_wanted
        self.closed_reason = GONE
        self.frames_ready = trio.Event()  # replaced each time the data plane has a batch
        self.epoch = 0
        self._keyed_at = self._began_at = trio.current_time()
        self._stream = stream
        self._identity = identity
        self._post = post
        self._carrier = carrier
        self._frames_proof = expand(agreed.prk, "frames", length=FRAMES_PROOF_BYTES)
        self._first_keys: HopKeys | None = HopKeys(0, agreed)
        self._aead: Final = agreed.aead
        self._sender = RecordSender(agreed.control_send, agreed.aead)
        self._receiver = RecordReceiver(agreed.control_receive, agreed.aead)
        self._rekeying = Rekeying(identity, os.urandom, agreed)
        self._queue_in, self._queue_out = trio.open_memory_channel[Message | _Switch | None](MAX_QUEUED)
        self._frames_arrived = trio.Event()
        self._frames: Stream | None = None
        self._carries_frames = connection.transport != "quic"
        self._report = report
        self._scope = trio.CancelScope()
        self._ended = trio.Event()

    # Called by the runtime

    def send(self, message: Message) -> None:
        """Queues a message; a neighbour that does not read loses the trunk."""
        self._put(message)

    def _put(self, *items: Message | _Switch | None) -> None:
        try:
            for item in items:
                self._queue_in.send_nowait(item)
        except trio.WouldBlock:
            self._end("the neighbour does not read")
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass

    def close(self, code: CloseCode, reason: str) -> None:
        """Says Close after what is queued, then ends."""
        self.closed_reason = reason
        self._put(Close(code, reason), None)
        self._scope.deadline = min(self._scope.deadline, trio.current_time() + CLOSE_S)

    async def adopt_frames(self, stream: Stream, proof: bytes) -> bool:
        """The listener's side of a frame stream: whether it is this trunk's; returns when the trunk ends."""
        if self.dialled or self._frames is not None or not constant_time.compare_digest(proof, self._frames_proof):
            return False
        self._frames = stream
        self._frames_arrived.set()
        await self._ended.wait()
        return True

    async def run(self, host: Host) -> None:
        """Runs until the trunk ends; never raises for what the other side does."""
        keys, self._first_keys = self._first_keys, None
        if keys is None:
            raise StateError("a link runs once")
        self._post(
            TrunkOpened(
                trunk=self.number,
                peer=self.connection.peer,
                transport=self.connection.transport,
                dialled=self.dialled,
                host=self.connection.host,
                carries_frames=self._carries_frames,
                keys=keys,
                aead=self._aead,
                is_wanted=self._is_wanted,
            )
        )
        try:
            with self._scope:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._guard, self._read_records)
                    nursery.start_soon(self._guard, self._write_records)
                    if self._rekeying.begins:
                        nursery.start_soon(self._guard, self._rekey_in_time)
                    if self._carries_frames:
                        nursery.start_soon(self._guard, self._open_frames, host)
                        nursery.start_soon(self._guard, self._read_frames)
                        nursery.start_soon(self._guard, self._write_frames)
        finally:
            self._ended.set()
            self._post(TrunkClosed(self.number, self.closed_reason))  # at once: to close the streams takes its time
            with trio.CancelScope(shield=True):
                async with trio.open_nursery() as nursery:  # each within a second, whatever the others do
                    for one in (self._frames, self._stream, self.connection):
                        if one is not None:
                            nursery.start_soon(one.close)

    # Inside

    async def _guard(self, task: Callable[..., Awaitable[None]], *arguments: object) -> None:
        """Runs one task of the trunk; when it fails, the trunk ends, and nothing gets out of it."""
        try:
            await task(*arguments)
        except TrunkError as error:
            self._end(str(error))
        except (PeerError, DecodeError) as error:
            with trio.move_on_after(CLOSE_S) as scope:
                scope.shield = True
                code = error.code if isinstance(error, HandshakeFailed) else CloseCode.MALFORMED
                await self._say_goodbye(Close(code, str(error)))
            self._end(f"the neighbour broke the protocol: {error}")
        except Exception as error:  # a bug of ours must not end the other trunks
            self._report(error)
            self._end(f"internal error: {type(error).__name__}")

    async def _say_goodbye(self, message: Close) -> None:
        try:
            await self._stream.write(self._sender.seal(emit(message)))
        except TrunkError:
            pass  # it is gone already

    def _end(self, reason: str) -> None:
        """Ends the trunk; the first reason stays."""
        if not self._scope.cancel_called and self.closed_reason == GONE:
            self.closed_reason = reason
        self._scope.cancel()

    async def _read_records(self) -> None:
        records = RecordFinder()
        while piece := await self._stream.read_some(READ_BYTES):
            for number, record in enumerate(records.found_untrusted(piece), 1):
                message = parse_untrusted(self._receiver.open_untrusted(record))
                if isinstance(message, Close):
                    self._end(f"the neighbour closed: {_code_name(message.code)}, {message.reason}")
                    return
                if isinstance(message, Rekey):
                    self._rekeyed(message)
                elif not isinstance(message, Unknown):
                    self._post(MessageReceived(self.number, message))
                if number % RECORDS_AT_ONCE == 0:
                    await trio.lowlevel.checkpoint()
        raise TrunkError("stream ended")

    async def _write_records(self) -> None:
        """Whatever waits goes together: what a write costs is not its bytes."""
        async for first in self._queue_out:
            message, sealed = first, bytearray()
            while message is not None:
                if isinstance(message, _Switch):
                    self._sender.rekey(message.key, message.aead)
                else:
                    sealed += self._sender.seal(emit(message))
                if len(sealed) >= WRITE_BYTES:
                    break
                try:
                    message = self._queue_out.receive_nowait()
                except trio.WouldBlock:
                    break
            if sealed:
                await self._stream.write(bytes(sealed))
            if message is None:
                self._scope.cancel()
                return

    def _rekeyed(self, message: Rekey) -> None:
        if message.step is RekeyStep.OFFER and trio.current_time() < self._keyed_at + REKEY_GAP_S and self.epoch > 0:
            raise PeerError("rekey: offered again at once")
        step = self._rekeying.received(message)
        if step.switch_receiving and step.new is not None:
            self._receiver.rekey(step.new.control_receive, step.new.aead)
        if step.reply is not None:
            self._put(step.reply)
        if step.switch_sending and step.new is not None:
            self._put(_Switch(step.new.control_send, step.new.aead))
        if step.switch_receiving and step.new is not None:
            self.epoch += 1
            self._keyed_at = trio.current_time()
            self._post(TrunkRekeyed(self.number, HopKeys(self.epoch, step.new)))

    async def _rekey_in_time(self) -> None:
        while True:
            await trio.sleep(REKEY_CHECK_S)
            if self._rekeying.busy and trio.current_time() > self._began_at + REKEY_GAP_S:
                raise TrunkError("rekey: no answer in time")
            worn = self._sender.sealed > REKEY_RECORDS or self._receiver.opened > REKEY_RECORDS
            if self.begins_rekeys and (worn or trio.current_time() > self._keyed_at + REKEY_S):
                self.rekey()

    @property
    def begins_rekeys(self) -> bool:
        """Whether it is this end that begins a rekey, and none is under way."""
        rested = self.epoch == 0 or trio.current_time() >= self._keyed_at + REKEY_GAP_S
        return self._rekeying.begins and not self._rekeying.busy and rested

    def rekey(self) -> None:
        """Begins a rekey now; only the end with the lower peer ID does."""
        self._began_at = trio.current_time()
        self._put(self._rekeying.begin())

    async def _open_frames(self, host: Host) -> None:
        """Opens the frame stream, or waits for the neighbour to do so."""
        with trio.move_on_after(FRAMES_S):
            if self.dialled:
                stream = await host.open(self.connection, FRAMES_PROTOCOL)
                await stream.write(self._frames_proof)
                self._frames = stream
                self._frames_arrived.set()
            await self._frames_arrived.wait()
        if self._frames is None:
            raise TrunkError("the frame stream did not open in time")

    async def _frame_stream(self) -> Stream:
        while self._frames is None:
            await self._frames_arrived.wait()
        return self._frames

    async def _read_frames(self) -> None:
        stream = await self._frame_stream()
        buffer = bytearray()
        while True:
            data = await stream.read_some(READ_BYTES)
            if not data:
                raise TrunkError("the frame stream ended")
            buffer += data
            whole = _whole_packets(buffer)
            if whole:
                self._carrier.stream_put(self.number, bytes(memoryview(buffer)[:whole]))
                del buffer[:whole]

    async def _write_frames(self) -> None:
        stream = await self._frame_stream()
        while True:
            batch = self._carrier.stream_take(self.number)
            if batch is None:
                await self.frames_ready.wait()
                self.frames_ready = trio.Event()
            else:
                await stream.write(batch)


def _whole_packets(buffer: bytearray) -> int:
    """How many bytes at the start are whole lp() packets."""
    at = 0
    while at + 2 <= len(buffer):
        end = at + 2 + (buffer[at] << 8 | buffer[at + 1])
        if end > len(buffer):
            break
        at = end
    return at


def _code_name(code: int) -> str:
    try:
        return CloseCode(code).name.lower()
    except ValueError:
        return f"code {code}"
