"""What waits for tables."""

from peertap.node.actions import Send
from peertap.node.barrier import Barrier
from peertap.types import TrunkId
from peertap.wire.control import Bound

FIRST, SECOND = Send(TrunkId(1), Bound(1)), Send(TrunkId(1), Bound(2))


def test_what_an_event_led_to_waits_for_the_tables_that_have_it_also_where_these_come_later() -> None:
    barrier = Barrier()
    barrier.applied(barrier.publish())
    barrier.defer(FIRST)
    assert barrier.release(is_behind=True) == []
    barrier.defer(SECOND)
    version = barrier.publish()
    assert barrier.release() == [], "the data plane does not have them yet"
    barrier.applied(version)
    assert barrier.release() == [FIRST, SECOND]
