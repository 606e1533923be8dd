"""A process whose first thread stands still while its others go on: a node's control plane, but not its data plane."""

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from netns.errors import LabError
from netns.waiting import wait_for

PTRACE_SEIZE: Final = 0x4206  # linux/ptrace.h; stops one thread, where SIGSTOP stops them all
PTRACE_INTERRUPT: Final = 0x4207
PTRACE_DETACH: Final = 17
WAIT_FOR_THREADS: Final = 0x40000000  # __WALL, linux/wait.h

_ptrace = ctypes.CDLL(None, use_errno=True).ptrace
_ptrace.argtypes = (ctypes.c_long, ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p)
_ptrace.restype = ctypes.c_long


@contextmanager
def standing_still(pid: int) -> Iterator[None]:
    """The process's first thread runs no instruction inside the block; the calling thread has to stay the same one.

    Raises:
        LabError: the machine does not allow it.
    """
    _call(PTRACE_SEIZE, pid)
    _call(PTRACE_INTERRUPT, pid)
    try:
        os.waitpid(pid, WAIT_FOR_THREADS)
        wait_for(lambda: thread_state(pid) == "t", 2, f"the first thread of {pid} stands still", interval_s=0.005)
        yield
        if thread_state(pid) != "t":
            raise LabError(f"the first thread of {pid} did not stay still")
    finally:
        _call(PTRACE_DETACH, pid)


def thread_state(pid: int) -> str:
    """One letter, as in proc(5), of the first thread."""
    return Path(f"/proc/{pid}/task/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]


def _call(request: int, pid: int) -> None:
    if _ptrace(request, pid, None, None) != 0:
        raise LabError(f"ptrace {request:#x} of {pid}: {os.strerror(ctypes.get_errno())}")
