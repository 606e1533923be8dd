"""The share of one core that the busiest thread takes."""

import threading
import time

from peertap.shell.load import LoadMeter


def test_a_thread_that_computes_is_seen_and_one_that_sleeps_is_not() -> None:
    meter = LoadMeter()
    time.sleep(0.3)
    idle = meter.read()
    ended = threading.Event()

    def compute() -> None:
        while not ended.is_set():
            sum(range(1000))

    thread = threading.Thread(target=compute)
    thread.start()
    time.sleep(0.5)
    busy = meter.read()
    ended.set()
    thread.join()
    assert 0 <= idle < busy <= 1
    assert busy > 0.2  # of a core that others may use, too
