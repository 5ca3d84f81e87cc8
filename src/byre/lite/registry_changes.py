"""Edits of the registry of an installed system, as changes of its hive files."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import replace

from byre.errors import ByreError, CorruptImageError, MissingError, UsageError
from byre.filesystems.base import FileSystem
from byre.lite.changes import Change, Content, Overwrite, Put, Remove
from byre.lite.guards import refuse_edit, refuse_links
from byre.lite.hive_editor import DeleteKey, Edit, edited
from byre.windows.reg_paths import Mount, Registry, find_key, split_key
from byre.windows.registry.layout import parse_base_block

_EPOCH_AS_FILETIME = 116_444_736_000_000_000
"""1970 in units of 100 ns since 1601."""


def hive_changes(files: FileSystem, root: str, edits: Iterable[Edit], *, image: str) -> list[Change]:
    r"""The edits, whose keys begin with ``HKLM\`` or ``HKU\``, as whole hives: overwritten in place where the size
    stays, else put anew. A hive's own logs are removed where it was dirty: what they held is in it by then.

    Raises MissingError for what isn't there, UnsupportedError for passwords and activation, CorruptImageError for a
    damaged hive.
    """
    registry = Registry(files, root)
    places = _Places(registry)
    by_mount: dict[Mount, list[Edit]] = {}
    for edit in edits:
        mount, key = places.find(edit.key)
        if isinstance(edit, DeleteKey) and not key:
            raise UsageError("a whole hive isn't deleted", path=image, found=edit.key)
        placed = replace(edit, key=key)
        refuse_edit(mount.kind, placed, image=image)
        if mount not in by_mount:
            refuse_links(files, mount.path, root, image=image)
        by_mount.setdefault(mount, []).append(placed)
    changes: list[Change] = []
    for mount, own in by_mount.items():
        changes += _changes_of(registry, mount, own)
    return changes


class _Places:
    """Where typed paths lie. Mutable: it keeps what it has found, since an import names thousands."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._mounts: dict[tuple[str, str], tuple[Mount, str | None]] = {}

    def find(self, path: str) -> tuple[Mount, str]:
        """The hive that a path lies in, and the path in it; CurrentControlSet becomes the set of the next boot."""
        root, names = split_key(path)
        if root == "HKCR":
            root, names = "HKLM", ["SOFTWARE", "Classes", *names]
        top = (root, names[0].lower() if names else "")
        if top not in self._mounts:
            located = self._registry.locate("\\".join([root, *names[:1]]))
            mount = next(each for each in self._registry.mounts() if each.path == located.hive.path)
            self._mounts[top] = (mount, None)
        mount, current = self._mounts[top]
        rest = names[1:]
        if mount.kind == "SYSTEM" and rest and rest[0].lower() == "currentcontrolset":
            if current is None:
                hive = self._registry.hive(mount).value
                assert hive is not None  # it was located
                current = find_key(hive, rest[:1], system=True)[1]
                self._mounts[top] = (mount, current)
            rest = [*current.split("\\"), *rest[1:]]
        return mount, "\\".join(rest)


def _changes_of(registry: Registry, mount: Mount, edits: list[Edit]) -> list[Change]:
    fact = registry.hive(mount)
    if fact.value is None:
        raise MissingError(f"has no hive {mount.path}", path=mount.shown, found=fact.reason)
    hive = fact.value
    entry = registry.files.lookup(mount.path)
    base_block = registry.files.read(entry, length=4096)
    now = _EPOCH_AS_FILETIME + time.time_ns() // 100
    data = edited(hive, base_block, edits, written=now)
    changes: list[Change] = []
    if hive.replayed is not None:
        for suffix in (".LOG", ".LOG1", ".LOG2"):
            try:
                changes.append(Remove(registry.files.lookup(mount.path + suffix).path))
            except MissingError:
                continue
    same = len(data) == entry.size
    changes.append(Overwrite(entry.path, data) if same else Put(entry.path, Content.of(data)))
    return changes


def replayed_changes(files: FileSystem, root: str) -> list[tuple[str, list[Change] | ByreError]]:
    """(path, changes) of every hive that its log completes: the whole hive with the log applied, or why it can't be.
    Nothing but the guest's own log is applied, so that hives of accounts are written as well."""
    registry = Registry(files, root)
    found: list[tuple[str, list[Change] | ByreError]] = []
    for mount in registry.mounts():
        fact = registry.hive(mount)
        if fact.value is None or fact.value.replayed is None:
            continue
        try:
            entry = files.lookup(mount.path)
            if not parse_base_block(files.read(entry, length=4096), path=mount.path).checksum_valid:
                raise CorruptImageError("the hive's first block is damaged: only its log has it", path=mount.path)
            found.append((entry.path, _changes_of(registry, mount, [])))
        except ByreError as error:
            found.append((mount.path, error))
    return found
