"""What all tests share: how long the searching ones search, and no wait that never ends.

A test that needs trio calls `trio.run` itself. PEERTAP_FULL=1 (make test-full) asks for the long forms.
"""

from __future__ import annotations

import faulthandler
import os
from collections.abc import Iterator
from typing import Final

import pytest
from hypothesis import HealthCheck, settings

FULL: Final = os.environ.get("PEERTAP_FULL", "0") != "0"
MAX_TEST_S: Final = 3600 if FULL else 120  # ours: a test that hangs shows where and ends the run

# A property is not a benchmark: no deadline. In the short form the examples are the same in every run.
settings.register_profile("short", deadline=None, max_examples=100, derandomize=True, print_blob=True)
settings.register_profile(
    "full", deadline=None, max_examples=5_000, print_blob=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("full" if FULL else "short")


@pytest.fixture
def full() -> bool:
    """Whether the long forms were asked for."""
    return FULL


@pytest.fixture(autouse=True)
def _ends_in_time() -> Iterator[None]:
    """Ends the run with the stacks of all threads where one test takes more than MAX_TEST_S."""
    faulthandler.dump_traceback_later(MAX_TEST_S, exit=True)
    yield
    faulthandler.cancel_dump_traceback_later()
