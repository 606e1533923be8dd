"""What a member reports to routers behind other members, as if it were one host (RFC 4541 2.1.1; SPEC 13.3).

One IP version. It speaks the version of the oldest querier that it heard lately (RFC 3376 7.2.1).
"""

from collections.abc import Callable, Iterable
from typing import Final

from peertap.wire.multicast import QUERY_INTERVAL_S, RESPONSE_S, ROBUSTNESS, Address, Change, Query, Record, Report

MAX_PENDING: Final = 1024  # ours: groups about which something is to be said; as many as are watched
AGAIN_S: Final = 1.0  # RFC 3376 8.11: a change is said again within it
OLD_QUERIER_S: Final = ROBUSTNESS * QUERY_INTERVAL_S + RESPONSE_S  # RFC 3376 8.12
MAX_RESPONSE_S: Final = 30.0  # ours: who may answer later answers then
FIRST_S: Final = 0.2  # ours: the data plane has the tables by which reports go long before
RECORDS_A_REPORT: Final = 64  # ours: of version 2 of MLD in 1,320 bytes


class Reporter:
    """One VLAN's reports.

    Args:
        newest: the newest version: 3 of IGMP, 2 of MLD.
    """

    def __init__(self, newest: int, random: Callable[[int], bytes]) -> None:
        self._newest: Final = newest
        self._random = random
        self._old: dict[int, float] = {}  # versions of older queriers, and until when each counts
        self._groups: set[Address] = set()
        self._changes: dict[Address, tuple[float, int]] = {}  # when it is said next, and how often still
        self._all_at = float("inf")
        self._asked: dict[Address, float] = {}
        self._is_heard = False

    def heard(self, query: Query, now: float) -> None:
        """A querier behind another member asks."""
        if query.version < self._newest:
            self._old[query.version] = now + OLD_QUERIER_S
        at = now + self._up_to(min(query.response_s, MAX_RESPONSE_S))
        if query.group is None:
            self._all_at = min(self._all_at, at)
        elif query.group in self._groups:
            self._asked[query.group] = min(self._asked.get(query.group, at), at)

    def follow(self, groups: set[Address], now: float, *, is_heard: bool) -> None:
        """These groups have listeners here; `is_heard` says whether any member has a router."""
        if is_heard and not self._is_heard:
            self._all_at = now + FIRST_S
        self._is_heard = is_heard
        if groups == self._groups:
            return
        for group in groups ^ self._groups:
            if len(self._changes) < MAX_PENDING:
                self._changes[group] = (now, ROBUSTNESS)
            self._asked.pop(group, None)
        self._groups = set(groups)

    def tick(self, now: float) -> list[Report]:
        """What is due; nothing where nobody would hear it."""
        records = []
        again_at = now + self._up_to(AGAIN_S)
        for group, (at, left) in list(self._changes.items()):
            if at <= now:
                records.append(Record(Change.TO_EXCLUDE if group in self._groups else Change.TO_INCLUDE, group))
                del self._changes[group]
                if left > 1:
                    self._changes[group] = (again_at, left - 1)
        due = {group for group, at in self._asked.items() if at <= now}
        if self._all_at <= now:
            self._all_at, due = float("inf"), due | self._groups
        for group in due:
            self._asked.pop(group, None)
        records += [Record(Change.IS_EXCLUDE, group) for group in sorted(due, key=lambda one: one.packed)]
        version = self._version(now)
        if version == 1 and self._newest == 3:  # IGMPv1 has no leave
            records = [one for one in records if one.change is not Change.TO_INCLUDE]
        if not self._is_heard:
            return []
        return [Report(version, part) for part in _parts(records)]

    def next_deadline(self) -> float:
        return min((self._all_at, *(at for at, _ in self._changes.values()), *self._asked.values()))

    def _version(self, now: float) -> int:
        for version in [one for one, until in self._old.items() if until <= now]:
            del self._old[version]
        return min(self._old, default=self._newest)

    def _up_to(self, seconds: float) -> float:
        return seconds * int.from_bytes(self._random(2), "big") / 0xFFFF


def _parts(records: list[Record]) -> Iterable[tuple[Record, ...]]:
    return (tuple(records[at : at + RECORDS_A_REPORT]) for at in range(0, len(records), RECORDS_A_REPORT))
