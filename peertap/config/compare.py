"""What changed between two configurations, and whether a running node can take it up."""

from __future__ import annotations

from collections.abc import Iterator

from pydantic import BaseModel

from peertap.config.model import Config


def changes(old: Config, new: Config) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Returns the keys whose value changed: those that can be reloaded, and those that need a restart.

    Keys are dotted ("log.level"); a list counts as one key ("peers", "vlans").
    """
    found = list(_changed("", old, new))
    return tuple(key for key, reloads in found if reloads), tuple(key for key, reloads in found if not reloads)


def _changed(prefix: str, old: BaseModel, new: BaseModel) -> Iterator[tuple[str, bool]]:
    for name, field in type(old).model_fields.items():
        before, after = getattr(old, name), getattr(new, name)
        if before == after:
            continue
        if isinstance(before, BaseModel) and isinstance(after, BaseModel):
            yield from _changed(f"{prefix}{name}.", before, after)
        else:
            extra = field.json_schema_extra
            yield f"{prefix}{name}", isinstance(extra, dict) and extra.get("reloads") is True
