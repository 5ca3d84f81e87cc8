"""A driver's files: whether they are there, where they are to be had, and whether this guest's kernel has what they
import. The closure decides, with what would be put in place as if it lay there already."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from byre.errors import ByreError
from byre.lite.mending.plan import Patient
from byre.windows.closure import Resolver
from byre.windows.guest_modules import GuestModules, loader_view
from byre.windows.pe import parse_pe

MAX_FILES = 8
"""A miniport brings its port driver and that one's library along."""
_MACHINES = {"x86": 0x14C, "x64": 0x8664}


@dataclass(frozen=True, slots=True)
class Placed:
    """A file that would be put in place, and where it is from."""

    name: str
    path: str
    data: bytes
    where: str


class _Staged(GuestModules):
    """The guest's modules with files that aren't there yet."""

    def __init__(self, patient: Patient, staged: Mapping[str, Placed]) -> None:
        super().__init__(patient.files, patient.root)
        self.staged = staged

    def folder(self, path: str) -> Mapping[str, str]:
        more = {
            each.name.lower(): each.path
            for each in self.staged.values()
            if each.path.rpartition("/")[0].lower() == path.lower()
        }
        return {**super().folder(path), **more}

    def read(self, path: str) -> bytes:
        own = self.staged.get(path.lower())
        return own.data if own is not None else super().read(path)


def place(
    patient: Patient, names: tuple[str, ...], own: str | None, staged: Mapping[str, Placed], *, fresh: bool
) -> tuple[Placed, ...] | str:
    """What has to be put in place for a driver, the first of ``names``, or why it can't be. ``own`` is where its
    service says that it lies. ``fresh``: the owner's file goes over one that is there with other bytes."""
    folder = f"{patient.root}/system32/drivers"
    found: dict[str, Placed] = {}
    missing: list[str] = []
    for number, name in enumerate(names):
        path = own if own is not None and not number else f"{folder}/{name}"
        if path.lower() in staged or (_size(patient, path) and not (fresh and not number)):
            continue
        taken = _take(patient, name, path)
        if isinstance(taken, str):
            missing.append(taken)
        elif not (_size(patient, path) and patient.files.read(patient.files.lookup(path)) == taken.data):
            found[path.lower()] = taken
    if missing:
        return "; ".join(missing)
    if not found:
        return ()
    return _completed(patient, own or f"{folder}/{names[0]}", folder, found, staged)


def _completed(
    patient: Patient, main: str, folder: str, found: dict[str, Placed], staged: Mapping[str, Placed]
) -> tuple[Placed, ...] | str:
    """The files with those that they import and that are to be had, or what this guest hasn't."""
    view = loader_view(patient.files, patient.root)
    for _ in range(MAX_FILES):
        resolver = Resolver(_Staged(patient, {**staged, **found}), view)
        starts = dict.fromkeys((main, *(each.path for each in found.values())))
        lacking = [pair for start in starts for pair in resolver.closure(start).missing]
        if not lacking:
            return tuple(found.values())
        absent = [need.dll for _, need in lacking if need.path is None]
        more = {name: _take(patient, name.lower(), f"{folder}/{name.lower()}") for name in dict.fromkeys(absent)}
        taken = [each for each in more.values() if isinstance(each, Placed) and each.path.lower() not in found]
        if not taken:
            break
        found |= {each.path.lower(): each for each in taken}
    node, need = lacking[0]
    name = node.path.rpartition("/")[2]
    return f"{name} needs {need.dll}, which here {need.reason}: it is for another Windows"


def _take(patient: Patient, name: str, path: str) -> Placed | str:
    taken = patient.source.find(name)
    if taken is None:
        return f"{name} isn't there, and neither the guest's own sources nor --drivers have it"
    data, where = taken
    try:
        machine = parse_pe(data, path=where).headers.machine
    except ByreError as error:
        return f"{name} from {where} is no program: {error.what}"
    guest = patient.facts.guest
    wanted = _MACHINES.get((guest.architecture.value if guest is not None else None) or "x86", 0x14C)
    if machine != wanted:
        return f"{name} from {where} is for another processor ({machine:#06x})"
    return Placed(name, path, data, where)


def _size(patient: Patient, path: str) -> int:
    try:
        entry = patient.files.lookup(path)
    except ByreError:
        return 0
    return 0 if entry.is_dir else entry.size
