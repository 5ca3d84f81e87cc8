"""NTFS against what ntfs-3g wrote and read, pyfsntfs and The Sleuth Kit."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import byre
from builders.ntfs_volumes import Manifest, mkntfs, mounted
from byre.errors import MissingError, UnsupportedError, UsageError
from byre.extents import Kind
from byre.filesystems import Entry, FileSystem, open_filesystem
from oracles import run_tool

pytestmark = pytest.mark.oracle


def open_ntfs(image: Path) -> FileSystem:
    return open_filesystem(byre.open_disk(image, format="raw"))


def files(fs: FileSystem) -> dict[str, Entry]:
    return {entry.path: entry for entry in fs.walk() if not entry.is_dir}


def digest(pieces: Iterator[bytes]) -> str:
    total = hashlib.sha256()
    for piece in pieces:
        total.update(piece)
    return total.hexdigest()


@pytest.fixture(scope="module", params=["rich_ntfs", "rich_ntfs_small_clusters"])
def rich(request: pytest.FixtureRequest) -> Manifest:
    manifest: Manifest = request.getfixturevalue(request.param)
    return manifest


def test_every_file_that_ntfs_3g_shows_is_there_with_its_bytes(rich: Manifest) -> None:
    fs = open_ntfs(rich.image)
    assert {path: digest(fs.chunks(entry)) for path, entry in files(fs).items()} == rich.files
    assert not fs.problems


def test_whole_reads_agree_with_reads_in_pieces(rich: Manifest) -> None:
    fs = open_ntfs(rich.image)
    for path in (
        "/compressed/mixed.bin",
        "/fragments/left",
        "/WINDOWS/system32/ntoskrnl.exe",
        "/compressed/text.txt",
    ):
        entry = fs.lookup(path)
        whole = fs.read(entry)
        assert hashlib.sha256(whole).hexdigest() == rich.files[path]
        for offset, length in ((0, 1), (4095, 2), (65_535, 70_000), (entry.size - 3, 100)):
            assert fs.read(entry, offset=offset, length=length) == whole[offset : offset + length]


def test_streams_have_names_sizes_and_bytes(rich: Manifest) -> None:
    fs = open_ntfs(rich.image)
    entry = fs.lookup("/windows/SYSTEM32/HAL.DLL")
    assert {stream.name: stream.size for stream in entry.streams} == {"note": 14, "Long Stream Name": 70_000}
    for (_, name), wanted in rich.streams.items():
        assert hashlib.sha256(fs.read(entry, name.upper())).hexdigest() == wanted
    with pytest.raises(MissingError):
        fs.read(entry, "absent")


def test_extents_lead_to_the_same_bytes_on_the_disk(rich: Manifest) -> None:
    disk = byre.open_disk(rich.image, format="raw")
    fs = open_filesystem(disk)
    compared = 0
    for path, entry in files(fs).items():
        table = fs.extents(entry)
        assert int(table["length"].sum()) == entry.size
        if not len(table) or entry.size < 1024 or (table["kind"] == Kind.COMPRESSED).any():
            continue
        assert (np.cumsum(table["length"])[:-1] == table["start"][1:]).all()
        total = hashlib.sha256()
        for _, length, kind, where, _ in table.tolist():
            total.update(disk.read(where, length) if kind == Kind.DATA else bytes(length))
        assert total.hexdigest() == rich.files[path], path
        compared += 1
    assert compared > 300


def test_compressed_extents_count_what_is_stored(rich: Manifest) -> None:
    fs = open_ntfs(rich.image)
    entry = fs.lookup("/compressed/text.txt")
    table = fs.extents(entry, slack=True)
    assert (table["kind"] == Kind.COMPRESSED).any()
    assert int(table["stored"].sum()) == entry.allocated < entry.size


def test_a_sparse_file_has_holes(rich: Manifest) -> None:
    fs = open_ntfs(rich.image)
    entry = fs.lookup("/sparse.bin")
    table = fs.extents(entry)
    assert entry.size == 100 << 20
    assert entry.allocated == int(table["stored"].sum() + 4095) // 4096 * 4096 or entry.allocated < 1 << 18
    assert int(table["length"][table["kind"] == Kind.ZERO].sum()) > 99 << 20


def test_a_file_with_too_many_runs_for_one_record(rich: Manifest) -> None:
    fs = open_ntfs(rich.image)
    assert len(fs.extents(fs.lookup("/fragments/many runs"))) > 500


def test_names_links_and_targets(rich: Manifest) -> None:
    fs = open_ntfs(rich.image)
    assert fs.lookup("C:\\big directory\\LINK 7 " + "Y" * 100).id == fs.lookup("/LINKED").id
    assert fs.lookup("/linked").links == 61
    long = fs.lookup("/arathe~1.tex")
    assert (long.name, long.short_name) == ("A rather long name.text", "ARATHE~1.TEX")
    assert fs.lookup("/äöü SS Ñ".replace("SS", "ß")).name == "ÄÖÜ ß ñ"
    junction = fs.lookup("/junction")
    assert junction.reparse is not None
    assert (junction.reparse.kind, junction.reparse.target) == ("junction", "C:\\WINDOWS")
    assert fs.lookup("/").path == "/" and fs.lookup("\\").is_dir
    with pytest.raises(MissingError) as caught:
        fs.lookup("/WINDOWS/nothing")
    assert caught.value.found == "'nothing' isn't in '/WINDOWS'"
    with pytest.raises(UsageError):
        fs.lookup("/WINDOWS/../x")
    with pytest.raises(UsageError):
        fs.listdir("/linked")


def test_deleted_files_are_seen_on_request_only(rich: Manifest) -> None:
    fs = open_ntfs(rich.image)
    gone = {entry.path: entry for entry in fs.walk(deleted=True) if entry.deleted}
    assert fs.read(gone["/WINDOWS/deleted file.bin"]) == b"gone but seen" * 100
    assert fs.read(gone["/gone/inner.txt"]) == b"inner"
    assert not any(entry.deleted for entry in fs.walk())


def test_system_files_on_request_only(rich: Manifest) -> None:
    fs = open_ntfs(rich.image)
    assert not any(entry.path.startswith("/$") for entry in fs.walk())
    shown = {entry.path for entry in fs.walk(system=True)}
    assert {"/$MFT", "/$Bitmap", "/$Extend/$ObjId"} <= shown
    assert fs.lookup("/$MFT").size > 1 << 20


def test_facts_agree_with_ntfsinfo(rich: Manifest) -> None:
    facts = open_ntfs(rich.image).facts()
    shown = run_tool("ntfsinfo", "-m", "-f", rich.image)

    def field(label: str) -> str:
        match = re.search(rf"{label}:\s*(\S.*)", shown)
        assert match, label
        return match[1].strip()

    assert facts.label == field("Volume Name") == "Rich Ünïcode"
    assert facts.version == field("Volume Version") == "3.1"
    assert facts.cluster_size == int(field("Cluster Size"))
    assert facts.free == int(field("Free Clusters").split()[0]) * facts.cluster_size
    assert (facts.dirty, facts.hibernated, facts.log) == (False, False, "empty")


def test_free_extents_and_files_cover_the_volume_once(rich: Manifest) -> None:
    fs = open_ntfs(rich.image)
    facts = fs.facts()
    cluster = facts.cluster_size
    owners = np.zeros(facts.size // cluster, dtype=np.uint8)
    for table in fs.free_extents():
        for start, length in table.tolist():
            owners[start // cluster : (start + length) // cluster] += 1
    seen = set()
    for entry in files(fs).values():
        if entry.id in seen:
            continue
        seen.add(entry.id)
        for name in ("", *(stream.name for stream in entry.streams)):
            for row in fs.extents(entry, name, slack=True).tolist():
                if row[3] >= 0 and row[4] >= cluster:
                    owners[row[3] // cluster : (row[3] + row[4]) // cluster] += 1
    assert owners.max() == 1
    assert np.count_nonzero(owners == 0) * cluster < 12 << 20


def test_check_finds_nothing_wrong_in_a_sound_volume(rich: Manifest) -> None:
    report = open_ntfs(rich.image).check()
    assert (report.corruptions, report.leaks, report.problems) == (0, 0, ())


def test_pyfsntfs_sees_the_same_files_sizes_and_times(rich: Manifest) -> None:
    pyfsntfs = pytest.importorskip("pyfsntfs")
    volume = pyfsntfs.volume()
    volume.open(str(rich.image))
    theirs: dict[str, tuple[int, int]] = {}

    def visit(folder: object, path: str) -> None:
        for number in range(folder.number_of_sub_file_entries):  # type: ignore[attr-defined]
            child = folder.get_sub_file_entry(number)  # type: ignore[attr-defined]
            name = f"{path}/{child.name}"
            if not path and child.name.startswith("$"):
                continue
            stamp = (child.get_modification_time_as_integer() - 116444736000000000) * 100
            theirs[name] = (child.size or 0, stamp)
            if child.has_directory_entries_index() and not child.is_symbolic_link():
                visit(child, name)

    visit(volume.get_root_directory(), "")
    ours = {
        entry.path: (entry.size, entry.modified) for entry in open_ntfs(rich.image).walk() if entry.reparse is None
    }
    theirs = {path: row for path, row in theirs.items() if path in ours or not path.startswith("/junction")}
    assert {path: row[1] for path, row in theirs.items()} == {path: row[1] for path, row in ours.items()}
    assert all(theirs[path][0] == size for path, (size, _) in ours.items() if path in rich.files)


def test_twenty_thousand_files_are_all_listed(many_ntfs: Manifest) -> None:
    fs = open_ntfs(many_ntfs.image)
    found = list(fs.walk())
    assert sum(not entry.is_dir for entry in found) == 20_000
    assert fs.read(fs.lookup("/FOLDER 123/File Number 12345.DAT")) == b"12345"
    assert len(fs.listdir("/folder 7")) == 100
    listed = run_tool("fls", "-r", "-p", "-u", "-F", many_ntfs.image)
    assert sum("file number" in line for line in listed.splitlines()) == 20_000


def test_a_file_with_no_start_is_no_directory_loop(many_ntfs: Manifest) -> None:
    fs = open_ntfs(many_ntfs.image)
    assert len({entry.path for entry in fs.walk()}) == len(list(fs.walk()))


def test_hibernated_dirty_and_encrypted(tmp_path: Path) -> None:
    image = mkntfs(tmp_path / "hibernated.img", 8 << 20)
    with mounted(image) as root:
        (root / "hiberfil.sys").write_bytes(b"hibr" + bytes(9000))
        (root / "near full.bin").write_bytes(bytes(2 << 20))
    assert open_ntfs(image).facts().hibernated is True
    with mounted(image, "remove_hiberfile") as root:
        (root / "hiberfil.sys").write_bytes(b"wake" + bytes(9000))
    fs = open_ntfs(image)
    assert fs.facts().hibernated is False
    data = bytearray(image.read_bytes())
    offset = data.index(b"\x03\x01\x00\x00", data.index(b"FILE", data.index("$Volume".encode("utf-16-le")) - 0x200))
    data[offset + 2] |= 1
    image.write_bytes(data)
    assert open_ntfs(image).facts().dirty is True
    with pytest.raises(UnsupportedError):
        data[3:11] = b"ReFS\0\0\0\0"
        image.write_bytes(data)
        open_ntfs(image)
