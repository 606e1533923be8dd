"""What a peer is: programs to be found, and a tunnel that they make."""

import os
import shutil
import subprocess
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Final

from netns.namespace import Namespace
from netns.process import Process
from tools.bench.topology import Site

FOLDER: Final = "PEERTAP_BENCH_PEERS"  # environment: where built peers are
DEFAULT_FOLDER: Final = "/opt/peers/bin"
A_TUNNEL_IP: Final = "10.9.0.1"
B_TUNNEL_IP: Final = "10.9.0.2"
R_TUNNEL_IP: Final = "10.9.0.254"


@dataclass(frozen=True, slots=True)
class Program:
    """An executable that a peer needs, and the places where it is looked for, best first.

    Args:
        override: environment variable with the program's path, or with its folder (is_folder).
        folders: below the folder of built peers; "" is that folder itself.
        on_path: whether one on PATH will do, after those places.
        package: the Debian package that has it.
        aliases: other names of the same program.
    """

    name: str
    override: str = ""
    is_folder: bool = False
    folders: tuple[str, ...] = ("",)
    on_path: bool = True
    package: str = ""
    aliases: tuple[str, ...] = ()

    def find(self) -> Path | None:
        if given := os.environ.get(self.override) if self.override else None:
            path = Path(given) / self.name if self.is_folder else Path(shutil.which(given) or given)
            return path if os.access(path, os.X_OK) else None
        base = Path(os.environ.get(FOLDER) or DEFAULT_FOLDER)
        names = (self.name, *self.aliases)
        for path in (base / folder / name for folder in self.folders for name in names):
            if path.is_file() and os.access(path, os.X_OK):
                return path
        on_path = [found for name in names if self.on_path and (found := shutil.which(name))]
        return Path(on_path[0]) if on_path else None

    def where(self) -> str:
        """Where it should have been, for the row of a peer that is absent."""
        places = [f"${self.override}"] if self.override else []
        places += [f"${FOLDER}/{folder + '/' if folder else ''}{self.name}" for folder in self.folders]
        places += ["PATH"] if self.on_path else []
        hint = f" (Debian package {self.package}; --install gets it)" if self.package else ""
        return f"{self.name} not found in {', '.join(places)}{hint}"


class Tunnel(ABC):
    """A tunnel between the ends of a site, from keys to packets. `a` joins what runs already."""

    interface: ClassVar[str] = "tap0"
    interface_b: ClassVar[str] = ""  # where b's has another name
    destination = B_TUNNEL_IP

    def __init__(self, site: Site, programs: Mapping[str, Path]) -> None:
        self.site, self.programs = site, {name: str(path) for name, path in programs.items()}

    @abstractmethod
    def prepare(self) -> None:
        """Makes keys and configurations; not timed."""

    @abstractmethod
    def start_far(self) -> None:
        """Starts all but a: the relay where there is one, and b."""

    @abstractmethod
    def start_near(self) -> None:
        """Starts a; the clock of join_ms runs."""

    def settle(self) -> None:
        """Waits until the tunnel is as it will stay; pings are answered already. Most are so at once."""
        return

    def pids(self) -> list[int]:
        return self.site.pids()

    def ended(self) -> list[Process]:
        """Daemons that should run and do not."""
        return [daemon for daemon in self.site.daemons if daemon.exit_status is not None]

    def run(self, program: str, *arguments: str, input_text: str | None = None) -> str:
        """Runs one of the peer's programs to its end, for keys and configurations.

        Raises:
            subprocess.CalledProcessError: another exit status than 0.
        """
        command = [self.programs[program], *arguments]
        stdin = subprocess.DEVNULL if input_text is None else None
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=60, check=True, cwd=self.site.directory,
            stdin=stdin, input=input_text,
        )  # fmt: skip
        return done.stdout

    def file(self, name: str, content: str, mode: int = 0o600) -> Path:
        """Writes a file of the peer."""
        path = self.site.directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
        path.chmod(mode)
        return path

    def ends(self) -> list[tuple[str, Namespace, str, str]]:
        """Letter, machine, underlay address and tunnel address of a and b."""
        return [
            ("a", self.site.a, self.site.a_ip, A_TUNNEL_IP),
            ("b", self.site.b, self.site.b_ip, B_TUNNEL_IP),
        ]


class Daemons(Tunnel):
    """A tunnel of one daemon a machine, which can be relayed by r: they are started alike."""

    @abstractmethod
    def start(self, name: str, machine: Namespace) -> None:
        """Starts the daemon of a, b or r on its machine."""

    def start_far(self) -> None:
        if self.site.is_relayed:
            self.start("r", self.site.relay)
        self.start("b", self.site.b)

    def start_near(self) -> None:
        self.start("a", self.site.a)


@dataclass(frozen=True, slots=True)
class Peer:
    """One row of the tables.

    Args:
        layer: L2, L3, or "-" for no tunnel.
        about: its configuration, in words.
        version_command: arguments of the first program that make it say its version; empty = it cannot.
    """

    name: str
    layer: str
    about: str
    tunnel: type[Tunnel]
    programs: tuple[Program, ...] = ()
    version_command: tuple[str, ...] = ("--version",)

    def find(self) -> dict[str, Path]:
        """The programs that are there."""
        return {program.name: path for program in self.programs if (path := program.find()) is not None}

    def absent(self) -> str | None:
        """Why it cannot be measured here; None where it can."""
        found = self.find()
        missing = [program.where() for program in self.programs if program.name not in found]
        return "; ".join(missing) or None

    def version(self) -> str:
        """The first line with a digit that it says about itself, or ""."""
        if not self.programs or not self.version_command:
            return ""
        path = self.programs[0].find()
        if path is None:
            return ""
        try:
            done = subprocess.run(
                [str(path), *self.version_command], capture_output=True, text=True, timeout=10, stdin=subprocess.DEVNULL
            )
        except (OSError, subprocess.TimeoutExpired):
            return ""
        lines = (done.stdout + done.stderr).splitlines()
        return next((line.strip()[:80] for line in lines if any(sign.isdigit() for sign in line)), "")
