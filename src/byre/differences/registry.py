"""The registry of two states: keys and values added, removed, changed. Secrets are never shown."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from byre.differences.noise import value_noise
from byre.volumes.problems import Problems
from byre.windows.redaction import redact_text
from byre.windows.registry import Hive, Key, Value
from byre.windows.registry.layout import MAX_DEPTH
from byre.windows.secrets import HIDDEN, is_secret, is_secret_name, shown_path

MAX_CHANGES = 100_000
"""Keys told of one hive: more than this is another hive, not a change."""
MAX_SHOWN = 4096
"""Characters of one value."""


@dataclass(frozen=True, slots=True)
class ValueChange:
    """One value. ``kind``: ``added``, ``removed``, ``changed``; ``before`` and ``after`` as people read them,
    ``(hidden)`` where they are secrets, None where there is none. ``name`` is empty for the default value."""

    kind: str
    name: str
    type: str
    before: str | None
    after: str | None
    noise: str | None = None


@dataclass(frozen=True, slots=True)
class KeyChange:
    """One key. ``kind``: ``added``, ``removed`` or ``changed``; ``path`` is below the hive's root. ``below``: a key
    above it was added or removed as well. ``security``: its permissions differ. Times are RFC 3339."""

    kind: str
    hive: str
    path: str
    values: tuple[ValueChange, ...]
    written_before: str | None
    written_after: str | None
    security: bool = False
    below: bool = False
    noise: str | None = None

    @property
    def full_path(self) -> str:
        """``HKLM\\SOFTWARE\\…`` or ``HKU\\user\\…``."""
        return f"{self.hive}\\{self.path}" if self.path else self.hive


class HiveComparison:
    """Compares two hives. ``name`` is the hive's own (SYSTEM, NTUSER.DAT), ``shown`` where Windows mounts it."""

    def __init__(self, name: str, shown: str, problems: Problems) -> None:
        self.name = name
        self.shown = shown
        self.problems = problems
        self.found: list[KeyChange] = []

    def compare(self, old: Hive, new: Hive) -> list[KeyChange]:
        """All keys that differ, parents first."""
        stack: list[tuple[str, Key, Key, int]] = [("", old.root, new.root, 0)]
        seen = {(stack[0][1].cell, stack[0][2].cell)}
        while stack and len(self.found) < MAX_CHANGES:
            path, before, after, depth = stack.pop()
            self._compare_keys(path, before, after)
            if depth >= MAX_DEPTH or not (before.subkey_count or after.subkey_count):
                continue
            prefix = f"{path}\\" if path else ""
            left = {key.name.casefold(): key for key in before.subkeys()}
            right = {key.name.casefold(): key for key in after.subkeys()}
            for name in sorted(left.keys() | right.keys(), reverse=True):
                one, other = left.get(name), right.get(name)
                if one is not None and other is not None:
                    if (one.cell, other.cell) not in seen:
                        seen.add((one.cell, other.cell))
                        stack.append((prefix + other.name, one, other, depth + 1))
                elif other is not None:
                    self._whole(prefix + other.name, other, "added")
                elif one is not None:
                    self._whole(prefix + one.name, one, "removed")
        if len(self.found) >= MAX_CHANGES:
            self.problems.add("differences.registry", f"{self.shown}: more than {MAX_CHANGES} keys differ")
        return sorted(self.found, key=lambda change: change.path.casefold())

    def _compare_keys(self, path: str, old: Key, new: Key) -> None:
        values = self._values(path, old.values(), new.values())
        security = old.security_descriptor != new.security_descriptor
        written = old.last_written_filetime != new.last_written_filetime
        if not values and not security and not written:
            return
        noise = None
        if not security:
            noise = "last-written time only" if not values else _common(value.noise for value in values)
        self.found.append(
            KeyChange(
                "changed",
                self.shown,
                shown_path(self.name, path),
                values,
                old.last_written,
                new.last_written,
                security,
                False,
                noise,
            )
        )

    def _values(self, path: str, old: tuple[Value, ...], new: tuple[Value, ...]) -> tuple[ValueChange, ...]:
        if old == new:
            return ()
        before = {value.name.casefold(): value for value in old}
        after = {value.name.casefold(): value for value in new}
        found = []
        for name in sorted(before.keys() | after.keys()):
            one, other = before.get(name), after.get(name)
            if one is not None and other is not None:
                if (one.type, one.data) != (other.type, other.data):
                    found.append(self._value(path, "changed", one, other))
            else:
                found.append(self._value(path, "removed" if one is not None else "added", one, other))
        return tuple(found)

    def _value(self, path: str, kind: str, old: Value | None, new: Value | None) -> ValueChange:
        either = new or old
        assert either is not None
        secret = is_secret(self.name, path, either.name)
        return ValueChange(
            kind,
            HIDDEN if is_secret_name(self.name, path) else redact_text(either.name),
            either.type_name,
            None if old is None else HIDDEN if secret else shown(old),
            None if new is None else HIDDEN if secret else shown(new),
            value_noise(self.name, path, either.name),
        )

    def _whole(self, path: str, top: Key, kind: str) -> None:
        """A key with all below it that only one state has."""
        for below, key in top.hive.walk(top):
            if len(self.found) >= MAX_CHANGES:
                return
            where = f"{path}\\{below}" if below else path
            written = key.last_written
            values = tuple(
                self._value(where, kind, value if kind == "removed" else None, value if kind == "added" else None)
                for value in key.values()
            )
            self.found.append(
                KeyChange(
                    kind,
                    self.shown,
                    shown_path(self.name, where),
                    values,
                    written if kind == "removed" else None,
                    written if kind == "added" else None,
                    below=bool(below),
                )
            )


def _common(reasons: Iterable[str | None]) -> str | None:
    """The reason that all of them have, None where one has none."""
    told = list(reasons)
    return told[0] if told and all(told) else None


def shown(value: Value) -> str:
    """A value as people read it: text, a number in both bases, strings with ``|`` between, or bytes."""
    decoded = value.decoded
    if isinstance(decoded, str):
        text = decoded
    elif isinstance(decoded, int):
        text = f"{decoded} ({decoded:#x})"
    elif isinstance(decoded, list):
        text = " | ".join(decoded)
    else:
        text = decoded[: MAX_SHOWN // 3].hex(" ")
        return text if len(decoded) <= MAX_SHOWN // 3 else f"{text} ... ({len(decoded)} bytes)"
    text = redact_text(text)
    return text if len(text) <= MAX_SHOWN else f"{text[:MAX_SHOWN]}... ({len(text)} characters)"
