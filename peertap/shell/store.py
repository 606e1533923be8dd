"""The state directory: identity and VLAN secrets in files that only their owner can read.

    STATE_DIR/            0700
      identity.key        0600   "ptnode1-…"
      LABEL.secret        0600   "ptvlan1-LABEL-…"
      LABEL.vlan          0600   a VLAN with a group: SPEC 10.4
      peers.cache         0600   neighbours of the last process: SPEC 12.5; may be deleted
      relay.policy        0600   rules made while the node ran: SPEC 15.3

A file is written beside its place, synced, and moved there: it is the old one or the new one, whatever happens. What
others could have read or replaced is refused, with the command that repairs it.
"""

from __future__ import annotations

import errno
import os
import secrets
import shlex
import stat
from pathlib import Path
from typing import Final

from peertap.errors import ConfigError, DecodeError, DeviceError, StateError
from peertap.identity.armour import KEY_BYTES
from peertap.identity.node import NodeIdentity
from peertap.identity.secret import SECRET_BYTES, VlanSecret, is_label
from peertap.mesh.remembered import MAX_FILE_BYTES as MAX_CACHE_FILE_BYTES
from peertap.node.relay_state import RelayState
from peertap.vlan.record import VlanRecord

IDENTITY_FILE: Final = "identity.key"
RECORD_SUFFIX: Final = ".vlan"
CACHE_FILE: Final = "peers.cache"
RELAY_FILE: Final = "relay.policy"
MAX_RELAY_FILE_BYTES: Final = 1 << 20  # ours: 4,096 rules of fewer than 80 bytes, 256 controllers
MAX_RECORD_FILE_BYTES: Final = 256 << 20  # ours: 64 earlier epochs of a large group
MAX_SECRET_FILE_BYTES: Final = 4096  # ours: a secret is one line of fewer than 256
PRIVATE_FILE_MODE: Final = 0o600
PRIVATE_DIRECTORY_MODE: Final = 0o700


def read_private(path: Path, *, limit: int = MAX_SECRET_FILE_BYTES) -> bytes:
    """Returns the content of a file that must be ours alone.

    Raises:
        ConfigError: Missing, readable by others, another's, a symbolic link, no regular file, or longer than `limit`.
    """
    try:
        # O_NONBLOCK: opening a FIFO must not wait for its writer
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        raise _refusal(path, error) from None
    with os.fdopen(fd, "rb") as file:
        _check_private(path, os.fstat(fd), wanted=PRIVATE_FILE_MODE)
        data = file.read(limit + 1)
    if len(data) > limit:
        raise ConfigError(f"longer than {limit} bytes", file=path, hint="this is not a file of PeerTap's")
    return data


def write_file(path: Path, data: bytes, *, mode: int = PRIVATE_FILE_MODE, replace: bool = False) -> None:
    """Writes a whole file atomically and durably.

    Raises:
        ConfigError: The file exists and `replace` is false, or its directory is missing or not ours to write.
        DeviceError: The machine refuses, for instance for want of space.
    """
    temporary = path.parent / f".{path.name}.{secrets.token_hex(8)}"
    try:
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, mode)
        try:
            with os.fdopen(fd, "wb") as file:
                os.fchmod(fd, mode)  # whatever the umask says
                file.write(data)
                file.flush()
                os.fsync(fd)
            if replace:
                os.replace(temporary, path)
            else:
                os.link(temporary, path)  # fails where the name exists: no moment between look and write
        finally:
            temporary.unlink(missing_ok=True)
        directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)
    except OSError as error:
        raise _refusal(path, error) from None


def load_vlan_secret_file(path: Path) -> VlanSecret:
    """Returns the VLAN secret in the file `path`, wherever it lies.

    Raises:
        ConfigError: No such file, not private, or damaged.
    """
    data = read_private(path)
    try:
        return VlanSecret.parse(data.decode("ascii"))
    except UnicodeDecodeError:
        raise ConfigError("VLAN secret: not text", file=path, hint="copy the file again") from None
    except DecodeError as error:
        raise ConfigError(error.what, file=path, hint=error.hint) from None


def new_vlan_secret(label: str) -> VlanSecret:
    """Returns a fresh random secret for a VLAN."""
    return VlanSecret(label, secrets.token_bytes(SECRET_BYTES))


def new_identity() -> NodeIdentity:
    """Returns a fresh random identity."""
    return NodeIdentity(secrets.token_bytes(KEY_BYTES))


class Store:
    """One node's state directory.

    Making a Store touches nothing; `prepare` creates the directory, and every read checks it first.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    @property
    def identity_path(self) -> Path:
        """Where the node's identity lies."""
        return self.directory / IDENTITY_FILE

    def secret_path(self, label_or_file: str | Path) -> Path:
        """Returns where a VLAN's secret lies.

        Args:
            label_or_file: A label, for LABEL.secret; or a file, which counts from the state directory when relative.
        """
        name = Path(label_or_file)
        return self.directory / (name if isinstance(label_or_file, Path) else f"{label_or_file}.secret")

    def prepare(self) -> None:
        """Creates the directory 0700 if it is missing, and checks it.

        Raises:
            ConfigError: Not ours alone, a symbolic link, or not ours to create.
        """
        try:
            self.directory.parent.mkdir(parents=True, exist_ok=True)
            self.directory.mkdir(mode=PRIVATE_DIRECTORY_MODE, exist_ok=True)
        except OSError as error:
            raise _refusal(self.directory, error) from None
        self.check()

    def check(self) -> None:
        """Raises ConfigError unless the directory exists and is ours alone."""
        try:
            fd = os.open(self.directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError as error:
            raise _refusal(self.directory, error) from None
        try:
            _check_private(self.directory, os.fstat(fd), wanted=PRIVATE_DIRECTORY_MODE)
        finally:
            os.close(fd)

    def has_identity(self) -> bool:
        """Says whether an identity file exists, readable or not."""
        return os.path.lexists(self.identity_path)

    def has_vlan_secret(self, label_or_file: str | Path) -> bool:
        """Says whether a secret's file exists, readable or not."""
        return os.path.lexists(self.secret_path(label_or_file))

    def load_identity(self) -> NodeIdentity:
        """Returns the node's identity.

        Raises:
            ConfigError: There is none, or its file or directory is not private or damaged.
        """
        self.check()
        data = read_private(self.identity_path)
        try:
            return NodeIdentity.parse(data.decode("ascii"))
        except UnicodeDecodeError:
            raise ConfigError("node identity: not text", file=self.identity_path, hint="restore it") from None
        except DecodeError as error:
            raise ConfigError(error.what, file=self.identity_path, hint="restore it from a backup") from None

    def create_identity(self, *, force: bool = False) -> NodeIdentity:
        """Makes a new identity and stores it.

        Raises:
            ConfigError: There is one already and `force` is false.
        """
        identity = new_identity()
        self.save_identity(identity, force=force)
        return identity

    def save_identity(self, identity: NodeIdentity, *, force: bool = False) -> None:
        """Stores an identity.

        Raises:
            ConfigError: There is one already and `force` is false.
        """
        self.prepare()
        write_file(self.identity_path, f"{identity.emit()}\n".encode(), replace=force)

    def load_vlan_secret(self, label_or_file: str | Path) -> VlanSecret:
        """Returns a VLAN's secret.

        Raises:
            ConfigError: There is none, or its file (or the state directory, if it lies there) is not private.
        """
        path = self.secret_path(label_or_file)
        if path.is_relative_to(self.directory):
            self.check()
        return load_vlan_secret_file(path)

    def save_vlan_secret(self, secret: VlanSecret, *, force: bool = False) -> Path:
        """Stores a VLAN's secret as LABEL.secret and returns the path.

        Raises:
            ConfigError: There is one already and `force` is false.
        """
        self.prepare()
        path = self.secret_path(secret.label)
        write_file(path, f"{secret.emit()}\n".encode(), replace=force)
        return path

    def save_record(self, label: str, record: bytes) -> None:
        """Keeps a VLAN's record as LABEL.vlan, instead of what was there.

        Raises:
            ConfigError, DeviceError: it cannot be written; the old one is there still.
        """
        write_file(self.record_path(label), record, replace=True)

    def drop_record(self, label: str) -> None:
        """Removes a VLAN's record, where there is one."""
        try:
            self.record_path(label).unlink(missing_ok=True)
        except OSError as error:
            raise _refusal(self.record_path(label), error) from None

    def load_records(self) -> list[VlanRecord]:
        """The VLANs with a group, by label.

        Raises:
            ConfigError: a file is not private, or damaged.
        """
        self.check()
        records = []
        for path in sorted(self.directory.glob(f"*{RECORD_SUFFIX}")):
            if path.name.startswith("."):
                continue  # the process that wrote it ended before it could move it to its place
            try:
                records.append(VlanRecord.parse(read_private(path, limit=MAX_RECORD_FILE_BYTES)))
            except DecodeError as error:
                raise ConfigError(
                    error.what, file=path, hint="restore a backup: peertap vlan restore, or move the file away"
                ) from None
        return records

    def save_cache(self, data: bytes) -> None:
        """Keeps the neighbours of this process for the next.

        Raises:
            ConfigError, DeviceError: it cannot be written; the old one is there still.
        """
        write_file(self.directory / CACHE_FILE, data, replace=True)

    def load_cache(self) -> bytes | None:
        """What `save_cache` kept; None: nothing.

        Raises:
            ConfigError: the file is not private, or too long.
        """
        path = self.directory / CACHE_FILE
        return read_private(path, limit=MAX_CACHE_FILE_BYTES) if os.path.lexists(path) else None

    def save_relay_state(self, state: bytes) -> None:
        """Keeps a relay's rules and sequences, instead of what was there.

        Raises:
            ConfigError, DeviceError: it cannot be written; the old one is there still.
        """
        write_file(self.directory / RELAY_FILE, state, replace=True)

    def load_relay_state(self) -> RelayState:
        """A relay's rules and sequences; none where nothing was kept.

        Raises:
            ConfigError: the file is not private, or damaged.
        """
        path = self.directory / RELAY_FILE
        if not os.path.lexists(path):
            return RelayState()
        try:
            return RelayState.parse(read_private(path, limit=MAX_RELAY_FILE_BYTES))
        except DecodeError as error:
            raise ConfigError(error.what, file=path, hint="move it away: rules and sequences begin anew") from None

    def record_path(self, label: str) -> Path:
        """Where a VLAN's record lies."""
        if not is_label(label):
            raise StateError(f"{label[:40]!r} is no label")
        return self.directory / f"{label}{RECORD_SUFFIX}"


def _check_private(path: Path, status: os.stat_result, *, wanted: int) -> None:
    quoted = shlex.quote(str(path))
    if wanted == PRIVATE_FILE_MODE and not stat.S_ISREG(status.st_mode):
        raise ConfigError("not a regular file", file=path, hint="put the secret itself there")
    if status.st_uid != os.geteuid():
        raise ConfigError(
            f"belongs to user {status.st_uid}, but PeerTap runs as user {os.geteuid()}",
            file=path,
            hint=f"chown {os.geteuid()} {quoted}",
        )
    mode = stat.S_IMODE(status.st_mode)
    if mode & 0o077:
        raise ConfigError(f"open to other users (mode {mode:04o})", file=path, hint=f"chmod {wanted:o} {quoted}")


def _refusal(path: Path, error: OSError) -> ConfigError | DeviceError:
    match error.errno:
        case errno.ENOENT:
            return ConfigError("does not exist", file=path, hint="run `peertap init`")
        case errno.EEXIST:
            return ConfigError("exists already", file=path, hint="--force replaces it; the old one is lost")
        case errno.ELOOP:
            return ConfigError("is a symbolic link", file=path, hint="put the real file or directory there")
        case errno.ENOTDIR:
            if path.is_symlink():
                return ConfigError("is a symbolic link", file=path, hint="put the real directory there")
            return ConfigError("is not a directory, or lies in none", file=path, hint="move what is in the way")
        case errno.EACCES | errno.EPERM | errno.EROFS:
            return ConfigError(
                f"not allowed: {error.strerror}", file=path, hint="run as the user whose node this is, perhaps by sudo"
            )
        case _:
            return DeviceError(f"{path}: {error.strerror}")
