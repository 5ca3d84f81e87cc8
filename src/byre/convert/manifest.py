"""The manifest of a folder that holds a disk's states as a chain of differencing images: ``byre/chain/1``.

It is a file like any other from outside: every name in it must be a plain file name of its own folder.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from byre.convert.states import State, states_of
from byre.disks.disk import Disk
from byre.disks.formats import format_named
from byre.disks.layers import layers_of
from byre.disks.opening import open_disk
from byre.errors import CorruptImageError, MissingError, UsageError
from byre.storage.base import Storage
from byre.storage.local import open_file

SCHEMA = "byre/chain/1"
FILE_NAME = "manifest.json"
_MAX_BYTES = 16 << 20
_MAX_STATES = 64


@dataclass(frozen=True, slots=True)
class Entry:
    """One state: its file, and of a snapshot what qcow2 keeps with it. Sizes in bytes."""

    file: str
    id: str = ""
    name: str = ""
    created: str | None = None
    active: bool = False
    vm_state_file: str | None = None
    vm_state_size: int = 0
    vm_clock_ns: int | None = None
    icount: int | None = None

    def as_json(self) -> dict[str, object]:
        machine = None if self.vm_state_file is None else {"file": self.vm_state_file, "size": self.vm_state_size}
        return {
            "file": self.file,
            "active": self.active,
            "id": None if self.active else self.id,
            "name": None if self.active else self.name,
            "created": self.created,
            "vm_state": machine,
            "vm_clock_ns": self.vm_clock_ns,
            "icount": self.icount,
        }


@dataclass(frozen=True, slots=True)
class Manifest:
    """A chain in one folder, oldest state first, today's disk last."""

    format: str
    virtual_size: int
    states: tuple[Entry, ...]

    def encode(self) -> bytes:
        content = {
            "schema": SCHEMA,
            "format": self.format,
            "virtual_size": self.virtual_size,
            "states": [entry.as_json() for entry in self.states],
        }
        return json.dumps(content, indent=2).encode() + b"\n"


def is_manifest(path: str) -> bool:
    """Whether the name is that of a manifest: what is inside is looked at by ``read_manifest``."""
    return path.lower().endswith(".json")


def read_manifest(path: str | os.PathLike[str]) -> Manifest:
    """Raises CorruptImageError for anything but a manifest of this kind, MissingError, StorageError."""
    shown = os.fspath(path)
    with open_file(Path(path)) as storage:
        if storage.size > _MAX_BYTES:
            raise CorruptImageError("is too large for a manifest", path=shown, found=storage.size)
        data = storage.read(0, storage.size)
    try:
        content = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise CorruptImageError("is no manifest of a chain: not JSON", path=shown) from error
    if not isinstance(content, dict) or content.get("schema") != SCHEMA:
        raise CorruptImageError("is no manifest of a chain", path=shown, expected=f"schema {SCHEMA}")
    states = content.get("states")
    if not isinstance(states, list) or not 2 <= len(states) <= _MAX_STATES:
        raise CorruptImageError("the manifest needs at least two states", path=shown, expected="2 to 64 states")
    read = _Fields(shown)
    entries = tuple(_entry(read, state, newest=number == len(states) - 1) for number, state in enumerate(states))
    format = read.text(content, "format")
    try:
        format = format_named(format).name
    except UsageError as error:
        raise CorruptImageError("the manifest names a format that isn't one", path=shown, found=format) from error
    return Manifest(format, read.number(content, "virtual_size") or 0, entries)


@contextmanager
def open_chain(
    path: str | os.PathLike[str], *, force_share: bool = False
) -> Iterator[tuple[Disk, tuple[State, ...]]]:
    """The disk of today and all states of the chain that a manifest describes, oldest first.

    Raises CorruptImageError where the files are not the chain that it says, and what opening them raises.
    """
    manifest = read_manifest(path)
    folder = Path(os.path.realpath(path)).parent
    newest = folder / manifest.states[-1].file
    opened: list[Storage] = []
    with open_disk(newest, format=manifest.format, force_share=force_share) as disk:
        layers = layers_of(disk)[::-1]
        names = [None if layer.files[0].path is None else layer.files[0].path.name for layer in layers]
        stated = [entry.file for entry in manifest.states]
        if names != stated:
            raise CorruptImageError(
                "the files are not the chain that the manifest says",
                path=path,
                found=" <- ".join(str(name) for name in names),
                expected=" <- ".join(stated),
            )
        try:
            states = [
                _state(state, entry, folder, os.fspath(path), opened)
                for state, entry in zip(states_of(disk), manifest.states, strict=True)
            ]
            yield disk, tuple(states)
        finally:
            for storage in opened:
                storage.close()


def _state(layer: State, entry: Entry, folder: Path, manifest: str, opened: list[Storage]) -> State:
    state = State(
        layer.disk,
        entry.id,
        entry.name,
        entry.created,
        vm_clock_ns=entry.vm_clock_ns,
        icount=entry.icount,
    )
    if entry.vm_state_file is None:
        return state
    path = folder / entry.vm_state_file
    if not path.is_file():
        raise MissingError(f"the machine state of {entry.name!r} is missing", path=manifest, expected=path)
    storage = open_file(path)
    opened.append(storage)
    if storage.size != entry.vm_state_size:
        raise CorruptImageError(
            f"the machine state of {entry.name!r} has another size",
            path=path,
            found=storage.size,
            expected=entry.vm_state_size,
        )
    return replace(state, vm_state_size=storage.size, read_vm_state=storage.read)


class _Fields:
    """Reads fields of the JSON; every complaint names the field."""

    def __init__(self, path: str) -> None:
        self._path = path

    def wrong(self, name: str, found: object, expected: str) -> CorruptImageError:
        return CorruptImageError(
            f"the manifest's {name!r} is not right", path=self._path, found=repr(found)[:100], expected=expected
        )

    def text(self, content: dict[str, Any], name: str, *, most: int = 255) -> str:
        value = content.get(name)
        if not isinstance(value, str) or not 0 < len(value.encode("utf-8", "surrogatepass")) <= most:
            raise self.wrong(name, value, f"1 to {most} bytes of text")
        return value

    def number(self, content: dict[str, Any], name: str) -> int | None:
        value = content.get(name)
        if value is None:
            return None
        if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 1 << 63:
            raise self.wrong(name, value, "a number")
        return value

    def file(self, content: dict[str, Any], name: str) -> str:
        value = self.text(content, name)
        if value in (".", "..") or any(letter in value for letter in "/\\\0"):
            raise self.wrong(name, value, "the plain name of a file in the manifest's folder")
        return value


def _entry(read: _Fields, content: object, *, newest: bool) -> Entry:
    if not isinstance(content, dict):
        raise read.wrong("states", content, "objects")
    if content.get("active", False) is not newest:
        raise read.wrong("active", content.get("active"), "true for the last state and no other")
    file = read.file(content, "file")
    if newest:
        return Entry(file, active=True)
    machine = content.get("vm_state")
    if machine is not None and not isinstance(machine, dict):
        raise read.wrong("vm_state", machine, "an object or null")
    created = content.get("created")
    return Entry(
        file,
        id=read.text(content, "id", most=127),
        name=read.text(content, "name"),
        created=created if isinstance(created, str) else None,
        vm_state_file=None if machine is None else read.file(machine, "file"),
        vm_state_size=0 if machine is None else (read.number(machine, "size") or 0),
        vm_clock_ns=read.number(content, "vm_clock_ns"),
        icount=read.number(content, "icount"),
    )
