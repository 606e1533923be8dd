"""The few system calls that Python 3.11 does not offer: setns and prctl."""

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

CLONE_NEWNET: Final = 0x40000000  # linux/sched.h
PR_SET_CHILD_SUBREAPER: Final = 36  # linux/prctl.h

_libc = ctypes.CDLL(None, use_errno=True)


def _check(result: int, what: str) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")


def adopt_orphans() -> None:
    """Orphaned grandchildren become children of this process, so that none escapes the clean-up."""
    _check(_libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0), "prctl(PR_SET_CHILD_SUBREAPER)")


@contextmanager
def inside(namespace: Path) -> Iterator[None]:
    """This thread is in the network namespace meanwhile; a socket opened here stays there."""
    with open("/proc/thread-self/ns/net") as home, open(namespace) as there:
        _check(_libc.setns(there.fileno(), CLONE_NEWNET), f"setns({namespace})")
        try:
            yield
        finally:
            _check(_libc.setns(home.fileno(), CLONE_NEWNET), "setns(back)")
