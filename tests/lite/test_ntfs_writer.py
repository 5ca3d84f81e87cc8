"""NTFS volumes after Byre changed them: ntfs-3g, The Sleuth Kit and our own check agree on what is left."""

from __future__ import annotations

import os
import random
import signal
import struct
from pathlib import Path

import pytest

from builders.changed_volumes import change, holds, reading
from builders.ntfs_volumes import mkntfs, mounted, rich_volume
from byre.disks.opening import open_disk
from byre.disks.scratch import open_scratch
from byre.errors import ByreError, CorruptImageError, MissingError, UnsupportedError, UsageError
from byre.filesystems.ntfs.filesystem import NtfsFileSystem
from byre.filesystems.opening import open_volumes
from byre.lite import ntfs_program, ntfs_writer
from byre.lite.changes import Change, Content, MakeFolder, Move, Overwrite, Put, Remove
from oracles import run_tool

pytestmark = pytest.mark.oracle


@pytest.fixture(scope="module")
def rich(tmp_path_factory: pytest.TempPathFactory) -> Path:
    image = tmp_path_factory.mktemp("rich") / "rich.img"
    rich_volume(image)
    return image


def _fls(image: Path) -> set[str]:
    """Names that The Sleuth Kit finds through the directory indexes."""
    rows = run_tool("fls", "-r", "-p", "-u", image).splitlines()
    names = {row.split("\t", 1)[1] for row in rows if "\t" in row}
    return {f"/{name}" for name in names if not name.startswith(("$", "-")) and ":" not in name}


def _judge(image: Path) -> dict[str, bytes | None]:
    found = holds(image)
    assert _fls(image) >= set(found)
    run_tool("ntfsfix", "-n", image)
    with mounted(image) as root:
        for path, data in found.items():
            here = Path(f"{root}{path}")
            assert here.is_dir() if data is None else here.read_bytes() == data, path
    return found


def test_removed_put_and_made_as_asked(rich: Path, tmp_path: Path) -> None:
    before = holds(rich)
    big = random.Random(1).randbytes(3_000_001)
    changes: list[Change] = [
        Remove("/big directory"),
        Remove(r"C:\windows\SYSTEM32\ntoskrnl.exe"),
        Remove("/compressed/text.txt"),
        Remove("/sparse.bin"),
        Remove("/junction"),
        Remove("/fragments/many runs"),
        Remove("/A rather long name.text"),
        MakeFolder("/WINDOWS/new"),
        MakeFolder("/WINDOWS/new/日本"),
        Put("/WINDOWS/new/日本/big.bin", Content.of(big)),
        Put("/WINDOWS/new/small.txt", Content.of(b"resident")),
        Put("/linked", Content.of(b"other content" * 1000)),
        Put("/WINDOWS/system32/hal.dll", Content.of(b"short now")),
    ]
    out = tmp_path / "out.img"
    applied = change(rich, changes, out)
    found = _judge(out)
    gone = ("/big directory", "/WINDOWS/system32/ntoskrnl.exe", "/compressed/text.txt", "/sparse.bin")
    gone += ("/fragments/many runs", "/A rather long name.text")
    wanted = {path: data for path, data in before.items() if not path.startswith(gone)}
    wanted |= {
        "/WINDOWS/new": None,
        "/WINDOWS/new/日本": None,
        "/WINDOWS/new/日本/big.bin": big,
        "/WINDOWS/new/small.txt": b"resident",
        "/linked": b"other content" * 1000,
        "/WINDOWS/system32/hal.dll": b"short now",
    }
    assert found == wanted
    assert applied.confined is not None and "seccomp" in applied.confined
    with reading(out) as files:
        streams = files.lookup("/WINDOWS/system32/hal.dll").streams
    assert {each.name for each in streams} == {"note", "Long Stream Name"}


def test_what_is_moved_stays_the_same_file(rich: Path, tmp_path: Path) -> None:
    before = holds(rich)
    pairs = {
        "/WINDOWS/system32/hal.dll": "/kept/deep/hal.dll",
        "/A rather long name.text": "/kept/名前.txt",
        "/compressed/text.txt": "/WINDOWS/plain.txt",
        "/sparse.bin": "/Sparse too.bin",
    }
    changes: list[Change] = [MakeFolder("/kept"), MakeFolder("/kept/deep")]
    out, back = tmp_path / "out.img", tmp_path / "back.img"
    applied = change(rich, [*changes, *(Move(old, new) for old, new in pairs.items())], out)
    assert set(applied.removed) == set(pairs) and set(pairs.values()) < set(applied.written)
    made: dict[str, bytes | None] = {"/kept": None, "/kept/deep": None}
    assert _judge(out) == {pairs.get(path, path): data for path, data in before.items()} | made
    with reading(rich) as old_files, reading(out) as new_files:
        for old, new in pairs.items():
            first, second = old_files.lookup(old), new_files.lookup(new)
            assert (first.id, first.size, first.attributes) == (second.id, second.size, second.attributes)
            assert (first.created, first.modified, first.links) == (second.created, second.modified, second.links)
            assert first.streams == second.streams
    change(out, [*(Move(new, old) for old, new in pairs.items()), Remove("/kept")], back)
    assert _judge(back) == before


@pytest.mark.parametrize(
    ("path", "target", "error"),
    [
        ("/nowhere", "/x", MissingError),
        ("/WINDOWS", "/x", UsageError),
        ("/junction", "/x", UsageError),
        ("/sparse.bin", "/linked", UsageError),
        ("/sparse.bin", "/nowhere/x", MissingError),
        ("/sparse.bin", "/con.bin", UsageError),
        ("/$MFT", "/x", UsageError),
    ],
)
def test_what_can_t_be_moved_is_refused(
    rich: Path, tmp_path: Path, path: str, target: str, error: type[ByreError]
) -> None:
    with pytest.raises(error):
        change(rich, [Move(path, target)], tmp_path / "out.img")


def test_random_deletions_leave_everything_else(rich: Path, tmp_path: Path) -> None:
    before = holds(rich)
    rng = random.Random(5)
    gone = set(rng.sample([path for path, data in before.items() if data is not None], len(before) // 2))
    out = tmp_path / "out.img"
    change(rich, [Remove(path) for path in sorted(gone)], out)
    assert _judge(out) == {path: data for path, data in before.items() if path not in gone}


def test_a_new_file_has_the_permissions_of_its_neighbour(tmp_path: Path) -> None:
    image = mkntfs(tmp_path / "volume.img", 16 << 20)
    with mounted(image, "permissions") as root:
        (root / "folder").mkdir()
        (root / "folder" / "hal.dll").write_bytes(b"x")
        (root / "folder" / "hal.dll").chmod(0o640)
    out = tmp_path / "out.img"
    change(image, [Put("/folder/beside.dll", Content.of(b"x")), Put("/alone.dll", Content.of(b"x"))], out)
    assert _security_id(out, "/folder/hal.dll") == _security_id(out, "/folder/beside.dll") != 0
    assert _security_id(out, "/alone.dll") != _security_id(out, "/folder/hal.dll")


def _security_id(image: Path, path: str) -> int:
    with open_disk(image, format="raw") as disk:
        files = open_volumes(disk)[0].filesystem
        assert isinstance(files, NtfsFileSystem)
        attributes = files.attributes(files.lookup(path).id & (1 << 48) - 1)
        value = next(each.value for each in attributes if each.type == 0x10)
        return int(struct.unpack_from("<I", value, 52)[0]) if len(value) >= 56 else 0


def test_overwriting_keeps_size_and_clusters(rich: Path, tmp_path: Path) -> None:
    path = "/WINDOWS/system32/ntoskrnl.exe"
    old = holds(rich)[path]
    assert old is not None
    new = bytes(reversed(old))
    out = tmp_path / "out.img"
    change(rich, [Overwrite(path, new)], out)
    assert holds(out)[path] == new
    with reading(rich) as before, reading(out) as after:
        assert (before.extents(before.lookup(path)) == after.extents(after.lookup(path))).all()
    with pytest.raises(UsageError):
        change(rich, [Overwrite(path, b"short")], tmp_path / "no.img")
    with pytest.raises(UnsupportedError):
        change(rich, [Overwrite("/compressed/random.bin", bytes(200_000))], tmp_path / "no.img")


@pytest.mark.parametrize(
    ("path", "error"),
    [("/not there", MissingError), ("/", UsageError), ("/WINDOWS/system32/none/x", MissingError)],
)
def test_what_is_not_there_is_refused(path: str, error: type[ByreError], rich: Path, tmp_path: Path) -> None:
    with pytest.raises(error):
        change(rich, [Remove(path)], tmp_path / "out.img")


@pytest.mark.parametrize(
    "asked",
    [
        Remove("/$MFT"),
        Remove("/$Extend"),
        Remove("/$Extend/$Quota"),
        Put("/$Extend/$Quota", Content.of(b"x")),
        Put("/$extend/new.txt", Content.of(b"x")),
        MakeFolder("/$Extend/new"),
    ],
    ids=lambda asked: f"{type(asked).__name__} {asked.path}",
)
def test_files_of_the_file_system_itself_are_left_alone(asked: Change, rich: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="file system's own"):
        change(rich, [asked], tmp_path / "out.img")


def test_a_full_volume_says_so(tmp_path: Path) -> None:
    image = mkntfs(tmp_path / "small.img", 8 << 20)
    huge = Put("/huge.bin", Content(12 << 20, lambda offset, length: bytes([1]) * length))
    with pytest.raises(UnsupportedError) as caught:
        change(image, [huge], tmp_path / "out.img")
    assert "no room" in str(caught.value)


@pytest.mark.parametrize("flag", ["dirty", "hibernated", "log"])
def test_an_unclean_volume_is_refused(flag: str, tmp_path: Path) -> None:
    image = mkntfs(tmp_path / "volume.img", 16 << 20)
    with mounted(image) as root:
        (root / "a.txt").write_bytes(b"a")
        if flag == "hibernated":
            (root / "hiberfil.sys").write_bytes(b"hibr" + bytes(8192))
    if flag == "dirty":
        data = bytearray(image.read_bytes())
        at = data.find(b"\x03\x01\x00\x00", data.find(b"$\x00V\x00o\x00l\x00u\x00m\x00e"))
        assert at > 0
        data[at + 2] |= 1
        image.write_bytes(data)
    elif flag == "log":
        _dirty_log(image)
    with pytest.raises(UnsupportedError) as caught:
        change(image, [Remove("/a.txt")], tmp_path / "out.img")
    assert caught.value.hint is not None


def _dirty_log(image: Path) -> None:
    """A restart page that says: a client is still in the log."""
    with open_disk(image, format="raw") as disk:
        files = open_volumes(disk)[0].filesystem
        assert files is not None
        log = next(entry for entry in files.walk(system=True) if entry.name == "$LogFile")
        place = int(files.extents(log)["disk"][0])
    page = bytearray(4096)
    struct.pack_into("<4sHHQIIHHH", page, 0, b"RSTR", 30, 9, 0, 4096, 4096, 48, 1, 1)
    struct.pack_into("<QHHHH", page, 48, 0, 1, 0xFFFF, 0, 0)
    for sector in range(8):
        struct.pack_into(
            "<H", page, 32 + 2 * sector, int.from_bytes(page[sector * 512 + 510 : sector * 512 + 512], "little")
        )
        struct.pack_into("<H", page, sector * 512 + 510, 1)
    struct.pack_into("<H", page, 30, 1)
    data = bytearray(image.read_bytes())
    data[place : place + 4096] = page
    image.write_bytes(data)


def test_a_killed_helper_is_an_error_and_the_image_stays(
    rich: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = rich.read_bytes()
    serve = ntfs_program._Server.serve

    def killed(self: ntfs_program._Server) -> dict[str, object]:
        os.kill(self.process.pid, signal.SIGKILL)
        return serve(self)

    monkeypatch.setattr(ntfs_program._Server, "serve", killed)
    with pytest.raises(CorruptImageError) as caught:
        change(rich, [Remove("/linked")], tmp_path / "out.img")
    assert "signal 9" in str(caught.value)
    assert rich.read_bytes() == before and not (tmp_path / "out.img").exists()


def test_damaged_volumes_end_in_an_error_or_a_sound_result(rich: Path, tmp_path: Path) -> None:
    """The library is C and reads hostile bytes: whatever it does, only ByreErrors come out of it."""
    data = rich.read_bytes()
    rng = random.Random(9)
    with open_disk(rich, format="raw") as disk:
        files = open_volumes(disk)[0].filesystem
        assert files is not None
        script = ntfs_writer.make_script(files, [Remove("/fragments"), Put("/n.txt", Content.of(b"n"))])  # type: ignore[arg-type]
        partition = open_volumes(disk)[0].partition
    mft = data.find(b"FILE0")
    failed = 0
    for number in range(25):
        broken = bytearray(data)
        for _ in range(rng.choice([1, 8, 60])):
            at = mft + rng.randrange(200_000)
            broken[at] = rng.randrange(256)
        copy = tmp_path / f"broken{number}.img"
        copy.write_bytes(broken)
        with open_disk(copy, format="raw") as disk:
            work = open_scratch(disk, tmp_path)
            try:
                ntfs_writer.apply_script(work, partition, script)
            except ByreError:
                failed += 1
            finally:
                work.close()
        copy.unlink()
    assert failed


def test_of_names_that_differ_in_case_the_one_spelt_so_goes(tmp_path: Path) -> None:
    """Other systems make such names; a plan names a file as the walk showed it."""
    image = mkntfs(tmp_path / "volume.img", 16 << 20)
    with mounted(image) as root:
        for name in ("Read.txt", "READ.TXT", "read.txt"):
            (root / name).write_bytes(name.encode())
    for name in ("Read.txt", "READ.TXT", "read.txt"):
        out = tmp_path / f"without {name}.img"
        assert change(image, [Remove(f"/{name}")], out).removed == (f"/{name}",)
        assert _judge(out) == {f"/{n}": n.encode() for n in ("Read.txt", "READ.TXT", "read.txt") if n != name}


def test_a_folder_goes_whatever_the_names_in_it(tmp_path: Path) -> None:
    image = mkntfs(tmp_path / "volume.img", 16 << 20)
    odd = ["a", "A", "straße", "STRASSE", "back\\slash", "C:", "trailing. ", "..\\x", "quest?ion"]
    with mounted(image, "streams_interface=none") as root:
        (root / "keep").write_bytes(b"keep")
        for number, name in enumerate(odd):
            (root / "odd" / name).mkdir(parents=True)
            (root / "odd" / name / "file").write_bytes(bytes([number]))
    out = tmp_path / "out.img"
    applied = change(image, [Remove("/odd")], out)
    assert len(applied.removed) == 1 + 2 * len(odd)
    assert _judge(out) == {"/keep": b"keep"}


@pytest.mark.parametrize("last", [Remove("/new/file"), Remove("/new"), Put("/NEW/FILE", Content.of(b""))])
def test_what_a_plan_makes_it_makes_once(last: Change, tmp_path: Path) -> None:
    image = mkntfs(tmp_path / "volume.img", 16 << 20)
    with pytest.raises(UsageError) as caught:
        change(image, [MakeFolder("/new"), Put("/new/file", Content.of(b"x")), last], tmp_path / "out.img")
    assert str(caught.value.found).startswith("/new")


def test_a_folder_made_again_keeps_permissions_without_neighbours(tmp_path: Path) -> None:
    image = mkntfs(tmp_path / "volume.img", 16 << 20)
    with mounted(image, "permissions") as root:
        (root / "folder").mkdir()
        (root / "folder" / "old.dll").write_bytes(b"x")
        (root / "folder").chmod(0o700)
    out = tmp_path / "out.img"
    change(image, [Remove("/folder/old.dll"), Put("/folder/new.dll", Content.of(b"x"))], out)
    assert _security_id(out, "/folder/new.dll") == _security_id(image, "/folder") != 0
