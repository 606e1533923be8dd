"""Who listens to which groups behind our ports: a snooping switch's view of one IP version (RFC 4541; SPEC 13.2).

    group:    none ─ report ─▶ listening ─ leave ─▶ asked: two queries for it ─ no answer ─▶ none
                                   └─ no report for 260 s, or a leave where one host is alone ─▶ none
    querier:  ours ─ another's query ─▶ silent ─ none for 255 s ─▶ ours

Lists of sources are merged: who wants a group from some sources counts as a listener to the group.
"""

from dataclasses import dataclass
from typing import Final

from peertap.wire.multicast import (
    LAST_LISTENER_S,
    QUERY_INTERVAL_S,
    RESPONSE_S,
    ROBUSTNESS,
    Address,
    Change,
    Query,
    Record,
    Report,
    RouterSeen,
    Said,
    is_for_all,
)

MAX_ADDRESSES: Final = 1024  # ours: groups that are watched; with more, all groups are wanted
FIRST_QUERIES_S: Final = (
    0.3,
    1.0,
    3.0,
    10.0,
)  # ours: the interface may still be coming up, and hosts answer within 1 s
FIRST_RESPONSE_S: Final = 1.0  # ours: what was joined before we came is known soon
LIVES_S: Final = ROBUSTNESS * QUERY_INTERVAL_S + RESPONSE_S  # RFC 3376 8.4
MAX_INTERVAL_S: Final = 600.0  # ours: a querier that promises to ask less often is not believed
JOINS: Final = (Change.IS_EXCLUDE, Change.TO_EXCLUDE)
SOURCED_JOINS: Final = (Change.IS_INCLUDE, Change.TO_INCLUDE, Change.ALLOW)


@dataclass(slots=True)
class _Group:
    until: float
    v1_until: float = 0.0  # a host of IGMPv1 listens: it cannot say that it leaves (RFC 2236 5)
    asks: int = 0  # queries for this group that are still to be sent
    ask_at: float = float("inf")


class Listeners:
    """The listeners of one VLAN.

    Args:
        nobody: the zero address of the IP version.
        one_host: there is one host behind our ports: a leave needs no question.
    """

    def __init__(self, nobody: Address, *, one_host: bool, now: float) -> None:
        self.one_host = one_host
        self.changes = 0  # of `groups`
        self._nobody: Final = nobody
        self._groups: dict[Address, _Group] = {}
        self._full_until = float("-inf")
        self._querier_until = float("-inf")  # another one asks, here or elsewhere
        self._port_querier_until = float("-inf")  # it is behind our ports
        self._router_until = float("-inf")
        self._robustness, self._interval_s, self._response_s = ROBUSTNESS, QUERY_INTERVAL_S, RESPONSE_S
        self._first = [now + after for after in FIRST_QUERIES_S]
        self._query_at = self._first.pop(0)

    # What is so

    @property
    def groups(self) -> set[Address]:
        """Groups with listeners; none that every member gets anyway."""
        return set(self._groups)

    def wants_all(self, now: float) -> bool:
        """There are more groups than are watched."""
        return now < self._full_until

    def has_router(self, now: float) -> bool:
        """A multicast router is behind our ports: it needs everything (RFC 4541 2.1.2)."""
        return now < self._router_until

    def querier(self, now: float) -> str:
        """Who asks here: "port", "member", or "self"."""
        if now < self._port_querier_until:
            return "port"
        return "member" if now < self._querier_until else "self"

    # What is said

    def heard(self, said: Said, now: float, *, is_local: bool) -> None:
        """Takes a message from one of our ports, or from another member."""
        match said:
            case Query():
                self._asked(said, now, is_local=is_local)
            case RouterSeen(lives_s):
                if is_local:
                    self._router_until = max(self._router_until, now + lives_s) if lives_s else now
            case Report():
                if is_local:
                    for record in said.records:
                        self._recorded(record, said.version, now)

    def tick(self, now: float) -> list[Query]:
        """Forgets who did not answer; returns what to ask behind our ports."""
        out = []
        for address, group in list(self._groups.items()):
            if group.until <= now:
                del self._groups[address]
                self.changes += 1
            elif group.ask_at <= now:
                group.asks -= 1
                group.ask_at = now + LAST_LISTENER_S if group.asks else float("inf")
                out.append(Query(3, self._nobody, address, LAST_LISTENER_S))
        if self._query_at <= now:
            is_first = bool(self._first)
            self._query_at = self._first.pop(0) if is_first else now + QUERY_INTERVAL_S
            if self._querier_until <= now:
                self._robustness, self._interval_s, self._response_s = ROBUSTNESS, QUERY_INTERVAL_S, RESPONSE_S
                out.append(Query(3, self._nobody, None, FIRST_RESPONSE_S if is_first else RESPONSE_S))
        return out

    def next_deadline(self, now: float) -> float:
        """When `tick` has something to do, or `wants_all` or `has_router` ends."""
        dues = [min(group.until, group.ask_at) for group in self._groups.values()]
        dues += [until for until in (self._full_until, self._router_until) if until > now]
        return min(*dues, self._query_at) if dues else self._query_at

    # Inside

    @property
    def _lives_s(self) -> float:
        """How long a report holds (RFC 3376 8.4), whatever a querier says that asks more often: it may be a liar."""
        return max(self._robustness * self._interval_s + self._response_s, LIVES_S)

    def _asked(self, query: Query, now: float, *, is_local: bool) -> None:
        robustness = query.robustness or ROBUSTNESS
        if query.group is not None:
            group = self._groups.get(query.group)
            if group is None or query.suppress or query.sources:
                return
            if is_local:
                group.until = min(group.until, now + robustness * max(query.response_s, LAST_LISTENER_S))
            else:
                self._ask_for(group, now)  # our hosts may not have heard it
            return
        self._robustness, self._response_s = robustness, query.response_s
        self._interval_s = min(query.interval_s or QUERY_INTERVAL_S, MAX_INTERVAL_S)
        until = now + self._robustness * self._interval_s + self._response_s / 2  # RFC 3376 8.5
        self._querier_until = max(self._querier_until, until)
        self._query_at = max(self._query_at, until) if not self._first else self._query_at
        if is_local:
            self._port_querier_until = until
            if query.source != self._nobody:
                self._router_until = max(self._router_until, until)

    def _recorded(self, record: Record, version: int, now: float) -> None:
        if is_for_all(record.group):
            return
        group, change = self._groups.get(record.group), record.change
        if change in JOINS or (record.sources and change in SOURCED_JOINS):
            if group is None:
                if len(self._groups) >= MAX_ADDRESSES:
                    self._full_until = now + self._lives_s
                    return
                group = self._groups[record.group] = _Group(0.0)
                self.changes += 1
            group.until, group.asks, group.ask_at = now + self._lives_s, 0, float("inf")
            if version == 1 and record.group.version == 4:
                group.v1_until = group.until
        elif group is None or group.v1_until > now:
            return
        elif change is Change.TO_INCLUDE and self.one_host:
            del self._groups[record.group]
            self.changes += 1
        elif change not in (Change.TO_INCLUDE, Change.BLOCK) or self.querier(now) == "port":
            return  # a querier there asks by itself
        else:
            self._ask_for(group, now)

    @staticmethod
    def _ask_for(group: _Group, now: float) -> None:
        """Whoever still listens to it is to say so."""
        if not group.asks:
            group.asks, group.ask_at = ROBUSTNESS, now
            group.until = min(group.until, now + ROBUSTNESS * LAST_LISTENER_S)
