"""Registry logs applied, and a hibernated session discarded."""

from __future__ import annotations

from byre.errors import ByreError, MissingError
from byre.extents import Kind
from byre.filesystems.base import FileSystem
from byre.lite.mending.plan import Options, Patient, Plan, Refusal, Step, WriteSector
from byre.lite.registry_changes import replayed_changes
from byre.units import SECTOR

_HEADER = 4096
"""What Windows looks at to know whether a session lies there."""


def plan_hives(patient: Patient) -> Plan:
    """Each hive whose log holds what was never written into it, written whole; its logs go."""
    steps, refusals = [], []
    for path, result in replayed_changes(patient.files, patient.root):
        if isinstance(result, ByreError):
            remedy = "a hive of Windows' own repair folder or of a restore point"
            refusals.append(Refusal(path, f"its log can't be applied: {result.what}", remedy))
            continue
        for change in result:
            verb = "with its log applied" if change.path == path else "goes: what it held is in the hive"
            steps.append(Step(f"{change.path}: {verb}", change))
    return Plan(tuple(steps), tuple(refusals))


def plan_hibernation(patient: Patient) -> Plan:
    """The session of the system's volume; see ``plan_session``."""
    return plan_session(patient.files, patient.options)


def plan_session(files: FileSystem, options: Options, *, where: str = "") -> Plan:
    """The first bytes of hiberfil.sys zeroed, which is how Windows itself gives a session up. ``where``: said of the
    volume, for those besides the system's. A file that may hold one, which can't be told, counts as if it did."""
    if files.facts().hibernated is False:
        return Plan()
    if not options.discard_session:
        reason = "what was open in it would be lost"
        remedy = "start the guest and shut it down from inside; or --discard-session gives it up"
        return Plan((), (Refusal(f"the hibernated session{where}", reason, remedy),))
    try:
        extents = files.extents(files.lookup("/hiberfil.sys"))
    except MissingError:
        return Plan()
    first = extents[0] if len(extents) else None
    if first is None or first["kind"] != Kind.DATA or int(first["length"]) < _HEADER or int(first["disk"]) % SECTOR:
        reason = "the file's first bytes don't lie on the disk as they are"
        remedy = "start the guest and shut it down from inside"
        return Plan((), (Refusal(f"the hibernated session{where}", reason, remedy),))
    said = f"/hiberfil.sys{where}: its first 4096 bytes zeroed, the session is given up"
    return Plan((Step(said, WriteSector(int(first["disk"]), bytes(_HEADER))),))
