"""Planning what lies below the file systems: each way a master boot record or a boot sector can be wrong."""

from __future__ import annotations

import hashlib
import random
import struct
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from builders.boot_disks import boot_disk
from builders.memory_disks import memory_disk
from builders.ntfs_records import Volume, attributes, kind_of, with_attributes
from builders.ntfs_volumes import mkntfs, mounted, need
from byre.audit.gathering import boot_sector
from byre.errors import ByreError
from byre.filesystems.opening import read_partitions
from byre.lite.mending.boot_code import FREELDR, MASTER_CODE, NTLDR, volume_code, with_volume_code
from byre.lite.mending.boot_sector import mended_fields, parse_fields
from byre.lite.mending.disk import plan_disk
from byre.lite.mending.ntfs_fields import rebuilt_sector
from byre.lite.mending.plan import Options, Refusal, WriteSector
from byre.volumes import boot_code
from byre.volumes.boot_code import recognise_volume
from oracles import require_tool, run_tool

pytestmark = pytest.mark.oracle

START = 63 * 512
NTFS_SIZE = 12 << 20
_MIB = {"fat12": 8, "fat16": 32, "fat32": 64}
OTHER_CODE = b"\xfa\x31\xc0\xcd\x13" + bytes(range(1, 200))
"""Somebody's, who doesn't say what it loads."""


def mended(data: bytearray, options: Options | None = None) -> tuple[list[str], tuple[Refusal, ...]]:
    """Every round until nothing is left, written into ``data``; what was said, and what was refused."""
    said: list[str] = []
    for _ in range(10):
        plan = plan_disk(memory_disk(bytes(data)), options or Options())
        if not plan.steps:
            return said, plan.refusals
        said += plan.said
        for step in plan.steps:
            assert isinstance(step.action, WriteSector)
            assert len(step.action.data) % 512 == 0
            data[step.action.offset : step.action.offset + len(step.action.data)] = step.action.data
    raise AssertionError(f"it goes on for ever: {said}")


def ntfs(folder: Path, plant: Callable[[Path], None] | None = None, *options: str) -> bytearray:
    """A disk with our boot code and one NTFS volume with a loader."""
    need("mkntfs", "ntfs-3g")
    image = mkntfs(folder / "volume.img", NTFS_SIZE, "-s", "512", "-p", "63", "-H", "64", "-S", "63", *options)
    with mounted(image) as root:
        if plant is None:
            (root / "ntldr").write_bytes(b"a loader")
        else:
            plant(root)
    return bytearray(boot_disk(folder / "d.img", image, "ntfs").read_bytes())


def fat(folder: Path, kind: str, *names: str, loader: str = NTLDR) -> bytearray:
    image = folder / "volume.img"
    with image.open("wb") as file:
        file.truncate(_MIB[kind] << 20)
    run_tool("mkfs.fat", "-F", kind[3:], "-h", "63", "-g", "64/63", image)
    source = folder / "content"
    source.write_bytes(b"a loader")
    for name in names or ("NTLDR",):
        run_tool("mcopy", "-i", image, source, f"::{name}")
    return bytearray(boot_disk(folder / "d.img", image, kind, loader=loader).read_bytes())


def put(data: bytearray, offset: int, what: bytes) -> None:
    data[offset : offset + len(what)] = what


def code_at(data: bytearray, offset: int = START) -> tuple[str | None, bool]:
    known = recognise_volume(bytes(data[offset : offset + 8192]))
    return known.loader, known.known


def last_sector(data: bytearray) -> int:
    return START + struct.unpack_from("<I", data, 0x1BE + 12)[0] * 512 - 512


OURS = ("Byre's own (byre mend, NTLDR on NTFS)", True)


def test_a_disk_as_mend_leaves_it_is_left_alone(tmp_path: Path) -> None:
    data = ntfs(tmp_path)
    assert mended(data) == ([], ())
    assert mended(data, Options(new_mbr=True, new_vbr=True)) == ([], ())


@pytest.mark.parametrize("lost", [512, 0x200 - 0x54, 2], ids=["all", "code", "55 AA"])
def test_an_ntfs_boot_sector_comes_back_with_its_fields_and_then_gets_code(tmp_path: Path, lost: int) -> None:
    data = ntfs(tmp_path)
    whole = bytes(data)
    put(data, START + 512 - lost, bytes(lost))
    said, refused = mended(data)
    assert refused == ()
    assert code_at(data) == OURS
    assert data == whole[: last_sector(data)] + whole[START : START + 512] + whole[last_sector(data) + 512 :]
    assert any("from the file system's own copy" in each for each in said)


def test_code_is_written_where_no_copy_has_any_and_both_get_it(tmp_path: Path) -> None:
    data = ntfs(tmp_path)
    for at in (START, last_sector(data)):
        put(data, at + 0x54, bytes(512 - 0x54))
    put(data, START + 0x18, bytes(8))
    put(data, START + 512, bytes(8192 - 512))
    said, refused = mended(data)
    assert refused == ()
    assert said[0] == (
        "boot sector of partition 1: Byre's code, which loads NTLDR, hidden sectors 63 instead of 0, "
        "64 heads instead of 0, 63 sectors a track instead of 0"
    )
    assert code_at(data) == OURS
    assert data[START : START + 512] == data[last_sector(data) : last_sector(data) + 512]
    facts = boot_sector(bytes(data[START : START + 8192]))
    assert (facts.signature, facts.code, facts.sectors_per_track, facts.heads, facts.hidden) == (
        True,
        True,
        63,
        64,
        63,
    )


def test_the_sectors_behind_the_first_come_back(tmp_path: Path) -> None:
    data = ntfs(tmp_path)
    put(data, START + 1024, bytes(512))
    assert not code_at(data)[1]
    said, refused = mended(data)
    assert (len(said), refused, code_at(data)) == (2, (), OURS)


@pytest.mark.parametrize(
    "options",
    [(), ("-c", "512"), ("-c", "2048"), ("-c", "65536")],
    ids=["4096", "512", "2048", "65536"],
)
def test_fields_that_are_gone_with_their_copy_are_told_again_from_the_mft(
    tmp_path: Path, options: tuple[str, ...]
) -> None:
    data = ntfs(tmp_path, None, *options)
    before = bytes(data)
    for at in (START, last_sector(data)):
        put(data, at, bytes(512))
    said, refused = mended(data)
    assert refused == () and "told again from the MFT" in said[0]
    assert code_at(data) == OURS
    fields = slice(START + 3, START + 0x48)
    assert data[fields] == before[fields]
    assert data[START : START + 512] == data[last_sector(data) : last_sector(data) + 512]
    volume = tmp_path / "mended.img"
    volume.write_bytes(data[START:])
    assert "processed successfully" in run_tool("ntfsfix", "-n", volume)
    with mounted(volume) as root:
        assert (root / "ntldr").read_bytes() == b"a loader"


@pytest.mark.parametrize("lost", ["mirror", "mft"])
def test_without_its_mirror_the_mft_is_enough_but_not_the_other_way_round(tmp_path: Path, lost: str) -> None:
    data = ntfs(tmp_path)
    mft, mirror = (START + lcn * 4096 for lcn in struct.unpack_from("<QQ", data, START + 0x30))
    for at in (START, last_sector(data)):
        put(data, at, bytes(512))
    put(data, mirror if lost == "mirror" else mft, bytes(4096))
    said, refused = mended(data)
    if lost == "mirror":
        assert refused == () and code_at(data) == OURS
    else:
        assert (said, refused[0].what) == ([], "boot sector of partition 1")
        assert "testdisk" in refused[0].remedy


def test_index_records_of_more_clusters_than_a_boot_sector_can_say_are_refused(tmp_path: Path) -> None:
    """128 clusters of 512 bytes: the field is a signed byte."""
    data = ntfs(tmp_path, None, "-c", "512")
    mft = START + struct.unpack_from("<Q", data, START + 0x30)[0] * 512
    at = data.index(struct.pack("<III", 0x30, 1, 4096), mft + 5 * 1024)
    assert at < mft + 6 * 1024
    struct.pack_into("<I", data, at + 8, 1 << 16)
    for at in (START, last_sector(data)):
        put(data, at, bytes(512))
    said, refused = mended(data)
    assert (said, refused[0].what) == ([], "boot sector of partition 1")


def test_a_damaged_mft_never_makes_up_fields(tmp_path: Path) -> None:
    data = ntfs(tmp_path)
    mft = START + struct.unpack_from("<Q", data, START + 0x30)[0] * 8 * 512
    for at in (START, last_sector(data)):
        put(data, at, bytes(512))
    rng = random.Random(9)
    (part,) = read_partitions(memory_disk(bytes(data))).partitions
    data = data[: mft + 64 * 1024]
    for _ in range(300):
        damaged = bytearray(data)
        for _ in range(rng.randrange(1, 30)):
            damaged[mft + rng.randrange(9 * 1024)] = rng.randrange(256)
        found = rebuilt_sector(memory_disk(bytes(damaged)), part)
        assert found is None or parse_fields(found, part.length) is not None


def test_fields_that_do_not_fit_the_partition_come_from_the_copy(tmp_path: Path) -> None:
    data = ntfs(tmp_path)
    struct.pack_into("<Q", data, START + 0x28, 1 << 40)
    assert parse_fields(bytes(data[START : START + 512]), NTFS_SIZE) is None
    said, refused = mended(data)
    assert (refused, "own copy" in said[0]) == ((), True)
    assert parse_fields(bytes(data[START : START + 512]), NTFS_SIZE) is not None


def test_a_copy_of_an_older_file_system_does_not_come_back(tmp_path: Path) -> None:
    data = ntfs(tmp_path)
    fields = bytes(data[START + 3 : START + 0x54])
    copy = last_sector(data)
    struct.pack_into("<Q", data, copy + 0x30, 77)  # the MFT lay elsewhere
    put(data, START + 0x54, bytes(510 - 0x54))
    said, refused = mended(data)
    assert (refused, code_at(data), data[START + 3 : START + 0x54]) == ((), OURS, fields)
    assert not any("own copy" in each for each in said)
    assert data[copy : copy + 512] == data[START : START + 512]
    struct.pack_into("<Q", data, copy + 0x30, 77)
    put(data, START, bytes(512))
    said, refused = mended(data)
    assert (refused, code_at(data)) == ((), OURS) and "told again from the MFT" in said[0]


@pytest.mark.parametrize("behind", [b"", b"N\0T\0L\0D\0R\0"], ids=["zeros", "something"])
def test_windows_code_without_its_other_sectors_is_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, behind: bytes
) -> None:
    data = ntfs(tmp_path)
    put(data, START + 0x54, OTHER_CODE.ljust(510 - 0x54, b"\0"))
    put(data, START + 512, behind.ljust(8192 - 512, b"\0"))
    digest = hashlib.sha256(bytes(data[START : START + 3] + data[START + 0x54 : START + 0x1FE])).hexdigest()
    monkeypatch.setitem(boot_code.VOLUME, digest, "Windows 2000, XP and Server 2003 (NTFS)")
    _, refused = mended(data)
    assert (refused, code_at(data) == OURS) == ((), not behind)


def test_what_lies_where_the_copy_belongs_is_no_copy_and_stays(tmp_path: Path) -> None:
    data = ntfs(tmp_path)
    put(data, last_sector(data), b"something else".ljust(512, b"!"))
    put(data, START + 0x54, bytes(510 - 0x54))
    said, refused = mended(data)
    assert (len(said), refused, code_at(data)) == (1, (), OURS)
    assert data[last_sector(data) :][:14] == b"something else"


def test_code_that_is_there_stays_unless_asked(tmp_path: Path) -> None:
    data = ntfs(tmp_path)
    put(data, START + 0x54, OTHER_CODE)
    whole = bytes(data)
    assert mended(data) == ([], ())
    assert data == whole
    _, refused = mended(data, Options(new_vbr=True))
    assert (refused, code_at(data)) == ((), OURS)


def test_code_that_hooks_the_disk_is_told_and_stays_unless_asked(tmp_path: Path) -> None:
    data = ntfs(tmp_path)
    put(data, START + 0x54, OTHER_CODE + b"\xa3\x4c\x00")
    put(data, 0, b"\xfa\xff\x0e\x13\x04")
    said, refused = mended(data)
    assert said == []
    assert [each.what for each in refused] == ["the master boot record's code", "boot sector of partition 1"]
    assert ["--new-mbr" in refused[0].remedy, "--new-vbr" in refused[1].remedy] == [True, True]
    _, refused = mended(data, Options(new_mbr=True, new_vbr=True))
    assert (refused, data[:440], code_at(data)) == ((), MASTER_CODE, OURS)


@pytest.mark.parametrize(("text", "known"), [(b"BOOTMGR", True), (b"FREELDR SYS", True), (b"NTLDR", False)])
def test_code_for_a_loader_that_is_not_there_is_told(tmp_path: Path, text: bytes, known: bool) -> None:
    data = ntfs(tmp_path)
    put(data, START + 0x54, (OTHER_CODE + text).ljust(510 - 0x54, b"\0"))
    put(data, START + 512, bytes(8192 - 512))
    said, refused = mended(data)
    assert said == []
    assert ["NTLDR" in each.reason and "--new-vbr" in each.remedy for each in refused] == [True] * known


def _vista(root: Path) -> None:
    (root / "bootmgr").write_bytes(b"another loader")


def _both(root: Path) -> None:
    (root / "NTLDR").write_bytes(b"a loader")
    _vista(root)


def _freeldr(root: Path) -> None:
    (root / "freeldr.sys").write_bytes(b"a loader")


def _nothing(root: Path) -> None:
    (root / "readme.txt").write_bytes(b"a file")


@pytest.mark.parametrize(
    ("plant", "there"),
    [(_vista, "bootmgr"), (_both, "NTLDR and bootmgr"), (_freeldr, "FREELDR.SYS"), (_nothing, "no loader")],
)
def test_a_loader_that_our_code_does_not_load_is_refused(
    tmp_path: Path, plant: Callable[[Path], None], there: str
) -> None:
    data = ntfs(tmp_path, plant)
    for at in (START, last_sector(data)):
        put(data, at + 0x54, bytes(510 - 0x54))
    said, (refusal,) = mended(data)
    assert (said, there in refusal.reason) == ([], True)
    assert ("--new-vbr" in refusal.remedy) == (plant is _both)
    _, refused = mended(data, Options(new_vbr=True))
    assert (code_at(data) == OURS) == (plant is _both) == (not refused)


def _system(folder: str, loader: str = "") -> Callable[[Path], None]:
    def plant(root: Path) -> None:
        (root / folder / "system32" / "config").mkdir(parents=True)
        if loader:
            (root / folder / "system32" / loader).write_bytes(b"a loader")

    return plant


@pytest.mark.parametrize(
    ("plant", "ours"),
    [(_system("WINDOWS"), True), (_system("WINDOWS", "winload.exe"), False), (_system("reactos"), False)],
    ids=["Windows", "Vista", "ReactOS"],
)
def test_without_a_loader_the_system_says_which_belongs_there(
    tmp_path: Path, plant: Callable[[Path], None], ours: bool
) -> None:
    data = ntfs(tmp_path, plant)
    for at in (START, last_sector(data)):
        put(data, at + 0x54, bytes(510 - 0x54))
    _, refused = mended(data)
    assert (code_at(data) == OURS) == ours == (not refused)


@pytest.mark.parametrize("kind", _MIB)
@pytest.mark.parametrize("loader", [NTLDR, FREELDR])
def test_fat_gets_code_for_the_loader_in_its_root_and_fat32_its_copy(tmp_path: Path, kind: str, loader: str) -> None:
    data = fat(tmp_path, kind, loader, loader=loader)
    clean = bytes(data)
    begin = START + data[START + 1] + 2
    put(data, begin, bytes(START + 512 - begin))
    if kind == "fat32":
        put(data, START + 6 * 512 + 0x5A, bytes(512 - 0x5A))
    said, refused = mended(data)
    assert (refused, data[: START + 6 * 512]) == ((), clean[: START + 6 * 512])
    copied = [each for each in said if "its copy" in each]
    assert len(copied) == (kind == "fat32")
    if copied:
        assert data[START + 6 * 512 : START + 7 * 512] == data[START : START + 512]
        assert data[START + 7 * 512 :] == clean[START + 7 * 512 :]
    (tmp_path / "after.img").write_bytes(data[START:])
    run_tool("fsck.fat", "-n", tmp_path / "after.img")


def test_code_of_mkfs_fat_that_starts_nothing_is_replaced_by_itself(tmp_path: Path) -> None:
    data = fat(tmp_path, "fat16")
    put(data, START, (tmp_path / "volume.img").read_bytes()[:512])
    assert "not bootable" in (code_at(data)[0] or "")
    _, refused = mended(data)
    assert (refused, code_at(data)) == ((), ("Byre's own (byre mend, NTLDR on FAT16)", True))


def test_a_fat32_boot_sector_comes_back_from_its_seventh(tmp_path: Path) -> None:
    data = fat(tmp_path, "fat32")
    put(data, START, bytes(512))
    said, refused = mended(data)
    assert (refused, "own copy" in said[0]) == ((), True)
    assert code_at(data) == ("Byre's own (byre mend, NTLDR on FAT32)", True)


@pytest.mark.parametrize(
    ("offset", "value", "said"),
    [(0x28, b"\x81\0", "FAT isn't in use"), (0x0B, b"\0\x04", "sectors"), (0x0D, b"\x03", "fields")],
    ids=["second FAT", "sector size", "cluster size"],
)
def test_a_fat_volume_that_our_code_can_not_read_is_refused(
    tmp_path: Path, offset: int, value: bytes, said: str
) -> None:
    data = fat(tmp_path, "fat32")
    for at in (START, START + 6 * 512):
        put(data, at + offset, value)
        put(data, at + 0x5A, bytes(510 - 0x5A))
    done, refused = mended(data)
    assert done == []
    assert len(refused) == 1


def test_a_volume_with_large_clusters_is_refused(tmp_path: Path) -> None:
    data = ntfs(tmp_path)
    for at in (START, last_sector(data)):
        sector = bytearray(data[at : at + 512])
        sector[0x0D], sector[0x40], sector[0x44] = 0xF8, 0xF6, 0xF4  # clusters of 128 KiB
        sector[0x54:510] = bytes(510 - 0x54)
        put(data, at, sector)
    fields = parse_fields(bytes(data[START : START + 512]), NTFS_SIZE)
    assert fields is not None and fields.refused is not None
    said, refused = mended(data)
    assert (said, len(refused)) == ([], 1)


def _moved(folder: Path, data: bytearray) -> None:
    """$Boot's record says another place."""
    volume = Volume(folder / "volume.img")
    record = volume.read(7)
    rows = [row if kind_of(row) != 0x80 else row[:64] + b"\x11\x02\x20\0" + row[68:] for row in attributes(record)]
    volume.write(7, with_attributes(record, rows))
    put(data, START + volume.places[7], volume.path.read_bytes()[volume.places[7] :][:1024])


def _gone(folder: Path, data: bytearray) -> None:
    put(data, START + Volume(folder / "volume.img").places[7], bytes(1024))


def _large_records(folder: Path, data: bytearray) -> None:
    for at in (START, last_sector(data)):
        data[at + 0x44] = 0xF0  # index records of 64 KiB


@pytest.mark.parametrize(
    ("change", "said"),
    [(_moved, "$Boot hasn't 2048 bytes"), (_gone, "$Boot"), (_large_records, "unusual size")],
)
def test_a_volume_without_room_for_the_code_is_refused(
    tmp_path: Path, change: Callable[[Path, bytearray], None], said: str
) -> None:
    data = ntfs(tmp_path)
    for at in (START, last_sector(data)):
        put(data, at + 0x54, bytes(510 - 0x54))
    change(tmp_path, data)
    done, (refusal,) = mended(data)
    assert (done, said in refusal.reason) == ([], True)


def test_a_boot_sector_of_another_file_system_is_left_alone(tmp_path: Path) -> None:
    data = ntfs(tmp_path)
    put(data, last_sector(data), bytes(512))
    put(data, START, (b"\xeb\x58\x90GRUB    ".ljust(0x60, b"\0") + OTHER_CODE).ljust(510, b"\0") + b"\x55\xaa")
    assert mended(data) == ([], ())


@pytest.mark.parametrize(
    ("offset", "magic"), [(3, b"-FVE-FS-"), (0, b"LUKS\xba\xbe"), (0x438, b"\x53\xef"), (3, b"EXFAT   ")]
)
def test_what_replaced_ntfs_is_not_replaced_by_its_old_copy(tmp_path: Path, offset: int, magic: bytes) -> None:
    """BitLocker encrypts a volume in place, and a new file system leaves what it doesn't use: the copy in the last
    sector may still be sound, and the MFT where it says."""
    data = ntfs(tmp_path)
    put(data, START, bytes(512))
    put(data, START + offset, magic)
    before = bytes(data)
    assert mended(data) == ([], ()) and data == before
    assert mended(data, Options(new_vbr=True)) == ([], ()) and data == before


def test_a_partition_that_lies_beyond_the_disk_is_left_alone(tmp_path: Path) -> None:
    data = ntfs(tmp_path)[: START + 100]
    data = data[: len(data) // 512 * 512]
    assert mended(bytearray(data)) == ([], ())


def _entries(data: bytearray, *flags: int) -> None:
    """So many rows in the table, each with the same volume."""
    for slot, flag in enumerate(flags):
        row = bytearray(data[0x1BE : 0x1BE + 16])
        row[0] = flag
        put(data, 0x1BE + 16 * slot, row)


@pytest.mark.parametrize("flags", [(0,), (0x80, 0x80)], ids=["none", "two"])
def test_the_active_flag_goes_to_the_partition_with_a_loader(tmp_path: Path, flags: tuple[int, ...]) -> None:
    data = ntfs(tmp_path)
    if len(flags) > 1:
        put(data, 0x1CE, struct.pack("<B3sB3sII", 0x80, b"\0\0\0", 0x83, b"\0\0\0", 30000, 500))
    data[0x1BE] = flags[0]
    data += bytes(32000 * 512 - len(data))
    said, refused = mended(data)
    assert (said, refused) == (["sector 0: partition 1 is the active one"], ())
    assert (data[0x1BE], data[0x1CE]) == (0x80, 0)


def test_the_only_partition_of_windows_is_active_though_its_boot_sector_is_gone(tmp_path: Path) -> None:
    data = ntfs(tmp_path)
    put(data, 0x1CE, struct.pack("<B3sB3sII", 0, b"\0\0\0", 0x83, b"\0\0\0", 30000, 500))
    data += bytes(32000 * 512 - len(data))
    data[0x1BE] = 0
    put(data, START, bytes(8192))
    said, refused = mended(data)
    assert refused == () and said[0] == "sector 0: partition 1 is the active one"
    assert code_at(data) == OURS
    both = ntfs(tmp_path)
    _entries(both, 0, 0)
    put(both, START, bytes(8192))
    _, (refusal,) = mended(both)
    assert refusal.reason == "several partitions could be it"


def test_of_two_loaders_none_is_guessed_and_none_at_all_is_told(tmp_path: Path) -> None:
    data = ntfs(tmp_path)
    _entries(data, 0, 0)
    _, (refusal,) = mended(data)
    assert (refusal.what, refusal.reason) == ("the active flag", "several partitions could be it")
    bare = ntfs(tmp_path, _nothing)
    bare[0x1BE] = 0
    _, (refusal,) = mended(bare)
    assert refusal.reason == "no primary partition has a loader or a system"
    system = ntfs(tmp_path, _system("WINNT"))
    system[0x1BE] = 0
    said, refused = mended(system)
    assert (said[0], refused) == ("sector 0: partition 1 is the active one", ())


def test_tables_that_are_gone_are_told() -> None:
    for data, what in (
        (bytes(1 << 20), "the partition table"),
        (bytes(510) + b"\x55\xaa" + bytes(1 << 20), "the master boot record"),
    ):
        _, (refusal,) = mended(bytearray(data))
        assert refusal.what == what
    assert mended(bytearray()) == ([], ())


def test_an_image_of_a_partition_and_a_gpt_are_refused(tmp_path: Path) -> None:
    data = ntfs(tmp_path)
    _, (refusal,) = mended(data[START:])
    assert refusal.what == "the master boot record"
    gpt = tmp_path / "gpt.img"
    with gpt.open("wb") as file:
        file.truncate(4 << 20)
    subprocess.run([require_tool("sfdisk"), "-q", gpt], input="label: gpt\n", text=True, check=True)
    _, (refusal,) = mended(bytearray(gpt.read_bytes()))
    assert (refusal.what, "GPT" in refusal.reason) == ("the partition table", True)


def test_fields_alone_change_the_copy_only_where_it_was_the_same(tmp_path: Path) -> None:
    for same in (True, False):
        data = ntfs(tmp_path)
        struct.pack_into("<HI", data, START + 0x1A, 0, 7)
        copy = last_sector(data)
        if same:
            put(data, copy, bytes(data[START : START + 512]))
        old = bytes(data[copy : copy + 512])
        said, refused = mended(data)
        assert said[0] == "boot sector of partition 1: hidden sectors 63 instead of 7, 64 heads instead of 0"
        assert (refused, len(said)) == ((), 1 + same)
        assert data[copy : copy + 512] == (data[START : START + 512] if same else old)


def _of_another_machine(data: bytearray, heads: int, sectors: int, *, table: bytes) -> bytearray:
    """Code like Windows', which goes by the fields, and fields of another machine's BIOS."""
    code = (b"\xcd\x13" + bytes(range(1, 200)) + b"NTLDR").ljust(510 - 0x5A, b"\x90")
    put(data, START + 0x5A, code)
    struct.pack_into("<HH", data, START + 0x18, sectors, heads)
    put(data, last_sector(data), bytes(data[START : START + 512]))
    put(data, 0x1BE + 5, table)
    return data


@pytest.mark.parametrize(
    ("heads", "sectors", "table", "said"),
    [
        (240, 63, b"\xfe\xff\xff", "64 heads instead of 240"),
        (15, 63, b"\xef\xff\xff", "64 heads instead of 15"),
        (0x8000, 63, b"\0\0\0", "64 heads instead of 32768"),
        (64, 32, b"\xfe\xff\xff", "63 sectors a track instead of 32"),
        (8, 17, b"\xfe\xff\xff", "64 heads instead of 8, 63 sectors a track instead of 17"),
    ],
)
def test_heads_that_no_bios_has_in_mind_are_corrected(
    tmp_path: Path, heads: int, sectors: int, table: bytes, said: str
) -> None:
    data = _of_another_machine(ntfs(tmp_path), heads, sectors, table=table)
    facts = boot_sector(bytes(data[START : START + 8192]), bytes(data[:512]), len(data))
    assert facts.geometry == (64, 63)
    steps, refused = mended(data)
    assert (steps[0], len(steps), refused) == (f"boot sector of partition 1: {said}", 2, ())
    assert struct.unpack_from("<HH", data, START + 0x18) == (63, 64)
    assert data[last_sector(data) : last_sector(data) + 512] == data[START : START + 512]
    assert boot_sector(bytes(data[START : START + 8192]), bytes(data[:512]), len(data)).geometry is None


@pytest.mark.parametrize(("heads", "table"), [(240, b"\xef\xff\xff"), (255, b"\xfe\xff\xff")])
def test_heads_that_the_partition_table_has_too_stay_and_are_told(tmp_path: Path, heads: int, table: bytes) -> None:
    data = _of_another_machine(ntfs(tmp_path), heads, 63, table=table)
    plan = plan_disk(memory_disk(bytes(data)), Options())
    assert plan.steps == ()
    assert f"{heads} heads" in plan.notes[0] and "64 and 63" in plan.notes[0]
    assert boot_sector(bytes(data[START : START + 8192]), bytes(data[:512]), len(data)).geometry is None


@pytest.mark.parametrize("code", [b"", b"\xcd\x13BOOTMGR", b"\xcd\x13 something else"])
def test_code_that_does_not_go_by_the_fields_keeps_them(tmp_path: Path, code: bytes) -> None:
    data = ntfs(tmp_path)
    if code:
        put(data, START + 0x5A, code.ljust(510 - 0x5A, b"\x90") + b"\x55\xaa" + bytes(8192 - 512))
    struct.pack_into("<H", data, START + 0x1A, 240)
    put(data, last_sector(data), bytes(data[START : START + 512]))
    plan = plan_disk(memory_disk(bytes(data)), Options())
    assert (plan.steps, plan.notes) == ((), ())


def test_a_fat_volume_without_the_word_gets_its_fields_too(tmp_path: Path) -> None:
    data = fat(tmp_path, "fat16")
    put(data, START + 0x36, b"        ")
    struct.pack_into("<I", data, START + 0x1C, 0)
    assert mended(data) == (["boot sector of partition 1: hidden sectors 63 instead of 0"], ())


@pytest.mark.fuzz
def test_damaged_boot_sectors_are_planned_within_their_partition_or_refused(tmp_path: Path) -> None:
    source = random.Random(7)
    for whole in (ntfs(tmp_path), fat(tmp_path, "fat12")):
        stop = last_sector(whole) + 512
        for _ in range(60):
            data = bytearray(whole)
            for _ in range(source.randint(1, 12)):
                data[START + source.choice((0x0B, 0x30, 0x200)) % source.randint(1, 512)] = source.choice(
                    (0, 1, 0x7F, 0x80, 0xFF, source.randrange(256))
                )
                data[START + source.randrange(0x5A)] = source.choice((0, 1, 2, 0x80, 0xFF, source.randrange(256)))
            if source.random() < 0.5:
                put(data, last_sector(data), source.randbytes(512))
            try:
                plan = plan_disk(memory_disk(data), Options(new_vbr=source.random() < 0.5))
            except ByreError:
                continue
            for step in plan.steps:
                assert isinstance(step.action, WriteSector)
                assert START <= step.action.offset <= stop - len(step.action.data)


def test_code_and_fields_go_together_for_every_kind() -> None:
    for kind in ("ntfs", "fat12", "fat16", "fat32"):
        code = volume_code(kind, NTLDR)
        assert code is not None
        sector = bytearray(512)
        put(sector, 3, b"NTFS    ")
        fields, _ = mended_fields(bytes(sector), 63, 40 << 30)
        assert with_volume_code(fields, code)[0x18:0x20] == struct.pack("<HHI", 63, 255, 63)
