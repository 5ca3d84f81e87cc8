"""The proof of slim, tested: each thing that it claims is broken on purpose behind its back, and must be caught in
time: then nothing is written."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

import byre as package
import byre.lite.applying as applying
import byre.lite.slimming.guest as slimming_guest
from byre.cli.main import main
from byre.disks.scratch import ScratchDisk
from byre.extents import Kind
from byre.filesystems.ntfs.filesystem import NtfsFileSystem
from byre.filesystems.ntfs.records import REFERENCE_MASK
from byre.filesystems.opening import OpenVolume, open_volumes
from byre.lite.changes import Applied, Change, Content, MakeFolder, Overwrite, Put, Remove

CLEAN = f"{Path(package.__file__).parent / 'samples' / 'specimen.qcow2'}@clean"
KEPT = "/WINDOWS/system32/ntdll.dll"
SYSTEM = "/WINDOWS/system32/config/SYSTEM"
APPLY = applying.apply_changes
Spoil = Callable[[ScratchDisk], None]
pytestmark = pytest.mark.oracle


def _files(work: ScratchDisk) -> NtfsFileSystem:
    files = open_volumes(work)[0].filesystem
    assert isinstance(files, NtfsFileSystem)
    return files


def _record(work: ScratchDisk, path: str) -> int:
    """Where on the disk a file's MFT record lies."""
    files = _files(work)
    return files.mft.place(files.lookup(path).id & REFERENCE_MASK)


def _attribute(work: ScratchDisk, path: str, kind: int) -> int:
    """Where on the disk a resident attribute's value lies."""
    at = _record(work, path)
    record = work.read(at, 1024)
    position = struct.unpack_from("<H", record, 20)[0]
    while struct.unpack_from("<I", record, position)[0] != kind:
        position += struct.unpack_from("<I", record, position + 4)[0]
    return at + position + int(struct.unpack_from("<H", record, position + 20)[0])


def _flip(work: ScratchDisk, place: int) -> None:
    work.write(place, bytes([work.read(place, 1)[0] ^ 1]))


def _content(path: str, offset: int) -> Spoil:
    def spoil(work: ScratchDisk) -> None:
        files = _files(work)
        rows = files.extents(files.lookup(path))
        row = rows[(rows["start"] <= offset) & (rows["start"] + rows["length"] > offset)][0]
        assert row["kind"] == Kind.DATA
        _flip(work, int(row["disk"]) + offset - int(row["start"]))

    return spoil


def _standard(offset: int) -> Spoil:
    """A byte of $STANDARD_INFORMATION: times, attributes."""
    return lambda work: _flip(work, _attribute(work, KEPT, 0x10) + offset)


def _more(*changes: Change) -> Spoil:
    def spoil(work: ScratchDisk) -> None:
        APPLY(work, open_volumes(work)[0], changes)

    return spoil


def _same_length(work: ScratchDisk) -> None:
    files = _files(work)
    data = files.read(files.lookup("/boot.ini"))
    _more(Put("/boot.ini", Content.of(data[:-1] + b"!")))(work)


def _free_used_cluster(work: ScratchDisk) -> None:
    files = _files(work)
    bitmap = next(each for each in files.walk(system=True) if each.name == "$Bitmap")
    cluster = (int(files.extents(files.lookup(KEPT))["disk"][0]) - files.volume.start) // files.boot.cluster_size
    place = int(files.extents(bitmap)["disk"][0]) + cluster // 8
    work.write(place, bytes([work.read(place, 1)[0] & ~(1 << cluster % 8)]))


def _dirty(work: ScratchDisk) -> None:
    files = _files(work)
    volume = next(each for each in files.walk(system=True) if each.name == "$Volume")
    at = files.mft.place(volume.id & REFERENCE_MASK)
    record = work.read(at, 1024)
    position = struct.unpack_from("<H", record, 20)[0]
    while struct.unpack_from("<I", record, position)[0] != 0x70:
        position += struct.unpack_from("<I", record, position + 4)[0]
    flags = at + position + struct.unpack_from("<H", record, position + 20)[0] + 10
    work.write(flags, bytes([work.read(flags, 1)[0] | 1]))


def _rename_folder(work: ScratchDisk) -> None:
    """In its own record and in its folder's index, so that both tell the same. Its name mustn't lie across the end of
    a sector, where NTFS keeps other bytes."""
    old, new = (bytes([len(name)]) + b"\0" + name.encode("utf-16-le") for name in ("My Documents", "My Documentt"))
    found = 0
    for table in work.extents():
        for row in table[(table["kind"] != Kind.ZERO) & (table["kind"] != Kind.UNALLOCATED)]:
            data = work.read(int(row["start"]), int(row["length"]))
            for space in range(4):
                said = old[:1] + bytes([space]) + old[2:]
                at = data.find(said)
                while at >= 0:
                    work.write(int(row["start"]) + at, new[:1] + bytes([space]) + new[2:])
                    found += 1
                    at = data.find(said, at + 1)
    assert found >= 2


SPOILT: dict[str, Spoil] = {
    "a byte of a kept file": _content(KEPT, 600),
    "the last byte of a kept file": lambda work: _content(KEPT, _files(work).lookup(KEPT).size - 1)(work),
    "a byte of a hive that nothing changes": _content("/WINDOWS/system32/config/SOFTWARE", 6000),
    "a byte of a hive that the plan changes": _content(SYSTEM, 6000),
    "the same length with other bytes": _same_length,
    "the time of a kept file": _standard(8),
    "the attributes of a kept file": _standard(32),
    "an extra file": _more(Put("/WINDOWS/extra.txt", Content.of(b"extra"))),
    "an extra folder": _more(MakeFolder("/WINDOWS/extra")),
    "a file that is gone": _more(Remove("/WINDOWS/system32/shlwapi.dll")),
    "an empty folder that is gone": _more(Remove("/WINDOWS/Temp")),
    "another name of a folder": _rename_folder,
    "a kept file written over": _more(Put(KEPT, Content.of(b"MZ"))),
    "an MFT record": lambda work: work.write(_record(work, KEPT), b"BAAD"),
    "a cluster in use that is called free": _free_used_cluster,
    "the boot sector": lambda work: _flip(work, _files(work).volume.start + 0x100),
    "the boot code": lambda work: _flip(work, 0x20),
    "a sector before the partition": lambda work: _flip(work, 512 * 20),
    "the partition table": lambda work: _flip(work, 446 + 12),
    "the last sector of the disk": lambda work: _flip(work, work.size - 100),
    "the dirty flag": _dirty,
}


def _slim(tmp_path: Path, capsys: pytest.CaptureFixture[str], *more: str) -> tuple[int, dict[str, object]]:
    out = tmp_path / "out.qcow2"
    status = main(["slim", CLEAN, "--profile", "lite", "-o", str(out), "--json", *more])
    said = json.loads(capsys.readouterr().out)
    assert out.exists() == (status == 0)
    assert [each.name for each in tmp_path.iterdir() if each != out] == []
    return status, said


def _spoil_with(monkeypatch: pytest.MonkeyPatch, spoil: Spoil) -> None:
    def spoilt(work: ScratchDisk, volume: OpenVolume, changes: Sequence[Change], **options: object) -> Applied:
        applied = APPLY(work, volume, changes, **options)  # type: ignore[arg-type]
        spoil(work)
        return applied

    monkeypatch.setattr(applying, "apply_changes", spoilt)


def test_what_is_not_spoilt_is_proved(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    _spoil_with(monkeypatch, lambda work: None)
    assert _slim(tmp_path, capsys)[0] == 0


@pytest.mark.parametrize("what", SPOILT)
def test_each_thing_that_is_spoilt_is_caught(
    what: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    _spoil_with(monkeypatch, SPOILT[what])
    status, said = _slim(tmp_path, capsys)
    assert status in (65, 69), said
    assert said["error"] in ("corrupt", "unsupported") and said["what"]


def _without(kind: type[Change], changes: Sequence[Change]) -> list[Change]:
    """The plan without its first change of a kind."""
    left = next(each for each in changes if isinstance(each, kind))
    return [each for each in changes if each is not left]


@pytest.mark.parametrize("kind", [Remove, Overwrite])
def test_a_change_that_was_not_made_is_caught(
    kind: type[Change], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the writer says that it did: the plan counts."""

    for honest in (True, False):

        def lazy(work: ScratchDisk, volume: OpenVolume, changes: Sequence[Change], honest: bool = honest) -> Applied:
            applied = APPLY(work, volume, _without(kind, changes))
            removed = tuple(each.path for each in changes if isinstance(each, Remove))
            return applied if honest else replace(applied, removed=(*applied.removed, *removed))

        monkeypatch.setattr(applying, "apply_changes", lambda *each, lazy=lazy, advance=None: lazy(*each))
        status, said = _slim(tmp_path, capsys)
        assert status == 65 and said["error"] == "corrupt", said


def test_another_file_that_went_is_caught_though_the_writer_names_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def wrong(work: ScratchDisk, volume: OpenVolume, changes: Sequence[Change], advance: object = None) -> Applied:
        return APPLY(work, volume, [*changes, Remove("/Program Files/Instrument/instrument.ini")])

    monkeypatch.setattr(applying, "apply_changes", wrong)
    status, said = _slim(tmp_path, capsys)
    assert status == 65 and said["error"] == "corrupt", said


def test_a_plan_that_breaks_the_guest_is_caught_by_the_audit(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The plan would have been refused; with that out of the way the audit refuses the result."""
    plan = slimming_guest.plan_guest

    def careless(*arguments: object, **options: object) -> object:
        made = plan(*arguments, **options)  # type: ignore[arg-type]
        return replace(made, reasons=())

    monkeypatch.setattr(slimming_guest, "plan_guest", careless)
    status, said = _slim(tmp_path, capsys, "--drop", r"C:\WINDOWS\system32\comdlg32.dll")
    assert status == 69 and "audit would find" in str(said["what"]), said
