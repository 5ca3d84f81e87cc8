"""Mending what the loader reads from the root: NTLDR, NTDETECT.COM and boot.ini. Pure but for what sources give."""

from __future__ import annotations

import re

from byre.audit.complete import has_scsi_driver
from byre.errors import ByreError
from byre.filesystems.base import COMPRESSED, SPARSE
from byre.lite.changes import Content, Put, Remove
from byre.lite.mending.plan import Patient, Plan, Refusal, Step
from byre.windows.boot_ini import BootIni, arc_number, other_disk, parse_boot_ini

MIN_LOADER = 16 << 10
"""NTLDR has 230 KB and more, NTDETECT.COM 34 KB and more: what is shorter is none."""
MAX_LOADER = 448 << 10
"""What a boot sector has room for below the BIOS's memory."""


def plan(patient: Patient) -> Plan:
    """Loader files from the guest's own sources, boot.ini's path from where the system lies."""
    if patient.facts.kind != "nt5":
        return Plan()
    return _loader(patient) + _boot_ini(patient)


def _loader(patient: Patient) -> Plan:
    steps, refusals = [], []
    for path in ("/NTLDR", "/NTDETECT.COM"):
        file = patient.facts.loader.get(path.lower())
        if file is None or file.state == "unread":
            continue
        if file.state == "present" and file.size:
            steps += _plain(patient, path)
            continue
        name = path[1:]
        found = patient.source.find(name.lower())
        if found is None or len(found[0]) < MIN_LOADER:
            reason = "it is missing, and neither the guest's own sources nor --drivers have it"
            remedy = "--drivers DIR with the I386 of media of the same Windows, or its ServicePackFiles"
            refusals.append(Refusal(path, reason, remedy))
        else:
            steps.append(Step(f"{path}, from {found[1]}", Put(path, Content.of(found[0])), loader=True))
    return Plan(tuple(steps), tuple(refusals))


def _plain(patient: Patient, path: str) -> list[Step]:
    """A compressed NTLDR written again without compression: no boot sector reads it otherwise, whoever's it is."""
    try:
        entry = patient.loader.lookup(path)
    except ByreError:
        return []
    if path != "/NTLDR" or not entry.attributes & (COMPRESSED | SPARSE) or entry.size > MAX_LOADER:
        return []
    content = Content.of(patient.loader.read(entry))
    said = f"{path}: not compressed any more, since no boot sector reads it then ('NTLDR is compressed')"
    return [Step(said, Remove(path), loader=True), Step(said, Put(path, content), loader=True)]


def _boot_ini(patient: Patient) -> Plan:
    guest, file = patient.facts.guest, patient.facts.loader.get("/boot.ini")
    if guest is None or file is None or file.state == "unread":
        return Plan()
    number = arc_number(patient.facts.table, guest.volume)
    if number is None:
        return Plan()
    folder = guest.root.strip("/").replace("/", "\\")
    arc = f"multi(0)disk(0)rdisk(0)partition({number})\\{folder}"
    if file.state == "missing":
        text = new_boot_ini(arc, guest.product.value or "Windows")
        return Plan((Step(f"/boot.ini: new, for {arc}", Put("/boot.ini", Content.of(text)), loader=True),))
    ini = guest.boot_ini.value
    if ini is None:
        return Plan()
    data = patient.loader.read(patient.loader.lookup("/boot.ini"), length=1 << 20)
    arc_path = ini.chosen.arc if ini.chosen is not None else None
    away = arc_path is not None and other_disk(
        arc_path, patient.facts.table.id, scsi_driver=has_scsi_driver(patient.facts)
    )
    mended = mended_boot_ini(data, ini, number, folder, other=bool(away))
    if mended is None:
        text = new_boot_ini(arc, guest.product.value or "Windows")
        said = f"/boot.ini: it names no system; new, for {arc}"
        return Plan((Step(said, Put("/boot.ini", Content.of(text)), loader=True),))
    if mended == data:
        return Plan()
    chosen = parse_boot_ini(mended).chosen
    said = f"/boot.ini: {chosen.path if chosen is not None else arc}"
    return Plan((Step(said, Put("/boot.ini", Content.of(mended)), loader=True),))


def mended_boot_ini(data: bytes, ini: BootIni, number: int, folder: str, *, other: bool = False) -> bytes | None:
    """boot.ini whose default entry leads to the system; None where it has no entry. Only that path changes, wherever
    it stands: titles and switches stay. ``other``: it names another disk, and shall name the first."""
    chosen = ini.chosen
    if chosen is None:
        return None
    arc = chosen.arc
    there = arc is not None and arc.partition == number and arc.folder.strip("\\").lower() == folder.lower()
    if arc is None or (there and not other):
        return data
    old = re.compile(re.escape(chosen.path.encode("cp1252", "replace")) + rb"(?![^=\r\n\s])", re.IGNORECASE)
    kept = "multi(0)disk(0)rdisk(0)" if other else chosen.path[: chosen.path.lower().index("partition(")]
    new = f"{kept}partition({number})\\{folder}".encode("cp1252", "replace")
    return old.sub(lambda _: new, data)


def new_boot_ini(arc: str, title: str) -> bytes:
    plain = re.sub(r"[^ -!#-~]", "", title) or "Windows"
    rows = ("[boot loader]", "timeout=30", f"default={arc}", "[operating systems]", f'{arc}="{plain}" /fastdetect')
    return "".join(f"{row}\r\n" for row in rows).encode("cp1252", "replace")
