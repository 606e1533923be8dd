"""How fast? iperf3 over TCP and UDP, and a hashed transfer."""

import hashlib
import json
import socket
import statistics
import threading
import time
from typing import Any

from netns.checks.side import Side
from netns.errors import ScenarioFailed, require
from netns.process import Process
from netns.waiting import wait_for

IPERF_PORT = 5201
TRANSFER_PORT = 7778


def start_iperf_server(b: Side) -> Process:
    """Serves one client, then ends."""
    server = b.namespace.start(f"iperf3-server-{b.namespace.name}", "iperf3", "-s", "-1", "-B", b.ipv4)
    wait_for(lambda: f":{IPERF_PORT}" in b.namespace.run("ss", "-Hltn"), 5, "the iperf3 server listens")
    return server


def _iperf(a: Side, b: Side, seconds: float, *options: str) -> dict[str, Any]:
    server = start_iperf_server(b)
    try:
        _, out, error = a.namespace.try_run(
            "iperf3",
            "-c",
            b.ipv4,
            "-t",
            f"{seconds:g}",
            "-J",
            "--connect-timeout",
            "3000",
            *options,
            timeout_s=seconds + 20,
        )
        try:
            result: dict[str, Any] = json.loads(out)
        except ValueError:
            raise ScenarioFailed(f"iperf3 gave no result: {(out + error)[-500:]}") from None
        require("error" not in result, f"iperf3: {result.get('error')}")
        return result
    finally:
        server.stop()


def tcp(a: Side, b: Side, seconds: float = 5.0, runs: int = 1) -> dict[str, object]:
    """Median of the runs; one stream, congestion control cubic."""
    results = [_iperf(a, b, seconds, "-C", "cubic")["end"] for _ in range(runs)]
    speeds = [round(end["sum_received"]["bits_per_second"] / 1e6, 1) for end in results]
    require(min(speeds) > 0, f"TCP carried nothing: {speeds}")
    retransmits = statistics.median(end["sum_sent"].get("retransmits", 0) for end in results)
    return {"tcp_mbps": statistics.median(speeds), "tcp_runs_mbps": speeds, "tcp_retransmits": retransmits}


def many_tcp(a: Side, b: Side, flows: int, seconds: float) -> float:
    """So many streams at once; what arrives of all, Mbit/s."""
    end = _iperf(a, b, seconds, "-C", "cubic", "-P", str(flows))["end"]
    return round(float(end["sum_received"]["bits_per_second"]) / 1e6, 1)


def udp(
    a: Side, b: Side, seconds: float = 3.0, rate: str = "20M", lost_percent_at_most: float = 1.0
) -> dict[str, object]:
    """A UDP stream of a modest rate arrives."""
    end = _iperf(a, b, seconds, "-u", "-l", "1200", "-b", rate)["end"]["sum"]
    lost = round(float(end["lost_percent"]), 3)
    require(end["packets"] > 0 and lost <= lost_percent_at_most, f"UDP at {rate}: {lost} % lost")
    return {"udp_mbps": round(end["bits_per_second"] / 1e6, 1), "udp_lost_percent": lost}


def transfer(a: Side, b: Side, total_bytes: int) -> dict[str, object]:
    """Sends `total_bytes` over TCP from A to B; both ends hash what they sent and got."""
    listener = b.namespace.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind((b.ipv4, TRANSFER_PORT))
    listener.listen(1)
    listener.settimeout(10)
    sender = a.namespace.socket(socket.AF_INET, socket.SOCK_STREAM)
    sender.settimeout(20)
    received: dict[str, object] = {}

    def receive() -> None:
        digest, count = hashlib.sha256(), 0
        try:
            connection, _ = listener.accept()
            with connection:
                connection.settimeout(20)
                while block := connection.recv(1 << 20):
                    digest.update(block)
                    count += len(block)
        except OSError as error:
            received["error"] = error
        received.update(digest=digest.hexdigest(), count=count)

    thread = threading.Thread(target=receive, daemon=True)
    thread.start()
    began = time.monotonic()
    sent = hashlib.sha256()
    # Each MiB differs from the others, so that a block lost, repeated or exchanged changes the hash.
    block = bytearray(hashlib.shake_256(b"peertap").digest(1 << 20))
    try:
        sender.connect((b.ipv4, TRANSFER_PORT))
        for number in range(0, total_bytes, len(block)):
            block[:8] = number.to_bytes(8, "big")
            piece = memoryview(block)[: min(len(block), total_bytes - number)]
            sender.sendall(piece)
            sent.update(piece)
    except OSError as error:
        raise ScenarioFailed(f"transfer of {total_bytes} bytes: {error}") from error
    finally:
        sender.close()
        thread.join(25)
        listener.close()
    took = time.monotonic() - began
    require(received.get("digest") == sent.hexdigest(), f"transfer: hashes differ, {received} of {total_bytes} bytes")
    return {"transfer_bytes": total_bytes, "transfer_mbps": round(total_bytes * 8 / took / 1e6, 1)}
