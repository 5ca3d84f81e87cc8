"""NTFS against what ntfs-3g wrote and read, pyfsntfs and The Sleuth Kit."""

from __future__ import annotations

import dataclasses
import hashlib
import random
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import pytest

import byre
from builders.memory_disks import memory_disk
from builders.ntfs_volumes import Manifest, mkntfs, mounted
from builders.opened import kept_open
from byre.errors import CorruptImageError, MissingError, UsageError
from byre.extents import Kind
from byre.filesystems import Detected, Entry, FileSystem, VolumeFacts, open_filesystem
from byre.filesystems.base import Name
from byre.filesystems.ntfs import NtfsFileSystem
from byre.filesystems.ntfs import filesystem as ntfs_filesystem
from byre.filesystems.ntfs.logfile import parse_log
from byre.filesystems.ntfs.lznt1 import decompress
from byre.filesystems.ntfs.runs import decode_runs
from oracles import run_tool

pytestmark = pytest.mark.oracle


def open_ntfs(image: Path) -> FileSystem:
    return open_filesystem(kept_open(byre.open_disk(image, format="raw")))


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
    disk = kept_open(byre.open_disk(rich.image, format="raw"))
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


def test_the_runs_of_all_files_at_once_are_those_of_each_file(rich: Manifest) -> None:
    fs = open_ntfs(rich.image)
    assert isinstance(fs, NtfsFileSystem)
    cluster = fs.boot.cluster_size
    together: dict[int, list[tuple[int, int, int]]] = {}
    for table in fs.owned_runs():
        for record, kind, named, vcn, lcn, clusters in table.tolist():
            if kind == 0x80 and not named:
                together.setdefault(record, []).append((vcn, lcn, clusters))
    compared = 0
    for entry in files(fs).values():
        stream = fs.stream(entry)
        wanted = [run for run in stream.runs if run[1] >= 0]
        assert sorted(together.get(entry.id & 0xFFFFFFFFFFFF, [])) == wanted, entry.path
        assert sum(run[2] for run in wanted) * cluster == entry.allocated
        compared += bool(wanted)
    assert compared > 300


def test_check_finds_clusters_that_two_files_claim(rich_ntfs: Manifest) -> None:
    data = bytearray(rich_ntfs.image.read_bytes())
    fs = open_filesystem(memory_disk(data))
    assert isinstance(fs, NtfsFileSystem)
    victim, thief = fs.lookup("/WINDOWS/system32/ntoskrnl.exe"), fs.lookup("/WINDOWS/system32/4096")
    [(_, lcn, _)] = fs.stream(thief).runs
    target = fs.stream(victim).runs[0][1]
    start = fs.mft.place(thief.id & 0xFFFFFFFF)
    packed = bytes([0x21, 1]) + lcn.to_bytes(2, "little")
    at = data.index(packed, start, start + 1024)
    data[at + 2 : at + 4] = target.to_bytes(2, "little")
    codes = {problem.code for problem in open_filesystem(memory_disk(data)).check().problems}
    assert codes == {"ntfs.cross-linked", "ntfs.bitmap-lost"}


def test_check_finds_nothing_wrong_in_a_sound_volume(rich: Manifest) -> None:
    report = open_ntfs(rich.image).check()
    assert (report.corruptions, report.leaks, report.problems) == (0, 0, ())


def test_check_finds_names_that_only_the_index_or_only_the_mft_has(rich_ntfs: Manifest) -> None:
    data = bytearray(rich_ntfs.image.read_bytes())
    fs = open_filesystem(memory_disk(data))
    assert isinstance(fs, NtfsFileSystem)
    entry = fs.lookup("/WINDOWS/system32/hal.dll")
    start = fs.mft.place(entry.id & 0xFFFFFFFF)
    name = "hal.dll".encode("utf-16-le")
    at = data.index(name, start, start + 1024)
    data[at : at + 2] = b"H\0"
    damaged = open_filesystem(memory_disk(data))
    told = {problem.code: problem.message for problem in damaged.check().problems}
    assert set(told) == {"ntfs.index-lacks", "ntfs.index-extra"}
    assert "'Hal.dll'" in told["ntfs.index-lacks"] and "'hal.dll'" in told["ntfs.index-extra"]


def test_check_reports_a_torn_index_block_and_nothing_that_follows_from_it(rich_ntfs: Manifest) -> None:
    data = bytearray(rich_ntfs.image.read_bytes())
    fs = open_filesystem(memory_disk(data))
    assert isinstance(fs, NtfsFileSystem)
    folder = fs.lookup("/WINDOWS/system32")
    block = next(each for each in fs.attributes(folder.id & 0xFFFFFFFF) if each.type == 0xA0)
    lcn = decode_runs(block.value, 0, fs.boot.clusters)[0][1]
    data[lcn * fs.boot.cluster_size + 510] ^= 0xFF
    report = open_filesystem(memory_disk(data)).check()
    assert [problem.code for problem in report.problems] == ["ntfs.index"]
    assert f"record {folder.id & 0xFFFFFFFF} " in report.problems[0].message


@pytest.mark.parametrize("seed", range(12))
def test_check_of_random_damage_to_indexes_ends_with_problems_only(rich_ntfs: Manifest, seed: int) -> None:
    source = random.Random(seed)
    data = bytearray(rich_ntfs.image.read_bytes())
    blocks = [at for at in range(0, len(data), 4096) if data[at : at + 4] == b"INDX"]
    for at in source.sample(blocks, min(len(blocks), 8)):
        for _ in range(source.randrange(1, 12)):
            data[at + source.randrange(24, 4096)] = source.randrange(256)
    open_filesystem(memory_disk(data)).check()


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
            if child.has_directory_entries_index():
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


def facts_of(image: Path) -> VolumeFacts:
    with byre.open_disk(image, format="raw") as disk:
        return open_filesystem(disk).facts()


def test_hibernated_and_resumed(tmp_path: Path) -> None:
    image = mkntfs(tmp_path / "hibernated.img", 8 << 20)
    with mounted(image) as root:
        (root / "hiberfil.sys").write_bytes(b"hibr" + bytes(9000))
    assert facts_of(image).hibernated is True
    with mounted(image, "remove_hiberfile") as root:
        (root / "hiberfil.sys").write_bytes(b"wake" + bytes(9000))
    assert facts_of(image).hibernated is False


def test_a_dirty_volume_says_so(tmp_path: Path) -> None:
    image = mkntfs(tmp_path / "dirty.img", 8 << 20)
    data = bytearray(image.read_bytes())
    name = data.index("$Volume".encode("utf-16-le"))
    # The resident value of $VOLUME_INFORMATION: 8 bytes reserved, version 3.1, flags.
    version = data.index(b"\0" * 8 + b"\x03\x01\0\0", name)
    assert facts_of(image).dirty is False
    data[version + 10] |= 1
    image.write_bytes(data)
    assert facts_of(image).dirty is True


def test_a_full_volume(tmp_path: Path) -> None:
    image = mkntfs(tmp_path / "full.img", 4 << 20)
    wanted = {}
    with mounted(image) as root:
        for number in range(3000):
            data = bytes([number % 256]) * 3000
            try:
                (root / f"filling {number}").write_bytes(data)
            except OSError:
                break
            wanted[f"/filling {number}"] = data
    with byre.open_disk(image, format="raw") as disk:
        fs = open_filesystem(disk)
        found = {entry.path: fs.read(entry) for entry in fs.walk() if entry.path in wanted}
        assert found == wanted and len(wanted) > 100
        assert (fs.facts().free or 0) < 64 << 10
        assert fs.check().problems == ()


def test_a_file_of_8_tib_costs_nothing_until_it_is_read(tmp_path: Path) -> None:
    image = mkntfs(tmp_path / "huge.img", 8 << 20)
    with mounted(image) as root, (root / "huge").open("wb") as file:
        file.write(b"head")
        file.seek((8 << 40) - 4)
        file.write(b"tail")
    with byre.open_disk(image, format="raw") as disk:
        fs = open_filesystem(disk)
        entry = fs.lookup("/huge")
        assert entry.size == 8 << 40 and entry.allocated < 1 << 20
        assert len(fs.extents(entry)) < 10
        assert fs.read(entry, offset=entry.size - 6) == b"\0\0tail"
        with pytest.raises(UsageError):
            fs.read(entry)


def test_a_directory_that_is_its_own_ancestor_is_told_and_the_walk_ends(rich_ntfs: Manifest) -> None:
    data = bytearray(rich_ntfs.image.read_bytes())
    fs = open_filesystem(memory_disk(data))
    assert isinstance(fs, NtfsFileSystem)
    top, below = fs.lookup("/level 0"), fs.lookup("/level 0/level 1/level 2/level 3")
    start = fs.mft.place(top.id & 0xFFFFFFFF)
    at = data.index((5 | 5 << 48).to_bytes(8, "little"), start, start + 1024)
    data[at : at + 8] = below.id.to_bytes(8, "little")
    fs = open_filesystem(memory_disk(data))
    paths = [entry.path for entry in fs.walk()]
    assert "/level 0" not in paths and "ntfs.unreachable" in fs.problems.codes
    assert any(path.startswith("/$OrphanFiles/") and path.endswith("/bottom") for path in paths)


def _as_names(entries: Iterable[Entry]) -> list[Name]:
    return [Name(each.path, each.allocated, each.is_dir, each.reparse is not None, each.id) for each in entries]


def test_names_alone_are_those_of_the_walk(rich: Manifest) -> None:
    fs = open_ntfs(rich.image)
    found = list(fs.walk_names())
    assert found == _as_names(fs.walk())
    assert {each.is_folder for each in found} == {True, False} and any(each.is_link for each in found)


def test_names_too_many_to_keep_are_walked_one_by_one(rich: Manifest, monkeypatch: pytest.MonkeyPatch) -> None:
    fs = open_ntfs(rich.image)
    assert isinstance(fs, NtfsFileSystem)
    monkeypatch.setattr(ntfs_filesystem, "MAX_KEPT_NAMES", 10)
    assert next(fs.walk_names()) == _as_names(fs.walk())[0]
    assert list(fs.walk_names()) == _as_names(fs.walk())
    assert "_names" not in vars(fs)


def test_a_file_whose_directory_is_gone_is_an_orphan(rich_ntfs: Manifest) -> None:
    data = bytearray(rich_ntfs.image.read_bytes())
    fs = open_filesystem(memory_disk(data))
    assert isinstance(fs, NtfsFileSystem)
    start = fs.mft.place(fs.lookup("/UPPER.TXT").id & 0xFFFFFFFF)
    at = data.index((5 | 5 << 48).to_bytes(8, "little"), start, start + 1024)
    data[at + 6] = 99
    fs = open_filesystem(memory_disk(data))
    found = {entry.path: entry for entry in fs.walk()}
    assert list(fs.walk_names()) == _as_names(fs.walk())
    assert fs.read(found["/$OrphanFiles/UPPER.TXT"]) == b"UPPER.TXT"
    assert fs.problems.codes == ("ntfs.orphan",)


def test_the_backup_boot_sector_and_the_mirror_are_used_and_it_is_said(rich_ntfs: Manifest) -> None:
    data = bytearray(rich_ntfs.image.read_bytes())
    record = int.from_bytes(data[0x30:0x38], "little") * 4096
    data[0x0D] = 3
    data[record : record + 4] = b"BAAD"
    fs = open_filesystem(memory_disk(data), Detected("ntfs", "NTFS"))
    assert {problem.code for problem in fs.problems} == {"ntfs.boot-sector", "ntfs.mft-record"}
    assert fs.lookup("/WINDOWS/system32/hal.dll").size == 81_280
    codes = {problem.code for problem in fs.check().problems}
    assert {"ntfs.mirror", "ntfs.bad-record"} <= codes


def test_a_torn_record_is_reported_and_the_rest_goes_on(rich_ntfs: Manifest) -> None:
    data = bytearray(rich_ntfs.image.read_bytes())
    fs = open_filesystem(memory_disk(data))
    where = fs.mft.place(fs.lookup("/linked").id & 0xFFFFFFFF)  # type: ignore[attr-defined]
    data[where + 510] ^= 0xFF
    fs = open_filesystem(memory_disk(data))
    paths = {entry.path for entry in fs.walk()}
    assert "/linked" not in paths and len(paths) > 1900
    [problem] = fs.problems
    assert (problem.code, problem.offset) == ("ntfs.fixup", where)


def test_lznt1_fills_what_is_short_and_refuses_nonsense() -> None:
    assert decompress(b"\x03\xb0\x00abc", 4096)[:3] == b"abc"
    # 'a', then a copy of 4095 bytes from one byte back: the whole chunk.
    assert decompress(b"\x03\xb0\x02a\xfc\x0f", 4096) == b"a" * 4096
    with pytest.raises(CorruptImageError):
        decompress(b"\x02\xb0\x01\xff\xff", 4096)
    with pytest.raises(CorruptImageError):
        decompress(b"\xff\xbfabc", 4096)


@pytest.mark.parametrize(("client", "flags", "state"), [(0xFFFF, 0, "clean"), (0, 2, "clean"), (0, 0, "unclean")])
def test_the_log_s_restart_page(client: int, flags: int, state: str) -> None:
    page = bytearray(4096)
    page[:4] = b"RSTR"
    page[4:8] = (30).to_bytes(2, "little") + (9).to_bytes(2, "little")
    page[16:24] = (4096).to_bytes(4, "little") * 2
    page[24:30] = (48).to_bytes(2, "little") + (1).to_bytes(2, "little") * 2
    page[30:32] = page[510:512] = b"\x01\x00"
    for end in range(512, 4097, 512):
        page[end - 2 : end] = b"\x01\x00"
    page[60:64] = client.to_bytes(2, "little") + flags.to_bytes(2, "little")
    found = parse_log(bytes(page) * 2)
    assert (found.state, found.version) == (state, "1.1")
    page[510] = 7
    assert parse_log(bytes(page) * 2).state == "unknown"


def test_a_bitmap_of_more_clusters_than_windows_gives_is_not_read(rich: Manifest) -> None:
    """It may be one hole of petabytes: the facts of the volume would take days."""
    fs = open_ntfs(rich.image)
    assert isinstance(fs, NtfsFileSystem)
    fs.boot = dataclasses.replace(fs.boot, total_sectors=(1 << 33) * fs.boot.cluster_size // fs.boot.sector_size)
    with pytest.raises(CorruptImageError) as caught:
        list(fs.free_extents())
    assert caught.value.found == 1 << 33
    assert fs.facts().free is None
