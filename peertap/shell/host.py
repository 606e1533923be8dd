"""The libp2p host: Noise only, one address a dial, streams on the connection that was meant (docs/decisions/0003).

py-libp2p's own dialling tries two addresses and never WebSocket, and its default host takes plaintext: this module is
the only one that knows.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import trio
from libp2p import new_host
from libp2p.crypto.ed25519 import create_new_key_pair
from libp2p.crypto.x25519 import create_new_key_pair as create_noise_key_pair
from libp2p.custom_types import TProtocol
from libp2p.network.config import ConnectionConfig
from libp2p.peer.id import ID
from libp2p.protocol_muxer.multiselect_communicator import MultiselectCommunicator
from libp2p.security.noise.transport import PROTOCOL_ID as NOISE_ID
from libp2p.security.noise.transport import Transport as NoiseTransport
from multiaddr import Multiaddr

from peertap.errors import DeviceError, TrunkError
from peertap.types import PeerId

if TYPE_CHECKING:
    from peertap.identity.node import NodeIdentity

TRUNK_PROTOCOL: Final = TProtocol("/peertap/trunk/1")  # DESIGN 7
FRAMES_PROTOCOL: Final = TProtocol("/peertap/frames/1")  # SPEC 4.6
NEGOTIATE_S: Final = 5  # ours: for the choice of a protocol on an open connection
MAX_CONNECTIONS: Final = 4096  # ours: above any trunk limit; the node decides, not libp2p

# py-libp2p reads this setting at every read of a stream: else it sends a window update after each of them, not only
# when half the window is used up.
os.environ.setdefault("PY_YAMUX_RELEASE_ON_READ", "0")


@dataclass(frozen=True, slots=True, eq=False)
class Connection:
    """One libp2p connection: its peer, transport ("tcp", "ws" or "quic") and the address it is seen from.

    Args:
        dialled: the multiaddr that we dialled; None: the peer dialled us.
    """

    peer: PeerId
    transport: str
    host: str | None
    raw: Any  # libp2p's SwarmConn: the library is untyped here
    dialled: str | None = None

    async def close(self) -> None:
        with trio.move_on_after(1):
            try:
                await self.raw.close()
            except Exception:  # noqa: S110  a connection that fails to close is closed
                pass


class Stream:
    """A libp2p stream: bytes in order; every failure is one TrunkError."""

    def __init__(self, raw: Any) -> None:
        self._raw = raw

    async def read_some(self, most: int) -> bytes:
        """Between 1 and `most` bytes; b"" at the end."""
        try:
            return bytes(await self._raw.read(most))
        except trio.Cancelled:
            raise
        except Exception as error:  # libp2p raises many kinds
            raise TrunkError(f"stream ended: {type(error).__name__}") from None

    async def read_exactly(self, size: int) -> bytes:
        data = bytearray()
        while len(data) < size:
            part = await self.read_some(size - len(data))
            if not part:
                raise TrunkError("stream ended")
            data += part
        return bytes(data)

    async def write(self, data: bytes) -> None:
        try:
            await self._raw.write(data)
        except trio.Cancelled:
            raise
        except Exception as error:
            raise TrunkError(f"stream ended: {type(error).__name__}") from None

    async def close(self) -> None:
        """Closes, or resets where that does not work in time."""
        with trio.move_on_after(1) as scope:
            scope.shield = True
            try:
                await self._raw.close()
            except Exception:
                try:
                    await self._raw.reset()
                except Exception:  # noqa: S110  nothing is left to close
                    pass


StreamHandler = Callable[[Connection, Stream], Awaitable[None]]


class Host:
    """A running libp2p host. Made by `running_host`."""

    def __init__(self, raw: Any, addresses: tuple[str, ...]) -> None:
        self._raw = raw
        self.addresses: Final = addresses

    def handle(self, protocol: TProtocol, handler: StreamHandler) -> None:
        """Calls `handler` for every stream that a neighbour opens with this protocol."""

        async def handle(raw: Any) -> None:
            connection = self._connection_of(raw)
            if connection is None:
                await Stream(raw).close()
                return
            await handler(connection, Stream(raw))

        self._raw.set_stream_handler(protocol, handle)

    async def dial(self, address: str, peer: PeerId) -> Connection:
        """Dials exactly this address.

        Raises: TrunkError.
        """
        swarm = self._raw.get_network()
        try:
            raw = await swarm._dial_addr_single_attempt(Multiaddr(address), ID(peer))
        except trio.Cancelled:
            raise
        except Exception as error:  # libp2p raises many kinds
            raise TrunkError(f"{address}: {_cause(error)}") from None
        transport = "quic" if "/quic" in address else "ws" if "/ws" in address else "tcp"
        return Connection(peer, transport, _ip_in(address), raw, address)

    async def open(self, connection: Connection, protocol: TProtocol) -> Stream:
        """A new stream on that very connection.

        Raises: TrunkError.
        """
        try:
            raw = await connection.raw.new_stream()
            communicator = MultiselectCommunicator(raw)
            chosen = await self._raw.multiselect_client.select_one_of([protocol], communicator, NEGOTIATE_S)
            raw.set_protocol(chosen)
        except trio.Cancelled:
            raise
        except Exception as error:
            raise TrunkError(f"{protocol}: {_cause(error)}") from None
        return Stream(raw)

    def _connection_of(self, raw_stream: Any) -> Connection | None:
        muxed = raw_stream.muxed_conn
        conns = self._raw.get_network().connections.get(muxed.peer_id, [])
        raw = next((one for one in conns if one.muxed_conn is muxed), None)
        if raw is None:
            return None
        family = raw.get_transport_family()
        transport = {"tcp": "tcp", "udp": "quic", "quic-v1": "quic"}.get(family, "ws")
        remote = raw_stream.get_remote_address()
        return Connection(PeerId(muxed.peer_id.to_bytes()), transport, None if remote is None else remote[0], raw)


@asynccontextmanager
async def running_host(identity: NodeIdentity, listen: Sequence[str]) -> AsyncIterator[Host]:
    """A host that listens on these multiaddrs.

    Raises: DeviceError when one of them cannot be listened on.
    """
    key_pair = create_new_key_pair(identity.seed)
    noise = NoiseTransport(key_pair, noise_privkey=create_noise_key_pair().private_key)
    raw = new_host(
        key_pair=key_pair,
        sec_opt={NOISE_ID: noise},
        enable_tcp=True,  # named here: derived from the addresses, a lone TCP address would get QUIC only
        enable_quic=True,
        enable_websocket=True,
        connection_config=ConnectionConfig(
            max_connections=MAX_CONNECTIONS,
            high_watermark=MAX_CONNECTIONS,
            low_watermark=0,
            min_connections=0,
            max_connections_per_peer=8,
        ),
    )
    addresses = [Multiaddr(one) for one in listen]
    async with raw.run(listen_addrs=addresses):
        swarm: Any = raw.get_network()
        await swarm.auto_connector.stop()  # whom to dial is the node's decision
        deaf = [str(one) for one in addresses if str(one) not in swarm.listeners]
        if deaf:  # libp2p only logs it
            raise DeviceError(f"cannot listen on {', '.join(deaf)}", hint="another program may have the port")
        yield Host(raw, tuple(str(one) for one in raw.get_addrs()))


def _cause(error: Exception) -> str:
    """The innermost reason, in a line."""
    while error.__cause__ is not None and isinstance(error.__cause__, Exception):
        error = error.__cause__
    return f"{type(error).__name__}: {error}".splitlines()[0][:160]


def _ip_in(address: str) -> str | None:
    parts = address.split("/")
    return parts[2] if len(parts) > 2 and parts[1] in ("ip4", "ip6") else None
