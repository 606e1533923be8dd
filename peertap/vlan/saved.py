"""A group's state as it stands on disk: its MLS record, and what must not be lost with a process (SPEC 9.5).

    "PTG1" ‖ lp32(record) ‖ n 1 ‖ n × step ‖ n 2 ‖ n × lp32(message of the last step)
    ‖ n 2 ‖ n × lp32(wish) ‖ n 2 ‖ n × removal
    step: epoch 8 ‖ lp(transcript hash) ‖ rank 2 (ffff: none) ‖ n 2 ‖ n × removal ‖ n 2 ‖ n × admission
    ‖ 0, or 1 ‖ roles ‖ who came back by it 32 (zero: nobody) ‖ 0, or 1 ‖ what was agreed on before it

The last commit is in it: who stopped between taking a step and sending it can still give it to the others.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from peertap.errors import DecodeError
from peertap.vlan.agreement import Agreed
from peertap.vlan.commits import Step
from peertap.wire.codec import Reader, lp32
from peertap.wire.motion import KEY_BYTES, Removal

MAGIC: Final = b"PTG1"
NOBODY: Final = bytes(KEY_BYTES)
MAX_FIELD_BYTES: Final = 64 << 20  # ours: a group of 4,096 has a record of some megabytes


@dataclass(frozen=True, slots=True)
class SavedGroup:
    """What a group goes on from.

    Args:
        record: of the MLS part, see the data plane's MlsGroup.
        steps: those of the log, the last one last.
        returned: who came back by it, or None.
        before: what was agreed on until then, see Logged.
        messages: the last step's; empty where it has none.
        wishes: of the present epoch.
        leavers: the words of those who wish to go.
    """

    record: bytes
    steps: tuple[Step, ...]
    returned: tuple[bytes | None, ...]
    before: tuple[Agreed | None, ...]
    messages: tuple[bytes, ...]
    wishes: tuple[bytes, ...]
    leavers: tuple[Removal, ...]

    def emit(self) -> bytes:
        """Returns the file's bytes."""
        steps = b"".join(
            one.emit() + (returned or NOBODY) + (b"\0" if before is None else b"\1" + before.emit())
            for one, returned, before in zip(self.steps, self.returned, self.before, strict=True)
        )
        leavers = len(self.leavers).to_bytes(2, "big") + b"".join(one.emit() for one in self.leavers)
        head = MAGIC + lp32(self.record) + bytes((len(self.steps),)) + steps
        return head + _many(self.messages) + _many(self.wishes) + leavers

    @classmethod
    def parse(cls, data: bytes) -> SavedGroup:
        """Reads the file.

        Raises:
            DecodeError: it is another one, or damaged.
        """
        reader = Reader(data, "group state")
        if reader.take(len(MAGIC), "magic") != MAGIC:
            raise DecodeError("group state: this is no state of a group")
        record = reader.lp32("record", MAX_FIELD_BYTES)
        logged = [_read_step(reader) for _ in range(reader.uint(1, "steps"))]
        messages, wishes = _read_many(reader, "messages"), _read_many(reader, "wishes")
        leavers = tuple(Removal.read(reader) for _ in range(reader.uint(2, "leavers")))
        reader.end()
        if not logged:
            raise DecodeError("group state: there is no step")
        steps, returned, before = zip(*logged, strict=True)
        return cls(record, steps, returned, before, messages, wishes, leavers)


def _read_step(reader: Reader) -> tuple[Step, bytes | None, Agreed | None]:
    step, returned = Step.read(reader), reader.take(KEY_BYTES, "who came back")
    before = Agreed.read(reader) if reader.uint(1, "whether it changed what was agreed on") else None
    return step, None if returned == NOBODY else returned, before


def _many(messages: Iterable[bytes]) -> bytes:
    all_of_them = tuple(messages)
    return len(all_of_them).to_bytes(2, "big") + b"".join(map(lp32, all_of_them))


def _read_many(reader: Reader, field: str) -> tuple[bytes, ...]:
    return tuple(reader.lp32(field, MAX_FIELD_BYTES) for _ in range(reader.uint(2, field)))
