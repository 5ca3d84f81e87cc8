"""FAT volumes after Byre changed them: fsck.fat finds nothing, mtools reads what was put."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from builders.changed_volumes import change, holds, reading
from builders.fat_volumes import make_fat
from byre.errors import MissingError, UnsupportedError, UsageError
from byre.filesystems.fat.directory import parse_directory
from byre.lite import fat_folder
from byre.lite.changes import Change, Content, MakeFolder, Move, Put, Remove
from oracles import run_tool

pytestmark = pytest.mark.oracle

SIZES = {12: 4 << 20, 16: 20 << 20, 32: 40 << 20}


def _volume(bits: int, folder: Path) -> tuple[Path, dict[str, bytes]]:
    image = folder / "volume.img"
    options = ("-s", "1") if bits == 32 else ()
    return image, make_fat(image, bits, SIZES[bits], folder, *options)


def _sound(image: Path) -> None:
    run_tool("fsck.fat", "-n", image)  # exit status 1 where there is anything to mend


def _mtype(image: Path, path: str) -> bytes:
    return run_tool("mtype", "-i", image, f"::{path}").encode()


@pytest.mark.parametrize("bits", SIZES)
def test_removed_put_and_made_as_asked(bits: int, tmp_path: Path) -> None:
    image, content = _volume(bits, tmp_path)
    big = random.Random(bits).randbytes(300_001)
    changes: list[Change] = [
        Remove("/Sub Directory"),
        Remove(r"C:\fragmented.bin"),
        MakeFolder("/New Folder"),
        MakeFolder("/New Folder/Deeper and deeper"),
        Put("/New Folder/Deeper and deeper/Größe.bin", Content.of(big)),
        Put("/README.TXT", Content.of(b"other text")),
        Put("/empty.bin", Content.of(b"not any more")),
        Put("/lower.txt", Content.of(b"")),
    ]
    out = tmp_path / "out.img"
    applied = change(image, changes, out)
    found = holds(out)
    wanted: dict[str, bytes | None] = {
        path: data for path, data in content.items() if not path.startswith(("/Sub", "/frag"))
    }
    wanted |= {
        "/New Folder": None,
        "/New Folder/Deeper and deeper": None,
        "/New Folder/Deeper and deeper/Größe.bin": big,
        "/README.TXT": b"other text",
        "/empty.bin": b"not any more",
        "/lower.txt": b"",
    }
    assert found == wanted
    assert set(applied.removed) == {
        "/Sub Directory",
        "/Sub Directory/inner file.bin",
        "/Sub Directory/second.bin",
        "/fragmented.bin",
    }
    _sound(out)
    assert _mtype(out, "/README.TXT") == b"other text"


@pytest.mark.parametrize("bits", SIZES)
def test_what_is_moved_keeps_clusters_times_and_attributes(bits: int, tmp_path: Path) -> None:
    image, _ = _volume(bits, tmp_path)
    content = holds(image)
    pairs = {
        "/README.TXT": "/New Folder/Read me first.txt",
        "/Sub Directory/inner file.bin": "/INNER.BIN",
        "/empty.bin": "/New Folder/empty.bin",
        "/lower.txt": "/Größe.txt",
    }
    out, back = tmp_path / "out.img", tmp_path / "back.img"
    change(image, [MakeFolder("/New Folder"), *(Move(old, new) for old, new in pairs.items())], out)
    assert holds(out) == {pairs.get(path, path): data for path, data in content.items()} | {"/New Folder": None}
    _sound(out)
    with reading(image) as old_files, reading(out) as new_files:
        for old, new in pairs.items():
            first, second = old_files.lookup(old), new_files.lookup(new)
            assert (first.size, first.attributes, first.created, first.modified) == (
                *(second.size, second.attributes, second.created, second.modified),
            )
            assert old_files.extents(first).tolist() == new_files.extents(second).tolist()
    change(out, [*(Move(new, old) for old, new in pairs.items()), Remove("/New Folder")], back)
    assert holds(back) == content
    _sound(back)
    for path, target, error in (
        ("/nowhere", "/x", MissingError),
        ("/Sub Directory", "/x", UsageError),
        ("/README.TXT", "/empty.bin", UsageError),
    ):
        with pytest.raises(error):
            change(image, [Move(path, target)], tmp_path / "no.img")


@pytest.mark.parametrize("bits", SIZES)
def test_a_folder_grows_by_many_long_names(bits: int, tmp_path: Path) -> None:
    image, _ = _volume(bits, tmp_path)
    names = [f"/Grown/a name that takes several entries {number:03}.text" for number in range(120)]
    changes: list[Change] = [MakeFolder("/Grown"), *(Put(name, Content.of(name.encode())) for name in names)]
    out = tmp_path / "out.img"
    change(image, changes, out)
    found = holds(out)
    assert [path for path in found if path.startswith("/Grown/")] == names
    with reading(out) as files:
        shorts = {entry.short_name for entry in files.listdir("/Grown")}
    assert len(shorts) == len(names)
    _sound(out)
    again = tmp_path / "again.img"
    change(out, [Remove("/Grown")], again)
    assert not any(path.startswith("/Grown") for path in holds(again))
    _sound(again)


def test_random_changes_hold_what_a_dictionary_would(tmp_path: Path) -> None:
    rng = random.Random(11)
    image, content = _volume(16, tmp_path)
    model = dict(content)
    changes: list[Change] = [MakeFolder(f"/d{number}") for number in range(4)]
    for number in range(150):
        if model and rng.random() < 0.4:
            gone = rng.choice(sorted(model))
            changes.append(Remove(gone))
            del model[gone]
        else:
            path = f"/d{rng.randrange(4)}/file {number}{'x' * rng.randrange(30)}.bin"
            data = rng.randbytes(rng.choice([0, 1, 2048, 2049, 9000]))
            changes.append(Put(path, Content.of(data)))
            model[path] = data
    # What was put in this very run is no longer removed in it: only what was there before can be looked up.
    made = {change_.path for change_ in changes if isinstance(change_, Put)}
    kept = [each for each in changes if not (isinstance(each, Remove) and each.path in made)]
    model |= {each.path: each.content.read(0, each.content.size) for each in kept if isinstance(each, Put)}
    out = tmp_path / "out.img"
    change(image, kept, out)
    assert {path: data for path, data in holds(out).items() if data is not None} == model
    _sound(out)


def test_what_cannot_be_is_refused(tmp_path: Path) -> None:
    image, _ = _volume(16, tmp_path)
    out = tmp_path / "out.img"
    with pytest.raises(MissingError):
        change(image, [Remove("/not there")], out)
    with pytest.raises(UsageError):
        change(image, [Put("/Sub Directory", Content.of(b""))], out)
    with pytest.raises(UsageError):
        change(image, [Put("/bad*name", Content.of(b""))], out)
    with pytest.raises(UsageError):
        change(image, [Remove("/")], out)
    with pytest.raises(UnsupportedError) as caught:
        change(image, [Put("/huge", Content(30 << 20, lambda offset, length: bytes(length)))], out)
    assert "no room" in str(caught.value)
    assert not out.exists()


def test_a_dirty_volume_is_refused(tmp_path: Path) -> None:
    image, _ = _volume(16, tmp_path)
    data = bytearray(image.read_bytes())
    data[0x25] |= 1
    image.write_bytes(data)
    with pytest.raises(UnsupportedError) as caught:
        change(image, [Remove("/README.TXT")], tmp_path / "out.img")
    assert "dirty" in str(caught.value)


def test_a_folder_typed_by_its_short_name_is_the_same_folder(tmp_path: Path) -> None:
    image, _ = _volume(16, tmp_path)
    names = [f"/Sub Directory/long and new {number}.txt" for number in range(3)]
    aliases = [f"/SUBDIR~1/other and new {number}.txt" for number in range(3)]
    changes = [Put(path, Content.of(path.encode())) for pair in zip(names, aliases, strict=True) for path in pair]
    out = tmp_path / "out.img"
    change(image, changes, out)
    found = holds(out)
    assert all(found[path] == path.encode() for path in names)
    assert all(found[path.replace("SUBDIR~1", "Sub Directory")] == path.encode() for path in aliases)
    _sound(out)


def test_names_whose_capitals_are_of_other_length_are_two(tmp_path: Path) -> None:
    image, _ = _volume(16, tmp_path)
    middle, out = tmp_path / "middle.img", tmp_path / "out.img"
    change(image, [Put("/straße long.txt", Content.of(b"1")), Put("/STRASSE long.txt", Content.of(b"2"))], middle)
    assert holds(middle)["/straße long.txt"] == b"1"
    change(middle, [Remove("/straße long.txt"), Remove("/strasse LONG.txt")], out)
    assert not [path for path in holds(out) if path.lower().startswith("/str")]
    _sound(out)


def test_what_is_written_over_was_modified_now(tmp_path: Path) -> None:
    image, _ = _volume(16, tmp_path)
    out = tmp_path / "out.img"
    change(image, [Put("/README.TXT", Content.of(b"other"))], out)
    with reading(image) as before, reading(out) as after:
        old, new = before.lookup("/README.TXT"), after.lookup("/README.TXT")
    assert old.created == new.created and old.modified is not None and new.modified is not None
    assert new.modified > old.modified + 10**17


@pytest.mark.parametrize("last", [Remove("/new/file"), Remove("/new"), Put("/NEW/FILE", Content.of(b""))])
def test_what_a_plan_makes_it_makes_once(last: Change, tmp_path: Path) -> None:
    image, _ = _volume(16, tmp_path)
    with pytest.raises(UsageError) as caught:
        change(image, [MakeFolder("/new"), Put("/new/file", Content.of(b"x")), last], tmp_path / "out.img")
    assert str(caught.value.found).startswith("/new")


def test_many_names_in_a_folder_are_not_looked_through_for_each(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A folder of some thousand files took minutes: every name was compared with all that were there."""
    image, _ = _volume(32, tmp_path)
    asked = []
    monkeypatch.setattr(
        fat_folder, "parse_directory", lambda *data, **how: asked.append(1) or parse_directory(*data, **how)
    )
    names = [f"/many/measurement {number}.txt" for number in range(300)]
    change(image, [MakeFolder("/many"), *(Put(name, Content.of(b"x")) for name in names)], tmp_path / "out.img")
    assert len(asked) <= 2
    with reading(tmp_path / "out.img") as files:
        entries = files.listdir("/many")
        assert {entry.path for entry in entries} == set(names)
        assert len({entry.short_name for entry in entries}) == len(names)
    _sound(tmp_path / "out.img")
    again = [Remove(names[0]), Put(names[0], Content.of(b"y")), Put(names[1], Content.of(b"z"))]
    change(tmp_path / "out.img", again, tmp_path / "again.img")
    assert holds(tmp_path / "again.img")[names[0]] == b"y"
    _sound(tmp_path / "again.img")
