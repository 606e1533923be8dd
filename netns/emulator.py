"""A link with impairments: delay, jitter, loss, reordering, duplication, rate. The work is done by emulator/ (Rust)."""

import json
import shutil
import subprocess
from dataclasses import asdict, dataclass
from typing import Any, Final

from netns.enter import REPOSITORY
from netns.errors import LabError
from netns.namespace import Namespace
from netns.process import Process
from netns.waiting import wait_for

CRATE: Final = REPOSITORY / "netns" / "emulator"
PROGRAM: Final = CRATE / "target" / "release" / "link-emulator"


@dataclass(frozen=True, slots=True)
class Impairment:
    """One direction of a link. `reorder`: that share of frames is held back by `gap_ms`; jitter keeps the order."""

    delay_ms: float = 0.0
    jitter_ms: float = 0.0
    loss_percent: float = 0.0
    duplicate_percent: float = 0.0
    reorder_percent: float = 0.0
    gap_ms: float = 1.0
    rate_mbit: float = 0.0
    queue_ms: float = 50.0

    def settings(self) -> str:
        return ",".join(f"{key.rsplit('_', 1)[0]}={value:g}" for key, value in asdict(self).items())


def build() -> None:
    """Builds the emulator where it is missing or older than its source. Needs cargo, so call it outside of the lab."""
    sources = [CRATE / "Cargo.toml", CRATE / "Cargo.lock", *(CRATE / "src").iterdir()]
    if PROGRAM.exists() and PROGRAM.stat().st_mtime >= max(source.stat().st_mtime for source in sources):
        return
    cargo = shutil.which("cargo")
    if cargo is None:
        raise LabError("the link emulator needs cargo to be built: apt-get install cargo-web rustc-web")
    command = [cargo, "build", "--release", "--locked", "--manifest-path", str(CRATE / "Cargo.toml"), "--target-dir",
               str(CRATE / "target")]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        raise LabError(f"building the link emulator: {done.stderr[-2000:]}")
    PROGRAM.touch()


class EmulatedLink:
    """A cable between two machines; its ends are TAPs, so no offload hides what the wire would carry."""

    def __init__(
        self, a: Namespace, a_name: str, a_address: str | None, b: Namespace, b_name: str, b_address: str | None,
        *, there: Impairment, back: Impairment | None = None, seed: int = 1, mtu: int = 1500,
    ) -> None:  # fmt: skip
        """Args: there: from a to b. back: from b to a; the same as `there` when absent."""
        command = [
            str(PROGRAM), "--seed", str(seed), "--a", f"{a.path}:{a_name}", "--b", f"{b.path}:{b_name}",
            "--a-to-b", there.settings(), "--b-to-a", (back or there).settings(),
        ]  # fmt: skip
        self._process: Process = a.lab.start(f"link-{a.name}-{a_name}", command)
        wait_for(
            lambda: "ready" in self._process.text() or self._process.exit_status is not None, 5, "link emulator ready"
        )
        if self._process.exit_status is not None:
            raise LabError(f"link emulator: {self._process.tail()}")
        for end, name, address in ((a, a_name, a_address), (b, b_name, b_address)):
            end.run("ip", "link", "set", name, "mtu", str(mtu), "txqueuelen", "5000", "up")
            if address is not None:
                end.address(address, name)

    def stop(self) -> dict[str, dict[str, int]]:
        """Unplugs the cable; returns the counters of each direction."""
        self._process.stop()
        counters: dict[str, dict[str, int]] = json.loads(self._process.text().splitlines()[-1])
        return counters


def ceiling() -> list[dict[str, Any]]:
    """What the emulator carries on this machine, for long and short frames."""
    done = subprocess.run([str(PROGRAM), "--ceiling"], capture_output=True, text=True, timeout=20)
    if done.returncode != 0:
        raise LabError(f"link emulator: {done.stderr.strip()}")
    result: list[dict[str, Any]] = json.loads(done.stdout)
    return result
